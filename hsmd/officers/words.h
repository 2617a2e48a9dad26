// SPDX-License-Identifier: Apache-2.0
// Pieces of the texts that people read, and what may stand in them. Private to this folder.
#pragma once

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"

// Strict UTF-8 without control characters, or characters that hide, reorder or break a line.
bool words_is_printable(struct bytes text);

// The set of operations that can be granted, and that of the algorithms of a set of operations.
uint64_t words_operations(void);
uint64_t words_algorithms(uint64_t operations);

// A text that grows; the first failure sticks.
struct words {
    struct buf *out;
    enum err err;
};

void words_say(struct words *words, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// In quotation marks, whole (text_quote).
void words_quote(struct words *words, struct bytes text);
void words_hex(struct words *words, struct bytes bytes);
void words_sha256(struct words *words, struct bytes bytes); // "SHA-256 HEX"
// Items of a list, quoted, ", " and "and" between them.
void words_list(struct words *words, struct bytes list);
