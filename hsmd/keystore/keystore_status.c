// SPDX-License-Identifier: Apache-2.0
#include "hsmd/keystore/keystore_status.h"

#include "hsmd/keystore/keystore_internal.h"

bool keystore_get_status(struct keystore *keystore, size_t index, struct keystore_status *status)
{
    if (index >= keystore->token_count)
        return false;
    struct keystore_token *token = &keystore->tokens[index];
    *status = (struct keystore_status){.name = token->conf->name,
                                       .sessions = token->conf->sessions,
                                       .failures = atomic_load(&token->failures)};
    for (size_t i = 0; i < keystore->key_count; i++) {
        const struct keystore_key *key = &keystore->keys[i];
        if (key->token == token && key->conf->state == WIRE_ENABLED)
            status->has_enabled = true;
    }
    if (gate_enter(&token->module->gate, 0)) {
        status->is_open = token->token != NULL;
        status->is_refused = token->is_refused;
        gate_leave(&token->module->gate);
    }
    return true;
}
