// SPDX-License-Identifier: Apache-2.0
// What the audit log of a real hsmd tells when that is not easy: of more refusals than are written
// one by one, of a token that is lost while the log cannot be written or before it is served.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/base/file.h"
#include "hsmd/refusals.h"
#include "tests/integration/chamber.h"

#define LOG_MAX ((size_t)1 << 20)

static struct chamber chamber;

static int setup(void **state)
{
    (void)state;
    chamber_setup(&chamber);
    hsmd_use_shim(&chamber.hsmd);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    chamber_teardown(&chamber);
    return 0;
}

static void begin(const char *token)
{
    chamber_configure(&chamber, 1, 1, SHIM_PATH, token);
    chamber_start(&chamber);
}

// How many refusals of an officer the log tells of, one by one and counted; last: its last line.
static unsigned long refusals_of(const char *officer, char *last, size_t room)
{
    struct buf log;
    char who[80];
    unsigned long sum = 0;
    buf_init(&log, LOG_MAX);
    snprintf(who, sizeof who, "\"event\":\"officer-refused\",\"officer\":\"%s\"", officer);
    assert_int_equal(file_read(hsmd_path(&chamber.hsmd, "state/audit.log"), &log, NULL), ERR_OK);
    char *rest = (char *)log.data;
    for (char *line; (line = strsep(&rest, "\n")) != NULL && *line;) {
        const char *reason = strstr(line, "\"reason\":\"");
        snprintf(last, room, "%s", line);
        if (strstr(line, who) && reason && strstr(line, "not written down one by one"))
            sum += strtoul(reason + strlen("\"reason\":\""), NULL, 10);
        else
            sum += strstr(line, who) != NULL;
    }
    buf_clear(&log);
    return sum;
}

// hsmd is stopped within the minute in which an officer's refusals are only counted.
static void test_counted_at_stop(void **state)
{
    const unsigned many = REFUSALS_MAX + 25;
    const struct act revoke = {.kind = ACT_CLIENT_REVOKE, .name = BYTES_LITERAL("gateway")};
    char last[2048];
    (void)state;
    begin("");
    for (unsigned i = 0; i < many; i++) {
        struct answer answer;
        chamber_propose(&chamber, DAVE, &revoke, NULL, &answer); // an auditor
        assert_true(answer.is_answered);
        assert_int_equal(answer.class, ERR_DENIED);
        answer_clear(&answer);
    }
    assert_true(refusals_of("dave", last, sizeof last) < many);
    chamber_stop(&chamber);
    assert_int_equal(refusals_of("dave", last, sizeof last), many);
    assert_non_null(strstr(last, "\"event\":\"stop\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counted_at_stop),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
