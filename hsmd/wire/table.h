// SPDX-License-Identifier: Apache-2.0
// The fields of every operation, once: what encode.c writes, decode.c reads and hsmd-protocol(7)
// describes. Private to this folder and its tests.
#pragma once

#include <limits.h>

#include "hsmd/wire/wire.h"

enum wire_field_type {
    WIRE_FIELD_UINT,      // an unsigned or an enum
    WIRE_FIELD_BOOL,      // a bool; a uint of 0 or 1 on the wire
    WIRE_FIELD_NAME,      // struct bytes; a str that is empty, if min is 0, or a name
    WIRE_FIELD_BIN,       // struct bytes; a bin
    WIRE_FIELD_UNWRAPPED, // struct wire_unwrapped; a bin; min and max are of its size
};

struct wire_field {
    const char *name;
    enum wire_field_type type;
    size_t offset; // of the member in struct wire_request or struct wire_reply
    unsigned min;  // of the number, or of the length in bytes
    unsigned max;
    const char *(*name_of)(unsigned number); // of an enum: NULL if the number is not one of it
};

struct wire_fields {
    const struct wire_field *rows; // NULL: no such operation
    size_t count;
};

// 0xff if i is less than len, else 0, without a branch. Both are less than half of SIZE_MAX.
static inline uint8_t wire_mask(size_t i, size_t len)
{
    return (uint8_t)(0 - ((i - len) >> (sizeof(size_t) * CHAR_BIT - 1)));
}

// Elements of the array before the fields: version, operation or class, id.
#define WIRE_HEADER_COUNT 3

struct wire_fields wire_request_fields(enum wire_operation operation);
// Of a reply of class ok. That of list is one row, for each of its names.
struct wire_fields wire_reply_fields(enum wire_operation operation);

// ERR_PERM: a value is out of bounds, not one of its table, or does not go with another.
enum err wire_check_request(const struct wire_request *request, struct detail *detail);
enum err wire_check_reply(enum wire_operation operation, const struct wire_reply *reply,
                          struct detail *detail);
