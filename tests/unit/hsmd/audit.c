// SPDX-License-Identifier: Apache-2.0
#include "hsmd/audit/audit.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/audit/audit_line.h"
#include "hsmd/base/file.h"
#include "hsmd/base/hash.h"
#include "hsmd/base/log.h"
#include "hsmd/base/text.h"

static char dir[64];
static char path[96];
static char rotated[96];

static int setup(void **state)
{
    (void)state;
    log_open("test", LOG_SINK_STDERR, LOG_LEVEL_ERROR);
    snprintf(dir, sizeof dir, "/tmp/audit-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/audit.log", dir);
    snprintf(rotated, sizeof rotated, "%s/audit.log.1", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    unlink(rotated);
    return rmdir(dir); // nothing else was left in it
}

static enum err use(struct audit *audit, uint64_t id)
{
    return audit_write(audit,
                       &(struct audit_record){.event = AUDIT_USE,
                                              .client = "gw",
                                              .key = BYTES_LITERAL("signing"),
                                              .operation = "sign",
                                              .algorithm = "rsa-pkcs1",
                                              .has_id = true,
                                              .id = id,
                                              .result = "ok"},
                       NULL);
}

static void read_file(const char *name, struct buf *out)
{
    buf_init(out, 64u << 20);
    assert_int_equal(file_read(name, out, NULL), ERR_OK);
}

// What hsmctl audit verify will do: each line's number and hash follow from the line before.
// Returns how many lines there are; link goes along from file to file.
static unsigned verify(const char *name, struct audit_link *link)
{
    struct buf text;
    unsigned count = 0;
    read_file(name, &text);
    assert_true(text.len == 0 || text.data[text.len - 1] == '\n');
    char *rest = (char *)text.data;
    for (char *line; rest && (line = strsep(&rest, "\n")) && *line; count++) {
        struct bytes bytes = bytes_of_text(line);
        struct buf prev;
        uint64_t seq = 0;
        bool is_ours = audit_line_seq(bytes, &seq);
        buf_init(&prev, 80);
        assert_int_equal(text_put_hex(&prev, bytes_of(link->hash, sizeof link->hash)), ERR_OK);
        if (is_ours) {
            assert_int_equal(seq, link->seq + 1);
            assert_true(strlen(line) > 80);
            assert_memory_equal(line + strlen(line) - 66, prev.data, 64);
            link->seq = seq;
        } // else it was torn, and the next line must have its hash
        buf_clear(&prev);
        assert_int_equal(hash_digest(HASH_SHA256, bytes, link->hash), ERR_OK);
    }
    buf_clear(&text);
    return count;
}

static void test_chain(void **state)
{
    (void)state;
    struct audit *audit = NULL;
    struct audit_link link = {0};
    struct stat st;
    for (unsigned start = 0; start < 3; start++) {
        assert_int_equal(audit_open(path, &audit, NULL), ERR_OK);
        for (unsigned i = 0; i < 5; i++)
            assert_int_equal(use(audit, i), ERR_OK);
        audit_close(audit);
    }
    assert_int_equal(verify(path, &link), 15);
    assert_int_equal(link.seq, 15);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void test_line(void **state)
{
    (void)state;
    struct audit *audit = NULL;
    struct buf text;
    const struct audit_record record = {.event = AUDIT_REFUSE,
                                        .client = "gw",
                                        .key = {(const uint8_t *)"a\"b\\c\n\0\xffz", 9},
                                        .result = "denied",
                                        .reason = "no \"such\" key"};
    assert_int_equal(audit_open(path, &audit, NULL), ERR_OK);
    assert_int_equal(audit_write(audit, &record, NULL), ERR_OK);
    audit_close(audit);
    read_file(path, &text);
    assert_non_null(strstr(buf_text(&text),
                           "\"event\":\"refuse\",\"client\":\"gw\",\"key\":\"a\\\"b\\\\c\\u000a\\"
                           "u0000\\u00ffz\",\"result\":\"denied\",\"reason\":\"no \\\"such\\\" "
                           "key\",\"prev\":\"000000"));
    buf_clear(&text);
}

// The longest there can be still fits a line.
static void test_long(void **state)
{
    (void)state;
    struct audit *audit = NULL;
    struct audit_link link = {0};
    char long_reason[2000];
    uint8_t key[64];
    uint8_t digest[64];
    memset(long_reason, 1, sizeof long_reason);
    long_reason[sizeof long_reason - 1] = 0;
    memset(key, 0xff, sizeof key);
    memset(digest, 7, sizeof digest);
    const struct audit_record record = {
        .event = AUDIT_REFUSE,
        .client = "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc",
        .key = bytes_of(key, sizeof key),
        .operation = "describe",
        .algorithm = "rsaes-pkcs1",
        .hash = "sha512",
        .has_id = true,
        .id = UINT64_MAX,
        .result = "denied",
        .reason = long_reason,
        .message_digest = bytes_of(digest, sizeof digest),
        .ciphertext = bytes_of(digest, 32)};
    assert_int_equal(audit_open(path, &audit, NULL), ERR_OK);
    assert_int_equal(audit_write(audit, &record, NULL), ERR_OK);
    audit_close(audit);
    assert_int_equal(verify(path, &link), 1);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size <= AUDIT_LINE_MAX);
}

// The file cut at every byte of its last two lines: each time it is found, said, and gone on after.
static void test_torn(void **state)
{
    (void)state;
    struct audit *audit = NULL;
    struct buf whole;
    assert_int_equal(audit_open(path, &audit, NULL), ERR_OK);
    assert_int_equal(use(audit, 1), ERR_OK);
    assert_int_equal(use(audit, 2), ERR_OK);
    audit_close(audit);
    read_file(path, &whole);
    for (size_t len = 0; len <= whole.len; len++) {
        struct audit_link link = {0};
        assert_int_equal(file_write(path, bytes_of(whole.data, len), 0600, NULL), ERR_OK);
        assert_int_equal(audit_open(path, &audit, NULL), ERR_OK);
        assert_int_equal(use(audit, 3), ERR_OK);
        audit_close(audit);
        unsigned count = verify(path, &link);
        bool is_torn = len > 0 && whole.data[len - 1] != '\n';
        unsigned before = 0;
        for (size_t i = 0; i < len; i++)
            before += whole.data[i] == '\n';
        assert_int_equal(count, before + (is_torn ? 2 : 0) + 1);
        struct buf text;
        read_file(path, &text);
        assert_int_equal(strstr(buf_text(&text), "\"event\":\"torn\"") != NULL, is_torn);
        buf_clear(&text);
    }
    buf_clear(&whole);
}

static void test_foreign(void **state)
{
    (void)state;
    struct audit *audit = NULL;
    struct detail detail = {0};
    assert_int_equal(file_write(path, BYTES_LITERAL("something else\n"), 0600, NULL), ERR_OK);
    assert_int_equal(audit_open(path, &audit, &detail), ERR_PERM);
    assert_non_null(strstr(detail.text, "not an audit log"));
    unlink(path);
    assert_int_equal(symlink("/dev/null", path), 0);
    assert_int_equal(audit_open(path, &audit, &detail), ERR_PERM);
    unlink(path);
    assert_int_equal(audit_open(path, &audit, NULL), ERR_OK);
    struct audit *second = NULL;
    assert_int_equal(audit_open(path, &second, &detail), ERR_PERM);
    assert_non_null(strstr(detail.text, "another hsmd"));
    audit_close(audit);
}

static void set_file_limit(rlim_t limit)
{
    struct rlimit both;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &both), 0);
    both.rlim_cur = limit;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &both), 0);
}

// A disk that is full in the middle of a line: nothing of the line stays, hsmd is told, and when
// there is room the chain goes on.
static void test_full(void **state)
{
    (void)state;
    struct audit *audit = NULL;
    struct audit_link link = {0};
    struct detail detail = {0};
    struct stat st;
    signal(SIGXFSZ, SIG_IGN);
    log_open("test", LOG_SINK_STDERR, LOG_LEVEL_ERROR);
    assert_int_equal(audit_open(path, &audit, NULL), ERR_OK);
    assert_int_equal(use(audit, 1), ERR_OK);
    assert_int_equal(stat(path, &st), 0);
    off_t full = st.st_size;
    for (rlim_t room = 0; room < 100; room += 33) {
        set_file_limit((rlim_t)full + room);
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(
                audit_write(audit, &(struct audit_record){.event = AUDIT_USE}, &detail), ERR_TEMP);
            assert_non_null(strstr(detail.text, "audit"));
            assert_int_equal(stat(path, &st), 0);
            assert_int_equal(st.st_size, full);
        }
        set_file_limit(RLIM_INFINITY);
        assert_int_equal(use(audit, 2), ERR_OK);
        assert_int_equal(stat(path, &st), 0);
        full = st.st_size;
    }
    audit_close(audit);
    assert_int_equal(verify(path, &link), 5);
}

#define THREADS 8
#define LINES 500

static void *write_many(void *argument)
{
    for (unsigned i = 0; i < LINES; i++) {
        if (use(argument, i) != ERR_OK)
            return argument;
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    struct audit *audit = NULL;
    struct audit_link link = {0};
    pthread_t threads[THREADS];
    assert_int_equal(audit_open(path, &audit, NULL), ERR_OK);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, audit), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        void *failed = NULL;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    audit_close(audit);
    assert_int_equal(verify(path, &link), THREADS * LINES);
}

static void test_rotation(void **state)
{
    (void)state;
    struct audit *audit = NULL;
    struct audit_link link = {0};
    struct detail detail = {0};
    assert_int_equal(audit_open(path, &audit, NULL), ERR_OK);
    assert_int_equal(use(audit, 1), ERR_OK);
    assert_int_equal(audit_reopen(audit, NULL), ERR_OK); // nothing was moved: nothing happens
    assert_int_equal(use(audit, 2), ERR_OK);
    assert_int_equal(rename(path, rotated), 0);
    assert_int_equal(use(audit, 3), ERR_OK); // still into the old one
    assert_int_equal(file_write(path, BYTES_LITERAL("x\n"), 0600, NULL), ERR_OK);
    assert_int_equal(audit_reopen(audit, &detail), ERR_PERM);
    assert_int_equal(use(audit, 4), ERR_OK);
    unlink(path);
    assert_int_equal(audit_reopen(audit, NULL), ERR_OK);
    assert_int_equal(use(audit, 5), ERR_OK);
    audit_close(audit);
    assert_int_equal(verify(rotated, &link), 4);
    assert_int_equal(verify(path, &link), 2);
    assert_int_equal(link.seq, 6);
}

// A log of two lines that was moved away; a disk that has no room for more than this.
static struct audit *open_and_move(rlim_t room)
{
    struct audit *audit = NULL;
    struct stat st;
    assert_int_equal(audit_open(path, &audit, NULL), ERR_OK);
    assert_int_equal(audit_set_sync(audit, AUDIT_SYNC_BATCH, NULL), ERR_OK);
    assert_int_equal(use(audit, 1), ERR_OK);
    assert_int_equal(use(audit, 2), ERR_OK);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(rename(path, rotated), 0);
    set_file_limit(room);
    return audit;
}

// Then it goes on in the file it has, and the name is as it was: absent, or an empty file that
// logrotate has made with a mode of its own. When there is room it is rotated, and keeps that mode.
static void test_rotation_full(void **state)
{
    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    for (unsigned has_new = 0; has_new < 2; has_new++) {
        struct audit_link link = {0};
        struct detail detail = {0};
        struct stat st;
        struct audit *audit = open_and_move(RLIM_INFINITY);
        if (has_new)
            assert_int_equal(file_write(path, BYTES_LITERAL(""), 0640, NULL), ERR_OK);
        for (rlim_t room = 0; room < 100; room += 33) {
            set_file_limit(room);
            assert_int_equal(audit_reopen(audit, &detail), ERR_TEMP);
            set_file_limit(RLIM_INFINITY);
            assert_int_equal(stat(path, &st), has_new ? 0 : -1);
            assert_true(!has_new || st.st_size == 0);
            assert_int_equal(use(audit, 3), ERR_OK);
        }
        assert_int_equal(audit_reopen(audit, NULL), ERR_OK);
        assert_int_equal(use(audit, 4), ERR_OK);
        audit_close(audit);
        assert_int_equal(verify(rotated, &link), 6);
        assert_int_equal(verify(path, &link), 2);
        assert_int_equal(link.seq, 8);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, has_new ? 0640 : 0600);
        unlink(path);
        unlink(rotated);
    }
}

// Killed while it writes the first line: no file of that name, in which the next start would begin
// a chain of its own. What is left beside it does not hinder the next rotation.
static void test_rotation_killed(void **state)
{
    (void)state;
    struct audit_link link = {0};
    int status = 0;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGXFSZ, SIG_DFL);
        (void)audit_reopen(open_and_move(10), NULL);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ);
    assert_int_equal(access(path, F_OK), -1);
    struct audit *audit = NULL;
    assert_int_equal(rename(rotated, path), 0); // as if it was not moved before the next start
    assert_int_equal(audit_open(path, &audit, NULL), ERR_OK);
    assert_int_equal(rename(path, rotated), 0);
    assert_int_equal(audit_reopen(audit, NULL), ERR_OK);
    audit_close(audit);
    assert_int_equal(verify(rotated, &link), 2);
    assert_int_equal(verify(path, &link), 1);
    assert_int_equal(link.seq, 3);
}

// Lines that come while it is rotated are all there, before or after.
static void test_rotation_busy(void **state)
{
    (void)state;
    struct audit *audit = NULL;
    struct audit_link link = {0};
    pthread_t threads[THREADS];
    assert_int_equal(audit_open(path, &audit, NULL), ERR_OK);
    assert_int_equal(audit_set_sync(audit, AUDIT_SYNC_BATCH, NULL), ERR_OK);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, audit), 0);
    while (audit_head(audit).seq < THREADS * LINES / 4)
        sched_yield();
    assert_int_equal(rename(path, rotated), 0);
    assert_int_equal(audit_reopen(audit, NULL), ERR_OK);
    for (unsigned i = 0; i < THREADS; i++) {
        void *failed = NULL;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    audit_close(audit);
    assert_true(verify(rotated, &link) >= THREADS * LINES / 4);
    assert_true(verify(path, &link) >= 1);
    assert_int_equal(link.seq, THREADS * LINES + 1);
}

// A log that was removed takes no lines, so nothing is served; SIGHUP begins a new one, which says
// where the old one ended.
static void test_removed(void **state)
{
    (void)state;
    struct audit *audit = NULL;
    struct audit_link link = {0};
    struct detail detail = {0};
    const struct audit_record record = {.event = AUDIT_USE};
    assert_int_equal(audit_open(path, &audit, NULL), ERR_OK);
    assert_int_equal(use(audit, 1), ERR_OK);
    assert_int_equal(rename(path, rotated), 0); // as logrotate does: still a log
    assert_int_equal(use(audit, 2), ERR_OK);
    assert_int_equal(verify(rotated, &link), 2);
    unlink(rotated);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(audit_write(audit, &record, &detail), ERR_TEMP);
    assert_non_null(strstr(detail.text, "it was removed"));
    assert_int_equal(audit_reopen(audit, NULL), ERR_OK);
    assert_int_equal(use(audit, 3), ERR_OK);
    audit_close(audit);
    assert_int_equal(verify(path, &link), 2);
    assert_int_equal(link.seq, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_chain, setup, teardown),
        cmocka_unit_test_setup_teardown(test_line, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long, setup, teardown),
        cmocka_unit_test_setup_teardown(test_torn, setup, teardown),
        cmocka_unit_test_setup_teardown(test_foreign, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rotation, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rotation_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rotation_killed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rotation_busy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_removed, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
