// SPDX-License-Identifier: Apache-2.0
// Programs with the provider and a real hsmd, in a build where both may be instrumented. One has
// two library contexts that are two clients: each is configured with CURVE keys of its own, and
// hsmd lets each use what it was granted, whoever came first. One has threads.
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>

#include "hsmd/base/file.h"
#include "tests/integration/hsmd_process.h"
#include "tests/support/custodian.h"
#include "tests/unit/providers/app.h"

#define THREADS 4
#define ROUNDS 8

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

// Not for cmocka to judge: it knows one thread.
static bool has_signed(OSSL_LIB_CTX *libctx, EVP_PKEY *key)
{
    uint8_t signature[512];
    size_t len = app_digest_sign(libctx, key, "SHA256", NULL, attributes.data, attributes.len,
                                 signature, sizeof signature);
    bool good = len && app_digest_verify(libctx, key, "SHA256", NULL, attributes.data,
                                         attributes.len, signature, len) == 1;
    if (!good)
        ERR_print_errors_fp(stderr);
    return good;
}

static void signs(OSSL_LIB_CTX *libctx, EVP_PKEY *key)
{
    assert_true(has_signed(libctx, key));
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

static bool has_decrypted(OSSL_LIB_CTX *libctx, EVP_PKEY *key, const char *text)
{
    uint8_t wrapped[512], got[512];
    size_t wrapped_len = sizeof wrapped, len = sizeof got;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(libctx, key, NULL);
    bool good =
        EVP_PKEY_encrypt_init(ctx) > 0 &&
        EVP_PKEY_encrypt(ctx, wrapped, &wrapped_len, (const uint8_t *)text, strlen(text)) > 0 &&
        EVP_PKEY_decrypt_init(ctx) > 0 &&
        EVP_PKEY_decrypt(ctx, got, &len, wrapped, wrapped_len) > 0 &&
        bytes_equal(bytes_of(got, len), bytes_of_text(text));
    if (!good)
        ERR_print_errors_fp(stderr);
    EVP_PKEY_CTX_free(ctx);
    return good;
}

struct worker {
    pthread_t thread;
    OSSL_LIB_CTX *libctx;
    EVP_PKEY *const *keys; // RSA and ECDSA to sign, RSA to decrypt
    unsigned number;
    unsigned good;
};

// Half of them sign while the others decrypt, texts that no other thread has.
static void *work(void *arg)
{
    struct worker *worker = arg;
    for (unsigned i = 0; i < ROUNDS; i++) {
        char text[40];
        snprintf(text, sizeof text, "thread %u round %u", worker->number, i);
        if ((worker->number + i) % 2)
            worker->good += has_decrypted(worker->libctx, worker->keys[2], text);
        else
            worker->good += has_signed(worker->libctx, worker->keys[(i + worker->number) / 2 % 2]);
    }
    OPENSSL_thread_stop_ex(worker->libctx);
    return NULL;
}

static void test_threads(void **state)
{
    static const char *const uris[3] = {"hsmd:signing", "hsmd:ec-signing", "hsmd:decryption"};
    struct worker workers[THREADS];
    EVP_PKEY *keys[3];
    (void)state;
    OSSL_LIB_CTX *libctx = context_of("gw");
    for (int i = 0; i < 3; i++)
        keys[i] = app_key(libctx, uris[i]);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.libctx = libctx, .keys = keys, .number = i};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        assert_int_equal(workers[i].good, ROUNDS);
    }
    for (int i = 0; i < 3; i++)
        EVP_PKEY_free(keys[i]);
    app_close(libctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_two_clients),
                                       cmocka_unit_test(test_threads)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
