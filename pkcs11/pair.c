// SPDX-License-Identifier: Apache-2.0
// Do the halves of a key belong together? An EC key's private object does not say which its public
// one is, and neither is bound to the other by more than a CKA_ID. So the private key is used once,
// on something that nobody else chose, and the result checked with the public one.
#include "pkcs11/internal.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

static enum err mismatch(struct detail *detail)
{
    return err_set(detail, ERR_PERM, "the public key is not that of the private key");
}

static enum err out_of_memory(struct detail *detail)
{
    return err_openssl(detail, ERR_TEMP, "out of memory");
}

static bool verify(EVP_PKEY *pkey, enum token_scheme scheme, struct bytes digest,
                   struct bytes signature)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pkey, NULL);
    bool ok = ctx && EVP_PKEY_verify_init(ctx) == 1;
    if (scheme == TOKEN_RSA_PSS)
        ok = ok && EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) == 1;
    ok = ok && EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()) == 1 &&
         EVP_PKEY_verify(ctx, signature.data, signature.len, digest.data, digest.len) == 1;
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static bool verify_message(EVP_PKEY *pkey, struct bytes message, struct bytes signature)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, pkey) == 1 &&
              EVP_DigestVerify(ctx, signature.data, signature.len, message.data, message.len) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

static enum err by_eddsa(struct token_session *session, struct token_key *key, EVP_PKEY *pkey,
                         struct bytes message, bool *is_proved, struct detail *detail)
{
    uint8_t signature[TOKEN_SIGNATURE_MAX];
    size_t len = 0;
    enum err err =
        token_sign(session, key, TOKEN_EDDSA, HASH_NONE, 0, message, signature, &len, detail);
    if (err)
        return err == ERR_PERM ? ERR_OK : err; // it cannot sign so
    *is_proved = verify_message(pkey, message, bytes_of(signature, len));
    return *is_proved ? ERR_OK : mismatch(detail);
}

static enum err by_signature(struct token_session *session, struct token_key *key, EVP_PKEY *pkey,
                             bool *is_proved, struct detail *detail)
{
    static const enum token_scheme rsa[] = {TOKEN_RSA_PKCS1, TOKEN_RSA_PSS}, ec[] = {TOKEN_ECDSA};
    bool is_rsa = key->info.type == TOKEN_KEY_RSA;
    // A text that cannot be taken for SignedAttributes, which begin with 31.
    struct {
        char text[32];
        uint8_t random[32];
    } message = {.text = "sealgate proves a pair of keys"};
    uint8_t digest[HASH_SIZE_MAX] = {0}, signature[TOKEN_SIGNATURE_MAX];
    struct bytes input = bytes_of(digest, 32);
    if (RAND_bytes(message.random, sizeof message.random) != 1)
        return err_openssl(detail, ERR_TEMP, "no random numbers");
    if (key->info.type == TOKEN_KEY_ED25519)
        return by_eddsa(session, key, pkey, bytes_of(&message, sizeof message), is_proved, detail);
    enum err err = hash_digest(HASH_SHA256, bytes_of(&message, sizeof message), digest);
    if (err)
        return out_of_memory(detail);
    for (size_t i = 0; i < (is_rsa ? 2 : 1); i++) {
        enum token_scheme scheme = is_rsa ? rsa[i] : ec[i];
        size_t len = 0;
        err = token_sign(session, key, scheme, HASH_SHA256, 32, input, signature, &len, detail);
        if (err == ERR_PERM)
            continue;
        if (err)
            return err;
        *is_proved = verify(pkey, scheme, input, bytes_of(signature, len));
        return *is_proved ? ERR_OK : mismatch(detail);
    }
    return ERR_OK; // it cannot sign so
}

static bool encrypt(EVP_PKEY *pkey, int padding, struct bytes message, uint8_t *out, size_t *len)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pkey, NULL);
    bool ok = ctx && EVP_PKEY_encrypt_init(ctx) == 1 &&
              EVP_PKEY_CTX_set_rsa_padding(ctx, padding) == 1 &&
              EVP_PKEY_encrypt(ctx, out, len, message.data, message.len) == 1;
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static enum err by_decryption(struct token_session *session, struct token_key *key, EVP_PKEY *pkey,
                              bool *is_proved, struct detail *detail)
{
    uint8_t message[32], ciphertext[PADDING_BLOCK_MAX];
    struct secret out = {0};
    enum err err = secret_init(&out, key->size, detail);
    if (!err && RAND_bytes(message, sizeof message) != 1)
        err = err_openssl(detail, ERR_TEMP, "no random numbers");
    for (int oaep = 0; !err && oaep < 2 && !*is_proved; oaep++) {
        const struct token_padding padding = {.oaep = oaep,
                                              .hash = HASH_SHA1,
                                              .mgf_hash = HASH_SHA1,
                                              .length = oaep ? 0 : sizeof message};
        size_t len = sizeof ciphertext;
        if (!encrypt(pkey, oaep ? RSA_PKCS1_OAEP_PADDING : RSA_PKCS1_PADDING,
                     bytes_of(message, sizeof message), ciphertext, &len)) {
            err = out_of_memory(detail);
            break;
        }
        err = token_unwrap(session, key, &padding, bytes_of(ciphertext, len), &out, detail);
        if (err == ERR_PERM) {
            err = ERR_OK; // it cannot decrypt so
            continue;
        }
        *is_proved =
            !err && out.len == sizeof message && memcmp(out.data, message, sizeof message) == 0;
        if (!err && !*is_proved)
            err = mismatch(detail);
    }
    secret_clear(&out);
    return err;
}

// The shared secret as we see it.
static bool derive(EVP_PKEY *ours, EVP_PKEY *peer, uint8_t *out, size_t *len)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(ours, NULL);
    bool ok = ctx && EVP_PKEY_derive_init(ctx) == 1 && EVP_PKEY_derive_set_peer(ctx, peer) == 1 &&
              EVP_PKEY_derive(ctx, out, len) == 1;
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static enum err by_agreement(struct token_session *session, struct token_key *key, EVP_PKEY *pkey,
                             bool *is_proved, struct detail *detail)
{
    uint8_t point[1 + 2 * 66], expected[66];
    size_t point_len = 0, len = sizeof expected;
    struct secret z = {0};
    EVP_PKEY *ours = EVP_EC_gen(key->info.curve);
    enum err err = secret_init(&z, key->size, detail);
    if (!err && (!ours ||
                 EVP_PKEY_get_octet_string_param(ours, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point,
                                                 &point_len) != 1 ||
                 !derive(ours, pkey, expected, &len)))
        err = out_of_memory(detail);
    if (!err)
        err = token_agree(session, key, bytes_of(point, point_len), false, &z, detail);
    if (!err) {
        *is_proved = z.len == len && memcmp(z.data, expected, len) == 0;
        if (!*is_proved)
            err = mismatch(detail);
    } else if (err == ERR_PERM) {
        err = ERR_OK; // it cannot agree
    }
    secret_clear(&z);
    explicit_bzero(expected, sizeof expected);
    EVP_PKEY_free(ours);
    return err;
}

enum err pair_check(struct token_session *session, struct token_key *key, bool *is_proved,
                    struct detail *detail)
{
    const unsigned char *at = key->spki;
    EVP_PKEY *pkey = d2i_PUBKEY(NULL, &at, (long)key->info.public_key.len);
    enum err err = ERR_OK;
    *is_proved = false;
    if (!pkey)
        return out_of_memory(detail);
    if (key->info.can_sign)
        err = by_signature(session, key, pkey, is_proved, detail);
    if (!err && !*is_proved && key->info.type == TOKEN_KEY_RSA && key->info.can_decrypt)
        err = by_decryption(session, key, pkey, is_proved, detail);
    if (!err && !*is_proved && key->info.type == TOKEN_KEY_EC && key->info.can_derive)
        err = by_agreement(session, key, pkey, is_proved, detail);
    EVP_PKEY_free(pkey);
    return err;
}

enum err token_check_pair(struct token_session *session, struct token_key *key,
                          struct detail *detail)
{
    bool is_proved = false;
    enum err err = pair_check(session, key, &is_proved, detail);
    if (!err && !is_proved)
        err = err_set(detail, ERR_PERM, "the key cannot be used, so nothing can be proved");
    return err;
}
