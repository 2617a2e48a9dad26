// SPDX-License-Identifier: Apache-2.0
// Two ways to the same keys, measured side by side: their halves (bench_half.h) run in turns, so
// that what else the machine does meets both alike.
#pragma once

#include <sys/types.h>

#include "hsmd/base/err.h"
#include "hsmd/base/secret.h"

#define BENCH_PAIRS_MAX 999

enum { BENCH_DIRECT, BENCH_HSMD, BENCH_SIDES };

struct bench_row {
    const char *key, *operation;
    unsigned callers;
};

struct bench_setup {
    // The halves as argument lists of programs, ended by NULL, to which --key, --op and --callers
    // are added, and to the direct one --public with what the other says of its key.
    const char *const *commands[BENCH_SIDES];
    const struct secret *pins[BENCH_SIDES]; // what a half can read at descriptor 3; NULL: nothing
    const char *labels[BENCH_SIDES];        // of the key there; NULL: the row's key
    pid_t hsmd;                             // whose processor time counts too; 0: unknown
    unsigned pairs, ms;                     // how often each runs, and how long
};

// Medians over the pairs. Rates are operations a second, times microseconds; processor time is
// seconds per operation.
struct bench_side {
    double rate, p50, p99, cpu;
    double operations; // done in all, that the medians are of
};
struct bench_result {
    struct bench_side sides[BENCH_SIDES];
    double ratio, ratio_min, ratio_max; // of the rates within a pair: hsmd over direct
    double added_p50, added_p99;        // differences within a pair
    double hsmd_cpu;                    // hsmd's part of sides[BENCH_HSMD].cpu
    bool has_hsmd_cpu;                  // false: what is there is the client's alone
    double failures;
};

// ERR_PERM: a half does not start, or ended, or had a wrong result, and has said why on standard
// error; or the two have different keys.
enum err bench_measure(const struct bench_setup *setup, const struct bench_row *row,
                       struct bench_result *result, struct detail *detail);
