// SPDX-License-Identifier: Apache-2.0
#include "hsmd/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "hsmd/base/alloc.h"

bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

struct bytes bytes_of(const void *data, size_t len)
{
    return (struct bytes){data, len};
}

struct bytes bytes_of_text(const char *text)
{
    return bytes_of(text, strlen(text));
}

void buf_init(struct buf *buf, size_t max)
{
    // A quarter of the address space is as good as no cap, and sums with it cannot wrap.
    *buf = (struct buf){.max = max < SIZE_MAX / 4 ? max : SIZE_MAX / 4};
}

void buf_clear(struct buf *buf)
{
    mem_free(buf->data);
    buf_init(buf, buf->max);
}

void buf_reset(struct buf *buf)
{
    buf->len = 0;
    if (buf->data)
        buf->data[0] = 0;
}

void buf_empty(struct buf *buf, size_t most)
{
    if (buf->room > most)
        buf_clear(buf);
    else
        buf_reset(buf);
}

void buf_wipe(struct buf *buf)
{
    if (buf->data)
        explicit_bzero(buf->data, buf->room);
    buf->len = 0;
}

struct bytes buf_bytes(const struct buf *buf)
{
    return bytes_of(buf->data, buf->len);
}

const char *buf_text(const struct buf *buf)
{
    return buf->data ? (const char *)buf->data : "";
}

enum err buf_reserve(struct buf *buf, size_t len, uint8_t **place)
{
    if (len > buf->max - buf->len)
        return ERR_PERM;
    if (buf->len + len >= buf->room) {
        size_t room = buf->room ? buf->room * 2 : 256;
        while (room <= buf->len + len)
            room *= 2;
        if (room > buf->max + 1)
            room = buf->max + 1;
        uint8_t *data = mem_realloc(buf->data, room);
        if (!data)
            return ERR_TEMP;
        buf->data = data;
        buf->room = room;
    }
    *place = buf->data + buf->len;
    buf->len += len;
    buf->data[buf->len] = 0;
    return ERR_OK;
}

enum err buf_put(struct buf *buf, const void *data, size_t len)
{
    uint8_t *place = NULL;
    enum err err = buf_reserve(buf, len, &place);
    if (err == ERR_OK && len)
        memcpy(place, data, len);
    return err;
}

enum err buf_put_bytes(struct buf *buf, struct bytes bytes)
{
    return buf_put(buf, bytes.data, bytes.len);
}

enum err buf_put_text(struct buf *buf, const char *text)
{
    return buf_put(buf, text, strlen(text));
}

enum err buf_put_decimal(struct buf *buf, uint64_t number)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    return buf_put(buf, digits + at, sizeof digits - at);
}

enum err buf_printf(struct buf *buf, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0)
        return ERR_BUG;
    uint8_t *place = NULL;
    enum err err = buf_reserve(buf, (size_t)n, &place);
    if (err != ERR_OK)
        return err;
    va_start(ap, fmt);
    vsnprintf((char *)place, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return ERR_OK;
}
