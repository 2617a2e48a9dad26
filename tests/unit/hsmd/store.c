// SPDX-License-Identifier: Apache-2.0
#include "hsmd/registry/store.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/base/file.h"
#include "hsmd/registry/store_internal.h"

#define KEY_1 "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
#define KEY_2 "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
#define KEY_3 "abcdefghijklmnopqrstuvwxyz0123456789ABCD"

static char dir[64];
static char path[96];
static struct store *store;
static struct detail detail;
static struct buf seen; // what the walks have met, as text

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/store-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/" STORE_FILE, dir);
    detail = (struct detail){0};
    buf_init(&seen, 1 << 16);
    if (store_open(path, &store, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    store_close(store);
    store = NULL;
    buf_clear(&seen);
    unlink(path);
    return rmdir(dir); // nothing is left beside it
}

static void reopen(void)
{
    store_close(store);
    store = NULL;
    if (store_open(path, &store, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
}

static void assert_open_fails(enum err class, const char *said)
{
    struct store *other = NULL;
    assert_int_equal(store_open(path, &other, &detail), class);
    if (!strstr(detail.text, said) || !strstr(detail.text, path))
        fail_msg("\"%s\" instead of \"%s\"", detail.text, said);
}

static void assert_refused(enum err err, const char *said)
{
    if (err != ERR_PERM || !strstr(detail.text, said))
        fail_msg("%s, \"%s\" instead of \"%s\"", err_name(err), detail.text, said);
}

static enum err see_key(void *context, const struct store_key *key)
{
    (void)context;
    assert_int_equal(strlen(key->created), CLOCK_STAMP_SIZE - 1);
    assert_int_equal(buf_printf(&seen, "%s %s %s %llx %u/%u/%u/%u %zu %zu%s", key->name,
                                wire_purpose_name(key->purpose), wire_state_name(key->state),
                                (unsigned long long)key->algorithms, key->limits.per_minute,
                                key->limits.per_hour, key->limits.total,
                                key->limits.failures_per_hour, key->public_key.len,
                                key->certificates.len, key->is_destroyed ? " gone" : ""),
                     ERR_OK);
    for (size_t i = 0; i < key->place_count; i++)
        assert_int_equal(buf_printf(&seen, " %s:%s:%zu", key->places[i].token, key->places[i].label,
                                    key->places[i].id_len),
                         ERR_OK);
    return buf_put_text(&seen, "\n");
}

static enum err see_client(void *context, const struct store_client *client)
{
    (void)context;
    assert_int_equal(strlen(client->created), CLOCK_STAMP_SIZE - 1);
    return buf_printf(&seen, "%s %s\n", client->name, client->public_key);
}

static enum err see_grant(void *context, const struct store_grant *grant)
{
    (void)context;
    return buf_printf(&seen, "%s %s %llx %llx %u\n", grant->client, grant->key,
                      (unsigned long long)grant->operations, (unsigned long long)grant->algorithms,
                      grant->limits.total);
}

static enum err see_officer(void *context, const struct store_officer *officer)
{
    (void)context;
    assert_int_equal(strlen(officer->created), CLOCK_STAMP_SIZE - 1);
    return buf_printf(&seen, "%s %d %02x %s\n", officer->name, (int)officer->role,
                      officer->signing_key[0], officer->curve_key);
}

static enum err see_proposal(void *context, const struct store_proposal *proposal)
{
    (void)context;
    assert_memory_equal(proposal->statement.instance.data, store_instance(store),
                        STATEMENT_INSTANCE_SIZE);
    assert_int_equal(strlen(proposal->created), CLOCK_STAMP_SIZE - 1);
    assert_int_equal(strlen(proposal->ended),
                     proposal->state == PROPOSAL_PENDING ? 0 : CLOCK_STAMP_SIZE - 1);
    return buf_printf(
        &seen, "%llu %s %02x %.*s %llu %llu %.*s %02x %lld %.*s\n",
        (unsigned long long)proposal->number, store_proposal_state_name(proposal->state),
        proposal->statement.nonce.data[0], (int)proposal->statement.proposer.len,
        (const char *)proposal->statement.proposer.data,
        (unsigned long long)proposal->statement.replaces,
        (unsigned long long)proposal->statement.lapse, (int)proposal->statement.act.len,
        (const char *)proposal->statement.act.data, proposal->signature.data[0],
        (long long)proposal->lapses, (int)proposal->result.len,
        proposal->result.len ? (const char *)proposal->result.data : "");
}

static enum err see_verdict(void *context, const struct store_verdict *verdict)
{
    (void)context;
    assert_int_equal(strlen(verdict->created), CLOCK_STAMP_SIZE - 1);
    return buf_printf(&seen, "%llu %s %d %02x\n", (unsigned long long)verdict->number,
                      verdict->officer, verdict->is_approval, verdict->signature[63]);
}

static void assert_keys(const char *name, const char *expected)
{
    buf_reset(&seen);
    assert_int_equal(store_each_key(store, name, see_key, NULL, &detail), ERR_OK);
    assert_string_equal(buf_text(&seen), expected);
}

static void assert_clients(const char *name, const char *expected)
{
    buf_reset(&seen);
    assert_int_equal(store_each_client(store, name, see_client, NULL, &detail), ERR_OK);
    assert_string_equal(buf_text(&seen), expected);
}

static void assert_grants(const char *client, const char *key, const char *expected)
{
    buf_reset(&seen);
    assert_int_equal(store_each_grant(store, client, key, see_grant, NULL, &detail), ERR_OK);
    assert_string_equal(buf_text(&seen), expected);
}

static void assert_officers(const char *name, const char *expected)
{
    buf_reset(&seen);
    assert_int_equal(store_each_officer(store, name, see_officer, NULL, &detail), ERR_OK);
    assert_string_equal(buf_text(&seen), expected);
}

static void assert_proposals(uint64_t number, bool pending_only, const char *expected)
{
    buf_reset(&seen);
    assert_int_equal(store_each_proposal(store, number, pending_only, see_proposal, NULL, &detail),
                     ERR_OK);
    assert_string_equal(buf_text(&seen), expected);
}

static void assert_verdicts(uint64_t number, const char *expected)
{
    buf_reset(&seen);
    assert_int_equal(store_each_verdict(store, number, see_verdict, NULL, &detail), ERR_OK);
    assert_string_equal(buf_text(&seen), expected);
}

static struct store_key a_key(const char *name)
{
    struct store_key key = {
        .purpose = WIRE_SMIME_SIGN,
        .state = WIRE_DISABLED,
        .algorithms = UINT64_MAX,
        .limits = {1, 2, BUDGET_LIMIT_MAX, 4},
        .public_key = BYTES_LITERAL("public"),
        .places = {{.token = "main", .label = "a label", .id = {7}, .id_len = 1},
                   {.token = "spare", .label = "b"}},
        .place_count = 2};
    snprintf(key.name, sizeof key.name, "%s", name);
    return key;
}

static struct store_client a_client(const char *name, const char *public_key)
{
    struct store_client client = {0};
    snprintf(client.name, sizeof client.name, "%s", name);
    snprintf(client.public_key, sizeof client.public_key, "%s", public_key);
    return client;
}

static struct store_officer an_officer(const char *name, uint8_t signing, const char *curve)
{
    struct store_officer officer = {.role = OFFICER_OFFICER, .signing_key = {signing}};
    snprintf(officer.name, sizeof officer.name, "%s", name);
    snprintf(officer.curve_key, sizeof officer.curve_key, "%s", curve);
    return officer;
}

static void add_key(const char *name)
{
    const struct store_key key = a_key(name);
    assert_int_equal(store_add_key(store, &key, &detail), ERR_OK);
}

static void add_client(const char *name, const char *public_key)
{
    const struct store_client client = a_client(name, public_key);
    assert_int_equal(store_add_client(store, &client, &detail), ERR_OK);
}

static enum err put_grant(const char *client, const char *key, uint64_t operations, unsigned total)
{
    struct store_grant grant = {
        .operations = operations, .algorithms = UINT64_MAX, .limits = {.total = total}};
    snprintf(grant.client, sizeof grant.client, "%s", client);
    snprintf(grant.key, sizeof grant.key, "%s", key);
    return store_put_grant(store, &grant, &detail);
}

// The nonce is all one byte, so is the signature.
static struct store_proposal a_proposal(uint8_t nonce, const char *act)
{
    static uint8_t nonces[256][STATEMENT_NONCE_SIZE];
    static uint8_t signatures[256][STATEMENT_SIGNATURE_SIZE];
    memset(nonces[nonce], nonce, sizeof nonces[nonce]);
    memset(signatures[nonce], nonce, sizeof signatures[nonce]);
    return (struct store_proposal){
        .statement = {.instance = bytes_of(store_instance(store), STATEMENT_INSTANCE_SIZE),
                      .nonce = bytes_of(nonces[nonce], STATEMENT_NONCE_SIZE),
                      .proposer = BYTES_LITERAL("alice"),
                      .lapse = 600,
                      .act = bytes_of_text(act)},
        .signature = bytes_of(signatures[nonce], STATEMENT_SIGNATURE_SIZE),
        .lapses = 5000000000};
}

static uint64_t propose(uint8_t nonce, const char *act)
{
    uint64_t number = 0;
    const struct store_proposal proposal = a_proposal(nonce, act);
    if (store_add_proposal(store, &proposal, &number, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
    return number;
}

static enum err put_verdict(uint64_t number, const char *officer, bool is_approval, uint8_t last)
{
    struct store_verdict verdict = {.number = number, .is_approval = is_approval};
    snprintf(verdict.officer, sizeof verdict.officer, "%s", officer);
    verdict.signature[63] = last;
    return store_put_verdict(store, &verdict, &detail);
}

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
                     "1 pending 01 alice 0 600 one 01 5000000000 \n"
                     "2 done 02 alice 0 600 two 02 5000000000 {\"a\":1}\n"
                     "3 pending 03 alice 0 600 three 03 5000000000 \n");
    assert_proposals(0, true,
                     "1 pending 01 alice 0 600 one 01 5000000000 \n"
                     "3 pending 03 alice 0 600 three 03 5000000000 \n");
    assert_proposals(2, false, "2 done 02 alice 0 600 two 02 5000000000 {\"a\":1}\n");
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
    assert_proposals(1, false, "1 pending 02 alice 1 600 changed 02 5000000000 \n");
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

static void test_transactions(void **state)
{
    (void)state;
    assert_int_equal(store_begin(store, &detail), ERR_OK);
    assert_int_equal(store_begin(store, &detail), ERR_BUG);
    add_client("gw", KEY_1);
    add_key("a");
    propose(1, "one");
    const struct store_key again = a_key("a"); // what is refused undoes itself alone
    assert_refused(store_add_key(store, &again, &detail), "already");
    assert_clients(NULL, "gw " KEY_1 "\n");
    store_rollback(store);
    store_rollback(store);
    assert_clients(NULL, "");
    assert_keys(NULL, "");
    assert_proposals(0, false, "");
    assert_int_equal(store_commit(store, &detail), ERR_BUG);
    assert_int_equal(store_begin(store, &detail), ERR_OK);
    add_client("gw", KEY_1);
    assert_int_equal(store_commit(store, &detail), ERR_OK);
    assert_int_equal(store_begin(store, &detail), ERR_OK);
    add_client("lost", KEY_2);
    reopen(); // closes within the transaction
    assert_clients(NULL, "gw " KEY_1 "\n");
}

static void test_file(void **state)
{
    (void)state;
    struct stat st;
    mode_t former = umask(0);
    store_close(store);
    store = NULL;
    unlink(path);
    reopen();
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    umask(0777);
    store_close(store);
    store = NULL;
    unlink(path);
    reopen();
    umask(former);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    store_close(store);
    store = NULL;
    chmod(path, 0640);
    assert_open_fails(ERR_PERM, "mode 0640: others may open it");
    chmod(path, 0600);
    reopen();
    assert_int_equal(sqlite3_libversion_number() >= 3037000, true); // STRICT
}

// Two at a time would each answer from half of the truth.
static void test_lock(void **state)
{
    (void)state;
    add_client("gw", KEY_1);
    assert_open_fails(ERR_TEMP, "in use by another process");
    assert_clients(NULL, "gw " KEY_1 "\n");
}

static void test_other_files(void **state)
{
    (void)state;
    static const struct {
        const char *sql, *said;
    } rows[] = {
        {"PRAGMA user_version = 2", "of a later version of hsmd (2, we know 1)"},
        {"PRAGMA application_id = 1397179185", "another database"},
        {"PRAGMA application_id = 0; PRAGMA user_version = 0", "another database"},
        {"PRAGMA user_version = 0", "another database"},
        {"PRAGMA foreign_keys = OFF; INSERT INTO access VALUES ('a', 'b', 1, 1, 0, 0, 0, 0)",
         "refers to what is not there"},
        {"DELETE FROM custodian", "no instance"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        store_close(store);
        store = NULL;
        unlink(path);
        reopen();
        if (sqlite3_exec(store->db, rows[i].sql, NULL, NULL, NULL) != SQLITE_OK)
            fail_msg("%s: %s", rows[i].sql, sqlite3_errmsg(store->db));
        store_close(store);
        store = NULL;
        assert_open_fails(ERR_PERM, rows[i].said);
    }
    assert_int_equal(file_write(path, BYTES_LITERAL("# a text of somebody else's\n"), 0600, NULL),
                     ERR_OK);
    assert_open_fails(ERR_PERM, "no registry of hsmd");
    unlink(path);
    mkdir(path, 0700);
    assert_open_fails(ERR_PERM, "");
    rmdir(path);
    assert_int_equal(symlink("elsewhere", path), 0);
    assert_open_fails(ERR_PERM, "");
}

// Values that no hsmd writes, in tables that are whole.
static void test_wrong_values(void **state)
{
    (void)state;
    static const struct {
        const char *sql, *said;
    } rows[] = {
        {"UPDATE key SET purpose = 99", "the purpose of a key"},
        {"UPDATE key SET state = 0", "the state of a key"},
        {"UPDATE key SET total = -1", "a key"},
        {"UPDATE place SET id = zeroblob(65)", "a place of a key"},
        {"UPDATE client SET public_key = 'short'", "a client"},
        {"UPDATE access SET per_hour = 1000000001", "a grant"},
        {"UPDATE officer SET role = 3", "an officer"},
        {"UPDATE proposal SET state = 5", "a proposal"},
        {"UPDATE verdict SET officer = hex(zeroblob(40))", "a verdict"},
    };
    add_key("a");
    add_client("gw", KEY_1);
    assert_int_equal(put_grant("gw", "a", 2, 0), ERR_OK);
    const struct store_officer officer = an_officer("alice", 1, KEY_2);
    assert_int_equal(store_add_officer(store, &officer, &detail), ERR_OK);
    propose(1, "one");
    assert_int_equal(put_verdict(1, "alice", true, 1), ERR_OK);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(store_begin(store, &detail), ERR_OK);
        if (sqlite3_exec(store->db, rows[i].sql, NULL, NULL, NULL) != SQLITE_OK)
            fail_msg("%s: %s", rows[i].sql, sqlite3_errmsg(store->db));
        buf_reset(&seen);
        enum err err = store_each_key(store, NULL, see_key, NULL, &detail);
        if (err == ERR_OK)
            err = store_each_client(store, NULL, see_client, NULL, &detail);
        if (err == ERR_OK)
            err = store_each_grant(store, NULL, NULL, see_grant, NULL, &detail);
        if (err == ERR_OK)
            err = store_each_officer(store, NULL, see_officer, NULL, &detail);
        if (err == ERR_OK)
            err = store_each_proposal(store, 0, false, see_proposal, NULL, &detail);
        if (err == ERR_OK)
            err = store_each_verdict(store, 0, see_verdict, NULL, &detail);
        assert_refused(err, rows[i].said);
        assert_non_null(strstr(detail.text, "damaged"));
        store_rollback(store);
    }
}

// Each page of the file overwritten in turn: it is refused, or read without a crash.
static void test_damaged(void **state)
{
    (void)state;
    struct buf whole;
    unsigned refused = 0;
    add_key("a");
    add_client("gw", KEY_1);
    propose(1, "one");
    store_close(store);
    store = NULL;
    buf_init(&whole, 1 << 20);
    assert_int_equal(file_read(path, &whole, NULL), ERR_OK);
    for (size_t at = 0; at < whole.len; at += 4096) {
        uint8_t kept[100];
        struct store *other = NULL;
        memcpy(kept, whole.data + at, sizeof kept);
        memset(whole.data + at, 0xa5, sizeof kept);
        assert_int_equal(file_write(path, buf_bytes(&whole), 0600, NULL), ERR_OK);
        memcpy(whole.data + at, kept, sizeof kept);
        enum err err = store_open(path, &other, &detail);
        refused += err == ERR_PERM;
        assert_true(err == ERR_OK || (err == ERR_PERM && strstr(detail.text, path)));
        store_close(other);
    }
    assert_true(refused > 5);
    // Cut off in the middle.
    assert_int_equal(file_write(path, bytes_of(whole.data, whole.len / 2 + 100), 0600, NULL),
                     ERR_OK);
    assert_open_fails(ERR_PERM, "damaged");
    buf_clear(&whole);
}

static void fill(enum err expected)
{
    static uint8_t large[WIRE_CERTIFICATES_MAX];
    struct store_key key = a_key("large");
    key.certificates = bytes_of(large, sizeof large);
    assert_int_equal(store_add_key(store, &key, &detail), expected);
    if (expected != ERR_OK)
        assert_non_null(strstr(detail.text, path));
}

static void test_full(void **state)
{
    (void)state;
    add_client("gw", KEY_1);
    assert_int_equal(sqlite3_exec(store->db, "PRAGMA max_page_count = 25", NULL, NULL, NULL),
                     SQLITE_OK);
    fill(ERR_TEMP);
    assert_int_equal(store_begin(store, &detail), ERR_OK);
    fill(ERR_TEMP);
    store_rollback(store);
    assert_keys(NULL, "");
    assert_clients(NULL, "gw " KEY_1 "\n");
    // There is room again.
    assert_int_equal(sqlite3_exec(store->db, "PRAGMA max_page_count = 1000", NULL, NULL, NULL),
                     SQLITE_OK);
    fill(ERR_OK);
    reopen();
}

// The limit of the file's size: writing itself fails, in the middle of a transaction.
static void test_write_fails(void **state)
{
    (void)state;
    struct rlimit former;
    add_client("gw", KEY_1);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &former), 0);
    const struct rlimit tight = {.rlim_cur = 8192, .rlim_max = former.rlim_max};
    assert_int_equal(store_begin(store, &detail), ERR_OK);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    static uint8_t large[WIRE_CERTIFICATES_MAX];
    struct store_key key = a_key("large");
    key.certificates = bytes_of(large, sizeof large);
    enum err err = store_add_key(store, &key, &detail);
    enum err committed = err == ERR_OK ? store_commit(store, &detail) : err;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &former), 0);
    assert_int_equal(committed, ERR_TEMP);
    assert_non_null(strstr(detail.text, path));
    store_rollback(store);
    assert_keys(NULL, "");
    assert_clients(NULL, "gw " KEY_1 "\n");
    fill(ERR_OK);
    reopen();
    assert_clients(NULL, "gw " KEY_1 "\n");
}

// When SQLite has rolled back by itself, what comes after must not be written without the rest.
static void test_lost_transaction(void **state)
{
    (void)state;
    assert_int_equal(store_begin(store, &detail), ERR_OK);
    add_client("gw", KEY_1);
    assert_int_equal(sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    const struct store_client client = a_client("archive", KEY_2);
    assert_int_equal(store_add_client(store, &client, &detail), ERR_TEMP);
    assert_non_null(strstr(detail.text, "rolled back"));
    assert_int_equal(store_commit(store, &detail), ERR_TEMP);
    assert_clients(NULL, "");
    assert_int_equal(store_begin(store, &detail), ERR_OK);
    store_rollback(store);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_keys),
        TEST(test_destroyed),
        TEST(test_flaws),
        TEST(test_clients),
        TEST(test_grants),
        TEST(test_officers),
        TEST(test_proposals),
        TEST(test_nonces),
        TEST(test_other_instance),
        TEST(test_verdicts),
        TEST(test_walk_ends_early),
        TEST(test_transactions),
        TEST(test_file),
        TEST(test_lock),
        TEST(test_other_files),
        TEST(test_wrong_values),
        TEST(test_damaged),
        TEST(test_full),
        TEST(test_write_fails),
        TEST(test_lost_transaction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
