// SPDX-License-Identifier: Apache-2.0
#include "tests/token/fixture.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/rsa.h>

struct fixture fixture;

struct token_conf fixture_conf(const char *module, unsigned sessions)
{
    return (struct token_conf){.name = "test",
                               .module = module,
                               .label = fixture.hsm.label,
                               .sessions = sessions,
                               .wait_ms = 20000,
                               .copy_keys = true};
}

void fixture_begin(unsigned keys, const char *module, unsigned sessions)
{
    fixture_begin_with(keys, &(struct softhsm_key){0}, module, sessions);
}

void fixture_begin_with(unsigned keys, const struct softhsm_key *further, const char *module,
                        unsigned sessions)
{
    struct detail detail = {0};
    softhsm_setup(&fixture.hsm, "sealgate test");
    softhsm_make_keys(&fixture.hsm, keys);
    for (; further->label; further++)
        softhsm_make_key(&fixture.hsm, further);
    fixture_open(module, sessions);
    assert_ok(token_session_get(fixture.token, deadline_in(20000), &fixture.session, &detail),
              &detail);
}

void fixture_open(const char *module, unsigned sessions)
{
    struct detail detail = {0};
    struct token_conf conf = fixture_conf(module, sessions);
    assert_ok(secret_init(&fixture.pin, 64, &detail), &detail);
    assert_ok(secret_init(&fixture.out, 4096, &detail), &detail);
    assert_ok(secret_set(&fixture.pin, SOFTHSM_PIN, strlen(SOFTHSM_PIN)), &detail);
    assert_ok(token_open(&conf, &fixture.token, &detail), &detail);
    assert_ok(token_login(fixture.token, &fixture.pin, &detail), &detail);
}

int fixture_end(void **state)
{
    (void)state;
    token_session_put(fixture.session);
    token_close(fixture.token);
    secret_clear(&fixture.pin);
    secret_clear(&fixture.out);
    softhsm_teardown(&fixture.hsm);
    return 0;
}

struct token_key *fixture_key(const char *label)
{
    struct detail detail = {0};
    struct token_key *key = NULL;
    assert_ok(token_key_open(fixture.token, label, bytes_of(NULL, 0), &key, &detail), &detail);
    return key;
}

static bool verify_message(EVP_PKEY *pkey, struct bytes message, struct bytes signature)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, pkey) == 1 &&
              EVP_DigestVerify(ctx, signature.data, signature.len, message.data, message.len) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

bool fixture_verify(EVP_PKEY *pkey, enum token_scheme scheme, enum hash hash, unsigned salt,
                    struct bytes digest, struct bytes signature)
{
    if (scheme == TOKEN_EDDSA)
        return verify_message(pkey, digest, signature);
    const EVP_MD *md = EVP_get_digestbyname(hash_name(hash));
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pkey, NULL);
    bool ok = EVP_PKEY_verify_init(ctx) == 1 && EVP_PKEY_CTX_set_signature_md(ctx, md) == 1;
    if (scheme == TOKEN_RSA_PSS)
        ok = ok && EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) == 1 &&
             EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, (int)salt) == 1;
    ok = ok && EVP_PKEY_verify(ctx, signature.data, signature.len, digest.data, digest.len) == 1;
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

size_t fixture_encrypt(EVP_PKEY *pkey, enum hash hash, enum hash mgf_hash, struct bytes label,
                       struct bytes message, uint8_t *out, size_t room)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pkey, NULL);
    assert_int_equal(EVP_PKEY_encrypt_init(ctx), 1);
    if (hash == HASH_NONE) {
        assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING), 1);
    } else {
        assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING), 1);
        assert_int_equal(EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_get_digestbyname(hash_name(hash))),
                         1);
        assert_int_equal(
            EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, EVP_get_digestbyname(hash_name(mgf_hash))), 1);
        if (label.len > 0)
            assert_int_equal(EVP_PKEY_CTX_set0_rsa_oaep_label(
                                 ctx, OPENSSL_memdup(label.data, label.len), (int)label.len),
                             1);
    }
    assert_int_equal(EVP_PKEY_encrypt(ctx, out, &room, message.data, message.len), 1);
    EVP_PKEY_CTX_free(ctx);
    return room;
}

size_t fixture_encrypt_raw(EVP_PKEY *pkey, const uint8_t *block, uint8_t *out, size_t room)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pkey, NULL);
    assert_int_equal(EVP_PKEY_encrypt_init(ctx), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_NO_PADDING), 1);
    assert_int_equal(EVP_PKEY_encrypt(ctx, out, &room, block, (size_t)EVP_PKEY_get_size(pkey)), 1);
    EVP_PKEY_CTX_free(ctx);
    return room;
}

size_t fixture_point(EVP_PKEY *pkey, uint8_t *out, size_t room)
{
    size_t len = 0;
    assert_int_equal(
        EVP_PKEY_get_octet_string_param(pkey, OSSL_PKEY_PARAM_PUB_KEY, out, room, &len), 1);
    return len;
}

size_t fixture_derive(EVP_PKEY *ours, EVP_PKEY *peer, uint8_t *out, size_t room)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(ours, NULL);
    assert_int_equal(EVP_PKEY_derive_init(ctx), 1);
    assert_int_equal(EVP_PKEY_derive_set_peer(ctx, peer), 1);
    assert_int_equal(EVP_PKEY_derive(ctx, out, &room), 1);
    EVP_PKEY_CTX_free(ctx);
    return room;
}
