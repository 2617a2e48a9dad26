// SPDX-License-Identifier: Apache-2.0
// How long it took, fault after fault, until all was well again: a second at most. A machine with
// other things to do may take longer now and then, so a fault that did is tried again.
#pragma once

#include <stdbool.h>

#include "tests/support/slowness.h"

#define HEALING_TIMES_MAX 1024
#define HEALING_MS (1000 * SLOWNESS)
#define HEALING_TRIES 3

struct healing {
    unsigned ms[HEALING_TIMES_MAX]; // of each fault, the best
    unsigned count, late, tries;
};

// False: it took more than HEALING_MS, and the same fault must be made again. Fails the test after
// the last of its tries.
bool healing_note(struct healing *healing, unsigned ms);
// Prints the worst one and the median, and how many tries were late. Fails the test if there is
// none.
void healing_check(struct healing *healing, const char *what);
