// SPDX-License-Identifier: Apache-2.0
// The pool of sessions, and how it heals.
//
// Nothing watches the token; damage is found by the call that meets it. session_fail notes what the
// return value says is lost, session_restore brings back what was noted, and key_run (key.c) tries
// once more. A token that was pulled out ends every session at once: the generation is raised, and
// sessions of an older one count as closed. They are closed for the module too, one by one, before
// any new one is opened (it may get the same number), and never while a call with one is under way,
// which SoftHSM does not survive. C_CloseAllSessions would hit others who use the token.
#include "pkcs11/internal.h"

#include <errno.h>
#include <string.h>
#include <time.h>

// How long calls into a token that is gone are waited for.
#define HANGING_CALL_MS 1000
// How long one who restores is waited for, deadlines or not: what takes longer hangs.
#define HEAL_PATIENCE_MS 2000

static bool is_current(struct token_session *session)
{
    return session->is_open && session->generation == session->token->generation.sessions;
}

struct generation token_generation(struct token *token)
{
    pthread_mutex_lock(&token->lock);
    struct generation generation = token->generation;
    pthread_mutex_unlock(&token->lock);
    return generation;
}

// Waits for token->changed, with the lock held. False: the deadline is past.
static bool wait_changed(struct token *token, deadline_t deadline)
{
    struct timespec until = deadline_timespec(deadline);
    return pthread_cond_timedwait(&token->changed, &token->lock, &until) != ETIMEDOUT;
}

void session_drop(struct token_session *session)
{
    struct token *token = session->token;
    pthread_mutex_lock(&token->lock);
    bool close = is_current(session);
    session->is_open = false;
    pthread_mutex_unlock(&token->lock);
    if (close)
        token->fn->C_CloseSession(session->handle);
}

enum err session_fail(struct token_session *session, CK_RV rv, const char *function,
                      struct detail *detail)
{
    struct token *token = session->token;
    enum damage damage = rv_damage(rv);
    struct detail why;
    enum err err = err_set(&why, damage == DAMAGE_NONE ? ERR_PERM : ERR_TEMP, "token %s: %s: %s",
                           token->name, function, rv_name(rv));
    pthread_mutex_lock(&token->lock);
    bool is_news = session->generation == token->generation.sessions; // not of an older token
    if (damage == DAMAGE_TOKEN && is_news) {
        breaker_note_lost(token, !token->is_lost);
        token->is_lost = true;
    }
    if (damage != DAMAGE_NONE)
        breaker_note_error(token, why.text);
    if (damage == DAMAGE_LOGIN && is_news)
        token->is_logged_in = false;
    if (rv_is_session_gone(rv))
        session->is_open = false;
    breaker_note_state(token);
    pthread_mutex_unlock(&token->lock);
    if (damage == DAMAGE_SESSION)
        session_drop(session);
    if (damage == DAMAGE_OBJECT)
        session->is_object_lost = true;
    if (detail)
        *detail = why;
    return err;
}

enum err session_fail_midway(struct token_session *session, CK_RV rv, const char *function,
                             struct detail *detail)
{
    if (rv_damage(rv) != DAMAGE_NONE && !rv_is_session_gone(rv))
        session_drop(session);
    return session_fail(session, rv, function, detail);
}

enum err session_enter(struct token_session *session, struct detail *detail)
{
    struct token *token = session->token;
    pthread_mutex_lock(&token->lock);
    bool is_usable = !token->is_lost && !token->is_locked && is_current(session);
    if (is_usable && session->calls++ == 0)
        session->call_began = clock_ms();
    pthread_mutex_unlock(&token->lock);
    return is_usable ? ERR_OK
                     : err_set(detail, ERR_TEMP, "token %s: its session ended", token->name);
}

void session_leave(struct token_session *session)
{
    struct token *token = session->token;
    pthread_mutex_lock(&token->lock);
    session->calls--;
    if (token->is_healing)
        pthread_cond_broadcast(&token->changed);
    pthread_mutex_unlock(&token->lock);
}

// Calls of an older generation were waited for before; they hang.
static bool is_any_in_call(struct token *token, const struct token_session *self)
{
    for (unsigned i = 0; i < token_all_sessions(token); i++) {
        struct token_session *session = &token->sessions[i];
        if (session->calls > 0 && session != self &&
            session->generation == token->generation.sessions)
            return true;
    }
    return false;
}

// New calls do not begin any more, since the token is lost or locked.
void session_close_all(struct token *token, const struct token_session *self,
                       session_speak_fn speak, void *arg)
{
    CK_SESSION_HANDLE old[TOKEN_SESSIONS_MAX + SESSIONS_BEHIND];
    unsigned count = 0;
    bool has_spoken = !speak;
    deadline_t limit = deadline_in(HANGING_CALL_MS);
    pthread_mutex_lock(&token->lock);
    while (is_any_in_call(token, self) && wait_changed(token, limit))
        ;
    for (unsigned i = 0; i < token_all_sessions(token); i++) {
        struct token_session *session = &token->sessions[i];
        if (session->is_open && (session->calls == 0 || session == self)) {
            session->is_open = false;
            old[count++] = session->handle;
        }
    }
    token->generation.sessions++;
    token->generation.objects++;
    token->generation.copies++;
    token->is_logged_in = false;
    pthread_mutex_unlock(&token->lock);
    for (unsigned i = 0; i < count && !has_spoken; i++)
        has_spoken = speak(token, old[i], arg);
    while (count > 0)
        token->fn->C_CloseSession(old[--count]);
}

static enum err find_again(struct token_session *session, struct detail *detail)
{
    CK_SLOT_ID slot;
    struct token *token = session->token;
    session_close_all(token, session, NULL, NULL);
    enum err err = token_find_slot(token, &slot, detail);
    if (!err)
        token->slot = slot;
    pthread_mutex_lock(&token->lock);
    token->is_lost = err; // if it is not found it stays lost
    token->breaker.is_absent = err;
    pthread_mutex_unlock(&token->lock);
    return err ? ERR_TEMP : ERR_OK;
}

static enum err open_session(struct token_session *session, struct detail *detail)
{
    struct token *token = session->token;
    CK_SESSION_HANDLE handle = CK_INVALID_HANDLE;
    session->generation = token_generation(token).sessions;
    CK_FLAGS flags = CKF_SERIAL_SESSION | (session->is_rw ? CKF_RW_SESSION : 0);
    CK_RV rv = token->fn->C_OpenSession(token->slot, flags, NULL, NULL, &handle);
    session->is_count_hit = rv == CKR_SESSION_COUNT;
    if (rv != CKR_OK)
        return session_fail(session, rv, "C_OpenSession", detail);
    session->handle = handle;
    session->is_open = true;
    return ERR_OK;
}

static enum err refuse_pin(struct token *token, struct detail *detail, const char *why)
{
    CK_TOKEN_INFO info;
    bool is_final_try = token->fn->C_GetTokenInfo(token->slot, &info) == CKR_OK &&
                        (info.flags & CKF_USER_PIN_FINAL_TRY);
    pthread_mutex_lock(&token->lock);
    token->is_pin_refused = true;
    token->breaker.is_final_try = is_final_try;
    pthread_mutex_unlock(&token->lock);
    lock_forget_pin(token);
    return err_set(detail, ERR_DENIED, "token %s: %s", token->name, why);
}

static enum err log_in(struct token_session *session, struct detail *detail)
{
    const CK_FLAGS warned = CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED;
    struct token *token = session->token;
    CK_TOKEN_INFO info;
    if (token->is_pin_refused)
        return err_set(detail, ERR_DENIED,
                       "token %s: the PIN was refused before and is not tried again", token->name);
    if (!token->has_pin) {
        pthread_mutex_lock(&token->lock);
        token->is_locked = true;
        pthread_mutex_unlock(&token->lock);
        return lock_refuse(token, detail);
    }
    CK_RV rv = token->fn->C_GetTokenInfo(token->slot, &info);
    if (rv != CKR_OK)
        return session_fail(session, rv, "C_GetTokenInfo", detail);
    if (info.flags & CKF_USER_PIN_LOCKED)
        return refuse_pin(token, detail, "the PIN is locked");
    if (info.flags & CKF_USER_PIN_FINAL_TRY)
        return refuse_pin(token, detail,
                          "only one try of the PIN is left before it is locked; not tried. Log in "
                          "once with the right PIN by other means");
    rv = token->fn->C_Login(session->handle, CKU_USER, token->pin.data, token->pin.len);
    switch (rv) {
    case CKR_OK:
    case CKR_USER_ALREADY_LOGGED_IN:
        return ERR_OK;
    case CKR_PIN_INCORRECT:
    case CKR_PIN_INVALID:
    case CKR_PIN_LEN_RANGE:
        return refuse_pin(token, detail, "wrong PIN");
    case CKR_PIN_EXPIRED:
        return refuse_pin(token, detail, "the PIN has expired");
    case CKR_PIN_LOCKED:
        return refuse_pin(token, detail, "the PIN is locked");
    default:
        break;
    }
    // A token that calls a wrong PIN something else must not be asked again either.
    CK_TOKEN_INFO after;
    if (token->fn->C_GetTokenInfo(token->slot, &after) == CKR_OK &&
        (after.flags & ~info.flags & (warned | CKF_USER_PIN_COUNT_LOW)))
        return refuse_pin(token, detail, "wrong PIN");
    enum err err = session_fail(session, rv, "C_Login", detail);
    return err == ERR_PERM ? ERR_DENIED : err;
}

bool session_is_logged_out(struct token_session *session)
{
    CK_SESSION_INFO info;
    return session->token->needs_login &&
           session->token->fn->C_GetSessionInfo(session->handle, &info) == CKR_OK &&
           info.state != CKS_RO_USER_FUNCTIONS && info.state != CKS_RW_USER_FUNCTIONS;
}

// A session is born logged in or not as the others are; and closing the last one logs out.
static enum err check_login(struct token_session *session, struct detail *detail)
{
    struct token *token = session->token;
    CK_SESSION_INFO info;
    if (!token->needs_login)
        return ERR_OK;
    CK_RV rv = token->fn->C_GetSessionInfo(session->handle, &info);
    if (rv != CKR_OK)
        return session_fail(session, rv, "C_GetSessionInfo", detail);
    bool is_user = info.state == CKS_RO_USER_FUNCTIONS || info.state == CKS_RW_USER_FUNCTIONS;
    enum err err = is_user ? ERR_OK : log_in(session, detail);
    if (err)
        return err;
    pthread_mutex_lock(&token->lock);
    if (!is_user || !token->is_logged_in) {
        token->generation.objects++;
        token->generation.copies++;
    }
    token->is_logged_in = true;
    pthread_mutex_unlock(&token->lock);
    if (token->forgets_pin)
        lock_forget_pin(token);
    return ERR_OK;
}

static bool is_ready(struct token_session *session) // with the lock held
{
    struct token *token = session->token;
    return !token->is_lost && !token->is_locked && is_current(session) &&
           !session->is_object_lost && (token->is_logged_in || !token->needs_login);
}

enum err session_heal_begin(struct token *token, deadline_t deadline, struct detail *detail)
{
    enum err err = ERR_OK;
    pthread_mutex_lock(&token->lock);
    while (token->is_healing && !err) {
        deadline_t limit = token->breaker.heal_began + HEAL_PATIENCE_MS;
        if (!wait_changed(token, deadline < limit ? deadline : limit))
            err = err_set(detail, ERR_TEMP, "token %s: did not come back in time", token->name);
    }
    if (!err) {
        token->is_healing = true;
        token->breaker.heal_began = clock_ms();
    }
    pthread_mutex_unlock(&token->lock);
    return err;
}

void session_heal_end(struct token *token)
{
    pthread_mutex_lock(&token->lock);
    // It was locked while we were at it, by one who did not want to wait for us.
    bool is_to_lock = token->is_locked && (token->is_logged_in || token->has_pin);
    pthread_mutex_unlock(&token->lock);
    if (is_to_lock)
        (void)lock_carry_out(token, NULL);
    pthread_mutex_lock(&token->lock);
    token->is_healing = false;
    breaker_note_state(token);
    pthread_cond_broadcast(&token->changed);
    pthread_mutex_unlock(&token->lock);
}

// What is missing, for the one who has the right to restore.
static enum err restore_parts(struct token_session *session, bool is_lost, bool is_open,
                              struct detail *detail)
{
    enum err err = ERR_OK;
    if (is_lost)
        err = find_again(session, detail);
    if (!err && (is_lost || !is_open))
        err = open_session(session, detail);
    return err ? err : check_login(session, detail);
}

enum err session_restore(struct token_session *session, struct detail *detail)
{
    struct token *token = session->token;
    struct detail why = {0};
    session->is_count_hit = false;
    pthread_mutex_lock(&token->lock);
    bool ready = is_ready(session), is_locked = token->is_locked, is_probe = session->is_probe;
    bool may_heal = ready || is_locked || breaker_may_heal(token, is_probe);
    is_probe = is_probe || breaker_is_open(token);
    session->is_probe = session->is_probe && ready;
    pthread_mutex_unlock(&token->lock);
    if (ready)
        return ERR_OK;
    if (is_locked)
        return lock_refuse(token, detail);
    if (!may_heal)
        return breaker_refuse(token, detail);
    enum err err = session_heal_begin(token, session->deadline, detail);
    if (err)
        return err;
    pthread_mutex_lock(&token->lock);
    ready = is_ready(session); // another one may have done it, or failed to
    bool is_lost = token->is_lost, is_open = is_current(session);
    bool is_hopeless = !is_probe && breaker_is_open(token);
    is_locked = token->is_locked;
    pthread_mutex_unlock(&token->lock);
    if (is_locked) {
        err = lock_refuse(token, detail);
    } else if (!ready && is_hopeless) {
        err = breaker_refuse(token, detail);
    } else if (!ready) {
        err = restore_parts(session, is_lost, is_open, &why);
        pthread_mutex_lock(&token->lock);
        if (err == ERR_TEMP)
            breaker_note_error(token, why.text);
        breaker_note_healed(token, err, !session->is_count_hit && !token->is_locked);
        pthread_mutex_unlock(&token->lock);
        if (err && detail)
            *detail = why;
    }
    session_heal_end(token);
    return err;
}

// A free session, an open one if there is; only_open: none other. With the lock held.
static struct token_session *take(struct token *token, bool only_open, bool *is_any_open)
{
    struct token_session *closed = NULL;
    *is_any_open = false;
    for (unsigned i = 0; i < token->session_count; i++) {
        struct token_session *session = &token->sessions[i];
        bool open = is_current(session);
        *is_any_open = *is_any_open || open;
        if (session->is_out)
            continue;
        if (open)
            return session;
        closed = session;
    }
    return only_open ? NULL : closed;
}

static enum err take_in_time(struct token *token, deadline_t deadline, bool only_open,
                             struct token_session **session, struct detail *detail)
{
    enum err err = ERR_OK;
    struct token_session *found;
    bool is_any_open;
    pthread_mutex_lock(&token->lock);
    while (!(found = take(token, only_open, &is_any_open))) {
        if (token->is_locked)
            err = lock_refuse(token, detail);
        else if (only_open && !is_any_open)
            err = err_set(detail, ERR_TEMP, "token %s: it has no session left for us", token->name);
        else if (!wait_changed(token, deadline))
            err = err_set(detail, ERR_TEMP, "token %s: all sessions are busy", token->name);
        if (err)
            break;
    }
    if (!err) {
        found->is_out = true;
        found->deadline = deadline;
        *session = found;
    }
    pthread_mutex_unlock(&token->lock);
    return err;
}

// What the breaker has to say to one who wants a session.
static enum err pass_gate(struct token *token, bool *only_open, bool *is_probe,
                          struct detail *detail)
{
    bool is_any_open;
    pthread_mutex_lock(&token->lock);
    (void)take(token, true, &is_any_open);
    bool is_locked = token->is_locked;
    enum gate gate = is_locked ? GATE_OPEN : breaker_ask(token, is_any_open);
    pthread_mutex_unlock(&token->lock);
    if (is_locked)
        return lock_refuse(token, detail);
    *only_open = gate == GATE_SOME;
    *is_probe = gate == GATE_PROBE;
    return gate == GATE_SHUT ? breaker_refuse(token, detail) : ERR_OK;
}

enum err token_session_get(struct token *token, deadline_t deadline, struct token_session **session,
                           struct detail *detail)
{
    deadline_t limit = deadline_in(token->wait_ms);
    struct token_session *found;
    bool only_open = false, is_probe = false;
    if (deadline < limit)
        limit = deadline;
    enum err err = pass_gate(token, &only_open, &is_probe, detail);
    if (err)
        return err;
    err = ERR_TEMP;
    for (int attempt = 0; attempt < 2 && err == ERR_TEMP;) {
        err = take_in_time(token, limit, only_open, &found, detail);
        if (err)
            return err;
        found->is_probe = is_probe;
        is_probe = false;
        err = session_restore(found, detail);
        if (!err)
            break;
        bool is_count_hit = found->is_count_hit;
        token_session_put(found);
        if (is_count_hit && !only_open)
            only_open = true; // the token has no more: wait for one that is in use
        else
            attempt++;
    }
    if (!err)
        *session = found;
    return err;
}

void token_session_put(struct token_session *session)
{
    if (!session)
        return;
    struct token *token = session->token;
    secret_wipe(&session->scratch);
    pthread_mutex_lock(&token->lock);
    session->is_out = false;
    session->is_probe = false;
    pthread_cond_broadcast(&token->changed);
    pthread_mutex_unlock(&token->lock);
}
