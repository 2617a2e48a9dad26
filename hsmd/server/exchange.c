// SPDX-License-Identifier: Apache-2.0
// The doors are used by whoever holds the lock: a worker that has done a job sends the reply itself
// and receives what has come meanwhile, so that under load nobody is woken for either; but the
// reply to a peer that it holds it writes when it has given the lock back. (ZeroMQ allows a socket
// to go from thread to thread with a full fence, which the lock is.) Nobody waits for the lock but
// the waiting thread and workers with nothing to do: what a worker has done stands in the queue's
// list, and one who has given the lock back looks there once more.
//
// The last thing done with the router under the lock is to receive until there is nothing
// (router_fd says why); one who stops before that wakes the waiting thread.
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hsmd/server/server_internal.h"

#define RECEIVE_BURST 256 // messages taken before replies are looked after again
#define SELDOM_MS 1000    // between two lines about a full queue

// An empty reply is not sent, but the local door counts its request as answered.
static void send_reply(struct server *server, struct route *route, struct buf *reply)
{
    if (route->connection)
        local_send(server->local, route->connection, buf_bytes(reply));
    else if (reply->len)
        router_send(server->router, &route->router, reply);
}

// No other thread may read it any more.
static void wipe(const struct server *server, struct buf *frame)
{
    if (server->handler.is_secret_request)
        buf_wipe(frame);
}

static void release(struct server *server, struct job *job)
{
    if (job->lane)
        server->outstanding[job->lane - 1]--;
    wipe(server, &job->frame);
    queue_release(server->queue, job);
    server->out--;
}

static void refuse(struct server *server, struct route *route, const struct buf *frame,
                   enum err class)
{
    struct buf reply;
    buf_init(&reply, server->reply_max);
    server->handler.refuse(server->handler.context, buf_bytes(frame), class, &reply);
    send_reply(server, route, &reply);
    buf_clear(&reply);
}

// For refusals that a client can cause as fast as it can send.
static void log_seldom(struct server *server, const struct arrival *arrival, const char *reason)
{
    char text[200];
    deadline_t now = clock_ms();
    if (now < server->quiet_until) {
        server->untold++;
        return;
    }
    snprintf(text, sizeof text, "%s; %lu more since the last such line", reason, server->untold);
    server->handler.log_refusal(server->handler.context, arrival->peer, buf_bytes(&arrival->frame),
                                ERR_TEMP, server->untold ? text : reason);
    server->quiet_until = now + SELDOM_MS;
    server->untold = 0;
}

static void log_late(const struct server *server, struct job *job)
{
    server->handler.log_refusal(server->handler.context, job->peer, buf_bytes(&job->frame),
                                ERR_TEMP, "not done at its deadline");
}

static void remember(struct server *server, struct job *job)
{
    job->younger = NULL;
    job->older = server->youngest;
    if (server->youngest)
        server->youngest->younger = job;
    else
        server->oldest = job;
    server->youngest = job;
}

static void forget(struct server *server, struct job *job)
{
    if (job->older)
        job->older->younger = job->younger;
    else
        server->oldest = job->younger;
    if (job->younger)
        job->younger->older = job->older;
    else
        server->youngest = job->older;
}

static void refuse_arrival(struct server *server, enum metrics_refusal why, const char *reason)
{
    struct arrival *arrival = &server->arrival;
    metrics_refused(server->handler.metrics, why);
    log_seldom(server, arrival, reason);
    refuse(server, &arrival->route, &arrival->frame, ERR_TEMP);
}

// self: the worker that receives, NULL if it is none. It goes on with what is in its lane, so that
// for one job there nobody need be woken.
static void accept_request(struct server *server, struct worker *self)
{
    struct arrival *arrival = &server->arrival;
    if (atomic_load(&server->is_stopping)) {
        refuse_arrival(server, METRICS_STOPPING, "stopping");
        return;
    }
    unsigned lane = server->handler.lane(server->handler.context, arrival->peer,
                                         buf_bytes(&arrival->frame), server->outstanding);
    struct job *job =
        lane < server->lane_count ? queue_take(server->queue, lane, arrival->peer) : NULL;
    if (!job) {
        refuse_arrival(server, METRICS_QUEUE_FULL, "the client's share of the queue is taken");
        return;
    }
    struct buf empty = job->frame;
    job->frame = arrival->frame;
    arrival->frame = empty;
    job->route.connection = arrival->route.connection;
    zmq_msg_move(&job->route.router, &arrival->route.router);
    job->deadline = deadline_in(server->timeout_ms);
    job->queued = clock_us();
    metrics_add_waiting(server->handler.metrics, 1);
    remember(server, job);
    server->out++;
    if (lane)
        server->outstanding[lane - 1]++;
    bool is_mine = self && self->lane == lane && !self->has_next && !server->strangers.count;
    if (is_mine)
        self->has_next = true;
    queue_push(server->queue, job, !is_mine);
}

static bool receive_from(struct server *server, bool is_router)
{
    return is_router
               ? server->router && router_receive(server->router, server->handler.is_secret_request,
                                                  &server->arrival)
               : server->local && local_receive(server->local, &server->arrival);
}

// False: there is nothing. The doors take turns.
static bool receive(struct server *server, struct worker *self)
{
    server->is_routers_turn = !server->is_routers_turn;
    bool is_there = receive_from(server, server->is_routers_turn) ||
                    receive_from(server, !server->is_routers_turn);
    if (is_there)
        accept_request(server, self);
    wipe(server, &server->arrival.frame);
    return is_there;
}

// Whether another worker has the processor that this one has now. Two that hold connections would
// stay there, and take turns on it while others idle: who waits without sleeping is not moved.
static bool is_crowded(struct worker *self)
{
    const struct server *server = self->server;
    int cpu = sched_getcpu();
    atomic_store(&self->cpu, cpu);
    for (unsigned i = 0; i < server->worker_count; i++) {
        if (&server->workers[i] != self && atomic_load(&server->workers[i].cpu) == cpu)
            return true;
    }
    return false;
}

// Holds the connection, if its peer is expected to ask again at once, and leaves the answer for the
// worker to write. As long as it is held there is no other request of it to be answered.
static bool seal_answer(struct worker *worker, const struct job *job)
{
    struct server *server = worker->server;
    uint64_t asker = job->route.connection;
    if (!asker || !job->reply.len || !worker->lane || atomic_load(&server->is_stopping) ||
        queue_has_work(server->queue, worker->lane) || is_crowded(worker))
        return false;
    worker->held_fd = local_hold(server->local, asker);
    if (worker->held_fd < 0)
        return false;
    worker->sealed = local_seal(server->local, asker, buf_bytes(&job->reply));
    worker->held = worker->sealed.len ? asker : 0;
    return true;
}

// worker: has just done own, which may be among them (or another job in its place by now, which
// does as well); NULL: nobody has.
static void send_done(struct server *server, struct worker *worker, const struct job *own)
{
    struct job *next = NULL;
    for (struct job *job = queue_collect(server->queue); job; job = next) {
        next = job->next;
        if (!job->is_answered) {
            forget(server, job);
            if (job->is_skipped) {
                metrics_refused(server->handler.metrics, METRICS_DEADLINE);
                log_late(server, job);
                refuse(server, &job->route, &job->frame, ERR_TEMP);
            } else if (job != own || !seal_answer(worker, job)) {
                send_reply(server, &job->route, &job->reply);
            }
        }
        release(server, job);
    }
}

static void answer_late(struct server *server)
{
    for (struct job *job = server->oldest; job && deadline_is_past(job->deadline);
         job = server->oldest) {
        forget(server, job);
        job->is_answered = true;
        bool is_ours = queue_withdraw(server->queue, job);
        if (is_ours)
            metrics_add_waiting(server->handler.metrics, -1);
        metrics_refused(server->handler.metrics, METRICS_DEADLINE);
        log_late(server, job);
        // If not ours, a worker reads the frame at this moment too, and nobody writes it.
        refuse(server, &job->route, &job->frame, ERR_TEMP);
        if (is_ours)
            release(server, job);
    }
}

// A scout is told of what comes. If there is none, the next one who looks finds it. (A call for a
// scout may be there too: it is not for us, and stays.)
static void look_local(struct server *server, const struct worker *self)
{
    struct epoll_event events[SERVER_EVENTS];
    if (!server->local || queue_has_scout(server->queue))
        return;
    server->looks += self != NULL;
    int count = epoll_wait(server->epoll, events, SERVER_EVENTS, 0);
    if (count > 0)
        local_look(server->local, events, (size_t)count);
}

// Lock held.
static void receive_all(struct server *server, struct worker *self)
{
    unsigned count = 0;
    look_local(server, self);
    while (count < RECEIVE_BURST && receive(server, self))
        count++;
    server->has_more = count == RECEIVE_BURST;
}

void exchange_tell_stranger(const struct server *server, const char *public_key)
{
    if (server->handler.tell_stranger)
        server->handler.tell_stranger(server->handler.context, public_key);
}

// More than there is room for are in the metrics alone.
void exchange_note_stranger(struct server *server, const char *public_key)
{
    struct strangers *strangers = &server->strangers;
    if (strangers->count < STRANGERS_MAX)
        snprintf(strangers->keys[strangers->count++], sizeof *strangers->keys, "%s", public_key);
}

// One who found the lock held meanwhile, with more to do, has left its reply to us.
static void give_lock_back(struct server *server)
{
    pthread_mutex_unlock(&server->lock);
    if (queue_has_done(server->queue))
        server_wake(server);
}

void exchange_tell_strangers(struct server *server)
{
    struct strangers strangers;
    pthread_mutex_lock(&server->lock);
    memcpy(&strangers, &server->strangers, sizeof strangers);
    server->strangers.count = 0;
    give_lock_back(server);
    for (unsigned i = 0; i < strangers.count; i++)
        exchange_tell_stranger(server, strangers.keys[i]);
}

// Lock held.
static void end_sealed(struct worker *worker)
{
    if (worker->sealed.len)
        local_sent(worker->server->local, worker->held, worker->sent);
    worker->sealed = (struct bytes){NULL, 0};
    worker->sent = 0;
}

// Lock held.
static void let_go(struct worker *worker, bool is_late)
{
    end_sealed(worker);
    if (worker->held)
        local_let_go(worker->server->local, worker->held, is_late);
    worker->held = 0;
}

// Lock not held: the peer may run on this processor at once, and would find it taken.
static void write_sealed(struct worker *worker)
{
    if (!worker->sealed.len || worker->sent)
        return;
    ssize_t len = send(worker->held_fd, worker->sealed.data, worker->sealed.len, MSG_NOSIGNAL);
    worker->sent = len > 0 ? (size_t)len : 0; // what went wrong is seen when it is tried again
}

void exchange_give_up(struct worker *worker)
{
    pthread_mutex_lock(&worker->server->lock);
    let_go(worker, true);
    give_lock_back(worker->server);
}

// Lock held on entry, not on return. What others have done meanwhile is left to the waiting thread
// if there is work to go on with.
static void use_doors(struct worker *worker, const struct job *own)
{
    struct server *server = worker->server;
    bool has_strangers;
    bool has_done;
    do {
        send_done(server, worker, own);
        own = NULL;
        answer_late(server);
        receive_all(server, worker);
        if (queue_has_work(server->queue, worker->lane) || server->strangers.count)
            let_go(worker, false);
        bool is_last = atomic_load(&server->is_stopping) && !server->oldest;
        bool is_due = server->local && local_expire(server->local) < server->wakes_at;
        bool is_wanted = server->has_more || is_last || is_due; // the waiting thread
        has_strangers = server->strangers.count;
        pthread_mutex_unlock(&server->lock);
        write_sealed(worker);
        has_done = queue_has_done(server->queue);
        if (is_wanted || (has_done && worker->has_next))
            server_wake(server);
    } while (has_done && !worker->has_next && pthread_mutex_trylock(&server->lock) == 0);
    if (has_strangers) {
        server_leave_doors(worker);
        exchange_tell_strangers(server);
    }
}

void exchange_finish(struct worker *worker, struct job *job)
{
    struct server *server = worker->server;
    worker->has_next = false;
    queue_finish(server->queue, job);
    bool is_busy = queue_has_work(server->queue, worker->lane);
    if ((is_busy ? pthread_mutex_trylock : pthread_mutex_lock)(&server->lock) == 0)
        use_doors(worker, job);
}

void exchange_enter(struct worker *worker, const struct epoll_event *events, size_t count)
{
    struct server *server = worker->server;
    worker->has_next = false;
    pthread_mutex_lock(&server->lock);
    server->looks++;
    end_sealed(worker);
    if (worker->held)
        local_look_held(server->local, worker->held);
    else if (server->local)
        local_look(server->local, events, count);
    let_go(worker, false); // after that, so that nobody is told of what has been read
    use_doors(worker, NULL);
}

// The waiting thread, lock held. Workers that pass by see what has come. The router must be emptied
// after each use.
static void look_after(struct server *server)
{
    bool is_lone = server->looks == server->looks_seen;
    server->looks_seen = server->looks;
    server->watch_ms = is_lone                           ? WATCH_MS
                       : server->watch_ms < WATCH_MAX_MS ? 2 * server->watch_ms
                                                         : WATCH_MAX_MS;
    receive_all(server, NULL);
}

bool exchange_turn(struct server *server)
{
    pthread_mutex_lock(&server->lock);
    send_done(server, NULL, NULL);
    answer_late(server);
    look_after(server);
    bool is_awaited = server->oldest != NULL;
    pthread_mutex_unlock(&server->lock);
    return is_awaited;
}

int exchange_patience(struct server *server, deadline_t limit)
{
    // No request that comes from now on is due sooner.
    deadline_t until = deadline_in(server->timeout_ms);
    until = until < limit ? until : limit;
    pthread_mutex_lock(&server->lock);
    if (server->oldest && server->oldest->deadline < until)
        until = server->oldest->deadline;
    deadline_t due = server->local ? local_expire(server->local) : until;
    until = due < until ? due : until;
    server->wakes_at = until;
    bool has_more = server->has_more;
    pthread_mutex_unlock(&server->lock);
    // Or by one who found the lock held just now.
    return has_more || queue_has_done(server->queue) ? 0 : deadline_left(until);
}

size_t exchange_out(struct server *server)
{
    pthread_mutex_lock(&server->lock);
    size_t out = server->out;
    pthread_mutex_unlock(&server->lock);
    return out;
}
