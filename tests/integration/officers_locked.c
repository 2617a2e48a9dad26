// SPDX-License-Identifier: Apache-2.0
// A real hsmd that starts locked: what clients get, PINs that are wrong, tokens that warn, what
// comes back by itself and what does not, and that a lock is one for the whole module.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/base/file.h"
#include "tests/integration/chamber.h"
#include "tests/support/custodian.h"

#define HEAL_MS 20000

static struct chamber chamber;
static struct buf attributes;
static struct client *client;

static struct act named(enum act_kind kind, const char *name)
{
    return (struct act){.kind = kind, .name = bytes_of_text(name)};
}

// Alice alone is the quorum here. The class of the act, and why.
static enum err act(const struct act *wanted, const char *attachment, char detail[512])
{
    struct answer answer;
    chamber_propose(&chamber, ALICE, wanted, attachment, &answer);
    assert_true(answer.is_answered);
    enum err class = answer.class;
    snprintf(detail, 512, "%s", answer.detail);
    answer_clear(&answer);
    return class;
}

static void do_act(const struct act *wanted, const char *attachment)
{
    char detail[512];
    if (act(wanted, attachment, detail) != ERR_OK)
        fail_msg("%s", detail);
}

static enum err unlock(const char *pin, char detail[512])
{
    const struct act wanted = named(ACT_UNLOCK, "main");
    return act(&wanted, pin, detail);
}

static void lock(void)
{
    const struct act wanted = named(ACT_LOCK, "main");
    do_act(&wanted, NULL);
}

static enum err sign(void)
{
    return hsmd_sign(client, "signing", WIRE_ECDSA, buf_bytes(&attributes), NULL);
}

static bool is_state(const char *want)
{
    json_t *status = chamber_read(&chamber, DAVE, READ_STATUS, "");
    const char *state = json_string_value(json_object_get(status, "state"));
    bool is_it = state && strcmp(state, want) == 0;
    if (!is_it)
        print_message("state %s, not %s\n", state, want);
    json_decref(status);
    return is_it;
}

// What every test begins with: a key in the token and a client who may sign with it.
static void make_key(void)
{
    char public_key[CURVE_TEXT_SIZE], detail[512];
    assert_int_equal(curve_read_public(hsmd_path(&chamber.hsmd, "gw.pub"), public_key, NULL),
                     ERR_OK);
    const struct act adopt = {.kind = ACT_KEY_ADOPT,
                              .name = BYTES_LITERAL("signing"),
                              .tokens = BYTES_LITERAL("main"),
                              .label = BYTES_LITERAL("p256"),
                              .purpose = WIRE_SMIME_SIGN,
                              .algorithms = UINT64_MAX};
    const struct act enable = named(ACT_KEY_ENABLE, "signing");
    const struct act add = {.kind = ACT_CLIENT_ADD,
                            .name = BYTES_LITERAL("gateway"),
                            .curve_key = bytes_of_text(public_key)};
    const struct act grant = {.kind = ACT_GRANT,
                              .name = BYTES_LITERAL("gateway"),
                              .key = BYTES_LITERAL("signing"),
                              .operations = REGISTRY_SET(WIRE_SIGN),
                              .algorithms = UINT64_MAX};
    assert_int_equal(unlock(SOFTHSM_PIN, detail), ERR_OK);
    do_act(&adopt, NULL);
    do_act(&enable, NULL);
    do_act(&add, NULL);
    do_act(&grant, NULL);
    lock();
}

static void begin(const char *token)
{
    hsmd_shim(&chamber.hsmd, "count C_Login\ncount C_Logout\n");
    chamber_configure(&chamber, 1, 1, SHIM_PATH, token);
    chamber_start(&chamber);
}

static int setup(void **state)
{
    (void)state;
    chamber_setup(&chamber);
    hsmd_use_shim(&chamber.hsmd);
    buf_init(&attributes, 4096);
    custodian_attributes(HASH_SHA256, &attributes);
    begin("");
    make_key();
    chamber_stop(&chamber);
    client = hsmd_client(&chamber.hsmd, "gw", 5000);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    client_close(client);
    buf_clear(&attributes);
    chamber_teardown(&chamber);
    return 0;
}

// Requests are "temp", however often, and nobody tries to log in.
static void test_starts_locked(void **state)
{
    char detail[512];
    (void)state;
    begin("");
    assert_true(is_state("locked"));
    unsigned logins = hsmd_shim_calls(&chamber.hsmd, "C_Login");
    for (unsigned n = 0; n < 5; n++)
        assert_int_equal(sign(), ERR_TEMP);
    sleep(2); // the token's own thread looks at it
    assert_int_equal(hsmd_shim_calls(&chamber.hsmd, "C_Login"), logins);
    assert_int_equal(unlock(SOFTHSM_PIN, detail), ERR_OK);
    assert_int_equal(sign(), ERR_OK);
    assert_true(is_state("ready"));
    assert_int_equal(unlock(SOFTHSM_PIN, detail), ERR_PERM);
    assert_non_null(strstr(detail, "it is not locked"));
    lock();
    assert_int_equal(sign(), ERR_TEMP);
    assert_true(is_state("locked"));
    chamber_stop(&chamber);
}

// Said clearly, given to the token once, and the right one works afterwards.
static void test_wrong_pin(void **state)
{
    char detail[512];
    (void)state;
    begin("");
    unsigned logins = hsmd_shim_calls(&chamber.hsmd, "C_Login");
    assert_int_equal(unlock("1235", detail), ERR_DENIED);
    print_message("%s\n", detail);
    assert_non_null(strstr(detail, "PIN"));
    for (unsigned n = 0; n < 5; n++)
        assert_int_equal(sign(), ERR_TEMP);
    sleep(3);
    assert_int_equal(hsmd_shim_calls(&chamber.hsmd, "C_Login"), logins + 1);
    assert_true(chamber_lines(&chamber, "\"event\":\"unlock\"", "\"result\":\"denied\"") == 1);
    assert_int_equal(unlock(SOFTHSM_PIN, detail), ERR_OK);
    assert_int_equal(hsmd_shim_calls(&chamber.hsmd, "C_Login"), logins + 2);
    assert_int_equal(sign(), ERR_OK);
    chamber_stop(&chamber);
}

// The token says that one more wrong PIN would lock it: nobody gives it any, right or wrong.
static void test_final_try(void **state)
{
    char detail[512];
    (void)state;
    begin("");
    hsmd_shim(&chamber.hsmd, "token-flags 0x20000\n");
    unsigned logins = hsmd_shim_calls(&chamber.hsmd, "C_Login");
    assert_int_equal(unlock(SOFTHSM_PIN, detail), ERR_DENIED);
    print_message("%s\n", detail);
    assert_non_null(strstr(detail, "try"));
    assert_int_equal(sign(), ERR_TEMP);
    sleep(2);
    assert_int_equal(hsmd_shim_calls(&chamber.hsmd, "C_Login"), logins);
    json_t *status = chamber_read(&chamber, DAVE, READ_STATUS, "");
    const json_t *token = json_array_get(json_object_get(status, "tokens"), 0);
    assert_true(json_is_true(json_object_get(token, "final_try")));
    assert_true(json_array_size(json_object_get(status, "problems")) > 0);
    json_decref(status);
    hsmd_shim(&chamber.hsmd, ""); // the token's owner has seen to it
    assert_int_equal(unlock(SOFTHSM_PIN, detail), ERR_OK);
    assert_int_equal(sign(), ERR_OK);
    chamber_stop(&chamber);
}

// What is in the token is to be seen by nobody in hsmd's process once it is locked, whatever the
// module remembers of logins: they are the module's, not a session's.
static void test_lock_is_logout(void **state)
{
    char detail[512];
    (void)state;
    begin("");
    assert_int_equal(unlock(SOFTHSM_PIN, detail), ERR_OK);
    json_t *objects = chamber_read(&chamber, DAVE, READ_OBJECTS, "main");
    assert_true(json_array_size(objects) > 5);
    json_decref(objects);
    unsigned logouts = hsmd_shim_calls(&chamber.hsmd, "C_Logout");
    unsigned logins = hsmd_shim_calls(&chamber.hsmd, "C_Login");
    lock();
    assert_int_equal(hsmd_shim_calls(&chamber.hsmd, "C_Logout"), logouts + 1);
    objects = chamber_read(&chamber, DAVE, READ_OBJECTS, "main");
    assert_int_equal(json_array_size(objects), 0);
    json_decref(objects);
    assert_int_equal(sign(), ERR_TEMP);
    assert_int_equal(hsmd_shim_calls(&chamber.hsmd, "C_Login"), logins);
    assert_int_equal(chamber_lines(&chamber, "\"event\":\"lock\"", "\"result\":\"ok\""), 3);
    chamber_stop(&chamber);
}

// A client that stays connected: what officers do counts for its next request.
static void test_changes_while_connected(void **state)
{
    char detail[512];
    const struct act disable = named(ACT_KEY_DISABLE, "signing");
    const struct act enable = named(ACT_KEY_ENABLE, "signing");
    const struct act revoke = named(ACT_CLIENT_REVOKE, "gateway");
    (void)state;
    begin("");
    assert_int_equal(unlock(SOFTHSM_PIN, detail), ERR_OK);
    for (unsigned n = 0; n < 3; n++) {
        assert_int_equal(sign(), ERR_OK);
        do_act(&disable, NULL);
        assert_int_equal(sign(), ERR_DENIED);
        do_act(&enable, NULL);
    }
    assert_int_equal(sign(), ERR_OK);
    // It is not even answered on the connection that it has; a new one is refused.
    do_act(&revoke, NULL);
    unsigned uses = chamber_lines(&chamber, "\"event\":\"use\"", "gateway");
    assert_int_equal(sign(), ERR_TEMP);
    assert_int_equal(sign(), ERR_TEMP);
    assert_int_equal(chamber_lines(&chamber, "\"event\":\"use\"", "gateway"), uses);
    assert_int_equal(chamber_lines(&chamber, "\"event\":\"refuse\"", "\"reason\":\"a request of"),
                     1);
    chamber_stop(&chamber);
}

static enum err sign_until(enum err wanted)
{
    deadline_t until = deadline_in(HEAL_MS);
    enum err err = sign();
    while (err != wanted && !deadline_is_past(until)) {
        usleep(200000);
        err = sign();
    }
    return err;
}

static void lose_token(void)
{
    hsmd_shim(&chamber.hsmd, "pull\n");
    assert_int_equal(sign_until(ERR_TEMP), ERR_TEMP);
    usleep(500000);
    hsmd_shim(&chamber.hsmd, "");
}

// The PIN was kept, in locked memory: what was lost comes back.
static void test_healing(void **state)
{
    char detail[512];
    (void)state;
    begin("healing = true");
    assert_int_equal(unlock(SOFTHSM_PIN, detail), ERR_OK);
    assert_int_equal(sign(), ERR_OK);
    lose_token();
    assert_int_equal(sign_until(ERR_OK), ERR_OK);
    assert_true(is_state("ready"));
    lock(); // and is kept no longer
    lose_token();
    sleep(2);
    assert_int_equal(sign(), ERR_TEMP);
    assert_true(is_state("locked"));
    chamber_stop(&chamber);
}

// It was not: the token is locked from then on, and hsmd says so, until an officer comes.
static void test_not_healing(void **state)
{
    char detail[512];
    (void)state;
    begin("healing = false");
    assert_int_equal(unlock(SOFTHSM_PIN, detail), ERR_OK);
    assert_int_equal(sign(), ERR_OK);
    unsigned logins = hsmd_shim_calls(&chamber.hsmd, "C_Login");
    lose_token();
    sleep(3);
    assert_int_equal(sign(), ERR_TEMP);
    assert_int_equal(hsmd_shim_calls(&chamber.hsmd, "C_Login"), logins);
    assert_true(is_state("locked"));
    json_t *status = chamber_read(&chamber, DAVE, READ_STATUS, "");
    assert_true(json_array_size(json_object_get(status, "problems")) > 0);
    json_decref(status);
    assert_int_equal(unlock(SOFTHSM_PIN, detail), ERR_OK);
    assert_int_equal(sign_until(ERR_OK), ERR_OK);
    chamber_stop(&chamber);
}

static json_t *token_status(void)
{
    json_t *status = chamber_read(&chamber, DAVE, READ_STATUS, "");
    json_t *token = json_incref(json_array_get(json_object_get(status, "tokens"), 0));
    json_decref(status);
    return token;
}

static bool has_problem(const char *text)
{
    json_t *status = chamber_read(&chamber, DAVE, READ_STATUS, "");
    const json_t *problems = json_object_get(status, "problems");
    bool has_it = false;
    for (size_t i = 0; i < json_array_size(problems); i++)
        has_it = has_it || strcmp(json_string_value(json_array_get(problems, i)), text) == 0;
    json_decref(status);
    return has_it;
}

static unsigned configured_logins(void)
{
    return chamber_lines(&chamber, "\"event\":\"unlock\",\"token\":\"main\",\"result\":\"ok\"",
                         "by the configured PIN");
}

// A lock outlives hsmd, whoever ends it: the PIN that is configured is for others than officers.
static void test_lock_lasts(void **state)
{
    static const int signals[] = {SIGKILL, SIGTERM};
    char detail[512];
    (void)state;
    begin("pin-file = \"pin\"");
    assert_int_equal(configured_logins(), 1);
    assert_int_equal(sign(), ERR_OK);
    for (unsigned i = 0; i < 2; i++) {
        lock();
        for (unsigned m = 0; m < MEMBERS; m++)
            chamber_hang_up(&chamber, (enum member)m);
        (void)hsmd_stop(&chamber.hsmd, signals[i]);
        unsigned logins = hsmd_shim_calls(&chamber.hsmd, "C_Login");
        chamber_start(&chamber);
        assert_int_equal(sign(), ERR_TEMP);
        sleep(2); // its watcher looks at it
        assert_int_equal(hsmd_shim_calls(&chamber.hsmd, "C_Login"), logins);
        assert_true(is_state("locked"));
        json_t *token = token_status();
        assert_string_equal(json_string_value(json_object_get(token, "error")),
                            "officers have locked it");
        json_decref(token);
        assert_true(has_problem("token main: it is locked, by officers"));
        assert_int_equal(configured_logins(), 1);
        assert_int_equal(unlock(SOFTHSM_PIN, detail), ERR_OK);
        assert_int_equal(sign(), ERR_OK);
    }
    chamber_stop(&chamber);
    chamber_start(&chamber);
    assert_int_equal(configured_logins(), 2);
    assert_int_equal(sign(), ERR_OK);
    lock();
    chamber_stop(&chamber);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_starts_locked), cmocka_unit_test(test_wrong_pin),
        cmocka_unit_test(test_final_try),     cmocka_unit_test(test_lock_is_logout),
        cmocka_unit_test(test_healing),       cmocka_unit_test(test_not_healing),
        cmocka_unit_test(test_lock_lasts),    cmocka_unit_test(test_changes_while_connected),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
