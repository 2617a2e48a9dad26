// SPDX-License-Identifier: Apache-2.0
// ECDH with the X9.63 KDF (SEC 1, 3.6.1), both in hsmd: what leaves is a key-encryption key that is
// good for one message, never the shared secret. So the KDF is not an option here.
#include <string.h>

#include <openssl/bn.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/params.h>

#include "hsmd/base/alloc.h"
#include "providers/key.h"
#include "providers/params.h"

struct exchange {
    struct provider *prov;
    struct key *key;  // counted
    struct key *peer; // counted
    bool has_kdf;
    enum hash hash; // of the KDF; HASH_NONE: not set
    size_t length;  // of the key to derive; 0: not set
    struct buf info;
    int cofactor; // 1, 0, or -1: as the key says, and keys of hsmd say no
};

static const struct params_choice cofactors[] = {{NULL, 0}};

static void *exchange_newctx(void *provctx)
{
    struct exchange *exchange = mem_calloc(1, sizeof *exchange);
    if (!exchange) {
        RAISE(provctx, REASON_MEMORY, "for a key agreement");
        return NULL;
    }
    exchange->prov = provctx;
    exchange->cofactor = -1;
    buf_init(&exchange->info, WIRE_LABEL_MAX);
    return exchange;
}

static void exchange_freectx(void *vctx)
{
    struct exchange *exchange = vctx;
    if (!exchange)
        return;
    key_free(exchange->key);
    key_free(exchange->peer);
    buf_clear(&exchange->info);
    mem_free(exchange);
}

static void *exchange_dupctx(void *vctx)
{
    const struct exchange *from = vctx;
    struct exchange *copy = exchange_newctx(from->prov);
    if (!copy)
        return NULL;
    struct buf info = copy->info;
    *copy = *from;
    copy->key = key_hold(from->key);
    copy->peer = key_hold(from->peer);
    copy->info = info;
    if (buf_put_bytes(&copy->info, buf_bytes(&from->info)) != ERR_OK) {
        RAISE(from->prov, REASON_MEMORY, "for the copy of a key agreement");
        exchange_freectx(copy);
        return NULL;
    }
    return copy;
}

static bool set_kdf(struct exchange *exchange, const OSSL_PARAM params[])
{
    const char *name = NULL;
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, OSSL_EXCHANGE_PARAM_KDF_TYPE);
    if (!p)
        return true;
    if (!OSSL_PARAM_get_utf8_string_ptr(p, &name) || !name)
        return RAISE(exchange->prov, REASON_PARAMETER, "the KDF must be a name");
    if (*name && strcmp(name, OSSL_KDF_NAME_X963KDF) != 0)
        return RAISE(exchange->prov, REASON_NO_KDF,
                     "%.40s is not supported, " OSSL_KDF_NAME_X963KDF " is", name);
    exchange->has_kdf = *name != 0;
    return true;
}

static int exchange_set_ctx_params(void *vctx, const OSSL_PARAM params[])
{
    struct exchange *exchange = vctx;
    int cofactor = exchange->cofactor;
    if (!params)
        return 1;
    if (!params_get_choice(exchange->prov, params, OSSL_EXCHANGE_PARAM_EC_ECDH_COFACTOR_MODE,
                           cofactors, &cofactor))
        return 0;
    if (cofactor < -1 || cofactor > 1)
        return RAISE(exchange->prov, REASON_PARAMETER, "%d is no cofactor mode", cofactor);
    if (!set_kdf(exchange, params) ||
        !params_get_hash(exchange->prov, params, OSSL_EXCHANGE_PARAM_KDF_DIGEST, &exchange->hash) ||
        !params_get_octets(exchange->prov, params, OSSL_EXCHANGE_PARAM_KDF_UKM, &exchange->info))
        return 0;
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, OSSL_EXCHANGE_PARAM_KDF_OUTLEN);
    size_t length = exchange->length;
    if (p && (!OSSL_PARAM_get_size_t(p, &length) || length == 0 || length > WIRE_SECRET_MAX))
        return RAISE(exchange->prov, REASON_LENGTH, "a key of 1 to %d bytes can be derived",
                     WIRE_SECRET_MAX);
    exchange->length = length;
    exchange->cofactor = cofactor;
    return 1;
}

static int exchange_get_ctx_params(void *vctx, OSSL_PARAM params[])
{
    struct exchange *exchange = vctx;
    OSSL_PARAM *p = OSSL_PARAM_locate(params, OSSL_EXCHANGE_PARAM_KDF_TYPE);
    if (p && !OSSL_PARAM_set_utf8_string(p, exchange->has_kdf ? OSSL_KDF_NAME_X963KDF : ""))
        return 0;
    p = OSSL_PARAM_locate(params, OSSL_EXCHANGE_PARAM_KDF_OUTLEN);
    if (p && !OSSL_PARAM_set_size_t(p, exchange->length))
        return 0;
    p = OSSL_PARAM_locate(params, OSSL_EXCHANGE_PARAM_KDF_UKM);
    if (p && !OSSL_PARAM_set_octet_ptr(p, exchange->info.data, exchange->info.len))
        return 0;
    return params_set_choice(params, OSSL_EXCHANGE_PARAM_EC_ECDH_COFACTOR_MODE, cofactors,
                             exchange->cofactor == 1) &&
           params_set_hash(params, OSSL_EXCHANGE_PARAM_KDF_DIGEST, exchange->hash);
}

static int exchange_init(void *vctx, void *keydata, const OSSL_PARAM params[])
{
    struct exchange *exchange = vctx;
    key_free(exchange->key);
    key_free(exchange->peer);
    exchange->key = key_hold(keydata);
    exchange->peer = NULL;
    exchange->has_kdf = false;
    exchange->hash = HASH_NONE;
    exchange->length = 0;
    exchange->cofactor = -1;
    buf_reset(&exchange->info);
    return exchange->key && key_check_use(exchange->key, WIRE_SMIME_DECRYPT, "agree on keys") &&
           exchange_set_ctx_params(exchange, params);
}

static int exchange_set_peer(void *vctx, void *keydata)
{
    struct exchange *exchange = vctx;
    struct key *peer = keydata;
    if (!exchange->key || !peer || peer->type != WIRE_KEY_EC || !peer->has_point ||
        EVP_PKEY_parameters_eq(exchange->key->public_half, peer->public_half) != 1)
        return RAISE(exchange->prov, REASON_PEER, "not a point on the curve of our key");
    key_free(exchange->peer);
    exchange->peer = key_hold(peer);
    return 1;
}

// Uncompressed, however the peer's key came: out has room for WIRE_POINT_MAX bytes.
static bool peer_point(const struct exchange *exchange, uint8_t *out, size_t *len)
{
    BIGNUM *x = NULL;
    BIGNUM *y = NULL;
    size_t size = (key_bits(exchange->key) + 7) / 8;
    bool ok = 1 + 2 * size <= WIRE_POINT_MAX &&
              EVP_PKEY_get_bn_param(exchange->peer->public_half, OSSL_PKEY_PARAM_EC_PUB_X, &x) &&
              EVP_PKEY_get_bn_param(exchange->peer->public_half, OSSL_PKEY_PARAM_EC_PUB_Y, &y) &&
              BN_bn2binpad(x, out + 1, (int)size) > 0 &&
              BN_bn2binpad(y, out + 1 + size, (int)size) > 0;
    BN_free(x);
    BN_free(y);
    if (!ok)
        return RAISE(exchange->prov, REASON_PEER, "its point cannot be encoded");
    out[0] = POINT_CONVERSION_UNCOMPRESSED;
    *len = 1 + 2 * size;
    return true;
}

static int agree(struct exchange *exchange, unsigned char *out, size_t *outlen)
{
    uint8_t point[WIRE_POINT_MAX];
    size_t point_len = 0;
    struct wire_reply reply = {0};
    struct buf frame;
    int ok = 0;
    if (!peer_point(exchange, point, &point_len))
        return 0;
    struct wire_request request = {.operation = WIRE_AGREE,
                                   .agree = {.key = bytes_of_text(exchange->key->name),
                                             .algorithm = WIRE_ECDH_X963,
                                             .hash = exchange->hash,
                                             .cofactor = exchange->cofactor == 1,
                                             .peer = bytes_of(point, point_len),
                                             .info = buf_bytes(&exchange->info),
                                             .length = (unsigned)exchange->length}};
    buf_init(&frame, WIRE_FRAME_MAX);
    if (provider_call(exchange->prov, &request, NULL, &frame, &reply) != ERR_OK)
        goto out;
    if (reply.secret.len != exchange->length) {
        RAISE(exchange->prov, REASON_REPLY, "a key of %zu bytes, not %zu", reply.secret.len,
              exchange->length);
        goto out;
    }
    memcpy(out, reply.secret.data, reply.secret.len);
    *outlen = reply.secret.len;
    ok = 1;
out:
    buf_wipe(&frame);
    buf_clear(&frame);
    return ok;
}

static int exchange_derive(void *vctx, unsigned char *secret, size_t *secretlen, size_t outlen)
{
    struct exchange *exchange = vctx;
    if (!exchange->has_kdf)
        return RAISE(exchange->prov, REASON_NO_KDF,
                     "set the KDF " OSSL_KDF_NAME_X963KDF " (kdf-type, kdf-digest, kdf-outlen)");
    if (exchange->hash == HASH_NONE || exchange->length == 0)
        return RAISE(exchange->prov, REASON_PARAMETER, "the KDF has no %s",
                     exchange->hash == HASH_NONE ? "digest" : "output length");
    if (!exchange->peer)
        return RAISE(exchange->prov, REASON_PEER, "none is set");
    if (!secret) {
        *secretlen = exchange->length;
        return 1;
    }
    if (outlen < exchange->length)
        return RAISE(exchange->prov, REASON_LENGTH, "room for %zu bytes, not %zu", outlen,
                     exchange->length);
    return agree(exchange, secret, secretlen);
}

static const OSSL_PARAM *exchange_settable(void *vctx, void *provctx)
{
    static const OSSL_PARAM params[] = {
        OSSL_PARAM_int(OSSL_EXCHANGE_PARAM_EC_ECDH_COFACTOR_MODE, NULL),
        OSSL_PARAM_utf8_string(OSSL_EXCHANGE_PARAM_KDF_TYPE, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_EXCHANGE_PARAM_KDF_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_EXCHANGE_PARAM_KDF_DIGEST_PROPS, NULL, 0),
        OSSL_PARAM_size_t(OSSL_EXCHANGE_PARAM_KDF_OUTLEN, NULL),
        OSSL_PARAM_octet_string(OSSL_EXCHANGE_PARAM_KDF_UKM, NULL, 0),
        OSSL_PARAM_END};
    (void)vctx;
    (void)provctx;
    return params;
}

static const OSSL_PARAM *exchange_gettable(void *vctx, void *provctx)
{
    static const OSSL_PARAM params[] = {
        OSSL_PARAM_int(OSSL_EXCHANGE_PARAM_EC_ECDH_COFACTOR_MODE, NULL),
        OSSL_PARAM_utf8_string(OSSL_EXCHANGE_PARAM_KDF_TYPE, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_EXCHANGE_PARAM_KDF_DIGEST, NULL, 0),
        OSSL_PARAM_size_t(OSSL_EXCHANGE_PARAM_KDF_OUTLEN, NULL),
        OSSL_PARAM_octet_ptr(OSSL_EXCHANGE_PARAM_KDF_UKM, NULL, 0),
        OSSL_PARAM_END};
    (void)vctx;
    (void)provctx;
    return params;
}

const OSSL_DISPATCH exchange_ecdh_functions[] = {
    DISPATCH(OSSL_FUNC_KEYEXCH_NEWCTX, exchange_newctx),
    DISPATCH(OSSL_FUNC_KEYEXCH_FREECTX, exchange_freectx),
    DISPATCH(OSSL_FUNC_KEYEXCH_DUPCTX, exchange_dupctx),
    DISPATCH(OSSL_FUNC_KEYEXCH_INIT, exchange_init),
    DISPATCH(OSSL_FUNC_KEYEXCH_SET_PEER, exchange_set_peer),
    DISPATCH(OSSL_FUNC_KEYEXCH_DERIVE, exchange_derive),
    DISPATCH(OSSL_FUNC_KEYEXCH_SET_CTX_PARAMS, exchange_set_ctx_params),
    DISPATCH(OSSL_FUNC_KEYEXCH_SETTABLE_CTX_PARAMS, exchange_settable),
    DISPATCH(OSSL_FUNC_KEYEXCH_GET_CTX_PARAMS, exchange_get_ctx_params),
    DISPATCH(OSSL_FUNC_KEYEXCH_GETTABLE_CTX_PARAMS, exchange_gettable),
    DISPATCH_LAST};
