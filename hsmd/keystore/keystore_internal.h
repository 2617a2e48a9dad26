// SPDX-License-Identifier: Apache-2.0
// What keystore_token.c (operations, healing) and keystore_open.c (opening, checks) share.
#pragma once

#include <stdatomic.h>

#include "hsmd/keystore/gate.h"
#include "hsmd/keystore/keystore_token.h"

// A module and all tokens reached through it: they are initialised and finalised together.
struct keystore_module {
    const char *path;
    struct gate gate; // entered by each operation, closed while the module is opened anew
    _Atomic deadline_t next_try; // not opened anew before that
};

struct keystore_token {
    const struct config_token *conf;
    struct keystore_module *module;
    struct token *token;    // NULL: lost, and not found again yet; behind the module's gate
    atomic_uint failures;   // temporary ones in a row
    bool has_audit_key;     // one of its keys signs the audit log
    atomic_bool is_refused; // its PIN was; it is never tried again by itself
};

struct keystore_key {
    struct keystore *keystore;
    const struct config_key *conf;
    struct keystore_token *token;
    // NULL as long as token->token is, or while the token has no such key any more.
    struct token_key *_Atomic key;
    atomic_bool is_being_sought;
    _Atomic deadline_t next_look; // for a key that is not there; not before that
    struct token_key_info info;   // a copy that outlives key; info.public_key is owned
};

struct keystore {
    struct keystore_module *modules;
    size_t module_count;
    struct keystore_token *tokens;
    size_t token_count;
    struct keystore_key *keys;
    size_t key_count;
};

// Opens one token and its keys, checks them, and that keys known from before are the same. At the
// start (is_start) each key must be good; later a bad one stays unbound alone, and that is logged.
// On failure all of the token is closed again. With the module's gate closed.
enum err keystore_open_token(struct keystore *keystore, struct keystore_token *token, bool is_start,
                             struct detail *detail);
// Looks for a key that its token lacked when it was opened anew: for one caller at a time, once in
// a while. With the module's gate entered and the token open. ERR_PERM: it is still not there,
// which says nothing about the token.
enum err keystore_seek_key(struct keystore_key *key, struct detail *detail);
void keystore_close_token(struct keystore *keystore, struct keystore_token *token);
