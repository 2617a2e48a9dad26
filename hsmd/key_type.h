// SPDX-License-Identifier: Apache-2.0
// A type of key has three names: the token's, the wire's and OpenSSL's.
#pragma once

#include <openssl/evp.h>

#include "hsmd/wire/wire.h"
#include "pkcs11/token.h"

#define KEY_TYPES(X)                      \
    X(TOKEN_KEY_RSA, WIRE_KEY_RSA, "RSA") \
    X(TOKEN_KEY_EC, WIRE_KEY_EC, "EC")    \
    X(TOKEN_KEY_ED25519, WIRE_KEY_ED25519, "ED25519")

static inline enum wire_key_type key_type_to_wire(enum token_key_type type)
{
    switch (type) {
#define X(token, wire, name) \
    case token:              \
        return wire;
        KEY_TYPES(X)
#undef X
    }
    return (enum wire_key_type)0;
}

// type: one of the wire's.
static inline enum token_key_type key_type_to_token(enum wire_key_type type)
{
    switch (type) {
#define X(token, wire, name) \
    case wire:               \
        return token;
        KEY_TYPES(X)
#undef X
    }
    return TOKEN_KEY_RSA;
}

// False: none of ours, or pkey is NULL.
static inline bool key_type_of(const EVP_PKEY *pkey, enum token_key_type *type)
{
#define X(token, wire, name)                   \
    if (pkey && EVP_PKEY_is_a(pkey, (name))) { \
        *type = (token);                       \
        return true;                           \
    }
    KEY_TYPES(X)
#undef X
    return false;
}

static inline const char *key_type_name(enum token_key_type type)
{
    switch (type) {
#define X(token, wire, name) \
    case token:              \
        return name;
        KEY_TYPES(X)
#undef X
    }
    return "unknown";
}
