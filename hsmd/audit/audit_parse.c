// SPDX-License-Identifier: Apache-2.0
#include "hsmd/audit/audit_parse.h"

#include <inttypes.h>
#include <string.h>

#include <openssl/evp.h>

#include "hsmd/audit/audit_line.h"
#include "hsmd/base/text.h"

// What is left of the line.
struct cursor {
    struct bytes rest;
};

static bool take(struct cursor *cursor, const char *text)
{
    size_t len = strlen(text);
    if (cursor->rest.len < len || memcmp(cursor->rest.data, text, len) != 0)
        return false;
    cursor->rest = bytes_of(cursor->rest.data + len, cursor->rest.len - len);
    return true;
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex_digit(uint8_t c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f');
}

static struct bytes cut(struct cursor *cursor, size_t len)
{
    struct bytes value = bytes_of(cursor->rest.data, len);
    cursor->rest = bytes_of(cursor->rest.data + len, cursor->rest.len - len);
    return value;
}

static size_t span(struct bytes rest, bool (*is_in)(uint8_t c))
{
    size_t len = 0;
    while (len < rest.len && is_in(rest.data[len]))
        len++;
    return len;
}

// Decimal without leading zeros, below 2^64.
static bool take_number(struct cursor *cursor, struct bytes *value)
{
    size_t len = span(cursor->rest, is_digit);
    if (len == 0 || len > 20 || (len > 1 && cursor->rest.data[0] == '0') ||
        (len == 20 && memcmp(cursor->rest.data, "18446744073709551615", 20) > 0))
        return false;
    *value = cut(cursor, len);
    return true;
}

// How many bytes of the text one character takes, 0: none that hsmd writes.
static size_t character(struct bytes rest)
{
    const uint8_t *at = rest.data;
    if (rest.len == 0 || at[0] < 0x20 || at[0] >= 0x7f || at[0] == '"')
        return 0;
    if (at[0] != '\\')
        return 1;
    if (rest.len >= 2 && (at[1] == '"' || at[1] == '\\'))
        return 2;
    if (rest.len < 6 || memcmp(at, "\\u00", 4) != 0 || !is_hex_digit(at[4]) || !is_hex_digit(at[5]))
        return 0;
    // Only what would not do unescaped: 00 to 1f, 7f to ff.
    return at[4] < '2' || at[4] > '7' || (at[4] == '7' && at[5] == 'f') ? 6 : 0;
}

static bool take_text(struct cursor *cursor, struct bytes *value)
{
    size_t len = 0;
    for (size_t more;
         len < cursor->rest.len &&
         (more = character(bytes_of(cursor->rest.data + len, cursor->rest.len - len)));)
        len += more;
    *value = cut(cursor, len);
    return len > 0;
}

static bool take_hex(struct cursor *cursor, struct bytes *value)
{
    size_t len = span(cursor->rest, is_hex_digit);
    *value = cut(cursor, len);
    return len > 0 && len % 2 == 0;
}

static bool is_base64(uint8_t c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '+' ||
           c == '/' || c == '=';
}

// The one encoding of what it decodes to.
static bool take_base64(struct cursor *cursor, struct bytes *value)
{
    uint8_t again[4 * (AUDIT_SIGNATURE_MAX + 2) / 3 + 1];
    struct buf decoded;
    *value = cut(cursor, span(cursor->rest, is_base64));
    buf_init(&decoded, AUDIT_SIGNATURE_MAX);
    bool ok = value->len > 0 && audit_field_base64(*value, &decoded) == ERR_OK;
    if (ok) {
        int len = EVP_EncodeBlock(again, decoded.data, (int)decoded.len);
        ok = bytes_equal(*value, bytes_of(again, (size_t)len));
    }
    buf_clear(&decoded);
    return ok;
}

static bool take_time(struct cursor *cursor, struct bytes *value)
{
    static const char shape[] = "0000-00-00T00:00:00.000Z";
    const size_t len = sizeof shape - 1;
    if (cursor->rest.len < len)
        return false;
    for (size_t i = 0; i < len; i++) {
        uint8_t c = cursor->rest.data[i];
        if (shape[i] == '0' ? !is_digit(c) : c != (uint8_t)shape[i])
            return false;
    }
    *value = cut(cursor, len);
    return true;
}

static bool take_quoted(struct cursor *cursor, enum audit_kind kind, struct bytes *value)
{
    bool ok = take(cursor, "\"");
    if (kind == AUDIT_KIND_TIME)
        ok = ok && take_time(cursor, value);
    else if (kind == AUDIT_KIND_HEX)
        ok = ok && take_hex(cursor, value);
    else if (kind == AUDIT_KIND_BASE64)
        ok = ok && take_base64(cursor, value);
    else
        ok = ok && take_text(cursor, value);
    return ok && take(cursor, "\"");
}

// Name and colon of a field; false: another one, or none.
static bool take_name(struct cursor *cursor, enum audit_field field)
{
    struct cursor ahead = *cursor;
    if (!take(&ahead, "\"") || !take(&ahead, audit_field_name(field)) || !take(&ahead, "\":"))
        return false;
    *cursor = ahead;
    return true;
}

// Says what stands where a field should.
static enum err complain(const struct cursor *cursor, struct detail *detail)
{
    char quoted[48];
    struct bytes rest = cursor->rest;
    size_t len = 0;
    for (unsigned i = 0; i < AUDIT_FIELD_COUNT; i++) {
        struct cursor ahead = *cursor;
        if (take_name(&ahead, (enum audit_field)i))
            return err_set(detail, ERR_PERM, "field \"%s\" is there twice or out of its order",
                           audit_field_name((enum audit_field)i));
    }
    if (rest.len && rest.data[0] == '"') {
        rest = bytes_of(rest.data + 1, rest.len - 1);
        while (len < rest.len && rest.data[len] != '"')
            len++;
        if (rest.len - len < 2 || rest.data[len + 1] != ':')
            return err_set(detail, ERR_PERM, "a field is not as hsmd writes it");
        return err_set(detail, ERR_PERM, "unknown field \"%s\"",
                       text_quote((const char *)rest.data, len, quoted, sizeof quoted));
    }
    return err_set(detail, ERR_PERM, "no field where one should be");
}

static enum err parse_field(struct cursor *cursor, enum audit_field field, struct bytes *value,
                            struct detail *detail)
{
    enum audit_kind kind = audit_field_kind(field);
    bool ok =
        kind == AUDIT_KIND_NUMBER ? take_number(cursor, value) : take_quoted(cursor, kind, value);
    return ok ? ERR_OK
              : err_set(detail, ERR_PERM, "field \"%s\" is not as hsmd writes it",
                        audit_field_name(field));
}

static enum err check_checkpoint(const struct audit_line *line, struct detail *detail)
{
    static const enum audit_field needed[] = {AUDIT_FIELD_ALGORITHM, AUDIT_FIELD_HASH,
                                              AUDIT_FIELD_COVERS,    AUDIT_FIELD_CHAIN,
                                              AUDIT_FIELD_KEY_ID,    AUDIT_FIELD_SIGNATURE};
    bool is_checkpoint = line->event == AUDIT_CHECKPOINT;
    unsigned present = 0;
    for (unsigned i = AUDIT_FIELD_EVENT + 1; i < AUDIT_FIELD_PREV; i++)
        present += line->fields[i].data != NULL;
    for (unsigned i = 0; i < sizeof needed / sizeof *needed && is_checkpoint; i++) {
        if (!line->fields[needed[i]].data)
            return err_set(detail, ERR_PERM, "a checkpoint without \"%s\"",
                           audit_field_name(needed[i]));
    }
    if (is_checkpoint && present != sizeof needed / sizeof *needed)
        return err_set(detail, ERR_PERM, "a checkpoint with a field that it does not have");
    if (is_checkpoint && (line->fields[AUDIT_FIELD_CHAIN].len != 2 * (size_t)AUDIT_HASH_SIZE ||
                          line->fields[AUDIT_FIELD_KEY_ID].len != 2 * (size_t)AUDIT_HASH_SIZE))
        return err_set(detail, ERR_PERM, "a checkpoint with a hash of a wrong length");
    for (unsigned i = AUDIT_FIELD_COVERS; i <= AUDIT_FIELD_SIGNATURE && !is_checkpoint; i++) {
        if (line->fields[i].data)
            return err_set(detail, ERR_PERM, "\"%s\" in a line that is no checkpoint",
                           audit_field_name((enum audit_field)i));
    }
    return ERR_OK;
}

static enum err check_values(struct audit_line *line, struct detail *detail)
{
    static const enum audit_field needed[] = {AUDIT_FIELD_SEQ, AUDIT_FIELD_TIME, AUDIT_FIELD_EVENT,
                                              AUDIT_FIELD_PREV};
    char quoted[48];
    for (unsigned i = 0; i < sizeof needed / sizeof *needed; i++) {
        if (!line->fields[needed[i]].data)
            return err_set(detail, ERR_PERM, "no field \"%s\"", audit_field_name(needed[i]));
    }
    line->seq = audit_field_number(line->fields[AUDIT_FIELD_SEQ]);
    if (line->seq == 0)
        return err_set(detail, ERR_PERM, "its number is 0");
    struct bytes event = line->fields[AUDIT_FIELD_EVENT];
    if (!audit_event_by_name(event, &line->event))
        return err_set(detail, ERR_PERM, "unknown event \"%s\"",
                       text_quote((const char *)event.data, event.len, quoted, sizeof quoted));
    if (line->fields[AUDIT_FIELD_PREV].len != 2 * (size_t)AUDIT_HASH_SIZE)
        return err_set(detail, ERR_PERM, "field \"prev\" has a wrong length");
    return check_checkpoint(line, detail);
}

enum err audit_parse(struct bytes text, struct audit_line *out, struct detail *detail)
{
    struct audit_line line = {0};
    struct cursor cursor = {text};
    bool is_first = true;
    if (text.len >= AUDIT_LINE_MAX)
        return err_set(detail, ERR_PERM, "longer than any line of hsmd's");
    if (!take(&cursor, "{"))
        return err_set(detail, ERR_PERM, "no line of an audit log");
    for (unsigned i = 0; i < AUDIT_FIELD_COUNT && !(cursor.rest.len && cursor.rest.data[0] == '}');
         i++) {
        struct cursor ahead = cursor;
        if (!is_first && !take(&ahead, ","))
            return err_set(detail, ERR_PERM, "no comma after a field");
        if (!take_name(&ahead, (enum audit_field)i))
            continue;
        enum err err = parse_field(&ahead, (enum audit_field)i, &line.fields[i], detail);
        if (err != ERR_OK)
            return err;
        cursor = ahead;
        is_first = false;
    }
    if (!take(&cursor, "}")) {
        if (!is_first)
            (void)take(&cursor, ",");
        return complain(&cursor, detail);
    }
    if (cursor.rest.len)
        return err_set(detail, ERR_PERM, "something stands behind the line's end");
    enum err err = check_values(&line, detail);
    if (err == ERR_OK)
        *out = line;
    return err;
}

uint64_t audit_field_number(struct bytes field)
{
    uint64_t value = 0;
    for (size_t i = 0; i < field.len; i++)
        value = value * 10 + (uint64_t)(field.data[i] - '0');
    return value;
}

static uint8_t nibble(uint8_t c)
{
    return (uint8_t)(is_digit(c) ? c - '0' : c - 'a' + 10);
}

enum err audit_field_hex(struct bytes field, struct buf *out)
{
    uint8_t *place = NULL;
    enum err err = buf_reserve(out, field.len / 2, &place);
    for (size_t i = 0; i < field.len / 2 && err == ERR_OK; i++)
        place[i] = (uint8_t)(nibble(field.data[2 * i]) << 4 | nibble(field.data[2 * i + 1]));
    return err;
}

enum err audit_field_base64(struct bytes field, struct buf *out)
{
    uint8_t decoded[AUDIT_SIGNATURE_MAX + 3];
    size_t padding = 0;
    if (field.len % 4 != 0 || field.len / 4 * 3 > sizeof decoded)
        return ERR_PERM;
    int len = EVP_DecodeBlock(decoded, field.data, (int)field.len);
    while (padding < 2 && padding < field.len && field.data[field.len - 1 - padding] == '=')
        padding++;
    if (len < (int)padding)
        return ERR_PERM;
    return buf_put(out, decoded, (size_t)len - padding);
}

enum err audit_field_text(struct bytes field, struct buf *out)
{
    enum err err = ERR_OK;
    for (size_t i = 0; i < field.len && err == ERR_OK; i++) {
        uint8_t c = field.data[i];
        if (c == '\\' && field.data[i + 1] == 'u') {
            c = (uint8_t)(nibble(field.data[i + 4]) << 4 | nibble(field.data[i + 5]));
            i += 5;
        } else if (c == '\\') {
            c = field.data[++i];
        }
        err = buf_put(out, &c, 1);
    }
    return err;
}
