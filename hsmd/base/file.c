// SPDX-License-Identifier: Apache-2.0
#include "hsmd/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <limits.h>

static enum err open_regular(const char *path, int *fd, struct stat *st, struct detail *detail)
{
    int opened = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (opened < 0)
        return err_errno(detail, ERR_PERM, "%s", path);
    if (fstat(opened, st) != 0 || !S_ISREG(st->st_mode)) {
        close(opened);
        return err_set(detail, ERR_PERM, "%s: not a regular file", path);
    }
    *fd = opened;
    return ERR_OK;
}

// Reads up to room bytes; -1: failed, errno says why.
static ssize_t read_all(int fd, uint8_t *out, size_t room)
{
    size_t have = 0;
    while (have < room) {
        ssize_t n = read(fd, out + have, room - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        have += (size_t)n;
    }
    return (ssize_t)have;
}

enum err file_read(const char *path, struct buf *out, struct detail *detail)
{
    int fd = -1;
    struct stat st = {0};
    uint8_t chunk[4096];
    enum err err = open_regular(path, &fd, &st, detail);
    if (err != ERR_OK)
        return err;
    for (;;) {
        ssize_t n = read_all(fd, chunk, sizeof chunk);
        if (n < 0) {
            err = err_errno(detail, ERR_PERM, "%s", path);
            break;
        }
        err = buf_put(out, chunk, (size_t)n);
        if (err == ERR_PERM)
            (void)err_set(detail, err, "%s: larger than %zu bytes", path, out->max);
        else if (err != ERR_OK)
            (void)err_set(detail, err, "%s: out of memory", path);
        if (err != ERR_OK || n < (ssize_t)sizeof chunk)
            break;
    }
    close(fd);
    return err;
}

// Did systemd put it there for us?
static bool is_credential(const char *path)
{
    const char *directory = getenv("CREDENTIALS_DIRECTORY");
    size_t len = directory ? strlen(directory) : 0;
    return len > 0 && strncmp(path, directory, len) == 0 && path[len] == '/' &&
           !strstr(path + len, "/../");
}

enum err file_read_secret(const char *path, struct secret *out, struct detail *detail)
{
    int fd = -1;
    struct stat st = {0};
    enum err err = open_regular(path, &fd, &st, detail);
    if (err != ERR_OK)
        return err;
    const mode_t wrong = is_credential(path) ? S_IRWXO | S_IWGRP | S_IXGRP : S_IRWXO | S_IRWXG;
    if ((st.st_mode & wrong) != 0 || (st.st_uid != geteuid() && st.st_uid != 0)) {
        err =
            err_set(detail, ERR_PERM, "%s: mode %04o, owner %u: others may read it (chmod 0400 %s)",
                    path, st.st_mode & 07777u, st.st_uid, path);
        goto out;
    }
    secret_wipe(out);
    ssize_t n = read_all(fd, out->data, out->room);
    if (n < 0) {
        err = err_errno(detail, ERR_PERM, "%s", path);
        goto out;
    }
    if ((size_t)n == out->room) {
        secret_wipe(out);
        err = err_set(detail, ERR_PERM, "%s: longer than %zu bytes", path, out->room - 1);
        goto out;
    }
    if (n > 0 && out->data[n - 1] == '\n')
        n--;
    if (n > 0 && out->data[n - 1] == '\r')
        n--;
    out->len = (size_t)n;
    if (n == 0)
        err = err_set(detail, ERR_PERM, "%s: empty", path);
out:
    close(fd);
    return err;
}

static int write_all(int fd, struct bytes data)
{
    while (data.len) {
        ssize_t n = write(fd, data.data, data.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        data = bytes_of(data.data + n, data.len - (size_t)n);
    }
    return 0;
}

bool file_sync_directory(const char *path)
{
    char directory[PATH_MAX];
    const char *slash = strrchr(path, '/');
    snprintf(directory, sizeof directory, "%.*s", slash ? (int)(slash - path) + 1 : 1,
             slash ? path : ".");
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool is_synced = fd >= 0 && fsync(fd) == 0;
    int error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
    return is_synced;
}

enum err file_write(const char *path, struct bytes data, unsigned mode, struct detail *detail)
{
    char temporary[PATH_MAX];
    int fd = -1;
    if ((size_t)snprintf(temporary, sizeof temporary, "%s.XXXXXX", path) >= sizeof temporary)
        return err_set(detail, ERR_PERM, "%s: path too long", path);
    fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        return err_errno(detail, ERR_PERM, "%s", temporary);
    if (fchmod(fd, (mode_t)mode) != 0 || write_all(fd, data) != 0 || fsync(fd) != 0 ||
        rename(temporary, path) != 0) {
        enum err err = err_errno(detail, ERR_PERM, "%s", path);
        unlink(temporary);
        close(fd);
        return err;
    }
    close(fd);
    return file_sync_directory(path) ? ERR_OK : err_errno(detail, ERR_TEMP, "%s", path);
}
