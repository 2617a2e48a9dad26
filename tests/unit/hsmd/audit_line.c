// SPDX-License-Identifier: Apache-2.0
// What a line says, as bytes.
#include "hsmd/audit/audit_line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

// A what is cut between escapes, never within one, and what is longer than a line is no line.
static void test_cut(void **state)
{
    static const struct {
        const char *name;
        char c;              // of which all is
        const char *escaped; // and how often that is there
        size_t len, count;
    } cases[] = {
        {"all of it fits", 'a', "a", 635, 635},
        {"the last that may become six", 'a', "a", 2000, 635},
        {"a quote", '"', "\\\"", 2000, 318},
        {"a backslash", '\\', "\\\\", 2000, 318},
        {"a control character", 1, "\\u0001", 2000, 106},
        {"not ASCII", '\x7f', "\\u007f", 2000, 106},
    };
    static const size_t frame = sizeof "\"event\":\"act\",\"key\":\"\"," - 1;
    struct buf line, expected;
    char what[2001];
    uint8_t key[AUDIT_LINE_MAX];
    (void)state;
    buf_init(&line, AUDIT_LINE_MAX);
    buf_init(&expected, AUDIT_LINE_MAX);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        memset(what, cases[i].c, sizeof what);
        what[cases[i].len] = 0;
        const struct audit_record record = {.event = AUDIT_ACT, .what = what};
        buf_reset(&line);
        buf_reset(&expected);
        assert_int_equal(audit_line_body(&record, &line), ERR_OK);
        assert_int_equal(buf_put_text(&expected, "\"event\":\"act\",\"what\":\""), ERR_OK);
        for (size_t n = 0; n < cases[i].count; n++)
            assert_int_equal(buf_put_text(&expected, cases[i].escaped), ERR_OK);
        assert_int_equal(buf_put_text(&expected, "\","), ERR_OK);
        if (strcmp(buf_text(&line), buf_text(&expected)) != 0)
            fail_msg("%s: %s", cases[i].name, buf_text(&line));
    }
    memset(key, 'k', sizeof key);
    for (size_t len = AUDIT_LINE_MAX - 30; len <= AUDIT_LINE_MAX; len++) {
        const struct audit_record record = {.event = AUDIT_ACT, .key = bytes_of(key, len)};
        buf_reset(&line);
        enum err err = audit_line_body(&record, &line);
        assert_int_equal(err, len + frame <= AUDIT_LINE_MAX ? ERR_OK : ERR_PERM);
        assert_true(err != ERR_OK || line.len == len + frame);
    }
    buf_clear(&line);
    buf_clear(&expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cut)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
