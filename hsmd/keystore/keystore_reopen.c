// SPDX-License-Identifier: Apache-2.0
// A module finalised and initialised again, for a token of it that does not come back otherwise.
//
// Its other tokens are closed with it: their requests wait meanwhile or go elsewhere, and an
// officer's PIN that is not kept would be lost. So it is not done while a call of the module hangs,
// which would have to be waited for. What was away for a moment is to be back within a second: it
// is tried twice a second at first, and later, as long as others are well, every REOPEN_PAUSE_LONG,
// which is how much later than its return such a token may be well; and never so often that the
// others lose more than a tenth of their time.
#include "hsmd/keystore/keystore_internal.h"

#include "hsmd/base/log.h"

#define REOPEN_WAIT_MS 200    // for the operations under way
#define REOPEN_PAUSE_MS 500   // between one try and the next
#define REOPEN_QUICK_MS 30000 // of an outage; then, if others are well,
#define REOPEN_PAUSE_LONG 5000
#define REOPEN_PAUSE_MAX 60000
#define REOPEN_SHARE 10

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

bool keystore_is_occupied(const struct keystore_module *module, struct keystore *keystore)
{
    bool is_any = false;
    for (size_t i = 0; i < keystore->token_count; i++) {
        struct token_status status = {0};
        struct token *opened = atomic_load(&keystore->tokens[i].token);
        if (opened && keystore->tokens[i].module == module)
            token_status(opened, &status);
        is_any = is_any || status.longest_call_ms > REOPEN_WAIT_MS;
    }
    return is_any;
}

unsigned keystore_reopen_pause(uint64_t outage_ms, uint64_t reopen_ms)
{
    uint64_t pause = outage_ms < REOPEN_QUICK_MS ? REOPEN_PAUSE_MS : REOPEN_PAUSE_LONG;
    pause = REOPEN_SHARE * reopen_ms > pause ? REOPEN_SHARE * reopen_ms : pause;
    return pause < REOPEN_PAUSE_MAX ? (unsigned)pause : REOPEN_PAUSE_MAX;
}

static bool has_well_one(const struct keystore_module *module, const struct keystore *keystore)
{
    bool has_one = false;
    for (size_t i = 0; i < keystore->token_count; i++) {
        if (keystore->tokens[i].module == module)
            has_one = has_one || atomic_load(&keystore->tokens[i].mood) == MOOD_WELL;
    }
    return has_one;
}

bool keystore_is_time_to_reopen(struct keystore_token *token)
{
    struct keystore_module *module = token->module;
    deadline_t now = clock_ms();
    deadline_t last = atomic_load(&module->last_try);
    deadline_t none = 0;
    if (now < last + REOPEN_PAUSE_MS || has_guest(token) ||
        (now < atomic_load(&module->spared_until) && has_well_one(module, token->keystore)))
        return false;
    (void)atomic_compare_exchange_strong(&module->lost_since, &none, now);
    return atomic_compare_exchange_strong(&module->last_try, &last, now);
}

void keystore_end_outage(const struct keystore_token *token)
{
    struct keystore *keystore = token->keystore;
    for (size_t i = 0; i < keystore->token_count; i++) {
        if (keystore->tokens[i].module == token->module &&
            atomic_load(&keystore->tokens[i].is_lost))
            return;
    }
    atomic_store(&token->module->lost_since, 0);
    atomic_store(&token->module->spared_until, 0);
}

// It was in vain: the well ones of the module are spared for a while.
static void spare_others(const struct keystore_token *token, deadline_t began)
{
    struct keystore_module *module = token->module;
    deadline_t now = clock_ms();
    deadline_t since = atomic_load(&module->lost_since);
    if (has_well_one(module, token->keystore))
        atomic_store(&module->spared_until,
                     deadline_in(keystore_reopen_pause(since ? now - since : 0, now - began)));
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
    if (err != ERR_OK)
        keystore_wake_watcher(token); // which has slept, if it was well so far
}

void keystore_reopen_module(struct keystore_token *token)
{
    struct keystore *keystore = token->keystore;
    struct keystore_module *module = token->module;
    deadline_t began = clock_ms();
    if (!gate_close(&module->gate, deadline_in(REOPEN_WAIT_MS))) {
        spare_others(token, began);
        return;
    }
    if (has_guest(token)) { // who has come meanwhile
        gate_open(&module->gate);
        return;
    }
    atomic_store(&module->is_reopening, true);
    for (size_t i = 0; i < keystore->token_count; i++) {
        if (keystore->tokens[i].module == module)
            keystore_close_token(&keystore->tokens[i]);
    }
    for (size_t i = 0; i < keystore->token_count; i++) {
        if (keystore->tokens[i].module == module)
            take_again(&keystore->tokens[i]);
    }
    atomic_store(&module->is_reopening, false);
    gate_open(&module->gate);
    for (size_t i = 0; i < keystore->token_count; i++) {
        if (keystore->tokens[i].module == module)
            tell_reopened(&keystore->tokens[i]);
    }
    if (atomic_load(&token->mood) != MOOD_WELL)
        spare_others(token, began);
}
