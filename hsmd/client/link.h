// SPDX-License-Identifier: Apache-2.0
// One connection to hsmd: a ZeroMQ socket that connects once, and its monitor.
#pragma once

#include "hsmd/base/buf.h"
#include "hsmd/base/clock.h"
#include "hsmd/base/err.h"

// What the monitor has told so far. The last five are final.
enum link_state {
    LINK_CONNECTING,
    LINK_CONNECTED, // the handshake is not over
    LINK_READY,
    LINK_UNREACHABLE, // nobody listens there
    LINK_UNTRUSTED,   // the handshake failed: not the key we were told, or no hsmd
    LINK_REFUSED,     // hsmd does not admit our key
    LINK_LOST,        // the connection ended
    LINK_MALFORMED,   // hsmd sent what is no frame
};

struct link_conf {
    void *context; // of ZeroMQ; borrowed
    const char *endpoint;
    const char *server_key; // Z85
    const char *public_key;
    const char *secret_key;
    unsigned number;     // unique in the context
    unsigned connect_ms; // a connection attempt is given up after that
    size_t frame_max;    // bytes of a frame that is received; 0: WIRE_FRAME_MAX
};

struct link {
    struct link *next; // in the pool
    unsigned endpoint; // index in the client's list
    enum link_state state;
    deadline_t trusted_until; // a reply came so lately that the monitor need not be asked
    void *socket;
    void *monitor;
};

// Begins to connect and does not wait for it. ERR_PERM: an endpoint ZeroMQ does not take;
// ERR_TEMP: out of sockets or memory.
enum err link_open(const struct link_conf *conf, struct link **link, struct detail *detail);
void link_close(struct link *link);
// Frees the memory and leaves the sockets alone: for a forked child.
void link_abandon(struct link *link);

// Reads what the monitor has to tell. Whether the connection may still be used.
bool link_is_alive(struct link *link);
// The same, but asks only if the last reply came some time ago. A connection that ended since is
// noticed by link_send or link_receive.
bool link_is_usable(struct link *link);

// ERR_TEMP: the link is dead, its state says why.
enum err link_send(struct link *link, struct bytes frame);
// Waits for the next frame and puts it into out, replacing what is there. ERR_TEMP: the deadline is
// past or the link is dead (its state says which), or out of memory.
enum err link_receive(struct link *link, deadline_t deadline, struct buf *out);
