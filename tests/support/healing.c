// SPDX-License-Identifier: Apache-2.0
#include "tests/support/healing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

bool healing_note(struct healing *healing, unsigned ms)
{
    assert_true(healing->count < HEALING_TIMES_MAX);
    healing->tries++;
    if (ms > HEALING_MS) {
        healing->late++;
        if (healing->tries == HEALING_TRIES)
            fail_msg("not well again within a second: %u ms, in the last of %d tries", ms,
                     HEALING_TRIES);
        return false;
    }
    healing->tries = 0;
    healing->ms[healing->count++] = ms;
    return true;
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
    print_message("%s: well again after %u ms (median of %u), %u ms at worst, %u tries too late\n",
                  what, median, healing->count, healing->ms[healing->count - 1], healing->late);
    if (healing->count >= 10 && healing->late > healing->count / 10)
        fail_msg("%s: too often not within a second", what);
}
