// SPDX-License-Identifier: Apache-2.0
// The keystore whose keys are in PKCS#11 tokens.
#pragma once

#include "hsmd/config.h"
#include "hsmd/keystore/keystore.h"

struct keystore;

extern const struct keystore_ops keystore_token_ops;

// Opens every token of the configuration, logs in, opens every key and checks that it can do what
// it is for and cannot leave. The detail names the section and the step: module, slot, token, PIN,
// login, key, attributes, purpose. ERR_TEMP: a token is not there; ERR_DENIED: its PIN is wrong.
enum err keystore_open(const struct config *config, struct keystore **keystore,
                       struct detail *detail);
// No operation may be under way.
void keystore_close(struct keystore *keystore);

// By index of config->keys, the audit key behind them; lives as long as the keystore.
struct keystore_key *keystore_find_key(struct keystore *keystore, size_t index);

// Promise 1 and the purpose, apart from the token: pure. ERR_PERM: the detail says which.
enum err keystore_check_key(const struct token_key_info *info, enum wire_purpose purpose,
                            struct detail *detail);

// Reads the PIN of a token section, as keystore_open does: from its file or from the systemd
// credential ($CREDENTIALS_DIRECTORY). pin must be initialised.
enum err keystore_read_pin(const struct config_token *token, struct secret *pin,
                           struct detail *detail);
