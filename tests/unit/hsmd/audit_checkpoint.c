// SPDX-License-Identifier: Apache-2.0
// The thread that signs the log: when it does, and what it does while the token is away.
#include "hsmd/audit/audit_checkpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/audit/audit_verify.h"
#include "hsmd/base/file.h"
#include "hsmd/base/log.h"
#include "tests/support/audit_log.h"

#define PATIENCE_MS 20000

static char dir[64];
static char path[96];
static struct audit *audit;
static struct checkpointer *checkpointer;
static struct live *live;

// A registry with this audit key, NULL: with none.
static struct registry *make_registry(const char *kind)
{
    struct registry *registry = NULL;
    struct registry_key key = {.purpose = WIRE_AUDIT, .state = WIRE_ENABLED};
    assert_int_equal(registry_new(&registry), ERR_OK);
    if (!kind)
        return registry;
    snprintf(key.name, sizeof key.name, "audit-%s", kind);
    key.store = audit_log_key(kind);
    assert_int_equal(registry_add_key(registry, &key, NULL), ERR_OK);
    return registry;
}

static int setup(void **state)
{
    (void)state;
    log_open("test", LOG_SINK_STDERR, LOG_LEVEL_ERROR);
    snprintf(dir, sizeof dir, "/tmp/audit-checkpoint-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/audit.log", dir);
    assert_int_equal(audit_open(path, &audit, NULL), ERR_OK);
    assert_int_equal(live_new(make_registry("P-256"), &live), ERR_OK);
    memstore_key_break(audit_log_key("P-256"), ERR_OK, 0);
    return 0;
}

static void end(void)
{
    struct checkpointer *mine = checkpointer;
    checkpointer = NULL;
    assert_int_equal(checkpointer_close(mine, NULL), ERR_OK);
}

static int teardown(void **state)
{
    (void)state;
    memstore_key_hold(audit_log_key("P-256"), false);
    if (checkpointer) // the test failed
        end();
    audit_close(audit);
    live_free(live);
    unlink(path);
    return rmdir(dir);
}

static void begin(unsigned lines, unsigned seconds)
{
    const struct checkpointer_conf conf = {.audit = audit,
                                           .keystore = &memstore_ops,
                                           .live = live,
                                           .lines = lines,
                                           .seconds = seconds};
    assert_int_equal(checkpointer_open(&conf, &checkpointer, NULL), ERR_OK);
}

static void event(enum audit_event which)
{
    assert_int_equal(audit_write(audit, &(struct audit_record){.event = which}, NULL), ERR_OK);
}

static void wait_for_line(uint64_t seq)
{
    deadline_t until = deadline_in(PATIENCE_MS);
    while (audit_head(audit).seq < seq && !deadline_is_past(until))
        usleep(2000);
    assert_true(audit_head(audit).seq >= seq);
}

static struct audit_report verify(bool is_closed)
{
    const struct audit_expected expected = {.is_closed = is_closed};
    struct audit_verify *check = NULL;
    struct buf text;
    buf_init(&text, 64u << 20);
    assert_int_equal(file_read(path, &text, NULL), ERR_OK);
    assert_int_equal(audit_verify_new(audit_log_public("P-256"), &expected, &check, NULL), ERR_OK);
    audit_verify_file(check, "log");
    audit_verify_put(check, buf_bytes(&text));
    struct audit_report report = *audit_verify_end(check);
    assert_string_equal(report.reason.text, "");
    audit_verify_free(check);
    buf_clear(&text);
    return report;
}

// One at the start, one for each so many lines, one at the stop; none where nothing was written.
static void test_lines(void **state)
{
    (void)state;
    event(AUDIT_START);
    begin(10, 86400);
    wait_for_line(2);
    for (unsigned i = 0; i < 10; i++)
        audit_log_use(audit, i);
    wait_for_line(13);
    event(AUDIT_STOP);
    end();
    struct audit_report report = verify(true);
    assert_int_equal(report.checkpoints, 3);
    assert_int_equal(report.lines, 15);
    begin(10, 86400); // its first one covers the checkpoint at the end
    wait_for_line(16);
    end();
    assert_int_equal(verify(true).lines, 16);
}

static void test_seconds(void **state)
{
    (void)state;
    event(AUDIT_START);
    begin(1000000, 1);
    wait_for_line(2);
    audit_log_use(audit, 1);
    wait_for_line(4);
    usleep(2500000);
    assert_int_equal(audit_head(audit).seq, 4); // no line, no checkpoint
    end();
    assert_int_equal(verify(false).checkpoints, 2);
}

// The log goes on, unsigned; when the token is back it is signed again.
static void test_token_away(void **state)
{
    (void)state;
    memstore_key_break(audit_log_key("P-256"), ERR_TEMP, 0);
    event(AUDIT_START);
    begin(1, 1);
    for (unsigned i = 0; i < 50; i++)
        audit_log_use(audit, i);
    usleep(100000);
    assert_int_equal(audit_head(audit).seq, 51);
    memstore_key_break(audit_log_key("P-256"), ERR_OK, 0);
    wait_for_line(52);
    end();
    struct audit_report report = verify(false);
    assert_int_equal(report.covered, 51);
    // Away at the stop: the log ends without its checkpoint, and hsmd ends all the same.
    begin(1, 1);
    wait_for_line(53);
    memstore_key_break(audit_log_key("P-256"), ERR_TEMP, 0);
    event(AUDIT_STOP);
    end();
    assert_false(verify(false).is_closed);
}

// Signing takes its time and holds nobody up: many lines come between a checkpoint and what it
// covers.
static void test_slow_token(void **state)
{
    (void)state;
    unsigned before = memstore_used();
    event(AUDIT_START);
    memstore_key_hold(audit_log_key("P-256"), true);
    begin(1, 1);
    for (deadline_t until = deadline_in(PATIENCE_MS); memstore_used() == before; usleep(2000))
        assert_false(deadline_is_past(until));
    for (unsigned i = 0; i < 500; i++)
        audit_log_use(audit, i);
    assert_int_equal(audit_head(audit).seq, 501); // the first one is still being signed
    memstore_key_hold(audit_log_key("P-256"), false);
    wait_for_line(502);
    event(AUDIT_STOP);
    end();
    assert_true(verify(true).checkpoints >= 2);
}

static enum err verify_with(const char *const *kinds, unsigned count, struct audit_report *report)
{
    struct audit_verify *check = NULL;
    struct buf text;
    buf_init(&text, 64u << 20);
    assert_int_equal(file_read(path, &text, NULL), ERR_OK);
    assert_int_equal(audit_verify_new(audit_log_public(kinds[0]), NULL, &check, NULL), ERR_OK);
    for (unsigned i = 1; i < count; i++)
        assert_int_equal(audit_verify_add_key(check, audit_log_public(kinds[i]), NULL), ERR_OK);
    audit_verify_file(check, "log");
    audit_verify_put(check, buf_bytes(&text));
    *report = *audit_verify_end(check);
    audit_verify_free(check);
    buf_clear(&text);
    return report->is_bad ? ERR_PERM : ERR_OK;
}

static struct checkpointer_status status_of(void)
{
    struct checkpointer_status status;
    checkpointer_get_status(checkpointer, &status);
    return status;
}

// Another key while it runs, then none, then the first one again: a log that verifies with both
// public halves, and with neither alone.
static void test_key_changes(void **state)
{
    (void)state;
    struct audit_report report;
    const char *const kinds[] = {"P-256", "RSA-2048"};
    event(AUDIT_START);
    begin(2, 1);
    // The status follows the line.
    for (deadline_t until = deadline_in(PATIENCE_MS); status_of().seq == 0; usleep(2000))
        assert_false(deadline_is_past(until));
    assert_string_equal(status_of().key, "audit-P-256");
    assert_int_equal(status_of().seq, 1);
    assert_int_equal(status_of().uncovered, 0);
    live_swap(live, make_registry("RSA-2048"));
    audit_log_use(audit, 1);
    wait_for_line(4);
    assert_string_equal(status_of().key, "audit-RSA-2048");
    live_swap(live, make_registry(NULL));
    audit_log_use(audit, 2);
    for (deadline_t until = deadline_in(PATIENCE_MS); !status_of().is_failing;) {
        assert_false(deadline_is_past(until));
        usleep(2000);
    }
    assert_string_equal(status_of().key, "");
    assert_int_equal(audit_head(audit).seq, 5); // no checkpoint
    assert_int_equal(status_of().uncovered, 1);
    live_swap(live, make_registry("P-256"));
    wait_for_line(6);
    end();
    assert_int_equal(verify_with(kinds, 2, &report), ERR_OK);
    assert_int_equal(report.checkpoints, 3);
    assert_int_equal(report.covered, 5);
    assert_int_equal(verify_with(&kinds[0], 1, &report), ERR_PERM);
    assert_int_equal(report.bad_seq, 4);
    assert_non_null(strstr(report.reason.text, "signed with another key"));
    assert_int_equal(verify_with(&kinds[1], 1, &report), ERR_PERM);
    assert_int_equal(report.bad_seq, 2);
}

// Each way of syncing takes lines from several openings.
static void test_syncs(void **state)
{
    (void)state;
    for (unsigned sync = 0; sync < AUDIT_SYNC_COUNT; sync++) {
        assert_int_equal(audit_set_sync(audit, (enum audit_sync)sync, NULL), ERR_OK);
        for (unsigned i = 0; i < 20; i++)
            audit_log_use(audit, i);
        audit_log_seal(audit, "P-256");
        struct audit_status status;
        deadline_t until = deadline_in(PATIENCE_MS);
        for (audit_get_status(audit, &status); status.unsynced; audit_get_status(audit, &status)) {
            assert_int_equal(sync, AUDIT_SYNC_BATCH);
            assert_true(status.unsynced <= 21 && status.unsynced_ms <= PATIENCE_MS);
            assert_false(deadline_is_past(until));
            usleep(1000);
        }
        assert_int_equal(status.sync, sync);
        assert_int_equal(status.unsynced_ms, 0);
        assert_int_equal(status.head.seq, 21 * (sync + 1));
        audit_close(audit);
        assert_int_equal(audit_open(path, &audit, NULL), ERR_OK);
    }
    assert_int_equal(verify(false).checkpoints, AUDIT_SYNC_COUNT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(test_seconds, setup, teardown),
        cmocka_unit_test_setup_teardown(test_token_away, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow_token, setup, teardown),
        cmocka_unit_test_setup_teardown(test_key_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_syncs, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
