// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/welch.h"

#include <math.h>
#include <stdlib.h>

double welch_t(const struct welch_sample *samples, size_t count, uint32_t limit)
{
    double n[2] = {0}, mean[2] = {0}, squares[2] = {0}; // Welford's running sums
    for (size_t i = 0; i < count; i++) {
        unsigned lot = samples[i].is_bad;
        if (samples[i].ns > limit)
            continue;
        n[lot]++;
        double delta = samples[i].ns - mean[lot];
        mean[lot] += delta / n[lot];
        squares[lot] += delta * (samples[i].ns - mean[lot]);
    }
    if (n[0] < 2 || n[1] < 2)
        return 0;
    double error = squares[0] / (n[0] - 1) / n[0] + squares[1] / (n[1] - 1) / n[1];
    return error > 0 ? (mean[1] - mean[0]) / sqrt(error) : mean[1] == mean[0] ? 0 : HUGE_VAL;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

uint32_t welch_limit(const struct welch_sample *samples, size_t count, double share)
{
    uint32_t *sorted = calloc(count + 1, sizeof *sorted);
    if (!sorted)
        abort();
    for (size_t i = 0; i < count; i++)
        sorted[i] = samples[i].ns;
    qsort(sorted, count, sizeof *sorted, compare);
    uint32_t limit = sorted[(size_t)((double)(count - 1) * share)];
    free(sorted);
    return limit;
}
