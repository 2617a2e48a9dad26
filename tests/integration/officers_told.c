// SPDX-License-Identifier: Apache-2.0
// What the audit log of a real hsmd tells when that is not easy: of more refusals than are written
// one by one, of a token that is lost while the log cannot be written or before anybody is served,
// of an act that a kill has undone.
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "hsmd/base/clock.h"
#include "hsmd/base/file.h"
#include "hsmd/refusals.h"
#include "hsmd/registry/store.h"
#include "tests/integration/chamber.h"
#include "tests/support/audit_log.h"

#define LOG_MAX ((size_t)1 << 20)
#define WAIT_MS 20000

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

static bool is_ready(void)
{
    json_t *status = chamber_read(&chamber, DAVE, READ_STATUS, "");
    const json_t *token = json_array_get(json_object_get(status, "tokens"), 0);
    const char *is_state = json_string_value(json_object_get(token, "state"));
    bool is_it = is_state && strcmp(is_state, "ready") == 0;
    json_decref(status);
    return is_it;
}

static void wait_ready(bool is_wanted)
{
    deadline_t until = deadline_in(WAIT_MS);
    while (is_ready() != is_wanted && !deadline_is_past(until))
        usleep(100000);
    assert_true(is_ready() == is_wanted);
    usleep(500000); // for hsmd to have tried to write it down
}

static void set_log_room(rlim_t room)
{
    struct stat st;
    struct rlimit both = {RLIM_INFINITY, RLIM_INFINITY};
    assert_int_equal(stat(hsmd_path(&chamber.hsmd, "state/audit.log"), &st), 0);
    if (room != RLIM_INFINITY)
        both.rlim_cur = (rlim_t)st.st_size + room;
    assert_int_equal(prlimit(chamber.hsmd.pid, RLIMIT_FSIZE, &both, NULL), 0);
}

static unsigned told(const char *event)
{
    char text[80];
    snprintf(text, sizeof text, "\"event\":\"%s\",\"token\":\"main\"", event);
    return chamber_lines(&chamber, text, "");
}

static void wait_told(const char *event, unsigned count)
{
    deadline_t until = deadline_in(WAIT_MS);
    while (told(event) != count && !deadline_is_past(until))
        usleep(100000);
    assert_int_equal(told(event), count);
}

// The time in the last line of the event.
static void last_time(const char *event, char at[CLOCK_STAMP_SIZE])
{
    struct buf log;
    buf_init(&log, LOG_MAX);
    assert_int_equal(file_read(hsmd_path(&chamber.hsmd, "state/audit.log"), &log, NULL), ERR_OK);
    char *rest = (char *)log.data;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        const char *time = strstr(line, "\"time\":\"");
        if (time && strstr(line, event))
            snprintf(at, CLOCK_STAMP_SIZE, "%s", time + strlen("\"time\":\""));
    }
    buf_clear(&log);
}

// A token is pulled while the disk is full, and comes back when there is room again, or before.
static void test_token_while_full(void **state)
{
    const struct act unlock = {.kind = ACT_UNLOCK, .name = BYTES_LITERAL("main")};
    char room_again[CLOCK_STAMP_SIZE];
    char at[CLOCK_STAMP_SIZE];
    (void)state;
    begin("healing = true");
    (void)chamber_must_propose(&chamber, ALICE, &unlock, SOFTHSM_PIN);
    for (unsigned round = 1; round <= 2; round++) {
        wait_ready(true);
        set_log_room(20);
        hsmd_shim(&chamber.hsmd, "pull\n");
        wait_ready(false);
        if (round == 2) {
            hsmd_shim(&chamber.hsmd, "");
            wait_ready(true);
        }
        assert_int_equal(told("token-lost"), round - 1);
        clock_stamp(room_again);
        set_log_room(RLIM_INFINITY);
        wait_told("token-lost", round);
        hsmd_shim(&chamber.hsmd, "");
        wait_told("token-back", round);
        last_time("token-lost", at);
        assert_true(strcmp(at, room_again) < 0); // when it happened
    }
    chamber_stop(&chamber);
    assert_true(audit_log_verify(hsmd_path(&chamber.hsmd, "state/audit.log")) > 4);
}

// What keeps a token from being used when hsmd starts is said as it is.
static void test_lost_at_start(void **state)
{
    static const char lost[] = "\"event\":\"token-lost\",\"token\":\"main\","
                               "\"reason\":\"at the start: ";
    (void)state;
    assert_int_equal(
        file_write(hsmd_path(&chamber.hsmd, "wrong.pin"), BYTES_LITERAL("4711\n"), 0400, NULL),
        ERR_OK);
    begin("pin-file = \"wrong.pin\"");
    assert_int_equal(chamber_lines(&chamber, lost, "wrong PIN (its PIN is from"), 1);
    chamber_stop(&chamber);
    hsmd_shim(&chamber.hsmd, "pull\n");
    begin("pin-file = \"pin\"");
    assert_int_equal(chamber_lines(&chamber, lost, "wrong PIN (its PIN is from"), 1);
    assert_int_equal(chamber_lines(&chamber, lost, "no token with the label"), 1);
    hsmd_shim(&chamber.hsmd, "");
    chamber_stop(&chamber);
}

static void kill_hsmd(void)
{
    chamber_hang_up(&chamber, ALICE);
    chamber_hang_up(&chamber, DAVE);
    (void)hsmd_stop(&chamber.hsmd, SIGKILL);
}

// The registry as it is if hsmd is killed between the line of the act and the commit.
static void undo_commit(uint64_t number)
{
    sqlite3 *db = NULL;
    char sql[200];
    snprintf(sql, sizeof sql,
             "DELETE FROM client WHERE name = 'late'; "
             "UPDATE proposal SET state = %d, ended = '', result = x'' WHERE number = %" PRIu64,
             PROPOSAL_PENDING, number);
    assert_int_equal(sqlite3_open(hsmd_path(&chamber.hsmd, "state/" STORE_FILE), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_changes(db), 1);
    sqlite3_close(db);
}

static unsigned problems_with(const char *text)
{
    unsigned count = 0;
    json_t *status = chamber_read(&chamber, DAVE, READ_STATUS, "");
    const json_t *problems = json_object_get(status, "problems");
    assert_true(json_is_array(problems));
    for (size_t i = 0; i < json_array_size(problems); i++)
        count += strstr(json_string_value(json_array_get(problems, i)), text) != NULL;
    json_decref(status);
    return count;
}

// An act that was done long ago and is made to wait again is not one that hsmd could not keep.
static void test_put_back(void **state)
{
    const struct act add = {.kind = ACT_CLIENT_ADD,
                            .name = BYTES_LITERAL("late"),
                            .curve_key = BYTES_LITERAL("rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7")};
    (void)state;
    begin("");
    uint64_t number = chamber_must_propose(&chamber, ALICE, &add, NULL);
    unsigned lost = chamber_lines(&chamber, "\"event\":\"act-lost\"", "");
    chamber_stop(&chamber);
    undo_commit(number);
    chamber_start(&chamber);
    assert_int_equal(problems_with("registry: "), 1);
    assert_int_equal(problems_with("hsmd ended"), 0);
    assert_int_equal(chamber_lines(&chamber, "\"event\":\"act-lost\"", ""), lost);
    chamber_stop(&chamber);
}

// The log says that an act was done, and its proposal waits still: said at the next start, once.
static void test_act_lost(void **state)
{
    const struct act add = {.kind = ACT_CLIENT_ADD,
                            .name = BYTES_LITERAL("late"),
                            .curve_key = BYTES_LITERAL("rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7")};
    char what[48], proposal_state[16];
    uint8_t digest[STATEMENT_DIGEST_SIZE];
    (void)state;
    begin("");
    uint64_t number = chamber_must_propose(&chamber, ALICE, &add, NULL);
    snprintf(what, sizeof what, "\"proposal\":%" PRIu64 ",", number);
    assert_int_equal(chamber_lines(&chamber, "\"event\":\"act\"", what), 1);
    kill_hsmd();
    chamber_start(&chamber);
    assert_true(chamber_has_client(&chamber, "late"));
    assert_int_equal(chamber_lines(&chamber, "\"event\":\"act-lost\"", ""), 0);
    const struct act revoke = {.kind = ACT_CLIENT_REVOKE, .name = add.name};
    (void)chamber_must_propose(&chamber, ALICE, &revoke, NULL);
    number = chamber_must_propose(&chamber, ALICE, &add, NULL);
    snprintf(what, sizeof what, "\"proposal\":%" PRIu64 ",", number);
    kill_hsmd();
    undo_commit(number);
    for (unsigned i = 0; i < 2; i++) {
        chamber_start(&chamber);
        assert_false(chamber_has_client(&chamber, "late"));
        chamber_look(&chamber, number, proposal_state, digest);
        assert_string_equal(proposal_state, "pending");
        assert_int_equal(chamber_lines(&chamber, "\"event\":\"act-lost\"", what), 1);
        assert_int_equal(problems_with("registry: "), 0);
        assert_int_equal(problems_with("hsmd ended before what the act changed"), i == 0);
        kill_hsmd();
    }
    assert_int_equal(chamber_lines(&chamber, "\"event\":\"act-lost\"", ""), 1);
    assert_true(audit_log_verify(hsmd_path(&chamber.hsmd, "state/audit.log")) > 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_token_while_full), cmocka_unit_test(test_lost_at_start),
        cmocka_unit_test(test_act_lost),         cmocka_unit_test(test_put_back),
        cmocka_unit_test(test_counted_at_stop),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
