// SPDX-License-Identifier: Apache-2.0
// hsmd is killed (SIGKILL) under the load of sixteen callers, again and again, in every setting of
// audit-sync: the log verifies, and each request that was answered has one line in it. And it is
// told to stop (SIGTERM) under the same load, and does so in time.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/audit/audit_verify.h"
#include "hsmd/base/file.h"
#include "hsmd/server/server.h"
#include "tests/integration/hsmd_load.h"
#include "tests/support/slowness.h"

#define ROUNDS 4
#define TIMEOUT_MS 1000
#define LOG_MAX ((size_t)256 << 20)
#define STOP_MS (SERVER_DRAIN_MS * SLOWNESS / 2) // not for ever, and not by giving up

static struct hsmd hsmd;
static struct load loads[ROUNDS];
static EVP_PKEY *audit_key;

static int setup(void **state)
{
    (void)state;
    hsmd_setup(&hsmd);
    softhsm_make_key(&hsmd.hsm,
                     &(struct softhsm_key){.label = "audit", .id = 0x31, .kind = "P-256"});
    audit_key = softhsm_public_key(&hsmd.hsm, "audit");
    return audit_key ? 0 : 1;
}

static int teardown(void **state)
{
    (void)state;
    EVP_PKEY_free(audit_key);
    hsmd_teardown(&hsmd);
    return 0;
}

static void configure(const char *sync)
{
    char text[400];
    snprintf(text, sizeof text,
             "log-level = warning\naudit-sync = %s\naudit-checkpoint-lines = 50\n"
             "audit-checkpoint-seconds = 1\naudit-key { token = main label = \"audit\" }\n",
             sync);
    hsmd_drop_log(&hsmd);
    hsmd_configure(&hsmd, "log-level = info", text, "sessions = 2", "sessions = 4", NULL);
}

static struct audit_report verify(struct buf *log, bool is_closed)
{
    const struct audit_expected expected = {.is_closed = is_closed};
    struct audit_verify *check = NULL;
    buf_init(log, LOG_MAX);
    assert_int_equal(file_read(hsmd_path(&hsmd, "state/audit.log"), log, NULL), ERR_OK);
    assert_int_equal(audit_verify_new(audit_key, &expected, &check, NULL), ERR_OK);
    audit_verify_file(check, "audit.log");
    audit_verify_put(check, buf_bytes(log));
    struct audit_report report = *audit_verify_end(check);
    audit_verify_free(check);
    if (report.is_bad)
        fail_msg("line %u: %s", (unsigned)report.bad_line, report.reason.text);
    return report;
}

static void test_killed(void **state)
{
    const char *sync = *state;
    struct buf log;
    unsigned answered = 0;
    configure(sync);
    for (unsigned round = 0; round < ROUNDS; round++) {
        hsmd_serve(&hsmd);
        load_begin(&loads[round], &hsmd, TIMEOUT_MS, 2 * TIMEOUT_MS);
        assert_true(load_wait(&loads[round], 150 + 61 * round, 60000));
        assert_int_equal(hsmd_stop(&hsmd, SIGKILL), 1000 + SIGKILL);
        load_stop(&loads[round]);
        (void)verify(&log, false);
        for (unsigned n = 0; n <= round; n++)
            assert_int_equal(load_missing(&loads[n], buf_bytes(&log)), 0);
        buf_clear(&log);
        assert_int_equal(loads[round].wrong, 0);
        assert_int_equal(loads[round].other, 0);
        answered += loads[round].answered;
    }
    hsmd_serve(&hsmd);
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    struct audit_report report = verify(&log, true);
    assert_int_equal(report.unclean, ROUNDS);
    assert_int_equal(report.uncovered, 0);
    for (unsigned n = 0; n < ROUNDS; n++) {
        assert_int_equal(load_missing(&loads[n], buf_bytes(&log)), 0);
        load_clear(&loads[n]);
    }
    buf_clear(&log);
    print_message("%s: killed %d times, %u answered, none missing\n", sync, ROUNDS, answered);
}

static void test_stopped(void **state)
{
    (void)state;
    struct buf log;
    configure("batch");
    hsmd_serve(&hsmd);
    load_begin(&loads[0], &hsmd, TIMEOUT_MS, 2 * TIMEOUT_MS);
    assert_true(load_wait_everybody(&loads[0], 60000));
    deadline_t start = clock_ms();
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    unsigned took = (unsigned)(clock_ms() - start);
    load_stop(&loads[0]);
    struct audit_report report = verify(&log, true);
    assert_int_equal(report.unclean, 0);
    assert_int_equal(load_missing(&loads[0], buf_bytes(&log)), 0);
    assert_int_equal(loads[0].wrong, 0);
    assert_int_equal(loads[0].other, 0);
    assert_in_range(took, 0, STOP_MS);
    load_clear(&loads[0]);
    buf_clear(&log);
}

int main(void)
{
    static char syncs[][8] = {"off", "batch", "always"};
#define TEST(i)                                                     \
    {                                                               \
        "killed, audit-sync " #i, test_killed, NULL, NULL, syncs[i] \
    }
    const struct CMUnitTest tests[] = {TEST(0), TEST(1), TEST(2), cmocka_unit_test(test_stopped)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
