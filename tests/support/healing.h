// SPDX-License-Identifier: Apache-2.0
// How long it took, time after time, until all was well again after a fault: a second as a rule, on
// any machine. A machine with other things to do may take longer once, which has limits elsewhere.
#pragma once

#define HEALING_TIMES_MAX 1024
#define HEALING_MEDIAN_MS 1000

struct healing {
    unsigned ms[HEALING_TIMES_MAX];
    unsigned count;
};

void healing_note(struct healing *healing, unsigned ms);
// Prints the worst one and the median, and fails the test if that is over HEALING_MEDIAN_MS, or if
// there is none.
void healing_check(struct healing *healing, const char *what);
