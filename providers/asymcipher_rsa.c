// SPDX-License-Identifier: Apache-2.0
// RSA key transport: decryption in hsmd, encryption with the public half here.
//
// CMS sets no padding for v1.5, so that is what an untouched context does. Bad v1.5 padding is not
// an error anywhere on the way: hsmd answers with a synthetic secret that takes the same time
// (promise 5). What is decrypted is wiped from every buffer of ours.
#include <string.h>

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>
#include <openssl/prov_ssl.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>

#include "hsmd/base/alloc.h"
#include "providers/key.h"
#include "providers/params.h"

#define TLS_SECRET_SIZE SSL_MAX_MASTER_KEY_LENGTH

struct cipher {
    struct provider *prov;
    struct key *key; // counted
    bool is_decrypt;
    EVP_PKEY_CTX *encrypt; // NULL when decrypting; else it has all the parameters

    int padding;
    enum hash hash;     // of OAEP; HASH_NONE: not set, which is SHA-1
    enum hash mgf_hash; // HASH_NONE: not set, which is hash
    struct buf label;
    unsigned client_version, negotiated_version; // of TLS; 0: not set
};

static const struct params_choice paddings[] = {
    {OSSL_PKEY_RSA_PAD_MODE_PKCSV15, RSA_PKCS1_PADDING},
    {OSSL_PKEY_RSA_PAD_MODE_OAEP, RSA_PKCS1_OAEP_PADDING},
    {NULL, 0},
};

static void *cipher_newctx(void *provctx)
{
    struct cipher *cipher = mem_calloc(1, sizeof *cipher);
    if (!cipher) {
        RAISE(provctx, REASON_MEMORY, "for a decryption");
        return NULL;
    }
    cipher->prov = provctx;
    cipher->padding = RSA_PKCS1_PADDING;
    buf_init(&cipher->label, WIRE_LABEL_MAX);
    return cipher;
}

static void cipher_freectx(void *vctx)
{
    struct cipher *cipher = vctx;
    if (!cipher)
        return;
    EVP_PKEY_CTX_free(cipher->encrypt);
    key_free(cipher->key);
    buf_clear(&cipher->label);
    mem_free(cipher);
}

static void *cipher_dupctx(void *vctx)
{
    const struct cipher *from = vctx;
    struct cipher *copy = cipher_newctx(from->prov);
    if (!copy)
        return NULL;
    struct buf label = copy->label;
    *copy = *from;
    copy->key = key_hold(from->key);
    copy->label = label;
    copy->encrypt = from->encrypt ? EVP_PKEY_CTX_dup(from->encrypt) : NULL;
    if ((from->encrypt && !copy->encrypt) ||
        buf_put_bytes(&copy->label, buf_bytes(&from->label)) != ERR_OK) {
        RAISE(from->prov, REASON_MEMORY, "for the copy of a decryption");
        cipher_freectx(copy);
        return NULL;
    }
    return copy;
}

static int cipher_set_ctx_params(void *vctx, const OSSL_PARAM params[])
{
    struct cipher *cipher = vctx;
    int padding = cipher->padding;
    const OSSL_PARAM *p;
    if (!params)
        return 1;
    if (cipher->encrypt)
        return EVP_PKEY_CTX_set_params(cipher->encrypt, params) > 0;
    if (!params_get_choice(cipher->prov, params, OSSL_ASYM_CIPHER_PARAM_PAD_MODE, paddings,
                           &padding))
        return 0;
    if (padding != RSA_PKCS1_PADDING && padding != RSA_PKCS1_OAEP_PADDING &&
        padding != RSA_PKCS1_WITH_TLS_PADDING)
        return RAISE(cipher->prov, REASON_PADDING, "%d is neither PKCS #1 v1.5 nor OAEP", padding);
    if (!params_get_hash(cipher->prov, params, OSSL_ASYM_CIPHER_PARAM_OAEP_DIGEST, &cipher->hash) ||
        !params_get_hash(cipher->prov, params, OSSL_ASYM_CIPHER_PARAM_MGF1_DIGEST,
                         &cipher->mgf_hash) ||
        !params_get_octets(cipher->prov, params, OSSL_ASYM_CIPHER_PARAM_OAEP_LABEL, &cipher->label))
        return 0;
    if ((p = OSSL_PARAM_locate_const(params, OSSL_ASYM_CIPHER_PARAM_TLS_CLIENT_VERSION)) &&
        !OSSL_PARAM_get_uint(p, &cipher->client_version))
        return 0;
    if ((p = OSSL_PARAM_locate_const(params, OSSL_ASYM_CIPHER_PARAM_TLS_NEGOTIATED_VERSION)) &&
        !OSSL_PARAM_get_uint(p, &cipher->negotiated_version))
        return 0;
    cipher->padding = padding;
    return 1;
}

static enum hash oaep_hash(const struct cipher *cipher)
{
    return cipher->hash == HASH_NONE ? HASH_SHA1 : cipher->hash;
}

static enum hash oaep_mgf_hash(const struct cipher *cipher)
{
    return cipher->mgf_hash == HASH_NONE ? oaep_hash(cipher) : cipher->mgf_hash;
}

static int cipher_get_ctx_params(void *vctx, OSSL_PARAM params[])
{
    struct cipher *cipher = vctx;
    if (cipher->encrypt)
        return EVP_PKEY_CTX_get_params(cipher->encrypt, params) > 0;
    OSSL_PARAM *p = OSSL_PARAM_locate(params, OSSL_ASYM_CIPHER_PARAM_OAEP_LABEL);
    if (p && !OSSL_PARAM_set_octet_ptr(p, cipher->label.data, cipher->label.len))
        return 0;
    return params_set_choice(params, OSSL_ASYM_CIPHER_PARAM_PAD_MODE, paddings, cipher->padding) &&
           params_set_hash(params, OSSL_ASYM_CIPHER_PARAM_OAEP_DIGEST, oaep_hash(cipher)) &&
           params_set_hash(params, OSSL_ASYM_CIPHER_PARAM_MGF1_DIGEST, oaep_mgf_hash(cipher));
}

static bool cipher_begin(struct cipher *cipher, void *keydata, bool is_decrypt)
{
    if (keydata && keydata != cipher->key) {
        key_free(cipher->key);
        cipher->key = key_hold(keydata);
    }
    EVP_PKEY_CTX_free(cipher->encrypt);
    cipher->encrypt = NULL;
    cipher->is_decrypt = is_decrypt;
    cipher->padding = RSA_PKCS1_PADDING;
    cipher->hash = HASH_NONE;
    cipher->mgf_hash = HASH_NONE;
    buf_reset(&cipher->label);
    cipher->client_version = 0;
    cipher->negotiated_version = 0;
    if (!cipher->key || !cipher->key->has_point)
        return RAISE(cipher->prov, REASON_PUBLIC_HALF, "no key");
    return true;
}

static int cipher_encrypt_init(void *vctx, void *keydata, const OSSL_PARAM params[])
{
    struct cipher *cipher = vctx;
    if (!cipher_begin(cipher, keydata, false))
        return 0;
    cipher->encrypt = key_public_context(cipher->key);
    return cipher->encrypt && EVP_PKEY_encrypt_init_ex(cipher->encrypt, params) > 0;
}

static int cipher_encrypt(void *vctx, unsigned char *out, size_t *outlen, size_t outsize,
                          const unsigned char *in, size_t inlen)
{
    struct cipher *cipher = vctx;
    if (!cipher->encrypt)
        return 0;
    if (out)
        *outlen = outsize;
    return EVP_PKEY_encrypt(cipher->encrypt, out, outlen, in, inlen) > 0;
}

static int cipher_decrypt_init(void *vctx, void *keydata, const OSSL_PARAM params[])
{
    struct cipher *cipher = vctx;
    return cipher_begin(cipher, keydata, true) &&
           key_check_use(cipher->key, WIRE_SMIME_DECRYPT, "decrypt") &&
           cipher_set_ctx_params(cipher, params);
}

// 0xff if a and b are the same version, else 0, in constant time.
static unsigned char same_version(const unsigned char *a, unsigned b)
{
    unsigned difference = (a[0] ^ ((b >> 8) & 0xff)) | (a[1] ^ (b & 0xff));
    return (unsigned char)((difference - 1) >> 24);
}

// The premaster secret of TLS begins with the version the client offered; if not, a random one
// takes its place, so that the handshake fails later and tells nothing (RFC 5246, 7.4.7.1). A bad
// padding came out of hsmd as a synthetic secret and ends the same way.
static int tls_check(struct cipher *cipher, unsigned char *secret)
{
    unsigned char other[TLS_SECRET_SIZE];
    if (cipher->client_version == 0)
        return RAISE(cipher->prov, REASON_PARAMETER, "TLS padding without a client version");
    if (RAND_priv_bytes_ex(cipher->prov->libctx, other, sizeof other, 0) <= 0)
        return 0;
    unsigned char good = same_version(secret, cipher->client_version);
    if (cipher->negotiated_version) // clients that put the wrong one there, if the caller allows it
        good |= same_version(secret, cipher->negotiated_version);
    for (size_t i = 0; i < sizeof other; i++)
        secret[i] = (unsigned char)((secret[i] & good) | (other[i] & ~good));
    OPENSSL_cleanse(other, sizeof other);
    return 1;
}

// room: at most the modulus' size, and all of it is written.
static int unwrap(struct cipher *cipher, struct bytes ciphertext, unsigned char *out, size_t room,
                  size_t *outlen)
{
    struct wire_request request = {.operation = WIRE_UNWRAP};
    struct wire_unwrap *fields = &request.unwrap;
    struct wire_reply reply = {0};
    struct buf frame;
    int ok = 0;
    *fields = (struct wire_unwrap){.key = bytes_of_text(cipher->key->name),
                                   .algorithm = WIRE_RSAES_PKCS1,
                                   .ciphertext = ciphertext};
    if (cipher->padding == RSA_PKCS1_OAEP_PADDING) {
        fields->algorithm = WIRE_RSAES_OAEP;
        fields->hash = oaep_hash(cipher);
        fields->mgf_hash = oaep_mgf_hash(cipher);
        fields->label = buf_bytes(&cipher->label);
    } else if (cipher->padding == RSA_PKCS1_WITH_TLS_PADDING) {
        fields->length = TLS_SECRET_SIZE;
    }
    buf_init(&frame, WIRE_FRAME_MAX);
    if (provider_call(cipher->prov, &request, NULL, &frame, &reply) != ERR_OK)
        goto out;
    const struct wire_unwrapped *unwrapped = &reply.unwrapped;
    if (unwrapped->size != ciphertext.len || unwrapped->size < room ||
        unwrapped->secret.len > room ||
        (fields->length && unwrapped->secret.len != fields->length)) {
        RAISE(cipher->prov, REASON_REPLY, "a secret of a length that was not asked for");
        goto out;
    }
    // With the zeros behind it, so that the time does not tell its length.
    memcpy(out, unwrapped->secret.data, room);
    *outlen = unwrapped->secret.len;
    ok = 1;
out:
    buf_wipe(&frame);
    buf_clear(&frame);
    return ok;
}

static int cipher_decrypt(void *vctx, unsigned char *out, size_t *outlen, size_t outsize,
                          const unsigned char *in, size_t inlen)
{
    struct cipher *cipher = vctx;
    uint8_t padded[WIRE_CIPHERTEXT_MAX] = {0};
    if (!cipher->is_decrypt || !cipher->key)
        return 0;
    size_t modulus = key_size(cipher->key);
    bool is_tls = cipher->padding == RSA_PKCS1_WITH_TLS_PADDING;
    size_t room = is_tls ? TLS_SECRET_SIZE : modulus;
    if (!out) {
        *outlen = room;
        return 1;
    }
    // Told before hsmd is asked, so that it tells nothing about the plaintext.
    if (outsize < room)
        return RAISE(cipher->prov, REASON_LENGTH, "room for %zu bytes, not %zu", outsize, room);
    if (inlen > modulus || modulus > sizeof padded)
        return RAISE(cipher->prov, REASON_LENGTH, "%zu bytes of ciphertext for a key of %zu", inlen,
                     modulus);
    // Some senders drop leading zeros.
    memcpy(padded + modulus - inlen, in, inlen);
    if (!unwrap(cipher, bytes_of(padded, modulus), out, room, outlen))
        return 0;
    return !is_tls || tls_check(cipher, out);
}

static const OSSL_PARAM *cipher_settable(void *vctx, void *provctx)
{
    static const OSSL_PARAM params[] = {
        OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_PAD_MODE, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_OAEP_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_OAEP_DIGEST_PROPS, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_MGF1_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_MGF1_DIGEST_PROPS, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_ASYM_CIPHER_PARAM_OAEP_LABEL, NULL, 0),
        OSSL_PARAM_uint(OSSL_ASYM_CIPHER_PARAM_TLS_CLIENT_VERSION, NULL),
        OSSL_PARAM_uint(OSSL_ASYM_CIPHER_PARAM_TLS_NEGOTIATED_VERSION, NULL),
        OSSL_PARAM_END};
    (void)vctx;
    (void)provctx;
    return params;
}

static const OSSL_PARAM *cipher_gettable(void *vctx, void *provctx)
{
    static const OSSL_PARAM params[] = {
        OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_PAD_MODE, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_OAEP_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_MGF1_DIGEST, NULL, 0),
        OSSL_PARAM_octet_ptr(OSSL_ASYM_CIPHER_PARAM_OAEP_LABEL, NULL, 0), OSSL_PARAM_END};
    (void)vctx;
    (void)provctx;
    return params;
}

const OSSL_DISPATCH asymcipher_rsa_functions[] = {
    DISPATCH(OSSL_FUNC_ASYM_CIPHER_NEWCTX, cipher_newctx),
    DISPATCH(OSSL_FUNC_ASYM_CIPHER_FREECTX, cipher_freectx),
    DISPATCH(OSSL_FUNC_ASYM_CIPHER_DUPCTX, cipher_dupctx),
    DISPATCH(OSSL_FUNC_ASYM_CIPHER_ENCRYPT_INIT, cipher_encrypt_init),
    DISPATCH(OSSL_FUNC_ASYM_CIPHER_ENCRYPT, cipher_encrypt),
    DISPATCH(OSSL_FUNC_ASYM_CIPHER_DECRYPT_INIT, cipher_decrypt_init),
    DISPATCH(OSSL_FUNC_ASYM_CIPHER_DECRYPT, cipher_decrypt),
    DISPATCH(OSSL_FUNC_ASYM_CIPHER_SET_CTX_PARAMS, cipher_set_ctx_params),
    DISPATCH(OSSL_FUNC_ASYM_CIPHER_SETTABLE_CTX_PARAMS, cipher_settable),
    DISPATCH(OSSL_FUNC_ASYM_CIPHER_GET_CTX_PARAMS, cipher_get_ctx_params),
    DISPATCH(OSSL_FUNC_ASYM_CIPHER_GETTABLE_CTX_PARAMS, cipher_gettable),
    DISPATCH_LAST};
