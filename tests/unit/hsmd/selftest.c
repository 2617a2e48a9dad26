// SPDX-License-Identifier: Apache-2.0
// The self-test uses each enabled key and no other, notices what is wrong, and cannot be mistaken
// for a signature that means something.
#include "hsmd/watch/selftest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/attributes.h"
#include "hsmd/base/file.h"
#include "hsmd/watch/selftest_key.h"
#include "hsmd/watch/status.h"
#include "tests/support/custodian.h"
#include "tests/support/require.h"

#define ENABLED 10 // keys of the custodian: three types by three purposes, and rsa.listed

#define PATIENCE_MS 60000 // of a test that waits for what is sure to come

static struct custodian custodian;
static struct selftest *selftest; // of the test under way; NULL: none
static struct secret scratch;
static struct detail detail;

static int setup(void **state)
{
    (void)state;
    custodian_setup(&custodian);
    return secret_init(&scratch, SELFTEST_SECRET_MAX, &detail) == ERR_OK ? 0 : -1;
}

// Lets go what it hangs in; until its thread has ended, the custodian is in use.
static void stop_selftest(void)
{
    memstore_key_break(custodian.stores[CUSTODIAN_RSA], ERR_OK, 0);
    memstore_key_hold(custodian.stores[CUSTODIAN_RSA], false);
    REQUIRE(selftest_close(selftest, PATIENCE_MS));
    selftest = NULL;
}

static int teardown(void **state)
{
    (void)state;
    stop_selftest();
    secret_clear(&scratch);
    custodian_teardown(&custodian);
    return 0;
}

static enum err test_key(const struct registry_key *key, const struct keystore_ops *keystore,
                         struct selftest_outcome *outcome)
{
    enum err err = selftest_key(keystore, key, deadline_in(10000), &scratch, outcome, &detail);
    assert_int_equal(scratch.len, 0); // nothing of it stays
    return err;
}

static void test_kinds(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        uint64_t algorithms;
        enum wire_algorithm used;
    } rows[] = {
        {"rsa.smime-sign.enabled", REGISTRY_ALL, WIRE_RSA_PKCS1},
        {"rsa.smime-sign.enabled", REGISTRY_SET(WIRE_RSA_PSS), WIRE_RSA_PSS},
        {"rsa.smime-decrypt.enabled", REGISTRY_ALL, WIRE_RSAES_PKCS1},
        {"rsa.smime-decrypt.enabled", REGISTRY_SET(WIRE_RSAES_OAEP), WIRE_RSAES_OAEP},
        {"rsa.general.enabled", REGISTRY_ALL, WIRE_RSA_PKCS1},
        {"rsa.general.enabled", REGISTRY_SET(WIRE_RSAES_OAEP), WIRE_RSAES_OAEP},
        {"ec.smime-sign.enabled", REGISTRY_ALL, WIRE_ECDSA},
        {"ec.smime-decrypt.enabled", REGISTRY_ALL, WIRE_ECDH_X963},
        {"ec.general.enabled", REGISTRY_SET(WIRE_ECDH_X963), WIRE_ECDH_X963},
        {"ed25519.smime-sign.enabled", REGISTRY_ALL, WIRE_EDDSA},
        {"ed25519.general.enabled", REGISTRY_ALL, WIRE_EDDSA},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct selftest_outcome outcome;
        const struct registry_key *found =
            registry_key_by_name(custodian.registry, bytes_of_text(rows[i].key));
        struct registry_key key = *found;
        key.algorithms = rows[i].algorithms;
        detail.text[0] = 0;
        enum err err = test_key(&key, &memstore_ops, &outcome);
        assert_string_equal(detail.text, "");
        assert_int_equal(err, ERR_OK);
        assert_int_equal(outcome.algorithm, rows[i].used);
        assert_int_equal(outcome.operation, wire_algorithm_operation(rows[i].used));
        memstore_key_break(key.store, ERR_TEMP, 0);
        assert_int_equal(test_key(&key, &memstore_ops, &outcome), ERR_TEMP);
        memstore_key_break(key.store, ERR_OK, 0);
        assert_int_equal(outcome.algorithm, rows[i].used);
    }
}

static enum err bent_sign(struct keystore_key *key, unsigned token, enum token_scheme scheme,
                          enum hash hash, unsigned salt, struct bytes digest, deadline_t deadline,
                          uint8_t *out, size_t *out_len, struct detail *why)
{
    enum err err =
        memstore_ops.sign(key, token, scheme, hash, salt, digest, deadline, out, out_len, why);
    out[*out_len - 1] ^= 1;
    return err;
}

static enum err bent_unwrap(struct keystore_key *key, unsigned token,
                            const struct token_padding *padding, struct bytes ciphertext,
                            deadline_t deadline, struct secret *out, struct detail *why)
{
    enum err err = memstore_ops.unwrap(key, token, padding, ciphertext, deadline, out, why);
    out->data[0] ^= 1;
    return err;
}

static enum err bent_agree(struct keystore_key *key, unsigned token, struct bytes peer,
                           bool cofactor, deadline_t deadline, struct secret *z, struct detail *why)
{
    enum err err = memstore_ops.agree(key, token, peer, cofactor, deadline, z, why);
    z->data[0] ^= 1;
    return err;
}

// A token that answers, but wrongly.
static void test_wrong_results(void **state)
{
    (void)state;
    const struct keystore_ops bent = {.sign = bent_sign,
                                      .unwrap = bent_unwrap,
                                      .agree = bent_agree,
                                      .describe = memstore_ops.describe,
                                      .pick = memstore_ops.pick};
    const struct registry_key *key = NULL;
    unsigned tested = 0;
    for (size_t i = 0; (key = registry_key_at(custodian.registry, i)) != NULL; i++) {
        struct selftest_outcome outcome;
        if (key->state != WIRE_ENABLED)
            continue;
        assert_int_equal(test_key(key, &bent, &outcome), ERR_PERM);
        tested++;
    }
    assert_int_equal(tested, ENABLED);
}

// Promise 4: what is signed is no SignedAttributes, in any of the hashes.
static void test_text(void **state)
{
    (void)state;
    struct attributes attributes;
    for (int hash = HASH_SHA1; hash < HASH_COUNT; hash++)
        assert_int_equal(attributes_parse(bytes_of_text(selftest_text), (enum hash)hash, time(NULL),
                                          &attributes, &detail),
                         ERR_PERM);
    assert_int_not_equal(selftest_text[0], 0x31); // a SET
    assert_int_not_equal(selftest_text[0], 0x30); // a SEQUENCE: a certificate, a CRL, a request
}

// Keys that failed, hang, and are none of the RSA keys that a test has broken.
struct failures {
    unsigned failed, hanging, others;
};

// Asserts nothing: it is called with the self-test's lock held.
static void count_failure(void *context, const char *key, bool is_hanging)
{
    struct failures *failures = context;
    if (strncmp(key, "rsa.", 4) != 0)
        failures->others++;
    else if (is_hanging)
        failures->hanging++;
    else
        failures->failed++;
}

// Waits until so many RSA keys have failed, so many hang, and nothing else is told. On a slow
// machine any key may hang for a while.
static bool wait_failures(unsigned failed, unsigned hanging)
{
    for (deadline_t until = deadline_in(PATIENCE_MS); !deadline_is_past(until); usleep(10000)) {
        struct failures failures = {0};
        selftest_each_failed(selftest, count_failure, &failures);
        if (failures.failed == failed && failures.hanging == hanging && failures.others == 0)
            return true;
    }
    return false;
}

static void test_rounds(void **state)
{
    (void)state;
    char last[AUDIT_LINE_MAX + 2];
    unsigned before = memstore_used();
    memstore_key_break(custodian.stores[CUSTODIAN_RSA], ERR_TEMP, 0);
    assert_int_equal(selftest_open(&custodian.core, 20, PATIENCE_MS, &selftest, &detail), ERR_OK);
    assert_true(wait_failures(4, 0)); // three purposes, and rsa.listed
    struct buf text;
    buf_init(&text, 1 << 20);
    const struct status status = {.core = &custodian.core, .selftest = selftest};
    bool is_well = true;
    assert_int_equal(status_put_health(&status, false, &text, &is_well), ERR_OK);
    assert_false(is_well);
    assert_non_null(strstr(buf_text(&text), "key rsa.listed: its self-test failed\n"));
    memstore_key_break(custodian.stores[CUSTODIAN_RSA], ERR_OK, 0);
    assert_true(wait_failures(0, 0));
    buf_clear(&text);
    stop_selftest();
    unsigned lines = custodian_audit_lines(&custodian, last, sizeof last);
    assert_int_equal(lines, memstore_used() - before); // each use is in the log
    assert_int_equal(lines % ENABLED, 0);              // whole rounds of enabled keys
    assert_non_null(strstr(last, "\"event\":\"self-test\",\"key\":\"rsa.smime-sign.enabled\","
                                 "\"operation\":\"sign\",\"algorithm\":\"rsa-pkcs1\","
                                 "\"hash\":\"sha256\",\"result\":\"ok\",\"message_digest\":\""));
}

// None is left out, none tried twice, and each by what it is for.
static void test_each_key(void **state)
{
    (void)state;
    static const struct {
        const char *key, *operation, *algorithm;
    } rows[ENABLED] = {
        {"rsa.smime-sign.enabled", "sign", "rsa-pkcs1"},
        {"rsa.smime-decrypt.enabled", "unwrap", "rsaes-pkcs1"},
        {"rsa.general.enabled", "sign", "rsa-pkcs1"},
        {"rsa.listed", "sign", "rsa-pkcs1"},
        {"ec.smime-sign.enabled", "sign", "ecdsa"},
        {"ec.smime-decrypt.enabled", "agree", "ecdh-x963"},
        {"ec.general.enabled", "sign", "ecdsa"},
        {"ed25519.smime-sign.enabled", "sign", "ed25519"},
        {"ed25519.smime-decrypt.enabled", "sign", "ed25519"}, // no such key is made
        {"ed25519.general.enabled", "sign", "ed25519"},
    };
    struct buf log;
    assert_int_equal(selftest_open(&custodian.core, 1000000, PATIENCE_MS, &selftest, &detail),
                     ERR_OK);
    deadline_t until = deadline_in(PATIENCE_MS);
    while (!deadline_is_past(until) && custodian_audit_lines(&custodian, NULL, 0) < ENABLED)
        usleep(10000);
    stop_selftest(); // after the round
    buf_init(&log, 1 << 20);
    assert_int_equal(file_read(custodian.audit_path, &log, NULL), ERR_OK);
    for (size_t i = 0; i < ENABLED; i++) {
        char line[200];
        snprintf(line, sizeof line,
                 "\"event\":\"self-test\",\"key\":\"%s\",\"operation\":\"%s\","
                 "\"algorithm\":\"%s\",",
                 rows[i].key, rows[i].operation, rows[i].algorithm);
        const char *found = strstr(buf_text(&log), line);
        if (!found || strstr(found + 1, line))
            fail_msg("%s: not once in %s", line, buf_text(&log));
    }
    buf_clear(&log);
    assert_int_equal(custodian_audit_lines(&custodian, NULL, 0), ENABLED);
}

// One that hangs is told as long as it hangs, and keeps nobody who asks.
static void test_hanging(void **state)
{
    (void)state;
    memstore_key_hold(custodian.stores[CUSTODIAN_RSA], true);
    assert_int_equal(selftest_open(&custodian.core, 1000000, 10, &selftest, &detail), ERR_OK);
    assert_true(wait_failures(0, 1));
    memstore_key_hold(custodian.stores[CUSTODIAN_RSA], false);
    assert_true(wait_failures(0, 0));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(test_kinds),    TEST(test_wrong_results),
                                       TEST(test_text),     TEST(test_rounds),
                                       TEST(test_each_key), TEST(test_hanging)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
