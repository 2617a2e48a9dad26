// SPDX-License-Identifier: Apache-2.0
// What server.c (threads, and how they begin and end) and exchange.c (the doors) share.
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "hsmd/server/endpoint.h"
#include "hsmd/server/local.h"
#include "hsmd/server/queue.h"
#include "hsmd/server/router.h"
#include "hsmd/server/server.h"

#define SERVER_EVENTS 32 // taken at once
// Between two looks of the waiting thread while nobody scouts: the more, the more others look.
#define WATCH_MS 2
#define WATCH_MAX_MS 16

// What an event of the epoll instance is of, if not of the local door.
enum server_event { SERVER_CALL, SERVER_ROUTER };

struct worker {
    struct server *server;
    unsigned lane;
    pthread_t thread;
    bool is_running;
    bool has_next; // it has received a job of its lane itself, which nobody else is woken for
    // A peer that asks again as soon as it is answered is expected by the worker that has answered,
    // and by no other: neither the peer's processor nor this one goes to sleep meanwhile, which
    // takes longer to wake than to look; and the two stay together, where the kernel would put two
    // workers on one processor, and their peers on the other.
    uint64_t held; // its connection, local_hold; 0: none
    int held_fd;
    struct bytes sealed; // local_seal
    size_t sent;         // of it
    void *context;       // worker_new's
    atomic_int cpu;      // the processor on which it works or expects; -1: neither
};

#define STRANGERS_MAX 16

// Keys that were not let in at the local door, to be told of without the lock.
struct strangers {
    char keys[STRANGERS_MAX][REGISTRY_PUBLIC_KEY_SIZE];
    unsigned count;
};

struct server {
    struct queue *queue;
    struct server_handler handler;
    const char *domain;
    size_t reply_max;
    unsigned timeout_ms;
    struct endpoints *endpoints;
    // Where the scout waits: a worker with nothing to do who sees what comes in. If it goes to work
    // it calls another; if there is none, those who have finished look, and now and then the
    // waiting thread. Lane 0 has no scouts.
    int epoll;
    int wake;               // eventfd: the waiting thread is to look at the doors
    atomic_bool is_watched; // nobody scouts, or did not a moment ago: it looks often
    atomic_bool is_stopping;
    pthread_t
        thread; // waits for deadlines, for the end, and as long as nobody scouts for the doors
    bool has_thread;
    pthread_mutex_t lock;  // held by the one who uses the doors; guards what follows
    struct router *router; // NULL: all endpoints are of the other
    struct local *local;   // NULL: none is
    struct arrival arrival;
    struct strangers strangers;
    bool is_routers_turn;
    deadline_t wakes_at;           // the waiting thread
    bool has_more;                 // to receive than was received at once
    uint64_t looks;                // how often a worker has looked at the doors
    uint64_t looks_seen;           // by the waiting thread
    unsigned watch_ms;             // of the waiting thread
    struct job *oldest, *youngest; // not answered yet, by deadline
    size_t out;                    // jobs that workers have or wait for
    deadline_t quiet_until;        // no line about refused requests before that
    unsigned long untold;          // refused since the last one
    unsigned *outstanding;         // requests of each lane from 1 on
    unsigned lane_count;           // lane 0 included; does not change
    struct worker *workers;
    unsigned worker_count;
};

// Has the waiting thread look at the doors.
void server_wake(const struct server *server);
// A worker goes to work, or may have to wait: somebody else shall watch.
void server_leave_doors(struct worker *worker);

// Somebody was not let in: tells who wants to know. Without the lock; or, with it, later.
void exchange_tell_stranger(const struct server *server, const char *public_key);
void exchange_note_stranger(struct server *server, const char *public_key);
void exchange_tell_strangers(struct server *server); // those noted; may wait for a disk

// A worker has done a job: sends its reply and what else is due, receives what has come. If another
// is doing that at this moment, it does so for this job too.
void exchange_finish(struct worker *worker, struct job *job);

// A scout: the same for what has come.
void exchange_enter(struct worker *worker, const struct epoll_event *events, size_t count);

// The peer that it expects has not come.
void exchange_give_up(struct worker *worker);

// The waiting thread: the same. False: nobody waits for an answer any more.
bool exchange_turn(struct server *server);

// How long it may sleep, in milliseconds, and not beyond limit.
int exchange_patience(struct server *server, deadline_t limit);

// Jobs that workers have or wait for.
size_t exchange_out(struct server *server);
