// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bench_half.h"

static const char *const names[BENCH_OPERATIONS] = {
    [BENCH_SIGN] = "sign",     [BENCH_SIGN_PSS] = "sign-pss",
    [BENCH_UNWRAP] = "unwrap", [BENCH_UNWRAP_OAEP] = "unwrap-oaep",
    [BENCH_AGREE] = "agree",
};

int bench_operation_by_name(const char *name)
{
    for (int i = 0; i < BENCH_OPERATIONS; i++) {
        if (strcmp(names[i], name) == 0)
            return i;
    }
    return -1;
}

unsigned bench_number(const char *text, unsigned max)
{
    char *end = NULL;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno || end == text || *end || value < 1 || value > max) {
        fprintf(stderr, "%s: not a number from 1 to %u\n", text, max);
        exit(2);
    }
    return (unsigned)value;
}
