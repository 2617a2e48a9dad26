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

#define KEYFILE_PASSPHRASE_MIN 8    // characters (UTF-8)
#define KEYFILE_PASSPHRASE_MAX 1000 // bytes; the openssl command takes no more than 1024

struct officer_key {
    struct secret signing; // 32 bytes
    struct secret curve;   // Z85, len 40, and a 0 behind it
    uint8_t public_signing[OFFICER_SIGNING_KEY_SIZE];
    char public_curve[CURVE_TEXT_SIZE];
};

// key: zeroed.
enum err officer_key_generate(struct officer_key *key, struct detail *detail);
void officer_key_clear(struct officer_key *key); // a zeroed struct is fine

// Writes a new file; ERR_PERM: there is one, or the passphrase is too short.
enum err officer_key_write(const struct officer_key *key, const char *path,
                           const struct secret *passphrase, struct detail *detail);
// key: zeroed; all of it is set. ERR_DENIED: wrong passphrase (or the encrypted part is damaged,
// which cannot be told apart); ERR_PERM: no such file, open to others, not of this kind.
enum err officer_key_read(const char *path, const struct secret *passphrase,
                          struct officer_key *key, struct detail *detail);
enum err officer_key_sign(const struct officer_key *key, struct bytes message,
                          uint8_t signature[STATEMENT_SIGNATURE_SIZE], struct detail *detail);

// What an officer hands to others: the file NAME.pub, one line "officer-1 NAME SIGNINGHEX
// CURVEZ85".
struct officer_public {
    char name[TEXT_NAME_MAX + 1];
    uint8_t signing_key[OFFICER_SIGNING_KEY_SIZE];
    char curve_key[CURVE_TEXT_SIZE];
};

// ERR_PERM: no name.
enum err officer_public_of(const struct officer_key *key, const char *name,
                           struct officer_public *public, struct detail *detail);
// Mode 0644; a file that is there is replaced.
enum err officer_public_write(const struct officer_public *public, const char *path,
                              struct detail *detail);
// ERR_PERM: no such file, or not such a line and nothing else.
enum err officer_public_read(const char *path, struct officer_public *public,
                             struct detail *detail);
