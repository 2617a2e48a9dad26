// SPDX-License-Identifier: Apache-2.0
#include "hsmd/audit/audit_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/file.h"
#include "hsmd/base/log.h"

#define CHUNK ((size_t)256 * 1024) // many lines

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

static bool see_lines(struct bytes text, audit_file_see see, void *context)
{
    bool is_wanted = true;
    while (text.len && is_wanted) {
        const uint8_t *end = memrchr(text.data, '\n', text.len);
        size_t start = end ? (size_t)(end - text.data) + 1 : 0;
        is_wanted = see(context, bytes_of(text.data + start, text.len - start));
        text.len = end ? start - 1 : 0;
    }
    return is_wanted;
}

static enum err read_back(int fd, const char *path, uint8_t *chunk, audit_file_see see,
                          void *context, struct detail *detail)
{
    struct stat st;
    bool is_wanted = true;
    if (fstat(fd, &st) != 0)
        return err_errno(detail, ERR_TEMP, "%s", path);
    for (off_t end = st.st_size; end > 0 && is_wanted;) {
        size_t len = (uint64_t)end < CHUNK ? (size_t)end : CHUNK;
        off_t start = end - (off_t)len;
        ssize_t n = pread(fd, chunk, len, start);
        if (n < 0 || (size_t)n != len)
            return err_errno(detail, ERR_TEMP, "%s", path);
        // A line that begins before the chunk is left to the next one.
        const uint8_t *first = start ? memchr(chunk, '\n', len) : NULL;
        size_t skip = first ? (size_t)(first - chunk) + 1 : 0;
        is_wanted = see_lines(bytes_of(chunk + skip, len - skip), see, context);
        end = skip && skip < len ? start + (off_t)skip : start;
    }
    return ERR_OK;
}

enum err audit_file_read_back(int fd, const char *path, audit_file_see see, void *context,
                              struct detail *detail)
{
    uint8_t *chunk = mem_calloc(1, CHUNK);
    enum err err = chunk ? read_back(fd, path, chunk, see, context, detail)
                         : err_set(detail, ERR_TEMP, "out of memory");
    mem_free(chunk);
    return err;
}

void audit_file_sync_directory(const char *path)
{
    if (!file_sync_directory(path))
        log_warning("audit", "file", path, "err", "its directory cannot be synced");
}
