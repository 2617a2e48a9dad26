// SPDX-License-Identifier: Apache-2.0
#include "tests/fault/callers.h"

#include <stdlib.h>
#include <string.h>

#include <p11-kit/pkcs11.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

struct caller callers[CALLERS];
static callers_operate operate;
static callers_explain explain;
static atomic_uint wrong, other;
static atomic_bool stop, is_hang; // is_hang: calls may be late

const struct callers_fault callers_faults[] = {
    {"SESSION_HANDLE_INVALID", CKR_SESSION_HANDLE_INVALID},
    {"DEVICE_REMOVED", CKR_DEVICE_REMOVED},
    {"TOKEN_NOT_PRESENT", CKR_TOKEN_NOT_PRESENT},
    {"USER_NOT_LOGGED_IN", CKR_USER_NOT_LOGGED_IN},
    {"OBJECT_HANDLE_INVALID", CKR_OBJECT_HANDLE_INVALID},
    {"SESSION_COUNT", CKR_SESSION_COUNT},
    {"FUNCTION_FAILED", CKR_FUNCTION_FAILED},
    {"a hang", 0},
};
const unsigned callers_fault_count = COUNT(callers_faults);

const char *const callers_places[] = {
    "C_SignInit",
    "C_Sign",
    "C_DecryptInit",
    "C_Decrypt",
    "C_OpenSession",
    "C_CloseSession",
    "C_Login",
    "C_GetSessionInfo",
    "C_GetSlotList",
    "C_GetTokenInfo",
    "C_FindObjectsInit",
    "C_FindObjects",
    "C_FindObjectsFinal",
    "C_GetAttributeValue",
    "C_CopyObject",
    "C_Initialize",
    "C_Finalize",
};
const unsigned callers_place_count = COUNT(callers_places);
const unsigned callers_module_place_count = 2;

bool callers_is_module_place(const char *place)
{
    return strcmp(place, "C_Initialize") == 0 || strcmp(place, "C_Finalize") == 0;
}

static void *call(void *arg)
{
    struct caller *caller = arg;
    unsigned number = (unsigned)(caller - callers);
    struct secret out;
    if (secret_init(&out, 4096, NULL) != ERR_OK)
        return NULL;
    for (unsigned turn = number / 2; !stop; turn++) {
        bool right = false;
        deadline_t began = clock_ms();
        caller->began = began;
        enum err err = operate(number, turn, &out, &right);
        caller->began = 0;
        if (clock_ms() - began > CALLERS_PATIENCE_MS + CALLERS_SLACK_MS && !is_hang)
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

void callers_begin(callers_operate how, callers_explain why)
{
    operate = how;
    explain = why;
    for (int i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_create(&callers[i].thread, NULL, call, &callers[i]), 0);
}

void callers_end(void)
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
}

// Only those whose call hangs may be late, and those whom the module's opening holds up.
static void check_hang(const char *place)
{
    fault_rest(CALLERS_PATIENCE_MS);
    deadline_t limit = deadline_in(CALLERS_SLACK_MS);
    unsigned late, hanging;
    do {
        late = 0;
        hanging = shim_hanging();
        for (int i = 0; i < CALLERS; i++) {
            deadline_t began = callers[i].began;
            late += began && clock_ms() - began > CALLERS_PATIENCE_MS + 100;
        }
        fault_rest(10);
    } while (late > hanging && !deadline_is_past(limit));
    if (late > hanging)
        fail_msg("a hang at %s: %u calls are late, %u hang", place, late, hanging);
}

void callers_strike(const struct callers_fault *fault, const char *place, unsigned ms)
{
    deadline_t limit = deadline_in(CALLERS_SLACK_MS);
    is_hang = fault->rv == 0;
    shim_fail("C_DecryptInit", CKR_DEVICE_REMOVED, 1, 1);
    if (callers_is_module_place(place))
        shim_fail("C_Login", CKR_FUNCTION_FAILED, 1, 0);
    unsigned before = shim_calls(place);
    if (fault->rv)
        shim_fail(place, fault->rv, 1, 0);
    else
        shim_hang(place);
    shim_kill_sessions();
    while (shim_calls(place) == before && !deadline_is_past(limit))
        fault_rest(1);
    if (shim_calls(place) == before)
        fail_msg("%s at %s: it was not called", fault->name, place);
    fault_rest(ms);
    if (is_hang)
        check_hang(place);
}

void callers_relieve(void)
{
    shim_reset();
}

unsigned callers_wait_served(const char *fault, const char *place)
{
    unsigned before[CALLERS];
    deadline_t began = clock_ms();
    for (int i = 0; i < CALLERS; i++)
        before[i] = callers[i].answered;
    for (int i = 0; i < CALLERS; i++) {
        while (callers[i].answered == before[i]) {
            if (clock_ms() - began > RECOVERY_MS) {
                struct detail why = {0};
                explain(&why);
                fail_msg("%s at %s: caller %d is not served: %s", fault, place, i, why.text);
            }
            fault_rest(2);
        }
    }
    is_hang = false;
    return (unsigned)(clock_ms() - began);
}

unsigned callers_answered(unsigned first, unsigned step)
{
    unsigned sum = 0;
    for (unsigned i = first; i < CALLERS; i += step)
        sum += callers[i].answered;
    return sum;
}

unsigned callers_temporary(unsigned first, unsigned step)
{
    unsigned sum = 0;
    for (unsigned i = first; i < CALLERS; i += step)
        sum += callers[i].temporary;
    return sum;
}
