// SPDX-License-Identifier: Apache-2.0
// Who may what: signatures, quorum, proposals that change, lapse and are replayed.
#include <string.h>

#include "tests/support/council_test.h"

static void test_founding(void **state)
{
    (void)state;
    // Nobody, and nobody configured: the channel is closed to all.
    council.config.officer_count = 0;
    council_ok(council_open(&council));
    assert_false(custody_is_allowed(council.custody, council_key(COUNCIL_ALICE)->public_curve));
    custody_free(council.custody);
    council.custody = NULL;
    // A quorum nobody can reach is no beginning.
    council.config.officer_count = 4;
    council.config.quorum = 4;
    council_refused(council_open(&council), ERR_PERM, "only 3 officers");
    assert_int_equal(council_lines(&council, "\"event\":\"act\""), 0);
    council.config.quorum = 2;
    // Nor is an officer with a gateway's key: who has that machine would have her voice.
    struct store_client gateway = {.name = "gw"};
    memcpy(gateway.public_key, council_key(COUNCIL_BOB)->public_curve, sizeof gateway.public_key);
    council_ok(store_add_client(council.store, &gateway, &council.detail));
    council_refused(council_open(&council), ERR_PERM, "gw");
    assert_int_equal(council_lines(&council, "\"quorum\""), 0);
    council_ok(store_drop_client(council.store, "gw", &council.detail));
    council_ok(council_open(&council));
    for (unsigned i = 0; i < COUNCIL_MEMBERS; i++)
        assert_int_equal(
            custody_is_allowed(council.custody, council_key((enum council_member)i)->public_curve),
            i != COUNCIL_STRANGER);
    // From then on the configuration is not asked again.
    council.config.quorum = 1;
    council.config.officer_count = 1;
    council_restart(&council);
    json_t *read = council_read(&council, COUNCIL_BOB, READ_OFFICERS, "");
    assert_int_equal(json_integer_value(json_object_get(read, "quorum")), 2);
    assert_int_equal(json_array_size(json_object_get(read, "officers")), 4);
    json_decref(read);
}

static void test_two_of_three(void **state)
{
    (void)state;
    uint64_t number = 0;
    council_ok(council_propose(&council, COUNCIL_ALICE, &add_client, &number));
    assert_false(council_has_client(KEY_1));
    assert_string_equal(council_state(&council, number), "pending");
    council_refused(council_approve(&council, COUNCIL_ALICE, number), ERR_PERM, "counts once");
    assert_false(council_has_client(KEY_1));
    council_ok(council_approve(&council, COUNCIL_CAROL, number));
    assert_true(council_has_client(KEY_1));
    assert_string_equal(council_state(&council, number), "done");
    council_refused(council_approve(&council, COUNCIL_BOB, number), ERR_PERM, "is done");
    assert_int_equal(council_lines(&council, "\"event\":\"propose\",\"officer\":\"alice\""), 1);
    assert_int_equal(council_lines(&council, "\"event\":\"approve\",\"officer\":\"carol\""), 1);
    assert_int_equal(council_lines(&council, "\"event\":\"act\",\"officer\":\"carol\""), 1);
}

static void test_alone(void **state)
{
    (void)state;
    council_ok(council_propose(&council, COUNCIL_ALICE, &add_client, NULL));
    assert_true(council_has_client(KEY_1));
}

static void test_roles(void **state)
{
    (void)state;
    uint64_t number = 0;
    uint8_t before[HASH_SIZE_MAX];
    uint8_t after[HASH_SIZE_MAX];
    enum err class = ERR_OK;
    json_t *body = NULL;
    council_ok(council_propose(&council, COUNCIL_ALICE, &add_client, &number));
    council_store_hash(&council, before);
    council_refused(council_propose(&council, COUNCIL_AUDITOR, &add_other, NULL), ERR_DENIED,
                    "auditor");
    council_refused(council_approve(&council, COUNCIL_AUDITOR, number), ERR_DENIED, "auditor");
    council_refused(council_reject(&council, COUNCIL_AUDITOR, number), ERR_DENIED, "auditor");
    // Reads that have something in them, for the auditor as for officers.
    static const struct {
        enum message_read what;
        const char *argument;
    } reads[] = {{READ_STATUS, ""},   {READ_KEYS, ""},       {READ_CLIENTS, ""},
                 {READ_OFFICERS, ""}, {READ_PROPOSALS, ""},  {READ_PROPOSALS, "all"},
                 {READ_USAGE, ""},    {READ_OBJECTS, "main"}};
    for (size_t i = 0; i < sizeof reads / sizeof *reads; i++) {
        json_t *read = council_read(&council, COUNCIL_AUDITOR, reads[i].what, reads[i].argument);
        assert_non_null(read);
        json_decref(read);
    }
    // A stranger is not even answered, and does not flood the log.
    for (unsigned i = 0; i < 200; i++)
        assert_false(
            council_send(&council, COUNCIL_STRANGER, BYTES_LITERAL("\x93"), &class, &body));
    assert_true(council_lines(&council, "\"event\":\"officer-refused\"") <= REFUSALS_MAX + 3);
    council_store_hash(&council, after);
    assert_memory_equal(before, after, 32);
    assert_int_equal(custody_lane(council.custody, NULL, BYTES_LITERAL("")), 0);
}

static void test_signatures(void **state)
{
    (void)state;
    json_t *body = NULL;
    uint64_t number = 0;
    uint8_t signature[STATEMENT_SIGNATURE_SIZE] = {0};
    uint8_t digest[STATEMENT_DIGEST_SIZE] = {0};
    const struct council_proposal proposal = {.act = &add_client};
    // Bob's signature, and bob's name, on alice's connection.
    council_refused(
        council_propose_as(&council, COUNCIL_ALICE, COUNCIL_BOB, &proposal, NULL, &body),
        ERR_DENIED, "not signed by officer \"alice\"");
    json_decref(body);
    // A stranger's on an officer's.
    council_refused(
        council_propose_as(&council, COUNCIL_ALICE, COUNCIL_STRANGER, &proposal, NULL, &body),
        ERR_DENIED, "not signed by officer \"alice\"");
    json_decref(body);
    council_ok(council_propose(&council, COUNCIL_ALICE, &add_client, &number));
    struct message_request request = {
        .operation = MESSAGE_APPROVE,
        .id = 7,
        .verdict = {.number = number,
                    .digest = bytes_of(digest, sizeof digest),
                    .signature = bytes_of(signature, sizeof signature)}};
    council_refused(council_request(&council, COUNCIL_BOB, &request, &body), ERR_DENIED,
                    "another one than what was signed");
    json_decref(body);
    struct proposal there = {0};
    council_ok(proposal_load(council.store, number, &there, &council.detail));
    memcpy(digest, there.digest, sizeof digest);
    proposal_clear(&there);
    council_refused(council_request(&council, COUNCIL_BOB, &request, &body), ERR_DENIED,
                    "not signed by officer \"bob\"");
    json_decref(body);
    request.verdict.number = 99;
    council_refused(council_request(&council, COUNCIL_BOB, &request, &body), ERR_PERM,
                    "no proposal 99");
    json_decref(body);
    assert_false(council_has_client(KEY_1));
    assert_int_equal(council_lines(&council, "\"event\":\"officer-refused\""), 5);
}

// One frame that was good once, and is sent again or changed anywhere.
static void test_altered(void **state)
{
    (void)state;
    struct buf frame;
    struct buf message;
    struct buf act;
    uint8_t signature[STATEMENT_SIGNATURE_SIZE];
    uint8_t nonce[STATEMENT_NONCE_SIZE] = {4};
    enum err class = ERR_OK;
    json_t *body = NULL;
    buf_init(&frame, MESSAGE_REQUEST_MAX);
    buf_init(&message, MESSAGE_REQUEST_MAX);
    buf_init(&act, ACT_SIZE_MAX);
    assert_int_equal(act_encode(&add_client, &act, NULL), ERR_OK);
    struct message_request request = {
        .operation = MESSAGE_PROPOSE,
        .id = 1,
        .propose = {.statement = {.instance = bytes_of(store_instance(council.store),
                                                       STATEMENT_INSTANCE_SIZE),
                                  .nonce = bytes_of(nonce, sizeof nonce),
                                  .proposer = BYTES_LITERAL("alice"),
                                  .lapse = (uint64_t)time(NULL) + 3600,
                                  .act = buf_bytes(&act)},
                    .signature = bytes_of(signature, sizeof signature)}};
    assert_int_equal(statement_put(&request.propose.statement, &message), ERR_OK);
    assert_int_equal(
        officer_key_sign(council_key(COUNCIL_ALICE), buf_bytes(&message), signature, NULL), ERR_OK);
    assert_int_equal(message_encode_request(&request, &frame, NULL), ERR_OK);
    // No byte of it can be another one, but those of the request's id: [1, 2, 1, ...].
    for (size_t i = 0; i < frame.len; i++) {
        if (i == 3)
            continue;
        frame.data[i] ^= 1;
        assert_true(council_send(&council, COUNCIL_ALICE, buf_bytes(&frame), &class, &body));
        if (class != ERR_PERM && class != ERR_DENIED)
            fail_msg("byte %zu: %s", i, err_name(class));
        json_decref(body);
        frame.data[i] ^= 1;
    }
    assert_true(council_send(&council, COUNCIL_ALICE, buf_bytes(&frame), &class, &body));
    council_ok(class);
    json_decref(body);
    assert_true(council_send(&council, COUNCIL_ALICE, buf_bytes(&frame), &class, &body));
    council_refused(class, ERR_PERM, "nonce");
    json_decref(body);
    // Signed for another hsmd.
    uint8_t other[STATEMENT_INSTANCE_SIZE] = {1};
    request.propose.statement.instance = bytes_of(other, sizeof other);
    nonce[0] = 5;
    buf_reset(&message);
    buf_reset(&frame);
    assert_int_equal(statement_put(&request.propose.statement, &message), ERR_OK);
    assert_int_equal(
        officer_key_sign(council_key(COUNCIL_ALICE), buf_bytes(&message), signature, NULL), ERR_OK);
    assert_int_equal(message_encode_request(&request, &frame, NULL), ERR_OK);
    assert_true(council_send(&council, COUNCIL_ALICE, buf_bytes(&frame), &class, &body));
    council_refused(class, ERR_DENIED, "not signed");
    json_decref(body);
    buf_clear(&frame);
    buf_clear(&message);
    buf_clear(&act);
}

static void test_replaced(void **state)
{
    (void)state;
    json_t *body = NULL;
    uint64_t number = 0;
    uint64_t same = 0;
    struct proposal before = {0};
    council_do_ok(act_quorum(3)); // so that one approval does not carry it out
    council_ok(council_propose(&council, COUNCIL_ALICE, &add_client, &number));
    council_ok(council_approve(&council, COUNCIL_BOB, number));
    council_ok(proposal_load(council.store, number, &before, &council.detail));
    struct council_proposal change = {.act = &add_other, .replaces = number};
    council_refused(
        council_propose_as(&council, COUNCIL_CAROL, COUNCIL_CAROL, &change, NULL, &body),
        ERR_DENIED, "not yours");
    json_decref(body);
    council_ok(council_propose_as(&council, COUNCIL_ALICE, COUNCIL_ALICE, &change, &same, &body));
    assert_int_equal(same, number);
    assert_int_equal(json_array_size(json_object_get(body, "approvals")), 1); // the proposer's
    json_decref(body);
    // What was signed for the former one is no approval of this one.
    struct buf message;
    uint8_t signature[STATEMENT_SIGNATURE_SIZE];
    buf_init(&message, 1024);
    assert_int_equal(statement_put_verdict(true, before.row.statement.instance, number,
                                           bytes_of(before.digest, sizeof before.digest), &message),
                     ERR_OK);
    assert_int_equal(
        officer_key_sign(council_key(COUNCIL_CAROL), buf_bytes(&message), signature, NULL), ERR_OK);
    const struct message_request request = {
        .operation = MESSAGE_APPROVE,
        .id = 7,
        .verdict = {.number = number,
                    .digest = bytes_of(before.digest, sizeof before.digest),
                    .signature = bytes_of(signature, sizeof signature)}};
    council_refused(council_request(&council, COUNCIL_CAROL, &request, &body), ERR_DENIED,
                    "it was changed");
    json_decref(body);
    council_ok(council_approve(&council, COUNCIL_CAROL, number));
    assert_false(council_has_client(KEY_2));
    council_ok(council_approve(&council, COUNCIL_BOB, number));
    assert_true(council_has_client(KEY_2));
    assert_false(council_has_client(KEY_1));
    buf_clear(&message);
    proposal_clear(&before);
}

static void test_rejections(void **state)
{
    (void)state;
    uint64_t number = 0;
    council_ok(council_propose(&council, COUNCIL_ALICE, &add_client, &number));
    council_ok(council_reject(&council, COUNCIL_BOB, number));
    assert_string_equal(council_state(&council, number), "pending"); // carol may still agree
    council_refused(council_reject(&council, COUNCIL_BOB, number), ERR_PERM, "already");
    council_ok(council_reject(&council, COUNCIL_CAROL, number));
    assert_string_equal(council_state(&council, number), "rejected");
    council_ok(council_propose(&council, COUNCIL_ALICE, &add_client, &number));
    council_ok(council_reject(&council, COUNCIL_ALICE, number));
    assert_string_equal(council_state(&council, number), "rejected");
    council_refused(council_approve(&council, COUNCIL_BOB, number), ERR_PERM, "is rejected");
    // Who has rejected may think better of it.
    council_ok(council_propose(&council, COUNCIL_ALICE, &add_client, &number));
    council_ok(council_reject(&council, COUNCIL_BOB, number));
    council_ok(council_approve(&council, COUNCIL_BOB, number));
    assert_true(council_has_client(KEY_1));
}

static int64_t much_later(void)
{
    return (int64_t)time(NULL) + 3601;
}

static int64_t hsmd_now;

static int64_t at_hsmd(void)
{
    return hsmd_now;
}

// Whose clock is ahead asks for more than the most; whose is behind, for a time that is over.
static void test_clocks(void **state)
{
    (void)state;
    static const struct {
        uint64_t lapse;
        const char *attachment;
        int64_t ahead;    // hsmd's clock
        const char *says; // NULL: accepted
    } rows[] = {
        {3600 + 299, NULL, 0, NULL},
        {3600 + 301, NULL, 0, "3600 seconds at most: ask for less, or look at the clocks"},
        {STATEMENT_LAPSE_ATTACHMENT_MAX + 299, "1234", 0, NULL},
        {STATEMENT_LAPSE_ATTACHMENT_MAX + 301, "1234", 0, "it waits in memory"},
        {1800, NULL, 1740, NULL},
        {1800, NULL, 1860, "over already: look at the clocks"},
    };
    const struct act unlock = {.kind = ACT_UNLOCK, .name = BYTES_LITERAL("main")};
    council.custody->now = at_hsmd;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct council_proposal proposal = {.act = rows[i].attachment ? &unlock : &add_client,
                                                  .attachment = rows[i].attachment,
                                                  .lapse = rows[i].lapse};
        json_t *body = NULL;
        council.config.proposal_lapse = rows[i].attachment ? STATEMENT_LAPSE_MAX : 3600;
        hsmd_now = (int64_t)time(NULL) + rows[i].ahead;
        enum err err =
            council_propose_as(&council, COUNCIL_ALICE, COUNCIL_ALICE, &proposal, NULL, &body);
        if (rows[i].says)
            council_refused(err, ERR_PERM, rows[i].says);
        else
            council_ok(err);
        json_decref(body);
    }
}

static void test_lapse(void **state)
{
    (void)state;
    uint64_t first = 0;
    uint64_t second = 0;
    council_ok(council_propose(&council, COUNCIL_ALICE, &add_client, &first));
    struct council_proposal longer = {.act = &add_other, .lapse = 7200};
    json_t *body = NULL;
    council_ok(council_propose_as(&council, COUNCIL_ALICE, COUNCIL_ALICE, &longer, &second, &body));
    json_decref(body);
    custody_tick(council.custody);
    assert_string_equal(council_state(&council, first), "pending");
    // Who can write the registry does not have it wait longer than its proposer signed.
    council_tamper(&council, "UPDATE proposal SET lapses = lapses + 86400, created = '2999'"
                             " || substr(created, 5)");
    council.custody->now = much_later;
    council_refused(council_approve(&council, COUNCIL_BOB, first), ERR_PERM, "lapsed");
    assert_string_equal(council_state(&council, first), "lapsed");
    assert_int_equal(council_lines(&council, "\"event\":\"lapse\""), 1);
    custody_tick(council.custody);
    assert_int_equal(council_lines(&council, "\"event\":\"lapse\""), 1);
    council_ok(council_approve(&council, COUNCIL_BOB, second));
    assert_false(council_has_client(KEY_1));
    assert_true(council_has_client(KEY_2));
    // Nor by changing what was signed.
    const struct act revoke = {.kind = ACT_CLIENT_REVOKE, .name = BYTES_LITERAL("gw2")};
    longer = (struct council_proposal){.act = &revoke, .lapse = 7200};
    council_ok(council_propose_as(&council, COUNCIL_ALICE, COUNCIL_ALICE, &longer, &first, &body));
    json_decref(body);
    council_tamper(&council, "UPDATE proposal SET lapse = lapse + 86400");
    council_refused(council_approve(&council, COUNCIL_BOB, first), ERR_DENIED, "changed");
    longer.lapse = STATEMENT_LAPSE_DEFAULT + STATEMENT_SKEW_MAX + 3700; // of a clock that is on
    council.config.proposal_lapse = STATEMENT_LAPSE_DEFAULT;
    council_refused(
        council_propose_as(&council, COUNCIL_ALICE, COUNCIL_ALICE, &longer, NULL, &body), ERR_PERM,
        "seconds");
    json_decref(body);
}

// Rows changed behind custody's back are signed by nobody.
static void test_tampering(void **state)
{
    (void)state;
    struct act one = act_quorum(1);
    uint64_t number = 0;
    struct buf act;
    struct buf sql;
    council_ok(council_propose(&council, COUNCIL_ALICE, &add_client, &number));
    buf_init(&act, ACT_SIZE_MAX);
    buf_init(&sql, 4096);
    assert_int_equal(act_encode(&one, &act, NULL), ERR_OK);
    assert_int_equal(buf_put_text(&sql, "UPDATE proposal SET act=x'"), ERR_OK);
    assert_int_equal(text_put_hex(&sql, buf_bytes(&act)), ERR_OK);
    assert_int_equal(buf_put_text(&sql, "'"), ERR_OK);
    council_tamper(&council, buf_text(&sql));
    assert_int_equal(council_approve(&council, COUNCIL_BOB, number), ERR_DENIED); // as he sees it
    assert_int_equal(council_approve(&council, COUNCIL_CAROL, number), ERR_DENIED);
    assert_string_equal(council_state(&council, number), "pending");
    council_ok(council_reject(&council, COUNCIL_CAROL, number)); // one is enough for that
    assert_string_equal(council_state(&council, number), "rejected");
    buf_clear(&sql);
    buf_clear(&act);
}

// The audit log is full: nothing happens, and it goes on when there is room.
static void test_full_log(void **state)
{
    (void)state;
    uint64_t number = 0;
    council_fill_log();
    council_ok(council_propose(&council, COUNCIL_ALICE, &add_client, &number));
    council_set_log_room(0);
    enum err other = council_propose(&council, COUNCIL_BOB, &add_other, NULL);
    enum err approval = council_approve(&council, COUNCIL_BOB, number);
    council_set_log_room(RLIM_INFINITY);
    assert_int_equal(other, ERR_TEMP);
    assert_int_equal(approval, ERR_TEMP);
    assert_false(council_has_client(KEY_1));
    assert_string_equal(council_state(&council, number), "pending");
    // Room for the line of the approval, not for that of the act.
    council_set_log_room(500);
    approval = council_approve(&council, COUNCIL_BOB, number);
    council_set_log_room(RLIM_INFINITY);
    assert_int_equal(approval, ERR_TEMP);
    assert_false(council_has_client(KEY_1));
    assert_string_equal(council_state(&council, number), "pending");
    assert_int_equal(council_lines(&council, "\"event\":\"approve\""), 1);
    council_ok(council_approve(&council, COUNCIL_BOB, number)); // again, since enough have
    assert_true(council_has_client(KEY_1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_founding, council_begin_closed, council_end),
        cmocka_unit_test_setup_teardown(test_two_of_three, council_begin, council_end),
        cmocka_unit_test_setup_teardown(test_alone, council_begin_alone, council_end),
        cmocka_unit_test_setup_teardown(test_roles, council_begin, council_end),
        cmocka_unit_test_setup_teardown(test_signatures, council_begin, council_end),
        cmocka_unit_test_setup_teardown(test_altered, council_begin, council_end),
        cmocka_unit_test_setup_teardown(test_replaced, council_begin, council_end),
        cmocka_unit_test_setup_teardown(test_rejections, council_begin, council_end),
        cmocka_unit_test_setup_teardown(test_clocks, council_begin, council_end),
        cmocka_unit_test_setup_teardown(test_lapse, council_begin, council_end),
        cmocka_unit_test_setup_teardown(test_tampering, council_begin, council_end),
        cmocka_unit_test_setup_teardown(test_full_log, council_begin, council_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
