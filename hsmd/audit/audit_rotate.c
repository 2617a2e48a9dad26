// SPDX-License-Identifier: Apache-2.0
// The log was moved away: it goes on in a new file. An empty file of the log's name would be the
// begin of a chain of its own for the next start, and a file with no room for its first line would
// be no log; so the first line is written and synced beside it, and the file then takes the name.
// Only one that is there already, empty, as logrotate makes it with an owner and a mode of its own,
// is written itself, and emptied again if that fails.
#include "hsmd/audit/audit_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hsmd/audit/audit_file.h"
#include "hsmd/audit/audit_line.h"
#include "hsmd/audit/audit_resume.h"
#include "hsmd/base/log.h"

struct next_file {
    char temporary[PATH_MAX]; // its name for now; "": it has the log's
    int fd;
    struct audit_link link; // with its first line
};

// The file under the path is the one we have.
static bool is_same_file(const struct audit *audit)
{
    struct stat mine;
    struct stat named;
    return fstat(audit->fd, &mine) == 0 && stat(audit->path, &named) == 0 &&
           mine.st_dev == named.st_dev && mine.st_ino == named.st_ino;
}

static enum err open_next(const struct audit *audit, struct next_file *next, struct detail *detail)
{
    struct stat st;
    off_t size = 0;
    const char *path = audit->path;
    if (lstat(path, &st) != 0) {
        if ((size_t)snprintf(next->temporary, sizeof next->temporary, "%s.new", path) >=
            sizeof next->temporary)
            return err_set(detail, ERR_PERM, "%s: its path is too long", path);
        path = next->temporary;
        unlink(path); // of an hsmd that was killed
    }
    enum err err = audit_file_open(path, &next->fd, &size, detail);
    if (err == ERR_OK && size != 0) {
        close(next->fd);
        err = err_set(detail, ERR_PERM, "%s: a rotated log must go on in an empty file", path);
    }
    return err;
}

// What is left could not be taken for a log.
static void drop_next(const struct audit *audit, const struct next_file *next)
{
    if (next->temporary[0])
        unlink(next->temporary);
    else if (ftruncate(next->fd, 0) != 0)
        log_error("audit", "file", audit->path, "err", "it cannot be emptied: remove it");
    close(next->fd);
}

// A file that was put there since open_next looked is not replaced: it may be the log, put back.
static enum err take_name(const struct audit *audit, const struct next_file *next,
                          struct detail *detail)
{
    const char *from = next->temporary;
    if (renameat2(AT_FDCWD, from, AT_FDCWD, audit->path, RENAME_NOREPLACE) == 0)
        return ERR_OK;
    if (errno == EINVAL && link(from, audit->path) == 0) { // NFS has no such renaming
        unlink(from);
        return ERR_OK;
    }
    return errno == EEXIST ? err_set(detail, ERR_TEMP,
                                     "%s: somebody has just put a file there: see what it is, and "
                                     "send SIGHUP again",
                                     audit->path)
                           : err_errno(detail, ERR_TEMP, "%s", audit->path);
}

// The first line, and what it takes to be there after a power cut.
static enum err fill_next(struct audit *audit, struct next_file *next, struct bytes body,
                          struct detail *detail)
{
    char stamp[CLOCK_STAMP_SIZE];
    clock_stamp(stamp);
    next->link = audit->link;
    buf_reset(&audit->batch);
    if (audit_line_put(&audit->batch, body, stamp, &next->link) != ERR_OK)
        return err_set(detail, ERR_TEMP, "%s: cannot make a line", audit->path);
    bool is_synced = audit->sync != AUDIT_SYNC_OFF;
    if (!audit_file_write(next->fd, buf_bytes(&audit->batch)) ||
        (is_synced && fdatasync(next->fd) != 0))
        return err_errno(detail, ERR_TEMP, "%s", audit->path);
    enum err err = next->temporary[0] ? take_name(audit, next, detail) : ERR_OK;
    if (err == ERR_OK && is_synced)
        audit_file_sync_directory(audit->path);
    return err;
}

// The old file ends with a whole line, which the new one goes on after, and is brought to the disk
// first; a disk that cannot do that is no reason to stay on it.
static enum err end_old(struct audit *audit, struct detail *detail)
{
    if (audit->dirty && !audit_cut_partial(audit))
        return err_errno(detail, ERR_TEMP, "%s: the old file", audit->path);
    audit->dirty = false;
    if (audit->sync != AUDIT_SYNC_OFF && fdatasync(audit->fd) != 0)
        log_error("audit", "state", "the rotated file cannot be synced", "err", strerror(errno));
    return ERR_OK;
}

// Lock held, and this is the writer: from now on lines go into the new file.
static void go_on_in(struct audit *audit, const struct next_file *next)
{
    while (audit->is_syncing)
        pthread_cond_wait(&audit->written, &audit->lock);
    close(audit->fd);
    audit->fd = next->fd;
    audit->size = (off_t)audit->batch.len;
    if (audit->is_unsafe)
        log_notice("audit", "state", "synced again", "file", audit->path);
    audit->is_unsafe = false;
    audit->link = audit->head = next->link;
    audit->synced = audit->link.seq;
}

// As the writer.
static enum err rotate(struct audit *audit, struct bytes body, struct next_file *next,
                       struct detail *detail)
{
    enum err err = end_old(audit, detail);
    if (err == ERR_OK)
        err = open_next(audit, next, detail);
    if (err != ERR_OK)
        return err;
    err = fill_next(audit, next, body, detail);
    if (err != ERR_OK)
        drop_next(audit, next);
    else
        audit_tell_change(audit, ERR_OK, NULL);
    return err;
}

enum err audit_reopen(struct audit *audit, struct detail *detail)
{
    struct buf body;
    struct next_file next = {.fd = -1};
    if (is_same_file(audit))
        return ERR_OK;
    buf_init(&body, AUDIT_LINE_MAX);
    pthread_mutex_lock(&audit->lock);
    while (audit->has_writer)
        pthread_cond_wait(&audit->written, &audit->lock);
    enum err err = audit_line_body(&audit->rotation, &body);
    if (err != ERR_OK)
        err = err_set(detail, ERR_TEMP, "audit: cannot make a line");
    audit->has_writer = true;
    pthread_mutex_unlock(&audit->lock);
    if (err == ERR_OK)
        err = rotate(audit, buf_bytes(&body), &next, detail);
    pthread_mutex_lock(&audit->lock);
    if (err == ERR_OK)
        go_on_in(audit, &next);
    audit->has_writer = false;
    pthread_cond_broadcast(&audit->written);
    pthread_mutex_unlock(&audit->lock);
    buf_clear(&body);
    if (err == ERR_OK)
        audit_note_head(audit);
    audit_wake(audit);
    return err;
}
