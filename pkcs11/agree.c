// SPDX-License-Identifier: Apache-2.0
// ECDH, without the token's key derivation: the shared secret is derived as a session object that
// may be read, read, and destroyed. The curves we know have the cofactor 1, so plain and cofactor
// ECDH are the same and whichever the token offers serves both.
#include "pkcs11/internal.h"

#include <string.h>

struct job {
    struct bytes peer;
    struct secret *z;
};

static enum err read_and_destroy(struct token_session *session, CK_OBJECT_HANDLE object,
                                 size_t size, struct secret *z, struct detail *detail)
{
    CK_FUNCTION_LIST *fn = session->token->fn;
    CK_ATTRIBUTE value = {CKA_VALUE, z->data, z->room};
    CK_RV rv = fn->C_GetAttributeValue(session->handle, object, &value, 1);
    if (fn->C_DestroyObject(session->handle, object) != CKR_OK)
        session_drop(session); // and the secret goes with it
    if (rv != CKR_OK) {
        (void)session_fail(session, rv, "C_GetAttributeValue", detail);
        return ERR_TEMP;
    }
    if (value.ulValueLen > size)
        return err_set(detail, ERR_TEMP, "token %s: a shared secret of %lu bytes",
                       session->token->name, value.ulValueLen);
    ct_shift_right(z->data, size, size - value.ulValueLen); // some drop the zeros in front
    z->len = size;
    return ERR_OK;
}

size_t point_wrap(struct bytes peer, uint8_t out[POINT_DER_MAX])
{
    size_t at = 0;
    out[at++] = 0x04; // OCTET STRING
    if (peer.len >= 0x80)
        out[at++] = 0x81;
    out[at++] = (uint8_t)peer.len;
    memcpy(out + at, peer.data, peer.len);
    return at + peer.len;
}

static CK_RV derive(struct token_session *session, const struct token_key *key,
                    CK_OBJECT_HANDLE handle, struct bytes peer, bool as_der,
                    CK_OBJECT_HANDLE *object)
{
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_KEY_TYPE type = CKK_GENERIC_SECRET;
    CK_ULONG len = key->size;
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof class},   {CKA_KEY_TYPE, &type, sizeof type},
        {CKA_TOKEN, &no, sizeof no},         {CKA_SENSITIVE, &no, sizeof no},
        {CKA_EXTRACTABLE, &yes, sizeof yes}, {CKA_VALUE_LEN, &len, sizeof len},
    };
    uint8_t wrapped[POINT_DER_MAX];
    if (as_der)
        peer = bytes_of(wrapped, point_wrap(peer, wrapped));
    CK_ECDH1_DERIVE_PARAMS params = {
        .kdf = CKD_NULL,
        .ulPublicDataLen = peer.len,
        .pPublicData = (CK_BYTE *)peer.data,
    };
    CK_MECHANISM mechanism = {key->token->can.ecdh ? CKM_ECDH1_DERIVE : CKM_ECDH1_COFACTOR_DERIVE,
                              &params, sizeof params};
    return session->token->fn->C_DeriveKey(session->handle, &mechanism, handle, template,
                                           sizeof template / sizeof *template, object);
}

// Might the token want the point in the other form? The point itself is known to be good.
static bool is_form_in_doubt(CK_RV rv)
{
    return rv == CKR_MECHANISM_PARAM_INVALID || rv == CKR_ARGUMENTS_BAD ||
           rv == CKR_DATA_LEN_RANGE || rv == CKR_DATA_INVALID || rv == CKR_GENERAL_ERROR ||
           rv == CKR_FUNCTION_FAILED || rv == CKR_DOMAIN_PARAMS_INVALID;
}

static enum err agree(struct token_session *session, struct token_key *key, CK_OBJECT_HANDLE handle,
                      void *arg, struct detail *detail)
{
    struct job *job = arg;
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    enum point_form form = key->point_form;
    bool as_der = form == POINT_DER;
    CK_RV rv = derive(session, key, handle, job->peer, as_der, &object);
    if (form == POINT_UNKNOWN && is_form_in_doubt(rv)) {
        CK_RV other = derive(session, key, handle, job->peer, true, &object);
        as_der = other == CKR_OK;
        rv = as_der ? other : rv;
    }
    if (rv != CKR_OK)
        return session_fail(session, rv, "C_DeriveKey", detail);
    key->point_form = as_der ? POINT_DER : POINT_RAW;
    return read_and_destroy(session, object, key->size, job->z, detail);
}

static enum err check_point(const struct token_key *key, struct bytes peer, struct detail *detail)
{
    enum err err = ERR_OK;
    if (peer.len != 1 + 2 * key->size || peer.data[0] != POINT_CONVERSION_UNCOMPRESSED)
        return err_set(detail, ERR_PERM, "not an uncompressed point of %s", key->info.curve);
    BN_CTX *ctx = BN_CTX_new();
    EC_POINT *point = EC_POINT_new(key->group);
    if (!ctx || !point)
        err = err_openssl(detail, ERR_TEMP, "out of memory");
    else if (EC_POINT_oct2point(key->group, point, peer.data, peer.len, ctx) != 1)
        err = err_openssl(detail, ERR_PERM, "not a point of %s", key->info.curve);
    EC_POINT_free(point);
    BN_CTX_free(ctx);
    return err;
}

enum err token_agree(struct token_session *session, struct token_key *key, struct bytes peer,
                     bool cofactor, struct secret *z, struct detail *detail)
{
    (void)cofactor; // see above
    if (key->info.type != TOKEN_KEY_EC || !key->info.can_derive)
        return err_set(detail, ERR_PERM, "the key is not for key agreement");
    if (!key->token->info.ecdh)
        return err_set(detail, ERR_PERM, "the token cannot do ECDH");
    if (z->room < key->size)
        return err_set(detail, ERR_BUG, "no room for the shared secret");
    enum err err = check_point(key, peer, detail);
    if (err)
        return err;
    secret_wipe(z);
    struct job job = {peer, z};
    err = key_run(session, key, agree, &job, detail);
    if (err)
        secret_wipe(z);
    return err;
}
