// SPDX-License-Identifier: Apache-2.0
// What waits: PINs and proposals, how many and how long; and keys that came with two names.
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "hsmd/base/file.h"
#include "tests/support/council_test.h"

// Refusals of an officer, with class and reason, that the audit log tells of.
static unsigned refusals(const char *officer, const char *reason)
{
    char text[160];
    snprintf(text, sizeof text, "\"officer\":\"%s\",\"id\":", officer);
    unsigned count = 0;
    struct buf log;
    buf_init(&log, (size_t)8 << 20);
    council_ok(file_read(council.audit_path, &log, &council.detail));
    char *rest = (char *)log.data;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;)
        count += strstr(line, "\"event\":\"officer-refused\"") && strstr(line, text) &&
                 strstr(line, "\"result\":\"temp\"") && strstr(line, reason);
    buf_clear(&log);
    return count;
}

static void test_locked(void **state)
{
    (void)state;
    struct act unlock = act_named(ACT_UNLOCK, "main");
    struct council_proposal proposal = {.act = &unlock, .attachment = "1234"};
    uint64_t numbers[ATTACHMENTS_OF_ONE] = {0};
    json_t *body = NULL;
    council_do_ok(act_named(ACT_LOCK, "main"));
    assert_true(council.tokens.is_locked[0]);
    assert_int_equal(council_lines(&council, "\"event\":\"lock\""), 1);
    // A wrong PIN is tried once, and never again by itself.
    council_refused(council_do_with(&council, &unlock, "4321", NULL), ERR_DENIED, "PIN is wrong");
    assert_int_equal(council.tokens.pins_tried, 1);
    custody_tick(council.custody);
    assert_int_equal(council.tokens.pins_tried, 1);
    council_ok(council_do_with(&council, &unlock, "1234", NULL));
    assert_false(council.tokens.is_locked[0]);
    assert_int_equal(council_lines(&council, "\"event\":\"unlock\""), 2);
    assert_int_equal(council_lines(&council, "1234"), 0);
    assert_int_equal(council_lines(&council, "4321"), 0);
    // PINs wait in memory alone, and only so many.
    council_do_ok(act_named(ACT_LOCK, "main"));
    for (unsigned i = 0; i < ATTACHMENTS_OF_ONE; i++) {
        council_ok(council_propose_as(&council, COUNCIL_ALICE, COUNCIL_ALICE, &proposal,
                                      &numbers[i], &body));
        json_decref(body);
    }
    council_refused(
        council_propose_as(&council, COUNCIL_ALICE, COUNCIL_ALICE, &proposal, NULL, &body),
        ERR_TEMP, "of yours with a PIN");
    json_decref(body);
    assert_int_equal(refusals("alice", "of yours with a PIN"), 1);
    // One that changes another takes its place; others have their own.
    proposal.replaces = numbers[1];
    council_ok(council_propose_as(&council, COUNCIL_ALICE, COUNCIL_ALICE, &proposal, NULL, &body));
    json_decref(body);
    proposal.replaces = 0;
    council_ok(council_propose_as(&council, COUNCIL_BOB, COUNCIL_BOB, &proposal, NULL, &body));
    json_decref(body);
    council_ok(council_reject(&council, COUNCIL_ALICE, numbers[0]));
    council_ok(
        council_propose_as(&council, COUNCIL_ALICE, COUNCIL_ALICE, &proposal, &numbers[0], &body));
    json_decref(body);
    council_restart(&council);
    council_refused(council_approve(&council, COUNCIL_BOB, numbers[1]), ERR_PERM,
                    "propose it again");
    assert_string_equal(council_state(&council, numbers[1]), "failed");
    proposal.lapse = STATEMENT_LAPSE_ATTACHMENT_MAX + STATEMENT_SKEW_MAX + 60;
    council_refused(
        council_propose_as(&council, COUNCIL_ALICE, COUNCIL_ALICE, &proposal, NULL, &body),
        ERR_PERM, "waits in memory");
    json_decref(body);
    proposal.lapse = 0;
    proposal.attachment = NULL;
    council_refused(
        council_propose_as(&council, COUNCIL_ALICE, COUNCIL_ALICE, &proposal, NULL, &body),
        ERR_PERM, "missing");
    json_decref(body);
}

// Two names for one key, which only a migration can have brought.
static void test_twins(void **state)
{
    (void)state;
    council_do_ok(act_generate("first", WIRE_SMIME_SIGN));
    struct store_key twin = {.name = "twin",
                             .purpose = WIRE_GENERAL,
                             .state = WIRE_ENABLED,
                             .algorithms = REGISTRY_ALL,
                             .places = {{.token = "main", .label = "first"}},
                             .place_count = 1};
    council_ok(store_add_key(council.store, &twin, &council.detail));
    council_restart(&council);
    council_find_key("twin");
    assert_int_equal(found.state, WIRE_ENABLED);
    for (unsigned i = 0; i < 3; i++)
        custody_tick(council.custody);
    council_find_key("twin");
    assert_int_equal(found.state, WIRE_DISABLED);
    assert_int_equal(council_lines(&council, "disabled by hsmd itself"), 1);
    assert_int_equal(council_lines(&council, "under the name \\\"first\\\""), 1);
    // No more often than an officer enables it.
    council_do_ok(act_named(ACT_KEY_ENABLE, "twin"));
    custody_tick(council.custody);
    custody_tick(council.custody);
    assert_int_equal(council_lines(&council, "disabled by hsmd itself"), 2);
}

static size_t store_size(void)
{
    struct stat st;
    assert_int_equal(stat(council.store_path, &st), 0);
    return (size_t)st.st_size;
}

// What one officer alone can make hsmd keep is little, and the list of what waits can be read.
static void test_piles(void **state)
{
    (void)state;
    char domains[4000] = "";
    size_t len = 0;
    for (unsigned i = 0; len < 3900; i++)
        len += (size_t)snprintf(domains + len, sizeof domains - len, "%sh%u.example.org",
                                i ? "," : "", i);
    const struct act request = {.kind = ACT_KEY_REQUEST,
                                .name = BYTES_LITERAL("signing"),
                                .common_name = BYTES_LITERAL("mail.example.org"),
                                .domains = bytes_of(domains, len),
                                .hash = HASH_SHA256};
    uint64_t number = 0;
    char text[24];
    char digest[65];
    council_do_ok(act_generate("signing", WIRE_SMIME_SIGN));
    for (unsigned i = 0; i < CUSTODY_PENDING_MAX; i++)
        council_ok(council_propose(&council, COUNCIL_CAROL, &request, &number));
    json_t *list = council_read(&council, COUNCIL_BOB, READ_PROPOSALS, "");
    json_t *item = json_array_get(list, CUSTODY_PENDING_MAX - 1);
    assert_null(json_object_get(item, "act"));
    snprintf(digest, sizeof digest, "%s", json_string_value(json_object_get(item, "digest")));
    json_decref(list);
    snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    list = council_read(&council, COUNCIL_BOB, READ_PROPOSALS, text);
    assert_true(json_is_string(json_object_get(json_array_get(list, 0), "act")));
    json_decref(list);
    council_ok(council_reject(&council, COUNCIL_CAROL, number));
    // Taken back: what it was can be told, the act is gone.
    list = council_read(&council, COUNCIL_BOB, READ_PROPOSALS, text);
    item = json_array_get(list, 0);
    assert_string_equal(json_string_value(json_object_get(item, "state")), "rejected");
    assert_string_equal(json_string_value(json_object_get(item, "kind")), "key-csr");
    assert_non_null(strstr(json_string_value(json_object_get(item, "summary")), "signing"));
    assert_string_equal(json_string_value(json_object_get(item, "digest")), digest);
    assert_true(json_is_null(json_object_get(item, "act")));
    json_decref(list);
    size_t before = store_size();
    for (unsigned i = 0; i < 40; i++) {
        council_ok(council_propose(&council, COUNCIL_CAROL, &request, &number));
        council_ok(council_reject(&council, COUNCIL_CAROL, number));
    }
    assert_true(store_size() < before + 40 * 2000); // of 4 KB each
    // And only so often, of proposals and verdicts.
    council.custody->signatures_an_hour = CUSTODY_PENDING_MAX + 1 + 2 * 40 + 2;
    council_ok(council_propose(&council, COUNCIL_CAROL, &request, &number));
    council_ok(council_reject(&council, COUNCIL_CAROL, number));
    council_refused(council_propose(&council, COUNCIL_CAROL, &request, NULL), ERR_TEMP,
                    "times within an hour");
    council_refused(council_reject(&council, COUNCIL_CAROL, number - 50), ERR_TEMP,
                    "within an hour");
    assert_int_equal(refusals("carol", "times within an hour"), 2);
    council_ok(council_propose(&council, COUNCIL_ALICE, &request, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_locked, council_begin, council_end),
        cmocka_unit_test_setup_teardown(test_piles, council_begin, council_end),
        cmocka_unit_test_setup_teardown(test_twins, council_begin, council_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
