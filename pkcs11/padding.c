// SPDX-License-Identifier: Apache-2.0
// Whoever learns whether an RSA plaintext was well padded can decrypt with a million questions
// (Bleichenbacher 1998; Manger 2001 for OAEP). So v1.5 has no failure here: a bad block turns into
// a message that only the holder of the key can tell from a real one, and the same ciphertext
// always turns into the same message (draft-irtf-cfrg-rsa-guidance, "implicit rejection"). Both
// messages are always computed, and the choice is made with masks.
#include "pkcs11/padding.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "pkcs11/ct.h"

enum {
    PKCS1_OVERHEAD = 11, // 00 02, eight bytes of padding at least, 00
    LENGTH_CANDIDATES = 128,
};

// NULL: out of memory.
static EVP_MAC_CTX *hmac_new(const uint8_t key[PADDING_SEED_SIZE])
{
    char digest[] = "SHA256";
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac);
    EVP_MAC_free(mac);
    if (ctx && EVP_MAC_init(ctx, key, PADDING_SEED_SIZE, params) == 1)
        return ctx;
    EVP_MAC_CTX_free(ctx);
    return NULL;
}

// One of several with the same key. ctx: NULL is ERR_TEMP.
static enum err hmac(EVP_MAC_CTX *ctx, struct bytes data, uint8_t out[PADDING_SEED_SIZE])
{
    size_t len = 0;
    bool ok = ctx && EVP_MAC_init(ctx, NULL, 0, NULL) == 1 &&
              EVP_MAC_update(ctx, data.data, data.len) == 1 &&
              EVP_MAC_final(ctx, out, &len, PADDING_SEED_SIZE) == 1;
    return ok ? ERR_OK : ERR_TEMP;
}

enum err padding_seed(const uint8_t key_secret[PADDING_SEED_SIZE], struct bytes ciphertext,
                      uint8_t seed[PADDING_SEED_SIZE])
{
    EVP_MAC_CTX *ctx = hmac_new(key_secret);
    enum err err = hmac(ctx, ciphertext, seed);
    EVP_MAC_CTX_free(ctx);
    return err;
}

// The draft's IRPRF: blocks HMAC(seed, counter || label || bits wanted), one after the other.
static enum err synthesize(const uint8_t seed[PADDING_SEED_SIZE], struct bytes label, uint8_t *out,
                           size_t len)
{
    uint8_t input[16], block[PADDING_SEED_SIZE];
    size_t bits = len * 8;
    memcpy(input + 2, label.data, label.len);
    input[2 + label.len] = (uint8_t)(bits >> 8);
    input[3 + label.len] = (uint8_t)bits;
    EVP_MAC_CTX *ctx = hmac_new(seed);
    enum err err = ERR_OK;
    for (size_t at = 0, counter = 0; at < len && !err; at += sizeof block, counter++) {
        input[0] = (uint8_t)(counter >> 8);
        input[1] = (uint8_t)counter;
        err = hmac(ctx, bytes_of(input, label.len + 4), block);
        memcpy(out + at, block, len - at < sizeof block ? len - at : sizeof block);
    }
    EVP_MAC_CTX_free(ctx);
    explicit_bzero(block, sizeof block);
    return err;
}

// The length of a synthetic message: the last of the candidates that a block can hold.
static enum err synthesize_length(const uint8_t seed[PADDING_SEED_SIZE], size_t max,
                                  uint64_t *length)
{
    uint8_t candidates[2 * LENGTH_CANDIDATES];
    enum err err = synthesize(seed, BYTES_LITERAL("length"), candidates, sizeof candidates);
    if (err)
        return err;
    uint64_t bits = max;
    for (unsigned i = 1; i < 16; i <<= 1)
        bits |= bits >> i;
    uint64_t chosen = 0;
    for (size_t i = 0; i < LENGTH_CANDIDATES; i++) {
        uint64_t one = ((uint64_t)candidates[2 * i] << 8 | candidates[2 * i + 1]) & bits;
        chosen = ct_select(ct_is_less(max, one), chosen, one);
    }
    explicit_bzero(candidates, sizeof candidates);
    *length = chosen;
    return ERR_OK;
}

// Is the block well padded, and how long is its message?
static ct_mask pkcs1_parse(struct bytes block, uint64_t *length)
{
    ct_mask good = ct_is_zero(block.data[0]) & ct_is_equal(block.data[1], 2);
    ct_mask found = 0;
    uint64_t zero_at = 0;
    for (size_t i = 2; i < block.len; i++) {
        ct_mask zero = ct_is_zero(block.data[i]);
        zero_at = ct_select(zero & ~found, i, zero_at);
        found |= zero;
    }
    good &= found & ~ct_is_less(zero_at, PKCS1_OVERHEAD - 1);
    *length = block.len - 1 - zero_at;
    return good;
}

enum err padding_remove_pkcs1(struct bytes block, const uint8_t seed[PADDING_SEED_SIZE],
                              size_t length, struct secret *out)
{
    uint8_t synthetic[PADDING_BLOCK_MAX];
    size_t size = block.len;
    if (size < 64 || size > sizeof synthetic || out->room < size)
        return ERR_BUG;
    if (length > size - PKCS1_OVERHEAD)
        return ERR_PERM;
    uint64_t synthetic_len = 0, message_len = 0;
    enum err err = synthesize(seed, BYTES_LITERAL("message"), synthetic, size);
    if (!err)
        err = synthesize_length(seed, size - PKCS1_OVERHEAD, &synthetic_len);
    if (err)
        goto out;
    ct_mask good = pkcs1_parse(block, &message_len);
    if (length > 0) { // the length expected is not a secret
        good &= ct_is_equal(message_len, length);
        synthetic_len = length;
    }
    message_len = ct_select(good, message_len, synthetic_len);
    secret_wipe(out);
    for (size_t i = 0; i < size; i++)
        out->data[i] = (uint8_t)ct_select(good, block.data[i], synthetic[i]);
    ct_shift_left(out->data, size, size - message_len);
    out->len = message_len;
out:
    explicit_bzero(synthetic, sizeof synthetic);
    return err;
}

void padding_rebuild_pkcs1(uint8_t *block, size_t size, size_t len, bool is_bad)
{
    ct_mask bad = 0 - (uint64_t)is_bad;
    bad |= ct_is_less(size - PKCS1_OVERHEAD, len);
    size_t message = ct_select(bad, 0, len);
    ct_shift_right(block, size, size - message);
    for (size_t i = 0; i < size; i++) {
        ct_mask padding = ct_is_less(i + 1, size - message);
        ct_mask separator = ct_is_equal(i + 1, size - message);
        block[i] = (uint8_t)ct_select(padding, 0xff, block[i] & ~separator);
    }
    block[0] = (uint8_t)(bad & 1);
    block[1] = 2;
}

enum err padding_mgf1_xor(enum hash hash, struct bytes seed, uint8_t *data, size_t len)
{
    uint8_t block[HASH_SIZE_MAX], count[4];
    size_t size = hash_size(hash);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    const EVP_MD *md = hash == HASH_NONE ? NULL : EVP_get_digestbyname(hash_name(hash));
    enum err err = !md ? ERR_BUG : ctx ? ERR_OK : ERR_TEMP;
    for (size_t at = 0, counter = 0; at < len && !err; at += size, counter++) {
        for (int i = 0; i < 4; i++)
            count[i] = (uint8_t)(counter >> (24 - 8 * i));
        if (EVP_DigestInit_ex2(ctx, md, NULL) != 1 ||
            EVP_DigestUpdate(ctx, seed.data, seed.len) != 1 ||
            EVP_DigestUpdate(ctx, count, sizeof count) != 1 ||
            EVP_DigestFinal_ex(ctx, block, NULL) != 1)
            err = ERR_TEMP;
        for (size_t i = 0; i < size && at + i < len; i++)
            data[at + i] ^= block[i];
    }
    EVP_MD_CTX_free(ctx);
    explicit_bzero(block, sizeof block);
    return err;
}

// em: 00 || seed || DB, unmasked; DB = lHash || 00... || 01 || message.
static ct_mask oaep_parse(const uint8_t *em, size_t size, const uint8_t *label_hash,
                          size_t hash_len, uint64_t *length)
{
    ct_mask good = ct_is_zero(em[0]);
    for (size_t i = 0; i < hash_len; i++)
        good &= ct_is_equal(em[1 + hash_len + i], label_hash[i]);
    ct_mask found = 0;
    uint64_t one_at = 0;
    for (size_t i = 1 + 2 * hash_len; i < size; i++) {
        ct_mask one = ct_is_equal(em[i], 1);
        ct_mask zero = ct_is_zero(em[i]);
        one_at = ct_select(one & ~found, i, one_at);
        found |= one;
        good &= found | zero;
    }
    good &= found;
    *length = ct_select(good, size - 1 - one_at, 0);
    return good;
}

enum err padding_remove_oaep(struct bytes block, enum hash hash, enum hash mgf_hash,
                             struct bytes label, struct secret *out)
{
    uint8_t label_hash[HASH_SIZE_MAX];
    size_t h = hash_size(hash), size = block.len;
    if (size > PADDING_BLOCK_MAX || out->room < size || h == 0 || hash_size(mgf_hash) == 0)
        return ERR_BUG;
    if (size < 2 * h + 2)
        return ERR_PERM;
    enum err err = hash_digest(hash, label, label_hash);
    if (err)
        return err;
    secret_wipe(out);
    memcpy(out->data, block.data, size);
    uint8_t *seed = out->data + 1, *db = seed + h;
    size_t db_len = size - 1 - h;
    err = padding_mgf1_xor(mgf_hash, bytes_of(db, db_len), seed, h);
    if (!err)
        err = padding_mgf1_xor(mgf_hash, bytes_of(seed, h), db, db_len);
    if (err) {
        secret_wipe(out);
        return err;
    }
    uint64_t length = 0;
    ct_mask good = oaep_parse(out->data, size, label_hash, h, &length);
    ct_shift_left(out->data, size, size - length); // a bad block is shifted out as a whole
    out->len = length;
    return good ? ERR_OK : ERR_PERM;
}
