// SPDX-License-Identifier: Apache-2.0
// A real hsmd whose disk is full, seen by a client, in the log, in the audit log and by those who
// watch it.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "hsmd/base/file.h"
#include "tests/integration/hsmd_process.h"
#include "tests/integration/hsmd_web.h"
#include "tests/support/audit_log.h"
#include "tests/support/custodian.h"

#define FAILING "state=\"failing: no request is served\""
#define WRITTEN "state=\"written again\""
#define MIGRATED 12 // keys, clients and grants of hsmd.conf: a line each
#define WARM_UP 40  // signatures: the audit log is far ahead of hsmd's messages, which have room

static struct hsmd hsmd;
static struct buf attributes;

static int setup(void **state)
{
    (void)state;
    hsmd_setup(&hsmd);
    web_open();
    buf_init(&attributes, 4096);
    custodian_attributes(HASH_SHA256, &attributes);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hsmd_teardown(&hsmd);
    web_close();
    buf_clear(&attributes);
    return 0;
}

static enum err sign(struct client *client)
{
    return hsmd_sign(client, "signing", WIRE_RSA_PKCS1, buf_bytes(&attributes), NULL);
}

static void set_file_limit(rlim_t limit)
{
    struct rlimit both = {limit, RLIM_INFINITY};
    assert_int_equal(prlimit(hsmd.pid, RLIMIT_FSIZE, &both, NULL), 0);
}

static void assert_health(long status, const char *text)
{
    assert_int_equal(fetch("GET", "/healthz", NULL), status);
    assert_string_equal(buf_text(&body), text);
}

// No room for a line: no answer but "temp", which everybody is told who asks; and service again as
// soon as there is room. Twice.
static void fill_up(const char *sync)
{
    char settings[160];
    struct stat st;
    snprintf(settings, sizeof settings,
             "log-level = info metrics-listen = \"127.0.0.1:%u\" audit-sync = %s", port, sync);
    hsmd_drop_log(&hsmd);
    hsmd_configure(&hsmd, "log-level = info", settings, NULL);
    assert_true(hsmd_start(&hsmd, NULL));
    struct client *client = hsmd_client(&hsmd, "gw", 0);
    for (int i = 0; i < WARM_UP; i++)
        assert_int_equal(sign(client), ERR_OK);
    assert_int_equal(hsmd_times_said(&hsmd, FAILING), 0);
    for (unsigned round = 0; round < 2; round++) {
        assert_health(200, "ok\n");
        assert_int_equal(stat(hsmd_path(&hsmd, "state/audit.log"), &st), 0);
        set_file_limit((rlim_t)st.st_size + 20);
        for (int i = 0; i < 3; i++)
            assert_int_equal(sign(client), ERR_TEMP);
        assert_health(503, "audit log: it cannot be written\n");
        assert_int_equal(hsmd_times_said(&hsmd, FAILING), round + 1);
        fetch_metrics();
        assert_true(value_of(P "audit_failing") == 1);
        assert_true(value_of(P "requests_total{client=\"gateway\",key=\"signing\","
                               "operation=\"sign\",result=\"temp\"}") == 3 * (round + 1));
        set_file_limit(RLIM_INFINITY);
        assert_int_equal(sign(client), ERR_OK);
        assert_health(200, "ok\n");
        assert_int_equal(hsmd_times_said(&hsmd, WRITTEN), round + 1);
        fetch_metrics();
        assert_true(value_of(P "audit_failing") == 0);
    }
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    assert_int_equal(audit_log_verify(hsmd_path(&hsmd, "state/audit.log")),
                     MIGRATED + 1 + WARM_UP + 2 + 1);
    client_close(client);
}

static void test_batch(void **state)
{
    (void)state;
    fill_up("batch");
}

static void test_always(void **state)
{
    (void)state;
    fill_up("always");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_batch), cmocka_unit_test(test_always)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
