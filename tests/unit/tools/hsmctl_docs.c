// SPDX-License-Identifier: Apache-2.0
// hsmctl(1) has every command and every option of the tables, and no other option of two dashes.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hsmd/base/file.h"
#include "tools/hsmctl.h"

static struct buf page;

static int set_up(void **state)
{
    (void)state;
    struct detail detail = {0};
    buf_init(&page, 1 << 20);
    if (file_read(TEST_DATA "/../../tools/hsmctl.1", &page, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    buf_clear(&page);
    return 0;
}

// Is text there, with an end of a word behind it?
static bool has(const char *text)
{
    const char *at = buf_text(&page);
    while ((at = strstr(at, text))) {
        at += strlen(text);
        if (!*at || strchr(" \n,", *at))
            return true;
    }
    return false;
}

static void test_commands(void **state)
{
    (void)state;
    const struct command *command = NULL;
    for (size_t i = 0; (command = command_at(i)); i++) {
        char tag[80], section[80];
        snprintf(tag, sizeof tag, "\n.It Cm %s", command->words);
        snprintf(section, sizeof section, "\n.Ss %s", command->words);
        if (!has(tag) && !has(section))
            fail_msg("hsmctl(1) does not describe \"%s\"", command->words);
    }
}

static void test_options(void **state)
{
    (void)state;
    const struct option_row *row = NULL;
    for (unsigned i = 0; (row = option_at((enum option_index)i)); i++) {
        char flag[80];
        snprintf(flag, sizeof flag, "Fl -%s", row->name);
        if (!has(flag))
            fail_msg("hsmctl(1) does not describe --%s", row->name);
    }
}

static void test_no_other(void **state)
{
    (void)state;
    // Of the audit commands that parse by themselves; hsmd_docs looks at them.
    static const char *const others[] = {"key",    "no-key", "expect-seq", "expect-hash",
                                         "closed", "live",   "state",      "since",
                                         "event",  "client", "key-name",   "format"};
    unsigned seen = 0;
    for (const char *at = buf_text(&page); (at = strstr(at, "Fl -")); seen++) {
        at += strlen("Fl -");
        size_t len = strcspn(at, " \n,;:|");
        bool is_known = false;
        const struct option_row *row = NULL;
        for (unsigned i = 0; (row = option_at((enum option_index)i)); i++)
            is_known = is_known || (strlen(row->name) == len && !strncmp(row->name, at, len));
        for (size_t i = 0; i < sizeof others / sizeof *others; i++)
            is_known = is_known || (strlen(others[i]) == len && !strncmp(others[i], at, len));
        if (!is_known)
            fail_msg("there is no option --%.*s", (int)len, at);
    }
    assert_true(seen > OPTION_COUNT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_no_other),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
