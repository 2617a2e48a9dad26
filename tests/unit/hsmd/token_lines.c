// SPDX-License-Identifier: Apache-2.0
// Lines about tokens while the audit log cannot be written.
#include "hsmd/custody/token_lines.h"

#include <stdio.h>

#include "tests/support/audit_log.h"
#include "tests/support/council_test.h"

static unsigned lines_of(const char *event, const char *text)
{
    char both[200];
    snprintf(both, sizeof both, "\"event\":\"%s\",\"token\":\"%s", event, text);
    return council_lines(&council, both);
}

static struct token_lines *open_lines(void)
{
    struct token_lines *lines = NULL;
    council_fill_log();
    assert_int_equal(token_lines_new(council.audit, &lines), ERR_OK);
    return lines;
}

// They come later, in their order, before what happens then; once each.
static void test_kept(void **state)
{
    (void)state;
    struct token_lines *lines = open_lines();
    council_set_log_room(20);
    token_lines_tell(lines, KEYSTORE_TOKEN_LOST, "main", "pulled");
    token_lines_tell(lines, KEYSTORE_TOKEN_BACK, "main", "");
    token_lines_retry(lines);
    assert_int_equal(council_lines(&council, "\"event\":\"token-"), 0);
    council_set_log_room(RLIM_INFINITY);
    token_lines_tell(lines, KEYSTORE_TOKEN_LOST, "spare", "pulled too");
    assert_int_equal(lines_of("token-lost", "main\",\"reason\":\"pulled\""), 1);
    assert_int_equal(lines_of("token-back", "main\",\"prev\""), 1);
    assert_int_equal(lines_of("token-lost", "spare\",\"reason\":\"pulled too\""), 1);
    token_lines_retry(lines);
    assert_int_equal(council_lines(&council, "\"event\":\"token-"), 3);
    assert_int_equal(audit_log_verify(council.audit_path), audit_head(council.audit).seq);
    token_lines_free(lines);
}

// A token that comes and goes all night fills no memory; what is lost of it is told.
static void test_bounded(void **state)
{
    (void)state;
    struct token_lines *lines = open_lines();
    council_set_log_room(20);
    for (unsigned i = 0; i < TOKEN_LINES_MAX + 6; i++)
        token_lines_tell(lines, i % 2 ? KEYSTORE_TOKEN_BACK : KEYSTORE_TOKEN_LOST, "main", "away");
    council_set_log_room(RLIM_INFINITY);
    token_lines_retry(lines);
    assert_int_equal(council_lines(&council, "\"event\":\"token-"), TOKEN_LINES_MAX);
    assert_int_equal(
        lines_of("token-lost",
                 "main\",\"reason\":\"6 lines about tokens before this one are lost; away\""),
        1);
    assert_int_equal(council_lines(&council, "are lost"), 1);
    token_lines_free(lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_kept, council_begin, council_end),
        cmocka_unit_test_setup_teardown(test_bounded, council_begin, council_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
