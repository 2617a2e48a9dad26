// SPDX-License-Identifier: Apache-2.0
// A sliding window of 60 slots that counts, with a limit, without locks; see budget.h.
//
// used is never less than what the slots hold: a use is added to it first, and what has expired is
// taken off by whoever succeeds in emptying its slot. A slot is one word of its number and its
// count, so an old count cannot be mistaken for a new one.
#pragma once

#include <stdatomic.h>

#include "hsmd/base/clock.h"
#include "hsmd/base/err.h"

#define WINDOW_SLOTS 61 // 60, and the one that is being filled

struct window {
    unsigned slot_ms;  // set once
    atomic_uint limit; // 0: none
    atomic_uint_least64_t used;
    atomic_uint_least64_t newest;              // slot up to which has been swept
    atomic_uint_least64_t slots[WINDOW_SLOTS]; // number << 32 | count
};

void window_init(struct window *window, unsigned slot_ms);

// In two steps, so that several windows can be asked and none is charged if one refuses: a
// reserved use is granted already; add it, or cancel it. False: the limit is reached.
bool window_reserve(struct window *window, deadline_t now);
void window_add(struct window *window, deadline_t now);
void window_cancel(struct window *window);

// Adds one in a single step, whatever the limit.
void window_count(struct window *window, deadline_t now);

// For the file. The i-th slot, up to WINDOW_SLOTS: how much is counted in it, and its number; 0:
// nothing, or it is too old by now.
uint32_t window_get_slot(const struct window *window, unsigned i, deadline_t now, uint64_t *number);
// Before others use it. What is too old is left out; what is of the future, by a clock that was put
// back, counts as of now.
void window_put_slot(struct window *window, uint64_t number, uint32_t count, deadline_t now);

// UINT64_MAX: there is no limit.
uint64_t window_left(struct window *window, deadline_t now);
