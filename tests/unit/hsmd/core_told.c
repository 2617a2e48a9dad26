// SPDX-License-Identifier: Apache-2.0
// What is told of requests in the audit log: of uses, of failures, of refusals one by one and by
// their number.
#include "hsmd/core.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/hsmd/core_support.h"

static void test_audit_fields(void **state)
{
    (void)state;
    char last[AUDIT_LINE_MAX];
    struct wire_request request =
        make_sign("rsa.smime-sign.enabled", WIRE_RSA_PSS, WIRE_ATTRIBUTES);
    request.id = UINT64_MAX;
    assert_int_equal(call(CUSTODIAN_PSS, &request, NULL), ERR_OK);
    custodian_audit_lines(&custodian, last, sizeof last);
    assert_non_null(strstr(
        last,
        "\"event\":\"use\",\"client\":\"pss\",\"key\":\"rsa.smime-sign.enabled\",\"operation\":"
        "\"sign\",\"algorithm\":\"rsa-pss\",\"hash\":\"sha256\",\"id\":18446744073709551615,"
        "\"result\":\"ok\",\"message_digest\":"
        "\"d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1\",\"prev\":\""));
    request = make_unwrap("rsa.general.retired", false);
    assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_OK);
    custodian_audit_lines(&custodian, last, sizeof last);
    uint8_t hashed[32];
    char expected[100] = "\"ciphertext_sha256\":\"";
    assert_int_equal(hash_digest(HASH_SHA256, request.unwrap.ciphertext, hashed), ERR_OK);
    for (size_t i = 0; i < 32; i++)
        snprintf(expected + strlen(expected), 3, "%02x", hashed[i]);
    assert_non_null(strstr(last, expected));
    assert_null(strstr(last, "0123456789abcdef0"));
}

// A client that has itself refused over and over fills neither log: its first refusals have their
// lines, then there is a count. Uses, and other clients, have theirs all the time.
static void test_refusals_are_counted(void **state)
{
    (void)state;
    char last[AUDIT_LINE_MAX];
    const unsigned over = 1000;
    struct wire_request refused =
        make_sign("rsa.smime-sign.enabled", WIRE_RSA_PKCS1, WIRE_ATTRIBUTES);
    assert_int_equal(refusals_new(&custodian.core.refusals), ERR_OK);
    unsigned before = custodian_audit_lines(&custodian, NULL, 0);
    for (unsigned i = 0; i < REFUSALS_MAX + over; i++)
        assert_int_equal(call(CUSTODIAN_NONE, &refused, NULL), ERR_DENIED);
    assert_int_equal(custodian_audit_lines(&custodian, NULL, 0) - before, REFUSALS_MAX);
    core_tell_refusals(&custodian.core, clock_ms());
    assert_int_equal(custodian_audit_lines(&custodian, NULL, 0) - before, REFUSALS_MAX);
    assert_int_equal(call(CUSTODIAN_OPENER, &refused, NULL), ERR_DENIED); // another one
    assert_int_equal(custodian_audit_lines(&custodian, NULL, 0) - before, REFUSALS_MAX + 1);
    for (unsigned i = 0; i < 2 * REFUSALS_MAX; i++)
        assert_int_equal(call(CUSTODIAN_SIGNER, &refused, NULL), ERR_OK);
    before += 3 * REFUSALS_MAX + 1;
    assert_int_equal(custodian_audit_lines(&custodian, NULL, 0), before);
    core_tell_refusals(&custodian.core, clock_ms() + REFUSALS_TIME_MS);
    assert_int_equal(custodian_audit_lines(&custodian, last, sizeof last), before + 1);
    assert_non_null(strstr(last, "\"event\":\"refuse\",\"client\":\"none\""));
    assert_non_null(strstr(last, "\"1000 more refusals"));
    core_tell_refusals(&custodian.core, REFUSALS_ALL);
    assert_int_equal(custodian_audit_lines(&custodian, NULL, 0), before + 1); // once
    refusals_free(custodian.core.refusals);
    custodian.core.refusals = NULL;
}

// The minute is over: the next refusals have lines again, and the count is not lost.
static void test_refusals_next_minute(void **state)
{
    (void)state;
    struct refusals *refusals;
    char client[TEXT_NAME_MAX + 1];
    uint64_t count = 0;
    assert_int_equal(refusals_new(&refusals), ERR_OK);
    for (unsigned i = 0; i < REFUSALS_MAX; i++)
        assert_true(refusals_admit(refusals, "a", 1000 + i));
    assert_false(refusals_admit(refusals, "a", 2000));
    assert_false(refusals_take(refusals, 999 + REFUSALS_TIME_MS, client, &count));
    assert_true(refusals_admit(refusals, "a", 1000 + REFUSALS_TIME_MS));
    assert_true(refusals_take(refusals, REFUSALS_ALL, client, &count));
    assert_string_equal(client, "a");
    assert_int_equal(count, 1);
    assert_false(refusals_take(refusals, REFUSALS_ALL, client, &count));
    refusals_put_back(refusals, "a", 5);
    assert_true(refusals_take(refusals, REFUSALS_ALL, client, &count));
    assert_int_equal(count, 5);
    refusals_free(refusals);
}

static void test_store_failures(void **state)
{
    (void)state;
    char last[AUDIT_LINE_MAX];
    struct wire_request request =
        make_sign("rsa.smime-sign.enabled", WIRE_RSA_PKCS1, WIRE_ATTRIBUTES);
    static const enum err classes[] = {ERR_TEMP, ERR_PERM, ERR_DENIED, ERR_BUG};
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        memstore_key_break(custodian.stores[CUSTODIAN_RSA], classes[i], 0);
        assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), classes[i]);
        custodian_audit_lines(&custodian, last, sizeof last);
        assert_non_null(strstr(last, "\"event\":\"use\""));
        assert_non_null(strstr(last, "broken by the test"));
        assert_non_null(strstr(last, err_name(classes[i])));
    }
    memstore_key_break(custodian.stores[CUSTODIAN_RSA], ERR_OK, 0);
    assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_audit_fields),
        cmocka_unit_test(test_refusals_are_counted),
        cmocka_unit_test(test_refusals_next_minute),
        cmocka_unit_test(test_store_failures),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
