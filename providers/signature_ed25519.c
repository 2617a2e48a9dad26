// SPDX-License-Identifier: Apache-2.0
// Pure Ed25519: in one call and without a digest, as the default provider has it. A general key
// signs any message that hsmd takes; a key of purpose smime-sign CMS SignedAttributes (RFC 8419).
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/params.h>

#include "providers/algid.h"
#include "providers/signature.h"

static bool ed25519_choose(const struct signature *signature, struct wire_sign *sign)
{
    (void)signature;
    sign->algorithm = WIRE_EDDSA;
    sign->salt = 0;
    return true;
}

static const struct signature_scheme ed25519_scheme = {.type = WIRE_KEY_ED25519,
                                                       .choose = ed25519_choose};

static void *ed25519_newctx(void *provctx, const char *properties)
{
    (void)properties;
    return signature_new(provctx, &ed25519_scheme);
}

static bool check_no_digest(const struct signature *signature, const char *mdname)
{
    if (!mdname || !*mdname)
        return true;
    return RAISE(signature->prov, REASON_DIGEST,
                 "%.40s: Ed25519 signs the message itself, without a digest", mdname);
}

static int ed25519_digest_sign_init(void *vctx, const char *mdname, void *keydata,
                                    const OSSL_PARAM params[])
{
    struct signature *signature = vctx;
    (void)params; // there are none
    if (!signature_begin(signature, keydata) || !check_no_digest(signature, mdname) ||
        !key_check_use(signature->key, WIRE_SMIME_SIGN, "sign"))
        return 0;
    signature->mode = SIGNATURE_DIGEST_SIGN;
    return 1;
}

static int ed25519_digest_sign(void *vctx, unsigned char *sig, size_t *siglen, size_t sigsize,
                               const unsigned char *tbs, size_t tbslen)
{
    struct signature *signature = vctx;
    if (signature->mode != SIGNATURE_DIGEST_SIGN)
        return 0;
    if (!sig) {
        *siglen = key_size(signature->key);
        return 1;
    }
    if (tbslen == 0 || tbslen > WIRE_DATA_MAX)
        return RAISE(signature->prov, REASON_LENGTH,
                     "hsmd signs messages of 1 to %d bytes with Ed25519, not of %zu", WIRE_DATA_MAX,
                     tbslen);
    bool is_general = signature->key->purpose == WIRE_GENERAL;
    const struct wire_sign sign = {.form = is_general ? WIRE_MESSAGE : WIRE_ATTRIBUTES,
                                   .hash = is_general ? HASH_NONE : HASH_SHA512,
                                   .data = bytes_of(tbs, tbslen)};
    return signature_send(signature, sign, sig, siglen, sigsize);
}

static int ed25519_digest_verify_init(void *vctx, const char *mdname, void *keydata,
                                      const OSSL_PARAM params[])
{
    return check_no_digest(vctx, mdname) &&
           signature_digest_verify_init(vctx, NULL, keydata, params);
}

static int ed25519_digest_verify(void *vctx, const unsigned char *sig, size_t siglen,
                                 const unsigned char *tbs, size_t tbslen)
{
    struct signature *signature = vctx;
    return signature->mode == SIGNATURE_DIGEST_VERIFY &&
           EVP_DigestVerify(signature->digest, sig, siglen, tbs, tbslen) == 1;
}

static int ed25519_get_ctx_params(void *vctx, OSSL_PARAM params[])
{
    uint8_t der[ALGID_SIZE_MAX];
    size_t len = 0;
    OSSL_PARAM *p = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_ALGORITHM_ID);
    (void)vctx;
    return !p || (algid_encode(WIRE_EDDSA, HASH_NONE, 0, der, &len) == ERR_OK &&
                  OSSL_PARAM_set_octet_string(p, der, len));
}

static const OSSL_PARAM *ed25519_gettable(void *vctx, void *provctx)
{
    static const OSSL_PARAM params[] = {
        OSSL_PARAM_octet_string(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, NULL, 0), OSSL_PARAM_END};
    (void)vctx;
    (void)provctx;
    return params;
}

const OSSL_DISPATCH signature_ed25519_functions[] = {
    DISPATCH(OSSL_FUNC_SIGNATURE_NEWCTX, ed25519_newctx),
    DISPATCH(OSSL_FUNC_SIGNATURE_FREECTX, signature_free),
    DISPATCH(OSSL_FUNC_SIGNATURE_DUPCTX, signature_dup),
    DISPATCH(OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, ed25519_digest_sign_init),
    DISPATCH(OSSL_FUNC_SIGNATURE_DIGEST_SIGN, ed25519_digest_sign),
    DISPATCH(OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_INIT, ed25519_digest_verify_init),
    DISPATCH(OSSL_FUNC_SIGNATURE_DIGEST_VERIFY, ed25519_digest_verify),
    DISPATCH(OSSL_FUNC_SIGNATURE_GET_CTX_PARAMS, ed25519_get_ctx_params),
    DISPATCH(OSSL_FUNC_SIGNATURE_GETTABLE_CTX_PARAMS, ed25519_gettable),
    DISPATCH_LAST};
