// SPDX-License-Identifier: Apache-2.0
#include "tests/support/issue_signer.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/rsa.h>
#include <openssl/x509.h>

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

static enum err sign(void *context, enum token_scheme scheme, enum hash hash, unsigned salt,
                     struct bytes digest, uint8_t *out, size_t *out_len, struct detail *detail)
{
    struct issue_signer_key *key = context;
    uint8_t copy[HASH_SIZE_MAX];
    size_t len = TOKEN_SIGNATURE_MAX;
    key->calls++;
    key->salt = salt;
    key->digest_len = digest.len;
    memcpy(key->digest, digest.data, digest.len);
    memcpy(copy, digest.data, digest.len);
    if (key->fault == ISSUE_SIGNER_TEMP)
        return err_set(detail, ERR_TEMP, "the token is gone");
    if (key->fault == ISSUE_SIGNER_DENIED)
        return err_set(detail, ERR_DENIED, "the token is locked");
    if (key->fault == ISSUE_SIGNER_STALE)
        copy[0] ^= 1;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key->pkey, NULL);
    bool ok =
        set_up(ctx, scheme, hash, salt) && EVP_PKEY_sign(ctx, out, &len, copy, digest.len) == 1;
    EVP_PKEY_CTX_free(ctx);
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
    return (struct issue_signer){
        .sign = sign,
        .context = key,
        .public_key = bytes_of(key->public_key, (size_t)len),
        .type = EVP_PKEY_is_a(key->pkey, "RSA") ? TOKEN_KEY_RSA : TOKEN_KEY_EC,
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
