// SPDX-License-Identifier: Apache-2.0
// A message made into what S/MIME signs or encrypts: an entity of 7-bit lines.
//
// Nearly all mail is 7-bit as it comes; then the entity is the message's own bytes with CRLF line
// ends. Otherwise only what is in the way is changed: the walk goes down to the parts that hold the
// 8-bit bytes, and everything beside them is copied. It never goes into a multipart/signed: what
// somebody signed keeps its bytes.
#include "gateway/mime_entity.h"

#include <string.h>

#include "gateway/field.h"
#include "gateway/mime.h"
#include "gateway/mime_field.h"
#include "gateway/mime_part.h"
#include "gateway/mime_text.h"

struct maker {
    struct spool *out;
    struct detail *detail;
    size_t parts;
    bool has_change; // not all was copied
    bool has_signed; // a multipart/signed was copied with bytes that are not 7-bit
};

static enum err put_text(struct maker *maker, const char *text)
{
    return spool_put(maker->out, bytes_of_text(text), maker->detail);
}

static enum err put_lines(struct maker *maker, struct bytes lines)
{
    return field_put_lines(maker->out, lines, "\r\n", maker->detail);
}

static enum err put_verbatim(struct maker *maker, const struct mime_part *part)
{
    enum err err = put_lines(maker, part->header);
    if (err == ERR_OK && part->has_separator)
        err = put_text(maker, "\r\n");
    return err == ERR_OK ? put_lines(maker, part->body) : err;
}

// The fields, without a Content-Transfer-Encoding if a new one is given (NULL: none), and the empty
// line.
static enum err put_fields(struct maker *maker, struct bytes header, const char *type,
                           const char *encoding)
{
    enum err err = ERR_OK;
    struct field field;
    while (err == ERR_OK && field_next(&header, &field))
        if (!encoding || !field_is(&field, "Content-Transfer-Encoding"))
            err = mime_field_put(maker->out, &field, maker->detail);
    if (err == ERR_OK && type) {
        err = put_text(maker, "Content-Type: ");
        if (err == ERR_OK)
            err = put_text(maker, type);
        if (err == ERR_OK)
            err = put_text(maker, "\r\n");
    }
    if (err == ERR_OK && encoding) {
        err = put_text(maker, "Content-Transfer-Encoding: ");
        if (err == ERR_OK)
            err = put_text(maker, encoding);
        if (err == ERR_OK)
            err = put_text(maker, "\r\n");
    }
    return err == ERR_OK ? put_text(maker, "\r\n") : err;
}

static bool is_8bit_encoding(const struct mime_head *head)
{
    return head->encoding == GMIME_CONTENT_ENCODING_8BIT ||
           head->encoding == GMIME_CONTENT_ENCODING_BINARY;
}

static const char *guess_type(struct bytes text)
{
    // RFC 1428: a gateway that does not know the charset says so.
    return g_utf8_validate((const char *)text.data, (gssize)text.len, NULL)
               ? "text/plain; charset=utf-8"
               : "text/plain; charset=unknown-8bit";
}

// data: decoded. Lines unless it is binary.
static enum err put_encoded_leaf(struct maker *maker, const struct mime_part *part,
                                 const struct mime_head *head, struct bytes data, bool is_raw)
{
    struct mime_text text = mime_text_scan(data);
    bool is_text = mime_head_is(head, "text", "*") || mime_head_is(head, "message", "*");
    const char *type = !head->has_type && text.count_8bit ? guess_type(data) : NULL;
    bool is_mostly_ascii = text.count_8bit <= data.len / 6;
    if (is_text && !text.has_nul && is_mostly_ascii) {
        enum err err = put_fields(maker, part->header, type, "quoted-printable");
        return err == ERR_OK ? mime_text_put_qp(maker->out, data, maker->detail) : err;
    }
    enum err err = put_fields(maker, part->header, type, "base64");
    if (err != ERR_OK)
        return err;
    bool is_lines = !text.has_nul && !text.has_bare_cr && (is_text || !is_raw) &&
                    head->encoding != GMIME_CONTENT_ENCODING_BINARY;
    if (!is_lines)
        return mime_text_put_base64(maker->out, data, "\r\n", maker->detail);
    struct spool *lines = spool_new(spool_conf(maker->out));
    if (!lines)
        return err_set(maker->detail, ERR_TEMP, "entity: out of memory");
    struct bytes view;
    err = field_put_lines(lines, data, "\r\n", maker->detail);
    if (err == ERR_OK)
        err = spool_view(lines, &view, maker->detail);
    if (err == ERR_OK)
        err = mime_text_put_base64(maker->out, view, "\r\n", maker->detail);
    spool_free(lines);
    return err;
}

static enum err put_leaf(struct maker *maker, const struct mime_part *part,
                         const struct mime_head *head)
{
    struct mime_text text = mime_text_scan(part->body);
    bool is_7bit = mime_text_is_7bit(&text);
    if (is_7bit && (!text.has_from_line || head->has_unknown_encoding)) {
        enum err err =
            put_fields(maker, part->header, NULL, is_8bit_encoding(head) ? "7bit" : NULL);
        return err == ERR_OK ? put_lines(maker, part->body) : err;
    }
    if (head->has_unknown_encoding)
        return err_set(maker->detail, ERR_PERM,
                       "a part of an unknown Content-Transfer-Encoding is not 7-bit");
    bool is_decoded = head->encoding == GMIME_CONTENT_ENCODING_BASE64 ||
                      head->encoding == GMIME_CONTENT_ENCODING_QUOTEDPRINTABLE ||
                      head->encoding == GMIME_CONTENT_ENCODING_UUENCODE;
    if (!is_decoded)
        return put_encoded_leaf(maker, part, head, part->body, false);
    struct spool *data = spool_new(spool_conf(maker->out));
    if (!data)
        return err_set(maker->detail, ERR_TEMP, "entity: out of memory");
    struct bytes view;
    enum err err = mime_text_decode(head->encoding, part->body, data, maker->detail);
    if (err == ERR_OK)
        err = spool_view(data, &view, maker->detail);
    if (err == ERR_OK)
        err = put_encoded_leaf(maker, part, head, view, true);
    spool_free(data);
    return err;
}

// The text before the first delimiter and behind a closing one means nothing: what is in the way
// becomes "?".
static enum err put_gap(struct maker *maker, struct bytes gap)
{
    struct mime_text text = mime_text_scan(gap);
    if (mime_text_is_7bit(&text) && !text.has_from_line)
        return put_lines(maker, gap);
    enum err err = ERR_OK;
    while (err == ERR_OK && gap.len) {
        size_t len = field_line_len(gap);
        char line[76];
        size_t n = 0;
        for (size_t i = 0; i < len && n < sizeof line; i++) {
            uint8_t c = gap.data[i];
            bool is_odd = c == 0 || c > 126 || (i == 0 && (c == 'F' || c == '-'));
            if (c != '\r' && c != '\n')
                line[n++] = is_odd ? '?' : (char)c;
        }
        err = spool_put(maker->out, bytes_of(line, n), maker->detail);
        if (err == ERR_OK && gap.data[len - 1] == '\n')
            err = put_text(maker, "\r\n");
        gap = bytes_skip(gap, len);
    }
    return err;
}

static enum err put_part(struct maker *maker, const struct mime_part *part, bool in_digest,
                         int depth);

// Everything up to each delimiter, the delimiter, and so on.
static enum err put_children(struct maker *maker, struct mime_parts *parts, bool in_digest,
                             int depth)
{
    struct mime_delimiter last = {0};
    struct mime_delimiter next;
    bool is_part = false;
    for (;;) {
        bool has_next = mime_parts_next_delimiter(parts, &next);
        struct bytes raw = mime_parts_between(parts, &last, has_next ? &next : NULL);
        struct mime_part part = mime_part_of(raw);
        enum err err = is_part ? put_part(maker, &part, in_digest, depth + 1) : put_gap(maker, raw);
        if (err != ERR_OK || !has_next)
            return err;
        // With the line end before it, if that is not the last delimiter's own.
        size_t begin = next.begin > last.end ? next.begin : last.end;
        struct bytes line = bytes_first(bytes_skip(parts->body, begin), next.end - begin);
        err = put_lines(maker, line);
        if (err != ERR_OK)
            return err;
        is_part = !next.is_close;
        last = next;
    }
}

static enum err put_inside(struct maker *maker, const struct mime_part *part,
                           const struct mime_head *head, int depth)
{
    if (mime_head_is(head, "multipart", "*")) {
        struct mime_parts parts = mime_parts_of(head, part->body);
        return put_children(maker, &parts, mime_head_is(head, "multipart", "digest"), depth);
    }
    struct mime_part inner = mime_part_of_inner(part->body);
    return put_part(maker, &inner, false, depth + 1);
}

// The label 8bit stays true only if there is a signed part inside that is not 7-bit: so the inside
// is made first.
static enum err put_labelled(struct maker *maker, const struct mime_part *part,
                             const struct mime_head *head, int depth)
{
    struct maker inside = *maker;
    inside.out = spool_new(spool_conf(maker->out));
    inside.has_signed = false;
    if (!inside.out)
        return err_set(maker->detail, ERR_TEMP, "entity: out of memory");
    struct bytes view;
    enum err err = put_inside(&inside, part, head, depth);
    if (err == ERR_OK)
        err = spool_view(inside.out, &view, maker->detail);
    if (err == ERR_OK)
        err = put_fields(maker, part->header, NULL, inside.has_signed ? NULL : "7bit");
    if (err == ERR_OK)
        err = spool_put(maker->out, view, maker->detail);
    spool_free(inside.out);
    maker->parts = inside.parts;
    maker->has_signed |= inside.has_signed;
    return err;
}

// multipart or message.
static enum err put_composite(struct maker *maker, const struct mime_part *part,
                              const struct mime_head *head, bool is_7bit, int depth)
{
    bool is_multipart = mime_head_is(head, "multipart", "*");
    struct mime_parts parts = mime_parts_of(head, part->body);
    struct mime_delimiter first;
    bool is_beyond = depth >= MIME_DEPTH_MAX || maker->parts++ >= MIME_PARTS_MAX;
    if (is_beyond || (is_multipart && !mime_parts_next_delimiter(&parts, &first)))
        return is_7bit ? put_verbatim(maker, part)
                       : err_set(maker->detail, ERR_PERM, "a %s cannot be made 7-bit: %s",
                                 is_multipart ? "multipart" : "message",
                                 is_beyond ? "too many parts" : "its parts are not found");
    if (is_8bit_encoding(head))
        return put_labelled(maker, part, head, depth);
    enum err err = put_fields(maker, part->header, NULL, NULL);
    return err == ERR_OK ? put_inside(maker, part, head, depth) : err;
}

static enum err put_part(struct maker *maker, const struct mime_part *part, bool in_digest,
                         int depth)
{
    struct mime_text header = mime_text_scan(part->header);
    struct mime_text body = mime_text_scan(part->body);
    bool is_7bit = mime_text_is_7bit(&header) && mime_text_is_7bit(&body);
    if (mime_text_is_clean(&header) && mime_text_is_clean(&body))
        return put_verbatim(maker, part);
    maker->has_change = true;
    struct mime_head head;
    enum err err = mime_head_init(&head, part->header, in_digest, maker->detail);
    if (err != ERR_OK)
        return err;
    if (mime_head_is(&head, "multipart", "signed")) {
        maker->has_signed |= !mime_text_is_7bit(&body);
        err = put_fields(maker, part->header, NULL, NULL);
        if (err == ERR_OK)
            err = put_lines(maker, part->body);
    } else if (mime_head_is(&head, "multipart", "*") || mime_head_is_message(&head)) {
        err = put_composite(maker, part, &head, is_7bit, depth);
    } else {
        err = put_leaf(maker, part, &head);
    }
    mime_head_clear(&head);
    return err;
}

enum err mime_entity_put(struct spool *out, const struct mime_part *part, struct detail *detail)
{
    struct maker maker = {.out = out, .detail = detail};
    enum err err = put_part(&maker, part, false, 0);
    if (err != ERR_OK || !maker.has_change || maker.has_signed)
        return err;
    struct bytes view;
    err = spool_view(out, &view, detail);
    if (err != ERR_OK)
        return err;
    struct mime_text text = mime_text_scan(view);
    return mime_text_is_7bit(&text) ? ERR_OK
                                    : err_set(detail, ERR_PERM, "cannot be made 7-bit lines");
}

// Some readers drop the epilogue, and a signature over it would break (facts.md: field experience).
static enum err cut_epilogue(struct mime_part *part, struct detail *detail)
{
    struct mime_head head;
    enum err err = mime_head_init(&head, part->header, false, detail);
    if (err != ERR_OK)
        return err;
    if (mime_head_is(&head, "multipart", "*")) {
        struct mime_parts parts = mime_parts_of(&head, part->body);
        struct mime_delimiter last = {0};
        while (mime_parts_next_delimiter(&parts, &last)) {
        }
        if (last.is_close)
            part->body.len = last.end;
    }
    mime_head_clear(&head);
    return ERR_OK;
}

enum err mime_make_entity(const struct message *message, struct spool *entity,
                          struct detail *detail)
{
    struct buf text;
    buf_init(&text, 2 * MESSAGE_HEADER_BYTES_MAX + 100);
    struct mime_part part;
    enum err err = mime_part_of_message(message, &text, &part, detail);
    if (err != ERR_OK)
        goto out;
    bool is_labelled = message_header(message, "Content-Type") ||
                       message_header(message, "Content-Transfer-Encoding");
    if (!is_labelled) {
        struct mime_text body = mime_text_scan(part.body);
        const char *type = body.count_8bit ? guess_type(part.body) : "text/plain; charset=us-ascii";
        err = buf_printf(&text, "Content-Type: %s\r\n", type);
        if (err != ERR_OK) {
            err = err_set(detail, err, "header: out of memory");
            goto out;
        }
        part.header = buf_bytes(&text);
    }
    err = cut_epilogue(&part, detail);
    if (err == ERR_OK)
        err = mime_entity_put(entity, &part, detail);
out:
    buf_clear(&text);
    return err;
}
