// SPDX-License-Identifier: Apache-2.0
// What officers do to a token, on a token that does what it is told.
#include "tests/token/officer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <p11-kit/pkcs11.h>

#define POOL 3

static void generates(void **state)
{
    (void)state;
    const struct token_key_wish wishes[] = {
        officer_wish("rsa sign", "generated-1", TOKEN_KEY_RSA, 2048, SIGN),
        officer_wish("rsa decrypt", "generated-2", TOKEN_KEY_RSA, 2048, DECRYPT),
        officer_wish("rsa both", "generated-3", TOKEN_KEY_RSA, 3072, SIGN | DECRYPT),
        officer_wish("p256 sign", "generated-4", TOKEN_KEY_EC, 256, SIGN),
        officer_wish("p384 derive", "generated-5", TOKEN_KEY_EC, 384, DERIVE),
        officer_wish("p521 both", "generated-6", TOKEN_KEY_EC, 521, SIGN | DERIVE),
        officer_wish("p256 sign", "generated-7", TOKEN_KEY_EC, 256, SIGN), // a successor
    };
    for (size_t i = 0; i < sizeof wishes / sizeof *wishes; i++) {
        struct detail detail = {0};
        assert_ok(token_key_generate(fixture.token, &wishes[i], OFFICER_PATIENCE, &detail),
                  &detail);
        officer_check_key(fixture.token, &wishes[i], true, NULL);
        officer_check_objects((const char *)wishes[i].id.data, 2);
        assert_err(token_key_generate(fixture.token, &wishes[i], OFFICER_PATIENCE, &detail),
                   ERR_PERM);
        assert_non_null(strstr(detail.text, "already"));
        officer_check_objects((const char *)wishes[i].id.data, 2);
    }
}

static void refuses_wishes(void **state)
{
    (void)state;
    static const char long_id[] =
        "01234567890123456789012345678901234567890123456789012345678901234";
    char long_label[TOKEN_LABEL_MAX + 2];
    memset(long_label, 'x', sizeof long_label - 1);
    long_label[sizeof long_label - 1] = 0;
    const struct {
        const char *name;
        struct token_key_wish wish;
    } cases[] = {
        {"no label", officer_wish("", "r", TOKEN_KEY_EC, 256, SIGN)},
        {"long label", officer_wish(long_label, "r", TOKEN_KEY_EC, 256, SIGN)},
        {"no id", officer_wish("r", "", TOKEN_KEY_EC, 256, SIGN)},
        {"long id", officer_wish("r", long_id, TOKEN_KEY_EC, 256, SIGN)},
        {"no usage", officer_wish("r", "r", TOKEN_KEY_EC, 256, 0)},
        {"EC decrypts", officer_wish("r", "r", TOKEN_KEY_EC, 256, SIGN | DECRYPT)},
        {"RSA derives", officer_wish("r", "r", TOKEN_KEY_RSA, 2048, DERIVE)},
        {"unknown usage", officer_wish("r", "r", TOKEN_KEY_RSA, 2048, 8)},
        {"short RSA", officer_wish("r", "r", TOKEN_KEY_RSA, 1024, SIGN)},
        {"long RSA", officer_wish("r", "r", TOKEN_KEY_RSA, 16384, SIGN)},
        {"odd RSA", officer_wish("r", "r", TOKEN_KEY_RSA, 2049, SIGN)},
        {"no such curve", officer_wish("r", "r", TOKEN_KEY_EC, 224, SIGN)},
        {"no such type", officer_wish("r", "r", (enum token_key_type)7, 256, SIGN)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum err err = token_key_generate(fixture.token, &cases[i].wish, OFFICER_PATIENCE, NULL);
        if (err != ERR_PERM)
            fail_msg("%s: %s", cases[i].name, err_name(err));
    }
    officer_check_objects("r", 0);
}

static void imports(void **state)
{
    (void)state;
    const struct {
        EVP_PKEY *pkey;
        struct token_key_wish wish;
    } cases[] = {
        {EVP_RSA_gen(2048), officer_wish("from outside", "imported-1", 0, 0, SIGN | DECRYPT)},
        {EVP_RSA_gen(3072), officer_wish("from outside", "imported-2", 0, 0, DECRYPT)},
        {EVP_EC_gen("P-256"), officer_wish("from outside", "imported-3", 0, 0, SIGN)},
        {EVP_EC_gen("P-384"), officer_wish("from outside", "imported-4", 0, 0, SIGN | DERIVE)},
        {EVP_EC_gen("P-521"), officer_wish("from outside", "imported-5", 0, 0, DERIVE)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct detail detail = {0};
        struct secret pkcs8;
        struct token_import how = {0};
        officer_pkcs8(cases[i].pkey, &pkcs8);
        assert_ok(token_key_import(fixture.token, &cases[i].wish, &pkcs8, OFFICER_PATIENCE, &how,
                                   &detail),
                  &detail);
        assert_true(how.is_wrapped);
        officer_check_key(fixture.token, &cases[i].wish, false, cases[i].pkey);
        officer_check_objects((const char *)cases[i].wish.id.data, 2);
        assert_err(token_key_import(fixture.token, &cases[i].wish, &pkcs8, OFFICER_PATIENCE, NULL,
                                    &detail),
                   ERR_PERM);
        officer_check_objects((const char *)cases[i].wish.id.data, 2);
        secret_clear(&pkcs8);
        EVP_PKEY_free(cases[i].pkey);
    }
}

enum harm { NONE, CUT, LONGER, BENT, EMPTY };

static void refuses_imports(void **state)
{
    (void)state;
    const struct {
        const char *name;
        EVP_PKEY *pkey;
        enum harm harm;
        unsigned usage;
        const char *text;
    } cases[] = {
        {"empty", EVP_EC_gen("P-256"), EMPTY, SIGN, "PKCS#8"},
        {"cut", EVP_EC_gen("P-256"), CUT, SIGN, "PKCS#8"},
        {"trailing byte", EVP_EC_gen("P-256"), LONGER, SIGN, "PKCS#8"},
        {"bent RSA", EVP_RSA_gen(2048), BENT, SIGN, "not consistent"},
        {"short RSA", EVP_RSA_gen(1024), NONE, SIGN, "1024"},
        {"Ed448", EVP_PKEY_Q_keygen(NULL, NULL, "ED448"), NONE, SIGN, "only RSA, EC"},
        {"Ed25519 to derive", EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), NONE, DERIVE, "used so"},
        {"another curve of 256 bits", EVP_EC_gen("secp256k1"), NONE, SIGN, "curve"},
        {"brainpool", EVP_EC_gen("brainpoolP384r1"), NONE, SIGN, "curve"},
        {"EC to decrypt", EVP_EC_gen("P-256"), NONE, DECRYPT, "used so"},
        {"RSA to derive", EVP_RSA_gen(2048), NONE, DERIVE, "used so"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct detail detail = {0};
        struct secret pkcs8;
        const struct token_key_wish wish = officer_wish("r", "refused", 0, 0, cases[i].usage);
        officer_pkcs8(cases[i].pkey, &pkcs8);
        if (cases[i].harm == CUT)
            pkcs8.len--;
        if (cases[i].harm == LONGER)
            pkcs8.data[pkcs8.len++] = 0;
        if (cases[i].harm == BENT)
            pkcs8.data[pkcs8.len - 1] ^= 1; // the coefficient
        if (cases[i].harm == EMPTY)
            pkcs8.len = 0;
        enum err err =
            token_key_import(fixture.token, &wish, &pkcs8, OFFICER_PATIENCE, NULL, &detail);
        if (err != ERR_PERM || !strstr(detail.text, cases[i].text))
            fail_msg("%s: %s: %s", cases[i].name, err_name(err), detail.text);
        secret_clear(&pkcs8);
        EVP_PKEY_free(cases[i].pkey);
    }
    officer_check_objects("refused", 0);
}

static void destroys(void **state)
{
    (void)state;
    struct detail detail = {0};
    struct token_key *key = NULL;
    const struct token_key_wish gone = officer_wish("rollover", "old", TOKEN_KEY_EC, 256, SIGN);
    const struct token_key_wish kept = officer_wish("rollover", "new", TOKEN_KEY_EC, 256, SIGN);
    assert_ok(token_key_generate(fixture.token, &gone, OFFICER_PATIENCE, &detail), &detail);
    assert_ok(token_key_generate(fixture.token, &kept, OFFICER_PATIENCE, &detail), &detail);
    assert_ok(token_key_open(fixture.token, gone.label, gone.id, &key, &detail), &detail);
    unsigned before = officer_count_keys(fixture.token);
    assert_ok(token_key_destroy(fixture.token, key, OFFICER_PATIENCE, &detail), &detail);
    assert_int_equal(officer_count_keys(fixture.token), before - 1);
    officer_check_objects("old", 0);
    officer_check_objects("new", 2);
    officer_check_key(fixture.token, &kept, true, NULL);
    // Who holds it cannot use it, and to destroy it again is nothing.
    struct token_session *session = NULL;
    uint8_t digest[32] = {0}, out[TOKEN_SIGNATURE_MAX];
    size_t len = 0;
    assert_ok(token_session_get(fixture.token, OFFICER_PATIENCE, &session, &detail), &detail);
    assert_err(token_sign(session, key, TOKEN_ECDSA, HASH_SHA256, 0, bytes_of(digest, 32), out,
                          &len, &detail),
               ERR_TEMP);
    token_session_put(session);
    assert_ok(token_key_destroy(fixture.token, key, OFFICER_PATIENCE, &detail), &detail);
    token_key_close(key);
    assert_err(token_key_open(fixture.token, gone.label, gone.id, &key, &detail), ERR_PERM);
}

static void destroys_certificates_too(void **state)
{
    (void)state;
    struct detail detail = {0};
    struct token_key *key = fixture_key("with certificate");
    officer_check_objects("\x29", 3);
    assert_ok(token_key_destroy(fixture.token, key, OFFICER_PATIENCE, &detail), &detail);
    officer_check_objects("\x29", 0);
    token_key_close(key);
}

static void refuses_to_destroy_what_is_unclear(void **state)
{
    (void)state;
    static const struct {
        const char *label, *id;
        unsigned objects;
        const char *text;
    } cases[] = {
        {"shares 1", "\x2a", 6, "another private key has the same CKA_ID"},
        {"shares 2", "\x2a", 6, "another private key has the same CKA_ID"},
        {"foreign certificate", "\x2b", 3, "a certificate is of another key"},
    };
    unsigned closed = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct detail detail = {0};
        struct token_key *key = NULL;
        // Its public half may be that of the other one, and then it does not even open.
        enum err err =
            token_key_open(fixture.token, cases[i].label, bytes_of(NULL, 0), &key, &detail);
        if (err == ERR_PERM) {
            assert_non_null(strstr(detail.text, "not that of the private key"));
            closed++;
            continue;
        }
        assert_ok(err, &detail);
        err = token_key_destroy(fixture.token, key, OFFICER_PATIENCE, &detail);
        if (err != ERR_PERM || !strstr(detail.text, cases[i].text))
            fail_msg("%s: %s: %s", cases[i].label, err_name(err), detail.text);
        officer_check_objects(cases[i].id, cases[i].objects);
        token_key_close(key);
    }
    assert_true(closed <= 1);
}

static void a_foreign_public_half_is_noticed(void **state)
{
    (void)state;
    static const char *const labels[] = {"liar rsa", "liar rsa decrypts", "liar ec",
                                         "liar ec derives"};
    for (size_t i = 0; i < sizeof labels / sizeof *labels; i++) {
        struct detail detail = {0};
        struct token_key *key = NULL;
        enum err err = token_key_open(fixture.token, labels[i], bytes_of(NULL, 0), &key, &detail);
        if (err != ERR_PERM || !strstr(detail.text, "not that of the private key"))
            fail_msg("%s: %s: %s", labels[i], err_name(err), detail.text);
    }
}

struct seen {
    unsigned count, rsa2048, asks, cut, no_public;
};

static void see(const struct token_key_item *item, void *arg)
{
    struct seen *seen = arg;
    seen->count++;
    if (strcmp(item->label, "rsa2048") == 0)
        seen->rsa2048 += item->is_known_type && item->info.type == TOKEN_KEY_RSA &&
                         item->info.bits == 2048 && item->info.sensitive &&
                         !item->info.extractable && item->id.len == 1 && item->id.data[0] == 1 &&
                         item->info.public_key.len > 256 && item->info.can_sign;
    if (strcmp(item->label, "asks") == 0)
        seen->asks += item->is_known_type && item->info.type == TOKEN_KEY_EC &&
                      strcmp(item->info.curve, "P-256") == 0;
    if (strcmp(item->label, "no public half") == 0)
        seen->no_public += !item->is_known_type && item->info.public_key.len == 0;
}

static void lists(void **state)
{
    (void)state;
    struct detail detail = {0};
    struct seen seen = {0};
    assert_ok(token_key_list(fixture.token, OFFICER_PATIENCE, see, &seen, &detail), &detail);
    assert_true(seen.count > 8);
    assert_int_equal(seen.rsa2048, 1);
    assert_int_equal(seen.asks, 1);
    assert_int_equal(seen.no_public, 1);
}

static void can_sign(enum err expected)
{
    struct token_session *session = NULL;
    struct detail detail = {0};
    assert_err(token_session_get(fixture.token, OFFICER_PATIENCE, &session, &detail), expected);
    if (expected)
        assert_non_null(strstr(detail.text, "locked"));
    token_session_put(session);
}

static void locks_and_unlocks(void **state)
{
    (void)state;
    struct detail detail = {0};
    struct token_key *key = fixture_key("rsa2048");
    const struct token_key_wish wish = officer_wish("locked", "lock", TOKEN_KEY_EC, 256, SIGN);
    for (int i = 0; i < 3; i++) {
        uint8_t digest[32] = {0}, out[TOKEN_SIGNATURE_MAX];
        size_t len = 0;
        struct token_session *session = NULL;
        assert_ok(token_session_get(fixture.token, OFFICER_PATIENCE, &session, &detail), &detail);
        assert_ok(token_logout(fixture.token, &detail), &detail);
        assert_err(token_sign(session, key, TOKEN_RSA_PKCS1, HASH_SHA256, 0, bytes_of(digest, 32),
                              out, &len, &detail),
                   ERR_TEMP);
        assert_non_null(strstr(detail.text, "locked"));
        token_session_put(session);
        can_sign(ERR_TEMP);
        assert_err(token_key_generate(fixture.token, &wish, OFFICER_PATIENCE, &detail), ERR_TEMP);
        assert_ok(token_logout(fixture.token, &detail), &detail); // again: nothing
        assert_ok(token_login(fixture.token, &fixture.pin, &detail), &detail);
        assert_ok(token_session_get(fixture.token, OFFICER_PATIENCE, &session, &detail), &detail);
        assert_ok(token_sign(session, key, TOKEN_RSA_PKCS1, HASH_SHA256, 0, bytes_of(digest, 32),
                             out, &len, &detail),
                  &detail);
        token_session_put(session);
    }
    officer_check_objects("lock", 0);
    token_key_close(key);
}

// A PIN that is refused and one that is longer afterwards.
static void unlocks_after_a_wrong_pin(void **state)
{
    (void)state;
    struct detail detail = {0};
    struct secret wrong;
    assert_ok(secret_init(&wrong, 4, &detail), &detail);
    assert_ok(secret_set(&wrong, "12", 2), &detail);
    assert_ok(token_logout(fixture.token, &detail), &detail);
    assert_err(token_login(fixture.token, &wrong, &detail), ERR_DENIED);
    assert_ok(token_logout(fixture.token, &detail), &detail);
    assert_ok(token_login(fixture.token, &fixture.pin, &detail), &detail);
    can_sign(ERR_OK);
    secret_clear(&wrong);
}

static void swap_ids(void *functions, unsigned long session, void *arg)
{
    CK_FUNCTION_LIST *fn = functions;
    (void)arg;
    static const struct {
        CK_OBJECT_CLASS class;
        const char *label;
        CK_BYTE id;
    } rows[] = {
        {CKO_PUBLIC_KEY, "liar rsa", 0x32},
        {CKO_PUBLIC_KEY, "liar rsa decrypts", 0x31},
        {CKO_PUBLIC_KEY, "liar ec", 0x34},
        {CKO_PUBLIC_KEY, "liar ec derives", 0x33},
        {CKO_CERTIFICATE, "certificate's own", 0x2b},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CK_ATTRIBUTE match[] = {{CKA_CLASS, (void *)&rows[i].class, sizeof rows[i].class},
                                {CKA_LABEL, (void *)rows[i].label, strlen(rows[i].label)}};
        CK_ATTRIBUTE id = {CKA_ID, (void *)&rows[i].id, 1};
        CK_OBJECT_HANDLE object;
        CK_ULONG count = 0;
        if (fn->C_FindObjectsInit(session, match, 2) ||
            fn->C_FindObjects(session, &object, 1, &count) || fn->C_FindObjectsFinal(session) ||
            count != 1 || fn->C_SetAttributeValue(session, object, &id, 1))
            exit(1);
    }
}

static int begin(void **state)
{
    (void)state;
    static const struct softhsm_key further[] = {
        {.label = "with certificate", .id = 0x29, .kind = "P-256"},
        {.label = "shares 1", .id = 0x2a, .kind = "P-256"},
        {.label = "shares 2", .id = 0x2a, .kind = "P-256"},
        {.label = "foreign certificate", .id = 0x2b, .kind = "P-256", .flags = SOFTHSM_NO_CERT},
        {.label = "certificate's own", .id = 0x2c, .kind = "P-256"},
        {.label = "asks", .id = 0x2d, .kind = "P-256", .flags = SOFTHSM_ASK_EVERY_TIME},
        {.label = "no public half",
         .id = 0x2e,
         .kind = "P-256",
         .flags = SOFTHSM_NO_PUBLIC | SOFTHSM_NO_CERT},
        {.label = "liar rsa", .id = 0x31, .kind = "RSA-2048", .flags = SOFTHSM_SIGN_ONLY},
        {.label = "liar rsa decrypts",
         .id = 0x32,
         .kind = "RSA-2048",
         .flags = SOFTHSM_DECRYPT_ONLY},
        {.label = "liar ec", .id = 0x33, .kind = "P-256", .flags = SOFTHSM_SIGN_ONLY},
        {.label = "liar ec derives", .id = 0x34, .kind = "P-256", .flags = SOFTHSM_DECRYPT_ONLY},
        {0},
    };
    fixture_begin_with(SOFTHSM_RSA2048, further, softhsm_module(), POOL);
    softhsm_in_child(&fixture.hsm, NULL, swap_ids, NULL);
    token_session_put(fixture.session);
    fixture.session = NULL;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generates),
        cmocka_unit_test(refuses_wishes),
        cmocka_unit_test(imports),
        cmocka_unit_test(refuses_imports),
        cmocka_unit_test(destroys),
        cmocka_unit_test(destroys_certificates_too),
        cmocka_unit_test(refuses_to_destroy_what_is_unclear),
        cmocka_unit_test(a_foreign_public_half_is_noticed),
        cmocka_unit_test(lists),
        cmocka_unit_test(locks_and_unlocks),
        cmocka_unit_test(unlocks_after_a_wrong_pin),
    };
    return cmocka_run_group_tests(tests, begin, fixture_end);
}
