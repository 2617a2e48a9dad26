// SPDX-License-Identifier: Apache-2.0
// Officers who come and go, pile up proposals, and are auditors meanwhile.
#include <string.h>

#include "tests/support/council_test.h"

// Whatever one officer piles up, the others can still have her removed.
static void test_crowd(void **state)
{
    (void)state;
    struct act three = act_quorum(3);
    struct act carol = act_named(ACT_OFFICER_REMOVE, "carol");
    uint64_t number = 0;
    for (unsigned i = 0; i < CUSTODY_PENDING_MAX; i++)
        council_ok(council_propose(&council, COUNCIL_CAROL, &three, &number));
    council_refused(council_propose(&council, COUNCIL_CAROL, &three, NULL), ERR_TEMP,
                    "16 proposals of yours");
    assert_int_equal(council_lines(&council, "\"result\":\"temp\",\"reason\":\"16 proposals of"),
                     1);
    struct council_proposal change = {.act = &add_client, .replaces = number};
    json_t *body = NULL;
    council_ok(council_propose_as(&council, COUNCIL_CAROL, COUNCIL_CAROL, &change, NULL, &body));
    json_decref(body);
    council_do_ok(carol);
    assert_false(custody_is_allowed(council.custody, council_key(COUNCIL_CAROL)->public_curve));
}

static void test_officers(void **state)
{
    (void)state;
    struct act three = act_quorum(3);
    struct act two = act_quorum(2);
    struct act four = act_quorum(4);
    struct act bob = act_named(ACT_OFFICER_REMOVE, "bob");
    struct act auditor = act_named(ACT_OFFICER_REMOVE, "auditor");
    struct act carol = act_named(ACT_OFFICER_REMOVE, "carol");
    uint64_t number = 0;
    council_refused(council_propose(&council, COUNCIL_ALICE, &four, NULL), ERR_PERM, "3 officers");
    council_do_ok(auditor);
    assert_false(custody_is_allowed(council.custody, council_key(COUNCIL_AUDITOR)->public_curve));
    // Somebody's key under another name would count twice.
    struct act twin = {.kind = ACT_OFFICER_ADD,
                       .name = BYTES_LITERAL("twin"),
                       .role = OFFICER_OFFICER,
                       .public_key = bytes_of(council_key(COUNCIL_ALICE)->public_signing, 32),
                       .curve_key = BYTES_LITERAL(KEY_2)};
    council_refused(council_propose(&council, COUNCIL_ALICE, &twin, NULL), ERR_PERM,
                    "officer \"alice\"");
    // A removed officer's approval counts no more.
    council_do_ok(three);
    council_ok(council_propose(&council, COUNCIL_ALICE, &add_client, &number));
    council_refused(council_propose(&council, COUNCIL_ALICE, &bob, NULL), ERR_PERM, "quorum");
    custody_free(council.custody);
    council_ok(store_set_quorum(council.store, 2, &council.detail));
    council_ok(council_open(&council));
    council_ok(council_propose(&council, COUNCIL_BOB, &add_other, &number));
    uint64_t removal = 0;
    council_ok(council_propose(&council, COUNCIL_ALICE, &bob, &removal));
    council_ok(council_approve(&council, COUNCIL_CAROL, removal));
    assert_false(custody_is_allowed(council.custody, council_key(COUNCIL_BOB)->public_curve));
    council_ok(council_approve(&council, COUNCIL_ALICE, number)); // one, bob's is none now
    assert_string_equal(council_state(&council, number), "pending");
    council_ok(council_approve(&council, COUNCIL_CAROL, number));
    assert_string_equal(council_state(&council, number), "done");
    council_refused(council_propose(&council, COUNCIL_ALICE, &carol, NULL), ERR_PERM, "only 1");
    council_ok(council_propose(&council, COUNCIL_ALICE, &two, NULL));
}

// Who is made an auditor while her request waits is one: a verdict of hers is none.
static void test_stale_role(void **state)
{
    (void)state;
    uint64_t number = 0;
    council_ok(council_propose(&council, COUNCIL_ALICE, &add_client, &number));
    struct call call = {.custody = council.custody,
                        .peer = council_key(COUNCIL_AUDITOR)->public_curve,
                        .officer = {.name = "auditor", .role = OFFICER_OFFICER},
                        .request = {.operation = MESSAGE_REJECT, .verdict = {.number = number}}};
    assert_int_equal(custody_give_verdict(&call, false), ERR_DENIED);
    assert_non_null(strstr(call.detail.text, "an auditor reads"));
    assert_int_equal(custody_propose(&call), ERR_DENIED);
    assert_non_null(strstr(call.detail.text, "an auditor reads"));
}

static void add_officer(enum council_member member)
{
    const struct officer_key *key = council_key(member);
    const struct act act = {.kind = ACT_OFFICER_ADD,
                            .name = bytes_of_text(council_names[member]),
                            .role = OFFICER_OFFICER,
                            .public_key = bytes_of(key->public_signing, 32),
                            .curve_key = bytes_of_text(key->public_curve)};
    council_ok(council_propose(&council, COUNCIL_ALICE, &act, NULL));
}

// What an officer signed before she was removed does not count when she is back.
static void test_returned(void **state)
{
    (void)state;
    struct act carol = act_named(ACT_OFFICER_REMOVE, "carol");
    struct act two = act_quorum(2);
    struct act three = act_quorum(3);
    uint64_t approved = 0;
    uint64_t hers = 0;
    council_ok(council_propose(&council, COUNCIL_ALICE, &three, NULL));
    council_ok(council_propose(&council, COUNCIL_BOB, &add_client, &approved));
    council_ok(council_approve(&council, COUNCIL_CAROL, approved));
    council_ok(council_propose(&council, COUNCIL_CAROL, &add_other, &hers));
    custody_free(council.custody);
    council_ok(store_set_quorum(council.store, 1, &council.detail));
    council_ok(council_open(&council));
    council_ok(council_propose(&council, COUNCIL_ALICE, &carol, NULL));
    add_officer(COUNCIL_CAROL);
    council_ok(council_propose(&council, COUNCIL_ALICE, &two, NULL));
    // Bob's alone counts; what she proposed has ended.
    council_refused(council_approve(&council, COUNCIL_BOB, approved), ERR_PERM, "1 of 2");
    assert_string_equal(council_state(&council, hers), "rejected");
    assert_int_equal(council_lines(&council, "its proposer was removed"), 1);
    council_ok(council_approve(&council, COUNCIL_CAROL, approved));
    assert_true(council_has_client(KEY_1));
    assert_false(council_has_client(KEY_2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_crowd, council_begin, council_end),
        cmocka_unit_test_setup_teardown(test_officers, council_begin, council_end),
        cmocka_unit_test_setup_teardown(test_stale_role, council_begin, council_end),
        cmocka_unit_test_setup_teardown(test_returned, council_begin_alone, council_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
