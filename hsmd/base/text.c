// SPDX-License-Identifier: Apache-2.0
#include "hsmd/base/text.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

const char *text_quote(const char *text, size_t len, char *out, size_t size)
{
    size_t o = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        bool plain = c >= ' ' && c < 0x7f && c != '"' && c != '\\';
        if (o + (plain ? 1 : 4) + 4 > size) {
            snprintf(out + o, size - o, "...");
            return out;
        }
        o += (size_t)snprintf(out + o, size - o, plain ? "%c" : "\\x%02x", c);
    }
    if (size)
        out[o] = 0;
    return out;
}

enum err text_put_hex(struct buf *buf, struct bytes bytes)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t *place = NULL;
    enum err err = buf_reserve(buf, bytes.len * 2, &place);
    if (err != ERR_OK)
        return err;
    for (size_t i = 0; i < bytes.len; i++) {
        place[2 * i] = (uint8_t)digits[bytes.data[i] >> 4];
        place[2 * i + 1] = (uint8_t)digits[bytes.data[i] & 15];
    }
    return ERR_OK;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

enum err text_get_hex(const char *hex, struct buf *out)
{
    size_t len = strlen(hex);
    uint8_t *place = NULL;
    if (len % 2)
        return ERR_PERM;
    for (size_t i = 0; i < len; i++) {
        if (hex_value(hex[i]) < 0)
            return ERR_PERM;
    }
    enum err err = buf_reserve(out, len / 2, &place);
    for (size_t i = 0; err == ERR_OK && i < len; i += 2)
        place[i / 2] = (uint8_t)(hex_value(hex[i]) * 16 + hex_value(hex[i + 1]));
    return err;
}

bool text_get_hex_exact(const char *hex, uint8_t *out, size_t size)
{
    struct buf bytes;
    buf_init(&bytes, size);
    bool ok = hex && text_get_hex(hex, &bytes) == ERR_OK && bytes.len == size;
    if (ok && size)
        memcpy(out, bytes.data, size);
    buf_clear(&bytes);
    return ok;
}

bool text_is_name(const char *name, size_t len)
{
    if (len == 0 || len > TEXT_NAME_MAX || name[0] == '.' || name[0] == '-')
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!isascii((unsigned char)name[i]) ||
            (!isalnum((unsigned char)name[i]) && !strchr("._-", name[i])) || name[i] == 0)
            return false;
    }
    return true;
}
