// SPDX-License-Identifier: Apache-2.0
// hsmd.conf(5) has every option, in its section, and no other; its examples are good; hsmd-audit(5)
// has every event and field of the audit log, hsmd(8) and hsmctl(1) every option of the command.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/audit/audit.h"
#include "hsmd/base/file.h"
#include "hsmd/config.h"

#define PAGES TEST_DATA "/../../hsmd/"

static struct buf page;

static char *read_page(const char *name)
{
    char path[300];
    snprintf(path, sizeof path, PAGES "%s", name);
    buf_init(&page, 1 << 20);
    assert_int_equal(file_read(path, &page, NULL), ERR_OK);
    return (char *)page.data;
}

static const cfg_opt_t *find(const cfg_opt_t *options, const char *name, size_t len)
{
    for (; options->name; options++) {
        if (strlen(options->name) == len && strncmp(options->name, name, len) == 0)
            return options;
    }
    return NULL;
}

static size_t word(const char *text)
{
    return strcspn(text, " \n");
}

// How many options there are, sections not counted.
static unsigned count(const cfg_opt_t *options)
{
    unsigned n = 0;
    for (; options->name; options++)
        n += options->subopts ? count(options->subopts) : 1;
    return n;
}

static void test_options(void **state)
{
    (void)state;
    const cfg_opt_t *section = NULL;
    unsigned documented = 0;
    char *rest = read_page("hsmd.conf.5");
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        if (strcmp(line, ".Ss Settings") == 0) {
            section = config_options();
        } else if (strncmp(line, ".Ss ", 4) == 0) {
            const cfg_opt_t *found = find(config_options(), line + 4, word(line + 4));
            if (!found)
                print_error("no such section: %s\n", line);
            assert_non_null(found);
            section = found->subopts;
        } else if (strncmp(line, ".It Ic ", 7) == 0) {
            assert_non_null(section);
            if (!find(section, line + 7, word(line + 7)))
                print_error("no such option: %s\n", line);
            assert_non_null(find(section, line + 7, word(line + 7)));
            documented++;
        }
    }
    assert_int_equal(documented, count(config_options())); // libConfuse has no doubles, nor do we
    buf_clear(&page);
}

static void write_in(const char *dir, const char *name, const char *text)
{
    char path[120];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(file_write(path, bytes_of_text(text), 0600, NULL), ERR_OK);
}

// roff's name of the quote that stays one.
static void unescape(char *text)
{
    for (char *at = text; (at = strstr(at, "\\(aq")) != NULL; at++) {
        *at = '\'';
        memmove(at + 1, at + 4, strlen(at + 4) + 1);
    }
}

static void test_examples(void **state)
{
    (void)state;
    static const char *const officers[] = {"alice", "bob", "carol"};
    static const char *const signing[] = {
        "cb819d5f7ce27a055d3317b74d671255ca04ec70cccd7adf79505e2e4761398c",
        "3cc588589510ee9c31aefd9e2e5660c86564a960d1923d2aae8f89d5fe820f98",
        "ed87c3bc531bcab442a25b307ec2272c54f7a8cde920b48532b1cb2eebb843f1"};
    static const char least[] = "listen = { \"tcp://127.0.0.1:7011\" }\n"
                                "server-key-file = \"server.key\"\n"
                                "state-directory = \"state\"\n";
    char dir[] = "/tmp/docs-XXXXXX";
    char path[64];
    unsigned examples = 0;
    assert_non_null(mkdtemp(dir));
    for (unsigned i = 0; i < 3; i++) {
        char name[32];
        char line[200];
        snprintf(name, sizeof name, "%s.pub", officers[i]);
        snprintf(line, sizeof line, "officer-1 %s %s %040x\n", officers[i], signing[i], i + 1);
        write_in(dir, name, line);
    }
    snprintf(path, sizeof path, "%s/hsmd.conf", dir);
    for (char *at = read_page("hsmd.conf.5"); (at = strstr(at, "\n.Bd -literal")) != NULL;) {
        struct config *config = NULL;
        struct detail detail = {0};
        char *begin = strchr(at + 1, '\n') + 1;
        char *end = strstr(begin, "\n.Ed");
        *end = 0;
        unescape(begin);
        char text[8192]; // a section alone is an example, too
        snprintf(text, sizeof text, "%s%s", strncmp(begin, "token ", 6) == 0 ? least : "", begin);
        write_in(dir, "hsmd.conf", text);
        enum err err = config_load(path, &config, &detail);
        assert_string_equal(detail.text, "");
        assert_int_equal(err, ERR_OK);
        assert_int_equal(config_check_former(config, &detail), ERR_OK);
        config_free(config);
        examples++;
        at = end + 1;
    }
    assert_int_equal(examples, 3);
    unlink(path);
    for (unsigned i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s.pub", dir, officers[i]);
        unlink(path);
    }
    rmdir(dir);
    buf_clear(&page);
}

static bool is_event(const char *name)
{
    enum audit_event event;
    return audit_event_by_name(bytes_of(name, word(name)), &event);
}

static bool is_field(const char *name)
{
    for (unsigned i = 0; i < AUDIT_FIELD_COUNT; i++) {
        const char *known = audit_field_name((enum audit_field)i);
        if (strlen(known) == word(name) && strncmp(known, name, word(name)) == 0)
            return true;
    }
    return false;
}

// The items of one part of hsmd-audit(5) are all known; how many they are.
static unsigned count_items(const char *part, const char *item, bool (*is_known)(const char *))
{
    unsigned documented = 0;
    char *begin = strstr(read_page("audit/hsmd-audit.5"), part);
    assert_non_null(begin);
    char *end = strstr(begin + 1, "\n.Ss ");
    assert_non_null(end);
    *end = 0;
    for (char *at = begin; (at = strstr(at, item)) != NULL; at++, documented++)
        assert_true(is_known(at + strlen(item)));
    buf_clear(&page);
    return documented;
}

static void test_audit(void **state)
{
    (void)state;
    assert_int_equal(count_items("\n.Ss Events\n", "\n.It Cm ", is_event), AUDIT_EVENT_COUNT);
    assert_int_equal(count_items("\n.Ss Fields\n", "\n.It Ic ", is_field), AUDIT_FIELD_COUNT);
}

// Every option in the tables of a source is in the page as "item"; how many they are.
static unsigned count_options(const char *source, const char *manual, const char *item)
{
    unsigned options = 0;
    char *text = read_page(source);
    for (char *table = text; (table = strstr(table, "long_options[] = {")) != NULL;) {
        char *end = strstr(table, "{0},");
        assert_non_null(end);
        *end = 0;
        for (char *at = table; (at = strstr(at, "{\"")) != NULL; at++, options++) {
            char entry[64];
            snprintf(entry, sizeof entry, "%s-%.*s", item, (int)strcspn(at + 2, "\""), at + 2);
            if (!strstr(manual, entry))
                print_error("there is no %s in the page\n", entry);
            assert_non_null(strstr(manual, entry));
        }
        table = end + 1;
    }
    buf_clear(&page);
    return options;
}

static unsigned count_in(const char *text, const char *item)
{
    unsigned n = 0;
    for (const char *at = text; (at = strstr(at, item)) != NULL; at++)
        n++;
    return n;
}

static void test_hsmctl(void **state)
{
    (void)state;
    char *manual = strdup(read_page("../tools/hsmctl.1"));
    buf_clear(&page);
    unsigned options = count_options("../tools/hsmctl_audit.c", manual, "\n.It Fl ") +
                       count_options("../tools/hsmctl_audit_show.c", manual, "\n.It Fl ");
    assert_int_equal(options, 16);
    const char *source = read_page("../tools/hsmctl_audit.c"); // the rest: tools/hsmctl_docs.c
    static const char *const commands[] = {"verify", "show", "export"};
    for (unsigned i = 0; i < sizeof commands / sizeof *commands; i++) {
        char text[64];
        snprintf(text, sizeof text, "\n.Ss audit %s\n", commands[i]);
        assert_non_null(strstr(manual, text));
        snprintf(text, sizeof text, "strcmp(argv[1], \"%s\")", commands[i]);
        assert_non_null(strstr(source, text));
    }
    assert_int_equal(count_in(manual, "\n.Ss audit "), 3);
    assert_int_equal(count_in(source, "strcmp(argv[1], "), 3);
    free(manual);
    buf_clear(&page);
}

// The options as the source of main.c has them: { "name", ...argument, NULL, ...}.
static void test_command(void **state)
{
    (void)state;
    unsigned options = 0;
    char *main_text = strdup(read_page("main.c"));
    buf_clear(&page);
    const char *manual = read_page("hsmd.8");
    char *table = strstr(main_text, "long_options[] = {");
    assert_non_null(table);
    *strstr(table, "{0},") = 0;
    for (char *at = table; (at = strstr(at, "{\"")) != NULL; at++, options++) {
        char entry[64];
        snprintf(entry, sizeof entry, "Fl -%.*s", (int)strcspn(at + 2, "\""), at + 2);
        if (!strstr(manual, entry))
            print_error("hsmd(8) has no %s\n", entry);
        assert_non_null(strstr(manual, entry));
    }
    assert_int_equal(options, 6);
    unsigned documented = 0;
    for (const char *at = strstr(manual, "The options are"); (at = strstr(at, "\n.It Fl ")) != NULL;
         at++)
        documented++;
    assert_int_equal(documented, options);
    free(main_text);
    buf_clear(&page);
}

// Every metric that the sources name, and no other.
static void test_metrics(void **state)
{
    (void)state;
    char *source = strdup(read_page("watch/metrics.c"));
    buf_clear(&page);
    char *status = strdup(read_page("watch/status.c"));
    buf_clear(&page);
    char *selftest = strdup(read_page("watch/selftest.c"));
    buf_clear(&page);
    char *text = read_page("hsmd.8");
    char *begin = strstr(text, ".Sh METRICS");
    assert_non_null(begin);
    *strstr(begin, ".Sh AUDIT LOG") = 0;
    unsigned found = 0;
    const char *sources[] = {source, status, selftest};
    for (size_t i = 0; i < 3; i++) {
        for (const char *at = sources[i]; (at = strstr(at, "(out, NAMESPACE \"")) != NULL;
             at++, found++) {
            char name[80];
            snprintf(name, sizeof name, " %.*s", (int)strcspn(at + 16, "\""), at + 16);
            if (!strstr(begin, name))
                print_error("hsmd(8) has no metric%s\n", name);
            assert_non_null(strstr(begin, name));
        }
    }
    unsigned documented = 0;
    for (char *line = begin; (line = strstr(line, "\n.It Ic ")) != NULL;) {
        char *end = strpbrk(line += 8, "{\n");
        documented++;
        for (; line < end; line++)
            documented += *line == ',';
    }
    assert_int_equal(documented, found);
    free(source);
    free(status);
    free(selftest);
    buf_clear(&page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options), cmocka_unit_test(test_examples),
        cmocka_unit_test(test_audit),   cmocka_unit_test(test_command),
        cmocka_unit_test(test_hsmctl),  cmocka_unit_test(test_metrics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
