// SPDX-License-Identifier: Apache-2.0
// Incoming messages through the pipeline, and there and back.
#pragma once

#include "tests/unit/gateway/flow_support.h"

#define FLOW_HEAD                                                          \
    "From: Ann <ann@a.example>\r\nTo: dave@b.example\r\nSubject: noon\r\n" \
    "Message-ID: <1@a.example>\r\n"
#define FLOW_TEXT "Content-Type: text/plain; charset=us-ascii\r\n\r\nWe meet at noon.\r\n"

// Out by the profile, in again: what came of it. Both ways deliver.
struct trip {
    struct message *original;
    struct outcome out, in;
    const struct message *sent, *got;
};

void trip_make(struct trip *trip, struct organisation *sender, struct organisation *receiver,
               const char *text, const char *profile, const char *recipient);
void trip_clear(struct trip *trip);

// To dave@b.example, who gets it.
void flow_receive(struct organisation *o, const struct message *message, struct outcome *outcome);

// "smime=RESULT" in a field of ours.
void flow_assert_result(const struct message *message, const char *result);
// Delivered as it came but for our field.
void flow_assert_as_it_came(const struct outcome *outcome, const struct message *message,
                            const char *result);
