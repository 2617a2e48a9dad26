// SPDX-License-Identifier: Apache-2.0
// What each act does to store, tokens and the registry of the moment, and what is left of one that
// fails half way.
#include <stdio.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "tests/support/council_test.h"

static void test_life(void **state)
{
    (void)state;
    struct act make = act_generate("signing", WIRE_SMIME_SIGN);
    json_t *result = NULL;
    council_ok(council_do_with(&council, &make, NULL, &result));
    const char *pem = json_string_value(json_object_get(result, "public_key_pem"));
    assert_non_null(pem);
    assert_int_equal(strlen(json_string_value(json_object_get(result, "public_key_sha256"))), 64);
    json_decref(result);
    assert_non_null(council_find_key("signing"));
    assert_int_equal(found.state, WIRE_DISABLED);
    assert_non_null(found.store);
    assert_int_equal(council_objects(&council), 1);
    assert_string_equal(council.tokens.objects[0].label, "signing");
    assert_int_equal(council.tokens.objects[0].id_len, 16);
    council_do_refused(make, ERR_PERM, "already");
    council_do_ok(act_named(ACT_KEY_ENABLE, "signing"));
    council_find_key("signing");
    assert_int_equal(found.state, WIRE_ENABLED);
    council_do_refused(act_named(ACT_KEY_ENABLE, "signing"), ERR_PERM, "enabled already");
    council_do_refused(act_named(ACT_KEY_RETIRE, "signing"), ERR_PERM, "never decrypts");
    council_do_refused(act_named(ACT_KEY_DESTROY, "signing"), ERR_PERM, "disable it before");
    council_do_ok(act_named(ACT_KEY_DISABLE, "signing"));
    council_do_ok(act_named(ACT_KEY_DESTROY, "signing"));
    assert_null(council_find_key("signing"));
    assert_int_equal(council_objects(&council), 0);
    council_do_refused(make, ERR_PERM, "not used again");
    council_do_refused(act_named(ACT_KEY_ENABLE, "signing"), ERR_PERM, "was destroyed");
    council_do_refused(act_named(ACT_KEY_ENABLE, "other"), ERR_PERM, "no key \"other\"");
    council_do_ok(act_generate("opening", WIRE_SMIME_DECRYPT));
    council_do_ok(act_named(ACT_KEY_RETIRE, "opening"));
    council_find_key("opening");
    assert_int_equal(found.state, WIRE_RETIRED);
    struct act nowhere = act_generate("more", WIRE_GENERAL);
    nowhere.tokens = BYTES_LITERAL("attic");
    council_do_refused(nowhere, ERR_PERM, "no token \"attic\"");
    // After a restart all is as it was.
    council_restart(&council);
    json_t *keys = council_read(&council, COUNCIL_AUDITOR, READ_KEYS, "");
    assert_int_equal(json_array_size(keys), 2);
    json_t *item = json_array_get(keys, 0);
    assert_string_equal(json_string_value(json_object_get(item, "name")), "opening");
    assert_string_equal(json_string_value(json_object_get(item, "state")), "retired");
    assert_string_equal(json_string_value(json_object_get(item, "type")), "ec:p256");
    assert_string_equal(json_string_value(json_object_get(json_array_get(keys, 1), "state")),
                        "destroyed");
    json_decref(keys);
}

static void test_adopted(void **state)
{
    (void)state;
    council_do_ok(act_generate("first", WIRE_SMIME_SIGN));
    struct act adopt = {.kind = ACT_KEY_ADOPT,
                        .name = BYTES_LITERAL("second"),
                        .tokens = BYTES_LITERAL("main"),
                        .label = BYTES_LITERAL("first"),
                        .purpose = WIRE_GENERAL,
                        .algorithms = REGISTRY_ALL};
    council_do_refused(adopt, ERR_PERM, "under the name \"first\"");
    assert_int_equal(council_objects(&council), 1); // and it is still there
    adopt.label = BYTES_LITERAL("nobody");
    council_do_refused(adopt, ERR_PERM, "no such key");
    // A copy in the other token: it gets a place of the same key, another key does not.
    council.tokens.objects[5] = council.tokens.objects[0];
    council.tokens.objects[5].token = 1;
    struct act place = {.kind = ACT_KEY_PLACE,
                        .name = BYTES_LITERAL("first"),
                        .tokens = BYTES_LITERAL("spare"),
                        .label = BYTES_LITERAL("first")};
    council_do_ok(place);
    json_t *keys = council_read(&council, COUNCIL_ALICE, READ_KEYS, "first");
    assert_int_equal(json_array_size(json_object_get(json_array_get(keys, 0), "places")), 2);
    json_decref(keys);
    council_do_refused(place, ERR_PERM, "has a place");
    council_do_ok(act_generate("third", WIRE_SMIME_SIGN));
    place.name = BYTES_LITERAL("third");
    council_do_refused(place, ERR_PERM, "another key there");
    // Destroyed in both, once the second token lets it go.
    council.tokens.is_stuck[1] = true;
    council_do_refused(act_named(ACT_KEY_DESTROY, "first"), ERR_TEMP, "still in token spare");
    keys = council_read(&council, COUNCIL_ALICE, READ_KEYS, "first");
    json_t *item = json_array_get(keys, 0);
    assert_string_equal(json_string_value(json_object_get(item, "state")), "disabled");
    assert_int_equal(json_array_size(json_object_get(item, "places")), 1);
    json_decref(keys);
    assert_non_null(council_find_key("first"));
    council.tokens.is_stuck[1] = false;
    council_do_ok(act_named(ACT_KEY_DESTROY, "first"));
    assert_null(council_find_key("first"));
    assert_int_equal(council_objects(&council), 1);
    council.tokens.objects[5].key = NULL; // it is the first one's
}

static struct bytes pkcs8_of(EVP_PKEY *pkey, uint8_t *room, size_t size)
{
    uint8_t *at = room;
    PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(pkey);
    int len = i2d_PKCS8_PRIV_KEY_INFO(info, NULL);
    assert_true(len > 0 && (size_t)len <= size);
    assert_int_equal(i2d_PKCS8_PRIV_KEY_INFO(info, &at), len);
    PKCS8_PRIV_KEY_INFO_free(info);
    return bytes_of(room, (size_t)len);
}

static bool is_wrapped(uint64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    json_t *read = council_read(&council, COUNCIL_ALICE, READ_PROPOSALS, text);
    bool is_true = json_is_true(
        json_object_get(json_object_get(json_array_get(read, 0), "result"), "wrapped"));
    json_decref(read);
    return is_true;
}

static void test_imported(void **state)
{
    (void)state;
    uint8_t room[4096];
    uint8_t public_room[1024];
    uint8_t *at = public_room;
    EVP_PKEY *pkey = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    EVP_PKEY *other = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    int len = i2d_PUBKEY(pkey, &at);
    const struct act act = {.kind = ACT_KEY_IMPORT,
                            .name = BYTES_LITERAL("brought"),
                            .tokens = BYTES_LITERAL("main,spare"),
                            .purpose = WIRE_SMIME_DECRYPT,
                            .algorithms = REGISTRY_ALL,
                            .public_key = bytes_of(public_room, (size_t)len)};
    struct council_proposal proposal = {.act = &act};
    uint64_t number = 0;
    json_t *body = NULL;
    council_refused(council_propose(&council, COUNCIL_ALICE, &act, NULL), ERR_PERM, "missing");
    proposal.attached = pkcs8_of(other, room, sizeof room);
    council_refused(
        council_propose_as(&council, COUNCIL_ALICE, COUNCIL_ALICE, &proposal, NULL, &body),
        ERR_PERM, "not that of the public key");
    json_decref(body);
    proposal.attached = pkcs8_of(pkey, room, sizeof room);
    council_ok(
        council_propose_as(&council, COUNCIL_ALICE, COUNCIL_ALICE, &proposal, &number, &body));
    json_decref(body);
    // The second token is away: what the first one took is destroyed again.
    council.tokens.is_away[1] = true;
    council_refused(council_approve(&council, COUNCIL_BOB, number), ERR_TEMP, "token spare");
    assert_int_equal(council_objects(&council), 0);
    assert_string_equal(council_state(&council, number), "failed");
    assert_int_equal(council.custody->attachments.items[0].number, 0);
    // And if it cannot be, the answer says where it is.
    council_ok(
        council_propose_as(&council, COUNCIL_ALICE, COUNCIL_ALICE, &proposal, &number, &body));
    json_decref(body);
    council.tokens.is_stuck[0] = true;
    council_refused(council_approve(&council, COUNCIL_BOB, number), ERR_TEMP,
                    "the key is still in token main");
    assert_int_equal(council_lines(&council, "the key is still in token main"), 1);
    council.tokens.is_stuck[0] = council.tokens.is_away[1] = false;
    council_ok(
        council_propose_as(&council, COUNCIL_ALICE, COUNCIL_ALICE, &proposal, &number, &body));
    json_decref(body);
    council_ok(council_approve(&council, COUNCIL_BOB, number));
    assert_int_equal(council_lines(&council, "\"event\":\"begin\""), 3);
    assert_true(is_wrapped(number));
    assert_non_null(council_find_key("brought"));
    assert_int_equal(council_objects(&council), 3); // with the one that was left
    EVP_PKEY_free(pkey);
    EVP_PKEY_free(other);
}

// Of a proposal, in the list of those that wait as well as by its number; "": none.
static const char *warning_of(uint64_t number)
{
    static char warning[512];
    char text[24];
    const json_t *item = NULL;
    size_t i = 0;
    snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    json_t *one = council_read(&council, COUNCIL_CAROL, READ_PROPOSALS, text);
    json_t *all = council_read(&council, COUNCIL_CAROL, READ_PROPOSALS, "all");
    const char *said = json_string_value(json_object_get(json_array_get(one, 0), "warning"));
    snprintf(warning, sizeof warning, "%s", said ? said : "");
    json_array_foreach(all, i, item)
    {
        if ((uint64_t)json_integer_value(json_object_get(item, "number")) != number)
            continue;
        said = json_string_value(json_object_get(item, "warning"));
        assert_string_equal(warning, said ? said : "");
    }
    json_decref(one);
    json_decref(all);
    return warning;
}

static void test_certificates(void **state)
{
    (void)state;
    council_do_ok(act_generate("signing", WIRE_SMIME_SIGN));
    struct act self = {.kind = ACT_KEY_SELF_SIGN,
                       .name = BYTES_LITERAL("signing"),
                       .common_name = BYTES_LITERAL("mail.example.org"),
                       .domains = BYTES_LITERAL("mail.example.org"),
                       .hash = HASH_SHA256,
                       .days = 30};
    struct act request = self;
    json_t *result = NULL;
    request.kind = ACT_KEY_REQUEST;
    request.days = 0;
    council_ok(council_do_with(&council, &request, NULL, &result)); // though it is disabled
    const char *pem = json_string_value(json_object_get(result, "pem"));
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509_REQ *csr = PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL);
    assert_non_null(csr);
    assert_int_equal(X509_REQ_verify(csr, X509_REQ_get0_pubkey(csr)), 1);
    X509_REQ_free(csr);
    BIO_free(bio);
    json_decref(result);
    assert_int_equal(council_lines(&council, "\"event\":\"use\",\"officer\":\"bob\""), 1);
    council_ok(council_do_with(&council, &self, NULL, &result));
    bio = BIO_new_mem_buf(json_string_value(json_object_get(result, "pem")), -1);
    X509 *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    assert_non_null(certificate);
    json_decref(result);
    BIO_free(bio);
    uint8_t der[4096];
    uint8_t *at = der;
    int len = i2d_X509(certificate, &at);
    X509_free(certificate);
    council_find_key("signing");
    assert_true(bytes_equal(found.certificates, bytes_of(der, (size_t)len)));
    // It is put beside no other key.
    council_do_ok(act_generate("another", WIRE_SMIME_SIGN));
    struct act put = {.kind = ACT_KEY_CERTIFICATE,
                      .name = BYTES_LITERAL("another"),
                      .certificates = bytes_of(der, (size_t)len)};
    council_do_refused(put, ERR_PERM, "another key");
    put.name = BYTES_LITERAL("signing");
    // What only some mind is known to those who are to agree, not afterwards alone.
    uint64_t number = 0;
    council_ok(council_propose(&council, COUNCIL_ALICE, &put, &number));
    assert_string_equal(warning_of(number), "its subject has no organization; unit; city; state; "
                                            "country");
    council_ok(council_approve(&council, COUNCIL_BOB, number));
    assert_string_equal(warning_of(number), "");
    json_t *keys = council_read(&council, COUNCIL_ALICE, READ_KEYS, "signing");
    json_t *item = json_array_get(json_object_get(json_array_get(keys, 0), "certificates"), 0);
    assert_string_equal(json_string_value(json_object_get(item, "subject")), "CN=mail.example.org");
    json_decref(keys);
    // And what it would be refused for by now.
    council_ok(council_propose(&council, COUNCIL_ALICE, &put, &number));
    council_tamper(&council,
                   "CREATE TABLE was AS SELECT public_key FROM key WHERE name = 'signing'");
    council_tamper(&council, "UPDATE key SET public_key = (SELECT public_key FROM key WHERE name ="
                             " 'another') WHERE name = 'signing'");
    assert_string_equal(warning_of(number),
                        "it would be refused now: its certificate is of another key");
    council_tamper(&council, "UPDATE key SET public_key = (SELECT public_key FROM was) WHERE name ="
                             " 'signing'");
    council_do_ok(act_named(ACT_KEY_DESTROY, "signing"));
    assert_string_equal(warning_of(number), "it would be refused now: the key was destroyed");
}

static size_t grant_count(void)
{
    json_t *clients = council_read(&council, COUNCIL_ALICE, READ_CLIENTS, "gw1");
    size_t count = json_array_size(json_object_get(json_array_get(clients, 0), "grants"));
    json_decref(clients);
    return count;
}

static void test_grants(void **state)
{
    (void)state;
    struct act client = add_client;
    struct act grant = {.kind = ACT_GRANT,
                        .name = BYTES_LITERAL("gw1"),
                        .key = BYTES_LITERAL("signing"),
                        .operations = REGISTRY_SET(WIRE_SIGN),
                        .algorithms = REGISTRY_ALL,
                        .per_minute = 7};
    struct act ungrant = {
        .kind = ACT_UNGRANT, .name = BYTES_LITERAL("gw1"), .key = BYTES_LITERAL("signing")};
    struct act limit = act_named(ACT_KEY_LIMIT, "signing");
    limit.per_hour = 50;
    limit.total = 1000;
    council_do_refused(grant, ERR_PERM, "no client");
    council_do_ok(client);
    council_do_refused(client, ERR_PERM, "already");
    council_do_refused(grant, ERR_PERM, "no key");
    council_do_ok(act_generate("signing", WIRE_SMIME_SIGN));
    council_do_ok(act_generate("seal", WIRE_AUDIT));
    council_do_ok(grant);
    struct act of_audit = grant;
    of_audit.key = BYTES_LITERAL("seal");
    council_do_refused(of_audit, ERR_PERM, "nobody can be granted");
    const struct registry *registry = live_take(council.live);
    const struct registry_key *key = registry_key_by_name(registry, BYTES_LITERAL("signing"));
    const struct registry_client *gw = registry_client_by_public_key(registry, KEY_1);
    assert_int_equal(registry_authorise(registry, gw, key, WIRE_SIGN, WIRE_ECDSA), ERR_OK);
    live_give(council.live, registry);
    council_do_ok(limit);
    council_find_key("signing");
    assert_non_null(found.budget);
    assert_int_equal(budget_get_left(found.budget, clock_ms()).per_hour, 50);
    metrics_request(council.metrics, "gw1", "signing", WIRE_SIGN, ERR_OK);
    metrics_request(council.metrics, "gw1", "signing", WIRE_SIGN, ERR_DENIED);
    json_t *usage = council_read(&council, COUNCIL_AUDITOR, READ_USAGE, "");
    json_t *use = json_array_get(json_object_get(usage, "uses"), 0);
    assert_int_equal(json_integer_value(json_object_get(use, "ok")), 1);
    assert_int_equal(json_integer_value(json_object_get(use, "denied")), 1);
    unsigned limited = 0;
    size_t i = 0;
    json_t *budget = NULL;
    json_array_foreach(json_object_get(usage, "budgets"), i, budget)
    {
        if (strcmp(json_string_value(json_object_get(budget, "identity")), "key signing") == 0)
            limited = (unsigned)json_integer_value(
                json_object_get(json_object_get(budget, "limits"), "total"));
    }
    assert_int_equal(limited, 1000);
    json_decref(usage);
    // Another grant for that key takes its place, and any others that a migration brought.
    const struct store_grant former = {.client = "gw1",
                                       .key = "signing",
                                       .operations = REGISTRY_SET(WIRE_SIGN),
                                       .algorithms = REGISTRY_SET(WIRE_ECDSA)};
    council_ok(store_put_grant(council.store, &former, &council.detail));
    grant.operations |= REGISTRY_SET(WIRE_UNWRAP);
    council_do_ok(grant);
    assert_int_equal(grant_count(), 1);
    grant.operations = REGISTRY_SET(WIRE_SIGN);
    grant.per_minute = 5;
    council_do_ok(grant);
    assert_int_equal(grant_count(), 1);
    registry = live_take(council.live);
    key = registry_key_by_name(registry, BYTES_LITERAL("signing"));
    gw = registry_client_by_public_key(registry, KEY_1);
    assert_int_equal(registry_authorise(registry, gw, key, WIRE_UNWRAP, WIRE_RSAES_OAEP),
                     ERR_DENIED);
    live_give(council.live, registry);
    council_do_ok(ungrant);
    council_do_refused(ungrant, ERR_PERM, "no grant");
    council_do_ok(grant);
    council_do_ok(act_named(ACT_CLIENT_REVOKE, "gw1"));
    council_do_refused(act_named(ACT_CLIENT_REVOKE, "gw1"), ERR_PERM, "no client");
    json_t *clients = council_read(&council, COUNCIL_ALICE, READ_CLIENTS, "");
    assert_int_equal(json_array_size(clients), 0);
    json_decref(clients);
    // An officer's CURVE key is no gateway's.
    client.curve_key = bytes_of_text(council_key(COUNCIL_CAROL)->public_curve);
    council_do_refused(client, ERR_PERM, "officer \"carol\"");
}

static void test_objects(void **state)
{
    (void)state;
    council_do_ok(act_generate("signing", WIRE_SMIME_SIGN));
    json_t *objects = council_read(&council, COUNCIL_AUDITOR, READ_OBJECTS, "main");
    assert_int_equal(json_array_size(objects), 1);
    assert_string_equal(json_string_value(json_object_get(json_array_get(objects, 0), "known_as")),
                        "signing");
    json_decref(objects);
    assert_null(council_read(&council, COUNCIL_AUDITOR, READ_OBJECTS, "attic"));
    json_t *status = council_read(&council, COUNCIL_AUDITOR, READ_STATUS, "");
    assert_string_equal(json_string_value(json_object_get(status, "state")), "ready");
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(status, "keys"), "disabled")), 1);
    json_decref(status);
}

// A key that came without its public key is pinned when its token is open; not if that one is here
// under another name already.
static void test_pinned(void **state)
{
    (void)state;
    council_do_ok(act_generate("first", WIRE_SMIME_SIGN));
    council_tamper(&council, "UPDATE key SET public_key = x''");
    council_restart(&council);
    council_do_refused(act_named(ACT_KEY_DESTROY, "first"), ERR_TEMP, "not known");
    custody_tick(council.custody);
    json_t *keys = council_read(&council, COUNCIL_ALICE, READ_KEYS, "first");
    assert_true(json_is_string(json_object_get(json_array_get(keys, 0), "public_key_sha256")));
    json_decref(keys);
    council_do_ok(act_named(ACT_KEY_DESTROY, "first"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_life, council_begin, council_end),
        cmocka_unit_test_setup_teardown(test_adopted, council_begin, council_end),
        cmocka_unit_test_setup_teardown(test_imported, council_begin, council_end),
        cmocka_unit_test_setup_teardown(test_certificates, council_begin, council_end),
        cmocka_unit_test_setup_teardown(test_grants, council_begin, council_end),
        cmocka_unit_test_setup_teardown(test_objects, council_begin, council_end),
        cmocka_unit_test_setup_teardown(test_pinned, council_begin, council_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
