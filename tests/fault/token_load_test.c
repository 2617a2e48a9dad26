// SPDX-License-Identifier: Apache-2.0
// Callers, and faults (callers.h), of a token with four sessions.
#include "tests/fault/callers.h"

#include <p11-kit/pkcs11.h>

#include "pkcs11/token_admin.h"

#define FAULT_MS 30

static enum err operate(unsigned caller, unsigned turn, struct secret *out, bool *right)
{
    (void)caller;
    return fault_operate(fixture.token, turn % 2 ? KNOWN_SIGN : KNOWN_UNWRAP, out,
                         CALLERS_PATIENCE_MS, right, NULL);
}

static void explain(struct detail *detail)
{
    struct token_status status;
    token_status(fixture.token, &status);
    (void)err_set(detail, ERR_TEMP, "%s, %u out, %u in calls: %s", token_state_name(status.state),
                  status.out, status.in_call, status.error);
}

static void every_fault_at_every_place(void **state)
{
    (void)state;
    static struct healing healing;
    unsigned felt = 0;
    // Nobody opens a module anew here.
    unsigned places = callers_place_count - callers_module_place_count;
    for (unsigned f = 0; f < callers_fault_count; f++) {
        const struct callers_fault *fault = &callers_faults[f];
        for (unsigned p = 0; p < places; p++) {
            struct token_status status;
            unsigned before = callers_temporary(0, 1);
            do {
                callers_strike(fault, callers_places[p], FAULT_MS);
                token_status(fixture.token, &status);
                assert_true(shim_hanging() == 0 || status.longest_call_ms > 0);
                callers_relieve();
            } while (!healing_note(&healing, callers_wait_served(fault->name, callers_places[p])));
            felt += callers_temporary(0, 1) > before;
        }
    }
    assert_true(felt > callers_fault_count * places / 2);
    healing_check(&healing, "faults");
}

// The nth call only, while everybody is at work.
static void single_faults(void **state)
{
    (void)state;
    for (unsigned f = 0; f + 1 < callers_fault_count; f++) {
        for (unsigned p = 0; p < callers_place_count; p++) {
            shim_fail(callers_places[p], callers_faults[f].rv, 1 + p % 3, 1);
            shim_fail("C_Sign", CKR_SESSION_CLOSED, 5, 1);
            fault_rest(5);
        }
        callers_relieve();
        (void)callers_wait_served(callers_faults[f].name, "single places");
        shim_kill_sessions(); // those that were said to be gone, but were not
    }
}

static void the_token_is_pulled(void **state)
{
    (void)state;
    static struct healing healing;
    for (int i = 0; i < 8; i++) {
        do {
            shim_pull(i % 2 ? CKR_DEVICE_REMOVED : CKR_SESSION_HANDLE_INVALID);
            fault_rest(i % 4 < 2 ? 5 : 300);
            shim_plug();
        } while (!healing_note(&healing, callers_wait_served("the token", "everywhere")));
    }
    healing_check(&healing, "pulled");
}

static int begin(void **state)
{
    fault_begin(state);
    callers_begin(operate, explain);
    return 0;
}

static int end(void **state)
{
    callers_end();
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
