// SPDX-License-Identifier: Apache-2.0
// usage: token_prepare MODULE SLOT|blank LABEL OLD-SO-PIN-FILE SO-PIN-FILE PIN-FILE
//
// Makes a token ready for use, by Cryptoki alone: names it and gives it its PINs. What a maker's
// own tool would want as arguments is read from files here. What has to be done is asked of the
// token: one that comes with a PIN from the factory wants it changed before it does anything.
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <p11-kit/pkcs11.h>

#define SLOTS_MAX 64

struct pin {
    CK_UTF8CHAR text[64];
    CK_ULONG len;
};

static CK_FUNCTION_LIST *fn;

static void __attribute__((noreturn)) die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("token_prepare: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(1);
}

static void check(CK_RV rv, const char *step)
{
    if (rv != CKR_OK)
        die("%s: 0x%lx", step, rv);
}

static struct pin read_pin(const char *path)
{
    struct pin pin = {.len = 0};
    FILE *file = fopen(path, "r");
    if (!file || !fgets((char *)pin.text, sizeof pin.text, file))
        die("cannot read %s", path);
    fclose(file);
    pin.len = strcspn((char *)pin.text, "\n");
    return pin;
}

static void load(const char *path)
{
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    CK_C_GetFunctionList get = NULL;
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        die("%s", dlerror());
    *(void **)&get = dlsym(handle, "C_GetFunctionList");
    if (!get)
        die("%s: not a PKCS#11 module", path);
    check(get(&fn), "C_GetFunctionList");
    check(fn->C_Initialize(&args), "C_Initialize");
}

static CK_FLAGS flags_of(CK_SLOT_ID slot)
{
    CK_TOKEN_INFO info;
    check(fn->C_GetTokenInfo(slot, &info), "C_GetTokenInfo");
    return info.flags;
}

// By number, or the first whose token is blank.
static CK_SLOT_ID find_slot(const char *which)
{
    CK_SLOT_ID slots[SLOTS_MAX];
    CK_ULONG count = SLOTS_MAX;
    if (strcmp(which, "blank") != 0)
        return strtoul(which, NULL, 10);
    check(fn->C_GetSlotList(CK_TRUE, slots, &count), "C_GetSlotList");
    for (CK_ULONG i = 0; i < count; i++) {
        if (!(flags_of(slots[i]) & CKF_TOKEN_INITIALIZED))
            return slots[i];
    }
    die("no blank token");
}

// The slot of the token with this label: some change it when the token is named.
static CK_SLOT_ID find_label(const CK_UTF8CHAR label[32])
{
    CK_SLOT_ID slots[SLOTS_MAX];
    CK_ULONG count = SLOTS_MAX;
    check(fn->C_GetSlotList(CK_TRUE, NULL, &count), "C_GetSlotList");
    count = SLOTS_MAX;
    check(fn->C_GetSlotList(CK_TRUE, slots, &count), "C_GetSlotList");
    for (CK_ULONG i = 0; i < count; i++) {
        CK_TOKEN_INFO info;
        if (fn->C_GetTokenInfo(slots[i], &info) == CKR_OK && memcmp(info.label, label, 32) == 0)
            return slots[i];
    }
    die("the token that was named is not there");
}

static CK_SESSION_HANDLE open_session(CK_SLOT_ID slot, CK_USER_TYPE user, struct pin *pin)
{
    CK_SESSION_HANDLE session;
    check(fn->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session),
          "C_OpenSession");
    check(fn->C_Login(session, user, pin->text, pin->len), "C_Login");
    return session;
}

static void close_session(CK_SESSION_HANDLE session)
{
    check(fn->C_Logout(session), "C_Logout");
    check(fn->C_CloseSession(session), "C_CloseSession");
}

int main(int argc, char **argv)
{
    CK_UTF8CHAR label[33];
    if (argc != 7)
        die("wrong arguments");
    struct pin old_so = read_pin(argv[4]), so = read_pin(argv[5]), user = read_pin(argv[6]);
    snprintf((char *)label, sizeof label, "%-32s", argv[3]);
    load(argv[1]);
    CK_SLOT_ID slot = find_slot(argv[2]);
    check(fn->C_InitToken(slot, old_so.text, old_so.len, label), "C_InitToken");
    slot = find_label(label);

    CK_SESSION_HANDLE session = open_session(slot, CKU_SO, &old_so);
    if (flags_of(slot) & CKF_SO_PIN_TO_BE_CHANGED) {
        check(fn->C_SetPIN(session, old_so.text, old_so.len, so.text, so.len), "C_SetPIN");
        close_session(session);
        session = open_session(slot, CKU_SO, &so);
    }
    // A user PIN given by the SO may have to be changed as well: so not with the later one.
    check(fn->C_InitPIN(session, so.text, so.len), "C_InitPIN");
    close_session(session);
    session = open_session(slot, CKU_USER, &so);
    check(fn->C_SetPIN(session, so.text, so.len, user.text, user.len), "C_SetPIN");
    close_session(session);
    check(fn->C_Finalize(NULL), "C_Finalize");
    return 0;
}
