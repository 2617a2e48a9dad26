// SPDX-License-Identifier: Apache-2.0
// A keystore with two tokens: "left" behind the shim, "right" behind a module of its own that
// nothing breaks, or as a slot of the same module, in which only what concerns "left" or the whole
// module is broken. An RSA key called "shared" is in both, "single" in the left one alone.
#pragma once

#include <stdatomic.h>

#include "hsmd/keystore/keystore_token.h"
#include "tests/fault/common.h"

enum { LEFT, RIGHT };

struct store {
    bool is_one_module;
    struct softhsm hsm;
    EVP_PKEY *pkey, *single_pkey;
    struct bytes public_key; // of shared
    char right_module[240], pin_file[240];
    struct config_token tokens[2];
    struct config config;
    struct keystore *keystore;
    struct keystore_key *shared, *single;
    struct secret pin, wrong_pin;
    atomic_uint lost, back; // events of the left token
    atomic_uint lost_of_all;
};

extern struct store store;

// For main: whether both tokens are slots of one module, "slots" on the command line.
void store_choose(int argc, char **argv);
int store_begin(void **state); // makes the tokens
int store_end(void **state);
// With the PIN from its file, or given by nobody yet; sessions: of each.
void store_open(bool has_pin, bool healing, unsigned sessions);
// The same, with both behind the shim.
void store_open_together(void);
void store_close(void);
// Why the token was told lost, the last time.
void store_reason(unsigned token, struct detail *reason);

// One operation; *right: with the right answer. out: of the caller.
enum err store_sign(struct keystore_key *key, unsigned token, unsigned patience_ms, bool *right,
                    struct detail *detail);
enum err store_unwrap(struct keystore_key *key, unsigned token, unsigned patience_ms,
                      struct secret *out, bool *right, struct detail *detail);
void store_works(struct keystore_key *key, unsigned token);
enum token_state store_state(unsigned token);
// Until the key's operations are done by this token again, without asking for any. In ms.
unsigned store_heals(unsigned token);
