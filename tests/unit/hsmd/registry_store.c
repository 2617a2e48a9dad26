// SPDX-License-Identifier: Apache-2.0
// What the store says is what the registry answers; budgets go on under the names they had while
// hsmd.conf held the keys.
#include "hsmd/registry/registry_store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/base/log.h"
#include "hsmd/registry/budget_identity.h"

#define KEY_1 "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
#define KEY_2 "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"

static char dir[64];
static struct store *store;
static struct detail detail;

static const char *in_dir(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static int setup(void **state)
{
    (void)state;
    log_open("test", LOG_SINK_STDERR, LOG_LEVEL_ERROR);
    snprintf(dir, sizeof dir, "/tmp/registry-store-XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(store_open(in_dir(STORE_FILE), &store, &detail), ERR_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    store_close(store);
    unlink(in_dir(STORE_FILE));
    unlink(in_dir("budgets"));
    return rmdir(dir);
}

static void add_key(const char *name, enum wire_purpose purpose, enum wire_state state)
{
    struct store_key key = {.purpose = purpose,
                            .state = state,
                            .algorithms = REGISTRY_ALL,
                            .limits = {.total = 100},
                            .certificates = bytes_of_text(name)};
    snprintf(key.name, sizeof key.name, "%s", name);
    assert_int_equal(store_add_key(store, &key, &detail), ERR_OK);
}

static void add_client(const char *name, const char *public_key)
{
    struct store_client client = {0};
    snprintf(client.name, sizeof client.name, "%s", name);
    snprintf(client.public_key, sizeof client.public_key, "%s", public_key);
    assert_int_equal(store_add_client(store, &client, &detail), ERR_OK);
}

static void put_grant(const char *client, const char *key, uint64_t operations, uint64_t algorithms)
{
    struct store_grant grant = {
        .operations = operations, .algorithms = algorithms, .limits = {.total = 50}};
    snprintf(grant.client, sizeof grant.client, "%s", client);
    snprintf(grant.key, sizeof grant.key, "%s", key);
    assert_int_equal(store_put_grant(store, &grant, &detail), ERR_OK);
}

static void fill(void)
{
    add_key("signing", WIRE_SMIME_SIGN, WIRE_ENABLED);
    add_key("gone", WIRE_SMIME_SIGN, WIRE_DISABLED);
    add_key("general", WIRE_GENERAL, WIRE_RETIRED);
    add_key("spare", WIRE_GENERAL, WIRE_ENABLED);
    add_key("audit", WIRE_AUDIT, WIRE_ENABLED);
    assert_int_equal(store_drop_key(store, "gone", &detail), ERR_OK);
    add_client("gw", KEY_1);
    add_client("b", KEY_2);
    put_grant("gw", "signing", REGISTRY_SET(WIRE_SIGN), REGISTRY_ALL);
    put_grant("b", "general", REGISTRY_SET(WIRE_SIGN) | REGISTRY_SET(WIRE_UNWRAP),
              REGISTRY_SET(WIRE_RSA_PSS) | REGISTRY_SET(WIRE_RSAES_OAEP));
    put_grant("b", "spare", REGISTRY_SET(WIRE_UNWRAP), REGISTRY_SET(WIRE_RSAES_OAEP));
    put_grant("b", "spare", REGISTRY_SET(WIRE_SIGN), REGISTRY_SET(WIRE_RSA_PSS));
}

// Each key is bound to the place in memory of its first letter.
static char letters[256];

static enum err bind_letter(void *context, const struct store_key *key, struct keystore_key **bound,
                            struct detail *reason)
{
    if (context && strcmp(context, key->name) == 0)
        return err_set(reason, ERR_TEMP, "key %s: no", key->name);
    *bound = (struct keystore_key *)(void *)&letters[(unsigned char)key->name[0]];
    return ERR_OK;
}

static void test_answers(void **state)
{
    (void)state;
    struct registry *registry = NULL;
    fill();
    assert_int_equal(registry_from_store(store, NULL, bind_letter, NULL, &registry, &detail),
                     ERR_OK);
    const struct registry_client *gw = registry_client_by_public_key(registry, KEY_1);
    const struct registry_client *b = registry_client_by_public_key(registry, KEY_2);
    const struct registry_key *signing = registry_key_by_name(registry, BYTES_LITERAL("signing"));
    const struct registry_key *general = registry_key_by_name(registry, BYTES_LITERAL("general"));
    assert_null(registry_key_by_name(registry, BYTES_LITERAL("gone")));
    assert_null(registry_key_at(registry, 4));
    assert_string_equal(registry_audit_key(registry)->name, "audit");
    assert_string_equal(gw->name, "gw");
    assert_int_equal(general->state, WIRE_RETIRED);
    assert_int_equal(general->purpose, WIRE_GENERAL);
    assert_true(bytes_equal(general->certificates, BYTES_LITERAL("general")));
    assert_ptr_equal(signing->store, &letters['s']);
    assert_null(signing->budget);
    static const struct {
        bool is_b;
        const char *key;
        enum wire_operation operation;
        enum wire_algorithm algorithm;
        enum err expected;
    } rows[] = {
        {false, "signing", WIRE_SIGN, WIRE_RSA_PKCS1, ERR_OK},
        {false, "signing", WIRE_DESCRIBE, 0, ERR_OK},
        {false, "signing", WIRE_UNWRAP, WIRE_RSAES_OAEP, ERR_DENIED},
        {false, "general", WIRE_DESCRIBE, 0, ERR_DENIED},
        {false, "general", WIRE_SIGN, WIRE_RSA_PKCS1, ERR_DENIED},
        {true, "signing", WIRE_SIGN, WIRE_RSA_PSS, ERR_DENIED},
        {true, "general", WIRE_SIGN, WIRE_RSA_PSS, ERR_OK},
        {true, "general", WIRE_SIGN, WIRE_RSA_PKCS1, ERR_DENIED},
        {true, "general", WIRE_UNWRAP, WIRE_RSAES_OAEP, ERR_OK},
        {true, "spare", WIRE_UNWRAP, WIRE_RSAES_OAEP, ERR_OK},
        {true, "spare", WIRE_UNWRAP, WIRE_RSAES_PKCS1, ERR_DENIED},
        {true, "spare", WIRE_SIGN, WIRE_RSA_PSS, ERR_OK},
        {true, "spare", WIRE_SIGN, WIRE_RSAES_OAEP, ERR_DENIED}, // not across grants
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(
            registry_authorise(registry, rows[i].is_b ? b : gw,
                               registry_key_by_name(registry, bytes_of_text(rows[i].key)),
                               rows[i].operation, rows[i].algorithm),
            rows[i].expected);
    struct bytes names[4];
    assert_null(registry_client_by_public_key(registry, ""));
    assert_null(registry_key_by_name(registry, BYTES_LITERAL("signin")));
    assert_null(registry_key_by_name(registry, BYTES_LITERAL("signing\0")));
    assert_int_equal(registry_list(registry, b, BYTES_LITERAL(""), names, 4), 2);
    assert_true(bytes_equal(names[0], BYTES_LITERAL("general")));
    assert_true(bytes_equal(names[1], BYTES_LITERAL("spare")));
    assert_int_equal(registry_list(registry, b, BYTES_LITERAL("general"), names, 4), 1);
    assert_int_equal(registry_list(registry, b, BYTES_LITERAL("spare"), names, 4), 0);
    assert_int_equal(registry_list(registry, b, BYTES_LITERAL(""), names, 0), 0);
    registry_free(registry);
}

static void test_bind_fails(void **state)
{
    (void)state;
    struct registry *registry = NULL;
    char name[] = "general";
    fill();
    assert_int_equal(registry_from_store(store, NULL, bind_letter, name, &registry, &detail),
                     ERR_TEMP);
    assert_string_equal(detail.text, "key general: no");
    assert_null(registry);
    assert_int_equal(registry_from_store(store, NULL, NULL, NULL, &registry, &detail), ERR_OK);
    assert_null(registry_key_by_name(registry, BYTES_LITERAL("general"))->store);
    registry_free(registry);
}

// One use of b's grant for general, taken from a registry; what is left of both totals after it.
static void use(const struct registry *registry, uint64_t *key_left, uint64_t *grant_left)
{
    struct budget *budgets[2] = {0};
    const struct registry_client *b = registry_client_by_public_key(registry, KEY_2);
    const struct registry_key *general = registry_key_by_name(registry, BYTES_LITERAL("general"));
    budgets[0] = general->budget;
    assert_int_equal(
        registry_budgets(registry, b, general, WIRE_UNWRAP, WIRE_RSAES_OAEP, budgets + 1, 1), 1);
    assert_int_equal(budget_take(budgets, 2, false, 1000000, &detail), ERR_OK);
    *key_left = budget_get_left(budgets[0], 1000000).total;
    *grant_left = budget_get_left(budgets[1], 1000000).total;
}

// The file of budgets knows them by what budget_identity says, as when hsmd.conf held the keys.
static void test_budgets_go_on(void **state)
{
    (void)state;
    static const uint64_t operations = REGISTRY_SET(WIRE_SIGN) | REGISTRY_SET(WIRE_UNWRAP);
    static const uint64_t algorithms = REGISTRY_SET(WIRE_RSA_PSS) | REGISTRY_SET(WIRE_RSAES_OAEP);
    const struct budget_limits key_limits = {.total = 100};
    const struct budget_limits grant_limits = {.total = 50};
    struct budgets *budgets = NULL;
    struct budget *both[2] = {0};
    struct registry *registry = NULL;
    uint64_t key_left = 0, grant_left = 0;
    assert_int_equal(budgets_open(in_dir("budgets"), 0, 0, &budgets, &detail), ERR_OK);
    assert_int_equal(budget_of_key(budgets, "general", &key_limits, &both[0], &detail), ERR_OK);
    assert_int_equal(budget_of_grant(budgets, "b", "general", operations, algorithms, 1,
                                     &grant_limits, &both[1], &detail),
                     ERR_OK);
    assert_int_equal(budget_take(both, 2, false, 1000000, &detail), ERR_OK);
    budgets_close(budgets);
    fill();
    for (unsigned i = 2; i < 4; i++) { // and from one hsmd to the next
        assert_int_equal(budgets_open(in_dir("budgets"), 0, 0, &budgets, &detail), ERR_OK);
        assert_int_equal(registry_from_store(store, budgets, NULL, NULL, &registry, &detail),
                         ERR_OK);
        use(registry, &key_left, &grant_left);
        assert_int_equal(key_left, 100 - i);
        assert_int_equal(grant_left, 50 - i);
        registry_free(registry);
        budgets_close(budgets);
    }
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_answers),
        TEST(test_bind_fails),
        TEST(test_budgets_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
