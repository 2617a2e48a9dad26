// SPDX-License-Identifier: Apache-2.0
// Group commit: a thread brings its line's body, puts it in the queue and, if nobody is writing,
// becomes the writer of all that is queued; else it waits for the writer to have written its line.
// Numbers and hashes are given by the writer, so they follow the order in the file, and a batch
// that failed leaves the chain where it was. With AUDIT_SYNC_BATCH a thread of the log's own syncs
// what was written, so that no request waits for the disk; with AUDIT_SYNC_ALWAYS the writer does.
#include "hsmd/audit/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "hsmd/audit/audit_file.h"
#include "hsmd/audit/audit_line.h"
#include "hsmd/base/alloc.h"
#include "hsmd/base/clock.h"
#include "hsmd/base/log.h"

#define BATCH_MAX ((size_t)64 * AUDIT_LINE_MAX)

struct waiter {
    struct waiter *next;
    struct bytes body;
    const char *stamp;
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
    struct audit_link head; // link, as of the last batch that was written
    pthread_cond_t grown;   // for the one in audit_wait
    uint64_t awaited;       // the number it waits for
    bool is_woken;
    struct audit_record rotation; // the first line of a rotated file
    enum audit_sync sync;
    pthread_t syncer;
    bool has_syncer, is_closing;
    pthread_cond_t unsynced;   // for the syncer
    bool has_unsynced;         // lines that it has not begun to sync
    bool is_syncing;           // it uses fd
    uint64_t synced;           // lines up to this one are on the disk
    deadline_t unsynced_since; // the first line after that was written
    deadline_t waiting_since;  // the first line that it has not begun to sync was
    bool is_unsafe;            // it could not: what was written may be lost
    // The writer's, whoever that is; has_writer hands them over.
    int fd;
    off_t size; // of the file, up to the end of the last whole line
    bool dirty; // there may be part of a line behind that
    bool failing;
    struct audit_link link;
    struct buf batch;
};

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

// Is what was written where it should be, or can be brought there? A system that could not sync
// once forgets about it, so the next sync says nothing about those lines; they are in the file, and
// only a power cut could take them.
static bool sync_again(struct audit *audit)
{
    pthread_mutex_lock(&audit->lock);
    bool is_unsafe = audit->is_unsafe;
    pthread_mutex_unlock(&audit->lock);
    if (!is_unsafe || fdatasync(audit->fd) != 0)
        return !is_unsafe;
    pthread_mutex_lock(&audit->lock);
    audit->is_unsafe = false;
    pthread_mutex_unlock(&audit->lock);
    return true;
}

static bool put_batch(struct audit *audit)
{
    return sync_again(audit) && audit_file_write(audit->fd, buf_bytes(&audit->batch)) &&
           (audit->sync != AUDIT_SYNC_ALWAYS || fdatasync(audit->fd) == 0);
}

// All of the batch or, as far as the file lets us, nothing of it.
static enum err write_batch(struct audit *audit, struct detail *detail)
{
    if (is_removed(audit))
        return err_set(detail, ERR_TEMP, "%s: it was removed (SIGHUP begins a new one)",
                       audit->path);
    if (audit->dirty && cut_partial(audit))
        audit->dirty = false;
    if (audit->dirty || !put_batch(audit)) {
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
        err = audit_line_put(&audit->batch, end->body, end->stamp ? end->stamp : stamp, &link);
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

// There are new lines. Lock held.
static void note_written(struct audit *audit)
{
    deadline_t now = clock_ms();
    if (audit->sync != AUDIT_SYNC_BATCH) {
        audit->synced = audit->link.seq;
        return;
    }
    if (audit->synced == audit->head.seq)
        audit->unsynced_since = now;
    if (audit->has_unsynced)
        return; // the syncer, once told, waits for its time: no need to wake it for every line
    audit->waiting_since = now;
    audit->has_unsynced = true;
    pthread_cond_signal(&audit->unsynced);
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
    if (audit->link.seq != audit->head.seq)
        note_written(audit);
    audit->head = audit->link;
    if (audit->head.seq >= audit->awaited)
        pthread_cond_signal(&audit->grown);
    for (struct waiter *next; list; list = next) {
        next = list->next; // once done, the waiter's memory is its thread's again
        list->done = true;
    }
    audit->has_writer = false;
    pthread_cond_broadcast(&audit->written);
}

// Until it is written, by this thread or another. Lock held.
static enum err wait_written(struct audit *audit, struct waiter *mine, struct detail *detail)
{
    while (!mine->done) {
        if (audit->has_writer)
            pthread_cond_wait(&audit->written, &audit->lock);
        else
            write_queue(audit);
    }
    return mine->err == ERR_OK ? ERR_OK
                               : err_set(detail, mine->err, "audit: %s", mine->detail.text);
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
    struct waiter mine = {.body = buf_bytes(&body), .stamp = record->stamp};
    pthread_mutex_lock(&audit->lock);
    *audit->last = &mine;
    audit->last = &mine.next;
    err = wait_written(audit, &mine, detail);
    if (err == ERR_OK && record->proposal > audit->rotation.proposal)
        audit->rotation.proposal = record->proposal;
    pthread_mutex_unlock(&audit->lock);
    buf_clear(&body);
    return err;
}

void audit_set_registry(struct audit *audit, struct bytes instance, uint64_t proposal)
{
    audit->rotation.instance = instance;
    audit->rotation.proposal = proposal;
}

struct audit_link audit_head(struct audit *audit)
{
    pthread_mutex_lock(&audit->lock);
    struct audit_link head = audit->head;
    pthread_mutex_unlock(&audit->lock);
    return head;
}

void audit_get_status(struct audit *audit, struct audit_status *status)
{
    pthread_mutex_lock(&audit->lock);
    *status = (struct audit_status){
        .head = audit->head, .sync = audit->sync, .unsynced = audit->head.seq - audit->synced};
    if (status->unsynced)
        status->unsynced_ms = clock_ms() - audit->unsynced_since;
    pthread_mutex_unlock(&audit->lock);
}

static struct timespec time_of(deadline_t deadline)
{
    return (struct timespec){.tv_sec = (time_t)(deadline / 1000),
                             .tv_nsec = (long)(deadline % 1000) * 1000000};
}

struct audit_link audit_wait(struct audit *audit, uint64_t seq, deadline_t until)
{
    const struct timespec at = time_of(until);
    pthread_mutex_lock(&audit->lock);
    audit->awaited = seq;
    while (!audit->is_woken && audit->head.seq < seq && !deadline_is_past(until))
        pthread_cond_timedwait(&audit->grown, &audit->lock, &at);
    audit->awaited = UINT64_MAX;
    audit->is_woken = false;
    struct audit_link head = audit->head;
    pthread_mutex_unlock(&audit->lock);
    return head;
}

void audit_wake(struct audit *audit)
{
    pthread_mutex_lock(&audit->lock);
    audit->is_woken = true;
    pthread_cond_signal(&audit->grown);
    pthread_mutex_unlock(&audit->lock);
}

static void sync_once(struct audit *audit)
{
    uint64_t seq = audit->head.seq;
    audit->has_unsynced = false;
    audit->is_syncing = true;
    pthread_mutex_unlock(&audit->lock);
    bool ok = fdatasync(audit->fd) == 0;
    int error = errno;
    pthread_mutex_lock(&audit->lock);
    audit->is_unsafe = audit->is_unsafe || !ok;
    pthread_mutex_unlock(&audit->lock); // first it is so, then it is said
    if (!ok)
        log_error("audit", "state", "cannot sync: no request is served until it works", "err",
                  strerror(error));
    pthread_mutex_lock(&audit->lock);
    audit->is_syncing = false;
    if (ok) {
        audit->synced = seq;
        audit->unsynced_since = audit->waiting_since;
    }
    pthread_cond_broadcast(&audit->written);
}

static void *sync_always(void *argument)
{
    struct audit *audit = argument;
    deadline_t next = 0;
    pthread_mutex_lock(&audit->lock);
    while (!audit->is_closing || audit->has_unsynced) {
        struct timespec at = time_of(next);
        if (!audit->has_unsynced) {
            pthread_cond_wait(&audit->unsynced, &audit->lock);
        } else if (!audit->is_closing && !deadline_is_past(next)) {
            pthread_cond_timedwait(&audit->unsynced, &audit->lock, &at);
        } else {
            next = deadline_in(AUDIT_SYNC_MS);
            sync_once(audit);
        }
    }
    pthread_mutex_unlock(&audit->lock);
    return NULL;
}

enum err audit_set_sync(struct audit *audit, enum audit_sync sync, struct detail *detail)
{
    audit->sync = sync;
    if (sync != AUDIT_SYNC_OFF)
        audit_file_sync_directory(audit->path);
    if (sync == AUDIT_SYNC_BATCH)
        audit->has_syncer = pthread_create(&audit->syncer, NULL, sync_always, audit) == 0;
    if (sync == AUDIT_SYNC_BATCH && !audit->has_syncer)
        return err_set(detail, ERR_TEMP, "cannot start a thread");
    return sync == AUDIT_SYNC_OFF || fdatasync(audit->fd) == 0
               ? ERR_OK
               : err_errno(detail, ERR_TEMP, "%s", audit->path);
}

static void stop_syncer(struct audit *audit)
{
    if (!audit->has_syncer)
        return;
    pthread_mutex_lock(&audit->lock);
    audit->is_closing = true;
    pthread_cond_signal(&audit->unsynced);
    pthread_mutex_unlock(&audit->lock);
    pthread_join(audit->syncer, NULL);
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
    if (!audit_file_write(audit->fd, BYTES_LITERAL("\n")))
        return err_errno(detail, ERR_TEMP, "%s", audit->path);
    audit->size++;
    return ERR_OK;
}

static void init_locks(struct audit *audit)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&audit->lock, NULL);
    pthread_cond_init(&audit->written, NULL);
    pthread_cond_init(&audit->grown, &monotonic);
    pthread_cond_init(&audit->unsynced, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

enum err audit_open(const char *path, struct audit **out, struct detail *detail)
{
    bool torn = false;
    struct audit *audit = mem_calloc(1, sizeof *audit);
    if (!audit)
        return err_set(detail, ERR_TEMP, "out of memory");
    *audit = (struct audit){.path = mem_strdup(path),
                            .last = &audit->first,
                            .awaited = UINT64_MAX,
                            .fd = -1,
                            .rotation = {.event = AUDIT_ROTATE}};
    init_locks(audit);
    buf_init(&audit->batch, BATCH_MAX);
    enum err err = audit->path ? audit_file_open(path, &audit->fd, &audit->size, detail)
                               : err_set(detail, ERR_TEMP, "out of memory");
    if (err == ERR_OK)
        err = find_end(audit, &torn, detail);
    audit->head = audit->link;
    audit->synced = audit->link.seq;
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
    stop_syncer(audit);
    if (audit->fd >= 0)
        close(audit->fd);
    pthread_cond_destroy(&audit->written);
    pthread_cond_destroy(&audit->grown);
    pthread_cond_destroy(&audit->unsynced);
    pthread_mutex_destroy(&audit->lock);
    buf_clear(&audit->batch);
    mem_free(audit->path);
    mem_free(audit);
}

// The file under the path is the one we have.
static bool is_same_file(const struct audit *audit)
{
    struct stat mine, named;
    return fstat(audit->fd, &mine) == 0 && stat(audit->path, &named) == 0 &&
           mine.st_dev == named.st_dev && mine.st_ino == named.st_ino;
}

// Lock held, no writer: from now on lines go into the new file, the first of them before all that
// wait.
static enum err go_on_in(struct audit *audit, int fd, off_t size, struct waiter *first,
                         struct detail *detail)
{
    audit->fd = fd;
    audit->size = size;
    audit->dirty = false;
    audit->is_unsafe = false;
    first->next = audit->first;
    if (!audit->first)
        audit->last = &first->next;
    audit->first = first;
    return wait_written(audit, first, detail);
}

enum err audit_reopen(struct audit *audit, struct detail *detail)
{
    int fd = -1;
    off_t size = 0;
    struct buf body;
    if (is_same_file(audit))
        return ERR_OK;
    enum err err = audit_file_open(audit->path, &fd, &size, detail);
    if (err == ERR_OK && size != 0) {
        close(fd);
        err =
            err_set(detail, ERR_PERM, "%s: a rotated log must go on in an empty file", audit->path);
    }
    if (err != ERR_OK)
        return err;
    buf_init(&body, AUDIT_LINE_MAX);
    pthread_mutex_lock(&audit->lock);
    err = audit_line_body(&audit->rotation, &body);
    pthread_mutex_unlock(&audit->lock);
    if (err != ERR_OK) {
        close(fd);
        buf_clear(&body);
        return err_set(detail, ERR_TEMP, "audit: cannot make a line");
    }
    struct waiter first = {.body = buf_bytes(&body)};
    pthread_mutex_lock(&audit->lock);
    while (audit->has_writer || audit->is_syncing)
        pthread_cond_wait(&audit->written, &audit->lock);
    int old = audit->fd;
    err = go_on_in(audit, fd, size, &first, detail); // at once: an empty file is no chain
    pthread_mutex_unlock(&audit->lock);
    if (audit->sync != AUDIT_SYNC_OFF && fdatasync(old) != 0)
        log_error("audit", "state", "the rotated file cannot be synced", "err", strerror(errno));
    close(old);
    if (audit->sync != AUDIT_SYNC_OFF)
        audit_file_sync_directory(audit->path);
    buf_clear(&body);
    audit_wake(audit);
    return err;
}
