// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/internal.h"

#include <string.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/text.h"

#define COMPANIONS_MAX 16

struct list {
    CK_OBJECT_HANDLE objects[2 + 2 * COMPANIONS_MAX];
    CK_ULONG count;
};

static enum err find(struct token_session *session, const struct token_key *key,
                     CK_OBJECT_CLASS class, bool by_id, bool by_label, CK_OBJECT_HANDLE *objects,
                     CK_ULONG max, CK_ULONG *count, struct detail *detail)
{
    struct template match = {.count = 0};
    template_put(&match, CKA_CLASS, &class, sizeof class);
    template_put_flag(&match, CKA_TOKEN, true);
    if (by_id && key->id_len > 0)
        template_put(&match, CKA_ID, key->id, key->id_len);
    if ((by_label && *key->label) || key->id_len == 0)
        template_put(&match, CKA_LABEL, key->label, strlen(key->label));
    return object_find(session, match.items, match.count, objects, max, count, detail);
}

static enum err check_same(const struct token_key *key, EVP_PKEY *pkey, const char *what,
                           struct detail *detail)
{
    uint8_t *spki = NULL;
    size_t len = 0;
    enum err err = pkey ? public_encode(pkey, &spki, &len, detail) : ERR_OK;
    if (!err && (!pkey || !bytes_equal(bytes_of(spki, len), key->info.public_key)))
        err = err_set(detail, ERR_PERM, "%s is of another key; nothing was destroyed", what);
    mem_free(spki);
    return err;
}

// The private object, if it is still there; and no other key may share what it is found by.
static enum err list_private(struct token_session *session, const struct token_key *key,
                             struct list *list, struct detail *detail)
{
    CK_OBJECT_HANDLE sharing[2];
    CK_ULONG count = 0, all = 0;
    EVP_PKEY *pkey = NULL;
    CK_KEY_TYPE type = key_type_number(key->info.type);
    enum err err =
        find(session, key, CKO_PRIVATE_KEY, true, true, list->objects, 2, &count, detail);
    if (!err)
        err = find(session, key, CKO_PRIVATE_KEY, true, false, sharing, 2, &all, detail);
    if (!err && all == 0)
        err = object_check_login(session, detail);
    if (!err && (count > 1 || all > count))
        err =
            err_set(detail, ERR_PERM, "another private key has the same %s; nothing was destroyed",
                    key->id_len ? "CKA_ID" : "label");
    if (!err && count == 1) {
        err = public_read(session, list->objects[0], type, key, &pkey, detail);
        if (!err)
            err = check_same(key, pkey, "what is there now", detail);
        EVP_PKEY_free(pkey);
    }
    list->count = err ? 0 : count;
    return err;
}

static enum err list_companions(struct token_session *session, const struct token_key *key,
                                CK_OBJECT_CLASS class, struct list *list, struct detail *detail)
{
    CK_OBJECT_HANDLE *objects = list->objects + list->count;
    CK_KEY_TYPE type = key_type_number(key->info.type);
    bool is_certificate = class == CKO_CERTIFICATE;
    CK_ULONG count = 0;
    enum err err = find(session, key, class, true, false, objects, COMPANIONS_MAX, &count, detail);
    if (!err && count == COMPANIONS_MAX)
        err = err_set(detail, ERR_PERM, "too many objects go with it; nothing was destroyed");
    for (CK_ULONG i = 0; i < count && !err; i++) {
        EVP_PKEY *pkey = NULL;
        err = is_certificate ? public_of_certificate(session, objects[i], &pkey, detail)
                             : public_of_object(session, objects[i], type, &pkey, detail);
        if (!err)
            err = check_same(key, pkey, is_certificate ? "a certificate" : "a public key", detail);
        EVP_PKEY_free(pkey);
    }
    if (!err)
        list->count += count;
    return err;
}

struct job {
    const struct token_key *key;
    bool is_rest;   // the private object is gone already
    bool has_begun; // some objects are destroyed, perhaps all
};

static enum err destroy(struct token_session *session, void *arg, struct detail *detail)
{
    struct job *job = arg;
    const struct token_key *key = job->key;
    struct list list = {.count = 0};
    enum err err = list_private(session, key, &list, detail);
    if (!err && job->is_rest && !job->has_begun && list.count > 0)
        err = err_set(detail, ERR_PERM, "its private key is there; nothing was destroyed");
    if (!err)
        err = list_companions(session, key, CKO_PUBLIC_KEY, &list, detail);
    if (!err)
        err = list_companions(session, key, CKO_CERTIFICATE, &list, detail);
    if (!err && job->is_rest && !job->has_begun && list.count == 0)
        err = err_set(detail, ERR_PERM, "nothing of it is there");
    for (CK_ULONG i = 0; i < list.count && !err; i++) {
        CK_RV rv = session->token->fn->C_DestroyObject(session->handle, list.objects[i]);
        job->has_begun = true;
        if (rv != CKR_OK)
            err = session_fail(session, rv, "C_DestroyObject", detail);
    }
    if (!err)
        err = copy_end_all(session->token, session->deadline, detail); // nobody makes one any more
    if (err)
        return err;
    CK_OBJECT_HANDLE left;
    CK_ULONG count = 0;
    err = find(session, key, CKO_PRIVATE_KEY, true, true, &left, 1, &count, detail);
    if (!err && count > 0)
        err = err_set(detail, ERR_TEMP, "the token still has it");
    return err;
}

enum err token_key_destroy(struct token *token, struct token_key *key, deadline_t deadline,
                           struct detail *detail)
{
    char quoted[TEXT_QUOTED_SIZE];
    struct job job = {.key = key};
    if (key->token != token)
        return err_set(detail, ERR_BUG, "a key of another token");
    enum err err = admin_run(token, deadline, destroy, &job, detail);
    pthread_mutex_lock(&key->lock);
    key->is_found = false;
    pthread_mutex_unlock(&key->lock);
    return err ? err_prefix(detail, err, "key \"%s\"",
                            text_quote(key->label, strlen(key->label), quoted, sizeof quoted))
               : ERR_OK;
}

enum err token_key_destroy_rest(struct token *token, const char *label, struct bytes id,
                                struct bytes public_key, deadline_t deadline, struct detail *detail)
{
    struct token_key *key = NULL;
    const uint8_t *at = public_key.data;
    EVP_PKEY *pkey = d2i_PUBKEY(NULL, &at, (long)public_key.len);
    enum err err = pkey ? key_new(token, label, id.len, &key, detail)
                        : err_openssl(detail, ERR_PERM, "its public key cannot be read");
    if (!err) {
        struct job job = {.key = key, .is_rest = true};
        key->info.type = EVP_PKEY_is_a(pkey, "RSA")  ? TOKEN_KEY_RSA
                         : EVP_PKEY_is_a(pkey, "EC") ? TOKEN_KEY_EC
                                                     : TOKEN_KEY_ED25519;
        key->info.public_key = public_key;
        key->id_len = id.len;
        if (id.len)
            memcpy(key->id, id.data, id.len);
        err = admin_run(token, deadline, destroy, &job, detail);
    }
    token_key_close(key);
    EVP_PKEY_free(pkey);
    return err;
}
