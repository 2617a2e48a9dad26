#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Looks into every file under a directory for a private key: PEM, or DER from its first byte on
(PKCS#1, SEC 1, PKCS#8, encrypted PKCS#8, PKCS#12). Exits 1 and names them if there is one."""

import os
import subprocess
import sys


def is_private_key(data):
    if b"PRIVATE KEY-----" in data:
        return True
    if data[:1] != b"\x30":
        return False
    attempts = (
        ["openssl", "pkey", "-inform", "DER", "-noout"],
        ["openssl", "asn1parse", "-inform", "DER"],
    )
    first = subprocess.run(attempts[0], input=data, capture_output=True)
    if first.returncode == 0:
        return True
    shape = subprocess.run(attempts[1], input=data, capture_output=True).stdout
    return b"PBES" in shape or b"pbeWith" in shape or b"pkcs8ShroudedKeyBag" in shape


found = 0
looked = 0
for directory, _, names in os.walk(sys.argv[1]):
    for name in names:
        path = os.path.join(directory, name)
        if not os.path.isfile(path):
            continue
        with open(path, "rb") as file:
            looked += 1
            if is_private_key(file.read()):
                print(path)
                found += 1
sys.exit(0 if looked and not found else 1)
