// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/welch.h"

#include <math.h>
#include <stdlib.h>

double welch_t(const struct welch_sample *samples, size_t count, double limit)
{
    double n[2] = {0}, mean[2] = {0}, squares[2] = {0}; // Welford's running sums
    for (size_t i = 0; i < count; i++) {
        unsigned lot = samples[i].is_bad;
        if (fabs(samples[i].ns) > limit)
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
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

double welch_limit(const struct welch_sample *samples, size_t count, double share)
{
    double *sorted = calloc(count + 1, sizeof *sorted);
    if (!sorted)
        abort();
    for (size_t i = 0; i < count; i++)
        sorted[i] = fabs(samples[i].ns);
    qsort(sorted, count, sizeof *sorted, compare);
    double limit = sorted[(size_t)((double)(count - 1) * share)];
    free(sorted);
    return limit;
}

void welch_level(struct welch_sample *samples, size_t count)
{
    for (size_t at = 0; at < count; at += WELCH_WINDOW) {
        size_t len = count - at < WELCH_WINDOW ? count - at : WELCH_WINDOW;
        double median = welch_limit(samples + at, len, 0.5);
        for (size_t i = at; i < at + len; i++)
            samples[i].ns -= median;
    }
}
