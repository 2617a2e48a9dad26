// SPDX-License-Identifier: Apache-2.0
// Small things with text.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"

// Untrusted text made fit for one log line or message: control and non-ASCII bytes, quotes and
// backslashes as \xNN, cut with "..." so that it fits into size. Returns out.
#define TEXT_QUOTED_SIZE 200
const char *text_quote(const char *text, size_t len, char *out, size_t size);

// Lower-case hex, appended; and back (ERR_PERM: odd length or another character).
enum err text_put_hex(struct buf *buf, struct bytes bytes);
enum err text_get_hex(const char *hex, struct buf *out);
// Of exactly size bytes. False, and nothing written: it is not, or it is NULL.
bool text_get_hex_exact(const char *hex, uint8_t *out, size_t size);

// A key, client or profile name: 1 to 64 of a-z A-Z 0-9 . _ -, not starting with '.' or '-'.
#define TEXT_NAME_MAX 64
bool text_is_name(const char *name, size_t len);
