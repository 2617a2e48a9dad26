// SPDX-License-Identifier: Apache-2.0
#include "hsmd/wire/cursor.h"

// First bytes, from the msgpack specification. The short forms keep their length or value in the
// low bits; the others are followed by 1, 2, 4 or 8 bytes of it, the most significant first.
enum {
    FIXINT_LAST = 0x7f,
    FIXARRAY = 0x90,
    FIXARRAY_LAST = 0x9f,
    FIXSTR = 0xa0,
    FIXSTR_LAST = 0xbf,
    BIN8 = 0xc4,
    BIN32 = 0xc6,
    UINT8 = 0xcc,
    UINT64 = 0xcf,
    STR8 = 0xd9,
    STR32 = 0xdb,
    ARRAY16 = 0xdc,
    ARRAY32 = 0xdd,
};

void cursor_init(struct cursor *cursor, struct bytes frame)
{
    *cursor = (struct cursor){.at = frame.data, .end = frame.data};
    if (frame.len)
        cursor->end += frame.len; // not of NULL
}

static void fail(struct cursor *cursor, const char *error)
{
    if (!cursor->error)
        cursor->error = error;
}

static struct bytes take(struct cursor *cursor, uint64_t len)
{
    if (!cursor->error && len > (size_t)(cursor->end - cursor->at))
        fail(cursor, "cut short");
    if (cursor->error)
        return bytes_of(NULL, 0);
    struct bytes bytes = bytes_of(cursor->at, (size_t)len);
    cursor->at += len;
    return bytes;
}

static uint64_t take_number(struct cursor *cursor, unsigned size)
{
    struct bytes bytes = take(cursor, size);
    uint64_t value = 0;
    for (size_t i = 0; i < bytes.len; i++)
        value = value << 8 | bytes.data[i];
    return value;
}

// The next first byte; 0 after an error, which no caller takes for one of its own.
static uint8_t take_first(struct cursor *cursor)
{
    return (uint8_t)take_number(cursor, 1);
}

uint64_t cursor_get_uint(struct cursor *cursor, uint64_t max)
{
    uint64_t value = 0;
    uint8_t first = take_first(cursor);
    if (first <= FIXINT_LAST)
        value = first;
    else if (first >= UINT8 && first <= UINT64)
        value = take_number(cursor, 1u << (first - UINT8));
    else
        fail(cursor, "not an unsigned integer");
    if (value > max)
        fail(cursor, "number out of range");
    return cursor->error ? 0 : value;
}

struct bytes cursor_get_str(struct cursor *cursor)
{
    uint64_t len = 0;
    uint8_t first = take_first(cursor);
    if (first >= FIXSTR && first <= FIXSTR_LAST)
        len = first - FIXSTR;
    else if (first >= STR8 && first <= STR32)
        len = take_number(cursor, 1u << (first - STR8));
    else
        fail(cursor, "not a string");
    return take(cursor, len);
}

struct bytes cursor_get_bin(struct cursor *cursor)
{
    uint64_t len = 0;
    uint8_t first = take_first(cursor);
    if (first >= BIN8 && first <= BIN32)
        len = take_number(cursor, 1u << (first - BIN8));
    else
        fail(cursor, "not a binary");
    return take(cursor, len);
}

uint32_t cursor_get_array(struct cursor *cursor)
{
    uint64_t count = 0;
    uint8_t first = take_first(cursor);
    if (first >= FIXARRAY && first <= FIXARRAY_LAST)
        count = first - FIXARRAY;
    else if (first == ARRAY16 || first == ARRAY32)
        count = take_number(cursor, 2u << (first - ARRAY16));
    else
        fail(cursor, "not an array");
    return cursor->error ? 0 : (uint32_t)count;
}

void cursor_get_end(struct cursor *cursor)
{
    if (cursor->at != cursor->end)
        fail(cursor, "bytes past the end");
}
