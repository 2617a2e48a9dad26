// SPDX-License-Identifier: Apache-2.0
// What the token tests share: a SoftHSM token with the usual keys, opened and logged in.
#pragma once

#include <setjmp.h>
#include <stddef.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "pkcs11/token.h"
#include "tests/support/softhsm.h"

struct fixture {
    struct softhsm hsm;
    struct secret pin;
    struct secret out; // for tests to use
    struct token *token;
    struct token_session *session;
};

extern struct fixture fixture;

// Fails the test with the detail's text if the call is not ERR_OK.
#define assert_ok(call, detail)                                                     \
    do {                                                                            \
        enum err assert_ok_err = (call);                                            \
        if (assert_ok_err != ERR_OK)                                                \
            fail_msg("%s: %s: %s", #call, err_name(assert_ok_err), (detail)->text); \
    } while (0)
#define assert_err(call, expected)                                                           \
    do {                                                                                     \
        enum err assert_err_err = (call);                                                    \
        if (assert_err_err != (expected))                                                    \
            fail_msg("%s: %s, not %s", #call, err_name(assert_err_err), err_name(expected)); \
    } while (0)

// Makes the token with a set of keys (SOFTHSM_*), through module, and opens and logs in with that
// many sessions. The group's teardown undoes it all.
void fixture_begin(unsigned keys, const char *module, unsigned sessions);
// As above, with further keys, up to one without a label.
void fixture_begin_with(unsigned keys, const struct softhsm_key *further, const char *module,
                        unsigned sessions);
void fixture_open(const char *module, unsigned sessions); // the token's part of it
struct token_conf fixture_conf(const char *module, unsigned sessions);
int fixture_end(void **state);

struct token_key *fixture_key(const char *label);

// The public operations, with OpenSSL.
bool fixture_verify(EVP_PKEY *pkey, enum token_scheme scheme, enum hash hash, unsigned salt,
                    struct bytes digest, struct bytes signature);
// RSA encryption; hash == HASH_NONE: v1.5. Returns the length of out.
size_t fixture_encrypt(EVP_PKEY *pkey, enum hash hash, enum hash mgf_hash, struct bytes label,
                       struct bytes message, uint8_t *out, size_t room);
// RSA encryption of a whole block, without padding.
size_t fixture_encrypt_raw(EVP_PKEY *pkey, const uint8_t *block, uint8_t *out, size_t room);
// The uncompressed point of a public key.
size_t fixture_point(EVP_PKEY *pkey, uint8_t *out, size_t room);
// ECDH by OpenSSL, private half here.
size_t fixture_derive(EVP_PKEY *ours, EVP_PKEY *peer, uint8_t *out, size_t room);
