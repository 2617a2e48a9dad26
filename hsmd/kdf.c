// SPDX-License-Identifier: Apache-2.0
#include "hsmd/kdf.h"

#include <string.h>

#include <openssl/evp.h>

// block = hash(z || counter || info)
static bool hash_block(EVP_MD_CTX *ctx, const EVP_MD *md, struct bytes z, uint32_t counter,
                       struct bytes info, uint8_t *block)
{
    uint8_t big_endian[4] = {(uint8_t)(counter >> 24), (uint8_t)(counter >> 16),
                             (uint8_t)(counter >> 8), (uint8_t)counter};
    return EVP_DigestInit_ex(ctx, md, NULL) && EVP_DigestUpdate(ctx, z.data, z.len) &&
           EVP_DigestUpdate(ctx, big_endian, sizeof big_endian) &&
           EVP_DigestUpdate(ctx, info.data, info.len) && EVP_DigestFinal_ex(ctx, block, NULL);
}

enum err kdf_x963(enum hash hash, struct bytes z, struct bytes info, size_t length,
                  struct secret *out)
{
    uint8_t block[HASH_SIZE_MAX];
    size_t size = hash_size(hash);
    enum err err = ERR_OK;
    if (size == 0 || length == 0 || length > out->room)
        return ERR_PERM;
    EVP_MD *md = EVP_MD_fetch(NULL, hash_name(hash), NULL);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    secret_wipe(out);
    for (uint32_t counter = 1; out->len < length; counter++) {
        size_t wanted = length - out->len < size ? length - out->len : size;
        if (!md || !ctx || !hash_block(ctx, md, z, counter, info, block)) {
            secret_wipe(out);
            err = ERR_TEMP;
            break;
        }
        memcpy(out->data + out->len, block, wanted);
        out->len += wanted;
    }
    explicit_bzero(block, sizeof block);
    EVP_MD_CTX_free(ctx); // wipes its state
    EVP_MD_free(md);
    return err;
}
