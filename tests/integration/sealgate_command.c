// SPDX-License-Identifier: Apache-2.0
// The sealgate command: what it writes, and its exit statuses. And the manuals of both programs
// name every option that --help names, and no other.
#include "tests/support/organisation.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "hsmd/base/file.h"

#define SEALGATE TEST_BUILD "/bin/sealgate"
#define SEALGATED TEST_BUILD "/bin/sealgated"
#define OUTBOUND "process --outbound --from bob@a.example --rcpt dave@b.example"

static struct organisation organisation;

// Runs the command with the organisation's configuration in its folder; files: out, err. Input
// comes from m.eml.
static int run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static int run(const char *fmt, ...)
{
    char args[600], line[1200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(args, sizeof args, fmt, ap);
    va_end(ap);
    snprintf(line, sizeof line, "cd %s && " SEALGATE " -c sealgate.conf %s >out 2>err <m.eml",
             organisation.directory, args);
    int status = system(line); // NOLINT: the line is the test's own
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

// Content of a file in the folder; good until the next call.
static const char *content(const char *name)
{
    static struct buf buf;
    struct detail detail = {0};
    buf_clear(&buf);
    buf_init(&buf, 1 << 20);
    if (file_read(organisation_path(&organisation, name), &buf, &detail))
        fail_msg("%s", detail.text);
    return buf_text(&buf);
}

static void put(const char *name, const char *text)
{
    struct detail detail = {0};
    if (file_write(organisation_path(&organisation, name), bytes_of_text(text), 0600, &detail))
        fail_msg("%s", detail.text);
}

static void write_message(const char *from)
{
    char text[300];
    snprintf(text, sizeof text, "From: %s\nTo: dave@b.example\nSubject: noon\n\nWe meet.\n", from);
    put("m.eml", text);
}

static void test_there_and_back(void **state)
{
    (void)state;
    write_message("bob@a.example");
    assert_int_equal(run(OUTBOUND), 0);
    assert_non_null(strstr(content("out"), "smime-type=enveloped-data"));
    assert_null(strstr(content("out"), "We meet."));
    assert_non_null(strstr(content("err"), "deliver: profile=sign-encrypt signer=signing"));
    put("m.eml", content("out"));
    assert_int_equal(run("process --inbound --from bob@a.example --rcpt dave@b.example"), 0);
    assert_non_null(strstr(content("out"), "smime=pass"));
    assert_non_null(strstr(content("out"), "We meet."));
    assert_non_null(strstr(content("err"), "smime=pass"));
}

static void test_untouched_keeps_its_bytes(void **state)
{
    (void)state;
    put("m.eml", "From bob Sat Nov 21\nFrom: b\xf6\x62\n  fold\r\nmixed\n\r\x01\n\n.\n");
    assert_int_equal(run(OUTBOUND " --profile none"), 0);
    char was[200];
    snprintf(was, sizeof was, "%s", content("m.eml"));
    assert_string_equal(content("out"), was);
}

static void test_exit_statuses(void **state)
{
    (void)state;
    static const struct {
        const char *from, *args;
        int status;
        const char *said;
    } cases[] = {
        {"bob@a.example", OUTBOUND " --rcpt erin@c.example", 10,
         "bounce: 550 5.7.5 no encryption certificate for erin@c.example"},
        {"bob@a.example", OUTBOUND " --rcpt erin@c.example --profile drop", 11, "drop: "},
        {"x@expired.example", OUTBOUND " --profile all-signers", 75,
         "temporary: 451 4.7.5 S/MIME certificate is expired"},
        {"x@absent.example", OUTBOUND " --profile all-signers", 75, "temporary: 451 4.3.0"},
        {"x@absent.example", OUTBOUND " --profile all-signers", 75, "temporary: identity absent: "},
        {"eve@c.example", OUTBOUND " --profile sign", 10, "bounce: 550 5.7.1"},
        {"bob@a.example", OUTBOUND " --rcpt erin@c.example --profile split", 64, "--out DIR"},
        {"bob@a.example", "process --outbound --rcpt dave@b.example", 64, "--from"},
        {"bob@a.example", "process --outbound --from bob@a.example", 64, "--rcpt"},
        {"bob@a.example", "process --from a@b --rcpt c@d", 64, "--outbound or --inbound"},
        {"bob@a.example", OUTBOUND " --inbound", 64, "one of"},
        {"bob@a.example", OUTBOUND " --profile gold", 64, "gold"},
        {"bob@a.example", OUTBOUND " more", 64, "more"},
        {"bob@a.example", OUTBOUND " --colour", 64, "option"},
        {"bob@a.example", "process --inbound --from a@b --rcpt c@d --profile sign", 64,
         "--profile"},
        {"bob@a.example", "fly", 64, "fly"},
        {"bob@a.example", "", 64, "no command"},
        {"bob@a.example", "-c nothing.conf " OUTBOUND, 78, "nothing.conf"},
        {"bob@a.example", "certificate", 64, "add"},
        {"bob@a.example", "certificate eat x", 64, "eat"},
        {"bob@a.example", "certificate add x", 64, "number of arguments"},
        {"bob@a.example", "certificate show nobody", 1, "nobody"},
        {"bob@a.example", "certificate remove nobody", 1, "nobody"},
        {"bob@a.example", "certificate add 'a b' ca.pem", 64, "not a name"},
        {"bob@a.example", "certificate add x m.eml", 1, "m.eml"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_message(cases[i].from);
        int status = run("%s", cases[i].args);
        if (status != cases[i].status || !strstr(content("err"), cases[i].said))
            fail_msg("%s: %d %s", cases[i].args, status, content("err"));
        assert_string_equal(content("out"), "");
    }
}

static void test_folder_of_copies(void **state)
{
    (void)state;
    write_message("bob@a.example");
    assert_int_equal(run(OUTBOUND " --rcpt erin@c.example --profile split --out copies"), 0);
    assert_string_equal(content("out"), "");
    json_t *first = json_load_file(organisation_path(&organisation, "copies/1.json"), 0, NULL);
    assert_string_equal(strchr(content("copies/1.json"), '}'), "}\n");
    json_t *second = json_load_file(organisation_path(&organisation, "copies/2.json"), 0, NULL);
    assert_true(json_is_true(json_object_get(first, "protected")));
    assert_true(json_is_false(json_object_get(second, "protected")));
    assert_string_equal(json_string_value(json_object_get(first, "from")), "bob@a.example");
    json_t *recipients = json_object_get(second, "rcpt");
    assert_int_equal(json_array_size(recipients), 1);
    assert_string_equal(json_string_value(json_array_get(recipients, 0)), "erin@c.example");
    assert_non_null(strstr(content("copies/1.eml"), "enveloped-data"));
    assert_non_null(strstr(content("copies/2.eml"), "We meet."));
    assert_int_equal(access(organisation_path(&organisation, "copies/3.eml"), F_OK), -1);
    json_decref(first);
    json_decref(second);
}

static void test_certificates(void **state)
{
    (void)state;
    assert_int_equal(run("certificate remove decryption"), 0);
    write_message("bob@a.example");
    assert_int_equal(run(OUTBOUND), 10);
    assert_int_equal(run("certificate add b.example decryption.pem"), 0);
    assert_non_null(strstr(content("out"), "domain:      b.example"));
    assert_non_null(strstr(content("out"), "encrypts:    yes"));
    assert_int_equal(run(OUTBOUND), 0);
    assert_int_equal(run("certificate list"), 0);
    assert_non_null(strstr(content("out"), "b.example "));
    assert_non_null(strstr(content("out"), "both-ec "));
    assert_int_equal(run("certificate show b.example"), 0);
    assert_non_null(strstr(content("out"), "-----BEGIN CERTIFICATE-----"));
    // The name is taken.
    assert_int_equal(run("certificate add b.example ec-decryption.pem"), 1);

    json_t *root;
    assert_int_equal(run("certificate list --json"), 0);
    root = json_loads(content("out"), 0, NULL);
    assert_int_equal(json_array_size(root), 5);
    json_decref(root);
    assert_int_equal(run("certificate show b.example --json"), 0);
    root = json_loads(content("out"), 0, NULL);
    assert_string_equal(json_string_value(json_object_get(root, "name")), "b.example");
    assert_true(json_is_true(json_object_get(root, "encrypts")));
    assert_string_equal(json_string_value(json_array_get(json_object_get(root, "domains"), 0)),
                        "b.example");
    assert_int_equal(strlen(json_string_value(json_object_get(root, "sha256"))), 64);
    json_decref(root);
}

static void test_environment_names_the_configuration(void **state)
{
    (void)state;
    char line[600];
    snprintf(line, sizeof line,
             "cd %s && SEALGATE_CONF=sealgate.conf " SEALGATE " certificate list >out 2>err",
             organisation.directory);
    assert_int_equal(system(line), 0); // NOLINT: the line is the test's own
    assert_non_null(strstr(content("out"), "both-ec"));
}

// ---- manuals ----

#define NAMES_MAX 60
struct names {
    char items[NAMES_MAX][40];
    size_t count;
};

static void take_name(struct names *names, const char *text, size_t len)
{
    char name[40];
    snprintf(name, sizeof name, "%.*s", (int)len, text);
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->items[i], name) == 0)
            return;
    }
    assert_true(names->count < NAMES_MAX);
    strcpy(names->items[names->count++], name);
}

static bool has_name(const struct names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->items[i], name) == 0)
            return true;
    }
    return false;
}

// Words that begin with a hyphen, without the first one.
static void take_help(const char *program, struct names *names)
{
    char line[400];
    snprintf(line, sizeof line, "%s --help", program);
    FILE *help = popen(line, "r"); // NOLINT: the line is the test's own
    assert_non_null(help);
    while (fgets(line, sizeof line, help)) {
        for (char *c = line; *c; c++) {
            bool begins = *c == '-' && (c == line || strchr(" [|", c[-1]));
            size_t len = begins ? strspn(c + 1, "-abcdefghijklmnopqrstuvwxyzV") : 0;
            if (len > 0)
                take_name(names, c + 1, len);
        }
    }
    assert_int_equal(pclose(help), 0);
}

// ".It Fl c Ar file", ".It Fl h , Fl -help".
static void take_manual(const char *path, struct names *names)
{
    char line[400];
    FILE *page = fopen(path, "r");
    assert_non_null(page);
    while (fgets(line, sizeof line, page)) {
        if (strncmp(line, ".It ", 4) != 0)
            continue;
        for (char *c = line; (c = strstr(c, " Fl ")) != NULL;) {
            c += 4;
            take_name(names, c, strcspn(c, " \n"));
        }
    }
    fclose(page);
}

static void test_manuals(void **state)
{
    (void)state;
    static const struct {
        const char *program, *page;
    } cases[] = {{SEALGATE, TEST_SOURCE "/tools/sealgate.1"},
                 {SEALGATED, TEST_SOURCE "/gateway/sealgated.8"}};
    for (size_t i = 0; i < 2; i++) {
        struct names help = {.count = 0}, page = {.count = 0};
        take_help(cases[i].program, &help);
        take_manual(cases[i].page, &page);
        assert_true(help.count > 3);
        for (size_t n = 0; n < help.count; n++) {
            if (!has_name(&page, help.items[n]))
                fail_msg("%s does not have -%s", cases[i].page, help.items[n]);
        }
        for (size_t n = 0; n < page.count; n++) {
            if (!has_name(&help, page.items[n]))
                fail_msg("%s: -%s is not in --help", cases[i].page, page.items[n]);
        }
    }
}

static int setup(void **state)
{
    (void)state;
    organisation_open(&organisation, NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    organisation_close(&organisation);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_untouched_keeps_its_bytes),
        cmocka_unit_test(test_exit_statuses),
        cmocka_unit_test(test_folder_of_copies),
        cmocka_unit_test(test_certificates),
        cmocka_unit_test(test_environment_names_the_configuration),
        cmocka_unit_test(test_manuals),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
