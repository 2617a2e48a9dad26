// SPDX-License-Identifier: Apache-2.0
// The door for peers on this machine: connections of ipc endpoints, which the server's own threads
// read, decrypt, encrypt and write (ZMTP 3.0 with CURVE, zmtp.h). A request then wakes one thread,
// and its answer another, where ZeroMQ's thread in between would be woken twice more.
//
// Every connection is watched by an epoll instance, edge-triggered: who waits or looks there is
// told of what it brings, once, and hands that to local_look. At most one thread should wait at a
// time. One caller at a time for everything here.
#pragma once

#include <sys/epoll.h>

#include "hsmd/base/clock.h"
#include "hsmd/base/err.h"
#include "hsmd/base/secret.h"
#include "hsmd/server/arrival.h"

struct local_conf {
    const char *domain;              // for the log
    const struct secret *server_key; // Z85; only read while opening
    // May the holder of this CURVE key (Z85) connect?
    bool (*is_allowed)(void *context, const char *public_key);
    void *context;
    size_t request_max; // bytes of a frame
    int epoll;          // borrowed
};

// A peer that asks again within so long of an answer is expected to do so the next time.
#define LOCAL_PROMPT_US 250

struct local;

enum err local_open(const struct local_conf *conf, struct local **local, struct detail *detail);
void local_close(struct local *local); // replies that could not be written are lost; NULL is fine

// Binds and listens; path is absolute and nothing is there, or a dead socket, which is replaced.
enum err local_bind(struct local *local, const char *path, struct detail *detail);

// Accepts, reads, goes on with handshakes and with writing, as the events say. Those that are out
// of date, or not of this door, do no harm.
void local_look(struct local *local, const struct epoll_event *events, size_t count);

// The next message that was read. The connections take turns. False: there is none.
bool local_receive(struct local *local, struct arrival *arrival);

// A peer that has gone away, or does not read (nothing more is read from it then), is no reason to
// wait: the reply is dropped. An empty one stands for a request that has none.
void local_send(struct local *local, uint64_t connection, struct bytes reply);

// Holds a connection for the caller, who is about to answer its only request, if its peer is
// expected to ask again within LOCAL_PROMPT_US of that: no event tells of what it brings, the
// caller looks for itself. Returns the descriptor, which stays open, to be polled for reading and
// written without the lock; -1: it is not held.
int local_hold(struct local *local, uint64_t connection);
// Looks what it has brought.
void local_look_held(struct local *local, uint64_t connection);
// Answers the request, but leaves the writing to the caller, who need not hold any lock for that:
// these bytes, to the descriptor. Nobody else touches the connection until local_sent says how many
// of them went out, which the caller owes before anything else is done with it. Empty: there is
// nothing to write, and nothing to say.
struct bytes local_seal(struct local *local, uint64_t connection, struct bytes reply);
void local_sent(struct local *local, uint64_t connection, size_t len); // the rest is written
// Ends the hold; local_sent is not owed any more. One that has been late some times in a row is not
// expected any more.
void local_let_go(struct local *local, uint64_t connection, bool is_late);

// Ends connections whose handshake takes too long, and listens again if there was no room. Returns
// when to come again; UINT64_MAX: no need.
deadline_t local_expire(struct local *local);
