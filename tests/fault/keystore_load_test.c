// SPDX-License-Identifier: Apache-2.0
// Callers, and faults (callers.h), of the left token of a keystore. The key that is in the right
// token too is served all the time, but for the faults of a module that both are in; and soon after
// the fault the left token is used again.
#include "tests/fault/callers.h"
#include "tests/fault/keystore_fixture.h"

#include <string.h>

#include <p11-kit/pkcs11.h>

#define FAULT_MS 60

// Callers with even numbers use the key that is in both tokens, and prefer the left one.
enum { SHARED, SINGLE, KINDS };

static enum err operate(unsigned caller, unsigned turn, struct secret *out, bool *right)
{
    struct keystore_key *key = caller % KINDS == SHARED ? store.shared : store.single;
    return turn % 2 ? store_sign(key, LEFT, CALLERS_PATIENCE_MS, right, NULL)
                    : store_unwrap(key, LEFT, CALLERS_PATIENCE_MS, out, right, NULL);
}

static void explain(struct detail *detail)
{
    struct keystore_status status;
    assert_true(keystore_get_status(store.keystore, LEFT, &status));
    (void)err_set(detail, ERR_TEMP, "%s, %u out, %u in calls: %s",
                  token_state_name(status.token.state), status.token.out, status.token.in_call,
                  status.token.error);
}

// The left token is used again, and everybody is served once more.
static unsigned wait_for_all(const char *fault, const char *place)
{
    unsigned took = store_heals(LEFT);
    return took + callers_wait_served(fault, place);
}

// Neither the left token nor its module is all there is.
static bool has_stand_in(const char *place)
{
    return !store.is_one_module ||
           (!callers_is_module_place(place) && strcmp(place, "C_GetSlotList") != 0);
}

static void suffer(const struct callers_fault *fault, const char *place)
{
    unsigned before = callers_answered(SHARED, KINDS);
    callers_strike(fault, place, FAULT_MS);
    deadline_t limit = deadline_in(CALLERS_PATIENCE_MS + CALLERS_SLACK_MS);
    while (has_stand_in(place) && callers_answered(SHARED, KINDS) == before) {
        if (deadline_is_past(limit))
            fail_msg("%s at %s: the right token does not stand in", fault->name, place);
        fault_rest(2);
    }
    callers_relieve();
}

static void every_fault_at_every_place(void **state)
{
    (void)state;
    static struct healing healing;
    unsigned felt = 0;
    for (unsigned f = 0; f < callers_fault_count; f++) {
        const struct callers_fault *fault = &callers_faults[f];
        for (unsigned p = 0; p < callers_place_count; p++) {
            unsigned before = callers_temporary(SINGLE, KINDS);
            do
                suffer(fault, callers_places[p]);
            while (!healing_note(&healing, wait_for_all(fault->name, callers_places[p])));
            felt += callers_temporary(SINGLE, KINDS) > before;
        }
    }
    assert_true(felt > callers_fault_count * callers_place_count / 2);
    print_message("both tokens: %u answered, %u temporary; the left one: %u and %u\n",
                  callers_answered(SHARED, KINDS), callers_temporary(SHARED, KINDS),
                  callers_answered(SINGLE, KINDS), callers_temporary(SINGLE, KINDS));
    healing_check(&healing, "faults");
}

static void the_token_is_pulled(void **state)
{
    (void)state;
    static struct healing healing;
    for (int i = 0; i < 8; i++) {
        do {
            shim_pull(i % 2 ? CKR_DEVICE_REMOVED : CKR_SESSION_HANDLE_INVALID);
            fault_rest(i % 4 < 2 ? 5 : 600);
            shim_plug();
        } while (!healing_note(&healing, wait_for_all("the token", "everywhere")));
    }
    healing_check(&healing, "pulled");
}

static int begin(void **state)
{
    store_begin(state);
    store_open(true, true, 4);
    callers_begin(operate, explain);
    return 0;
}

static int end(void **state)
{
    callers_end();
    return store_end(state);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_fault_at_every_place, fault_reset),
        cmocka_unit_test_teardown(the_token_is_pulled, fault_reset),
    };
    store_choose(argc, argv);
    return cmocka_run_group_tests(tests, begin, end);
}
