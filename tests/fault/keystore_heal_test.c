// SPDX-License-Identifier: Apache-2.0
// A request that meets a failure, a token that hangs when it is opened, one that is away for long.
#include "tests/fault/keystore_fixture.h"

#include <malloc.h>
#include <pthread.h>

#include <p11-kit/pkcs11.h>

#define PATIENCE_MS 5000
#define TIMES 400

static int end(void **state)
{
    (void)state;
    shim_reset();
    store_close();
    return 0;
}

static enum err sign_single(void)
{
    bool right = false;
    enum err err = store_sign(store.single, KEYSTORE_ANY, PATIENCE_MS, &right, NULL);
    assert_int_equal(right, err == ERR_OK);
    return err;
}

// The fault is over as soon as the module was opened anew.
static void *end_when_reopened(void *argument)
{
    atomic_bool *was_reopened = argument;
    deadline_t limit = deadline_in(PATIENCE_MS);
    while (!shim_calls("C_Initialize") && !deadline_is_past(limit))
        fault_rest(1);
    atomic_store(was_reopened, shim_calls("C_Initialize") > 0);
    shim_reset();
    return NULL;
}

// It is done once more, so that nobody notices: each time on a machine with nothing else to do,
// since a second is the limit.
static void test_in_hand(void **state)
{
    (void)state;
    unsigned answered = 0;
    store_open(true, true, 2);
    for (int i = 0; i < 5; i++) {
        pthread_t thread;
        atomic_bool was_reopened = false;
        (void)store_heals(LEFT);
        store_works(store.single, LEFT);
        fault_rest(700); // it is opened anew twice a second at most
        shim_reset();
        shim_fail("C_Sign", CKR_FUNCTION_FAILED, 1, 0);
        assert_int_equal(pthread_create(&thread, NULL, end_when_reopened, &was_reopened), 0);
        deadline_t began = clock_ms();
        enum err err = sign_single();
        unsigned took = (unsigned)(clock_ms() - began);
        pthread_join(thread, NULL);
        assert_true(err == ERR_OK || err == ERR_TEMP);
        assert_true(atomic_load(&was_reopened));
        answered += err == ERR_OK;
        print_message("%s after %u ms\n", err_name(err), took);
    }
    assert_true(answered > 0);
}

// Those that come later do not wait: there are fewer workers than callers.
static void test_later_ones(void **state)
{
    (void)state;
    static const struct {
        const char *name, *function;
    } rows[] = {{"pulled", NULL}, {"a key that fails", "C_Sign"}};
    store_open(true, true, 2);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        store_works(store.single, LEFT);
        if (rows[i].function)
            shim_fail(rows[i].function, CKR_FUNCTION_FAILED, 1, 0);
        else
            shim_pull(CKR_DEVICE_REMOVED);
        assert_err(sign_single(), ERR_TEMP);
        deadline_t began = clock_ms();
        for (int n = 0; n < 30; n++)
            assert_err(sign_single(), ERR_TEMP);
        unsigned took = (unsigned)(clock_ms() - began);
        print_message("%s: 30 refused in %u ms\n", rows[i].name, took);
        assert_true(took < 10000 * SLOWNESS);
        shim_reset();
        (void)store_heals(LEFT);
    }
}

// hsmd's start goes on without the token, which is there when it comes back.
static void test_hang_at_start(void **state)
{
    (void)state;
    static const char *const places[] = {"C_Initialize", "C_OpenSession", "C_Login"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        struct keystore_status status;
        deadline_t began = clock_ms();
        shim_hang(places[i]);
        store_open(true, true, 2);
        unsigned took = (unsigned)(clock_ms() - began);
        print_message("%s hangs: opened after %u ms\n", places[i], took);
        assert_int_equal(shim_hanging(), 1);
        assert_true(took < 30000);
        assert_true(keystore_get_status(store.keystore, LEFT, &status));
        assert_false(status.is_open);
        assert_int_equal(atomic_load(&store.lost), 1);
        if (!store.is_one_module || i > 0) // else the right one is not there either
            store_works(store.shared, KEYSTORE_ANY);
        assert_err(sign_single(), ERR_TEMP);
        shim_reset();
        (void)store_heals(LEFT);
        store_works(store.single, KEYSTORE_ANY);
        assert_int_equal(atomic_load(&store.back), 1);
        store_close();
    }
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
size_t __sanitizer_get_current_allocated_bytes(void);
#define in_use() __sanitizer_get_current_allocated_bytes()
#else
#define in_use() mallinfo2().uordblks
#endif

static long try_to_open(unsigned times)
{
    const struct token_conf conf = {
        .name = "left", .module = SHIM_PATH, .label = "left", .sessions = 2, .wait_ms = 100};
    size_t before = in_use();
    for (unsigned n = 0; n < times; n++) {
        struct token *token = NULL;
        (void)token_open(&conf, &token, NULL);
        token_close(token);
    }
    return (long)(in_use() - before);
}

// A token that is looked for again and again, and not found, costs no memory.
static void test_outage(void **state)
{
    (void)state;
    static const struct {
        const char *name, *function;
        CK_RV rv;
        unsigned nth; // fails first: the slots before it are forgotten, if they are
    } rows[] = {
        {"no slots", "C_GetSlotList", CKR_DEVICE_ERROR, 1},
        {"a slot that fails", "C_GetSlotInfo", CKR_DEVICE_ERROR, 2},
        {"a token that fails", "C_GetTokenInfo", CKR_DEVICE_REMOVED, 1},
        {"a module that fails", "C_Initialize", CKR_FUNCTION_FAILED, 1},
        {"no token", NULL, 0, 0},
    };
    (void)try_to_open(TIMES); // what is made once is made
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].function)
            shim_fail(rows[i].function, rows[i].rv, rows[i].nth, 0);
        else
            shim_pull(CKR_DEVICE_REMOVED);
        (void)try_to_open(20);
        long more = try_to_open(TIMES);
        print_message("%s: %ld bytes after %d times\n", rows[i].name, more, TIMES);
        assert_true(more < TIMES * 64L); // libp11's was 260; SoftHSM has up to 40 of its own
        shim_reset();
    }
}

int main(int argc, char **argv)
{
    store_choose(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_outage, fault_reset),
        cmocka_unit_test_teardown(test_in_hand, end),
        cmocka_unit_test_teardown(test_later_ones, end),
        cmocka_unit_test_teardown(test_hang_at_start, end),
    };
    return cmocka_run_group_tests(tests, store_begin, store_end);
}
