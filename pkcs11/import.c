// SPDX-License-Identifier: Apache-2.0
// A private key from outside. What is secret is in struct secret or in OpenSSL's own memory, which
// it wipes when it frees a key; nothing is written anywhere but to the module.
#include "pkcs11/internal.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "hsmd/base/alloc.h"

#define PKCS8_MAX 8192 // bytes of a PrivateKeyInfo: RSA-8192 takes half of that
#define WRAPPING_KEY_SIZE 32

struct job {
    const struct token_key_wish *wish;
    enum token_key_type type;
    EVP_PKEY *pkey;
    struct secret pkcs8; // as we encode it: without attributes
    struct bytes spki;
    struct token_import how;
    bool has_begun;
};

// Encrypts out->room bytes at most. False: the kind of key wrap does not suit the length.
static bool wrap(const EVP_CIPHER *cipher, const struct secret *key, const struct secret *pkcs8,
                 uint8_t *out, size_t *out_len)
{
    int len = 0, rest = 0;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    if (ctx)
        EVP_CIPHER_CTX_set_flags(ctx, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
    bool ok = ctx && EVP_EncryptInit_ex(ctx, cipher, NULL, key->data, NULL) == 1 &&
              EVP_EncryptUpdate(ctx, out, &len, pkcs8->data, (int)pkcs8->len) == 1 &&
              EVP_EncryptFinal_ex(ctx, out + len, &rest) == 1;
    EVP_CIPHER_CTX_free(ctx);
    *out_len = (size_t)len + (size_t)rest;
    return ok;
}

// The wrapping key: made by the token for this one use, a session object, and read.
static CK_RV make_wrapping_key(struct token_session *session, CK_OBJECT_HANDLE *object,
                               struct secret *value)
{
    static const CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    static const CK_KEY_TYPE type = CKK_AES;
    static const CK_ULONG len = WRAPPING_KEY_SIZE;
    CK_FUNCTION_LIST *fn = session->token->fn;
    CK_MECHANISM mechanism = {CKM_AES_KEY_GEN, NULL, 0};
    struct template template = {.count = 0};
    template_put(&template, CKA_CLASS, &class, sizeof class);
    template_put(&template, CKA_KEY_TYPE, &type, sizeof type);
    template_put(&template, CKA_VALUE_LEN, &len, sizeof len);
    template_put_flag(&template, CKA_TOKEN, false);
    template_put_flag(&template, CKA_SENSITIVE, false);
    template_put_flag(&template, CKA_EXTRACTABLE, true);
    template_put_flag(&template, CKA_UNWRAP, true);
    CK_RV rv =
        fn->C_GenerateKey(session->handle, &mechanism, template.items, template.count, object);
    if (rv != CKR_OK)
        return rv;
    CK_ATTRIBUTE attribute = {CKA_VALUE, value->data, value->room};
    rv = fn->C_GetAttributeValue(session->handle, *object, &attribute, 1);
    if (rv == CKR_OK && attribute.ulValueLen != WRAPPING_KEY_SIZE)
        rv = CKR_ATTRIBUTE_VALUE_INVALID;
    value->len = rv == CKR_OK ? WRAPPING_KEY_SIZE : 0;
    return rv;
}

static CK_RV unwrap(struct token_session *session, const struct job *job, CK_MECHANISM_TYPE type,
                    CK_OBJECT_HANDLE wrapping_key, uint8_t *wrapped, size_t len)
{
    static const CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_KEY_TYPE key_type = key_type_number(job->type);
    CK_RV rv = CKR_OK;
    for (int strict = 1; strict >= 0; strict--) {
        CK_OBJECT_HANDLE object;
        CK_MECHANISM mechanism = {type, NULL, 0};
        struct template template = {.count = 0};
        template_put(&template, CKA_CLASS, &class, sizeof class);
        template_put(&template, CKA_KEY_TYPE, &key_type, sizeof key_type);
        wish_put_private(&template, job->wish, job->type, strict);
        rv = session->token->fn->C_UnwrapKey(session->handle, &mechanism, wrapping_key, wrapped,
                                             len, template.items, template.count, &object);
        if (rv == CKR_OK || rv_damage(rv) != DAMAGE_NONE)
            break;
    }
    return rv;
}

// The token's kinds of key wrap, the best one first.
static CK_RV unwrap_somehow(struct token_session *session, const struct job *job,
                            CK_OBJECT_HANDLE wrapping_key, const struct secret *value,
                            uint8_t *wrapped)
{
    const struct mechanisms *can = &session->token->can;
    const struct {
        bool offered;
        CK_MECHANISM_TYPE type;
        const EVP_CIPHER *cipher;
    } kinds[] = {
        {can->kwp_unwrap, MECHANISM_AES_KWP, EVP_aes_256_wrap_pad()},         // RFC 5649
        {can->wrap_pad_unwrap, CKM_AES_KEY_WRAP_PAD, EVP_aes_256_wrap_pad()}, // most often, too
        {can->wrap_unwrap && job->pkcs8.len % 8 == 0, CKM_AES_KEY_WRAP, EVP_aes_256_wrap()},
    };
    CK_RV rv = CKR_MECHANISM_INVALID;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds && rv != CKR_OK; i++) {
        size_t len = 0;
        if (!kinds[i].offered || !wrap(kinds[i].cipher, value, &job->pkcs8, wrapped, &len))
            continue;
        rv = unwrap(session, job, kinds[i].type, wrapping_key, wrapped, len);
    }
    return rv;
}

// *is_done: the private key is in the token. ERR_OK without it: the token cannot do it this way.
static enum err put_wrapped(struct token_session *session, const struct job *job, bool *is_done,
                            struct detail *detail)
{
    const struct mechanisms *can = &session->token->can;
    CK_OBJECT_HANDLE wrapping_key = CK_INVALID_HANDLE;
    struct secret value = {0};
    uint8_t *wrapped = NULL;
    if (!can->aes_generate || !(can->kwp_unwrap || can->wrap_pad_unwrap || can->wrap_unwrap))
        return ERR_OK;
    enum err err = secret_init(&value, WRAPPING_KEY_SIZE, detail);
    if (!err && !(wrapped = mem_calloc(1, job->pkcs8.len + 16)))
        err = err_set(detail, ERR_TEMP, "out of memory");
    if (err)
        goto out;
    CK_RV rv = make_wrapping_key(session, &wrapping_key, &value);
    if (rv == CKR_OK)
        rv = unwrap_somehow(session, job, wrapping_key, &value, wrapped);
    *is_done = rv == CKR_OK;
    // What may be the token's way to say no is one; what is lost for sure is lost.
    if (rv_damage(rv) == DAMAGE_TOKEN || rv_damage(rv) == DAMAGE_LOGIN || rv_is_session_gone(rv))
        err = session_fail(session, rv, "C_UnwrapKey", detail);
    else if (wrapping_key != CK_INVALID_HANDLE &&
             session->token->fn->C_DestroyObject(session->handle, wrapping_key) != CKR_OK)
        session->is_soiled = true; // the wrapping key goes with the session
out:
    secret_clear(&value);
    mem_free(wrapped);
    return err;
}

static bool put_number(struct template *template, struct secret *room, EVP_PKEY *pkey,
                       CK_ATTRIBUTE_TYPE type, const char *name, int size)
{
    BIGNUM *number = NULL;
    bool ok = EVP_PKEY_get_bn_param(pkey, name, &number) == 1;
    int len = ok && size == 0 ? BN_num_bytes(number) : size;
    ok = ok && room->len + (size_t)len <= room->room &&
         BN_bn2binpad(number, room->data + room->len, len) == len;
    if (ok) {
        template_put(template, type, room->data + room->len, (size_t)len);
        room->len += (size_t)len;
    }
    BN_clear_free(number);
    return ok;
}

// Of Ed25519: the private key, and its public half as an OCTET STRING.
static bool put_edwards_private(struct template *template, struct secret *room, EVP_PKEY *pkey)
{
    size_t len = room->room - room->len;
    uint8_t *at = room->data + room->len;
    struct bytes curve = edwards_name(0);
    bool ok = EVP_PKEY_get_raw_private_key(pkey, at, &len) == 1 && len == EDWARDS_SIZE;
    if (!ok)
        return false;
    room->len += len;
    template_put(template, CKA_EC_PARAMS, curve.data, curve.len);
    template_put(template, CKA_VALUE, at, len);
    return true;
}

static bool put_edwards_public(struct template *template, EVP_PKEY *pkey,
                               uint8_t wrapped[POINT_DER_MAX])
{
    uint8_t point[EDWARDS_SIZE];
    size_t len = sizeof point;
    struct bytes curve = edwards_name(0);
    bool ok = EVP_PKEY_get_raw_public_key(pkey, point, &len) == 1 && len == EDWARDS_SIZE;
    if (!ok)
        return false;
    template_put(template, CKA_EC_PARAMS, curve.data, curve.len);
    template_put(template, CKA_EC_POINT, wrapped, point_wrap(bytes_of(point, len), wrapped));
    return true;
}

static bool put_curve(struct template *template, EVP_PKEY *pkey, unsigned char *room)
{
    unsigned char *at = room;
    int len = i2d_ASN1_OBJECT(OBJ_nid2obj(curve_nid((unsigned)EVP_PKEY_get_bits(pkey))), &at);
    template_put(template, CKA_EC_PARAMS, room, len > 0 ? (size_t)len : 0);
    return len > 0;
}

static bool put_private_numbers(struct template *template, struct secret *room,
                                const struct job *job, unsigned char *curve)
{
    static const struct {
        CK_ATTRIBUTE_TYPE type;
        const char *name;
    } rsa[] = {
        {CKA_MODULUS, OSSL_PKEY_PARAM_RSA_N},
        {CKA_PUBLIC_EXPONENT, OSSL_PKEY_PARAM_RSA_E},
        {CKA_PRIVATE_EXPONENT, OSSL_PKEY_PARAM_RSA_D},
        {CKA_PRIME_1, OSSL_PKEY_PARAM_RSA_FACTOR1},
        {CKA_PRIME_2, OSSL_PKEY_PARAM_RSA_FACTOR2},
        {CKA_EXPONENT_1, OSSL_PKEY_PARAM_RSA_EXPONENT1},
        {CKA_EXPONENT_2, OSSL_PKEY_PARAM_RSA_EXPONENT2},
        {CKA_COEFFICIENT, OSSL_PKEY_PARAM_RSA_COEFFICIENT1},
    };
    bool ok = true;
    if (job->type == TOKEN_KEY_ED25519)
        return put_edwards_private(template, room, job->pkey);
    if (job->type == TOKEN_KEY_EC)
        return put_curve(template, job->pkey, curve) &&
               put_number(template, room, job->pkey, CKA_VALUE, OSSL_PKEY_PARAM_PRIV_KEY,
                          (EVP_PKEY_get_bits(job->pkey) + 7) / 8);
    for (size_t i = 0; ok && i < sizeof rsa / sizeof *rsa; i++)
        ok = put_number(template, room, job->pkey, rsa[i].type, rsa[i].name, 0);
    return ok;
}

// The private key as its numbers.
static enum err put_plain(struct token_session *session, const struct job *job,
                          struct detail *detail)
{
    static const CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_KEY_TYPE key_type = key_type_number(job->type);
    struct secret room = {0};
    unsigned char curve[16];
    CK_RV rv = CKR_OK;
    enum err err = secret_init(&room, PKCS8_MAX, detail);
    for (int strict = 1; !err && strict >= 0; strict--) {
        CK_OBJECT_HANDLE object;
        struct template template = {.count = 0};
        secret_wipe(&room);
        template_put(&template, CKA_CLASS, &class, sizeof class);
        template_put(&template, CKA_KEY_TYPE, &key_type, sizeof key_type);
        wish_put_private(&template, job->wish, job->type, strict);
        if (!put_private_numbers(&template, &room, job, curve)) {
            err = err_openssl(detail, ERR_TEMP, "cannot take the key apart");
            break;
        }
        rv = session->token->fn->C_CreateObject(session->handle, template.items, template.count,
                                                &object);
        if (rv == CKR_OK || rv_damage(rv) != DAMAGE_NONE)
            break;
    }
    secret_clear(&room);
    if (!err && rv != CKR_OK)
        err = session_fail(session, rv, "C_CreateObject", detail);
    return err;
}

static enum err put_public(struct token_session *session, const struct job *job,
                           struct detail *detail)
{
    static const CK_OBJECT_CLASS class = CKO_PUBLIC_KEY;
    CK_KEY_TYPE key_type = key_type_number(job->type);
    CK_OBJECT_HANDLE object;
    struct template template = {.count = 0};
    uint8_t point[1 + 2 * 66], wrapped[POINT_DER_MAX];
    unsigned char curve[16];
    size_t len = 0;
    struct secret room = {0};
    enum err err = secret_init(&room, PKCS8_MAX, detail);
    if (err)
        return err;
    template_put(&template, CKA_CLASS, &class, sizeof class);
    template_put(&template, CKA_KEY_TYPE, &key_type, sizeof key_type);
    wish_put_public(&template, job->wish, job->type, true);
    bool ok;
    if (job->type == TOKEN_KEY_RSA) {
        ok = put_number(&template, &room, job->pkey, CKA_MODULUS, OSSL_PKEY_PARAM_RSA_N, 0) &&
             put_number(&template, &room, job->pkey, CKA_PUBLIC_EXPONENT, OSSL_PKEY_PARAM_RSA_E, 0);
    } else if (job->type == TOKEN_KEY_ED25519) {
        ok = put_edwards_public(&template, job->pkey, wrapped);
    } else {
        ok = put_curve(&template, job->pkey, curve) &&
             EVP_PKEY_get_octet_string_param(job->pkey, OSSL_PKEY_PARAM_PUB_KEY, point,
                                             sizeof point, &len) == 1;
        template_put(&template, CKA_EC_POINT, wrapped, point_wrap(bytes_of(point, len), wrapped));
    }
    CK_RV rv = ok ? session->token->fn->C_CreateObject(session->handle, template.items,
                                                       template.count, &object)
                  : CKR_HOST_MEMORY;
    secret_clear(&room);
    return rv == CKR_OK ? ERR_OK : session_fail(session, rv, "C_CreateObject", detail);
}

static enum err import(struct token_session *session, void *arg, struct detail *detail)
{
    struct job *job = arg;
    enum err err = job->has_begun ? wish_undo(session, (void *)job->wish, detail)
                                  : wish_check_free(session, job->wish, detail);
    if (!err && !job->has_begun)
        err = wish_sweep(session, job->wish, job->type, job->spki, &job->how.swept, detail);
    if (err)
        return err;
    job->has_begun = true;
    job->how.is_wrapped = false;
    // The public half first: whenever this is cut short, a private key that is left can be opened,
    // and so be adopted and destroyed.
    err = put_public(session, job, detail);
    if (!err)
        err = put_wrapped(session, job, &job->how.is_wrapped, detail);
    if (!err && !job->how.is_wrapped)
        err = put_plain(session, job, detail);
    return err ? err : wish_verify(session, job->wish, false, job->spki, detail);
}

static enum err check_key(struct job *job, struct detail *detail)
{
    char group[64] = "";
    unsigned bits = (unsigned)EVP_PKEY_get_bits(job->pkey);
    bool is_rsa = EVP_PKEY_is_a(job->pkey, "RSA"), is_ec = EVP_PKEY_is_a(job->pkey, "EC");
    job->type = is_rsa ? TOKEN_KEY_RSA : is_ec ? TOKEN_KEY_EC : TOKEN_KEY_ED25519;
    if (!is_rsa && !is_ec && !EVP_PKEY_is_a(job->pkey, "ED25519"))
        return err_set(detail, ERR_PERM, "only RSA, EC and Ed25519 keys are supported");
    if (is_rsa && (bits < TOKEN_RSA_BITS_MIN || bits > TOKEN_RSA_BITS_MAX))
        return err_set(detail, ERR_PERM, "an RSA key has %d to %d bits here, not %u",
                       TOKEN_RSA_BITS_MIN, TOKEN_RSA_BITS_MAX, bits);
    if (is_ec && (EVP_PKEY_get_group_name(job->pkey, group, sizeof group, NULL) != 1 ||
                  curve_nid(bits) == NID_undef || OBJ_sn2nid(group) != curve_nid(bits)))
        return err_set(detail, ERR_PERM, "its curve is not supported");
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(job->pkey, NULL);
    bool is_good = ctx && EVP_PKEY_check(ctx) == 1;
    EVP_PKEY_CTX_free(ctx);
    if (!is_good)
        return err_openssl(detail, ERR_PERM, "the key is not consistent");
    return wish_check(job->wish, job->type, detail);
}

// Our own encoding, in locked memory.
static enum err encode(struct job *job, struct detail *detail)
{
    PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(job->pkey);
    enum err err = info ? ERR_OK : err_openssl(detail, ERR_TEMP, "cannot encode the key");
    int len = info ? i2d_PKCS8_PRIV_KEY_INFO(info, NULL) : 0;
    if (!err && (len <= 0 || len > PKCS8_MAX))
        err = err_set(detail, ERR_PERM, "the key takes %d bytes", len);
    if (!err)
        err = secret_init(&job->pkcs8, (size_t)len, detail);
    if (!err) {
        unsigned char *at = job->pkcs8.data;
        job->pkcs8.len = (size_t)i2d_PKCS8_PRIV_KEY_INFO(info, &at);
    }
    PKCS8_PRIV_KEY_INFO_free(info); // which wipes it
    return err;
}

static enum err parse(const struct secret *pkcs8, struct job *job, struct detail *detail)
{
    const unsigned char *at = pkcs8->data;
    PKCS8_PRIV_KEY_INFO *info = d2i_PKCS8_PRIV_KEY_INFO(NULL, &at, (long)pkcs8->len);
    if (info && at == pkcs8->data + pkcs8->len)
        job->pkey = EVP_PKCS82PKEY(info);
    PKCS8_PRIV_KEY_INFO_free(info);
    if (!job->pkey)
        return err_openssl(detail, ERR_PERM, "not a private key in PKCS#8");
    enum err err = check_key(job, detail);
    return err ? err : encode(job, detail);
}

enum err token_key_import(struct token *token, const struct token_key_wish *wish,
                          const struct secret *pkcs8, deadline_t deadline, struct token_import *how,
                          struct detail *detail)
{
    struct job job = {.wish = wish};
    struct detail why = {0};
    uint8_t *spki = NULL;
    size_t spki_len = 0;
    enum err err = parse(pkcs8, &job, detail);
    if (!err)
        err = public_encode(job.pkey, &spki, &spki_len, detail);
    job.spki = bytes_of(spki, spki_len);
    if (!err)
        err = admin_run(token, deadline, import, &job, detail);
    if (how)
        *how = job.how;
    if (err && job.has_begun &&
        admin_run(token, deadline, wish_undo, (void *)wish, &why) != ERR_OK && detail)
        err = err_prefix(detail, err, "a key may be left in the token (%s)", why.text);
    EVP_PKEY_free(job.pkey);
    secret_clear(&job.pkcs8);
    mem_free(spki);
    return err;
}
