// SPDX-License-Identifier: Apache-2.0
// Do two lots of measured times differ? As dudect does it (Reparaz, Balasch, Verbauwhede, 2017).
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct welch_sample {
    double ns;
    bool is_bad; // of which lot
};

// Takes off each sample the median of the WELCH_WINDOW samples around it, of both lots together:
// what the machine did for longer than that (its clock, a neighbour on the core) is the same for
// both lots, and hides what is looked for. samples: in the order they were taken.
#define WELCH_WINDOW 32
void welch_level(struct welch_sample *samples, size_t count);

// Welch's t over the samples of at most limit ns to either side of 0; positive: the bad ones take
// longer. count: both lots together.
double welch_t(const struct welch_sample *samples, size_t count, double limit);
// What the given share (0 to 1) of both lots together stays within to either side of 0: where to
// crop what the machine did beside, for both alike.
double welch_limit(const struct welch_sample *samples, size_t count, double share);
