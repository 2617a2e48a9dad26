// SPDX-License-Identifier: Apache-2.0
// How long it took, time after time, until all was well again after a fault: a second as a rule, on
// any machine. A machine with other things to do may take longer once, which has limits elsewhere.
#pragma once

// What all takes with a sanitizer, on a machine with other things to do.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HEALING_SLOWNESS 5
#else
#define HEALING_SLOWNESS 1
#endif

#define HEALING_TIMES_MAX 1024
#define HEALING_MEDIAN_MS (1000 * HEALING_SLOWNESS)

struct healing {
    unsigned ms[HEALING_TIMES_MAX];
    unsigned count;
};

void healing_note(struct healing *healing, unsigned ms);
// Prints the worst one and the median, and fails the test if that is over HEALING_MEDIAN_MS, or if
// there is none.
void healing_check(struct healing *healing, const char *what);
