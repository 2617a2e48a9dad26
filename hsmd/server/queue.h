// SPDX-License-Identifier: Apache-2.0
// Requests between the socket and the workers.
//
// A fixed number of jobs, and so a bound on what can wait. They wait in lanes, each with workers of
// its own: a token that hangs holds up its lane alone. In a lane the jobs of each client are a flow
// of their own, and the flows take turns: nobody waits for more than one job of another client. A
// flow may have as many jobs as there are free ones, so that one that floods leaves half of them,
// two leave a third, and whoever comes with little finds a place.
//
// The doors' user (one at a time, see exchange.c) takes a free job, fills it and pushes it; a
// worker pops it, does it and hands it back; the doors' user collects what is done. A job belongs
// to one side at a time, but for is_answered, which is the doors' user's alone.
#pragma once

#include "hsmd/base/clock.h"
#include "hsmd/base/err.h"
#include "hsmd/registry/registry.h"
#include "hsmd/server/arrival.h"

struct flow;

struct job {
    struct job *next;            // in a list of the queue
    struct job *older, *younger; // the doors' user's list of those not answered
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

// The doors' user: a job of this client with an empty frame, NULL if its share of them is
// taken; and back.
struct job *queue_take(struct queue *queue, unsigned lane, const char *peer);
void queue_release(struct queue *queue, struct job *job); // wipes its reply
// is_to_call: a worker with nothing to do, if there is one; false if the caller is a worker of that
// lane and pops next.
void queue_push(struct queue *queue, struct job *job, bool is_to_call);
// Takes back the oldest job of its flow. False: a worker has it, or had it.
bool queue_withdraw(struct queue *queue, struct job *job);
struct job *queue_collect(struct queue *queue); // the done ones as a list by next, oldest first
bool queue_has_done(struct queue *queue);       // is there something to collect?

// A worker: waits for a job of its lane. NULL: the queue is stopped; or *is_scout: there is nothing
// to do, and nobody watches what comes in, of all lanes. Then it does, and is called by
// queue_call_fd if all others of its lane are at work; before it does anything else it ends that.
// Lane 0 has no scouts.
struct job *queue_pop(struct queue *queue, unsigned lane, bool *is_scout);
bool queue_has_work(struct queue *queue, unsigned lane); // for somebody to pop
void queue_end_scout(struct queue *queue);
// An eventfd that is written to call the scout, who alone reads it, and before it ends that. It may
// find a call that came too late for the one before: then there is nothing for it to do.
int queue_call_fd(const struct queue *queue);
// And gives the job back.
void queue_finish(struct queue *queue, struct job *job);

bool queue_has_scout(struct queue *queue);
// If there is none, one with nothing to do becomes it: of this lane, or another. False: all of them
// are at work. (One who comes and finds work instead does the same.)
bool queue_call_for_scout(struct queue *queue, unsigned lane);

// Wakes all workers; queue_pop gives NULL from now on.
void queue_stop(struct queue *queue);
