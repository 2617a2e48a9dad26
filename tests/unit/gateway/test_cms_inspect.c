// SPDX-License-Identifier: Apache-2.0
// The allow-list: objects of ours and of the openssl command, bent in one place each.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/cms_ber.h"
#include "hsmd/base/file.h"
#include "tests/unit/gateway/cms_fixture.h"

#define OBJECT_MAX (1 << 16)

// Reads what a command left in a file of the fixture.
static size_t load(const char *name, uint8_t object[OBJECT_MAX])
{
    FILE *file = fopen(fixture_path(name), "re");
    assert_non_null(file);
    size_t len = fread(object, 1, OBJECT_MAX, file);
    fclose(file);
    return len;
}

// Objects to start from, made once.
enum base { BASE_CBC, BASE_GCM, BASE_OAEP, BASE_EC, BASE_SIGNED, BASE_PSS, BASE_COUNT };

static struct {
    uint8_t bytes[OBJECT_MAX];
    size_t len;
} bases[BASE_COUNT];

static void base_encrypted(enum base base, enum cms_cipher cipher, bool oaep, X509 *to)
{
    struct spool *der = spool_make();
    STACK_OF(X509) *recipients = sk_X509_new_null();
    sk_X509_push(recipients, to);
    struct cms_encryption encryption = {cipher, oaep, recipients};
    assert_int_equal(cms_encrypt(&encryption, BYTES_LITERAL(CONTENT), der, NULL), ERR_OK);
    bases[base].len = spool_len(der);
    memcpy(bases[base].bytes, spool_bytes(der).data, spool_len(der));
    sk_X509_free(recipients);
    spool_free(der);
}

static void base_signed(enum base base, bool pss)
{
    struct spool *der = spool_make();
    struct cms_signer signer = {pki_key(PKI_RSA_2048), fixture.rsa, NULL, HASH_SHA256, pss};
    assert_int_equal(cms_sign(&signer, BYTES_LITERAL(CONTENT), false, der, NULL), ERR_OK);
    bases[base].len = spool_len(der);
    memcpy(bases[base].bytes, spool_bytes(der).data, spool_len(der));
    spool_free(der);
}

static int setup(void **state)
{
    if (fixture_setup(state) != 0)
        return 1;
    base_encrypted(BASE_CBC, CMS_AES_256_CBC, false, fixture.to_rsa);
    base_encrypted(BASE_GCM, CMS_AES_256_GCM, false, fixture.to_rsa);
    base_encrypted(BASE_OAEP, CMS_AES_256_CBC, true, fixture.to_rsa);
    base_encrypted(BASE_EC, CMS_AES_256_CBC, false, fixture.to_ec);
    base_signed(BASE_SIGNED, false);
    base_signed(BASE_PSS, true);
    fixture_write("content", BYTES_LITERAL(CONTENT));
    return 0;
}

#define HEX(text) text, sizeof(text) - 1

struct bend_row {
    const char *name;
    enum base base;
    const char *find;
    size_t find_len;
    const char *replace; // of the same length
    size_t replace_len;
    bool allow_legacy;
    const char *refusal; // NULL: fine
};

#define AES "\x60\x86\x48\x01\x65\x03\x04\x01"
#define SHA "\x60\x86\x48\x01\x65\x03\x04\x02"
#define PKCS1 "\x2a\x86\x48\x86\xf7\x0d\x01\x01"
#define PKCS7 "\x2a\x86\x48\x86\xf7\x0d\x01\x07"
#define KDF "\x2b\x81\x04\x01\x0b"

static const struct bend_row bend_rows[] = {
    {"as it is", BASE_CBC, HEX(""), HEX(""), false, NULL},
    {"cipher unknown", BASE_CBC, HEX(AES "\x2a"), HEX(AES "\x7a"), false,
     "unsupported: 2.16.840.1.101.3.4.1.122"},
    {"gcm in enveloped", BASE_CBC, HEX(AES "\x2a"), HEX(AES "\x2e"), false,
     "unsupported: aes-256-gcm"},
    {"cbc in authEnveloped", BASE_GCM, HEX(AES "\x2e"), HEX(AES "\x2a"), false,
     "unsupported: aes-256-cbc"},
    {"ccm", BASE_GCM, HEX(AES "\x2e"), HEX(AES "\x2f"), false, "unsupported: aes-256-ccm"},
    {"iv too short", BASE_CBC, HEX(AES "\x2a\x04\x10"), HEX(AES "\x2a\x04\x0f"), false,
     "malformed: not BER"},
    {"iv of another type", BASE_CBC, HEX(AES "\x2a\x04\x10"), HEX(AES "\x2a\x03\x10"), false,
     "malformed: parameters of aes-256-cbc"},
    {"nonce", BASE_GCM, HEX("\x30\x11\x04\x0c"), HEX("\x30\x11\x03\x0c"), false,
     "malformed: parameters of aes-256-gcm"},
    {"tag length announced 11", BASE_GCM, HEX("\x02\x01\x10\x80"), HEX("\x02\x01\x0b\x80"), false,
     "forbidden: aes-256-gcm with a tag of 11 bytes (RFC 5084)"},
    {"tag length announced 13, is 16", BASE_GCM, HEX("\x02\x01\x10\x80"), HEX("\x02\x01\x0d\x80"),
     false, "forbidden: a tag of 16 bytes where 13 are announced"},
    {"tag length announced 17", BASE_GCM, HEX("\x02\x01\x10\x80"), HEX("\x02\x01\x11\x80"), false,
     "forbidden: aes-256-gcm with a tag of 17 bytes (RFC 5084)"},
    {"rsa transport unknown", BASE_CBC, HEX(PKCS1 "\x01\x05\x00"), HEX(PKCS1 "\x71\x05\x00"), false,
     "unsupported: 1.2.840.113549.1.1.113"},
    {"rsa transport with parameters", BASE_CBC, HEX(PKCS1 "\x01\x05\x00"),
     HEX(PKCS1 "\x01\x04\x00"), false, "malformed: parameters of rsa"},
    {"oaep mask not mgf1", BASE_OAEP, HEX(PKCS1 "\x08\x30"), HEX(PKCS1 "\x18\x30"), false,
     "malformed: parameters of rsaes-oaep"},
    {"oaep hash unknown", BASE_OAEP, HEX("\xa0\x0d\x30\x0b\x06\x09" SHA "\x01"),
     HEX("\xa0\x0d\x30\x0b\x06\x09" SHA "\x31"), false, "malformed: parameters of rsaes-oaep"},
    {"oaep tag unknown", BASE_OAEP, HEX("\xa0\x0d\x30\x0b\x06\x09" SHA "\x01"),
     HEX("\xa4\x0d\x30\x0b\x06\x09" SHA "\x01"), false, "malformed: parameters of rsaes-oaep"},
    {"oaep not a sequence", BASE_OAEP, HEX(PKCS1 "\x07\x30"), HEX(PKCS1 "\x07\x31"), false,
     "malformed: parameters of rsaes-oaep"},
    {"wrap-pad", BASE_EC, HEX(AES "\x2d"), HEX(AES "\x30"), false,
     "forbidden: ecdh-sha256kdf+aes-256-wrap-pad"},
    {"wrap unknown", BASE_EC, HEX(AES "\x2d"), HEX(AES "\x3d"), false,
     "unsupported: ecdh-sha256kdf+2.16.840.1.101.3.4.1.61"},
    {"kdf unknown", BASE_EC, HEX(KDF "\x01"), HEX(KDF "\x09"), false,
     "unsupported: 1.3.132.1.11.9"},
    {"kdf sha512", BASE_EC, HEX(KDF "\x01"), HEX(KDF "\x03"), false, NULL},
    {"recipient with a password", BASE_EC, HEX("\xa1\x81"), HEX("\xa3\x81"), false,
     "forbidden: recipient with a password"},
    {"recipient with a shared key", BASE_EC, HEX("\xa1\x81"), HEX("\xa2\x81"), false,
     "forbidden: recipient with a shared key"},
    {"recipient of a new kind", BASE_EC, HEX("\xa1\x81"), HEX("\xa5\x81"), false,
     "malformed: recipient of an unknown kind"},
    {"content type", BASE_CBC, HEX(PKCS7 "\x03"), HEX(PKCS7 "\x06"), false,
     "unsupported: encrypted-data"},
    {"inner content type", BASE_CBC, HEX(PKCS7 "\x01"), HEX(PKCS7 "\x02"), false,
     "unsupported: encrypted content that is not data"},
    {"signed", BASE_SIGNED, HEX(""), HEX(""), false, NULL},
    {"signed content type", BASE_SIGNED, HEX(PKCS7 "\x01\xa0"), HEX(PKCS7 "\x05\xa0"), false,
     "unsupported: signed content that is not data"},
    {"rsa-sha384 over sha256", BASE_SIGNED, HEX(PKCS1 "\x01\x05\x00\x04\x82\x01\x00"),
     HEX(PKCS1 "\x0c\x05\x00\x04\x82\x01\x00"), false,
     "malformed: signature rsa-sha384 over digest sha256"},
    {"rsa-sha256 over sha256", BASE_SIGNED, HEX(PKCS1 "\x01\x05\x00\x04\x82\x01\x00"),
     HEX(PKCS1 "\x0b\x05\x00\x04\x82\x01\x00"), false, NULL},
    {"pss mask not mgf1", BASE_PSS, HEX(PKCS1 "\x08\x30"), HEX(PKCS1 "\x18\x30"), false,
     "malformed: parameters of rsa-pss"},
    {"pss salt", BASE_PSS, HEX("\xa2\x03\x02\x01\x20"), HEX("\xa2\x03\x02\x01\xff"), false,
     "malformed: parameters of rsa-pss"},
    {"pss hash is not the digest", BASE_PSS, HEX("\xa0\x0f\x30\x0d\x06\x09" SHA "\x01"),
     HEX("\xa0\x0f\x30\x0d\x06\x09" SHA "\x02"), false, "malformed: parameters of rsa-pss"},
};

static struct bytes bend(const struct bend_row *row, uint8_t *copy)
{
    size_t len = bases[row->base].len;
    memcpy(copy, bases[row->base].bytes, len);
    assert_int_equal(row->find_len, row->replace_len);
    if (row->find_len == 0)
        return bytes_of(copy, len);
    uint8_t *at = memmem(copy, len, row->find, row->find_len);
    if (!at)
        fail_msg("%s: nothing to replace", row->name);
    memcpy(at, row->replace, row->replace_len);
    return bytes_of(copy, len);
}

static void test_bend(void **state)
{
    static uint8_t copy[OBJECT_MAX];
    (void)state;
    for (size_t i = 0; i < sizeof bend_rows / sizeof *bend_rows; i++) {
        const struct bend_row *row = &bend_rows[i];
        struct cms_summary summary;
        struct detail detail = {0};
        enum err err = cms_inspect(bend(row, copy), row->allow_legacy, &summary, &detail);
        if (strcmp(detail.text, row->refusal ? row->refusal : "") != 0)
            fail_msg("%s: \"%s\"", row->name, detail.text);
        assert_int_equal(err, row->refusal ? ERR_PERM : ERR_OK);
    }
}

// What the openssl command makes of other kinds.
static const struct {
    const char *command; // leaves x.der
    enum cms_type type;
    const char *strict, *legacy; // "": fine
} command_rows[] = {
    {"openssl cms -encrypt -in content -outform DER -out x.der -aes256 -pwri_password secret",
     CMS_TYPE_ENVELOPED, "forbidden: recipient with a password",
     "forbidden: recipient with a password"},
    {"openssl cms -encrypt -in content -outform DER -out x.der -aes256 "
     "-secretkey 000102030405060708090a0b0c0d0e0f -secretkeyid 01",
     CMS_TYPE_ENVELOPED, "forbidden: recipient with a shared key",
     "forbidden: recipient with a shared key"},
    {"openssl cms -encrypt -in content -outform DER -out x.der -des3 to-rsa.pem",
     CMS_TYPE_ENVELOPED, "forbidden: 3des-cbc", ""},
    {"openssl cms -encrypt -in content -outform DER -out x.der -des3 to-ec.pem", CMS_TYPE_ENVELOPED,
     "forbidden: 3des-cbc", ""},
    {"openssl cms -encrypt -in content -outform DER -out x.der -provider legacy -provider default "
     "-rc2-128 to-rsa.pem",
     CMS_TYPE_ENVELOPED, "forbidden: rc2-cbc", "forbidden: rc2-cbc"},
    {"openssl cms -encrypt -in content -outform DER -out x.der -camellia256 to-rsa.pem",
     CMS_TYPE_ENVELOPED, "unsupported: 1.2.392.200011.61.1.1.1.4",
     "unsupported: 1.2.392.200011.61.1.1.1.4"},
    {"openssl cms -encrypt -in content -outform DER -out x.der -aes256 -keyid to-rsa.pem",
     CMS_TYPE_ENVELOPED, "", ""},
    {"openssl cms -encrypt -in content -outform DER -out x.der -aes256 -stream to-rsa.pem",
     CMS_TYPE_ENVELOPED, "", ""},
    {"openssl cms -digest_create -in content -outform DER -out x.der", CMS_TYPE_OTHER,
     "unsupported: digested-data", "unsupported: digested-data"},
    {"openssl cms -data_create -in content -outform DER -out x.der", CMS_TYPE_OTHER,
     "unsupported: data", "unsupported: data"},
    {"openssl cms -EncryptedData_encrypt -in content -outform DER -out x.der -aes128 "
     "-secretkey 000102030405060708090a0b0c0d0e0f",
     CMS_TYPE_OTHER, "unsupported: encrypted-data", "unsupported: encrypted-data"},
    {"openssl cms -sign -nodetach -md md5 -in content -outform DER -out x.der -signer rsa.pem "
     "-inkey rsa.key",
     CMS_TYPE_SIGNED, "forbidden: md5", "forbidden: md5"},
    {"openssl cms -sign -nodetach -md sha1 -in content -outform DER -out x.der -signer rsa.pem "
     "-inkey rsa.key",
     CMS_TYPE_SIGNED, "", ""},
    {"openssl cms -sign -nodetach -md sha3-256 -in content -outform DER -out x.der -signer rsa.pem "
     "-inkey rsa.key",
     CMS_TYPE_SIGNED, "unsupported: sha3-256", "unsupported: sha3-256"},
    {"openssl cms -sign -nodetach -stream -in content -outform DER -out x.der -signer rsa.pem "
     "-inkey rsa.key",
     CMS_TYPE_SIGNED, "", ""},
    {"openssl cms -sign -nodetach -econtent_type 1.2.3.4 -in content -outform DER -out x.der "
     "-signer rsa.pem -inkey rsa.key",
     CMS_TYPE_SIGNED, "unsupported: signed content that is not data",
     "unsupported: signed content that is not data"},
    {"openssl crl2pkcs7 -nocrl -certfile rsa.pem -outform DER -out x.der", CMS_TYPE_SIGNED, "", ""},
};

static void test_commands(void **state)
{
    static uint8_t object[OBJECT_MAX];
    (void)state;
    for (size_t i = 0; i < sizeof command_rows / sizeof *command_rows; i++) {
        for (int legacy = 0; legacy < 2; legacy++) {
            struct cms_summary summary;
            struct detail detail = {0};
            const char *expected = legacy ? command_rows[i].legacy : command_rows[i].strict;
            if (fixture_run("%s", command_rows[i].command) != 0)
                fail_msg("failed: %s", command_rows[i].command);
            size_t len = load("x.der", object);
            (void)cms_inspect(bytes_of(object, len), legacy, &summary, &detail);
            if (strcmp(detail.text, expected) != 0 || summary.type != command_rows[i].type)
                fail_msg("%s: type %d \"%s\"", command_rows[i].command, summary.type, detail.text);
            assert_int_equal(summary.is_certs_only,
                             strstr(command_rows[i].command, "crl2pkcs7") != NULL);
        }
    }
}

// Every truncation, and one byte more: refused, and never read past the end (ASan).
static void test_lengths(void **state)
{
    (void)state;
    for (int base = 0; base < BASE_COUNT; base++) {
        struct cms_summary summary;
        size_t len = bases[base].len;
        for (size_t cut = 0; cut < len; cut++) {
            uint8_t *exact = test_malloc(cut + 1);
            memcpy(exact, bases[base].bytes, cut);
            assert_int_equal(cms_inspect(bytes_of(exact, cut), true, &summary, NULL), ERR_PERM);
            test_free(exact);
        }
        struct detail detail = {0};
        assert_int_equal(cms_inspect(bytes_of(bases[base].bytes, len + 1), true, &summary, &detail),
                         ERR_PERM);
        assert_string_equal(detail.text, "malformed: bytes behind the end");
    }
}

// Nesting and numbers out of bounds end the walk, at once.
static void test_bounds(void **state)
{
    static uint8_t deep[200000], wide[2 * (BER_ELEMENTS_MAX + 10)];
    size_t used = 0;
    (void)state;
    for (size_t i = 0; i + 1 < sizeof deep; i += 2)
        memcpy(deep + i, "\x30\x80", 2);
    assert_false(ber_check(bytes_of(deep, sizeof deep), &used));
    // Exactly as deep as allowed, and one more.
    for (size_t depth = BER_DEPTH_MAX; depth <= BER_DEPTH_MAX + 1; depth++) {
        uint8_t object[4 * (BER_DEPTH_MAX + 1)] = {0};
        for (size_t i = 0; i < depth; i++)
            memcpy(object + 2 * i, "\x30\x80", 2);
        assert_int_equal(ber_check(bytes_of(object, 4 * depth), &used), depth == BER_DEPTH_MAX);
    }
    memcpy(wide, "\x30\x80", 2);
    for (size_t i = 2; i + 1 < sizeof wide; i += 2)
        memcpy(wide + i, "\x05\x00", 2);
    memset(wide + sizeof wide - 2, 0, 2);
    assert_false(ber_check(bytes_of(wide, sizeof wide), &used));
    static const char *const bad[] = {
        "",
        "\x30",
        "\x30\x01",
        "\x1f\x01\x00",             // high tag number
        "\x30\x89\x01\x01\x01\x01", // length of nine octets
        "\x30\x88\xff\xff\xff\xff\xff\xff\xff\xff",
        "\x04\x80\x01\x01",         // indefinite, but primitive
        "\x30\x03\x04\x02\x01\x01", // inner beyond outer
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(ber_check(bytes_of_text(bad[i]), &used));
    assert_false(ber_check(bytes_of("\x00\x00", 2), &used));         // end of nothing
    assert_false(ber_check(bytes_of("\x30\x02\x00\x00", 4), &used)); // end in a definite one
    assert_true(ber_check(bytes_of("\x30\x84\x00\x00\x00\x02\x05\x00", 8), &used)); // long form
    assert_int_equal(used, 8);
}

static void test_strings(void **state)
{
    static const struct {
        const char *der;
        size_t der_len;
        bool is_good;
        size_t len;
    } rows[] = {
        {HEX("\x04\x03"
             "abc"),
         true, 3},
        {HEX("\x24\x80\x04\x01"
             "a\x04\x02"
             "bc\x00\x00"),
         true, 3},
        {HEX("\x24\x07\x04\x01"
             "a\x24\x02\x04\x00"),
         true, 1},
        {HEX("\xa0\x80\x04\x01"
             "a\x00\x00"),
         true, 1},
        {HEX("\x24\x03\x0c\x01"
             "a"),
         false, 0},
        {HEX("\x24\x08\x24\x06\x24\x04\x24\x02\x24\x00"), false, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct ber_element element;
        size_t len = 0;
        struct ber ber = ber_open(bytes_of(rows[i].der, rows[i].der_len));
        assert_true(ber_next(&ber, &element));
        assert_true(ber_is_done(&ber));
        assert_int_equal(ber_string_len(&element, &len), rows[i].is_good);
        if (rows[i].is_good)
            assert_int_equal(len, rows[i].len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bend),    cmocka_unit_test(test_commands),
        cmocka_unit_test(test_lengths), cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_strings),
    };
    return cmocka_run_group_tests_name("cms inspect", tests, setup, fixture_teardown);
}
