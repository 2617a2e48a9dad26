// SPDX-License-Identifier: Apache-2.0
// Finding modules, tokens and keys, and saying well what is wrong with them.
#include "tests/token/fixture.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/x509.h>
#include <p11-kit/pkcs11.h>

static void expect(enum err err, enum err expected, const struct detail *detail, const char *text)
{
    if (err != expected || !strstr(detail->text, text))
        fail_msg("%s: %s, not %s: %s", err_name(err), detail->text, err_name(expected), text);
}

static void names_the_step_that_failed(void **state)
{
    (void)state;
    const char *module = softhsm_module();
    const struct {
        const char *name;
        struct token_conf conf;
        const char *text;
    } cases[] = {
        {"no module",
         {.name = "a", .module = "/nonexistent/p11.so", .label = "x", .sessions = 1},
         "module /nonexistent/p11.so: "},
        {"a library, but no module",
         {.name = "a", .module = "libm.so.6", .label = "x", .sessions = 1},
         "not a PKCS#11 module"},
        {"no token", {.name = "a", .module = module, .label = "x", .sessions = 1}, "no token"},
        {"serial of none",
         {.name = "a", .module = module, .serial = "00", .sessions = 1},
         "no token with the serial"},
        {"label of one, serial of none",
         {.name = "a", .module = module, .label = fixture.hsm.label, .serial = "0", .sessions = 1},
         "no token"},
        {"two of that label",
         {.name = "a", .module = module, .label = "twin", .sessions = 1},
         "more than one token"},
        {"what another token of it was not opened with",
         {.name = "a", .module = module, .label = "x", .init_args = "y", .sessions = 1},
         "has other init-args"},
        {"neither", {.name = "a", .module = module, .sessions = 1}, "neither label nor serial"},
        {"no sessions", {.name = "a", .module = module, .label = "x"}, "sessions must be"},
        {"too many sessions",
         {.name = "a", .module = module, .label = "x", .sessions = TOKEN_SESSIONS_MAX + 1},
         "sessions must be"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct detail detail = {0};
        struct token *token = NULL;
        enum err err = token_open(&cases[i].conf, &token, &detail);
        if (err != ERR_PERM || !strstr(detail.text, cases[i].text) || token)
            fail_msg("%s: %s: %s", cases[i].name, err_name(err), detail.text);
    }
}

static void tells_what_the_token_can(void **state)
{
    (void)state;
    const struct token_info *info = token_describe(fixture.token);
    assert_string_equal(info->label, fixture.hsm.label);
    assert_string_equal(info->manufacturer, "SoftHSM project");
    assert_int_equal(strlen(info->serial), 16);
    assert_true(info->rsa_raw && info->rsa_pkcs1 && info->rsa_pss && info->rsa_oaep);
    assert_true(info->ecdsa && info->ecdh);
    struct token_conf conf = fixture_conf(softhsm_module(), 1);
    struct token *same = NULL;
    struct detail detail = {0};
    conf.label = NULL;
    conf.serial = info->serial;
    assert_ok(token_open(&conf, &same, &detail), &detail);
    assert_string_equal(token_describe(same)->label, fixture.hsm.label);
    token_close(same);
}

// While one token is at work another one of the same module is opened, used and closed.
static void tokens_of_a_module_do_not_disturb(void **state)
{
    (void)state;
    struct detail detail = {0};
    uint8_t digest[32] = {0}, out[TOKEN_SIGNATURE_MAX];
    size_t len = 0;
    struct token_key *key = fixture_key("rsa2048"), *other_key = NULL;
    struct token *other = NULL;
    struct token_session *session = NULL;
    struct token_conf conf = fixture_conf(softhsm_module(), 2);
    conf.label = "second";
    for (int i = 0; i < 3; i++) {
        assert_ok(token_open(&conf, &other, &detail), &detail);
        expect(token_session_get(other, deadline_in(1000), &session, &detail), ERR_TEMP, &detail,
               "locked");
        assert_ok(token_login(other, &fixture.pin, &detail), &detail);
        assert_ok(token_key_open(other, "elsewhere", bytes_of(NULL, 0), &other_key, &detail),
                  &detail);
        assert_ok(token_session_get(other, deadline_in(1000), &session, &detail), &detail);
        assert_ok(token_sign(session, other_key, TOKEN_ECDSA, HASH_SHA256, 0, bytes_of(digest, 32),
                             out, &len, &detail),
                  &detail);
        assert_ok(token_sign(fixture.session, key, TOKEN_RSA_PKCS1, HASH_SHA256, 0,
                             bytes_of(digest, 32), out, &len, &detail),
                  &detail);
        assert_err(token_sign(session, key, TOKEN_RSA_PKCS1, HASH_SHA256, 0, bytes_of(digest, 32),
                              out, &len, &detail),
                   ERR_BUG); // a session of one token, a key of the other
        token_session_put(session);
        token_key_close(other_key);
        token_close(other);
        assert_ok(token_sign(fixture.session, key, TOKEN_RSA_PKCS1, HASH_SHA256, 0,
                             bytes_of(digest, 32), out, &len, &detail),
                  &detail);
    }
    token_key_close(key);
}

static void finds_keys(void **state)
{
    (void)state;
    static const uint8_t id_31[] = {31}, id_32[] = {32}, id_99[] = {99}, long_id[65] = {1};
    static const struct {
        const char *label;
        struct bytes id;
        enum err expected;
        const char *text;
    } cases[] = {
        {"rsa2048", {NULL, 0}, ERR_OK, ""},
        {"rsa2048", {id_99, 1}, ERR_PERM, "no such private key"},
        {"rsa", {NULL, 0}, ERR_PERM, "no such private key"},
        {"", {NULL, 0}, ERR_PERM, "no such private key"},
        {"two", {NULL, 0}, ERR_PERM, "more than one private key"},
        {"two", {id_31, 1}, ERR_OK, ""},
        {"two", {id_32, 1}, ERR_OK, ""},
        {"two", {long_id, 65}, ERR_PERM, "too long"},
        {"asks", {NULL, 0}, ERR_PERM, "CKA_ALWAYS_AUTHENTICATE"},
        {"no public half", {NULL, 0}, ERR_PERM, "neither its public key nor its certificate"},
        {"certificate only", {NULL, 0}, ERR_OK, ""},
        {"rsa without public", {NULL, 0}, ERR_OK, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct detail detail = {0};
        struct token_key *key = NULL;
        enum err err = token_key_open(fixture.token, cases[i].label, cases[i].id, &key, &detail);
        if (err != cases[i].expected || !strstr(detail.text, cases[i].text))
            fail_msg("key \"%s\": %s: %s", cases[i].label, err_name(err), detail.text);
        token_key_close(key);
    }
}

static void tells_what_a_key_is(void **state)
{
    (void)state;
    static const struct {
        const char *label;
        enum token_key_type type;
        unsigned bits;
        const char *curve;
        bool extractable, sign, decrypt, derive;
    } cases[] = {
        {"rsa2048", TOKEN_KEY_RSA, 2048, NULL, false, true, true, false},
        {"rsa without public", TOKEN_KEY_RSA, 2048, NULL, false, true, true, false},
        {"p256", TOKEN_KEY_EC, 256, "P-256", false, true, false, true},
        {"p384", TOKEN_KEY_EC, 384, "P-384", false, true, false, true},
        {"p521", TOKEN_KEY_EC, 521, "P-521", false, true, false, true},
        {"certificate only", TOKEN_KEY_EC, 256, "P-256", false, true, false, true},
        {"open", TOKEN_KEY_EC, 256, "P-256", true, true, false, true},
        {"signs", TOKEN_KEY_EC, 256, "P-256", false, true, false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct token_key *key = fixture_key(cases[i].label);
        const struct token_key_info *info = token_key_describe(key);
        unsigned char *der = NULL;
        EVP_PKEY *pkey = softhsm_public_key(&fixture.hsm, cases[i].label);
        int len = i2d_PUBKEY(pkey, &der);
        if (!bytes_equal(info->public_key, bytes_of(der, (size_t)len)))
            fail_msg("%s: another public key", cases[i].label);
        assert_int_equal(info->type, cases[i].type);
        assert_int_equal(info->bits, cases[i].bits);
        if (cases[i].curve)
            assert_string_equal(info->curve, cases[i].curve);
        else
            assert_null(info->curve);
        assert_int_equal(info->extractable, cases[i].extractable);
        assert_int_equal(info->sensitive, !cases[i].extractable);
        assert_int_equal(info->never_extractable, !cases[i].extractable);
        assert_int_equal(info->can_sign, cases[i].sign);
        assert_int_equal(info->can_decrypt, cases[i].decrypt);
        assert_int_equal(info->can_derive, cases[i].derive);
        OPENSSL_free(der);
        EVP_PKEY_free(pkey);
        token_key_close(key);
    }
}

struct odd_point {
    const char *label, *curve;
    const uint8_t *oid;
    size_t oid_len, size; // of a coordinate
    bool has_head;        // 04 and the length in one byte, even if it is beyond 127
    uint8_t point[2 + 1 + 2 * 66], private[66];
};

// An EC key whose public object has its point not as DER has it.
static void add_odd_point(void *functions, unsigned long session, void *arg)
{
    CK_FUNCTION_LIST *fn = functions;
    struct odd_point *odd = arg;
    CK_OBJECT_CLASS public = CKO_PUBLIC_KEY, private = CKO_PRIVATE_KEY;
    CK_KEY_TYPE type = CKK_EC;
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_OBJECT_HANDLE object;
    CK_ATTRIBUTE of_public[] = {
        {CKA_CLASS, &public, sizeof public},
        {CKA_KEY_TYPE, &type, sizeof type},
        {CKA_TOKEN, &yes, sizeof yes},
        {CKA_PRIVATE, &no, sizeof no},
        {CKA_LABEL, (void *)odd->label, strlen(odd->label)},
        {CKA_ID, (void *)odd->label, strlen(odd->label)},
        {CKA_EC_PARAMS, (void *)odd->oid, odd->oid_len},
        {CKA_EC_POINT, odd->point, 1 + 2 * odd->size + (odd->has_head ? 2 : 0)},
    };
    CK_ATTRIBUTE of_private[] = {
        {CKA_CLASS, &private, sizeof private},
        {CKA_KEY_TYPE, &type, sizeof type},
        {CKA_TOKEN, &yes, sizeof yes},
        {CKA_PRIVATE, &yes, sizeof yes},
        {CKA_SENSITIVE, &yes, sizeof yes},
        {CKA_EXTRACTABLE, &no, sizeof no},
        {CKA_SIGN, &yes, sizeof yes},
        {CKA_LABEL, (void *)odd->label, strlen(odd->label)},
        {CKA_ID, (void *)odd->label, strlen(odd->label)},
        {CKA_EC_PARAMS, (void *)odd->oid, odd->oid_len},
        {CKA_VALUE, odd->private, odd->size},
    };
    if (fn->C_CreateObject(session, of_public, 8, &object) ||
        fn->C_CreateObject(session, of_private, 11, &object))
        exit(1);
}

static void reads_points_that_are_not_der(void **state)
{
    (void)state;
    static const uint8_t p256[] = {6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7};
    static const uint8_t p521[] = {6, 5, 0x2b, 0x81, 4, 0, 0x23};
    struct odd_point rows[] = {
        {"bare point", "P-256", p256, sizeof p256, 32, false, {0}, {0}},
        {"short length", "P-521", p521, sizeof p521, 66, true, {0}, {0}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct odd_point *odd = &rows[i];
        uint8_t *point = odd->point + (odd->has_head ? 2 : 0);
        EVP_PKEY *pkey = NULL;
        do { // a bare point that begins as DER of that length would
            EVP_PKEY_free(pkey);
            pkey = EVP_EC_gen(odd->curve);
            fixture_point(pkey, point, 1 + 2 * odd->size);
        } while (!odd->has_head && point[1] != 2 * odd->size - 1);
        if (odd->has_head) {
            odd->point[0] = 4;
            odd->point[1] = (uint8_t)(1 + 2 * odd->size);
        }
        BIGNUM *d = NULL;
        assert_int_equal(EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_PRIV_KEY, &d), 1);
        BN_bn2binpad(d, odd->private, (int)odd->size);
        BN_free(d);
        softhsm_in_child(&fixture.hsm, NULL, add_odd_point, odd);
        struct token_key *key = fixture_key(odd->label);
        assert_true(token_key_describe(key)->is_pair_proved);
        assert_string_equal(token_key_describe(key)->curve, odd->curve);
        token_key_close(key);
        EVP_PKEY_free(pkey);
    }
}

static int begin(void **state)
{
    (void)state;
    struct detail detail = {0};
    enum { NO_PUBLIC_HALF = SOFTHSM_NO_PUBLIC | SOFTHSM_NO_CERT };
    static const struct softhsm_key keys[] = {
        {.label = "two", .id = 31, .kind = "P-256"},
        {.label = "two", .id = 32, .kind = "P-256"},
        {.label = "asks", .id = 33, .kind = "P-256", .flags = SOFTHSM_ASK_EVERY_TIME},
        {.label = "no public half", .id = 34, .kind = "P-256", .flags = NO_PUBLIC_HALF},
        {.label = "certificate only", .id = 35, .kind = "P-256", .flags = SOFTHSM_NO_PUBLIC},
        {.label = "rsa without public", .id = 36, .kind = "RSA-2048", .flags = NO_PUBLIC_HALF},
        {.label = "open", .id = 37, .kind = "P-256", .flags = SOFTHSM_EXTRACTABLE},
        {.label = "signs", .id = 38, .kind = "P-256", .flags = SOFTHSM_SIGN_ONLY},
        {.label = "elsewhere", .id = 1, .kind = "P-256", .token = "second"},
        {0},
    };
    softhsm_setup(&fixture.hsm, "sealgate test");
    softhsm_add_token(&fixture.hsm, "second");
    softhsm_add_token(&fixture.hsm, "twin");
    softhsm_add_token(&fixture.hsm, "twin");
    softhsm_make_keys(&fixture.hsm, SOFTHSM_ALL & ~(unsigned)SOFTHSM_RSA3072);
    for (const struct softhsm_key *key = keys; key->label; key++)
        softhsm_make_key(&fixture.hsm, key);
    fixture_open(softhsm_module(), 2);
    assert_ok(token_session_get(fixture.token, deadline_in(20000), &fixture.session, &detail),
              &detail);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_the_step_that_failed),
        cmocka_unit_test(tells_what_the_token_can),
        cmocka_unit_test(tokens_of_a_module_do_not_disturb),
        cmocka_unit_test(finds_keys),
        cmocka_unit_test(tells_what_a_key_is),
        cmocka_unit_test(reads_points_that_are_not_der),
    };
    return cmocka_run_group_tests(tests, begin, fixture_end);
}
