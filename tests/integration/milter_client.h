// SPDX-License-Identifier: Apache-2.0
// The MTA's side of the milter protocol, version 6, small: enough to give a milter a message and to
// carry out what it asks for. Written from the protocol as Postfix and libmilter speak it.
#pragma once

#include "gateway/message.h"
#include "hsmd/base/buf.h"

#define MILTER_RECIPIENTS_MAX 8

struct milter_client {
    int fd;
    bool is_refused; // the milter did not agree to the options
    uint32_t steps;  // what it does not want to hear
};

// A message given to a milter, and what it became.
struct milter_message {
    const char *sender;
    const char *recipients[MILTER_RECIPIENTS_MAX]; // NULL ends; those taken off become ""
    struct message *message;                       // changed as the milter asks
    const char *login;                             // {auth_authen}, or NULL
    // the answer
    char verdict; // SMFIR_CONTINUE, _DISCARD, _REPLYCODE, _TEMPFAIL, _REJECT
    char reply[600];
    unsigned edits; // how many the milter asked for
};

// Connects to a UNIX socket and agrees on options. steps: SMFIP_ bits offered.
void milter_client_open(struct milter_client *client, const char *path, uint32_t steps);
// A connection from address by an MTA service of that name.
void milter_client_connect(struct milter_client *client, const char *address, const char *daemon);
// Gives it the message. Returns when it has answered for good.
void milter_client_send(struct milter_client *client, struct milter_message *message);
// The same, but the sender goes away after the headers.
void milter_client_abort(struct milter_client *client, struct milter_message *message);
void milter_client_close(struct milter_client *client);
