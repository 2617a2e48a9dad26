// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/rv.h"

#include <stddef.h>

#define RV_TABLE(X)                                    \
    X(CKR_OK, DAMAGE_NONE)                             \
    X(CKR_HOST_MEMORY, DAMAGE_SESSION)                 \
    X(CKR_SLOT_ID_INVALID, DAMAGE_TOKEN)               \
    X(CKR_GENERAL_ERROR, DAMAGE_SESSION)               \
    X(CKR_FUNCTION_FAILED, DAMAGE_SESSION)             \
    X(CKR_ARGUMENTS_BAD, DAMAGE_NONE)                  \
    X(CKR_ACTION_PROHIBITED, DAMAGE_NONE)              \
    X(CKR_ATTRIBUTE_READ_ONLY, DAMAGE_NONE)            \
    X(CKR_ATTRIBUTE_SENSITIVE, DAMAGE_NONE)            \
    X(CKR_ATTRIBUTE_TYPE_INVALID, DAMAGE_NONE)         \
    X(CKR_ATTRIBUTE_VALUE_INVALID, DAMAGE_NONE)        \
    X(CKR_CURVE_NOT_SUPPORTED, DAMAGE_NONE)            \
    X(CKR_DATA_INVALID, DAMAGE_NONE)                   \
    X(CKR_DATA_LEN_RANGE, DAMAGE_NONE)                 \
    X(CKR_DEVICE_ERROR, DAMAGE_SESSION)                \
    X(CKR_DEVICE_MEMORY, DAMAGE_SESSION)               \
    X(CKR_DEVICE_REMOVED, DAMAGE_TOKEN)                \
    X(CKR_ENCRYPTED_DATA_INVALID, DAMAGE_NONE)         \
    X(CKR_ENCRYPTED_DATA_LEN_RANGE, DAMAGE_NONE)       \
    X(CKR_FUNCTION_CANCELED, DAMAGE_SESSION)           \
    X(CKR_FUNCTION_NOT_SUPPORTED, DAMAGE_NONE)         \
    X(CKR_KEY_HANDLE_INVALID, DAMAGE_OBJECT)           \
    X(CKR_KEY_SIZE_RANGE, DAMAGE_NONE)                 \
    X(CKR_KEY_TYPE_INCONSISTENT, DAMAGE_NONE)          \
    X(CKR_KEY_FUNCTION_NOT_PERMITTED, DAMAGE_NONE)     \
    X(CKR_MECHANISM_INVALID, DAMAGE_NONE)              \
    X(CKR_MECHANISM_PARAM_INVALID, DAMAGE_NONE)        \
    X(CKR_OBJECT_HANDLE_INVALID, DAMAGE_OBJECT)        \
    X(CKR_OPERATION_ACTIVE, DAMAGE_SESSION)            \
    X(CKR_OPERATION_NOT_INITIALIZED, DAMAGE_SESSION)   \
    X(CKR_PIN_INCORRECT, DAMAGE_NONE)                  \
    X(CKR_PIN_INVALID, DAMAGE_NONE)                    \
    X(CKR_PIN_LEN_RANGE, DAMAGE_NONE)                  \
    X(CKR_PIN_EXPIRED, DAMAGE_NONE)                    \
    X(CKR_PIN_LOCKED, DAMAGE_NONE)                     \
    X(CKR_SESSION_CLOSED, DAMAGE_SESSION)              \
    X(CKR_SESSION_COUNT, DAMAGE_SESSION)               \
    X(CKR_SESSION_HANDLE_INVALID, DAMAGE_SESSION)      \
    X(CKR_SESSION_READ_ONLY, DAMAGE_NONE)              \
    X(CKR_TEMPLATE_INCOMPLETE, DAMAGE_NONE)            \
    X(CKR_TEMPLATE_INCONSISTENT, DAMAGE_NONE)          \
    X(CKR_TOKEN_NOT_PRESENT, DAMAGE_TOKEN)             \
    X(CKR_TOKEN_NOT_RECOGNIZED, DAMAGE_TOKEN)          \
    X(CKR_TOKEN_WRITE_PROTECTED, DAMAGE_NONE)          \
    X(CKR_WRAPPED_KEY_INVALID, DAMAGE_NONE)            \
    X(CKR_WRAPPED_KEY_LEN_RANGE, DAMAGE_NONE)          \
    X(CKR_USER_ALREADY_LOGGED_IN, DAMAGE_NONE)         \
    X(CKR_USER_NOT_LOGGED_IN, DAMAGE_LOGIN)            \
    X(CKR_USER_PIN_NOT_INITIALIZED, DAMAGE_NONE)       \
    X(CKR_USER_TYPE_INVALID, DAMAGE_NONE)              \
    X(CKR_USER_ANOTHER_ALREADY_LOGGED_IN, DAMAGE_NONE) \
    X(CKR_USER_TOO_MANY_TYPES, DAMAGE_SESSION)         \
    X(CKR_DOMAIN_PARAMS_INVALID, DAMAGE_NONE)          \
    X(CKR_BUFFER_TOO_SMALL, DAMAGE_SESSION)            \
    X(CKR_CRYPTOKI_NOT_INITIALIZED, DAMAGE_TOKEN)      \
    X(CKR_CRYPTOKI_ALREADY_INITIALIZED, DAMAGE_NONE)

static const struct row {
    CK_RV rv;
    enum damage damage;
    const char *name;
} rows[] = {
#define X(code, damage) {code, damage, #code},
    RV_TABLE(X)
#undef X
};

static const struct row *find(CK_RV rv)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].rv == rv)
            return &rows[i];
    }
    return NULL;
}

enum damage rv_damage(CK_RV rv)
{
    const struct row *row = find(rv);
    return row ? row->damage : DAMAGE_SESSION;
}

bool rv_is_session_gone(CK_RV rv)
{
    return rv == CKR_SESSION_HANDLE_INVALID || rv == CKR_SESSION_CLOSED;
}

const char *rv_name(CK_RV rv)
{
    const struct row *row = find(rv);
    if (row)
        return row->name;
    return rv & CKR_VENDOR_DEFINED ? "an error of the vendor's own" : "an unknown error";
}

const struct ck_hash ck_hashes[HASH_COUNT] = {
    [HASH_SHA1] = {CKM_SHA_1, CKG_MGF1_SHA1},      [HASH_SHA224] = {CKM_SHA224, CKG_MGF1_SHA224},
    [HASH_SHA256] = {CKM_SHA256, CKG_MGF1_SHA256}, [HASH_SHA384] = {CKM_SHA384, CKG_MGF1_SHA384},
    [HASH_SHA512] = {CKM_SHA512, CKG_MGF1_SHA512},
};
