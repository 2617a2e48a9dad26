// SPDX-License-Identifier: Apache-2.0
// What is told of a token, and the breaker: nobody queues up behind a token that is gone.
#include "tests/fault/common.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <p11-kit/pkcs11.h>

#include "pkcs11/token_admin.h"

static struct token_status look(void)
{
    struct token_status status;
    token_status(fixture.token, &status);
    return status;
}

static enum err sign(unsigned patience_ms)
{
    bool right = false;
    enum err err =
        fault_operate(fixture.token, KNOWN_SIGN, &fixture.out, patience_ms, &right, NULL);
    assert_true(err || right);
    return err;
}

static void expect_state(enum token_state state)
{
    struct token_status status = look();
    if (status.state != state)
        fail_msg("%s, not %s", token_state_name(status.state), token_state_name(state));
}

static void tells_of_a_day_without_events(void **state)
{
    (void)state;
    fault_all_work();
    struct token_status before = look();
    deadline_t since = before.since;
    assert_int_equal(before.state, TOKEN_READY);
    assert_int_equal(before.sessions, POOL);
    assert_int_equal(before.out, 0);
    assert_int_equal(before.in_call, 0);
    assert_int_equal(before.broken, 0);
    assert_int_equal(before.longest_call_ms, 0);
    assert_int_equal(before.failures, 0);
    assert_string_equal(before.error, "");
    assert_false(before.is_breaking);
    fault_all_work();
    assert_int_equal(look().calls - before.calls, KNOWN_COUNT);
    assert_int_equal(look().calls_failed, before.calls_failed);
    assert_int_equal(look().since, since);
    struct token_session *session = NULL;
    assert_err(token_session_get(fixture.token, deadline_in(20000), &session, NULL), ERR_OK);
    assert_int_equal(look().out, 1);
    token_session_put(session);
}

static void names_states(void **state)
{
    (void)state;
    assert_string_equal(token_state_name(TOKEN_READY), "ready");
    assert_string_equal(token_state_name(TOKEN_LOCKED), "locked");
    assert_string_equal(token_state_name(TOKEN_PIN_REFUSED), "pin-refused");
    assert_string_equal(token_state_name(TOKEN_RECOVERING), "recovering");
    assert_string_equal(token_state_name(TOKEN_ABSENT), "absent");
    assert_string_equal(token_state_name((enum token_state)99), "unknown");
}

static void nobody_waits_for_an_absent_token(void **state)
{
    (void)state;
    struct token_status before = look();
    shim_pull(CKR_DEVICE_REMOVED);
    shim_delay("C_GetSlotList", 400);
    deadline_t began = clock_ms();
    for (int i = 0; i < 100; i++)
        assert_err(sign(20000), ERR_TEMP);
    // Each on its own would have waited for two lists of slots and more.
    assert_true(clock_ms() - began < 20000);
    assert_true(shim_calls("C_GetSlotList") < 50);
    struct token_status status = look();
    assert_int_equal(status.state, TOKEN_ABSENT);
    assert_true(status.is_breaking);
    assert_true(status.refused - before.refused > 50);
    assert_int_equal(status.broken, POOL);
    assert_true(status.since >= before.since && status.error_at >= status.since);
    assert_non_null(strstr(status.error, "no token with"));
    shim_delay("C_GetSlotList", 0);
    shim_plug();
    fault_recover();
    fault_all_work();
    expect_state(TOKEN_READY);
    assert_false(look().is_breaking);
    assert_int_equal(look().failures, 0);
}

static void a_token_that_always_goes_again_is_left_alone(void **state)
{
    (void)state;
    shim_fail("C_Sign", CKR_DEVICE_REMOVED, 1, 0);
    for (int i = 0; i < 100; i++)
        assert_err(sign(20000), ERR_TEMP);
    assert_true(look().is_breaking);
    expect_state(TOKEN_RECOVERING);
    assert_true(shim_calls("C_Sign") < 50);
    shim_reset();
    fault_recover();
    fault_all_work();
    expect_state(TOKEN_READY);
}

// One session of all ends, and cannot be restored.
static void lose_one_session(void)
{
    struct token_session *sessions[POOL];
    for (int i = 0; i < POOL; i++) // all are open
        assert_err(token_session_get(fixture.token, deadline_in(20000), &sessions[i], NULL),
                   ERR_OK);
    for (int i = 0; i < POOL; i++)
        token_session_put(sessions[i]);
    assert_int_equal(look().broken, 0);
    shim_fail("C_Sign", CKR_SESSION_HANDLE_INVALID, 1, 1); // and the second try gets none
    shim_fail("C_OpenSession", CKR_FUNCTION_FAILED, 1, 0);
    assert_err(sign(20000), ERR_TEMP);
}

static void one_bad_session_does_not_stop_the_others(void **state)
{
    (void)state;
    lose_one_session();
    for (int i = 0; i < 60; i++)
        assert_err(sign(20000), ERR_OK);
    assert_int_equal(look().broken, 1);
    expect_state(TOKEN_RECOVERING);
    fault_recover(); // as far as the good ones show
    expect_state(TOKEN_RECOVERING);
    shim_reset();
    fault_recover(); // while nobody needs another session
    assert_int_equal(look().broken, 0);
    expect_state(TOKEN_READY);
    assert_false(look().is_breaking);
    fault_all_work();
}

static void fewer_sessions_than_before_are_enough(void **state)
{
    (void)state;
    lose_one_session();
    expect_state(TOKEN_RECOVERING);
    shim_reset();
    shim_limit_sessions(1);
    fault_recover();
    assert_int_equal(look().broken, 1);
    expect_state(TOKEN_READY);
    fault_all_work();
}

static void faults_of_one_key_do_not_stop_the_others(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        bool right = false;
        shim_fail("C_DeriveKey", CKR_FUNCTION_FAILED, 1, 2);
        assert_err(fault_operate(fixture.token, KNOWN_AGREE, &fixture.out, 20000, &right, NULL),
                   ERR_TEMP);
    }
    assert_int_equal(look().failures, 20);
    assert_int_equal(sign(20000), ERR_OK);
    assert_int_equal(look().failures, 0);
}

static void *sign_once(void *arg)
{
    *(enum err *)arg = sign(20000);
    return NULL;
}

static void tells_of_calls_that_hang(void **state)
{
    (void)state;
    pthread_t thread;
    enum err err = ERR_BUG;
    shim_hang("C_Sign");
    assert_int_equal(pthread_create(&thread, NULL, sign_once, &err), 0);
    while (shim_hanging() < 1)
        fault_rest(5);
    fault_rest(50);
    struct token_status status = look();
    assert_int_equal(status.out, 1);
    assert_int_equal(status.in_call, 1);
    assert_true(status.longest_call_ms >= 50);
    // The token is lost meanwhile: it is not waited for the one that hangs but once.
    shim_kill_sessions();
    shim_fail("C_DecryptInit", CKR_DEVICE_REMOVED, 1, 1);
    fault_works(KNOWN_UNWRAP);
    fault_works(KNOWN_AGREE);
    assert_int_equal(look().in_call, 1);
    shim_reset();
    pthread_join(thread, NULL);
    assert_int_equal(err, ERR_OK);
    fault_all_work();
    assert_int_equal(look().out, 0);
}

static void tells_of_restorations_that_hang(void **state)
{
    (void)state;
    pthread_t thread;
    enum err err = ERR_BUG;
    shim_kill_sessions();
    shim_hang("C_OpenSession");
    assert_int_equal(pthread_create(&thread, NULL, sign_once, &err), 0);
    while (shim_hanging() < 1)
        fault_rest(5);
    // The others do not use up their time.
    deadline_t began = clock_ms();
    assert_err(sign(60000), ERR_TEMP);
    assert_true(clock_ms() - began < 30000);
    assert_true(look().longest_call_ms > 0);
    shim_reset();
    pthread_join(thread, NULL);
    assert_int_equal(err, ERR_OK);
    fault_all_work();
}

static void tells_of_refused_pins(void **state)
{
    (void)state;
    struct detail detail = {0};
    shim_token_flags(CKF_USER_PIN_FINAL_TRY);
    shim_kill_sessions();
    assert_err(sign(1000), ERR_DENIED);
    expect_state(TOKEN_PIN_REFUSED);
    assert_true(look().is_final_try);
    shim_reset();
    assert_err(sign(1000), ERR_DENIED);
    assert_ok(token_login(fixture.token, &fixture.pin, &detail), &detail);
    expect_state(TOKEN_READY);
    assert_false(look().is_final_try);
    shim_fail("C_Login", CKR_PIN_INCORRECT, 1, 1);
    shim_kill_sessions();
    assert_err(sign(1000), ERR_DENIED);
    expect_state(TOKEN_PIN_REFUSED);
    assert_false(look().is_final_try);
    assert_ok(token_logout(fixture.token, &detail), &detail);
    expect_state(TOKEN_LOCKED);
    assert_ok(token_login(fixture.token, &fixture.pin, &detail), &detail);
    expect_state(TOKEN_READY);
    fault_all_work();
}

static void a_look_finds_and_mends(void **state)
{
    (void)state;
    struct detail detail = {0};
    assert_ok(token_check(fixture.token, deadline_in(20000), &detail), &detail);
    shim_log_out();
    assert_ok(token_check(fixture.token, deadline_in(20000), &detail), &detail);
    shim_kill_sessions();
    assert_ok(token_check(fixture.token, deadline_in(20000), &detail), &detail);
    shim_pull(CKR_DEVICE_REMOVED);
    assert_err(token_check(fixture.token, deadline_in(20000), &detail), ERR_TEMP);
    expect_state(TOKEN_ABSENT);
    shim_plug();
    fault_recover();
    expect_state(TOKEN_READY);
    fault_all_work();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(tells_of_a_day_without_events, fault_reset),
        cmocka_unit_test(names_states),
        cmocka_unit_test_teardown(nobody_waits_for_an_absent_token, fault_reset),
        cmocka_unit_test_teardown(a_token_that_always_goes_again_is_left_alone, fault_reset),
        cmocka_unit_test_teardown(one_bad_session_does_not_stop_the_others, fault_reset),
        cmocka_unit_test_teardown(fewer_sessions_than_before_are_enough, fault_reset),
        cmocka_unit_test_teardown(faults_of_one_key_do_not_stop_the_others, fault_reset),
        cmocka_unit_test_teardown(tells_of_calls_that_hang, fault_reset),
        cmocka_unit_test_teardown(tells_of_restorations_that_hang, fault_reset),
        cmocka_unit_test_teardown(tells_of_refused_pins, fault_reset),
        cmocka_unit_test_teardown(a_look_finds_and_mends, fault_reset),
    };
    return cmocka_run_group_tests(tests, fault_begin, fault_end);
}
