// SPDX-License-Identifier: Apache-2.0
// S/MIME's layers put on and taken off a message. The fields that are not Content-* stay, in order;
// lines end as those of the outer message do, since every reader restores CRLF before it verifies.
#include "gateway/mime.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "gateway/field.h"
#include "gateway/mime_entity.h"
#include "gateway/mime_part.h"
#include "gateway/mime_text.h"
#include "hsmd/base/hash.h"

#define BOUNDARY_SIZE 48

static enum err out_of_memory(struct detail *detail)
{
    return err_set(detail, ERR_TEMP, "message: out of memory");
}

// A message with the outer one's other fields and no body.
static enum err begin(const struct message *outer, struct message **message, struct detail *detail)
{
    struct message *made = message_new(spool_conf(outer->body));
    if (!made)
        return out_of_memory(detail);
    made->has_crlf = outer->has_crlf;
    enum err err = ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < outer->header_count; i++) {
        const struct header *header = &outer->headers[i];
        if (!field_is_content(bytes_of_text(header->name)))
            err = message_add_header(made, header->name, header->value, detail);
    }
    if (err == ERR_OK && !message_header(made, "MIME-Version"))
        err = message_add_header(made, "MIME-Version", " 1.0", detail);
    if (err != ERR_OK) {
        message_free(made);
        return err;
    }
    *message = made;
    return ERR_OK;
}

static const char *line_end(const struct message *message)
{
    return message->has_crlf ? "\r\n" : "\n";
}

static bool contains(struct bytes text, const char *needle)
{
    return text.len && memmem(text.data, text.len, needle, strlen(needle));
}

// Made of the content's hash: the same message gives the same bytes when the MTA tries again, and
// nobody can write it into the content beforehand. Looked for all the same.
static enum err make_boundary(struct bytes entity, char boundary[BOUNDARY_SIZE],
                              struct detail *detail)
{
    uint8_t digest[HASH_SIZE_MAX];
    if (hash_digest(HASH_SHA256, entity, digest) != ERR_OK)
        return out_of_memory(detail);
    for (unsigned i = 0; i < 256; i++) {
        int n = snprintf(boundary, BOUNDARY_SIZE, "=_sealgate_%02x", i);
        for (int k = 0; k < 16; k++)
            n += snprintf(boundary + n, BOUNDARY_SIZE - (size_t)n, "%02x", digest[k]);
        if (!contains(entity, boundary))
            return ERR_OK;
    }
    return err_set(detail, ERR_PERM, "no boundary can be found for the content");
}

static enum err put_printf(struct spool *out, struct detail *detail, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static enum err put_printf(struct spool *out, struct detail *detail, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof text)
        return err_set(detail, ERR_BUG, "message: text too long");
    return spool_put(out, bytes_of(text, (size_t)n), detail);
}

// A CR before a line end, of somebody's odd signed content, would be taken for a part of it after
// LF.
static const char *line_end_around(const struct message *message, struct bytes entity)
{
    bool ends_with_cr = entity.len && entity.data[entity.len - 1] == '\r';
    return ends_with_cr || contains(entity, "\r\r\n") ? "\r\n" : line_end(message);
}

static enum err put_signed_body(struct message *made, struct bytes entity, struct bytes signature,
                                const char *boundary, struct detail *detail)
{
    const char *eol = line_end_around(made, entity);
    struct spool *body = made->body;
    enum err err = put_printf(body, detail, "This is an S/MIME signed message%s%s--%s%s", eol, eol,
                              boundary, eol);
    if (err == ERR_OK)
        err = field_put_lines(body, entity, eol, detail);
    if (err == ERR_OK)
        err = put_printf(body, detail,
                         "%s--%s%s"
                         "Content-Type: application/pkcs7-signature; name=\"smime.p7s\"%s"
                         "Content-Transfer-Encoding: base64%s"
                         "Content-Disposition: attachment; filename=\"smime.p7s\"%s%s",
                         eol, boundary, eol, eol, eol, eol, eol);
    if (err == ERR_OK)
        err = mime_text_put_base64(body, signature, eol, detail);
    return err == ERR_OK ? put_printf(body, detail, "--%s--%s", boundary, eol) : err;
}

enum err mime_wrap_signed(const struct message *outer, struct bytes entity, struct bytes signature,
                          const char *micalg, struct message **message, struct detail *detail)
{
    char boundary[BOUNDARY_SIZE];
    enum err err = make_boundary(entity, boundary, detail);
    if (err != ERR_OK)
        return err;
    struct message *made = NULL;
    err = begin(outer, &made, detail);
    if (err != ERR_OK)
        return err;
    char type[300];
    snprintf(type, sizeof type,
             " multipart/signed; protocol=\"application/pkcs7-signature\";\n"
             " micalg=\"%s\"; boundary=\"%s\"",
             micalg, boundary);
    err = message_add_header(made, "Content-Type", type, detail);
    // Only where somebody else's signed part inside could not be made 7-bit.
    struct mime_text text = mime_text_scan(entity);
    if (err == ERR_OK && text.count_8bit)
        err = message_add_header(made, "Content-Transfer-Encoding", " 8bit", detail);
    if (err == ERR_OK)
        err = put_signed_body(made, entity, signature, boundary, detail);
    if (err != ERR_OK) {
        message_free(made);
        return err;
    }
    *message = made;
    return ERR_OK;
}

// RFC 8551, 3.2.1.
static const char *pkcs7_name(const char *smime_type)
{
    if (strcasecmp(smime_type, "compressed-data") == 0)
        return "smime.p7z";
    return strcasecmp(smime_type, "certs-only") == 0 ? "smime.p7c" : "smime.p7m";
}

enum err mime_wrap_pkcs7(const struct message *outer, struct bytes der, const char *smime_type,
                         struct message **message, struct detail *detail)
{
    struct message *made = NULL;
    enum err err = begin(outer, &made, detail);
    if (err != ERR_OK)
        return err;
    char type[200];
    char disposition[80];
    const char *name = pkcs7_name(smime_type);
    snprintf(type, sizeof type, " application/pkcs7-mime; smime-type=%s;\n name=\"%s\"", smime_type,
             name);
    snprintf(disposition, sizeof disposition, " attachment; filename=\"%s\"", name);
    err = message_add_header(made, "Content-Type", type, detail);
    if (err == ERR_OK)
        err = message_add_header(made, "Content-Transfer-Encoding", " base64", detail);
    if (err == ERR_OK)
        err = message_add_header(made, "Content-Disposition", disposition, detail);
    if (err == ERR_OK)
        err = mime_text_put_base64(made->body, der, line_end(made), detail);
    if (err != ERR_OK) {
        message_free(made);
        return err;
    }
    *message = made;
    return ERR_OK;
}

// Folds become "\n"; 0 bytes go.
static enum err add_field(struct message *message, const struct field *field, struct detail *detail)
{
    struct buf name;
    struct buf value;
    buf_init(&name, field->name.len);
    buf_init(&value, field->value.len);
    enum err err = buf_put_bytes(&name, field->name);
    for (size_t i = 0; err == ERR_OK && i < field->value.len; i++) {
        uint8_t c = field->value.data[i];
        bool is_fold = c == '\r' && i + 1 < field->value.len && field->value.data[i + 1] == '\n';
        if (c && !is_fold)
            err = buf_put(&value, &c, 1);
    }
    err = err == ERR_OK ? message_add_header(message, buf_text(&name), buf_text(&value), detail)
                        : out_of_memory(detail);
    buf_clear(&name);
    buf_clear(&value);
    return err;
}

static enum err put_inner(struct message *made, const struct mime_part *part, struct detail *detail)
{
    struct bytes header = part->header;
    struct field field;
    enum err err = ERR_OK;
    while (err == ERR_OK && field_next(&header, &field))
        if (mime_is_content_field(field.name))
            err = add_field(made, &field, detail);
    // A part without a label is 7-bit; this one is not, so its label was lost.
    struct mime_text text = mime_text_scan(part->body);
    if (err == ERR_OK && text.count_8bit && !message_header(made, "Content-Transfer-Encoding"))
        err = message_add_header(made, "Content-Transfer-Encoding", " 8bit", detail);
    return err == ERR_OK ? field_put_lines(made->body, part->body, line_end(made), detail) : err;
}

// Binary content (RFC 8551, 3.1.2 allows it inside) would not survive as lines of mail: it is made
// 7-bit in lines, which spool owns. What is signed in there stays as it is.
static enum err make_lines(struct mime_part *part, struct spool *lines, struct detail *detail)
{
    struct mime_text text = mime_text_scan(part->body);
    if (!text.has_nul && !text.has_bare_cr && !text.has_long_line)
        return ERR_OK;
    struct mime_head head;
    enum err err = mime_head_init(&head, part->header, false, detail);
    if (err != ERR_OK)
        return err;
    bool is_signed = mime_head_is(&head, "multipart", "signed");
    mime_head_clear(&head);
    if (is_signed)
        return ERR_OK;
    err = mime_entity_put(lines, part, detail);
    if (err == ERR_PERM)
        return ERR_OK;
    struct bytes view;
    if (err == ERR_OK)
        err = spool_view(lines, &view, detail);
    if (err == ERR_OK)
        *part = mime_part_of(view);
    return err;
}

enum err mime_unwrap(const struct message *outer, struct bytes entity, struct message **message,
                     struct detail *detail)
{
    struct mime_part part = mime_part_of(entity);
    if (!part.has_separator && (part.header.len == 0 || part.body.len))
        return err_set(detail, ERR_PERM, "the content is not a MIME entity");
    struct spool *lines = spool_new(spool_conf(outer->body));
    if (!lines)
        return out_of_memory(detail);
    struct message *made = NULL;
    enum err err = make_lines(&part, lines, detail);
    if (err == ERR_OK)
        err = begin(outer, &made, detail);
    if (err == ERR_OK)
        err = put_inner(made, &part, detail);
    spool_free(lines);
    if (err != ERR_OK) {
        message_free(made);
        return err;
    }
    *message = made;
    return ERR_OK;
}
