// SPDX-License-Identifier: Apache-2.0
// Locking a token. is_locked is set at once, so that nothing new begins; the rest is done by the
// one who holds the right to restore. Does a hanging call hold that, the rest is done by it when
// it comes back (session_heal_end): even a login that hung does not leave the token logged in.
#include "pkcs11/internal.h"

// How long the one who restores is waited for.
#define LOCK_WAIT_MS 1000

enum err lock_refuse(const struct token *token, struct detail *detail)
{
    return err_set(detail, ERR_TEMP, "token %s: locked", token->name);
}

void lock_forget_pin(struct token *token)
{
    token->has_pin = false;
    secret_wipe(&token->pin);
}

static bool log_out(struct token *token, CK_SESSION_HANDLE handle, void *arg)
{
    CK_RV *rv = arg;
    *rv = token->fn->C_Logout(handle);
    if (*rv == CKR_USER_NOT_LOGGED_IN || rv_damage(*rv) == DAMAGE_TOKEN)
        *rv = CKR_OK; // a token that is gone has nobody logged in
    return *rv == CKR_OK;
}

enum err lock_carry_out(struct token *token, struct detail *detail)
{
    CK_RV rv = CKR_SESSION_CLOSED;
    CK_SESSION_HANDLE handle;
    lock_forget_pin(token);
    pthread_mutex_lock(&token->lock);
    token->is_pin_refused = false;
    breaker_note_state(token);
    pthread_mutex_unlock(&token->lock);
    session_close_all(token, NULL, log_out, &rv);
    if (rv == CKR_OK || !token->needs_login)
        return ERR_OK;
    // No session could do it; they may all be in calls that hang.
    rv = token->fn->C_OpenSession(token->slot, CKF_SERIAL_SESSION, NULL, NULL, &handle);
    if (rv == CKR_OK) {
        (void)log_out(token, handle, &rv);
        token->fn->C_CloseSession(handle);
    }
    if (rv == CKR_OK || rv_damage(rv) == DAMAGE_TOKEN)
        return ERR_OK;
    return err_set(detail, ERR_TEMP, "token %s: locked, but cannot log out of it: %s", token->name,
                   rv_name(rv));
}

enum err token_logout(struct token *token, struct detail *detail)
{
    pthread_mutex_lock(&token->lock);
    token->is_locked = true;
    pthread_cond_broadcast(&token->changed); // who waits for a session does so in vain
    pthread_mutex_unlock(&token->lock);
    enum err err = session_heal_begin(token, deadline_in(LOCK_WAIT_MS), detail);
    if (err)
        return err_set(detail, ERR_TEMP,
                       "token %s: locked; it is logged out when the call that hangs returns",
                       token->name);
    err = lock_carry_out(token, detail);
    session_heal_end(token);
    return err;
}
