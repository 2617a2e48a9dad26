// SPDX-License-Identifier: Apache-2.0
// A token that fails at every place in every way: never a wrong answer, and it works again when the
// fault is over, without opening anything anew.
#include "tests/fault/common.h"

#include <stdlib.h>
#include <string.h>

#include <p11-kit/pkcs11.h>

// Runs one operation with a session of the pool. The answer, if there is one, must be right.
static enum err operate(enum known operation, struct detail *detail)
{
    struct token_session *session = NULL;
    enum err err = token_session_get(fixture.token, deadline_in(20000), &session, detail);
    if (err)
        return err;
    bool right = false;
    err = known_run(session, operation, &fixture.out, &right, detail);
    token_session_put(session);
    if (!err && !right)
        fail_msg("%s: wrong answer", known_name(operation));
    return err;
}

static void works_again(const char *after)
{
    fault_recover();
    for (enum known i = 0; i <= KNOWN_AGREE; i++) {
        struct detail detail = {0};
        enum err err = operate(i, &detail);
        if (err)
            fail_msg("%s after %s: %s", known_name(i), after, detail.text);
    }
}

static const struct {
    CK_RV rv;
    const char *name;
} codes[] = {
    {CKR_SESSION_HANDLE_INVALID, "SESSION_HANDLE_INVALID"},
    {CKR_SESSION_CLOSED, "SESSION_CLOSED"},
    {CKR_DEVICE_REMOVED, "DEVICE_REMOVED"},
    {CKR_TOKEN_NOT_PRESENT, "TOKEN_NOT_PRESENT"},
    {CKR_USER_NOT_LOGGED_IN, "USER_NOT_LOGGED_IN"},
    {CKR_OBJECT_HANDLE_INVALID, "OBJECT_HANDLE_INVALID"},
    {CKR_KEY_HANDLE_INVALID, "KEY_HANDLE_INVALID"},
    {CKR_SESSION_COUNT, "SESSION_COUNT"},
    {CKR_FUNCTION_FAILED, "FUNCTION_FAILED"},
    {CKR_DEVICE_ERROR, "DEVICE_ERROR"},
    {CKR_HOST_MEMORY, "HOST_MEMORY"},
    {CKR_OPERATION_ACTIVE, "OPERATION_ACTIVE"},
};

static const char *const functions[] = {
    "C_SignInit",     "C_Sign",          "C_DecryptInit",       "C_Decrypt",
    "C_DeriveKey",    "C_DestroyObject", "C_GetAttributeValue", "C_OpenSession",
    "C_CloseSession", "C_Login",         "C_FindObjectsInit",   "C_FindObjects",
    "C_CopyObject",
};

#define CODES (sizeof codes / sizeof *codes)
#define FUNCTIONS (sizeof functions / sizeof *functions)

// What happens beside the fault, so that the ways of healing are walked as well.
enum trouble { QUIET, KILLED, LOGGED_OUT, TROUBLES };

static void make_trouble(enum trouble trouble)
{
    if (trouble == KILLED)
        shim_kill_sessions();
    if (trouble == LOGGED_OUT)
        shim_log_out();
}

static void heals_from_one_fault(void **state)
{
    (void)state;
    for (size_t c = 0; c < CODES; c++) {
        for (size_t f = 0; f < FUNCTIONS; f++) {
            for (enum known i = 0; i <= KNOWN_AGREE; i++) {
                for (enum trouble t = 0; t < (i == KNOWN_SIGN ? TROUBLES : QUIET + 1); t++) {
                    struct detail detail = {0};
                    make_trouble(t);
                    shim_fail(functions[f], codes[c].rv, 1, 1);
                    enum err err = operate(i, &detail);
                    // One thing broken is mended within the call; two may be too much for it.
                    if (err != ERR_OK && (err != ERR_TEMP || t == QUIET))
                        fail_msg("%s, one %s at %s: %s: %s", known_name(i), codes[c].name,
                                 functions[f], err_name(err), detail.text);
                    shim_reset();
                    fault_recover();
                    assert_ok(operate(i, &detail), &detail);
                }
            }
        }
    }
    assert_true(shim_sessions() <= POOL + 1); // one holds copies
}

static void lasting_faults_are_temporary(void **state)
{
    (void)state;
    unsigned failed = 0;
    for (size_t c = 0; c < CODES; c++) {
        for (size_t f = 0; f < FUNCTIONS; f++) {
            make_trouble(KILLED);
            shim_fail(functions[f], codes[c].rv, 1, 0);
            for (enum known i = 0; i <= KNOWN_AGREE; i++) {
                struct detail detail = {0};
                enum err err = operate(i, &detail);
                if (err != ERR_OK && err != ERR_TEMP)
                    fail_msg("%s, %s at %s: %s: %s", known_name(i), codes[c].name, functions[f],
                             err_name(err), detail.text);
                failed += err == ERR_TEMP;
            }
            shim_reset();
            works_again(functions[f]);
        }
    }
    assert_true(failed > CODES * FUNCTIONS);  // the faults were felt
    assert_true(shim_sessions() <= POOL + 1); // one holds copies
}

static void pulled_token_comes_back(void **state)
{
    (void)state;
    for (size_t c = 0; c < CODES; c++) {
        shim_pull(codes[c].rv);
        for (enum known i = 0; i <= KNOWN_AGREE; i++)
            assert_err(operate(i, NULL), ERR_TEMP);
        shim_plug();
        works_again("the token was out");
    }
    shim_kill_sessions();
    works_again("all sessions died");
    shim_log_out();
    works_again("somebody logged out");
}

static void another_key_is_not_used(void **state)
{
    (void)state;
    uint8_t digest[32] = {0}, out[TOKEN_SIGNATURE_MAX];
    size_t len = 0;
    struct token_key *key = fixture_key("swapped");
    struct token_session *session = NULL;
    struct detail detail = {0};
    struct softhsm_key again = {.label = "swapped", .id = 21, .kind = "P-256"};
    assert_ok(token_session_get(fixture.token, deadline_in(20000), &session, &detail), &detail);
    assert_ok(token_sign(session, key, TOKEN_ECDSA, HASH_SHA256, 0, bytes_of(digest, 32), out, &len,
                         &detail),
              &detail);
    token_session_put(session);
    fault_destroy_key("swapped");
    softhsm_make_key(&fixture.hsm, &again);
    shim_kill_sessions();
    assert_ok(token_session_get(fixture.token, deadline_in(20000), &session, &detail), &detail);
    assert_err(token_sign(session, key, TOKEN_ECDSA, HASH_SHA256, 0, bytes_of(digest, 32), out,
                          &len, &detail),
               ERR_TEMP);
    assert_non_null(strstr(detail.text, "another key"));
    token_session_put(session);
    token_key_close(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(heals_from_one_fault, fault_reset),
        cmocka_unit_test_teardown(lasting_faults_are_temporary, fault_reset),
        cmocka_unit_test_teardown(pulled_token_comes_back, fault_reset),
        cmocka_unit_test_teardown(another_key_is_not_used, fault_reset),
    };
    return cmocka_run_group_tests(tests, fault_begin, fault_end);
}
