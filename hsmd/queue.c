// SPDX-License-Identifier: Apache-2.0
#include "hsmd/queue.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "hsmd/base/alloc.h"
#include "hsmd/core.h"
#include "hsmd/wire/wire.h"

struct list {
    struct job *first, **last;
};

struct queue {
    struct job *jobs;
    size_t job_count;
    struct job *free; // the socket's thread's alone
    pthread_mutex_t lock;
    pthread_cond_t has_work;
    struct list waiting;
    struct list done;
    unsigned idle; // workers that wait; nobody is woken if there are none
    bool is_stopped;
    int done_fd; // written when done gets its first job
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

enum err queue_new(size_t jobs, struct queue **out, struct detail *detail)
{
    struct queue *queue = mem_calloc(1, sizeof *queue);
    if (!queue)
        return err_set(detail, ERR_TEMP, "out of memory");
    queue->jobs = mem_calloc(jobs, sizeof *queue->jobs);
    queue->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!queue->jobs || queue->done_fd < 0) {
        if (queue->done_fd >= 0)
            close(queue->done_fd);
        mem_free(queue->jobs);
        mem_free(queue);
        return err_set(detail, ERR_TEMP, "cannot make the queue");
    }
    queue->job_count = jobs;
    for (size_t i = 0; i < jobs; i++) {
        struct job *job = &queue->jobs[i];
        zmq_msg_init(&job->route);
        zmq_msg_init(&job->frame);
        buf_init(&job->reply, WIRE_FRAME_MAX);
        job->next = queue->free;
        queue->free = job;
    }
    list_init(&queue->waiting);
    list_init(&queue->done);
    pthread_mutex_init(&queue->lock, NULL);
    pthread_cond_init(&queue->has_work, NULL);
    *out = queue;
    return ERR_OK;
}

void queue_free(struct queue *queue)
{
    if (!queue)
        return;
    for (size_t i = 0; i < queue->job_count; i++) {
        struct job *job = &queue->jobs[i];
        zmq_msg_close(&job->route);
        zmq_msg_close(&job->frame);
        core_reply_wipe(&job->reply);
        buf_clear(&job->reply);
    }
    close(queue->done_fd);
    pthread_cond_destroy(&queue->has_work);
    pthread_mutex_destroy(&queue->lock);
    mem_free(queue->jobs);
    mem_free(queue);
}

struct job *queue_take(struct queue *queue)
{
    struct job *job = queue->free;
    if (!job)
        return NULL;
    queue->free = job->next;
    job->is_answered = false;
    job->is_skipped = false;
    return job;
}

void queue_release(struct queue *queue, struct job *job)
{
    zmq_msg_close(&job->route);
    zmq_msg_close(&job->frame);
    zmq_msg_init(&job->route);
    zmq_msg_init(&job->frame);
    core_reply_wipe(&job->reply);
    job->next = queue->free;
    queue->free = job;
}

void queue_push(struct queue *queue, struct job *job)
{
    pthread_mutex_lock(&queue->lock);
    list_append(&queue->waiting, job);
    bool is_wanted = queue->idle > 0;
    pthread_mutex_unlock(&queue->lock);
    if (is_wanted)
        pthread_cond_signal(&queue->has_work);
}

struct job *queue_pop(struct queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    while (!queue->waiting.first && !queue->is_stopped) {
        queue->idle++;
        pthread_cond_wait(&queue->has_work, &queue->lock);
        queue->idle--;
    }
    struct job *job = queue->is_stopped ? NULL : queue->waiting.first;
    if (job) {
        queue->waiting.first = job->next;
        if (!queue->waiting.first)
            list_init(&queue->waiting);
    }
    pthread_mutex_unlock(&queue->lock);
    return job;
}

static void wake(int fd)
{
    uint64_t one = 1;
    while (write(fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

void queue_finish(struct queue *queue, struct job *job)
{
    pthread_mutex_lock(&queue->lock);
    bool is_first = !queue->done.first;
    list_append(&queue->done, job);
    pthread_mutex_unlock(&queue->lock);
    if (is_first)
        wake(queue->done_fd);
}

int queue_fd(const struct queue *queue)
{
    return queue->done_fd;
}

struct job *queue_collect(struct queue *queue)
{
    uint64_t count;
    // Emptied before the list is taken: what is added after that writes it again.
    while (read(queue->done_fd, &count, sizeof count) < 0 && errno == EINTR)
        ;
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
    pthread_cond_broadcast(&queue->has_work);
}
