// SPDX-License-Identifier: Apache-2.0
// A program that uses OpenSSL with our provider, as the tests need it: a library context configured
// by a file, keys by URI, and a look at the error queue.
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "tests/unit/providers/fake_hsmd.h"

#define APP_TIMEOUT "8000" // ms, of calls in tests that expect an answer

// order: the providers, e.g. "default hsmd". timeout: ms as text. A missing setting is left out of
// the file if it is named in without (NULL: none).
OSSL_LIB_CTX *app_open(struct fake *fake, const char *order, const char *timeout,
                       const char *without);
void app_close(OSSL_LIB_CTX *libctx);

EVP_PKEY *app_key(OSSL_LIB_CTX *libctx, const char *uri);     // fails the test if there is none
EVP_PKEY *app_try_key(OSSL_LIB_CTX *libctx, const char *uri); // NULL: the queue says why

// Some error on the queue has both texts in its reason and data; then empties the queue.
void app_expect_error(const char *reason, const char *data);
void app_expect_no_error(void); // the queue is empty

// Signs a message by digest-sign with the private key of anyone; 0: failed. Params may be NULL.
size_t app_digest_sign(OSSL_LIB_CTX *libctx, EVP_PKEY *key, const char *md,
                       const OSSL_PARAM *params, const void *data, size_t len, uint8_t *sig,
                       size_t room);
// 1 if the signature is good.
int app_digest_verify(OSSL_LIB_CTX *libctx, EVP_PKEY *key, const char *md, const OSSL_PARAM *params,
                      const void *data, size_t len, const uint8_t *sig, size_t siglen);

// DER of a SET such as the fake takes for SignedAttributes; content is at most 100 bytes.
size_t app_attributes(const char *content, uint8_t *out);

// cmocka group setup and teardown: *state is a struct fake.
int app_fake_setup(void **state);
int app_fake_teardown(void **state);

// The same, and a library context with "default hsmd" that its calls go through.
extern struct app {
    struct fake *fake;
    OSSL_LIB_CTX *libctx;
} app;
int app_setup(void **state);
int app_teardown(void **state);
// cmocka setup or teardown of one test: the fake answers as it should, the error queue is empty.
int app_no_fault(void **state);
