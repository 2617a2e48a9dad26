// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/padding.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/rsa.h>

#include "hsmd/base/text.h"
#include "pkcs11/ct.h"

static struct secret out;
static const uint8_t seed[PADDING_SEED_SIZE] = {1, 2, 3};

// 00 02, padding, 00, message of len bytes of 0x5c
static struct bytes block_make(uint8_t *block, size_t size, size_t len)
{
    memset(block, 0x33, size);
    block[0] = 0;
    block[1] = 2;
    block[size - len - 1] = 0;
    memset(block + size - len, 0x5c, len);
    return bytes_of(block, size);
}

static bool is_message(size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (out.data[i] != 0x5c)
            return false;
    }
    return out.len == len;
}

static void removes_pkcs1(void **state)
{
    (void)state;
    uint8_t block[256];
    for (size_t size = 64; size <= sizeof block; size += 31) {
        for (size_t len = 0; len <= size - 11; len++) {
            struct bytes good = block_make(block, size, len);
            assert_int_equal(padding_remove_pkcs1(good, seed, 0, &out), ERR_OK);
            assert_true(is_message(len));
            for (size_t i = out.len; i < size; i++) // nothing of the block is left behind
                assert_int_equal(out.data[i], 0);
            if (len == 0)
                continue;
            assert_int_equal(padding_remove_pkcs1(good, seed, len, &out), ERR_OK);
            assert_true(is_message(len));
        }
    }
}

static void rejects_pkcs1_silently(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t at; // byte changed
        uint8_t value;
        size_t len, length; // of the message, expected
    } cases[] = {
        {"first byte", 0, 1, 32, 0},
        {"first byte, high", 0, 0x80, 32, 0},
        {"type 0", 1, 0, 32, 0},
        {"type 1", 1, 1, 32, 0},
        {"type 0x82", 1, 0x82, 32, 0},
        {"zero at 2", 2, 0, 32, 0},
        {"zero at 9", 9, 0, 32, 0},
        {"no zero", 95, 0x33, 32, 0},
        {"one too short", 95, 0, 32, 33},
        {"one too long", 95, 0, 32, 31},
        {"type, length given", 1, 3, 32, 32},
        {"nothing at all", 127, 0, 0, 16},
    };
    uint8_t block[128], first[128];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bytes bad = block_make(block, sizeof block, cases[i].len);
        block[cases[i].at] = cases[i].value;
        assert_int_equal(padding_remove_pkcs1(bad, seed, cases[i].length, &out), ERR_OK);
        size_t len = out.len;
        memcpy(first, out.data, len);
        if (cases[i].length ? len != cases[i].length : len > sizeof block - 11)
            fail_msg("%s: %zu bytes", cases[i].name, len);
        if (len > 0 && is_message(len))
            fail_msg("%s: the message got out", cases[i].name);
        // The same seed gives the same message, whatever else is wrong; another one another.
        block[1] = 77;
        assert_int_equal(padding_remove_pkcs1(bad, seed, cases[i].length, &out), ERR_OK);
        assert_int_equal(out.len, len);
        assert_memory_equal(out.data, first, len);
        uint8_t other[PADDING_SEED_SIZE] = {9};
        assert_int_equal(padding_remove_pkcs1(bad, other, cases[i].length, &out), ERR_OK);
        assert_true(out.len != len || memcmp(out.data, first, len) != 0);
    }
}

// Made by an implementation of draft-irtf-cfrg-rsa-guidance of its own (in Python, and that one
// agrees with OpenSSL 3.2). The seed is SHA-256 of a text; here are length and SHA-256 of the
// message.
static void synthesizes_as_the_draft_says(void **state)
{
    (void)state;
    static const struct {
        const char *seed;
        size_t size, len;
        const char *digest;
    } cases[] = {
        {"vector 64", 64, 8, "809af54b651c5f0fcb7caeb7dbd9bc8cf352ed93da2dcc717104d73aa325dff7"},
        {"vector 96", 96, 9, "2aca1879d3161768d718f081ef54a80579ad95557b9dfa349d0786bf443143e3"},
        {"57", 128, 117, "e77f77d6dcb883545291ca1da75ecfd742f808d4bc867c12fcf4533a11f16f79"},
        {"62", 128, 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"vector 256", 256, 170,
         "53a2a42f97c2b2560ce5174e3e6b973354444a7d1f8bc00c806951bddfb4fadc"},
        {"vector 384", 384, 306,
         "0c6d528bc94ce8cb6a236e0e1f935658a76198dac8c61e8a73af02c0f006eb13"},

    };
    uint8_t block[384] = {0xff}, secret[HASH_SIZE_MAX], digest[HASH_SIZE_MAX];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf expected;
        buf_init(&expected, 64);
        assert_int_equal(text_get_hex(cases[i].digest, &expected), ERR_OK);
        assert_int_equal(hash_digest(HASH_SHA256, bytes_of_text(cases[i].seed), secret), ERR_OK);
        assert_int_equal(padding_remove_pkcs1(bytes_of(block, cases[i].size), secret, 0, &out),
                         ERR_OK);
        assert_int_equal(out.len, cases[i].len);
        assert_int_equal(hash_digest(HASH_SHA256, bytes_of(out.data, out.len), digest), ERR_OK);
        assert_memory_equal(digest, expected.data, 32);
        buf_clear(&expected);
    }
}

static void checks_its_arguments(void **state)
{
    (void)state;
    static uint8_t block[PADDING_BLOCK_MAX + 1];
    assert_int_equal(padding_remove_pkcs1(bytes_of(block, 63), seed, 0, &out), ERR_BUG);
    assert_int_equal(padding_remove_pkcs1(bytes_of(block, sizeof block), seed, 0, &out), ERR_BUG);
    assert_int_equal(padding_remove_pkcs1(bytes_of(block, 128), seed, 118, &out), ERR_PERM);
    assert_int_equal(
        padding_remove_oaep(bytes_of(block, 128), HASH_NONE, HASH_SHA1, bytes_of(NULL, 0), &out),
        ERR_BUG);
    assert_int_equal(
        padding_remove_oaep(bytes_of(block, 129), HASH_SHA512, HASH_SHA1, bytes_of(NULL, 0), &out),
        ERR_PERM);
    struct secret small = {.data = out.data, .room = 127};
    assert_int_equal(padding_remove_pkcs1(bytes_of(block, 128), seed, 0, &small), ERR_BUG);
}

static void rebuilds_what_a_token_unpadded(void **state)
{
    (void)state;
    uint8_t block[128];
    for (size_t len = 0; len <= sizeof block - 11; len++) {
        for (int bad = 0; bad < 2; bad++) {
            memset(block, 0, sizeof block); // the message may well start with zeros
            memset(block, 0x5c, len);
            padding_rebuild_pkcs1(block, sizeof block, len, bad);
            assert_int_equal(
                padding_remove_pkcs1(bytes_of(block, sizeof block), seed, len ? len : 0, &out),
                ERR_OK);
            assert_int_equal(is_message(len), !bad);
        }
    }
    memset(block, 0x5c, sizeof block); // more than there can be
    padding_rebuild_pkcs1(block, sizeof block, sizeof block - 10, false);
    assert_int_equal(block[0], 1);
}

static void shifts(void **state)
{
    (void)state;
    uint8_t data[70], expected[70];
    for (size_t len = 1; len <= sizeof data; len++) {
        for (size_t count = 0; count <= len; count++) {
            for (size_t i = 0; i < len; i++) {
                data[i] = (uint8_t)(i + 1);
                expected[i] = (uint8_t)(i + count < len ? i + count + 1 : 0);
            }
            ct_shift_left(data, len, count);
            assert_memory_equal(data, expected, len);
            for (size_t i = 0; i < len; i++) {
                data[i] = (uint8_t)(i + 1);
                expected[i] = (uint8_t)(i >= count ? i - count + 1 : 0);
            }
            ct_shift_right(data, len, count);
            assert_memory_equal(data, expected, len);
        }
    }
}

static EVP_PKEY *key_make(unsigned bits)
{
    EVP_PKEY *key = EVP_RSA_gen(bits);
    assert_non_null(key);
    return key;
}

// The private operation alone.
static void raw(EVP_PKEY *key, const uint8_t *in, uint8_t *result)
{
    size_t len = (size_t)EVP_PKEY_get_size(key);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
    assert_int_equal(EVP_PKEY_decrypt_init(ctx), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_NO_PADDING), 1);
    assert_int_equal(EVP_PKEY_decrypt(ctx, result, &len, in, len), 1);
    EVP_PKEY_CTX_free(ctx);
}

static void encrypt_oaep(EVP_PKEY *key, enum hash hash, enum hash mgf_hash, struct bytes label,
                         struct bytes message, uint8_t *result)
{
    size_t len = (size_t)EVP_PKEY_get_size(key);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
    assert_int_equal(EVP_PKEY_encrypt_init(ctx), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_get_digestbyname(hash_name(hash))), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, EVP_get_digestbyname(hash_name(mgf_hash))),
                     1);
    if (label.len > 0)
        assert_int_equal(EVP_PKEY_CTX_set0_rsa_oaep_label(
                             ctx, OPENSSL_memdup(label.data, label.len), (int)label.len),
                         1);
    assert_int_equal(EVP_PKEY_encrypt(ctx, result, &len, message.data, message.len), 1);
    EVP_PKEY_CTX_free(ctx);
}

static void removes_oaep(void **state)
{
    (void)state;
    uint8_t wrapped[160], block[160], message[160];
    EVP_PKEY *key = key_make(1280);
    memset(message, 0, sizeof message);
    for (enum hash hash = HASH_SHA1; hash < HASH_COUNT; hash++) {
        for (enum hash mgf = HASH_SHA1; mgf < HASH_COUNT; mgf++) {
            struct bytes label = hash == mgf ? bytes_of(NULL, 0) : BYTES_LITERAL("a label");
            size_t max = 160 - 2 * hash_size(hash) - 2;
            size_t lens[] = {0, 1, 16, max};
            for (size_t i = 0; i < 4; i++) {
                encrypt_oaep(key, hash, mgf, label, bytes_of(message, lens[i]), wrapped);
                raw(key, wrapped, block);
                assert_int_equal(padding_remove_oaep(bytes_of(block, 160), hash, mgf, label, &out),
                                 ERR_OK);
                assert_int_equal(out.len, lens[i]);
                assert_memory_equal(out.data, message, lens[i]);
                for (size_t at = 0; at < 160; at += 7) { // any other block is refused
                    block[at] ^= 0x10;
                    assert_int_equal(
                        padding_remove_oaep(bytes_of(block, 160), hash, mgf, label, &out),
                        ERR_PERM);
                    assert_int_equal(out.len, 0);
                    for (size_t k = 0; k < 160; k++)
                        assert_int_equal(out.data[k], 0);
                    block[at] ^= 0x10;
                }
            }
        }
    }
    EVP_PKEY_free(key);
}

// With the mask left on, only the first byte and the unmasked rest tell; so build blocks whose
// parts are wrong one at a time.
static void rejects_oaep(void **state)
{
    (void)state;
    enum { SIZE = 128, H = 32 };
    static const struct {
        const char *name;
        size_t at;
        uint8_t value;
        enum err expected;
    } cases[] = {
        {"good", SIZE - 5, 1, ERR_OK},
        {"first byte", 0, 1, ERR_PERM},
        {"hash of the label", 1 + H, 0xee, ERR_PERM},
        {"padding byte before the one", 1 + 2 * H + 3, 2, ERR_PERM},
        {"no one at all", SIZE - 5, 0, ERR_PERM},
        {"two instead of one", SIZE - 5, 2, ERR_PERM},
    };
    uint8_t block[SIZE];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        memset(block, 0, sizeof block);
        memset(block + 1, 0x77, H);
        assert_int_equal(hash_digest(HASH_SHA256, bytes_of(NULL, 0), block + 1 + H), ERR_OK);
        block[SIZE - 5] = 1;
        block[cases[i].at] = cases[i].value;
        assert_int_equal(
            padding_mgf1_xor(HASH_SHA1, bytes_of(block + 1, H), block + 1 + H, SIZE - 1 - H),
            ERR_OK);
        assert_int_equal(
            padding_mgf1_xor(HASH_SHA1, bytes_of(block + 1 + H, SIZE - 1 - H), block + 1, H),
            ERR_OK);
        enum err err = padding_remove_oaep(bytes_of(block, SIZE), HASH_SHA256, HASH_SHA1,
                                           bytes_of(NULL, 0), &out);
        if (err != cases[i].expected || (!err && out.len != 4))
            fail_msg("%s: %s, %zu bytes", cases[i].name, err_name(err), out.len);
    }
}

static bool verifies(EVP_PKEY *key, int padding, enum hash hash, unsigned salt, struct bytes digest,
                     const uint8_t *signature)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
    bool ok =
        EVP_PKEY_verify_init(ctx) == 1 && EVP_PKEY_CTX_set_rsa_padding(ctx, padding) == 1 &&
        EVP_PKEY_CTX_set_signature_md(ctx, EVP_get_digestbyname(hash_name(hash))) == 1 &&
        (padding == RSA_PKCS1_PADDING || EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, (int)salt) == 1) &&
        EVP_PKEY_verify(ctx, signature, (size_t)EVP_PKEY_get_size(key), digest.data, digest.len) ==
            1;
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static void adds(void **state)
{
    (void)state;
    // Moduli whose length in bits is around a whole number of bytes.
    static const unsigned bits[] = {1200, 1201, 1202, 1207};
    uint8_t digest[HASH_SIZE_MAX], block[160], signature[160];
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++) {
        EVP_PKEY *key = key_make(bits[i]);
        size_t size = (size_t)EVP_PKEY_get_size(key);
        for (enum hash hash = HASH_SHA1; hash < HASH_COUNT; hash++) {
            assert_int_equal(hash_digest(hash, BYTES_LITERAL("attributes"), digest), ERR_OK);
            struct bytes input = bytes_of(digest, hash_size(hash));
            unsigned salts[] = {0, 20, (unsigned)hash_size(hash)};
            for (size_t s = 0; s < 3; s++) {
                assert_int_equal(padding_add_pss(hash, salts[s], input, bits[i], block), ERR_OK);
                raw(key, block, signature);
                assert_true(verifies(key, RSA_PKCS1_PSS_PADDING, hash, salts[s], input, signature));
            }
            assert_int_equal(padding_add_pkcs1(hash_digest_info_prefix(hash), input, block, size),
                             ERR_OK);
            raw(key, block, signature);
            assert_true(verifies(key, RSA_PKCS1_PADDING, hash, 0, input, signature));
        }
        EVP_PKEY_free(key);
    }
    assert_int_equal(padding_add_pss(HASH_SHA512, 64, bytes_of(digest, 64), 1024, block), ERR_PERM);
    assert_int_equal(padding_add_pss(HASH_SHA512, 62, bytes_of(digest, 64), 1024, block), ERR_OK);
    assert_int_equal(padding_add_pss(HASH_SHA512, 4000000000U, bytes_of(digest, 64), 1024, block),
                     ERR_PERM);
    assert_int_equal(
        padding_add_pkcs1(hash_digest_info_prefix(HASH_SHA512), bytes_of(digest, 64), block, 93),
        ERR_PERM);
}

static int begin(void **state)
{
    (void)state;
    return secret_init(&out, PADDING_BLOCK_MAX, NULL) == ERR_OK ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    secret_clear(&out);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(removes_pkcs1),
        cmocka_unit_test(rejects_pkcs1_silently),
        cmocka_unit_test(synthesizes_as_the_draft_says),
        cmocka_unit_test(checks_its_arguments),
        cmocka_unit_test(rebuilds_what_a_token_unpadded),
        cmocka_unit_test(shifts),
        cmocka_unit_test(removes_oaep),
        cmocka_unit_test(rejects_oaep),
        cmocka_unit_test(adds),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
