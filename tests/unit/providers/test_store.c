// SPDX-License-Identifier: Apache-2.0
// hsmd: URIs, what they give, and what the user reads when they give nothing.
#include "tests/unit/providers/app.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/provider.h>
#include <openssl/store.h>

// What a URI gives, as letters in order: K private key, P public key, C certificate, N name,
// E a failed load.
static void objects(const char *uri, int expect, char *out)
{
    OSSL_STORE_CTX *store = OSSL_STORE_open_ex(uri, app.libctx, NULL, NULL, NULL, NULL, NULL, NULL);
    assert_non_null(store);
    if (expect)
        assert_int_equal(OSSL_STORE_expect(store, expect), 1);
    size_t n = 0;
    while (!OSSL_STORE_eof(store) && n < 30) {
        OSSL_STORE_INFO *info = OSSL_STORE_load(store);
        if (!info) {
            if (OSSL_STORE_error(store))
                out[n++] = 'E';
            if (OSSL_STORE_error(store) && n > 5)
                break;
            continue;
        }
        switch (OSSL_STORE_INFO_get_type(info)) {
        case OSSL_STORE_INFO_PKEY:
            out[n++] = 'K';
            break;
        case OSSL_STORE_INFO_PUBKEY:
            out[n++] = 'P';
            break;
        case OSSL_STORE_INFO_CERT:
            out[n++] = 'C';
            break;
        case OSSL_STORE_INFO_NAME:
            out[n++] = 'N';
            break;
        default:
            out[n++] = '?';
            break;
        }
        OSSL_STORE_INFO_free(info);
    }
    out[n] = 0;
    OSSL_STORE_close(store);
}

static void test_objects(void **state)
{
    static const struct {
        const char *name, *uri;
        int expect;
        const char *objects;
    } rows[] = {
        {"all of a key", "hsmd:signing", 0, "KC"},
        {"key", "hsmd:signing", OSSL_STORE_INFO_PKEY, "K"},
        {"public key", "hsmd:ec-signing", OSSL_STORE_INFO_PUBKEY, "P"},
        {"certificate", "hsmd:ec-signing", OSSL_STORE_INFO_CERT, "C"},
        {"no certificate", "hsmd:ec-general", OSSL_STORE_INFO_CERT, ""},
        {"no CRL", "hsmd:signing", OSSL_STORE_INFO_CRL, ""},
        {"key without certificate", "hsmd:ec-general", 0, "K"},
        {"list", "hsmd:", 0, "NNNNNNNNN"},
        {"capital scheme", "HSMD:signing", OSSL_STORE_INFO_PKEY, "K"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char got[40];
        objects(rows[i].uri, rows[i].expect, got);
        if (strcmp(got, rows[i].objects) != 0)
            fail_msg("%s: %s, not %s", rows[i].name, got, rows[i].objects);
    }
    app_expect_no_error();
}

static void test_names(void **state)
{
    (void)state;
    OSSL_STORE_CTX *store =
        OSSL_STORE_open_ex("hsmd:", app.libctx, NULL, NULL, NULL, NULL, NULL, NULL);
    assert_non_null(store);
    OSSL_STORE_INFO *info = OSSL_STORE_load(store);
    assert_non_null(info);
    assert_string_equal(OSSL_STORE_INFO_get0_NAME(info), "hsmd:decryption");
    assert_string_equal(OSSL_STORE_INFO_get0_NAME_description(info),
                        "RSA 2048 bits, smime-decrypt, enabled");
    OSSL_STORE_INFO_free(info);
    // A key that cannot be described is still there.
    fake_set_fault(app.fake, FAKE_DENIED);
    info = OSSL_STORE_load(store);
    assert_non_null(info);
    assert_string_equal(OSSL_STORE_INFO_get0_NAME(info), "hsmd:ec-decryption");
    assert_null(OSSL_STORE_INFO_get0_NAME_description(info));
    OSSL_STORE_INFO_free(info);
    OSSL_STORE_close(store);
    app_expect_no_error();
}

static void test_bad_uris(void **state)
{
    static const struct {
        const char *uri, *reason, *data;
    } rows[] = {
        {"hsmd:signing?type=cert", "not a URI", "parameters are not known"},
        {"hsmd:signing;type=cert", "not a URI", "parameters are not known"},
        {"hsmd:?", "not a URI", "parameters are not known"},
        {"hsmd:../key", "not a URI", "a name is"},
        {"hsmd://signing", "not a URI", "a name is"},
        {"hsmd:a b", "not a URI", "a name is"},
        {"hsmd:nobody", "hsmd denies", "describe with key nobody: hsmd answers \"denied\""},
    };
    unsigned before = fake_count(app.fake, WIRE_DESCRIBE);
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_null(app_try_key(app.libctx, rows[i].uri));
        app_expect_error(rows[i].reason, rows[i].data);
    }
    assert_int_equal(fake_count(app.fake, WIRE_DESCRIBE), before + 1);
}

static void test_faults(void **state)
{
    static const struct {
        const char *name;
        enum fake_fault fault;
        const char *uri, *reason, *data;
    } rows[] = {
        {"denied", FAKE_DENIED, "hsmd:signing", "hsmd denies", "no such key, or no grant for it"},
        {"temp", FAKE_TEMP, "hsmd:signing", "hsmd cannot do it now", "temporary"},
        {"perm", FAKE_PERM, "hsmd:signing", "hsmd rejects", "\"perm\""},
        {"bug", FAKE_BUG, "hsmd:signing", "internal error", "\"bug\""},
        {"another key", FAKE_OTHER_NAME, "hsmd:signing", "no sense", "another one"},
        {"another type", FAKE_OTHER_TYPE, "hsmd:signing", "no sense", "cannot be read"},
        {"cut public key", FAKE_BAD_PUBLIC_KEY, "hsmd:signing", "no sense", "cannot be read"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fake_set_fault(app.fake, rows[i].fault);
        print_message("%s\n", rows[i].name);
        assert_null(app_try_key(app.libctx, rows[i].uri));
        app_expect_error(rows[i].reason, rows[i].data);
    }
}

static void test_bad_certificate(void **state)
{
    char got[40];
    (void)state;
    fake_set_fault(app.fake, FAKE_BAD_CERTIFICATE);
    objects("hsmd:signing", OSSL_STORE_INFO_CERT, got);
    assert_int_equal(got[0], 'E'); // told, and then it ends
    assert_true(strlen(got) < 5);
    app_expect_error("no sense", "a certificate of key signing");
    objects("hsmd:signing", OSSL_STORE_INFO_PKEY, got);
    assert_string_equal(got, "K");
}

static void test_missing_settings(void **state)
{
    static const struct {
        const char *parameter, *variable;
    } rows[] = {
        {"endpoints", "HSMD_ENDPOINTS"},
        {"server-key-file", "HSMD_SERVER_KEY_FILE"},
        {"public-key-file", "HSMD_PUBLIC_KEY_FILE"},
        {"secret-key-file", "HSMD_SECRET_KEY_FILE"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        OSSL_LIB_CTX *other = app_open(app.fake, "default hsmd", APP_TIMEOUT, rows[i].parameter);
        assert_null(app_try_key(other, "hsmd:signing"));
        ERR_peek_error();
        app_expect_error("configuration", rows[i].parameter);
        assert_null(app_try_key(other, "hsmd:signing"));
        app_expect_error("configuration", rows[i].variable);
        app_close(other);
    }
}

static void test_environment(void **state)
{
    (void)state;
    // Fills in what the file lacks, heals without a new context, and goes before the file.
    OSSL_LIB_CTX *other = app_open(app.fake, "default hsmd", APP_TIMEOUT, "endpoints");
    assert_null(app_try_key(other, "hsmd:signing"));
    app_expect_error("configuration", "endpoints");
    setenv("HSMD_ENDPOINTS", fake_endpoint(app.fake), 1);
    EVP_PKEY_free(app_key(other, "hsmd:signing"));
    app_close(other);
    setenv("HSMD_ENDPOINTS", "carrier-pigeon", 1);
    other = app_open(app.fake, "default hsmd", APP_TIMEOUT, NULL);
    assert_null(app_try_key(other, "hsmd:signing"));
    app_expect_error("configuration", "carrier-pigeon");
    app_close(other);
    unsetenv("HSMD_ENDPOINTS");
    static const char *const bad[] = {"soon", "0", "-5", "10s", "99999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        other = app_open(app.fake, "default hsmd", bad[i], NULL);
        assert_null(app_try_key(other, "hsmd:signing"));
        app_expect_error("configuration", "HSMD_TIMEOUT");
        app_close(other);
    }
}

static void test_key_file_open_to_others(void **state)
{
    char path[128];
    (void)state;
    OSSL_LIB_CTX *other = app_open(app.fake, "default hsmd", "7999", NULL);
    snprintf(path, sizeof path, "%s/no-such-file", fake_dir(app.fake));
    setenv("HSMD_SECRET_KEY_FILE", path, 1);
    assert_null(app_try_key(other, "hsmd:signing"));
    app_expect_error("configuration", "no-such-file");
    unsetenv("HSMD_SECRET_KEY_FILE");
    app_close(other);
}

// Loading the provider asks nobody: it loads with hsmd down, and only its use fails, in time.
static void test_lazy(void **state)
{
    (void)state;
    unsigned before = fake_count(app.fake, WIRE_DESCRIBE) + fake_count(app.fake, WIRE_LIST);
    setenv("HSMD_ENDPOINTS", "ipc:///tmp/prov-fake-nobody-listens", 1);
    OSSL_LIB_CTX *other = app_open(app.fake, "default hsmd", "300", NULL);
    EVP_MD *md = EVP_MD_fetch(other, "SHA256", NULL);
    assert_non_null(md);
    EVP_MD_free(md);
    assert_null(app_try_key(other, "hsmd:signing"));
    app_expect_error("hsmd cannot do it now", "cannot reach it");
    unsetenv("HSMD_ENDPOINTS");
    app_close(other);
    assert_int_equal(fake_count(app.fake, WIRE_DESCRIBE) + fake_count(app.fake, WIRE_LIST), before);
}

static void test_provider_params(void **state)
{
    const char *name = NULL;
    const char *version = NULL;
    int status = 0;
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_ptr("name", (char **)&name, 0),
                           OSSL_PARAM_construct_utf8_ptr("version", (char **)&version, 0),
                           OSSL_PARAM_construct_int("status", &status), OSSL_PARAM_construct_end()};
    (void)state;
    OSSL_PROVIDER *provider = OSSL_PROVIDER_load(app.libctx, "hsmd");
    assert_int_equal(OSSL_PROVIDER_get_params(provider, params), 1);
    assert_non_null(name);
    assert_string_equal(version, SEALGATE_VERSION);
    assert_int_equal(status, 1);
    OSSL_PROVIDER_unload(provider);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_objects, app_no_fault),
        cmocka_unit_test_teardown(test_names, app_no_fault),
        cmocka_unit_test_teardown(test_bad_uris, app_no_fault),
        cmocka_unit_test_teardown(test_faults, app_no_fault),
        cmocka_unit_test_teardown(test_bad_certificate, app_no_fault),
        cmocka_unit_test_teardown(test_missing_settings, app_no_fault),
        cmocka_unit_test_teardown(test_environment, app_no_fault),
        cmocka_unit_test_teardown(test_key_file_open_to_others, app_no_fault),
        cmocka_unit_test_teardown(test_lazy, app_no_fault),
        cmocka_unit_test_teardown(test_provider_params, app_no_fault),
    };
    return cmocka_run_group_tests(tests, app_setup, app_teardown);
}
