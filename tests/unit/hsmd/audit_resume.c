// SPDX-License-Identifier: Apache-2.0
// A log that is not where it was when hsmd is started, or another file there when it is rotated:
// the chain goes on, or nothing does.
#include "hsmd/audit/audit_resume.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/audit/audit_verify.h"
#include "hsmd/base/file.h"
#include "hsmd/base/log.h"

#define ZEROS "0000000000000000"
#define LINE_99 "{\"seq\":99,\"prev\":\"" ZEROS ZEROS ZEROS ZEROS "\"}\n"

static char dir[64];
static char path[96], head[96], rotated[96], older[96], other[96], left[96];

static int setup(void **state)
{
    (void)state;
    log_open("test", LOG_SINK_STDERR, LOG_LEVEL_ERROR);
    snprintf(dir, sizeof dir, "/tmp/resume-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/audit.log", dir);
    snprintf(head, sizeof head, "%s/audit.head", dir);
    snprintf(rotated, sizeof rotated, "%s/audit.log-20261122", dir);
    snprintf(older, sizeof older, "%s/audit.log-20261121", dir);
    snprintf(other, sizeof other, "%s/other.log", dir);
    snprintf(left, sizeof left, "%s/audit.log.new", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    const char *const names[] = {path, head, rotated, older, other, left};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlink(names[i]);
    return rmdir(dir); // nothing else was left in it
}

static void put_lines(struct audit *audit, unsigned count)
{
    static uint64_t id; // so that no two logs are the same
    for (unsigned i = 0; i < count; i++) {
        const struct audit_record record = {.event = AUDIT_USE, .has_id = true, .id = ++id};
        assert_int_equal(audit_write(audit, &record, NULL), ERR_OK);
    }
}

static struct audit *open_log(const char *expected)
{
    char from[PATH_MAX] = "";
    struct audit *audit = NULL;
    struct detail detail = {0};
    (void)audit_open_last(path, head, from, &audit, &detail);
    assert_string_equal(detail.text, "");
    assert_string_equal(from, expected);
    assert_int_equal(audit_reopen(audit, NULL), ERR_OK);
    return audit;
}

// One run of hsmd, which finds its log there and adds so many lines.
static void run(const char *expected, unsigned lines)
{
    struct audit *audit = open_log(expected);
    put_lines(audit, lines);
    audit_close(audit);
}

static void refused(const char *text)
{
    char from[PATH_MAX];
    struct audit *audit = NULL;
    struct detail detail = {0};
    struct stat st;
    bool was_there = stat(path, &st) == 0;
    assert_int_equal(audit_open_last(path, head, from, &audit, &detail), ERR_PERM);
    if (!strstr(detail.text, text))
        fail_msg("\"%s\"", detail.text);
    assert_int_equal(access(path, F_OK) == 0, was_there); // and can be put back
}

static void copy(const char *from, const char *to)
{
    struct buf text;
    buf_init(&text, 1 << 20);
    assert_int_equal(file_read(from, &text, NULL), ERR_OK);
    assert_int_equal(file_write(to, buf_bytes(&text), 0600, NULL), ERR_OK);
    buf_clear(&text);
}

// The lines of these files, NULL-ended, one after the other.
static void whole(uint64_t lines, ...)
{
    va_list ap;
    struct audit_verify *verify = NULL;
    assert_int_equal(audit_verify_new(NULL, NULL, &verify, NULL), ERR_OK);
    va_start(ap, lines);
    for (const char *name; (name = va_arg(ap, const char *)) != NULL;) {
        struct buf text;
        buf_init(&text, 1 << 20);
        assert_int_equal(file_read(name, &text, NULL), ERR_OK);
        audit_verify_file(verify, name);
        audit_verify_put(verify, buf_bytes(&text));
        buf_clear(&text);
    }
    va_end(ap);
    const struct audit_report *report = audit_verify_end(verify);
    if (report->is_bad)
        fail_msg("line %" PRIu64 ": %s", report->bad_line, report->reason.text);
    assert_int_equal(report->lines, lines);
    assert_int_equal(report->last.seq, lines);
    audit_verify_free(verify);
}

static void test_moved(void **state)
{
    (void)state;
    run(path, 3);
    assert_int_equal(rename(path, rotated), 0);
    run(rotated, 2);
    whole(6, rotated, path, NULL);
    run(path, 1);
    whole(7, rotated, path, NULL);
}

// logrotate has made the new file before it tells.
static void test_moved_and_made(void **state)
{
    (void)state;
    struct stat st;
    run(path, 3);
    assert_int_equal(rename(path, rotated), 0);
    assert_int_equal(file_write(path, BYTES_LITERAL(""), 0640, NULL), ERR_OK);
    run(rotated, 2);
    whole(6, rotated, path, NULL);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
}

// The machine went down: the lines after the last note of how far it had come are there, but for
// the end of the last one.
static void test_moved_and_killed(void **state)
{
    (void)state;
    struct stat st;
    run(path, 1);
    copy(head, other);
    run(path, 4);
    copy(other, head);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(truncate(path, st.st_size - 20), 0);
    assert_int_equal(rename(path, rotated), 0);
    run(rotated, 2);
    whole(8, rotated, path, NULL); // with a line about the one that was torn
}

// Of several files the last one; not what a rotation has left that was killed.
static void test_which(void **state)
{
    (void)state;
    run(path, 3);
    assert_int_equal(rename(path, older), 0);
    run(older, 3);
    assert_int_equal(rename(path, rotated), 0);
    assert_int_equal(file_write(left, BYTES_LITERAL(LINE_99), 0600, NULL), ERR_OK);
    run(rotated, 1);
    whole(9, older, rotated, path, NULL);
}

// A copy that somebody made while it was written is not the last one, whatever it is called.
static void test_copies(void **state)
{
    (void)state;
    const char *names[2][2] = {{older, rotated}, {rotated, older}};
    for (unsigned i = 0; i < 2; i++) {
        struct audit *audit = open_log(path);
        put_lines(audit, 2);
        audit_note_head(audit);
        copy(head, other);
        put_lines(audit, 1);
        copy(path, names[i][0]);
        put_lines(audit, 1);
        audit_close(audit);
        copy(other, head); // it was killed
        assert_int_equal(rename(path, names[i][1]), 0);
        run(names[i][1], 1);
        whole(6, names[i][1], path, NULL);
        assert_int_equal(teardown(NULL), 0);
        assert_int_equal(setup(NULL), 0);
    }
}

// A rotation is noted at once: hsmd may be killed after it, and the new file lost.
static void test_noted(void **state)
{
    (void)state;
    struct audit *audit = open_log(path);
    put_lines(audit, 2);
    assert_int_equal(rename(path, rotated), 0);
    assert_int_equal(audit_reopen(audit, NULL), ERR_OK);
    assert_int_equal(rename(path, left), 0);
    refused("has had a line 3");
    audit_close(audit);
}

static bool is_put_back, has_no_renameat2, is_disk_broken;

static bool is_next_file(int fd)
{
    struct stat mine;
    struct stat named;
    return stat(left, &named) == 0 && fstat(fd, &mine) == 0 && mine.st_ino == named.st_ino;
}

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
    if (is_put_back && is_next_file(fd))
        assert_int_equal(file_write(path, BYTES_LITERAL("x\n"), 0600, NULL), ERR_OK);
    errno = EIO;
    return is_disk_broken ? -1 : __real_fdatasync(fd);
}

int __real_renameat2(int a, const char *from, int b, const char *to, unsigned flags);
int __wrap_renameat2(int a, const char *from, int b, const char *to, unsigned flags);
int __wrap_renameat2(int a, const char *from, int b, const char *to, unsigned flags)
{
    errno = EINVAL;
    return has_no_renameat2 ? -1 : __real_renameat2(a, from, b, to, flags);
}

// Somebody puts a file there while the first line of the new one is synced: it is left alone.
static void test_put_back(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct detail detail = {0};
        struct buf text;
        struct audit *audit = open_log(path);
        buf_init(&text, 100);
        assert_int_equal(audit_set_sync(audit, AUDIT_SYNC_ALWAYS, NULL), ERR_OK);
        put_lines(audit, 2);
        assert_int_equal(rename(path, rotated), 0);
        has_no_renameat2 = i > 0; // a file system of another kind
        is_put_back = true;
        assert_int_equal(audit_reopen(audit, &detail), ERR_TEMP);
        is_put_back = false;
        assert_non_null(strstr(detail.text, "send SIGHUP again"));
        assert_int_equal(file_read(path, &text, NULL), ERR_OK);
        assert_string_equal(buf_text(&text), "x\n");
        buf_clear(&text);
        put_lines(audit, 1);
        unlink(path);
        assert_int_equal(audit_reopen(audit, NULL), ERR_OK);
        assert_int_equal(access(left, F_OK), -1);
        audit_close(audit);
        whole(4, rotated, path, NULL);
        assert_int_equal(teardown(NULL), 0);
        assert_int_equal(setup(NULL), 0);
    }
    has_no_renameat2 = false;
}

static void test_lost(void **state)
{
    (void)state;
    run(path, 3);
    assert_int_equal(rename(path, other), 0);
    refused("has had a line 3");
    assert_int_equal(file_write(path, BYTES_LITERAL(""), 0600, NULL), ERR_OK);
    refused("Put that back");
    assert_int_equal(rename(other, path), 0); // as it says
    run(path, 1);
    whole(4, path, NULL);
    unlink(path);
    refused(head);
    unlink(head); // as it says
    run(path, 2);
    whole(2, path, NULL);
}

// Half of the first line since the note was made is no other line.
static void test_torn_at_once(void **state)
{
    (void)state;
    struct buf text;
    buf_init(&text, 4096);
    run(path, 3);
    assert_int_equal(file_read(path, &text, NULL), ERR_OK);
    assert_int_equal(buf_put_text(&text, "{\"seq\":4,"), ERR_OK);
    assert_int_equal(file_write(rotated, buf_bytes(&text), 0600, NULL), ERR_OK);
    unlink(path);
    run(rotated, 1);
    whole(6, rotated, path, NULL);
    buf_clear(&text);
}

// A file that ends sooner, or has another line at that place, is not the one.
static void test_not_the_one(void **state)
{
    (void)state;
    run(path, 3);
    assert_int_equal(rename(path, other), 0);
    unlink(head);
    run(path, 3);
    assert_int_equal(rename(other, rotated), 0);
    unlink(path);
    refused("has had a line 3");
    assert_int_equal(truncate(rotated, 0), 0);
    refused("has had a line 3");
}

// A longer one is not either, if it has another line at that place.
static void test_not_the_longer_one(void **state)
{
    (void)state;
    run(path, 2000); // more than are read at once
    assert_int_equal(rename(path, other), 0);
    unlink(head);
    run(path, 3);
    assert_int_equal(rename(path, rotated), 0);
    assert_int_equal(rename(other, older), 0);
    run(rotated, 1);
    whole(5, rotated, path, NULL);
}

// The log is on the disk before the head says how far it has come, with AUDIT_SYNC_OFF too.
static void test_synced_first(void **state)
{
    (void)state;
    struct stat st;
    struct audit *audit = open_log(path);
    put_lines(audit, 2);
    is_disk_broken = true;
    audit_note_head(audit);
    is_disk_broken = false;
    assert_int_not_equal(access(head, F_OK), 0);
    audit_note_head(audit);
    assert_int_equal(stat(head, &st), 0);
    audit_close(audit);
}

static void test_damaged(void **state)
{
    (void)state;
    static const char *const rows[] = {"", "7", "x", "7 00\n", "0 00\n"};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(file_write(head, bytes_of_text(rows[i]), 0600, NULL), ERR_OK);
        refused("damaged");
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_moved),        TEST(test_moved_and_made), TEST(test_moved_and_killed),
        TEST(test_which),        TEST(test_lost),           TEST(test_not_the_one),
        TEST(test_copies),       TEST(test_noted),          TEST(test_put_back),
        TEST(test_damaged),      TEST(test_torn_at_once),   TEST(test_not_the_longer_one),
        TEST(test_synced_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
