// SPDX-License-Identifier: Apache-2.0
// What the return values of Cryptoki mean for us, and what it calls our hashes.
#pragma once

#include <p11-kit/pkcs11.h>

#include "hsmd/base/hash.h"

// What has to be restored before the same call can succeed.
enum damage {
    DAMAGE_NONE,    // nothing: the call was refused as such, and would be again
    DAMAGE_OBJECT,  // object handles
    DAMAGE_LOGIN,   // the login (and with it the handles of private objects)
    DAMAGE_SESSION, // this session; also the answer to every failure we know nothing better for
    DAMAGE_TOKEN,   // everything: the token, and with it all sessions
};

enum damage rv_damage(CK_RV rv);
// The module no longer knows the session: its handle must not even be closed.
bool rv_is_session_gone(CK_RV rv);
const char *rv_name(CK_RV rv); // "CKR_DEVICE_REMOVED"

// In the parameters of PSS and OAEP.
struct ck_hash {
    CK_MECHANISM_TYPE hash;
    CK_RSA_PKCS_MGF_TYPE mgf;
};
extern const struct ck_hash ck_hashes[HASH_COUNT];
