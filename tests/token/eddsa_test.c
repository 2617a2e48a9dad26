// SPDX-License-Identifier: Apache-2.0
// Ed25519 in a token, against RFC 8032 and OpenSSL's idea of it.
#include "tests/token/officer.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <p11-kit/pkcs11.h>

#define POOL 2
#define LONGEST 16384

static EVP_PKEY *private_key(const uint8_t seed[32])
{
    EVP_PKEY *pkey = EVP_PKEY_new_raw_private_key_ex(NULL, "ED25519", NULL, seed, 32);
    assert_non_null(pkey);
    return pkey;
}

static void import_key(EVP_PKEY *pkey, const struct token_key_wish *wish)
{
    struct detail detail = {0};
    struct secret pkcs8;
    officer_pkcs8(pkey, &pkcs8);
    assert_ok(token_key_import(fixture.token, wish, &pkcs8, OFFICER_PATIENCE, NULL, &detail),
              &detail);
    secret_clear(&pkcs8);
}

static void is_offered(void **state)
{
    (void)state;
    assert_true(token_describe(fixture.token)->eddsa);
}

static void generates_uses_and_destroys(void **state)
{
    (void)state;
    struct detail detail = {0};
    const struct token_key_wish wish =
        officer_wish("edwards", "generated", TOKEN_KEY_ED25519, 256, SIGN);
    struct token_key *key = NULL;
    assert_ok(token_key_generate(fixture.token, &wish, OFFICER_PATIENCE, &detail), &detail);
    officer_check_key(fixture.token, &wish, true, NULL);
    officer_check_objects("generated", 2);
    assert_err(token_key_generate(fixture.token, &wish, OFFICER_PATIENCE, &detail), ERR_PERM);
    assert_ok(token_key_open(fixture.token, wish.label, wish.id, &key, &detail), &detail);
    const struct token_key_info *info = token_key_describe(key);
    assert_int_equal(info->type, TOKEN_KEY_ED25519);
    assert_int_equal(info->bits, 256);
    assert_null(info->curve);
    assert_int_equal(info->public_key.len, 44); // RFC 8410, 4
    assert_ok(token_key_destroy(fixture.token, key, OFFICER_PATIENCE, &detail), &detail);
    officer_check_objects("generated", 0);
    token_key_close(key);
}

static void refuses_wishes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        unsigned bits, usage;
    } rows[] = {
        {"decrypts", 256, SIGN | DECRYPT},
        {"derives", 256, DERIVE},
        {"other bits", 255, SIGN},
        {"no usage", 256, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct token_key_wish wish =
            officer_wish("r", "r", TOKEN_KEY_ED25519, rows[i].bits, rows[i].usage);
        enum err err = token_key_generate(fixture.token, &wish, OFFICER_PATIENCE, NULL);
        if (err != ERR_PERM)
            fail_msg("%s: %s", rows[i].name, err_name(err));
    }
    officer_check_objects("r", 0);
}

// RFC 8032, 7.1, TEST 2 and 3. Ed25519 is deterministic, so the token must give these signatures.
static const struct vector {
    const char *label, *id;
    uint8_t seed[32], public_key[32];
    uint8_t message[2];
    size_t message_len;
    uint8_t signature[64];
} vectors[] = {
    {"vector 2",
     "vector-2",
     {0x4c, 0xcd, 0x08, 0x9b, 0x28, 0xff, 0x96, 0xda, 0x9d, 0xb6, 0xc3,
      0x46, 0xec, 0x11, 0x4e, 0x0f, 0x5b, 0x8a, 0x31, 0x9f, 0x35, 0xab,
      0xa6, 0x24, 0xda, 0x8c, 0xf6, 0xed, 0x4f, 0xb8, 0xa6, 0xfb},
     {0x3d, 0x40, 0x17, 0xc3, 0xe8, 0x43, 0x89, 0x5a, 0x92, 0xb7, 0x0a,
      0xa7, 0x4d, 0x1b, 0x7e, 0xbc, 0x9c, 0x98, 0x2c, 0xcf, 0x2e, 0xc4,
      0x96, 0x8c, 0xc0, 0xcd, 0x55, 0xf1, 0x2a, 0xf4, 0x66, 0x0c},
     {0x72},
     1,
     {0x92, 0xa0, 0x09, 0xa9, 0xf0, 0xd4, 0xca, 0xb8, 0x72, 0x0e, 0x82, 0x0b, 0x5f,
      0x64, 0x25, 0x40, 0xa2, 0xb2, 0x7b, 0x54, 0x16, 0x50, 0x3f, 0x8f, 0xb3, 0x76,
      0x22, 0x23, 0xeb, 0xdb, 0x69, 0xda, 0x08, 0x5a, 0xc1, 0xe4, 0x3e, 0x15, 0x99,
      0x6e, 0x45, 0x8f, 0x36, 0x13, 0xd0, 0xf1, 0x1d, 0x8c, 0x38, 0x7b, 0x2e, 0xae,
      0xb4, 0x30, 0x2a, 0xee, 0xb0, 0x0d, 0x29, 0x16, 0x12, 0xbb, 0x0c, 0x00}},
    {"vector 3",
     "vector-3",
     {0xc5, 0xaa, 0x8d, 0xf4, 0x3f, 0x9f, 0x83, 0x7b, 0xed, 0xb7, 0x44,
      0x2f, 0x31, 0xdc, 0xb7, 0xb1, 0x66, 0xd3, 0x85, 0x35, 0x07, 0x6f,
      0x09, 0x4b, 0x85, 0xce, 0x3a, 0x2e, 0x0b, 0x44, 0x58, 0xf7},
     {0xfc, 0x51, 0xcd, 0x8e, 0x62, 0x18, 0xa1, 0xa3, 0x8d, 0xa4, 0x7e,
      0xd0, 0x02, 0x30, 0xf0, 0x58, 0x08, 0x16, 0xed, 0x13, 0xba, 0x33,
      0x03, 0xac, 0x5d, 0xeb, 0x91, 0x15, 0x48, 0x90, 0x80, 0x25},
     {0xaf, 0x82},
     2,
     {0x62, 0x91, 0xd6, 0x57, 0xde, 0xec, 0x24, 0x02, 0x48, 0x27, 0xe6, 0x9c, 0x3a,
      0xbe, 0x01, 0xa3, 0x0c, 0xe5, 0x48, 0xa2, 0x84, 0x74, 0x3a, 0x44, 0x5e, 0x36,
      0x80, 0xd7, 0xdb, 0x5a, 0xc3, 0xac, 0x18, 0xff, 0x9b, 0x53, 0x8d, 0x16, 0xf2,
      0x90, 0xae, 0x67, 0xf7, 0x60, 0x98, 0x4d, 0xc6, 0x59, 0x4a, 0x7c, 0x15, 0xe9,
      0x71, 0x6e, 0xd2, 0x8d, 0xc0, 0x27, 0xbe, 0xce, 0xea, 0x1e, 0xc4, 0x0a}},
};

static void imports_and_signs_as_the_rfc_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        const struct vector *vector = &vectors[i];
        const struct token_key_wish wish = officer_wish(vector->label, vector->id, 0, 0, SIGN);
        struct detail detail = {0};
        struct token_session *session = NULL;
        uint8_t out[TOKEN_SIGNATURE_MAX];
        size_t len = 0;
        EVP_PKEY *pkey = private_key(vector->seed);
        import_key(pkey, &wish);
        officer_check_key(fixture.token, &wish, false, pkey);
        officer_check_objects(vector->id, 2);
        struct token_key *key = fixture_key(vector->label);
        struct bytes spki = token_key_describe(key)->public_key;
        assert_memory_equal(spki.data + spki.len - 32, vector->public_key, 32);
        assert_ok(token_session_get(fixture.token, OFFICER_PATIENCE, &session, &detail), &detail);
        assert_ok(token_sign(session, key, TOKEN_EDDSA, HASH_NONE, 0,
                             bytes_of(vector->message, vector->message_len), out, &len, &detail),
                  &detail);
        assert_int_equal(len, 64);
        assert_memory_equal(out, vector->signature, 64);
        token_session_put(session);
        token_key_close(key);
        EVP_PKEY_free(pkey);
    }
}

static void signs_messages_of_any_length(void **state)
{
    (void)state;
    static const size_t lengths[] = {0, 1, 32, 64, 65, 1000, LONGEST};
    static uint8_t message[LONGEST];
    struct detail detail = {0};
    struct token_session *session = NULL;
    struct token_key *key = fixture_key("vector 2");
    EVP_PKEY *pkey = private_key(vectors[0].seed);
    memset(message, 'm', sizeof message);
    assert_ok(token_session_get(fixture.token, OFFICER_PATIENCE, &session, &detail), &detail);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        uint8_t out[TOKEN_SIGNATURE_MAX];
        size_t len = 0;
        struct bytes input = bytes_of(message, lengths[i]);
        assert_ok(token_sign(session, key, TOKEN_EDDSA, HASH_NONE, 0, input, out, &len, &detail),
                  &detail);
        assert_true(fixture_verify(pkey, TOKEN_EDDSA, HASH_NONE, 0, input, bytes_of(out, len)));
        out[0] ^= 1;
        assert_false(fixture_verify(pkey, TOKEN_EDDSA, HASH_NONE, 0, input, bytes_of(out, len)));
    }
    token_session_put(session);
    token_key_close(key);
    EVP_PKEY_free(pkey);
}

static void refuses_to_sign(void **state)
{
    (void)state;
    struct detail detail = {0};
    struct token_session *session = NULL;
    struct token_key *edwards = fixture_key("vector 2"), *ec = fixture_key("p256");
    const struct {
        const char *name;
        struct token_key *key;
        enum token_scheme scheme;
        enum hash hash;
        size_t len;
    } rows[] = {
        {"a digest", edwards, TOKEN_EDDSA, HASH_SHA512, 64},
        {"ECDSA with an Ed25519 key", edwards, TOKEN_ECDSA, HASH_SHA256, 32},
        {"PKCS#1 with an Ed25519 key", edwards, TOKEN_RSA_PKCS1, HASH_SHA256, 32},
        {"EdDSA with an EC key", ec, TOKEN_EDDSA, HASH_NONE, 32},
    };
    assert_ok(token_session_get(fixture.token, OFFICER_PATIENCE, &session, &detail), &detail);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint8_t data[64] = {0}, out[TOKEN_SIGNATURE_MAX];
        size_t len = 0;
        enum err err = token_sign(session, rows[i].key, rows[i].scheme, rows[i].hash, 0,
                                  bytes_of(data, rows[i].len), out, &len, NULL);
        if (err != ERR_PERM || len != 0)
            fail_msg("%s: %s", rows[i].name, err_name(err));
    }
    struct secret z = {0};
    assert_ok(secret_init(&z, 66, &detail), &detail);
    assert_err(token_agree(session, edwards, bytes_of(vectors[0].public_key, 32), false, &z, NULL),
               ERR_PERM);
    secret_clear(&z);
    token_session_put(session);
    token_key_close(edwards);
    token_key_close(ec);
}

static void see(const struct token_key_item *item, void *arg)
{
    if (strcmp(item->label, "vector 3") == 0)
        *(bool *)arg = item->is_known_type && item->info.type == TOKEN_KEY_ED25519 &&
                       item->info.bits == 256 && item->info.public_key.len == 44 &&
                       item->info.can_sign && !item->info.can_derive && !item->info.extractable;
}

static void lists(void **state)
{
    (void)state;
    struct detail detail = {0};
    bool is_seen = false;
    assert_ok(token_key_list(fixture.token, OFFICER_PATIENCE, see, &is_seen, &detail), &detail);
    assert_true(is_seen);
}

static void give_id(CK_FUNCTION_LIST *fn, unsigned long session, const char *label,
                    const char *new_id)
{
    static const CK_OBJECT_CLASS class = CKO_PUBLIC_KEY;
    CK_ATTRIBUTE match[] = {{CKA_CLASS, (void *)&class, sizeof class},
                            {CKA_LABEL, (void *)label, strlen(label)}};
    CK_ATTRIBUTE id = {CKA_ID, (void *)new_id, strlen(new_id)};
    CK_OBJECT_HANDLE object;
    CK_ULONG count = 0;
    if (fn->C_FindObjectsInit(session, match, 2) ||
        fn->C_FindObjects(session, &object, 1, &count) || fn->C_FindObjectsFinal(session) ||
        count != 1 || fn->C_SetAttributeValue(session, object, &id, 1))
        exit(1);
}

static void swap_public_halves(void *functions, unsigned long session, void *arg)
{
    (void)arg;
    give_id(functions, session, "vector 2", "vector-3");
    give_id(functions, session, "vector 3", "vector-2");
}

// The last test: it leaves the keys as liars.
static void a_foreign_public_half_is_noticed(void **state)
{
    (void)state;
    struct detail detail = {0};
    struct token_key *key = NULL;
    softhsm_in_child(&fixture.hsm, NULL, swap_public_halves, NULL);
    assert_err(token_key_open(fixture.token, "vector 2", bytes_of(NULL, 0), &key, &detail),
               ERR_PERM);
    assert_non_null(strstr(detail.text, "not that of the private key"));
}

static int begin(void **state)
{
    (void)state;
    fixture_begin(SOFTHSM_P256, softhsm_module(), POOL);
    token_session_put(fixture.session);
    fixture.session = NULL;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_offered),
        cmocka_unit_test(generates_uses_and_destroys),
        cmocka_unit_test(refuses_wishes),
        cmocka_unit_test(imports_and_signs_as_the_rfc_says),
        cmocka_unit_test(signs_messages_of_any_length),
        cmocka_unit_test(refuses_to_sign),
        cmocka_unit_test(lists),
        cmocka_unit_test(a_foreign_public_half_is_noticed),
    };
    return cmocka_run_group_tests(tests, begin, fixture_end);
}
