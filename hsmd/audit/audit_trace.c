// SPDX-License-Identifier: Apache-2.0
#include "hsmd/audit/audit_trace.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hsmd/audit/audit_parse.h"
#include "hsmd/base/alloc.h"

#define CHUNK ((size_t)256 * 1024) // many lines
#define HEAD 96                    // seq, time and event are in so many bytes of a line

// Most lines are uses of keys, which say nothing of the registry.
static bool is_use(struct bytes line)
{
    static const char use[] = "\"event\":\"use\"";
    return memmem(line.data, line.len < HEAD ? line.len : HEAD, use, sizeof use - 1) != NULL;
}

static bool take_hex(struct bytes field, uint8_t *out, size_t size)
{
    struct buf bytes;
    buf_init(&bytes, size);
    bool is_good = audit_field_hex(field, &bytes) == ERR_OK && bytes.len == size;
    if (is_good)
        memcpy(out, bytes.data, size);
    buf_clear(&bytes);
    return is_good;
}

// Not the unlocking that hsmd does itself, with a PIN of its configuration.
static bool is_end_of_act(const struct audit_line *line)
{
    return line->event == AUDIT_ACT || line->event == AUDIT_LOCK ||
           (line->event == AUDIT_UNLOCK && line->fields[AUDIT_FIELD_PROPOSAL].data);
}

static void see_line(struct bytes line, struct audit_trace *trace, bool *has_act)
{
    struct audit_line parsed;
    if (!line.len || is_use(line) || audit_parse(line, &parsed, NULL) != ERR_OK)
        return;
    struct bytes number = parsed.fields[AUDIT_FIELD_PROPOSAL];
    struct bytes instance = parsed.fields[AUDIT_FIELD_INSTANCE];
    if (number.data && audit_field_number(number) > trace->proposal)
        trace->proposal = audit_field_number(number);
    bool is_act = is_end_of_act(&parsed);
    if (!*has_act && is_act && number.data)
        trace->act = audit_field_number(number);
    *has_act = *has_act || is_act || parsed.event == AUDIT_ACT_LOST;
    struct bytes budgets = parsed.fields[AUDIT_FIELD_BUDGETS];
    if (budgets.data && !trace->budgets)
        trace->budgets = audit_field_number(budgets);
    trace->has_acts = trace->has_acts || parsed.event == AUDIT_ACT || parsed.event == AUDIT_PROPOSE;
    struct bytes registry = parsed.fields[AUDIT_FIELD_REGISTRY];
    if (registry.data && trace->known < 2 &&
        take_hex(registry, trace->registry[trace->known], AUDIT_HASH_SIZE) && !trace->known++)
        trace->is_act = is_act;
    if (instance.data)
        trace->has_instance = take_hex(instance, trace->instance, AUDIT_INSTANCE_SIZE);
}

// Whole lines, the last one first.
static void see_lines(struct bytes text, struct audit_trace *trace, bool *has_act)
{
    while (text.len && !trace->has_instance) {
        const uint8_t *end = memrchr(text.data, '\n', text.len);
        size_t start = end ? (size_t)(end - text.data) + 1 : 0;
        see_line(bytes_of(text.data + start, text.len - start), trace, has_act);
        text.len = end ? start - 1 : 0;
    }
}

static enum err read_back(int fd, const char *path, uint8_t *chunk, struct audit_trace *trace,
                          struct detail *detail)
{
    struct stat st;
    bool has_act = false;
    if (fstat(fd, &st) != 0)
        return err_errno(detail, ERR_TEMP, "%s", path);
    for (off_t end = st.st_size; end > 0 && !trace->has_instance;) {
        size_t len = (uint64_t)end < CHUNK ? (size_t)end : CHUNK;
        off_t start = end - (off_t)len;
        ssize_t n = pread(fd, chunk, len, start);
        if (n < 0 || (size_t)n != len)
            return err_errno(detail, ERR_TEMP, "%s", path);
        // A line that begins before the chunk is left to the next one.
        const uint8_t *first = start ? memchr(chunk, '\n', len) : NULL;
        size_t skip = first ? (size_t)(first - chunk) + 1 : 0;
        see_lines(bytes_of(chunk + skip, len - skip), trace, &has_act);
        end = skip && skip < len ? start + (off_t)skip : start;
    }
    return ERR_OK;
}

enum err audit_trace_read(const char *path, struct audit_trace *trace, struct detail *detail)
{
    *trace = (struct audit_trace){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? ERR_OK : err_errno(detail, ERR_PERM, "%s", path);
    uint8_t *chunk = mem_calloc(1, CHUNK);
    enum err err = chunk ? read_back(fd, path, chunk, trace, detail)
                         : err_set(detail, ERR_TEMP, "out of memory");
    mem_free(chunk);
    close(fd);
    return err;
}
