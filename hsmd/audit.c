// SPDX-License-Identifier: Apache-2.0
// Group commit: a thread brings its line's body, puts it in the queue and, if nobody is writing,
// becomes the writer of all that is queued; else it waits for the writer to have written its line.
// Numbers and hashes are given by the writer, so they follow the order in the file, and a batch
// that failed leaves the chain where it was.
#include "hsmd/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hsmd/audit_line.h"
#include "hsmd/base/alloc.h"
#include "hsmd/base/clock.h"
#include "hsmd/base/log.h"

#define BATCH_MAX ((size_t)64 * AUDIT_LINE_MAX)

struct waiter {
    struct waiter *next;
    struct bytes body;
    bool done;
    enum err err;
    struct detail detail;
};

struct audit {
    char *path;
    pthread_mutex_t lock;
    pthread_cond_t written;
    struct waiter *first, **last; // queued, not yet taken by a writer
    bool has_writer;
    // The writer's, whoever that is; has_writer hands them over.
    int fd;
    off_t size; // of the file, up to the end of the last whole line
    bool dirty; // there may be part of a line behind that
    bool failing;
    struct audit_link link;
    struct buf batch;
};

static int write_whole(int fd, struct bytes data)
{
    while (data.len) {
        ssize_t n = write(fd, data.data, data.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        data = bytes_of(data.data + n, data.len - (size_t)n);
    }
    return 0;
}

// Lines in a file that nobody can open any more are no log. A file that was renamed is.
static bool is_removed(const struct audit *audit)
{
    struct stat st;
    return fstat(audit->fd, &st) == 0 && st.st_nlink == 0;
}

// Cuts off what is behind the last whole line.
static bool cut_partial(struct audit *audit)
{
    struct stat st;
    if (fstat(audit->fd, &st) != 0)
        return false;
    return st.st_size <= audit->size || ftruncate(audit->fd, audit->size) == 0;
}

// All of the batch or, as far as the file lets us, nothing of it.
static enum err write_batch(struct audit *audit, struct detail *detail)
{
    if (is_removed(audit))
        return err_set(detail, ERR_TEMP, "%s: it was removed (SIGHUP begins a new one)",
                       audit->path);
    if (audit->dirty && cut_partial(audit))
        audit->dirty = false;
    if (audit->dirty || write_whole(audit->fd, buf_bytes(&audit->batch)) != 0) {
        (void)err_errno(detail, ERR_TEMP, "%s", audit->path);
        audit->dirty = !cut_partial(audit);
        return ERR_TEMP;
    }
    audit->size += (off_t)audit->batch.len;
    return ERR_OK;
}

static void tell_change(struct audit *audit, enum err err, const struct detail *detail)
{
    if ((err != ERR_OK) == audit->failing)
        return;
    audit->failing = err != ERR_OK;
    if (audit->failing)
        log_error("audit", "state", "failing: no request is served", "err", detail->text);
    else
        log_notice("audit", "state", "written again", "file", audit->path);
}

// As many lines of the list as fit; their waiters are told, the rest is returned.
static struct waiter *write_some(struct audit *audit, struct waiter *list)
{
    char stamp[CLOCK_STAMP_SIZE];
    struct audit_link link = audit->link;
    struct waiter *end = list;
    struct detail detail = {0};
    enum err err = ERR_OK;
    clock_stamp(stamp);
    buf_reset(&audit->batch);
    for (; end && err == ERR_OK; end = end->next) {
        err = audit_line_put(&audit->batch, end->body, stamp, &link);
        if (err == ERR_PERM && audit->batch.len) {
            err = ERR_OK; // full: the next batch
            break;
        }
    }
    if (err != ERR_OK)
        err = err_set(&detail, ERR_TEMP, "%s: cannot make a line", audit->path);
    else
        err = write_batch(audit, &detail);
    if (err == ERR_OK)
        audit->link = link;
    tell_change(audit, err, &detail);
    for (; list != end; list = list->next) {
        list->err = err;
        list->detail = detail;
    }
    return end;
}

// Writes what is queued now; what comes meanwhile is left to one of those who wait with it. Lock
// held on entry and return, not while writing.
static void write_queue(struct audit *audit)
{
    struct waiter *list = audit->first;
    audit->first = NULL;
    audit->last = &audit->first;
    audit->has_writer = true;
    pthread_mutex_unlock(&audit->lock);
    for (struct waiter *rest = list; rest;)
        rest = write_some(audit, rest);
    pthread_mutex_lock(&audit->lock);
    for (struct waiter *next; list; list = next) {
        next = list->next; // once done, the waiter's memory is its thread's again
        list->done = true;
    }
    audit->has_writer = false;
    pthread_cond_broadcast(&audit->written);
}

enum err audit_write(struct audit *audit, const struct audit_record *record, struct detail *detail)
{
    struct buf body;
    buf_init(&body, AUDIT_LINE_MAX);
    enum err err = audit_line_body(record, &body);
    if (err != ERR_OK) {
        buf_clear(&body);
        return err_set(detail, ERR_TEMP, "audit: cannot make a line");
    }
    struct waiter mine = {.body = buf_bytes(&body)};
    pthread_mutex_lock(&audit->lock);
    *audit->last = &mine;
    audit->last = &mine.next;
    while (!mine.done) {
        if (audit->has_writer)
            pthread_cond_wait(&audit->written, &audit->lock);
        else
            write_queue(audit);
    }
    pthread_mutex_unlock(&audit->lock);
    buf_clear(&body);
    if (mine.err != ERR_OK)
        return err_set(detail, mine.err, "audit: %s", mine.detail.text);
    return ERR_OK;
}

static enum err open_file(const char *path, int *fd, off_t *size, struct detail *detail)
{
    struct stat st;
    int opened = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (opened < 0)
        return err_errno(detail, ERR_PERM, "%s", path);
    enum err err = ERR_OK;
    if (fstat(opened, &st) != 0)
        err = err_errno(detail, ERR_PERM, "%s", path);
    else if (!S_ISREG(st.st_mode))
        err = err_set(detail, ERR_PERM, "%s: not a regular file", path);
    else if (flock(opened, LOCK_EX | LOCK_NB) != 0)
        err = err_set(detail, ERR_PERM, "%s: another hsmd writes it", path);
    if (err != ERR_OK) {
        close(opened);
        return err;
    }
    *fd = opened;
    *size = st.st_size;
    return ERR_OK;
}

// Reads where the chain ends. A torn line gets its line end and an event of its own.
static enum err find_end(struct audit *audit, bool *torn, struct detail *detail)
{
    uint8_t tail[4 * AUDIT_LINE_MAX];
    off_t from = audit->size > (off_t)sizeof tail ? audit->size - (off_t)sizeof tail : 0;
    ssize_t n = pread(audit->fd, tail, sizeof tail, from);
    if (n < 0)
        return err_errno(detail, ERR_PERM, "%s", audit->path);
    struct bytes bytes = bytes_of(tail, (size_t)n);
    if (audit_line_find_end(bytes, &audit->link, torn) != ERR_OK)
        return err_set(detail, ERR_PERM, "%s: its end is not an audit log of ours", audit->path);
    if (!*torn || tail[n - 1] == '\n')
        return ERR_OK;
    if (write_whole(audit->fd, BYTES_LITERAL("\n")) != 0)
        return err_errno(detail, ERR_TEMP, "%s", audit->path);
    audit->size++;
    return ERR_OK;
}

enum err audit_open(const char *path, struct audit **out, struct detail *detail)
{
    bool torn = false;
    struct audit *audit = mem_calloc(1, sizeof *audit);
    if (!audit)
        return err_set(detail, ERR_TEMP, "out of memory");
    *audit = (struct audit){.path = mem_strdup(path), .last = &audit->first, .fd = -1};
    pthread_mutex_init(&audit->lock, NULL);
    pthread_cond_init(&audit->written, NULL);
    buf_init(&audit->batch, BATCH_MAX);
    enum err err = audit->path ? open_file(path, &audit->fd, &audit->size, detail)
                               : err_set(detail, ERR_TEMP, "out of memory");
    if (err == ERR_OK)
        err = find_end(audit, &torn, detail);
    if (err == ERR_OK && torn) {
        log_warning("audit", "state", "the last line was torn; going on after it", "file", path);
        err = audit_write(audit, &(struct audit_record){.event = AUDIT_TORN}, detail);
    }
    if (err != ERR_OK) {
        audit_close(audit);
        return err;
    }
    *out = audit;
    return ERR_OK;
}

void audit_close(struct audit *audit)
{
    if (!audit)
        return;
    if (audit->fd >= 0)
        close(audit->fd);
    pthread_cond_destroy(&audit->written);
    pthread_mutex_destroy(&audit->lock);
    buf_clear(&audit->batch);
    mem_free(audit->path);
    mem_free(audit);
}

// The file under the path is the one we have.
static bool is_same_file(const struct audit *audit)
{
    struct stat mine;
    struct stat named;
    return fstat(audit->fd, &mine) == 0 && stat(audit->path, &named) == 0 &&
           mine.st_dev == named.st_dev && mine.st_ino == named.st_ino;
}

enum err audit_reopen(struct audit *audit, struct detail *detail)
{
    int fd = -1;
    off_t size = 0;
    if (is_same_file(audit))
        return ERR_OK;
    enum err err = open_file(audit->path, &fd, &size, detail);
    if (err == ERR_OK && size != 0) {
        close(fd);
        err =
            err_set(detail, ERR_PERM, "%s: a rotated log must go on in an empty file", audit->path);
    }
    if (err != ERR_OK)
        return err;
    pthread_mutex_lock(&audit->lock);
    while (audit->has_writer)
        pthread_cond_wait(&audit->written, &audit->lock);
    close(audit->fd);
    audit->fd = fd;
    audit->size = size;
    audit->dirty = false;
    pthread_mutex_unlock(&audit->lock);
    return audit_write(audit, &(struct audit_record){.event = AUDIT_ROTATE}, detail);
}
