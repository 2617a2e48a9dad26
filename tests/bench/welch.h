// SPDX-License-Identifier: Apache-2.0
// Do two lots of measured times differ? As dudect does it (Reparaz, Balasch, Verbauwhede, 2017).
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct welch_sample {
    uint32_t ns;
    bool is_bad; // of which lot
};

// Welch's t over the samples of at most limit ns; positive: the bad ones take longer. count: both
// lots together.
double welch_t(const struct welch_sample *samples, size_t count, uint32_t limit);
// The time that the given share (0 to 1) of both lots together stays within: where to crop the
// upper tail, for both alike, which holds what the machine did beside.
uint32_t welch_limit(const struct welch_sample *samples, size_t count, double share);
