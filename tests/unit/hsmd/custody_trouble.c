// SPDX-License-Identifier: Apache-2.0
// Acts in trouble: tokens that hang, an audit log without room, memory that runs out. Whatever
// comes, token, store and registry agree, or somebody is told.
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "hsmd/base/alloc.h"
#include "tests/support/council_test.h"
#include "tests/support/council_tokens.h"

static void *make_key(void *context)
{
    (void)context;
    struct act act = act_generate("slow", WIRE_SMIME_SIGN);
    static enum err err;
    err = council_do(&council, &act);
    return &err;
}

// While a token hangs in an act everybody can read, and every act that needs no token is done.
static void test_hanging(void **state)
{
    (void)state;
    pthread_t thread;
    void *result = NULL;
    uint64_t number = 0;
    struct council_tokens *tokens = &council.tokens;
    struct act grant = {.kind = ACT_GRANT,
                        .name = BYTES_LITERAL("gw1"),
                        .key = BYTES_LITERAL("signing"),
                        .operations = REGISTRY_SET(WIRE_SIGN),
                        .algorithms = REGISTRY_ALL};
    struct act other = act_generate("other", WIRE_SMIME_SIGN);
    council_do_ok(act_generate("signing", WIRE_SMIME_SIGN));
    council_do_ok(act_named(ACT_KEY_ENABLE, "signing"));
    council_do_ok(add_client);
    tokens->is_hanging = true;
    assert_int_equal(pthread_create(&thread, NULL, make_key, NULL), 0);
    pthread_mutex_lock(&tokens->lock);
    while (!tokens->is_in_call)
        pthread_cond_wait(&tokens->change, &tokens->lock);
    pthread_mutex_unlock(&tokens->lock);
    static const enum message_read reads[] = {READ_STATUS,   READ_KEYS,      READ_CLIENTS,
                                              READ_OFFICERS, READ_PROPOSALS, READ_USAGE};
    for (size_t i = 0; i < sizeof reads / sizeof *reads; i++) {
        json_t *read = council_read(&council, COUNCIL_AUDITOR, reads[i], "");
        assert_non_null(read);
        json_decref(read);
    }
    council_do_ok(grant);
    council_do_ok(act_named(ACT_KEY_DISABLE, "signing"));
    council_do_ok(act_named(ACT_CLIENT_REVOKE, "gw1"));
    council_do_ok(act_named(ACT_LOCK, "spare"));
    council_do_ok(act_named(ACT_LOCK, "main"));
    assert_true(tokens->is_locked[0]);
    council_find_key("signing");
    assert_int_equal(found.state, WIRE_DISABLED);
    // The one at work is nobody else's; one more for a token waits, and is not lost.
    council_refused(council_reject(&council, COUNCIL_CAROL, 4), ERR_TEMP, "is being carried out");
    council_ok(council_propose(&council, COUNCIL_CAROL, &other, &number));
    council_refused(council_approve(&council, COUNCIL_BOB, number), ERR_TEMP,
                    "proposal 4 is at work in a token");
    custody_tick(council.custody);
    pthread_mutex_lock(&tokens->lock);
    assert_true(tokens->is_in_call); // all that was answered meanwhile
    tokens->is_hanging = false;
    pthread_cond_broadcast(&tokens->change);
    pthread_mutex_unlock(&tokens->lock);
    pthread_join(thread, &result);
    assert_int_equal(*(enum err *)result, ERR_OK);
    assert_non_null(council_find_key("slow"));
    council_ok(council_approve(&council, COUNCIL_BOB, number));
    assert_non_null(council_find_key("other"));
}

static void *self_sign(void *context)
{
    (void)context;
    const struct act act = {.kind = ACT_KEY_SELF_SIGN,
                            .name = BYTES_LITERAL("signing"),
                            .common_name = BYTES_LITERAL("mail.example.org"),
                            .domains = BYTES_LITERAL("mail.example.org"),
                            .hash = HASH_SHA256,
                            .days = 30};
    static enum err err;
    err = council_do(&council, &act);
    return &err;
}

static struct keystore_ops slow_keys;
static struct custody_token_ops slow_ops;

static enum err sign_slowly(struct keystore_key *key, unsigned token, enum token_scheme scheme,
                            enum hash hash, unsigned salt, struct bytes digest, deadline_t deadline,
                            uint8_t *out, size_t *out_len, struct detail *detail)
{
    council_tokens_hang(&council.tokens);
    return council_token_ops.keys->sign(key, token, scheme, hash, salt, digest, deadline, out,
                                        out_len, detail);
}

// What was done to a key while a token worked with it stays done.
static void test_meanwhile(void **state)
{
    (void)state;
    pthread_t thread;
    void *result = NULL;
    struct council_tokens *tokens = &council.tokens;
    struct act limit = act_named(ACT_KEY_LIMIT, "signing");
    limit.per_hour = 50;
    council_do_ok(act_generate("signing", WIRE_SMIME_SIGN));
    council_do_ok(act_named(ACT_KEY_ENABLE, "signing"));
    slow_keys = *council_token_ops.keys;
    slow_keys.sign = sign_slowly;
    slow_ops = council_token_ops;
    slow_ops.keys = &slow_keys;
    council.custody->conf.tokens = &slow_ops;
    tokens->is_hanging = true;
    assert_int_equal(pthread_create(&thread, NULL, self_sign, NULL), 0);
    pthread_mutex_lock(&tokens->lock);
    while (!tokens->is_in_call)
        pthread_cond_wait(&tokens->change, &tokens->lock);
    pthread_mutex_unlock(&tokens->lock);
    council_do_ok(act_named(ACT_KEY_DISABLE, "signing"));
    council_do_ok(limit);
    pthread_mutex_lock(&tokens->lock);
    tokens->is_hanging = false;
    pthread_cond_broadcast(&tokens->change);
    pthread_mutex_unlock(&tokens->lock);
    pthread_join(thread, &result);
    assert_int_equal(*(enum err *)result, ERR_OK);
    council_find_key("signing");
    assert_int_equal(found.state, WIRE_DISABLED);
    assert_true(found.certificates.len > 0);
    assert_int_equal(budget_get_left(found.budget, clock_ms()).per_hour, 50);
}

static size_t bound_places;

static enum err add_key_counted(struct keystore *keystore, const char *name,
                                enum wire_purpose purpose, struct bytes public_key,
                                const struct keystore_place *places, size_t count,
                                struct keystore_key **key, struct detail *detail)
{
    bound_places = count;
    return council_token_ops.add_key(keystore, name, purpose, public_key, places, count, key,
                                     detail);
}

// Destroyed in one token, not in the other: the keystore knows of the other alone, at once.
static void test_half_destroyed(void **state)
{
    (void)state;
    struct act place = {.kind = ACT_KEY_PLACE,
                        .name = BYTES_LITERAL("signing"),
                        .tokens = BYTES_LITERAL("spare"),
                        .label = BYTES_LITERAL("signing")};
    council_do_ok(act_generate("signing", WIRE_SMIME_SIGN));
    council.tokens.objects[5] = council.tokens.objects[0];
    council.tokens.objects[5].token = 1;
    council_do_ok(place);
    slow_ops = council_token_ops;
    slow_ops.add_key = add_key_counted;
    council.custody->conf.tokens = &slow_ops;
    council.tokens.is_stuck[1] = true;
    council_do_refused(act_named(ACT_KEY_DESTROY, "signing"), ERR_TEMP, "still in token spare");
    assert_int_equal(bound_places, 1);
    council.tokens.objects[5].key = NULL; // it is the first one's
}

// No line, no act of a token: not even if enough have signed long ago.
static void test_full_log(void **state)
{
    (void)state;
    struct act destroy = act_named(ACT_KEY_DESTROY, "signing");
    uint64_t number = 0;
    council_fill_log();
    council_do_ok(act_generate("signing", WIRE_SMIME_SIGN));
    council_ok(council_propose(&council, COUNCIL_ALICE, &destroy, &number));
    council_do_ok(act_quorum(1));
    council_set_log_room(0);
    enum err err = council_approve(&council, COUNCIL_ALICE, number);
    council_set_log_room(RLIM_INFINITY);
    council_refused(err, ERR_TEMP, "nothing was done");
    assert_int_equal(council_objects(&council), 1);
    assert_string_equal(council_state(&council, number), "pending");
    // Room for the line that it begins and for no other: it is done, and somebody knows.
    council_set_log_room(400);
    err = council_approve(&council, COUNCIL_ALICE, number);
    council_set_log_room(RLIM_INFINITY);
    council_refused(err, ERR_TEMP, "approve proposal 2 again to have it recorded");
    assert_int_equal(council_objects(&council), 0);
    assert_int_equal(council_lines(&council, "\"event\":\"begin\",\"officer\":\"alice\""), 1);
    council_ok(council_approve(&council, COUNCIL_ALICE, number));
    assert_null(council_find_key("signing"));
}

// Killed after the token made the key, and before that was committed: the next try has the same
// key.
static void test_killed(void **state)
{
    (void)state;
    struct act act = act_generate("signing", WIRE_SMIME_SIGN);
    uint64_t number = 0;
    json_t *read = NULL;
    char before[65];
    council_ok(council_propose(&council, COUNCIL_ALICE, &act, &number));
    council_ok(council_approve(&council, COUNCIL_BOB, number));
    read = council_read(&council, COUNCIL_ALICE, READ_KEYS, "signing");
    snprintf(before, sizeof before, "%s",
             json_string_value(json_object_get(json_array_get(read, 0), "public_key_sha256")));
    json_decref(read);
    council_tamper(&council, "UPDATE proposal SET state = 0, result = x'', ended = '';"
                             "DELETE FROM place; DELETE FROM key");
    council_restart(&council);
    assert_null(council_find_key("signing"));
    assert_int_equal(council_objects(&council), 1);
    council_ok(council_approve(&council, COUNCIL_BOB, number));
    assert_int_equal(council_objects(&council), 1);
    read = council_read(&council, COUNCIL_ALICE, READ_KEYS, "signing");
    assert_string_equal(
        json_string_value(json_object_get(json_array_get(read, 0), "public_key_sha256")), before);
    json_decref(read);
}

// A PIN is tried once, whatever can be written down of it.
static void test_pin_once(void **state)
{
    (void)state;
    struct act unlock = act_named(ACT_UNLOCK, "main");
    const struct council_proposal proposal = {.act = &unlock, .attachment = "9999"};
    uint64_t number = 0;
    json_t *body = NULL;
    council_fill_log();
    council_do_ok(act_named(ACT_LOCK, "main"));
    council_ok(
        council_propose_as(&council, COUNCIL_ALICE, COUNCIL_ALICE, &proposal, &number, &body));
    json_decref(body);
    // Room for the lines that it is approved and begins.
    council_set_log_room(700);
    enum err err = council_approve(&council, COUNCIL_BOB, number);
    council_set_log_room(RLIM_INFINITY);
    council_refused(err, ERR_DENIED, "could not be recorded");
    assert_int_equal(council.tokens.pins_tried, 1);
    assert_null(attachments_get(&council.custody->attachments, number));
    assert_string_equal(council_state(&council, number), "pending");
    council_refused(council_approve(&council, COUNCIL_BOB, number), ERR_PERM, "propose it again");
    assert_int_equal(council.tokens.pins_tried, 1);
    assert_string_equal(council_state(&council, number), "failed");
}

// Whichever allocation fails, the key is in token, store and registry, or in none of them.
static void test_memory(void **state)
{
    (void)state;
    unsigned failures = 0;
    for (unsigned n = 1; n < 400; n++) {
        char name[32];
        uint64_t number = 0;
        unsigned before = council_objects(&council);
        snprintf(name, sizeof name, "key-%u", n);
        struct act act = act_generate(name, WIRE_SMIME_SIGN);
        council_ok(council_propose(&council, COUNCIL_ALICE, &act, &number));
        struct proposal proposal = {0};
        council_ok(proposal_load(council.store, number, &proposal, &council.detail));
        // The approval as a frame made before, so that memory fails inside custody alone.
        struct buf frame;
        struct buf message;
        uint8_t signature[STATEMENT_SIGNATURE_SIZE];
        buf_init(&frame, MESSAGE_REQUEST_MAX);
        buf_init(&message, 1024);
        struct bytes digest = bytes_of(proposal.digest, sizeof proposal.digest);
        assert_int_equal(
            statement_put_verdict(true, proposal.row.statement.instance, number, digest, &message),
            ERR_OK);
        assert_int_equal(
            officer_key_sign(council_key(COUNCIL_BOB), buf_bytes(&message), signature, NULL),
            ERR_OK);
        const struct message_request request = {
            .operation = MESSAGE_APPROVE,
            .id = 9,
            .verdict = {.number = number,
                        .digest = digest,
                        .signature = bytes_of(signature, sizeof signature)}};
        assert_int_equal(message_encode_request(&request, &frame, NULL), ERR_OK);
        struct buf reply;
        buf_init(&reply, MESSAGE_REPLY_MAX);
        mem_fail_at(n);
        (void)custody_handle(council.custody, council_key(COUNCIL_BOB)->public_curve,
                             buf_bytes(&frame), deadline_in(60000), &reply);
        mem_fail_at(0);
        bool is_done = strcmp(council_state(&council, number), "done") == 0;
        assert_int_equal(council_find_key(name) != NULL, is_done);
        assert_int_equal(council_objects(&council), before + is_done);
        failures += !is_done;
        // And so that tokens have room for all rounds.
        if (is_done)
            council_do_ok(act_named(ACT_KEY_DESTROY, name));
        else if (strcmp(council_state(&council, number), "pending") == 0)
            council_ok(council_reject(&council, COUNCIL_ALICE, number));
        for (unsigned i = 0; i < COUNCIL_OBJECTS; i++)
            assert_false(council.tokens.objects[i].is_there);
        council_tokens_forget(&council);
        proposal_clear(&proposal);
        buf_clear(&frame);
        buf_clear(&message);
        buf_clear(&reply);
        if (is_done && n > failures + 50)
            break;
    }
    assert_true(failures > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_hanging, council_begin, council_end),
        cmocka_unit_test_setup_teardown(test_meanwhile, council_begin, council_end),
        cmocka_unit_test_setup_teardown(test_half_destroyed, council_begin, council_end),
        cmocka_unit_test_setup_teardown(test_full_log, council_begin, council_end),
        cmocka_unit_test_setup_teardown(test_killed, council_begin, council_end),
        cmocka_unit_test_setup_teardown(test_pin_once, council_begin, council_end),
        cmocka_unit_test_setup_teardown(test_memory, council_begin, council_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
