// SPDX-License-Identifier: Apache-2.0
// Officers' acts on a token that fails: what is said to be there is there and
// works, what is said to have failed has left nothing, and locked is locked.
#include "tests/fault/common.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/ec.h>
#include <openssl/rsa.h>
#include <p11-kit/pkcs11.h>

#include "tests/token/officer.h"

static const CK_RV codes[] = {
    CKR_SESSION_HANDLE_INVALID, CKR_DEVICE_REMOVED, CKR_TOKEN_NOT_PRESENT, CKR_USER_NOT_LOGGED_IN,
    CKR_OBJECT_HANDLE_INVALID,  CKR_SESSION_COUNT,  CKR_FUNCTION_FAILED,   CKR_HOST_MEMORY,
};
static const char *const functions[] = {
    "C_OpenSession",       "C_GetSessionInfo", "C_FindObjectsInit", "C_FindObjects",
    "C_GenerateKeyPair",   "C_GenerateKey",    "C_UnwrapKey",       "C_CreateObject",
    "C_GetAttributeValue", "C_DestroyObject",  "C_SignInit",        "C_Sign",
};
#define CODES (sizeof codes / sizeof *codes)
#define FUNCTIONS_BROKEN (sizeof functions / sizeof *functions)

static struct {
    EVP_PKEY *rsa, *ec;
    struct secret rsa_pkcs8, ec_pkcs8;
} outside;

static enum err make(const struct token_key_wish *wish, bool by_import, struct detail *detail)
{
    deadline_t deadline = OFFICER_PATIENCE;
    return by_import
               ? token_key_import(fixture.token, wish, &outside.ec_pkcs8, deadline, NULL, detail)
               : token_key_generate(fixture.token, wish, deadline, detail);
}

static void destroy(const struct token_key_wish *wish)
{
    struct detail detail = {0};
    struct token_key *key = NULL;
    assert_ok(token_key_open(fixture.token, wish->label, wish->id, &key, &detail), &detail);
    assert_ok(token_key_destroy(fixture.token, key, OFFICER_PATIENCE, &detail), &detail);
    token_key_close(key);
}

// One fault, and one that lasts until the act is over.
static void acts_are_whole_or_nothing(void **state)
{
    (void)state;
    unsigned done = 0, failed = 0;
    const struct token_key_wish wish =
        officer_wish("whole", "whole or nothing", TOKEN_KEY_EC, 256, TOKEN_USE_SIGN);
    unsigned before = officer_count_keys(fixture.token);
    for (size_t i = 0; i < CODES * FUNCTIONS_BROKEN * 4; i++) {
        struct detail detail = {0};
        const char *function = functions[i / 4 % FUNCTIONS_BROKEN];
        CK_RV rv = codes[i / 4 / FUNCTIONS_BROKEN];
        shim_fail(function, rv, 1 + (unsigned)i % 3, i & 1 ? 0 : 1);
        enum err err = make(&wish, i & 2, &detail);
        shim_reset();
        if (rv == CKR_SESSION_HANDLE_INVALID)
            shim_kill_sessions(); // so that it was no lie
        if (err != ERR_OK && err != ERR_TEMP)
            fail_msg("0x%lx at %s: %s: %s", rv, function, err_name(err), detail.text);
        fault_recover();
        if (err == ERR_OK) {
            done++;
            officer_check_key(fixture.token, &wish, !(i & 2), i & 2 ? outside.ec : NULL);
            destroy(&wish);
        } else if (strstr(detail.text, "may be left")) {
            // It told so; an officer finds it in the list. Here another process takes
            // it away.
            softhsm_in_child(&fixture.hsm, NULL, officer_remove, (void *)"whole or nothing");
        } else {
            failed++;
        }
        unsigned after = officer_count_keys(fixture.token);
        if (after != before)
            fail_msg("0x%lx at %s: %s: %u keys, not %u", rv, function, detail.text, after, before);
    }
    officer_check_objects("whole or nothing", 0);
    assert_true(done > CODES * FUNCTIONS_BROKEN && failed > CODES);
    assert_true(shim_sessions() <= POOL);
}

static void destruction_can_be_done_again(void **state)
{
    (void)state;
    static const char *const places[] = {"C_FindObjects", "C_GetAttributeValue", "C_DestroyObject"};
    const struct token_key_wish wish =
        officer_wish("gone", "gone", TOKEN_KEY_EC, 256, TOKEN_USE_SIGN);
    for (size_t i = 0; i < CODES * 3 * 3; i++) {
        struct detail detail = {0};
        struct token_key *key = NULL;
        CK_RV rv = codes[i / 9];
        assert_ok(token_key_generate(fixture.token, &wish, OFFICER_PATIENCE, &detail), &detail);
        assert_ok(token_key_open(fixture.token, wish.label, wish.id, &key, &detail), &detail);
        shim_fail(places[i % 3], rv, 1 + (unsigned)(i / 3 % 3), 0);
        enum err err = token_key_destroy(fixture.token, key, OFFICER_PATIENCE, &detail);
        shim_reset();
        fault_recover();
        if (err != ERR_OK && err != ERR_TEMP)
            fail_msg("0x%lx at %s: %s: %s", rv, places[i % 3], err_name(err), detail.text);
        assert_ok(token_key_destroy(fixture.token, key, OFFICER_PATIENCE, &detail), &detail);
        officer_check_objects("gone", 0);
        token_key_close(key);
    }
}

// The officers' own way round a token's likes and dislikes.
static void picky_tokens_get_what_they_take(void **state)
{
    (void)state;
    struct detail detail = {0};
    const struct token_key_wish wish =
        officer_wish("picky", "picky", TOKEN_KEY_RSA, 2048, TOKEN_USE_SIGN);
    // SoftHSM lets RSA keys sign with recovery if it is not told otherwise: too
    // much, if it stays so.
    shim_fail("C_GenerateKeyPair", CKR_ATTRIBUTE_TYPE_INVALID, 1, 1);
    shim_fail("C_SetAttributeValue", CKR_ATTRIBUTE_READ_ONLY, 1, 0);
    assert_int_equal(token_key_generate(fixture.token, &wish, OFFICER_PATIENCE, &detail), ERR_PERM);
    assert_non_null(strstr(detail.text, "CKA_SIGN_RECOVER"));
    officer_check_objects("picky", 0);
    shim_reset();
    // It may be taken away afterwards, and twice the template may be too much.
    static const CK_RV refusals[] = {CKR_ATTRIBUTE_TYPE_INVALID, CKR_GENERAL_ERROR};
    for (unsigned i = 0; i < 2; i++) {
        shim_fail("C_GenerateKeyPair", refusals[i], 1, 1 + i);
        assert_ok(token_key_generate(fixture.token, &wish, OFFICER_PATIENCE, &detail), &detail);
        officer_check_key(fixture.token, &wish, true, NULL);
        destroy(&wish);
        shim_reset();
    }
    shim_fail("C_GenerateKeyPair", CKR_TEMPLATE_INCONSISTENT, 1, 0);
    assert_err(token_key_generate(fixture.token, &wish, OFFICER_PATIENCE, &detail), ERR_PERM);
    officer_check_objects("picky", 0);
}

static void disobedient_tokens_keep_nothing(void **state)
{
    (void)state;
    static const struct {
        CK_ATTRIBUTE_TYPE type;
        const char *name;
    } rows[] = {{CKA_EXTRACTABLE, "CKA_EXTRACTABLE true"},
                {CKA_DECRYPT, "CKA_DECRYPT true"},
                {CKA_UNWRAP, "CKA_UNWRAP true"}};
    const struct token_key_wish wish =
        officer_wish("own will", "own will", TOKEN_KEY_RSA, 2048, TOKEN_USE_SIGN);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct detail detail = {0};
        shim_insist(rows[i].type);
        shim_fail("C_SetAttributeValue", CKR_ATTRIBUTE_READ_ONLY, 1, 0);
        assert_err(token_key_generate(fixture.token, &wish, OFFICER_PATIENCE, &detail), ERR_PERM);
        if (!strstr(detail.text, rows[i].name))
            fail_msg("%s", detail.text);
        officer_check_objects("own will", 0);
        shim_reset();
    }
}

static void imports_without_key_wrap(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        CK_MECHANISM_TYPE hidden[3];
        bool rsa_wrapped, ec_wrapped;
    } cases[] = {
        {"all", {CKM_VENDOR_DEFINED}, true, true},
        {"RFC 3394 only", {CKM_AES_KEY_WRAP_PAD}, false, false}, // lengths decide, see below
        {"none", {CKM_AES_KEY_WRAP_PAD, CKM_AES_KEY_WRAP}, false, false},
        {"no AES", {CKM_AES_KEY_GEN}, false, false},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct detail detail = {0};
        fault_close();
        shim_reset();
        for (int i = 0; i < 3; i++)
            shim_hide(cases[c].hidden[i] ? cases[c].hidden[i] : CKM_VENDOR_DEFINED);
        fault_open();
        for (int rsa = 0; rsa < 2; rsa++) {
            const struct token_key_wish wish = officer_wish("import", "import", 0, 0, SIGN);
            const struct secret *pkcs8 = rsa ? &outside.rsa_pkcs8 : &outside.ec_pkcs8;
            struct token_import how = {0};
            bool expected = rsa ? cases[c].rsa_wrapped : cases[c].ec_wrapped;
            if (c == 1)
                expected = pkcs8->len % 8 == 0;
            assert_ok(
                token_key_import(fixture.token, &wish, pkcs8, OFFICER_PATIENCE, &how, &detail),
                &detail);
            assert_int_equal(how.is_wrapped, expected);
            officer_check_key(fixture.token, &wish, false, rsa ? outside.rsa : outside.ec);
            destroy(&wish);
        }
    }
    fault_close();
    shim_reset();
    fault_open();
    // A token that only says that it can.
    const struct token_key_wish wish = officer_wish("import", "import", 0, 0, SIGN | DECRYPT);
    struct detail detail = {0};
    struct token_import how = {.is_wrapped = true};
    shim_fail("C_UnwrapKey", CKR_FUNCTION_FAILED, 1, 0);
    assert_ok(
        token_key_import(fixture.token, &wish, &outside.rsa_pkcs8, OFFICER_PATIENCE, &how, &detail),
        &detail);
    assert_false(how.is_wrapped);
    officer_check_key(fixture.token, &wish, false, outside.rsa);
    destroy(&wish);
}

// An import that is killed between both halves, as far as the token can tell.
static void cut_import(const struct token_key_wish *wish, const struct secret *pkcs8)
{
    struct detail detail = {0};
    shim_fail("C_UnwrapKey", CKR_FUNCTION_FAILED, 1, 0);
    shim_fail("C_CreateObject", CKR_FUNCTION_FAILED, 2, 0);
    shim_fail("C_DestroyObject", CKR_FUNCTION_FAILED, 1, 0);
    assert_err(token_key_import(fixture.token, wish, pkcs8, OFFICER_PATIENCE, NULL, &detail),
               ERR_TEMP);
    shim_reset();
    fault_recover();
    officer_check_objects((const char *)wish->id.data, 1);
}

static unsigned import_rsa(const struct token_key_wish *wish)
{
    struct detail detail = {0};
    struct token_import how = {.swept = 99};
    assert_ok(
        token_key_import(fixture.token, wish, &outside.rsa_pkcs8, OFFICER_PATIENCE, &how, &detail),
        &detail);
    officer_check_key(fixture.token, wish, false, outside.rsa);
    return how.swept;
}

// For softhsm_in_child: the private key with the CKA_ID arg gets another label.
static void relabel(void *module, unsigned long session, void *arg)
{
    CK_FUNCTION_LIST *fn = module;
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_ATTRIBUTE match[] = {{CKA_ID, arg, strlen(arg)}, {CKA_CLASS, &class, sizeof class}};
    CK_ATTRIBUTE label = {CKA_LABEL, "renamed", 7};
    CK_OBJECT_HANDLE object;
    CK_ULONG found = 0;
    if (fn->C_FindObjectsInit(session, match, 2) ||
        fn->C_FindObjects(session, &object, 1, &found) || fn->C_FindObjectsFinal(session) ||
        found != 1 || fn->C_SetAttributeValue(session, object, &label, 1))
        exit(1);
}

// What it leaves goes when the same key is imported under the same label, and
// nothing else does.
static void imports_clear_up(void **state)
{
    (void)state;
    const struct token_key_wish cut = officer_wish("cut", "cut", 0, 0, SIGN);
    const struct token_key_wish other = officer_wish("other", "other", 0, 0, SIGN);
    const struct token_key_wish again = officer_wish("cut", "again", 0, 0, SIGN);
    const struct token_key_wish third = officer_wish("cut", "third", 0, 0, SIGN);
    struct secret foreign;
    EVP_PKEY *pkey = EVP_RSA_gen(2048);
    officer_pkcs8(pkey, &foreign);
    EVP_PKEY_free(pkey);
    cut_import(&cut, &outside.rsa_pkcs8);
    assert_int_equal(import_rsa(&other), 0); // another label
    destroy(&other);
    officer_check_objects("cut", 1);
    assert_int_equal(import_rsa(&again), 1);
    officer_check_objects("cut", 0);
    cut_import(&cut, &outside.rsa_pkcs8);
    assert_int_equal(import_rsa(&third),
                     0); // whose it is, with a private key of that label?
    officer_check_objects("cut", 1);
    destroy(&third);
    softhsm_in_child(&fixture.hsm, NULL, relabel, (void *)"again");
    assert_int_equal(import_rsa(&third),
                     1); // not the public half of what has another label now
    officer_check_objects("again", 2);
    destroy(&third);
    softhsm_in_child(&fixture.hsm, NULL, officer_remove, (void *)"again");
    cut_import(&cut, &foreign);
    assert_int_equal(import_rsa(&third), 0); // another key
    officer_check_objects("cut", 1);
    destroy(&third);
    shim_fail("C_DestroyObject", CKR_ACTION_PROHIBITED, 1, 1);
    struct token_import how = {0};
    struct detail detail = {0};
    assert_ok(token_key_import(fixture.token, &third, &foreign, OFFICER_PATIENCE, &how, &detail),
              &detail);
    assert_int_equal(how.swept, 0); // it does not let go
    shim_reset();
    destroy(&third);
    secret_clear(&foreign);
    softhsm_in_child(&fixture.hsm, NULL, officer_remove, (void *)"cut");
}

static void a_session_of_the_pool_stands_back(void **state)
{
    (void)state;
    struct detail detail = {0};
    const struct token_key_wish wish = officer_wish("tight", "tight", TOKEN_KEY_EC, 256, SIGN);
    for (unsigned limit = 1; limit <= POOL; limit += POOL - 1) {
        fault_close();
        shim_reset();
        shim_limit_sessions(limit);
        fault_open();
        fault_all_work();
        assert_ok(token_key_generate(fixture.token, &wish, OFFICER_PATIENCE, &detail), &detail);
        fault_all_work();
        destroy(&wish);
        fault_all_work();
        assert_true(shim_sessions() <= limit);
    }
    fault_close();
    shim_reset();
    fault_open();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(acts_are_whole_or_nothing, fault_reset),
        cmocka_unit_test_teardown(destruction_can_be_done_again, fault_reset),
        cmocka_unit_test_teardown(picky_tokens_get_what_they_take, fault_reset),
        cmocka_unit_test_teardown(disobedient_tokens_keep_nothing, fault_reset),
        cmocka_unit_test_teardown(imports_without_key_wrap, fault_reset),
        cmocka_unit_test_teardown(imports_clear_up, fault_reset),
        cmocka_unit_test_teardown(a_session_of_the_pool_stands_back, fault_reset),
    };
    outside.rsa = EVP_RSA_gen(2048);
    outside.ec = EVP_EC_gen("P-256");
    officer_pkcs8(outside.rsa, &outside.rsa_pkcs8);
    officer_pkcs8(outside.ec, &outside.ec_pkcs8);
    int failed = cmocka_run_group_tests(tests, fault_begin, fault_end);
    secret_clear(&outside.rsa_pkcs8);
    secret_clear(&outside.ec_pkcs8);
    EVP_PKEY_free(outside.rsa);
    EVP_PKEY_free(outside.ec);
    return failed;
}
