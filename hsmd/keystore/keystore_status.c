// SPDX-License-Identifier: Apache-2.0
#include "hsmd/keystore/keystore_status.h"

#include <stdio.h>

#include "hsmd/keystore/keystore_internal.h"

static bool is_open(const struct place *place)
{
    return atomic_load(&place->key) && !atomic_load(&place->is_missing);
}

static bool has_tried(struct keystore_token *token)
{
    pthread_mutex_lock(&token->lock);
    bool has_tried = token->has_tried;
    pthread_mutex_unlock(&token->lock);
    return has_tried;
}

bool keystore_get_status(struct keystore *keystore, size_t index, struct keystore_status *status)
{
    if (index >= keystore->token_count)
        return false;
    struct keystore_token *token = &keystore->tokens[index];
    *status = (struct keystore_status){.name = token->conf->name,
                                       .sessions = token->conf->sessions,
                                       .is_officers_lock = atomic_load(&token->is_officers_lock),
                                       .token = {.state = TOKEN_ABSENT}};
    for (struct place *place = atomic_load(&keystore->places); place; place = place->next) {
        if (place->token != token || !atomic_load(&place->is_current) ||
            atomic_load(&place->owner->is_dropped))
            continue;
        status->keys++;
        status->keys_missing += !is_open(place);
    }
    if (gate_enter(&token->module->gate, 0)) {
        struct token *opened = atomic_load(&token->token);
        if (opened)
            token_status(opened, &status->token);
        status->is_open = status->token.state == TOKEN_READY ||
                          (opened && status->token.state == TOKEN_RECOVERING);
        gate_leave(&token->module->gate);
    }
    if (status->is_officers_lock && status->token.state == TOKEN_LOCKED)
        snprintf(status->token.error, sizeof status->token.error, "officers have locked it");
    if (!has_tried(token)) { // hsmd waits for a while at its start
        status->token.state = TOKEN_ABSENT;
        snprintf(status->token.error, sizeof status->token.error, "its module hangs");
        status->is_open = false;
    }
    if (atomic_load(&token->is_refused)) { // a module opened anew does not know
        status->token.state = TOKEN_PIN_REFUSED;
        status->token.is_final_try = atomic_load(&token->is_final_try);
        status->is_open = false;
    }
    return true;
}

bool keystore_key_is_open(const struct keystore_key *key, size_t i)
{
    const struct place_set *set = atomic_load(&key->places);
    return i < set->count && is_open(set->places[i]);
}

bool keystore_key_is_in(const struct keystore_key *key, size_t index)
{
    const struct place_set *set = atomic_load(&key->places);
    if (index >= key->keystore->token_count)
        return false;
    for (size_t i = 0; i < set->count; i++) {
        if (set->places[i]->token == &key->keystore->tokens[index])
            return true;
    }
    return false;
}
