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

// What an event of the two epoll instances is of, if not of the local door.
enum server_event { SERVER_CALL, SERVER_WAKE, SERVER_ROUTER };

struct worker {
    struct server *server;
    unsigned lane;
    bool is_home; // the first of its lane
    pthread_t thread;
    bool is_running;
    bool has_next; // it has received a job of its lane itself, which nobody else is woken for
    void *context; // worker_new's
};

struct server {
    struct queue *queue;
    struct server_handler handler;
    const char *domain;
    size_t reply_max;
    unsigned timeout_ms;
    struct endpoints *endpoints;
    int home_cpu; // see cpu.h; -1: none
    int wake;     // eventfd: the waiting thread is to look at the doors
    // Both see what comes in, and only one of those who wait there is woken for it: the scout, a
    // worker with nothing to do, if there is one, else the waiting thread.
    int scouting, waiting; // epoll
    atomic_bool is_stopping;
    pthread_t thread; // waits for the socket, for deadlines and for the end
    bool has_thread;
    pthread_mutex_t lock;  // held by the one who uses the doors; guards what follows
    struct router *router; // NULL: all endpoints are of the other
    struct local *local;   // NULL: none is
    struct arrival arrival;
    struct job *oldest, *youngest; // not answered yet, by deadline
    size_t out;                    // jobs that workers have or wait for
    deadline_t quiet_until;        // no line about refused requests before that
    unsigned long untold;          // refused since the last one
    unsigned *outstanding;         // requests of each lane from 1 on
    unsigned lane_count;           // lane 0 included; does not change
    struct worker *workers;
    unsigned worker_count;
};

// A worker has done a job: sends its reply and what else is due, receives what has come. If another
// is doing that at this moment, it does so for this job too.
void exchange_finish(struct worker *worker, struct job *job);

// The scout: the same when there is something to receive.
void exchange_scout(struct worker *worker);

// The waiting thread: the same when there is something, and at deadlines. False: nobody waits for
// an answer any more.
bool exchange_turn(struct server *server);

// How long it may sleep, in milliseconds, and not beyond limit.
int exchange_patience(struct server *server, deadline_t limit);

// Jobs that workers have.
size_t exchange_out(struct server *server);
