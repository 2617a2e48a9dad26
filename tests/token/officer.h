// SPDX-License-Identifier: Apache-2.0
// What the tests of token_admin.h share.
#pragma once

#include "pkcs11/token_admin.h"
#include "tests/token/fixture.h"

enum {
    SIGN = TOKEN_USE_SIGN,
    DECRYPT = TOKEN_USE_DECRYPT,
    DERIVE = TOKEN_USE_DERIVE,
};

#define OFFICER_PATIENCE deadline_in(60000)

// id: static, at most 64 bytes of text.
struct token_key_wish officer_wish(const char *label, const char *id, enum token_key_type type,
                                   unsigned bits, unsigned usage);

// The key as PrivateKeyInfo; the caller clears it.
void officer_pkcs8(EVP_PKEY *pkey, struct secret *out);

// The key opens, is as it must be, and every usage of the wish works against OpenSSL and the public
// key (NULL: the one the token tells).
void officer_check_key(struct token *token, const struct token_key_wish *wish, bool is_generated,
                       EVP_PKEY *public);
// The same, but for what only keys made in the token have.
void officer_check_use(struct token *token, const struct token_key_wish *wish, EVP_PKEY *public);

// The token has so many objects with this CKA_ID, as another process sees it.
void officer_check_objects(const char *id, unsigned expected);

// For softhsm_in_child: removes all objects with the CKA_ID arg.
void officer_remove(void *functions, unsigned long session, void *arg);

// How many private keys token_key_list sees.
unsigned officer_count_keys(struct token *token);
