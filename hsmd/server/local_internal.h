// SPDX-License-Identifier: Apache-2.0
// What local.c (reading and writing) and local_accept.c (who comes in) share.
#pragma once

#include <sys/socket.h>

#include "hsmd/base/curve.h"
#include "hsmd/server/denials.h"
#include "hsmd/server/local.h"
#include "hsmd/zmtp/zmtp.h"

#define ENTERING_MAX 256 // whose handshake is not over, or a quarter of all there is room for
#define LISTENERS_MAX 16
#define LISTENER_EVENT (UINT64_C(1) << 63)
#define NO_SLOT UINT32_MAX
#define READ_EVENTS (EPOLLIN | EPOLLRDHUP | EPOLLET) // of a connection that is read

struct list {
    struct connection *first, *last;
};

// Its id, the route of its messages and its event, is the slot with the generation above it: one
// that has ended is found no more.
struct connection {
    struct local *local;
    uint64_t id;
    int fd;
    struct ucred peer;
    struct zmtp *zmtp;
    bool is_blocked;   // replies wait until it reads; it is not read meanwhile
    size_t kept;       // bytes of those
    unsigned open;     // messages that have no answer yet
    uint64_t answered; // when the last answer was sent, on clock_us
    unsigned trust;    // times that it is still expected to be as prompt as it was
    bool is_held;      // by a caller of local_hold: it is not watched
    bool has_input;    // it has sent something, and we have not read to the end of it
    uint32_t hung_up;  // EPOLLRDHUP: it says no more; EPOLLHUP: it reads no more either
    bool is_over;      // we have read to that end, and not answered all
    struct list *list; // where it stands; NULL: nowhere
    struct connection *next, *previous; // there
    bool is_entering;                   // stands among those whose handshake is not over
    struct connection *older, *younger; // there
    deadline_t until;                   // of the handshake
};

struct slot {
    struct connection *connection; // NULL: free
    uint32_t generation;           // of the last one
    uint32_t next_free;
};

struct local {
    struct local_conf conf;
    struct secret server_key;
    char public_key[CURVE_TEXT_SIZE];
    struct denials denials;
    struct denials failures;
    deadline_t quiet_until; // no line about room before that
    int listeners[LISTENERS_MAX];
    unsigned listener_count;
    deadline_t full_until; // not listening; 0: listening
    struct slot *slots;
    uint32_t slot_count;
    uint32_t slot_max;
    uint32_t free_slot;
    size_t kept;          // bytes of replies that wait, of all connections
    struct list ready;    // may have messages; not read before those have been received
    struct list calling;  // have input
    struct list knocking; // have input for their handshake
    struct connection *entering, *entering_last; // the oldest first
    uint32_t entering_count;
    uint32_t entering_max;
    int more; // eventfd, never read: there is something to do that no event of a connection tells
              // again
};

// As epoll_ctl does.
bool local_watch(const struct local *local, int how, int fd, uint32_t what, uint64_t id);

void local_end(struct connection *connection);

// A listener has something, says its event.
void local_accept(struct local *local, unsigned listener);
void local_listen_again(struct local *local);

// Why a connection is about to end, if that is for what it has said, or has not in time: a line for
// each user and minute.
void local_log_failure(const struct connection *connection, bool is_late);
