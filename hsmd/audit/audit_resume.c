// SPDX-License-Identifier: Apache-2.0
#include "hsmd/audit/audit_resume.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hsmd/audit/audit_file.h"
#include "hsmd/audit/audit_internal.h"
#include "hsmd/audit/audit_line.h"
#include "hsmd/base/alloc.h"
#include "hsmd/base/file.h"
#include "hsmd/base/hash.h"
#include "hsmd/base/log.h"
#include "hsmd/base/text.h"

#define HEAD_MAX 96 // bytes of the head's file

static enum err read_head(const char *path, struct audit_link *head, struct detail *detail)
{
    struct buf text;
    char *end = NULL;
    *head = (struct audit_link){0};
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return ERR_OK;
    buf_init(&text, HEAD_MAX);
    enum err err = file_read(path, &text, detail);
    if (err == ERR_OK) {
        uint64_t seq = strtoull(buf_text(&text), &end, 10);
        char *line_end = strchr(end, '\n');
        if (line_end)
            *line_end = 0;
        if (seq && *end == ' ' && text_get_hex_exact(end + 1, head->hash, sizeof head->hash))
            head->seq = seq;
        else
            err = err_set(detail, ERR_PERM, "%s: damaged: remove it if the audit log is in place",
                          path);
    }
    buf_clear(&text);
    return err;
}

void audit_note_head(struct audit *audit)
{
    struct buf text;
    struct detail detail = {0};
    struct audit_link head = audit_head(audit);
    if (!audit->head_path || !head.seq)
        return;
    if (fdatasync(audit->fd) != 0) {
        log_warning("audit", "state", "cannot sync: not noted how far it has come", "err",
                    strerror(errno));
        return;
    }
    buf_init(&text, HEAD_MAX);
    enum err err = buf_printf(&text, "%" PRIu64 " ", head.seq);
    if (err == ERR_OK)
        err = text_put_hex(&text, bytes_of(head.hash, sizeof head.hash));
    if (err == ERR_OK)
        err = buf_put_text(&text, "\n");
    if (err == ERR_OK)
        err = file_write(audit->head_path, buf_bytes(&text), 0600, &detail);
    if (err != ERR_OK)
        log_warning("audit", "state", "cannot note how far it has come", "err", detail.text);
    buf_clear(&text);
}

struct seeking {
    const struct audit_link *head;
    bool is_other; // it has another line of that number, or none, and one before it
};

static bool see_line(void *context, struct bytes line)
{
    struct seeking *seeking = context;
    const struct audit_link *head = seeking->head;
    uint64_t seq = 0;
    uint8_t hash[AUDIT_HASH_SIZE];
    if (!audit_line_seq(line, &seq) || seq > head->seq)
        return true;
    seeking->is_other = seq != head->seq || hash_digest(HASH_SHA256, line, hash) != ERR_OK ||
                        memcmp(hash, head->hash, sizeof hash) != 0;
    return false;
}

// Is the file's end the head, or what came of it? One that begins after the head may be.
static bool is_beyond(int fd, const char *name, const struct audit_link *end,
                      const struct audit_link *head)
{
    struct detail ignored = {0};
    struct seeking seeking = {.head = head};
    return end->seq >= head->seq &&
           audit_file_read_back(fd, name, see_line, &seeking, &ignored) == ERR_OK &&
           !seeking.is_other;
}

// Where the file's chain ends; with the line that a torn one will get. False: it is none of ours,
// or does not have the head.
static bool read_end(int directory, const char *name, const struct audit_link *head,
                     struct audit_link *end)
{
    struct stat st;
    uint8_t tail[4 * AUDIT_LINE_MAX];
    bool torn = false;
    int fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return false;
    bool is_ours = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0;
    if (is_ours) {
        off_t from = st.st_size > (off_t)sizeof tail ? st.st_size - (off_t)sizeof tail : 0;
        ssize_t n = pread(fd, tail, sizeof tail, from);
        is_ours = n > 0 && audit_line_find_end(bytes_of(tail, (size_t)n), end, &torn) == ERR_OK;
        end->seq += torn;
        is_ours = is_ours && is_beyond(fd, name, end, head);
    }
    close(fd);
    return is_ours;
}

// audit.log-20261122, audit.log.1; not what a rotation that was killed has left.
static bool is_of_log(const char *name, const char *base)
{
    size_t len = strlen(base);
    return strncmp(name, base, len) == 0 && name[len] && strcmp(name + len, ".new") != 0;
}

// Of those in the log's directory the one that has come furthest. False: there is none.
static bool find_moved(const char *path, const struct audit_link *head, char *from)
{
    char directory[PATH_MAX];
    struct audit_link best = {0};
    const char *slash = strrchr(path, '/');
    snprintf(directory, sizeof directory, "%.*s", slash ? (int)(slash - path) + 1 : 2,
             slash ? path : "./");
    DIR *dir = opendir(directory);
    if (!dir)
        return false;
    for (struct dirent *entry; (entry = readdir(dir));) {
        struct audit_link end = {0};
        if (is_of_log(entry->d_name, slash ? slash + 1 : path) &&
            read_end(dirfd(dir), entry->d_name, head, &end) && end.seq > best.seq &&
            snprintf(from, PATH_MAX, "%s%s", directory, entry->d_name) < PATH_MAX)
            best = end;
    }
    closedir(dir);
    return best.seq > 0;
}

static enum err find_last(const char *path, const struct audit_link *head, const char *head_path,
                          char *from, struct detail *detail)
{
    struct stat st;
    bool is_begun = lstat(path, &st) == 0 && (!S_ISREG(st.st_mode) || st.st_size > 0);
    if (snprintf(from, PATH_MAX, "%s", path) >= PATH_MAX)
        return err_set(detail, ERR_PERM, "%s: its path is too long", path);
    if (is_begun || !head->seq)
        return ERR_OK;
    if (!find_moved(path, head, from))
        return err_set(detail, ERR_PERM,
                       "%s: it is not there, or empty, and has had a line %" PRIu64
                       "; no file beside it named like it is the one it was moved to. Put that "
                       "back; if it is lost, remove %s, and a new chain begins at 1",
                       path, head->seq, head_path);
    return ERR_OK;
}

enum err audit_find_last(const char *path, const char *head_path, char *from, struct detail *detail)
{
    struct audit_link head;
    enum err err = read_head(head_path, &head, detail);
    return err == ERR_OK ? find_last(path, &head, head_path, from, detail) : err;
}

enum err audit_open_last(const char *path, const char *head_path, char *from, struct audit **out,
                         struct detail *detail)
{
    struct audit_link head;
    struct audit *audit = NULL;
    enum err err = read_head(head_path, &head, detail);
    if (err == ERR_OK)
        err = find_last(path, &head, head_path, from, detail);
    if (err == ERR_OK && strcmp(from, path) != 0)
        log_warning("audit", "state", "it was moved away, and nobody said so: going on after it",
                    "file", from);
    if (err == ERR_OK)
        err = audit_open(from, &audit, detail);
    if (err != ERR_OK)
        return err;
    mem_free(audit->path);
    audit->path = mem_strdup(path);
    audit->head_path = mem_strdup(head_path);
    if (!audit->path || !audit->head_path) {
        audit_close(audit);
        return err_set(detail, ERR_TEMP, "out of memory");
    }
    if (!is_beyond(audit->fd, from, &audit->head, &head))
        log_warning("audit", "file", from, "err",
                    "it was cut, or is another one: it does not have a line that it had");
    *out = audit;
    return ERR_OK;
}
