// SPDX-License-Identifier: Apache-2.0
// The registry of the moment. Who answers a request takes it once, at the beginning, and gives it
// back at the end: all that is looked up meanwhile fits together, and a change counts from the next
// request on.
#pragma once

#include "hsmd/registry/registry.h"

struct live;

// Takes registry over if it succeeds. ERR_TEMP: out of memory.
enum err live_new(struct registry *registry, struct live **live);
void live_free(struct live *live); // nobody holds a registry any more; NULL is fine

// Thread-safe; never waits for more than a few instructions.
const struct registry *live_take(struct live *live);
void live_give(struct live *live, const struct registry *registry);
// Takes registry over; the former one is freed by whoever gives it back last.
void live_swap(struct live *live, struct registry *registry);
