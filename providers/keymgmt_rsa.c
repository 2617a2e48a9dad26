// SPDX-License-Identifier: Apache-2.0
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/params.h>

#include "providers/keymgmt.h"

static void *rsa_new(void *provctx)
{
    return key_new(provctx, WIRE_KEY_RSA);
}

static int rsa_import(void *keydata, int selection, const OSSL_PARAM params[])
{
    return keymgmt_import(keydata, selection, params, OSSL_PKEY_PARAM_RSA_N, OSSL_PKEY_PARAM_RSA_D);
}

static const OSSL_PARAM *rsa_types(int selection)
{
    static const OSSL_PARAM types[] = {OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0),
                                       OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0),
                                       OSSL_PARAM_END};
    return (selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) ? types : NULL;
}

static const OSSL_PARAM *rsa_gettable_params(void *provctx)
{
    static const OSSL_PARAM params[] = {
        OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0),
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0),
        OSSL_PARAM_END};
    (void)provctx;
    return params;
}

static const char *rsa_operation_name(int operation)
{
    (void)operation;
    return "RSA";
}

const OSSL_DISPATCH keymgmt_rsa_functions[] = {
    DISPATCH(OSSL_FUNC_KEYMGMT_NEW, rsa_new),
    DISPATCH(OSSL_FUNC_KEYMGMT_FREE, keymgmt_free),
    DISPATCH(OSSL_FUNC_KEYMGMT_LOAD, keymgmt_load),
    DISPATCH(OSSL_FUNC_KEYMGMT_DUP, keymgmt_dup),
    DISPATCH(OSSL_FUNC_KEYMGMT_HAS, keymgmt_has),
    DISPATCH(OSSL_FUNC_KEYMGMT_MATCH, keymgmt_match),
    DISPATCH(OSSL_FUNC_KEYMGMT_VALIDATE, keymgmt_validate),
    DISPATCH(OSSL_FUNC_KEYMGMT_IMPORT, rsa_import),
    DISPATCH(OSSL_FUNC_KEYMGMT_IMPORT_TYPES, rsa_types),
    DISPATCH(OSSL_FUNC_KEYMGMT_EXPORT, keymgmt_export),
    DISPATCH(OSSL_FUNC_KEYMGMT_EXPORT_TYPES, rsa_types),
    DISPATCH(OSSL_FUNC_KEYMGMT_GET_PARAMS, keymgmt_get_params),
    DISPATCH(OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, rsa_gettable_params),
    DISPATCH(OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, rsa_operation_name),
    DISPATCH_LAST};
