// SPDX-License-Identifier: Apache-2.0
#include "hsmd/officers/words.h"

#include <stdarg.h>
#include <stdio.h>

#include <openssl/asn1.h>

#include "hsmd/base/hash.h"
#include "hsmd/base/text.h"
#include "hsmd/officers/act.h"
#include "hsmd/registry/registry.h"

static bool is_hidden(unsigned long c)
{
    static const struct {
        unsigned long first, last;
    } ranges[] = {
        {0, 0x1f},        {0x7f, 0x9f},       // control characters
        {0xad, 0xad},                         // soft hyphen
        {0x61c, 0x61c},   {0x200b, 0x200f},   // of no width, or of direction
        {0x2028, 0x202e},                     // line ends, direction
        {0x2060, 0x206f}, {0xd800, 0xdfff},   // direction; surrogates
        {0xe000, 0xf8ff},                     // private use
        {0xfe00, 0xfe0f}, {0xfeff, 0xfeff},   // variations; byte order mark
        {0xfff0, 0xffff}, {0xe0000, 0x10ffff} // specials; tags and private use
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        if (c >= ranges[i].first && c <= ranges[i].last)
            return true;
    }
    return c > 0x10ffff;
}

bool words_is_printable(struct bytes text)
{
    while (text.len) {
        unsigned long c = 0;
        int used = UTF8_getc(text.data, (int)text.len, &c);
        if (used <= 0 || is_hidden(c))
            return false;
        text = bytes_of(text.data + used, text.len - (size_t)used);
    }
    return true;
}

uint64_t words_operations(void)
{
    uint64_t set = 0;
#define X(symbol, number, name, operation) set |= REGISTRY_SET(operation);
    WIRE_ALGORITHMS(X)
#undef X
    return set;
}

uint64_t words_algorithms(uint64_t operations)
{
    uint64_t set = 0;
#define X(symbol, number, name, operation)    \
    if (operations & REGISTRY_SET(operation)) \
        set |= REGISTRY_SET(number);
    WIRE_ALGORITHMS(X)
#undef X
    return set;
}

void words_say(struct words *words, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (words->err != ERR_OK)
        return;
    words->err =
        len >= 0 && (size_t)len < sizeof text ? buf_put(words->out, text, (size_t)len) : ERR_BUG;
}

void words_quote(struct words *words, struct bytes text)
{
    // text_quote cuts what does not fit; a part of this length always does, whatever is in it.
    enum { PART = 40 };
    char quoted[TEXT_QUOTED_SIZE];
    words_say(words, "\"");
    while (text.len) {
        size_t len = text.len < PART ? text.len : PART;
        words_say(words, "%s", text_quote((const char *)text.data, len, quoted, sizeof quoted));
        text = bytes_of(text.data + len, text.len - len);
    }
    words_say(words, "\"");
}

void words_hex(struct words *words, struct bytes bytes)
{
    if (words->err == ERR_OK)
        words->err = text_put_hex(words->out, bytes);
}

void words_sha256(struct words *words, struct bytes bytes)
{
    uint8_t digest[HASH_SIZE_MAX];
    if (words->err == ERR_OK)
        words->err = hash_digest(HASH_SHA256, bytes, digest);
    words_say(words, "SHA-256 ");
    if (words->err == ERR_OK)
        words_hex(words, bytes_of(digest, hash_size(HASH_SHA256)));
}

void words_list(struct words *words, struct bytes list)
{
    struct bytes item;
    for (bool is_first = true; act_list_next(&list, &item); is_first = false) {
        struct bytes rest = list;
        struct bytes next;
        if (!is_first)
            words_say(words, act_list_next(&rest, &next) ? ", " : " and ");
        words_quote(words, item);
    }
}
