// SPDX-License-Identifier: Apache-2.0
// The n-th allocation fails, for every n: the call says "temporary", nothing leaks, the next one
// works.
#include "tests/fault/common.h"

#include <openssl/ec.h>

#include "hsmd/base/alloc.h"
#include "tests/token/officer.h"

static enum err open_and_use(void)
{
    struct token *token = NULL;
    struct token_key *rsa = NULL, *ec = NULL;
    struct token_conf conf = fixture_conf(softhsm_module(), 1);
    enum err err = token_open(&conf, &token, NULL);
    if (!err)
        err = token_login(token, &fixture.pin, NULL);
    if (!err)
        err = token_key_open(token, "rsa2048", bytes_of(NULL, 0), &rsa, NULL);
    if (!err)
        err = token_key_open(token, "p256", bytes_of(NULL, 0), &ec, NULL);
    token_key_close(rsa);
    token_key_close(ec);
    token_close(token);
    return err;
}

static void opening_survives(void **state)
{
    (void)state;
    unsigned failed = 0;
    enum err err = ERR_TEMP;
    for (unsigned n = 1; err != ERR_OK; n++) {
        mem_fail_at(n);
        err = open_and_use();
        mem_fail_at(0);
        assert_true(err == ERR_OK || err == ERR_TEMP);
        failed += err == ERR_TEMP;
        assert_true(n < 1000);
    }
    assert_true(failed > 4); // opening a key tries twice
}

// A call tries twice, so one failure may pass unseen; but never does it give a wrong answer.
static void using_survives(void **state)
{
    (void)state;
    for (enum known i = 0; i < KNOWN_COUNT; i++) {
        for (unsigned n = 1; n < 40; n++) {
            bool right = false;
            shim_kill_sessions(); // so that keys are looked for again
            mem_fail_at(n);
            enum err err = fault_operate(fixture.token, i, &fixture.out, 20000, &right, NULL);
            mem_fail_at(0);
            assert_true(err == ERR_OK ? right : err == ERR_TEMP);
        }
        fault_all_work();
    }
}

// What officers do is whole or nothing.
static void acts_survive(void **state)
{
    (void)state;
    static const char id[] = "short of memory";
    const struct token_key_wish wish = officer_wish("memory", id, TOKEN_KEY_EC, 256, SIGN);
    EVP_PKEY *outside = EVP_EC_gen("P-256");
    struct secret pkcs8;
    officer_pkcs8(outside, &pkcs8);
    unsigned failed = 0, before = officer_count_keys(fixture.token);
    for (unsigned i = 0; i < 60; i++) {
        struct token_key *key = NULL;
        struct detail detail = {0};
        mem_fail_at(1 + i / 2);
        enum err err =
            i % 2 ? token_key_import(fixture.token, &wish, &pkcs8, OFFICER_PATIENCE, NULL, &detail)
                  : token_key_generate(fixture.token, &wish, OFFICER_PATIENCE, &detail);
        mem_fail_at(0);
        assert_true(err == ERR_OK || err == ERR_TEMP);
        failed += err != ERR_OK;
        assert_int_equal(officer_count_keys(fixture.token), before + (err == ERR_OK));
        if (err)
            continue;
        assert_ok(token_key_open(fixture.token, wish.label, wish.id, &key, &detail), &detail);
        mem_fail_at(1 + i / 2);
        err = token_key_destroy(fixture.token, key, OFFICER_PATIENCE, &detail);
        mem_fail_at(0);
        assert_true(err == ERR_OK || err == ERR_TEMP);
        assert_ok(token_key_destroy(fixture.token, key, OFFICER_PATIENCE, &detail), &detail);
        token_key_close(key);
    }
    assert_true(failed > 0); // most tries are made twice
    officer_check_objects(id, 0);
    secret_clear(&pkcs8);
    EVP_PKEY_free(outside);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(opening_survives, fault_reset),
        cmocka_unit_test_teardown(using_survives, fault_reset),
        cmocka_unit_test_teardown(acts_survive, fault_reset),
    };
    return cmocka_run_group_tests(tests, fault_begin, fault_end);
}
