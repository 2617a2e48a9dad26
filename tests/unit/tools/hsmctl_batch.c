// SPDX-License-Identifier: Apache-2.0
// How a file of commands is taken apart, and what is not allowed in it. No line here gets as far as
// hsmd; those that do are in hsmctl_flow.c.
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/base/file.h"
#include "tools/hsmctl.h"

static char path[] = "/tmp/sealgate-batch-XXXXXX";

// Runs `hsmctl batch FILE OPTION`; option may be NULL.
static enum err run_text(const char *text, const char *option, int *failure, struct detail *detail)
{
    char *argv[] = {(char *)"hsmctl", (char *)"batch", path, (char *)option};
    struct call call = {0};
    assert_int_equal(file_write(path, bytes_of_text(text), 0600, NULL), ERR_OK);
    assert_int_equal(call_parse(&call, option ? 4 : 3, argv, detail), ERR_OK);
    enum err err = run_batch(&call, detail);
    *failure = call.failure;
    call_clear(&call);
    return err;
}

static void test_nothing(void **state)
{
    static const char *const texts[] = {"", "\n", "\r\n \t\n", "# status 'a", "  # x\n\n#y"};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct detail detail = {0};
        int failure = 0;
        if (run_text(texts[i], NULL, &failure, &detail) != ERR_OK)
            fail_msg("\"%s\": %s", texts[i], detail.text);
    }
}

// An act that is not well-formed is refused before anybody is asked, and says which word it was.
static void test_refused(void **state)
{
    static const struct {
        const char *text, *said;
    } rows[] = {
        {"nonsense", "line 1: there is no command \"nonsense\""},
        {"# one\n\nnonsense\nkey", "line 3: there is no command \"nonsense\""},
        {"nonsense # x", "line 1: there is no command \"nonsense\""},
        {"'non'sen\"se\"", "line 1: there is no command \"nonsense\""},
        {"\t non''sense \r\n", "line 1: there is no command \"nonsense\""},
        {"key enable 'a", "line 1: a quote without its other half"},
        {"key enable \"a'", "line 1: a quote without its other half"},
        {"\nkey enable it's\n", "line 2: a quote without its other half"},
        {"key enable 'a b'", "\"a b\""},
        {"key enable \"a b\"", "\"a b\""},
        {"key enable a' 'b", "\"a b\""},
        {"key enable '#'", "\"#\""},
        {"key enable \"a'b\"", "\"a'b\""},
        {"key enable a\\b", "\"a\\x5cb\""}, // nothing special: part of the word
        {"key enable ''", "name: missing"},
        {"status --json", "not in a batch: --json, --help, --version"},
        {"status --help", "not in a batch: --json, --help, --version"},
        {"key enable a --yes", "--yes is for the whole batch"},
        {"status -c x", "--config is for the whole batch"},
        {"status --timeout 1", "--timeout is for the whole batch"},
        {"status --passphrase-fd 3", "--passphrase-fd is for the whole batch"},
        {"batch x", "not in a batch: batch"},
        {"officer keygen x --out y", "not in a batch: officer keygen"},
        {"audit verify", "not in a batch: audit verify"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct detail detail = {0};
        int failure = 0;
        enum err err = run_text(rows[i].text, NULL, &failure, &detail);
        if (err != ERR_PERM || failure != HSMCTL_EXIT_TROUBLE || !strstr(detail.text, "line ") ||
            !strstr(detail.text, rows[i].said))
            fail_msg("\"%s\": %s, exit status %d, \"%s\" without \"%s\"", rows[i].text,
                     err_name(err), failure, detail.text, rows[i].said);
    }
}

static void test_words(void **state)
{
    char text[200] = "nonsense";
    struct detail detail = {0};
    int failure = 0;
    (void)state;
    for (unsigned i = 0; i < 62; i++)
        strcat(text, " x");
    assert_int_equal(run_text(text, NULL, &failure, &detail), ERR_PERM);
    assert_null(strstr(detail.text, "words"));
    strcat(text, " x"); // with the name of the program that is 65
    assert_int_equal(run_text(text, NULL, &failure, &detail), ERR_PERM);
    assert_non_null(strstr(detail.text, "more than 64 words"));
}

static void test_file(void **state)
{
    struct detail detail = {0};
    struct call call = {0};
    char *argv[] = {(char *)"hsmctl", (char *)"batch", (char *)"/nonexistent/file"};
    int failure = 0;
    (void)state;
    assert_int_equal(run_text("status", "--json", &failure, &detail), ERR_PERM);
    assert_non_null(strstr(detail.text, "a batch prints no JSON"));
    assert_int_equal(call_parse(&call, 3, argv, &detail), ERR_OK);
    assert_int_equal(run_batch(&call, &detail), ERR_PERM);
    assert_non_null(strstr(detail.text, "/nonexistent/file"));
    call_clear(&call);
}

static int setup(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? 1 : close(fd);
}

static int teardown(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_file),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
