// SPDX-License-Identifier: Apache-2.0
// Several tokens behind one key, officers who lock and unlock them, keys that come and go.
#include "tests/fault/keystore_fixture.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/x509.h>
#include <p11-kit/pkcs11.h>

static int end(void **state)
{
    (void)state;
    shim_reset();
    store_close();
    return 0;
}

static uint64_t calls_of(unsigned token)
{
    struct keystore_status status;
    assert_true(keystore_get_status(store.keystore, token, &status));
    return status.token.calls;
}

static void test_spread(void **state)
{
    (void)state;
    unsigned outstanding[2] = {0};
    store_open(true, true, 4);
    assert_true(keystore_key_is_open(store.shared, 0) && keystore_key_is_open(store.shared, 1));
    assert_false(keystore_key_is_open(store.shared, 2));
    for (int i = 0; i < 20; i++) {
        unsigned token = keystore_token_ops.pick(store.shared, outstanding);
        outstanding[token]++;
        store_works(store.shared, token);
    }
    assert_int_equal(outstanding[LEFT], 10);
    assert_true(calls_of(LEFT) >= 10 && calls_of(RIGHT) >= 10);
    outstanding[LEFT] = 100;
    assert_int_equal(keystore_token_ops.pick(store.single, outstanding),
                     LEFT); // it is nowhere else
    assert_int_equal(atomic_load(&store.lost), 0);
}

// It is told a moment after it is true.
static void wait_for_back(unsigned count)
{
    deadline_t limit = deadline_in(RECOVERY_MS);
    while (atomic_load(&store.back) != count && !deadline_is_past(limit))
        fault_rest(2);
    assert_int_equal(atomic_load(&store.back), count);
}

// What each fault costs: nothing, as long as the key is elsewhere too.
static void test_left_out(void **state)
{
    (void)state;
    static const struct {
        const char *name, *function;
        CK_RV rv; // 0: pulled
    } rows[] = {
        {"sign fails", "C_Sign", CKR_FUNCTION_FAILED},
        {"session handles", "C_SignInit", CKR_SESSION_HANDLE_INVALID},
        {"pulled", NULL, 0},
        {"no key", "C_SignInit", CKR_OBJECT_HANDLE_INVALID},
        {"login fails", "C_Login", CKR_FUNCTION_FAILED},
    };
    store_open(true, true, 4);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        unsigned lost = atomic_load(&store.lost);
        unsigned back = atomic_load(&store.back);
        if (rows[i].rv)
            shim_fail(rows[i].function, rows[i].rv, 1, 0);
        else
            shim_pull(CKR_DEVICE_REMOVED);
        shim_kill_sessions();
        deadline_t limit = deadline_in(RECOVERY_MS);
        while (keystore_token_ops.pick(store.shared, NULL) == LEFT) {
            store_works(store.shared, LEFT); // prefers what is broken
            if (deadline_is_past(limit))
                fail_msg("%s: not left out", rows[i].name);
        }
        for (int n = 0; n < 10; n++)
            store_works(store.shared, LEFT);
        bool right;
        assert_err(store_sign(store.single, KEYSTORE_ANY, 1000, &right, NULL), ERR_TEMP);
        shim_reset();
        print_message("%s: back after %u ms\n", rows[i].name, store_heals(LEFT));
        store_works(store.single, KEYSTORE_ANY);
        wait_for_back(back + 1);
        assert_int_equal(atomic_load(&store.lost), lost + 1);
    }
}

// Nobody asks for anything, but time passes.
static void test_heals_alone(void **state)
{
    (void)state;
    store_open(true, true, 2);
    shim_pull(CKR_TOKEN_NOT_PRESENT);
    keystore_tick(store.keystore);
    fault_rest(1500); // its module is opened anew meanwhile
    assert_true(shim_calls("C_Initialize") > 0);
    assert_int_equal(atomic_load(&store.lost), 1);
    shim_plug();
    print_message("back after %u ms\n", store_heals(LEFT));
    wait_for_back(1);
    assert_true(keystore_key_is_open(store.single, 0));
}

static enum err sign_single(struct detail *detail)
{
    bool right = false;
    return store_sign(store.single, KEYSTORE_ANY, 2000, &right, detail);
}

static void test_lock(void **state)
{
    (void)state;
    struct detail detail = {0};
    store_open(true, true, 2);
    assert_err(keystore_unlock(store.keystore, "left", &store.pin, &detail), ERR_PERM);
    assert_err(keystore_lock(store.keystore, "middle", &detail), ERR_PERM);
    store_works(store.single, LEFT);
    assert_ok(keystore_lock(store.keystore, "left", &detail), &detail);
    assert_int_equal(store_state(LEFT), TOKEN_LOCKED);
    assert_int_equal(keystore_token_ops.pick(store.shared, NULL), RIGHT);
    shim_reset(); // the counters
    for (int i = 0; i < 12; i++, fault_rest(50)) {
        assert_err(sign_single(&detail), ERR_TEMP);
        store_works(store.shared, LEFT);
        keystore_tick(store.keystore);
    }
    // Neither the configured PIN nor a new module gets it open again.
    assert_int_equal(shim_calls("C_Login") + shim_calls("C_Initialize"), 0);
    assert_int_equal(atomic_load(&store.lost), 0);
    assert_int_equal(keystore_token_ops.describe(store.single)->bits, 2048);
    assert_ok(keystore_unlock(store.keystore, "left", &store.pin, &detail), &detail);
    assert_int_equal(store_state(LEFT), TOKEN_READY);
    store_works(store.single, LEFT);
    assert_ok(keystore_lock(store.keystore, "right", &detail), &detail);
    store_works(store.shared, RIGHT);
}

static void test_wrong_pin(void **state)
{
    (void)state;
    struct keystore_status status;
    struct detail detail = {0};
    store_open(false, true, 2);
    assert_int_equal(store_state(LEFT), TOKEN_LOCKED);
    assert_false(keystore_key_is_open(store.single, 0));
    assert_int_equal(keystore_token_ops.describe(store.shared)->bits, 2048); // by its public key
    assert_err(sign_single(&detail), ERR_TEMP);
    shim_reset();
    assert_err(keystore_unlock(store.keystore, "left", &store.wrong_pin, &detail), ERR_DENIED);
    for (int i = 0; i < 12; i++, fault_rest(50)) {
        assert_err(sign_single(&detail), ERR_TEMP);
        keystore_tick(store.keystore);
    }
    assert_int_equal(shim_calls("C_Login"), 1);
    assert_int_equal(store_state(LEFT), TOKEN_PIN_REFUSED);
    assert_ok(keystore_unlock(store.keystore, "left", &store.pin, &detail), &detail);
    store_works(store.single, LEFT);
    assert_ok(keystore_lock(store.keystore, "left", &detail), &detail);
    shim_reset();
    shim_token_flags(CKF_USER_PIN_FINAL_TRY);
    assert_err(keystore_unlock(store.keystore, "left", &store.pin, &detail), ERR_DENIED);
    assert_non_null(strstr(detail.text, "only one try of the PIN is left"));
    assert_non_null(strstr(detail.text, "Log in once with the right PIN by other means"));
    assert_true(keystore_get_status(store.keystore, LEFT, &status) && status.token.is_final_try);
    keystore_tick(store.keystore);
    fault_rest(300);
    assert_int_equal(shim_calls("C_Login"), 0);
    shim_reset();
    assert_ok(keystore_unlock(store.keystore, "left", &store.pin, &detail), &detail);
    store_works(store.single, LEFT);
}

static void break_module(void)
{
    deadline_t limit = deadline_in(2 * RECOVERY_MS);
    unsigned before = shim_calls("C_Initialize");
    shim_fail("C_Sign", CKR_FUNCTION_FAILED, 1, 0);
    while (shim_calls("C_Initialize") == before && !deadline_is_past(limit)) {
        bool right;
        (void)store_sign(store.single, LEFT, 500, &right, NULL);
        fault_rest(20);
    }
    assert_true(shim_calls("C_Initialize") > before);
    shim_reset();
}

// An officer's PIN outlives a module that is opened anew, if its section allows it.
static void test_kept_pin(void **state)
{
    (void)state;
    struct detail detail = {0};
    store_open(false, true, 2);
    assert_ok(keystore_unlock(store.keystore, "left", &store.pin, &detail), &detail);
    store_works(store.single, LEFT);
    break_module();
    (void)store_heals(LEFT);
    store_works(store.single, LEFT);
}

static void test_forgotten_pin(void **state)
{
    (void)state;
    struct detail detail = {0};
    store_open(false, false, 2);
    for (int i = 0; i < 2; i++) {
        assert_ok(keystore_unlock(store.keystore, "left", &store.pin, &detail), &detail);
        store_works(store.single, LEFT);
        if (i)
            shim_log_out();
        else
            break_module();
        deadline_t limit = deadline_in(RECOVERY_MS);
        while (store_state(LEFT) != TOKEN_LOCKED && !deadline_is_past(limit)) {
            (void)sign_single(&detail);
            fault_rest(20);
        }
        assert_int_equal(store_state(LEFT), TOKEN_LOCKED);
        assert_err(sign_single(&detail), ERR_TEMP);
    }
    assert_ok(keystore_unlock(store.keystore, "left", &store.pin, &detail), &detail);
    store_works(store.single, LEFT);
}

static void test_other_key(void **state)
{
    (void)state;
    static const struct keystore_place places[] = {{.token = "left", .label = "single"},
                                                   {.token = "right", .label = "shared"}};
    static const struct keystore_place nowhere = {.token = "middle", .label = "single"};
    struct keystore_key *key = NULL;
    struct keystore_key *same = NULL;
    struct detail detail = {0};
    store_open(true, true, 2);
    assert_err(keystore_add_key(store.keystore, "lost", WIRE_GENERAL, store.public_key, &nowhere, 1,
                                &key, &detail),
               ERR_PERM);
    // The left one is not of that public key: never used under this name.
    assert_ok(keystore_add_key(store.keystore, "mixed", WIRE_GENERAL, store.public_key, places, 2,
                               &key, &detail),
              &detail);
    assert_false(keystore_key_is_open(key, 0));
    assert_true(keystore_key_is_open(key, 1));
    for (int i = 0; i < 4; i++)
        store_works(key, LEFT);
    assert_ok(keystore_add_key(store.keystore, "mixed", WIRE_GENERAL, store.public_key, places + 1,
                               1, &same, &detail),
              &detail);
    assert_ptr_equal(same, key);
    assert_true(keystore_key_is_open(key, 0));
    assert_false(keystore_key_is_open(key, 1));
    // What a client may use cannot sign checkpoints.
    assert_ok(keystore_add_key(store.keystore, "audit", WIRE_AUDIT, bytes_of(NULL, 0), places, 1,
                               &key, &detail),
              &detail);
    assert_false(keystore_key_is_open(key, 0));
}

static void count_key(const struct token_key_item *item, void *context)
{
    *(unsigned *)context += strcmp(item->label, "made") == 0;
}

static void test_officers(void **state)
{
    (void)state;
    static const uint8_t id[] = {9, 8, 7};
    const struct token_key_wish wish = {.label = "made",
                                        .id = bytes_of(id, sizeof id),
                                        .type = TOKEN_KEY_EC,
                                        .bits = 256,
                                        .usage = TOKEN_USE_SIGN};
    const struct keystore_place place = {"left", "made", wish.id};
    struct keystore_key *key = NULL;
    struct buf made;
    struct buf seen;
    struct detail detail = {0};
    unsigned count = 0;
    buf_init(&made, 8192);
    buf_init(&seen, 8192);
    store_open(true, true, 2);
    // It cannot do what it would be for: it does not stay.
    assert_err(keystore_generate(store.keystore, "left", &wish, WIRE_SMIME_DECRYPT,
                                 deadline_in(20000), &made, &detail),
               ERR_PERM);
    assert_non_null(strstr(detail.text, "CKA_DERIVE"));
    assert_int_equal(made.len, 0);
    assert_ok(keystore_generate(store.keystore, "left", &wish, WIRE_SMIME_SIGN, deadline_in(20000),
                                &made, &detail),
              &detail);
    assert_ok(
        keystore_look(store.keystore, &place, WIRE_SMIME_SIGN, deadline_in(20000), &seen, &detail),
        &detail);
    assert_true(bytes_equal(buf_bytes(&made), buf_bytes(&seen)));
    assert_ok(keystore_list(store.keystore, "left", deadline_in(20000), count_key, &count, &detail),
              &detail);
    assert_int_equal(count, 1);
    assert_ok(keystore_add_key(store.keystore, "made", WIRE_SMIME_SIGN, buf_bytes(&made), &place, 1,
                               &key, &detail),
              &detail);
    assert_true(keystore_key_is_open(key, 0));
    keystore_drop_key(store.keystore, key);
    assert_err(
        keystore_destroy(store.keystore, &place, store.public_key, deadline_in(20000), &detail),
        ERR_PERM);
    assert_ok(
        keystore_destroy(store.keystore, &place, buf_bytes(&made), deadline_in(20000), &detail),
        &detail);
    assert_err(
        keystore_look(store.keystore, &place, WIRE_SMIME_SIGN, deadline_in(20000), &seen, &detail),
        ERR_PERM);
    assert_ok(keystore_lock(store.keystore, "left", &detail), &detail);
    assert_err(keystore_generate(store.keystore, "left", &wish, WIRE_SMIME_SIGN, deadline_in(20000),
                                 &made, &detail),
               ERR_TEMP);
    buf_clear(&made);
    buf_clear(&seen);
}

static void count_public(void *functions, unsigned long session, void *argument)
{
    CK_FUNCTION_LIST *fn = functions;
    CK_OBJECT_CLASS class = CKO_PUBLIC_KEY;
    CK_ATTRIBUTE match[] = {{CKA_CLASS, &class, sizeof class}, {CKA_LABEL, (void *)"halved", 6}};
    CK_OBJECT_HANDLE found[4];
    CK_ULONG count = 99;
    if (fn->C_FindObjectsInit(session, match, 2) != CKR_OK ||
        fn->C_FindObjects(session, found, 4, &count) != CKR_OK || count != *(unsigned *)argument) {
        fprintf(stderr, "%lu public halves\n", count);
        exit(1);
    }
}

static void require_public(unsigned count)
{
    softhsm_in_child(&store.hsm, NULL, count_public, &count);
}

// The token fails when the private half is gone and the public one is not: what is left goes the
// next time.
static void test_destroy_again(void **state)
{
    (void)state;
    static const uint8_t id[] = {9, 8, 6};
    const enum token_key_type types[] = {TOKEN_KEY_RSA, TOKEN_KEY_EC};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        const struct token_key_wish wish = {.label = "halved",
                                            .id = bytes_of(id, sizeof id),
                                            .type = types[i],
                                            .bits = types[i] == TOKEN_KEY_RSA ? 2048 : 256,
                                            .usage = TOKEN_USE_SIGN};
        const struct keystore_place place = {"left", "halved", wish.id};
        struct buf made;
        struct detail detail = {0};
        buf_init(&made, 8192);
        store_open(true, true, 2);
        assert_ok(keystore_generate(store.keystore, "left", &wish, WIRE_SMIME_SIGN,
                                    deadline_in(20000), &made, &detail),
                  &detail);
        // While its private half is there it is another key's, or nobody's.
        assert_err(
            keystore_destroy(store.keystore, &place, store.public_key, deadline_in(20000), &detail),
            ERR_PERM);
        shim_fail("C_DestroyObject", CKR_FUNCTION_FAILED, 2, 0);
        for (int n = 0; n < 2; n++) {
            assert_err(keystore_destroy(store.keystore, &place, buf_bytes(&made),
                                        deadline_in(20000), &detail),
                       ERR_TEMP);
            require_public(1);
        }
        shim_reset();
        assert_err(
            keystore_destroy(store.keystore, &place, store.public_key, deadline_in(20000), &detail),
            ERR_PERM);
        require_public(1);
        assert_ok(
            keystore_destroy(store.keystore, &place, buf_bytes(&made), deadline_in(20000), &detail),
            &detail);
        require_public(0);
        assert_err(
            keystore_destroy(store.keystore, &place, buf_bytes(&made), deadline_in(20000), &detail),
            ERR_PERM);
        assert_non_null(strstr(detail.text, "no such private key"));
        store_close();
        buf_clear(&made);
    }
}

// A private key that is there, and that we cannot open, is no rest: who knows which one it is.
static void test_destroy_unopened(void **state)
{
    (void)state;
    static const uint8_t id[] = {0x55};
    const struct softhsm_key key = {
        .label = "made", .id = id[0], .kind = "RSA-2048", .flags = SOFTHSM_ASK_EVERY_TIME};
    const struct keystore_place place = {"left", "made", bytes_of(id, sizeof id)};
    struct detail detail = {0};
    uint8_t *der = NULL;
    unsigned count = 0;
    softhsm_make_key(&store.hsm, &key);
    EVP_PKEY *pkey = softhsm_public_key(&store.hsm, "made");
    size_t len = (size_t)i2d_PUBKEY(pkey, &der);
    store_open(true, true, 2);
    assert_err(
        keystore_destroy(store.keystore, &place, bytes_of(der, len), deadline_in(20000), &detail),
        ERR_PERM);
    assert_non_null(strstr(detail.text, "PIN anew"));
    assert_ok(keystore_list(store.keystore, "left", deadline_in(20000), count_key, &count, &detail),
              &detail);
    assert_int_equal(count, 1);
    EVP_PKEY_free(pkey);
    OPENSSL_free(der);
}

static atomic_bool is_over;
static atomic_uint wrong;

static void *sign_all_the_time(void *argument)
{
    while (!atomic_load(&is_over)) {
        bool right = false;
        enum err err = store_sign(store.shared, KEYSTORE_ANY, 20000, &right, NULL);
        if (err != ERR_OK || !right)
            atomic_fetch_add(&wrong, 1);
    }
    return argument;
}

// Keys come and go, and the one in use changes its places, while sixteen sign with it.
static void test_come_and_go(void **state)
{
    (void)state;
    static const struct keystore_place places[] = {{.token = "left", .label = "shared"},
                                                   {.token = "right", .label = "shared"}};
    pthread_t threads[16];
    struct detail detail = {0};
    store_open(true, true, 4);
    for (int i = 0; i < 16; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, sign_all_the_time, NULL), 0);
    for (int i = 0; i < 40; i++) {
        struct keystore_key *key = NULL;
        char name[16];
        snprintf(name, sizeof name, "key-%d", i % 8);
        assert_ok(keystore_add_key(store.keystore, name, WIRE_GENERAL, store.public_key, places, 2,
                                   &key, &detail),
                  &detail);
        assert_int_equal(keystore_token_ops.describe(key)->bits, 2048);
        keystore_drop_key(store.keystore, key);
        assert_ok(keystore_add_key(store.keystore, "shared", WIRE_GENERAL, store.public_key,
                                   places + i % 2, i % 3 ? 1 : 2 - (size_t)(i % 2), &key, &detail),
                  &detail);
        assert_ptr_equal(key, store.shared);
        fault_rest(10);
    }
    atomic_store(&is_over, true);
    for (int i = 0; i < 16; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&wrong), 0);
}

int main(int argc, char **argv)
{
    store_choose(argc, argv);
#define TEST(name) cmocka_unit_test_teardown(name, end)
    const struct CMUnitTest tests[] = {
        TEST(test_spread),        TEST(test_left_out),      TEST(test_heals_alone),
        TEST(test_lock),          TEST(test_wrong_pin),     TEST(test_kept_pin),
        TEST(test_forgotten_pin), TEST(test_other_key),     TEST(test_officers),
        TEST(test_come_and_go),   TEST(test_destroy_again), TEST(test_destroy_unopened),
    };
    return cmocka_run_group_tests(tests, store_begin, store_end);
}
