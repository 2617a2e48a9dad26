// SPDX-License-Identifier: Apache-2.0
// What must not open: one text for every cryptographic cause, nothing released.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/err.h>

#include "gateway/cms_failure.h"
#include "tests/unit/gateway/cms_fixture.h"

static const struct bytes content = {(const uint8_t *)CONTENT, sizeof CONTENT - 1};

static struct spool *encrypt(enum cms_cipher cipher, bool oaep, X509 *to)
{
    struct spool *der = spool_make();
    STACK_OF(X509) *recipients = sk_X509_new_null();
    sk_X509_push(recipients, to);
    struct cms_encryption encryption = {cipher, oaep, recipients};
    assert_int_equal(cms_encrypt(&encryption, content, der, NULL), ERR_OK);
    sk_X509_free(recipients);
    return der;
}

struct row {
    const char *name;
    enum cms_cipher cipher;
    bool oaep;
    X509 *const *cert;
    enum pki_key key, wrong_key;
};

static const struct row rows[] = {
    {"gcm rsa", CMS_AES_256_GCM, false, &fixture.to_rsa, PKI_RSA_2048, PKI_RSA_2048_B},
    {"gcm oaep", CMS_AES_128_GCM, true, &fixture.to_rsa, PKI_RSA_2048, PKI_RSA_2048_B},
    {"gcm ec", CMS_AES_256_GCM, false, &fixture.to_ec, PKI_EC_P256, PKI_EC_P256_B},
    {"cbc oaep", CMS_AES_256_CBC, true, &fixture.to_rsa, PKI_RSA_2048, PKI_RSA_2048_B},
    {"cbc ec", CMS_AES_256_CBC, false, &fixture.to_ec, PKI_EC_P256, PKI_EC_P256_B},
};

static void test_wrong_key(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct detail detail = {0};
        size_t used = 7;
        struct spool *der = encrypt(rows[i].cipher, rows[i].oaep, *rows[i].cert);
        struct spool *out = spool_make();
        struct cms_identity identity = {"x", pki_key(rows[i].wrong_key), *rows[i].cert};
        enum err err = cms_decrypt(spool_bytes(der), &identity, 1, out, &used, &detail);
        if (err != ERR_PERM)
            fail_msg("%s opened", rows[i].name);
        assert_string_equal(detail.text, "decryption failed");
        assert_int_equal(spool_len(out), 0);
        spool_free(out);
        spool_free(der);
    }
}

// Every byte of a message with an authenticating cipher changed in turn: it opens to what was
// encrypted (where the byte says nothing) or not at all, with one of a few texts.
static void test_flips(void **state)
{
    static uint8_t copy[20000];
    (void)state;
    for (size_t r = 0; r < 3; r++) {
        struct spool *der = encrypt(rows[r].cipher, rows[r].oaep, *rows[r].cert);
        size_t len = spool_len(der), opened = 0;
        struct cms_identity identity = {"x", pki_key(rows[r].key), *rows[r].cert};
        assert_true(len <= sizeof copy);
        for (size_t i = 0; i < len; i++) {
            struct detail detail = {0};
            size_t used = 0;
            struct spool *out = spool_make();
            memcpy(copy, spool_bytes(der).data, len);
            copy[i] ^= 0x11;
            enum err err = cms_decrypt(bytes_of(copy, len), &identity, 1, out, &used, &detail);
            if (err == ERR_OK) {
                opened++;
                assert_true(bytes_equal(spool_bytes(out), content));
            } else {
                assert_int_equal(err, ERR_PERM);
                assert_int_equal(spool_len(out), 0);
                bool is_known = strcmp(detail.text, "decryption failed") == 0 ||
                                strcmp(detail.text, "not for us") == 0 ||
                                strcmp(detail.text, "not encrypted") == 0 ||
                                strncmp(detail.text, "malformed", 9) == 0 ||
                                strncmp(detail.text, "unsupported", 11) == 0 ||
                                strncmp(detail.text, "forbidden", 9) == 0 ||
                                strncmp(detail.text, "too many", 8) == 0;
                if (!is_known)
                    fail_msg("%s, byte %zu: %s", rows[r].name, i, detail.text);
            }
            spool_free(out);
        }
        assert_true(opened < 20); // version numbers and the like
        spool_free(der);
    }
}

// RSA v1.5 with broken padding and CBC: what comes is the same as with a wrong padding of the
// content, or garbage; never another text (the custodian adds no oracle of its own either).
static void test_no_oracle(void **state)
{
    static uint8_t copy[20000];
    (void)state;
    struct spool *der = encrypt(CMS_AES_128_CBC, false, fixture.to_rsa);
    size_t len = spool_len(der), failed = 0;
    struct cms_identity identity = {"x", pki_key(PKI_RSA_2048), fixture.to_rsa};
    uint8_t *key = memmem(spool_bytes(der).data, len, "\x04\x82\x01\x00", 4);
    assert_non_null(key);
    size_t at = (size_t)(key - spool_bytes(der).data) + 4;
    for (size_t i = 0; i < 256; i++) {
        struct detail detail = {0};
        size_t used = 0;
        struct spool *out = spool_make();
        memcpy(copy, spool_bytes(der).data, len);
        copy[at + i] ^= 0x01;
        enum err err = cms_decrypt(bytes_of(copy, len), &identity, 1, out, &used, &detail);
        if (err != ERR_OK) {
            failed++;
            assert_int_equal(err, ERR_PERM);
            assert_string_equal(detail.text, "decryption failed");
            assert_int_equal(spool_len(out), 0);
        }
        assert_false(bytes_equal(spool_bytes(out), content));
        spool_free(out);
    }
    assert_true(failed > 230); // one in 256 has a padding by chance
    spool_free(der);
}

// Other ways to name the recipient and to write the same thing.
static void test_commands(void **state)
{
    static const struct {
        const char *options;
        X509 *const *cert;
        enum pki_key key;
    } commands[] = {
        {"-aes256 -keyid to-rsa.pem", &fixture.to_rsa, PKI_RSA_2048},
        {"-aes256 -keyid to-ec.pem", &fixture.to_ec, PKI_EC_P256},
        {"-aes128 -stream to-rsa.pem", &fixture.to_rsa, PKI_RSA_2048},
        {"-aes-128-gcm -stream to-ec.pem", &fixture.to_ec, PKI_EC_P256},
        {"-aes256 -recip to-ec384.pem -keyopt ecdh_kdf_md:sha512 -keyopt ecdh_cofactor_mode:1",
         &fixture.to_ec384, PKI_EC_P384},
        {"-aes256 -recip to-rsa.pem -keyopt rsa_padding_mode:oaep -keyopt rsa_oaep_md:sha512 "
         "-keyopt rsa_mgf1_md:sha1",
         &fixture.to_rsa, PKI_RSA_2048},
        {"-des3 to-ec.pem", &fixture.to_ec, PKI_EC_P256},
    };
    static uint8_t object[20000];
    (void)state;
    fixture_write("content", content);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        struct detail detail = {0};
        size_t used = 0;
        struct spool *out = spool_make();
        if (fixture_run("openssl cms -encrypt -binary -in content -outform DER -out x.der %s",
                        commands[i].options) != 0)
            fail_msg("openssl cms -encrypt %s", commands[i].options);
        FILE *file = fopen(fixture_path("x.der"), "re");
        assert_non_null(file);
        size_t len = fread(object, 1, sizeof object, file);
        fclose(file);
        struct cms_identity identity = {"x", pki_key(commands[i].key), *commands[i].cert};
        if (cms_decrypt(bytes_of(object, len), &identity, 1, out, &used, &detail) != ERR_OK)
            fail_msg("%s: %s", commands[i].options, detail.text);
        assert_true(bytes_equal(spool_bytes(out), content));
        spool_free(out);
    }
}

static void test_too_large(void **state)
{
    const struct spool_conf small = {.directory = "/tmp", .memory_max = 10, .max = 20};
    struct detail detail = {0};
    size_t used = 0;
    (void)state;
    struct spool *der = encrypt(CMS_AES_256_GCM, false, fixture.to_rsa);
    struct spool *out = spool_new(&small);
    struct cms_identity identity = {"x", pki_key(PKI_RSA_2048), fixture.to_rsa};
    assert_int_equal(cms_decrypt(spool_bytes(der), &identity, 1, out, &used, &detail), ERR_PERM);
    assert_string_equal(detail.text, "larger than 20 bytes");
    assert_int_equal(spool_len(out), 0);
    spool_free(out);
    spool_free(der);
}

static void test_identities(void **state)
{
    struct detail detail = {0};
    size_t used = 9;
    (void)state;
    struct spool *der = encrypt(CMS_AES_256_GCM, false, fixture.to_ec);
    struct spool *out = spool_make();
    // An RSA identity under the name of an EC recipient is none of the recipients.
    struct cms_identity mixed = {"x", pki_key(PKI_RSA_2048), fixture.to_ec};
    assert_int_equal(cms_decrypt(spool_bytes(der), &mixed, 1, out, &used, &detail), ERR_PERM);
    assert_string_equal(detail.text, "not for us");
    assert_int_equal(cms_decrypt(spool_bytes(der), NULL, 0, out, &used, &detail), ERR_PERM);
    assert_string_equal(detail.text, "not for us");
    // Of two identities with the same certificate, the one whose key opens it.
    struct cms_identity two[] = {{"wrong", pki_key(PKI_EC_P256_B), fixture.to_ec},
                                 {"right", pki_key(PKI_EC_P256), fixture.to_ec}};
    assert_int_equal(cms_decrypt(spool_bytes(der), two, 2, out, &used, &detail), ERR_OK);
    assert_int_equal(used, 1);
    assert_true(bytes_equal(spool_bytes(out), content));
    spool_free(out);
    spool_free(der);
}

// hsmd.so's reasons as they come back from libcrypto's queue.
static void test_failure(void **state)
{
    static const struct {
        int reason;
        enum err class;
    } reasons[] = {
        {1, ERR_TEMP}, {2, ERR_PERM}, {3, ERR_DENIED}, {4, ERR_BUG},
        {5, ERR_TEMP}, {8, ERR_PERM}, {17, ERR_TEMP},  {19, ERR_TEMP},
    };
    static ERR_STRING_DATA strings[] = {{0, "hsmd"}, {0, NULL}};
    int library = ERR_get_next_error_library();
    (void)state;
    strings[0].error = ERR_PACK(library, 0, 0);
    ERR_load_strings(library, strings);
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
        struct detail detail = {0};
        ERR_raise(ERR_LIB_EVP, 1);
        ERR_raise_data(library, reasons[i].reason, "token gone");
        ERR_raise(ERR_LIB_CMS, 2);
        assert_int_equal(cms_failure(&detail, ERR_PERM, "cannot sign"), reasons[i].class);
        assert_non_null(strstr(detail.text, "cannot sign: "));
        assert_non_null(strstr(detail.text, "token gone"));
        assert_int_equal(ERR_peek_error(), 0);
    }
    ERR_raise(ERR_LIB_CMS, 2);
    assert_int_equal(cms_failure(NULL, ERR_PERM, "x"), ERR_PERM);
    assert_int_equal(cms_failure(NULL, ERR_TEMP, "x"), ERR_TEMP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_key), cmocka_unit_test(test_flips),
        cmocka_unit_test(test_no_oracle), cmocka_unit_test(test_commands),
        cmocka_unit_test(test_too_large), cmocka_unit_test(test_identities),
        cmocka_unit_test(test_failure),
    };
    return cmocka_run_group_tests_name("cms decrypt", tests, fixture_setup, fixture_teardown);
}
