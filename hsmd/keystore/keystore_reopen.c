// SPDX-License-Identifier: Apache-2.0
// A module finalised and initialised again, for a token of it that does not come back otherwise.
//
// Its other tokens are closed with it: their requests wait meanwhile, and an officer's PIN that is
// not kept would be lost. A token that was away for a moment is found again without this by most
// modules, so the first tries come soon, and later ones take the others no more than a part of
// their time: the pause doubles to REOPEN_PAUSE_LONG, or to REOPEN_SHARE times as long as the last
// try took, and that is how much later than its return such a token may be well.
#include "hsmd/keystore/keystore_internal.h"

#include "hsmd/base/log.h"

#define REOPEN_WAIT_MS 200     // for the operations under way
#define REOPEN_PAUSE_LONG 5000 // between one try and the next, as long as others are well
#define REOPEN_PAUSE_MAX 60000
#define REOPEN_SHARE 20

// Would opening the module anew cost another token its login, whose PIN is not kept?
static bool has_guest(struct keystore_token *token)
{
    bool found = false;
    struct keystore *keystore = token->keystore;
    for (size_t i = 0; i < keystore->token_count; i++) {
        struct keystore_token *other = &keystore->tokens[i];
        if (other->module != token->module || atomic_load(&other->mood) != MOOD_WELL)
            continue;
        pthread_mutex_lock(&other->lock);
        found = found || (other->source == PIN_GIVEN && !other->pin.data);
        pthread_mutex_unlock(&other->lock);
    }
    return found;
}

unsigned keystore_next_pause(unsigned pause, unsigned reopen_ms)
{
    unsigned limit = REOPEN_PAUSE_MAX / REOPEN_SHARE;
    limit = reopen_ms < limit ? REOPEN_SHARE * reopen_ms : REOPEN_PAUSE_MAX;
    limit = limit > REOPEN_PAUSE_LONG ? limit : REOPEN_PAUSE_LONG;
    return pause < limit / 2 ? 2 * pause : limit;
}

// Not all the time, and less and less often if there are others who are well.
bool keystore_is_time_to_reopen(struct keystore_token *token)
{
    bool has_others = false;
    struct keystore *keystore = token->keystore;
    struct keystore_module *module = token->module;
    deadline_t due = atomic_load(&module->next_try);
    if (clock_ms() < due || has_guest(token))
        return false;
    for (size_t i = 0; i < keystore->token_count; i++) {
        if (keystore->tokens[i].module == module)
            has_others = has_others || atomic_load(&keystore->tokens[i].mood) == MOOD_WELL;
    }
    unsigned pause = atomic_load(&module->pause_ms);
    if (!atomic_compare_exchange_strong(&module->next_try, &due, deadline_in(pause)))
        return false;
    atomic_store(&module->pause_ms,
                 has_others ? keystore_next_pause(pause, atomic_load(&module->reopen_ms))
                            : KEYSTORE_REOPEN_PAUSE_MS);
    return true;
}

// One token of a module that was finalised.
static void take_again(struct keystore_token *token)
{
    struct detail detail = {0};
    enum err err = keystore_open_token(token, &detail);
    if (err == ERR_OK)
        err = keystore_seek_all(token, true, &detail);
    pthread_mutex_lock(&token->lock);
    token->reopened = err;
    token->trouble = detail;
    pthread_mutex_unlock(&token->lock);
    if (err == ERR_OK) {
        atomic_store(&token->failures, 0);
        log_notice("token", "token", token->conf->name, "state", "opened anew");
    } else if (err != ERR_DENIED && !atomic_exchange(&token->is_absence_told, true)) {
        log_warning("token", "token", token->conf->name, "state", "not there", "err", detail.text);
    }
    keystore_note(token);
}

static void tell_reopened(struct keystore_token *token)
{
    pthread_mutex_lock(&token->lock);
    enum err err = token->reopened;
    struct detail detail = token->trouble;
    pthread_mutex_unlock(&token->lock);
    keystore_tell_changes(token, err, &detail);
}

void keystore_reopen_module(struct keystore_token *token)
{
    struct keystore *keystore = token->keystore;
    struct keystore_module *module = token->module;
    if (!gate_close(&module->gate, deadline_in(REOPEN_WAIT_MS)))
        return;
    deadline_t began = clock_ms();
    for (size_t i = 0; i < keystore->token_count; i++) {
        if (keystore->tokens[i].module == module)
            keystore_close_token(&keystore->tokens[i]);
    }
    for (size_t i = 0; i < keystore->token_count; i++) {
        if (keystore->tokens[i].module == module)
            take_again(&keystore->tokens[i]);
    }
    atomic_store(&module->reopen_ms, (unsigned)(clock_ms() - began));
    gate_open(&module->gate);
    for (size_t i = 0; i < keystore->token_count; i++) {
        if (keystore->tokens[i].module == module)
            tell_reopened(&keystore->tokens[i]);
    }
}
