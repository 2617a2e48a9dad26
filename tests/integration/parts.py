#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Takes the S/MIME objects out of a message, and puts objects into one, without any S/MIME library.

parts.py out MESSAGE DIR             DIR/object.der, and DIR/content of a multipart/signed
parts.py in OBJECT FROM [CONTENT]    a message of a DER object, to standard output: multipart/signed
                                     if there is CONTENT, else application/pkcs7-mime
"""

import base64
import email
import email.policy
import os
import sys


def take_out(path, directory):
    with open(path, "rb") as file:
        raw = file.read().replace(b"\r\n", b"\n")
    message = email.message_from_bytes(raw, policy=email.policy.compat32)
    part = message
    if message.get_content_type() == "multipart/signed":
        mark = b"\n--" + message.get_boundary().encode() + b"\n"
        content = raw.split(mark)[1].replace(b"\n", b"\r\n")  # as it is, but for the line ends
        with open(os.path.join(directory, "content"), "wb") as file:
            file.write(content)
        part = message.get_payload()[1]
    with open(os.path.join(directory, "object.der"), "wb") as file:
        file.write(part.get_payload(decode=True))


def put_in(path, sender, content_path):
    with open(path, "rb") as file:
        body = base64.encodebytes(file.read())
    head = f"From: {sender}\nTo: {sender}\nSubject: corpus\nMIME-Version: 1.0\n".encode()
    if content_path:
        with open(content_path, "rb") as file:
            content = file.read().replace(b"\r\n", b"\n")
        head += b'Content-Type: multipart/signed; protocol="application/pkcs7-signature";\n'
        head += b' micalg="sha-256"; boundary="=-cut"\n\n--=-cut\n' + content + b"\n--=-cut\n"
        head += b"Content-Type: application/pkcs7-signature; name=smime.p7s\n"
        body += b"\n--=-cut--\n"
    else:
        head += b"Content-Type: application/pkcs7-mime; name=smime.p7m\n"
    head += b"Content-Transfer-Encoding: base64\n\n"
    sys.stdout.buffer.write((head + body).replace(b"\n", b"\r\n"))


if sys.argv[1] == "out":
    take_out(sys.argv[2], sys.argv[3])
else:
    put_in(sys.argv[2], sys.argv[3], sys.argv[4] if len(sys.argv) > 4 else None)
