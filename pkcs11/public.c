// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/internal.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/param_build.h>
#include <openssl/x509.h>

static EVP_PKEY *build(const char *type, OSSL_PARAM_BLD *builder)
{
    EVP_PKEY *pkey = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(builder);
    if (ctx && params && EVP_PKEY_fromdata_init(ctx) == 1)
        (void)EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params);
    OSSL_PARAM_free(params);
    EVP_PKEY_CTX_free(ctx);
    return pkey;
}

static EVP_PKEY *build_rsa(const struct buf *modulus, const struct buf *exponent)
{
    EVP_PKEY *pkey = NULL;
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    BIGNUM *n = BN_bin2bn(modulus->data, (int)modulus->len, NULL);
    BIGNUM *e = BN_bin2bn(exponent->data, (int)exponent->len, NULL);
    if (builder && n && e && OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, n) &&
        OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, e))
        pkey = build("RSA", builder);
    OSSL_PARAM_BLD_free(builder);
    BN_free(n);
    BN_free(e);
    return pkey;
}

// CKA_EC_POINT is a DER OCTET STRING by the standard, and the bare point with some tokens. A bare
// point starts with 04 too, so its length decides. tpm2-pkcs11 writes the length of a P-521 point,
// 133, as one byte, which DER would take for the length of the length.
static struct bytes bare_point(const struct buf *value, size_t len)
{
    const unsigned char *data = value->data;
    size_t head = value->len - len;
    if (value->len < len || head > 3 || head == 1 || (head > 0 && data[0] != V_ASN1_OCTET_STRING) ||
        (head > 0 && data[head - 1] != len) || (head == 3 && data[1] != 0x81))
        return buf_bytes(value); // which then is refused
    return bytes_of(data + head, len);
}

// Bytes of an uncompressed point; 0: not a curve we know.
static size_t point_size(int nid)
{
    static const unsigned bits[] = {256, 384, 521};
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++) {
        if (curve_nid(bits[i]) == nid)
            return 1 + 2 * (((size_t)bits[i] + 7) / 8);
    }
    return 0;
}

static EVP_PKEY *build_ec(const struct buf *params, const struct buf *point)
{
    const unsigned char *at = params->data;
    ASN1_OBJECT *oid = d2i_ASN1_OBJECT(NULL, &at, (long)params->len);
    const char *group = oid ? OBJ_nid2sn(OBJ_obj2nid(oid)) : NULL;
    EVP_PKEY *pkey = NULL;
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    struct bytes bare = bare_point(point, oid ? point_size(OBJ_obj2nid(oid)) : 0);
    if (group && builder &&
        OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, group, 0) &&
        OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, bare.data, bare.len))
        pkey = build("EC", builder);
    OSSL_PARAM_BLD_free(builder);
    ASN1_OBJECT_free(oid);
    return pkey;
}

enum err public_of_object(struct token_session *session, CK_OBJECT_HANDLE object, CK_KEY_TYPE type,
                          EVP_PKEY **pkey, struct detail *detail)
{
    struct buf first, second;
    bool rsa = type == CKK_RSA;
    buf_init(&first, PUBLIC_KEY_MAX);
    buf_init(&second, PUBLIC_KEY_MAX);
    enum err err = object_bytes(session, object, rsa ? CKA_MODULUS : CKA_EC_PARAMS, &first, detail);
    if (!err)
        err = object_bytes(session, object, rsa ? CKA_PUBLIC_EXPONENT : CKA_EC_POINT, &second,
                           detail);
    if (!err && first.len > 0 && second.len > 0) {
        if (rsa)
            *pkey = build_rsa(&first, &second);
        else if (type == CKK_EC_EDWARDS)
            *pkey = edwards_build(buf_bytes(&first), buf_bytes(&second));
        else
            *pkey = build_ec(&first, &second);
        if (!*pkey)
            err = err_openssl(detail, ERR_PERM, "its public key cannot be used");
    }
    buf_clear(&first);
    buf_clear(&second);
    return err;
}

enum err public_of_certificate(struct token_session *session, CK_OBJECT_HANDLE object,
                               EVP_PKEY **pkey, struct detail *detail)
{
    struct buf der;
    buf_init(&der, (size_t)2 * PUBLIC_KEY_MAX);
    enum err err = object_bytes(session, object, CKA_VALUE, &der, detail);
    if (!err && der.len > 0) {
        const unsigned char *at = der.data;
        X509 *cert = d2i_X509(NULL, &at, (long)der.len);
        *pkey = cert ? X509_get_pubkey(cert) : NULL;
        X509_free(cert);
        if (!*pkey)
            err = err_openssl(detail, ERR_PERM, "its certificate cannot be used");
    }
    buf_clear(&der);
    return err;
}

// The first object of a class that belongs to the key; CK_INVALID_HANDLE if there is none.
static enum err find_companion(struct token_session *session, const struct token_key *key,
                               CK_OBJECT_CLASS class, CK_OBJECT_HANDLE *object,
                               struct detail *detail)
{
    CK_ULONG count = 0;
    CK_ATTRIBUTE match[] = {
        {CKA_CLASS, &class, sizeof class},
        {CKA_ID, (void *)key->id, key->id_len},
    };
    if (key->id_len == 0)
        match[1] = (CK_ATTRIBUTE){CKA_LABEL, key->label, strlen(key->label)};
    *object = CK_INVALID_HANDLE;
    return object_find(session, match, 2, object, 1, &count, detail);
}

enum err public_read(struct token_session *session, CK_OBJECT_HANDLE private, CK_KEY_TYPE type,
                     const struct token_key *key, EVP_PKEY **pkey, struct detail *detail)
{
    CK_OBJECT_HANDLE object;
    EVP_PKEY *found = NULL;
    enum err err = find_companion(session, key, CKO_PUBLIC_KEY, &object, detail);
    if (!err && object != CK_INVALID_HANDLE)
        err = public_of_object(session, object, type, &found, detail);
    if (!err && !found)
        err = public_of_object(session, private, type, &found, detail);
    if (!err && !found) {
        err = find_companion(session, key, CKO_CERTIFICATE, &object, detail);
        if (!err && object != CK_INVALID_HANDLE)
            err = public_of_certificate(session, object, &found, detail);
    }
    if (!err && !found)
        err = err_set(detail, ERR_PERM, "the token has neither its public key nor its certificate");
    if (!err)
        *pkey = found;
    return err;
}
