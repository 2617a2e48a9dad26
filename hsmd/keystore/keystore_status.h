// SPDX-License-Identifier: Apache-2.0
// What the tokens' keystore can say about its tokens and keys without asking them: nothing here
// waits for a module that hangs.
#pragma once

#include "hsmd/keystore/keystore.h"
#include "pkcs11/token_admin.h"

struct keystore;

struct keystore_status {
    const char *name;            // of the token section
    unsigned sessions;           // that we ask of it
    bool is_open;                // found and logged in; false too while its module is opened anew
    bool is_officers_lock;       // officers have locked it, and not unlocked it since
    struct token_status token;   // zeroed, state TOKEN_ABSENT, while it is not open
    unsigned keys, keys_missing; // places of keys in it; of them not opened
};

// By index of config->tokens. False: there are not so many.
bool keystore_get_status(struct keystore *keystore, size_t index, struct keystore_status *status);

// Has the key a place in that token, open or not?
bool keystore_key_is_in(const struct keystore_key *key, size_t index);

// Is the key open in its i-th place? False for an i past the last, too.
bool keystore_key_is_open(const struct keystore_key *key, size_t i);
