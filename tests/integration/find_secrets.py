#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""find_secrets.py SECRET... -- PLACE...: looks for what is in the files SECRET, in every file under
PLACE: a line of text whole, an unencrypted private key (PEM) by any 24 bytes of its second half,
which is private; as it is, in hex and in base64. Exits 1 and names what it finds."""

import base64
import os
import subprocess
import sys


def needles(path):
    with open(path, "rb") as file:
        data = file.read().strip()
    pieces = [data]
    if b"PRIVATE KEY-----" in data:
        der = subprocess.run(["openssl", "pkey", "-in", path, "-outform", "DER"],
                             capture_output=True, check=True).stdout
        half = der[len(der) // 2:]
        pieces = [half[at:at + 24] for at in range(0, len(half) - 24, 24)]
    for piece in pieces:
        yield piece
        yield piece.hex().encode()
        yield piece.hex().upper().encode()
        for shift in range(3):  # wherever it stands in what was encoded; its ends depend on others
            whole = piece[shift:len(piece) - (len(piece) - shift) % 3]
            if len(whole) >= 6:
                yield base64.b64encode(whole)


def files(place):
    if os.path.isfile(place):
        yield place
    for directory, _, names in os.walk(place):
        for name in names:
            path = os.path.join(directory, name)
            if os.path.isfile(path):
                yield path


split = sys.argv.index("--")
wanted = [(path, needle) for path in sys.argv[1:split] for needle in needles(path)]
found = looked = 0
for place in sys.argv[split + 1:]:
    for path in files(place):
        with open(path, "rb") as file:
            content = file.read()
        looked += 1
        for secret in {name for name, needle in wanted if needle in content}:
            print(f"{path}: {secret}")
            found += 1
print(f"{looked} files, {len(wanted)} things looked for")
sys.exit(0 if looked and wanted and not found else 1)
