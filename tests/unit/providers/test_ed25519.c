// SPDX-License-Identifier: Apache-2.0
// Ed25519 keys of hsmd, seen from EVP: what one does with them, and what one cannot.
#include "tests/unit/providers/app.h"

#include <stdio.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/encoder.h>
#include <openssl/err.h>
#include <openssl/x509.h>

static const char message[] = "Sehr geehrte Damen und Herren";

// One-shot; 0: failed.
static size_t sign(EVP_PKEY *key, const char *md, const void *data, size_t len, uint8_t *sig,
                   size_t room)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = EVP_DigestSignInit_ex(ctx, NULL, md, app.libctx, NULL, key, NULL) > 0 &&
              EVP_DigestSign(ctx, sig, &room, data, len) > 0;
    EVP_MD_CTX_free(ctx);
    return ok ? room : 0;
}

static int verify(EVP_PKEY *key, const void *data, size_t len, const uint8_t *sig, size_t siglen)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int ok = EVP_DigestVerifyInit_ex(ctx, NULL, NULL, app.libctx, NULL, key, NULL) > 0
                 ? EVP_DigestVerify(ctx, sig, siglen, data, len)
                 : -1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

static void test_signs_messages(void **state)
{
    (void)state;
    static const size_t lengths[] = {1, sizeof message, 1000, WIRE_DATA_MAX};
    static uint8_t data[WIRE_DATA_MAX];
    EVP_PKEY *key = app_key(app.libctx, "hsmd:ed25519-general");
    EVP_PKEY *oracle = fake_key(app.fake, "ed25519-general");
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        uint8_t sig[64], expected[64];
        memset(data, (int)i, lengths[i]);
        assert_int_equal(sign(key, NULL, data, lengths[i], sig, sizeof sig), 64);
        assert_int_equal(sign(oracle, NULL, data, lengths[i], expected, sizeof expected), 64);
        assert_memory_equal(sig, expected, 64); // it is deterministic
        assert_int_equal(verify(key, data, lengths[i], sig, 64), 1);
        assert_int_equal(verify(oracle, data, lengths[i], sig, 64), 1);
        const struct wire_request *request = fake_last(app.fake);
        assert_int_equal(request->sign.algorithm, WIRE_EDDSA);
        assert_int_equal(request->sign.form, WIRE_MESSAGE);
        assert_int_equal(request->sign.hash, HASH_NONE);
        sig[7] ^= 1;
        assert_int_equal(verify(key, data, lengths[i], sig, 64), 0);
        ERR_clear_error();
    }
    EVP_PKEY_free(key);
}

static void test_signs_attributes(void **state)
{
    (void)state;
    uint8_t attributes[110], sig[64];
    size_t len = app_attributes("attributes", attributes);
    EVP_PKEY *key = app_key(app.libctx, "hsmd:ed25519-signing");
    assert_int_equal(sign(key, NULL, attributes, len, sig, sizeof sig), 64);
    assert_int_equal(verify(fake_key(app.fake, "ed25519-signing"), attributes, len, sig, 64), 1);
    const struct wire_request *request = fake_last(app.fake);
    assert_int_equal(request->sign.form, WIRE_ATTRIBUTES);
    assert_int_equal(request->sign.hash, HASH_SHA512); // RFC 8419, 3.1
    assert_int_equal(sign(key, NULL, message, sizeof message, sig, sizeof sig), 0);
    app_expect_error("hsmd", "sign with key ed25519-signing");
    EVP_PKEY_free(key);
}

static void test_refusals(void **state)
{
    (void)state;
    static uint8_t data[WIRE_DATA_MAX + 1];
    uint8_t sig[64];
    EVP_PKEY *key = app_key(app.libctx, "hsmd:ed25519-general");
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    assert_int_equal(sign(key, "SHA512", message, sizeof message, sig, sizeof sig), 0);
    app_expect_error("digest", "without a digest");
    assert_int_equal(sign(key, NULL, data, sizeof data, sig, sizeof sig), 0);
    app_expect_error("length", "1 to 16384 bytes");
    assert_int_equal(sign(key, NULL, "", 0, sig, sizeof sig), 0);
    app_expect_error("length", "not of 0");
    assert_int_equal(sign(key, NULL, message, sizeof message, sig, 63), 0);
    app_expect_error("length", "63 bytes are too few");
    // In pieces it cannot be done, nor as a digest.
    assert_true(EVP_DigestSignInit_ex(ctx, NULL, NULL, app.libctx, NULL, key, NULL) > 0);
    assert_true(EVP_DigestSignUpdate(ctx, message, sizeof message) <= 0);
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_CTX *pctx = EVP_PKEY_CTX_new_from_pkey(app.libctx, key, NULL);
    assert_true(EVP_PKEY_sign_init(pctx) <= 0);
    assert_true(EVP_PKEY_derive_init(pctx) <= 0);
    assert_true(EVP_PKEY_encrypt_init(pctx) <= 0);
    EVP_PKEY_CTX_free(pctx);
    EVP_PKEY_free(key);
}

static void test_faults(void **state)
{
    (void)state;
    static const struct {
        enum fake_fault fault;
        const char *reason, *data;
    } rows[] = {
        {FAKE_DENIED, "hsmd denies", "sign with key ed25519-general"},
        {FAKE_SHORT_SIGNATURE, "no sense", "63 bytes"},
        {FAKE_LONG_SIGNATURE, "no sense", "300 bytes"},
    };
    EVP_PKEY *key = app_key(app.libctx, "hsmd:ed25519-general");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint8_t sig[64];
        fake_set_fault(app.fake, rows[i].fault);
        assert_int_equal(sign(key, NULL, message, sizeof message, sig, sizeof sig), 0);
        app_expect_error(rows[i].reason, rows[i].data);
        fake_set_fault(app.fake, FAKE_NO_FAULT);
    }
    EVP_PKEY_free(key);
}

static void test_key(void **state)
{
    (void)state;
    uint8_t raw[32], expected[32], sig[64];
    size_t len = sizeof raw;
    char name[80] = "";
    EVP_PKEY *key = app_key(app.libctx, "hsmd:ed25519-general");
    EVP_PKEY *oracle = fake_key(app.fake, "ed25519-general");
    EVP_PKEY *copy = EVP_PKEY_dup(key);
    assert_true(EVP_PKEY_is_a(key, "ED25519"));
    assert_int_equal(EVP_PKEY_get_bits(key), 256);
    assert_int_equal(EVP_PKEY_get_size(key), 64);
    assert_int_equal(EVP_PKEY_get_security_bits(key), 128);
    // 2: this digest and no other, and it is none.
    assert_int_equal(EVP_PKEY_get_default_digest_name(key, name, sizeof name), 2);
    assert_string_equal(name, "UNDEF");
    assert_int_equal(EVP_PKEY_get_raw_public_key(key, raw, &len), 1);
    assert_int_equal(len, 32);
    assert_int_equal(EVP_PKEY_get_raw_public_key(oracle, expected, &len), 1);
    assert_memory_equal(raw, expected, 32);
    ERR_clear_error();
    assert_int_equal(EVP_PKEY_eq(key, oracle), 1);
    assert_int_equal(EVP_PKEY_eq(oracle, key), 1);
    assert_int_equal(EVP_PKEY_eq(key, copy), 1);
    assert_int_equal(EVP_PKEY_eq(key, fake_key(app.fake, "ed25519-signing")), 0);
    assert_true(EVP_PKEY_eq(key, fake_key(app.fake, "ec-general")) != 1);
    assert_int_equal(sign(copy, NULL, message, sizeof message, sig, sizeof sig), 64);
    assert_int_equal(verify(oracle, message, sizeof message, sig, 64), 1);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(app.libctx, key, NULL);
    assert_int_equal(EVP_PKEY_public_check(ctx), 1);
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(copy);
    EVP_PKEY_free(key);
}

static void test_certificate(void **state)
{
    (void)state;
    EVP_PKEY *key = app_key(app.libctx, "hsmd:ed25519-general");
    EVP_PKEY *other = app_key(app.libctx, "hsmd:ed25519-signing");
    X509 *certificate = X509_new_ex(app.libctx, NULL);
    X509_NAME *name = X509_get_subject_name(certificate);
    assert_true(X509_set_version(certificate, X509_VERSION_3) &&
                ASN1_INTEGER_set(X509_get_serialNumber(certificate), 7) &&
                X509_gmtime_adj(X509_getm_notBefore(certificate), -60) &&
                X509_gmtime_adj(X509_getm_notAfter(certificate), 86400) &&
                X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"ed",
                                           -1, -1, 0) &&
                X509_set_issuer_name(certificate, name) && X509_set_pubkey(certificate, key));
    assert_true(X509_sign(certificate, key, NULL) > 0);
    assert_int_equal(X509_get_signature_nid(certificate), NID_ED25519);
    assert_int_equal(X509_verify(certificate, fake_key(app.fake, "ed25519-general")), 1);
    assert_int_equal(X509_verify(certificate, key), 1);
    assert_int_equal(X509_check_private_key(certificate, key), 1);
    assert_int_equal(X509_check_private_key(certificate, other), 0);
    X509_free(certificate);
    EVP_PKEY_free(key);
    EVP_PKEY_free(other);
}

static void test_export(void **state)
{
    (void)state;
    EVP_PKEY *key = app_key(app.libctx, "hsmd:ed25519-general");
    uint8_t raw[32];
    size_t len = sizeof raw;
    unsigned char *der = NULL, *expected = NULL;
    OSSL_PARAM *params = NULL;
    BIO *out = BIO_new(BIO_s_mem());
    char *text = NULL;
    int der_len = i2d_PUBKEY(key, &der);
    assert_int_equal(der_len, i2d_PUBKEY(fake_key(app.fake, "ed25519-general"), &expected));
    assert_memory_equal(der, expected, (size_t)der_len);
    assert_int_equal(EVP_PKEY_todata(key, EVP_PKEY_PUBLIC_KEY, &params), 1);
    OSSL_PARAM_free(params);
    params = NULL;
    assert_int_not_equal(EVP_PKEY_todata(key, EVP_PKEY_KEYPAIR, &params), 1);
    app_expect_error("private", "ed25519-general");
    assert_int_not_equal(EVP_PKEY_get_raw_private_key(key, raw, &len), 1);
    assert_true(i2d_PrivateKey(key, NULL) <= 0);
    ERR_clear_error();
    assert_int_equal(EVP_PKEY_print_private(out, key, 0, NULL), 1);
    long text_len = BIO_get_mem_data(out, &text);
    assert_true(text_len > 0 && text_len < 1000);
    char shown[1001];
    memcpy(shown, text, (size_t)text_len);
    shown[text_len] = 0;
    assert_non_null(strstr(shown, "in hsmd, name ed25519-general, purpose general"));
    assert_non_null(strstr(shown, "ED25519"));
    assert_null(strstr(shown, "priv:"));
    BIO_free(out);
    OPENSSL_free(der);
    OPENSSL_free(expected);
    EVP_PKEY_free(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_signs_messages, app_no_fault),
        cmocka_unit_test_setup(test_signs_attributes, app_no_fault),
        cmocka_unit_test_setup(test_refusals, app_no_fault),
        cmocka_unit_test_setup(test_faults, app_no_fault),
        cmocka_unit_test_setup(test_key, app_no_fault),
        cmocka_unit_test_setup(test_certificate, app_no_fault),
        cmocka_unit_test_setup(test_export, app_no_fault),
    };
    return cmocka_run_group_tests(tests, app_setup, app_teardown);
}
