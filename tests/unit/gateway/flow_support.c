// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/gateway/flow_support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hsmd/base/alloc.h"

void flow_run(struct organisation *o, enum direction direction, const char *profile,
              const char *recipients, const struct message *message, struct outcome *outcome)
{
    char list[400];
    const char *items[FLOW_RECIPIENTS_MAX];
    char *rest;
    struct request request = {.direction = direction,
                              .envelope = {.sender = "<bob@a.example>", .recipients = items},
                              .message = message,
                              .profile = profile};
    snprintf(list, sizeof list, "%s", recipients);
    for (char *item = strtok_r(list, " ", &rest); item; item = strtok_r(NULL, " ", &rest))
        items[request.envelope.recipient_count++] = item;
    pipeline_run(o->gateway, &request, outcome);
    if (outcome->verdict.kind == VERDICT_DELIVER)
        assert_true(outcome->copy_count > 0);
    else
        assert_int_equal(outcome->copy_count, 0);
}

struct message *flow_send(struct organisation *o, const char *text, const char *profile,
                          const char *recipients, struct outcome *outcome)
{
    struct message *message = organisation_message(o, text);
    flow_run(o, DIRECTION_OUTBOUND, profile, recipients, message, outcome);
    return message;
}

const struct outcome_copy *flow_copy_for(const struct outcome *outcome, size_t recipient)
{
    const struct outcome_copy *found = NULL;
    for (size_t i = 0; i < outcome->copy_count; i++) {
        for (size_t j = 0; j < outcome->copies[i].recipient_count; j++) {
            if (outcome->copies[i].recipients[j] != recipient)
                continue;
            assert_null(found); // nobody gets two
            found = &outcome->copies[i];
        }
    }
    return found;
}

const struct message *flow_message(const struct outcome_copy *copy, const struct message *original)
{
    return copy->message ? copy->message : original;
}

char *flow_text(const struct message *message)
{
    struct bytes view;
    struct spool *spool = spool_new(spool_conf(message->body));
    assert_non_null(spool);
    assert_int_equal(message_write(message, spool, NULL), ERR_OK);
    assert_int_equal(spool_view(spool, &view, NULL), ERR_OK);
    char *text = mem_strndup((const char *)view.data, view.len);
    spool_free(spool);
    return text;
}

struct bytes flow_body(const struct message *message)
{
    struct bytes view;
    assert_int_equal(spool_view(message->body, &view, NULL), ERR_OK);
    return view;
}

enum mime_kind flow_kind(const struct message *message)
{
    struct mime_facts facts;
    assert_int_equal(mime_inspect(message, &facts, NULL), ERR_OK);
    return facts.kind;
}

const char *flow_result(const struct message *message)
{
    const char *value = message_header(message, "Authentication-Results");
    return value ? value : "";
}

const char *flow_reply(const struct outcome *outcome)
{
    static char reply[400];
    const struct verdict *verdict = &outcome->verdict;
    if (verdict->kind == VERDICT_DELIVER)
        return "";
    if (verdict->kind == VERDICT_DROP)
        snprintf(reply, sizeof reply, "drop %s", verdict->text);
    else
        snprintf(reply, sizeof reply, "%s %s %s", verdict->code, verdict->enhanced, verdict->text);
    return reply;
}
