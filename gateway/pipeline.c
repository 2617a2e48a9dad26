// SPDX-License-Identifier: Apache-2.0
#include "gateway/pipeline.h"

#include <stdio.h>
#include <string.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/log.h"

static void outcome_drop_copies(struct outcome *outcome)
{
    for (size_t i = 0; i < outcome->copy_count; i++) {
        message_free(outcome->copies[i].message);
        mem_free(outcome->copies[i].recipients);
    }
    mem_free(outcome->copies);
    outcome->copies = NULL;
    outcome->copy_count = 0;
}

void outcome_clear(struct outcome *outcome)
{
    outcome_drop_copies(outcome);
    *outcome = (struct outcome){0};
}

struct outcome_copy *outcome_add(struct outcome *outcome, size_t recipient_room)
{
    struct outcome_copy *copies =
        mem_realloc(outcome->copies, (outcome->copy_count + 1) * sizeof *copies);
    if (!copies)
        return NULL;
    outcome->copies = copies;
    struct outcome_copy *copy = &copies[outcome->copy_count];
    *copy = (struct outcome_copy){.recipients =
                                      mem_calloc(recipient_room + 1, sizeof *copy->recipients)};
    if (!copy->recipients)
        return NULL;
    outcome->copy_count++;
    return copy;
}

void outcome_fail(struct outcome *outcome, enum err err, const struct detail *why)
{
    outcome->err = err;
    outcome->why = *why;
    verdict_of_err(&outcome->verdict, err, why);
}

void pipeline_log(const struct request *request, const struct outcome *outcome)
{
    enum err err = outcome->err;
    char count[24];
    char reply[320] = "";
    const struct verdict *verdict = &outcome->verdict;
    enum log_level level = LOG_LEVEL_INFO;
    snprintf(count, sizeof count, "%zu", request->envelope.recipient_count);
    if (verdict->kind != VERDICT_DELIVER)
        level = LOG_LEVEL_WARNING;
    if (err == ERR_BUG || err == ERR_DENIED)
        level = LOG_LEVEL_ERROR;
    if (*verdict->code)
        snprintf(reply, sizeof reply, "%s %s %s", verdict->code, verdict->enhanced, verdict->text);
    else
        snprintf(reply, sizeof reply, "%s", verdict->text);
    log_event(
        level, request->direction == DIRECTION_OUTBOUND ? "outbound" : "inbound", "id", request->id,
        "verdict", verdict_kind_name(verdict->kind), "from", request->envelope.sender, "rcpt",
        request->envelope.recipient_count > 0 ? request->envelope.recipients[0] : NULL, "rcpts",
        count, "note", *outcome->note ? outcome->note : NULL, "reply", *reply ? reply : NULL, "err",
        err ? err_name(err) : NULL, "why", err ? outcome->why.text : NULL, NULL);
}

void pipeline_run(struct gateway *gateway, const struct request *request, struct outcome *outcome)
{
    struct detail detail = {0};
    *outcome = (struct outcome){0};
    enum err err = request->direction == DIRECTION_OUTBOUND
                       ? outbound_run(gateway, request, outcome, &detail)
                       : inbound_run(gateway, request, outcome, &detail);
    // An incoming message is delivered whatever it holds (F30): it is never bounced, not even for
    // what is a permanent failure elsewhere, such as a message that would be too large.
    if (err == ERR_PERM && request->direction == DIRECTION_INBOUND)
        err = ERR_BUG;
    if (err)
        outcome_fail(outcome, err, &detail);
    if (outcome->verdict.kind != VERDICT_DELIVER)
        outcome_drop_copies(outcome);
}
