// SPDX-License-Identifier: Apache-2.0
#include "tests/token/officer.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/ec.h>
#include <openssl/x509.h>
#include <p11-kit/pkcs11.h>

struct token_key_wish officer_wish(const char *label, const char *id, enum token_key_type type,
                                   unsigned bits, unsigned usage)
{
    return (struct token_key_wish){
        .label = label, .id = bytes_of_text(id), .type = type, .bits = bits, .usage = usage};
}

void officer_pkcs8(EVP_PKEY *pkey, struct secret *out)
{
    struct detail detail = {0};
    PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(pkey);
    assert_non_null(info);
    assert_ok(secret_init(out, 8192, &detail), &detail);
    unsigned char *at = out->data;
    out->len = (size_t)i2d_PKCS8_PRIV_KEY_INFO(info, &at);
    PKCS8_PRIV_KEY_INFO_free(info);
}

static void check_sign(struct token_session *session, struct token_key *key, EVP_PKEY *pkey)
{
    struct detail detail = {0};
    uint8_t digest[32] = "a digest", signature[TOKEN_SIGNATURE_MAX];
    size_t len = 0;
    static const enum token_scheme schemes[] = {[TOKEN_KEY_RSA] = TOKEN_RSA_PKCS1,
                                                [TOKEN_KEY_EC] = TOKEN_ECDSA,
                                                [TOKEN_KEY_ED25519] = TOKEN_EDDSA};
    enum token_scheme scheme = schemes[token_key_describe(key)->type];
    enum hash hash = scheme == TOKEN_EDDSA ? HASH_NONE : HASH_SHA256;
    assert_ok(
        token_sign(session, key, scheme, hash, 0, bytes_of(digest, 32), signature, &len, &detail),
        &detail);
    assert_true(
        fixture_verify(pkey, scheme, hash, 0, bytes_of(digest, 32), bytes_of(signature, len)));
}

static void check_decrypt(struct token_session *session, struct token_key *key, EVP_PKEY *pkey)
{
    struct detail detail = {0};
    const struct token_padding padding = {.length = 16};
    uint8_t wrapped[1024];
    struct bytes message = BYTES_LITERAL("sixteen bytes ok");
    size_t len = fixture_encrypt(pkey, HASH_NONE, HASH_NONE, bytes_of(NULL, 0), message, wrapped,
                                 sizeof wrapped);
    assert_ok(token_unwrap(session, key, &padding, bytes_of(wrapped, len), &fixture.out, &detail),
              &detail);
    assert_true(bytes_equal(bytes_of(fixture.out.data, fixture.out.len), message));
}

static void check_derive(struct token_session *session, struct token_key *key, EVP_PKEY *pkey)
{
    struct detail detail = {0};
    uint8_t point[200], z[100];
    EVP_PKEY *peer = EVP_EC_gen(token_key_describe(key)->curve);
    size_t len = fixture_point(peer, point, sizeof point);
    assert_ok(token_agree(session, key, bytes_of(point, len), false, &fixture.out, &detail),
              &detail);
    len = fixture_derive(peer, pkey, z, sizeof z);
    assert_true(bytes_equal(bytes_of(fixture.out.data, fixture.out.len), bytes_of(z, len)));
    EVP_PKEY_free(peer);
}

void officer_check_key(struct token *token, const struct token_key_wish *wish, bool is_generated,
                       EVP_PKEY *public)
{
    struct detail detail = {0};
    struct token_key *key = NULL;
    assert_ok(token_key_open(token, wish->label, wish->id, &key, &detail), &detail);
    const struct token_key_info *info = token_key_describe(key);
    assert_int_equal(info->always_sensitive, is_generated);
    assert_int_equal(info->never_extractable, is_generated);
    token_key_close(key);
    officer_check_use(token, wish, public);
}

void officer_check_use(struct token *token, const struct token_key_wish *wish, EVP_PKEY *public)
{
    struct detail detail = {0};
    struct token_key *key = NULL;
    struct token_session *session = NULL;
    assert_ok(token_key_open(token, wish->label, wish->id, &key, &detail), &detail);
    const struct token_key_info *info = token_key_describe(key);
    assert_true(info->sensitive && !info->extractable && info->is_pair_proved);
    assert_int_equal(info->can_sign, !!(wish->usage & SIGN));
    assert_int_equal(info->can_decrypt, !!(wish->usage & DECRYPT));
    assert_int_equal(info->can_derive, !!(wish->usage & DERIVE));
    const unsigned char *at = info->public_key.data;
    EVP_PKEY *told = d2i_PUBKEY(NULL, &at, (long)info->public_key.len);
    assert_non_null(told);
    if (public)
        assert_int_equal(EVP_PKEY_eq(told, public), 1);
    assert_ok(token_session_get(token, OFFICER_PATIENCE, &session, &detail), &detail);
    assert_ok(token_check_pair(session, key, &detail), &detail);
    if (wish->usage & SIGN)
        check_sign(session, key, told);
    if (wish->usage & DECRYPT)
        check_decrypt(session, key, told);
    if (wish->usage & DERIVE)
        check_derive(session, key, told);
    token_session_put(session);
    EVP_PKEY_free(told);
    token_key_close(key);
}

struct count {
    const char *id;
    unsigned expected;
};

static void count_objects(void *functions, unsigned long session, void *arg)
{
    CK_FUNCTION_LIST *fn = functions;
    const struct count *count = arg;
    CK_ATTRIBUTE match = {CKA_ID, (void *)count->id, strlen(count->id)};
    CK_OBJECT_HANDLE objects[20];
    CK_ULONG found = 0;
    if (fn->C_FindObjectsInit(session, &match, 1) ||
        fn->C_FindObjects(session, objects, 20, &found) || found != count->expected)
        exit(1);
    fn->C_FindObjectsFinal(session);
}

void officer_check_objects(const char *id, unsigned expected)
{
    struct count count = {id, expected};
    softhsm_in_child(&fixture.hsm, NULL, count_objects, &count);
}

void officer_remove(void *functions, unsigned long session, void *arg)
{
    CK_FUNCTION_LIST *fn = functions;
    CK_ATTRIBUTE match = {CKA_ID, arg, strlen(arg)};
    CK_OBJECT_HANDLE objects[20];
    CK_ULONG found = 0;
    if (fn->C_FindObjectsInit(session, &match, 1) ||
        fn->C_FindObjects(session, objects, 20, &found) || fn->C_FindObjectsFinal(session))
        exit(1);
    while (found > 0)
        fn->C_DestroyObject(session, objects[--found]);
}

static void see(const struct token_key_item *item, void *arg)
{
    (void)item;
    ++*(unsigned *)arg;
}

unsigned officer_count_keys(struct token *token)
{
    struct detail detail = {0};
    unsigned count = 0;
    assert_ok(token_key_list(token, OFFICER_PATIENCE, see, &count, &detail), &detail);
    return count;
}
