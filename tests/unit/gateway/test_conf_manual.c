// SPDX-License-Identifier: Apache-2.0
// sealgate.conf(5) documents every option that there is, in its section and with its default, and
// no other.
#include "gateway/conf_options.h"

#include <confuse.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hsmd/base/buf.h"
#include "hsmd/base/file.h"

struct option {
    const char *section, *name;
    bool is_documented;
};

static struct option options[200];
static size_t option_count;

static void take(const char *section, const char *name)
{
    options[option_count++] = (struct option){section, name, false};
}

static void collect(void)
{
#define TAKE(name, value) take(section, name);
#define SECTION(title, table) \
    section = title;          \
    table(TAKE, TAKE, TAKE, TAKE)
    const char *section = "";
    CONF_OPTIONS_TOP(TAKE, TAKE, TAKE, TAKE)
    CONF_SECTIONS(SECTION)
#undef SECTION
#undef TAKE
}

static struct option *find(const char *section, const char *name)
{
    for (size_t i = 0; i < option_count; i++) {
        if (strcmp(options[i].section, section) == 0 && strcmp(options[i].name, name) == 0)
            return &options[i];
    }
    return NULL;
}

// Options stand as ".It Ic NAME" under ".Ss SECTION" (or ".Ss Top level").
static void test_options_both_ways(void **state)
{
    (void)state;
    struct buf page;
    struct detail detail = {0};
    char section[60] = "?";
    buf_init(&page, 1 << 20);
    assert_int_equal(file_read(TEST_SOURCE "/gateway/sealgate.conf.5", &page, &detail), ERR_OK);
    collect();
    assert_true(option_count > 30);
    for (char *line = strtok((char *)page.data, "\n"); line; line = strtok(NULL, "\n")) {
        char name[60];
        if (sscanf(line, ".Ss %59s", section) == 1) {
            if (strcmp(section, "Top") == 0)
                *section = 0;
            continue;
        }
        if (sscanf(line, ".It Ic %59s", name) != 1)
            continue;
        struct option *option = find(section, name);
        if (!option || option->is_documented)
            fail_msg("sealgate.conf(5): \"%s\" of section \"%s\": %s", name, section,
                     option ? "documented twice" : "there is no such option");
        option->is_documented = true;
    }
    for (size_t i = 0; i < option_count; i++) {
        if (!options[i].is_documented)
            fail_msg("sealgate.conf(5) does not have \"%s\" of section \"%s\"", options[i].name,
                     options[i].section);
    }
    buf_clear(&page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_options_both_ways)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
