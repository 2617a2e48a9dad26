// SPDX-License-Identifier: Apache-2.0
// Acts in trouble: tokens that hang, an audit log without room, memory that runs out. Whatever
// comes, token, store and registry agree, or somebody is told.
#include <pthread.h>
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

#include "hsmd/base/alloc.h"
#include "tests/support/council.h"
#include "tests/support/council_tokens.h"

#define KEY_1 "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"

static struct council council;
static struct registry_key found; // of the registry of the moment

static int setup(void **state)
{
    (void)state;
    council_setup(&council, 2);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    council_teardown(&council);
    return 0;
}

static void assert_ok(enum err err)
{
    if (err != ERR_OK)
        fail_msg("%s: %s", err_name(err), council.detail.text);
}

static void assert_refused(enum err err, enum err wanted, const char *words)
{
    if (err != wanted || !strstr(council.detail.text, words))
        fail_msg("%s: \"%s\" does not say \"%s\"", err_name(err), council.detail.text, words);
}

static struct act key_act(enum act_kind kind, const char *name)
{
    return (struct act){.kind = kind, .name = bytes_of_text(name)};
}

static struct act generate(const char *name, enum wire_purpose purpose)
{
    return (struct act){.kind = ACT_KEY_GENERATE,
                        .name = bytes_of_text(name),
                        .tokens = BYTES_LITERAL("main"),
                        .type = WIRE_KEY_EC,
                        .bits = 256,
                        .purpose = purpose,
                        .algorithms = REGISTRY_ALL};
}

static const struct registry_key *look_up(const char *name)
{
    const struct registry *registry = live_take(council.live);
    const struct registry_key *key = registry_key_by_name(registry, bytes_of_text(name));
    if (key)
        found = *key;
    live_give(council.live, registry);
    return key ? &found : NULL;
}

static void do_ok(struct act act)
{
    assert_ok(council_do(&council, &act));
}

static void *make_key(void *context)
{
    (void)context;
    struct act act = generate("slow", WIRE_SMIME_SIGN);
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
    struct act client = {
        .kind = ACT_CLIENT_ADD, .name = BYTES_LITERAL("gw1"), .curve_key = BYTES_LITERAL(KEY_1)};
    struct act grant = {.kind = ACT_GRANT,
                        .name = BYTES_LITERAL("gw1"),
                        .key = BYTES_LITERAL("signing"),
                        .operations = REGISTRY_SET(WIRE_SIGN),
                        .algorithms = REGISTRY_ALL};
    struct act other = generate("other", WIRE_SMIME_SIGN);
    do_ok(generate("signing", WIRE_SMIME_SIGN));
    do_ok(key_act(ACT_KEY_ENABLE, "signing"));
    do_ok(client);
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
    do_ok(grant);
    do_ok(key_act(ACT_KEY_DISABLE, "signing"));
    do_ok(key_act(ACT_CLIENT_REVOKE, "gw1"));
    do_ok(key_act(ACT_LOCK, "spare"));
    do_ok(key_act(ACT_LOCK, "main"));
    assert_true(tokens->is_locked[0]);
    look_up("signing");
    assert_int_equal(found.state, WIRE_DISABLED);
    // The one at work is nobody else's; one more for a token waits, and is not lost.
    assert_refused(council_reject(&council, COUNCIL_CAROL, 4), ERR_TEMP, "is being carried out");
    assert_ok(council_propose(&council, COUNCIL_CAROL, &other, &number));
    assert_refused(council_approve(&council, COUNCIL_BOB, number), ERR_TEMP,
                   "proposal 4 is at work in a token");
    custody_tick(council.custody);
    pthread_mutex_lock(&tokens->lock);
    assert_true(tokens->is_in_call); // all that was answered meanwhile
    tokens->is_hanging = false;
    pthread_cond_broadcast(&tokens->change);
    pthread_mutex_unlock(&tokens->lock);
    pthread_join(thread, &result);
    assert_int_equal(*(enum err *)result, ERR_OK);
    assert_non_null(look_up("slow"));
    assert_ok(council_approve(&council, COUNCIL_BOB, number));
    assert_non_null(look_up("other"));
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
    struct act limit = key_act(ACT_KEY_LIMIT, "signing");
    limit.per_hour = 50;
    do_ok(generate("signing", WIRE_SMIME_SIGN));
    do_ok(key_act(ACT_KEY_ENABLE, "signing"));
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
    do_ok(key_act(ACT_KEY_DISABLE, "signing"));
    do_ok(limit);
    pthread_mutex_lock(&tokens->lock);
    tokens->is_hanging = false;
    pthread_cond_broadcast(&tokens->change);
    pthread_mutex_unlock(&tokens->lock);
    pthread_join(thread, &result);
    assert_int_equal(*(enum err *)result, ERR_OK);
    look_up("signing");
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
    struct act destroy = key_act(ACT_KEY_DESTROY, "signing");
    do_ok(generate("signing", WIRE_SMIME_SIGN));
    council.tokens.objects[5] = council.tokens.objects[0];
    council.tokens.objects[5].token = 1;
    do_ok(place);
    slow_ops = council_token_ops;
    slow_ops.add_key = add_key_counted;
    council.custody->conf.tokens = &slow_ops;
    council.tokens.is_stuck[1] = true;
    assert_refused(council_do(&council, &destroy), ERR_TEMP, "still in token spare");
    assert_int_equal(bound_places, 1);
    council.tokens.objects[5].key = NULL; // it is the first one's
}

static void set_file_limit(rlim_t size)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = size;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

// The audit log has room for so many bytes more.
static void set_log_room(rlim_t room)
{
    struct stat st;
    assert_int_equal(stat(council.audit_path, &st), 0);
    set_file_limit((rlim_t)st.st_size + room);
}

static void fill_log(void)
{
    signal(SIGXFSZ, SIG_IGN);
    for (unsigned i = 0; i < 4000; i++) // longer than the store will be
        assert_int_equal(
            audit_write(council.audit, &(struct audit_record){.event = AUDIT_USE}, NULL), ERR_OK);
}

// No line, no act of a token: not even if enough have signed long ago.
static void test_full_log(void **state)
{
    (void)state;
    struct act one = {.kind = ACT_QUORUM, .number = 1};
    struct act destroy = key_act(ACT_KEY_DESTROY, "signing");
    uint64_t number = 0;
    fill_log();
    do_ok(generate("signing", WIRE_SMIME_SIGN));
    assert_ok(council_propose(&council, COUNCIL_ALICE, &destroy, &number));
    do_ok(one);
    set_log_room(0);
    enum err err = council_approve(&council, COUNCIL_ALICE, number);
    set_file_limit(RLIM_INFINITY);
    assert_refused(err, ERR_TEMP, "nothing was done");
    assert_int_equal(council_objects(&council), 1);
    assert_string_equal(council_state(&council, number), "pending");
    // Room for the line that it begins and for no other: it is done, and somebody knows.
    set_log_room(400);
    err = council_approve(&council, COUNCIL_ALICE, number);
    set_file_limit(RLIM_INFINITY);
    assert_refused(err, ERR_TEMP, "approve proposal 2 again to have it recorded");
    assert_int_equal(council_objects(&council), 0);
    assert_int_equal(council_lines(&council, "\"event\":\"begin\",\"officer\":\"alice\""), 1);
    assert_ok(council_approve(&council, COUNCIL_ALICE, number));
    assert_null(look_up("signing"));
}

// Killed after the token made the key, and before that was committed: the next try has the same
// key.
static void test_killed(void **state)
{
    (void)state;
    struct act act = generate("signing", WIRE_SMIME_SIGN);
    uint64_t number = 0;
    json_t *read = NULL;
    char before[65];
    assert_ok(council_propose(&council, COUNCIL_ALICE, &act, &number));
    assert_ok(council_approve(&council, COUNCIL_BOB, number));
    read = council_read(&council, COUNCIL_ALICE, READ_KEYS, "signing");
    snprintf(before, sizeof before, "%s",
             json_string_value(json_object_get(json_array_get(read, 0), "public_key_sha256")));
    json_decref(read);
    council_tamper(&council, "UPDATE proposal SET state = 0, result = x'', ended = '';"
                             "DELETE FROM place; DELETE FROM key");
    council_restart(&council);
    assert_null(look_up("signing"));
    assert_int_equal(council_objects(&council), 1);
    assert_ok(council_approve(&council, COUNCIL_BOB, number));
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
    struct act unlock = key_act(ACT_UNLOCK, "main");
    const struct council_proposal proposal = {.act = &unlock, .attachment = "9999"};
    uint64_t number = 0;
    json_t *body = NULL;
    fill_log();
    do_ok(key_act(ACT_LOCK, "main"));
    assert_ok(
        council_propose_as(&council, COUNCIL_ALICE, COUNCIL_ALICE, &proposal, &number, &body));
    json_decref(body);
    // Room for the lines that it is approved and begins.
    set_log_room(700);
    enum err err = council_approve(&council, COUNCIL_BOB, number);
    set_file_limit(RLIM_INFINITY);
    assert_refused(err, ERR_DENIED, "could not be recorded");
    assert_int_equal(council.tokens.pins_tried, 1);
    assert_null(attachments_get(&council.custody->attachments, number));
    assert_string_equal(council_state(&council, number), "pending");
    assert_refused(council_approve(&council, COUNCIL_BOB, number), ERR_PERM, "propose it again");
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
        struct act act = generate(name, WIRE_SMIME_SIGN);
        assert_ok(council_propose(&council, COUNCIL_ALICE, &act, &number));
        struct proposal proposal = {0};
        assert_ok(proposal_load(council.store, number, &proposal, &council.detail));
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
        assert_int_equal(look_up(name) != NULL, is_done);
        assert_int_equal(council_objects(&council), before + is_done);
        failures += !is_done;
        // And so that tokens have room for all rounds.
        if (is_done)
            do_ok(key_act(ACT_KEY_DESTROY, name));
        else if (strcmp(council_state(&council, number), "pending") == 0)
            assert_ok(council_reject(&council, COUNCIL_ALICE, number));
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
        cmocka_unit_test_setup_teardown(test_hanging, setup, teardown),
        cmocka_unit_test_setup_teardown(test_meanwhile, setup, teardown),
        cmocka_unit_test_setup_teardown(test_half_destroyed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_log, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pin_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
