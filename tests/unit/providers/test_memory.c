// SPDX-License-Identifier: Apache-2.0
// Every allocation of the provider fails once, in turn: the operation fails with an error on the
// queue or works all the same, nothing crashes or leaks, and the next try works. For this the
// provider is linked in, not loaded, and hsmd is in a process of its own.
#include "tests/unit/providers/app.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/provider.h>
#include <openssl/x509.h>

#include "hsmd/base/alloc.h"

extern OSSL_provider_init_fn OSSL_provider_init;

static pid_t hsmd;
static int hsmd_end; // closed: hsmd ends
static unsigned char *peer_der;
static int peer_len;
static OSSL_LIB_CTX *libctx;
static OSSL_PROVIDER *providers[2];

static bool open_context(void)
{
    libctx = OSSL_LIB_CTX_new();
    providers[0] = OSSL_PROVIDER_load(libctx, "default");
    OSSL_PROVIDER_add_builtin(libctx, "hsmd", OSSL_provider_init);
    providers[1] = OSSL_PROVIDER_load(libctx, "hsmd");
    return providers[1] != NULL;
}

static void close_context(void)
{
    for (int i = 0; i < 2; i++) {
        if (providers[i])
            OSSL_PROVIDER_unload(providers[i]);
    }
    OSSL_LIB_CTX_free(libctx);
}

static void run_hsmd(int directory, int end)
{
    char byte;
    struct fake *fake = fake_start();
    bool ok = write(directory, fake_dir(fake), strlen(fake_dir(fake)) + 1) > 0;
    while (ok && read(end, &byte, 1) > 0)
        ;
    fake_stop(fake);
    _exit(0);
}

static int setup(void **state)
{
    static const char *const names[][2] = {{"HSMD_SERVER_KEY_FILE", "server.pub"},
                                           {"HSMD_PUBLIC_KEY_FILE", "client.pub"},
                                           {"HSMD_SECRET_KEY_FILE", "client.key"}};
    char dir[100] = "";
    char path[128];
    int directory[2];
    int end[2];
    (void)state;
    assert_int_equal(pipe(directory) | pipe(end), 0);
    hsmd = fork();
    assert_true(hsmd >= 0);
    if (hsmd == 0) {
        close(end[1]);
        run_hsmd(directory[1], end[0]);
    }
    close(directory[1]);
    close(end[0]);
    hsmd_end = end[1];
    assert_true(read(directory[0], dir, sizeof dir - 1) > 0);
    close(directory[0]);
    snprintf(path, sizeof path, "ipc://%s/sock", dir);
    setenv("HSMD_ENDPOINTS", path, 1);
    setenv("HSMD_TIMEOUT", APP_TIMEOUT, 1);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i][1]);
        setenv(names[i][0], path, 1);
    }
    EVP_PKEY *peer = EVP_EC_gen("P-256");
    peer_len = i2d_PUBKEY(peer, &peer_der);
    assert_true(peer_len > 0);
    EVP_PKEY_free(peer);
    return 0;
}

static int teardown(void **state)
{
    int status = 0;
    (void)state;
    close(hsmd_end);
    waitpid(hsmd, &status, 0);
    OPENSSL_free(peer_der);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

// Each does one thing from the beginning, first use of the provider included.

static bool do_sign(const char *uri)
{
    uint8_t data[64];
    uint8_t sig[512];
    size_t len = app_attributes("text", data);
    EVP_PKEY *key = app_try_key(libctx, uri);
    bool ok = key && app_digest_sign(libctx, key, "SHA256", NULL, data, len, sig, sizeof sig) > 0;
    EVP_PKEY_free(key);
    return ok;
}

static bool do_sign_message(void)
{
    return do_sign("hsmd:general");
}

static bool do_sign_attributes(void)
{
    return do_sign("hsmd:ec-signing");
}

static bool do_decrypt(void)
{
    uint8_t in[256] = {1};
    uint8_t out[256];
    size_t len = sizeof out;
    EVP_PKEY *key = app_try_key(libctx, "hsmd:decryption");
    EVP_PKEY_CTX *context = key ? EVP_PKEY_CTX_new_from_pkey(libctx, key, NULL) : NULL;
    EVP_PKEY_CTX *copy = NULL;
    bool ok = context && EVP_PKEY_decrypt_init(context) > 0 &&
              (copy = EVP_PKEY_CTX_dup(context)) != NULL &&
              EVP_PKEY_decrypt(copy, out, &len, in, sizeof in) > 0;
    EVP_PKEY_CTX_free(copy);
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_free(key);
    return ok;
}

static bool do_agree(void)
{
    size_t length = 32;
    uint8_t out[32];
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_EXCHANGE_PARAM_KDF_TYPE, (char *)"X963KDF", 0),
        OSSL_PARAM_construct_utf8_string(OSSL_EXCHANGE_PARAM_KDF_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_size_t(OSSL_EXCHANGE_PARAM_KDF_OUTLEN, &length),
        OSSL_PARAM_construct_octet_string(OSSL_EXCHANGE_PARAM_KDF_UKM, (char *)"info", 4),
        OSSL_PARAM_construct_end()};
    EVP_PKEY *key = app_try_key(libctx, "hsmd:ec-decryption");
    const unsigned char *der = peer_der;
    EVP_PKEY *peer = d2i_PUBKEY_ex(NULL, &der, peer_len, libctx, NULL);
    EVP_PKEY_CTX *context = key ? EVP_PKEY_CTX_new_from_pkey(libctx, key, NULL) : NULL;
    EVP_PKEY_CTX *copy = NULL;
    bool ok = context && EVP_PKEY_derive_init_ex(context, params) > 0 &&
              EVP_PKEY_derive_set_peer(context, peer) > 0 &&
              (copy = EVP_PKEY_CTX_dup(context)) != NULL && EVP_PKEY_derive(copy, out, &length) > 0;
    EVP_PKEY_CTX_free(copy);
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_free(peer);
    EVP_PKEY_free(key);
    return ok;
}

static bool do_dup(void)
{
    EVP_PKEY *key = app_try_key(libctx, "hsmd:ec-signing");
    EVP_PKEY *copy = key ? EVP_PKEY_dup(key) : NULL;
    bool ok = copy && EVP_PKEY_eq(copy, key) == 1;
    EVP_PKEY_free(copy);
    EVP_PKEY_free(key);
    return ok;
}

// The failure asked for has not happened in n allocations or fewer.
static bool is_failure_due(unsigned n)
{
    bool due = false;
    for (unsigned i = 0; i < n && !due; i++) {
        void *memory = mem_calloc(1, 1);
        due = !memory;
        mem_free(memory);
    }
    return due;
}

// One failing allocation after the other until the operation gets through without meeting it.
static void sweep(const char *name, bool (*operation)(void))
{
    unsigned failures = 0;
    print_message("%s\n", name);
    for (unsigned n = 1;; n++) {
        assert_true(n < 400);
        mem_fail_at(n);
        bool loaded = open_context();
        bool ok = loaded && operation();
        bool is_due = is_failure_due(n);
        mem_fail_at(0);
        if (!ok && loaded)
            assert_int_not_equal(ERR_peek_error(), 0);
        ERR_clear_error();
        if (!ok)
            failures++;
        if (loaded) // and now it works
            assert_true(operation());
        ERR_clear_error();
        close_context();
        if (is_due)
            break;
    }
    print_message("  %u failed\n", failures);
    assert_true(failures > 5);
}

static void test_sweep(void **state)
{
    (void)state;
    sweep("sign a message", do_sign_message);
    sweep("sign attributes", do_sign_attributes);
    sweep("decrypt", do_decrypt);
    sweep("agree", do_agree);
    sweep("dup", do_dup);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sweep)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
