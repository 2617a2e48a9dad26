// SPDX-License-Identifier: Apache-2.0
// What comes in by one of a server's doors, router.h or local.h.
#pragma once

#include <zmq.h>

#include "hsmd/base/buf.h"
#include "hsmd/registry/registry.h"

// Where a message came from, and its answer goes.
struct route {
    zmq_msg_t router;    // the peer's routing id
    uint64_t connection; // of local.h; 0: it came in by the router
};

struct arrival {
    struct route route;
    struct buf frame;                    // empty if the message had several, which is as malformed
    char peer[REGISTRY_PUBLIC_KEY_SIZE]; // its CURVE key (Z85), as the handshake proved it
};
