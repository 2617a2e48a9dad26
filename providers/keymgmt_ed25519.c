// SPDX-License-Identifier: Apache-2.0
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/params.h>

#include "providers/keymgmt.h"

static void *ed25519_new(void *provctx)
{
    return key_new(provctx, WIRE_KEY_ED25519);
}

static int ed25519_import(void *keydata, int selection, const OSSL_PARAM params[])
{
    return keymgmt_import(keydata, selection, params, OSSL_PKEY_PARAM_PUB_KEY,
                          OSSL_PKEY_PARAM_PRIV_KEY);
}

static const OSSL_PARAM *ed25519_types(int selection)
{
    static const OSSL_PARAM types[] = {OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
                                       OSSL_PARAM_END};
    return (selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) ? types : NULL;
}

// The mandatory digest is "": none, the message itself is signed.
static const OSSL_PARAM *ed25519_gettable_params(void *provctx)
{
    static const OSSL_PARAM params[] = {
        OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_MANDATORY_DIGEST, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
        OSSL_PARAM_END};
    (void)provctx;
    return params;
}

const OSSL_DISPATCH keymgmt_ed25519_functions[] = {
    DISPATCH(OSSL_FUNC_KEYMGMT_NEW, ed25519_new),
    DISPATCH(OSSL_FUNC_KEYMGMT_FREE, keymgmt_free),
    DISPATCH(OSSL_FUNC_KEYMGMT_LOAD, keymgmt_load),
    DISPATCH(OSSL_FUNC_KEYMGMT_DUP, keymgmt_dup),
    DISPATCH(OSSL_FUNC_KEYMGMT_HAS, keymgmt_has),
    DISPATCH(OSSL_FUNC_KEYMGMT_MATCH, keymgmt_match),
    DISPATCH(OSSL_FUNC_KEYMGMT_VALIDATE, keymgmt_validate),
    DISPATCH(OSSL_FUNC_KEYMGMT_IMPORT, ed25519_import),
    DISPATCH(OSSL_FUNC_KEYMGMT_IMPORT_TYPES, ed25519_types),
    DISPATCH(OSSL_FUNC_KEYMGMT_EXPORT, keymgmt_export),
    DISPATCH(OSSL_FUNC_KEYMGMT_EXPORT_TYPES, ed25519_types),
    DISPATCH(OSSL_FUNC_KEYMGMT_GET_PARAMS, keymgmt_get_params),
    DISPATCH(OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, ed25519_gettable_params),
    DISPATCH_LAST};
