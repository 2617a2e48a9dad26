// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/providers/app.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/provider.h>
#include <openssl/store.h>

int app_fake_setup(void **state)
{
    *state = fake_start();
    return 0;
}

int app_fake_teardown(void **state)
{
    fake_stop(*state);
    return 0;
}

static void put_setting(FILE *file, const char *name, const char *value, const char *without)
{
    if (!without || strcmp(without, name) != 0)
        fprintf(file, "%s = %s\n", name, value);
}

static void put_hsmd(FILE *file, struct fake *fake, const char *timeout, const char *without)
{
    char path[128];
    fprintf(file, "[hsmd_section]\nmodule = " TEST_BUILD "/bin/hsmd.so\nactivate = 1\n");
    put_setting(file, "endpoints", fake_endpoint(fake), without);
    snprintf(path, sizeof path, "%s/server.pub", fake_dir(fake));
    put_setting(file, "server-key-file", path, without);
    snprintf(path, sizeof path, "%s/client.pub", fake_dir(fake));
    put_setting(file, "public-key-file", path, without);
    snprintf(path, sizeof path, "%s/client.key", fake_dir(fake));
    put_setting(file, "secret-key-file", path, without);
    put_setting(file, "timeout", timeout, without);
}

OSSL_LIB_CTX *app_open(struct fake *fake, const char *order, const char *timeout,
                       const char *without)
{
    char path[128];
    char names[64];
    OSSL_LIB_CTX *libctx = OSSL_LIB_CTX_new();
    snprintf(path, sizeof path, "%s/cnf", fake_dir(fake));
    snprintf(names, sizeof names, "%s", order);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "openssl_conf = main\n[main]\nproviders = providers\n[providers]\n");
    for (char *save = NULL, *name = strtok_r(names, " ", &save); name;
         name = strtok_r(NULL, " ", &save))
        fprintf(file, "%s = %s_section\n", name, name);
    fprintf(file, "[default_section]\nactivate = 1\n");
    put_hsmd(file, fake, timeout, without);
    fclose(file);
    assert_int_equal(OSSL_LIB_CTX_load_config(libctx, path), 1);
    assert_true(OSSL_PROVIDER_available(libctx, "hsmd"));
    unlink(path);
    return libctx;
}

void app_close(OSSL_LIB_CTX *libctx)
{
    OSSL_LIB_CTX_free(libctx);
}

EVP_PKEY *app_try_key(OSSL_LIB_CTX *libctx, const char *uri)
{
    EVP_PKEY *key = NULL;
    OSSL_STORE_CTX *store = OSSL_STORE_open_ex(uri, libctx, NULL, NULL, NULL, NULL, NULL, NULL);
    if (!store)
        return NULL;
    OSSL_STORE_expect(store, OSSL_STORE_INFO_PKEY);
    while (!key && !OSSL_STORE_eof(store)) {
        OSSL_STORE_INFO *info = OSSL_STORE_load(store);
        if (info && OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_PKEY)
            key = OSSL_STORE_INFO_get1_PKEY(info);
        OSSL_STORE_INFO_free(info);
    }
    OSSL_STORE_close(store);
    return key;
}

EVP_PKEY *app_key(OSSL_LIB_CTX *libctx, const char *uri)
{
    EVP_PKEY *key = app_try_key(libctx, uri);
    if (!key)
        ERR_print_errors_fp(stderr);
    assert_non_null(key);
    return key;
}

void app_expect_error(const char *reason, const char *data)
{
    const char *detail = NULL;
    int flags = 0;
    unsigned long code;
    bool found = false;
    char seen[2000] = "";
    while ((code = ERR_get_error_all(NULL, NULL, NULL, &detail, &flags)) != 0) {
        const char *text = ERR_reason_error_string(code);
        size_t len = strlen(seen);
        text = text ? text : "?";
        detail = detail && (flags & ERR_TXT_STRING) ? detail : "";
        snprintf(seen + len, sizeof seen - len, "%s: %s\n", text, detail);
        found = found || (strstr(text, reason) && strstr(detail, data));
    }
    if (!found)
        fail_msg("no error \"%s\" with \"%s\", but:\n%s", reason, data, seen);
}

void app_expect_no_error(void)
{
    if (ERR_peek_error())
        ERR_print_errors_fp(stderr);
    assert_int_equal(ERR_peek_error(), 0);
}

size_t app_digest_sign(OSSL_LIB_CTX *libctx, EVP_PKEY *key, const char *md,
                       const OSSL_PARAM *params, const void *data, size_t len, uint8_t *sig,
                       size_t room)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (EVP_DigestSignInit_ex(context, NULL, md, libctx, NULL, key, params) <= 0 ||
        EVP_DigestSignUpdate(context, data, len) <= 0 ||
        EVP_DigestSignFinal(context, sig, &room) <= 0)
        room = 0;
    EVP_MD_CTX_free(context);
    return room;
}

int app_digest_verify(OSSL_LIB_CTX *libctx, EVP_PKEY *key, const char *md, const OSSL_PARAM *params,
                      const void *data, size_t len, const uint8_t *sig, size_t siglen)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int result = -1;
    if (EVP_DigestVerifyInit_ex(context, NULL, md, libctx, NULL, key, params) > 0 &&
        EVP_DigestVerifyUpdate(context, data, len) > 0)
        result = EVP_DigestVerifyFinal(context, sig, siglen);
    EVP_MD_CTX_free(context);
    return result;
}

size_t app_attributes(const char *content, uint8_t *out)
{
    size_t len = strlen(content);
    assert_true(len <= 100);
    out[0] = 0x31;
    out[1] = (uint8_t)(len + 2);
    out[2] = 0x04;
    out[3] = (uint8_t)len;
    for (size_t i = 0; i < len; i++)
        out[4 + i] = (uint8_t)content[i];
    return len + 4;
}

struct app app;

int app_setup(void **state)
{
    app_fake_setup(state);
    app.fake = *state;
    app.libctx = app_open(app.fake, "default hsmd", APP_TIMEOUT, NULL);
    return 0;
}

int app_teardown(void **state)
{
    app_close(app.libctx);
    return app_fake_teardown(state);
}

int app_no_fault(void **state)
{
    (void)state;
    fake_set_fault(app.fake, FAKE_NO_FAULT);
    ERR_clear_error();
    return 0;
}
