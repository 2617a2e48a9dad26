// SPDX-License-Identifier: Apache-2.0
#include "hsmd/attributes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/asn1t.h>
#include <openssl/cms.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "hsmd/base/text.h"

// 2026-11-21T12:00:00Z; what the table's signing-time 261121120000Z is.
#define NOW 1795262400

#define CONTENT_TYPE "301806092a864886f70d010903310b06092a864886f70d010701"
#define SIGNING_TIME "301c06092a864886f70d010905310f170d3236313132313132303030305a"
#define MESSAGE_DIGEST                                  \
    "302f06092a864886f70d01090431220420"                \
    "00112233445566778899aabbccddeeff00112233445566778" \
    "899aabbccddeeff"
#define MESSAGE_DIGEST_SHA1 \
    "302306092a864886f70d01090431160414000102030405060708090a0b0c0d0e0f10111213"

struct row {
    const char *name;
    const char *hex;
    const char *problem; // part of the detail; NULL: good
};

static const struct row rows[] = {
    {"the least", "314b" CONTENT_TYPE MESSAGE_DIGEST, NULL},
    {"with signing-time", "3169" CONTENT_TYPE SIGNING_TIME MESSAGE_DIGEST, NULL},
    {"empty", "", "not the DER"},
    {"empty set", "3100", "no content-type"},
    {"a sequence", "304b" CONTENT_TYPE MESSAGE_DIGEST, "not the DER"},
    {"implicit tag of the message", "a04b" CONTENT_TYPE MESSAGE_DIGEST, "not the DER"},
    {"one byte past the end", "314b" CONTENT_TYPE MESSAGE_DIGEST "00", "past the end"},
    {"one byte short", "314c" CONTENT_TYPE MESSAGE_DIGEST, "not the DER"},
    {"longer length than needed", "31814b" CONTENT_TYPE MESSAGE_DIGEST, "not the DER"},
    {"longer length with zeros", "3182004b" CONTENT_TYPE MESSAGE_DIGEST, "not the DER"},
    {"indefinite length", "3180" CONTENT_TYPE MESSAGE_DIGEST "0000", "not the DER"},
    {"no message-digest", "311a" CONTENT_TYPE, "no message-digest"},
    {"no content-type", "3131" MESSAGE_DIGEST, "no content-type"},
    {"not sorted", "314b" MESSAGE_DIGEST CONTENT_TYPE, "order of DER"},
    {"content-type twice", "3165" CONTENT_TYPE CONTENT_TYPE MESSAGE_DIGEST, "order of DER"},
    {"message-digest twice, sorted",
     "317c" CONTENT_TYPE MESSAGE_DIGEST "302f06092a864886f70d01090431220420"
     "10112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
     "twice"},
    {"message-digest of another length", "313f" CONTENT_TYPE MESSAGE_DIGEST_SHA1,
     "not as long as the hash"},
    {"message-digest is a string",
     "314b" CONTENT_TYPE "302f06092a864886f70d010904312213"
     "2000112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
     "no octet string"},
    {"message-digest with two values",
     "316d" CONTENT_TYPE "305106092a864886f70d01090431440420"
     "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff0420"
     "10112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
     "several values"},
    {"content-type with two values",
     "3156"
     "302306092a864886f70d010903311606092a864886f70d01070106092a864886f70d010702" MESSAGE_DIGEST,
     "several values"},
    {"content-type without a value", "3140300d06092a864886f70d0109033100" MESSAGE_DIGEST,
     "without a value"},
    {"content-type is no OID", "3142300f06092a864886f70d01090331020500" MESSAGE_DIGEST,
     "no object identifier"},
    {"values not sorted",
     "316d" CONTENT_TYPE "305106092a864886f70d01090431440420"
     "10112233445566778899aabbccddeeff00112233445566778899aabbccddeeff0420"
     "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
     "values not in the order"},
    {"a third element in an attribute",
     "314d301a06092a864886f70d010903310b06092a864886f70d0107010500" MESSAGE_DIGEST,
     "not a type and a set"},
    {"an attribute is a set",
     "314b" MESSAGE_DIGEST "311806092a864886f70d010903310b06092a864886f70d010701", "not DER"},
    {"constructed octet string",
     "314b" CONTENT_TYPE "302f06092a864886f70d010904312224"
     "20041e2233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
     "not DER"},
    {"OID with a padded arc",
     "314c301906092a864886f70d010903310c060a2a80864886f70d010701" MESSAGE_DIGEST, "not DER"},
    {"OID that ends inside an arc",
     "314b301806092a864886f70d010903310b06092a864886f70d010781" MESSAGE_DIGEST, "not DER"},
    {"yesterday",
     "3169" CONTENT_TYPE
     "301c06092a864886f70d010905310f170d3236313132303132303030305a" MESSAGE_DIGEST,
     NULL},
    {"yesterday and a second",
     "3169" CONTENT_TYPE
     "301c06092a864886f70d010905310f170d3236313132303131353935395a" MESSAGE_DIGEST,
     "not near now"},
    {"tomorrow and a second",
     "3169" CONTENT_TYPE
     "301c06092a864886f70d010905310f170d3236313132323132303030315a" MESSAGE_DIGEST,
     "not near now"},
    {"generalized time where UTC is due",
     "316b" CONTENT_TYPE
     "301e06092a864886f70d0109053111180f32303236313132313132303030305a" MESSAGE_DIGEST,
     "no time"},
    {"time without seconds",
     "3167" CONTENT_TYPE "301a06092a864886f70d010905310d170b323631313231313230305a" MESSAGE_DIGEST,
     "no time"},
    {"time with an offset",
     "316d" CONTENT_TYPE "302006092a864886f70d0109053113171132363131323131323030"
     "30302b30303030" MESSAGE_DIGEST,
     "no time"},
    {"the 31st of November",
     "3169" CONTENT_TYPE
     "301c06092a864886f70d010905310f170d3236313133313132303030305a" MESSAGE_DIGEST,
     "no time"},
    {"time with letters",
     "3169" CONTENT_TYPE
     "301c06092a864886f70d010905310f170d32363131323131323030783f5a" MESSAGE_DIGEST,
     "no time"},
    {"unknown attribute",
     "3157"
     "300a06032a03043103020105" CONTENT_TYPE MESSAGE_DIGEST,
     NULL},
    {"unknown attribute with broken DER inside",
     "3159"
     "300c06032a030431053003020205" CONTENT_TYPE MESSAGE_DIGEST,
     "not DER"},
    {"integer of two octets where one does",
     "3158"
     "300b06032a0304310402020005" CONTENT_TYPE MESSAGE_DIGEST,
     "not DER"},
};

static void test_rows(void **state)
{
    (void)state;
    int failures = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf der;
        struct detail detail = {0};
        struct attributes attributes = {0};
        buf_init(&der, 4096);
        assert_int_equal(text_get_hex(rows[i].hex, &der), ERR_OK);
        enum err err = attributes_parse(buf_bytes(&der), HASH_SHA256, NOW, &attributes, &detail);
        bool ok = rows[i].problem ? err == ERR_PERM && strstr(detail.text, rows[i].problem)
                                  : err == ERR_OK && attributes.message_digest.len == 32;
        if (!ok) {
            print_error("%s: %s \"%s\"\n", rows[i].name, err_name(err), detail.text);
            failures++;
        }
        buf_clear(&der);
    }
    assert_int_equal(failures, 0);
}

static void test_fields(void **state)
{
    (void)state;
    static const uint8_t id_data[] = {0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01};
    struct buf der;
    struct attributes attributes;
    buf_init(&der, 4096);
    assert_int_equal(text_get_hex("3169" CONTENT_TYPE SIGNING_TIME MESSAGE_DIGEST, &der), ERR_OK);
    assert_int_equal(attributes_parse(buf_bytes(&der), HASH_SHA256, NOW, &attributes, NULL),
                     ERR_OK);
    assert_true(bytes_equal(attributes.content_type, bytes_of(id_data, sizeof id_data)));
    assert_true(attributes.has_signing_time);
    assert_int_equal(attributes.signing_time, NOW);
    assert_int_equal(attributes.message_digest.data[1], 0x11);
    buf_clear(&der);
}

// Every prefix of good attributes, and every byte of them with one bit turned, is answered;
// prefixes are never taken.
static void test_damage(void **state)
{
    (void)state;
    struct buf der;
    struct attributes attributes;
    buf_init(&der, 4096);
    assert_int_equal(text_get_hex("3169" CONTENT_TYPE SIGNING_TIME MESSAGE_DIGEST, &der), ERR_OK);
    for (size_t len = 0; len < der.len; len++) {
        uint8_t *exact = malloc(len ? len : 1); // so that a sanitizer sees a read past it
        memcpy(exact, der.data, len);
        assert_int_equal(
            attributes_parse(bytes_of(exact, len), HASH_SHA256, NOW, &attributes, NULL), ERR_PERM);
        free(exact);
    }
    for (size_t bit = 0; bit < der.len * 8; bit++) {
        der.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        (void)attributes_parse(buf_bytes(&der), HASH_SHA256, NOW, &attributes, NULL);
        der.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    buf_clear(&der);
}

// As RFC 5652, 5.4 says: the set's own tag in place of [0].
// clang-format off
ASN1_ITEM_TEMPLATE(signed_attributes) =
    ASN1_EX_TEMPLATE_TYPE(ASN1_TFLG_SET_ORDER, 0, signed_attributes, X509_ATTRIBUTE)
static_ASN1_ITEM_TEMPLATE_END(signed_attributes)
    // clang-format on

    // What libcrypto makes, with its default attributes, and then with further ones.
    static void test_openssl(void **state)
{
    (void)state;
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    X509 *certificate = X509_new();
    X509_NAME *name = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)"test", -1, -1, 0);
    X509_set_issuer_name(certificate, name);
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    for (int round = 0; round < 2; round++) {
        BIO *data = BIO_new_mem_buf("hello", 5);
        unsigned flags = CMS_BINARY | CMS_PARTIAL;
        CMS_ContentInfo *cms = CMS_sign(NULL, NULL, NULL, NULL, flags);
        CMS_SignerInfo *signer = CMS_add1_signer(cms, certificate, key, EVP_sha256(),
                                                 flags | CMS_CADES | (round ? CMS_NOSMIMECAP : 0));
        assert_non_null(signer);
        if (round)
            CMS_signed_add1_attr_by_txt(signer, "1.2.3.4", V_ASN1_UTF8STRING, "more", 4);
        assert_int_equal(CMS_final(cms, data, NULL, CMS_BINARY), 1);
        STACK_OF(X509_ATTRIBUTE) *set = sk_X509_ATTRIBUTE_new_null();
        for (int i = 0; i < CMS_signed_get_attr_count(signer); i++)
            sk_X509_ATTRIBUTE_push(set, CMS_signed_get_attr(signer, i));
        uint8_t *der = NULL;
        int len = ASN1_item_i2d((const ASN1_VALUE *)set, &der, ASN1_ITEM_rptr(signed_attributes));
        struct attributes attributes;
        struct detail detail = {0};
        enum err err = attributes_parse(bytes_of(der, (size_t)len), HASH_SHA256, time(NULL),
                                        &attributes, &detail);
        assert_string_equal(detail.text, "");
        assert_int_equal(err, ERR_OK);
        assert_true(attributes.has_signing_time);
        OPENSSL_free(der);
        sk_X509_ATTRIBUTE_free(set);
        CMS_ContentInfo_free(cms);
        BIO_free(data);
    }
    X509_free(certificate);
    EVP_PKEY_free(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_openssl),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
