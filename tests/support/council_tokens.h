// SPDX-License-Identifier: Apache-2.0
// Tokens in memory for council.h.
#pragma once

#include "tests/support/council.h"

// With a struct council_tokens in place of the keystore.
extern const struct custody_token_ops council_token_ops;

void council_tokens_init(struct council_tokens *tokens);
void council_tokens_clear(struct council_tokens *tokens);
// Waits while is_hanging, in a call.
void council_tokens_hang(struct council_tokens *tokens);
