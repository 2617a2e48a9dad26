// SPDX-License-Identifier: Apache-2.0
// A registry made from the store.
#pragma once

#include "hsmd/registry/registry.h"
#include "hsmd/registry/store.h"

struct keystore_key;

// Gives the keystore's key for a key of the store (keystore_add_key).
typedef enum err (*registry_bind_fn)(void *context, const struct store_key *key,
                                     struct keystore_key **bound, struct detail *detail);

// budgets: where limits go, borrowed by the registry; NULL: they are left out. bind: NULL: keys
// stay unbound. Destroyed keys are left out. ERR_PERM: the store does not fit together, or bind
// says so.
enum err registry_from_store(struct store *store, struct budgets *budgets, registry_bind_fn bind,
                             void *context, struct registry **registry, struct detail *detail);
