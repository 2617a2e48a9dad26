// SPDX-License-Identifier: Apache-2.0
// Signing with keys of hsmd, seen from EVP; libcrypto with the same key in memory is the oracle.
#include "tests/unit/providers/app.h"

#include <stdio.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

static const char message[] = "Sehr geehrte Damen und Herren";

struct row {
    const char *name, *key, *md;
    int padding; // 0: not set
    const char *salt;
    unsigned salt_bytes; // what hsmd must be told
    int verify_salt;
};

static const struct row rows[] = {
    {"RSA default", "general", NULL, 0, NULL, 0, 0},
    {"RSA SHA-1", "general", "SHA1", 0, NULL, 0, 0},
    {"RSA SHA-224", "general", "SHA224", 0, NULL, 0, 0},
    {"RSA SHA-256", "general", "SHA2-256", 0, NULL, 0, 0},
    {"RSA SHA-384", "general", "SHA384", RSA_PKCS1_PADDING, NULL, 0, 0},
    {"RSA SHA-512", "general", "SHA512", 0, NULL, 0, 0},
    {"PSS nothing said", "general", "SHA256", RSA_PKCS1_PSS_PADDING, NULL, 222, 222},
    {"PSS digest", "general", "SHA256", RSA_PKCS1_PSS_PADDING, "digest", 32, 32},
    {"PSS max", "general", "SHA512", RSA_PKCS1_PSS_PADDING, "max", 190, 190},
    {"PSS auto", "general", "SHA384", RSA_PKCS1_PSS_PADDING, "auto", 206, 206},
    {"PSS auto-digestmax", "general", "SHA384", RSA_PKCS1_PSS_PADDING, "auto-digestmax", 48, 48},
    {"PSS 20", "general", "SHA1", RSA_PKCS1_PSS_PADDING, "20", 20, 20},
    {"PSS 0", "general", "SHA256", RSA_PKCS1_PSS_PADDING, "0", 0, 0},
    {"S/MIME RSA", "signing", "SHA256", 0, NULL, 0, 0},
    {"S/MIME RSA SHA-512", "signing", "SHA512", 0, NULL, 0, 0},
    {"S/MIME PSS", "signing", "SHA256", RSA_PKCS1_PSS_PADDING, "digest", 32, 32},
    {"S/MIME PSS nothing said", "signing", "SHA384", RSA_PKCS1_PSS_PADDING, NULL, 48, 48},
    {"ECDSA default", "ec-general", NULL, 0, NULL, 0, 0},
    {"ECDSA SHA-1", "ec-general", "SHA1", 0, NULL, 0, 0},
    {"ECDSA SHA-512", "ec-general", "SHA512", 0, NULL, 0, 0},
    {"S/MIME ECDSA", "ec-signing", "SHA256", 0, NULL, 0, 0},
    {"S/MIME ECDSA SHA-384", "ec-signing", "SHA384", 0, NULL, 0, 0},
};
#define ROWS (sizeof rows / sizeof *rows)

// pad-mode as OpenSSL's CMS gives it, and the salt as text.
static void row_params(const struct row *row, int *padding, OSSL_PARAM params[3])
{
    size_t n = 0;
    *padding = row->padding;
    if (row->padding)
        params[n++] = OSSL_PARAM_construct_int(OSSL_PKEY_PARAM_PAD_MODE, padding);
    if (row->salt)
        params[n++] =
            OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_RSA_PSS_SALTLEN, (char *)row->salt, 0);
    params[n] = OSSL_PARAM_construct_end();
}

static EVP_PKEY *row_key(const struct row *row)
{
    char uri[64];
    snprintf(uri, sizeof uri, "hsmd:%s", row->key);
    return app_key(app.libctx, uri);
}

static void check_row(const struct row *row)
{
    uint8_t data[128];
    uint8_t sig[512];
    OSSL_PARAM params[3];
    OSSL_PARAM verify_params[3];
    char salt[16];
    int padding = 0;
    size_t len = app_attributes(message, data);
    EVP_PKEY *key = row_key(row);
    bool is_attributes = strstr(row->key, "signing") != NULL;

    row_params(row, &padding, params);
    unsigned before = fake_count(app.fake, WIRE_SIGN);
    size_t siglen = app_digest_sign(app.libctx, key, row->md, params, data, len, sig, sizeof sig);
    if (!siglen)
        ERR_print_errors_fp(stderr);
    assert_true(siglen > 0);
    assert_int_equal(fake_count(app.fake, WIRE_SIGN), before + 1);
    const struct wire_sign *sign = &fake_last(app.fake)->sign;
    assert_int_equal(sign->form, is_attributes ? WIRE_ATTRIBUTES : WIRE_DIGEST);
    assert_int_equal(sign->hash, hash_by_name(row->md ? row->md : "SHA256"));
    assert_int_equal(sign->salt, row->salt_bytes);

    struct row strict = *row;
    snprintf(salt, sizeof salt, "%d", row->verify_salt);
    strict.salt = row->padding == RSA_PKCS1_PSS_PADDING ? salt : NULL;
    row_params(&strict, &padding, verify_params);
    const char *md = row->md ? row->md : "SHA256";
    EVP_PKEY *oracle = fake_key(app.fake, row->key);
    assert_int_equal(app_digest_verify(NULL, oracle, md, verify_params, data, len, sig, siglen), 1);
    // With our own key object, here and without asking anyone.
    assert_int_equal(app_digest_verify(app.libctx, key, md, verify_params, data, len, sig, siglen),
                     1);
    sig[siglen / 2] ^= 1;
    assert_int_not_equal(
        app_digest_verify(app.libctx, key, md, verify_params, data, len, sig, siglen), 1);
    assert_int_equal(fake_count(app.fake, WIRE_SIGN), before + 1);
    ERR_clear_error();
    EVP_PKEY_free(key);
}

static void test_digest_sign(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS; i++) {
        print_message("%s\n", rows[i].name);
        check_row(&rows[i]);
    }
}

// The AlgorithmIdentifier equals the one libcrypto makes with the same key in memory.
static void test_algorithm_id(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS; i++) {
        uint8_t got[2][256];
        size_t len[2];
        EVP_PKEY *keys[2] = {row_key(&rows[i]), fake_key(app.fake, rows[i].key)};
        struct row strict = rows[i];
        char salt[16];
        snprintf(salt, sizeof salt, "%d", rows[i].verify_salt);
        strict.salt = rows[i].padding == RSA_PKCS1_PSS_PADDING ? salt : NULL;
        print_message("%s\n", rows[i].name);
        for (int j = 0; j < 2; j++) {
            EVP_MD_CTX *context = EVP_MD_CTX_new();
            EVP_PKEY_CTX *inner = NULL;
            OSSL_PARAM params[3];
            int padding = 0;
            row_params(j ? &strict : &rows[i], &padding, params);
            assert_int_equal(EVP_DigestSignInit_ex(context, &inner,
                                                   rows[i].md ? rows[i].md : "SHA256",
                                                   j ? NULL : app.libctx, NULL, keys[j], params),
                             1);
            OSSL_PARAM query[] = {OSSL_PARAM_construct_octet_string(
                                      OSSL_SIGNATURE_PARAM_ALGORITHM_ID, got[j], sizeof got[j]),
                                  OSSL_PARAM_construct_end()};
            assert_true(EVP_PKEY_CTX_get_params(inner, query) > 0);
            len[j] = query[0].return_size;
            EVP_MD_CTX_free(context);
        }
        assert_int_equal(len[0], len[1]);
        assert_memory_equal(got[0], got[1], len[0]);
        EVP_PKEY_free(keys[0]);
    }
    app_expect_no_error();
}

// CMS copies the context in mid-stream; both copies must go on by themselves.
static void test_dup_midstream(void **state)
{
    static const char *const uris[] = {"hsmd:signing", "hsmd:general", "hsmd:ec-signing",
                                       "hsmd:ec-general"};
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        uint8_t data[128];
        uint8_t sig[512];
        size_t len = app_attributes(message, data);
        EVP_PKEY *key = app_key(app.libctx, uris[i]);
        EVP_MD_CTX *first = EVP_MD_CTX_new();
        EVP_MD_CTX *second = EVP_MD_CTX_new();
        assert_int_equal(EVP_DigestSignInit_ex(first, NULL, "SHA256", app.libctx, NULL, key, NULL),
                         1);
        assert_int_equal(EVP_DigestSignUpdate(first, data, 7), 1);
        assert_int_equal(EVP_MD_CTX_copy_ex(second, first), 1);
        EVP_MD_CTX *both[] = {first, second};
        for (int j = 0; j < 2; j++) {
            size_t siglen = 0;
            assert_int_equal(EVP_DigestSignUpdate(both[j], data + 7, len - 7), 1);
            assert_int_equal(EVP_DigestSignFinal(both[j], NULL, &siglen), 1);
            assert_true(siglen <= sizeof sig);
            assert_int_equal(EVP_DigestSignFinal(both[j], sig, &siglen), 1);
            assert_int_equal(app_digest_verify(NULL, fake_key(app.fake, uris[i] + 5), "SHA256",
                                               NULL, data, len, sig, siglen),
                             1);
        }
        EVP_MD_CTX_free(first);
        EVP_MD_CTX_free(second);
        EVP_PKEY_free(key);
    }
    app_expect_no_error();
}

// Signs a digest; 0: failed.
static size_t sign_digest(EVP_PKEY *key, const char *md, const uint8_t *tbs, size_t tbslen,
                          uint8_t *sig, size_t room)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(app.libctx, key, NULL);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, (char *)md, 0),
        OSSL_PARAM_construct_end()};
    size_t size = 0;
    unsigned before = fake_count(app.fake, WIRE_SIGN);
    bool ok = EVP_PKEY_sign_init_ex(context, md ? params : NULL) > 0 &&
              EVP_PKEY_sign(context, NULL, &size, tbs, tbslen) > 0;
    assert_int_equal(fake_count(app.fake, WIRE_SIGN),
                     before); // init and size are not hsmd's business
    if (!ok || size > room || EVP_PKEY_sign(context, sig, &room, tbs, tbslen) <= 0)
        room = 0;
    EVP_PKEY_CTX_free(context);
    return room;
}

static int verify_digest(OSSL_LIB_CTX *where, EVP_PKEY *key, const char *md, const uint8_t *tbs,
                         size_t tbslen, const uint8_t *sig, size_t siglen)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(where, key, NULL);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, (char *)md, 0),
        OSSL_PARAM_construct_end()};
    int result = EVP_PKEY_verify_init_ex(context, md ? params : NULL) > 0
                     ? EVP_PKEY_verify(context, sig, siglen, tbs, tbslen)
                     : -1;
    EVP_PKEY_CTX_free(context);
    return result;
}

static void test_sign_prehashed(void **state)
{
    static const uint8_t info[] = {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
                                   0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20};
    static const struct {
        const char *name, *key, *md;
        bool is_info;
    } cases[] = {
        {"RSA", "general", "SHA256", false},
        {"RSA DigestInfo", "general", NULL, true},
        {"ECDSA", "ec-general", "SHA256", false},
        {"ECDSA no digest", "ec-general", NULL, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t tbs[64];
        uint8_t sig[512];
        char uri[64];
        size_t n = cases[i].is_info ? sizeof info : 0;
        memcpy(tbs, info, n);
        memset(tbs + n, 0xd1, 32);
        snprintf(uri, sizeof uri, "hsmd:%s", cases[i].key);
        print_message("%s\n", cases[i].name);
        EVP_PKEY *key = app_key(app.libctx, uri);
        size_t len = sign_digest(key, cases[i].md, tbs, n + 32, sig, sizeof sig);
        if (!len)
            ERR_print_errors_fp(stderr);
        assert_true(len > 0);
        assert_int_equal(fake_last(app.fake)->sign.form, WIRE_DIGEST);
        assert_int_equal(
            verify_digest(NULL, fake_key(app.fake, cases[i].key), "SHA256", tbs + n, 32, sig, len),
            1);
        assert_int_equal(verify_digest(app.libctx, key, "SHA256", tbs + n, 32, sig, len), 1);
        tbs[n] ^= 1;
        assert_int_not_equal(verify_digest(app.libctx, key, "SHA256", tbs + n, 32, sig, len), 1);
        ERR_clear_error();
        EVP_PKEY_free(key);
    }
}

static void test_verify_recover(void **state)
{
    uint8_t tbs[32] = {7};
    uint8_t sig[512];
    uint8_t out[512];
    size_t outlen = sizeof out;
    (void)state;
    EVP_PKEY *key = app_key(app.libctx, "hsmd:general");
    size_t len = sign_digest(key, "SHA256", tbs, sizeof tbs, sig, sizeof sig);
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(app.libctx, key, NULL);
    assert_true(EVP_PKEY_verify_recover_init(context) > 0);
    assert_true(EVP_PKEY_CTX_set_signature_md(context, EVP_sha256()) > 0);
    assert_true(EVP_PKEY_verify_recover(context, out, &outlen, sig, len) > 0);
    assert_int_equal(outlen, 32);
    assert_memory_equal(out, tbs, 32);
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_free(key);
}

// What is refused here, before hsmd is asked.
static void test_refusals(void **state)
{
    uint8_t tbs[64] = {0};
    uint8_t sig[512];
    (void)state;
    EVP_PKEY *signing = app_key(app.libctx, "hsmd:signing");
    EVP_PKEY *ec_signing = app_key(app.libctx, "hsmd:ec-signing");
    EVP_PKEY *general = app_key(app.libctx, "hsmd:general");
    EVP_PKEY *ec_general = app_key(app.libctx, "hsmd:ec-general");
    EVP_PKEY *decryption = app_key(app.libctx, "hsmd:decryption");
    unsigned before = fake_count(app.fake, WIRE_SIGN);

    assert_int_equal(sign_digest(signing, "SHA256", tbs, 32, sig, sizeof sig), 0);
    app_expect_error("not what the key is for", "leave out -noattr");
    assert_int_equal(sign_digest(ec_signing, "SHA256", tbs, 32, sig, sizeof sig), 0);
    app_expect_error("not what the key is for", "never a bare digest");
    assert_int_equal(sign_digest(decryption, "SHA256", tbs, 32, sig, sizeof sig), 0);
    app_expect_error("not what the key is for", "smime-decrypt and does not sign");
    assert_int_equal(sign_digest(general, "SHA256", tbs, 31, sig, sizeof sig), 0);
    app_expect_error("length", "31 bytes are not a digest of sha256");
    assert_int_equal(sign_digest(general, NULL, tbs, 32, sig, sizeof sig), 0);
    app_expect_error("digest", "no DigestInfo");
    assert_int_equal(sign_digest(general, "SHA3-256", tbs, 32, sig, sizeof sig), 0);
    app_expect_error("digest", "SHA3-256 is not supported");
    assert_int_equal(sign_digest(ec_general, NULL, tbs, 33, sig, sizeof sig), 0);
    app_expect_error("length", "33 bytes");

    static uint8_t much[WIRE_DATA_MAX + 1];
    assert_int_equal(
        app_digest_sign(app.libctx, signing, "SHA256", NULL, much, sizeof much, sig, sizeof sig),
        0);
    app_expect_error("not what the key is for", "at most 16384 bytes");
    assert_int_equal(fake_count(app.fake, WIRE_SIGN), before);
    // No attributes at all is hsmd's to judge; the reason it does not tell is guessed at here.
    assert_int_equal(
        app_digest_sign(app.libctx, signing, "SHA256", NULL, "hello", 5, sig, sizeof sig), 0);
    app_expect_error("hsmd rejects", "signs CMS SignedAttributes only");
    EVP_PKEY_free(signing);
    EVP_PKEY_free(ec_signing);
    EVP_PKEY_free(general);
    EVP_PKEY_free(ec_general);
    EVP_PKEY_free(decryption);
}

static void test_pss_refusals(void **state)
{
    static const struct {
        const char *name, *pad, *salt, *mgf, *reason, *data;
    } cases[] = {
        {"unknown padding", "x931", NULL, NULL, "parameter", "x931"},
        {"no padding", "none", NULL, NULL, "parameter", "none"},
        {"OAEP", "4", NULL, NULL, "padding", "4 is neither"},
        {"salt without PSS", NULL, "digest", NULL, "parameter", "PSS only"},
        {"negative salt", "pss", "-5", NULL, "parameter", "no salt length"},
        {"text for salt", "pss", "much", NULL, "parameter", "much"},
        {"salt too long", "pss", "223", NULL, "length", "223 bytes does not fit"},
        {"another MGF hash", "pss", "digest", "SHA1", "digest", "must be equal"},
        {"unknown MGF hash", "pss", "digest", "MD5", "digest", "MD5"},
    };
    (void)state;
    EVP_PKEY *key = app_key(app.libctx, "hsmd:general");
    unsigned before = fake_count(app.fake, WIRE_SIGN);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t sig[512];
        OSSL_PARAM params[4];
        size_t n = 0;
        const char *const values[] = {cases[i].pad, cases[i].salt, cases[i].mgf};
        static const char *const names[] = {
            OSSL_PKEY_PARAM_PAD_MODE, OSSL_PKEY_PARAM_RSA_PSS_SALTLEN, OSSL_PKEY_PARAM_MGF1_DIGEST};
        for (size_t j = 0; j < 3; j++) {
            if (values[j])
                params[n++] = OSSL_PARAM_construct_utf8_string(names[j], (char *)values[j], 0);
        }
        params[n] = OSSL_PARAM_construct_end();
        print_message("%s\n", cases[i].name);
        assert_int_equal(
            app_digest_sign(app.libctx, key, "SHA256", params, "x", 1, sig, sizeof sig), 0);
        app_expect_error(cases[i].reason, cases[i].data);
    }
    assert_int_equal(fake_count(app.fake, WIRE_SIGN), before);
    EVP_PKEY_free(key);
}

static void test_faults(void **state)
{
    static const struct {
        const char *name, *key;
        enum fake_fault fault;
        const char *reason, *data;
    } cases[] = {
        {"denied", "general", FAKE_DENIED, "hsmd denies", "sign with key general"},
        {"denied EC", "ec-general", FAKE_DENIED, "hsmd denies", "sign with key ec-general"},
        {"temp", "general", FAKE_TEMP, "hsmd cannot do it now", "sign with key general"},
        {"perm", "general", FAKE_PERM, "hsmd rejects", "\"perm\""},
        {"bug", "general", FAKE_BUG, "internal error", "\"bug\""},
        {"short", "general", FAKE_SHORT_SIGNATURE, "no sense", "255 bytes, not 256"},
        {"long", "general", FAKE_LONG_SIGNATURE, "no sense", "300 bytes, not 256"},
        {"long EC", "ec-general", FAKE_LONG_SIGNATURE, "no sense", "300 bytes"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t sig[512] = {0};
        uint8_t zero[512] = {0};
        char uri[64];
        snprintf(uri, sizeof uri, "hsmd:%s", cases[i].key);
        print_message("%s\n", cases[i].name);
        fake_set_fault(app.fake, FAKE_NO_FAULT);
        EVP_PKEY *key = app_key(app.libctx, uri);
        fake_set_fault(app.fake, cases[i].fault);
        assert_int_equal(
            app_digest_sign(app.libctx, key, "SHA256", NULL, message, 5, sig, sizeof sig), 0);
        app_expect_error(cases[i].reason, cases[i].data);
        assert_memory_equal(sig, zero, sizeof sig);
        fake_set_fault(app.fake, FAKE_NO_FAULT); // and the same key works again
        assert_true(app_digest_sign(app.libctx, key, "SHA256", NULL, message, 5, sig, sizeof sig) >
                    0);
        EVP_PKEY_free(key);
    }
}

static void test_small_buffer(void **state)
{
    uint8_t sig[255];
    (void)state;
    EVP_PKEY *key = app_key(app.libctx, "hsmd:general");
    unsigned before = fake_count(app.fake, WIRE_SIGN);
    assert_int_equal(app_digest_sign(app.libctx, key, "SHA256", NULL, message, 5, sig, sizeof sig),
                     0);
    app_expect_error("length", "255 bytes are too few");
    assert_int_equal(fake_count(app.fake, WIRE_SIGN), before);
    EVP_PKEY_free(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_digest_sign, app_no_fault),
        cmocka_unit_test_teardown(test_algorithm_id, app_no_fault),
        cmocka_unit_test_teardown(test_dup_midstream, app_no_fault),
        cmocka_unit_test_teardown(test_sign_prehashed, app_no_fault),
        cmocka_unit_test_teardown(test_verify_recover, app_no_fault),
        cmocka_unit_test_teardown(test_refusals, app_no_fault),
        cmocka_unit_test_teardown(test_pss_refusals, app_no_fault),
        cmocka_unit_test_teardown(test_faults, app_no_fault),
        cmocka_unit_test_teardown(test_small_buffer, app_no_fault),
    };
    return cmocka_run_group_tests(tests, app_setup, app_teardown);
}
