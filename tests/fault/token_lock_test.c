// SPDX-License-Identifier: Apache-2.0
// Locked is locked: for those at work, with calls that hang, with a login that hangs; and what a
// token can do whose PIN is not kept.
#include "tests/fault/common.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include <p11-kit/pkcs11.h>

#include "pkcs11/token_admin.h"

enum { THREADS = 8 };

static atomic_bool stop, is_locked;
static atomic_uint answered, locked, escaped, wrong, other;

static void *work(void *arg)
{
    struct secret out;
    unsigned turn = (unsigned)(uintptr_t)arg;
    if (secret_init(&out, 4096, NULL) != ERR_OK)
        return NULL;
    while (!stop) {
        struct detail detail = {0};
        bool right = false, was_locked = is_locked;
        enum err err = fault_operate(fixture.token, (enum known)(turn++ % KNOWN_COUNT), &out, 20000,
                                     &right, &detail);
        if (err == ERR_OK && !right)
            wrong++;
        else if (err == ERR_OK && was_locked)
            escaped++;
        else if (err == ERR_OK)
            answered++;
        else if (err == ERR_TEMP && strstr(detail.text, "locked"))
            locked++;
        else
            other++;
        if (err)
            fault_rest(1);
    }
    secret_clear(&out);
    return NULL;
}

static void everybody_is_locked_out(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, (void *)i), 0);
    for (int i = 0; i < 10; i++) {
        struct detail detail = {0};
        unsigned before = answered;
        while (answered < before + 20)
            fault_rest(1);
        assert_ok(token_logout(fixture.token, &detail), &detail);
        is_locked = true;
        assert_int_equal(shim_sessions(), 0);
        before = locked;
        while (locked < before + 20)
            fault_rest(1);
        is_locked = false;
        assert_ok(token_login(fixture.token, &fixture.pin, &detail), &detail);
    }
    stop = true;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(wrong, 0);
    assert_int_equal(other, 0);
    assert_int_equal(escaped, 0);
    fault_all_work();
}

struct result {
    enum err err;
    struct detail detail;
};

static void *sign_once(void *arg)
{
    struct result *result = arg;
    bool right = false;
    struct secret out;
    if (secret_init(&out, 4096, NULL) == ERR_OK)
        result->err =
            fault_operate(fixture.token, KNOWN_SIGN, &out, 60000, &right, &result->detail);
    secret_clear(&out);
    return NULL;
}

static void locks_although_a_call_hangs(void **state)
{
    (void)state;
    static const char *const places[] = {"C_Sign", "C_SignInit"};
    for (size_t i = 0; i < 2; i++) {
        struct result results[POOL] = {0};
        pthread_t threads[POOL];
        struct detail detail = {0};
        unsigned count = i == 0 ? 1 : POOL; // or all of them
        shim_hang(places[i]);
        for (unsigned k = 0; k < count; k++)
            assert_int_equal(pthread_create(&threads[k], NULL, sign_once, &results[k]), 0);
        while (shim_hanging() < count)
            fault_rest(5);
        assert_ok(token_logout(fixture.token, &detail), &detail);
        assert_true(shim_calls("C_Logout") > 0);
        shim_reset();
        for (unsigned k = 0; k < count; k++) {
            pthread_join(threads[k], NULL);
            // What was signed after the lock is not handed out.
            assert_int_equal(results[k].err, ERR_TEMP);
            assert_non_null(strstr(results[k].detail.text, "locked"));
        }
        assert_ok(token_login(fixture.token, &fixture.pin, &detail), &detail);
        fault_all_work();
    }
}

// The login hangs, and succeeds after somebody has locked the token.
static void a_late_login_does_not_unlock(void **state)
{
    (void)state;
    struct result result = {0};
    struct detail detail = {0};
    pthread_t thread;
    shim_kill_sessions();
    shim_hang("C_Login");
    assert_int_equal(pthread_create(&thread, NULL, sign_once, &result), 0);
    while (shim_hanging() < 1)
        fault_rest(5);
    assert_err(token_logout(fixture.token, &detail), ERR_TEMP);
    assert_non_null(strstr(detail.text, "when the call that hangs returns"));
    struct token_status status;
    token_status(fixture.token, &status);
    assert_int_equal(status.state, TOKEN_LOCKED);
    shim_reset();
    pthread_join(thread, NULL);
    assert_int_equal(result.err, ERR_TEMP);
    assert_int_equal(shim_calls("C_Logout"), 1);
    assert_int_equal(shim_sessions(), 0);
    assert_ok(token_login(fixture.token, &fixture.pin, &detail), &detail);
    fault_all_work();
}

static void locks_a_token_that_is_gone(void **state)
{
    (void)state;
    struct detail detail = {0};
    shim_pull(CKR_DEVICE_REMOVED);
    assert_ok(token_logout(fixture.token, &detail), &detail);
    shim_plug();
    bool right;
    assert_err(fault_operate(fixture.token, KNOWN_SIGN, &fixture.out, 1000, &right, &detail),
               ERR_TEMP);
    assert_non_null(strstr(detail.text, "locked"));
    assert_ok(token_login(fixture.token, &fixture.pin, &detail), &detail);
    fault_all_work();
    // One that does not let us go is locked for us, and says so.
    shim_fail("C_Logout", CKR_FUNCTION_FAILED, 1, 0);
    assert_err(token_logout(fixture.token, &detail), ERR_TEMP);
    assert_non_null(strstr(detail.text, "cannot log out"));
    shim_reset();
    assert_err(fault_operate(fixture.token, KNOWN_SIGN, &fixture.out, 1000, &right, &detail),
               ERR_TEMP);
    assert_ok(token_login(fixture.token, &fixture.pin, &detail), &detail);
    fault_all_work();
}

static void unlocks_when_the_token_comes(void **state)
{
    (void)state;
    struct detail detail = {0};
    assert_ok(token_logout(fixture.token, &detail), &detail);
    shim_pull(CKR_DEVICE_REMOVED);
    assert_err(token_login(fixture.token, &fixture.pin, &detail), ERR_TEMP);
    shim_plug();
    fault_recover(); // the PIN was kept
    fault_all_work();
}

static void a_forgotten_pin_heals_no_login(void **state)
{
    (void)state;
    struct detail detail = {0};
    struct token_status status;
    struct token *kept = fixture.token;
    known_end();
    token_close(kept);
    struct token_conf conf = fixture_conf(SHIM_PATH, POOL);
    conf.forget_pin = true;
    assert_ok(token_open(&conf, &fixture.token, &detail), &detail);
    assert_ok(token_login(fixture.token, &fixture.pin, &detail), &detail);
    known_begin();
    fault_all_work();
    // Sessions come and go; even if all of the pool are given up, the login stays.
    shim_fail("C_Sign", CKR_FUNCTION_FAILED, 1, 4 * POOL);
    for (int i = 0; i < 2 * POOL; i++) {
        bool right;
        (void)fault_operate(fixture.token, KNOWN_SIGN, &fixture.out, 20000, &right, &detail);
    }
    shim_reset();
    fault_all_work();
    assert_int_equal(shim_calls("C_Login"), 0);
    // A lost login does not come back by itself.
    shim_log_out();
    bool right;
    assert_err(fault_operate(fixture.token, KNOWN_SIGN, &fixture.out, 20000, &right, &detail),
               ERR_TEMP);
    assert_non_null(strstr(detail.text, "locked"));
    assert_int_equal(shim_calls("C_Login"), 0);
    token_status(fixture.token, &status);
    assert_int_equal(status.state, TOKEN_LOCKED);
    assert_ok(token_login(fixture.token, &fixture.pin, &detail), &detail);
    fault_all_work();
    shim_kill_sessions();
    assert_err(fault_operate(fixture.token, KNOWN_SIGN, &fixture.out, 20000, &right, &detail),
               ERR_TEMP);
    assert_ok(token_login(fixture.token, &fixture.pin, &detail), &detail);
    fault_all_work();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(everybody_is_locked_out, fault_reset),
        cmocka_unit_test_teardown(locks_although_a_call_hangs, fault_reset),
        cmocka_unit_test_teardown(a_late_login_does_not_unlock, fault_reset),
        cmocka_unit_test_teardown(locks_a_token_that_is_gone, fault_reset),
        cmocka_unit_test_teardown(unlocks_when_the_token_comes, fault_reset),
        cmocka_unit_test_teardown(a_forgotten_pin_heals_no_login, fault_reset),
    };
    return cmocka_run_group_tests(tests, fault_begin, fault_end);
}
