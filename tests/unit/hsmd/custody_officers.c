// SPDX-License-Identifier: Apache-2.0
// Officers who come and go, pile up proposals, and are auditors meanwhile.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "tests/support/council.h"

#define KEY_1 "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
#define KEY_2 "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"

static struct council council;

static int setup(void **state)
{
    (void)state;
    council_setup(&council, 2);
    return 0;
}

static int setup_alone(void **state)
{
    (void)state;
    council_setup(&council, 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    council_teardown(&council);
    return 0;
}

#define TEXT(text) BYTES_LITERAL(text)
static const struct act add_client = {
    .kind = ACT_CLIENT_ADD, .name = {(const uint8_t *)"gw1", 3}, .curve_key = TEXT(KEY_1)};
static const struct act add_other = {
    .kind = ACT_CLIENT_ADD, .name = {(const uint8_t *)"gw2", 3}, .curve_key = TEXT(KEY_2)};

static struct act named(enum act_kind kind, const char *name)
{
    return (struct act){.kind = kind, .name = bytes_of_text(name)};
}

static struct act quorum_of(unsigned number)
{
    return (struct act){.kind = ACT_QUORUM, .number = number};
}

static bool has_client(const char *public_key)
{
    const struct registry *registry = live_take(council.live);
    bool is_there = registry_client_by_public_key(registry, public_key) != NULL;
    live_give(council.live, registry);
    return is_there;
}

static void assert_said(const char *words)
{
    if (!strstr(council.detail.text, words))
        fail_msg("\"%s\" does not say \"%s\"", council.detail.text, words);
}

static void assert_refused(enum err err, enum err wanted, const char *words)
{
    if (err != wanted)
        fail_msg("%s (%s)", err_name(err), council.detail.text);
    assert_said(words);
}

static void assert_ok(enum err err)
{
    if (err != ERR_OK)
        fail_msg("%s: %s", err_name(err), council.detail.text);
}

// Whatever one officer piles up, the others can still have her removed.
static void test_crowd(void **state)
{
    (void)state;
    struct act three = quorum_of(3);
    struct act carol = named(ACT_OFFICER_REMOVE, "carol");
    uint64_t number = 0;
    for (unsigned i = 0; i < CUSTODY_PENDING_MAX; i++)
        assert_ok(council_propose(&council, COUNCIL_CAROL, &three, &number));
    assert_refused(council_propose(&council, COUNCIL_CAROL, &three, NULL), ERR_TEMP,
                   "16 proposals of yours");
    struct council_proposal change = {.act = &add_client, .replaces = number};
    json_t *body = NULL;
    assert_ok(council_propose_as(&council, COUNCIL_CAROL, COUNCIL_CAROL, &change, NULL, &body));
    json_decref(body);
    assert_ok(council_do(&council, &carol));
    assert_false(custody_is_allowed(council.custody, council_key(COUNCIL_CAROL)->public_curve));
}

static void test_officers(void **state)
{
    (void)state;
    struct act three = quorum_of(3);
    struct act two = quorum_of(2);
    struct act four = quorum_of(4);
    struct act bob = named(ACT_OFFICER_REMOVE, "bob");
    struct act auditor = named(ACT_OFFICER_REMOVE, "auditor");
    struct act carol = named(ACT_OFFICER_REMOVE, "carol");
    uint64_t number = 0;
    assert_refused(council_propose(&council, COUNCIL_ALICE, &four, NULL), ERR_PERM, "3 officers");
    assert_ok(council_do(&council, &auditor));
    assert_false(custody_is_allowed(council.custody, council_key(COUNCIL_AUDITOR)->public_curve));
    // Somebody's key under another name would count twice.
    struct act twin = {.kind = ACT_OFFICER_ADD,
                       .name = BYTES_LITERAL("twin"),
                       .role = OFFICER_OFFICER,
                       .public_key = bytes_of(council_key(COUNCIL_ALICE)->public_signing, 32),
                       .curve_key = TEXT(KEY_2)};
    assert_refused(council_propose(&council, COUNCIL_ALICE, &twin, NULL), ERR_PERM,
                   "officer \"alice\"");
    // A removed officer's approval counts no more.
    assert_ok(council_do(&council, &three));
    assert_ok(council_propose(&council, COUNCIL_ALICE, &add_client, &number));
    assert_refused(council_propose(&council, COUNCIL_ALICE, &bob, NULL), ERR_PERM, "quorum");
    custody_free(council.custody);
    assert_ok(store_set_quorum(council.store, 2, &council.detail));
    assert_ok(council_open(&council));
    assert_ok(council_propose(&council, COUNCIL_BOB, &add_other, &number));
    uint64_t removal = 0;
    assert_ok(council_propose(&council, COUNCIL_ALICE, &bob, &removal));
    assert_ok(council_approve(&council, COUNCIL_CAROL, removal));
    assert_false(custody_is_allowed(council.custody, council_key(COUNCIL_BOB)->public_curve));
    assert_ok(council_approve(&council, COUNCIL_ALICE, number)); // one, bob's is none now
    assert_string_equal(council_state(&council, number), "pending");
    assert_ok(council_approve(&council, COUNCIL_CAROL, number));
    assert_string_equal(council_state(&council, number), "done");
    assert_refused(council_propose(&council, COUNCIL_ALICE, &carol, NULL), ERR_PERM, "only 1");
    assert_ok(council_propose(&council, COUNCIL_ALICE, &two, NULL));
}

// Who is made an auditor while her request waits is one: a verdict of hers is none.
static void test_stale_role(void **state)
{
    (void)state;
    uint64_t number = 0;
    assert_ok(council_propose(&council, COUNCIL_ALICE, &add_client, &number));
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
    assert_ok(council_propose(&council, COUNCIL_ALICE, &act, NULL));
}

// What an officer signed before she was removed does not count when she is back.
static void test_returned(void **state)
{
    (void)state;
    struct act carol = named(ACT_OFFICER_REMOVE, "carol");
    struct act two = quorum_of(2);
    struct act three = quorum_of(3);
    uint64_t approved = 0;
    uint64_t hers = 0;
    assert_ok(council_propose(&council, COUNCIL_ALICE, &three, NULL));
    assert_ok(council_propose(&council, COUNCIL_BOB, &add_client, &approved));
    assert_ok(council_approve(&council, COUNCIL_CAROL, approved));
    assert_ok(council_propose(&council, COUNCIL_CAROL, &add_other, &hers));
    custody_free(council.custody);
    assert_ok(store_set_quorum(council.store, 1, &council.detail));
    assert_ok(council_open(&council));
    assert_ok(council_propose(&council, COUNCIL_ALICE, &carol, NULL));
    add_officer(COUNCIL_CAROL);
    assert_ok(council_propose(&council, COUNCIL_ALICE, &two, NULL));
    // Bob's alone counts; what she proposed has ended.
    assert_refused(council_approve(&council, COUNCIL_BOB, approved), ERR_PERM, "1 of 2");
    assert_string_equal(council_state(&council, hers), "rejected");
    assert_int_equal(council_lines(&council, "its proposer was removed"), 1);
    assert_ok(council_approve(&council, COUNCIL_CAROL, approved));
    assert_true(has_client(KEY_1));
    assert_false(has_client(KEY_2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_crowd, setup, teardown),
        cmocka_unit_test_setup_teardown(test_officers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stale_role, setup, teardown),
        cmocka_unit_test_setup_teardown(test_returned, setup_alone, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
