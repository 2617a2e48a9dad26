// SPDX-License-Identifier: Apache-2.0
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/params.h>

#include "providers/keymgmt.h"

static void *ec_new(void *provctx)
{
    return key_new(provctx, WIRE_KEY_EC);
}

static int ec_import(void *keydata, int selection, const OSSL_PARAM params[])
{
    return keymgmt_import(keydata, selection, params, OSSL_PKEY_PARAM_PUB_KEY,
                          OSSL_PKEY_PARAM_PRIV_KEY);
}

#define CURVE_PARAMS                                                    \
    OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),        \
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_EC_ENCODING, NULL, 0),   \
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_EC_FIELD_TYPE, NULL, 0), \
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_P, NULL, 0),                   \
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_A, NULL, 0),                   \
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_B, NULL, 0),                   \
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_EC_GENERATOR, NULL, 0), \
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_ORDER, NULL, 0),               \
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_COFACTOR, NULL, 0),            \
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_EC_SEED, NULL, 0)

static const OSSL_PARAM *ec_types(int selection)
{
    static const OSSL_PARAM curve[] = {CURVE_PARAMS, OSSL_PARAM_END};
    static const OSSL_PARAM whole[] = {
        CURVE_PARAMS, OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0), OSSL_PARAM_END};
    if (selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY)
        return whole;
    return (selection & OSSL_KEYMGMT_SELECT_DOMAIN_PARAMETERS) ? curve : NULL;
}

static const OSSL_PARAM *ec_gettable_params(void *provctx)
{
    static const OSSL_PARAM params[] = {
        OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_PUB_X, NULL, 0),
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_PUB_Y, NULL, 0),
        CURVE_PARAMS,
        OSSL_PARAM_END};
    (void)provctx;
    return params;
}

static const OSSL_PARAM *ec_settable_params(void *provctx)
{
    static const OSSL_PARAM params[] = {
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, NULL, 0), OSSL_PARAM_END};
    (void)provctx;
    return params;
}

// How a peer's key comes into being: the curve is there by dup or import, the point is set here.
static int ec_set_params(void *keydata, const OSSL_PARAM params[])
{
    struct key *key = keydata;
    const void *point = NULL;
    size_t len = 0;
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY);
    if (!p)
        return 1;
    if (key->name)
        return RAISE(key->prov, REASON_PUBLIC_HALF, "that of key %s in hsmd cannot be changed",
                     key->name);
    if (!key->public_half || !OSSL_PARAM_get_octet_string_ptr(p, &point, &len) ||
        EVP_PKEY_set_octet_string_param(key->public_half, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, point,
                                        len) <= 0)
        return RAISE(key->prov, REASON_PUBLIC_HALF, "not a point of the curve");
    key->has_point = true;
    return 1;
}

static const char *ec_operation_name(int operation)
{
    switch (operation) {
    case OSSL_OP_SIGNATURE:
        return "ECDSA";
    case OSSL_OP_KEYEXCH:
        return "ECDH";
    default:
        return NULL;
    }
}

const OSSL_DISPATCH keymgmt_ec_functions[] = {
    DISPATCH(OSSL_FUNC_KEYMGMT_NEW, ec_new),
    DISPATCH(OSSL_FUNC_KEYMGMT_FREE, keymgmt_free),
    DISPATCH(OSSL_FUNC_KEYMGMT_LOAD, keymgmt_load),
    DISPATCH(OSSL_FUNC_KEYMGMT_DUP, keymgmt_dup),
    DISPATCH(OSSL_FUNC_KEYMGMT_HAS, keymgmt_has),
    DISPATCH(OSSL_FUNC_KEYMGMT_MATCH, keymgmt_match),
    DISPATCH(OSSL_FUNC_KEYMGMT_VALIDATE, keymgmt_validate),
    DISPATCH(OSSL_FUNC_KEYMGMT_IMPORT, ec_import),
    DISPATCH(OSSL_FUNC_KEYMGMT_IMPORT_TYPES, ec_types),
    DISPATCH(OSSL_FUNC_KEYMGMT_EXPORT, keymgmt_export),
    DISPATCH(OSSL_FUNC_KEYMGMT_EXPORT_TYPES, ec_types),
    DISPATCH(OSSL_FUNC_KEYMGMT_GET_PARAMS, keymgmt_get_params),
    DISPATCH(OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, ec_gettable_params),
    DISPATCH(OSSL_FUNC_KEYMGMT_SET_PARAMS, ec_set_params),
    DISPATCH(OSSL_FUNC_KEYMGMT_SETTABLE_PARAMS, ec_settable_params),
    DISPATCH(OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, ec_operation_name),
    DISPATCH_LAST};
