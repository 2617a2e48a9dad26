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
//     at-once FUNCTION N              of its delayed calls N run at a time, the others wait
//     count FUNCTION                  from now on, whatever the file becomes, each call is one
//                                     more byte in the file SHIM_CONTROL.FUNCTION
//     hang FUNCTION                   calls do not come back before the file changes
//     sessions N                      C_OpenSession beyond N open ones: CKR_SESSION_COUNT
//     pull [RV]                       the token is out; calls with a session return RV
//                                     (default 0x32, CKR_DEVICE_REMOVED) and all sessions die
//     kill                            all sessions die once
//     logout                          nobody is logged in any more, once
//     hide MECHANISM                  the token lacks it
//     garble NTH                      the NTH signature from now and those after it are wrong
//     token-flags FLAGS               further flags of C_GetTokenInfo (0x20000: the PIN's final
//     try) der-points                      a peer's point must be a DER OCTET STRING
//
// Numbers as strtoul reads them. Write the file beside and rename it, so that no half is read.
#include "tests/fault/shim_internal.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static CK_FUNCTION_LIST list;

// With the lock for calls, and never with the other one.
#define PASS_ON(rv, call)                          \
    do {                                           \
        if (!(rv)) {                               \
            pthread_rwlock_rdlock(&shim_in_calls); \
            (rv) = shim_real->call;                \
            pthread_rwlock_unlock(&shim_in_calls); \
        }                                          \
    } while (0)

#define X(name, parameters, arguments, kind)       \
    static CK_RV shim_##name parameters            \
    {                                              \
        CK_RV rv = shim_enter(AT_##name, kind, a); \
        PASS_ON(rv, name arguments);               \
        return rv;                                 \
    }
FUNCTIONS(X)
#undef X

static CK_RV shim_C_Initialize(void *args)
{
    CK_RV rv = shim_enter(AT_C_Initialize, 'm', 0);
    return rv ? rv : shim_real->C_Initialize(args);
}

static CK_RV shim_C_Finalize(void *args)
{
    CK_RV rv = shim_enter(AT_C_Finalize, 'm', 0);
    pthread_mutex_lock(&shim_lock);
    shim_session_count = 0;
    pthread_mutex_unlock(&shim_lock);
    return rv ? rv : shim_real->C_Finalize(args);
}

static CK_RV shim_C_GetInfo(CK_INFO *info)
{
    CK_RV rv = shim_enter(AT_C_GetInfo, 'm', 0);
    return rv ? rv : shim_real->C_GetInfo(info);
}

static CK_RV shim_C_GetSlotList(CK_BBOOL present, CK_SLOT_ID *slots, CK_ULONG *count)
{
    CK_RV rv = shim_enter(AT_C_GetSlotList, 'm', 0);
    if (rv)
        return rv;
    rv = shim_real->C_GetSlotList(present, slots, count);
    if (rv || !present || !slots)
        return rv;
    CK_ULONG kept = 0;
    pthread_mutex_lock(&shim_lock);
    for (CK_ULONG i = 0; i < *count; i++) {
        if (!shim_is_out(slots[i]))
            slots[kept++] = slots[i];
    }
    pthread_mutex_unlock(&shim_lock);
    *count = kept;
    return CKR_OK;
}

static CK_RV shim_C_GetTokenInfo(CK_SLOT_ID slot, CK_TOKEN_INFO *info)
{
    CK_RV rv = shim_enter(AT_C_GetTokenInfo, 't', slot);
    if (!rv)
        rv = shim_real->C_GetTokenInfo(slot, info);
    pthread_mutex_lock(&shim_lock);
    if (!rv)
        info->flags |= shim_state.token_flags;
    pthread_mutex_unlock(&shim_lock);
    return rv;
}

static CK_RV shim_C_GetMechanismList(CK_SLOT_ID slot, CK_MECHANISM_TYPE *types, CK_ULONG *count)
{
    CK_RV rv = shim_enter(AT_C_GetMechanismList, 't', slot);
    if (!rv)
        rv = shim_real->C_GetMechanismList(slot, types, count);
    if (rv || !types)
        return rv;
    CK_ULONG kept = 0;
    for (CK_ULONG i = 0; i < *count; i++) {
        if (!shim_is_hidden(types[i]))
            types[kept++] = types[i];
    }
    *count = kept;
    return CKR_OK;
}

static CK_RV shim_C_GetMechanismInfo(CK_SLOT_ID slot, CK_MECHANISM_TYPE type,
                                     CK_MECHANISM_INFO *info)
{
    CK_RV rv = shim_enter(AT_C_GetMechanismInfo, 't', slot);
    if (!rv && shim_is_hidden(type))
        rv = CKR_MECHANISM_INVALID;
    return rv ? rv : shim_real->C_GetMechanismInfo(slot, type, info);
}

static CK_RV shim_C_OpenSession(CK_SLOT_ID slot, CK_FLAGS flags, void *application,
                                CK_NOTIFY notify, CK_SESSION_HANDLE *handle)
{
    CK_RV rv = shim_enter(AT_C_OpenSession, 't', slot);
    if (rv)
        return rv;
    pthread_mutex_lock(&shim_lock);
    if (shim_session_count == SHIM_SESSIONS_MAX ||
        (shim_state.session_limit && shim_session_count >= shim_state.session_limit))
        rv = CKR_SESSION_COUNT;
    else
        rv = shim_real->C_OpenSession(slot, flags, application, notify, handle);
    if (!rv) {
        shim_open_sessions[shim_session_count].slot = slot;
        shim_open_sessions[shim_session_count++].handle = *handle;
    }
    pthread_mutex_unlock(&shim_lock);
    return rv;
}

static CK_RV shim_C_CloseSession(CK_SESSION_HANDLE handle)
{
    CK_RV rv = shim_enter(AT_C_CloseSession, 's', handle);
    if (rv)
        return rv;
    pthread_mutex_lock(&shim_lock);
    for (unsigned i = 0; i < shim_session_count; i++) {
        if (shim_open_sessions[i].handle == handle) {
            shim_open_sessions[i] = shim_open_sessions[--shim_session_count];
            break;
        }
    }
    rv = shim_real->C_CloseSession(handle);
    pthread_mutex_unlock(&shim_lock);
    return rv;
}

static CK_RV shim_C_CloseAllSessions(CK_SLOT_ID slot)
{
    CK_RV rv = shim_enter(AT_C_CloseAllSessions, 't', slot);
    if (rv)
        return rv;
    pthread_mutex_lock(&shim_lock);
    for (unsigned i = shim_session_count; i-- > 0;) {
        if (shim_open_sessions[i].slot == slot)
            shim_open_sessions[i] = shim_open_sessions[--shim_session_count];
    }
    rv = shim_real->C_CloseAllSessions(slot);
    pthread_mutex_unlock(&shim_lock);
    return rv;
}

static void note_use(CK_OBJECT_HANDLE key)
{
    pthread_mutex_lock(&shim_lock);
    shim_state.used = key;
    pthread_mutex_unlock(&shim_lock);
}

static CK_RV shim_C_Sign(CK_SESSION_HANDLE session, CK_BYTE *data, CK_ULONG data_len, CK_BYTE *out,
                         CK_ULONG *len)
{
    CK_RV rv = shim_enter(AT_C_Sign, 's', session);
    PASS_ON(rv, C_Sign(session, data, data_len, out, len));
    pthread_mutex_lock(&shim_lock);
    if (!rv && out && shim_state.garbled == 1)
        out[*len - 1] ^= 1;
    else if (!rv && out && shim_state.garbled)
        shim_state.garbled--;
    pthread_mutex_unlock(&shim_lock);
    return rv;
}

static CK_RV shim_C_SignInit(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                             CK_OBJECT_HANDLE key)
{
    CK_RV rv = shim_enter(AT_C_SignInit, 's', session);
    note_use(key);
    if (!rv && shim_is_hidden(mechanism->mechanism))
        rv = CKR_MECHANISM_INVALID;
    PASS_ON(rv, C_SignInit(session, mechanism, key));
    return rv;
}

static CK_RV shim_C_DecryptInit(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                                CK_OBJECT_HANDLE key)
{
    CK_RV rv = shim_enter(AT_C_DecryptInit, 's', session);
    note_use(key);
    if (!rv && shim_is_hidden(mechanism->mechanism))
        rv = CKR_MECHANISM_INVALID;
    PASS_ON(rv, C_DecryptInit(session, mechanism, key));
    return rv;
}

static CK_RV shim_C_CopyObject(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                               CK_ATTRIBUTE *template, CK_ULONG count, CK_OBJECT_HANDLE *copy)
{
    CK_RV rv = shim_enter(AT_C_CopyObject, 's', session);
    PASS_ON(rv, C_CopyObject(session, object, template, count, copy));
    pthread_mutex_lock(&shim_lock);
    shim_state.copy = rv ? 0 : *copy;
    shim_state.copier = session;
    pthread_mutex_unlock(&shim_lock);
    return rv;
}

static CK_RV shim_C_GetAttributeValue(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                                      CK_ATTRIBUTE *attributes, CK_ULONG count)
{
    CK_RV rv = shim_enter(AT_C_GetAttributeValue, 's', session);
    PASS_ON(rv, C_GetAttributeValue(session, object, attributes, count));
    pthread_mutex_lock(&shim_lock);
    for (CK_ULONG i = 0; !rv && object == shim_state.copy && i < count; i++) {
        if (shim_state.stubborn && attributes[i].type == shim_state.stubborn)
            *(CK_BBOOL *)attributes[i].pValue ^= CK_TRUE;
    }
    pthread_mutex_unlock(&shim_lock);
    return rv;
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
    CK_RV rv = shim_enter(AT_C_DeriveKey, 's', session);
    if (!rv && shim_is_hidden(mechanism->mechanism))
        rv = CKR_MECHANISM_INVALID;
    if (rv)
        return rv;
    pthread_mutex_lock(&shim_lock);
    bool der = shim_state.der_points;
    pthread_mutex_unlock(&shim_lock);
    if (!der || mechanism->mechanism != CKM_ECDH1_DERIVE) {
        PASS_ON(rv, C_DeriveKey(session, mechanism, base, template, count, key));
        return rv;
    }
    CK_ECDH1_DERIVE_PARAMS params = *(CK_ECDH1_DERIVE_PARAMS *)mechanism->pParameter;
    CK_MECHANISM raw = {CKM_ECDH1_DERIVE, &params, sizeof params};
    if (!unwrap_point(&params))
        return CKR_MECHANISM_PARAM_INVALID;
    PASS_ON(rv, C_DeriveKey(session, &raw, base, template, count, key));
    return rv;
}

static CK_RV shim_C_GenerateKeyPair(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                                    CK_ATTRIBUTE *public, CK_ULONG public_count,
                                    CK_ATTRIBUTE *private, CK_ULONG private_count,
                                    CK_OBJECT_HANDLE *public_object,
                                    CK_OBJECT_HANDLE *private_object)
{
    static CK_BBOOL yes = CK_TRUE;
    CK_RV rv = shim_enter(AT_C_GenerateKeyPair, 's', session);
    pthread_mutex_lock(&shim_lock);
    for (CK_ULONG i = 0; i < private_count; i++) {
        if (shim_state.stubborn && private[i].type == shim_state.stubborn)
        private[i].pValue = &yes;
    }
    pthread_mutex_unlock(&shim_lock);
    PASS_ON(rv, C_GenerateKeyPair(session, mechanism, public, public_count, private, private_count,
                                  public_object, private_object));
    return rv;
}

static CK_RV shim_C_GetFunctionList(CK_FUNCTION_LIST **out);

static CK_RV load(void)
{
    const char *path = getenv("SHIM_MODULE");
    void *handle = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    CK_C_GetFunctionList get = NULL;
    if (handle)
        *(void **)&get = dlsym(handle, "C_GetFunctionList");
    if (!get || get(&shim_real) != CKR_OK) {
        fprintf(stderr, "shim: SHIM_MODULE does not name a PKCS#11 module\n");
        return CKR_GENERAL_ERROR;
    }
    list = *shim_real;
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
    pthread_mutex_lock(&shim_lock);
    CK_RV rv = shim_real ? CKR_OK : load();
    pthread_mutex_unlock(&shim_lock);
    if (!rv)
        *out = &list;
    return rv;
}

__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST **out);
CK_RV C_GetFunctionList(CK_FUNCTION_LIST **out)
{
    return shim_C_GetFunctionList(out);
}
