// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/internal.h"

#include <assert.h>

// Larger than any modulus, point or certificate we can use.
#define ATTRIBUTE_MAX 16384

enum err object_find(struct token_session *session, CK_ATTRIBUTE *match, CK_ULONG match_count,
                     CK_OBJECT_HANDLE *objects, CK_ULONG max, CK_ULONG *count,
                     struct detail *detail)
{
    CK_FUNCTION_LIST *fn = session->token->fn;
    CK_RV rv = fn->C_FindObjectsInit(session->handle, match, match_count);
    if (rv != CKR_OK)
        return session_fail(session, rv, "C_FindObjectsInit", detail);
    CK_ULONG found = 0, more = 0;
    do { // a token may give them one by one
        more = 0;
        rv = fn->C_FindObjects(session->handle, objects + found, max - found, &more);
        found += more;
    } while (rv == CKR_OK && more > 0 && found < max);
    CK_RV final = fn->C_FindObjectsFinal(session->handle);
    if (rv != CKR_OK)
        return session_fail_midway(session, rv, "C_FindObjects", detail);
    if (final != CKR_OK)
        return session_fail_midway(session, final, "C_FindObjectsFinal", detail);
    *count = found;
    return ERR_OK;
}

static bool is_absent(CK_RV rv, const CK_ATTRIBUTE *attribute)
{
    return rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_ATTRIBUTE_SENSITIVE ||
           (rv == CKR_OK && attribute->ulValueLen == CK_UNAVAILABLE_INFORMATION);
}

enum err object_bytes(struct token_session *session, CK_OBJECT_HANDLE object,
                      CK_ATTRIBUTE_TYPE type, struct buf *out, struct detail *detail)
{
    CK_FUNCTION_LIST *fn = session->token->fn;
    CK_ATTRIBUTE attribute = {type, NULL, 0};
    CK_RV rv = fn->C_GetAttributeValue(session->handle, object, &attribute, 1);
    if (is_absent(rv, &attribute))
        return ERR_OK;
    if (rv != CKR_OK)
        return session_fail(session, rv, "C_GetAttributeValue", detail);
    if (attribute.ulValueLen > ATTRIBUTE_MAX)
        return err_set(detail, ERR_PERM, "token %s: an attribute of %lu bytes",
                       session->token->name, attribute.ulValueLen);
    uint8_t *place = NULL;
    enum err err = buf_reserve(out, attribute.ulValueLen, &place);
    if (err)
        return err_set(detail, err, "token %s: no room for an attribute", session->token->name);
    size_t reserved = attribute.ulValueLen;
    attribute.pValue = place;
    rv = fn->C_GetAttributeValue(session->handle, object, &attribute, 1);
    if (rv != CKR_OK || attribute.ulValueLen > reserved) {
        out->len -= reserved;
        return session_fail(session, rv == CKR_OK ? CKR_BUFFER_TOO_SMALL : rv,
                            "C_GetAttributeValue", detail);
    }
    out->len -= reserved - attribute.ulValueLen;
    return ERR_OK;
}

enum err object_bool(struct token_session *session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type,
                     bool if_absent, bool *value, struct detail *detail)
{
    CK_BBOOL got = CK_FALSE;
    CK_ATTRIBUTE attribute = {type, &got, sizeof got};
    CK_RV rv = session->token->fn->C_GetAttributeValue(session->handle, object, &attribute, 1);
    if (is_absent(rv, &attribute)) {
        *value = if_absent;
        return ERR_OK;
    }
    if (rv != CKR_OK)
        return session_fail(session, rv, "C_GetAttributeValue", detail);
    *value = got != CK_FALSE;
    return ERR_OK;
}

enum err object_ulong(struct token_session *session, CK_OBJECT_HANDLE object,
                      CK_ATTRIBUTE_TYPE type, CK_ULONG *value, struct detail *detail)
{
    CK_ULONG got = 0;
    CK_ATTRIBUTE attribute = {type, &got, sizeof got};
    CK_RV rv = session->token->fn->C_GetAttributeValue(session->handle, object, &attribute, 1);
    if (rv != CKR_OK)
        return session_fail(session, rv, "C_GetAttributeValue", detail);
    *value = got;
    return ERR_OK;
}

enum err object_check_login(struct token_session *session, struct detail *detail)
{
    if (session_is_logged_out(session))
        return session_fail(session, CKR_USER_NOT_LOGGED_IN, "C_FindObjects", detail);
    return ERR_OK;
}

void template_put(struct template *template, CK_ATTRIBUTE_TYPE type, const void *value, size_t size)
{
    assert(template->count < TEMPLATE_MAX);
    template->items[template->count++] = (CK_ATTRIBUTE){type, (void *)value, size};
}

void template_put_flag(struct template *template, CK_ATTRIBUTE_TYPE type, bool value)
{
    static const CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    template_put(template, type, value ? &yes : &no, sizeof yes);
}
