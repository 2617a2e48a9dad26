// SPDX-License-Identifier: Apache-2.0
#include "tests/fault/common.h"

#include "pkcs11/token_admin.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <p11-kit/pkcs11.h>

void fault_rest(unsigned ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

enum err fault_operate(struct token *token, enum known known, struct secret *out,
                       unsigned patience_ms, bool *right, struct detail *detail)
{
    struct token_session *session = NULL;
    enum err err = token_session_get(token, deadline_in(patience_ms), &session, detail);
    if (err)
        return err;
    err = known_run(session, known, out, right, detail);
    token_session_put(session);
    return err;
}

unsigned fault_recover(void)
{
    deadline_t began = clock_ms(), limit = deadline_in(RECOVERY_MS);
    struct detail detail = {0};
    while (token_check(fixture.token, deadline_in(RECOVERY_MS), &detail) != ERR_OK) {
        if (deadline_is_past(limit))
            fail_msg("not well again: %s", detail.text);
        fault_rest(10);
    }
    return (unsigned)(clock_ms() - began);
}

void fault_works(enum known known)
{
    struct detail detail = {0};
    bool right = false;
    enum err err = fault_operate(fixture.token, known, &fixture.out, 20000, &right, &detail);
    if (err || !right)
        fail_msg("%s: %s: %s", known_name(known), err_name(err), detail.text);
}

void fault_all_work(void)
{
    for (enum known i = 0; i < KNOWN_COUNT; i++)
        fault_works(i);
}

static void destroy_key(void *functions_of, unsigned long session, void *arg)
{
    CK_FUNCTION_LIST *fn = functions_of;
    const char *label = arg;
    CK_ATTRIBUTE match = {CKA_LABEL, (void *)label, strlen(label)};
    CK_OBJECT_HANDLE objects[8];
    CK_ULONG count = 0;
    if (fn->C_FindObjectsInit(session, &match, 1) || fn->C_FindObjects(session, objects, 8, &count))
        exit(1);
    fn->C_FindObjectsFinal(session);
    for (CK_ULONG i = 0; i < count; i++)
        fn->C_DestroyObject(session, objects[i]);
}

void fault_destroy_key(const char *label)
{
    softhsm_in_child(&fixture.hsm, NULL, destroy_key, (void *)label);
}

void fault_close(void)
{
    known_end();
    token_close(fixture.token);
    fixture.token = NULL;
    secret_clear(&fixture.pin);
    secret_clear(&fixture.out);
}

void fault_open(void)
{
    fixture_open(SHIM_PATH, POOL);
    known_begin();
}

int fault_begin(void **state)
{
    (void)state;
    static const struct softhsm_key further[] = {
        {.label = "swapped", .id = 21, .kind = "P-256"},
        {0},
    };
    setenv("SHIM_MODULE", softhsm_module(), 1);
    fixture_begin_with(SOFTHSM_RSA2048 | SOFTHSM_P256, further, SHIM_PATH, POOL);
    token_session_put(fixture.session);
    fixture.session = NULL;
    known_begin();
    return 0;
}

int fault_end(void **state)
{
    shim_reset();
    known_end();
    return fixture_end(state);
}

int fault_reset(void **state)
{
    (void)state;
    shim_reset();
    return 0;
}
