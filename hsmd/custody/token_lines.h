// SPDX-License-Identifier: Apache-2.0
// The lines in the audit log of tokens that were lost, came back, or were logged in to with their
// configured PIN. A token is not ours to keep
// away while the log cannot be written: such a line waits in memory, in its place among the others
// and with the time when it happened, until the log can be. Thread-safe.
#pragma once

#include "hsmd/audit/audit.h"
#include "hsmd/keystore/keystore_token.h"

#define TOKEN_LINES_MAX 64 // that wait; of more the newest wait, and a line says how many are lost

struct token_lines;

enum err token_lines_new(struct audit *audit, struct token_lines **lines); // ERR_TEMP: no memory
void token_lines_free(struct token_lines *lines); // NULL is fine; logs what is not written

// For keystore_on_event; context: the token_lines.
void token_lines_tell(void *context, enum keystore_event event, const char *token,
                      const char *reason);
// Writes what waits, if it can be written now. Every few seconds, and before the log ends.
void token_lines_retry(struct token_lines *lines);
