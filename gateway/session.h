// SPDX-License-Identifier: Apache-2.0
// What a milter is told about one connection and the message now on it.
#pragma once

#include <sys/socket.h>

#include "gateway/gateway.h"
#include "gateway/message.h"
#include "gateway/pipeline.h"

#define SESSION_RECIPIENTS_MAX ((size_t)65536) // of one message

struct session {
    struct gateway *gateway;
    // the connection
    bool is_from_inside; // by address or by the daemon that took it
    // the message; cleared by session_reset
    bool is_authenticated;
    char *sender;      // owned, as in MAIL FROM
    char **recipients; // owned, as in RCPT TO
    size_t recipient_count, recipient_room;
    struct message *message; // owned
    enum err failure;        // of collecting it; the message cannot be taken
    struct detail detail;
};

// NULL: out of memory.
struct session *session_new(struct gateway *gateway);
void session_free(struct session *session); // NULL is fine

// A connection from that address (NULL: not known) to that daemon of the MTA's (or NULL).
void session_connect(struct session *session, const struct sockaddr *address, const char *daemon);
// Forgets the message.
void session_reset(struct session *session);
enum err session_begin(struct session *session, const char *sender, const char *login);
enum err session_add_recipient(struct session *session, const char *recipient);
// value: all behind the colon, with its leading space.
enum err session_add_header(struct session *session, const char *name, const char *value);
enum err session_add_body(struct session *session, struct bytes bytes);

// Outbound: from one of our networks or daemons, or by somebody who logged in.
void session_request(const struct session *session, const char *id, struct request *request);
