// SPDX-License-Identifier: Apache-2.0
#include "hsmd/base/curve.h"

#include <string.h>

#include "hsmd/base/file.h"

#define GROUP 5 // characters for 4 bytes
#define FILE_MAX 4096

static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                             ".-:+=^!/*?&<>()[]{}@%$#";

bool curve_decode(const char *text, uint8_t raw[CURVE_KEY_SIZE])
{
    if (strlen(text) != CURVE_TEXT_SIZE - 1)
        return false;
    for (; *text; text += GROUP, raw += 4) {
        uint64_t value = 0;
        for (unsigned i = 0; i < GROUP; i++) {
            const char *digit = strchr(digits, text[i]);
            if (!digit)
                return false;
            value = value * (sizeof digits - 1) + (uint64_t)(digit - digits);
        }
        if (value > UINT32_MAX)
            return false;
        for (unsigned i = 0; i < 4; i++)
            raw[i] = (uint8_t)(value >> (24 - 8 * i));
    }
    return true;
}

void curve_encode(const uint8_t raw[CURVE_KEY_SIZE], char text[CURVE_TEXT_SIZE])
{
    char *place = text;
    for (unsigned at = 0; at < CURVE_KEY_SIZE; at += 4, place += GROUP) {
        uint32_t value = (uint32_t)raw[at] << 24 | (uint32_t)raw[at + 1] << 16 |
                         (uint32_t)raw[at + 2] << 8 | raw[at + 3];
        for (unsigned i = GROUP; i-- > 0; value /= sizeof digits - 1)
            place[i] = digits[value % (sizeof digits - 1)];
    }
    *place = 0;
}

bool curve_is_key(const char *text)
{
    uint8_t raw[CURVE_KEY_SIZE];
    bool is_key = curve_decode(text, raw);
    explicit_bzero(raw, sizeof raw); // it may be a secret one
    return is_key;
}

enum err curve_read_public(const char *path, char key[CURVE_TEXT_SIZE], struct detail *detail)
{
    struct buf text;
    buf_init(&text, FILE_MAX);
    enum err err = file_read(path, &text, detail);
    if (err == ERR_OK) {
        while (text.len && memchr(" \t\r\n", text.data[text.len - 1], 4))
            text.data[--text.len] = 0;
        if (strlen(buf_text(&text)) != text.len || !curve_is_key(buf_text(&text)))
            err = err_set(detail, ERR_PERM, "%s: no CURVE key in Z85 (40 characters)", path);
        else
            memcpy(key, text.data, CURVE_TEXT_SIZE);
    }
    buf_clear(&text);
    return err;
}
