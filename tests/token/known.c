// SPDX-License-Identifier: Apache-2.0
#include "tests/token/known.h"

#include <string.h>

#include <openssl/ec.h>

static const uint8_t content_key[32] = "a content-encryption key, secret";

static struct {
    struct token_key *rsa, *ec;
    EVP_PKEY *rsa_public, *ec_public;
    uint8_t digest[32], wrapped[256], wrapped_oaep[256], bad[256], point[65], z[32];
} known;

void known_begin(void)
{
    uint8_t block[256];
    known.rsa = fixture_key("rsa2048");
    known.ec = fixture_key("p256");
    token_key_keep(known.rsa);
    token_key_keep(known.ec);
    known.rsa_public = softhsm_public_key(&fixture.hsm, "rsa2048");
    known.ec_public = softhsm_public_key(&fixture.hsm, "p256");
    assert_int_equal(hash_digest(HASH_SHA256, BYTES_LITERAL("attributes"), known.digest), ERR_OK);
    fixture_encrypt(known.rsa_public, HASH_NONE, HASH_NONE, bytes_of(NULL, 0),
                    bytes_of(content_key, sizeof content_key), known.wrapped, 256);
    fixture_encrypt(known.rsa_public, HASH_SHA1, HASH_SHA1, bytes_of(NULL, 0),
                    bytes_of(content_key, sizeof content_key), known.wrapped_oaep, 256);
    memset(block, 0x11, sizeof block);
    block[0] = 0;
    fixture_encrypt_raw(known.rsa_public, block, known.bad, 256);
    EVP_PKEY *peer = EVP_EC_gen("P-256");
    fixture_point(peer, known.point, sizeof known.point);
    fixture_derive(peer, known.ec_public, known.z, sizeof known.z);
    EVP_PKEY_free(peer);
}

void known_end(void)
{
    token_key_close(known.rsa);
    token_key_close(known.ec);
    EVP_PKEY_free(known.rsa_public);
    EVP_PKEY_free(known.ec_public);
}

const char *known_name(enum known operation)
{
    static const char *const names[] = {"sign",  "unwrap", "agree",      "sign with PSS",
                                        "ECDSA", "OAEP",   "bad padding"};
    return names[operation];
}

static enum err sign(struct token_session *session, enum known operation, bool *right,
                     struct detail *detail)
{
    uint8_t signature[TOKEN_SIGNATURE_MAX];
    size_t len = 0;
    bool ec = operation == KNOWN_ECDSA;
    enum token_scheme scheme = ec                       ? TOKEN_ECDSA
                               : operation == KNOWN_PSS ? TOKEN_RSA_PSS
                                                        : TOKEN_RSA_PKCS1;
    struct bytes digest = bytes_of(known.digest, 32);
    enum err err = token_sign(session, ec ? known.ec : known.rsa, scheme, HASH_SHA256, 32, digest,
                              signature, &len, detail);
    *right = !err && fixture_verify(ec ? known.ec_public : known.rsa_public, scheme, HASH_SHA256,
                                    32, digest, bytes_of(signature, len));
    return err;
}

static enum err unwrap(struct token_session *session, enum known operation, struct secret *out,
                       bool *right, struct detail *detail)
{
    struct token_padding padding = {.oaep = operation == KNOWN_OAEP,
                                    .hash = HASH_SHA1,
                                    .mgf_hash = HASH_SHA1,
                                    .length = sizeof content_key};
    const uint8_t *ciphertext = operation == KNOWN_OAEP     ? known.wrapped_oaep
                                : operation == KNOWN_UNWRAP ? known.wrapped
                                                            : known.bad;
    enum err err =
        token_unwrap(session, known.rsa, &padding, bytes_of(ciphertext, 256), out, detail);
    bool is_key = !err && out->len == sizeof content_key &&
                  memcmp(out->data, content_key, sizeof content_key) == 0;
    *right = operation == KNOWN_BAD ? !err && out->len == sizeof content_key && !is_key : is_key;
    return err;
}

enum err known_run(struct token_session *session, enum known operation, struct secret *out,
                   bool *right, struct detail *detail)
{
    switch (operation) {
    case KNOWN_SIGN:
    case KNOWN_PSS:
    case KNOWN_ECDSA:
        return sign(session, operation, right, detail);
    case KNOWN_AGREE:
        break;
    default:
        return unwrap(session, operation, out, right, detail);
    }
    enum err err = token_agree(session, known.ec, bytes_of(known.point, 65), false, out, detail);
    *right = !err && out->len == 32 && memcmp(out->data, known.z, 32) == 0;
    return err;
}
