// SPDX-License-Identifier: Apache-2.0
// Who wants more than officers may, over the real officers' socket: replayed, altered, borrowed and
// late signatures, auditors, gateways, strangers, and a registry changed behind hsmd's back. After
// each attempt every row of the registry is what it was, and the attempt is in the audit log.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <zmq.h>

#include "hsmd/base/file.h"
#include "tests/integration/chamber.h"

static struct chamber chamber;
static char gateway_key[CURVE_TEXT_SIZE]; // of client gw1
static unsigned attempts;

// What one attempt is compared with.
static struct buf before;
static unsigned refused_before;

#define REFUSED "\"event\":\"officer-refused\""

static struct act client_add(const char *name, const char *key)
{
    return (struct act){
        .kind = ACT_CLIENT_ADD, .name = bytes_of_text(name), .curve_key = bytes_of_text(key)};
}

static struct act quorum_of(unsigned number)
{
    return (struct act){.kind = ACT_QUORUM, .number = number};
}

static struct act named(enum act_kind kind, const char *name)
{
    return (struct act){.kind = kind, .name = bytes_of_text(name)};
}

static void fresh_key(char key[CURVE_TEXT_SIZE])
{
    assert_int_equal(zmq_curve_keypair(key, (char[CURVE_TEXT_SIZE]){0}), 0);
}

static void begin_attempt(void)
{
    buf_reset(&before);
    chamber_dump(&chamber, true, &before);
    refused_before = chamber_lines(&chamber, REFUSED, "");
}

static void require_untouched(const char *what)
{
    struct buf after;
    buf_init(&after, before.max);
    chamber_dump(&chamber, true, &after);
    if (!bytes_equal(buf_bytes(&before), buf_bytes(&after)))
        fail_msg("%s: the registry was\n%s\nand is\n%s", what, buf_text(&before), buf_text(&after));
    buf_clear(&after);
}

// The frame is refused for that reason, and nothing else happens.
static void attempt(const char *what, enum member sender, struct bytes frame, enum err class,
                    const char *reason)
{
    struct answer answer;
    begin_attempt();
    chamber_send(&chamber, sender, frame, &answer);
    if (!answer.is_answered || answer.class != class || !strstr(answer.detail, reason))
        fail_msg("%s: answered %d, class %d: %s", what, answer.is_answered, answer.class,
                 answer.detail);
    require_untouched(what);
    if (chamber_lines(&chamber, REFUSED, "") != refused_before + 1 ||
        !chamber_lines(&chamber, REFUSED, reason))
        fail_msg("%s: not in the audit log", what);
    answer_clear(&answer);
    attempts++;
}

static void attempt_proposal(const char *what, enum member sender,
                             const struct proposing *proposing, const char *reason)
{
    struct buf frame;
    chamber_put_proposal(&chamber, proposing, &frame);
    attempt(what, sender, buf_bytes(&frame), ERR_DENIED, reason);
    buf_clear(&frame);
}

static void attempt_verdict(const char *what, enum member sender, const struct judging *judging,
                            enum err class, const char *reason)
{
    struct buf frame;
    chamber_put_verdict(&chamber, judging, &frame);
    attempt(what, sender, buf_bytes(&frame), class, reason);
    buf_clear(&frame);
}

static uint64_t propose(enum member member, const struct act *act)
{
    return chamber_must_propose(&chamber, member, act, NULL);
}

static void judge(enum member member, uint64_t number, bool is_rejection)
{
    chamber_must_judge(&chamber, member, number, is_rejection);
}

static void require_state(uint64_t number, const char *want)
{
    char state[16];
    uint8_t digest[STATEMENT_DIGEST_SIZE];
    chamber_look(&chamber, number, state, digest);
    assert_string_equal(state, want);
}

static int setup(void **state)
{
    (void)state;
    chamber_setup(&chamber);
    buf_init(&before, (size_t)16 << 20);
    chamber_configure(&chamber, 3, 2, softhsm_module(), "pin-file = \"pin\"");
    chamber_start(&chamber);
    assert_int_equal(curve_read_public(hsmd_path(&chamber.hsmd, "gw.pub"), gateway_key, NULL),
                     ERR_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    print_message("%u attempts\n", attempts);
    buf_clear(&before);
    chamber_teardown(&chamber);
    return 0;
}

// What was good once is not good twice, nor on somebody else's connection, nor after a restart.
static void test_replayed(void **state)
{
    struct answer answer;
    struct buf proposal, approval;
    (void)state;
    const struct proposing proposing = {.signer = ALICE, .act = client_add("gw1", gateway_key)};
    chamber_put_proposal(&chamber, &proposing, &proposal);
    attempt("bob sends what alice signed", BOB, buf_bytes(&proposal), ERR_DENIED, "not signed by");
    chamber_send(&chamber, ALICE, buf_bytes(&proposal), &answer);
    assert_int_equal(answer.class, ERR_OK);
    uint64_t number = (uint64_t)json_integer_value(json_object_get(answer.body, "number"));
    answer_clear(&answer);
    attempt("proposal again, while it waits", ALICE, buf_bytes(&proposal), ERR_PERM, "");
    const struct judging judging = chamber_judging(&chamber, BOB, number);
    chamber_put_verdict(&chamber, &judging, &approval);
    attempt("carol sends what bob signed", CAROL, buf_bytes(&approval), ERR_DENIED,
            "not signed by");
    attempt("alice sends what bob signed", ALICE, buf_bytes(&approval), ERR_DENIED,
            "not signed by");
    chamber_send(&chamber, BOB, buf_bytes(&approval), &answer);
    assert_int_equal(answer.class, ERR_OK);
    answer_clear(&answer);
    require_state(number, "done");
    assert_true(chamber_has_client(&chamber, "gw1"));
    for (unsigned i = 0; i < 2; i++) {
        attempt("proposal again", ALICE, buf_bytes(&proposal), ERR_PERM, "");
        attempt("approval again", BOB, buf_bytes(&approval), ERR_PERM, "is done");
        chamber_stop(&chamber);
        chamber_start(&chamber); // and then both anew
    }
    buf_clear(&proposal);
    buf_clear(&approval);
}

static void test_altered_proposals(void **state)
{
    const struct act harmless = quorum_of(2), wanted = quorum_of(1);
    const char *text = "not signed by";
    (void)state;
    struct proposing good = {.signer = ALICE, .act = wanted}, bad = good;
    bad.signed_act = &harmless;
    attempt_proposal("another act than signed", ALICE, &bad, text);
    bad = good;
    bad.is_other_nonce = true;
    attempt_proposal("another nonce", ALICE, &bad, text);
    bad = good;
    bad.is_other_instance = true;
    attempt_proposal("signed for another hsmd", ALICE, &bad, text);
    bad = good;
    bad.signed_lapse = 60;
    attempt_proposal("another time to lapse", ALICE, &bad, text);
    bad = good;
    bad.signed_replaces = 1;
    attempt_proposal("another number to replace", ALICE, &bad, text);
    bad = good;
    bad.proposer = "bob";
    attempt_proposal("signed in bob's name", ALICE, &bad, text);
    attempt_proposal("signed in bob's name, as bob", BOB, &bad, text);
    bad = good;
    bad.signer = BOB;
    bad.proposer = "alice";
    attempt_proposal("alice's name with bob's key", ALICE, &bad, text);
    bad = good;
    bad.signer = DAVE;
    attempt_proposal("by an auditor", DAVE, &bad, "an auditor reads");
    attempt_proposal("an officer's, by an auditor", DAVE, &good, "an auditor reads");
    attempt("no request at all", ALICE, BYTES_LITERAL("\x93\x01\x02\x03"), ERR_PERM, "");
}

static void test_altered_approvals(void **state)
{
    const struct act act = quorum_of(1), other = named(ACT_CLIENT_REVOKE, "gw1");
    const char *text = "not signed by";
    uint8_t changed[STATEMENT_DIGEST_SIZE];
    (void)state;
    uint64_t number = propose(ALICE, &act), second = propose(CAROL, &other);
    const struct judging good = chamber_judging(&chamber, BOB, number),
                         of_second = chamber_judging(&chamber, BOB, second);
    struct judging bad = good;
    bad.signed_number = second;
    attempt_verdict("signed for another number", BOB, &bad, ERR_DENIED, text);
    bad = good;
    bad.signed_digest = of_second.digest;
    attempt_verdict("signed for another digest", BOB, &bad, ERR_DENIED, text);
    memcpy(bad.digest, of_second.digest, sizeof bad.digest);
    bad.signed_digest = NULL;
    attempt_verdict("for another act of that number", BOB, &bad, ERR_DENIED, "another one than");
    bad = good;
    memcpy(changed, good.digest, sizeof changed);
    changed[31] ^= 1;
    memcpy(bad.digest, changed, sizeof changed);
    attempt_verdict("one bit of the digest", BOB, &bad, ERR_DENIED, "another one than");
    bad = good;
    bad.is_other_instance = true;
    attempt_verdict("signed for another hsmd", BOB, &bad, ERR_DENIED, text);
    bad = good;
    bad.is_signed_other_way = true;
    attempt_verdict("a rejection as an approval", BOB, &bad, ERR_DENIED, text);
    bad.is_rejection = true;
    attempt_verdict("an approval as a rejection", BOB, &bad, ERR_DENIED, text);
    bad = good;
    bad.signer = CAROL;
    attempt_verdict("with carol's key on bob's connection", BOB, &bad, ERR_DENIED, text);
    bad.signer = EVE;
    attempt_verdict("with nobody's key", BOB, &bad, ERR_DENIED, text);
    bad.signer = ALICE;
    attempt_verdict("alice approves her own", ALICE, &bad, ERR_PERM, "already");
    attempt_verdict("... and again", ALICE, &bad, ERR_PERM, "already");
    bad.signer = DAVE;
    attempt_verdict("an auditor approves", DAVE, &bad, ERR_DENIED, "an auditor reads");
    attempt_verdict("an auditor with bob's approval", DAVE, &good, ERR_DENIED, "an auditor reads");
    bad.is_rejection = true;
    attempt_verdict("an auditor rejects", DAVE, &bad, ERR_DENIED, "an auditor reads");
    bad = good;
    bad.number = number + 1000;
    attempt_verdict("of no proposal", BOB, &bad, ERR_PERM, "there is no proposal");
    require_state(number, "pending");
    judge(ALICE, number, true);
    judge(CAROL, second, true);
    attempt_verdict("of one that was withdrawn", BOB, &good, ERR_PERM, "is rejected");
}

// Nobody gets as far as a request.
static void turned_away(const char *what, const char *endpoint, const char *server_key,
                        const char *public_key, const char *secret_key, const char *line)
{
    struct link *link = NULL;
    struct buf reply;
    char path[128];
    unsigned lines = chamber_lines(&chamber, line, public_key);
    snprintf(path, sizeof path, "ipc://%s/%s", chamber.hsmd.dir, endpoint);
    const struct link_conf conf = {.endpoint = path, .keys = {server_key, public_key, secret_key}};
    begin_attempt();
    buf_init(&reply, MESSAGE_REPLY_MAX);
    assert_int_equal(link_open(&conf, &link, NULL), ERR_OK);
    (void)link_send(link, BYTES_LITERAL("\x96\x01\x01\x01\x01\xa0\x00")); // read status
    if (link_receive(link, deadline_in(10000), &reply) == ERR_OK || link->state != LINK_REFUSED)
        fail_msg("%s: link state %d", what, link->state);
    link_close(link);
    buf_clear(&reply);
    require_untouched(what);
    if (chamber_lines(&chamber, line, public_key) <= lines)
        fail_msg("%s: not in the audit log", what);
    attempts++;
}

static void test_doors(void **state)
{
    struct secret gateway = {0};
    char server_key[CURVE_TEXT_SIZE], eve[CURVE_TEXT_SIZE], eve_secret[CURVE_TEXT_SIZE];
    const char *alice = (const char *)chamber.keys[ALICE].curve.data;
    (void)state;
    assert_int_equal(secret_init(&gateway, 64, NULL), ERR_OK);
    assert_int_equal(file_read_secret(hsmd_path(&chamber.hsmd, "gw.key"), &gateway, NULL), ERR_OK);
    gateway.data[gateway.len] = 0;
    assert_int_equal(curve_read_public(hsmd_path(&chamber.hsmd, "server.pub"), server_key, NULL),
                     ERR_OK);
    assert_int_equal(zmq_curve_keypair(eve, eve_secret), 0);
    turned_away("a gateway's key on the officers' socket", "officers.sock", chamber.officers_key,
                gateway_key, (const char *)gateway.data, REFUSED);
    turned_away("an unknown key on the officers' socket", "officers.sock", chamber.officers_key,
                eve, eve_secret, REFUSED);
    turned_away("an officer's key on the data socket", "data.sock", server_key,
                chamber.keys[ALICE].public_curve, alice, "\"event\":\"refuse\"");
    secret_clear(&gateway);
}

// With a quorum of three: what is changed has lost its approvals.
static void test_amended(void **state)
{
    char key[CURVE_TEXT_SIZE];
    struct buf frame;
    struct answer answer;
    const struct act three = quorum_of(3), two = quorum_of(2);
    (void)state;
    fresh_key(key);
    judge(BOB, propose(ALICE, &three), false);
    const struct act harmless = named(ACT_CLIENT_REVOKE, "gw1"), wanted = client_add("gwx", key);
    uint64_t number = propose(ALICE, &harmless);
    const struct judging old = chamber_judging(&chamber, BOB, number);
    judge(BOB, number, false);
    const struct proposing by_bob = {.signer = BOB, .act = wanted, .replaces = number};
    attempt_proposal("bob changes alice's proposal", BOB, &by_bob, "is not yours");
    const struct proposing amended = {.signer = ALICE, .act = wanted, .replaces = number};
    chamber_put_proposal(&chamber, &amended, &frame);
    chamber_send(&chamber, ALICE, buf_bytes(&frame), &answer);
    assert_int_equal(answer.class, ERR_OK);
    answer_clear(&answer);
    attempt("the change again", ALICE, buf_bytes(&frame), ERR_PERM, "");
    buf_clear(&frame);
    judge(CAROL, number, false);
    require_state(number, "pending"); // bob's was for what it was before
    attempt_verdict("bob's approval of what it was", BOB, &old, ERR_DENIED, "another one than");
    assert_false(chamber_has_client(&chamber, "gwx"));
    judge(ALICE, number, true);
    number = propose(ALICE, &two);
    judge(BOB, number, false);
    judge(CAROL, number, false);
    require_state(number, "done");
}

static void test_lapsed(void **state)
{
    char key[CURVE_TEXT_SIZE], sql[100];
    struct answer answer;
    (void)state;
    fresh_key(key);
    const struct act act = client_add("late", key);
    uint64_t number = propose(ALICE, &act);
    const struct judging judging = chamber_judging(&chamber, BOB, number);
    snprintf(sql, sizeof sql, "UPDATE proposal SET lapses = 1 WHERE number = %llu",
             (unsigned long long)number);
    chamber_stop(&chamber);
    chamber_tamper(&chamber, sql);
    chamber_start(&chamber);
    chamber_judge(&chamber, CAROL, number, false, &answer); // that it has lapsed is noted by now
    assert_int_equal(answer.class, ERR_PERM);
    answer_clear(&answer);
    require_state(number, "lapsed");
    attempt_verdict("approval after the lapse", BOB, &judging, ERR_PERM, "is lapsed");
    assert_int_equal(chamber_lines(&chamber, "\"event\":\"lapse\"", "late"), 1);
}

// Rows that hsmd did not write.
static void test_tampered(void **state)
{
    char keys[2][CURVE_TEXT_SIZE], sql[800];
    struct buf act, hex;
    (void)state;
    fresh_key(keys[0]);
    fresh_key(keys[1]);
    const struct act signed_act = client_add("good", keys[0]), other = client_add("evil", keys[1]);
    uint64_t number = propose(ALICE, &signed_act), second = propose(ALICE, &signed_act);
    buf_init(&act, ACT_SIZE_MAX);
    buf_init(&hex, 2 * ACT_SIZE_MAX);
    assert_int_equal(act_encode(&other, &act, NULL), ERR_OK);
    assert_int_equal(text_put_hex(&hex, buf_bytes(&act)), ERR_OK);
    // Another act; an approval of bob's that he gave to something else.
    snprintf(sql, sizeof sql,
             "UPDATE proposal SET act = x'%s' WHERE number = %llu;"
             "INSERT INTO verdict SELECT %llu, officer, 1, signature, created FROM verdict"
             " WHERE officer = 'bob' AND is_approval = 1 LIMIT 1",
             buf_text(&hex), (unsigned long long)number, (unsigned long long)second);
    chamber_stop(&chamber);
    chamber_tamper(&chamber, sql);
    chamber_start(&chamber);
    struct judging judging = chamber_judging(&chamber, BOB, number);
    attempt_verdict("bob approves what nobody proposed", BOB, &judging, ERR_DENIED,
                    "not what its proposer signed");
    judging.signer = ALICE;
    attempt_verdict("alice approves what she did not propose", ALICE, &judging, ERR_DENIED,
                    "not what its proposer signed");
    judging = chamber_judging(&chamber, ALICE, second);
    attempt_verdict("alice, beside an approval that bob did not give", ALICE, &judging, ERR_PERM,
                    "1 of 2");
    assert_false(chamber_has_client(&chamber, "good") || chamber_has_client(&chamber, "evil"));
    judge(ALICE, second, true);
    judge(CAROL, number, true); // rejected it can be
    require_state(number, "rejected");
    buf_clear(&act);
    buf_clear(&hex);
}

// The last one with three officers. What carol signed before does not count any more; she herself
// is still connected.
static void test_removed(void **state)
{
    char key[CURVE_TEXT_SIZE];
    struct buf frame;
    struct answer answer;
    const struct act three = quorum_of(3), two = quorum_of(2);
    (void)state;
    fresh_key(key);
    const struct act act = client_add("unloved", key), remove = named(ACT_OFFICER_REMOVE, "carol");
    judge(BOB, propose(ALICE, &three), false);
    uint64_t number = propose(ALICE, &act);
    judge(CAROL, number, false); // two of three
    uint64_t lower = propose(ALICE, &two);
    judge(BOB, lower, false);
    judge(CAROL, lower, false);
    require_state(number, "pending");
    judge(BOB, propose(ALICE, &remove), false);
    struct judging judging = chamber_judging(&chamber, ALICE, number);
    attempt_verdict("alice, beside what carol signed", ALICE, &judging, ERR_PERM, "1 of 2");
    judging.signer = CAROL;
    chamber_put_verdict(&chamber, &judging, &frame);
    begin_attempt();
    chamber.wait_ms = 3000;
    chamber_send(&chamber, CAROL, buf_bytes(&frame), &answer);
    assert_false(answer.is_answered);
    require_untouched("carol, who is no officer any more");
    assert_true(chamber_lines(&chamber, REFUSED, chamber.keys[CAROL].public_curve) > 0);
    attempts++;
    chamber_hang_up(&chamber, CAROL);
    chamber_send(&chamber, CAROL, buf_bytes(&frame), &answer);
    assert_int_equal(answer.state, LINK_REFUSED);
    require_untouched("carol at the door");
    chamber.wait_ms = 0;
    attempt("alice with carol's approval", ALICE, buf_bytes(&frame), ERR_DENIED, "not signed by");
    assert_false(chamber_has_client(&chamber, "unloved"));
    buf_clear(&frame);
}

// One officer alone, whose word is enough: hers, once, and nobody else's.
static void test_one_of_one(void **state)
{
    struct answer answer;
    struct buf frame;
    (void)state;
    chamber_stop(&chamber);
    assert_int_equal(rename(hsmd_path(&chamber.hsmd, "state"), hsmd_path(&chamber.hsmd, "former")),
                     0);
    chamber_configure(&chamber, 1, 1, softhsm_module(), "pin-file = \"pin\"");
    uint8_t former[STATEMENT_INSTANCE_SIZE];
    memcpy(former, chamber.instance, sizeof former);
    chamber_start(&chamber);
    assert_memory_not_equal(former, chamber.instance, sizeof former);
    struct proposing proposing = {.signer = ALICE, .act = client_add("gw1", gateway_key)};
    chamber_put_proposal(&chamber, &proposing, &frame);
    chamber_send(&chamber, ALICE, buf_bytes(&frame), &answer);
    assert_int_equal(answer.class, ERR_OK);
    answer_clear(&answer);
    assert_true(chamber_has_client(&chamber, "gw1"));
    attempt("her proposal again", ALICE, buf_bytes(&frame), ERR_PERM, "");
    buf_clear(&frame);
    proposing.signer = DAVE;
    attempt_proposal("the auditor's", DAVE, &proposing, "an auditor reads");
    proposing = (struct proposing){.signer = ALICE, .act = named(ACT_OFFICER_REMOVE, "alice")};
    chamber_put_proposal(&chamber, &proposing, &frame);
    attempt("the last officer removes herself", ALICE, buf_bytes(&frame), ERR_PERM, "");
    buf_clear(&frame);
    proposing.act = quorum_of(2);
    chamber_put_proposal(&chamber, &proposing, &frame);
    attempt("a quorum that nobody can reach", ALICE, buf_bytes(&frame), ERR_PERM, "");
    buf_clear(&frame);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replayed),          cmocka_unit_test(test_altered_proposals),
        cmocka_unit_test(test_altered_approvals), cmocka_unit_test(test_doors),
        cmocka_unit_test(test_amended),           cmocka_unit_test(test_lapsed),
        cmocka_unit_test(test_tampered),          cmocka_unit_test(test_removed),
        cmocka_unit_test(test_one_of_one),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
