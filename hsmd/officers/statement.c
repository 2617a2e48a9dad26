// SPDX-License-Identifier: Apache-2.0
#include "hsmd/officers/statement.h"

#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>

#include "hsmd/base/hash.h"
#include "hsmd/officers/pack.h"

// What is signed begins with what it is, so that nothing signed as one counts as another.
#define TAG_PROPOSAL "sealgate-proposal-1"
#define TAG_APPROVAL "sealgate-approval-1"
#define TAG_REJECTION "sealgate-rejection-1"

static void pack_statement(msgpack_packer *packer, const void *what)
{
    const struct statement *statement = what;
    msgpack_pack_array(packer, 7);
    pack_str(packer, BYTES_LITERAL(TAG_PROPOSAL));
    pack_bin(packer, statement->instance);
    pack_bin(packer, statement->nonce);
    pack_str(packer, statement->proposer);
    pack_uint(packer, statement->replaces);
    pack_uint(packer, statement->lapse);
    pack_bin(packer, statement->act);
}

enum err statement_put(const struct statement *statement, struct buf *out)
{
    if (statement->instance.len != STATEMENT_INSTANCE_SIZE ||
        statement->nonce.len != STATEMENT_NONCE_SIZE ||
        !text_is_name((const char *)statement->proposer.data, statement->proposer.len) ||
        statement->lapse < 1 || statement->lapse > STATEMENT_TIME_MAX || !statement->act.len ||
        statement->act.len > ACT_SIZE_MAX)
        return ERR_PERM;
    return pack_put(pack_statement, statement, STATEMENT_SIZE_MAX, out);
}

enum err statement_digest(const struct statement *statement, uint8_t digest[STATEMENT_DIGEST_SIZE])
{
    struct buf text;
    uint8_t hash[HASH_SIZE_MAX];
    buf_init(&text, STATEMENT_SIZE_MAX);
    enum err err = statement_put(statement, &text);
    if (err == ERR_OK)
        err = hash_digest(HASH_SHA256, buf_bytes(&text), hash);
    if (err == ERR_OK)
        memcpy(digest, hash, STATEMENT_DIGEST_SIZE);
    buf_clear(&text);
    return err;
}

struct verdict {
    struct bytes tag, instance, digest;
    uint64_t number;
};

static void pack_verdict(msgpack_packer *packer, const void *what)
{
    const struct verdict *verdict = what;
    msgpack_pack_array(packer, 4);
    pack_str(packer, verdict->tag);
    pack_bin(packer, verdict->instance);
    pack_uint(packer, verdict->number);
    pack_bin(packer, verdict->digest);
}

enum err statement_put_verdict(bool is_approval, struct bytes instance, uint64_t number,
                               struct bytes digest, struct buf *out)
{
    const struct verdict verdict = {
        .tag = is_approval ? BYTES_LITERAL(TAG_APPROVAL) : BYTES_LITERAL(TAG_REJECTION),
        .instance = instance,
        .digest = digest,
        .number = number,
    };
    if (instance.len != STATEMENT_INSTANCE_SIZE || digest.len != STATEMENT_DIGEST_SIZE || !number)
        return ERR_PERM;
    return pack_put(pack_verdict, &verdict, STATEMENT_SIZE_MAX, out);
}

// Points of small order, by their y, both signs of x and the encodings that are not reduced: for
// such a key anybody can make signatures (RFC 8032, 5.1.7 does not rule them out).
bool statement_is_key(struct bytes public_key)
{
    static const uint8_t small[][STATEMENT_PUBLIC_KEY_SIZE] = {
        {0}, // order 4
        {1}, // 1
        {0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4,
         0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6,
         0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05}, // 8
        {0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b,
         0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39,
         0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a}, // 8
    };
    static const uint8_t prime_low[] = {0xec, 0xed, 0xee}; // p-1: order 2; p, p+1: as 0 and 1
    uint8_t y[STATEMENT_PUBLIC_KEY_SIZE];
    bool is_high = true;
    if (public_key.len != sizeof y)
        return false;
    memcpy(y, public_key.data, sizeof y);
    y[sizeof y - 1] &= 0x7f;
    for (size_t i = 0; i < sizeof small / sizeof *small; i++) {
        if (memcmp(y, small[i], sizeof y) == 0)
            return false;
    }
    for (size_t i = 1; i < sizeof y; i++)
        is_high = is_high && y[i] == (i == sizeof y - 1 ? 0x7f : 0xff);
    return !is_high || !memchr(prime_low, y[0], sizeof prime_low);
}

enum err statement_check(struct bytes public_key, struct bytes message, struct bytes signature,
                         struct detail *detail)
{
    enum err err = ERR_OK;
    EVP_PKEY *key = NULL;
    EVP_MD_CTX *ctx = NULL;
    if (!statement_is_key(public_key) || signature.len != STATEMENT_SIGNATURE_SIZE)
        return err_set(detail, ERR_DENIED, "not an Ed25519 signature and its key");
    key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_key.data, public_key.len);
    ctx = EVP_MD_CTX_new();
    if (!key || !ctx || EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) <= 0)
        err = err_openssl(detail, ERR_TEMP, "cannot verify a signature");
    else if (EVP_DigestVerify(ctx, signature.data, signature.len, message.data, message.len) != 1)
        err = err_set(detail, ERR_DENIED, "the signature is not of this officer's key");
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return err;
}
