// SPDX-License-Identifier: Apache-2.0
#include "hsmd/audit/audit_trace.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "hsmd/audit/audit_file.h"
#include "hsmd/audit/audit_parse.h"

#define HEAD 96 // seq, time and event are in so many bytes of a line

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

struct tracing {
    struct audit_trace *trace;
    bool has_act; // one was seen that came after the others, or that is lost
};

static bool see_line(void *context, struct bytes line)
{
    struct audit_line parsed;
    struct tracing *tracing = context;
    struct audit_trace *trace = tracing->trace;
    if (!line.len || is_use(line) || audit_parse(line, &parsed, NULL) != ERR_OK)
        return true;
    struct bytes number = parsed.fields[AUDIT_FIELD_PROPOSAL];
    struct bytes instance = parsed.fields[AUDIT_FIELD_INSTANCE];
    if (number.data && audit_field_number(number) > trace->proposal)
        trace->proposal = audit_field_number(number);
    bool is_act = is_end_of_act(&parsed);
    if (!tracing->has_act && is_act && number.data)
        trace->act = audit_field_number(number);
    tracing->has_act = tracing->has_act || is_act || parsed.event == AUDIT_ACT_LOST;
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
    return !trace->has_instance;
}

enum err audit_trace_read(const char *path, struct audit_trace *trace, struct detail *detail)
{
    *trace = (struct audit_trace){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? ERR_OK : err_errno(detail, ERR_PERM, "%s", path);
    struct tracing tracing = {.trace = trace};
    enum err err = audit_file_read_back(fd, path, see_line, &tracing, detail);
    close(fd);
    return err;
}
