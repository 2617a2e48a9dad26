// SPDX-License-Identifier: Apache-2.0
// One connection to hsmd: a socket that connects once, and speaks ZMTP in its caller's thread.
#pragma once

#include "hsmd/base/buf.h"
#include "hsmd/base/clock.h"
#include "hsmd/base/err.h"
#include "hsmd/zmtp/zmtp.h"

// The last five are final.
enum link_state {
    LINK_CONNECTING,
    LINK_CONNECTED, // the handshake is not over
    LINK_READY,
    LINK_UNREACHABLE, // nobody listens there, or the name of the host is not found
    LINK_UNTRUSTED,   // the handshake failed: not the key we were told, or no hsmd
    LINK_REFUSED,     // hsmd does not admit our key
    LINK_LOST,        // the connection ended
    LINK_MALFORMED,   // hsmd sent what is no frame
};

struct link_conf {
    const char *endpoint;  // ipc://PATH, tcp://HOST:PORT or tcp://[IPv6]:PORT
    struct zmtp_keys keys; // the secret one is borrowed until the link is closed
    size_t frame_max;      // bytes of a frame that is received; 0: WIRE_FRAME_MAX
};

struct link {
    struct link *next; // in the pool
    unsigned endpoint; // index in the client's list
    enum link_state state;
    int fd;
    struct zmtp *zmtp;
};

// Begins to connect and does not wait for it; but the name of a host is looked up here, as the
// system's resolver does it and for as long as resolv.conf(5) lets it. ERR_PERM: no endpoint, or no
// keys; ERR_TEMP: out of sockets or memory.
enum err link_open(const struct link_conf *conf, struct link **link, struct detail *detail);
void link_close(struct link *link); // NULL is fine
// The same, but the connection goes on for those who have it too: for a forked child.
void link_abandon(struct link *link);

// Takes what has come, and does not wait. Whether the connection may still be used; one that ends
// after that is noticed by link_send or link_receive.
bool link_is_alive(struct link *link);

// Sends one frame, or keeps it until the handshake is over or there is room, which link_receive
// sees to. ERR_TEMP: the link is dead, its state says why; or out of memory.
enum err link_send(struct link *link, struct bytes frame);
// Waits for the next frame and puts it into out, replacing what is there. ERR_TEMP: the deadline is
// past or the link is dead (its state says which), or out of memory.
enum err link_receive(struct link *link, deadline_t deadline, struct buf *out);
