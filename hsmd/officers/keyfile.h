// SPDX-License-Identifier: Apache-2.0
// An officer's key file: two PEM blocks ENCRYPTED PRIVATE KEY (RFC 5958; PBES2 with scrypt and
// AES-256-CBC), an Ed25519 key that signs and an X25519 key that is the CURVE key of the
// connection. Any OpenSSL can read it with the passphrase. Mode 0600.
#pragma once

#include "hsmd/base/curve.h"
#include "hsmd/base/err.h"
#include "hsmd/base/secret.h"
#include "hsmd/officers/act.h"
#include "hsmd/officers/statement.h"

#define KEYFILE_PASSPHRASE_MIN 8 // characters

struct officer_key {
    struct secret signing; // 32 bytes
    struct secret curve;   // Z85, 40 characters and a 0
    uint8_t public_signing[OFFICER_SIGNING_KEY_SIZE];
    char public_curve[CURVE_TEXT_SIZE];
};

enum err officer_key_generate(struct officer_key *key, struct detail *detail);
void officer_key_clear(struct officer_key *key); // a zeroed struct is fine

// Writes a new file; ERR_PERM: there is one, or the passphrase is too short.
enum err officer_key_write(const struct officer_key *key, const char *path,
                           const struct secret *passphrase, struct detail *detail);
// ERR_DENIED: wrong passphrase; ERR_PERM: no such file, open to others, not of this kind.
enum err officer_key_read(const char *path, const struct secret *passphrase,
                          struct officer_key *key, struct detail *detail);
enum err officer_key_sign(const struct officer_key *key, struct bytes message,
                          uint8_t signature[STATEMENT_SIGNATURE_SIZE], struct detail *detail);
