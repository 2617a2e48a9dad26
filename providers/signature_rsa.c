// SPDX-License-Identifier: Apache-2.0
// PKCS #1 v1.5 and PSS. What OpenSSL's callers say as an integer or as a text (pad-mode, saltlen),
// both are taken: CMS gives the first one as 6 and the second one as "digest".
#include <stdlib.h>
#include <string.h>

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/params.h>
#include <openssl/rsa.h>

#include "providers/algid.h"
#include "providers/params.h"
#include "providers/signature.h"

static const struct params_choice paddings[] = {
    {OSSL_PKEY_RSA_PAD_MODE_PKCSV15, RSA_PKCS1_PADDING},
    {OSSL_PKEY_RSA_PAD_MODE_PSS, RSA_PKCS1_PSS_PADDING},
    {NULL, 0},
};

// Of OpenSSL 3.1 and later: as long as the digest, or as fits.
#define SALT_AUTO_DIGEST_MAX (-4)

static const struct params_choice salts[] = {
    {OSSL_PKEY_RSA_PSS_SALT_LEN_DIGEST, RSA_PSS_SALTLEN_DIGEST},
    {OSSL_PKEY_RSA_PSS_SALT_LEN_MAX, RSA_PSS_SALTLEN_MAX},
    {OSSL_PKEY_RSA_PSS_SALT_LEN_AUTO, RSA_PSS_SALTLEN_AUTO},
    {"auto-digestmax", SALT_AUTO_DIGEST_MAX},
    {NULL, 0},
};

// Bytes of salt, as OpenSSL counts them: if nothing is said, as many as fit (RFC 8017, 9.1.1). But
// with a key for S/MIME as many as the hash has, since nothing else is good there (RFC 4056) and
// hsmd takes nothing else.
static bool salt_length(const struct signature *signature, enum hash hash, unsigned *length)
{
    size_t encoded = (key_bits(signature->key) - 1 + 7) / 8;
    size_t digest = hash_size(hash);
    if (encoded < digest + 2)
        return RAISE(signature->prov, REASON_DIGEST, "%s is too long for the key", hash_name(hash));
    size_t max = encoded - digest - 2;
    size_t wanted = max;
    bool is_mail = signature->key->purpose == WIRE_SMIME_SIGN;
    if (signature->salt == RSA_PSS_SALTLEN_DIGEST ||
        (signature->salt == SIGNATURE_UNSET && is_mail))
        wanted = digest;
    else if (signature->salt == SALT_AUTO_DIGEST_MAX)
        wanted = digest < max ? digest : max;
    else if (signature->salt >= 0)
        wanted = (size_t)signature->salt;
    if (wanted > max)
        return RAISE(signature->prov, REASON_LENGTH, "a salt of %zu bytes does not fit, %zu do",
                     wanted, max);
    *length = (unsigned)wanted;
    return true;
}

static bool rsa_choose(const struct signature *signature, struct wire_sign *sign)
{
    if (sign->hash == HASH_NONE)
        return RAISE(signature->prov, REASON_DIGEST, "none is set");
    sign->salt = 0;
    sign->algorithm = WIRE_RSA_PKCS1;
    if (signature->padding == RSA_PKCS1_PADDING)
        return true;
    sign->algorithm = WIRE_RSA_PSS;
    if (signature->mgf_hash != HASH_NONE && signature->mgf_hash != sign->hash)
        return RAISE(signature->prov, REASON_DIGEST, "PSS with %s and MGF1 with %s: must be equal",
                     hash_name(sign->hash), hash_name(signature->mgf_hash));
    return salt_length(signature, sign->hash, &sign->salt);
}

// Without a digest set, OpenSSL's callers give a whole DigestInfo.
static bool rsa_guess(const struct signature *signature, struct bytes *tbs, enum hash *hash)
{
    for (unsigned i = HASH_NONE + 1; signature->padding == RSA_PKCS1_PADDING && i < HASH_COUNT;
         i++) {
        struct bytes prefix = hash_digest_info_prefix((enum hash)i);
        if (tbs->len == prefix.len + hash_size((enum hash)i) &&
            memcmp(tbs->data, prefix.data, prefix.len) == 0) {
            *hash = (enum hash)i;
            *tbs = bytes_of(tbs->data + prefix.len, hash_size(*hash));
            return true;
        }
    }
    return RAISE(signature->prov, REASON_DIGEST,
                 "none is set, and the data is no DigestInfo (-pkeyopt digest:sha256)");
}

static bool rsa_set_params(struct signature *signature, const OSSL_PARAM params[])
{
    struct provider *prov = signature->prov;
    int padding = signature->padding;
    int salt = signature->salt;
    enum hash mgf_hash = signature->mgf_hash;
    if (!params_get_choice(prov, params, OSSL_SIGNATURE_PARAM_PAD_MODE, paddings, &padding) ||
        !params_get_choice(prov, params, OSSL_SIGNATURE_PARAM_PSS_SALTLEN, salts, &salt) ||
        !params_get_hash(prov, params, OSSL_SIGNATURE_PARAM_MGF1_DIGEST, &mgf_hash))
        return false;
    if (padding != RSA_PKCS1_PADDING && padding != RSA_PKCS1_PSS_PADDING)
        return RAISE(prov, REASON_PADDING, "%d is neither PKCS #1 v1.5 nor PSS", padding);
    if (salt != SIGNATURE_UNSET && salt < SALT_AUTO_DIGEST_MAX)
        return RAISE(prov, REASON_PARAMETER, "%d is no salt length", salt);
    if (OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PSS_SALTLEN) &&
        padding != RSA_PKCS1_PSS_PADDING)
        return RAISE(prov, REASON_PARAMETER, "a salt length goes with PSS only");
    signature->padding = padding;
    signature->salt = salt;
    signature->mgf_hash = mgf_hash;
    return true;
}

static bool rsa_get_params(const struct signature *signature, OSSL_PARAM params[])
{
    int salt = signature->salt == SIGNATURE_UNSET ? RSA_PSS_SALTLEN_AUTO : signature->salt;
    enum hash mgf_hash = signature->mgf_hash == HASH_NONE ? signature->hash : signature->mgf_hash;
    OSSL_PARAM *p = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_MGF1_DIGEST);
    if (p && mgf_hash != HASH_NONE && !OSSL_PARAM_set_utf8_string(p, hash_name(mgf_hash)))
        return false;
    return params_set_choice(params, OSSL_SIGNATURE_PARAM_PAD_MODE, paddings, signature->padding) &&
           params_set_choice(params, OSSL_SIGNATURE_PARAM_PSS_SALTLEN, salts, salt);
}

static const struct signature_scheme rsa_scheme = {.type = WIRE_KEY_RSA,
                                                   .choose = rsa_choose,
                                                   .guess = rsa_guess,
                                                   .set_params = rsa_set_params,
                                                   .get_params = rsa_get_params};

static void *rsa_newctx(void *provctx, const char *properties)
{
    (void)properties;
    return signature_new(provctx, &rsa_scheme);
}

static const OSSL_PARAM *rsa_settable(void *vctx, void *provctx)
{
    static const OSSL_PARAM params[] = {
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PROPERTIES, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_PROPERTIES, NULL, 0),
        OSSL_PARAM_END};
    (void)vctx;
    (void)provctx;
    return params;
}

static const OSSL_PARAM *rsa_gettable(void *vctx, void *provctx)
{
    static const OSSL_PARAM params[] = {
        OSSL_PARAM_octet_string(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, NULL, 0),
        OSSL_PARAM_END};
    (void)vctx;
    (void)provctx;
    return params;
}

const OSSL_DISPATCH signature_rsa_functions[] = {
    DISPATCH(OSSL_FUNC_SIGNATURE_NEWCTX, rsa_newctx),
    DISPATCH(OSSL_FUNC_SIGNATURE_FREECTX, signature_free),
    DISPATCH(OSSL_FUNC_SIGNATURE_DUPCTX, signature_dup),
    DISPATCH(OSSL_FUNC_SIGNATURE_SIGN_INIT, signature_sign_init),
    DISPATCH(OSSL_FUNC_SIGNATURE_SIGN, signature_sign),
    DISPATCH(OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, signature_digest_sign_init),
    DISPATCH(OSSL_FUNC_SIGNATURE_DIGEST_SIGN_UPDATE, signature_digest_sign_update),
    DISPATCH(OSSL_FUNC_SIGNATURE_DIGEST_SIGN_FINAL, signature_digest_sign_final),
    DISPATCH(OSSL_FUNC_SIGNATURE_VERIFY_INIT, signature_verify_init),
    DISPATCH(OSSL_FUNC_SIGNATURE_VERIFY, signature_verify),
    DISPATCH(OSSL_FUNC_SIGNATURE_VERIFY_RECOVER_INIT, signature_verify_recover_init),
    DISPATCH(OSSL_FUNC_SIGNATURE_VERIFY_RECOVER, signature_verify_recover),
    DISPATCH(OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_INIT, signature_digest_verify_init),
    DISPATCH(OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_UPDATE, signature_digest_verify_update),
    DISPATCH(OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_FINAL, signature_digest_verify_final),
    DISPATCH(OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, signature_set_ctx_params),
    DISPATCH(OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, rsa_settable),
    DISPATCH(OSSL_FUNC_SIGNATURE_GET_CTX_PARAMS, signature_get_ctx_params),
    DISPATCH(OSSL_FUNC_SIGNATURE_GETTABLE_CTX_PARAMS, rsa_gettable),
    DISPATCH_LAST};
