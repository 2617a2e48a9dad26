// SPDX-License-Identifier: Apache-2.0
// A lock that many may hold at once or one alone, with deadlines on the monotonic clock; who wants
// it alone goes first.
#pragma once

#include <pthread.h>

#include "hsmd/base/clock.h"
#include "hsmd/base/err.h"

struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned inside;
    bool is_closed; // somebody has it alone, or waits for it
    deadline_t closed_at;
};

void gate_init(struct gate *gate);
void gate_clear(struct gate *gate); // nobody is inside

// With others. False: the deadline is past.
bool gate_enter(struct gate *gate, deadline_t deadline);
// The same, but nobody waits for one who has had it alone for longer than that: he hangs.
bool gate_enter_unless_stuck(struct gate *gate, deadline_t deadline, unsigned longest_ms);
void gate_leave(struct gate *gate);

// Alone. False: the deadline is past, and it is open again.
bool gate_close(struct gate *gate, deadline_t deadline);
void gate_open(struct gate *gate);
