// SPDX-License-Identifier: Apache-2.0
// A strict reader of Prometheus' text format, for tests.
#pragma once

#include <stdbool.h>

// NULL if text is good to the last byte, else what is wrong, and where. Good is: for each metric
// HELP, TYPE, then its samples alone; no metric and no sample twice; names and labels of the right
// characters; a number for each value; histograms with ascending buckets to +Inf, _sum and _count,
// and the count that of +Inf; counters named _total and not negative.
const char *exposition_parse(const char *text);

// The value of a sample by its whole left side, as `name{label="value"}`. False: it is not there.
bool exposition_find(const char *text, const char *sample, double *value);
