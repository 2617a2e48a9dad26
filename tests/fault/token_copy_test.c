// SPDX-License-Identifier: Apache-2.0
// Keys that are used by copies among the token's session objects.
#include "tests/fault/common.h"

#include <stdlib.h>
#include <string.h>

#include <p11-kit/pkcs11.h>

#include "pkcs11/token_admin.h"

enum { LOOK_MS = 1000 }; // see hsmd.conf(5), copy-keys

static bool is_copy_used(void)
{
    fault_works(KNOWN_SIGN);
    return shim_copy() && shim_used() == shim_copy();
}

// As after a start.
static void open_anew(void)
{
    fault_close();
    shim_reset();
    fault_open();
}

static void uses_a_copy_and_makes_one(void **state)
{
    (void)state;
    open_anew();
    fault_works(KNOWN_SIGN); // which makes it
    assert_int_equal(shim_calls("C_CopyObject"), 1);
    assert_true(is_copy_used());
    fault_works(KNOWN_UNWRAP);
    assert_true(shim_used() == shim_copy());
    fault_all_work();
    assert_int_equal(shim_calls("C_CopyObject"), 2); // the other key's
    fault_rest(LOOK_MS + 100);
    fault_all_work();
    assert_int_equal(shim_calls("C_CopyObject"), 2);
}

static void does_without(void **state)
{
    (void)state;
    static const struct {
        CK_RV rv;
        bool is_final;
    } answers[] = {
        {CKR_FUNCTION_NOT_SUPPORTED, true}, {CKR_ACTION_PROHIBITED, true},
        {CKR_DEVICE_MEMORY, true},          {CKR_VENDOR_DEFINED + 7, true},
        {CKR_DEVICE_REMOVED, false},        {CKR_USER_NOT_LOGGED_IN, false},
    };
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        open_anew();
        shim_fail("C_CopyObject", answers[i].rv, 1, 1);
        for (int n = 0; n < 3; n++)
            assert_false(is_copy_used());
        assert_int_equal(shim_calls("C_CopyObject"), 1); // others of the same moment do not try
        fault_rest(LOOK_MS + 100);
        fault_works(KNOWN_SIGN);
        assert_int_equal(is_copy_used(), !answers[i].is_final);
    }
    // No session for it.
    open_anew();
    shim_limit_sessions(POOL);
    for (int n = 0; n < 3; n++)
        assert_false(is_copy_used());
}

static void wants_none_that_is_not_like_its_key(void **state)
{
    (void)state;
    static const CK_ATTRIBUTE_TYPE lax[] = {CKA_EXTRACTABLE, CKA_TOKEN, CKA_SENSITIVE, CKA_PRIVATE,
                                            CKA_SIGN};
    for (size_t i = 0; i < sizeof lax / sizeof *lax; i++) {
        open_anew();
        shim_insist(lax[i]);
        for (int n = 0; n < 3; n++)
            assert_false(is_copy_used());
        assert_int_equal(shim_calls("C_CopyObject"), 1);
        assert_int_equal(shim_calls("C_DestroyObject"), 1); // and leaves it nowhere
    }
}

// In a session of the test's own. The module's session objects are not seen from other processes.
static CK_SESSION_HANDLE begin_directly(CK_FUNCTION_LIST **fn)
{
    CK_SLOT_ID slots[8];
    CK_SESSION_HANDLE session = 0;
    CK_ULONG slot_count = 8;
    assert_int_equal(C_GetFunctionList(fn), CKR_OK);
    assert_int_equal((*fn)->C_GetSlotList(CK_TRUE, slots, &slot_count), CKR_OK);
    assert_int_equal((*fn)->C_OpenSession(slots[0], CKF_SERIAL_SESSION, NULL, NULL, &session), 0);
    return session;
}

static CK_ULONG count_private(const char *label)
{
    CK_FUNCTION_LIST *fn = NULL;
    CK_SESSION_HANDLE session = begin_directly(&fn);
    CK_OBJECT_HANDLE found[8];
    CK_ULONG count = 0;
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_ATTRIBUTE match[] = {{CKA_CLASS, &class, sizeof class},
                            {CKA_LABEL, (void *)label, strlen(label)}};
    assert_int_equal(fn->C_FindObjectsInit(session, match, 2), CKR_OK);
    assert_int_equal(fn->C_FindObjects(session, found, 8, &count), CKR_OK);
    fn->C_FindObjectsFinal(session);
    fn->C_CloseSession(session);
    return count;
}

static void misses_a_copy_that_is_gone(void **state)
{
    (void)state;
    CK_FUNCTION_LIST *fn = NULL;
    open_anew();
    fault_works(KNOWN_SIGN);
    assert_true(is_copy_used());
    CK_SESSION_HANDLE session = begin_directly(&fn);
    assert_int_equal(fn->C_DestroyObject(session, shim_copy()), CKR_OK);
    fn->C_CloseSession(session);
    assert_false(is_copy_used());
    fault_rest(LOOK_MS + 100);
    fault_works(KNOWN_SIGN); // sees it
    assert_true(is_copy_used());
    // Their session ends, and whichever key notices: no other one is used by its former number.
    fault_all_work();
    assert_int_equal(fn->C_CloseSession(shim_copier()), CKR_OK);
    fault_works(KNOWN_ECDSA);
    fault_rest(LOOK_MS + 100);
    fault_works(KNOWN_ECDSA); // sees it
    unsigned long former = shim_copy();
    fault_works(KNOWN_ECDSA);
    assert_true(shim_copy() != former && shim_used() == shim_copy());
    former = shim_copy();
    assert_true(is_copy_used());
    assert_true(shim_copy() != former);
}

static void outlives_faults(void **state)
{
    (void)state;
    open_anew();
    fault_works(KNOWN_SIGN);
    assert_true(is_copy_used());
    // After a failure the key itself is used for a while; the copy is still there, whether its
    // handle was refused or the session of a request ended, which is not the one that holds it.
    static const struct {
        const char *function;
        CK_RV rv;
    } faults[] = {{"C_SignInit", CKR_KEY_HANDLE_INVALID}, {"C_Sign", CKR_FUNCTION_FAILED}};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        shim_fail(faults[i].function, faults[i].rv, 1, 1);
        assert_false(is_copy_used());
        fault_rest(LOOK_MS + 100);
        assert_true(is_copy_used());
        assert_int_equal(shim_calls("C_CopyObject"), 1);
    }
    // All end, and with them the copies.
    shim_kill_sessions();
    fault_works(KNOWN_SIGN);
    assert_true(is_copy_used());
    shim_pull(CKR_DEVICE_REMOVED);
    bool right = false;
    assert_err(fault_operate(fixture.token, KNOWN_SIGN, &fixture.out, 20000, &right, NULL),
               ERR_TEMP);
    shim_plug();
    fault_recover();
    fault_works(KNOWN_SIGN);
    assert_true(is_copy_used());
    assert_true(shim_sessions() <= POOL + 1); // one holds copies
}

static enum err sign_with(struct token_key *key)
{
    uint8_t digest[32] = {0}, out[TOKEN_SIGNATURE_MAX];
    size_t len = 0;
    struct token_session *session = NULL;
    struct detail detail = {0};
    assert_ok(token_session_get(fixture.token, deadline_in(20000), &session, &detail), &detail);
    enum err err = token_sign(session, key, TOKEN_ECDSA, HASH_SHA256, 0, bytes_of(digest, 32), out,
                              &len, &detail);
    token_session_put(session);
    return err;
}

// A key that is used by its copy.
static struct token_key *open_copied(void)
{
    struct detail detail = {0};
    struct token_key *key = fixture_key("swapped");
    token_key_keep(key);
    assert_ok(sign_with(key), &detail);
    assert_ok(sign_with(key), &detail);
    assert_true(shim_used() == shim_copy());
    return key;
}

static void see(const struct token_key_item *item, void *arg)
{
    unsigned *count = arg;
    *count += strcmp(item->label, "swapped") == 0;
}

static void is_destroyed_with_its_key(void **state)
{
    (void)state;
    struct detail detail = {0};
    unsigned listed = 0;
    open_anew();
    struct token_key *key = open_copied();
    assert_int_equal(count_private("swapped"), 2);
    // Neither listed nor found instead of its key.
    assert_ok(token_key_list(fixture.token, deadline_in(20000), see, &listed, &detail), &detail);
    assert_int_equal(listed, 1);
    struct token_key *second = fixture_key("swapped");
    assert_ok(token_key_destroy(fixture.token, second, deadline_in(20000), &detail), &detail);
    token_key_close(second);
    assert_int_equal(count_private("swapped"), 0);
    assert_err(sign_with(key), ERR_TEMP);
    token_key_close(key);
}

static void does_not_outlive_its_key_long(void **state)
{
    (void)state;
    struct softhsm_key again = {.label = "swapped", .id = 21, .kind = "P-256"};
    softhsm_make_key(&fixture.hsm, &again);
    open_anew();
    struct token_key *key = open_copied();
    fault_destroy_key("swapped");
    fault_rest(LOOK_MS + 100);
    assert_err(sign_with(key), ERR_TEMP);
    // Another one in its place is another one.
    softhsm_make_key(&fixture.hsm, &again);
    assert_err(sign_with(key), ERR_TEMP);
    token_key_close(key);
}

static void ends_with_the_login(void **state)
{
    (void)state;
    struct detail detail = {0};
    open_anew();
    fault_works(KNOWN_SIGN);
    assert_true(is_copy_used());
    assert_ok(token_logout(fixture.token, &detail), &detail);
    assert_int_equal(shim_sessions(), 0);
    assert_ok(token_login(fixture.token, &fixture.pin, &detail), &detail);
    fault_works(KNOWN_SIGN);
    assert_true(is_copy_used());
    assert_int_equal(shim_calls("C_CopyObject"), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(uses_a_copy_and_makes_one, fault_reset),
        cmocka_unit_test_teardown(does_without, fault_reset),
        cmocka_unit_test_teardown(wants_none_that_is_not_like_its_key, fault_reset),
        cmocka_unit_test_teardown(outlives_faults, fault_reset),
        cmocka_unit_test_teardown(misses_a_copy_that_is_gone, fault_reset),
        cmocka_unit_test_teardown(is_destroyed_with_its_key, fault_reset),
        cmocka_unit_test_teardown(does_not_outlive_its_key_long, fault_reset),
        cmocka_unit_test_teardown(ends_with_the_login, fault_reset),
    };
    return cmocka_run_group_tests(tests, fault_begin, fault_end);
}
