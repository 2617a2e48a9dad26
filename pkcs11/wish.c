// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/internal.h"

#include <string.h>

#include <openssl/evp.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/text.h"

#define COMPANIONS_MAX 8

enum err wish_check(const struct token_key_wish *wish, enum token_key_type type,
                    struct detail *detail)
{
    size_t len = strlen(wish->label);
    static const struct {
        const char *name;
        unsigned possible;
    } types[] = {
        [TOKEN_KEY_RSA] = {"an RSA", TOKEN_USE_SIGN | TOKEN_USE_DECRYPT},
        [TOKEN_KEY_EC] = {"an elliptic-curve", TOKEN_USE_SIGN | TOKEN_USE_DERIVE},
        [TOKEN_KEY_ED25519] = {"an Ed25519", TOKEN_USE_SIGN},
    };
    if (len < 1 || len > TOKEN_LABEL_MAX)
        return err_set(detail, ERR_PERM, "a label has 1 to %d bytes", TOKEN_LABEL_MAX);
    if (wish->id.len < 1 || wish->id.len > TOKEN_ID_MAX)
        return err_set(detail, ERR_PERM, "a CKA_ID has 1 to %d bytes", TOKEN_ID_MAX);
    if (!wish->usage || (wish->usage & ~types[type].possible))
        return err_set(detail, ERR_PERM, "%s key %s", types[type].name,
                       wish->usage ? "cannot be used so" : "with no usage");
    return ERR_OK;
}

static enum err find(struct token_session *session, CK_OBJECT_CLASS class,
                     const struct token_key_wish *wish, bool by_label, CK_OBJECT_HANDLE *objects,
                     CK_ULONG max, CK_ULONG *count, struct detail *detail)
{
    struct template match = {.count = 0};
    template_put(&match, CKA_CLASS, &class, sizeof class);
    template_put_flag(&match, CKA_TOKEN, true);
    template_put(&match, CKA_ID, wish->id.data, wish->id.len);
    if (by_label)
        template_put(&match, CKA_LABEL, wish->label, strlen(wish->label));
    return object_find(session, match.items, match.count, objects, max, count, detail);
}

enum err wish_check_free(struct token_session *session, const struct token_key_wish *wish,
                         struct detail *detail)
{
    static const CK_OBJECT_CLASS classes[] = {CKO_PRIVATE_KEY, CKO_PUBLIC_KEY};
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        CK_OBJECT_HANDLE object;
        CK_ULONG count = 0;
        enum err err = find(session, classes[i], wish, false, &object, 1, &count, detail);
        if (!err && count > 0)
            err = err_set(detail, ERR_PERM, "token %s: it has a key with this CKA_ID already",
                          session->token->name);
        if (!err && i == 0)
            err = object_check_login(session, detail);
        if (err)
            return err;
    }
    return ERR_OK;
}

static enum err find_by(struct token_session *session, CK_OBJECT_CLASS class,
                        CK_ATTRIBUTE_TYPE type, struct bytes value, CK_OBJECT_HANDLE *objects,
                        CK_ULONG max, CK_ULONG *count, struct detail *detail)
{
    struct template match = {.count = 0};
    template_put(&match, CKA_CLASS, &class, sizeof class);
    template_put(&match, type, value.data, value.len);
    return object_find(session, match.items, match.count, objects, max, count, detail);
}

static enum err is_of_key(struct token_session *session, CK_OBJECT_HANDLE object,
                          enum token_key_type type, struct bytes spki, bool *is_same,
                          struct detail *detail)
{
    EVP_PKEY *pkey = NULL;
    uint8_t *shown = NULL;
    size_t len = 0;
    enum err err = public_of_object(session, object, key_type_number(type), &pkey, detail);
    if (!err && pkey)
        err = public_encode(pkey, &shown, &len, detail);
    *is_same = !err && pkey && bytes_equal(bytes_of(shown, len), spki);
    EVP_PKEY_free(pkey);
    mem_free(shown);
    return err;
}

static enum err sweep(struct token_session *session, CK_OBJECT_HANDLE object,
                      enum token_key_type type, struct bytes spki, unsigned *swept,
                      struct detail *detail)
{
    struct buf id;
    bool is_same = false;
    CK_OBJECT_HANDLE owner;
    CK_ULONG owners = 1;
    buf_init(&id, TOKEN_ID_MAX);
    enum err err = is_of_key(session, object, type, spki, &is_same, detail);
    if (!err && is_same)
        err = object_bytes(session, object, CKA_ID, &id, detail);
    if (!err && id.len)
        err = find_by(session, CKO_PRIVATE_KEY, CKA_ID, buf_bytes(&id), &owner, 1, &owners, detail);
    buf_clear(&id);
    if (!err && !owners)
        err = object_check_login(session, detail);
    if (err || owners)
        return err;
    CK_RV rv = session->token->fn->C_DestroyObject(session->handle, object);
    *swept += rv == CKR_OK;
    return rv == CKR_OK ? ERR_OK : session_fail(session, rv, "C_DestroyObject", detail);
}

enum err wish_sweep(struct token_session *session, const struct token_key_wish *wish,
                    enum token_key_type type, struct bytes spki, unsigned *swept,
                    struct detail *detail)
{
    CK_OBJECT_HANDLE objects[COMPANIONS_MAX], owner;
    CK_ULONG count = 0, owners = 0;
    struct bytes label = bytes_of_text(wish->label);
    enum err err = find_by(session, CKO_PRIVATE_KEY, CKA_LABEL, label, &owner, 1, &owners, detail);
    if (!err && !owners)
        err = find_by(session, CKO_PUBLIC_KEY, CKA_LABEL, label, objects, COMPANIONS_MAX, &count,
                      detail);
    for (CK_ULONG i = 0; i < count && !err; i++) {
        err = sweep(session, objects[i], type, spki, swept, detail);
        if (err == ERR_PERM) // none that we can read, or destroy
            err = ERR_OK;
    }
    return err;
}

void wish_put_private(struct template *template, const struct token_key_wish *wish,
                      enum token_key_type type, bool is_strict)
{
    const struct {
        CK_ATTRIBUTE_TYPE type;
        bool value, is_usual; // for this type of key
    } usages[] = {
        {CKA_SIGN, wish->usage & TOKEN_USE_SIGN, true},
        {CKA_DECRYPT, wish->usage & TOKEN_USE_DECRYPT, type == TOKEN_KEY_RSA},
        {CKA_DERIVE, wish->usage & TOKEN_USE_DERIVE, type == TOKEN_KEY_EC},
        {CKA_UNWRAP, false, type == TOKEN_KEY_RSA},
        {CKA_SIGN_RECOVER, false, false},
    };
    template_put_flag(template, CKA_TOKEN, true);
    template_put_flag(template, CKA_PRIVATE, true);
    template_put_flag(template, CKA_SENSITIVE, true);
    template_put_flag(template, CKA_EXTRACTABLE, false);
    template_put(template, CKA_LABEL, wish->label, strlen(wish->label));
    template_put(template, CKA_ID, wish->id.data, wish->id.len);
    for (size_t i = 0; i < sizeof usages / sizeof *usages; i++) {
        if (is_strict || usages[i].is_usual)
            template_put_flag(template, usages[i].type, usages[i].value);
    }
}

void wish_put_public(struct template *template, const struct token_key_wish *wish,
                     enum token_key_type type, bool with_usages)
{
    template_put_flag(template, CKA_TOKEN, true);
    template_put_flag(template, CKA_PRIVATE, false);
    template_put(template, CKA_LABEL, wish->label, strlen(wish->label));
    template_put(template, CKA_ID, wish->id.data, wish->id.len);
    if (!with_usages)
        return;
    template_put_flag(template, CKA_VERIFY, wish->usage & TOKEN_USE_SIGN);
    if (type == TOKEN_KEY_RSA) {
        template_put_flag(template, CKA_ENCRYPT, wish->usage & TOKEN_USE_DECRYPT);
        template_put_flag(template, CKA_WRAP, false);
    }
}

// Softokn's C_UnwrapKey makes an RSA key with every usage there is, whatever the template says, but
// lets them be taken away again. A usage more than was wished for is tried to be; none is added.
static enum err narrow_usage(struct token_session *session, CK_OBJECT_HANDLE object,
                             CK_ATTRIBUTE_TYPE type, bool wanted, bool *value,
                             struct detail *detail)
{
    CK_BBOOL no = CK_FALSE;
    CK_ATTRIBUTE attribute = {type, &no, sizeof no};
    if (wanted)
        return ERR_OK;
    CK_RV rv = session->token->fn->C_SetAttributeValue(session->handle, object, &attribute, 1);
    if (rv == CKR_OK) // what it says is not what counts, but what it has now
        return object_bool(session, object, type, true, value, detail);
    return rv_damage(rv) == DAMAGE_NONE ? ERR_OK
                                        : session_fail(session, rv, "C_SetAttributeValue", detail);
}

// The attributes as the token has them.
static enum err check_attributes(struct token_session *session, CK_OBJECT_HANDLE object,
                                 const struct token_key_wish *wish, bool is_generated,
                                 struct detail *detail)
{
    // What a token does not show counts as the worse value, but for usages that may not exist.
    const struct {
        CK_ATTRIBUTE_TYPE type;
        const char *name;
        bool wanted, if_absent, is_asked, is_usage;
    } rows[] = {
        {CKA_TOKEN, "CKA_TOKEN", true, false, true, false},
        {CKA_PRIVATE, "CKA_PRIVATE", true, false, true, false},
        {CKA_SENSITIVE, "CKA_SENSITIVE", true, false, true, false},
        {CKA_EXTRACTABLE, "CKA_EXTRACTABLE", false, true, true, false},
        {CKA_ALWAYS_SENSITIVE, "CKA_ALWAYS_SENSITIVE", true, false, is_generated, false},
        {CKA_NEVER_EXTRACTABLE, "CKA_NEVER_EXTRACTABLE", true, false, is_generated, false},
        {CKA_SIGN, "CKA_SIGN", wish->usage & TOKEN_USE_SIGN, false, true, true},
        {CKA_DECRYPT, "CKA_DECRYPT", wish->usage & TOKEN_USE_DECRYPT, false, true, true},
        {CKA_DERIVE, "CKA_DERIVE", wish->usage & TOKEN_USE_DERIVE, false, true, true},
        {CKA_UNWRAP, "CKA_UNWRAP", false, false, true, true},
        {CKA_SIGN_RECOVER, "CKA_SIGN_RECOVER", false, false, true, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool value = rows[i].wanted;
        enum err err = rows[i].is_asked ? object_bool(session, object, rows[i].type,
                                                      rows[i].if_absent, &value, detail)
                                        : ERR_OK;
        if (err)
            return err;
        if (value != rows[i].wanted && rows[i].is_usage) {
            err = narrow_usage(session, object, rows[i].type, rows[i].wanted, &value, detail);
            if (err)
                return err;
        }
        if (value != rows[i].wanted)
            return err_set(detail, ERR_PERM, "the token made the key with %s %s", rows[i].name,
                           value ? "true" : "false");
    }
    return ERR_OK;
}

enum err wish_verify(struct token_session *session, const struct token_key_wish *wish,
                     bool is_generated, struct bytes spki, struct detail *detail)
{
    CK_OBJECT_HANDLE objects[2];
    CK_ULONG count = 0;
    struct token_key *key = NULL;
    enum err err = find(session, CKO_PRIVATE_KEY, wish, true, objects, 2, &count, detail);
    if (!err && count != 1)
        err = err_set(detail, count ? ERR_PERM : ERR_TEMP, "the key that was made is there %s",
                      count ? "twice" : "no more");
    if (!err)
        err = check_attributes(session, objects[0], wish, is_generated, detail);
    if (!err)
        err = key_new(session->token, wish->label, wish->id.len, &key, detail);
    if (!err)
        err = key_read(session, key, wish->id, detail);
    if (!err && !key->info.is_pair_proved)
        err = err_set(detail, ERR_PERM, "the token cannot use the key that was made");
    if (!err && spki.len > 0 && !bytes_equal(spki, key->info.public_key))
        err = err_set(detail, ERR_PERM, "the token made another key of it");
    token_key_close(key);
    return err;
}

enum err wish_undo(struct token_session *session, void *wish, struct detail *detail)
{
    static const CK_OBJECT_CLASS classes[] = {CKO_PRIVATE_KEY, CKO_PUBLIC_KEY};
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        CK_OBJECT_HANDLE objects[COMPANIONS_MAX];
        CK_ULONG count = 0;
        enum err err =
            find(session, classes[i], wish, true, objects, COMPANIONS_MAX, &count, detail);
        if (!err && count == 0 && i == 0)
            err = object_check_login(session, detail);
        if (err)
            return err;
        for (CK_ULONG k = 0; k < count; k++) {
            CK_RV rv = session->token->fn->C_DestroyObject(session->handle, objects[k]);
            if (rv != CKR_OK)
                return session_fail(session, rv, "C_DestroyObject", detail);
        }
    }
    return ERR_OK;
}
