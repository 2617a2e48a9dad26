// SPDX-License-Identifier: Apache-2.0
// Messages through the pipeline, for the tests of both ways.
#pragma once

#include "gateway/mime.h"
#include "gateway/pipeline.h"
#include "tests/support/organisation.h"

#define FLOW_RECIPIENTS_MAX 8

#define MESSAGE_FROM(from)                                                              \
    "From: " from "\r\nTo: dave@b.example, carl@ec.b.example\r\nCc: both@b.example\r\n" \
    "Subject: noon\r\nMessage-ID: <1@a.example>\r\n\r\nWe meet at noon.\r\n"

// Runs a message; recipients are separated by blanks.
void flow_run(struct organisation *o, enum direction direction, const char *profile,
              const char *recipients, const struct message *message, struct outcome *outcome);
// The same outwards with a message of that text, which is the caller's.
struct message *flow_send(struct organisation *o, const char *text, const char *profile,
                          const char *recipients, struct outcome *outcome);

// The copy that goes to recipient (its number in the envelope), or NULL.
const struct outcome_copy *flow_copy_for(const struct outcome *outcome, size_t recipient);
// The message of a copy: what it became, or as it came.
const struct message *flow_message(const struct outcome_copy *copy, const struct message *original);

// The whole message as text; the caller's (mem_free).
char *flow_text(const struct message *message);
struct bytes flow_body(const struct message *message);
enum mime_kind flow_kind(const struct message *message);
// The value of Authentication-Results, "" if there is none.
const char *flow_result(const struct message *message);
// "550 5.7.1 text", "drop text", "" for deliver.
const char *flow_reply(const struct outcome *outcome);
