// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/gateway/flow_trip.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

void trip_make(struct trip *trip, struct organisation *sender, struct organisation *receiver,
               const char *text, const char *profile, const char *recipient)
{
    trip->original = flow_send(sender, text, profile, recipient, &trip->out);
    assert_string_equal(flow_reply(&trip->out), "");
    trip->sent = flow_message(&trip->out.copies[0], trip->original);
    flow_run(receiver, DIRECTION_INBOUND, NULL, recipient, trip->sent, &trip->in);
    assert_string_equal(flow_reply(&trip->in), "");
    assert_int_equal(trip->in.copy_count, 1);
    trip->got = flow_message(&trip->in.copies[0], trip->sent);
}

void trip_clear(struct trip *trip)
{
    outcome_clear(&trip->in);
    outcome_clear(&trip->out);
    message_free(trip->original);
}

void flow_receive(struct organisation *o, const struct message *message, struct outcome *outcome)
{
    flow_run(o, DIRECTION_INBOUND, NULL, "dave@b.example", message, outcome);
    assert_string_equal(flow_reply(outcome), "");
}

void flow_assert_result(const struct message *message, const char *result)
{
    char wanted[60];
    snprintf(wanted, sizeof wanted, "smime=%s", result);
    if (!strstr(flow_result(message), wanted))
        fail_msg("\"%s\" in place of %s", flow_result(message), wanted);
    assert_true(strstr(flow_result(message), "mx.b.example") != NULL);
}

void flow_assert_as_it_came(const struct outcome *outcome, const struct message *message,
                            const char *result)
{
    const struct message *got = flow_message(&outcome->copies[0], message);
    flow_assert_result(got, result);
    assert_string_equal(message_header(got, "Content-Type"),
                        message_header(message, "Content-Type"));
    assert_true(bytes_equal(flow_body(got), flow_body(message)));
}
