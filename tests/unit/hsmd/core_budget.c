// SPDX-License-Identifier: Apache-2.0
// Which uses take from a budget and which failures are counted, as requests come through the core:
// two clients with grants for the same two keys.
#include "hsmd/core.h"

#include <string.h>

#include "hsmd/registry/budget.h"
#include "tests/unit/hsmd/core_support.h"

#define CAP 3 // failures an hour
#define FIRST CUSTODIAN_ALL
#define SECOND CUSTODIAN_OPENER

static const char *const keys[] = {"rsa", "ec"};
static struct budgets *budgets;
static struct budget *key_budgets[2], *grant_budgets[2]; // of the keys; of the first one's grants
static uint8_t garbage[256];

static struct budget *budget(const char *kind, const char *name, const struct budget_limits *limits)
{
    char identity[40];
    struct budget *made = NULL;
    snprintf(identity, sizeof identity, "%s %s", kind, name);
    assert_int_equal(budgets_get(budgets, identity, limits, &made, NULL), ERR_OK);
    return made;
}

// Fresh budgets: of_key for each key, of_grant for each grant.
static void put_rules(struct budget_limits of_key, struct budget_limits of_grant)
{
    static const struct {
        const char *name, *grants;
        enum custodian_client number;
    } clients[] = {{"first", "grant first", FIRST}, {"second", "grant second", SECOND}};
    struct registry *registry = NULL;
    struct budgets *former = budgets;
    assert_int_equal(registry_new(&registry), ERR_OK);
    assert_int_equal(budgets_open(NULL, 0, 0, &budgets, NULL), ERR_OK);
    for (unsigned i = 0; i < 2; i++) {
        struct registry_client client = {0};
        snprintf(client.name, sizeof client.name, "%s", clients[i].name);
        memcpy(client.public_key, custodian.public_keys[clients[i].number],
               sizeof client.public_key);
        assert_int_equal(registry_add_client(registry, &client, NULL), ERR_OK);
    }
    for (unsigned k = 0; k < 2; k++) {
        key_budgets[k] = budget("key", keys[k], &of_key);
        struct registry_key key = {.purpose = WIRE_GENERAL,
                                   .state = WIRE_ENABLED,
                                   .algorithms = REGISTRY_ALL,
                                   .budget = key_budgets[k],
                                   .store = custodian.stores[k ? CUSTODIAN_EC : CUSTODIAN_RSA]};
        snprintf(key.name, sizeof key.name, "%s", keys[k]);
        assert_int_equal(registry_add_key(registry, &key, NULL), ERR_OK);
        for (unsigned i = 0; i < 2; i++) {
            struct budget *granted = budget(clients[i].grants, keys[k], &of_grant);
            assert_int_equal(registry_add_grant(registry, clients[i].name, keys[k], REGISTRY_ALL,
                                                REGISTRY_ALL, granted, NULL),
                             ERR_OK);
            if (i == 0)
                grant_budgets[k] = granted;
        }
    }
    live_swap(custodian.live, registry);
    budgets_close(former);
}

static int setup_budgets(void **state)
{
    memset(garbage, 0x11, sizeof garbage); // less than the modulus, and no padding
    return setup(state);
}

static int teardown_budgets(void **state)
{
    int result = teardown(state);
    budgets_close(budgets);
    return result;
}

static int unwrap(enum custodian_client client, bool is_oaep, bool is_bad)
{
    struct wire_request request = make_unwrap("rsa", is_oaep);
    if (is_bad)
        request.unwrap.ciphertext = bytes_of(garbage, sizeof garbage);
    return call(client, &request, NULL);
}

static int agree(enum custodian_client client, bool is_bad)
{
    struct wire_request request = make_agree("ec");
    point[64] ^= is_bad; // off the curve
    int class = call(client, &request, NULL);
    point[64] ^= is_bad;
    return class;
}

static uint64_t left(struct budget *budget)
{
    return budget_get_left(budget, clock_ms()).failures_per_hour;
}

static void assert_last_reason(const char *reason)
{
    char last[AUDIT_LINE_MAX];
    custodian_audit_lines(&custodian, last, sizeof last);
    if (!strstr(last, "\"event\":\"refuse\"") || !strstr(last, reason))
        fail_msg("%s: not of %s", last, reason);
}

// So many bad ones are tried; then none is, be it good or bad, and the key is not asked.
static void test_oaep_of_a_key(void **state)
{
    (void)state;
    put_rules((struct budget_limits){.failures_per_hour = CAP}, (struct budget_limits){0});
    for (unsigned i = 0; i < CAP; i++) {
        assert_int_equal(left(key_budgets[0]), CAP - i);
        assert_int_equal(unwrap(FIRST, true, false), ERR_OK);
        assert_int_equal(unwrap(i % 2 ? FIRST : SECOND, true, true), ERR_PERM);
    }
    unsigned used = memstore_used();
    assert_int_equal(unwrap(FIRST, true, true), ERR_DENIED);
    assert_last_reason("\"reason\":\"budget: key rsa: failures-per-hour\"");
    assert_int_equal(unwrap(FIRST, true, false), ERR_DENIED);
    assert_int_equal(unwrap(SECOND, true, false), ERR_DENIED); // it is the key's
    assert_int_equal(memstore_used(), used);
    assert_int_equal(agree(FIRST, false), ERR_OK); // and not the other's
}

// One client's garbage is that client's trouble.
static void test_oaep_of_a_grant(void **state)
{
    (void)state;
    put_rules((struct budget_limits){0}, (struct budget_limits){.failures_per_hour = CAP});
    for (unsigned i = 0; i < CAP; i++)
        assert_int_equal(unwrap(FIRST, true, true), ERR_PERM);
    assert_int_equal(left(grant_budgets[0]), 0);
    assert_int_equal(unwrap(FIRST, true, false), ERR_DENIED);
    assert_last_reason("\"reason\":\"budget: grant first rsa: failures-per-hour\"");
    assert_int_equal(unwrap(SECOND, true, false), ERR_OK);
    assert_int_equal(agree(FIRST, false), ERR_OK); // by another grant
}

static void test_points(void **state)
{
    (void)state;
    put_rules((struct budget_limits){.failures_per_hour = CAP},
              (struct budget_limits){.failures_per_hour = CAP - 1});
    for (unsigned i = 0; i < CAP - 1; i++)
        assert_int_equal(agree(FIRST, true), ERR_PERM);
    assert_int_equal(left(grant_budgets[1]), 0);
    assert_int_equal(left(key_budgets[1]), 1);
    assert_int_equal(agree(FIRST, false), ERR_DENIED);
    assert_last_reason("\"reason\":\"budget: grant first ec: failures-per-hour\"");
    assert_int_equal(agree(SECOND, true), ERR_PERM);
    assert_int_equal(agree(SECOND, false), ERR_DENIED);
    assert_last_reason("\"reason\":\"budget: key ec: failures-per-hour\"");
    assert_int_equal(unwrap(FIRST, true, false), ERR_OK);
}

// Promise 5: bad padding of PKCS#1 v1.5 leaves no trace in what is left, or whoever may read that
// would have an oracle; not even what RSA itself refuses does.
static void test_pkcs1_is_no_failure(void **state)
{
    (void)state;
    put_rules((struct budget_limits){.failures_per_hour = 1},
              (struct budget_limits){.failures_per_hour = 1});
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(unwrap(FIRST, false, true), ERR_OK);
    memset(garbage, 0xff, sizeof garbage); // more than any modulus
    assert_int_equal(unwrap(FIRST, false, true), ERR_PERM);
    memset(garbage, 0x11, sizeof garbage);
    assert_int_equal(left(key_budgets[0]), 1);
    assert_int_equal(left(grant_budgets[0]), 1);
    assert_int_equal(unwrap(FIRST, true, false), ERR_OK);
}

// Nor does it suffer from others' failures: nobody's OAEP garbage shuts a key for v1.5, or for
// signing. What else limits the key does.
static void test_pkcs1_is_not_denied(void **state)
{
    (void)state;
    const struct wire_request sign = make_sign("rsa", WIRE_RSA_PKCS1, WIRE_DIGEST);
    put_rules((struct budget_limits){.failures_per_hour = 1, .per_minute = 6},
              (struct budget_limits){.failures_per_hour = 1});
    assert_int_equal(unwrap(FIRST, true, true), ERR_PERM);
    assert_int_equal(unwrap(FIRST, true, false), ERR_DENIED);
    for (unsigned i = 0; i < 2; i++) { // the second to the fifth use
        assert_int_equal(unwrap(FIRST, false, i), ERR_OK);
        assert_int_equal(unwrap(SECOND, false, i), ERR_OK);
    }
    assert_int_equal(call(FIRST, &sign, NULL), ERR_OK);
    assert_int_equal(unwrap(FIRST, false, false), ERR_DENIED);
    assert_last_reason("\"reason\":\"budget: key rsa: per-minute\"");
}

// A token's trouble, requests that never come to the key, signatures.
static void test_others_are_no_failures(void **state)
{
    (void)state;
    struct wire_request sign = make_sign("rsa", WIRE_RSA_PKCS1, WIRE_DIGEST);
    struct wire_request unfit = make_unwrap("rsa", true);
    unfit.unwrap.mgf_hash = HASH_NONE;
    put_rules((struct budget_limits){.failures_per_hour = 1},
              (struct budget_limits){.failures_per_hour = 1});
    assert_int_equal(call(FIRST, &unfit, NULL), ERR_PERM);
    memstore_key_break(custodian.stores[CUSTODIAN_RSA], ERR_TEMP, 0);
    assert_int_equal(unwrap(FIRST, true, false), ERR_TEMP);
    memstore_key_break(custodian.stores[CUSTODIAN_RSA], ERR_PERM, 0);
    assert_int_equal(call(FIRST, &sign, NULL), ERR_PERM);
    memstore_key_break(custodian.stores[CUSTODIAN_RSA], ERR_OK, 0);
    assert_int_equal(left(key_budgets[0]), 1);
    assert_int_equal(left(grant_budgets[0]), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oaep_of_a_key),
        cmocka_unit_test(test_oaep_of_a_grant),
        cmocka_unit_test(test_points),
        cmocka_unit_test(test_pkcs1_is_no_failure),
        cmocka_unit_test(test_pkcs1_is_not_denied),
        cmocka_unit_test(test_others_are_no_failures),
    };
    return cmocka_run_group_tests(tests, setup_budgets, teardown_budgets);
}
