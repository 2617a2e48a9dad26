// SPDX-License-Identifier: Apache-2.0
// The officers' session stands behind those of the pool in the array, so that healing and locking
// treat it like them; nobody gets it by token_session_get.
#include "pkcs11/internal.h"

#include <errno.h>
#include <time.h>

static struct token_session *own_session(struct token *token)
{
    return &token->sessions[token->session_count];
}

static enum err take(struct token *token, deadline_t deadline, struct token_session **session,
                     struct detail *detail)
{
    struct token_session *own = own_session(token);
    struct timespec until = deadline_timespec(deadline);
    enum err err = ERR_OK;
    pthread_mutex_lock(&token->lock);
    while (own->is_out && !err) {
        if (pthread_cond_timedwait(&token->changed, &token->lock, &until) == ETIMEDOUT)
            err = err_set(detail, ERR_TEMP, "token %s: another officer's act takes its time",
                          token->name);
    }
    if (!err) {
        own->is_out = true;
        own->deadline = deadline;
        own->is_object_lost = false;
        *session = own;
    }
    pthread_mutex_unlock(&token->lock);
    return err;
}

static bool has_other_open(struct token *token, const struct token_session *session)
{
    bool found = false;
    pthread_mutex_lock(&token->lock);
    for (unsigned i = 0; i < token->session_count; i++) {
        const struct token_session *other = &token->sessions[i];
        found = found || (other != session && other->is_open &&
                          other->generation == token->generation.sessions);
    }
    pthread_mutex_unlock(&token->lock);
    return found;
}

// The token has no session left for us: one of the pool stands back.
static enum err make_room(struct token *token, deadline_t deadline, struct token_session **lent,
                          struct detail *detail)
{
    enum err err = token_session_get(token, deadline, lent, detail);
    if (err)
        return err;
    if (token->forgets_pin && !has_other_open(token, *lent)) { // it carries the login
        token_session_put(*lent);
        *lent = NULL;
        return err_set(detail, ERR_TEMP, "token %s: it has no session left for us", token->name);
    }
    session_drop(*lent);
    return ERR_OK;
}

static enum err restore(struct token_session *session, deadline_t deadline,
                        struct token_session **lent, struct detail *detail)
{
    enum err err = session_restore(session, detail);
    if (!err || !session->is_count_hit || *lent)
        return err;
    err = make_room(session->token, deadline, lent, detail);
    session->is_probe = true;
    return err ? err : session_restore(session, detail);
}

enum err admin_run(struct token *token, deadline_t deadline, admin_fn act, void *arg,
                   struct detail *detail)
{
    struct token_session *session = NULL, *lent = NULL;
    enum err err = take(token, deadline, &session, detail);
    if (err)
        return err;
    err = ERR_TEMP;
    for (int attempt = 0; attempt < 2 && err == ERR_TEMP; attempt++) {
        session->is_object_lost = false; // the act brings its own handles
        session->is_probe = true;        // officers are not kept off by the breaker
        err = restore(session, deadline, &lent, detail);
        if (!err)
            err = session_enter(session, detail);
        if (err)
            continue;
        err = act(session, arg, detail);
        session_leave(session);
    }
    if (!token->forgets_pin || session->is_soiled)
        session_drop(session);
    session->is_soiled = false;
    token_session_put(lent);
    token_session_put(session);
    return err;
}

static enum err do_nothing(struct token_session *session, void *arg, struct detail *detail)
{
    (void)session;
    (void)arg;
    (void)detail;
    return ERR_OK;
}

void admin_hold_login(struct token *token)
{
    // In vain if the token has no session for it; then the login ends with the pool's last one.
    (void)admin_run(token, deadline_in(token->wait_ms), do_nothing, NULL, NULL);
}
