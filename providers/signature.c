// SPDX-License-Identifier: Apache-2.0
#include "providers/signature.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/params.h>
#include <openssl/rsa.h>

#include "hsmd/base/alloc.h"
#include "providers/algid.h"

struct signature *signature_new(struct provider *prov, const struct signature_scheme *scheme)
{
    struct signature *signature = mem_calloc(1, sizeof *signature);
    if (!signature) {
        RAISE(prov, REASON_MEMORY, "for a signature");
        return NULL;
    }
    signature->prov = prov;
    signature->scheme = scheme;
    signature->padding = RSA_PKCS1_PADDING;
    signature->salt = SIGNATURE_UNSET;
    buf_init(&signature->message, WIRE_DATA_MAX);
    return signature;
}

// Back to the state after signature_new, but for the key.
static void signature_reset(struct signature *signature)
{
    EVP_MD_CTX_free(signature->digest);
    EVP_PKEY_CTX_free(signature->verify);
    buf_clear(&signature->message);
    signature->digest = NULL;
    signature->verify = NULL;
    signature->mode = SIGNATURE_IDLE;
    signature->hash = HASH_NONE;
    signature->mgf_hash = HASH_NONE;
    signature->padding = RSA_PKCS1_PADDING;
    signature->salt = SIGNATURE_UNSET;
}

void signature_free(void *vctx)
{
    struct signature *signature = vctx;
    if (!signature)
        return;
    signature_reset(signature);
    key_free(signature->key);
    mem_free(signature);
}

void *signature_dup(void *vctx)
{
    const struct signature *from = vctx;
    struct signature *copy = signature_new(from->prov, from->scheme);
    if (!copy)
        return NULL;
    copy->mode = from->mode;
    copy->key = key_hold(from->key);
    copy->hash = from->hash;
    copy->padding = from->padding;
    copy->salt = from->salt;
    copy->mgf_hash = from->mgf_hash;
    bool ok = buf_put_bytes(&copy->message, buf_bytes(&from->message)) == ERR_OK;
    if (ok && from->digest) {
        copy->digest = EVP_MD_CTX_new();
        ok = copy->digest && EVP_MD_CTX_copy_ex(copy->digest, from->digest);
    }
    if (ok && from->verify) {
        copy->verify = EVP_PKEY_CTX_dup(from->verify);
        ok = copy->verify != NULL;
    }
    if (!ok) {
        RAISE(from->prov, REASON_MEMORY, "for the copy of a signature");
        signature_free(copy);
        return NULL;
    }
    return copy;
}

bool signature_begin(struct signature *signature, void *keydata)
{
    if (keydata && keydata != signature->key) {
        key_free(signature->key);
        signature->key = key_hold(keydata);
    }
    signature_reset(signature);
    if (!signature->key || !signature->key->has_point)
        return RAISE(signature->prov, REASON_PUBLIC_HALF, "no key");
    return true;
}

static bool set_hash(struct signature *signature, const char *name)
{
    enum hash hash = hash_by_name(name);
    if (hash == HASH_NONE)
        return RAISE(signature->prov, REASON_DIGEST, "%.40s is not supported", name);
    if (signature->mode == SIGNATURE_DIGEST_SIGN && signature->hash != HASH_NONE &&
        hash != signature->hash)
        return RAISE(signature->prov, REASON_DIGEST, "%s cannot become %s now",
                     hash_name(signature->hash), hash_name(hash));
    signature->hash = hash;
    return true;
}

int signature_set_ctx_params(void *vctx, const OSSL_PARAM params[])
{
    struct signature *signature = vctx;
    if (!params)
        return 1;
    if (signature->mode == SIGNATURE_VERIFY)
        return EVP_PKEY_CTX_set_params(signature->verify, params) > 0;
    if (signature->mode == SIGNATURE_DIGEST_VERIFY)
        return EVP_PKEY_CTX_set_params(EVP_MD_CTX_get_pkey_ctx(signature->digest), params) > 0;
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_DIGEST);
    if (p) {
        const char *name = NULL;
        if (!OSSL_PARAM_get_utf8_string_ptr(p, &name) || !set_hash(signature, name))
            return 0;
    }
    return !signature->scheme->set_params || signature->scheme->set_params(signature, params);
}

static bool get_algorithm_id(const struct signature *signature, OSSL_PARAM *p)
{
    struct wire_sign sign = {0};
    uint8_t der[ALGID_SIZE_MAX];
    size_t len = 0;
    if (signature->mode != SIGNATURE_SIGN && signature->mode != SIGNATURE_DIGEST_SIGN)
        return false;
    sign.hash = signature->hash;
    if (!signature->scheme->choose(signature, &sign))
        return false;
    if (algid_encode(sign.algorithm, sign.hash, sign.salt, der, &len) != ERR_OK)
        return RAISE(signature->prov, REASON_DIGEST,
                     "there is no algorithm identifier of %s with %s",
                     wire_algorithm_name(sign.algorithm), hash_name(sign.hash));
    return OSSL_PARAM_set_octet_string(p, der, len);
}

int signature_get_ctx_params(void *vctx, OSSL_PARAM params[])
{
    const struct signature *signature = vctx;
    if (signature->mode == SIGNATURE_VERIFY)
        return EVP_PKEY_CTX_get_params(signature->verify, params) > 0;
    if (signature->mode == SIGNATURE_DIGEST_VERIFY)
        return EVP_PKEY_CTX_get_params(EVP_MD_CTX_get_pkey_ctx(signature->digest), params) > 0;
    OSSL_PARAM *p = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_ALGORITHM_ID);
    if (p && !get_algorithm_id(signature, p))
        return 0;
    p = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_DIGEST);
    if (p && signature->hash != HASH_NONE &&
        !OSSL_PARAM_set_utf8_string(p, hash_name(signature->hash)))
        return 0;
    return !signature->scheme->get_params || signature->scheme->get_params(signature, params);
}

int signature_sign_init(void *vctx, void *keydata, const OSSL_PARAM params[])
{
    struct signature *signature = vctx;
    if (!signature_begin(signature, keydata) ||
        !key_check_use(signature->key, WIRE_SMIME_SIGN, "sign"))
        return 0;
    signature->mode = SIGNATURE_SIGN;
    return signature_set_ctx_params(signature, params);
}

// Nothing of it is secret.
int signature_send(struct signature *signature, struct wire_sign sign, unsigned char *sig,
                   size_t *siglen, size_t sigsize)
{
    static const char hint[] = "a key of purpose smime-sign signs CMS SignedAttributes only, not "
                               "with SHA-1, and PSS with a salt as long as the hash";
    struct wire_request request = {.operation = WIRE_SIGN};
    struct wire_reply reply = {0};
    struct buf frame;
    size_t size = key_size(signature->key);
    int ok = 0;
    if (sigsize < size)
        return RAISE(signature->prov, REASON_LENGTH, "%zu bytes are too few for a signature of %zu",
                     sigsize, size);
    sign.key = bytes_of_text(signature->key->name);
    if (!signature->scheme->choose(signature, &sign))
        return 0;
    request.sign = sign;
    buf_init(&frame, WIRE_FRAME_MAX);
    if (provider_call(signature->prov, &request,
                      signature->key->purpose == WIRE_SMIME_SIGN ? hint : NULL, &frame,
                      &reply) != ERR_OK)
        goto out;
    bool is_whole = signature->scheme->type == WIRE_KEY_EC
                        ? reply.signature.len > 0 && reply.signature.len <= size
                        : reply.signature.len == size;
    if (!is_whole) {
        RAISE(signature->prov, REASON_REPLY, "a signature of %zu bytes, not %zu",
              reply.signature.len, size);
        goto out;
    }
    memcpy(sig, reply.signature.data, reply.signature.len);
    *siglen = reply.signature.len;
    ok = 1;
out:
    buf_clear(&frame);
    return ok;
}

int signature_sign(void *vctx, unsigned char *sig, size_t *siglen, size_t sigsize,
                   const unsigned char *tbs, size_t tbslen)
{
    struct signature *signature = vctx;
    struct wire_sign sign = {.form = WIRE_DIGEST, .hash = signature->hash};
    if (signature->mode != SIGNATURE_SIGN)
        return 0;
    if (!sig) {
        *siglen = key_size(signature->key);
        return 1;
    }
    if (signature->key->purpose != WIRE_GENERAL)
        return RAISE(signature->prov, REASON_PURPOSE,
                     "key %s is of purpose %s: it signs CMS SignedAttributes, never a bare digest "
                     "(leave out -noattr)",
                     signature->key->name, wire_purpose_name(signature->key->purpose));
    sign.data = bytes_of(tbs, tbslen);
    if (sign.hash == HASH_NONE && !signature->scheme->guess(signature, &sign.data, &sign.hash))
        return 0;
    if (sign.data.len != hash_size(sign.hash))
        return RAISE(signature->prov, REASON_LENGTH, "%zu bytes are not a digest of %s",
                     sign.data.len, hash_name(sign.hash));
    return signature_send(signature, sign, sig, siglen, sigsize);
}

int signature_digest_sign_init(void *vctx, const char *mdname, void *keydata,
                               const OSSL_PARAM params[])
{
    struct signature *signature = vctx;
    if (!signature_begin(signature, keydata) ||
        !key_check_use(signature->key, WIRE_SMIME_SIGN, "sign") ||
        !set_hash(signature, mdname && *mdname ? mdname : "SHA256"))
        return 0;
    if (signature->key->purpose == WIRE_GENERAL) {
        signature->digest = EVP_MD_CTX_new();
        if (!signature->digest ||
            !EVP_DigestInit_ex2(signature->digest, signature->prov->digests[signature->hash], NULL))
            return RAISE(signature->prov, REASON_DIGEST, "cannot begin %s",
                         hash_name(signature->hash));
    }
    signature->mode = SIGNATURE_DIGEST_SIGN;
    return signature_set_ctx_params(signature, params);
}

int signature_digest_sign_update(void *vctx, const unsigned char *data, size_t len)
{
    struct signature *signature = vctx;
    if (signature->mode != SIGNATURE_DIGEST_SIGN)
        return 0;
    if (signature->digest)
        return EVP_DigestUpdate(signature->digest, data, len);
    if (buf_put(&signature->message, data, len) == ERR_OK)
        return 1;
    return RAISE(signature->prov, REASON_PURPOSE,
                 "key %s is of purpose %s: it signs CMS SignedAttributes of at most %d bytes, not "
                 "any message",
                 signature->key->name, wire_purpose_name(signature->key->purpose), WIRE_DATA_MAX);
}

int signature_digest_sign_final(void *vctx, unsigned char *sig, size_t *siglen, size_t sigsize)
{
    struct signature *signature = vctx;
    struct wire_sign sign = {.form = WIRE_ATTRIBUTES, .hash = signature->hash};
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    if (signature->mode != SIGNATURE_DIGEST_SIGN)
        return 0;
    if (!sig) {
        *siglen = key_size(signature->key);
        return 1;
    }
    if (signature->digest) {
        if (!EVP_DigestFinal_ex(signature->digest, digest, &len))
            return 0;
        sign.form = WIRE_DIGEST;
        sign.data = bytes_of(digest, len);
    } else {
        sign.data = buf_bytes(&signature->message);
    }
    return signature_send(signature, sign, sig, siglen, sigsize);
}

static int begin_verify(struct signature *signature, void *keydata, const OSSL_PARAM params[],
                        int (*init)(EVP_PKEY_CTX *context, const OSSL_PARAM params[]))
{
    if (!signature_begin(signature, keydata))
        return 0;
    signature->verify = key_public_context(signature->key);
    if (!signature->verify || init(signature->verify, params) <= 0)
        return 0;
    signature->mode = SIGNATURE_VERIFY;
    return 1;
}

int signature_verify_init(void *vctx, void *keydata, const OSSL_PARAM params[])
{
    return begin_verify(vctx, keydata, params, EVP_PKEY_verify_init_ex);
}

int signature_verify(void *vctx, const unsigned char *sig, size_t siglen, const unsigned char *tbs,
                     size_t tbslen)
{
    struct signature *signature = vctx;
    return signature->mode == SIGNATURE_VERIFY &&
           EVP_PKEY_verify(signature->verify, sig, siglen, tbs, tbslen) == 1;
}

int signature_verify_recover_init(void *vctx, void *keydata, const OSSL_PARAM params[])
{
    return begin_verify(vctx, keydata, params, EVP_PKEY_verify_recover_init_ex);
}

int signature_verify_recover(void *vctx, unsigned char *out, size_t *outlen, size_t outsize,
                             const unsigned char *sig, size_t siglen)
{
    struct signature *signature = vctx;
    if (out)
        *outlen = outsize;
    return signature->mode == SIGNATURE_VERIFY &&
           EVP_PKEY_verify_recover(signature->verify, out, outlen, sig, siglen) > 0;
}

int signature_digest_verify_init(void *vctx, const char *mdname, void *keydata,
                                 const OSSL_PARAM params[])
{
    struct signature *signature = vctx;
    if (!signature_begin(signature, keydata))
        return 0;
    signature->digest = EVP_MD_CTX_new();
    if (!signature->digest ||
        EVP_DigestVerifyInit_ex(signature->digest, NULL, mdname, signature->prov->libctx, NULL,
                                signature->key->public_half, params) <= 0)
        return 0;
    signature->mode = SIGNATURE_DIGEST_VERIFY;
    return 1;
}

int signature_digest_verify_update(void *vctx, const unsigned char *data, size_t len)
{
    struct signature *signature = vctx;
    return signature->mode == SIGNATURE_DIGEST_VERIFY &&
           EVP_DigestVerifyUpdate(signature->digest, data, len) > 0;
}

int signature_digest_verify_final(void *vctx, const unsigned char *sig, size_t siglen)
{
    struct signature *signature = vctx;
    return signature->mode == SIGNATURE_DIGEST_VERIFY &&
           EVP_DigestVerifyFinal(signature->digest, sig, siglen) == 1;
}
