// SPDX-License-Identifier: Apache-2.0
// The insides of the audit log, for audit.c, audit_resume.c, audit_sync.c and audit_rotate.c.
#pragma once

#include <pthread.h>
#include <sys/types.h>

#include "hsmd/audit/audit.h"

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
    char *head_path; // see audit_resume.h; NULL: none
    pthread_mutex_t lock;
    pthread_cond_t written;
    struct waiter *first, **last; // queued, not yet taken by a writer
    bool has_writer, is_woken;
    struct audit_link head;            // link, as of the last batch that was written
    pthread_cond_t grown;              // for the one in audit_wait
    uint64_t awaited;                  // the number it waits for; is_woken: no more
    struct audit_record rotation;      // the first line of a rotated file
    uint8_t registry[AUDIT_HASH_SIZE]; // what rotation.registry is of
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

// audit.c

// Cuts off what is behind the last whole line.
bool audit_cut_partial(struct audit *audit);
// Logs the first failure in a row, and the end of the row. The writer's.
void audit_tell_change(struct audit *audit, enum err err, const struct detail *detail);

// audit_sync.c

// Is what was written where it should be, or can be brought there? The writer's.
bool audit_sync_again(struct audit *audit);
// There are new lines. Lock held.
void audit_note_written(struct audit *audit);
void audit_stop_syncer(struct audit *audit);
