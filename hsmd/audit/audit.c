// SPDX-License-Identifier: Apache-2.0
// Group commit: a thread brings its line's body, puts it in the queue and, if nobody is writing,
// becomes the writer of all that is queued; else it waits for the writer to have written its line.
// Numbers and hashes are given by the writer, so they follow the order in the file, and a batch
// that failed leaves the chain where it was. With AUDIT_SYNC_BATCH a thread of the log's own syncs
// what was written, so that no request waits for the disk; with AUDIT_SYNC_ALWAYS the writer does.
#include "hsmd/audit/audit_internal.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "hsmd/audit/audit_file.h"
#include "hsmd/audit/audit_line.h"
#include "hsmd/audit/audit_resume.h"
#include "hsmd/base/alloc.h"
#include "hsmd/base/clock.h"
#include "hsmd/base/log.h"

#define BATCH_MAX ((size_t)64 * AUDIT_LINE_MAX)

// Lines in a file that nobody can open any more are no log. A file that was renamed is.
static bool is_removed(const struct audit *audit)
{
    struct stat st;
    return fstat(audit->fd, &st) == 0 && st.st_nlink == 0;
}

bool audit_cut_partial(struct audit *audit)
{
    struct stat st;
    if (fstat(audit->fd, &st) != 0)
        return false;
    return st.st_size <= audit->size || ftruncate(audit->fd, audit->size) == 0;
}

static bool put_batch(struct audit *audit)
{
    return audit_sync_again(audit) && audit_file_write(audit->fd, buf_bytes(&audit->batch)) &&
           (audit->sync != AUDIT_SYNC_ALWAYS || fdatasync(audit->fd) == 0);
}

// All of the batch or, as far as the file lets us, nothing of it.
static enum err write_batch(struct audit *audit, struct detail *detail)
{
    if (is_removed(audit))
        return err_set(detail, ERR_TEMP, "%s: it was removed (SIGHUP begins a new one)",
                       audit->path);
    if (audit->dirty && audit_cut_partial(audit))
        audit->dirty = false;
    if (audit->dirty || !put_batch(audit)) {
        (void)err_errno(detail, ERR_TEMP, "%s", audit->path);
        audit->dirty = !audit_cut_partial(audit);
        return ERR_TEMP;
    }
    audit->size += (off_t)audit->batch.len;
    return ERR_OK;
}

void audit_tell_change(struct audit *audit, enum err err, const struct detail *detail)
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
    audit_tell_change(audit, err, &detail);
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
    if (audit->link.seq != audit->head.seq)
        audit_note_written(audit);
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
    if (err == ERR_OK && record->budgets)
        audit->rotation.budgets = record->budgets;
    if (err == ERR_OK && record->registry.len == sizeof audit->registry) {
        memcpy(audit->registry, record->registry.data, sizeof audit->registry);
        audit->rotation.registry = bytes_of(audit->registry, sizeof audit->registry);
    }
    pthread_mutex_unlock(&audit->lock);
    buf_clear(&body);
    return err;
}

void audit_set_registry(struct audit *audit, struct bytes instance, uint64_t proposal)
{
    pthread_mutex_lock(&audit->lock); // a token's thread may be writing
    audit->rotation.instance = instance;
    audit->rotation.proposal = proposal;
    pthread_mutex_unlock(&audit->lock);
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

struct audit_link audit_wait(struct audit *audit, uint64_t seq, deadline_t until)
{
    const struct timespec at = deadline_timespec(until);
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
    audit_stop_syncer(audit);
    audit_note_head(audit);
    if (audit->fd >= 0)
        close(audit->fd);
    pthread_cond_destroy(&audit->written);
    pthread_cond_destroy(&audit->grown);
    pthread_cond_destroy(&audit->unsynced);
    pthread_mutex_destroy(&audit->lock);
    buf_clear(&audit->batch);
    mem_free(audit->path);
    mem_free(audit->head_path);
    mem_free(audit);
}
