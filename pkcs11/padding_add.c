// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/padding.h"

#include <string.h>

#include <openssl/rand.h>

#include <openssl/evp.h>

enum err padding_add_pkcs1(struct bytes prefix, struct bytes digest, uint8_t *block, size_t size)
{
    size_t len = prefix.len + digest.len;
    if (size < len + 11)
        return ERR_PERM;
    memset(block, 0xff, size);
    block[0] = 0;
    block[1] = 1;
    uint8_t *message = block + size - len;
    message[-1] = 0;
    memcpy(message, prefix.data, prefix.len);
    memcpy(message + prefix.len, digest.data, digest.len);
    return ERR_OK;
}

// H = hash(eight zeros || digest || salt)
static enum err pss_hash(enum hash hash, struct bytes digest, struct bytes salt, uint8_t *out)
{
    static const uint8_t zeros[8];
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestInit_ex2(ctx, EVP_get_digestbyname(hash_name(hash)), NULL) == 1 &&
              EVP_DigestUpdate(ctx, zeros, sizeof zeros) == 1 &&
              EVP_DigestUpdate(ctx, digest.data, digest.len) == 1 &&
              EVP_DigestUpdate(ctx, salt.data, salt.len) == 1 &&
              EVP_DigestFinal_ex(ctx, out, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    return ok ? ERR_OK : ERR_TEMP;
}

enum err padding_add_pss(enum hash hash, unsigned salt, struct bytes digest, unsigned bits,
                         uint8_t *block)
{
    size_t h = hash_size(hash), size = (bits + 7) / 8;
    if (h == 0 || digest.len != h || size > PADDING_BLOCK_MAX)
        return ERR_BUG;
    // The encoded message has one bit less than the modulus; where that makes it a byte shorter,
    // the block starts with a zero byte.
    size_t em_len = (bits - 1 + 7) / 8;
    unsigned top_bits = (bits - 1) % 8;
    if (salt > em_len || em_len < h + salt + 2)
        return ERR_PERM;
    memset(block, 0, size);
    uint8_t *em = block + (size - em_len);
    size_t db_len = em_len - h - 1;
    uint8_t *salt_at = em + db_len - salt, *hash_at = em + db_len;
    if (salt > 0 && RAND_bytes(salt_at, (int)salt) != 1)
        return ERR_TEMP;
    salt_at[-1] = 1;
    enum err err = pss_hash(hash, digest, bytes_of(salt_at, salt), hash_at);
    if (!err)
        err = padding_mgf1_xor(hash, bytes_of(hash_at, h), em, db_len);
    if (top_bits != 0)
        em[0] &= (uint8_t)(0xff >> (8 - top_bits));
    em[em_len - 1] = 0xbc;
    return err;
}
