// SPDX-License-Identifier: Apache-2.0
// Requests between the socket and the workers.
//
// A fixed number of jobs, and so a bound on what can wait. They wait in lanes, each with workers of
// its own: a token that hangs holds up its lane alone. In a lane the jobs of each client are a flow
// of their own, and the flows take turns: nobody waits for more than one job of another client. A
// flow may have as many jobs as there are free ones, so that one that floods leaves half of them,
// two leave a third, and whoever comes with little finds a place.
//
// The socket's user (one at a time, see exchange.c) takes a free job, fills it and pushes it; a
// worker pops it, does it and hands it back; the socket's user collects what is done. A job belongs
// to one side at a time, but for is_answered, which is the socket's user's alone.
#pragma once

#include "hsmd/base/clock.h"
#include "hsmd/base/err.h"
#include "hsmd/registry/registry.h"
#include "hsmd/server/arrival.h"

struct flow;

struct job {
    struct job *next;            // in a list of the queue
    struct job *older, *younger; // the socket's user's list of those not answered
    unsigned lane;
    struct flow *flow;
    struct route route;
    struct buf frame;
    char peer[REGISTRY_PUBLIC_KEY_SIZE];
    deadline_t deadline;
    uint64_t queued;  // on clock_us
    struct buf reply; // empty: no answer
    bool is_skipped;  // by the worker: the deadline was past when its turn came
    bool is_answered; // the deadline came first; drop the reply
};

struct queue;

// request_max, reply_max: caps in bytes.
enum err queue_new(size_t jobs, unsigned lanes, size_t request_max, size_t reply_max,
                   struct queue **queue, struct detail *detail);
// No job may be with a worker.
void queue_free(struct queue *queue);

// The socket's user: a job of this client with an empty frame, NULL if its share of them is
// taken; and back.
struct job *queue_take(struct queue *queue, unsigned lane, const char *peer);
void queue_release(struct queue *queue, struct job *job); // wipes its reply
// is_to_wake: a worker that waits, if there is one; false if the caller is a worker of that lane
// and pops next.
void queue_push(struct queue *queue, struct job *job, bool is_to_wake);
// Takes back the oldest job of its flow. False: a worker has it, or had it.
bool queue_withdraw(struct queue *queue, struct job *job);
struct job *queue_collect(struct queue *queue); // the done ones as a list by next, oldest first
bool queue_has_done(struct queue *queue);       // is there something to collect?

// A worker: waits for a job of its lane; NULL once the queue is stopped. And gives it back.
// is_home: it is the lane's home worker (one, or none), who is called before the others and scouts
// whenever it has nothing to do. *is_scout (or NULL): would it rather watch the socket than wait?
// If nobody does, it is told so, gets NULL, and watches the socket and queue_scout_fd until one of
// them is readable; then it ends that, before anything else.
struct job *queue_pop(struct queue *queue, unsigned lane, bool is_home, bool *is_scout);
int queue_scout_fd(const struct queue *queue);
void queue_end_scout(struct queue *queue);
void queue_finish(struct queue *queue, struct job *job);

// Wakes all workers; queue_pop gives NULL from now on.
void queue_stop(struct queue *queue);
