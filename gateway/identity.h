// SPDX-License-Identifier: Apache-2.0
// Our own signing and decryption identities: a certificate and a private key that stays with hsmd,
// reached by URI through OSSL_STORE and the provider.
#pragma once

#include <openssl/x509.h>

#include "hsmd/base/err.h"

struct identity_conf {
    const char *name;
    const char *key_uri; // "hsmd:signing"
    const char
        *certificate_file; // PEM: own certificate, then intermediates; NULL: as hsmd gives it
};

struct identity; // thread-safe

// Reads the certificate if it is a file; the key (and certificate from hsmd) is fetched on first
// use and kept once it was got, so that a gateway starts and heals while hsmd is down. ERR_PERM:
// certificate file wrong.
enum err identity_open(const struct identity_conf *conf, struct identity **identity,
                       struct detail *detail);
void identity_close(struct identity *identity);
const char *identity_name(const struct identity *identity);

struct identity_material { // borrowed from the identity
    EVP_PKEY *key;
    X509 *cert;
    STACK_OF(X509) * chain; // without the root
};

// While one thread asks hsmd, others wait for its result and share it. ERR_TEMP: hsmd cannot be
// reached; ERR_PERM: key and certificate do not match, no such key;
// ERR_DENIED: not granted.
enum err identity_get(struct identity *identity, struct identity_material *material,
                      struct detail *detail);
// As far as it is known without hsmd; NULL: not known yet.
X509 *identity_certificate(const struct identity *identity);
