// SPDX-License-Identifier: Apache-2.0
// A PKCS#11 module that passes everything on to the one named by the environment variable
// SHIM_MODULE, and breaks it as told: by a test in the same process through shim.h, or for a
// running program through the file named by SHIM_CONTROL. That file is looked at before every call
// and read anew when it changed; its lines then are all that holds (an empty or absent file: no
// faults):
//
//     fail FUNCTION RV [NTH [TIMES]]  the NTH call from now (1: the next) of FUNCTION returns RV,
//                                     TIMES times (default 0: until the file changes)
//     delay FUNCTION|* MS             calls take MS milliseconds longer
//     hang FUNCTION                   calls do not come back before the file changes
//     sessions N                      C_OpenSession beyond N open ones: CKR_SESSION_COUNT
//     pull [RV]                       the token is out; calls with a session return RV
//                                     (default 0x32, CKR_DEVICE_REMOVED) and all sessions die
//     kill                            all sessions die once
//     logout                          nobody is logged in any more, once
//     hide MECHANISM                  the token lacks it
//     token-flags FLAGS               further flags of C_GetTokenInfo (0x20000: final try of the
//     PIN) der-points                      a peer's point must be a DER OCTET STRING
//
// Numbers as strtoul reads them. Write the file beside and rename it, so that no half is read.
#include "tests/fault/shim.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <p11-kit/pkcs11.h>

#define EXPORT __attribute__((visibility("default")))

// What can be broken: name, parameters, arguments, kind. Kinds: 'm' concerns the module, 't' a
// slot's token, 's' a session.
#define FUNCTIONS(X)                                                                              \
    X(C_GetSlotInfo, (CK_SLOT_ID a, CK_SLOT_INFO * b), (a, b), 'm')                               \
    X(C_GetSessionInfo, (CK_SESSION_HANDLE a, CK_SESSION_INFO * b), (a, b), 's')                  \
    X(C_Login, (CK_SESSION_HANDLE a, CK_USER_TYPE b, CK_UTF8CHAR * c, CK_ULONG d), (a, b, c, d),  \
      's')                                                                                        \
    X(C_Logout, (CK_SESSION_HANDLE a), (a), 's')                                                  \
    X(C_DestroyObject, (CK_SESSION_HANDLE a, CK_OBJECT_HANDLE b), (a, b), 's')                    \
    X(C_GetAttributeValue,                                                                        \
      (CK_SESSION_HANDLE a, CK_OBJECT_HANDLE b, CK_ATTRIBUTE * c, CK_ULONG d), (a, b, c, d), 's') \
    X(C_FindObjectsInit, (CK_SESSION_HANDLE a, CK_ATTRIBUTE * b, CK_ULONG c), (a, b, c), 's')     \
    X(C_FindObjects, (CK_SESSION_HANDLE a, CK_OBJECT_HANDLE * b, CK_ULONG c, CK_ULONG * d),       \
      (a, b, c, d), 's')                                                                          \
    X(C_FindObjectsFinal, (CK_SESSION_HANDLE a), (a), 's')                                        \
    X(C_Sign, (CK_SESSION_HANDLE a, CK_BYTE * b, CK_ULONG c, CK_BYTE * d, CK_ULONG * e),          \
      (a, b, c, d, e), 's')                                                                       \
    X(C_Decrypt, (CK_SESSION_HANDLE a, CK_BYTE * b, CK_ULONG c, CK_BYTE * d, CK_ULONG * e),       \
      (a, b, c, d, e), 's')

// Those with more to them than passing on.
#define SPECIAL(X)        \
    X(C_Initialize)       \
    X(C_Finalize)         \
    X(C_GetInfo)          \
    X(C_GetSlotList)      \
    X(C_GetTokenInfo)     \
    X(C_GetMechanismList) \
    X(C_GetMechanismInfo) \
    X(C_OpenSession)      \
    X(C_CloseSession)     \
    X(C_CloseAllSessions) \
    X(C_SignInit)         \
    X(C_DecryptInit)      \
    X(C_DeriveKey)

enum function {
#define X(name, parameters, arguments, kind) AT_##name,
    FUNCTIONS(X)
#undef X
#define X(name) AT_##name,
        SPECIAL(X)
#undef X
            FUNCTION_COUNT
};

static const char *const names[FUNCTION_COUNT] = {
#define X(name, parameters, arguments, kind) [AT_##name] = #name,
    FUNCTIONS(X)
#undef X
#define X(name) [AT_##name] = #name,
        SPECIAL(X)
#undef X
};

enum { SESSIONS_MAX = 4096, HIDDEN_MAX = 32 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static CK_FUNCTION_LIST *real, list;

static struct fault {
    CK_RV rv;
    unsigned nth, times; // calls to go; how often then
    bool is_on, for_ever;
    unsigned delay_ms, calls;
    bool hangs;
} faults[FUNCTION_COUNT];

static struct {
    unsigned session_limit, hidden_count, hanging;
    bool is_out, der_points;
    CK_RV out_rv;
    CK_FLAGS token_flags;
    CK_MECHANISM_TYPE hidden[HIDDEN_MAX];
} state;

static struct {
    CK_SESSION_HANDLE handle;
    CK_SLOT_ID slot;
} sessions[SESSIONS_MAX];
static unsigned session_count;

static struct timespec control_time;
static ino_t control_inode;

static void shim_die(const char *what)
{
    fprintf(stderr, "shim: %s\n", what);
    abort();
}

static enum function find(const char *name)
{
    for (unsigned i = 0; i < FUNCTION_COUNT; i++) {
        if (strcmp(names[i], name) == 0)
            return (enum function)i;
    }
    shim_die("no such function");
    return FUNCTION_COUNT;
}

// All of the following with the lock held.

static void forget_sessions(void)
{
    for (unsigned i = 0; i < session_count; i++)
        real->C_CloseSession(sessions[i].handle);
    session_count = 0;
}

static void clear(void)
{
    unsigned hanging = state.hanging;
    memset(faults, 0, sizeof faults);
    memset(&state, 0, sizeof state);
    state.hanging = hanging;
}

static void set_fail(enum function at, CK_RV rv, unsigned nth, unsigned times)
{
    struct fault *fault = &faults[at];
    fault->rv = rv;
    fault->nth = nth ? nth : 1;
    fault->times = times;
    fault->for_ever = times == 0;
    fault->is_on = true;
}

static void set_delay(const char *function, unsigned ms)
{
    for (unsigned i = 0; i < FUNCTION_COUNT; i++) {
        if (!function || strcmp(names[i], function) == 0)
            faults[i].delay_ms = ms;
    }
}

static void set_pull(CK_RV rv)
{
    forget_sessions();
    state.is_out = true;
    state.out_rv = rv;
}

static void log_out(void)
{
    if (session_count > 0)
        real->C_Logout(sessions[0].handle);
}

static void apply(char *line)
{
    char *save = NULL, *word = strtok_r(line, " \t\n", &save), *argument[4] = {0};
    if (!word || *word == '#')
        return;
    for (int i = 0; i < 4; i++)
        argument[i] = strtok_r(NULL, " \t\n", &save);
    unsigned long number[4];
    for (int i = 0; i < 4; i++)
        number[i] = argument[i] ? strtoul(argument[i], NULL, 0) : 0;
    if (strcmp(word, "fail") == 0 && argument[1])
        set_fail(find(argument[0]), number[1], (unsigned)number[2], (unsigned)number[3]);
    else if (strcmp(word, "delay") == 0 && argument[1])
        set_delay(strcmp(argument[0], "*") == 0 ? NULL : argument[0], (unsigned)number[1]);
    else if (strcmp(word, "hang") == 0 && argument[0])
        faults[find(argument[0])].hangs = true;
    else if (strcmp(word, "sessions") == 0)
        state.session_limit = (unsigned)number[0];
    else if (strcmp(word, "pull") == 0)
        set_pull(argument[0] ? number[0] : CKR_DEVICE_REMOVED);
    else if (strcmp(word, "kill") == 0)
        forget_sessions();
    else if (strcmp(word, "logout") == 0)
        log_out();
    else if (strcmp(word, "hide") == 0 && state.hidden_count < HIDDEN_MAX)
        state.hidden[state.hidden_count++] = number[0];
    else if (strcmp(word, "token-flags") == 0)
        state.token_flags = number[0];
    else if (strcmp(word, "der-points") == 0)
        state.der_points = true;
    else
        shim_die("unknown word in the control file");
}

static void read_control(void)
{
    const char *path = getenv("SHIM_CONTROL");
    struct stat info;
    if (!path)
        return;
    if (stat(path, &info) != 0)
        info = (struct stat){0};
    if (info.st_mtim.tv_sec == control_time.tv_sec &&
        info.st_mtim.tv_nsec == control_time.tv_nsec && info.st_ino == control_inode)
        return;
    control_time = info.st_mtim;
    control_inode = info.st_ino;
    clear();
    FILE *file = fopen(path, "r");
    char line[200];
    while (file && fgets(line, sizeof line, file))
        apply(line);
    if (file)
        fclose(file);
}

// What the call returns instead of being passed on, or CKR_OK.
static CK_RV enter(enum function at, char kind)
{
    pthread_mutex_lock(&lock);
    read_control();
    struct fault *fault = &faults[at];
    CK_RV rv = CKR_OK;
    fault->calls++;
    if (fault->hangs) {
        state.hanging++;
        while (fault->hangs) {
            pthread_mutex_unlock(&lock);
            usleep(5000);
            pthread_mutex_lock(&lock);
            read_control();
        }
        state.hanging--;
    }
    if (fault->is_on && --fault->nth == 0) {
        rv = fault->rv;
        fault->nth = 1;
        if (!fault->for_ever && --fault->times == 0)
            fault->is_on = false;
    } else if (state.is_out && kind != 'm') {
        rv = kind == 's' ? state.out_rv : CKR_TOKEN_NOT_PRESENT;
    }
    unsigned delay = fault->delay_ms;
    pthread_mutex_unlock(&lock);
    if (delay)
        usleep(delay * 1000);
    return rv;
}

static bool is_hidden(CK_MECHANISM_TYPE mechanism)
{
    bool hidden = false;
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < state.hidden_count; i++)
        hidden = hidden || state.hidden[i] == mechanism;
    pthread_mutex_unlock(&lock);
    return hidden;
}

#define X(name, parameters, arguments, kind)   \
    static CK_RV shim_##name parameters        \
    {                                          \
        CK_RV rv = enter(AT_##name, kind);     \
        return rv ? rv : real->name arguments; \
    }
FUNCTIONS(X)
#undef X

static CK_RV shim_C_Initialize(void *args)
{
    CK_RV rv = enter(AT_C_Initialize, 'm');
    return rv ? rv : real->C_Initialize(args);
}

static CK_RV shim_C_Finalize(void *args)
{
    CK_RV rv = enter(AT_C_Finalize, 'm');
    pthread_mutex_lock(&lock);
    session_count = 0;
    pthread_mutex_unlock(&lock);
    return rv ? rv : real->C_Finalize(args);
}

static CK_RV shim_C_GetInfo(CK_INFO *info)
{
    CK_RV rv = enter(AT_C_GetInfo, 'm');
    return rv ? rv : real->C_GetInfo(info);
}

static CK_RV shim_C_GetSlotList(CK_BBOOL present, CK_SLOT_ID *slots, CK_ULONG *count)
{
    CK_RV rv = enter(AT_C_GetSlotList, 'm');
    if (rv)
        return rv;
    pthread_mutex_lock(&lock);
    bool none = state.is_out && present;
    pthread_mutex_unlock(&lock);
    if (none) {
        *count = 0;
        return CKR_OK;
    }
    return real->C_GetSlotList(present, slots, count);
}

static CK_RV shim_C_GetTokenInfo(CK_SLOT_ID slot, CK_TOKEN_INFO *info)
{
    CK_RV rv = enter(AT_C_GetTokenInfo, 't');
    if (!rv)
        rv = real->C_GetTokenInfo(slot, info);
    pthread_mutex_lock(&lock);
    if (!rv)
        info->flags |= state.token_flags;
    pthread_mutex_unlock(&lock);
    return rv;
}

static CK_RV shim_C_GetMechanismList(CK_SLOT_ID slot, CK_MECHANISM_TYPE *types, CK_ULONG *count)
{
    CK_RV rv = enter(AT_C_GetMechanismList, 't');
    if (!rv)
        rv = real->C_GetMechanismList(slot, types, count);
    if (rv || !types)
        return rv;
    CK_ULONG kept = 0;
    for (CK_ULONG i = 0; i < *count; i++) {
        if (!is_hidden(types[i]))
            types[kept++] = types[i];
    }
    *count = kept;
    return CKR_OK;
}

static CK_RV shim_C_GetMechanismInfo(CK_SLOT_ID slot, CK_MECHANISM_TYPE type,
                                     CK_MECHANISM_INFO *info)
{
    CK_RV rv = enter(AT_C_GetMechanismInfo, 't');
    if (!rv && is_hidden(type))
        rv = CKR_MECHANISM_INVALID;
    return rv ? rv : real->C_GetMechanismInfo(slot, type, info);
}

static CK_RV shim_C_OpenSession(CK_SLOT_ID slot, CK_FLAGS flags, void *application,
                                CK_NOTIFY notify, CK_SESSION_HANDLE *handle)
{
    CK_RV rv = enter(AT_C_OpenSession, 't');
    if (rv)
        return rv;
    pthread_mutex_lock(&lock);
    if (session_count == SESSIONS_MAX ||
        (state.session_limit && session_count >= state.session_limit))
        rv = CKR_SESSION_COUNT;
    else
        rv = real->C_OpenSession(slot, flags, application, notify, handle);
    if (!rv) {
        sessions[session_count].slot = slot;
        sessions[session_count++].handle = *handle;
    }
    pthread_mutex_unlock(&lock);
    return rv;
}

static CK_RV shim_C_CloseSession(CK_SESSION_HANDLE handle)
{
    CK_RV rv = enter(AT_C_CloseSession, 's');
    if (rv)
        return rv;
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < session_count; i++) {
        if (sessions[i].handle == handle) {
            sessions[i] = sessions[--session_count];
            break;
        }
    }
    rv = real->C_CloseSession(handle);
    pthread_mutex_unlock(&lock);
    return rv;
}

static CK_RV shim_C_CloseAllSessions(CK_SLOT_ID slot)
{
    CK_RV rv = enter(AT_C_CloseAllSessions, 't');
    if (rv)
        return rv;
    pthread_mutex_lock(&lock);
    for (unsigned i = session_count; i-- > 0;) {
        if (sessions[i].slot == slot)
            sessions[i] = sessions[--session_count];
    }
    rv = real->C_CloseAllSessions(slot);
    pthread_mutex_unlock(&lock);
    return rv;
}

static CK_RV shim_C_SignInit(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                             CK_OBJECT_HANDLE key)
{
    CK_RV rv = enter(AT_C_SignInit, 's');
    if (!rv && is_hidden(mechanism->mechanism))
        rv = CKR_MECHANISM_INVALID;
    return rv ? rv : real->C_SignInit(session, mechanism, key);
}

static CK_RV shim_C_DecryptInit(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                                CK_OBJECT_HANDLE key)
{
    CK_RV rv = enter(AT_C_DecryptInit, 's');
    if (!rv && is_hidden(mechanism->mechanism))
        rv = CKR_MECHANISM_INVALID;
    return rv ? rv : real->C_DecryptInit(session, mechanism, key);
}

// The point without the OCTET STRING around it; false: there is none.
static bool unwrap_point(CK_ECDH1_DERIVE_PARAMS *params)
{
    CK_ULONG len = params->ulPublicDataLen;
    const CK_BYTE *data = params->pPublicData;
    CK_ULONG header = len > 3 && data[1] == 0x81 ? 3 : 2;
    if (len < header || data[0] != 4 || data[header - 1] != len - header)
        return false;
    params->pPublicData += header;
    params->ulPublicDataLen -= header;
    return true;
}

static CK_RV shim_C_DeriveKey(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                              CK_OBJECT_HANDLE base, CK_ATTRIBUTE *template, CK_ULONG count,
                              CK_OBJECT_HANDLE *key)
{
    CK_RV rv = enter(AT_C_DeriveKey, 's');
    if (!rv && is_hidden(mechanism->mechanism))
        rv = CKR_MECHANISM_INVALID;
    if (rv)
        return rv;
    pthread_mutex_lock(&lock);
    bool der = state.der_points;
    pthread_mutex_unlock(&lock);
    if (!der || mechanism->mechanism != CKM_ECDH1_DERIVE)
        return real->C_DeriveKey(session, mechanism, base, template, count, key);
    CK_ECDH1_DERIVE_PARAMS params = *(CK_ECDH1_DERIVE_PARAMS *)mechanism->pParameter;
    CK_MECHANISM raw = {CKM_ECDH1_DERIVE, &params, sizeof params};
    if (!unwrap_point(&params))
        return CKR_MECHANISM_PARAM_INVALID;
    return real->C_DeriveKey(session, &raw, base, template, count, key);
}

static CK_RV shim_C_GetFunctionList(CK_FUNCTION_LIST **out);

static CK_RV load(void)
{
    const char *path = getenv("SHIM_MODULE");
    void *handle = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    CK_C_GetFunctionList get = NULL;
    if (handle)
        *(void **)&get = dlsym(handle, "C_GetFunctionList");
    if (!get || get(&real) != CKR_OK) {
        fprintf(stderr, "shim: SHIM_MODULE does not name a PKCS#11 module\n");
        return CKR_GENERAL_ERROR;
    }
    list = *real;
    list.C_GetFunctionList = shim_C_GetFunctionList;
#define X(name, parameters, arguments, kind) list.name = shim_##name;
    FUNCTIONS(X)
#undef X
#define X(name) list.name = shim_##name;
    SPECIAL(X)
#undef X
    return CKR_OK;
}

static CK_RV shim_C_GetFunctionList(CK_FUNCTION_LIST **out)
{
    pthread_mutex_lock(&lock);
    CK_RV rv = real ? CKR_OK : load();
    pthread_mutex_unlock(&lock);
    if (!rv)
        *out = &list;
    return rv;
}

EXPORT CK_RV C_GetFunctionList(CK_FUNCTION_LIST **out);
EXPORT CK_RV C_GetFunctionList(CK_FUNCTION_LIST **out)
{
    return shim_C_GetFunctionList(out);
}

#define LOCKED(statement)            \
    do {                             \
        pthread_mutex_lock(&lock);   \
        statement;                   \
        pthread_mutex_unlock(&lock); \
    } while (0)

EXPORT void shim_reset(void)
{
    LOCKED(clear());
}

EXPORT void shim_fail(const char *function, unsigned long rv, unsigned nth, unsigned times)
{
    LOCKED(set_fail(find(function), rv, nth, times));
}

EXPORT void shim_delay(const char *function, unsigned ms)
{
    LOCKED(set_delay(function, ms));
}

EXPORT void shim_hang(const char *function)
{
    LOCKED(faults[find(function)].hangs = true);
}

EXPORT unsigned shim_hanging(void)
{
    unsigned count;
    LOCKED(count = state.hanging);
    return count;
}

EXPORT void shim_limit_sessions(unsigned limit)
{
    LOCKED(state.session_limit = limit);
}

EXPORT void shim_pull(unsigned long rv)
{
    LOCKED(set_pull(rv));
}

EXPORT void shim_plug(void)
{
    LOCKED(state.is_out = false);
}

EXPORT void shim_kill_sessions(void)
{
    LOCKED(forget_sessions());
}

EXPORT void shim_log_out(void)
{
    LOCKED(log_out());
}

EXPORT void shim_hide(unsigned long mechanism)
{
    pthread_mutex_lock(&lock);
    if (state.hidden_count == HIDDEN_MAX)
        shim_die("too many hidden mechanisms");
    state.hidden[state.hidden_count++] = mechanism;
    pthread_mutex_unlock(&lock);
}

EXPORT void shim_token_flags(unsigned long flags)
{
    LOCKED(state.token_flags = flags);
}

EXPORT void shim_want_der_points(void)
{
    LOCKED(state.der_points = true);
}

EXPORT unsigned shim_calls(const char *function)
{
    unsigned calls;
    LOCKED(calls = faults[find(function)].calls);
    return calls;
}

EXPORT unsigned shim_sessions(void)
{
    unsigned count;
    LOCKED(count = session_count);
    return count;
}
