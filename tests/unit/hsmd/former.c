// SPDX-License-Identifier: Apache-2.0
// The former sections of an hsmd.conf, found and commented out.
#include "hsmd/former.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    const char *name, *text, *expected;
    unsigned line; // of the first one; 0: there is none
} rows[] = {
    {"nothing", "", "", 0},
    {"no section", "log = stderr\n", "log = stderr\n", 0},
    {"one line", "a = b\nkey x { label = y }\nc = d\n", "a = b\n# key x { label = y }\nc = d\n", 2},
    {"lines", "key x {\n  label = y\n}\n", "# key x {\n#   label = y\n# }\n", 1},
    {"without line end", "key x {\n}", "# key x {\n# }", 1},
    {"carriage returns", "key x {\r\n}\r\nlog = a\r\n", "# key x {\r\n# }\r\nlog = a\r\n", 1},
    {"all kinds", "key x { }\naudit-key { }\nclient y { }\ngrant { }\ntoken t { }\nofficer o { }\n",
     "# key x { }\n# audit-key { }\n# client y { }\n# grant { }\ntoken t { }\nofficer o { }\n", 1},
    {"other names", "keys x { }\nkey-file = key\nclients = { key, client }\n",
     "keys x { }\nkey-file = key\nclients = { key, client }\n", 0},
    {"as values", "a = key\nb = { key, grant }\nc += client\n",
     "a = key\nb = { key, grant }\nc += client\n", 0},
    {"as a title", "token key { label = grant }\n", "token key { label = grant }\n", 0},
    {"within a section", "token t { key = x }\n", "token t { key = x }\n", 0},
    {"quoted name", "\"key\" \"x\" { }\n'grant' { }\n", "# \"key\" \"x\" { }\n# 'grant' { }\n", 1},
    {"brace in double quotes", "key x { label = \"}\" }\na = b\n",
     "# key x { label = \"}\" }\na = b\n", 1},
    {"escaped quote", "key x { label = \"\\\"}\" }\na = b\n",
     "# key x { label = \"\\\"}\" }\na = b\n", 1},
    {"backslash at the end", "key x { label = \"\\\\\" }\na = b\n",
     "# key x { label = \"\\\\\" }\na = b\n", 1},
    {"brace in single quotes", "key x { label = '}' }\na = b\n", "# key x { label = '}' }\na = b\n",
     1},
    {"escape in single quotes", "key x { label = '\\'}' }\na = b\n",
     "# key x { label = '\\'}' }\na = b\n", 1},
    {"variable in quotes", "key x { label = \"${A\"B}\" }\na = b\n",
     "# key x { label = \"${A\"B}\" }\na = b\n", 1},
    {"variable without", "key x { label = ${A} }\na = b\n", "# key x { label = ${A} }\na = b\n", 1},
    {"variable in single quotes", "client x { public-key = 'a${b' }\na = b\n",
     "# client x { public-key = 'a${b' }\na = b\n", 1},
    {"brace in a comment", "key x { # }\n}\na = b\n", "# key x { # }\n# }\na = b\n", 1},
    {"slashes", "key x { // }\n}\na = b\n", "# key x { // }\n# }\na = b\n", 1},
    {"slashes in a path", "a = /b//c { \nkey x { }\n", "a = /b//c { \nkey x { }\n", 0},
    {"stars", "key x { /* } \n */ }\na = b\n", "# key x { /* } \n#  */ }\na = b\n", 1},
    {"section in a comment", "# key x {\n// key y {\n/* key z { \n } */\na = b\n",
     "# key x {\n// key y {\n/* key z { \n } */\na = b\n", 0},
    {"comment between", "key /* { */ x # {\n{ }\na = b\n", "# key /* { */ x # {\n# { }\na = b\n",
     1},
    {"hash within a word", "a = b#c\nkey x { }\n", "a = b#c\n# key x { }\n", 2},
    {"hash in quotes", "a = \"# '\"\nkey x { }\nb = '# \"'\n",
     "a = \"# '\"\n# key x { }\nb = '# \"'\n", 2},
    {"lines in quotes", "a = \"\nkey x {\n\"\nkey y { b = '\n}' }\n",
     "a = \"\nkey x {\n\"\n# key y { b = '\n# }' }\n", 4},
    {"behind another", "token t { } key x { }\n", "token t { } # key x { }\n", 1},
    {"before another", "key x { } token t { }\n", "# key x { }\n token t { }\n", 1},
    {"two of them", "key x { } grant { }\na = b\n", "# key x { }\n # grant { }\na = b\n", 1},
    {"comment behind", "key x { } # mine\n", "# key x { } # mine\n", 1},
    {"long comment behind", "key x { } /* mine\n*/ a = b\n", "# key x { }\n /* mine\n*/ a = b\n",
     1},
    {"list in it", "grant { operations = { sign, agree } }\na = b\n",
     "# grant { operations = { sign, agree } }\na = b\n", 1},
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf out;
        struct former former = {0};
        struct bytes text = bytes_of_text(rows[i].text);
        buf_init(&out, 4096);
        assert_int_equal(former_comment_out(text, &out), ERR_OK);
        bool is_there = former_next(text, &former);
        if (strcmp(buf_text(&out), rows[i].expected) != 0 || former.line != rows[i].line)
            fail_msg("%s: line %u, \"%s\"", rows[i].name, former.line, buf_text(&out));
        assert_int_equal(is_there, rows[i].line != 0);
        // In what comes out there are none any more, and nothing else changes.
        struct buf again;
        buf_init(&again, 4096);
        assert_int_equal(former_comment_out(buf_bytes(&out), &again), ERR_OK);
        assert_string_equal(buf_text(&again), buf_text(&out));
        buf_clear(&again);
        buf_clear(&out);
    }
}

// Whatever is cut off where: it ends, and within the text.
static void test_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (size_t len = 0; len < strlen(rows[i].text); len++) {
            struct former former = {0};
            while (former_next(bytes_of(rows[i].text, len), &former))
                assert_true(former.begin < former.end && former.end <= len);
        }
    }
}

static void test_cap(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 10);
    assert_int_equal(former_comment_out(BYTES_LITERAL("key x { }\n"), &out), ERR_PERM);
    buf_clear(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_cap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
