// SPDX-License-Identifier: Apache-2.0
// What hsmd says of itself for every state a token can be in. The linker puts a keystore of two
// tokens of ours in the place of the real one: "main" has the RSA keys in it, "spare" those without
// an enabled one.
#include "hsmd/watch/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/custodian.h"

static struct custodian custodian;
static struct metrics *metrics;
static struct keystore_status tokens[2];
static struct status status;
static struct buf text;

bool __wrap_keystore_get_status(struct keystore *keystore, size_t index,
                                struct keystore_status *out);
bool __wrap_keystore_key_is_in(const struct keystore_key *key, size_t index);

bool __wrap_keystore_get_status(struct keystore *keystore, size_t index,
                                struct keystore_status *out)
{
    (void)keystore;
    if (index >= 2)
        return false;
    *out = tokens[index];
    return true;
}

bool __wrap_keystore_key_is_in(const struct keystore_key *key, size_t index)
{
    return index == 0 && key == custodian.stores[CUSTODIAN_RSA];
}

static bool is_key_open;

bool __wrap_keystore_key_is_open(const struct keystore_key *key, size_t i);
bool __wrap_keystore_key_is_open(const struct keystore_key *key, size_t i)
{
    return is_key_open && i == 1 && key == custodian.stores[CUSTODIAN_RSA];
}

static uint64_t unsynced_ms; // 0: as it is

void __real_audit_get_status(struct audit *audit, struct audit_status *out);
void __wrap_audit_get_status(struct audit *audit, struct audit_status *out);
void __wrap_audit_get_status(struct audit *audit, struct audit_status *out)
{
    __real_audit_get_status(audit, out);
    if (unsynced_ms) {
        out->unsynced = 3;
        out->unsynced_ms = unsynced_ms;
    }
}

static int setup(void **state)
{
    (void)state;
    custodian_setup(&custodian);
    is_key_open = true;
    assert_int_equal(metrics_new(&metrics), ERR_OK);
    custodian.core.metrics = metrics;
    buf_init(&text, 1 << 20);
    for (unsigned i = 0; i < 2; i++)
        tokens[i] = (struct keystore_status){.name = i ? "spare" : "main",
                                             .sessions = 4,
                                             .is_open = true,
                                             .token = {.state = TOKEN_READY,
                                                       .since = clock_ms(),
                                                       .sessions = 3,
                                                       .out = 2,
                                                       .calls = UINT64_C(5000000000)},
                                             .keys = 7,
                                             .keys_missing = 1};
    status = (struct status){.core = &custodian.core,
                             .keystore = (struct keystore *)&tokens, // only handed on
                             .started = time(NULL) - 100};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    buf_clear(&text);
    metrics_free(metrics);
    custodian_teardown(&custodian);
    return 0;
}

static json_t *member(json_t *json, const char *name)
{
    json_t *found = json_object_get(json, name);
    if (!found)
        fail_msg("no \"%s\"", name);
    return found;
}

static void assert_text(json_t *json, const char *name, const char *expected)
{
    assert_string_equal(json_string_value(member(json, name)), expected);
}

static void assert_number(json_t *json, const char *name, json_int_t expected)
{
    assert_true(json_is_integer(member(json, name)));
    assert_int_equal(json_integer_value(member(json, name)), expected);
}

// A key that its token does not have is said, unless the token itself is what ails.
static void test_missing_key(void **state)
{
    (void)state;
    static const struct {
        enum token_state state;
        bool is_open;
        const char *says;
    } rows[] = {
        {TOKEN_READY, true, "ok\n"},
        {TOKEN_READY, false, ": its token does not have it, or not so that it may be used\n"},
        {TOKEN_ABSENT, false, "token main: it is not there\n"},
        {TOKEN_LOCKED, false, "token main: it is locked\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool is_well = false;
        tokens[0].token.state = rows[i].state;
        is_key_open = rows[i].is_open;
        buf_reset(&text);
        assert_int_equal(status_put_health(&status, false, &text, &is_well), ERR_OK);
        assert_int_equal(is_well, rows[i].is_open);
        bool is_key_said = strstr(buf_text(&text), rows[1].says);
        if (!strstr(buf_text(&text), rows[i].says) || is_key_said != (i == 1))
            fail_msg("row %zu: %s", i, buf_text(&text));
    }
}

static void test_states(void **state)
{
    (void)state;
    static const struct {
        unsigned token;
        enum token_state state;
        bool is_breaking;
        unsigned failures;
        const char *problem; // NULL: none
        const char *health;
        const char *said; // the state that officers read
    } rows[] = {
        {0, TOKEN_READY, false, 0, NULL, "ok", "ready"},
        {0, TOKEN_READY, false, 1, "token main: its last operation failed", "failing", "degraded"},
        {0, TOKEN_READY, true, 3, "token main: it fails, and is given a rest", "failing",
         "degraded"},
        {0, TOKEN_LOCKED, false, 0, "token main: it is locked", "locked", "locked"},
        {0, TOKEN_PIN_REFUSED, false, 0, "token main: it refused its PIN", "failing", "degraded"},
        {0, TOKEN_RECOVERING, false, 0, "token main: it was lost, and is being restored", "failing",
         "degraded"},
        {0, TOKEN_ABSENT, false, 0, "token main: it is not there", "failing", "degraded"},
        {1, TOKEN_LOCKED, false, 0, NULL, "ok", "locked"},
        {1, TOKEN_ABSENT, false, 9, NULL, "ok", "ready"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char expected[200];
        bool is_well = false;
        json_t *json = NULL;
        const struct keystore_status before = tokens[rows[i].token];
        tokens[rows[i].token].token.state = rows[i].state;
        tokens[rows[i].token].token.is_breaking = rows[i].is_breaking;
        tokens[rows[i].token].token.failures = rows[i].failures;
        buf_reset(&text);
        assert_int_equal(status_put_health(&status, true, &text, &is_well), ERR_OK);
        snprintf(expected, sizeof expected, "{\"status\":\"%s\",\"problems\":[%s%s%s]}\n",
                 rows[i].health, rows[i].problem ? "\"" : "",
                 rows[i].problem ? rows[i].problem : "", rows[i].problem ? "\"" : "");
        assert_string_equal(buf_text(&text), expected);
        assert_int_equal(is_well, !rows[i].problem);
        assert_int_equal(status_json(&status, &json), ERR_OK);
        assert_text(json, "state", rows[i].said);
        assert_int_equal(json_array_size(member(json, "problems")), rows[i].problem ? 1 : 0);
        assert_text(json_array_get(member(json, "tokens"), rows[i].token), "state",
                    token_state_name(rows[i].state));
        json_decref(json);
        tokens[rows[i].token] = before;
    }
}

// Its keys are disabled: that it is locked is nobody's trouble, and officers see it all the same.
static void test_no_enabled_key(void **state)
{
    (void)state;
    bool is_well = false;
    struct registry *registry = NULL;
    struct registry_key key = {.name = "a",
                               .purpose = WIRE_GENERAL,
                               .state = WIRE_DISABLED,
                               .store = custodian.stores[CUSTODIAN_RSA]};
    assert_int_equal(registry_new(&registry), ERR_OK);
    assert_int_equal(registry_add_key(registry, &key, NULL), ERR_OK);
    live_swap(custodian.live, registry);
    tokens[0].token.state = TOKEN_LOCKED;
    assert_int_equal(status_put_health(&status, false, &text, &is_well), ERR_OK);
    assert_true(is_well);
    assert_int_equal(status_each_problem(&status, NULL, NULL), STATUS_LOCKED);
}

static void test_members(void **state)
{
    (void)state;
    json_t *json = NULL;
    tokens[1].token.state = TOKEN_PIN_REFUSED;
    tokens[1].token.is_final_try = true;
    snprintf(tokens[1].token.error, sizeof tokens[1].token.error, "CKR_PIN_INCORRECT");
    assert_int_equal(
        audit_write(custodian.audit, &(struct audit_record){.event = AUDIT_START}, NULL), ERR_OK);
    assert_int_equal(status_json(&status, &json), ERR_OK);
    assert_text(json, "version", SEALGATE_VERSION);
    assert_int_equal(strlen(json_string_value(member(json, "started"))),
                     strlen("2026-11-21T22:54:14Z"));
    assert_in_range(json_integer_value(member(json, "uptime")), 100, 10000);
    json_t *keys = member(json, "keys");
    assert_number(keys, "enabled", 10);
    assert_number(keys, "disabled", 9);
    assert_number(keys, "retired", 9);
    json_t *main_token = json_array_get(member(json, "tokens"), 0);
    assert_text(main_token, "name", "main");
    assert_number(main_token, "sessions", 3);
    assert_number(main_token, "in_use", 2);
    assert_number(main_token, "calls", INT64_C(5000000000));
    assert_number(main_token, "keys", 7);
    assert_number(main_token, "keys_missing", 1);
    assert_true(json_is_null(member(main_token, "error")));
    json_t *spare = json_array_get(member(json, "tokens"), 1);
    assert_true(json_is_true(member(spare, "final_try")));
    assert_text(spare, "error", "CKR_PIN_INCORRECT");
    assert_int_equal(json_object_size(spare), 17);
    json_t *audit = member(json, "audit");
    assert_number(audit, "seq", 1);
    assert_int_equal(strlen(json_string_value(member(audit, "hash"))), 64);
    assert_text(audit, "sync", "off");
    assert_true(json_is_false(member(audit, "failing")));
    assert_true(json_is_null(member(audit, "checkpoint")));
    assert_true(json_is_null(member(audit, "key")));
    json_decref(json);
}

static void assert_sample(const char *sample, unsigned value)
{
    char line[120];
    snprintf(line, sizeof line, "\nsealgate_hsmd_%s %u\n", sample, value);
    if (!strstr(buf_text(&text), line))
        fail_msg("no %s in %s", line, buf_text(&text));
}

#define LONGEST "\nsealgate_hsmd_token_longest_call_seconds{token=\"main\"} "

// Gauges of trouble: 1 while there is any, of that token alone.
static void test_gauges(void **state)
{
    (void)state;
    for (unsigned is_bad = 0; is_bad < 3; is_bad++) { // well, in trouble, and well again
        tokens[0].token.is_breaking = is_bad == 1;
        tokens[0].token.failures = is_bad == 1 ? 3 : 0;
        tokens[1].token.state = is_bad == 1 ? TOKEN_PIN_REFUSED : TOKEN_READY;
        tokens[0].token.longest_call_ms = is_bad == 1 ? 2500 : 0;
        unsynced_ms = is_bad == 1 ? 4000 : 0;
        metrics_audit_time(metrics, 10, is_bad != 1);
        buf_reset(&text);
        assert_int_equal(status_put_metrics(&status, &text), ERR_OK);
        assert_sample("token_breaking{token=\"main\"}", is_bad == 1);
        assert_sample("token_breaking{token=\"spare\"}", 0);
        assert_sample("token_failures{token=\"main\"}", is_bad == 1 ? 3 : 0);
        assert_sample("token_up{token=\"main\"}", is_bad != 1);
        assert_non_null(strstr(buf_text(&text), is_bad == 1 ? LONGEST "2.5\n" : LONGEST "0\n"));
        assert_sample("token_pin_refused{token=\"main\"}", 0);
        assert_sample("token_pin_refused{token=\"spare\"}", is_bad == 1);
        assert_sample("audit_failing", is_bad == 1);
        assert_sample("audit_unsynced_lines", is_bad == 1 ? 3 : 0);
        assert_sample("audit_unsynced_seconds", is_bad == 1 ? 4 : 0);
    }
    tokens[1].token.state = TOKEN_LOCKED;
    buf_reset(&text);
    assert_int_equal(status_put_metrics(&status, &text), ERR_OK);
    assert_sample("token_locked{token=\"main\"}", 0);
    assert_sample("token_locked{token=\"spare\"}", 1);
    assert_sample("token_pin_refused{token=\"spare\"}", 0);
}

// The log that cannot be written is a problem, and officers see it in their status.
static void test_audit_failing(void **state)
{
    (void)state;
    bool is_well = true;
    json_t *json = NULL;
    metrics_audit_time(metrics, 10, false);
    assert_int_equal(status_put_health(&status, false, &text, &is_well), ERR_OK);
    assert_false(is_well);
    assert_string_equal(buf_text(&text), "audit log: it cannot be written\n");
    assert_int_equal(status_json(&status, &json), ERR_OK);
    assert_text(json, "state", "degraded");
    assert_true(json_is_true(member(member(json, "audit"), "failing")));
    json_decref(json);
    metrics_audit_time(metrics, 10, true);
    assert_int_equal(status_each_problem(&status, NULL, NULL), STATUS_READY);
}

// With an audit key that cannot sign there are no checkpoints, and that is a problem; once it can
// they are told.
static void test_checkpoints(void **state)
{
    (void)state;
    json_t *json = NULL;
    struct registry *registry = NULL;
    struct registry_key key = {.name = "audit",
                               .purpose = WIRE_AUDIT,
                               .state = WIRE_ENABLED,
                               .store = custodian.stores[CUSTODIAN_EC]};
    const struct checkpointer_conf conf = {.audit = custodian.audit,
                                           .keystore = &memstore_ops,
                                           .live = custodian.live,
                                           .lines = 1,
                                           .seconds = 1};
    assert_int_equal(registry_new(&registry), ERR_OK);
    assert_int_equal(registry_add_key(registry, &key, NULL), ERR_OK);
    live_swap(custodian.live, registry);
    memstore_key_break(custodian.stores[CUSTODIAN_EC], ERR_TEMP, 0);
    assert_int_equal(
        audit_write(custodian.audit, &(struct audit_record){.event = AUDIT_START}, NULL), ERR_OK);
    assert_int_equal(checkpointer_open(&conf, &status.checkpointer, NULL), ERR_OK);
    deadline_t until = deadline_in(20000);
    while (status_each_problem(&status, NULL, NULL) != STATUS_DEGRADED) {
        assert_false(deadline_is_past(until));
        usleep(2000);
    }
    assert_int_equal(status_json(&status, &json), ERR_OK);
    assert_string_equal(json_string_value(json_array_get(member(json, "problems"), 0)),
                        "audit log: no checkpoints are made");
    assert_number(member(json, "audit"), "uncovered", 1);
    json_decref(json);
    memstore_key_break(custodian.stores[CUSTODIAN_EC], ERR_OK, 0);
    while (status_each_problem(&status, NULL, NULL) != STATUS_READY) {
        assert_false(deadline_is_past(until));
        usleep(2000);
    }
    assert_int_equal(status_json(&status, &json), ERR_OK);
    assert_text(member(json, "audit"), "key", "audit");
    assert_number(member(json, "audit"), "uncovered", 0);
    assert_number(member(member(json, "audit"), "checkpoint"), "seq", 1);
    json_decref(json);
    buf_reset(&text);
    assert_int_equal(status_put_metrics(&status, &text), ERR_OK);
    static const char *const lines[] = {
        "\nsealgate_hsmd_audit_uncovered_lines 0\n",
        "\nsealgate_hsmd_audit_unsynced_lines 0\n",
        "\nsealgate_hsmd_audit_checkpoint_age_seconds ",
        "\nsealgate_hsmd_token_sessions_in_use{token=\"main\"} 2\n",
        "\nsealgate_hsmd_token_breaking{token=\"main\"} 0\n",
        "\nsealgate_hsmd_token_locked{token=\"spare\"} 0\n",
        "\nsealgate_hsmd_token_keys_missing{token=\"spare\"} 1\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        if (!strstr(buf_text(&text), lines[i]))
            fail_msg("no %s in %s", lines[i], buf_text(&text));
    }
    assert_int_equal(checkpointer_close(status.checkpointer, NULL), ERR_OK);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(test_states),         TEST(test_missing_key),
                                       TEST(test_no_enabled_key), TEST(test_members),
                                       TEST(test_checkpoints),    TEST(test_gauges),
                                       TEST(test_audit_failing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
