// SPDX-License-Identifier: Apache-2.0
// A thread that does something now and then.
#pragma once

#include <stdbool.h>

#include "hsmd/base/err.h"

struct ticker;

// Calls tick first_ms from now, and then each time as many milliseconds after its return as it
// says. All signals are blocked in the thread.
enum err ticker_start(unsigned first_ms, unsigned (*tick)(void *context), void *context,
                      struct ticker **ticker, struct detail *detail);

// Ends it between two calls. False: the one under way has not returned within wait_ms; then ticker
// and context must be left alone until the process ends. NULL is fine.
bool ticker_stop(struct ticker *ticker, unsigned wait_ms);
