// SPDX-License-Identifier: Apache-2.0
// Copies of keys as session objects (C_CopyObject with CKA_TOKEN false). Some tokens work faster
// with them: SoftHSM looks at the file of a token object whenever it reads one of its attributes.
//
// They belong to a session of their own, the holder, which no request uses and so no request's
// failure closes. It closes with the others, and when a key is destroyed; a login that ends ends
// its copies as well. A token in the middle of reading one could then sign with half a key, or find
// another object under its number. So the generation of copies is raised first, and what was done
// in an older one is thrown away (key_run). After a failure the key's own object is used, which
// shows what is wrong if something is.
#include "pkcs11/internal.h"

#include <errno.h>

// How long a key may be used after others have destroyed its own object; and for how long a copy is
// not used after a failure.
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

// With the lock held.
static bool is_current(const struct token *token, const struct token_session *holder)
{
    return holder->is_open && holder->generation == token->generation.sessions &&
           token->copies_of == token->generation.objects;
}

// One thread at a time. False: another one has it.
static bool take_holder(struct token *token)
{
    pthread_mutex_lock(&token->lock);
    bool is_mine = !holder_of(token)->is_out;
    holder_of(token)->is_out = true;
    pthread_mutex_unlock(&token->lock);
    return is_mine;
}

static void put_holder(struct token *token)
{
    pthread_mutex_lock(&token->lock);
    holder_of(token)->is_out = false;
    pthread_cond_broadcast(&token->changed);
    pthread_mutex_unlock(&token->lock);
}

// For the one who has the holder. No copy is good any more; closing it destroys them.
static void give_up(struct token *token, bool is_to_close)
{
    struct token_session *holder = holder_of(token);
    pthread_mutex_lock(&token->lock);
    is_to_close =
        is_to_close && holder->is_open && holder->generation == token->generation.sessions;
    if (holder->is_open)
        token->generation.copies++;
    holder->is_open = false;
    pthread_mutex_unlock(&token->lock);
    if (is_to_close)
        token->fn->C_CloseSession(holder->handle);
}

// For the one who has the holder, and the right to restore. A login made anew has ended the copies,
// but perhaps not the session.
static void open_holder(struct token *token)
{
    struct token_session *holder = holder_of(token);
    CK_SESSION_HANDLE handle = holder->handle;
    CK_SESSION_INFO info;
    pthread_mutex_lock(&token->lock);
    bool is_usable = !token->is_lost && !token->is_locked;
    bool is_open = holder->is_open && holder->generation == token->generation.sessions;
    uint64_t sessions = token->generation.sessions;
    token->copies_of = token->generation.objects;
    pthread_mutex_unlock(&token->lock);
    if (!is_usable || (is_open && token->fn->C_GetSessionInfo(handle, &info) == CKR_OK))
        return;
    holder->is_open = false;
    if (token->fn->C_OpenSession(token->slot, CKF_SERIAL_SESSION, NULL, NULL, &handle) != CKR_OK)
        return;
    holder->handle = handle;
    holder->generation = sessions;
    holder->is_open = true;
}

void copy_prepare(struct token_session *session, struct token_key *key)
{
    struct token *token = session->token;
    struct token_session *holder = holder_of(token);
    pthread_mutex_lock(&key->lock);
    bool is_wanted = key->copy.is_wanted;
    pthread_mutex_unlock(&key->lock);
    pthread_mutex_lock(&token->lock);
    bool is_to_open =
        is_wanted && !is_current(token, holder) && deadline_is_past(token->next_holder);
    pthread_mutex_unlock(&token->lock);
    if (!is_to_open || !take_holder(token))
        return;
    // Without waiting for one who restores the token.
    if (session_heal_begin(token, clock_ms(), NULL) == ERR_OK) {
        open_holder(token);
        session_heal_end(token);
    }
    pthread_mutex_lock(&token->lock);
    if (!is_current(token, holder))
        token->next_holder = deadline_in(LOOK_EVERY_MS);
    pthread_mutex_unlock(&token->lock);
    put_holder(token);
}

enum err copy_end_all(struct token *token, deadline_t deadline, struct detail *detail)
{
    struct timespec until = deadline_timespec(deadline);
    struct token_session *holder = holder_of(token);
    int failed = 0;
    pthread_mutex_lock(&token->lock);
    while (holder->is_out && !failed)
        failed = pthread_cond_timedwait(&token->changed, &token->lock, &until);
    bool is_mine = !holder->is_out;
    holder->is_out = true;
    pthread_mutex_unlock(&token->lock);
    if (!is_mine)
        return err_set(detail, ERR_TEMP, "token %s: a copy of a key is being made", token->name);
    give_up(token, true);
    put_holder(token);
    return ERR_OK;
}

// Is it what was asked for, as well kept as the key, and for the same?
static CK_RV inspect(struct token_session *holder, const struct token_key *key,
                     CK_OBJECT_HANDLE handle)
{
    const struct {
        CK_ATTRIBUTE_TYPE type;
        bool wanted;
    } flags[] = {
        {CKA_TOKEN, false},
        {CKA_PRIVATE, true},
        {CKA_SENSITIVE, true},
        {CKA_EXTRACTABLE, false},
        {CKA_SIGN, key->info.can_sign},
        {CKA_DECRYPT, key->info.can_decrypt},
        {CKA_DERIVE, key->info.can_derive},
    };
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        CK_BBOOL value = !flags[i].wanted;
        CK_ATTRIBUTE attribute = {flags[i].type, &value, sizeof value};
        CK_RV rv = holder->token->fn->C_GetAttributeValue(holder->handle, handle, &attribute, 1);
        if (rv != CKR_OK)
            return rv;
        if (!value != !flags[i].wanted)
            return CKR_ACTION_PROHIBITED;
    }
    return CKR_OK;
}

static CK_RV make(struct token_session *holder, const struct token_key *key,
                  CK_OBJECT_HANDLE original, CK_OBJECT_HANDLE *handle)
{
    CK_FUNCTION_LIST *fn = holder->token->fn;
    struct template wish = {.count = 0};
    template_put_flag(&wish, CKA_TOKEN, false);
    CK_RV rv = fn->C_CopyObject(holder->handle, original, wish.items, wish.count, handle);
    if (rv != CKR_OK)
        return rv;
    rv = inspect(holder, key, *handle);
    if (rv != CKR_OK)
        fn->C_DestroyObject(holder->handle, *handle);
    return rv;
}

// For the one who has set is_in_work. Returns the handle to be used.
static CK_OBJECT_HANDLE renew(struct token_key *key, CK_OBJECT_HANDLE original)
{
    struct token *token = key->token;
    struct token_session *holder = holder_of(token);
    CK_OBJECT_HANDLE handle = CK_INVALID_HANDLE;
    CK_RV rv = CKR_SESSION_CLOSED;
    uint64_t generation = token_generation(token).copies;
    if (take_holder(token)) {
        pthread_mutex_lock(&token->lock);
        bool is_usable = is_current(token, holder);
        generation = token->generation.copies;
        pthread_mutex_unlock(&token->lock);
        if (is_usable && session_enter(holder, NULL) == ERR_OK) {
            rv = make(holder, key, original, &handle);
            session_leave(holder);
            if (rv_is_session_gone(rv)) // it has ended without anybody noticing
                give_up(token, false);
        }
        put_holder(token);
    }
    pthread_mutex_lock(&key->lock);
    struct key_copy *copy = &key->copy;
    copy->is_in_work = copy->is_doubtful = false;
    copy->is_made = rv == CKR_OK;
    copy->original = original;
    copy->handle = handle;
    copy->generation = generation;
    // What befell the token as a whole, the login or the session is no answer of it.
    bool is_refused = (rv_damage(rv) == DAMAGE_NONE || rv_damage(rv) == DAMAGE_SESSION) &&
                      rv != CKR_OK && !rv_is_session_gone(rv);
    copy->next_look = deadline_in(is_refused ? REFUSED_MS : LOOK_EVERY_MS);
    pthread_mutex_unlock(&key->lock);
    return rv == CKR_OK ? handle : original;
}

// Is the key still in the token, and, if there is a doubt, its copy? *handle becomes that of the
// copy if it is.
static enum err look(struct token_session *session, struct token_key *key, bool is_doubtful,
                     CK_OBJECT_HANDLE made, CK_OBJECT_HANDLE *handle, struct detail *detail)
{
    CK_OBJECT_CLASS class;
    CK_ATTRIBUTE attribute = {CKA_CLASS, &class, sizeof class};
    enum err err = object_ulong(session, *handle, CKA_CLASS, &class, detail);
    if (err)
        return err;
    bool is_gone = is_doubtful && session->token->fn->C_GetAttributeValue(session->handle, made,
                                                                          &attribute, 1) != CKR_OK;
    pthread_mutex_lock(&key->lock);
    if (key->copy.handle == made) {
        key->copy.is_doubtful = false;
        key->copy.is_made = !is_gone;
        if (is_gone)
            key->copy.next_look = 0; // a new one, at the next use
    }
    pthread_mutex_unlock(&key->lock);
    if (!is_gone)
        *handle = made;
    return ERR_OK;
}

enum err copy_use(struct token_session *session, struct token_key *key, CK_OBJECT_HANDLE *handle,
                  struct detail *detail)
{
    struct key_copy *copy = &key->copy;
    uint64_t generation = token_generation(key->token).copies;
    pthread_mutex_lock(&key->lock);
    bool is_of_now = copy->generation == generation && copy->original == *handle;
    bool is_time = !is_of_now || deadline_is_past(copy->next_look);
    bool is_made = is_of_now && copy->is_made, is_doubtful = copy->is_doubtful;
    bool is_to_make = copy->is_wanted && !is_made && !copy->is_in_work && is_time;
    bool is_to_look = is_made && is_time;
    CK_OBJECT_HANDLE made = copy->handle;
    copy->is_in_work = copy->is_in_work || is_to_make;
    if (is_to_look) // one is enough
        copy->next_look = deadline_in(LOOK_EVERY_MS);
    pthread_mutex_unlock(&key->lock);
    if (is_to_make)
        *handle = renew(key, *handle);
    if (is_to_look)
        return look(session, key, is_doubtful, made, handle, detail);
    if (is_made && !is_doubtful)
        *handle = made;
    return ERR_OK;
}

void copy_doubt(struct token_key *key)
{
    pthread_mutex_lock(&key->lock);
    if (key->copy.is_made && !key->copy.is_doubtful) {
        key->copy.is_doubtful = true;
        key->copy.next_look = deadline_in(LOOK_EVERY_MS);
    }
    pthread_mutex_unlock(&key->lock);
}
