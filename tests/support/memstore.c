// SPDX-License-Identifier: Apache-2.0
#include "tests/support/memstore.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/core_names.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "hsmd/key_type.h"
#include "pkcs11/padding.h"

struct keystore_key {
    EVP_PKEY *pkey;
    uint8_t *public_key;
    struct token_key_info info;
    uint8_t seed[PADDING_SEED_SIZE];
    struct bytes raw; // instead of the RSA operation's result; empty: none
    atomic_int broken;
    atomic_uint delay_ms;
    atomic_bool is_held;
};

static atomic_uint used;

static void require(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "memstore: %s\n", what);
    exit(1);
}

static void set_key(struct keystore_key *key, EVP_PKEY *pkey)
{
    require(pkey, "no key");
    int len = i2d_PUBKEY(pkey, &key->public_key);
    require(len > 0, "no public key");
    enum token_key_type type = TOKEN_KEY_RSA;
    require(key_type_of(pkey, &type), "no type of ours");
    key->pkey = pkey;
    key->info = (struct token_key_info){
        .type = type,
        .bits = (unsigned)EVP_PKEY_get_bits(pkey),
        .curve = type == TOKEN_KEY_EC ? "P-256" : NULL,
        .public_key = bytes_of(key->public_key, (size_t)len),
        .sensitive = true,
        .always_sensitive = true,
        .never_extractable = true,
        .can_sign = true,
        .can_decrypt = type == TOKEN_KEY_RSA,
        .can_derive = type == TOKEN_KEY_EC,
    };
}

struct keystore_key *memstore_key_new(EVP_PKEY *pkey)
{
    struct keystore_key *key = calloc(1, sizeof *key);
    require(key, "out of memory");
    set_key(key, pkey);
    memset(key->seed, 0x5e, sizeof key->seed);
    return key;
}

struct keystore_key *memstore_key_generate(const char *kind)
{
    if (strncmp(kind, "RSA-", 4) == 0)
        return memstore_key_new(EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)atoi(kind + 4)));
    if (strcmp(kind, "ED25519") == 0)
        return memstore_key_new(EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"));
    return memstore_key_new(EVP_PKEY_Q_keygen(NULL, NULL, "EC", kind));
}

void memstore_key_free(struct keystore_key *key)
{
    if (!key)
        return;
    EVP_PKEY_free(key->pkey);
    OPENSSL_free(key->public_key);
    free(key);
}

void memstore_key_replace(struct keystore_key *key, EVP_PKEY *pkey)
{
    EVP_PKEY_free(key->pkey);
    OPENSSL_free(key->public_key);
    key->public_key = NULL;
    set_key(key, pkey);
}

void memstore_key_set_raw(struct keystore_key *key, struct bytes block)
{
    key->raw = block;
}

EVP_PKEY *memstore_key_pkey(const struct keystore_key *key)
{
    return key->pkey;
}

void memstore_key_break(struct keystore_key *key, enum err err, unsigned delay_ms)
{
    atomic_store(&key->broken, err);
    atomic_store(&key->delay_ms, delay_ms);
}

void memstore_key_hold(struct keystore_key *key, bool is_held)
{
    atomic_store(&key->is_held, is_held);
}

unsigned memstore_used(void)
{
    return atomic_load(&used);
}

// What every operation begins with.
static enum err enter(struct keystore_key *key, struct detail *detail)
{
    unsigned delay_ms = atomic_load(&key->delay_ms);
    enum err err = (enum err)atomic_load(&key->broken);
    atomic_fetch_add(&used, 1);
    if (delay_ms)
        usleep(delay_ms * 1000);
    while (atomic_load(&key->is_held))
        usleep(1000);
    return err == ERR_OK ? ERR_OK : err_set(detail, err, "broken by the test");
}

// The RSA operation itself; *len: room, then bytes.
static bool raw_decrypt(const struct keystore_key *key, struct bytes ciphertext, uint8_t *block,
                        size_t *len)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key->pkey, NULL);
    bool ok = ctx && EVP_PKEY_decrypt_init(ctx) > 0 &&
              EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_NO_PADDING) > 0 &&
              EVP_PKEY_decrypt(ctx, block, len, ciphertext.data, ciphertext.len) > 0;
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static bool set_scheme(EVP_PKEY_CTX *ctx, enum token_scheme scheme, enum hash hash, unsigned salt)
{
    const EVP_MD *md = EVP_get_digestbyname(hash_name(hash));
    if (scheme == TOKEN_ECDSA)
        return true;
    if (scheme == TOKEN_RSA_PSS)
        return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) > 0 &&
               EVP_PKEY_CTX_set_signature_md(ctx, md) > 0 &&
               EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, (int)salt) > 0;
    return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) > 0 &&
           EVP_PKEY_CTX_set_signature_md(ctx, md) > 0;
}

static bool sign_message(const struct keystore_key *key, struct bytes message, uint8_t *out,
                         size_t *len)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestSignInit(ctx, NULL, NULL, NULL, key->pkey) > 0 &&
              EVP_DigestSign(ctx, out, len, message.data, message.len) > 0;
    EVP_MD_CTX_free(ctx);
    return ok;
}

static bool sign_digest(const struct keystore_key *key, enum token_scheme scheme, enum hash hash,
                        unsigned salt, struct bytes digest, uint8_t *out, size_t *len)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key->pkey, NULL);
    bool ok = ctx && EVP_PKEY_sign_init(ctx) > 0 && set_scheme(ctx, scheme, hash, salt) &&
              EVP_PKEY_sign(ctx, out, len, digest.data, digest.len) > 0;
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static enum err sign(struct keystore_key *key, unsigned token, enum token_scheme scheme,
                     enum hash hash, unsigned salt, struct bytes digest, deadline_t deadline,
                     uint8_t *out, size_t *out_len, struct detail *detail)
{
    (void)token;
    (void)deadline;
    enum err err = enter(key, detail);
    if (err != ERR_OK)
        return err;
    size_t len = TOKEN_SIGNATURE_MAX;
    bool ok = scheme == TOKEN_EDDSA ? hash == HASH_NONE && sign_message(key, digest, out, &len)
                                    : sign_digest(key, scheme, hash, salt, digest, out, &len);
    if (!ok)
        return err_openssl(detail, ERR_PERM, "sign");
    *out_len = len;
    return ERR_OK;
}

static enum err unwrap(struct keystore_key *key, unsigned token,
                       const struct token_padding *padding, struct bytes ciphertext,
                       deadline_t deadline, struct secret *out, struct detail *detail)
{
    (void)token;
    (void)deadline;
    enum err err = enter(key, detail);
    if (err != ERR_OK)
        return err;
    uint8_t block[TOKEN_SIGNATURE_MAX];
    uint8_t seed[PADDING_SEED_SIZE];
    size_t len = sizeof block;
    if (!key->raw.len && !raw_decrypt(key, ciphertext, block, &len))
        return err_openssl(detail, ERR_PERM, "decrypt");
    struct bytes raw = key->raw.len ? key->raw : bytes_of(block, len);
    if (padding->oaep)
        err = padding_remove_oaep(raw, padding->hash, padding->mgf_hash, padding->label, out);
    else if ((err = padding_seed(key->seed, ciphertext, seed)) == ERR_OK)
        err = padding_remove_pkcs1(raw, seed, padding->length, out);
    return err == ERR_OK ? ERR_OK : err_set(detail, err, "cannot be decrypted");
}

static enum err agree(struct keystore_key *key, unsigned token, struct bytes peer, bool cofactor,
                      deadline_t deadline, struct secret *z, struct detail *detail)
{
    (void)token;
    (void)deadline;
    (void)cofactor; // the curves here have cofactor 1
    enum err err = enter(key, detail);
    if (err != ERR_OK)
        return err;
    size_t len = z->room;
    EVP_PKEY *other = EVP_PKEY_new();
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key->pkey, NULL);
    bool ok = other && ctx && EVP_PKEY_copy_parameters(other, key->pkey) > 0 &&
              EVP_PKEY_set1_encoded_public_key(other, peer.data, peer.len) > 0 &&
              EVP_PKEY_derive_init(ctx) > 0 && EVP_PKEY_derive_set_peer(ctx, other) > 0 &&
              EVP_PKEY_derive(ctx, z->data, &len) > 0;
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(other);
    if (!ok)
        return err_openssl(detail, ERR_PERM, "derive");
    z->len = len;
    return ERR_OK;
}

static const struct token_key_info *describe(const struct keystore_key *key)
{
    return &key->info;
}

// As if RSA keys and the others were in a token each.
static unsigned pick(const struct keystore_key *key, const unsigned *outstanding)
{
    (void)outstanding;
    return key->info.type == TOKEN_KEY_RSA ? 0 : 1;
}

const struct keystore_ops memstore_ops = {
    .sign = sign,
    .unwrap = unwrap,
    .agree = agree,
    .describe = describe,
    .pick = pick,
};
