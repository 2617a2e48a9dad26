// SPDX-License-Identifier: Apache-2.0
// The connection to hsmd's officers' channel. What can go wrong with it is told apart, for a person
// who has to know where to look.
#pragma once

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"
#include "hsmd/base/secret.h"

struct channel_conf {
    const char *endpoint; // all borrowed
    const char *server_key, *public_key;
    const struct secret *secret_key; // Z85 with its 0
    unsigned timeout_ms;             // of the whole of channel_ask
};

struct channel;

enum channel_fault {
    CHANNEL_NONE,
    CHANNEL_AWAY,    // nobody there
    CHANNEL_REFUSED, // hsmd does not admit this key
    CHANNEL_OTHER,   // it is not the hsmd of the key we have
    CHANNEL_SILENT,  // no answer in time
    CHANNEL_LOST,    // the connection ended before the answer
    CHANNEL_BROKEN,  // no frame
};

// Begins to connect. ERR_PERM: no endpoint.
enum err channel_open(const struct channel_conf *conf, struct channel **channel,
                      struct detail *detail);
void channel_close(struct channel *channel);
// One frame there, one back (appended to an empty reply). What went wrong is in fault.
enum err channel_ask(struct channel *channel, struct bytes request, struct buf *reply,
                     enum channel_fault *fault, struct detail *detail);
