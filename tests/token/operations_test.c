// SPDX-License-Identifier: Apache-2.0
// Every operation of a token, against OpenSSL's idea of it.
#include "tests/token/fixture.h"

#include <stdio.h>
#include <string.h>

#include <openssl/ec.h>
#include <openssl/rand.h>
#include <openssl/x509.h>

static const enum hash hashes[] = {HASH_SHA1, HASH_SHA224, HASH_SHA256, HASH_SHA384, HASH_SHA512};
#define HASHES (sizeof hashes / sizeof *hashes)

static void check_signature(const char *label, enum token_scheme scheme, enum hash hash,
                            unsigned salt)
{
    struct detail detail = {0};
    uint8_t digest[HASH_SIZE_MAX], signature[TOKEN_SIGNATURE_MAX];
    size_t len = 0;
    struct token_key *key = fixture_key(label);
    EVP_PKEY *pkey = softhsm_public_key(&fixture.hsm, label);
    struct bytes data = BYTES_LITERAL("the signed attributes");
    assert_ok(hash_digest(hash, data, digest), &detail);
    struct bytes input = bytes_of(digest, hash_size(hash));
    assert_ok(token_sign(fixture.session, key, scheme, hash, salt, input, signature, &len, &detail),
              &detail);
    if (!fixture_verify(pkey, scheme, hash, salt, input, bytes_of(signature, len)))
        fail_msg("%s with %s: wrong signature", label, hash_name(hash));
    digest[0] ^= 1;
    if (fixture_verify(pkey, scheme, hash, salt, input, bytes_of(signature, len)))
        fail_msg("%s with %s: signature of anything", label, hash_name(hash));
    EVP_PKEY_free(pkey);
    token_key_close(key);
}

static void signs_pkcs1(void **state)
{
    (void)state;
    for (size_t i = 0; i < HASHES; i++) {
        check_signature("rsa2048", TOKEN_RSA_PKCS1, hashes[i], 0);
        check_signature("rsa3072", TOKEN_RSA_PKCS1, hashes[i], 0);
    }
}

static void signs_pss(void **state)
{
    (void)state;
    for (size_t i = 0; i < HASHES; i++) {
        check_signature("rsa2048", TOKEN_RSA_PSS, hashes[i], (unsigned)hash_size(hashes[i]));
        check_signature("rsa3072", TOKEN_RSA_PSS, hashes[i], 0);
    }
    check_signature("rsa2048", TOKEN_RSA_PSS, HASH_SHA256, 20);
}

static void signs_ecdsa(void **state)
{
    (void)state;
    static const char *const keys[] = {"p256", "p384", "p521"};
    for (size_t i = 0; i < HASHES; i++) {
        for (size_t k = 0; k < 3; k++)
            check_signature(keys[k], TOKEN_ECDSA, hashes[i], 0);
    }
}

static void refuses_to_sign(void **state)
{
    (void)state;
    uint8_t digest[64] = {0}, out[TOKEN_SIGNATURE_MAX];
    size_t len = 0;
    struct token_key *rsa = fixture_key("rsa2048"), *ec = fixture_key("p256");
    struct token_key *decrypts = fixture_key("decrypt-only");
    const struct {
        const char *name;
        struct token_key *key;
        enum token_scheme scheme;
        enum hash hash;
        unsigned salt;
        size_t len;
    } cases[] = {
        {"ECDSA with an RSA key", rsa, TOKEN_ECDSA, HASH_SHA256, 0, 32},
        {"PKCS#1 with an EC key", ec, TOKEN_RSA_PKCS1, HASH_SHA256, 0, 32},
        {"short digest", rsa, TOKEN_RSA_PKCS1, HASH_SHA256, 0, 31},
        {"long digest", ec, TOKEN_ECDSA, HASH_SHA256, 0, 33},
        {"no hash", rsa, TOKEN_RSA_PKCS1, HASH_NONE, 0, 32},
        {"no such hash", rsa, TOKEN_RSA_PKCS1, (enum hash)77, 0, 32},
        {"no such scheme", rsa, (enum token_scheme)9, HASH_SHA256, 0, 32},
        {"salt beyond the modulus", rsa, TOKEN_RSA_PSS, HASH_SHA512, 191, 64},
        {"key not for signing", decrypts, TOKEN_RSA_PKCS1, HASH_SHA256, 0, 32},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum err err = token_sign(fixture.session, cases[i].key, cases[i].scheme, cases[i].hash,
                                  cases[i].salt, bytes_of(digest, cases[i].len), out, &len, NULL);
        if (err != ERR_PERM)
            fail_msg("%s: %s", cases[i].name, err_name(err));
    }
    assert_int_equal(len, 0);
    token_key_close(rsa);
    token_key_close(ec);
    token_key_close(decrypts);
}

static void unwraps(void **state)
{
    (void)state;
    static const struct {
        const char *name, *key;
        enum hash hash, mgf_hash;
        const char *label;
        size_t length; // of the message
        size_t expected;
    } cases[] = {
        {"v1.5, AES-256 key", "rsa2048", HASH_NONE, HASH_NONE, "", 32, 32},
        {"v1.5, length not known", "rsa2048", HASH_NONE, HASH_NONE, "", 16, 0},
        {"v1.5, longest", "rsa2048", HASH_NONE, HASH_NONE, "", 245, 0},
        {"v1.5, empty", "rsa2048", HASH_NONE, HASH_NONE, "", 0, 0},
        {"v1.5, larger key", "rsa3072", HASH_NONE, HASH_NONE, "", 24, 24},
        {"OAEP, SHA-1", "rsa2048", HASH_SHA1, HASH_SHA1, "", 32, 0},
        {"OAEP, SHA-224", "rsa2048", HASH_SHA224, HASH_SHA224, "", 32, 0},
        {"OAEP, SHA-256", "rsa2048", HASH_SHA256, HASH_SHA256, "", 32, 0},
        {"OAEP, SHA-384", "rsa2048", HASH_SHA384, HASH_SHA384, "", 32, 0},
        {"OAEP, SHA-512", "rsa2048", HASH_SHA512, HASH_SHA512, "", 32, 0},
        {"OAEP, SHA-256 with MGF1-SHA-1", "rsa2048", HASH_SHA256, HASH_SHA1, "", 32, 0},
        {"OAEP, SHA-1 with MGF1-SHA-512", "rsa3072", HASH_SHA1, HASH_SHA512, "", 16, 0},
        {"OAEP, label", "rsa2048", HASH_SHA256, HASH_SHA256, "label of the sender", 32, 0},
        {"OAEP, longest", "rsa2048", HASH_SHA256, HASH_SHA256, "", 190, 0},
        {"OAEP, empty", "rsa2048", HASH_SHA256, HASH_SHA256, "", 0, 0},
    };
    uint8_t message[256], wrapped[512];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct detail detail = {0};
        struct token_key *key = fixture_key(cases[i].key);
        EVP_PKEY *pkey = softhsm_public_key(&fixture.hsm, cases[i].key);
        struct token_padding padding = {.oaep = cases[i].hash != HASH_NONE,
                                        .hash = cases[i].hash,
                                        .mgf_hash = cases[i].mgf_hash,
                                        .label = bytes_of_text(cases[i].label),
                                        .length = cases[i].expected};
        RAND_bytes(message, sizeof message);
        size_t len = fixture_encrypt(pkey, cases[i].hash, cases[i].mgf_hash, padding.label,
                                     bytes_of(message, cases[i].length), wrapped, sizeof wrapped);
        enum err err = token_unwrap(fixture.session, key, &padding, bytes_of(wrapped, len),
                                    &fixture.out, &detail);
        if (err || fixture.out.len != cases[i].length ||
            memcmp(fixture.out.data, message, cases[i].length) != 0)
            fail_msg("%s: %s: %zu bytes: %s", cases[i].name, err_name(err), fixture.out.len,
                     detail.text);
        EVP_PKEY_free(pkey);
        token_key_close(key);
    }
}

// Blocks that are wrong in all the ways v1.5 knows.
static const struct {
    const char *name;
    size_t at;
    uint8_t value;
    size_t second_at; // another change, if not 0
    uint8_t second;
    size_t expected;
} bad_blocks[] = {
    {"first byte", 0, 1, 0, 0, 0},
    {"block type 1", 1, 1, 0, 0, 0},
    {"zero in the first eight", 9, 0, 0, 0, 0},
    {"no zero at all", 255 - 32, 7, 0, 0, 0},
    {"shorter than expected", 240, 0, 223, 7, 32},
    {"longer than expected", 10, 0, 0, 0, 32},
    {"type 0", 1, 0, 0, 0, 32},
    {"two things", 0, 9, 1, 9, 16},
};

static void invents_instead_of_failing(void **state)
{
    (void)state;
    uint8_t block[256], wrapped[256], first[256];
    struct detail detail = {0};
    struct token_key *key = fixture_key("rsa2048");
    EVP_PKEY *pkey = softhsm_public_key(&fixture.hsm, "rsa2048");
    for (size_t i = 0; i < sizeof bad_blocks / sizeof *bad_blocks; i++) {
        memset(block, 0xaa, sizeof block);
        block[0] = 0;
        block[1] = 2;
        block[255 - 32] = 0;
        block[bad_blocks[i].at] = bad_blocks[i].value;
        if (bad_blocks[i].second_at)
            block[bad_blocks[i].second_at] = bad_blocks[i].second;
        struct token_padding padding = {.length = bad_blocks[i].expected};
        size_t len = fixture_encrypt_raw(pkey, block, wrapped, sizeof wrapped);
        if (block[0] != 0)
            wrapped[0] &= 0x3f; // any ciphertext will do, as long as it is below the modulus
        assert_ok(token_unwrap(fixture.session, key, &padding, bytes_of(wrapped, len), &fixture.out,
                               &detail),
                  &detail);
        size_t got = fixture.out.len;
        memcpy(first, fixture.out.data, got);
        if ((bad_blocks[i].expected && got != bad_blocks[i].expected) || got > 245)
            fail_msg("%s: %zu bytes", bad_blocks[i].name, got);
        if (got >= 16 && memcmp(first, block + 256 - got, got) == 0)
            fail_msg("%s: accepted", bad_blocks[i].name);
        // The same again, with the key opened anew.
        token_key_close(key);
        key = fixture_key("rsa2048");
        assert_ok(token_unwrap(fixture.session, key, &padding, bytes_of(wrapped, len), &fixture.out,
                               &detail),
                  &detail);
        if (fixture.out.len != got || memcmp(first, fixture.out.data, got) != 0)
            fail_msg("%s: another message the second time", bad_blocks[i].name);
    }
    EVP_PKEY_free(pkey);
    token_key_close(key);
}

static void refuses_to_unwrap(void **state)
{
    (void)state;
    uint8_t wrapped[257] = {0}, high[256];
    struct token_key *rsa = fixture_key("rsa2048"), *ec = fixture_key("p256");
    struct token_key *signs = fixture_key("sign-only");
    struct token_padding v15 = {0}, too_long = {.length = 246};
    struct token_padding oaep = {.oaep = true, .hash = HASH_SHA256, .mgf_hash = HASH_SHA256};
    struct token_padding no_hash = {.oaep = true};
    EVP_PKEY *pkey = softhsm_public_key(&fixture.hsm, "rsa2048");
    memset(high, 0xff, sizeof high);
    struct token_key *of[] = {rsa, rsa, rsa, rsa, rsa, rsa, ec, signs};
    const struct {
        const char *name;
        const struct token_padding *padding;
        struct bytes ciphertext;
    } cases[] = {
        {"short", &v15, bytes_of(wrapped, 255)},
        {"long", &v15, bytes_of(wrapped, 257)},
        {"empty", &v15, bytes_of(wrapped, 0)},
        {"not below the modulus", &v15, bytes_of(high, 256)},
        {"no hash", &no_hash, bytes_of(wrapped, 256)},
        {"expects more than fits", &too_long, bytes_of(wrapped, 256)},
        {"EC key", &v15, bytes_of(wrapped, 256)},
        {"key for signing", &v15, bytes_of(wrapped, 256)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum err err = token_unwrap(fixture.session, of[i], cases[i].padding, cases[i].ciphertext,
                                    &fixture.out, NULL);
        if (err != ERR_PERM)
            fail_msg("%s: %s", cases[i].name, err_name(err));
    }
    // OAEP: one answer, whatever is wrong.
    struct token_padding labelled = oaep, other_hash = oaep, other_mgf = oaep;
    labelled.label = BYTES_LITERAL("label");
    other_hash.hash = HASH_SHA1;
    other_mgf.mgf_hash = HASH_SHA1;
    const struct token_padding *wrong[] = {&labelled, &other_hash, &other_mgf};
    size_t len = fixture_encrypt(pkey, HASH_SHA256, HASH_SHA256, bytes_of(NULL, 0),
                                 BYTES_LITERAL("0123456789abcdef"), wrapped, 256);
    struct detail first = {0};
    for (size_t i = 0; i < 3; i++) {
        struct detail detail = {0};
        assert_err(token_unwrap(fixture.session, rsa, wrong[i], bytes_of(wrapped, len),
                                &fixture.out, &detail),
                   ERR_PERM);
        assert_int_equal(fixture.out.len, 0);
        if (i == 0)
            first = detail;
        assert_string_equal(detail.text, first.text);
    }
    EVP_PKEY_free(pkey);
    token_key_close(rsa);
    token_key_close(ec);
    token_key_close(signs);
}

static void check_agreement(struct token_key *key, EVP_PKEY *ours, EVP_PKEY *peer, bool cofactor)
{
    struct detail detail = {0};
    uint8_t point[200], expected[100];
    size_t point_len = fixture_point(peer, point, sizeof point);
    size_t len = fixture_derive(peer, ours, expected, sizeof expected);
    assert_ok(token_agree(fixture.session, key, bytes_of(point, point_len), cofactor, &fixture.out,
                          &detail),
              &detail);
    assert_int_equal(fixture.out.len, len);
    assert_memory_equal(fixture.out.data, expected, len);
}

// A peer whose shared secret with ours starts with a zero byte, which tokens like to lose.
static EVP_PKEY *peer_with_leading_zero(EVP_PKEY *ours, const char *curve)
{
    for (;;) {
        uint8_t z[100];
        EVP_PKEY *peer = EVP_EC_gen(curve);
        fixture_derive(peer, ours, z, sizeof z);
        if (z[0] == 0)
            return peer;
        EVP_PKEY_free(peer);
    }
}

static void agrees(void **state)
{
    (void)state;
    static const struct {
        const char *key, *curve;
    } cases[] = {{"p256", "P-256"}, {"p384", "P-384"}, {"p521", "P-521"}};
    for (size_t i = 0; i < 3; i++) {
        struct token_key *key = fixture_key(cases[i].key);
        EVP_PKEY *ours = softhsm_public_key(&fixture.hsm, cases[i].key);
        for (int round = 0; round < 10; round++) {
            EVP_PKEY *peer = EVP_EC_gen(cases[i].curve);
            check_agreement(key, ours, peer, round & 1);
            EVP_PKEY_free(peer);
        }
        EVP_PKEY *peer = peer_with_leading_zero(ours, cases[i].curve);
        check_agreement(key, ours, peer, false);
        EVP_PKEY_free(peer);
        EVP_PKEY_free(ours);
        token_key_close(key);
    }
}

static void refuses_to_agree(void **state)
{
    (void)state;
    uint8_t good[65], off_curve[65], other[200], compressed[33] = {2}, infinity[1] = {0};
    struct token_key *ec = fixture_key("p256"), *rsa = fixture_key("rsa2048");
    struct token_key *signs = fixture_key("ec-sign-only");
    EVP_PKEY *peer = EVP_EC_gen("P-256"), *p384 = EVP_EC_gen("P-384");
    fixture_point(peer, good, sizeof good);
    memcpy(off_curve, good, sizeof good);
    off_curve[64] ^= 1;
    memcpy(compressed + 1, good + 1, 32);
    size_t other_len = fixture_point(p384, other, sizeof other);
    const struct {
        const char *name;
        struct token_key *key;
        struct bytes point;
    } cases[] = {
        {"not on the curve", ec, bytes_of(off_curve, 65)},
        {"of another curve", ec, bytes_of(other, other_len)},
        {"compressed", ec, bytes_of(compressed, 33)},
        {"infinity", ec, bytes_of(infinity, 1)},
        {"empty", ec, bytes_of(NULL, 0)},
        {"cut", ec, bytes_of(good, 64)},
        {"RSA key", rsa, bytes_of(good, 65)},
        {"key for signing", signs, bytes_of(good, 65)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum err err =
            token_agree(fixture.session, cases[i].key, cases[i].point, false, &fixture.out, NULL);
        if (err != ERR_PERM)
            fail_msg("%s: %s", cases[i].name, err_name(err));
    }
    EVP_PKEY_free(peer);
    EVP_PKEY_free(p384);
    token_key_close(ec);
    token_key_close(rsa);
    token_key_close(signs);
}

static int begin(void **state)
{
    (void)state;
    static const struct softhsm_key limited[] = {
        {.label = "sign-only", .id = 11, .kind = "RSA-2048", .flags = SOFTHSM_SIGN_ONLY},
        {.label = "decrypt-only", .id = 12, .kind = "RSA-2048", .flags = SOFTHSM_DECRYPT_ONLY},
        {.label = "ec-sign-only", .id = 13, .kind = "P-256", .flags = SOFTHSM_SIGN_ONLY},
        {0},
    };
    fixture_begin_with(SOFTHSM_ALL, limited, softhsm_module(), 2);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signs_pkcs1),       cmocka_unit_test(signs_pss),
        cmocka_unit_test(signs_ecdsa),       cmocka_unit_test(refuses_to_sign),
        cmocka_unit_test(unwraps),           cmocka_unit_test(invents_instead_of_failing),
        cmocka_unit_test(refuses_to_unwrap), cmocka_unit_test(agrees),
        cmocka_unit_test(refuses_to_agree),
    };
    return cmocka_run_group_tests(tests, begin, fixture_end);
}
