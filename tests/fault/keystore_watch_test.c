// SPDX-License-Identifier: Apache-2.0
// What the watchers take for a lost token, what they tell of it, and who has to wait for them.
#include "tests/fault/keystore_fixture.h"

#include <pthread.h>
#include <string.h>
#include <time.h>
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

static void wait_for_lost(unsigned count)
{
    deadline_t limit = deadline_in(RECOVERY_MS);
    while (atomic_load(&store.lost_of_all) != count && !deadline_is_past(limit))
        tick_for(50);
    assert_int_equal(atomic_load(&store.lost_of_all), count);
}

static void *sign_single(void *argument)
{
    bool right = false;
    *(enum err *)argument = store_sign(store.single, LEFT, 20000, &right, NULL);
    return NULL;
}

static void test_reason_of_hanging(void **state)
{
    (void)state;
    pthread_t thread;
    struct detail reason = {0};
    enum err err = ERR_BUG;
    store_open(true, true, 2);
    shim_hang("C_Sign");
    assert_int_equal(pthread_create(&thread, NULL, sign_single, &err), 0);
    wait_for_lost(1);
    store_reason(LEFT, &reason);
    if (!strstr(reason.text, "a call into its module has taken 2"))
        fail_msg("\"%s\"", reason.text);
    shim_reset();
    pthread_join(thread, NULL);
    assert_int_equal(err, ERR_OK);
    (void)store_heals(LEFT);
}

// The right one fails, so that their module is opened anew, and then no login works.
static void lose_both(void)
{
    static const struct keystore_place place = {.token = "right", .label = "shared"};
    struct keystore_key *aside = NULL;
    struct detail detail = {0};
    bool right = false;
    assert_ok(keystore_add_key(store.keystore, "aside", WIRE_GENERAL, store.public_key, &place, 1,
                               &aside, &detail),
              &detail);
    store_works(aside, RIGHT);
    shim_fail("C_Sign", CKR_FUNCTION_FAILED, 1, 0);
    shim_fail("C_Login", CKR_FUNCTION_FAILED, 1, 0);
    assert_err(store_sign(aside, RIGHT, 500, &right, NULL), ERR_TEMP);
}

// Each is lost for a reason of its own.
static void test_reasons_of_both(void **state)
{
    (void)state;
    struct detail reason = {0};
    store_open_together();
    lose_both();
    wait_for_lost(2);
    store_reason(LEFT, &reason);
    if (!strstr(reason.text, "token left: "))
        fail_msg("\"%s\"", reason.text);
    store_reason(RIGHT, &reason);
    if (!strstr(reason.text, "token right: "))
        fail_msg("\"%s\"", reason.text);
    shim_reset();
    (void)store_heals(LEFT);
    (void)store_heals(RIGHT);
}

// How often the text is in what was said while the token was away.
static unsigned count_said(const char *file, const char *text)
{
    struct buf said;
    unsigned count = 0;
    buf_init(&said, 1 << 20);
    assert_int_equal(file_read(file, &said, NULL), ERR_OK);
    for (const char *at = buf_text(&said); (at = strstr(at, text)); at++)
        count++;
    buf_clear(&said);
    return count;
}

// An operator is told once, not with every try.
static void test_away_for_long(void **state)
{
    (void)state;
    char file[] = "/tmp/keystore-said-XXXXXX";
    int own = dup(2);
    int fd = mkstemp(file);
    assert_true(own >= 0 && fd >= 0);
    store_open_together();
    dup2(fd, 2);
    shim_pull(CKR_DEVICE_REMOVED);
    tick_for(4500);
    unsigned tries = shim_calls("C_Initialize");
    shim_plug();
    dup2(own, 2);
    (void)store_heals(LEFT);
    unsigned lost = count_said(file, "state=\"lost\"");
    unsigned absent = count_said(file, "token=\"left\" state=\"not there\"");
    unlink(file);
    close(fd);
    close(own);
    assert_true(tries >= 3);
    assert_int_equal(lost, 2);
    assert_int_equal(absent, 1);
}

static void *add_keys(void *argument)
{
    static const struct keystore_place places[] = {{.token = "left", .label = "single"},
                                                   {.token = "left", .label = "shared"}};
    for (unsigned i = 0; i < 6; i++) {
        struct keystore_key *key = NULL;
        char name[16];
        snprintf(name, sizeof name, "more-%u", i);
        if (keystore_add_key(store.keystore, name, WIRE_GENERAL, bytes_of(NULL, 0), &places[i % 2],
                             1, &key, NULL) != ERR_OK)
            return argument;
    }
    return NULL;
}

// A module that hangs when keys are sought holds up nobody who adds them, as hsmd's start does; not
// once for each of them either. They are there when it comes back.
static void test_hang_while_added(void **state)
{
    (void)state;
    pthread_t thread;
    struct timespec limit;
    struct keystore_status status;
    void *failed = NULL;
    store_open(true, true, 2);
    shim_hang("C_FindObjects");
    assert_int_equal(pthread_create(&thread, NULL, add_keys, &status), 0);
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 15;
    int late = pthread_timedjoin_np(thread, &failed, &limit);
    assert_true(keystore_get_status(store.keystore, LEFT, &status));
    shim_reset();
    if (late)
        pthread_join(thread, &failed);
    assert_int_equal(late, 0);
    assert_null(failed);
    assert_int_equal(status.keys_missing, 6);
    (void)store_heals(LEFT);
    deadline_t until = deadline_in(RECOVERY_MS);
    while (status.keys_missing && !deadline_is_past(until)) {
        tick_for(100);
        assert_true(keystore_get_status(store.keystore, LEFT, &status));
    }
    assert_int_equal(status.keys_missing, 0);
}

// A key that was looked for in vain a moment before its token was well is looked for once more,
// though nobody asks for it, and nothing else is wrong.
static void test_too_early(void **state)
{
    (void)state;
    static const struct keystore_place place = {.token = "left", .label = "single"};
    struct keystore_status status;
    struct keystore_key *key = NULL;
    store_open(true, true, 2);
    shim_fail("C_FindObjectsInit", CKR_ATTRIBUTE_VALUE_INVALID, 1, 0); // not the token's fault
    assert_err(keystore_add_key(store.keystore, "early", WIRE_GENERAL, bytes_of(NULL, 0), &place, 1,
                                &key, NULL),
               ERR_OK);
    assert_true(keystore_get_status(store.keystore, LEFT, &status));
    assert_int_equal(status.keys_missing, 1);
    shim_reset();
    keystore_tick(store.keystore);
    deadline_t until = deadline_in(RECOVERY_MS);
    while (status.keys_missing && !deadline_is_past(until)) {
        fault_rest(20);
        assert_true(keystore_get_status(store.keystore, LEFT, &status));
    }
    assert_int_equal(status.keys_missing, 0);
    assert_int_equal(atomic_load(&store.lost), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, end)
    const struct CMUnitTest tests[] = {
        TEST(test_long_generation), TEST(test_reason_of_hanging), TEST(test_reasons_of_both),
        TEST(test_away_for_long),   TEST(test_hang_while_added),  TEST(test_too_early),
    };
    return cmocka_run_group_tests(tests, store_begin, store_end);
}
