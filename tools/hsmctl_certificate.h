// SPDX-License-Identifier: Apache-2.0
// Files with certificates and keys that an officer has.
#pragma once

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"
#include "hsmd/base/secret.h"

// A PKCS#12 file (RFC 7292): its first private key as DER PrivateKeyInfo, the public key as
// SubjectPublicKeyInfo, its certificates as DER one after the other, the key's own first. The
// passphrase has a 0 after it. ERR_DENIED: wrong passphrase; ERR_PERM: no such file, no key in it.
enum err certificate_open_pkcs12(const char *path, const struct secret *passphrase,
                                 struct secret *private_key, struct buf *public_key,
                                 struct buf *certificates, struct detail *detail);
// A file of PEM certificates, as DER one after the other. ERR_PERM: none in it, or another thing.
enum err certificate_read_chain(const char *path, struct buf *certificates, struct detail *detail);
