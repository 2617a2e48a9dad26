// SPDX-License-Identifier: Apache-2.0
#include "gateway/verdict.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_of_err(void **state)
{
    (void)state;
    static const struct {
        enum err err;
        enum verdict_kind kind;
        const char *code, *enhanced;
        bool tells;
        int exit_status;
    } cases[] = {
        {ERR_OK, VERDICT_DELIVER, "", "", false, 0},
        {ERR_TEMP, VERDICT_TEMP, "451", "4.3.0", false, 75},
        {ERR_DENIED, VERDICT_TEMP, "451", "4.7.0", false, 75},
        {ERR_BUG, VERDICT_TEMP, "451", "4.3.0", false, 75},
        {ERR_PERM, VERDICT_BOUNCE, "554", "5.6.0", true, 10},
    };
    struct detail detail = {"key \"x\" of token 7"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct verdict verdict;
        verdict_of_err(&verdict, cases[i].err, &detail);
        assert_int_equal(verdict.kind, cases[i].kind);
        assert_string_equal(verdict.code, cases[i].code);
        assert_string_equal(verdict.enhanced, cases[i].enhanced);
        assert_int_equal(strstr(verdict.text, "token 7") != NULL, cases[i].tells);
        assert_int_equal(verdict_exit_status(verdict.kind), cases[i].exit_status);
    }
}

static void test_reply_is_one_harmless_line(void **state)
{
    (void)state;
    struct verdict verdict;
    char long_text[2000];
    verdict_reply(&verdict, "550 5.7.1", "no %s", "a\r\n250 ok\x01\xff");
    assert_int_equal(verdict.kind, VERDICT_BOUNCE);
    assert_string_equal(verdict.code, "550");
    assert_string_equal(verdict.enhanced, "5.7.1");
    for (const char *c = verdict.text; *c; c++)
        assert_in_range(*c, ' ', '~');
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = 0;
    verdict_reply(&verdict, "451 4.7.5", "%s", long_text);
    assert_int_equal(verdict.kind, VERDICT_TEMP);
    assert_true(strlen(verdict.text) < sizeof verdict.text);
}

static void test_drop(void **state)
{
    (void)state;
    struct verdict verdict;
    verdict_drop(&verdict, "why");
    assert_int_equal(verdict_exit_status(verdict.kind), 11);
    assert_string_equal(verdict_kind_name(verdict.kind), "drop");
    assert_string_equal(verdict.code, "");
}

// sealgate.conf(5) shows this table.
static void test_of_signature(void **state)
{
    (void)state;
    static const struct {
        enum cms_verdict verdict;
        bool covers;
        enum authres_result result;
    } cases[] = {
        {CMS_GOOD, true, AUTHRES_PASS},
        {CMS_GOOD, false, AUTHRES_POLICY},
        {CMS_BAD_SIGNATURE, true, AUTHRES_FAIL},
        {CMS_BAD_SIGNATURE, false, AUTHRES_FAIL},
        {CMS_UNTRUSTED, true, AUTHRES_POLICY},
        {CMS_EXPIRED, true, AUTHRES_POLICY},
        {CMS_NO_CERTIFICATE, false, AUTHRES_PERMERROR},
        {CMS_UNSUPPORTED, true, AUTHRES_NEUTRAL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(verdict_of_signature(cases[i].verdict, cases[i].covers), cases[i].result);
    // Nothing but a good signature of the From address passes.
    for (int verdict = CMS_GOOD; verdict <= CMS_UNSUPPORTED; verdict++) {
        for (int covers = 0; covers < 2; covers++) {
            bool passes = verdict_of_signature((enum cms_verdict)verdict, covers) == AUTHRES_PASS;
            assert_int_equal(passes, verdict == CMS_GOOD && covers);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_of_err),
        cmocka_unit_test(test_reply_is_one_harmless_line),
        cmocka_unit_test(test_drop),
        cmocka_unit_test(test_of_signature),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
