// SPDX-License-Identifier: Apache-2.0
// The certificates beside a key: loaded, and checked to belong to it and to be of use for its
// purpose, so that the mistake shows when hsmd starts and not in a recipient's mail client.
#pragma once

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"
#include "hsmd/wire/wire.h"
#include "pkcs11/token.h"

// Appends the DER of every certificate of a PEM file. ERR_PERM: none in it, or one is broken.
enum err certificate_load(const char *path, struct buf *der, struct detail *detail);

// certificates: DER, the key's own first. ERR_PERM: it has another public key, or its key usage
// (RFC 8550, 4.4.2) rules the purpose out. A flaw that some recipients mind and others not is put
// in warning, ERR_OK; else warning is left empty.
enum err certificate_check(struct bytes certificates, const struct token_key_info *info,
                           enum wire_purpose purpose, struct detail *warning,
                           struct detail *detail);
// What of that can be said without the key itself.
enum err certificate_check_use(struct bytes certificates, enum wire_purpose purpose,
                               struct detail *warning, struct detail *detail);

struct x509_st; // OpenSSL's X509

// Everything that is the matter with the certificate itself, one after the other with "; " between:
// flaws rule it out, doubts are what only some recipients mind (and that it is not valid now).
// public_key: SubjectPublicKeyInfo, or empty: not looked at. Both are written anew.
void certificate_look(struct x509_st *certificate, struct bytes public_key,
                      enum wire_purpose purpose, struct detail *flaws, struct detail *doubts);
// Appends one more to such a list, cut where it is full.
void certificate_add_flaw(struct detail *list, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
