// SPDX-License-Identifier: Apache-2.0
// Every client with every key by every operation, algorithm and form, whether they go together or
// not; keys of every type, purpose and state, with and without a list of algorithms of their own.
// What must come of it is written in two tables, of grants and of uses, and looked up by code of
// the test's own. Then again with the rules changed between two requests.
#include <stdio.h>
#include <string.h>

#include "tests/unit/hsmd/core_support.h"

#define SET(number) (UINT64_C(1) << (number))
#define ALL UINT64_MAX

// Counted by hand, as descriptions + uses of keys without a list + of those with one.
// Allowed: desk 54 + 20 + 6; clerk, who has no grant for ed25519, 54 + 16 + 6; porter 18 + 3 + 0.
// Perm: for each known client and key, of 36 requests the 24 whose algorithm is not the operation's
// (9 + 5 + 6) or has not that form of signature (4); and with keys of another type than the
// algorithm's desk 56 + 16, clerk 40 + 16, porter none.
#define ALLOWED_CELLS (80 + 76 + 21)
#define IMPOSSIBLE_CELLS (KNOWN_COUNT * KEY_COUNT * 24 + 72 + 56)

enum { TYPE_COUNT = CUSTODIAN_TYPES };
enum { CLIENT_COUNT = 4, KNOWN_COUNT = 3, LIST_COUNT = 2, FORM_COUNT = 3 };
static const char *const client_names[KNOWN_COUNT] = {"desk", "clerk", "porter"};
static const char *const type_names[TYPE_COUNT] = {"rsa", "ec", "ed25519"};

// What keys may be used with by their own list: of the second kind of key not with all.
static const uint64_t lists[LIST_COUNT] = {ALL, SET(WIRE_RSA_PSS) | SET(WIRE_RSAES_OAEP)};

static const enum wire_algorithm algorithms[] = {WIRE_RSA_PKCS1, WIRE_RSA_PSS,     WIRE_ECDSA,
                                                 WIRE_EDDSA,     WIRE_RSAES_PKCS1, WIRE_RSAES_OAEP,
                                                 WIRE_ECDH_X963};
static const enum wire_form forms[FORM_COUNT] = {WIRE_ATTRIBUTES, WIRE_DIGEST, WIRE_MESSAGE};
enum { ALGORITHM_COUNT = sizeof algorithms / sizeof *algorithms };

// Who may do what: grants of clients for all keys of these types and purposes. Those of one client
// and key add up, and do not mix: clerk signs with PSS, and opens with anything.
static const struct granted {
    unsigned client;
    uint64_t types, purposes; // sets
    uint64_t operations, algorithms;
} grants[] = {
    {0, ALL, ALL, ALL, ALL},
    {1, ALL, ALL, SET(WIRE_SIGN), SET(WIRE_RSA_PSS) | SET(WIRE_ECDSA)},
    {1, ALL, SET(WIRE_SMIME_DECRYPT) | SET(WIRE_GENERAL), SET(WIRE_UNWRAP) | SET(WIRE_AGREE), ALL},
    {2, SET(CUSTODIAN_RSA), SET(WIRE_GENERAL), SET(WIRE_UNWRAP), SET(WIRE_RSAES_PKCS1)},
    {2, SET(CUSTODIAN_EC), SET(WIRE_SMIME_SIGN), SET(WIRE_AGREE), ALL}, // good for nothing
    {2, SET(CUSTODIAN_ED25519), SET(WIRE_GENERAL), SET(WIRE_SIGN), SET(WIRE_EDDSA)},
};
enum { GRANT_COUNT = sizeof grants / sizeof *grants };

#define E SET(WIRE_ENABLED)
#define R SET(WIRE_RETIRED)

// What keys are good for. Nothing else is.
static const struct use {
    unsigned type;
    enum wire_purpose purpose;
    uint64_t states;
    enum wire_operation operation;
    enum wire_algorithm algorithm;
    enum wire_form form; // of sign
} uses[] = {
    {CUSTODIAN_RSA, WIRE_SMIME_SIGN, E, WIRE_SIGN, WIRE_RSA_PKCS1, WIRE_ATTRIBUTES},
    {CUSTODIAN_RSA, WIRE_SMIME_SIGN, E, WIRE_SIGN, WIRE_RSA_PSS, WIRE_ATTRIBUTES},
    {CUSTODIAN_EC, WIRE_SMIME_SIGN, E, WIRE_SIGN, WIRE_ECDSA, WIRE_ATTRIBUTES},
    {CUSTODIAN_ED25519, WIRE_SMIME_SIGN, E, WIRE_SIGN, WIRE_EDDSA, WIRE_ATTRIBUTES},
    {CUSTODIAN_RSA, WIRE_GENERAL, E, WIRE_SIGN, WIRE_RSA_PKCS1, WIRE_DIGEST},
    {CUSTODIAN_RSA, WIRE_GENERAL, E, WIRE_SIGN, WIRE_RSA_PSS, WIRE_DIGEST},
    {CUSTODIAN_EC, WIRE_GENERAL, E, WIRE_SIGN, WIRE_ECDSA, WIRE_DIGEST},
    {CUSTODIAN_ED25519, WIRE_GENERAL, E, WIRE_SIGN, WIRE_EDDSA, WIRE_MESSAGE},
    {CUSTODIAN_RSA, WIRE_SMIME_DECRYPT, E | R, WIRE_UNWRAP, WIRE_RSAES_PKCS1, 0},
    {CUSTODIAN_RSA, WIRE_SMIME_DECRYPT, E | R, WIRE_UNWRAP, WIRE_RSAES_OAEP, 0},
    {CUSTODIAN_EC, WIRE_SMIME_DECRYPT, E | R, WIRE_AGREE, WIRE_ECDH_X963, 0},
    {CUSTODIAN_RSA, WIRE_GENERAL, E | R, WIRE_UNWRAP, WIRE_RSAES_PKCS1, 0},
    {CUSTODIAN_RSA, WIRE_GENERAL, E | R, WIRE_UNWRAP, WIRE_RSAES_OAEP, 0},
    {CUSTODIAN_EC, WIRE_GENERAL, E | R, WIRE_AGREE, WIRE_ECDH_X963, 0},
};
enum { USE_COUNT = sizeof uses / sizeof *uses };

struct key {
    char name[TEXT_NAME_MAX + 1]; // of what it is without any change
    unsigned type;
    enum wire_purpose purpose;
    enum wire_state state;
    unsigned list;
};
enum { KEY_COUNT = TYPE_COUNT * 4 * 3 * LIST_COUNT };

// The rules, and how they may be changed.
enum change {
    CHANGE_NONE,
    CHANGE_STATES,  // enabled ones are disabled, disabled ones retired, retired ones enabled
    CHANGE_GRANTS,  // each client has what the next one had
    CHANGE_LISTS,   // keys have the others' lists of algorithms
    CHANGE_REVOKED, // desk is no client any more
    CHANGE_COUNT
};

struct request {
    enum wire_operation operation;
    enum wire_algorithm algorithm; // of any operation; 0: of describe
    enum wire_form form;
};

static struct key keys[KEY_COUNT];
static struct buf request_frame;
static unsigned long cells, allowed, denied, impossible, unanswered;

static struct key key_of(unsigned number, enum change change)
{
    struct key key = keys[number];
    if (change == CHANGE_STATES)
        key.state = key.state == WIRE_RETIRED ? WIRE_ENABLED : (enum wire_state)(key.state + 1);
    if (change == CHANGE_LISTS)
        key.list = !key.list;
    return key;
}

static unsigned grantee(const struct granted *grant, enum change change)
{
    return change == CHANGE_GRANTS ? (grant->client + KNOWN_COUNT - 1) % KNOWN_COUNT
                                   : grant->client;
}

static bool is_known(unsigned client, enum change change)
{
    return client < KNOWN_COUNT && (client != 0 || change != CHANGE_REVOKED);
}

static bool is_for(const struct granted *grant, const struct key *key)
{
    return key->purpose != WIRE_AUDIT && (grant->types & SET(key->type)) &&
           (grant->purposes & SET(key->purpose));
}

// ---- what must come of it ----

static bool is_granted(unsigned client, const struct key *key, const struct request *request,
                       enum change change)
{
    for (unsigned i = 0; i < GRANT_COUNT; i++) {
        const struct granted *grant = &grants[i];
        if (grantee(grant, change) != client || !is_for(grant, key))
            continue;
        if (request->operation == WIRE_DESCRIBE)
            return true;
        if ((grant->operations & SET(request->operation)) &&
            (grant->algorithms >> request->algorithm & 1 || grant->algorithms == ALL))
            return true;
    }
    return false;
}

static bool is_row(const struct use *use, const struct key *key, const struct request *request)
{
    return use->purpose == key->purpose && (use->states & SET(key->state)) &&
           use->operation == request->operation && use->algorithm == request->algorithm;
}

// Is there a use like that, of this key, or of one of another type?
static bool is_use(const struct key *key, const struct request *request, bool is_of_type)
{
    for (unsigned i = 0; i < USE_COUNT; i++) {
        if (is_row(&uses[i], key, request) && (uses[i].type == key->type) == is_of_type &&
            (!is_of_type || request->operation != WIRE_SIGN || uses[i].form == request->form))
            return true;
    }
    return false;
}

// Ed25519 takes whole messages, the others digests; all take attributes.
static bool has_form(const struct request *request)
{
    return request->form == WIRE_ATTRIBUTES ||
           request->form == (request->algorithm == WIRE_EDDSA ? WIRE_MESSAGE : WIRE_DIGEST);
}

static bool go_together(const struct request *request)
{
    for (unsigned i = 0; i < USE_COUNT; i++) {
        if (uses[i].operation == request->operation && uses[i].algorithm == request->algorithm)
            return request->operation != WIRE_SIGN || has_form(request);
    }
    return request->operation == WIRE_DESCRIBE;
}

// -1: no answer at all.
static int expected(unsigned client, const struct key *key, const struct request *request,
                    enum change change)
{
    bool is_listed = lists[key->list] == ALL || (lists[key->list] >> request->algorithm & 1);
    if (!is_known(client, change))
        return -1;
    if (!go_together(request))
        return ERR_PERM; // no such request, whoever asks
    if (!is_granted(client, key, request, change))
        return ERR_DENIED;
    if (request->operation == WIRE_DESCRIBE || (is_listed && is_use(key, request, true)))
        return ERR_OK;
    return is_listed && is_use(key, request, false) ? ERR_PERM : ERR_DENIED;
}

// ---- what comes of it ----

static void add_grants(struct registry *registry, const struct key *key, enum change change)
{
    for (unsigned i = 0; i < GRANT_COUNT; i++) {
        const struct granted *grant = &grants[i];
        unsigned client = grantee(grant, change);
        if (!is_for(grant, key) || !is_known(client, change))
            continue;
        assert_int_equal(
            registry_add_grant(registry, client_names[client], key->name,
                               grant->operations == ALL ? REGISTRY_ALL : grant->operations,
                               grant->algorithms == ALL ? REGISTRY_ALL : grant->algorithms, NULL,
                               NULL),
            ERR_OK);
    }
}

static void put_rules(enum change change)
{
    struct registry *registry = NULL;
    assert_int_equal(registry_new(&registry), ERR_OK);
    for (unsigned i = 0; i < KNOWN_COUNT; i++) {
        struct registry_client client;
        snprintf(client.name, sizeof client.name, "%s", client_names[i]);
        memcpy(client.public_key, custodian.public_keys[i], sizeof client.public_key);
        if (is_known(i, change))
            assert_int_equal(registry_add_client(registry, &client, NULL), ERR_OK);
    }
    for (unsigned i = 0; i < KEY_COUNT; i++) {
        struct key key = key_of(i, change);
        uint64_t list = lists[key.list] == ALL ? REGISTRY_ALL : lists[key.list];
        struct registry_key entry = {.purpose = key.purpose,
                                     .state = key.state,
                                     .algorithms = list,
                                     .store = custodian.stores[key.type]};
        memcpy(entry.name, key.name, sizeof entry.name);
        assert_int_equal(registry_add_key(registry, &entry, NULL), ERR_OK);
        add_grants(registry, &key, change);
    }
    live_swap(custodian.live, registry);
}

static struct wire_request make(const struct key *key, const struct request *wanted)
{
    struct wire_request request = {.operation = wanted->operation};
    if (wanted->operation == WIRE_UNWRAP) {
        request = make_unwrap(key->name, wanted->algorithm == WIRE_RSAES_OAEP);
    } else if (wanted->operation == WIRE_AGREE) {
        request = make_agree(key->name);
    } else if (wanted->operation == WIRE_DESCRIBE) {
        request.describe.key = bytes_of_text(key->name);
    } else if (wanted->algorithm == WIRE_EDDSA) {
        request = make_eddsa(key->name, wanted->form);
    } else {
        request = make_sign(key->name, wanted->algorithm, wanted->form);
    }
    request.id = 77;
    return request;
}

// An algorithm that the operation does not have, or a form that the algorithm has not, is none that
// the wire encodes: it is put into the frame of one that it has.
static void encode(const struct key *key, const struct request *wanted)
{
    static const struct request good[] = {[WIRE_SIGN] = {WIRE_SIGN, WIRE_RSA_PKCS1, WIRE_DIGEST},
                                          [WIRE_UNWRAP] = {WIRE_UNWRAP, WIRE_RSAES_PKCS1, 0},
                                          [WIRE_AGREE] = {WIRE_AGREE, WIRE_ECDH_X963, 0}};
    const struct request *with = go_together(wanted) ? wanted : &good[wanted->operation];
    struct wire_request request = make(key, with);
    buf_reset(&request_frame);
    assert_int_equal(wire_encode_request(&request, &request_frame), ERR_OK);
    if (with == wanted)
        return;
    size_t len = strlen(key->name);
    uint8_t *name = memmem(request_frame.data, request_frame.len, key->name, len);
    assert_non_null(name);
    assert_int_equal(name[len], with->algorithm);
    name[len] = (uint8_t)wanted->algorithm;
    if (wanted->operation != WIRE_SIGN)
        return;
    assert_int_equal(name[len + 3], WIRE_DIGEST); // behind hash and salt
    name[len + 3] = (uint8_t)wanted->form;
}

static int ask(unsigned client, enum wire_operation operation)
{
    struct wire_reply reply = {0};
    buf_reset(&frame);
    if (!core_handle(&custodian.core, &custodian.worker, custodian.public_keys[client],
                     buf_bytes(&request_frame), deadline_in(60000), &frame)) {
        assert_int_equal(frame.len, 0);
        return -1;
    }
    assert_int_equal(wire_decode_reply(operation, buf_bytes(&frame), &reply, NULL), ERR_OK);
    assert_int_equal(reply.id, 77);
    return (int)reply.class;
}

static void check_cell(unsigned client, unsigned number, const struct request *request,
                       enum change change)
{
    struct key key = key_of(number, change);
    encode(&key, request);
    unsigned used = memstore_used();
    int want = expected(client, &key, request, change);
    int got = ask(client, request->operation);
    if (got != want)
        fail_msg("change %d, client %u, key %s, %s with %s, form %d: %d, not %d", change, client,
                 key.name, wire_operation_name(request->operation),
                 request->algorithm ? wire_algorithm_name(request->algorithm) : "nothing",
                 request->form, got, want);
    // The key was asked exactly if it was allowed.
    assert_int_equal(memstore_used() - used, want == ERR_OK && request->operation != WIRE_DESCRIBE);
    cells++;
    allowed += want == ERR_OK;
    denied += want == ERR_DENIED;
    impossible += want == ERR_PERM;
    unanswered += want < 0;
}

static unsigned make_requests(struct request *requests)
{
    unsigned count = 0;
    for (unsigned i = 0; i < ALGORITHM_COUNT; i++) {
        for (unsigned form = 0; form < FORM_COUNT; form++)
            requests[count++] = (struct request){WIRE_SIGN, algorithms[i], forms[form]};
        requests[count++] = (struct request){WIRE_UNWRAP, algorithms[i], 0};
        requests[count++] = (struct request){WIRE_AGREE, algorithms[i], 0};
    }
    requests[count++] = (struct request){WIRE_DESCRIBE, 0, 0};
    return count;
}
enum { REQUEST_COUNT = ALGORITHM_COUNT * (FORM_COUNT + 2) + 1 };

static void print_counts(const char *what)
{
    print_message("%s: %lu cells: %lu allowed, %lu denied, %lu perm, %lu without an answer\n", what,
                  cells, allowed, denied, impossible, unanswered);
}

// Each use and each refusal is a line, those of strangers too; but no description that was given.
static void test_every_cell(void **state)
{
    struct request requests[REQUEST_COUNT];
    (void)state;
    assert_int_equal(make_requests(requests), REQUEST_COUNT);
    put_rules(CHANGE_NONE);
    cells = allowed = denied = impossible = unanswered = 0;
    unsigned before = custodian_audit_lines(&custodian, NULL, 0), described = 0;
    for (unsigned client = 0; client < CLIENT_COUNT; client++) {
        for (unsigned key = 0; key < KEY_COUNT; key++) {
            for (unsigned i = 0; i < REQUEST_COUNT; i++) {
                check_cell(client, key, &requests[i], CHANGE_NONE);
                described += requests[i].operation == WIRE_DESCRIBE &&
                             expected(client, &keys[key], &requests[i], CHANGE_NONE) == ERR_OK;
            }
        }
    }
    print_counts("matrix");
    assert_int_equal(custodian_audit_lines(&custodian, NULL, 0) - before, cells - described);
    assert_int_equal(cells, CLIENT_COUNT * KEY_COUNT * REQUEST_COUNT);
    assert_int_equal(allowed + denied + impossible + unanswered, cells);
    assert_int_equal(unanswered, KEY_COUNT * REQUEST_COUNT);
    assert_int_equal(allowed, ALLOWED_CELLS);
    assert_int_equal(impossible, IMPOSSIBLE_CELLS);
}

// A change counts from the next request on: each cell under the rules as they were, then, with
// nothing between, under changed ones.
static void test_changed_between(void **state)
{
    struct request requests[REQUEST_COUNT];
    unsigned long differ = 0;
    (void)state;
    make_requests(requests);
    cells = allowed = denied = impossible = unanswered = 0;
    put_rules(CHANGE_NONE);
    for (unsigned client = 0; client < KNOWN_COUNT; client++) {
        for (unsigned n = 0; n < KEY_COUNT * REQUEST_COUNT; n++) {
            enum change change = (enum change)(1 + (n / 3 + client) % (CHANGE_COUNT - 1));
            const struct request *request = &requests[n % REQUEST_COUNT];
            unsigned number = n / REQUEST_COUNT;
            struct key key = key_of(number, change);
            check_cell(client, number, request, CHANGE_NONE);
            put_rules(change);
            check_cell(client, number, request, change);
            put_rules(CHANGE_NONE);
            differ += expected(client, &keys[number], request, CHANGE_NONE) !=
                      expected(client, &key, request, change);
        }
    }
    print_counts("changed between two requests");
    print_message("%lu requests of %lu were answered otherwise after the change\n", differ,
                  cells / 2);
    assert_int_equal(cells, 2 * KNOWN_COUNT * KEY_COUNT * REQUEST_COUNT);
    assert_true(differ > 200);
}

// The list tells of the keys there is a grant for, and of no others.
static void test_lists(void **state)
{
    struct wire_request request = {.operation = WIRE_LIST, .id = 77};
    (void)state;
    for (unsigned change = CHANGE_NONE; change < CHANGE_COUNT; change++) {
        put_rules((enum change)change);
        for (unsigned client = 0; client < CLIENT_COUNT; client++) {
            struct wire_reply reply = {0};
            const struct request describe = {WIRE_DESCRIBE, 0, 0};
            size_t want = 0;
            bool is_answered =
                custodian_call(&custodian, (enum custodian_client)client, &request, &reply, &frame);
            assert_int_equal(is_answered, is_known(client, (enum change)change));
            for (unsigned i = 0; i < KEY_COUNT && is_answered; i++) {
                bool is_listed = false;
                for (size_t n = 0; n < reply.list.count; n++)
                    is_listed =
                        is_listed || bytes_equal(reply.list.names[n], bytes_of_text(keys[i].name));
                bool is_due = is_granted(client, &keys[i], &describe, (enum change)change);
                assert_int_equal(is_listed, is_due);
                want += is_due;
            }
            assert_int_equal(is_answered ? reply.list.count : 0, want);
        }
    }
}

static void make_keys(void)
{
    for (unsigned i = 0; i < KEY_COUNT; i++) {
        struct key *key = &keys[i];
        key->type = i % TYPE_COUNT;
        key->purpose = (enum wire_purpose)(WIRE_SMIME_SIGN + i / TYPE_COUNT % 4);
        key->state = (enum wire_state)(WIRE_ENABLED + i / (TYPE_COUNT * 4) % 3);
        key->list = i / (TYPE_COUNT * 4 * 3);
        snprintf(key->name, sizeof key->name, "%s.%s.%s.%s", type_names[key->type],
                 wire_purpose_name(key->purpose), wire_state_name(key->state),
                 key->list ? "listed" : "all");
    }
}

static int setup_matrix(void **state)
{
    buf_init(&request_frame, WIRE_FRAME_MAX);
    make_keys();
    return setup(state);
}

static int teardown_matrix(void **state)
{
    buf_clear(&request_frame);
    return teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_cell),
        cmocka_unit_test(test_changed_between),
        cmocka_unit_test(test_lists),
    };
    return cmocka_run_group_tests(tests, setup_matrix, teardown_matrix);
}
