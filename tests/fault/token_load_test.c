// SPDX-License-Identifier: Apache-2.0
// Sixteen callers who sign and unwrap without a pause, four sessions, and every fault at every call
// on the way. No wrong answer, no call past its deadline but one that itself hangs, no deadlock,
// and soon after the fault everybody is served again.
#include "tests/fault/common.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <p11-kit/pkcs11.h>

#include "pkcs11/token_admin.h"

enum {
    CALLERS = 16,
    PATIENCE_MS = 300, // of a call
    SLACK_MS = 3000,   // what a noisy machine may add
    FAULT_MS = 30,
};

static struct caller {
    pthread_t thread;
    atomic_uint answered, temporary, late;
    _Atomic deadline_t began; // of the call under way, 0: none
} callers[CALLERS];
static atomic_uint wrong, other;
static atomic_bool stop, is_hang; // is_hang: calls may be late

static void *call(void *arg)
{
    struct caller *caller = arg;
    struct secret out;
    unsigned turn = (unsigned)(caller - callers);
    if (secret_init(&out, 4096, NULL) != ERR_OK)
        return NULL;
    while (!stop) {
        bool right = false;
        deadline_t began = clock_ms();
        caller->began = began;
        enum err err = fault_operate(fixture.token, turn++ % 2 ? KNOWN_SIGN : KNOWN_UNWRAP, &out,
                                     PATIENCE_MS, &right, NULL);
        caller->began = 0;
        if (clock_ms() - began > PATIENCE_MS + SLACK_MS && !is_hang)
            caller->late++;
        if (err == ERR_OK && right)
            caller->answered++;
        else if (err == ERR_OK)
            wrong++;
        else if (err == ERR_TEMP)
            caller->temporary++;
        else
            other++;
        if (err)
            fault_rest(1); // as a client would; the rest is for the others
    }
    secret_clear(&out);
    return NULL;
}

static const struct {
    const char *name;
    CK_RV rv; // 0: the call hangs
} faults[] = {
    {"SESSION_HANDLE_INVALID", CKR_SESSION_HANDLE_INVALID},
    {"DEVICE_REMOVED", CKR_DEVICE_REMOVED},
    {"TOKEN_NOT_PRESENT", CKR_TOKEN_NOT_PRESENT},
    {"USER_NOT_LOGGED_IN", CKR_USER_NOT_LOGGED_IN},
    {"OBJECT_HANDLE_INVALID", CKR_OBJECT_HANDLE_INVALID},
    {"SESSION_COUNT", CKR_SESSION_COUNT},
    {"FUNCTION_FAILED", CKR_FUNCTION_FAILED},
    {"a hang", 0},
};

static const char *const places[] = {
    "C_SignInit",         "C_Sign",
    "C_DecryptInit",      "C_Decrypt",
    "C_OpenSession",      "C_CloseSession",
    "C_GetSessionInfo",   "C_Login",
    "C_GetTokenInfo",     "C_GetSlotList",
    "C_FindObjectsInit",  "C_FindObjects",
    "C_FindObjectsFinal", "C_GetAttributeValue",
};

#define FAULTS (sizeof faults / sizeof *faults)
#define PLACES (sizeof places / sizeof *places)

// Everybody must be served once more.
static void wait_for_all(const char *name, const char *place)
{
    unsigned before[CALLERS];
    deadline_t limit = deadline_in(RECOVERY_MS);
    for (int i = 0; i < CALLERS; i++)
        before[i] = callers[i].answered;
    for (int i = 0; i < CALLERS; i++) {
        while (callers[i].answered == before[i]) {
            if (deadline_is_past(limit)) {
                struct token_status status;
                token_status(fixture.token, &status);
                fail_msg("%s at %s: caller %d is not served: %s, %u out, %u in calls: %s", name,
                         place, i, token_state_name(status.state), status.out, status.in_call,
                         status.error);
            }
            fault_rest(2);
        }
    }
}

// Only those whose call hangs may be late.
static void check_hang(const char *place)
{
    fault_rest(PATIENCE_MS);
    deadline_t limit = deadline_in(SLACK_MS);
    unsigned late, hanging;
    do {
        late = 0;
        hanging = shim_hanging();
        for (int i = 0; i < CALLERS; i++) {
            deadline_t began = callers[i].began;
            late += began && clock_ms() - began > PATIENCE_MS + 100;
        }
        fault_rest(10);
    } while (late > hanging && !deadline_is_past(limit));
    if (late > hanging)
        fail_msg("a hang at %s: %u calls are late, %u hang", place, late, hanging);
    struct token_status status;
    token_status(fixture.token, &status);
    assert_true(hanging == 0 || status.longest_call_ms > 0);
}

static unsigned count_temporary(void)
{
    unsigned count = 0;
    for (int i = 0; i < CALLERS; i++)
        count += callers[i].temporary;
    return count;
}

static void suffer(size_t fault, size_t place)
{
    CK_RV rv = faults[fault].rv;
    is_hang = rv == 0;
    // So that what heals is walked through as well: the token is lost, and all sessions with it.
    shim_fail("C_DecryptInit", CKR_DEVICE_REMOVED, 1, 1);
    if (rv)
        shim_fail(places[place], rv, 1, 0);
    else
        shim_hang(places[place]);
    shim_kill_sessions();
    fault_rest(FAULT_MS);
    if (!rv)
        check_hang(places[place]);
    shim_reset();
    wait_for_all(faults[fault].name, places[place]);
    is_hang = false;
}

static void every_fault_at_every_place(void **state)
{
    (void)state;
    unsigned felt = 0;
    for (size_t f = 0; f < FAULTS; f++) {
        for (size_t p = 0; p < PLACES; p++) {
            unsigned before = count_temporary();
            suffer(f, p);
            felt += count_temporary() > before;
        }
    }
    assert_true(felt > FAULTS * PLACES / 2);
}

// The nth call only, while everybody is at work.
static void single_faults(void **state)
{
    (void)state;
    for (size_t f = 0; f + 1 < FAULTS; f++) {
        for (size_t p = 0; p < PLACES; p++) {
            shim_fail(places[p], faults[f].rv, 1 + (unsigned)p % 3, 1);
            shim_fail("C_Sign", CKR_SESSION_CLOSED, 5, 1);
            fault_rest(5);
        }
        shim_reset();
        wait_for_all(faults[f].name, "single places");
        shim_kill_sessions(); // those that were said to be gone, but were not
    }
}

static void the_token_is_pulled(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) {
        shim_pull(i % 2 ? CKR_DEVICE_REMOVED : CKR_SESSION_HANDLE_INVALID);
        fault_rest(i % 4 < 2 ? 5 : 300);
        shim_plug();
        wait_for_all("the token", "everywhere");
    }
}

static int begin(void **state)
{
    fault_begin(state);
    for (int i = 0; i < CALLERS; i++) {
        if (pthread_create(&callers[i].thread, NULL, call, &callers[i]) != 0)
            return 1;
    }
    return 0;
}

static int end(void **state)
{
    unsigned late = 0;
    shim_reset();
    stop = true;
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(callers[i].thread, NULL);
        late += callers[i].late;
    }
    if (wrong || other || late) {
        print_error("%u wrong answers, %u other errors, %u late\n", wrong, other, late);
        abort();
    }
    return fault_end(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_fault_at_every_place, fault_reset),
        cmocka_unit_test_teardown(single_faults, fault_reset),
        cmocka_unit_test_teardown(the_token_is_pulled, fault_reset),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
