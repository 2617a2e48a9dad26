// SPDX-License-Identifier: Apache-2.0
// Sixteen callers of the keystore who sign and unwrap without a pause, and every fault at every
// call on the way, in the left token. No wrong answer, no call past its deadline but one that
// itself hangs, no deadlock; the key that is in the right token too is served all the time; and
// soon after the fault the left token is used again.
#include "tests/fault/keystore_fixture.h"

#include <pthread.h>
#include <stdlib.h>

#include <p11-kit/pkcs11.h>

enum {
    CALLERS = 16,
    PATIENCE_MS = 300, // of a call
    SLACK_MS = 3000,   // what a noisy machine may add
    FAULT_MS = 60,
};

// Half of them use the key that is in both tokens, and prefer the left one.
static struct caller {
    pthread_t thread;
    atomic_uint answered, temporary, late;
    _Atomic deadline_t began; // of the call under way, 0: none
} callers[CALLERS];
static atomic_uint wrong, other;
static atomic_bool stop, is_hang; // is_hang: calls may be late

static bool is_shared(const struct caller *caller)
{
    return (caller - callers) % 2 == 0;
}

static void *call(void *arg)
{
    struct caller *caller = arg;
    struct keystore_key *key = is_shared(caller) ? store.shared : store.single;
    struct secret out;
    if (secret_init(&out, 4096, NULL) != ERR_OK)
        return NULL;
    for (unsigned turn = 0; !stop; turn++) {
        bool right = false;
        deadline_t began = clock_ms();
        caller->began = began;
        enum err err = turn % 2 ? store_sign(key, LEFT, PATIENCE_MS, &right, NULL)
                                : store_unwrap(key, LEFT, PATIENCE_MS, &out, &right, NULL);
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
        if (err != ERR_OK)
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

static unsigned slowest; // to be well again, in ms

// The left token is used again, and everybody is served once more.
static void wait_for_all(const char *name, const char *place)
{
    unsigned before[CALLERS];
    deadline_t began = clock_ms();
    deadline_t limit = deadline_in(RECOVERY_MS);
    (void)store_heals(LEFT);
    for (int i = 0; i < CALLERS; i++)
        before[i] = callers[i].answered;
    for (int i = 0; i < CALLERS; i++) {
        while (callers[i].answered == before[i]) {
            if (deadline_is_past(limit)) {
                struct keystore_status status;
                assert_true(keystore_get_status(store.keystore, LEFT, &status));
                fail_msg("%s at %s: caller %d is not served: %s, %u out, %u in calls: %s", name,
                         place, i, token_state_name(status.token.state), status.token.out,
                         status.token.in_call, status.token.error);
            }
            fault_rest(2);
        }
    }
    unsigned took = (unsigned)(clock_ms() - began);
    slowest = took > slowest ? took : slowest;
}

// Only those whose call hangs may be late.
static void check_hang(const char *place)
{
    fault_rest(PATIENCE_MS);
    deadline_t limit = deadline_in(SLACK_MS);
    unsigned late;
    unsigned hanging;
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
}

static unsigned count(bool shared, bool is_answered)
{
    unsigned sum = 0;
    for (int i = 0; i < CALLERS; i++) {
        if (is_shared(&callers[i]) == shared)
            sum += is_answered ? callers[i].answered : callers[i].temporary;
    }
    return sum;
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
    unsigned before = count(true, true);
    fault_rest(FAULT_MS);
    if (!rv)
        check_hang(places[place]);
    else if (count(true, true) == before) {
        fault_rest(PATIENCE_MS + SLACK_MS);
        if (count(true, true) == before)
            fail_msg("%s at %s: the right token does not stand in", faults[fault].name,
                     places[place]);
    }
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
            unsigned before = count(false, false);
            suffer(f, p);
            felt += count(false, false) > before;
        }
        print_message("%s: well again after at most %u ms\n", faults[f].name, slowest);
        slowest = 0;
    }
    assert_true(felt > FAULTS * PLACES / 2);
    print_message("both tokens: %u answered, %u temporary; the left one: %u and %u\n",
                  count(true, true), count(true, false), count(false, true), count(false, false));
}

static void the_token_is_pulled(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) {
        shim_pull(i % 2 ? CKR_DEVICE_REMOVED : CKR_SESSION_HANDLE_INVALID);
        fault_rest(i % 4 < 2 ? 5 : 600);
        shim_plug();
        wait_for_all("the token", "everywhere");
    }
    print_message("pulled: well again after at most %u ms\n", slowest);
}

static int begin(void **state)
{
    store_begin(state);
    store_open(true, true, 4);
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
    return store_end(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_fault_at_every_place, fault_reset),
        cmocka_unit_test_teardown(the_token_is_pulled, fault_reset),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
