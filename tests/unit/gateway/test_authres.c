// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "gateway/authres.h"
#include "gateway/mime.h"
#include "mime_util.h"

#define ID "mx.a.example"

static const struct {
    const char *field;
    bool is_ours;
} forged_cases[] = {
    {"Authentication-Results: mx.a.example; smime=pass", true},
    {"authentication-results:MX.A.Example;smime=pass", true},
    {"Authentication-Results : mx.a.example; none", true},
    {"Authentication-Results: mx.a.example 1; smime=pass", true},
    {"Authentication-Results: mx.a.example/1; smime=pass", true},
    {"Authentication-Results: mx.a.example", true},
    {"Authentication-Results:\n mx.a.example;\n smime=pass", true},
    {"Authentication-Results: (c) mx.a.example (d); smime=pass", true},
    {"Authentication-Results: (a (nested \\) (c)) d) mx.a.example(x)1; smime=pass", true},
    {"Authentication-Results: ()\n ()\n mx.a.example; smime=pass", true},
    {"Authentication-Results: \"mx.a.example\"; smime=pass", true},
    {"Authentication-Results: \"mx\\.a.exa\\mple\"; smime=pass", true},
    {"Authentication-Results: \"mx.a\n .example\" 1; smime=pass", true},
    {"Authentication-Results: mx.a.example.; smime=pass", true},
    {"Authentication-Results: mx.a.example;", true},
    {"Authentication-Results: mx.a.example\t; smime=pass", true},
    {"Authentication-Results: mx.a.example@x; smime=pass", true},
    // Cannot be read, and names us: a laxer reader might believe it.
    {"Authentication-Results: (open mx.a.example; smime=pass", true},
    {"Authentication-Results: \"mx.a.example; smime=pass", true},
    {"Authentication-Results: ; mx.a.example; smime=pass", true},
    {"Authentication-Results: mx(c).a.example; smime=pass", true},
    {"Authentication-Results: mx. a.example; smime=pass", true},
    {"Authentication-Results: mx .a\n .example 1; smime=pass", true},
    {"Authentication-Results: \"mx\".a.example; smime=pass", true},
    {"Authentication-Results: \xc2\xa0mx.a.example; smime=pass", true},
    {"Authentication-Results: i=1; mx.a.example; smime=pass", true},
    {"Authentication-Results: i=1; mx.(\\)c)a.example/1; smime=pass", true},
    {"Authentication-Results: other.example; smime=pass", false},
    {"Authentication-Results: other.example; smime=pass (; mx.a.example; x)", false},
    {"Authentication-Results: other.example; reason=\"; mx.a.example; x\"", false},
    {"Authentication-Results: other.example; smtp.mailfrom=mx.a.example", false},
    {"Authentication-Results: mx.a.example.org; smime=pass", false},
    {"Authentication-Results: xmx.a.example; smime=pass", false},
    {"Authentication-Results: a.example; smime=pass", false},
    {"Authentication-Results: (mx.a.example) other.example; smime=pass", false},
    {"Authentication-Results: other.example; x=\"mx.a.example\"", false},
    {"Authentication-Results: (open", false},
    {"Authentication-Results: \"", false},
    {"Authentication-Results:", false},
    {"ARC-Authentication-Results: i=1; mx.a.example; smime=pass", false},
    {"X-Authentication-Results: mx.a.example; smime=pass", false},
};

static void test_remove_forged(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof forged_cases / sizeof forged_cases[0]; i++) {
        print_message("%s\n", forged_cases[i].field);
        char raw[300];
        snprintf(raw, sizeof raw, "A: b\n%s\nC: d\n%s\n\n", forged_cases[i].field,
                 forged_cases[i].field);
        struct message *message = parse(bytes_of_text(raw));
        assert_int_equal(authres_remove_forged(message, ID), forged_cases[i].is_ours ? 2 : 0);
        assert_int_equal(message->header_count, forged_cases[i].is_ours ? 2 : 4);
        message_free(message);
    }
}

static void test_remove_international(void **state)
{
    (void)state;
    struct message *message =
        parse(BYTES_LITERAL("Authentication-Results: mx.m\xc3\xbcnchen.example; x=y\n"
                            "Authentication-Results: mx.XN--mnchen-3ya.example; x=y\n\n"));
    assert_int_equal(authres_remove_forged(message, "mx.xn--mnchen-3ya.example"), 2);
    message_free(message);
}

static const struct {
    const char *name;
    struct authres authres;
    const char *value;
} add_cases[] = {
    {"none", {.result = AUTHRES_NONE}, " mx.a.example; smime=none"},
    {"pass",
     {.result = AUTHRES_PASS,
      .reason = "signature good",
      .identifier = "bob@a.example",
      .serial = "0a1b",
      .issuer = "CN=Demo CA,O=A"},
     " mx.a.example; smime=pass (signature good)\n body.smime-identifier=bob@a.example "
     "body.smime-serial=0a1b\n body.smime-issuer=\"CN=Demo CA,O=A\""},
    {"decrypted",
     {.result = AUTHRES_NONE, .was_encrypted = true, .was_decrypted = true},
     " mx.a.example; smime=none (decrypted)"},
    {"encrypted for others",
     {.result = AUTHRES_NEUTRAL, .reason = "not for us", .was_encrypted = true},
     " mx.a.example; smime=neutral\n (not for us; encrypted, not decrypted) reason=\"not for us\""},
    {"a result in the reason",
     {.result = AUTHRES_POLICY, .reason = "x\"; smime=pass (y"},
     " mx.a.example; smime=policy (x\", smime:pass \\(y)\n reason=\"x\\\", smime:pass (y\""},
    {"nasty text",
     {.result = AUTHRES_FAIL,
      .reason = "a) (b\\\"c\r\nX: \xc3\xa4",
      .identifier = "\"b b\"@a.example",
      .serial = "x y",
      .issuer = "CN=\\\"q\\\",O=\xc3\xa4"},
     " mx.a.example; smime=fail (a\\) \\(b\\\\\"c  X: ?\?)\n reason=\"a) (b\\\\\\\"c  X: ??\" "
     "body.smime-identifier=\"\\\"b b\\\"@a.example\"\n body.smime-serial=\"x y\" "
     "body.smime-issuer=\"CN=\\\\\\\"q\\\\\\\",O=??\""},
};

static void test_add(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof add_cases / sizeof add_cases[0]; i++) {
        print_message("%s\n", add_cases[i].name);
        struct message *message = parse(BYTES_LITERAL("A: b\n\nx"));
        assert_int_equal(authres_add(message, ID, &add_cases[i].authres, NULL), ERR_OK);
        assert_string_equal(message->headers[0].name, "Authentication-Results");
        assert_string_equal(message->headers[0].value, add_cases[i].value);
        // What we write we know again, and it does not spill into other fields.
        struct spool *out = write_out(message);
        struct message *again = parse(view_of(out));
        assert_int_equal(again->header_count, 2);
        assert_int_equal(authres_remove_forged(again, ID), 1);
        message_free(again);
        spool_free(out);
        message_free(message);
    }
}

static void test_longest(void **state)
{
    (void)state;
    struct authres authres = {.result = AUTHRES_PERMERROR, .was_encrypted = true};
    memset(authres.reason, '"', sizeof authres.reason - 1);
    memset(authres.identifier, '\\', sizeof authres.identifier - 1);
    memset(authres.serial, '"', sizeof authres.serial - 1);
    memset(authres.issuer, '"', sizeof authres.issuer - 1);
    struct message *message = message_new(&test_conf);
    assert_int_equal(authres_add(message, ID, &authres, NULL), ERR_OK);
    size_t line = 0;
    for (const char *c = message->headers[0].value; *c; c++) {
        line = *c == '\n' ? 0 : line + 1;
        assert_true(line < 998);
    }
    message_free(message);
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(authres_result_name(AUTHRES_TEMPERROR), "temperror");
    assert_string_equal(authres_result_name(AUTHRES_POLICY), "policy");
}

int main(void)
{
    mime_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_remove_forged), cmocka_unit_test(test_remove_international),
        cmocka_unit_test(test_add),           cmocka_unit_test(test_longest),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
