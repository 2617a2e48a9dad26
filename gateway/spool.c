// SPDX-License-Identifier: Apache-2.0
// Two lives: first all content is in memory; once it outgrows memory_max it moves to an unlinked
// file, and the memory becomes a small write buffer in front of that file.
#include "gateway/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hsmd/base/alloc.h"

#define WRITE_BUFFER 65536

struct spool {
    const struct spool_conf *conf;
    uint8_t *memory; // the content, or what is not yet written to the file
    size_t used;
    size_t room;
    size_t len;   // of all
    int fd;       // -1: all in memory
    bool is_torn; // a write failed half-way: the file is not what was put
    void *map;
    size_t map_len;
};

struct spool *spool_new(const struct spool_conf *conf)
{
    struct spool *spool = mem_calloc(1, sizeof *spool);
    if (spool) {
        spool->conf = conf;
        spool->fd = -1;
    }
    return spool;
}

static void unmap(struct spool *spool)
{
    if (spool->map)
        munmap(spool->map, spool->map_len);
    spool->map = NULL;
    spool->map_len = 0;
}

static void drop_memory(struct spool *spool)
{
    if (spool->memory)
        explicit_bzero(spool->memory, spool->used);
    mem_free(spool->memory);
    spool->memory = NULL;
    spool->used = spool->room = 0;
}

void spool_free(struct spool *spool)
{
    if (!spool)
        return;
    unmap(spool);
    drop_memory(spool);
    if (spool->fd >= 0)
        close(spool->fd);
    mem_free(spool);
}

size_t spool_len(const struct spool *spool)
{
    return spool->len;
}

const struct spool_conf *spool_conf(const struct spool *spool)
{
    return spool->conf;
}

static enum err open_unlinked(const char *directory, int *fd, struct detail *detail)
{
    if (!directory)
        return err_set(detail, ERR_BUG, "spool: no directory for a file");
    *fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (*fd >= 0)
        return ERR_OK;
    if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)
        return err_errno(detail, ERR_TEMP, "spool: %s", directory);
    // A file system without O_TMPFILE.
    size_t size = strlen(directory) + sizeof "/spool.XXXXXX";
    char *path = mem_calloc(size, 1);
    if (!path)
        return err_set(detail, ERR_TEMP, "spool: out of memory");
    snprintf(path, size, "%s/spool.XXXXXX", directory);
    *fd = mkostemp(path, O_CLOEXEC);
    enum err err = *fd >= 0 ? ERR_OK : err_errno(detail, ERR_TEMP, "spool: %s", path);
    if (*fd >= 0)
        unlink(path);
    mem_free(path);
    return err;
}

static enum err write_all(struct spool *spool, int fd, struct bytes bytes, struct detail *detail)
{
    while (bytes.len) {
        ssize_t n = write(fd, bytes.data, bytes.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            spool->is_torn = true;
            return err_errno(detail, ERR_TEMP, "spool: write");
        }
        bytes.data += n;
        bytes.len -= (size_t)n;
    }
    return ERR_OK;
}

static enum err flush(struct spool *spool, struct detail *detail)
{
    enum err err = write_all(spool, spool->fd, bytes_of(spool->memory, spool->used), detail);
    if (err != ERR_OK)
        return err;
    if (spool->used)
        explicit_bzero(spool->memory, spool->used);
    spool->used = 0;
    return ERR_OK;
}

// By hand and not by realloc, which may leave plaintext behind.
static enum err make_room(struct spool *spool, size_t room, struct detail *detail)
{
    uint8_t *memory = mem_calloc(room, 1);
    if (!memory)
        return err_set(detail, ERR_TEMP, "spool: out of memory");
    size_t used = spool->used;
    if (used)
        memcpy(memory, spool->memory, used);
    drop_memory(spool);
    spool->memory = memory;
    spool->used = used;
    spool->room = room;
    return ERR_OK;
}

static enum err put_in_memory(struct spool *spool, struct bytes bytes, struct detail *detail)
{
    size_t need = spool->used + bytes.len;
    if (need > spool->room) {
        size_t room = spool->room ? spool->room : 1024;
        while (room < need)
            room *= 2;
        enum err err = make_room(spool, room, detail);
        if (err != ERR_OK)
            return err;
    }
    memcpy(spool->memory + spool->used, bytes.data, bytes.len);
    spool->used = need;
    spool->len += bytes.len;
    return ERR_OK;
}

static enum err move_to_file(struct spool *spool, struct detail *detail)
{
    int fd = -1;
    enum err err = open_unlinked(spool->conf->directory, &fd, detail);
    if (err != ERR_OK)
        return err;
    err = write_all(spool, fd, bytes_of(spool->memory, spool->used), detail);
    if (err != ERR_OK) {
        close(fd);
        return err;
    }
    spool->fd = fd;
    drop_memory(spool);
    return ERR_OK;
}

static enum err put_in_file(struct spool *spool, struct bytes bytes, struct detail *detail)
{
    enum err err = ERR_OK;
    if (bytes.len >= WRITE_BUFFER) {
        err = flush(spool, detail);
        if (err == ERR_OK)
            err = write_all(spool, spool->fd, bytes, detail);
        if (err == ERR_OK)
            spool->len += bytes.len;
        return err;
    }
    if (spool->room < WRITE_BUFFER)
        err = make_room(spool, WRITE_BUFFER, detail);
    if (err == ERR_OK && spool->used + bytes.len > spool->room)
        err = flush(spool, detail);
    if (err != ERR_OK)
        return err;
    memcpy(spool->memory + spool->used, bytes.data, bytes.len);
    spool->used += bytes.len;
    spool->len += bytes.len;
    return ERR_OK;
}

enum err spool_put(struct spool *spool, struct bytes bytes, struct detail *detail)
{
    if (bytes.len == 0)
        return ERR_OK;
    if (bytes.len > spool->conf->max - spool->len)
        return err_set(detail, ERR_PERM, "larger than %zu bytes", spool->conf->max);
    if (spool->is_torn)
        return err_set(detail, ERR_TEMP, "spool: an earlier write failed");
    unmap(spool);
    if (spool->fd < 0 && spool->len + bytes.len > spool->conf->memory_max) {
        enum err err = move_to_file(spool, detail);
        if (err != ERR_OK)
            return err;
    }
    return spool->fd < 0 ? put_in_memory(spool, bytes, detail) : put_in_file(spool, bytes, detail);
}

enum err spool_view(struct spool *spool, struct bytes *view, struct detail *detail)
{
    if (spool->is_torn)
        return err_set(detail, ERR_TEMP, "spool: an earlier write failed");
    if (spool->fd < 0 || spool->len == 0) {
        *view = spool->len ? bytes_of(spool->memory, spool->len) : BYTES_LITERAL("");
        return ERR_OK;
    }
    if (!spool->map) {
        enum err err = flush(spool, detail);
        if (err != ERR_OK)
            return err;
        void *map = mmap(NULL, spool->len, PROT_READ, MAP_SHARED, spool->fd, 0);
        if (map == MAP_FAILED)
            return err_errno(detail, ERR_TEMP, "spool: map");
        spool->map = map;
        spool->map_len = spool->len;
    }
    *view = bytes_of(spool->map, spool->len);
    return ERR_OK;
}
