// SPDX-License-Identifier: Apache-2.0
#include "tests/support/issue_signer.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "hsmd/key_type.h"

static bool set_up(EVP_PKEY_CTX *ctx, enum token_scheme scheme, enum hash hash, unsigned salt)
{
    const EVP_MD *md = EVP_get_digestbyname(hash_name(hash));
    if (!ctx || EVP_PKEY_sign_init(ctx) != 1 || EVP_PKEY_CTX_set_signature_md(ctx, md) != 1)
        return false;
    if (scheme == TOKEN_ECDSA)
        return true;
    if (scheme == TOKEN_RSA_PKCS1)
        return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1;
    return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) == 1 &&
           EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, (int)salt) == 1;
}

static bool sign_digest(EVP_PKEY *pkey, enum token_scheme scheme, enum hash hash, unsigned salt,
                        struct bytes digest, uint8_t *out, size_t *len)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pkey, NULL);
    bool ok = set_up(ctx, scheme, hash, salt) &&
              EVP_PKEY_sign(ctx, out, len, digest.data, digest.len) == 1;
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static bool sign_message(EVP_PKEY *pkey, struct bytes message, uint8_t *out, size_t *len)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestSignInit(ctx, NULL, NULL, NULL, pkey) == 1 &&
              EVP_DigestSign(ctx, out, len, message.data, message.len) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

// Of Ed25519 the digest is the message; its SHA-512 is what is noted.
static void note(struct issue_signer_key *key, enum token_scheme scheme, struct bytes digest)
{
    key->digest_len = digest.len;
    if (scheme == TOKEN_EDDSA) {
        key->digest_len = hash_size(HASH_SHA512);
        if (hash_digest(HASH_SHA512, digest, key->digest) != ERR_OK)
            abort();
        return;
    }
    memcpy(key->digest, digest.data, digest.len);
}

static enum err sign(void *context, enum token_scheme scheme, enum hash hash, unsigned salt,
                     struct bytes digest, uint8_t *out, size_t *out_len, struct detail *detail)
{
    struct issue_signer_key *key = context;
    uint8_t copy[8192];
    size_t len = TOKEN_SIGNATURE_MAX;
    key->calls++;
    key->salt = salt;
    note(key, scheme, digest);
    if (digest.len > sizeof copy)
        abort();
    memcpy(copy, digest.data, digest.len);
    if (key->fault == ISSUE_SIGNER_TEMP)
        return err_set(detail, ERR_TEMP, "the token is gone");
    if (key->fault == ISSUE_SIGNER_DENIED)
        return err_set(detail, ERR_DENIED, "the token is locked");
    if (key->fault == ISSUE_SIGNER_STALE)
        copy[0] ^= 1;
    struct bytes input = bytes_of(copy, digest.len);
    bool ok = scheme == TOKEN_EDDSA ? hash == HASH_NONE && sign_message(key->pkey, input, out, &len)
                                    : sign_digest(key->pkey, scheme, hash, salt, input, out, &len);
    if (!ok)
        return err_openssl(detail, ERR_PERM, "cannot sign");
    if (key->fault == ISSUE_SIGNER_FLIPPED)
        out[len - 1] ^= 1;
    *out_len = key->fault == ISSUE_SIGNER_EMPTY ? 0 : len;
    return ERR_OK;
}

struct issue_signer issue_signer_init(struct issue_signer_key *key, enum wire_purpose purpose)
{
    uint8_t *at = key->public_key;
    int len = i2d_PUBKEY(key->pkey, NULL);
    if (len <= 0 || (size_t)len > sizeof key->public_key || i2d_PUBKEY(key->pkey, &at) != len)
        abort();
    enum token_key_type type = TOKEN_KEY_RSA;
    if (!key_type_of(key->pkey, &type))
        abort();
    return (struct issue_signer){
        .sign = sign,
        .context = key,
        .public_key = bytes_of(key->public_key, (size_t)len),
        .type = type,
        .purpose = purpose,
    };
}

struct act issue_signer_act(enum act_kind kind)
{
    return (struct act){
        .kind = kind,
        .name = BYTES_LITERAL("signing"),
        .common_name = BYTES_LITERAL("mail.a.example"),
        .organization = BYTES_LITERAL("Example Pflüger GmbH"),
        .unit = BYTES_LITERAL("Mail"),
        .city = BYTES_LITERAL("Köln"),
        .state = BYTES_LITERAL("NRW"),
        .country = BYTES_LITERAL("DE"),
        .domains = BYTES_LITERAL("a.example,*.b.example"),
        .emails = BYTES_LITERAL("alice@a.example,b.o-b@b.example"),
        .hash = HASH_SHA256,
        .days = 90,
    };
}
