// SPDX-License-Identifier: Apache-2.0
#include "gateway/message.h"

#include <string.h>

#include "gateway/field.h"
#include "hsmd/base/alloc.h"

struct message *message_new(const struct spool_conf *conf)
{
    struct message *message = mem_calloc(1, sizeof *message);
    if (!message)
        return NULL;
    message->body = spool_new(conf);
    if (!message->body) {
        mem_free(message);
        return NULL;
    }
    return message;
}

static void header_clear(struct header *header)
{
    mem_free(header->name);
    mem_free(header->value);
}

void message_free(struct message *message)
{
    if (!message)
        return;
    for (size_t i = 0; i < message->header_count; i++)
        header_clear(&message->headers[i]);
    mem_free(message->headers);
    spool_free(message->body);
    mem_free(message);
}

static size_t header_size(const struct header *header)
{
    return strlen(header->name) + strlen(header->value) + 2;
}

// Takes over what is in header, also if it fails.
static enum err insert(struct message *message, size_t at, struct header header,
                       struct detail *detail)
{
    enum err err = ERR_OK;
    size_t size = 0;
    if (!header.name || !header.value) {
        err = err_set(detail, ERR_TEMP, "message: out of memory");
        goto out;
    }
    size = header_size(&header);
    if (message->header_count >= MESSAGE_HEADERS_MAX) {
        err = err_set(detail, ERR_PERM, "more than %d header fields", MESSAGE_HEADERS_MAX);
        goto out;
    }
    if (size > MESSAGE_HEADER_BYTES_MAX - message->header_bytes) {
        err = err_set(detail, ERR_PERM, "header larger than %d bytes", MESSAGE_HEADER_BYTES_MAX);
        goto out;
    }
    if (message->header_count == message->header_room) {
        size_t room = message->header_room ? message->header_room * 2 : 32;
        struct header *headers = mem_realloc(message->headers, room * sizeof *headers);
        if (!headers) {
            err = err_set(detail, ERR_TEMP, "message: out of memory");
            goto out;
        }
        message->headers = headers;
        message->header_room = room;
    }
    memmove(message->headers + at + 1, message->headers + at,
            (message->header_count - at) * sizeof header);
    message->headers[at] = header;
    message->header_count++;
    message->header_bytes += size;
    message->separator = MESSAGE_SEPARATOR_LINE;
    header = (struct header){0};
out:
    header_clear(&header);
    return err;
}

enum err message_add_header(struct message *message, const char *name, const char *value,
                            struct detail *detail)
{
    struct header header = {mem_strdup(name), mem_strdup(value)};
    return insert(message, message->header_count, header, detail);
}

enum err message_prepend_header(struct message *message, const char *name, const char *value,
                                struct detail *detail)
{
    struct header header = {mem_strdup(name), mem_strdup(value)};
    return insert(message, 0, header, detail);
}

bool header_is(const struct header *header, const char *name)
{
    return field_name_equal(bytes_of_text(header->name), bytes_of_text(name));
}

void message_remove_header_at(struct message *message, size_t i)
{
    message->header_bytes -= header_size(&message->headers[i]);
    header_clear(&message->headers[i]);
    message->header_count--;
    memmove(message->headers + i, message->headers + i + 1,
            (message->header_count - i) * sizeof message->headers[0]);
    message->separator = MESSAGE_SEPARATOR_LINE;
}

void message_remove_headers(struct message *message, const char *name)
{
    for (size_t i = message->header_count; i-- > 0;)
        if (header_is(&message->headers[i], name))
            message_remove_header_at(message, i);
}

const char *message_header(const struct message *message, const char *name)
{
    for (size_t i = 0; i < message->header_count; i++)
        if (header_is(&message->headers[i], name))
            return message->headers[i].value;
    return NULL;
}

static bool ends_with(struct bytes bytes, const char *end)
{
    size_t n = strlen(end);
    return bytes.len >= n && memcmp(bytes.data + bytes.len - n, end, n) == 0;
}

static bool starts_with(struct bytes bytes, const char *start)
{
    size_t n = strlen(start);
    return bytes.len >= n && memcmp(bytes.data, start, n) == 0;
}

// Every line of the header, and the empty line behind it, ends with CRLF. Of a message without a
// header, the first line decides.
static bool has_crlf_lines(struct bytes raw)
{
    struct bytes rest = raw;
    struct field field;
    while (field_next(&rest, &field)) {
    }
    size_t header = raw.len - rest.len;
    struct bytes first = bytes_first(rest, field_line_len(rest));
    if (header == 0 || starts_with(first, "\n") || starts_with(first, "\r\n"))
        header += first.len;
    bool has_crlf = false;
    for (size_t pos = 0; pos < header;) {
        struct bytes line = bytes_skip(raw, pos);
        line.len = field_line_len(line);
        pos += line.len;
        if (ends_with(line, "\r\n"))
            has_crlf = true;
        else if (ends_with(line, "\n"))
            return false;
    }
    return has_crlf;
}

// The text as a string without 0 bytes; with has_crlf, every CRLF as LF.
static char *take_text(struct bytes text, bool has_crlf)
{
    char *copy = mem_calloc(text.len + 1, 1);
    size_t n = 0;
    for (size_t i = 0; copy && i < text.len; i++) {
        bool is_fold =
            has_crlf && text.data[i] == '\r' && i + 1 < text.len && text.data[i + 1] == '\n';
        if (text.data[i] && !is_fold)
            copy[n++] = (char)text.data[i];
    }
    return copy;
}

static enum err take_field(struct message *message, const struct field *field,
                           struct detail *detail)
{
    size_t behind_name = (size_t)(field->value.data - field->name.data) - 1;
    struct bytes value = bytes_skip(field->all, behind_name + 1);
    bool has_end = ends_with(value, "\n");
    if (has_end)
        value.len -= message->has_crlf ? 2 : 1;
    struct header header = {take_text(bytes_first(field->all, behind_name), false),
                            take_text(value, message->has_crlf)};
    enum err err = insert(message, message->header_count, header, detail);
    if (err == ERR_OK && !has_end)
        message->separator = MESSAGE_SEPARATOR_CUT;
    return err;
}

static struct bytes skip_mbox_line(struct bytes raw)
{
    struct bytes rest = raw;
    struct field field;
    if (!starts_with(raw, "From ") || field_next(&rest, &field))
        return raw;
    return bytes_skip(raw, field_line_len(raw));
}

enum err message_parse(struct bytes raw, const struct spool_conf *conf, struct message **message,
                       struct detail *detail)
{
    struct message *parsed = message_new(conf);
    if (!parsed)
        return err_set(detail, ERR_TEMP, "message: out of memory");
    struct bytes rest = skip_mbox_line(raw);
    parsed->has_crlf = has_crlf_lines(rest);
    enum err err = ERR_OK;
    struct field field;
    while (err == ERR_OK && field_next(&rest, &field))
        err = take_field(parsed, &field, detail);
    if (err != ERR_OK)
        goto out;
    if (starts_with(rest, "\n") || starts_with(rest, "\r\n")) {
        size_t n = rest.data[0] == '\r' ? 2 : 1;
        bool is_odd = n == 2 && !parsed->has_crlf;
        parsed->separator = is_odd ? MESSAGE_SEPARATOR_CRLF : MESSAGE_SEPARATOR_LINE;
        rest = bytes_skip(rest, n);
    } else if (parsed->separator != MESSAGE_SEPARATOR_CUT) {
        parsed->separator = MESSAGE_SEPARATOR_NONE;
    }
    err = spool_put(parsed->body, rest, detail);
    if (err != ERR_OK)
        goto out;
    *message = parsed;
    parsed = NULL;
out:
    message_free(parsed);
    return err;
}

static enum err put_separator(const struct message *message, struct spool *out,
                              struct detail *detail)
{
    switch (message->separator) {
    case MESSAGE_SEPARATOR_LINE:
        return spool_put(out, bytes_of_text(message->has_crlf ? "\r\n" : "\n"), detail);
    case MESSAGE_SEPARATOR_CRLF:
        return spool_put(out, BYTES_LITERAL("\r\n"), detail);
    case MESSAGE_SEPARATOR_NONE:
    case MESSAGE_SEPARATOR_CUT:
        break;
    }
    return ERR_OK;
}

// Not field_put_lines: a CR before a fold in the value is one more than the fold's own.
static enum err put_value(const struct message *message, struct bytes value, struct spool *out,
                          struct detail *detail)
{
    enum err err = ERR_OK;
    while (err == ERR_OK && message->has_crlf && value.len) {
        size_t n = field_line_len(value);
        if (value.data[n - 1] != '\n')
            break;
        err = spool_put(out, bytes_first(value, n - 1), detail);
        if (err == ERR_OK)
            err = spool_put(out, BYTES_LITERAL("\r\n"), detail);
        value = bytes_skip(value, n);
    }
    return err == ERR_OK ? spool_put(out, value, detail) : err;
}

static enum err put_header(const struct message *message, size_t i, struct spool *out,
                           struct detail *detail)
{
    const struct header *header = &message->headers[i];
    const char *eol = message->has_crlf ? "\r\n" : "\n";
    enum err err = spool_put(out, bytes_of_text(header->name), detail);
    if (err == ERR_OK)
        err = spool_put(out, BYTES_LITERAL(":"), detail);
    if (err == ERR_OK)
        err = put_value(message, bytes_of_text(header->value), out, detail);
    bool is_cut = message->separator == MESSAGE_SEPARATOR_CUT && i + 1 == message->header_count;
    if (err == ERR_OK && !is_cut)
        err = spool_put(out, bytes_of_text(eol), detail);
    return err;
}

enum err message_write(const struct message *message, struct spool *out, struct detail *detail)
{
    for (size_t i = 0; i < message->header_count; i++) {
        enum err err = put_header(message, i, out, detail);
        if (err != ERR_OK)
            return err;
    }
    struct bytes body;
    enum err err = put_separator(message, out, detail);
    if (err == ERR_OK)
        err = spool_view(message->body, &body, detail);
    if (err == ERR_OK)
        err = spool_put(out, body, detail);
    return err;
}

enum err message_copy(const struct message *message, struct message **copy, struct detail *detail)
{
    struct message *made = message_new(spool_conf(message->body));
    if (!made)
        return err_set(detail, ERR_TEMP, "message: out of memory");
    enum err err = ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < message->header_count; i++)
        err = message_add_header(made, message->headers[i].name, message->headers[i].value, detail);
    struct bytes body;
    if (err == ERR_OK)
        err = spool_view(message->body, &body, detail);
    if (err == ERR_OK)
        err = spool_put(made->body, body, detail);
    if (err != ERR_OK) {
        message_free(made);
        return err;
    }
    made->has_crlf = message->has_crlf;
    made->separator = message->separator;
    *copy = made;
    return ERR_OK;
}
