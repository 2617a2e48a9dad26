// SPDX-License-Identifier: Apache-2.0
// What is kept in the store: each kind of thing, and what is refused.
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/hsmd/store_support.h"

static void test_keys(void **state)
{
    (void)state;
    add_key("b");
    add_key("a");
    assert_keys(NULL, "a smime-sign disabled ffffffffffffffff 1/2/1000000000/4 6 0"
                      " main:a label:1 spare:b:0\n"
                      "b smime-sign disabled ffffffffffffffff 1/2/1000000000/4 6 0"
                      " main:a label:1 spare:b:0\n");
    struct store_key key = a_key("a");
    assert_refused(store_add_key(store, &key, &detail), "there is a key \"a\" already");
    key.purpose = WIRE_AUDIT;
    key.state = WIRE_ENABLED;
    key.algorithms = 2;
    key.limits = (struct budget_limits){0};
    key.public_key = (struct bytes){0};
    key.certificates = BYTES_LITERAL("chain");
    key.place_count = 1;
    assert_int_equal(store_set_key(store, &key, &detail), ERR_OK);
    reopen();
    assert_keys("a", "a audit enabled 2 0/0/0/0 0 5 main:a label:1\n");
    assert_keys("c", "");
    snprintf(key.name, sizeof key.name, "c");
    assert_refused(store_set_key(store, &key, &detail), "there is no key \"c\"");
    assert_refused(store_drop_key(store, "c", &detail), "there is no key \"c\"");
}

// A destroyed key is a name and a memory: no places, no grants, no second life.
static void test_destroyed(void **state)
{
    (void)state;
    const struct store_key key = a_key("a");
    add_key("a");
    add_key("b");
    add_client("gw", KEY_1);
    assert_int_equal(put_grant("gw", "a", 2, 0), ERR_OK);
    assert_int_equal(put_grant("gw", "b", 2, 0), ERR_OK);
    assert_int_equal(store_drop_key(store, "a", &detail), ERR_OK);
    reopen();
    assert_keys("a", "a smime-sign disabled ffffffffffffffff 1/2/1000000000/4 6 0 gone\n");
    assert_grants(NULL, NULL, "gw b 2 ffffffffffffffff 0\n");
    assert_refused(store_drop_key(store, "a", &detail), "there is no key \"a\"");
    assert_refused(store_set_key(store, &key, &detail), "there is no key \"a\"");
    assert_refused(store_add_key(store, &key, &detail), "there was a key \"a\"");
    assert_refused(put_grant("gw", "a", 2, 0), "there is no key \"a\"");
}

static void test_flaws(void **state)
{
    (void)state;
    static uint8_t large[WIRE_CERTIFICATES_MAX + 1];
    const struct store_key good = a_key("a");
    struct store_key keys[9];
    for (size_t i = 0; i < 9; i++)
        keys[i] = good;
    keys[0].name[0] = '-';
    memset(keys[1].name, 'a', sizeof keys[1].name);
    keys[2].purpose = 0;
    keys[3].state = 9;
    keys[4].limits.per_hour = BUDGET_LIMIT_MAX + 1u;
    keys[5].certificates = bytes_of(large, sizeof large);
    keys[6].place_count = STORE_PLACES_MAX + 1;
    keys[7].places[0].id_len = 65;
    keys[8].places[1] = keys[8].places[0];
    for (size_t i = 0; i < 9; i++)
        assert_refused(store_add_key(store, &keys[i], &detail), "is not well-formed");
    const struct store_client client = a_client("gw", "short");
    assert_refused(store_add_client(store, &client, &detail), "public key of a client");
    struct store_officer officer = an_officer("alice", 1, KEY_1);
    officer.role = 0;
    assert_refused(store_add_officer(store, &officer, &detail), "role of an officer");
    officer = an_officer("alice", 1, KEY_1);
    officer.signing_key[1] = 0; // the neutral point: anybody could sign
    assert_refused(store_add_officer(store, &officer, &detail), "signing key of an officer");
    assert_keys(NULL, "");
    assert_clients(NULL, "");
    assert_officers(NULL, "");
}

static void test_clients(void **state)
{
    (void)state;
    add_client("gw", KEY_1);
    add_client("archive", KEY_2);
    struct store_client client = a_client("gw", KEY_3);
    assert_refused(store_add_client(store, &client, &detail), "there is a client \"gw\" already");
    client = a_client("other", KEY_1);
    assert_refused(store_add_client(store, &client, &detail),
                   "client \"gw\" has the same public CURVE key as \"other\"");
    struct store_officer officer = an_officer("gw", 1, KEY_1);
    assert_refused(store_add_officer(store, &officer, &detail), "client \"gw\" has the same");
    reopen();
    assert_clients(NULL, "archive " KEY_2 "\ngw " KEY_1 "\n");
    assert_clients("gw", "gw " KEY_1 "\n");
    assert_int_equal(store_drop_client(store, "gw", &detail), ERR_OK);
    assert_refused(store_drop_client(store, "gw", &detail), "there is no client \"gw\"");
    assert_clients(NULL, "archive " KEY_2 "\n");
    add_client("gw", KEY_1);
}

static void test_grants(void **state)
{
    (void)state;
    add_key("a");
    add_key("b");
    struct store_key audit = a_key("audit");
    audit.purpose = WIRE_AUDIT;
    assert_int_equal(store_add_key(store, &audit, &detail), ERR_OK);
    add_client("gw", KEY_1);
    add_client("archive", KEY_2);
    assert_int_equal(put_grant("gw", "a", 2, 1), ERR_OK);
    assert_int_equal(put_grant("gw", "a", 4, 2), ERR_OK);
    assert_int_equal(put_grant("gw", "a", 2, 3), ERR_OK); // another limit, the same grant
    assert_int_equal(put_grant("gw", "b", 2, 4), ERR_OK);
    assert_int_equal(put_grant("archive", "a", 2, 5), ERR_OK);
    assert_refused(put_grant("nobody", "a", 2, 0), "there is no client \"nobody\"");
    assert_refused(put_grant("gw", "none", 2, 0), "there is no key \"none\"");
    assert_refused(put_grant("gw", "audit", 2, 0), "signs the audit log and nothing else");
    assert_refused(put_grant("gw", "a", 0, 0), "without operations");
    reopen();
    assert_grants(NULL, NULL,
                  "archive a 2 ffffffffffffffff 5\n"
                  "gw a 2 ffffffffffffffff 3\ngw a 4 ffffffffffffffff 2\n"
                  "gw b 2 ffffffffffffffff 4\n");
    assert_grants("gw", "a", "gw a 2 ffffffffffffffff 3\ngw a 4 ffffffffffffffff 2\n");
    assert_grants(NULL, "b", "gw b 2 ffffffffffffffff 4\n");
    assert_int_equal(store_drop_grants(store, "gw", "a", &detail), ERR_OK);
    assert_refused(store_drop_grants(store, "gw", "a", &detail), "has no grant for key");
    assert_int_equal(store_drop_client(store, "gw", &detail), ERR_OK);
    assert_grants(NULL, NULL, "archive a 2 ffffffffffffffff 5\n");
}

static void test_officers(void **state)
{
    (void)state;
    unsigned quorum = 9;
    struct store_officer officer = an_officer("alice", 1, KEY_1);
    assert_int_equal(store_add_officer(store, &officer, &detail), ERR_OK);
    assert_refused(store_add_officer(store, &officer, &detail), "there is an officer \"alice\"");
    officer = an_officer("bob", 2, KEY_1);
    assert_refused(store_add_officer(store, &officer, &detail), "officer \"alice\" has the same");
    officer = an_officer("bob", 1, KEY_2);
    assert_refused(store_add_officer(store, &officer, &detail), "the same signing key as \"bob\"");
    officer = an_officer("bob", 2, KEY_2);
    officer.role = OFFICER_AUDITOR;
    assert_int_equal(store_add_officer(store, &officer, &detail), ERR_OK);
    const struct store_client client = a_client("alice", KEY_2); // a name is a kind's own
    assert_refused(store_add_client(store, &client, &detail), "officer \"bob\" has the same");
    assert_int_equal(store_get_quorum(store, &quorum, &detail), ERR_OK);
    assert_int_equal(quorum, 0);
    assert_int_equal(store_set_quorum(store, 2, &detail), ERR_OK);
    reopen();
    assert_officers(NULL, "alice 1 01 " KEY_1 "\nbob 2 02 " KEY_2 "\n");
    assert_officers("bob", "bob 2 02 " KEY_2 "\n");
    assert_int_equal(store_get_quorum(store, &quorum, &detail), ERR_OK);
    assert_int_equal(quorum, 2);
    assert_int_equal(store_drop_officer(store, "bob", &detail), ERR_OK);
    assert_refused(store_drop_officer(store, "bob", &detail), "there is no officer \"bob\"");
}

static void test_proposals(void **state)
{
    (void)state;
    assert_int_equal(propose(1, "one"), 1);
    assert_int_equal(propose(2, "two"), 2);
    assert_int_equal(propose(3, "three"), 3);
    assert_int_equal(
        store_end_proposal(store, 2, PROPOSAL_DONE, BYTES_LITERAL("{\"a\":1}"), &detail), ERR_OK);
    reopen();
    assert_proposals(0, false,
                     "1 pending 01 alice 0 5000000001 one 01 5000000000 \n"
                     "2 done 02 alice 0 5000000001 two 02 5000000000 {\"a\":1}\n"
                     "3 pending 03 alice 0 5000000001 three 03 5000000000 \n");
    assert_proposals(0, true,
                     "1 pending 01 alice 0 5000000001 one 01 5000000000 \n"
                     "3 pending 03 alice 0 5000000001 three 03 5000000000 \n");
    assert_proposals(2, false, "2 done 02 alice 0 5000000001 two 02 5000000000 {\"a\":1}\n");
    assert_proposals(2, true, "");
    assert_refused(store_end_proposal(store, 2, PROPOSAL_LAPSED, (struct bytes){0}, &detail),
                   "proposal 2 is pending no more: done");
    assert_refused(store_end_proposal(store, 4, PROPOSAL_LAPSED, (struct bytes){0}, &detail),
                   "there is no proposal 4");
    assert_int_equal(store_end_proposal(store, 1, PROPOSAL_PENDING, (struct bytes){0}, &detail),
                     ERR_BUG);
}

static void test_nonces(void **state)
{
    (void)state;
    uint64_t number = 77;
    propose(1, "one");
    struct store_proposal again = a_proposal(1, "another");
    assert_refused(store_add_proposal(store, &again, &number, &detail), "its nonce is used");
    assert_int_equal(number, 77);
    struct store_proposal changed = a_proposal(2, "changed");
    changed.number = 1;
    changed.statement.replaces = 1;
    assert_int_equal(store_change_proposal(store, &changed, &detail), ERR_OK);
    assert_refused(store_change_proposal(store, &changed, &detail), "its nonce is used");
    // The first nonce is in no proposal any more.
    reopen();
    again = a_proposal(1, "one");
    assert_refused(store_add_proposal(store, &again, &number, &detail), "its nonce is used");
    // One that was not taken does not use its nonce.
    changed = a_proposal(3, "to what is not there");
    changed.number = 9;
    assert_refused(store_change_proposal(store, &changed, &detail), "there is no proposal 9");
    assert_int_equal(propose(3, "three"), 2);
    assert_proposals(1, false, "1 pending 02 alice 1 5000000001 changed 02 5000000000 \n");
}

static void test_other_instance(void **state)
{
    (void)state;
    uint64_t number = 0;
    uint8_t instance[STATEMENT_INSTANCE_SIZE];
    memcpy(instance, store_instance(store), sizeof instance);
    reopen();
    assert_memory_equal(instance, store_instance(store), sizeof instance);
    instance[0] ^= 1;
    struct store_proposal proposal = a_proposal(1, "one");
    proposal.statement.instance = bytes_of(instance, sizeof instance);
    assert_refused(store_add_proposal(store, &proposal, &number, &detail), "of another hsmd");
    unlink(path);
    const uint8_t zeros[STATEMENT_INSTANCE_SIZE] = {0};
    reopen(); // a new file
    assert_memory_not_equal(instance + 1, store_instance(store) + 1, sizeof instance - 1);
    assert_memory_not_equal(zeros, store_instance(store), sizeof zeros);
}

static void test_verdicts(void **state)
{
    (void)state;
    propose(1, "one");
    propose(2, "two");
    assert_int_equal(put_verdict(1, "bob", true, 5), ERR_OK);
    assert_int_equal(put_verdict(1, "alice", true, 6), ERR_OK);
    assert_int_equal(put_verdict(2, "carol", false, 7), ERR_OK);
    assert_int_equal(put_verdict(1, "bob", false, 8), ERR_OK); // thought better of it
    assert_refused(put_verdict(3, "bob", true, 1), "there is no proposal 3");
    assert_refused(put_verdict(1, "", true, 1), "nobody");
    reopen();
    assert_verdicts(1, "1 alice 1 06\n1 bob 0 08\n");
    assert_verdicts(0, "1 alice 1 06\n1 bob 0 08\n2 carol 0 07\n");
    // Another act loses what was said of the former one, and of no other proposal.
    struct store_proposal changed = a_proposal(3, "changed");
    changed.number = 1;
    assert_int_equal(store_change_proposal(store, &changed, &detail), ERR_OK);
    assert_verdicts(0, "2 carol 0 07\n");
    assert_int_equal(store_end_proposal(store, 2, PROPOSAL_REJECTED, (struct bytes){0}, &detail),
                     ERR_OK);
    assert_refused(put_verdict(2, "bob", true, 1), "pending no more: rejected");
    changed = a_proposal(4, "too late");
    changed.number = 2;
    assert_refused(store_change_proposal(store, &changed, &detail), "pending no more: rejected");
    assert_verdicts(2, "2 carol 0 07\n"); // kept
}

static enum err see_once(void *context, const struct store_client *client)
{
    (void)client;
    ++*(unsigned *)context;
    return ERR_DENIED;
}

static void test_walk_ends_early(void **state)
{
    (void)state;
    unsigned count = 0;
    add_client("a", KEY_1);
    add_client("b", KEY_2);
    assert_int_equal(store_each_client(store, NULL, see_once, &count, &detail), ERR_DENIED);
    assert_int_equal(count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_keys),      TEST(test_destroyed),       TEST(test_flaws),
        TEST(test_clients),   TEST(test_grants),          TEST(test_officers),
        TEST(test_proposals), TEST(test_nonces),          TEST(test_other_instance),
        TEST(test_verdicts),  TEST(test_walk_ends_early),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
