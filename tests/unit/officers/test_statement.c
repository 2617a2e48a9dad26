// SPDX-License-Identifier: Apache-2.0
// What is signed, and that nothing else counts.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hsmd/officers/keyfile.h"

static const uint8_t filler[64] = {1, 2, 3, 4, 5, 6, 7, 8, 9};

static const struct statement base = {
    .instance = {filler, STATEMENT_INSTANCE_SIZE},
    .nonce = {filler + 1, STATEMENT_NONCE_SIZE},
    .proposer = BYTES_LITERAL("alice"),
    .replaces = 0,
    .lapse = STATEMENT_LAPSE_DEFAULT,
    .act = BYTES_LITERAL("\x93\x01\x08\xa1k"),
};

// RFC 8032, 7.1, tests 1 to 3.
static void test_vectors(void **state)
{
    static const struct {
        const char *secret, *public, *message, *signature;
    } rows[] = {
        {"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
         "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
         "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e3970"
         "1cf9b46bd25bf5f0595bbe24655141438e7a100b"},
        {"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
         "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
         "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613"
         "d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf secret, public, message, signature;
        struct officer_key key = {0};
        struct detail detail = {0};
        uint8_t made[STATEMENT_SIGNATURE_SIZE];
        buf_init(&secret, 32);
        buf_init(&public, 32);
        buf_init(&message, 32);
        buf_init(&signature, 64);
        assert_int_equal(text_get_hex(rows[i].secret, &secret), ERR_OK);
        assert_int_equal(text_get_hex(rows[i].public, &public), ERR_OK);
        assert_int_equal(text_get_hex(rows[i].message, &message), ERR_OK);
        assert_int_equal(text_get_hex(rows[i].signature, &signature), ERR_OK);
        assert_int_equal(secret_init(&key.signing, 32, &detail), ERR_OK);
        assert_int_equal(secret_set(&key.signing, secret.data, secret.len), ERR_OK);
        assert_int_equal(officer_key_sign(&key, buf_bytes(&message), made, &detail), ERR_OK);
        assert_memory_equal(made, signature.data, sizeof made);
        assert_int_equal(statement_check(buf_bytes(&public), buf_bytes(&message),
                                         buf_bytes(&signature), &detail),
                         ERR_OK);
        officer_key_clear(&key);
        buf_clear(&secret);
        buf_clear(&public);
        buf_clear(&message);
        buf_clear(&signature);
    }
}

// With R the neutral point and S = 0 a signature verifies for one message in 8 at least, if the key
// is of small order: none of those may count.
static void test_small_order(void **state)
{
    static const uint8_t lows[] = {0xec, 0xed, 0xee};
    static const char *const order_8[] = {
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"};
    uint8_t keys[14][32] = {{0}};
    const uint8_t signature[64] = {1};
    struct buf key;
    size_t count = 2;
    (void)state;
    keys[1][0] = 1;
    for (size_t i = 0; i < sizeof lows; i++, count++) {
        memset(keys[count], 0xff, 32);
        keys[count][0] = lows[i];
        keys[count][31] = 0x7f;
    }
    buf_init(&key, 32);
    for (size_t i = 0; i < 2; i++, count++) {
        buf_reset(&key);
        assert_int_equal(text_get_hex(order_8[i], &key), ERR_OK);
        memcpy(keys[count], key.data, 32);
    }
    buf_clear(&key);
    for (size_t i = 0; i < 2 * count; i++) {
        uint8_t one[32];
        memcpy(one, keys[i / 2], sizeof one);
        one[31] = (uint8_t)(one[31] | (i % 2 ? 0x80 : 0));
        assert_false(statement_is_key(bytes_of(one, sizeof one)));
        for (uint8_t message = 0; message < 64; message++)
            assert_int_equal(statement_check(bytes_of(one, sizeof one), bytes_of(&message, 1),
                                             bytes_of(signature, sizeof signature), NULL),
                             ERR_DENIED);
    }
    assert_false(statement_is_key(bytes_of(filler, 31)));
    assert_false(statement_is_key(bytes_of(filler, 33)));
    assert_true(statement_is_key(bytes_of(filler, 32)));
}

static void test_altered(void **state)
{
    struct officer_key key = {0};
    struct officer_key other = {0};
    struct detail detail = {0};
    struct buf text;
    uint8_t signature[STATEMENT_SIGNATURE_SIZE];
    (void)state;
    buf_init(&text, STATEMENT_SIZE_MAX);
    assert_int_equal(officer_key_generate(&key, &detail), ERR_OK);
    assert_int_equal(officer_key_generate(&other, &detail), ERR_OK);
    assert_int_equal(statement_put(&base, &text), ERR_OK);
    assert_int_equal(officer_key_sign(&key, buf_bytes(&text), signature, &detail), ERR_OK);
    const struct bytes public = bytes_of(key.public_signing, 32);
    const struct bytes signed_by = bytes_of(signature, sizeof signature);
    assert_int_equal(statement_check(public, buf_bytes(&text), signed_by, &detail), ERR_OK);
    assert_int_equal(
        statement_check(bytes_of(other.public_signing, 32), buf_bytes(&text), signed_by, &detail),
        ERR_DENIED);
    for (size_t i = 0; i < text.len; i++) {
        text.data[i] ^= 1;
        assert_int_equal(statement_check(public, buf_bytes(&text), signed_by, &detail), ERR_DENIED);
        text.data[i] ^= 1;
    }
    for (size_t i = 0; i < sizeof signature; i++) {
        signature[i] ^= 0x10;
        assert_int_equal(statement_check(public, buf_bytes(&text), signed_by, &detail), ERR_DENIED);
        signature[i] ^= 0x10;
    }
    assert_int_equal(statement_check(public, buf_bytes(&text), bytes_of(signature, 63), &detail),
                     ERR_DENIED);
    assert_int_equal(statement_check(public, bytes_of(text.data, text.len - 1), signed_by, &detail),
                     ERR_DENIED);
    buf_clear(&text);
    officer_key_clear(&key);
    officer_key_clear(&other);
}

// Each field that changes gives another digest; each that is out of bounds gives none.
static void test_fields(void **state)
{
    uint8_t digest[STATEMENT_DIGEST_SIZE];
    uint8_t changed[STATEMENT_DIGEST_SIZE];
    struct statement good[6] = {base, base, base, base, base, base};
    struct statement bad[8] = {base, base, base, base, base, base, base, base};
    (void)state;
    good[0].instance.data++;
    good[1].nonce.data++;
    good[2].proposer = BYTES_LITERAL("alicf");
    good[3].replaces = 1;
    good[4].lapse++;
    good[5].act = BYTES_LITERAL("\x93\x01\x09\xa1k");
    bad[0].instance.len--;
    bad[1].nonce.len++;
    bad[2].proposer.len = 0;
    bad[3].proposer = BYTES_LITERAL("a b");
    bad[4].lapse = 0;
    bad[5].lapse = STATEMENT_TIME_MAX + 1ULL;
    bad[6].act.len = 0;
    bad[7].act.len = ACT_SIZE_MAX + 1;
    assert_int_equal(statement_digest(&base, digest), ERR_OK);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(statement_digest(&good[i], changed), ERR_OK);
        assert_memory_not_equal(digest, changed, sizeof digest);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(statement_digest(&bad[i], changed), ERR_PERM);
}

static void test_verdicts(void **state)
{
    const struct bytes instance = {filler, STATEMENT_INSTANCE_SIZE};
    const struct bytes digest = {filler, STATEMENT_DIGEST_SIZE};
    const struct bytes other = {filler + 1, STATEMENT_DIGEST_SIZE};
    struct buf texts[4];
    (void)state;
    for (size_t i = 0; i < 4; i++)
        buf_init(&texts[i], 256);
    assert_int_equal(statement_put_verdict(true, instance, 7, digest, &texts[0]), ERR_OK);
    assert_int_equal(statement_put_verdict(false, instance, 7, digest, &texts[1]), ERR_OK);
    assert_int_equal(statement_put_verdict(true, instance, 8, digest, &texts[2]), ERR_OK);
    assert_int_equal(statement_put_verdict(true, instance, 7, other, &texts[3]), ERR_OK);
    for (size_t i = 0; i < 4; i++) {
        for (size_t j = i + 1; j < 4; j++)
            assert_false(bytes_equal(buf_bytes(&texts[i]), buf_bytes(&texts[j])));
    }
    assert_int_equal(statement_put_verdict(true, instance, 0, digest, &texts[0]), ERR_PERM);
    assert_int_equal(statement_put_verdict(true, digest, 7, digest, &texts[0]), ERR_PERM);
    assert_int_equal(statement_put_verdict(true, instance, 7, instance, &texts[0]), ERR_PERM);
    for (size_t i = 0; i < 4; i++)
        buf_clear(&texts[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),  cmocka_unit_test(test_small_order),
        cmocka_unit_test(test_altered),  cmocka_unit_test(test_fields),
        cmocka_unit_test(test_verdicts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
