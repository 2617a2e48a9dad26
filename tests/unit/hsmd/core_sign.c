// SPDX-License-Identifier: Apache-2.0
// What is particular to signing: hashes, salts and forms, Ed25519, and that nothing is signed
// blind.
#include "hsmd/core.h"

#include <stdio.h>
#include <string.h>

#include "hsmd/base/text.h"
#include "tests/unit/hsmd/core_support.h"

// What does not go together with Ed25519 is refused before the key is asked.
static void test_eddsa(void **state)
{
    (void)state;
    static const struct {
        const char *name, *key;
        enum wire_form form;
        enum hash hash;
        unsigned salt;
        enum err err;
    } rows[] = {
        {"a message", "ed25519.general.enabled", WIRE_MESSAGE, HASH_NONE, 0, ERR_OK},
        {"a message with a hash", "ed25519.general.enabled", WIRE_MESSAGE, HASH_SHA512, 0,
         ERR_PERM},
        {"a message with salt", "ed25519.general.enabled", WIRE_MESSAGE, HASH_NONE, 1, ERR_PERM},
        {"a digest", "ed25519.general.enabled", WIRE_DIGEST, HASH_SHA512, 0, ERR_PERM},
        {"a digest without a hash", "ed25519.general.enabled", WIRE_DIGEST, HASH_NONE, 0, ERR_PERM},
        {"attributes with a general key", "ed25519.general.enabled", WIRE_ATTRIBUTES, HASH_SHA512,
         0, ERR_DENIED},
        {"attributes", "ed25519.smime-sign.enabled", WIRE_ATTRIBUTES, HASH_SHA512, 0, ERR_OK},
        {"attributes of SHA-256", "ed25519.smime-sign.enabled", WIRE_ATTRIBUTES, HASH_SHA256, 0,
         ERR_PERM},
        {"a message that is none of S/MIME", "ed25519.smime-sign.enabled", WIRE_MESSAGE, HASH_NONE,
         0, ERR_DENIED},
        {"a retired key", "ed25519.general.retired", WIRE_MESSAGE, HASH_NONE, 0, ERR_DENIED},
        {"a key of another type", "ec.general.enabled", WIRE_MESSAGE, HASH_NONE, 0, ERR_PERM},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct wire_request request = make_eddsa(rows[i].key, rows[i].form);
        request.sign.hash = rows[i].hash;
        request.sign.salt = rows[i].salt;
        unsigned used = memstore_used();
        int class = call(CUSTODIAN_ALL, &request, NULL);
        if (class != (int)rows[i].err || memstore_used() - used != (rows[i].err == ERR_OK))
            fail_msg("%s: class %d", rows[i].name, class);
    }
    struct wire_request request = make_sign("ec.general.enabled", WIRE_ECDSA, WIRE_MESSAGE);
    assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_PERM);
}

// hsmd reads attributes for Ed25519 too; bytes that only look like them are not signed.
static void test_eddsa_is_not_blind(void **state)
{
    (void)state;
    struct wire_request request = make_eddsa("ed25519.smime-sign.enabled", WIRE_ATTRIBUTES);
    unsigned used = memstore_used();
    request.sign.data = bytes_of(attributes512.data, attributes512.len - 1);
    assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_PERM);
    request.sign.data = BYTES_LITERAL("a message");
    assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_PERM);
    request.sign.data = buf_bytes(&attributes); // their message-digest is of SHA-256
    assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_PERM);
    assert_int_equal(memstore_used(), used);
}

// The log tells a message by its SHA-512, attributes by their message-digest.
static void test_eddsa_in_the_log(void **state)
{
    (void)state;
    char last[AUDIT_LINE_MAX];
    uint8_t digest[HASH_SIZE_MAX];
    struct buf hex;
    struct wire_request request = make_eddsa("ed25519.general.enabled", WIRE_MESSAGE);
    assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_OK);
    custodian_audit_lines(&custodian, last, sizeof last);
    assert_int_equal(hash_digest(HASH_SHA512, request.sign.data, digest), ERR_OK);
    buf_init(&hex, 256);
    assert_int_equal(text_put_hex(&hex, bytes_of(digest, 64)), ERR_OK);
    assert_non_null(strstr(last, buf_text(&hex)));
    assert_non_null(strstr(last, "\"algorithm\":\"ed25519\""));
    assert_non_null(strstr(last, "\"hash\":\"sha512\""));
    request = make_eddsa("ed25519.smime-sign.enabled", WIRE_ATTRIBUTES);
    assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_OK);
    custodian_audit_lines(&custodian, last, sizeof last);
    buf_reset(&hex);
    memset(digest, 0xd1, sizeof digest); // custodian_attributes
    assert_int_equal(text_put_hex(&hex, bytes_of(digest, 64)), ERR_OK);
    assert_non_null(strstr(last, buf_text(&hex)));
    buf_clear(&hex);
}

static void test_sign_details(void **state)
{
    (void)state;
    static const struct {
        const char *name, *key;
        enum wire_algorithm algorithm;
        enum hash hash;
        unsigned salt;
        enum wire_form form;
        size_t digest_len; // of a digest
        enum err expected;
    } rows[] = {
        {"digest too short", "rsa.general.enabled", WIRE_RSA_PKCS1, HASH_SHA256, 0, WIRE_DIGEST, 31,
         ERR_PERM},
        {"digest of another hash", "rsa.general.enabled", WIRE_RSA_PKCS1, HASH_SHA512, 0,
         WIRE_DIGEST, 32, ERR_PERM},
        {"sha1 digest, general", "rsa.general.enabled", WIRE_RSA_PKCS1, HASH_SHA1, 0, WIRE_DIGEST,
         20, ERR_OK},
        {"no hash", "rsa.general.enabled", WIRE_RSA_PKCS1, HASH_NONE, 0, WIRE_DIGEST, 32, ERR_PERM},
        {"salt without pss", "rsa.general.enabled", WIRE_RSA_PKCS1, HASH_SHA256, 32, WIRE_DIGEST,
         32, ERR_PERM},
        {"pss, long salt, general", "rsa.general.enabled", WIRE_RSA_PSS, HASH_SHA256, 222,
         WIRE_DIGEST, 32, ERR_OK},
        {"pss, salt too long", "rsa.general.enabled", WIRE_RSA_PSS, HASH_SHA256, 223, WIRE_DIGEST,
         32, ERR_PERM},
        {"pss, salt 0, general", "rsa.general.enabled", WIRE_RSA_PSS, HASH_SHA256, 0, WIRE_DIGEST,
         32, ERR_OK},
        {"pss, salt 0, smime", "rsa.smime-sign.enabled", WIRE_RSA_PSS, HASH_SHA256, 0,
         WIRE_ATTRIBUTES, 0, ERR_PERM},
        {"pss, salt 20, smime", "rsa.smime-sign.enabled", WIRE_RSA_PSS, HASH_SHA256, 20,
         WIRE_ATTRIBUTES, 0, ERR_PERM},
        {"sha1, smime", "rsa.smime-sign.enabled", WIRE_RSA_PKCS1, HASH_SHA1, 0, WIRE_ATTRIBUTES, 0,
         ERR_DENIED},
        {"attributes of another hash", "rsa.smime-sign.enabled", WIRE_RSA_PKCS1, HASH_SHA384, 0,
         WIRE_ATTRIBUTES, 0, ERR_PERM},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct wire_request request = make_sign(rows[i].key, rows[i].algorithm, rows[i].form);
        request.sign.hash = rows[i].hash;
        request.sign.salt = rows[i].salt;
        if (rows[i].digest_len)
            request.sign.data.len = rows[i].digest_len;
        int class = call(CUSTODIAN_ALL, &request, NULL);
        if (class != (int)rows[i].expected)
            print_error("%s: %d\n", rows[i].name, class);
        assert_int_equal(class, rows[i].expected);
    }
}

// Something that is no SignedAttributes, though it is as long: promise 4.
static void test_never_blind(void **state)
{
    (void)state;
    unsigned used = memstore_used();
    for (size_t i = 0; i < attributes.len; i++) {
        struct wire_request request =
            make_sign("rsa.smime-sign.enabled", WIRE_RSA_PKCS1, WIRE_ATTRIBUTES);
        request.sign.data.len = i ? i : 1;
        assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_PERM);
    }
    assert_int_equal(memstore_used(), used);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_eddsa),
        cmocka_unit_test(test_eddsa_is_not_blind),
        cmocka_unit_test(test_eddsa_in_the_log),
        cmocka_unit_test(test_sign_details),
        cmocka_unit_test(test_never_blind),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
