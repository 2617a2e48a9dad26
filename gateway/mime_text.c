// SPDX-License-Identifier: Apache-2.0
#include "gateway/mime_text.h"

#include <string.h>
#include <strings.h>

#include <openssl/evp.h>

#include "gateway/field.h"

#define CHUNK 16384

static size_t count_8bit(struct bytes text)
{
    size_t count = 0;
    size_t i = 0;
    // A word at a time: nearly all text has none.
    for (uint64_t word; i + sizeof word <= text.len; i += sizeof word) {
        memcpy(&word, text.data + i, sizeof word);
        count += (size_t)__builtin_popcountll(word & 0x8080808080808080);
    }
    for (; i < text.len; i++)
        count += text.data[i] >> 7;
    return count;
}

static bool starts_with(struct bytes line, const char *start)
{
    size_t n = strlen(start);
    return line.len >= n && strncasecmp((const char *)line.data, start, n) == 0;
}

static bool is_8bit_label(struct bytes line)
{
    static const char name[] = "Content-Transfer-Encoding";
    if (!starts_with(line, name))
        return false;
    line = bytes_skip(line, sizeof name - 1);
    while (line.len && (line.data[0] == ' ' || line.data[0] == '\t' || line.data[0] == ':'))
        line = bytes_skip(line, 1);
    return starts_with(line, "8bit") || starts_with(line, "binary");
}

static void scan_line(struct bytes line, struct mime_text *text)
{
    if (line.len && line.data[line.len - 1] == '\n') {
        line.len--;
        if (line.len && line.data[line.len - 1] == '\r')
            line.len--;
    }
    if (line.len == 0)
        return;
    if (line.len > MIME_LINE_MAX)
        text->has_long_line = true;
    if (!text->has_bare_cr && memchr(line.data, '\r', line.len))
        text->has_bare_cr = true;
    if (line.data[0] == 'F' && line.len >= 5 && memcmp(line.data, "From ", 5) == 0)
        text->has_from_line = true;
    if ((line.data[0] | 0x20) == 'c' && is_8bit_label(line))
        text->has_8bit_label = true;
}

struct mime_text mime_text_scan(struct bytes text)
{
    struct mime_text facts = {0};
    facts.count_8bit = count_8bit(text);
    facts.has_nul = text.len && memchr(text.data, 0, text.len);
    while (text.len) {
        size_t n = field_line_len(text);
        scan_line(bytes_first(text, n), &facts);
        text = bytes_skip(text, n);
    }
    return facts;
}

bool mime_text_is_7bit(const struct mime_text *text)
{
    return text->count_8bit == 0 && !text->has_nul && !text->has_bare_cr && !text->has_long_line;
}

bool mime_text_is_clean(const struct mime_text *text)
{
    return mime_text_is_7bit(text) && !text->has_from_line && !text->has_8bit_label;
}

static struct bytes behind_begin_line(struct bytes text)
{
    struct bytes rest = text;
    while (rest.len) {
        bool is_begin = rest.len >= 6 && memcmp(rest.data, "begin ", 6) == 0;
        rest = bytes_skip(rest, field_line_len(rest));
        if (is_begin)
            return rest;
    }
    return rest;
}

enum err mime_text_decode(GMimeContentEncoding encoding, struct bytes text, struct spool *out,
                          struct detail *detail)
{
    if (encoding != GMIME_CONTENT_ENCODING_BASE64 &&
        encoding != GMIME_CONTENT_ENCODING_QUOTEDPRINTABLE &&
        encoding != GMIME_CONTENT_ENCODING_UUENCODE)
        return spool_put(out, text, detail);
    GMimeEncoding state;
    g_mime_encoding_init_decode(&state, encoding);
    if (encoding == GMIME_CONTENT_ENCODING_UUENCODE) {
        // GMime leaves finding the begin line to its caller.
        text = behind_begin_line(text);
        state.state = GMIME_UUDECODE_STATE_BEGIN;
    }
    char *chunk = g_malloc(g_mime_encoding_outlen(&state, CHUNK));
    enum err err = ERR_OK;
    while (err == ERR_OK && text.len) {
        size_t n = text.len < CHUNK ? text.len : CHUNK;
        size_t made = g_mime_encoding_step(&state, (const char *)text.data, n, chunk);
        err = spool_put(out, bytes_of(chunk, made), detail);
        text = bytes_skip(text, n);
    }
    if (err == ERR_OK) {
        size_t made = g_mime_encoding_flush(&state, "", 0, chunk);
        err = spool_put(out, bytes_of(chunk, made), detail);
    }
    g_free(chunk);
    return err;
}

// The label, or what the text is in spite of it.
static GMimeContentEncoding encoding_of_der(GMimeContentEncoding encoding, struct bytes text)
{
    if (encoding == GMIME_CONTENT_ENCODING_BASE64 ||
        encoding == GMIME_CONTENT_ENCODING_QUOTEDPRINTABLE ||
        encoding == GMIME_CONTENT_ENCODING_UUENCODE)
        return encoding;
    while (text.len && (text.data[0] <= ' '))
        text = bytes_skip(text, 1);
    // A SEQUENCE with a long or indefinite length begins with 30 8x, in base64 "MI".
    if (text.len >= 2 && memcmp(text.data, "MI", 2) == 0)
        return GMIME_CONTENT_ENCODING_BASE64;
    return encoding;
}

enum err mime_text_decode_der(GMimeContentEncoding encoding, struct bytes text, struct spool *out,
                              struct detail *detail)
{
    return mime_text_decode(encoding_of_der(encoding, text), text, out, detail);
}

static bool is_base64_char(uint8_t c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
           c == '/';
}

// Whole groups of four, padding in the last one only.
static bool is_strict_base64(struct bytes text)
{
    size_t count = 0, padding = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        if (c == ' ' || c == '\t' || c == '\r' || c == '\n')
            continue;
        if (c == '=')
            padding++;
        else if (padding > 0 || !is_base64_char(c))
            return false;
        count++;
    }
    return count % 4 == 0 && padding <= 2;
}

enum err mime_text_decode_der_strictly(GMimeContentEncoding encoding, struct bytes text,
                                       struct spool *out, struct detail *detail)
{
    encoding = encoding_of_der(encoding, text);
    if (encoding == GMIME_CONTENT_ENCODING_UUENCODE)
        return err_set(detail, ERR_PERM, "uuencoded");
    if (encoding == GMIME_CONTENT_ENCODING_BASE64 && !is_strict_base64(text))
        return err_set(detail, ERR_PERM, "something else is in the base64");
    return mime_text_decode(encoding, text, out, detail);
}

enum err mime_text_put_base64(struct spool *out, struct bytes data, const char *eol,
                              struct detail *detail)
{
    enum { LINE = 57, LINES = 100 };
    char chunk[LINES * (LINE / 3 * 4 + 2) + 1];
    while (data.len) {
        size_t made = 0;
        for (int i = 0; i < LINES && data.len; i++) {
            size_t n = data.len < LINE ? data.len : LINE;
            made += (size_t)EVP_EncodeBlock((unsigned char *)chunk + made, data.data, (int)n);
            size_t end = strlen(eol);
            memcpy(chunk + made, eol, end);
            made += end;
            data = bytes_skip(data, n);
        }
        enum err err = spool_put(out, bytes_of(chunk, made), detail);
        if (err != ERR_OK)
            return err;
    }
    return ERR_OK;
}

// Whether rest[0] must be written as =XX at column col.
static bool needs_escape(struct bytes rest, size_t col)
{
    uint8_t c = rest.data[0];
    if (c == '=' || c > 126 || (c < 32 && c != '\t'))
        return true;
    if (c == ' ' || c == '\t')
        return rest.len == 1;
    if (col)
        return false;
    return c == '.' || (c == '-' && rest.len > 1 && rest.data[1] == '-') ||
           (c == 'F' && rest.len >= 5 && memcmp(rest.data, "From ", 5) == 0);
}

static enum err put_qp_line(struct spool *out, struct bytes line, struct detail *detail)
{
    static const char hex[] = "0123456789ABCDEF";
    char made[80];
    size_t col = 0;
    while (line.len) {
        if (col > 72) {
            memcpy(made + col, "=\r\n", 3);
            enum err err = spool_put(out, bytes_of(made, col + 3), detail);
            if (err != ERR_OK)
                return err;
            col = 0;
        }
        if (needs_escape(line, col)) {
            made[col++] = '=';
            made[col++] = hex[line.data[0] >> 4];
            made[col++] = hex[line.data[0] & 15];
        } else {
            made[col++] = (char)line.data[0];
        }
        line = bytes_skip(line, 1);
    }
    return spool_put(out, bytes_of(made, col), detail);
}

enum err mime_text_put_qp(struct spool *out, struct bytes lines, struct detail *detail)
{
    enum err err = ERR_OK;
    while (err == ERR_OK && lines.len) {
        size_t n = field_line_len(lines);
        struct bytes line = bytes_first(lines, n);
        bool has_end = line.data[n - 1] == '\n';
        if (has_end)
            line.len -= line.len > 1 && line.data[n - 2] == '\r' ? 2 : 1;
        err = put_qp_line(out, line, detail);
        if (err == ERR_OK && has_end)
            err = spool_put(out, BYTES_LITERAL("\r\n"), detail);
        lines = bytes_skip(lines, n);
    }
    return err;
}
