// SPDX-License-Identifier: Apache-2.0
#include "hsmd/custody/token_lines.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/clock.h"
#include "hsmd/base/log.h"
#include "hsmd/base/text.h"

struct token_line {
    enum audit_event event;
    char stamp[CLOCK_STAMP_SIZE];
    char token[TEXT_NAME_MAX + 1];
    struct detail reason;
};

struct token_lines {
    struct audit *audit;
    pthread_mutex_t lock;
    struct token_line waiting[TOKEN_LINES_MAX]; // a ring
    size_t first, count;
    uint64_t lost; // that found no place, before the first one
};

enum err token_lines_new(struct audit *audit, struct token_lines **out)
{
    struct token_lines *lines = mem_calloc(1, sizeof *lines);
    if (!lines)
        return ERR_TEMP;
    lines->audit = audit;
    pthread_mutex_init(&lines->lock, NULL);
    *out = lines;
    return ERR_OK;
}

void token_lines_free(struct token_lines *lines)
{
    char count[24];
    if (!lines)
        return;
    snprintf(count, sizeof count, "%" PRIu64, lines->lost + lines->count);
    if (lines->lost + lines->count)
        log_error("audit", "state", "lines about tokens could not be written", "count", count);
    pthread_mutex_destroy(&lines->lock);
    mem_free(lines);
}

static void append(struct token_lines *lines, enum keystore_event event, const char *token,
                   const char *reason)
{
    static const enum audit_event events[] = {[KEYSTORE_TOKEN_LOST] = AUDIT_TOKEN_LOST,
                                              [KEYSTORE_TOKEN_BACK] = AUDIT_TOKEN_BACK,
                                              [KEYSTORE_TOKEN_UNLOCKED] = AUDIT_UNLOCK};
    if (lines->count == TOKEN_LINES_MAX) {
        lines->first = (lines->first + 1) % TOKEN_LINES_MAX;
        lines->count--;
        lines->lost++;
    }
    struct token_line *line = &lines->waiting[(lines->first + lines->count++) % TOKEN_LINES_MAX];
    line->event = events[event];
    clock_stamp(line->stamp);
    snprintf(line->token, sizeof line->token, "%s", token);
    snprintf(line->reason.text, sizeof line->reason.text, "%s",
             event == KEYSTORE_TOKEN_BACK ? "" : reason);
}

static enum err write_first(const struct token_lines *lines)
{
    const struct token_line *line = &lines->waiting[lines->first];
    char reason[sizeof line->reason.text + 80];
    struct audit_record record = {.event = line->event,
                                  .token = line->token,
                                  .stamp = line->stamp,
                                  .result = line->event == AUDIT_UNLOCK ? err_name(ERR_OK) : NULL,
                                  .reason = reason};
    if (lines->lost)
        snprintf(reason, sizeof reason,
                 "%" PRIu64 " lines about tokens before this one are lost%s%s", lines->lost,
                 line->reason.text[0] ? "; " : "", line->reason.text);
    else
        snprintf(reason, sizeof reason, "%s", line->reason.text);
    return audit_write(lines->audit, &record, NULL); // logs itself
}

// Lock held.
static void write_all(struct token_lines *lines)
{
    while (lines->count && write_first(lines) == ERR_OK) {
        lines->first = (lines->first + 1) % TOKEN_LINES_MAX;
        lines->count--;
        lines->lost = 0;
    }
}

void token_lines_tell(void *context, enum keystore_event event, const char *token,
                      const char *reason)
{
    struct token_lines *lines = context;
    pthread_mutex_lock(&lines->lock);
    append(lines, event, token, reason);
    write_all(lines);
    pthread_mutex_unlock(&lines->lock);
}

void token_lines_retry(struct token_lines *lines)
{
    pthread_mutex_lock(&lines->lock);
    write_all(lines);
    pthread_mutex_unlock(&lines->lock);
}
