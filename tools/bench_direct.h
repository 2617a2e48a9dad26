// SPDX-License-Identifier: Apache-2.0
// What the parts of hsmbench-direct share: the module, its token, and the key in it.
#pragma once

#include <stdlib.h>

#include <p11-kit/pkcs11.h>

#include "tools/bench_half.h"
#include "tools/bench_public.h"

struct direct {
    CK_FUNCTION_LIST *module;
    CK_SLOT_ID slot;
    const char *label;    // of the key
    bool is_copied;       // the key as a session object, which some tokens are faster with
    EVP_PKEY *public_key; // of the key
};
extern struct direct direct;

// Say what went wrong, and are false then.
bool direct_check(CK_RV rv, const char *function);
bool direct_fail(const char *text);

// The key's object of that class; false, silently, if there is none.
bool direct_find(CK_SESSION_HANDLE session, CK_OBJECT_CLASS class, CK_OBJECT_HANDLE *object);
// An attribute of at most BENCH_BYTES_MAX bytes; false, silently, if it cannot be had.
bool direct_get(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type,
                CK_BYTE *out, CK_ULONG *len);
// The key's public half out of the token; NULL if that has none.
EVP_PKEY *direct_public(CK_SESSION_HANDLE session);

// Of struct bench_half. What is compared with direct.public_key.
void *direct_open(const struct bench_half *half);
bool direct_once(void *caller);
bool direct_close(void *caller);
