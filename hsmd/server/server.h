// SPDX-License-Identifier: Apache-2.0
// Doors with workers behind them: takes requests from peers that have proved who they are, has
// workers do them, sends the replies. What is asked and answered is the handler's business. hsmd
// has two: the data path and the officers' channel, with nothing in common but this code: each has
// its own doors, CURVE key and domain.
//
// There are two doors: router.h, a socket of ZeroMQ, for the network, for officers, and for
// whatever is not in a hurry; local.h for programs on this machine, to which a wake-up more is most
// of what a request costs. They are used by one thread at a time: the one that waits for requests,
// or a worker with a reply. Work stands in lanes, each with workers of its own: on the data path
// one for each token, and one for what needs none. A request that finds no place in the queue
// (queue.h says who gets how many) is answered "temp" at once; one that is not done at its deadline
// is answered "temp" then, and what the worker brings later is dropped: a token that hangs keeps
// nobody waiting.
#pragma once

#include "hsmd/base/buf.h"
#include "hsmd/base/clock.h"
#include "hsmd/base/err.h"
#include "hsmd/base/secret.h"
#include "hsmd/watch/metrics.h"

#define SERVER_QUEUE_MAX 1024  // requests at work or waiting for it
#define SERVER_DRAIN_MS 10000  // longest wait at a stop for those that are still there
#define SERVER_LIGHT_WORKERS 2 // of lane 0 on the data path
#define SERVER_SPARE_WORKERS 2 // of a token, more than it has sessions

// What is served: the data path (core_handler.h) or the officers' channel (custody.h). All are
// called by several threads at once; is_allowed, lane, refuse and log_refusal hold everybody up, so
// they must not wait for anything.
struct server_handler {
    void *context; // borrowed
    // May the holder of this CURVE key (Z85) connect?
    bool (*is_allowed)(void *context, const char *public_key);
    // It may not, and did not come in. May wait for a disk. NULL: nobody wants to know.
    void (*tell_stranger)(void *context, const char *public_key);
    // Whose turn: 0, light work, or 1 and up. outstanding: for each lane from 1 on the requests it
    // has, waiting or with a worker, by lane - 1; those answered "temp" at their deadline count as
    // long as a worker is stuck with them.
    unsigned (*lane)(void *context, const char *peer, struct bytes frame,
                     const unsigned *outstanding);
    // What a worker of that lane needs over and over, made before its thread and freed after it.
    // Both NULL: nothing; handle then gets NULL.
    enum err (*worker_new)(void *context, unsigned lane, void **worker, struct detail *detail);
    void (*worker_free)(void *worker);
    // As core_handle: puts the answer into reply, an empty buffer with cap reply_max that the
    // server wipes. False: none.
    bool (*handle)(void *context, void *worker, const char *peer, struct bytes frame,
                   deadline_t deadline, struct buf *reply);
    // The reply to a frame that handle does not get to see, or not in time; and its line in the
    // log.
    void (*refuse)(void *context, struct bytes frame, enum err class, struct buf *reply);
    void (*log_refusal)(void *context, const char *peer, struct bytes frame, enum err class,
                        const char *reason);
    struct metrics *metrics; // NULL: nothing is counted
    // Requests may hold secrets: the memory of every frame received, refused and late ones too, is
    // wiped before it is given back. (What ZeroMQ decrypted it from, and to, is not ours to wipe.)
    bool is_secret_request;
};

struct server_conf {
    const char *domain;           // for ZAP and the log: ZAP_DOMAIN_DATA, ZAP_DOMAIN_OFFICERS
    const char *const *endpoints; // borrowed
    size_t endpoint_count;
    unsigned mode;                   // of ipc sockets: 0660, 0600
    const struct secret *server_key; // Z85; only read while opening
    struct server_handler handler;
    const unsigned *workers; // of each lane from 1 on, by lane - 1; only read while opening
    unsigned lane_count;     // how many those are
    unsigned light_workers;  // of lane 0; 1 or more
    bool is_direct; // ipc endpoints are served by the threads here, without ZeroMQ's: local.h
    unsigned timeout_ms;
    size_t request_max; // bytes of a frame
    size_t reply_max;
};

struct server;

// Opens the doors, binds all endpoints, then starts to serve. All signals are blocked
// in the threads made here.
enum err server_open(const struct server_conf *conf, struct server **server, struct detail *detail);

// Stops: no new request is taken, those at work are waited for (SERVER_DRAIN_MS), their replies
// sent. ERR_TEMP: a worker is stuck in the token; then the server, and what it uses, must be left
// alone until the process ends, and a reply of the last microseconds may not be written.
enum err server_close(struct server *server, struct detail *detail);

// For tests: ends the ZAP handler alone, as if its thread had died.
void server_end_zap(struct server *server);
