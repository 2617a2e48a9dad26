// SPDX-License-Identifier: Apache-2.0
#include "hsmd/watch/selftest_key.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#define SECRET_SIZE 32
#define PSS_SALT 32
#define AGREE_MAX 66 // bytes of a coordinate of P-521

const char selftest_text[] = "Sealgate: hsmd's self-test. This is no message, and nobody's.\n";

// One test under way.
struct test {
    const struct keystore_ops *keystore;
    const struct registry_key *key;
    const struct token_key_info *info;
    deadline_t deadline;
    struct secret *scratch;
    struct selftest_outcome *outcome;
    EVP_PKEY *public_key;
    struct detail *detail;
};

static bool is_allowed(const struct test *test, enum wire_algorithm algorithm)
{
    return (test->key->algorithms & REGISTRY_SET(algorithm)) != 0;
}

static enum err verify(const struct test *test, struct bytes digest, struct bytes signature)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(test->public_key, NULL);
    bool ok = ctx && EVP_PKEY_verify_init(ctx) > 0 &&
              EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()) > 0;
    if (ok && test->outcome->algorithm == WIRE_RSA_PSS)
        ok = EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) > 0 &&
             EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, PSS_SALT) > 0;
    ok = ok && EVP_PKEY_verify(ctx, signature.data, signature.len, digest.data, digest.len) == 1;
    EVP_PKEY_CTX_free(ctx);
    return ok ? ERR_OK : err_openssl(test->detail, ERR_PERM, "a signature that is wrong");
}

static bool verify_message(const struct test *test, struct bytes message, struct bytes signature)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, test->public_key) > 0 &&
              EVP_DigestVerify(ctx, signature.data, signature.len, message.data, message.len) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

// The text itself; its SHA-512 is for the log.
static enum err test_sign_message(struct test *test)
{
    uint8_t signature[TOKEN_SIGNATURE_MAX];
    size_t len = 0;
    struct bytes message = bytes_of_text(selftest_text);
    test->outcome->operation = WIRE_SIGN;
    test->outcome->algorithm = WIRE_EDDSA;
    test->outcome->hash = HASH_SHA512;
    if (hash_digest(HASH_SHA512, message, test->outcome->digest) != ERR_OK)
        return err_set(test->detail, ERR_TEMP, "cannot hash");
    enum err err = test->keystore->sign(test->key->store, KEYSTORE_ANY, TOKEN_EDDSA, HASH_NONE, 0,
                                        message, test->deadline, signature, &len, test->detail);
    if (err == ERR_OK && !verify_message(test, message, bytes_of(signature, len)))
        err = err_openssl(test->detail, ERR_PERM, "a signature that is wrong");
    explicit_bzero(signature, sizeof signature);
    return err;
}

static enum err test_sign(struct test *test)
{
    uint8_t signature[TOKEN_SIGNATURE_MAX];
    size_t len = 0;
    struct selftest_outcome *outcome = test->outcome;
    enum token_scheme scheme = TOKEN_ECDSA;
    outcome->operation = WIRE_SIGN;
    outcome->algorithm = WIRE_ECDSA;
    outcome->hash = HASH_SHA256;
    if (test->info->type == TOKEN_KEY_RSA) {
        bool is_pss = !is_allowed(test, WIRE_RSA_PKCS1);
        outcome->algorithm = is_pss ? WIRE_RSA_PSS : WIRE_RSA_PKCS1;
        scheme = is_pss ? TOKEN_RSA_PSS : TOKEN_RSA_PKCS1;
    }
    if (hash_digest(HASH_SHA256, bytes_of_text(selftest_text), outcome->digest) != ERR_OK)
        return err_set(test->detail, ERR_TEMP, "cannot hash");
    struct bytes digest = bytes_of(outcome->digest, hash_size(HASH_SHA256));
    enum err err = test->keystore->sign(test->key->store, KEYSTORE_ANY, scheme, HASH_SHA256,
                                        scheme == TOKEN_RSA_PSS ? PSS_SALT : 0, digest,
                                        test->deadline, signature, &len, test->detail);
    if (err == ERR_OK)
        err = verify(test, digest, bytes_of(signature, len));
    explicit_bzero(signature, sizeof signature);
    return err;
}

static bool encrypt(const struct test *test, struct bytes secret, uint8_t *out, size_t *len)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(test->public_key, NULL);
    bool is_oaep = test->outcome->algorithm == WIRE_RSAES_OAEP;
    bool ok =
        ctx && EVP_PKEY_encrypt_init(ctx) > 0 &&
        EVP_PKEY_CTX_set_rsa_padding(ctx, is_oaep ? RSA_PKCS1_OAEP_PADDING : RSA_PKCS1_PADDING) > 0;
    if (ok && is_oaep)
        ok = EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_sha256()) > 0 &&
             EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, EVP_sha256()) > 0;
    ok = ok && EVP_PKEY_encrypt(ctx, out, len, secret.data, secret.len) > 0;
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static enum err test_unwrap(struct test *test)
{
    uint8_t secret[SECRET_SIZE];
    uint8_t wrapped[WIRE_CIPHERTEXT_MAX];
    size_t len = sizeof wrapped;
    bool is_oaep = !is_allowed(test, WIRE_RSAES_PKCS1);
    test->outcome->operation = WIRE_UNWRAP;
    test->outcome->algorithm = is_oaep ? WIRE_RSAES_OAEP : WIRE_RSAES_PKCS1;
    test->outcome->hash = is_oaep ? HASH_SHA256 : HASH_NONE;
    const struct token_padding padding = {.oaep = is_oaep,
                                          .hash = test->outcome->hash,
                                          .mgf_hash = test->outcome->hash,
                                          .length = is_oaep ? 0 : sizeof secret};
    if (RAND_bytes(secret, sizeof secret) != 1 ||
        !encrypt(test, bytes_of(secret, sizeof secret), wrapped, &len))
        return err_openssl(test->detail, ERR_TEMP, "cannot encrypt a secret for it");
    enum err err =
        test->keystore->unwrap(test->key->store, KEYSTORE_ANY, &padding, bytes_of(wrapped, len),
                               test->deadline, test->scratch, test->detail);
    if (err == ERR_OK && !bytes_equal(bytes_of(secret, sizeof secret),
                                      bytes_of(test->scratch->data, test->scratch->len)))
        err = err_set(test->detail, ERR_PERM, "another secret than was encrypted");
    return err;
}

static enum err agree_with(struct test *test, EVP_PKEY *peer)
{
    uint8_t point[WIRE_POINT_MAX];
    uint8_t expected[AGREE_MAX];
    size_t point_len = 0;
    size_t len = sizeof expected;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(peer, NULL);
    bool ok = ctx && EVP_PKEY_derive_init(ctx) > 0 &&
              EVP_PKEY_derive_set_peer(ctx, test->public_key) > 0 &&
              EVP_PKEY_derive(ctx, expected, &len) > 0 &&
              EVP_PKEY_get_octet_string_param(peer, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point,
                                              &point_len) > 0;
    EVP_PKEY_CTX_free(ctx);
    if (!ok)
        return err_openssl(test->detail, ERR_TEMP, "cannot agree with it");
    enum err err = test->keystore->agree(test->key->store, KEYSTORE_ANY, bytes_of(point, point_len),
                                         false, test->deadline, test->scratch, test->detail);
    if (err == ERR_OK &&
        !bytes_equal(bytes_of(expected, len), bytes_of(test->scratch->data, test->scratch->len)))
        err = err_set(test->detail, ERR_PERM, "another secret than was agreed on");
    return err;
}

static enum err test_agree(struct test *test)
{
    test->outcome->operation = WIRE_AGREE;
    test->outcome->algorithm = WIRE_ECDH_X963;
    EVP_PKEY *peer = EVP_PKEY_Q_keygen(NULL, NULL, "EC", test->info->curve);
    if (!peer)
        return err_openssl(test->detail, ERR_TEMP, "cannot make a key pair");
    enum err err = agree_with(test, peer);
    EVP_PKEY_free(peer);
    return err;
}

enum err selftest_key(const struct keystore_ops *keystore, const struct registry_key *key,
                      deadline_t deadline, struct secret *scratch, struct selftest_outcome *outcome,
                      struct detail *detail)
{
    const struct token_key_info *info = keystore->describe(key->store);
    const uint8_t *der = info->public_key.data;
    struct test test = {.keystore = keystore,
                        .key = key,
                        .info = info,
                        .deadline = deadline,
                        .scratch = scratch,
                        .outcome = outcome,
                        .public_key = d2i_PUBKEY(NULL, &der, (long)info->public_key.len),
                        .detail = detail};
    *outcome = (struct selftest_outcome){0};
    bool may_sign = (key->algorithms & (REGISTRY_SET(WIRE_RSA_PKCS1) | REGISTRY_SET(WIRE_RSA_PSS) |
                                        REGISTRY_SET(WIRE_ECDSA) | REGISTRY_SET(WIRE_EDDSA))) != 0;
    bool is_signer = key->purpose == WIRE_SMIME_SIGN ||
                     (key->purpose == WIRE_GENERAL && info->can_sign && may_sign);
    enum err err = ERR_OK;
    if (!test.public_key)
        err = err_openssl(detail, ERR_PERM, "its public half cannot be read");
    else if (info->type == TOKEN_KEY_ED25519)
        err = test_sign_message(&test);
    else if (is_signer)
        err = test_sign(&test);
    else if (info->type == TOKEN_KEY_RSA)
        err = test_unwrap(&test);
    else
        err = test_agree(&test);
    secret_wipe(scratch);
    EVP_PKEY_free(test.public_key);
    return err;
}
