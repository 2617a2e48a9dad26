// SPDX-License-Identifier: Apache-2.0
// An SMTP server in a thread, on a port of the loopback that the system chooses: keeps what it is
// given, or refuses it.
#pragma once

#include <pthread.h>

#include "hsmd/base/buf.h"

struct smtp_sink_kept {   // all transactions together
    struct buf envelopes; // "MAIL FROM:<...>\nRCPT TO:<...>\n" ...
    struct buf data;      // without dot-stuffing
    unsigned count;
};

struct smtp_sink {
    struct smtp_sink_kept seen; // for the test, as of smtp_sink_look
    // the rest is shared with the thread
    int listener;
    unsigned port;
    pthread_t thread;
    pthread_mutex_t mutex;
    // settings
    unsigned refuse_after; // transactions that are taken before the others are refused
    const char *refusal;   // the answer to RCPT then
    struct smtp_sink_kept kept;
};

void smtp_sink_open(struct smtp_sink *sink);
void smtp_sink_reset(struct smtp_sink *sink, unsigned refuse_after, const char *refusal);
// Brings seen up to date.
void smtp_sink_look(struct smtp_sink *sink);
void smtp_sink_close(struct smtp_sink *sink);
