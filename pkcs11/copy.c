// SPDX-License-Identifier: Apache-2.0
// Copies of keys as session objects (C_CopyObject with CKA_TOKEN false). Some tokens work faster
// with them: SoftHSM looks at the file of a token object whenever it reads one of its attributes.
//
// They belong to a session of their own, which no request uses and so no request's failure closes.
// Closing it destroys them all, and a token in the middle of reading one could sign with half a
// key: like every session it is closed only after the calls under way. Whatever goes wrong here,
// the key's own object is used instead, and shows what is wrong with the token if something is.
#include "pkcs11/internal.h"

// How long a key may be used after others have destroyed its own object.
#define LOOK_EVERY_MS 1000
// Until the next try to copy one that the token would not copy.
#define REFUSED_MS 60000

static struct token_session *holder_of(struct token *token)
{
    return &token->sessions[token->session_count + 1];
}

void token_key_keep(struct token_key *key)
{
    pthread_mutex_lock(&key->lock);
    key->copy.is_wanted = key->token->may_copy;
    pthread_mutex_unlock(&key->lock);
}

// Without waiting for one who restores the token.
static void open_holder(struct token *token)
{
    struct token_session *holder = holder_of(token);
    CK_SESSION_HANDLE handle;
    if (session_heal_begin(token, clock_ms(), NULL) != ERR_OK)
        return;
    pthread_mutex_lock(&token->lock);
    bool is_usable = !token->is_lost && !token->is_locked;
    uint64_t generation = token->generation.sessions;
    pthread_mutex_unlock(&token->lock);
    if (is_usable &&
        token->fn->C_OpenSession(token->slot, CKF_SERIAL_SESSION, NULL, NULL, &handle) == CKR_OK) {
        holder->handle = handle;
        holder->generation = generation;
        holder->is_open = true;
    }
    session_heal_end(token);
}

static void put_holder(struct token *token)
{
    pthread_mutex_lock(&token->lock);
    holder_of(token)->is_out = false;
    pthread_mutex_unlock(&token->lock);
}

// The holder, entered, for one thread. False: another one has it, or there is no session for it.
static bool take_holder(struct token *token)
{
    struct token_session *holder = holder_of(token);
    pthread_mutex_lock(&token->lock);
    bool is_taken = holder->is_out;
    bool is_open = holder->is_open && holder->generation == token->generation.sessions;
    holder->is_out = true;
    pthread_mutex_unlock(&token->lock);
    if (is_taken)
        return false;
    if (!is_open)
        open_holder(token);
    if (session_enter(holder, NULL) == ERR_OK)
        return true;
    put_holder(token);
    return false;
}

// Is it what was asked for, and as well kept as the key?
static CK_RV inspect(struct token_session *holder, CK_OBJECT_HANDLE handle)
{
    CK_BBOOL is_token = CK_TRUE, is_sensitive = CK_FALSE, is_extractable = CK_TRUE;
    CK_ATTRIBUTE flags[] = {{CKA_TOKEN, &is_token, sizeof is_token},
                            {CKA_SENSITIVE, &is_sensitive, sizeof is_sensitive},
                            {CKA_EXTRACTABLE, &is_extractable, sizeof is_extractable}};
    CK_RV rv = holder->token->fn->C_GetAttributeValue(holder->handle, handle, flags, 3);
    return rv == CKR_OK && (is_token || !is_sensitive || is_extractable) ? CKR_ACTION_PROHIBITED
                                                                         : rv;
}

static CK_RV make(struct token_session *holder, CK_OBJECT_HANDLE original, CK_OBJECT_HANDLE *handle)
{
    CK_FUNCTION_LIST *fn = holder->token->fn;
    struct template wish = {.count = 0};
    template_put_flag(&wish, CKA_TOKEN, false);
    CK_RV rv = fn->C_CopyObject(holder->handle, original, wish.items, wish.count, handle);
    if (rv != CKR_OK)
        return rv;
    rv = inspect(holder, *handle);
    if (rv != CKR_OK)
        fn->C_DestroyObject(holder->handle, *handle);
    return rv;
}

// For the one who has set is_in_work. former: a copy that is not needed any more, or none. Returns
// the handle to be used.
static CK_OBJECT_HANDLE renew(struct token_key *key, uint64_t generation, CK_OBJECT_HANDLE original,
                              CK_OBJECT_HANDLE former)
{
    struct token *token = key->token;
    struct token_session *holder = holder_of(token);
    CK_OBJECT_HANDLE handle = CK_INVALID_HANDLE;
    CK_RV rv = CKR_SESSION_CLOSED;
    // Twice: the holder may have ended without anybody noticing.
    for (int attempt = 0; attempt < 2 && rv_is_session_gone(rv) && take_holder(token); attempt++) {
        if (former != CK_INVALID_HANDLE)
            token->fn->C_DestroyObject(holder->handle, former);
        rv = make(holder, original, &handle);
        if (rv_is_session_gone(rv))
            holder->is_open = false;
        session_leave(holder);
        put_holder(token);
    }
    pthread_mutex_lock(&key->lock);
    struct key_copy *copy = &key->copy;
    copy->is_in_work = false;
    copy->is_made = rv == CKR_OK;
    copy->original = original;
    copy->handle = rv == CKR_OK ? handle : CK_INVALID_HANDLE;
    copy->generation = generation;
    copy->is_doubtful = false;
    // What befell the token as a whole, the login or the session is no answer of it.
    bool is_refused = (rv_damage(rv) == DAMAGE_NONE || rv_damage(rv) == DAMAGE_SESSION) &&
                      rv != CKR_OK && !rv_is_session_gone(rv);
    copy->next_look = deadline_in(is_refused ? REFUSED_MS : LOOK_EVERY_MS);
    pthread_mutex_unlock(&key->lock);
    return rv == CKR_OK ? handle : original;
}

// Is the key still in the token, and its copy in the holder's session? *handle becomes that of the
// copy if it is.
static enum err look(struct token_session *session, struct token_key *key, bool is_doubtful,
                     CK_OBJECT_HANDLE copy, CK_OBJECT_HANDLE *handle, struct detail *detail)
{
    CK_OBJECT_CLASS class;
    CK_ATTRIBUTE attribute = {CKA_CLASS, &class, sizeof class};
    enum err err = object_ulong(session, *handle, CKA_CLASS, &class, detail);
    if (err)
        return err;
    if (is_doubtful &&
        session->token->fn->C_GetAttributeValue(session->handle, copy, &attribute, 1) != CKR_OK) {
        pthread_mutex_lock(&key->lock);
        if (key->copy.handle == copy)
            key->copy.is_made = false;
        pthread_mutex_unlock(&key->lock);
        return ERR_OK;
    }
    *handle = copy;
    return ERR_OK;
}

enum err copy_use(struct token_session *session, struct token_key *key, uint64_t generation,
                  CK_OBJECT_HANDLE *handle, struct detail *detail)
{
    struct key_copy *copy = &key->copy;
    pthread_mutex_lock(&key->lock);
    bool is_of_now = copy->generation == generation && copy->original == *handle;
    bool is_time = !is_of_now || deadline_is_past(copy->next_look);
    bool is_made = is_of_now && copy->is_made, is_doubtful = copy->is_doubtful;
    bool is_to_make = copy->is_wanted && !is_made && !copy->is_in_work && is_time;
    bool is_to_look = is_made && (is_doubtful || is_time);
    bool has_former = copy->is_made && copy->generation == generation;
    CK_OBJECT_HANDLE made = copy->handle;
    copy->is_in_work = copy->is_in_work || is_to_make;
    if (is_to_look) { // one is enough
        copy->is_doubtful = false;
        copy->next_look = deadline_in(LOOK_EVERY_MS);
    }
    pthread_mutex_unlock(&key->lock);
    if (is_to_make)
        *handle = renew(key, generation, *handle, has_former ? made : CK_INVALID_HANDLE);
    if (is_to_look)
        return look(session, key, is_doubtful, made, handle, detail);
    if (is_made)
        *handle = made;
    return ERR_OK;
}
