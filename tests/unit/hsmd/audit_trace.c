// SPDX-License-Identifier: Apache-2.0
// What the log tells of the registry that hsmd ran with last.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/audit/audit_trace.h"

#define MANY 2000 // lines, more than are read at once

static char directory[] = "/tmp/sealgate-trace-XXXXXX";
static char path[80], rotated[80];
static const uint8_t one[AUDIT_INSTANCE_SIZE] = {1, 2, 3};
static const uint8_t two[AUDIT_INSTANCE_SIZE] = {9, 8, 7};

static struct audit *open_log(void)
{
    struct audit *audit = NULL;
    struct detail detail = {0};
    if (audit_open(path, &audit, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
    return audit;
}

static void put(struct audit *audit, enum audit_event event, const uint8_t *instance,
                uint64_t proposal)
{
    const struct audit_record record = {
        .event = event,
        .instance = instance ? bytes_of(instance, AUDIT_INSTANCE_SIZE) : (struct bytes){0},
        .proposal = proposal,
        .reason = "\"event\":\"use\", as someone may call a key",
    };
    assert_int_equal(audit_write(audit, &record, NULL), ERR_OK);
}

static void expect(const uint8_t *instance, bool has_acts, uint64_t proposal)
{
    struct audit_trace trace;
    struct detail detail = {0};
    if (audit_trace_read(path, &trace, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
    assert_int_equal(trace.has_instance, instance != NULL);
    if (instance)
        assert_memory_equal(trace.instance, instance, AUDIT_INSTANCE_SIZE);
    assert_int_equal(trace.has_acts, has_acts);
    assert_int_equal(trace.proposal, proposal);
}

static void expect_act(uint64_t proposal)
{
    struct audit_trace trace;
    assert_int_equal(audit_trace_read(path, &trace, NULL), ERR_OK);
    assert_int_equal(trace.act, proposal);
}

// Which act was the last to be carried out since the start, if nobody knows that it is lost.
static void test_last_act(void **state)
{
    (void)state;
    struct audit *audit = open_log();
    put(audit, AUDIT_START, one, 0);
    expect_act(0);
    put(audit, AUDIT_ACT, NULL, 3);
    put(audit, AUDIT_UNLOCK, NULL, 2);
    put(audit, AUDIT_APPROVE, NULL, 5);
    put(audit, AUDIT_BEGIN, NULL, 5);
    for (unsigned i = 0; i < MANY; i++)
        put(audit, AUDIT_REFUSE, NULL, 0);
    expect_act(2);
    put(audit, AUDIT_LOCK, NULL, 5);
    expect_act(5);
    put(audit, AUDIT_ACT_LOST, NULL, 5);
    expect_act(0);
    put(audit, AUDIT_ACT, NULL, 6);
    expect_act(6);
    put(audit, AUDIT_UNLOCK, NULL, 0); // with the PIN of the configuration: nobody's act
    expect_act(6);
    put(audit, AUDIT_ACT, NULL, 0); // hsmd's own
    expect_act(0);
    put(audit, AUDIT_ACT, NULL, 7);
    put(audit, AUDIT_START, one, 7);
    expect_act(0);
    audit_close(audit);
    unlink(path);
}

static void test_trace(void **state)
{
    (void)state;
    expect(NULL, false, 0); // no file
    struct audit *audit = open_log();
    expect(NULL, false, 0); // an empty one
    put(audit, AUDIT_START, NULL, 0);
    put(audit, AUDIT_USE, NULL, 0);
    expect(NULL, false, 0);
    put(audit, AUDIT_ACT, NULL, 0);
    expect(NULL, true, 0);
    put(audit, AUDIT_START, one, 4);
    expect(one, false, 4);
    put(audit, AUDIT_PROPOSE, NULL, 6);
    put(audit, AUDIT_APPROVE, NULL, 5);
    expect(one, true, 6);
    for (unsigned i = 0; i < MANY; i++)
        put(audit, i % 2 ? AUDIT_USE : AUDIT_REFUSE, NULL, 0);
    expect(one, true, 6);
    put(audit, AUDIT_FOUND, two, 0);
    expect(two, false, 0);
    audit_close(audit);
}

// A rotated log goes on with what was known, and a torn line is passed over.
static void test_rotation(void **state)
{
    (void)state;
    struct audit *audit = open_log();
    struct detail detail = {0};
    audit_set_registry(audit, bytes_of(one, sizeof one), 6);
    put(audit, AUDIT_PROPOSE, NULL, 7);
    assert_int_equal(rename(path, rotated), 0);
    if (audit_reopen(audit, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
    expect(one, false, 7);
    audit_close(audit);
    FILE *file = fopen(path, "ae");
    assert_non_null(file);
    fputs("{\"seq\":9,\"time\":\"2026-", file);
    fclose(file);
    expect(one, false, 7);
}

// first: of each of the 32 bytes.
static void put_said(struct audit *audit, enum audit_event event, const uint8_t *instance,
                     uint8_t first)
{
    uint8_t said[AUDIT_HASH_SIZE];
    memset(said, first, sizeof said);
    const struct audit_record record = {
        .event = event,
        .instance = instance ? bytes_of(instance, AUDIT_INSTANCE_SIZE) : (struct bytes){0},
        .registry = bytes_of(said, sizeof said)};
    assert_int_equal(audit_write(audit, &record, NULL), ERR_OK);
}

static void expect_said(unsigned known, uint8_t last, uint8_t former, bool is_act)
{
    struct audit_trace trace;
    assert_int_equal(audit_trace_read(path, &trace, NULL), ERR_OK);
    assert_int_equal(trace.known, known);
    assert_int_equal(trace.is_act, is_act);
    assert_int_equal(trace.registry[0][31], last);
    assert_int_equal(trace.registry[1][31], former);
}

// What the registry said last, and before that; over a rotation too.
static void test_said(void **state)
{
    (void)state;
    unlink(path);
    unlink(rotated);
    struct audit *audit = open_log();
    put(audit, AUDIT_START, NULL, 0);
    expect_said(0, 0, 0, false);
    put_said(audit, AUDIT_ACT, NULL, 1); // a founding
    put(audit, AUDIT_USE, NULL, 0);
    expect_said(1, 1, 0, true);
    put_said(audit, AUDIT_START, one, 2);
    put(audit, AUDIT_PROPOSE, NULL, 3);
    expect_said(1, 2, 0, false);
    put_said(audit, AUDIT_LOCK, NULL, 3);
    expect_said(2, 3, 2, true);
    put_said(audit, AUDIT_ACT, NULL, 4);
    expect_said(2, 4, 3, true);
    put_said(audit, AUDIT_ACT_LOST, NULL, 3);
    expect_said(2, 3, 4, false);
    put_said(audit, AUDIT_STOP, NULL, 4);
    expect_said(2, 4, 3, false);
    audit_set_registry(audit, bytes_of(one, sizeof one), 6);
    assert_int_equal(rename(path, rotated), 0);
    assert_int_equal(audit_reopen(audit, NULL), ERR_OK);
    expect_said(1, 4, 0, false);
    audit_close(audit);
}

static int set_up(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/audit.log", directory);
    snprintf(rotated, sizeof rotated, "%s/audit.log.1", directory);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    unlink(rotated);
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_last_act),
        cmocka_unit_test(test_trace),
        cmocka_unit_test(test_rotation),
        cmocka_unit_test(test_said),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
