// SPDX-License-Identifier: Apache-2.0
// A key of hsmd as an EVP_PKEY: what one can ask it, compare it with, and not get out of it. With
// the providers in both orders, since a program may load ours first.
#include "tests/unit/providers/app.h"

#include <stdio.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/cms.h>
#include <openssl/core_names.h>
#include <openssl/encoder.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/x509.h>

static const char *const orders[] = {"default hsmd", "hsmd default"};
static struct fake *fake;
static OSSL_LIB_CTX *libctx;

static int setup(void **state)
{
    app_fake_setup(state);
    fake = *state;
    return 0;
}

static int teardown(void **state)
{
    return app_fake_teardown(state);
}

static int no_errors(void **state)
{
    (void)state;
    ERR_clear_error();
    return 0;
}

// The certificate as a program with that library context reads it.
static X509 *certificate(const char *name)
{
    unsigned char *der = NULL;
    int len = i2d_X509(fake_certificate(fake, name), &der);
    const unsigned char *p = der;
    X509 *cert = X509_new_ex(libctx, NULL);
    assert_non_null(d2i_X509(&cert, &p, len));
    OPENSSL_free(der);
    return cert;
}

static void check_key(const char *name)
{
    char uri[64];
    snprintf(uri, sizeof uri, "hsmd:%s", name);
    EVP_PKEY *key = app_key(libctx, uri);
    EVP_PKEY *oracle = fake_key(fake, name);
    X509 *own = certificate(name);
    X509 *other = certificate(strcmp(name, "signing") == 0 ? "general" : "signing");
    EVP_PKEY *own_key = X509_get_pubkey(own);
    EVP_PKEY *other_key = X509_get_pubkey(other);

    assert_int_equal(EVP_PKEY_get_id(key), EVP_PKEY_get_id(oracle));
    assert_int_equal(EVP_PKEY_get_bits(key), EVP_PKEY_get_bits(oracle));
    assert_int_equal(EVP_PKEY_get_security_bits(key), EVP_PKEY_get_security_bits(oracle));
    assert_int_equal(EVP_PKEY_get_size(key), EVP_PKEY_get_size(oracle));
    char digest[20] = "";
    assert_true(EVP_PKEY_get_default_digest_name(key, digest, sizeof digest) > 0);
    assert_string_equal(digest, "SHA256");
    assert_string_equal(OSSL_PROVIDER_get0_name(EVP_PKEY_get0_provider(key)), "hsmd");

    assert_int_equal(EVP_PKEY_eq(key, own_key), 1);
    assert_int_equal(EVP_PKEY_eq(own_key, key), 1);
    assert_int_not_equal(EVP_PKEY_eq(key, other_key), 1);
    assert_int_equal(X509_check_private_key(own, key), 1);
    assert_int_not_equal(X509_check_private_key(other, key), 1);
    ERR_clear_error();

    EVP_PKEY *copy = EVP_PKEY_dup(key);
    assert_non_null(copy);
    assert_int_equal(EVP_PKEY_eq(copy, key), 1);
    assert_int_equal(X509_check_private_key(own, copy), 1);
    EVP_PKEY_free(copy);

    EVP_PKEY_CTX *check = EVP_PKEY_CTX_new_from_pkey(libctx, key, NULL);
    assert_int_equal(EVP_PKEY_public_check(check), 1);
    assert_int_equal(EVP_PKEY_private_check(check), 1);
    EVP_PKEY_CTX_free(check);

    app_expect_no_error();
    EVP_PKEY_free(own_key);
    EVP_PKEY_free(other_key);
    X509_free(own);
    X509_free(other);
    EVP_PKEY_free(key);
}

static void test_identity(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        libctx = app_open(fake, orders[i], APP_TIMEOUT, NULL);
        check_key("signing");
        check_key("ec-decryption");
        check_key("ec384-decryption");
        app_close(libctx);
    }
}

static void expect_spki(const unsigned char *der, size_t len, EVP_PKEY *oracle)
{
    unsigned char *expected = NULL;
    int expected_len = i2d_PUBKEY(oracle, &expected);
    assert_true(expected_len > 0);
    assert_int_equal(len, expected_len);
    assert_memory_equal(der, expected, len);
    OPENSSL_free(expected);
}

static void expect_public(EVP_PKEY *got, EVP_PKEY *oracle)
{
    unsigned char *der = NULL;
    assert_non_null(got);
    int len = i2d_PUBKEY(got, &der);
    assert_true(len > 0);
    expect_spki(der, (size_t)len, oracle);
    OPENSSL_free(der);
    EVP_PKEY_free(got);
}

static void expect_pem(const unsigned char *text, size_t len, EVP_PKEY *oracle)
{
    BIO *in = BIO_new_mem_buf(text, (int)len);
    expect_public(PEM_read_bio_PUBKEY(in, NULL, NULL, NULL), oracle);
    BIO_free(in);
}

// Another provider's key is made of the parameters.
struct exported {
    EVP_PKEY *oracle;
    int times;
};

static int expect_params(const OSSL_PARAM params[], void *arg)
{
    struct exported *exported = arg;
    EVP_PKEY *made = NULL;
    OSSL_PARAM *copy = OSSL_PARAM_dup(params);
    EVP_PKEY_CTX *ctx =
        EVP_PKEY_CTX_new_from_name(NULL, EVP_PKEY_get0_type_name(exported->oracle), NULL);
    assert_int_equal(EVP_PKEY_fromdata_init(ctx), 1);
    assert_int_equal(EVP_PKEY_fromdata(ctx, &made, EVP_PKEY_PUBLIC_KEY, copy), 1);
    expect_public(made, exported->oracle);
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(copy);
    exported->times++;
    return 1;
}

// The public half leaves in every form, the private half in none.
static void check_export(const char *name)
{
    static const struct {
        const char *format, *structure;
        int selection;
        bool is_public;
    } forms[] = {
        {"PEM", "SubjectPublicKeyInfo", EVP_PKEY_PUBLIC_KEY, true},
        {"DER", "SubjectPublicKeyInfo", EVP_PKEY_PUBLIC_KEY, true},
        {"PEM", "PrivateKeyInfo", EVP_PKEY_KEYPAIR, false},
        {"DER", "PrivateKeyInfo", EVP_PKEY_KEYPAIR, false},
        {"PEM", "type-specific", EVP_PKEY_KEYPAIR, false},
        {"DER", "EncryptedPrivateKeyInfo", EVP_PKEY_KEYPAIR, false},
    };
    char uri[64];
    snprintf(uri, sizeof uri, "hsmd:%s", name);
    EVP_PKEY *key = app_key(libctx, uri);
    EVP_PKEY *oracle = fake_key(fake, name);
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        unsigned char *out = NULL;
        size_t len = 0;
        OSSL_ENCODER_CTX *encoder = OSSL_ENCODER_CTX_new_for_pkey(
            key, forms[i].selection, forms[i].format, forms[i].structure, NULL);
        assert_non_null(encoder);
        assert_int_equal(OSSL_ENCODER_to_data(encoder, &out, &len) == 1, forms[i].is_public);
        if (forms[i].is_public && strcmp(forms[i].format, "DER") == 0)
            expect_spki(out, len, oracle);
        else if (forms[i].is_public)
            expect_pem(out, len, oracle);
        OSSL_ENCODER_CTX_free(encoder);
        OPENSSL_free(out);
    }
    ERR_clear_error();
    struct exported exported = {.oracle = oracle};
    assert_int_equal(EVP_PKEY_export(key, EVP_PKEY_PUBLIC_KEY, expect_params, &exported), 1);
    assert_int_equal(exported.times, 1);
    assert_int_not_equal(EVP_PKEY_export(key, EVP_PKEY_KEYPAIR, expect_params, &exported), 1);
    assert_int_equal(exported.times, 1);
    app_expect_error("does not leave hsmd", name);
    unsigned char *der = NULL;
    assert_true(i2d_PrivateKey(key, &der) <= 0);
    assert_null(der);
    ERR_clear_error();
    BIGNUM *d = NULL;
    EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_D, &d);
    assert_null(d);
    EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_PRIV_KEY, &d);
    assert_null(d);
    ERR_clear_error();
    EVP_PKEY_free(key);
}

static void test_export(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        libctx = app_open(fake, orders[i], APP_TIMEOUT, NULL);
        check_export("signing");
        check_export("ec-signing");
        app_close(libctx);
    }
}

static void test_public_half_cannot_change(void **state)
{
    unsigned char *point = NULL;
    (void)state;
    libctx = app_open(fake, orders[0], APP_TIMEOUT, NULL);
    EVP_PKEY *key = app_key(libctx, "hsmd:ec-decryption");
    size_t len = EVP_PKEY_get1_encoded_public_key(fake_key(fake, "ec-signing"), &point);
    assert_int_not_equal(EVP_PKEY_set1_encoded_public_key(key, point, len), 1);
    app_expect_error("public half", "ec-decryption");
    OPENSSL_free(point);
    EVP_PKEY_free(key);
    app_close(libctx);
}

static void test_print(void **state)
{
    static const struct {
        const char *uri, *has;
    } rows[] = {
        {"hsmd:signing", "in hsmd, name signing, purpose smime-sign, state enabled"},
        {"hsmd:signing", "Modulus:"},
        {"hsmd:ec-general", "in hsmd, name ec-general, purpose general"},
        {"hsmd:ec-general", "ASN1 OID: prime256v1"},
    };
    (void)state;
    for (int i = 0; i < 2; i++) {
        libctx = app_open(fake, orders[i], APP_TIMEOUT, NULL);
        for (size_t j = 0; j < sizeof rows / sizeof *rows; j++) {
            char *text = NULL;
            EVP_PKEY *key = app_key(libctx, rows[j].uri);
            BIO *out = BIO_new(BIO_s_mem());
            assert_int_equal(EVP_PKEY_print_private(out, key, 0, NULL), 1);
            assert_int_equal(EVP_PKEY_print_public(out, key, 0, NULL), 1);
            BIO_write(out, "", 1);
            BIO_get_mem_data(out, &text);
            if (!strstr(text, rows[j].has))
                fail_msg("no \"%s\" in:\n%s", rows[j].has, text);
            assert_null(strstr(text, "priv:"));
            assert_null(strstr(text, "unsupported"));
            BIO_free(out);
            EVP_PKEY_free(key);
        }
        app_close(libctx);
        app_expect_no_error();
    }
}

// Keys from elsewhere: new ones, and signatures and their verification, in either order but for
// what the manual excepts.
static void test_other_keys(void **state)
{
    static const char *const names[] = {"signing", "ec-signing"};
    (void)state;
    for (int i = 0; i < 2; i++) {
        libctx = app_open(fake, orders[i], APP_TIMEOUT, NULL);
        for (int j = 0; j < 2; j++) {
            unsigned char *der = NULL;
            uint8_t sig[512];
            int len = i2d_PrivateKey(fake_key(fake, names[j]), &der);
            const unsigned char *p = der;
            EVP_PKEY *key = d2i_AutoPrivateKey_ex(NULL, &p, len, libctx, NULL);
            if (!key)
                ERR_print_errors_fp(stderr);
            assert_non_null(key);
            size_t siglen =
                app_digest_sign(libctx, key, "SHA256", NULL, "text", 4, sig, sizeof sig);
            assert_true(siglen > 0);
            X509 *cert = certificate(names[j]);
            assert_int_equal(app_digest_verify(libctx, X509_get0_pubkey(cert), "SHA256", NULL,
                                               "text", 4, sig, siglen),
                             1);
            assert_int_equal(app_digest_verify(libctx, X509_get0_pubkey(cert), "SHA256", NULL,
                                               "Text", 4, sig, siglen),
                             0);
            ERR_clear_error();
            assert_int_equal(X509_verify(cert, X509_get0_pubkey(cert)), 1);
            app_expect_no_error();
            X509_free(cert);
            EVP_PKEY_free(key);
            OPENSSL_clear_free(der, (size_t)len);
        }
        app_close(libctx);
    }
    libctx = app_open(fake, orders[0], APP_TIMEOUT, NULL);
    EVP_PKEY *made = EVP_PKEY_Q_keygen(libctx, NULL, "EC", "P-256");
    assert_non_null(made);
    assert_string_equal(OSSL_PROVIDER_get0_name(EVP_PKEY_get0_provider(made)), "default");
    EVP_PKEY_free(made);
    app_close(libctx);
}

static CMS_ContentInfo *cms_through_der(CMS_ContentInfo *cms)
{
    unsigned char *der = NULL;
    int len = i2d_CMS_ContentInfo(cms, &der);
    const unsigned char *p = der;
    CMS_ContentInfo *again = CMS_ContentInfo_new_ex(libctx, NULL);
    assert_true(len > 0);
    assert_non_null(d2i_CMS_ContentInfo(&again, &p, len));
    CMS_ContentInfo_free(cms);
    OPENSSL_free(der);
    return again;
}

// The key, or a copy of it that is left when the key itself is gone.
static EVP_PKEY *load(const char *name, bool as_copy)
{
    char uri[64];
    snprintf(uri, sizeof uri, "hsmd:%s", name);
    EVP_PKEY *key = app_key(libctx, uri);
    if (!as_copy)
        return key;
    EVP_PKEY *copy = EVP_PKEY_dup(key);
    assert_non_null(copy);
    EVP_PKEY_free(key);
    return copy;
}

static void check_cms_sign(const char *name, bool by_copy)
{
    EVP_PKEY *key = load(name, by_copy);
    X509 *cert = certificate(name);
    BIO *in = BIO_new_mem_buf("mail\r\n", -1);
    CMS_ContentInfo *cms = CMS_sign_ex(cert, key, NULL, in, CMS_BINARY, libctx, NULL);
    if (!cms)
        ERR_print_errors_fp(stderr);
    assert_non_null(cms);
    assert_int_equal(fake_last(fake)->sign.form, WIRE_ATTRIBUTES);
    cms = cms_through_der(cms);
    BIO *out = BIO_new(BIO_s_mem());
    if (CMS_verify(cms, NULL, NULL, NULL, out, CMS_NO_SIGNER_CERT_VERIFY) != 1) {
        ERR_print_errors_fp(stderr);
        fail_msg("%s: the signature is not good", name);
    }
    CMS_ContentInfo_free(cms);
    BIO_free(in);
    // Without attributes it would be a bare digest.
    in = BIO_new_mem_buf("mail\r\n", -1);
    cms = CMS_sign_ex(cert, key, NULL, in, CMS_BINARY | CMS_NOATTR, libctx, NULL);
    assert_null(cms);
    app_expect_error("not what the key is for", "-noattr");
    BIO_free(in);
    BIO_free(out);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static void check_cms_decrypt(const char *name, bool by_copy)
{
    char *text = NULL;
    EVP_PKEY *key = load(name, by_copy);
    X509 *cert = certificate(name);
    STACK_OF(X509) *certs = sk_X509_new_null();
    sk_X509_push(certs, fake_certificate(fake, name));
    BIO *in = BIO_new_mem_buf("mail\r\n", -1);
    CMS_ContentInfo *cms = CMS_encrypt(certs, in, EVP_aes_256_cbc(), CMS_BINARY);
    assert_non_null(cms);
    cms = cms_through_der(cms);
    BIO *out = BIO_new(BIO_s_mem());
    if (CMS_decrypt(cms, key, cert, NULL, out, 0) != 1) {
        ERR_print_errors_fp(stderr);
        fail_msg("%s: does not decrypt", name);
    }
    assert_int_equal(BIO_get_mem_data(out, &text), 6);
    assert_memory_equal(text, "mail\r\n", 6);
    app_expect_no_error();
    CMS_ContentInfo_free(cms);
    BIO_free(in);
    BIO_free(out);
    sk_X509_free(certs);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static void test_cms(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        bool by_copy = i >= 2;
        libctx = app_open(fake, orders[i % 2], APP_TIMEOUT, NULL);
        check_cms_sign("signing", by_copy);
        check_cms_sign("ec-signing", by_copy);
        check_cms_decrypt("decryption", by_copy);
        check_cms_decrypt("ec-decryption", by_copy);
        check_cms_decrypt("ec384-decryption", by_copy);
        app_close(libctx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_identity, no_errors),
        cmocka_unit_test_teardown(test_export, no_errors),
        cmocka_unit_test_teardown(test_public_half_cannot_change, no_errors),
        cmocka_unit_test_teardown(test_print, no_errors),
        cmocka_unit_test_teardown(test_other_keys, no_errors),
        cmocka_unit_test_teardown(test_cms, no_errors),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
