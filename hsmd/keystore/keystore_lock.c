// SPDX-License-Identifier: Apache-2.0
// Locking and unlocking by officers. A lock counts from the moment it is asked for: whatever login
// is under way then, of a module that is opened anew or of another officer, is undone by the one
// who made it (locks).
#include "hsmd/keystore/keystore_internal.h"

#include "hsmd/base/log.h"

#define GATE_WAIT_MS 5000

static enum err enter(struct keystore_token *token, struct token **opened, struct detail *detail)
{
    struct gate *gate = &token->module->gate;
    const char *name = token->conf->name;
    if (!gate_enter(gate, deadline_in(GATE_WAIT_MS)))
        return err_set(detail, ERR_TEMP, "token %s: being opened anew", name);
    *opened = atomic_load(&token->token);
    if (*opened)
        return ERR_OK;
    gate_leave(gate);
    return err_set(detail, ERR_TEMP, "token %s: not there", name);
}

// One officer at a time, so that no PIN overtakes another.
static enum err begin_unlock(struct keystore_token *token, uint64_t *locks, struct detail *detail)
{
    bool is_other = atomic_exchange(&token->is_unlocking, true);
    pthread_mutex_lock(&token->lock);
    *locks = token->locks;
    pthread_mutex_unlock(&token->lock);
    return is_other ? err_set(detail, ERR_TEMP, "token %s: somebody else is unlocking it",
                              token->conf->name)
                    : ERR_OK;
}

// The PIN was right. False: the token has been locked meanwhile.
static bool keep_pin(struct keystore_token *token, const struct secret *pin, uint64_t locks)
{
    struct secret kept = {0};
    if (token->conf->healing && (secret_init(&kept, pin->len ? pin->len : 1, NULL) != ERR_OK ||
                                 secret_set(&kept, pin->data, pin->len) != ERR_OK))
        log_warning(
            "token", "token", token->conf->name, "err",
            "no locked memory for its PIN: it does not heal when its module is opened anew");
    pthread_mutex_lock(&token->lock);
    bool is_locked = token->locks != locks;
    struct secret rest = is_locked ? kept : token->pin;
    if (!is_locked) {
        token->pin = kept;
        token->source = PIN_GIVEN;
        atomic_store(&token->is_officers_lock, false);
    }
    pthread_mutex_unlock(&token->lock);
    secret_clear(&rest);
    return !is_locked;
}

static enum err check_locked(struct keystore_token *token, struct token *opened,
                             struct detail *detail)
{
    struct token_status status;
    token_status(opened, &status);
    bool is_locked = status.state == TOKEN_LOCKED || status.state == TOKEN_PIN_REFUSED ||
                     atomic_load(&token->is_refused);
    return is_locked ? ERR_OK
                     : err_set(detail, ERR_PERM, "token %s: it is not locked", token->conf->name);
}

static enum err unlock(struct keystore_token *token, struct token *opened, const struct secret *pin,
                       uint64_t locks, struct detail *detail)
{
    struct detail ignored = {0};
    enum err err = check_locked(token, opened, detail);
    if (err != ERR_OK)
        return err;
    // From here on nobody else tries, neither the configured PIN nor one given before.
    keystore_forget_pin(token);
    err = token_login(opened, pin, detail);
    if (err == ERR_OK && !keep_pin(token, pin, locks)) {
        (void)token_logout(opened, &ignored);
        return err_set(detail, ERR_TEMP, "token %s: locked meanwhile", token->conf->name);
    }
    if (err == ERR_DENIED) {
        atomic_store(&token->is_refused, false); // let it be said anew
        keystore_give_up(token, detail);
    } else if (err != ERR_OK) {
        // It was not tried, or came to nothing: the token does not keep it for later.
        (void)token_logout(opened, &ignored);
    }
    if (err != ERR_OK)
        return err;
    atomic_store(&token->is_refused, false);
    atomic_store(&token->failures, 0);
    return ERR_OK;
}

enum err keystore_unlock(struct keystore *keystore, const char *name, const struct secret *pin,
                         struct detail *detail)
{
    struct token *opened = NULL;
    uint64_t locks = 0;
    struct keystore_token *token = keystore_find_token(keystore, name, detail);
    if (!token)
        return ERR_PERM;
    enum err err = begin_unlock(token, &locks, detail);
    if (err != ERR_OK)
        return err;
    err = enter(token, &opened, detail);
    bool has_entered = err == ERR_OK;
    if (has_entered)
        err = unlock(token, opened, pin, locks, detail);
    atomic_store(&token->is_unlocking, false); // it may be another officer's turn from here on
    if (has_entered) {
        struct detail ignored = {0}; // keys that fail to open are sought again
        keystore_note(token);
        if (err == ERR_OK)
            (void)keystore_seek_all(token, true, &ignored);
        keystore_note(token);
        gate_leave(&token->module->gate);
        keystore_tell_changes(token, err, detail);
    }
    if (err == ERR_OK)
        log_notice("token", "token", name, "state", "unlocked");
    return err;
}

enum err keystore_lock(struct keystore *keystore, const char *name, struct detail *detail)
{
    struct token *opened = NULL;
    struct keystore_token *token = keystore_find_token(keystore, name, detail);
    if (!token)
        return ERR_PERM;
    pthread_mutex_lock(&token->lock);
    token->locks++;
    atomic_store(&token->is_officers_lock, true);
    pthread_mutex_unlock(&token->lock);
    keystore_forget_pin(token);
    atomic_store(&token->is_refused, false);
    log_notice("token", "token", name, "state", "locked");
    struct gate *gate = &token->module->gate;
    if (!gate_enter(gate, deadline_in(GATE_WAIT_MS)))
        return err_set(detail, ERR_TEMP,
                       "token %s: locked; it is logged out when the call that hangs returns", name);
    opened = atomic_load(&token->token);
    enum err err = opened ? token_logout(opened, detail) : ERR_OK;
    keystore_note(token);
    gate_leave(gate);
    keystore_tell_changes(token, err, detail);
    return err;
}

bool keystore_is_locked(struct keystore *keystore, const char *name)
{
    const struct keystore_token *token = keystore_find_token(keystore, name, NULL);
    return token && atomic_load(&token->is_officers_lock);
}
