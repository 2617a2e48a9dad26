// SPDX-License-Identifier: Apache-2.0
// provider-hsmd(7) tells every parameter, variable and reason of failure that a user may meet, and
// no parameter or variable that is not.
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "hsmd/base/file.h"
#include "providers/provider.h"

static struct buf page;

static int setup(void **state)
{
    struct detail detail = {0};
    (void)state;
    buf_init(&page, 100000);
    if (file_read(TEST_DATA "/../../providers/provider-hsmd.7", &page, &detail) == ERR_OK)
        return 0;
    print_error("%s\n", detail.text);
    return -1;
}

static int teardown(void **state)
{
    (void)state;
    buf_clear(&page);
    return 0;
}

static void expect(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void expect(const char *fmt, ...)
{
    char text[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!strstr(buf_text(&page), text))
        fail_msg("not in the manual: %s", text);
}

static void test_settings(void **state)
{
    unsigned count = 0;
    unsigned documented = 0;
    (void)state;
#define X(symbol, parameter, variable, needed)          \
    expect(".It Cm %s , Ev %s\n", parameter, variable); \
    count++;
    PROVIDER_SETTINGS(X)
#undef X
    for (const char *p = buf_text(&page); (p = strstr(p, " , Ev HSMD_")) != NULL; p++)
        documented++;
    assert_int_equal(documented, count);
}

// The classes of hsmd and the configuration; the others are about what the caller did.
static void test_reasons(void **state)
{
    (void)state;
#define X(symbol, number, text)           \
    if ((symbol) <= REASON_CONFIGURATION) \
        expect(".It Li %s\n", text);
    PROVIDER_REASONS(X)
#undef X
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_settings),
                                       cmocka_unit_test(test_reasons)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
