// SPDX-License-Identifier: Apache-2.0
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/params.h>

#include "providers/algid.h"
#include "providers/signature.h"

static bool ecdsa_choose(const struct signature *signature, struct wire_sign *sign)
{
    (void)signature;
    sign->algorithm = WIRE_ECDSA;
    sign->salt = 0;
    return true;
}

// ECDSA signs the bits of the digest, whichever hash made them: its length says enough.
static bool ecdsa_guess(const struct signature *signature, struct bytes *tbs, enum hash *hash)
{
    *hash = hash_by_size(tbs->len);
    if (*hash == HASH_NONE)
        return RAISE(signature->prov, REASON_LENGTH, "%zu bytes are not a digest", tbs->len);
    return true;
}

static const struct signature_scheme ecdsa_scheme = {
    .type = WIRE_KEY_EC, .choose = ecdsa_choose, .guess = ecdsa_guess};

static void *ecdsa_newctx(void *provctx, const char *properties)
{
    (void)properties;
    return signature_new(provctx, &ecdsa_scheme);
}

static const OSSL_PARAM *ecdsa_settable(void *vctx, void *provctx)
{
    static const OSSL_PARAM params[] = {
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PROPERTIES, NULL, 0), OSSL_PARAM_END};
    (void)vctx;
    (void)provctx;
    return params;
}

static const OSSL_PARAM *ecdsa_gettable(void *vctx, void *provctx)
{
    static const OSSL_PARAM params[] = {
        OSSL_PARAM_octet_string(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, NULL, 0), OSSL_PARAM_END};
    (void)vctx;
    (void)provctx;
    return params;
}

const OSSL_DISPATCH signature_ecdsa_functions[] = {
    DISPATCH(OSSL_FUNC_SIGNATURE_NEWCTX, ecdsa_newctx),
    DISPATCH(OSSL_FUNC_SIGNATURE_FREECTX, signature_free),
    DISPATCH(OSSL_FUNC_SIGNATURE_DUPCTX, signature_dup),
    DISPATCH(OSSL_FUNC_SIGNATURE_SIGN_INIT, signature_sign_init),
    DISPATCH(OSSL_FUNC_SIGNATURE_SIGN, signature_sign),
    DISPATCH(OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, signature_digest_sign_init),
    DISPATCH(OSSL_FUNC_SIGNATURE_DIGEST_SIGN_UPDATE, signature_digest_sign_update),
    DISPATCH(OSSL_FUNC_SIGNATURE_DIGEST_SIGN_FINAL, signature_digest_sign_final),
    DISPATCH(OSSL_FUNC_SIGNATURE_VERIFY_INIT, signature_verify_init),
    DISPATCH(OSSL_FUNC_SIGNATURE_VERIFY, signature_verify),
    DISPATCH(OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_INIT, signature_digest_verify_init),
    DISPATCH(OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_UPDATE, signature_digest_verify_update),
    DISPATCH(OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_FINAL, signature_digest_verify_final),
    DISPATCH(OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, signature_set_ctx_params),
    DISPATCH(OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, ecdsa_settable),
    DISPATCH(OSSL_FUNC_SIGNATURE_GET_CTX_PARAMS, signature_get_ctx_params),
    DISPATCH(OSSL_FUNC_SIGNATURE_GETTABLE_CTX_PARAMS, ecdsa_gettable),
    DISPATCH_LAST};
