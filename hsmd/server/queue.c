// SPDX-License-Identifier: Apache-2.0
#include "hsmd/server/queue.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "hsmd/base/alloc.h"

#define KEPT_MAX 4096 // bytes that a job keeps for the next frame, and for the next reply

struct list {
    struct job *first, **last;
};

// The jobs of one client in one lane. Its turn comes when it stands first in the lane; it stands
// there as long as one of its jobs waits.
struct flow {
    struct flow *next; // the doors' user's: in use in the lane, or free
    size_t jobs;       // the doors' user's: taken and not released
    char peer[REGISTRY_PUBLIC_KEY_SIZE];
    struct flow *behind; // whose turn comes after
    struct list waiting;
};

struct lane {
    struct flow *flows; // the doors' user's: those with a job
    struct flow *first, **last;
    // Workers with nothing to do; those who are called come one at a time: nobody is woken if there
    // are none, or if one who was called has not come yet.
    pthread_cond_t has_work;
    unsigned sleeping;
    bool is_called;
};

struct queue {
    struct job *jobs;
    size_t job_count;
    struct job *free; // the doors' user's alone, as the next three are
    size_t free_count;
    struct flow *flows; // as many as jobs: a flow in use has one
    struct flow *free_flow;
    struct lane *lanes;
    unsigned lane_count;
    pthread_mutex_t lock;
    struct list done;
    struct lane *scout; // the lane of the one who scouts; NULL: nobody does
    int call_fd;
    bool is_stopped;
};

static void list_init(struct list *list)
{
    *list = (struct list){NULL, &list->first};
}

static void list_append(struct list *list, struct job *job)
{
    job->next = NULL;
    *list->last = job;
    list->last = &job->next;
}

static struct job *list_take(struct list *list)
{
    struct job *job = list->first;
    list->first = job->next;
    if (!list->first)
        list_init(list);
    return job;
}

static void queue_init(struct queue *queue, size_t jobs, unsigned lanes, size_t request_max,
                       size_t reply_max)
{
    queue->job_count = jobs;
    queue->free_count = jobs;
    queue->lane_count = lanes;
    for (size_t i = 0; i < jobs; i++) {
        struct job *job = &queue->jobs[i];
        zmq_msg_init(&job->route.router);
        buf_init(&job->frame, request_max);
        buf_init(&job->reply, reply_max);
        job->next = queue->free;
        queue->free = job;
        list_init(&queue->flows[i].waiting);
        queue->flows[i].next = queue->free_flow;
        queue->free_flow = &queue->flows[i];
    }
    for (unsigned i = 0; i < lanes; i++) {
        queue->lanes[i].last = &queue->lanes[i].first;
        pthread_cond_init(&queue->lanes[i].has_work, NULL);
    }
    list_init(&queue->done);
    pthread_mutex_init(&queue->lock, NULL);
}

enum err queue_new(size_t jobs, unsigned lanes, size_t request_max, size_t reply_max,
                   struct queue **out, struct detail *detail)
{
    struct queue *queue = mem_calloc(1, sizeof *queue);
    if (!queue)
        return err_set(detail, ERR_TEMP, "out of memory");
    queue->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    queue->jobs = mem_calloc(jobs, sizeof *queue->jobs);
    queue->flows = mem_calloc(jobs, sizeof *queue->flows);
    queue->lanes = mem_calloc(lanes, sizeof *queue->lanes);
    if (!queue->jobs || !queue->flows || !queue->lanes || queue->call_fd < 0) {
        queue_free(queue);
        return err_set(detail, ERR_TEMP, "cannot make the queue");
    }
    queue_init(queue, jobs, lanes, request_max, reply_max);
    *out = queue;
    return ERR_OK;
}

void queue_free(struct queue *queue)
{
    if (!queue)
        return;
    for (size_t i = 0; i < queue->job_count; i++) {
        struct job *job = &queue->jobs[i];
        zmq_msg_close(&job->route.router);
        buf_wipe(&job->frame); // what waited at the stop may have a PIN in it
        buf_clear(&job->frame);
        buf_wipe(&job->reply);
        buf_clear(&job->reply);
    }
    for (unsigned i = 0; i < queue->lane_count; i++)
        pthread_cond_destroy(&queue->lanes[i].has_work);
    if (queue->call_fd >= 0)
        close(queue->call_fd);
    if (queue->lane_count)
        pthread_mutex_destroy(&queue->lock);
    mem_free(queue->jobs);
    mem_free(queue->flows);
    mem_free(queue->lanes);
    mem_free(queue);
}

static struct flow *find_flow(const struct lane *lane, const char *peer)
{
    struct flow *flow = lane->flows;
    while (flow && strcmp(flow->peer, peer) != 0)
        flow = flow->next;
    return flow;
}

static struct flow *begin_flow(struct queue *queue, struct lane *lane, const char *peer)
{
    struct flow *flow = queue->free_flow;
    queue->free_flow = flow->next;
    flow->next = lane->flows;
    lane->flows = flow;
    memcpy(flow->peer, peer, sizeof flow->peer);
    return flow;
}

static void end_flow(struct queue *queue, struct lane *lane, struct flow *flow)
{
    struct flow **at = &lane->flows;
    while (*at != flow)
        at = &(*at)->next;
    *at = flow->next;
    flow->next = queue->free_flow;
    queue->free_flow = flow;
}

struct job *queue_take(struct queue *queue, unsigned lane, const char *peer)
{
    struct flow *flow = find_flow(&queue->lanes[lane], peer);
    if ((flow ? flow->jobs : 0) >= queue->free_count)
        return NULL;
    if (!flow)
        flow = begin_flow(queue, &queue->lanes[lane], peer);
    struct job *job = queue->free;
    queue->free = job->next;
    queue->free_count--;
    flow->jobs++;
    memcpy(job->peer, flow->peer, sizeof job->peer);
    job->lane = lane;
    job->flow = flow;
    job->is_answered = false;
    job->is_skipped = false;
    return job;
}

void queue_release(struct queue *queue, struct job *job)
{
    zmq_msg_close(&job->route.router);
    zmq_msg_init(&job->route.router);
    buf_empty(&job->frame, KEPT_MAX);
    buf_wipe(&job->reply);
    buf_empty(&job->reply, KEPT_MAX);
    if (--job->flow->jobs == 0)
        end_flow(queue, &queue->lanes[job->lane], job->flow);
    job->next = queue->free;
    queue->free = job;
    queue->free_count++;
}

static void stand_last(struct lane *lane, struct flow *flow)
{
    flow->behind = NULL;
    *lane->last = flow;
    lane->last = &flow->behind;
}

static void leave_line(struct lane *lane, struct flow *flow)
{
    struct flow **at = &lane->first;
    while (*at != flow)
        at = &(*at)->behind;
    *at = flow->behind;
    if (!*at)
        lane->last = at;
}

static void call_scout(const struct queue *queue)
{
    uint64_t one = 1;
    while (write(queue->call_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

// Who is to be called when the lock is given back.
enum call { CALL_NOBODY, CALL_SLEEPER, CALL_SCOUT };

// Lock held. It calls the next if there is still more to do when it comes. Where all processors are
// busy it comes late, and those at work take the jobs as they finish, without a crowd that is woken
// for nothing.
static enum call choose(const struct queue *queue, struct lane *lane)
{
    if (!lane->first || lane->is_called || (!lane->sleeping && queue->scout != lane))
        return CALL_NOBODY;
    lane->is_called = true;
    return lane->sleeping ? CALL_SLEEPER : CALL_SCOUT;
}

static void call(struct queue *queue, unsigned lane, enum call who)
{
    if (who == CALL_SLEEPER)
        pthread_cond_signal(&queue->lanes[lane].has_work);
    else if (who == CALL_SCOUT)
        call_scout(queue);
}

void queue_push(struct queue *queue, struct job *job, bool is_to_call)
{
    unsigned lane = job->lane; // the job may be another's when the lock is given back
    pthread_mutex_lock(&queue->lock);
    if (!job->flow->waiting.first)
        stand_last(&queue->lanes[lane], job->flow);
    list_append(&job->flow->waiting, job);
    enum call who = is_to_call ? choose(queue, &queue->lanes[lane]) : CALL_NOBODY;
    pthread_mutex_unlock(&queue->lock);
    call(queue, lane, who);
}

bool queue_withdraw(struct queue *queue, struct job *job)
{
    pthread_mutex_lock(&queue->lock);
    bool is_there = job->flow->waiting.first == job;
    if (is_there) {
        (void)list_take(&job->flow->waiting);
        if (!job->flow->waiting.first)
            leave_line(&queue->lanes[job->lane], job->flow);
    }
    pthread_mutex_unlock(&queue->lock);
    return is_there;
}

bool queue_has_work(struct queue *queue, unsigned lane)
{
    pthread_mutex_lock(&queue->lock);
    bool has_work = queue->lanes[lane].first != NULL;
    pthread_mutex_unlock(&queue->lock);
    return has_work;
}

struct job *queue_pop(struct queue *queue, unsigned number, bool *is_scout)
{
    struct lane *lane = &queue->lanes[number];
    struct job *job = NULL;
    enum call who = CALL_NOBODY;
    pthread_mutex_lock(&queue->lock);
    *is_scout = false;
    while (!lane->first && !queue->is_stopped && !*is_scout) {
        *is_scout = number && !queue->scout;
        if (*is_scout)
            break;
        lane->sleeping++;
        pthread_cond_wait(&lane->has_work, &queue->lock);
        lane->sleeping--;
        lane->is_called = false;
    }
    if (*is_scout) {
        queue->scout = lane;
    } else if (!queue->is_stopped) {
        struct flow *flow = lane->first;
        leave_line(lane, flow);
        job = list_take(&flow->waiting);
        if (flow->waiting.first)
            stand_last(lane, flow);
        who = choose(queue, lane);
    }
    pthread_mutex_unlock(&queue->lock);
    call(queue, number, who);
    return job;
}

void queue_end_scout(struct queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->scout->is_called = false; // if another was called, it finds nothing, or more
    queue->scout = NULL;
    pthread_mutex_unlock(&queue->lock);
}

int queue_call_fd(const struct queue *queue)
{
    return queue->call_fd;
}

bool queue_has_scout(struct queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    bool has_scout = queue->scout;
    pthread_mutex_unlock(&queue->lock);
    return has_scout;
}

bool queue_call_for_scout(struct queue *queue, unsigned number)
{
    struct lane *lane = &queue->lanes[number];
    pthread_mutex_lock(&queue->lock);
    for (unsigned i = 1; i < queue->lane_count && !lane->sleeping; i++)
        lane = &queue->lanes[i];
    bool is_there = queue->scout || lane->sleeping;
    bool is_to_call = !queue->scout && lane->sleeping && !lane->is_called;
    if (is_to_call)
        lane->is_called = true;
    pthread_mutex_unlock(&queue->lock);
    if (is_to_call)
        pthread_cond_signal(&lane->has_work);
    return is_there;
}

void queue_finish(struct queue *queue, struct job *job)
{
    pthread_mutex_lock(&queue->lock);
    list_append(&queue->done, job);
    pthread_mutex_unlock(&queue->lock);
}

bool queue_has_done(struct queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    bool has_done = queue->done.first != NULL;
    pthread_mutex_unlock(&queue->lock);
    return has_done;
}

struct job *queue_collect(struct queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    struct job *done = queue->done.first;
    list_init(&queue->done);
    pthread_mutex_unlock(&queue->lock);
    return done;
}

void queue_stop(struct queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->is_stopped = true;
    pthread_mutex_unlock(&queue->lock);
    for (unsigned i = 0; i < queue->lane_count; i++)
        pthread_cond_broadcast(&queue->lanes[i].has_work);
    call_scout(queue);
}
