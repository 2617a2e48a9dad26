// SPDX-License-Identifier: Apache-2.0
// What the watchers take for a lost token, what they tell of it, and who has to wait for them.
#include "tests/fault/keystore_fixture.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include <p11-kit/pkcs11.h>

#include "hsmd/base/file.h"

#define LONG_CALL_MS 3500 // longer than what counts as hanging

static int end(void **state)
{
    (void)state;
    shim_reset();
    store_close();
    return 0;
}

static void tick_for(unsigned ms)
{
    for (deadline_t until = deadline_in(ms); !deadline_is_past(until); fault_rest(100))
        keystore_tick(store.keystore);
}

static void *make_key(void *argument)
{
    static const uint8_t id[] = {9, 8, 7};
    const struct token_key_wish wish = {.label = "made",
                                        .id = bytes_of(id, sizeof id),
                                        .type = TOKEN_KEY_EC,
                                        .bits = 256,
                                        .usage = TOKEN_USE_SIGN};
    struct buf made;
    buf_init(&made, 8192);
    *(enum err *)argument = keystore_generate(store.keystore, "left", &wish, WIRE_SMIME_SIGN,
                                              deadline_in(20000), &made, NULL);
    buf_clear(&made);
    return NULL;
}

// An officer's large key takes the token some seconds: it is not lost for that.
static void test_long_generation(void **state)
{
    (void)state;
    pthread_t thread;
    enum err err = ERR_BUG;
    store_open(true, true, 2);
    shim_delay("C_GenerateKeyPair", LONG_CALL_MS);
    assert_int_equal(pthread_create(&thread, NULL, make_key, &err), 0);
    tick_for(LONG_CALL_MS - 200);
    assert_int_equal(keystore_token_ops.pick(store.single, NULL), LEFT);
    assert_int_equal(store_state(LEFT), TOKEN_READY);
    pthread_join(thread, NULL);
    assert_int_equal(err, ERR_OK);
    assert_int_equal(atomic_load(&store.lost), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, end)
    const struct CMUnitTest tests[] = {
        TEST(test_long_generation),
    };
    return cmocka_run_group_tests(tests, store_begin, store_end);
}
