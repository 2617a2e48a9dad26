// SPDX-License-Identifier: Apache-2.0
// Tokens that are awkward rather than broken: mechanisms missing, few sessions, calls that hang;
// and everything at once, with threads.
#include "tests/fault/common.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <p11-kit/pkcs11.h>

static void lives_without_mechanisms(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        CK_MECHANISM_TYPE hidden[3];
        enum known impossible[3];
    } cases[] = {
        {"no raw RSA", {CKM_RSA_X_509}, {KNOWN_COUNT, KNOWN_COUNT, KNOWN_COUNT}},
        {"no PSS", {CKM_RSA_PKCS_PSS}, {KNOWN_COUNT, KNOWN_COUNT, KNOWN_COUNT}},
        {"no PKCS#1", {CKM_RSA_PKCS}, {KNOWN_COUNT, KNOWN_COUNT, KNOWN_COUNT}},
        {"no OAEP", {CKM_RSA_PKCS_OAEP}, {KNOWN_COUNT, KNOWN_COUNT, KNOWN_COUNT}},
        {"raw RSA only",
         {CKM_RSA_PKCS, CKM_RSA_PKCS_PSS, CKM_RSA_PKCS_OAEP},
         {KNOWN_COUNT, KNOWN_COUNT, KNOWN_COUNT}},
        {"neither raw RSA nor OAEP",
         {CKM_RSA_X_509, CKM_RSA_PKCS_OAEP},
         {KNOWN_OAEP, KNOWN_COUNT, KNOWN_COUNT}},
        {"neither raw RSA nor PSS",
         {CKM_RSA_X_509, CKM_RSA_PKCS_PSS},
         {KNOWN_PSS, KNOWN_COUNT, KNOWN_COUNT}},
        {"neither raw RSA nor PKCS#1",
         {CKM_RSA_X_509, CKM_RSA_PKCS},
         {KNOWN_SIGN, KNOWN_UNWRAP, KNOWN_BAD}},
        {"no elliptic curves",
         {CKM_ECDSA, CKM_ECDH1_DERIVE},
         {KNOWN_ECDSA, KNOWN_AGREE, KNOWN_COUNT}},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        fault_close();
        shim_reset();
        for (int i = 0; i < 3; i++)
            shim_hide(cases[c].hidden[i] ? cases[c].hidden[i] : CKM_VENDOR_DEFINED);
        fault_open();
        for (enum known i = 0; i < KNOWN_COUNT; i++) {
            struct detail detail = {0};
            bool right = false, possible = true;
            for (int k = 0; k < 3; k++)
                possible = possible && cases[c].impossible[k] != i;
            enum err err = fault_operate(fixture.token, i, &fixture.out, 20000, &right, &detail);
            if (err != (possible ? ERR_OK : ERR_PERM) || right != possible)
                fail_msg("%s: %s: %s: %s", cases[c].name, known_name(i), err_name(err),
                         detail.text);
        }
    }
    fault_close();
    shim_reset();
    fault_open();
}

// The token's own unpadding: a fault is no bad padding, and a bad padding no fault.
static void native_unwrapping_heals(void **state)
{
    (void)state;
    static const CK_RV codes[] = {CKR_SESSION_HANDLE_INVALID, CKR_DEVICE_REMOVED,
                                  CKR_USER_NOT_LOGGED_IN,     CKR_KEY_HANDLE_INVALID,
                                  CKR_FUNCTION_FAILED,        CKR_DEVICE_ERROR};
    static const char *const functions[] = {"C_DecryptInit", "C_Decrypt"};
    static const enum known operations[] = {KNOWN_UNWRAP, KNOWN_OAEP, KNOWN_BAD};
    fault_close();
    shim_reset();
    shim_hide(CKM_RSA_X_509);
    fault_open();
    for (size_t c = 0; c < sizeof codes / sizeof *codes; c++) {
        for (size_t f = 0; f < 2; f++) {
            for (size_t i = 0; i < 3; i++) {
                struct detail detail = {0};
                bool right = false;
                shim_fail(functions[f], codes[c], 1, 1);
                assert_ok(fault_operate(fixture.token, operations[i], &fixture.out, 20000, &right,
                                        &detail),
                          &detail);
                assert_true(right);
                shim_fail(functions[f], codes[c], 1, 2);
                assert_err(fault_operate(fixture.token, operations[i], &fixture.out, 20000, &right,
                                         &detail),
                           ERR_TEMP);
            }
        }
    }
    fault_close();
    shim_reset();
    fault_open();
}

static void gives_points_as_the_token_wants_them(void **state)
{
    (void)state;
    shim_want_der_points();
    fault_works(KNOWN_AGREE);
    unsigned calls = shim_calls("C_DeriveKey");
    fault_works(KNOWN_AGREE);
    assert_int_equal(shim_calls("C_DeriveKey") - calls, 1); // it remembers
}

static atomic_uint answered, wrong, temporary, other;
static atomic_bool stop;

static void *work(void *arg)
{
    struct secret out;
    unsigned turn = (unsigned)(uintptr_t)arg;
    if (secret_init(&out, 4096, NULL) != ERR_OK)
        return NULL;
    do {
        bool right = false;
        enum err err = fault_operate(fixture.token, (enum known)(turn++ % KNOWN_COUNT), &out, 20000,
                                     &right, NULL);
        if (!err)
            atomic_fetch_add(right ? &answered : &wrong, 1);
        else
            atomic_fetch_add(err == ERR_TEMP ? &temporary : &other, 1);
    } while (!stop);
    secret_clear(&out);
    return NULL;
}

enum { THREADS = 8 };
static pthread_t threads[THREADS];

// Each works until threads_end; once: it does one operation, the first that of KNOWN_SIGN.
static void threads_start(unsigned count, bool once)
{
    answered = wrong = temporary = other = 0;
    stop = once;
    for (uintptr_t i = 0; i < count; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, (void *)i), 0);
}

static void threads_end(unsigned count)
{
    stop = true;
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(wrong, 0);
    assert_int_equal(other, 0);
}

static void shares_few_sessions(void **state)
{
    (void)state;
    fault_close();
    shim_limit_sessions(2);
    fault_open();
    threads_start(THREADS, false);
    while (answered < 100 && temporary == 0)
        fault_rest(20);
    threads_end(THREADS);
    assert_int_equal(temporary, 0);
    assert_int_equal(shim_sessions(), 2);
    fault_all_work();
}

static void no_session_left_is_said_at_once(void **state)
{
    (void)state;
    struct detail detail = {0};
    bool right;
    shim_kill_sessions();
    shim_fail("C_OpenSession", CKR_SESSION_COUNT, 1, 0);
    deadline_t started = clock_ms();
    assert_err(fault_operate(fixture.token, KNOWN_SIGN, &fixture.out, 20000, &right, &detail),
               ERR_TEMP);
    assert_true(clock_ms() - started < 10000); // nobody could give one back
    shim_reset();
    fault_all_work();
}

// A thread hangs in the token; the others go on, and who finds no session gives up in time.
static void hanging_calls_stop_nobody_else(void **state)
{
    (void)state;
    struct token_session *sessions[POOL], *none = NULL;
    struct detail detail = {0};
    shim_hang("C_Sign");
    threads_start(1, true);
    while (shim_hanging() < 1)
        fault_rest(5);
    fault_works(KNOWN_UNWRAP);
    fault_works(KNOWN_AGREE);
    for (int i = 0; i < POOL - 1; i++)
        assert_ok(token_session_get(fixture.token, deadline_in(20000), &sessions[i], &detail),
                  &detail);
    assert_err(token_session_get(fixture.token, deadline_in(200), &none, &detail), ERR_TEMP);
    for (int i = 0; i < POOL - 1; i++)
        token_session_put(sessions[i]);
    shim_reset();
    threads_end(1);
    assert_int_equal(answered, 1);
    fault_all_work();
}

// One thread hangs while it restores the login; the others wait for it, but not for ever.
static void hanging_restoration_is_waited_for_in_time(void **state)
{
    (void)state;
    struct detail detail = {0};
    bool right;
    shim_kill_sessions();
    shim_hang("C_OpenSession");
    threads_start(1, true);
    while (shim_hanging() < 1)
        fault_rest(5);
    assert_err(fault_operate(fixture.token, KNOWN_SIGN, &fixture.out, 200, &right, &detail),
               ERR_TEMP);
    shim_reset();
    threads_end(1);
    assert_int_equal(answered, 1);
    fault_all_work();
}

static void anything_may_happen_to_threads(void **state)
{
    (void)state;
    static const char *const functions[] = {"C_SignInit",        "C_Sign",       "C_DecryptInit",
                                            "C_Decrypt",         "C_DeriveKey",  "C_OpenSession",
                                            "C_FindObjectsInit", "C_Login",      "C_GetSessionInfo",
                                            "C_GetTokenInfo",    "C_FindObjects"};
    static const CK_RV codes[] = {CKR_SESSION_HANDLE_INVALID, CKR_DEVICE_REMOVED,
                                  CKR_USER_NOT_LOGGED_IN,     CKR_OBJECT_HANDLE_INVALID,
                                  CKR_FUNCTION_FAILED,        CKR_TOKEN_NOT_PRESENT};
    unsigned seed = 1;
    threads_start(THREADS, false);
    for (int i = 0; i < 200; i++) {
        unsigned dice = (unsigned)rand_r(&seed);
        shim_reset();
        if (dice % 10 == 0)
            shim_kill_sessions();
        else if (dice % 10 == 1)
            shim_log_out();
        else if (dice % 10 == 2)
            shim_pull(CKR_DEVICE_REMOVED);
        else
            shim_fail(functions[dice / 10 % 11], codes[dice / 110 % 6], 1, dice / 660 % 4);
        fault_rest(dice / 2640 % 8);
    }
    shim_reset();
    unsigned before = answered;
    while (answered < before + 50)
        fault_rest(10);
    threads_end(THREADS);
    assert_true(temporary > 0); // it was felt
    fault_all_work();
    assert_true(shim_sessions() <= POOL + 1); // one holds copies
}

// As an integration test tells the shim in a running hsmd.
static void obeys_its_control_file(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum err expected;
    } cases[] = {
        {"fail C_Sign 0x30\n", ERR_TEMP},
        {"", ERR_OK},
        {"fail C_Sign 0x30 1 1\n", ERR_OK},
        {"# nothing\n\npull 0x32\n", ERR_TEMP},
        {"kill\n", ERR_OK},
        {"logout\ndelay * 1\nsessions 9\n", ERR_OK},
        {"pull\nhang C_Login\n", ERR_TEMP},
        {"", ERR_OK},
    };
    char path[300], fresh[310];
    snprintf(path, sizeof path, "%s/shim", fixture.hsm.dir);
    snprintf(fresh, sizeof fresh, "%s.new", path);
    setenv("SHIM_CONTROL", path, 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool right = false;
        FILE *file = fopen(fresh, "w");
        assert_non_null(file);
        fputs(cases[i].text, file);
        fclose(file);
        assert_int_equal(rename(fresh, path), 0);
        enum err err = fault_operate(fixture.token, KNOWN_SIGN, &fixture.out, 20000, &right, NULL);
        if (err != cases[i].expected)
            fail_msg("%s: %s", cases[i].text, err_name(err));
    }
    unsetenv("SHIM_CONTROL");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(lives_without_mechanisms, fault_reset),
        cmocka_unit_test_teardown(native_unwrapping_heals, fault_reset),
        cmocka_unit_test_teardown(gives_points_as_the_token_wants_them, fault_reset),
        cmocka_unit_test_teardown(shares_few_sessions, fault_reset),
        cmocka_unit_test_teardown(no_session_left_is_said_at_once, fault_reset),
        cmocka_unit_test_teardown(hanging_calls_stop_nobody_else, fault_reset),
        cmocka_unit_test_teardown(hanging_restoration_is_waited_for_in_time, fault_reset),
        cmocka_unit_test_teardown(obeys_its_control_file, fault_reset),
        cmocka_unit_test_teardown(anything_may_happen_to_threads, fault_reset),
    };
    return cmocka_run_group_tests(tests, fault_begin, fault_end);
}
