// SPDX-License-Identifier: Apache-2.0
// A program with two library contexts that are two clients: each is configured with CURVE keys of
// its own, and hsmd lets each use what it was granted, whoever came first.
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>

#include "hsmd/base/file.h"
#include "tests/integration/hsmd_process.h"
#include "tests/support/custodian.h"
#include "tests/unit/providers/app.h"

static struct hsmd hsmd;
static struct buf attributes;

static int setup(void **state)
{
    (void)state;
    hsmd_setup(&hsmd);
    // Whoever is a stranger to other tests has the general key here.
    hsmd_configure(&hsmd, "client = gateway key = general", "client = other key = general",
                   "client gateway {",
                   "client other { public-key-file = \"stranger.pub\" }\n"
                   "client gateway {",
                   "algorithms = { rsa-pss } }", "}", NULL);
    hsmd_serve(&hsmd);
    buf_init(&attributes, 4096);
    custodian_attributes(HASH_SHA256, &attributes);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    hsmd_teardown(&hsmd);
    buf_clear(&attributes);
    return 0;
}

static OSSL_LIB_CTX *context_of(const char *client)
{
    char text[1000];
    struct detail detail = {0};
    OSSL_LIB_CTX *libctx = OSSL_LIB_CTX_new();
    snprintf(text, sizeof text,
             "openssl_conf = main\n[main]\nproviders = providers\n[providers]\n"
             "default = default_section\nhsmd = hsmd_section\n[default_section]\nactivate = 1\n"
             "[hsmd_section]\nmodule = " TEST_BUILD "/bin/hsmd.so\nactivate = 1\n"
             "endpoints = %s\nserver-key-file = %s/server.pub\n"
             "public-key-file = %s/%s.pub\nsecret-key-file = %s/%s.key\n",
             hsmd.endpoint, hsmd.dir, hsmd.dir, client, hsmd.dir, client);
    const char *path = hsmd_path(&hsmd, "openssl.cnf");
    assert_int_equal(file_write(path, bytes_of_text(text), 0600, &detail), ERR_OK);
    assert_int_equal(OSSL_LIB_CTX_load_config(libctx, path), 1);
    return libctx;
}

static void signs(OSSL_LIB_CTX *libctx, EVP_PKEY *key)
{
    uint8_t signature[512];
    size_t len = app_digest_sign(libctx, key, "SHA256", NULL, attributes.data, attributes.len,
                                 signature, sizeof signature);
    if (!len)
        ERR_print_errors_fp(stderr);
    assert_true(len > 0);
    assert_int_equal(app_digest_verify(libctx, key, "SHA256", NULL, attributes.data, attributes.len,
                                       signature, len),
                     1);
}

static void is_denied(OSSL_LIB_CTX *libctx, const char *uri)
{
    assert_null(app_try_key(libctx, uri));
    app_expect_error("hsmd denies the request", "");
}

static void test_two_clients(void **state)
{
    static const struct {
        const char *client, *own, *foreign;
    } rows[2] = {{"gw", "hsmd:signing", "hsmd:general"},
                 {"stranger", "hsmd:general", "hsmd:signing"}};
    OSSL_LIB_CTX *contexts[2];
    EVP_PKEY *keys[2];
    (void)state;
    for (int i = 0; i < 2; i++) {
        contexts[i] = context_of(rows[i].client);
        keys[i] = app_key(contexts[i], rows[i].own);
    }
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 2; i++) {
            signs(contexts[i], keys[i]);
            is_denied(contexts[i], rows[i].foreign);
        }
    }
    EVP_PKEY_free(keys[0]);
    app_close(contexts[0]);
    signs(contexts[1], keys[1]); // the other one's client is its own
    is_denied(contexts[1], rows[1].foreign);
    EVP_PKEY_free(keys[1]);
    app_close(contexts[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_two_clients)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
