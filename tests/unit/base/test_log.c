// SPDX-License-Identifier: Apache-2.0
// The log to standard error, which is a pipe here.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/base/log.h"

static int saved_stderr;
static int pipe_out;

static int catch_stderr(void **state)
{
    int fds[2];
    (void)state;
    if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) != 0)
        return -1;
    saved_stderr = dup(STDERR_FILENO);
    pipe_out = fds[0];
    dup2(fds[1], STDERR_FILENO);
    close(fds[1]);
    log_open("test", LOG_SINK_STDERR, LOG_LEVEL_INFO);
    return 0;
}

static int release_stderr(void **state)
{
    (void)state;
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    close(pipe_out);
    return 0;
}

// What has been logged since the last time, as text.
static const char *logged(void)
{
    static char text[8192];
    ssize_t n = read(pipe_out, text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    return text;
}

// The one line that was logged, without the time stamp in front and the line end.
static const char *logged_line(void)
{
    char *text = (char *)logged();
    char *end = strchr(text, '\n');
    assert_non_null(end);
    assert_int_equal(end[1], 0);
    *end = 0;
    char *space = strchr(text, ' ');
    assert_non_null(space);
    assert_int_equal(space - text, 24);
    return space + 1;
}

static void test_line(void **state)
{
    (void)state;
    log_notice("sign", "key", "gw-sign", "peer", NULL, "id", "7");
    assert_string_equal(logged_line(), "test: notice event=sign key=\"gw-sign\" id=\"7\"");
    log_error("start");
    assert_string_equal(logged_line(), "test: error event=start");
}

static void test_hostile_values(void **state)
{
    (void)state;
    log_warning("mail", "from", "a\" level=\"error\n2026-01-01T00:00:00.000Z hsmd: error event=x");
    assert_string_equal(logged_line(), "test: warning event=mail from=\"a' level='error"
                                       "\\x0a2026-01-01T00:00:00.000Z hsmd: error event=x\"");
    log_warning("mail", "from", "\x1b]0;title\x07\xff%s%n\\");
    assert_string_equal(logged_line(),
                        "test: warning event=mail from=\"\\x1b]0;title\\x07\\xff%s%n\\x5c\"");
}

static void test_long_values_are_cut(void **state)
{
    char value[5000];
    (void)state;
    memset(value, '\n', sizeof value - 1);
    value[sizeof value - 1] = 0;
    log_info("long", "value", value, "after", "seen");
    const char *line = logged_line();
    assert_true(strlen(line) < 300);
    assert_non_null(strstr(line, "...\" after=\"seen\""));
}

static void test_many_values_stay_one_line(void **state)
{
    char v[300];
    (void)state;
    memset(v, 'v', sizeof v - 1);
    v[sizeof v - 1] = 0;
    log_info("many", "a", v, "b", v, "c", v, "d", v, "e", v, "f", v, "g", v, "h", v, "i", v, "j", v,
             "k", v, "l", v, "m", v, "n", v, "o", v, "p", v, "q", v, "r", v);
    assert_true(strlen(logged_line()) > 1500);
}

static void test_levels(void **state)
{
    (void)state;
    log_debug("hidden");
    assert_string_equal(logged(), "");
    log_open("test", LOG_SINK_STDERR, LOG_LEVEL_ERROR);
    log_warning("hidden");
    assert_string_equal(logged(), "");
    log_error("seen");
    assert_string_equal(logged_line(), "test: error event=seen");
    log_open("test", LOG_SINK_STDERR, LOG_LEVEL_DEBUG);
    log_debug("seen");
    assert_string_equal(logged_line(), "test: debug event=seen");
}

static void test_names(void **state)
{
    enum log_sink sink = LOG_SINK_STDERR;
    enum log_level level = LOG_LEVEL_ERROR;
    struct stat st;
    char stream[64];
    (void)state;
    assert_true(log_level_by_name("info", &level));
    assert_int_equal(level, LOG_LEVEL_INFO);
    assert_false(log_level_by_name("loud", &level));
    assert_int_equal(level, LOG_LEVEL_INFO);
    assert_true(log_sink_by_name("syslog", &sink));
    assert_int_equal(sink, LOG_SINK_SYSLOG);
    assert_true(log_sink_by_name("journal", &sink));
    assert_int_equal(sink, LOG_SINK_JOURNAL);
    assert_false(log_sink_by_name("printer", &sink));
    assert_int_equal(sink, LOG_SINK_JOURNAL);
    unsetenv("JOURNAL_STREAM");
    assert_true(log_sink_by_name("auto", &sink));
    assert_int_equal(sink, LOG_SINK_STDERR);
    assert_int_equal(fstat(STDERR_FILENO, &st), 0);
    snprintf(stream, sizeof stream, "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    assert_true(log_sink_by_name("auto", &sink));
    assert_int_equal(sink, LOG_SINK_JOURNAL);
    setenv("JOURNAL_STREAM", "1:2", 1);
    assert_true(log_sink_by_name("auto", &sink));
    assert_int_equal(sink, LOG_SINK_STDERR);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, catch_stderr, release_stderr)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_line),
        TEST(test_hostile_values),
        TEST(test_long_values_are_cut),
        TEST(test_many_values_stay_one_line),
        TEST(test_levels),
        TEST(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
