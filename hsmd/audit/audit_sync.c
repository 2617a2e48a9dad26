// SPDX-License-Identifier: Apache-2.0
#include "hsmd/audit/audit_internal.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "hsmd/audit/audit_file.h"
#include "hsmd/base/clock.h"
#include "hsmd/base/log.h"
#include "hsmd/base/thread.h"

// A system that could not sync once forgets about it, so the next sync says nothing about those
// lines; they are in the file, and only a power cut could take them.
bool audit_sync_again(struct audit *audit)
{
    pthread_mutex_lock(&audit->lock);
    bool is_unsafe = audit->is_unsafe;
    pthread_mutex_unlock(&audit->lock);
    if (!is_unsafe)
        return true;
    if (fdatasync(audit->fd) != 0)
        return false;
    pthread_mutex_lock(&audit->lock);
    audit->is_unsafe = false;
    pthread_mutex_unlock(&audit->lock);
    log_notice("audit", "state", "synced again", "file", audit->path);
    return true;
}

void audit_note_written(struct audit *audit)
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
        struct timespec at = deadline_timespec(next);
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
        audit->has_syncer = thread_start(&audit->syncer, sync_always, audit);
    if (sync == AUDIT_SYNC_BATCH && !audit->has_syncer)
        return err_set(detail, ERR_TEMP, "cannot start a thread");
    return sync == AUDIT_SYNC_OFF || fdatasync(audit->fd) == 0
               ? ERR_OK
               : err_errno(detail, ERR_TEMP, "%s", audit->path);
}

void audit_stop_syncer(struct audit *audit)
{
    if (!audit->has_syncer)
        return;
    pthread_mutex_lock(&audit->lock);
    audit->is_closing = true;
    pthread_cond_signal(&audit->unsynced);
    pthread_mutex_unlock(&audit->lock);
    pthread_join(audit->syncer, NULL);
}
