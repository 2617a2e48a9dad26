// SPDX-License-Identifier: Apache-2.0
// Between shim.c (the Cryptoki functions) and shim_state.c (what is wrong with them at the moment).
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include <p11-kit/pkcs11.h>

#include "tests/fault/shim.h"

// What can be broken: name, parameters, arguments, kind. Kinds: 'm' concerns the module, 't' a
// slot's token, 's' a session.
#define FUNCTIONS(X)                                                                               \
    X(C_GetSlotInfo, (CK_SLOT_ID a, CK_SLOT_INFO * b), (a, b), 'm')                                \
    X(C_GetSessionInfo, (CK_SESSION_HANDLE a, CK_SESSION_INFO * b), (a, b), 's')                   \
    X(C_Login, (CK_SESSION_HANDLE a, CK_USER_TYPE b, CK_UTF8CHAR * c, CK_ULONG d), (a, b, c, d),   \
      's')                                                                                         \
    X(C_Logout, (CK_SESSION_HANDLE a), (a), 's')                                                   \
    X(C_DestroyObject, (CK_SESSION_HANDLE a, CK_OBJECT_HANDLE b), (a, b), 's')                     \
    X(C_SetAttributeValue,                                                                         \
      (CK_SESSION_HANDLE a, CK_OBJECT_HANDLE b, CK_ATTRIBUTE * c, CK_ULONG d), (a, b, c, d), 's')  \
    X(C_FindObjectsInit, (CK_SESSION_HANDLE a, CK_ATTRIBUTE * b, CK_ULONG c), (a, b, c), 's')      \
    X(C_FindObjects, (CK_SESSION_HANDLE a, CK_OBJECT_HANDLE * b, CK_ULONG c, CK_ULONG * d),        \
      (a, b, c, d), 's')                                                                           \
    X(C_FindObjectsFinal, (CK_SESSION_HANDLE a), (a), 's')                                         \
    X(C_GenerateKey,                                                                               \
      (CK_SESSION_HANDLE a, CK_MECHANISM * b, CK_ATTRIBUTE * c, CK_ULONG d, CK_OBJECT_HANDLE * e), \
      (a, b, c, d, e), 's')                                                                        \
    X(C_CreateObject, (CK_SESSION_HANDLE a, CK_ATTRIBUTE * b, CK_ULONG c, CK_OBJECT_HANDLE * d),   \
      (a, b, c, d), 's')                                                                           \
    X(C_UnwrapKey,                                                                                 \
      (CK_SESSION_HANDLE a, CK_MECHANISM * b, CK_OBJECT_HANDLE c, CK_BYTE * d, CK_ULONG e,         \
       CK_ATTRIBUTE * f, CK_ULONG g, CK_OBJECT_HANDLE * h),                                        \
      (a, b, c, d, e, f, g, h), 's')                                                               \
    X(C_Decrypt, (CK_SESSION_HANDLE a, CK_BYTE * b, CK_ULONG c, CK_BYTE * d, CK_ULONG * e),        \
      (a, b, c, d, e), 's')

// Those with more to them than passing on.
#define SPECIAL(X)         \
    X(C_Initialize)        \
    X(C_Finalize)          \
    X(C_GetInfo)           \
    X(C_GetSlotList)       \
    X(C_GetTokenInfo)      \
    X(C_GetMechanismList)  \
    X(C_GetMechanismInfo)  \
    X(C_OpenSession)       \
    X(C_CloseSession)      \
    X(C_CloseAllSessions)  \
    X(C_SignInit)          \
    X(C_Sign)              \
    X(C_DecryptInit)       \
    X(C_CopyObject)        \
    X(C_GetAttributeValue) \
    X(C_DeriveKey)         \
    X(C_GenerateKeyPair)

enum function {
#define X(name, parameters, arguments, kind) AT_##name,
    FUNCTIONS(X)
#undef X
#define X(name) AT_##name,
        SPECIAL(X)
#undef X
            FUNCTION_COUNT
};

enum { SHIM_SESSIONS_MAX = 4096, SHIM_HIDDEN_MAX = 32 };

extern CK_FUNCTION_LIST *shim_real; // the module behind
extern pthread_mutex_t shim_lock;   // of all that follows
// Held for reading in calls with a session, so that it is not us who pull it away under a call:
// that crashes SoftHSM. Sessions that the code under test closes are its own affair. Taken after
// shim_lock.
extern pthread_rwlock_t shim_in_calls;

struct shim_state {
    unsigned session_limit, hidden_count, hanging;
    bool is_out, der_points;
    unsigned garbled; // the signature from which on they are wrong, 1: the next; 0: none is
    CK_RV out_rv;
    CK_FLAGS token_flags;
    CK_ATTRIBUTE_TYPE
    stubborn;                 // made true in the private half of a new pair, shown wrong in copies
    CK_OBJECT_HANDLE copy;    // the last one, 0: none
    CK_SESSION_HANDLE copier; // whose it is
    CK_OBJECT_HANDLE used;    // by the last C_SignInit or C_DecryptInit
    CK_MECHANISM_TYPE hidden[SHIM_HIDDEN_MAX];
};
extern struct shim_state shim_state;

struct shim_session {
    CK_SESSION_HANDLE handle;
    CK_SLOT_ID slot;
};
extern struct shim_session shim_open_sessions[SHIM_SESSIONS_MAX];
extern unsigned shim_session_count;

// At the start of each call: what it returns instead of being passed on, or CKR_OK. Without the
// lock. id: of the slot or session, by kind.
CK_RV shim_enter(enum function at, char kind, CK_ULONG id);
// Is the slot's token out? With the lock.
bool shim_is_out(CK_SLOT_ID slot);
bool shim_is_hidden(CK_MECHANISM_TYPE mechanism); // likewise
