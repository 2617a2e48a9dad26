// SPDX-License-Identifier: Apache-2.0
// When the audit log is synced, and what becomes of it when that fails: the linker puts a
// fdatasync(2) of ours in the place of the system's.
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/audit/audit.h"
#include "hsmd/base/file.h"
#include "hsmd/base/log.h"
#include "tests/support/audit_log.h"

static char dir[64];
static char path[96], rotated[96], said_path[96];
static struct audit *audit;
static struct detail detail;
static int standard_error;
static atomic_bool is_broken;
static atomic_uint syncs;
static atomic_long synced_size; // of the file, when it was synced last

int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
    struct stat st;
    atomic_fetch_add(&syncs, 1);
    if (atomic_load(&is_broken)) {
        errno = EIO;
        return -1;
    }
    atomic_store(&synced_size, fstat(fd, &st) == 0 ? (long)st.st_size : -1);
    return 0;
}

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/audit-sync-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/audit.log", dir);
    snprintf(rotated, sizeof rotated, "%s/audit.log.1", dir);
    snprintf(said_path, sizeof said_path, "%s/said", dir);
    standard_error = dup(STDERR_FILENO);
    int to = open(said_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    assert_true(to >= 0 && dup2(to, STDERR_FILENO) >= 0);
    close(to);
    log_open("test", LOG_SINK_STDERR, LOG_LEVEL_NOTICE);
    atomic_store(&is_broken, false);
    assert_int_equal(audit_open(path, &audit, &detail), ERR_OK);
    atomic_store(&syncs, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    dup2(standard_error, STDERR_FILENO);
    close(standard_error);
    unlink(path);
    unlink(rotated);
    unlink(said_path);
    return rmdir(dir);
}

// How often hsmd's messages have these words.
static unsigned said(const char *words)
{
    struct buf text;
    unsigned found = 0;
    buf_init(&text, 1 << 20);
    assert_int_equal(file_read(said_path, &text, NULL), ERR_OK);
    for (const char *at = text.len ? buf_text(&text) : NULL; at && (at = strstr(at, words)); at++)
        found++;
    buf_clear(&text);
    return found;
}

static enum err use(void)
{
    detail.text[0] = 0;
    return audit_write(audit, &(struct audit_record){.event = AUDIT_USE, .client = "gw"}, &detail);
}

static long size_of_log(void)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return (long)st.st_size;
}

static void refused(unsigned times)
{
    long before = size_of_log();
    for (unsigned i = 0; i < times; i++) {
        assert_int_equal(use(), ERR_TEMP);
        assert_non_null(strstr(detail.text, strerror(EIO)));
        assert_int_equal(size_of_log(), before); // nothing of the line stays
    }
}

static void test_always(void **state)
{
    (void)state;
    struct audit_status status;
    assert_int_equal(audit_set_sync(audit, AUDIT_SYNC_ALWAYS, &detail), ERR_OK);
    for (unsigned i = 0; i < 5; i++) {
        unsigned before = atomic_load(&syncs);
        assert_int_equal(use(), ERR_OK);
        assert_int_equal(atomic_load(&syncs), before + 1);
        assert_int_equal(atomic_load(&synced_size), size_of_log()); // with the line in it
    }
    atomic_store(&is_broken, true);
    refused(3);
    assert_int_equal(said("failing: no request is served"), 1);
    assert_int_equal(said("written again"), 0);
    atomic_store(&is_broken, false);
    assert_int_equal(use(), ERR_OK);
    assert_int_equal(atomic_load(&synced_size), size_of_log());
    assert_int_equal(said("written again"), 1);
    audit_get_status(audit, &status);
    assert_int_equal(status.unsynced, 0);
    audit_close(audit);
    assert_int_equal(audit_log_verify(path), 6);
}

static uint64_t unsynced(void)
{
    struct audit_status status;
    audit_get_status(audit, &status);
    return status.unsynced;
}

static void wait_for(const char *words, unsigned times)
{
    deadline_t until = deadline_in(20000);
    while (said(words) < times && !deadline_is_past(until))
        usleep(5000);
    assert_int_equal(said(words), times);
}

static void wait_synced(void)
{
    deadline_t until = deadline_in(20000);
    while (unsynced() && !deadline_is_past(until))
        usleep(5000);
    assert_int_equal(unsynced(), 0);
    assert_int_equal(atomic_load(&synced_size), size_of_log());
}

// The line that could not be synced has been told already; from then on none is.
static void test_batch(void **state)
{
    (void)state;
    assert_int_equal(audit_set_sync(audit, AUDIT_SYNC_BATCH, &detail), ERR_OK);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(use(), ERR_OK);
    wait_synced();
    for (unsigned round = 1; round <= 2; round++) {
        atomic_store(&is_broken, true);
        assert_int_equal(use(), ERR_OK);
        wait_for("cannot sync: no request is served until it works", round);
        assert_int_equal(unsynced(), 1);
        refused(3);
        assert_int_equal(said("state=\"failing: no request is served\""), round);
        atomic_store(&is_broken, false);
        assert_int_equal(use(), ERR_OK);
        assert_int_equal(said("written again"), round);
        assert_int_equal(said("synced again"), round);
        wait_synced();
    }
    audit_close(audit);
    assert_int_equal(audit_log_verify(path), 9);
}

// What was written shortly before the end is synced at the end.
static void test_close(void **state)
{
    (void)state;
    assert_int_equal(audit_set_sync(audit, AUDIT_SYNC_BATCH, &detail), ERR_OK);
    for (unsigned i = 0; i < 50; i++)
        assert_int_equal(use(), ERR_OK);
    audit_close(audit);
    assert_int_equal(atomic_load(&synced_size), size_of_log());
}

// A disk that cannot be synced at the start is said then.
static void test_start(void **state)
{
    (void)state;
    atomic_store(&is_broken, true);
    assert_int_equal(audit_set_sync(audit, AUDIT_SYNC_ALWAYS, &detail), ERR_TEMP);
    assert_non_null(strstr(detail.text, strerror(EIO)));
    audit_close(audit);
}

static void test_off(void **state)
{
    (void)state;
    atomic_store(&is_broken, true); // and it is not even noticed
    assert_int_equal(audit_set_sync(audit, AUDIT_SYNC_OFF, &detail), ERR_OK);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(use(), ERR_OK);
    assert_int_equal(rename(path, rotated), 0);
    assert_int_equal(audit_reopen(audit, &detail), ERR_OK);
    assert_int_equal(use(), ERR_OK);
    usleep(3000 * AUDIT_SYNC_MS); // a thread that should not be there would have come
    audit_close(audit);
    assert_int_equal(atomic_load(&syncs), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(test_always), TEST(test_batch), TEST(test_close),
                                       TEST(test_start), TEST(test_off)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
