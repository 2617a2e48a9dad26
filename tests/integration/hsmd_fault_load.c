// SPDX-License-Identifier: Apache-2.0
// A real hsmd, its socket and CURVE, sixteen callers who sign and unwrap without a pause, and every
// fault at every call that a token is asked for on the way, those that heal included. No wrong
// answer, none later than its deadline, everybody served again soon after; and the audit log has
// one line for each request that was answered.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/audit/audit_verify.h"
#include "hsmd/base/file.h"
#include "tests/integration/hsmd_load.h"
#include "tests/support/healing.h"
#include "tests/support/slowness.h"

#define DEADLINE_MS 500 // of a request, in hsmd
#define DEADLINE_TEXT "request-timeout = 500"
#define SLACK_MS (1500 * SLOWNESS)   // what a noisy machine may add
#define TIMEOUT_MS (8000 * SLOWNESS) // of the client: whoever waits so long got no reply at all
#define FAULT_MS 80
#define HEALTHY_MS (3000 * SLOWNESS) // given up then; see healing.h for what is asked
#define CALLED_MS (5000 * SLOWNESS)  // until a fault is met
#define EVERYBODY_MS (10000 * SLOWNESS)
#define LOG_MAX ((size_t)256 << 20)

static struct hsmd hsmd;
static struct load load;
static EVP_PKEY *audit_key;

static const struct {
    const char *name;
    unsigned rv; // 0: the call hangs
} faults[] = {
    {"CKR_SESSION_HANDLE_INVALID", 0xb3}, {"CKR_DEVICE_REMOVED", 0x32},
    {"CKR_TOKEN_NOT_PRESENT", 0xe0},      {"CKR_USER_NOT_LOGGED_IN", 0x101},
    {"CKR_OBJECT_HANDLE_INVALID", 0x82},  {"CKR_SESSION_COUNT", 0xb1},
    {"CKR_FUNCTION_FAILED", 0x06},        {"a call that hangs", 0},
};

// The first four at each request, the others when something has to be restored, the last two when
// the module is opened anew.
static const char *const places[] = {
    "C_SignInit",         "C_Sign",
    "C_DecryptInit",      "C_Decrypt",
    "C_OpenSession",      "C_CloseSession",
    "C_GetSessionInfo",   "C_Login",
    "C_GetTokenInfo",     "C_GetSlotList",
    "C_FindObjectsInit",  "C_FindObjects",
    "C_FindObjectsFinal", "C_GetAttributeValue",
    "C_CopyObject",       "C_Initialize",
    "C_Finalize",
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static int setup(void **state)
{
    (void)state;
    hsmd_setup(&hsmd);
    softhsm_make_key(&hsmd.hsm,
                     &(struct softhsm_key){.label = "audit", .id = 0x31, .kind = "P-256"});
    audit_key = softhsm_public_key(&hsmd.hsm, "audit");
    hsmd_use_shim(&hsmd);
    hsmd_configure(&hsmd, "MODULE", SHIM_PATH, "request-timeout = 4000", DEADLINE_TEXT,
                   "sessions = 2", "sessions = 4", "log-level = info",
                   "log-level = warning\naudit-sync = batch\naudit-checkpoint-seconds = 1\n"
                   "audit-key { token = main label = \"audit\" }",
                   NULL);
    hsmd_serve(&hsmd);
    load_begin(&load, &hsmd, TIMEOUT_MS, DEADLINE_MS + SLACK_MS);
    return audit_key ? 0 : 1;
}

static int teardown(void **state)
{
    (void)state;
    load_clear(&load);
    hsmd_teardown(&hsmd);
    EVP_PKEY_free(audit_key);
    return 0;
}

static const char *fault_text(unsigned rv, const char *place)
{
    static char text[60];
    if (rv)
        snprintf(text, sizeof text, "fail %s 0x%x\n", place, rv);
    else
        snprintf(text, sizeof text, "hang %s\n", place);
    return text;
}

static bool wait_called(const char *place, unsigned before)
{
    deadline_t limit = deadline_in(CALLED_MS);
    while (hsmd_shim_calls(&hsmd, place) == before && !deadline_is_past(limit))
        usleep(1000);
    return hsmd_shim_calls(&hsmd, place) > before;
}

// In ms, how long it took to be well again.
static unsigned suffer(unsigned rv, const char *place)
{
    char text[300];
    bool is_reopened = strcmp(place, "C_Initialize") == 0 || strcmp(place, "C_Finalize") == 0;
    unsigned before = hsmd_shim_calls(&hsmd, place);
    // The token is lost once, and all its sessions, so that what heals is walked through as well.
    snprintf(text, sizeof text, "count %s\nfail C_DecryptInit 0x32 1 1\n%s%skill\n", place,
             is_reopened ? "fail C_Login 0x06\n" : "", fault_text(rv, place));
    hsmd_shim(&hsmd, text);
    if (!wait_called(place, before))
        fail_msg("%s was not called", place);
    usleep(1000 * (rv ? FAULT_MS : DEADLINE_MS + 200)); // a hang: until deadlines are past
    hsmd_shim(&hsmd, "");
    return load_wait_healthy(&load, HEALTHY_MS);
}

// One fault at one place; true: it was felt.
static bool suffer_in_time(unsigned rv, const char *name, const char *place,
                           struct healing *healing)
{
    unsigned before = load.temporary, took;
    do {
        took = suffer(rv, place);
        if (took >= HEALTHY_MS) {
            (void)hsmd_said(&hsmd, "tell me what happened");
            fail_msg("%s at %s: not well again", name, place);
        }
        if (load.wrong || load.other || load.late)
            fail_msg("%s at %s: %u wrong answers, %u other errors, %u late (up to %u ms)", name,
                     place, load.wrong, load.other, load.late, load.longest_ms);
        if (!load_wait_everybody(&load, EVERYBODY_MS))
            fail_msg("%s at %s: not everybody is served", name, place);
    } while (!healing_note(healing, took));
    return load.temporary > before;
}

static void test_faults(void **state)
{
    (void)state;
    unsigned felt = 0;
    static struct healing healing;
    assert_true(load_wait(&load, 50, 20000));
    for (size_t f = 0; f < COUNT(faults); f++) {
        for (size_t p = 0; p < COUNT(places); p++)
            felt += suffer_in_time(faults[f].rv, faults[f].name, places[p], &healing);
    }
    print_message("%u answered, %u temporary, longest %u ms\n", load.answered, load.temporary,
                  load.longest_ms);
    healing_check(&healing, "faults");
    assert_true(felt > COUNT(faults) * COUNT(places) / 3); // or the faults did not arrive
    assert_true(load_wait(&load, 50, 20000));
}

static void test_log(void **state)
{
    (void)state;
    struct buf log;
    const struct audit_expected expected = {.is_closed = true};
    struct audit_verify *check = NULL;
    load_stop(&load);
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    buf_init(&log, LOG_MAX);
    assert_int_equal(file_read(hsmd_path(&hsmd, "state/audit.log"), &log, NULL), ERR_OK);
    assert_int_equal(audit_verify_new(audit_key, &expected, &check, NULL), ERR_OK);
    audit_verify_file(check, "audit.log");
    audit_verify_put(check, buf_bytes(&log));
    struct audit_report report = *audit_verify_end(check);
    audit_verify_free(check);
    if (report.is_bad)
        fail_msg("line %u: %s", (unsigned)report.bad_line, report.reason.text);
    assert_true(report.checkpoints > 1);
    assert_int_equal(load_missing(&load, buf_bytes(&log)), 0);
    buf_clear(&log);
}

// In ms, from the end of a fault of the first list of slots to the token's return.
static unsigned suffer_first_list(unsigned rv, const char *name)
{
    char text[100];
    unsigned before = hsmd_shim_calls(&hsmd, "C_GetSlotInfo");
    hsmd_shim(&hsmd, "fail C_Initialize 0x30\n"); // CKR_DEVICE_ERROR
    assert_true(hsmd_start(&hsmd, NULL));
    snprintf(text, sizeof text, "count C_GetSlotInfo\n%s", fault_text(rv, "C_GetSlotInfo"));
    hsmd_shim(&hsmd, text);
    assert_true(wait_called("C_GetSlotInfo", before));
    load_begin(&load, &hsmd, TIMEOUT_MS, DEADLINE_MS + SLACK_MS);
    usleep(1000 * (FAULT_MS + (rv ? 0 : DEADLINE_MS)));
    hsmd_shim(&hsmd, "");
    unsigned took = load_wait_healthy(&load, HEALTHY_MS);
    if (took >= HEALTHY_MS || load.wrong || load.other || load.late)
        fail_msg("%s: after %u ms, %u wrong answers, %u other errors, %u late", name, took,
                 load.wrong, load.other, load.late);
    load_clear(&load);
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    return took;
}

// The slots' own description is asked for when they are listed for the first time only: here when a
// module heals that could not be initialised at the start.
static void test_first_list(void **state)
{
    (void)state;
    static struct healing healing;
    load_clear(&load);
    for (size_t f = 0; f < COUNT(faults); f++) {
        while (!healing_note(&healing, suffer_first_list(faults[f].rv, faults[f].name)))
            ;
    }
    healing_check(&healing, "faults of the first list");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_faults), cmocka_unit_test(test_log),
                                       cmocka_unit_test(test_first_list)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
