// SPDX-License-Identifier: Apache-2.0
// The cases of any_test.c, by what they are about; each makes one row of the sheet.
#pragma once

#include <openssl/evp.h>

#include "tests/token/any.h"
#include "tests/token/officer.h"

#define RSA TOKEN_KEY_RSA
#define EC TOKEN_KEY_EC
#define ED25519 TOKEN_KEY_ED25519

struct row {
    const char *operation;
    void (*run)(const struct row *row);
    enum token_key_type type;
    unsigned bits, usage;
    enum token_scheme scheme;
    enum hash hash;
    const char *label;  // of OAEP
    enum hash mgf_hash; // of OAEP, if it is another one
};

// any_keys.c

void case_generate(const struct row *row);
void case_import(const struct row *row);
void case_tell_imported(const struct row *row);
void case_list(const struct row *row);
void case_destroy(const struct row *row);

// What a key of a row is found by.
struct token_key_wish wish_of(enum token_key_type type, unsigned bits, unsigned usage);
bool is_in_token(const struct token_key_wish *wish);
// What of a usage the token does not offer; NULL: nothing.
const char *missing_for_usage(unsigned usage, enum token_key_type type);
// Why the token says that it cannot generate such a key; false: it does not say so.
bool says_it_cannot_generate(const struct row *row, char *reason, size_t size);

// any_use.c

void case_sign(const struct row *row);
void case_unwrap(const struct row *row);
void case_bad_pkcs1(const struct row *row);
void case_bad_oaep(const struct row *row);
void case_agree(const struct row *row);

// The key of a row, its public half and a session; false: there is no such key, which its own row
// has said.
struct use {
    struct token_key *key;
    EVP_PKEY *pkey;
    struct token_session *session;
};

bool use_begin(const struct row *row, struct use *use);
void use_end(struct use *use);
