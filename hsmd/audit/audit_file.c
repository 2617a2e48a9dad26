// SPDX-License-Identifier: Apache-2.0
#include "hsmd/audit/audit_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hsmd/base/file.h"
#include "hsmd/base/log.h"

bool audit_file_write(int fd, struct bytes data)
{
    while (data.len) {
        ssize_t n = write(fd, data.data, data.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        data = bytes_of(data.data + n, data.len - (size_t)n);
    }
    return true;
}

enum err audit_file_open(const char *path, int *fd, off_t *size, struct detail *detail)
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

void audit_file_sync_directory(const char *path)
{
    if (!file_sync_directory(path))
        log_warning("audit", "file", path, "err", "its directory cannot be synced");
}
