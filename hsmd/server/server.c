// SPDX-License-Identifier: Apache-2.0
#include "hsmd/server/server.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/log.h"
#include "hsmd/server/server_internal.h"

// Replies to one peer that wait in ZeroMQ; more are dropped, so there is room for all of a full
// queue.
#define SEND_MAX (2 * SERVER_QUEUE_MAX)

#define CALM_LOOKS 128 // of the waiting thread, after somebody scouts again

void server_wake(const struct server *server)
{
    uint64_t one = 1;
    while (write(server->wake, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

static void clear(int fd)
{
    uint64_t count;
    (void)!read(fd, &count, sizeof count);
}

// How long the waiting thread may sleep. It looks often from when nobody scouts until somebody has
// done so for a while: to be woken for each of the busy moments would cost more.
static int patience(struct server *server, deadline_t limit, unsigned *calm)
{
    if (atomic_load(&server->is_watched)) {
        *calm = queue_has_scout(server->queue) ? *calm + 1 : 0;
        if (*calm < CALM_LOOKS)
            return exchange_patience(server, deadline_in(server->watch_ms));
        *calm = 0;
        atomic_store(&server->is_watched, false);
        if (!queue_has_scout(server->queue)) { // who ends it from now on sees to it again
            atomic_store(&server->is_watched, true);
            return 0;
        }
    }
    return exchange_patience(server, limit);
}

static void *serve(void *argument)
{
    struct server *server = argument;
    struct pollfd fd = {.fd = server->wake, .events = POLLIN};
    deadline_t drained_by = UINT64_MAX;
    unsigned calm = 0;
    for (;;) {
        if (poll(&fd, 1, patience(server, drained_by, &calm)) < 0 && errno != EINTR) {
            log_error("server", "err", strerror(errno));
            kill(getpid(), SIGTERM);
            break;
        }
        clear(server->wake); // before we look, not after
        if (drained_by == UINT64_MAX && atomic_load(&server->is_stopping))
            drained_by = deadline_in(SERVER_DRAIN_MS);
        bool is_awaited = exchange_turn(server);
        // A worker that nobody waits for any more is not waited for either.
        if (drained_by != UINT64_MAX && (!is_awaited || deadline_is_past(drained_by)))
            break;
    }
    return NULL;
}

static void do_job(struct worker *worker, struct job *job)
{
    const struct server_handler *handler = &worker->server->handler;
    struct metrics *metrics = handler->metrics;
    metrics_add_waiting(metrics, -1);
    metrics_add_busy(metrics, 1);
    atomic_store(&worker->cpu, sched_getcpu());
    metrics_queue_time(metrics, clock_us() - job->queued);
    job->is_skipped = deadline_is_past(job->deadline);
    if (!job->is_skipped)
        (void)handler->handle(handler->context, worker->context, job->peer, buf_bytes(&job->frame),
                              job->deadline, &job->reply);
    metrics_add_busy(metrics, -1);
}

// Looks for the peer that it expects, which may need this processor.
static void expect(struct worker *worker)
{
    struct pollfd fd = {.fd = worker->held_fd, .events = POLLIN};
    uint64_t until = clock_us() + LOCAL_PROMPT_US;
    int count = poll(&fd, 1, 0);
    for (bool is_over = false; !count && !is_over;) {
        sched_yield(); // and whoever had the processor meanwhile may have had it for long
        is_over = clock_us() >= until;
        count = poll(&fd, 1, 0);
    }
    if (count)
        exchange_enter(worker, NULL, 0);
    else
        exchange_give_up(worker);
}

// Watches what comes in until there is something, or the queue calls.
static void scout(struct worker *worker)
{
    struct server *server = worker->server;
    struct epoll_event events[SERVER_EVENTS];
    int count = epoll_wait(server->epoll, events, SERVER_EVENTS, -1);
    bool is_called = false;
    for (int i = 0; i < count && !is_called; i++)
        is_called = events[i].data.u64 == SERVER_CALL;
    if (is_called)
        clear(queue_call_fd(server->queue)); // before another scouts, whose call it might be
    queue_end_scout(server->queue);
    if (count > is_called)
        exchange_enter(worker, events, (size_t)count);
}

void server_leave_doors(struct worker *worker)
{
    struct server *server = worker->server;
    if (worker->lane && !queue_call_for_scout(server->queue, worker->lane) &&
        !atomic_exchange(&server->is_watched, true))
        server_wake(server);
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct queue *queue = worker->server->queue;
    for (;;) {
        bool is_scout = false;
        if (!worker->held)
            atomic_store(&worker->cpu, -1);
        struct job *job = worker->held ? NULL : queue_pop(queue, worker->lane, &is_scout);
        if (job) {
            server_leave_doors(worker);
            do_job(worker, job);
            exchange_finish(worker, job);
        } else if (worker->held) {
            expect(worker);
        } else if (is_scout) {
            scout(worker);
        } else {
            return NULL;
        }
    }
}

static bool is_allowed(const struct server *server, const char *public_key)
{
    bool is_known = server->handler.is_allowed(server->handler.context, public_key);
    if (!is_known)
        metrics_refused(server->handler.metrics, METRICS_UNKNOWN_PEER);
    return is_known;
}

// Called by a thread that does nothing else.
static bool is_allowed_by_zap(void *context, const char *domain, const char *public_key)
{
    const struct server *server = context;
    if (strcmp(domain, server->domain) != 0)
        return false;
    bool is_known = is_allowed(server, public_key);
    if (!is_known)
        exchange_tell_stranger(server, public_key);
    return is_known;
}

// Called with the lock held.
static bool is_allowed_here(void *context, const char *public_key)
{
    struct server *server = context;
    bool is_known = is_allowed(server, public_key);
    if (!is_known)
        exchange_note_stranger(server, public_key);
    return is_known;
}

static enum err open_router(struct server *server, const struct server_conf *conf,
                            struct detail *detail)
{
    const struct router_conf router = {.domain = server->domain,
                                       .server_key = conf->server_key,
                                       .is_allowed = is_allowed_by_zap,
                                       .context = server,
                                       .request_max = conf->request_max,
                                       .backlog = SEND_MAX};
    return router_open(&router, &server->router, detail);
}

static enum err open_local(struct server *server, const struct server_conf *conf,
                           struct detail *detail)
{
    const struct local_conf local = {.domain = server->domain,
                                     .server_key = conf->server_key,
                                     .is_allowed = is_allowed_here,
                                     .context = server,
                                     .request_max = conf->request_max,
                                     .epoll = server->epoll};
    return local_open(&local, &server->local, detail);
}

static bool is_local(const struct server_conf *conf, const char *endpoint)
{
    return conf->is_direct && endpoint_path(endpoint);
}

static enum err bind_to(void *context, const char *endpoint, struct detail *detail)
{
    const struct server *server = context;
    return server->local && endpoint_path(endpoint)
               ? local_bind(server->local, endpoint_path(endpoint), detail)
               : router_bind(server->router, endpoint, detail);
}

static bool watch(const struct server *server, int fd, uint32_t how, enum server_event what)
{
    struct epoll_event event = {.events = EPOLLIN | how, .data.u64 = what};
    return epoll_ctl(server->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

// A call stays until the scout has read it; of the router we are told once (router_fd).
static enum err open_watches(const struct server *server, struct detail *detail)
{
    bool ok = watch(server, queue_call_fd(server->queue), 0, SERVER_CALL) &&
              (!server->router || watch(server, router_fd(server->router), EPOLLET, SERVER_ROUTER));
    return ok ? ERR_OK : err_errno(detail, ERR_TEMP, "epoll");
}

static enum err open_doors(struct server *server, const struct server_conf *conf,
                           struct detail *detail)
{
    size_t locals = 0;
    for (size_t i = 0; i < conf->endpoint_count; i++)
        locals += is_local(conf, conf->endpoints[i]);
    enum err err = locals < conf->endpoint_count ? open_router(server, conf, detail) : ERR_OK;
    if (err == ERR_OK && locals)
        err = open_local(server, conf, detail);
    if (err == ERR_OK)
        err = open_watches(server, detail);
    return err != ERR_OK ? err
                         : endpoints_bind(bind_to, server, conf->endpoints, conf->endpoint_count,
                                          conf->mode, &server->endpoints, detail);
}

// Lock held, so that nothing is received as long as they are not all there.
static enum err start_threads(struct server *server, struct detail *detail)
{
    for (unsigned i = 0; i < server->worker_count; i++) {
        struct worker *worker = &server->workers[i];
        worker->server = server;
        enum err err = ERR_OK;
        if (server->handler.worker_new)
            err = server->handler.worker_new(server->handler.context, worker->lane,
                                             &worker->context, detail);
        if (err != ERR_OK)
            return err;
        worker->is_running = pthread_create(&worker->thread, NULL, work, worker) == 0;
        if (!worker->is_running)
            return err_set(detail, ERR_TEMP, "cannot start a thread");
    }
    server->has_thread = pthread_create(&server->thread, NULL, serve, server) == 0;
    return server->has_thread ? ERR_OK : err_set(detail, ERR_TEMP, "cannot start a thread");
}

// Lane 0, then the others.
static enum err add_workers(struct server *server, const struct server_conf *conf,
                            struct detail *detail)
{
    unsigned count = conf->light_workers;
    for (unsigned i = 0; i < conf->lane_count; i++)
        count += conf->workers[i];
    server->workers = mem_calloc(count, sizeof *server->workers);
    server->outstanding = mem_calloc(1 + conf->lane_count, sizeof *server->outstanding);
    if (!server->workers || !server->outstanding)
        return err_set(detail, ERR_TEMP, "out of memory");
    for (unsigned lane = 0; lane < server->lane_count; lane++) {
        unsigned of_lane = lane ? conf->workers[lane - 1] : conf->light_workers;
        for (unsigned i = 0; i < of_lane; i++)
            server->workers[server->worker_count++] = (struct worker){.lane = lane, .cpu = -1};
    }
    return queue_new(SERVER_QUEUE_MAX, server->lane_count, conf->request_max, conf->reply_max,
                     &server->queue, detail);
}

enum err server_open(const struct server_conf *conf, struct server **out, struct detail *detail)
{
    sigset_t all;
    sigset_t before;
    struct server *server = mem_calloc(1, sizeof *server);
    if (!server)
        return err_set(detail, ERR_TEMP, "out of memory");
    *server = (struct server){.handler = conf->handler,
                              .domain = conf->domain,
                              .reply_max = conf->reply_max,
                              .timeout_ms = conf->timeout_ms,
                              .watch_ms = WATCH_MS,
                              .lane_count = 1 + conf->lane_count,
                              .epoll = epoll_create1(EPOLL_CLOEXEC),
                              .wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    pthread_mutex_init(&server->lock, NULL);
    zmq_msg_init(&server->arrival.route.router);
    buf_init(&server->arrival.frame, conf->request_max);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    enum err err = server->epoll >= 0 && server->wake >= 0
                       ? add_workers(server, conf, detail)
                       : err_errno(detail, ERR_TEMP, "epoll, eventfd");
    if (err == ERR_OK)
        err = open_doors(server, conf, detail);
    pthread_mutex_lock(&server->lock);
    if (err == ERR_OK)
        err = start_threads(server, detail);
    atomic_store(&server->is_stopping, err != ERR_OK);
    pthread_mutex_unlock(&server->lock);
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
        if (server->workers[i].context)
            server->handler.worker_free(server->workers[i].context);
    }
}

enum err server_close(struct server *server, struct detail *detail)
{
    if (!server)
        return ERR_OK;
    endpoints_close(server->endpoints);
    server->endpoints = NULL;
    atomic_store(&server->is_stopping, true);
    server_wake(server);
    if (server->has_thread)
        pthread_join(server->thread, NULL);
    if (server->queue)
        queue_stop(server->queue);
    size_t out = exchange_out(server);
    for (unsigned i = 0; i < server->worker_count && out; i++) {
        if (server->workers[i].is_running)
            pthread_detach(server->workers[i].thread);
    }
    if (out)
        return err_set(detail, ERR_TEMP, "%zu requests are stuck in the token", out);
    join_threads(server);
    if (server->queue)
        exchange_tell_strangers(server);
    zmq_msg_close(&server->arrival.route.router);
    buf_wipe(&server->arrival.frame);
    buf_clear(&server->arrival.frame);
    router_close(server->router);
    local_close(server->local);
    queue_free(server->queue);
    if (server->epoll >= 0)
        close(server->epoll);
    if (server->wake >= 0)
        close(server->wake);
    pthread_mutex_destroy(&server->lock);
    mem_free(server->workers);
    mem_free(server->outstanding);
    mem_free(server);
    return ERR_OK;
}

void server_end_zap(struct server *server)
{
    router_end_zap(server->router);
}
