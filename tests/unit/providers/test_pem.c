// SPDX-License-Identifier: Apache-2.0
// PEM files with the name of a key: what programs that read their keys from files come to.
#include "tests/unit/providers/app.h"

#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include "providers/decoder_pem.h"

// The PEM of DER UTF8String text.
static void put(BIO *out, const char *name, const char *text, int tag)
{
    unsigned char der[300];
    size_t len = strlen(text);
    der[0] = (unsigned char)tag;
    der[1] = (unsigned char)len;
    memcpy(der + 2, text, len);
    assert_true(len < 128 && PEM_write_bio(out, name, "", der, (long)len + 2) > 0);
}

static EVP_PKEY *read_key(BIO *in)
{
    return PEM_read_bio_PrivateKey_ex(in, NULL, NULL, NULL, app.libctx, NULL);
}

static void test_keys(void **state)
{
    (void)state;
    static const char *const names[] = {"signing",          "general",         "ec-general",
                                        "ec384-decryption", "ed25519-general", "ed25519-signing"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char uri[80];
        BIO *bio = BIO_new(BIO_s_mem());
        snprintf(uri, sizeof uri, "hsmd:%s", names[i]);
        put(bio, DECODER_PEM_NAME, uri, V_ASN1_UTF8STRING);
        EVP_PKEY *key = read_key(bio);
        if (!key)
            ERR_print_errors_fp(stderr);
        assert_non_null(key);
        assert_int_equal(EVP_PKEY_eq(key, fake_key(app.fake, names[i])), 1);
        BIO_free(bio);
        EVP_PKEY_free(key);
    }
}

// What is in front of it and behind it is for others.
static void test_among_others(void **state)
{
    (void)state;
    BIO *bio = BIO_new(BIO_s_mem());
    EVP_PKEY *file = EVP_PKEY_Q_keygen(app.libctx, NULL, "EC", "P-256");
    assert_true(BIO_puts(bio, "a text in front of it\n\n") > 0);
    put(bio, DECODER_PEM_NAME, "hsmd:ec-general", V_ASN1_UTF8STRING);
    assert_int_equal(PEM_write_bio_X509(bio, fake_certificate(app.fake, "general")), 1);
    assert_int_equal(PEM_write_bio_PKCS8PrivateKey(bio, file, NULL, NULL, 0, NULL, NULL), 1);
    EVP_PKEY *key = read_key(bio);
    assert_non_null(key);
    assert_int_equal(EVP_PKEY_eq(key, fake_key(app.fake, "ec-general")), 1);
    X509 *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    assert_non_null(certificate);
    assert_int_equal(X509_cmp(certificate, fake_certificate(app.fake, "general")), 0);
    EVP_PKEY *same = read_key(bio);
    assert_non_null(same);
    assert_int_equal(EVP_PKEY_eq(same, file), 1);
    X509_free(certificate);
    EVP_PKEY_free(key);
    EVP_PKEY_free(same);
    EVP_PKEY_free(file);
    BIO_free(bio);
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *what, *name, *text;
        int tag;
    } rows[] = {
        {"no such key", DECODER_PEM_NAME, "hsmd:nobody", V_ASN1_UTF8STRING},
        {"another scheme", DECODER_PEM_NAME, "file:ec-general", V_ASN1_UTF8STRING},
        {"no name", DECODER_PEM_NAME, "hsmd:", V_ASN1_UTF8STRING},
        {"a path", DECODER_PEM_NAME, "hsmd:../ec-general", V_ASN1_UTF8STRING},
        {"parameters", DECODER_PEM_NAME, "hsmd:ec-general?x=1", V_ASN1_UTF8STRING},
        {"another string", DECODER_PEM_NAME, "hsmd:ec-general", V_ASN1_OCTET_STRING},
        {"another label", "HSMD PROVIDER URL", "hsmd:ec-general", V_ASN1_UTF8STRING},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        BIO *bio = BIO_new(BIO_s_mem());
        put(bio, rows[i].name, rows[i].text, rows[i].tag);
        EVP_PKEY *key = read_key(bio);
        if (key)
            fail_msg("%s", rows[i].what);
        ERR_clear_error();
        BIO_free(bio);
    }
}

// Files that break off anywhere, and files with a bit turned over, are an error and no more.
static void test_damage(void **state)
{
    (void)state;
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    put(bio, DECODER_PEM_NAME, "hsmd:ec-general", V_ASN1_UTF8STRING);
    long len = BIO_get_mem_data(bio, &text);
    for (long cut = 0; cut < len - 1; cut++) {
        BIO *part = BIO_new_mem_buf(text, (int)cut);
        EVP_PKEY *key = read_key(part);
        assert_null(key);
        BIO_free(part);
        ERR_clear_error();
    }
    for (long at = 0; at < len; at++) {
        text[at] ^= 4;
        BIO *bent = BIO_new_mem_buf(text, (int)len);
        EVP_PKEY_free(read_key(bent)); // it may be the name of another key
        BIO_free(bent);
        text[at] ^= 4;
        ERR_clear_error();
    }
    BIO_free(bio);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_among_others),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, app_setup, app_teardown);
}
