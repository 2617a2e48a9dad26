// SPDX-License-Identifier: Apache-2.0
#include "hsmd/server/server.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/log.h"
#include "hsmd/server/endpoint.h"
#include "hsmd/server/queue.h"
#include "hsmd/wire/wire.h"
#include "hsmd/server/zap.h"

#define RECEIVE_BURST 256 // messages taken before replies are looked after again
#define CURVE_OVERHEAD 64 // at least what encryption adds to a frame, which MAXMSGSIZE counts
#define LINGER_MS 1000    // for the last replies
#define HANDSHAKE_MS 5000 // for a peer to prove who it is
// Messages of one connection that wait in ZeroMQ; it waits then. They do not wait for workers, so
// few are enough, and together with MAXMSGSIZE they bound what a connection can take: but for a
// message of many parts, which ZeroMQ keeps until its last part has come, and counts as one. There
// is no option against that; MemoryMax= in hsmd.service is the bound.
#define RECEIVE_MAX 16
// Replies to one peer that wait in ZeroMQ; more are dropped, so there is room for all of a full
// queue.
#define SEND_MAX (2 * SERVER_QUEUE_MAX)
#define BACKLOG 1024 // connections waiting to be accepted

#define SELDOM_MS 1000 // between two lines about a full queue

struct worker {
    struct server *server;
    unsigned lane; // core_lane's number
    pthread_t thread;
    bool is_running;
    struct core_worker core;
};

struct server {
    void *zmq;
    void *router;
    struct zap *zap;
    struct queue *queue;
    const struct core *core;
    unsigned timeout_ms;
    struct endpoints *endpoints;
    int stop; // eventfd
    atomic_bool is_stopping;
    pthread_t thread; // owns router, and what follows
    bool has_thread;
    struct job *oldest, *youngest; // not answered yet, by deadline
    size_t out;                    // jobs that workers have or wait for
    deadline_t quiet_until;        // no line about refused requests before that
    unsigned long untold;          // refused since the last one
    unsigned lane_count;
    struct worker *workers;
    unsigned worker_count;
};

// What a reply is sent from; wiped when ZeroMQ has encrypted it.
static void free_reply(void *data, void *hint)
{
    struct buf reply = {.data = data, .room = (size_t)hint};
    core_reply_wipe(&reply);
    mem_free(data);
}

// Hands the reply's memory over to ZeroMQ. A peer that has gone away, or does not read, is no
// reason to wait: the reply is dropped.
static void send_reply(struct server *server, zmq_msg_t *route, struct buf *reply)
{
    zmq_msg_t body;
    if (!reply->len)
        return;
    if (zmq_msg_init_data(&body, reply->data, reply->len, free_reply, (void *)reply->room) != 0)
        return;
    buf_init(reply, reply->max); // it is the message's now
    if (zmq_msg_send(route, server->router, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0 ||
        zmq_msg_send(&body, server->router, ZMQ_DONTWAIT) < 0)
        zmq_msg_close(&body);
}

static struct bytes message_bytes(zmq_msg_t *message)
{
    return bytes_of(zmq_msg_data(message), zmq_msg_size(message));
}

static void refuse(struct server *server, zmq_msg_t *route, zmq_msg_t *frame, enum err class)
{
    struct buf reply;
    buf_init(&reply, WIRE_FRAME_MAX);
    core_refuse(message_bytes(frame), class, &reply);
    send_reply(server, route, &reply);
    buf_clear(&reply);
}

// For refusals that a client can cause as fast as it can send.
static void log_seldom(struct server *server, const char *peer, zmq_msg_t *frame, enum err class,
                       const char *reason)
{
    char text[200];
    deadline_t now = clock_ms();
    if (now < server->quiet_until) {
        server->untold++;
        return;
    }
    snprintf(text, sizeof text, "%s; %lu more since the last such line", reason, server->untold);
    core_log_refusal(server->core, peer, message_bytes(frame), class,
                     server->untold ? text : reason);
    server->quiet_until = now + SELDOM_MS;
    server->untold = 0;
}

static void log_late(const struct server *server, struct job *job)
{
    core_log_refusal(server->core, job->peer, message_bytes(&job->frame), ERR_TEMP,
                     "not done at its deadline");
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

static void accept_request(struct server *server, zmq_msg_t *route, zmq_msg_t *frame)
{
    const char *peer = zap_peer(frame);
    if (!peer)
        return;
    bool is_stopping = atomic_load(&server->is_stopping);
    unsigned lane = core_lane(server->core, peer, message_bytes(frame), NULL);
    struct job *job =
        is_stopping || lane >= server->lane_count ? NULL : queue_take(server->queue, lane, peer);
    if (!job) {
        metrics_refused(server->core->metrics, is_stopping ? METRICS_STOPPING : METRICS_QUEUE_FULL);
        log_seldom(server, peer, frame, ERR_TEMP,
                   is_stopping ? "stopping" : "the client's share of the queue is taken");
        refuse(server, route, frame, ERR_TEMP);
        return;
    }
    zmq_msg_move(&job->route, route);
    zmq_msg_move(&job->frame, frame);
    job->deadline = deadline_in(server->timeout_ms);
    job->queued = clock_us();
    metrics_add_waiting(server->core->metrics, 1);
    remember(server, job);
    server->out++;
    queue_push(server->queue, job);
}

// One message of exactly two parts, else it is answered as malformed. False: there is none.
static bool receive(struct server *server)
{
    zmq_msg_t parts[2];
    zmq_msg_t more;
    size_t count = 0;
    zmq_msg_init(&parts[0]);
    zmq_msg_init(&parts[1]);
    zmq_msg_init(&more);
    for (bool has_more = true; has_more; count++) {
        zmq_msg_t *part = count < 2 ? &parts[count] : &more;
        if (zmq_msg_recv(part, server->router, ZMQ_DONTWAIT) < 0)
            break;
        has_more = zmq_msg_more(part);
    }
    if (count == 2) {
        accept_request(server, &parts[0], &parts[1]);
    } else if (count > 2 && zap_peer(&parts[1])) {
        metrics_refused(server->core->metrics, METRICS_MALFORMED);
        log_seldom(server, zap_peer(&parts[1]), &more, ERR_PERM, "a message of several frames");
        refuse(server, &parts[0], &more, ERR_PERM);
    }
    zmq_msg_close(&parts[0]);
    zmq_msg_close(&parts[1]);
    zmq_msg_close(&more);
    return count > 0;
}

static void send_done(struct server *server)
{
    struct job *next = NULL;
    for (struct job *job = queue_collect(server->queue); job; job = next) {
        next = job->next;
        if (!job->is_answered) {
            forget(server, job);
            if (job->is_skipped) {
                metrics_refused(server->core->metrics, METRICS_DEADLINE);
                log_late(server, job);
                refuse(server, &job->route, &job->frame, ERR_TEMP);
            } else {
                send_reply(server, &job->route, &job->reply);
            }
        }
        queue_release(server->queue, job);
        server->out--;
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
            metrics_add_waiting(server->core->metrics, -1);
        metrics_refused(server->core->metrics, METRICS_DEADLINE);
        log_late(server, job);
        // If not ours, a worker reads the frame at this moment too, and nobody writes it.
        refuse(server, &job->route, &job->frame, ERR_TEMP);
        if (!is_ours)
            continue;
        queue_release(server->queue, job);
        server->out--;
    }
}

static void *serve(void *argument)
{
    struct server *server = argument;
    deadline_t drained_by = 0;
    zmq_pollitem_t items[] = {{.socket = server->router, .events = ZMQ_POLLIN},
                              {.fd = queue_fd(server->queue), .events = ZMQ_POLLIN},
                              {.fd = server->stop, .events = ZMQ_POLLIN}};
    for (;;) {
        bool is_draining = drained_by != 0;
        deadline_t until = is_draining ? drained_by : UINT64_MAX;
        if (server->oldest && server->oldest->deadline < until)
            until = server->oldest->deadline;
        int wait = until == UINT64_MAX ? -1 : deadline_left(until);
        if (zmq_poll(items, is_draining ? 2 : 3, wait) < 0 && zmq_errno() != EINTR) {
            log_error("server", "err", zmq_strerror(zmq_errno()));
            kill(getpid(), SIGTERM);
            break;
        }
        if (items[1].revents)
            send_done(server);
        for (int i = 0; items[0].revents && i < RECEIVE_BURST && receive(server); i++)
            ;
        answer_late(server);
        if (!is_draining && items[2].revents)
            drained_by = deadline_in(SERVER_DRAIN_MS);
        // A worker that nobody waits for any more is not waited for either.
        if (drained_by && (!server->oldest || deadline_is_past(drained_by)))
            break;
    }
    return NULL;
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct server *server = worker->server;
    struct metrics *metrics = server->core->metrics;
    for (struct job *job; (job = queue_pop(server->queue, worker->lane)) != NULL;) {
        struct bytes frame = message_bytes(&job->frame);
        metrics_add_waiting(metrics, -1);
        metrics_add_busy(metrics, 1);
        metrics_queue_time(metrics, clock_us() - job->queued);
        job->is_skipped = deadline_is_past(job->deadline);
        if (!job->is_skipped)
            (void)core_handle(server->core, &worker->core, job->peer, frame, job->deadline,
                              &job->reply);
        metrics_add_busy(metrics, -1);
        queue_finish(server->queue, job);
    }
    return NULL;
}

static bool is_allowed(void *context, const char *domain, const char *public_key)
{
    const struct server *server = context;
    bool is_known = strcmp(domain, ZAP_DOMAIN_DATA) == 0 &&
                    registry_client_by_public_key(server->core->registry, public_key) != NULL;
    if (!is_known)
        metrics_refused(server->core->metrics, METRICS_UNKNOWN_PEER);
    return is_known;
}

static enum err set_limits(void *router, struct detail *detail)
{
    const int64_t frame_max = WIRE_FRAME_MAX + CURVE_OVERHEAD;
    const struct {
        int option;
        int value;
    } numbers[] = {
        {ZMQ_RCVHWM, RECEIVE_MAX},
        {ZMQ_SNDHWM, SEND_MAX},
        {ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS},
        {ZMQ_LINGER, LINGER_MS},
        {ZMQ_BACKLOG, BACKLOG},
        {ZMQ_TCP_KEEPALIVE, 1},
        {ZMQ_IPV6, 1},
    };
    bool ok = zmq_setsockopt(router, ZMQ_MAXMSGSIZE, &frame_max, sizeof frame_max) == 0;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers && ok; i++)
        ok = zmq_setsockopt(router, numbers[i].option, &numbers[i].value, sizeof(int)) == 0;
    return ok ? ERR_OK
              : err_set(detail, ERR_PERM, "cannot set up the socket: %s",
                        zmq_strerror(zmq_errno()));
}

// In this order: the handler is there before any socket that needs it.
static enum err open_sockets(struct server *server, const struct server_conf *conf,
                             struct detail *detail)
{
    server->zmq = zmq_ctx_new();
    if (!server->zmq)
        return err_set(detail, ERR_TEMP, "ZeroMQ: %s", zmq_strerror(zmq_errno()));
    enum err err = zap_open(server->zmq, is_allowed, server, &server->zap, detail);
    if (err != ERR_OK)
        return err;
    server->router = zmq_socket(server->zmq, ZMQ_ROUTER);
    if (!server->router)
        return err_set(detail, ERR_TEMP, "ZeroMQ: %s", zmq_strerror(zmq_errno()));
    err = set_limits(server->router, detail);
    if (err == ERR_OK)
        err = zap_secure(server->router, ZAP_DOMAIN_DATA, conf->server_key, detail);
    if (err == ERR_OK)
        err = endpoints_bind(server->router, conf->endpoints, conf->endpoint_count,
                             &server->endpoints, detail);
    return err;
}

static enum err start_threads(struct server *server, struct detail *detail)
{
    for (unsigned i = 0; i < server->worker_count; i++) {
        struct worker *worker = &server->workers[i];
        worker->server = server;
        enum err err = core_worker_init(&worker->core, detail);
        if (err != ERR_OK)
            return err;
        worker->is_running = pthread_create(&worker->thread, NULL, work, worker) == 0;
        if (!worker->is_running)
            return err_set(detail, ERR_TEMP, "cannot start a thread");
    }
    server->has_thread = pthread_create(&server->thread, NULL, serve, server) == 0;
    return server->has_thread ? ERR_OK : err_set(detail, ERR_TEMP, "cannot start a thread");
}

// The lane of what needs no token, then one for each token.
static enum err add_workers(struct server *server, const struct server_conf *conf,
                            struct detail *detail)
{
    unsigned count = SERVER_LIGHT_WORKERS;
    for (unsigned i = 0; i < conf->token_count; i++)
        count += conf->workers[i];
    server->workers = mem_calloc(count, sizeof *server->workers);
    if (!server->workers)
        return err_set(detail, ERR_TEMP, "out of memory");
    server->lane_count = 1 + conf->token_count;
    for (unsigned lane = 0; lane < server->lane_count; lane++) {
        unsigned of_lane = lane ? conf->workers[lane - 1] : SERVER_LIGHT_WORKERS;
        for (unsigned i = 0; i < of_lane; i++)
            server->workers[server->worker_count++].lane = lane;
    }
    return queue_new(SERVER_QUEUE_MAX, server->lane_count, &server->queue, detail);
}

enum err server_open(const struct server_conf *conf, struct server **out, struct detail *detail)
{
    sigset_t all;
    sigset_t before;
    struct server *server = mem_calloc(1, sizeof *server);
    if (!server)
        return err_set(detail, ERR_TEMP, "out of memory");
    *server = (struct server){.core = conf->core,
                              .timeout_ms = conf->timeout_ms,
                              .stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    enum err err = server->stop >= 0 ? add_workers(server, conf, detail)
                                     : err_errno(detail, ERR_TEMP, "eventfd");
    if (err == ERR_OK)
        err = open_sockets(server, conf, detail);
    if (err == ERR_OK)
        err = start_threads(server, detail);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err != ERR_OK) {
        (void)server_close(server, NULL);
        return err;
    }
    *out = server;
    return ERR_OK;
}

static void join_threads(struct server *server)
{
    for (unsigned i = 0; i < server->worker_count; i++) {
        if (server->workers[i].is_running)
            pthread_join(server->workers[i].thread, NULL);
        core_worker_clear(&server->workers[i].core);
    }
}

enum err server_close(struct server *server, struct detail *detail)
{
    uint64_t one = 1;
    if (!server)
        return ERR_OK;
    endpoints_close(server->endpoints);
    server->endpoints = NULL;
    atomic_store(&server->is_stopping, true);
    while (server->has_thread && write(server->stop, &one, sizeof one) < 0 && errno == EINTR)
        ;
    if (server->has_thread)
        pthread_join(server->thread, NULL);
    if (server->queue)
        queue_stop(server->queue);
    for (unsigned i = 0; i < server->worker_count && server->out; i++)
        pthread_detach(server->workers[i].thread);
    if (server->out)
        return err_set(detail, ERR_TEMP, "%zu requests are stuck in the token", server->out);
    join_threads(server);
    if (server->router)
        zmq_close(server->router);
    zap_close(server->zap);
    while (server->zmq && zmq_ctx_term(server->zmq) != 0 && zmq_errno() == EINTR)
        ;
    queue_free(server->queue);
    if (server->stop >= 0)
        close(server->stop);
    mem_free(server->workers);
    mem_free(server);
    return ERR_OK;
}

void server_end_zap(struct server *server)
{
    zap_close(server->zap);
    server->zap = NULL;
}
