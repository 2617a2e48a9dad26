// SPDX-License-Identifier: Apache-2.0
#include "hsmd/ticker.h"

#include <errno.h>
#include <pthread.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/clock.h"
#include "hsmd/base/thread.h"

struct ticker {
    unsigned (*tick)(void *context);
    void *context;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed; // is_stopping or has_ended
    bool is_stopping;
    bool has_ended;
    deadline_t next;
};

// Until deadline at most, lock held. False: it is past.
static bool wait_until(struct ticker *ticker, deadline_t deadline)
{
    const struct timespec until = deadline_timespec(deadline);
    return pthread_cond_timedwait(&ticker->changed, &ticker->lock, &until) != ETIMEDOUT;
}

static void *run(void *argument)
{
    struct ticker *ticker = argument;
    pthread_mutex_lock(&ticker->lock);
    while (!ticker->is_stopping) {
        if (!deadline_is_past(ticker->next)) {
            (void)wait_until(ticker, ticker->next);
            continue;
        }
        pthread_mutex_unlock(&ticker->lock);
        unsigned pause = ticker->tick(ticker->context);
        pthread_mutex_lock(&ticker->lock);
        ticker->next = deadline_in(pause);
    }
    ticker->has_ended = true;
    pthread_cond_broadcast(&ticker->changed);
    pthread_mutex_unlock(&ticker->lock);
    return NULL;
}

static void release(struct ticker *ticker)
{
    pthread_cond_destroy(&ticker->changed);
    pthread_mutex_destroy(&ticker->lock);
    mem_free(ticker);
}

enum err ticker_start(unsigned first_ms, unsigned (*tick)(void *context), void *context,
                      struct ticker **out, struct detail *detail)
{
    pthread_condattr_t monotonic;
    struct ticker *ticker = mem_calloc(1, sizeof *ticker);
    if (!ticker)
        return err_set(detail, ERR_TEMP, "out of memory");
    *ticker = (struct ticker){.tick = tick, .context = context, .next = deadline_in(first_ms)};
    pthread_mutex_init(&ticker->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&ticker->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (!thread_start(&ticker->thread, run, ticker)) {
        release(ticker);
        return err_set(detail, ERR_TEMP, "cannot start a thread");
    }
    *out = ticker;
    return ERR_OK;
}

bool ticker_stop(struct ticker *ticker, unsigned wait_ms)
{
    bool in_time = true;
    if (!ticker)
        return true;
    deadline_t until = deadline_in(wait_ms);
    pthread_mutex_lock(&ticker->lock);
    ticker->is_stopping = true;
    pthread_cond_broadcast(&ticker->changed);
    while (!ticker->has_ended && in_time)
        in_time = wait_until(ticker, until);
    bool has_ended = ticker->has_ended;
    pthread_mutex_unlock(&ticker->lock);
    if (!has_ended) {
        pthread_detach(ticker->thread);
        return false;
    }
    pthread_join(ticker->thread, NULL);
    release(ticker);
    return true;
}
