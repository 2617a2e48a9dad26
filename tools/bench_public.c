// SPDX-License-Identifier: Apache-2.0
#include "tools/bench_public.h"

#include <stdlib.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/objects.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

// Without what OPENSSL_CONF names, which may well be hsmd.so.
static OSSL_LIB_CTX *libctx(void)
{
    static OSSL_LIB_CTX *own;
    if (!own && (own = OSSL_LIB_CTX_new()) == NULL)
        abort();
    return own;
}

// Frees the builder and the numbers.
static EVP_PKEY *build(const char *type, OSSL_PARAM_BLD *builder, bool is_filled)
{
    EVP_PKEY *key = NULL;
    OSSL_PARAM *params = is_filled ? OSSL_PARAM_BLD_to_param(builder) : NULL;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(libctx(), type, NULL);
    if (params && context && EVP_PKEY_fromdata_init(context) > 0)
        (void)EVP_PKEY_fromdata(context, &key, EVP_PKEY_PUBLIC_KEY, params);
    EVP_PKEY_CTX_free(context);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(builder);
    return key;
}

EVP_PKEY *bench_public_rsa(const unsigned char *n, size_t n_len, const unsigned char *e,
                           size_t e_len)
{
    BIGNUM *modulus = BN_bin2bn(n, (int)n_len, NULL);
    BIGNUM *exponent = BN_bin2bn(e, (int)e_len, NULL);
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    EVP_PKEY *key = build("RSA", builder,
                          builder && modulus && exponent &&
                              OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, modulus) &&
                              OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, exponent));
    BN_free(modulus);
    BN_free(exponent);
    return key;
}

EVP_PKEY *bench_public_ec(const unsigned char *ec_params, size_t params_len,
                          const unsigned char *point, size_t point_len)
{
    EC_GROUP *group = d2i_ECPKParameters(NULL, &ec_params, (long)params_len);
    const char *name = group ? OBJ_nid2sn(EC_GROUP_get_curve_name(group)) : NULL;
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    EVP_PKEY *key = build(
        "EC", builder,
        builder && name &&
            OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, name, 0) &&
            OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, point, point_len));
    EC_GROUP_free(group);
    return key;
}

EVP_PKEY *bench_public_ed25519(const unsigned char *point, size_t len)
{
    return EVP_PKEY_new_raw_public_key_ex(libctx(), "ED25519", NULL, point, len);
}

static EVP_PKEY *of_der(const unsigned char *der, size_t len)
{
    return d2i_PUBKEY_ex(NULL, &der, (long)len, libctx(), NULL);
}

EVP_PKEY *bench_public_of(const EVP_PKEY *key)
{
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(key, &der);
    EVP_PKEY *copy = len > 0 ? of_der(der, (size_t)len) : NULL;
    OPENSSL_free(der);
    return copy;
}

EVP_PKEY *bench_public_of_hex(const char *spki)
{
    long len = 0;
    unsigned char *der = OPENSSL_hexstr2buf(spki, &len);
    EVP_PKEY *key = der ? of_der(der, (size_t)len) : NULL;
    OPENSSL_free(der);
    return key;
}

char *bench_public_hex(const EVP_PKEY *key)
{
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(key, &der);
    size_t room = len > 0 ? 2 * (size_t)len + 1 : 0;
    char *hex = room ? OPENSSL_malloc(room) : NULL;
    if (hex && !OPENSSL_buf2hexstr_ex(hex, room, NULL, der, (size_t)len, '\0')) {
        OPENSSL_free(hex);
        hex = NULL;
    }
    OPENSSL_free(der);
    return hex;
}

bool bench_public_is(const EVP_PKEY *key, const char *type)
{
    return EVP_PKEY_is_a(key, type) == 1;
}

bool bench_set_padding(EVP_PKEY_CTX *context, enum bench_operation operation)
{
    switch (operation) {
    case BENCH_SIGN_PSS:
        return EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PSS_PADDING) > 0 &&
               EVP_PKEY_CTX_set_rsa_pss_saltlen(context, RSA_PSS_SALTLEN_DIGEST) > 0;
    case BENCH_UNWRAP:
        return EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) > 0;
    case BENCH_UNWRAP_OAEP: // which more tokens can with SHA-1 than with any other
        return EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_OAEP_PADDING) > 0 &&
               EVP_PKEY_CTX_set_rsa_oaep_md(context, EVP_sha1()) > 0 &&
               EVP_PKEY_CTX_set_rsa_mgf1_md(context, EVP_sha1()) > 0;
    default:
        return true;
    }
}

bool bench_set_kdf(EVP_PKEY_CTX *context)
{
    return EVP_PKEY_CTX_set_ecdh_kdf_type(context, EVP_PKEY_ECDH_KDF_X9_63) > 0 &&
           EVP_PKEY_CTX_set_ecdh_kdf_md(context, EVP_sha256()) > 0 &&
           EVP_PKEY_CTX_set_ecdh_kdf_outlen(context, BENCH_SECRET_SIZE) > 0;
}

bool bench_public_encrypt(EVP_PKEY *key, enum bench_operation operation,
                          const unsigned char secret[BENCH_SECRET_SIZE], unsigned char *out,
                          size_t *len)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(libctx(), key, NULL);
    bool ok = context && EVP_PKEY_encrypt_init(context) > 0 &&
              bench_set_padding(context, operation) &&
              EVP_PKEY_encrypt(context, out, len, secret, BENCH_SECRET_SIZE) > 0;
    EVP_PKEY_CTX_free(context);
    return ok;
}

static bool verify_message(EVP_PKEY *key, const unsigned char *data, size_t data_len,
                           const unsigned char *signature, size_t len)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool ok = context &&
              EVP_DigestVerifyInit_ex(context, NULL, NULL, libctx(), NULL, key, NULL) > 0 &&
              EVP_DigestVerify(context, signature, len, data, data_len) == 1;
    EVP_MD_CTX_free(context);
    return ok;
}

bool bench_public_verify(EVP_PKEY *key, enum bench_operation operation, const unsigned char *data,
                         size_t data_len, const unsigned char *signature, size_t len)
{
    if (bench_public_is(key, "ED25519"))
        return verify_message(key, data, data_len, signature, len);
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(libctx(), key, NULL);
    bool ok = context && EVP_PKEY_verify_init(context) > 0 &&
              bench_set_padding(context, operation) &&
              EVP_PKEY_CTX_set_signature_md(context, EVP_sha256()) > 0 &&
              EVP_PKEY_verify(context, signature, len, data, data_len) == 1;
    EVP_PKEY_CTX_free(context);
    return ok;
}

EVP_PKEY *bench_public_peer(EVP_PKEY *key)
{
    EVP_PKEY *peer = NULL;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(libctx(), key, NULL);
    if (context && EVP_PKEY_keygen_init(context) > 0)
        (void)EVP_PKEY_keygen(context, &peer);
    EVP_PKEY_CTX_free(context);
    return peer;
}

bool bench_public_agree(EVP_PKEY *peer, EVP_PKEY *key, bool has_kdf, unsigned char *out,
                        size_t *len)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(libctx(), peer, NULL);
    bool ok = context && EVP_PKEY_derive_init(context) > 0 &&
              (!has_kdf || bench_set_kdf(context)) && EVP_PKEY_derive_set_peer(context, key) > 0 &&
              EVP_PKEY_derive(context, out, len) > 0;
    EVP_PKEY_CTX_free(context);
    return ok;
}
