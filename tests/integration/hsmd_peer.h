// SPDX-License-Identifier: Apache-2.0
// A bare ZeroMQ peer of hsmd, for what hsmd's own client would never do. Exits the test if
// something of its own fails.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "hsmd/base/buf.h"

#define PEER_WAIT_MS 8000 // for what must come
#define PEER_QUIET_MS 700 // for what must not

struct peer_conf {
    const char *endpoint;
    const char *server_public; // Z85; NULL: no CURVE at all
    const char *public_key;
    const char *secret_key;
    const char *routing_id; // or NULL
};

struct peer {
    void *context;
    void *socket;
    void *monitor;
};

void peer_open(struct peer *peer, const struct peer_conf *conf);
// With a socket of that type of ZeroMQ's, instead of a DEALER.
void peer_open_as(struct peer *peer, int type, const struct peer_conf *conf);
void peer_close(struct peer *peer);

// Waits for the handshake to end: did the server let us in?
bool peer_is_admitted(struct peer *peer);

// A port of 127.0.0.1 that nobody has at this moment.
unsigned peer_free_port(void);

void peer_send(struct peer *peer, struct bytes frame, bool more);
// False: nothing came in that time. frame is reset first.
bool peer_receive(struct peer *peer, int wait_ms, struct buf *frame);
