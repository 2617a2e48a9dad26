// SPDX-License-Identifier: Apache-2.0
#include "gateway/mime_part.h"

#include <string.h>
#include <strings.h>

#include "gateway/field.h"

struct mime_part mime_part_of(struct bytes raw)
{
    struct bytes rest = raw;
    struct field field;
    while (field_next(&rest, &field)) {
    }
    struct mime_part part = {.header = bytes_first(raw, raw.len - rest.len)};
    size_t n = field_line_len(rest);
    part.has_separator = (n == 1 && rest.data[0] == '\n') ||
                         (n == 2 && rest.data[0] == '\r' && rest.data[1] == '\n');
    part.body = part.has_separator ? bytes_skip(rest, n) : rest;
    return part;
}

struct mime_part mime_part_of_inner(struct bytes raw)
{
    struct bytes rest = raw;
    struct field field;
    bool is_mbox = raw.len > 5 && memcmp(raw.data, "From ", 5) == 0 && !field_next(&rest, &field);
    return mime_part_of(is_mbox ? bytes_skip(raw, field_line_len(raw)) : raw);
}

bool mime_is_content_field(struct bytes name)
{
    return field_is_content(name) && !field_name_equal(name, BYTES_LITERAL("Content-Length"));
}

enum err mime_part_of_message(const struct message *message, struct buf *text,
                              struct mime_part *part, struct detail *detail)
{
    enum err err = ERR_OK;
    for (size_t i = 0; i < message->header_count; i++) {
        struct bytes name = bytes_of_text(message->headers[i].name);
        if (!mime_is_content_field(name))
            continue;
        while (name.data[name.len - 1] == ' ' || name.data[name.len - 1] == '\t')
            name.len--;
        err = buf_put_bytes(text, name);
        if (err == ERR_OK)
            err = buf_put(text, ":", 1);
        for (const char *c = message->headers[i].value; err == ERR_OK && *c; c++)
            err = *c == '\n' && (c == message->headers[i].value || c[-1] != '\r')
                      ? buf_put(text, "\r\n", 2)
                      : buf_put(text, c, 1);
        if (err == ERR_OK)
            err = buf_put(text, "\r\n", 2);
        if (err != ERR_OK)
            return err_set(detail, err, "header: %s",
                           err == ERR_PERM ? "too large" : "out of memory");
    }
    part->header = buf_bytes(text);
    part->has_separator = true;
    return spool_view(message->body, &part->body, detail);
}

// GMime decodes encoded words in parameters. A boundary that looks like one ("=?...?=") is none, so
// it is hidden from GMime.
char *mime_boundary_of(const char *value)
{
    char *text = g_strdup(value);
    for (char *c = text; (c = strstr(c, "=?"));)
        c[1] = 1;
    GMimeContentType *type = g_mime_content_type_parse(NULL, text);
    char *boundary = g_strdup(g_mime_content_type_get_parameter(type, "boundary"));
    g_object_unref(type);
    g_free(text);
    for (char *c = boundary; c && (c = strchr(c, 1));)
        *c = '?';
    return boundary;
}

static enum err read_field(struct mime_head *head, const struct field *field, struct buf *text,
                           char **name)
{
    buf_reset(text);
    enum err err = field_unfold(field->value, text);
    if (err != ERR_OK)
        return err;
    const char *value = buf_text(text);
    if (field_is(field, "Content-Type")) {
        if (head->type_count++ == 0) {
            head->type = g_mime_content_type_parse(NULL, value);
            head->boundary = mime_boundary_of(value);
            *name = g_strdup(g_mime_content_type_get_parameter(head->type, "name"));
        }
    } else if (field_is(field, "Content-Transfer-Encoding")) {
        if (head->encoding_count++ == 0) {
            char *word = g_strndup(value, strcspn(value, " \t;("));
            head->encoding = g_mime_content_encoding_from_string(word);
            head->has_unknown_encoding = head->encoding == GMIME_CONTENT_ENCODING_DEFAULT;
            g_free(word);
        }
    } else if (field_is(field, "Content-Disposition") && !head->filename) {
        GMimeContentDisposition *disposition = g_mime_content_disposition_parse(NULL, value);
        head->filename =
            g_strdup(g_mime_content_disposition_get_parameter(disposition, "filename"));
        g_object_unref(disposition);
    }
    return ERR_OK;
}

enum err mime_head_init(struct mime_head *head, struct bytes header, bool in_digest,
                        struct detail *detail)
{
    *head = (struct mime_head){.encoding = GMIME_CONTENT_ENCODING_DEFAULT};
    struct buf text;
    buf_init(&text, header.len);
    char *name = NULL;
    enum err err = ERR_OK;
    struct field field;
    while (err == ERR_OK && field_next(&header, &field))
        if (field_is_content(field.name))
            err = read_field(head, &field, &text, &name);
    buf_clear(&text);
    head->has_type = head->type;
    if (!head->type)
        head->type = in_digest ? g_mime_content_type_new("message", "rfc822")
                               : g_mime_content_type_new("text", "plain");
    if (head->filename)
        g_free(name);
    else
        head->filename = name;
    if (err != ERR_OK) {
        mime_head_clear(head);
        return err_set(detail, err, "header: out of memory");
    }
    return ERR_OK;
}

void mime_head_clear(struct mime_head *head)
{
    if (head->type)
        g_object_unref(head->type);
    g_free(head->boundary);
    g_free(head->filename);
    *head = (struct mime_head){0};
}

bool mime_head_is(const struct mime_head *head, const char *type, const char *subtype)
{
    return g_mime_content_type_is_type(head->type, type, subtype);
}

const char *mime_head_parameter(const struct mime_head *head, const char *name)
{
    const char *value = g_mime_content_type_get_parameter(head->type, name);
    return value ? value : "";
}

bool mime_head_is_message(const struct mime_head *head)
{
    return (mime_head_is(head, "message", "rfc822") || mime_head_is(head, "message", "rfc2822") ||
            mime_head_is(head, "message", "global") || mime_head_is(head, "message", "news")) &&
           head->encoding != GMIME_CONTENT_ENCODING_BASE64 &&
           head->encoding != GMIME_CONTENT_ENCODING_QUOTEDPRINTABLE;
}

static bool has_extension(const struct mime_head *head, const char *extension)
{
    size_t n = head->filename ? strlen(head->filename) : 0;
    return n > 4 && strcasecmp(head->filename + n - 4, extension) == 0;
}

bool mime_head_is_pkcs7_mime(const struct mime_head *head)
{
    if (mime_head_is(head, "application", "pkcs7-mime") ||
        mime_head_is(head, "application", "x-pkcs7-mime"))
        return true;
    return mime_head_is(head, "application", "octet-stream") &&
           (has_extension(head, ".p7m") || has_extension(head, ".p7s") ||
            has_extension(head, ".p7z"));
}

bool mime_type_is_pkcs7_signature(const char *type)
{
    return strcasecmp(type, "application/pkcs7-signature") == 0 ||
           strcasecmp(type, "application/x-pkcs7-signature") == 0;
}

bool mime_head_is_pkcs7_signature(const struct mime_head *head)
{
    return mime_head_is(head, "application", "pkcs7-signature") ||
           mime_head_is(head, "application", "x-pkcs7-signature");
}

struct mime_parts mime_parts_of(const struct mime_head *head, struct bytes body)
{
    struct bytes boundary = bytes_of_text(head->boundary ? head->boundary : "");
    // Not allowed, and on the delimiter line it is padding.
    while (boundary.len && boundary.data[boundary.len - 1] <= ' ')
        boundary.len--;
    return (struct mime_parts){body, boundary, 0};
}

// Whether rest, behind "--", is the boundary alone, with its line end and padding; *end: its
// length.
static bool is_delimiter(struct bytes rest, struct bytes boundary, size_t *end, bool *is_close)
{
    if (rest.len < boundary.len || memcmp(rest.data, boundary.data, boundary.len) != 0)
        return false;
    size_t i = boundary.len;
    *is_close = rest.len - i >= 2 && rest.data[i] == '-' && rest.data[i + 1] == '-';
    if (*is_close)
        i += 2;
    while (i < rest.len && (rest.data[i] == ' ' || rest.data[i] == '\t' || rest.data[i] == '\r'))
        i++;
    if (i < rest.len && rest.data[i] != '\n')
        return false;
    *end = i < rest.len ? i + 1 : i;
    return true;
}

bool mime_parts_next_delimiter(struct mime_parts *parts, struct mime_delimiter *delimiter)
{
    const struct bytes body = parts->body;
    while (parts->boundary.len && parts->from < body.len) {
        const uint8_t *found = memmem(body.data + parts->from, body.len - parts->from, "--", 2);
        if (!found)
            break;
        size_t at = (size_t)(found - body.data);
        size_t len = 0;
        bool is_close = false;
        bool is_line = at == 0 || body.data[at - 1] == '\n';
        if (is_line && is_delimiter(bytes_skip(body, at + 2), parts->boundary, &len, &is_close)) {
            size_t begin = at;
            if (begin)
                begin -= begin > 1 && body.data[begin - 2] == '\r' ? 2 : 1;
            *delimiter = (struct mime_delimiter){begin, at, at + 2 + len, is_close};
            parts->from = delimiter->end;
            return true;
        }
        // The line is none: on to the next.
        parts->from = at + field_line_len(bytes_skip(body, at));
    }
    parts->from = body.len;
    return false;
}

struct bytes mime_parts_between(const struct mime_parts *parts, const struct mime_delimiter *start,
                                const struct mime_delimiter *end)
{
    size_t stop = end ? end->begin : parts->body.len;
    // No line at all between them: the line end is the first one's.
    if (stop < start->end)
        stop = start->end;
    return bytes_first(bytes_skip(parts->body, start->end), stop - start->end);
}

bool mime_parts_next(struct mime_parts *parts, struct bytes *raw)
{
    struct mime_delimiter start;
    do {
        if (!mime_parts_next_delimiter(parts, &start))
            return false;
    } while (start.is_close);
    struct mime_parts ahead = *parts;
    struct mime_delimiter end;
    bool has_end = mime_parts_next_delimiter(&ahead, &end);
    *raw = mime_parts_between(parts, &start, has_end ? &end : NULL);
    // The delimiter that ends this part begins the next.
    if (has_end)
        parts->from = end.line;
    else
        parts->from = parts->body.len;
    return true;
}
