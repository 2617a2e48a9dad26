// SPDX-License-Identifier: Apache-2.0
#include "hsmd/client/pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "hsmd/base/alloc.h"

struct pool {
    pid_t pid;
    unsigned links_max;
    atomic_ullong next_id;
    struct pool *inherited;

    pthread_mutex_t lock; // guards what follows
    pthread_cond_t left;  // a call left
    unsigned entered;
    struct link *idle; // the one used last first
    unsigned idle_count;
};

enum err pool_new(unsigned links_max, struct pool **pool, struct detail *detail)
{
    uint64_t seed = 0;
    pthread_condattr_t attributes;
    struct pool *made = mem_calloc(1, sizeof *made);
    if (!made)
        return err_set(detail, ERR_TEMP, "out of memory");
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed) {
        mem_free(made);
        return err_errno(detail, ERR_TEMP, "no random numbers");
    }
    made->pid = getpid();
    made->links_max = links_max;
    atomic_init(&made->next_id, seed);
    pthread_mutex_init(&made->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&made->left, &attributes);
    pthread_condattr_destroy(&attributes);
    *pool = made;
    return ERR_OK;
}

void pool_free(struct pool *pool)
{
    while (pool) {
        struct pool *inherited = pool->inherited;
        bool ours = pool_is_ours(pool);
        for (struct link *link = pool->idle, *next; link; link = next) {
            next = link->next;
            if (ours)
                link_close(link);
            else
                link_abandon(link);
        }
        if (ours) {
            pthread_cond_destroy(&pool->left);
            pthread_mutex_destroy(&pool->lock);
        }
        mem_free(pool);
        pool = inherited;
    }
}

bool pool_is_ours(const struct pool *pool)
{
    return pool->pid == getpid();
}

void pool_set_inherited(struct pool *pool, struct pool *inherited)
{
    pool->inherited = inherited;
}

uint64_t pool_next_id(struct pool *pool)
{
    uint64_t id = atomic_fetch_add(&pool->next_id, 1);
    return id ? id : atomic_fetch_add(&pool->next_id, 1);
}

enum err pool_enter(struct pool *pool, deadline_t deadline, struct detail *detail)
{
    struct timespec until = deadline_timespec(deadline);
    int waited = 0;
    pthread_mutex_lock(&pool->lock);
    while (pool->entered == pool->links_max && waited != ETIMEDOUT)
        waited = pthread_cond_timedwait(&pool->left, &pool->lock, &until);
    bool entered = pool->entered < pool->links_max;
    if (entered)
        pool->entered++;
    pthread_mutex_unlock(&pool->lock);
    if (!entered)
        return err_set(detail, ERR_TEMP, "%u calls to hsmd are under way", pool->links_max);
    return ERR_OK;
}

void pool_leave(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->entered--;
    pthread_cond_signal(&pool->left);
    pthread_mutex_unlock(&pool->lock);
}

// Takes the first idle link to that endpoint out of the list. If there is none and the links would
// become too many, takes one of another endpoint instead, to be closed.
static struct link *take_idle(struct pool *pool, unsigned index)
{
    struct link **at = &pool->idle;
    pthread_mutex_lock(&pool->lock);
    while (*at && (*at)->endpoint != index)
        at = &(*at)->next;
    if (!*at && pool->idle_count + pool->entered > pool->links_max)
        at = &pool->idle;
    struct link *link = *at;
    if (link) {
        *at = link->next;
        link->next = NULL;
        pool->idle_count--;
    }
    pthread_mutex_unlock(&pool->lock);
    return link;
}

enum err pool_take(struct pool *pool, const struct link_conf *conf, unsigned index,
                   struct link **link, struct detail *detail)
{
    for (struct link *idle; (idle = take_idle(pool, index)) != NULL;) {
        if (idle->endpoint == index && link_is_alive(idle)) {
            *link = idle;
            return ERR_OK;
        }
        link_close(idle);
    }
    enum err err = link_open(conf, link, detail);
    if (err == ERR_OK)
        (*link)->endpoint = index;
    return err;
}

void pool_give(struct pool *pool, struct link *link)
{
    pthread_mutex_lock(&pool->lock);
    link->next = pool->idle;
    pool->idle = link;
    pool->idle_count++;
    pthread_mutex_unlock(&pool->lock);
}
