// SPDX-License-Identifier: Apache-2.0
// A PIN that is refused is not tried again: three tries lock a token.
#include "tests/fault/common.h"

#include <stdlib.h>
#include <string.h>

#include <p11-kit/pkcs11.h>

// The token a second time, with this PIN.
static struct token *open_another(const char *pin, enum err expected)
{
    struct token *token = NULL;
    struct detail detail = {0};
    struct secret secret;
    struct token_conf conf = fixture_conf(SHIM_PATH, 2);
    assert_ok(secret_init(&secret, 64, &detail), &detail);
    assert_ok(secret_set(&secret, pin, strlen(pin)), &detail);
    assert_ok(token_open(&conf, &token, &detail), &detail);
    assert_err(token_login(token, &secret, &detail), expected);
    secret_clear(&secret);
    return token;
}

static void wrong_pin_is_tried_once(void **state)
{
    (void)state;
    fault_close(); // all of the module share one login
    shim_reset();
    struct token_session *session = NULL;
    struct detail detail = {0};
    struct token *token = open_another("9999", ERR_DENIED);
    for (int i = 0; i < 5; i++) {
        assert_err(token_session_get(token, deadline_in(1000), &session, &detail), ERR_DENIED);
        assert_null(session);
    }
    assert_int_equal(shim_calls("C_Login"), 1);
    // A new PIN is a new try.
    struct secret pin;
    assert_ok(secret_init(&pin, 64, &detail), &detail);
    assert_ok(secret_set(&pin, SOFTHSM_PIN, strlen(SOFTHSM_PIN)), &detail);
    assert_ok(token_login(token, &pin, &detail), &detail);
    assert_int_equal(shim_calls("C_Login"), 2);
    secret_clear(&pin);
    token_close(token);
    fault_open();
}

// Somebody changes the PIN while we are at work: when it is needed, it is tried once.
static void changed_pin_is_tried_once(void **state)
{
    (void)state;
    bool right;
    struct detail detail = {0};
    shim_fail("C_Login", CKR_PIN_INCORRECT, 1, 0);
    fault_all_work(); // who is logged in stays it
    shim_kill_sessions();
    for (int i = 0; i < 3; i++)
        assert_err(fault_operate(fixture.token, KNOWN_SIGN, &fixture.out, 1000, &right, &detail),
                   ERR_DENIED);
    assert_int_equal(shim_calls("C_Login"), 1);
    shim_reset();
    assert_ok(token_login(fixture.token, &fixture.pin, &detail), &detail);
    fault_all_work();
}

static void final_try_is_not_taken(void **state)
{
    (void)state;
    static const struct {
        CK_FLAGS flags;
        const char *text;
    } cases[] = {
        {CKF_USER_PIN_FINAL_TRY, "only one try"},
        {CKF_USER_PIN_LOCKED, "locked"},
        {CKF_USER_PIN_LOCKED | CKF_USER_PIN_FINAL_TRY, "locked"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct detail detail = {0};
        bool right;
        shim_reset();
        shim_token_flags(cases[i].flags);
        shim_kill_sessions();
        for (int k = 0; k < 3; k++) {
            assert_err(
                fault_operate(fixture.token, KNOWN_SIGN, &fixture.out, 1000, &right, &detail),
                ERR_DENIED);
            if (k == 0)
                assert_non_null(strstr(detail.text, cases[i].text));
        }
        assert_int_equal(shim_calls("C_Login"), 0);
        shim_token_flags(0); // not even then, before an officer says so
        assert_err(fault_operate(fixture.token, KNOWN_SIGN, &fixture.out, 1000, &right, &detail),
                   ERR_DENIED);
        assert_int_equal(shim_calls("C_Login"), 0);
        assert_ok(token_login(fixture.token, &fixture.pin, &detail), &detail);
        fault_all_work();
    }
}

// A token that does not call a wrong PIN by its name.
static void disguised_refusal_counts(void **state)
{
    (void)state;
    struct detail detail = {0};
    bool right;
    shim_fail("C_Login", CKR_GENERAL_ERROR, 1, 0);
    shim_token_flags_after("C_Login", CKF_USER_PIN_COUNT_LOW);
    shim_kill_sessions();
    for (int k = 0; k < 3; k++)
        assert_err(fault_operate(fixture.token, KNOWN_SIGN, &fixture.out, 1000, &right, &detail),
                   ERR_DENIED);
    assert_int_equal(shim_calls("C_Login"), 1);
    shim_reset();
    assert_ok(token_login(fixture.token, &fixture.pin, &detail), &detail);
    fault_all_work();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(wrong_pin_is_tried_once, fault_reset),
        cmocka_unit_test_teardown(final_try_is_not_taken, fault_reset),
        cmocka_unit_test_teardown(disguised_refusal_counts, fault_reset),
        cmocka_unit_test_teardown(changed_pin_is_tried_once, fault_reset),
    };
    return cmocka_run_group_tests(tests, fault_begin, fault_end);
}
