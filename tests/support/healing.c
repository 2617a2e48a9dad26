// SPDX-License-Identifier: Apache-2.0
#include "tests/support/healing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

void healing_note(struct healing *healing, unsigned ms)
{
    assert_true(healing->count < HEALING_TIMES_MAX);
    healing->ms[healing->count++] = ms;
}

static int compare(const void *a, const void *b)
{
    unsigned x = *(const unsigned *)a;
    unsigned y = *(const unsigned *)b;
    return (x > y) - (x < y);
}

void healing_check(struct healing *healing, const char *what)
{
    assert_true(healing->count > 0);
    qsort(healing->ms, healing->count, sizeof *healing->ms, compare);
    unsigned median = healing->ms[healing->count / 2];
    print_message("%s: well again after %u ms (median of %u), %u ms at worst\n", what, median,
                  healing->count, healing->ms[healing->count - 1]);
    if (median > HEALING_MEDIAN_MS)
        fail_msg("%s: not within %d ms", what, HEALING_MEDIAN_MS);
}
