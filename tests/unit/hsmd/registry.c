// SPDX-License-Identifier: Apache-2.0
// The registry's rules about the key that signs the audit log.
#include "hsmd/registry/registry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hsmd/core_check.h"

#define PUBLIC_KEY "0123456789012345678901234567890123456789"

static struct registry *registry;

static int setup(void **state)
{
    (void)state;
    return registry_new(&registry) == ERR_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    registry_free(registry);
    return 0;
}

static void add_key(const char *name, enum wire_purpose purpose, enum wire_state state)
{
    struct registry_key key = {.purpose = purpose, .state = state, .algorithms = REGISTRY_ALL};
    snprintf(key.name, sizeof key.name, "%s", name);
    assert_int_equal(registry_add_key(registry, &key, NULL), ERR_OK);
}

static void test_audit_key(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum wire_purpose purpose;
        enum wire_state state;
        const char *expected; // the audit key once this one is there too
    } rows[] = {
        {"general", WIRE_GENERAL, WIRE_ENABLED, NULL},
        {"audit-2", WIRE_AUDIT, WIRE_DISABLED, NULL},
        {"audit-3", WIRE_AUDIT, WIRE_RETIRED, NULL},
        {"audit-9", WIRE_AUDIT, WIRE_ENABLED, "audit-9"},
        {"zz", WIRE_AUDIT, WIRE_ENABLED, "audit-9"},
        {"audit-8", WIRE_AUDIT, WIRE_ENABLED, "audit-8"},
    };
    assert_null(registry_audit_key(registry));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        add_key(rows[i].name, rows[i].purpose, rows[i].state);
        const struct registry_key *key = registry_audit_key(registry);
        if (rows[i].expected)
            assert_string_equal(key->name, rows[i].expected);
        else
            assert_null(key);
    }
}

static void test_no_grant_for_audit(void **state)
{
    (void)state;
    struct detail detail = {0};
    struct bytes names[4];
    struct registry_client client = {.name = "gw", .public_key = PUBLIC_KEY};
    add_key("audit", WIRE_AUDIT, WIRE_ENABLED);
    add_key("other", WIRE_GENERAL, WIRE_ENABLED);
    assert_int_equal(registry_add_client(registry, &client, NULL), ERR_OK);
    assert_int_equal(
        registry_add_grant(registry, "gw", "audit", REGISTRY_ALL, REGISTRY_ALL, NULL, &detail),
        ERR_PERM);
    assert_string_equal(detail.text, "grant: key \"audit\" is for audit alone");
    assert_int_equal(
        registry_add_grant(registry, "gw", "other", REGISTRY_ALL, REGISTRY_ALL, NULL, &detail),
        ERR_OK);
    const struct registry_client *found = registry_client_by_public_key(registry, PUBLIC_KEY);
    const struct registry_key *key = registry_key_by_name(registry, BYTES_LITERAL("audit"));
    assert_int_equal(registry_authorise(registry, found, key, WIRE_DESCRIBE, 0), ERR_DENIED);
    assert_int_equal(registry_authorise(registry, found, key, WIRE_SIGN, WIRE_RSA_PSS), ERR_DENIED);
    assert_int_equal(registry_list(registry, found, BYTES_LITERAL(""), names, 4), 1);
    assert_true(bytes_equal(names[0], BYTES_LITERAL("other")));
}

// And if there were a grant all the same, the key's purpose would rule its use out.
static void test_purpose_rules_out(void **state)
{
    (void)state;
    static const uint8_t data[256];
    struct registry_key key = {.name = "audit", .state = WIRE_ENABLED, .algorithms = REGISTRY_ALL};
    struct token_key_info rsa = {.type = TOKEN_KEY_RSA,
                                 .bits = 2048,
                                 .can_sign = true,
                                 .can_decrypt = true,
                                 .can_derive = true};
    struct token_key_info ec = rsa;
    ec.type = TOKEN_KEY_EC;
    const struct wire_sign sign = {.algorithm = WIRE_RSA_PKCS1,
                                   .hash = HASH_SHA256,
                                   .form = WIRE_DIGEST,
                                   .data = bytes_of(data, 32)};
    const struct wire_unwrap unwrap = {.algorithm = WIRE_RSAES_PKCS1,
                                       .ciphertext = bytes_of(data, sizeof data)};
    const struct wire_agree agree = {
        .algorithm = WIRE_ECDH_X963, .hash = HASH_SHA256, .peer = bytes_of(data, 65), .length = 32};
    struct wire_sign attributes = sign;
    attributes.form = WIRE_ATTRIBUTES;
    for (int is_audit = 0; is_audit < 2; is_audit++) {
        enum err expected = is_audit ? ERR_DENIED : ERR_OK;
        key.purpose = is_audit ? WIRE_AUDIT : WIRE_GENERAL;
        assert_int_equal(core_check_sign(&key, &rsa, &sign, NULL), expected);
        assert_int_equal(core_check_sign(&key, &rsa, &attributes, NULL), ERR_DENIED);
        assert_int_equal(core_check_unwrap(&key, &rsa, &unwrap, NULL), expected);
        assert_int_equal(core_check_agree(&key, &ec, &agree, NULL), expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_audit_key, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_grant_for_audit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_purpose_rules_out, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
