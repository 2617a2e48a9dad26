// SPDX-License-Identifier: Apache-2.0
// Promise 1: which keys of a token are taken at all. And when a module is not opened anew, though
// one of its tokens is lost, for the sake of another.
#include "hsmd/keystore/keystore_internal.h"

#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/base/log.h"

static void test_check_key(void **state)
{
    (void)state;
    enum { EXTRACTABLE = 1, SENSITIVE = 2, SIGN = 4, DECRYPT = 8, DERIVE = 16 };
    static const struct {
        const char *name;
        enum token_key_type type;
        unsigned flags;
        enum wire_purpose purpose;
        const char *said; // NULL: it is good
    } rows[] = {
        {"signing", TOKEN_KEY_RSA, SENSITIVE | SIGN, WIRE_SMIME_SIGN, NULL},
        {"decryption", TOKEN_KEY_RSA, SENSITIVE | DECRYPT, WIRE_SMIME_DECRYPT, NULL},
        {"EC signing", TOKEN_KEY_EC, SENSITIVE | SIGN, WIRE_SMIME_SIGN, NULL},
        {"EC decryption", TOKEN_KEY_EC, SENSITIVE | DERIVE, WIRE_SMIME_DECRYPT, NULL},
        {"audit", TOKEN_KEY_EC, SENSITIVE | SIGN, WIRE_AUDIT, NULL},
        {"audit that cannot sign", TOKEN_KEY_EC, SENSITIVE | DERIVE, WIRE_AUDIT,
         "CKA_SIGN is false, but the purpose is audit"},
        {"general", TOKEN_KEY_EC, SENSITIVE | DERIVE, WIRE_GENERAL, NULL},
        {"Ed25519", TOKEN_KEY_ED25519, SENSITIVE | SIGN, WIRE_SMIME_SIGN, NULL},
        {"Ed25519 general", TOKEN_KEY_ED25519, SENSITIVE | SIGN, WIRE_GENERAL, NULL},
        {"Ed25519 for decryption", TOKEN_KEY_ED25519, SENSITIVE | SIGN | DERIVE, WIRE_SMIME_DECRYPT,
         "not for the purpose smime-decrypt"},
        {"Ed25519 for audit", TOKEN_KEY_ED25519, SENSITIVE | SIGN, WIRE_AUDIT,
         "not for the purpose audit"},
        {"Ed25519 that only derives", TOKEN_KEY_ED25519, SENSITIVE | DERIVE, WIRE_GENERAL,
         "neither"},
        {"Ed25519, extractable", TOKEN_KEY_ED25519, EXTRACTABLE | SENSITIVE | SIGN, WIRE_GENERAL,
         "CKA_EXTRACTABLE is true"},
        {"extractable", TOKEN_KEY_RSA, EXTRACTABLE | SENSITIVE | SIGN, WIRE_SMIME_SIGN,
         "CKA_EXTRACTABLE is true"},
        {"shown", TOKEN_KEY_RSA, SIGN, WIRE_SMIME_SIGN, "CKA_SENSITIVE is false"},
        {"both", TOKEN_KEY_EC, EXTRACTABLE | SIGN, WIRE_GENERAL, "CKA_EXTRACTABLE is true"},
        {"cannot sign", TOKEN_KEY_RSA, SENSITIVE | DECRYPT, WIRE_SMIME_SIGN, "CKA_SIGN is false"},
        {"cannot decrypt", TOKEN_KEY_RSA, SENSITIVE | SIGN | DERIVE, WIRE_SMIME_DECRYPT,
         "CKA_DECRYPT is false"},
        {"cannot derive", TOKEN_KEY_EC, SENSITIVE | SIGN | DECRYPT, WIRE_SMIME_DECRYPT,
         "CKA_DERIVE is false"},
        {"cannot do anything", TOKEN_KEY_EC, SENSITIVE | DECRYPT, WIRE_GENERAL, "neither"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct token_key_info info = {.type = rows[i].type,
                                            .extractable = rows[i].flags & EXTRACTABLE,
                                            .sensitive = rows[i].flags & SENSITIVE,
                                            .can_sign = rows[i].flags & SIGN,
                                            .can_decrypt = rows[i].flags & DECRYPT,
                                            .can_derive = rows[i].flags & DERIVE};
        struct detail detail = {0};
        enum err err = keystore_check_key(&info, rows[i].purpose, &detail);
        if (err != (rows[i].said ? ERR_PERM : ERR_OK) ||
            (rows[i].said && !strstr(detail.text, rows[i].said)))
            fail_msg("%s: %s, %s", rows[i].name, err_name(err), detail.text);
    }
}

// As long as others are well: half a second for half a minute, then five, and never more than a
// tenth of their time, but once a minute.
static void test_pause(void **state)
{
    static const struct {
        uint64_t outage_ms, reopen_ms;
        unsigned pause;
    } rows[] = {
        {0, 0, 500},      {29999, 50, 500},   {29999, 51, 510},       {0, 3000, 30000},
        {30000, 0, 5000}, {30000, 500, 5000}, {UINT32_MAX, 40, 5000}, {30000, 501, 5010},
        {0, 6000, 60000}, {0, 6001, 60000},   {30000, 6001, 60000},   {0, UINT32_MAX, 60000},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(keystore_reopen_pause(rows[i].outage_ms, rows[i].reopen_ms),
                         rows[i].pause);
}

// Two tokens of a module that nobody can open: the left one is lost, the right one counts as well
// for as long as the module is left alone.
static struct config_token confs[] = {{.name = "left", .module = "/nonexistent/module.so"},
                                      {.name = "right", .module = "/nonexistent/module.so"}};
static struct keystore_module module;
static struct keystore_token tokens[2];
static struct keystore keystore;

static int lay_out(void **state)
{
    (void)state;
    log_open("test", LOG_SINK_STDERR, LOG_LEVEL_ERROR);
    module = (struct keystore_module){.path = confs[0].module};
    gate_init(&module.gate);
    keystore = (struct keystore){
        .modules = &module, .module_count = 1, .tokens = tokens, .token_count = 2};
    pthread_mutex_init(&keystore.telling, NULL);
    for (int i = 0; i < 2; i++) {
        tokens[i] = (struct keystore_token){.keystore = &keystore,
                                            .conf = &confs[i],
                                            .module = &module,
                                            .mood = i ? MOOD_WELL : MOOD_LOST,
                                            .is_lost = !i,
                                            .sessions = 1};
        pthread_mutex_init(&tokens[i].lock, NULL);
        pthread_cond_init(&tokens[i].changed, NULL);
    }
    return 0;
}

static int take_down(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        pthread_mutex_destroy(&tokens[i].lock);
        pthread_cond_destroy(&tokens[i].changed);
    }
    pthread_mutex_destroy(&keystore.telling);
    gate_clear(&module.gate);
    return 0;
}

// What lay_out says of the right one is true no more once it was tried to open its module.
static bool is_well_still(void)
{
    return atomic_load(&tokens[1].mood) == MOOD_WELL;
}

// So that only sparing the others is in the way of another try.
static bool is_time_again(void)
{
    atomic_store(&module.last_try, 0);
    return keystore_is_time_to_reopen(&tokens[0]);
}

static void test_reopened(void **state)
{
    (void)state;
    assert_true(keystore_is_time_to_reopen(&tokens[0]));
    keystore_reopen_module(&tokens[0]);
    assert_false(is_well_still());
    assert_true(is_time_again());
}

// A call that lasts makes the try fail, after the time that requests of the right one had to wait.
static void test_spared_when_busy(void **state)
{
    (void)state;
    assert_true(gate_enter(&module.gate, 0));
    assert_true(keystore_is_time_to_reopen(&tokens[0]));
    keystore_reopen_module(&tokens[0]);
    assert_true(is_well_still());
    assert_false(is_time_again());
    atomic_store(&tokens[1].mood, MOOD_LOST); // nobody is left to be spared
    assert_true(is_time_again());
    gate_leave(&module.gate);
}

static atomic_bool has_ended;

static void *reopen(void *argument)
{
    keystore_reopen_module(argument);
    atomic_store(&has_ended, true);
    return NULL;
}

// False: it has given up before this thread had its turn.
static bool sees_closing(void)
{
    bool is_closing = false;
    while (!is_closing && !atomic_load(&has_ended)) {
        usleep(100);
        pthread_mutex_lock(&module.gate.lock);
        is_closing = module.gate.is_closed;
        pthread_mutex_unlock(&module.gate.lock);
    }
    return is_closing;
}

// An officer is logging in to the right one, with a PIN that is not kept, while the gate closes.
static void test_guest_is_kept(void **state)
{
    (void)state;
    pthread_t thread;
    assert_true(gate_enter(&module.gate, 0));
    for (bool is_closing = false; !is_closing;) {
        atomic_store(&has_ended, false);
        assert_int_equal(pthread_create(&thread, NULL, reopen, &tokens[0]), 0);
        is_closing = sees_closing();
        if (!is_closing)
            pthread_join(thread, NULL);
    }
    pthread_mutex_lock(&tokens[1].lock);
    tokens[1].source = PIN_GIVEN;
    pthread_mutex_unlock(&tokens[1].lock);
    gate_leave(&module.gate);
    pthread_join(thread, NULL);
    assert_true(is_well_still());
    assert_true(gate_enter(&module.gate, 0)); // and the right one can be used
    gate_leave(&module.gate);
    assert_false(is_time_again());
}

int main(void)
{
#define TEST_MODULE(name) cmocka_unit_test_setup_teardown(name, lay_out, take_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check_key), cmocka_unit_test(test_pause),
        TEST_MODULE(test_reopened),       TEST_MODULE(test_spared_when_busy),
        TEST_MODULE(test_guest_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
