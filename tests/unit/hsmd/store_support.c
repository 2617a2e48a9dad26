// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/hsmd/store_support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char dir[64];
char path[96];
struct store *store;
struct detail detail;
struct buf seen; // what the walks have met, as text

int setup(void **state)
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

int teardown(void **state)
{
    (void)state;
    store_close(store);
    store = NULL;
    buf_clear(&seen);
    unlink(path);
    return rmdir(dir); // nothing is left beside it
}

void reopen(void)
{
    store_close(store);
    store = NULL;
    if (store_open(path, &store, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
}

void assert_open_fails(enum err class, const char *said)
{
    struct store *other = NULL;
    assert_int_equal(store_open(path, &other, &detail), class);
    if (!strstr(detail.text, said) || !strstr(detail.text, path))
        fail_msg("\"%s\" instead of \"%s\"", detail.text, said);
}

void assert_refused(enum err err, const char *said)
{
    if (err != ERR_PERM || !strstr(detail.text, said))
        fail_msg("%s, \"%s\" instead of \"%s\"", err_name(err), detail.text, said);
}

enum err see_key(void *context, const struct store_key *key)
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

enum err see_client(void *context, const struct store_client *client)
{
    (void)context;
    assert_int_equal(strlen(client->created), CLOCK_STAMP_SIZE - 1);
    return buf_printf(&seen, "%s %s\n", client->name, client->public_key);
}

enum err see_grant(void *context, const struct store_grant *grant)
{
    (void)context;
    return buf_printf(&seen, "%s %s %llx %llx %u\n", grant->client, grant->key,
                      (unsigned long long)grant->operations, (unsigned long long)grant->algorithms,
                      grant->limits.total);
}

enum err see_officer(void *context, const struct store_officer *officer)
{
    (void)context;
    assert_int_equal(strlen(officer->created), CLOCK_STAMP_SIZE - 1);
    return buf_printf(&seen, "%s %d %02x %s\n", officer->name, (int)officer->role,
                      officer->signing_key[0], officer->curve_key);
}

enum err see_proposal(void *context, const struct store_proposal *proposal)
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

enum err see_verdict(void *context, const struct store_verdict *verdict)
{
    (void)context;
    assert_int_equal(strlen(verdict->created), CLOCK_STAMP_SIZE - 1);
    return buf_printf(&seen, "%llu %s %d %02x\n", (unsigned long long)verdict->number,
                      verdict->officer, verdict->is_approval, verdict->signature[63]);
}

void assert_keys(const char *name, const char *expected)
{
    buf_reset(&seen);
    assert_int_equal(store_each_key(store, name, see_key, NULL, &detail), ERR_OK);
    assert_string_equal(buf_text(&seen), expected);
}

void assert_clients(const char *name, const char *expected)
{
    buf_reset(&seen);
    assert_int_equal(store_each_client(store, name, see_client, NULL, &detail), ERR_OK);
    assert_string_equal(buf_text(&seen), expected);
}

void assert_grants(const char *client, const char *key, const char *expected)
{
    buf_reset(&seen);
    assert_int_equal(store_each_grant(store, client, key, see_grant, NULL, &detail), ERR_OK);
    assert_string_equal(buf_text(&seen), expected);
}

void assert_officers(const char *name, const char *expected)
{
    buf_reset(&seen);
    assert_int_equal(store_each_officer(store, name, see_officer, NULL, &detail), ERR_OK);
    assert_string_equal(buf_text(&seen), expected);
}

void assert_proposals(uint64_t number, bool pending_only, const char *expected)
{
    buf_reset(&seen);
    assert_int_equal(store_each_proposal(store, number, pending_only, see_proposal, NULL, &detail),
                     ERR_OK);
    assert_string_equal(buf_text(&seen), expected);
}

void assert_verdicts(uint64_t number, const char *expected)
{
    buf_reset(&seen);
    assert_int_equal(store_each_verdict(store, number, see_verdict, NULL, &detail), ERR_OK);
    assert_string_equal(buf_text(&seen), expected);
}

struct store_key a_key(const char *name)
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

struct store_client a_client(const char *name, const char *public_key)
{
    struct store_client client = {0};
    snprintf(client.name, sizeof client.name, "%s", name);
    snprintf(client.public_key, sizeof client.public_key, "%s", public_key);
    return client;
}

struct store_officer an_officer(const char *name, uint8_t signing, const char *curve)
{
    struct store_officer officer = {.role = OFFICER_OFFICER, .signing_key = {signing, 9}};
    snprintf(officer.name, sizeof officer.name, "%s", name);
    snprintf(officer.curve_key, sizeof officer.curve_key, "%s", curve);
    return officer;
}

void add_key(const char *name)
{
    const struct store_key key = a_key(name);
    assert_int_equal(store_add_key(store, &key, &detail), ERR_OK);
}

void add_client(const char *name, const char *public_key)
{
    const struct store_client client = a_client(name, public_key);
    assert_int_equal(store_add_client(store, &client, &detail), ERR_OK);
}

enum err put_grant(const char *client, const char *key, uint64_t operations, unsigned total)
{
    struct store_grant grant = {
        .operations = operations, .algorithms = UINT64_MAX, .limits = {.total = total}};
    snprintf(grant.client, sizeof grant.client, "%s", client);
    snprintf(grant.key, sizeof grant.key, "%s", key);
    return store_put_grant(store, &grant, &detail);
}

// The nonce is all one byte, so is the signature.
struct store_proposal a_proposal(uint8_t nonce, const char *act)
{
    static uint8_t nonces[256][STATEMENT_NONCE_SIZE];
    static uint8_t signatures[256][STATEMENT_SIGNATURE_SIZE];
    memset(nonces[nonce], nonce, sizeof nonces[nonce]);
    memset(signatures[nonce], nonce, sizeof signatures[nonce]);
    return (struct store_proposal){
        .statement = {.instance = bytes_of(store_instance(store), STATEMENT_INSTANCE_SIZE),
                      .nonce = bytes_of(nonces[nonce], STATEMENT_NONCE_SIZE),
                      .proposer = BYTES_LITERAL("alice"),
                      .lapse = 5000000001,
                      .act = bytes_of_text(act)},
        .signature = bytes_of(signatures[nonce], STATEMENT_SIGNATURE_SIZE),
        .lapses = 5000000000};
}

uint64_t propose(uint8_t nonce, const char *act)
{
    uint64_t number = 0;
    const struct store_proposal proposal = a_proposal(nonce, act);
    if (store_add_proposal(store, &proposal, &number, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
    return number;
}

enum err put_verdict(uint64_t number, const char *officer, bool is_approval, uint8_t last)
{
    struct store_verdict verdict = {.number = number, .is_approval = is_approval};
    snprintf(verdict.officer, sizeof verdict.officer, "%s", officer);
    verdict.signature[63] = last;
    return store_put_verdict(store, &verdict, &detail);
}
