// SPDX-License-Identifier: Apache-2.0
// A strict reader of the flat part of msgpack: unsigned integers, strings, binaries, arrays.
//
// It never allocates and never believes a length: a header only says how many of the bytes that are
// there belong to it. The first thing wrong sticks; what is got after that is 0 or empty, so that
// the caller may look once, at the end.
#pragma once

#include "hsmd/base/buf.h"

struct cursor {
    const uint8_t *at;
    const uint8_t *end;
    const char *error; // a constant, NULL while all is well
};

void cursor_init(struct cursor *cursor, struct bytes frame); // borrows

uint64_t cursor_get_uint(struct cursor *cursor, uint64_t max);
struct bytes cursor_get_str(struct cursor *cursor); // points into the frame
struct bytes cursor_get_bin(struct cursor *cursor);
uint32_t cursor_get_array(struct cursor *cursor); // how many elements follow
void cursor_get_end(struct cursor *cursor);       // an error if a byte is left
