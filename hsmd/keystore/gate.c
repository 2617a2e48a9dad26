// SPDX-License-Identifier: Apache-2.0
#include "hsmd/keystore/gate.h"

#include <errno.h>
#include <limits.h>
#include <time.h>

void gate_init(struct gate *gate)
{
    pthread_condattr_t monotonic;
    *gate = (struct gate){0};
    pthread_mutex_init(&gate->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&gate->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

void gate_clear(struct gate *gate)
{
    pthread_cond_destroy(&gate->changed);
    pthread_mutex_destroy(&gate->lock);
}

// Waits for a change, with the lock held. False: the deadline is past.
static bool wait_changed(struct gate *gate, deadline_t deadline)
{
    struct timespec until = deadline_timespec(deadline);
    return pthread_cond_timedwait(&gate->changed, &gate->lock, &until) != ETIMEDOUT;
}

bool gate_enter(struct gate *gate, deadline_t deadline)
{
    return gate_enter_unless_stuck(gate, deadline, UINT_MAX);
}

bool gate_enter_unless_stuck(struct gate *gate, deadline_t deadline, unsigned longest_ms)
{
    bool in_time = true;
    pthread_mutex_lock(&gate->lock);
    while (gate->is_closed && in_time) {
        deadline_t limit = gate->closed_at + longest_ms;
        in_time = wait_changed(gate, limit < deadline ? limit : deadline);
    }
    bool entered = !gate->is_closed;
    gate->inside += entered;
    pthread_mutex_unlock(&gate->lock);
    return entered;
}

void gate_leave(struct gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    bool is_awaited = --gate->inside == 0 && gate->is_closed;
    pthread_mutex_unlock(&gate->lock);
    if (is_awaited)
        pthread_cond_broadcast(&gate->changed);
}

bool gate_close(struct gate *gate, deadline_t deadline)
{
    bool in_time = true;
    pthread_mutex_lock(&gate->lock);
    while (gate->is_closed && in_time) // another has it alone
        in_time = wait_changed(gate, deadline);
    bool is_mine = !gate->is_closed;
    if (is_mine) {
        gate->is_closed = true;
        gate->closed_at = clock_ms();
    }
    while (is_mine && gate->inside && in_time)
        in_time = wait_changed(gate, deadline);
    if (is_mine && gate->inside) {
        is_mine = false;
        gate->is_closed = false;
        pthread_cond_broadcast(&gate->changed);
    }
    pthread_mutex_unlock(&gate->lock);
    return is_mine;
}

void gate_open(struct gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    gate->is_closed = false;
    pthread_mutex_unlock(&gate->lock);
    pthread_cond_broadcast(&gate->changed);
}
