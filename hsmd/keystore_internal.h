// SPDX-License-Identifier: Apache-2.0
// What keystore_token.c (operations, healing) and keystore_open.c (opening, checks) share.
#pragma once

#include <stdatomic.h>

#include "hsmd/gate.h"
#include "hsmd/keystore_token.h"

// A module and all tokens reached through it: they are initialised and finalised together.
struct keystore_module {
    const char *path;
    struct gate gate; // entered by each operation, closed while the module is opened anew
    _Atomic deadline_t next_try; // not opened anew before that
};

struct keystore_token {
    const struct config_token *conf;
    struct keystore_module *module;
    struct token *token;  // NULL: lost, and not found again yet; behind the module's gate
    atomic_uint failures; // temporary ones in a row
    bool is_refused;      // its PIN was; it is never tried again by itself
};

struct keystore_key {
    struct keystore *keystore;
    const struct config_key *conf;
    struct keystore_token *token;
    struct token_key *key;      // NULL as long as token->token is
    struct token_key_info info; // a copy that outlives key; info.public_key is owned
};

struct keystore {
    struct keystore_module *modules;
    size_t module_count;
    struct keystore_token *tokens;
    size_t token_count;
    struct keystore_key *keys;
    size_t key_count;
};

// Opens what is not open of one token and its keys, checks it, and that keys known from before are
// the same. On failure all of the token is closed again. With the module's gate closed.
enum err keystore_open_token(struct keystore *keystore, struct keystore_token *token,
                             struct detail *detail);
void keystore_close_token(struct keystore *keystore, struct keystore_token *token);
