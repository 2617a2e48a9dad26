// SPDX-License-Identifier: Apache-2.0
#include "hsmd/certificate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "hsmd/base/file.h"

static EVP_PKEY *rsa;
static EVP_PKEY *ec;
static EVP_PKEY *other;

static int setup(void **state)
{
    (void)state;
    rsa = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
    ec = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    other = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    return rsa && ec && other ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(ec);
    EVP_PKEY_free(other);
    return 0;
}

static X509 *make(EVP_PKEY *key, const char *usage, long valid)
{
    X509 *certificate = X509_new();
    X509_set_version(certificate, 2);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                               (const uint8_t *)"test", -1, -1, 0);
    X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
    X509_gmtime_adj(X509_getm_notBefore(certificate), -7200);
    X509_gmtime_adj(X509_getm_notAfter(certificate), valid);
    X509_set_pubkey(certificate, key);
    if (usage) {
        X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, NID_key_usage, usage);
        X509_add_ext(certificate, extension, -1);
        X509_EXTENSION_free(extension);
    }
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    return certificate;
}

static void test_check(void **state)
{
    (void)state;
    EVP_PKEY **const r = &rsa;
    EVP_PKEY **const e = &ec;
    const struct {
        EVP_PKEY **key, **certified;
        const char *usage;
        long valid;
        enum wire_purpose purpose;
        enum err expected;
        const char *said; // in the warning, or in the detail
    } rows[] = {
        {r, r, "digitalSignature,nonRepudiation", 3600, WIRE_SMIME_SIGN, ERR_OK, ""},
        {r, r, NULL, 3600, WIRE_SMIME_SIGN, ERR_OK, ""},
        {r, r, "digitalSignature", 3600, WIRE_SMIME_SIGN, ERR_OK, "nonRepudiation"},
        {r, r, "nonRepudiation", 3600, WIRE_SMIME_SIGN, ERR_OK, "digitalSignature"},
        {r, r, "keyEncipherment", 3600, WIRE_SMIME_SIGN, ERR_PERM, "not for signatures"},
        {e, e, "digitalSignature,nonRepudiation", 3600, WIRE_SMIME_SIGN, ERR_OK, ""},
        {r, r, "keyEncipherment", 3600, WIRE_SMIME_DECRYPT, ERR_OK, ""},
        {r, r, NULL, 3600, WIRE_SMIME_DECRYPT, ERR_OK, "keyEncipherment"},
        {r, r, "keyAgreement", 3600, WIRE_SMIME_DECRYPT, ERR_PERM, "lacks keyEncipherment"},
        {e, e, "keyAgreement", 3600, WIRE_SMIME_DECRYPT, ERR_OK, ""},
        {e, e, "keyEncipherment", 3600, WIRE_SMIME_DECRYPT, ERR_PERM, "lacks keyAgreement"},
        {e, e, NULL, 3600, WIRE_SMIME_DECRYPT, ERR_OK, "keyAgreement"},
        {e, e, "cRLSign", 3600, WIRE_GENERAL, ERR_OK, ""},
        {r, r, "digitalSignature,nonRepudiation", 3600, WIRE_AUDIT, ERR_OK, ""},
        {r, r, "keyEncipherment", 3600, WIRE_AUDIT, ERR_PERM, "not for signatures"},
        {r, r, "digitalSignature,nonRepudiation", -3600, WIRE_SMIME_SIGN, ERR_OK, "expired"},
        {e, &other, NULL, 3600, WIRE_SMIME_SIGN, ERR_PERM, "another key"},
        {e, r, NULL, 3600, WIRE_GENERAL, ERR_PERM, "another key"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint8_t *der = NULL;
        uint8_t *spki = NULL;
        struct detail warning = {0};
        struct detail detail = {0};
        X509 *certificate = make(*rows[i].certified, rows[i].usage, rows[i].valid);
        int len = i2d_X509(certificate, &der);
        int spki_len = i2d_PUBKEY(*rows[i].key, &spki);
        const struct token_key_info info = {.type = rows[i].key == r ? TOKEN_KEY_RSA : TOKEN_KEY_EC,
                                            .public_key = bytes_of(spki, (size_t)spki_len)};
        enum err err = certificate_check(bytes_of(der, (size_t)len), &info, rows[i].purpose,
                                         &warning, &detail);
        const char *said = err == ERR_OK ? warning.text : detail.text;
        bool ok = err == rows[i].expected &&
                  (*rows[i].said ? strstr(said, rows[i].said) != NULL : *said == 0);
        if (!ok)
            print_error("row %zu: %s \"%s\"\n", i, err_name(err), said);
        assert_true(ok);
        // Without the key all is said but whether it is of the key.
        bool is_of_key = rows[i].key == rows[i].certified;
        err = certificate_check_use(bytes_of(der, (size_t)len), rows[i].purpose, &warning, &detail);
        assert_int_equal(err, is_of_key ? rows[i].expected : ERR_OK);
        said = err == ERR_OK ? warning.text : detail.text;
        assert_true(!is_of_key || (*rows[i].said ? strstr(said, rows[i].said) != NULL : !*said));
        X509_free(certificate);
        OPENSSL_free(der);
        OPENSSL_free(spki);
    }
}

static void test_load(void **state)
{
    (void)state;
    char path[] = "/tmp/certificate-XXXXXX";
    struct buf der;
    struct detail detail = {0};
    close(mkstemp(path));
    buf_init(&der, 32768);
    X509 *first = make(rsa, NULL, 3600);
    X509 *second = make(ec, NULL, 3600);
    BIO *bio = BIO_new_file(path, "w");
    BIO_puts(bio, "a comment\n");
    PEM_write_bio_X509(bio, first);
    PEM_write_bio_X509(bio, second);
    BIO_free(bio);
    assert_int_equal(certificate_load(path, &der, NULL), ERR_OK);
    const uint8_t *at = der.data;
    X509 *read = d2i_X509(NULL, &at, (long)der.len);
    assert_int_equal(X509_cmp(read, first), 0);
    X509_free(read);
    read = d2i_X509(NULL, &at, (long)(der.len - (size_t)(at - der.data)));
    assert_int_equal(X509_cmp(read, second), 0);
    assert_ptr_equal(at, der.data + der.len);
    X509_free(read);
    buf_clear(&der);
    buf_init(&der, (size_t)i2d_X509(first, NULL) + 10); // no room for the second
    assert_int_equal(certificate_load(path, &der, &detail), ERR_PERM);
    buf_clear(&der);
    assert_int_equal(file_write(path, BYTES_LITERAL("nothing\n"), 0600, NULL), ERR_OK);
    assert_int_equal(certificate_load(path, &der, &detail), ERR_PERM);
    assert_non_null(strstr(detail.text, "no certificate"));
    assert_int_equal(file_write(path,
                                BYTES_LITERAL("-----BEGIN CERTIFICATE-----\nMIIB\n"
                                              "-----END CERTIFICATE-----\n"),
                                0600, NULL),
                     ERR_OK);
    assert_int_equal(certificate_load(path, &der, &detail), ERR_PERM);
    buf_clear(&der);
    unlink(path);
    X509_free(first);
    X509_free(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_load),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
