// SPDX-License-Identifier: Apache-2.0
#include "gateway/mime_field.h"

#include <string.h>

#include <gmime/gmime.h>

#include "gateway/mime_part.h"
#include "gateway/mime_text.h"

// g_free'd by the caller.
static char *to_utf8(const char *text)
{
    if (g_utf8_validate(text, -1, NULL))
        return g_strdup(text);
    // Every byte means something in ISO 8859-1.
    char *utf8 = g_convert(text, -1, "UTF-8", "ISO-8859-1", NULL, NULL, NULL);
    return utf8 ? utf8 : g_strdup("");
}

static bool is_address_field(const struct field *field)
{
    static const char *const names[] = {"From", "To", "Cc", "Bcc", "Reply-To", "Sender"};
    struct field base = *field;
    if (base.name.len > 7 && g_ascii_strncasecmp((const char *)base.name.data, "Resent-", 7) == 0)
        base.name = bytes_skip(base.name, 7);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (field_is(&base, names[i]))
            return true;
    return false;
}

static char *encode_value(const struct field *field, const char *utf8)
{
    char *value = NULL;
    if (field_is(field, "Content-Type")) {
        GMimeContentType *type = g_mime_content_type_parse(NULL, utf8);
        value = g_mime_content_type_encode(type, NULL);
        g_object_unref(type);
    } else if (field_is(field, "Content-Disposition")) {
        GMimeContentDisposition *disposition = g_mime_content_disposition_parse(NULL, utf8);
        value = g_mime_content_disposition_encode(disposition, NULL);
        g_object_unref(disposition);
    } else if (is_address_field(field)) {
        InternetAddressList *list = internet_address_list_parse(NULL, utf8);
        value = list ? internet_address_list_to_string(list, NULL, TRUE) : NULL;
        if (list)
            g_object_unref(list);
    }
    return value ? value : g_mime_utils_header_encode_text(NULL, utf8, NULL);
}

// Of the folded field "name: value".
static bool has_boundary_of(const char *folded, const char *utf8)
{
    char *value = g_mime_utils_header_unfold(strchr(folded, ':') + 1);
    char *before = mime_boundary_of(utf8);
    char *after = mime_boundary_of(value);
    bool is_same = g_strcmp0(before, after) == 0;
    g_free(before);
    g_free(after);
    g_free(value);
    return is_same;
}

static enum err put_encoded(struct spool *out, const struct field *field, const char *unfolded,
                            struct detail *detail)
{
    char *utf8 = to_utf8(unfolded);
    char *value = encode_value(field, utf8);
    g_strstrip(value);
    char *name = g_strndup((const char *)field->name.data, field->name.len);
    char *line = g_strdup_printf("%s: %s", name, value);
    bool is_structured = field_is_content(field->name) || is_address_field(field);
    char *folded = is_structured ? g_mime_utils_structured_header_fold(NULL, NULL, line)
                                 : g_mime_utils_unstructured_header_fold(NULL, NULL, line);
    g_strchomp(folded);
    // Names of parameters, for one, cannot be encoded.
    for (char *c = folded; *c; c++)
        if ((unsigned char)*c > 126 || *c == '\r')
            *c = '?';
    struct mime_text text = mime_text_scan(bytes_of_text(folded));
    enum err err = ERR_OK;
    if (!mime_text_is_7bit(&text))
        err = err_set(detail, ERR_PERM, "a header field cannot be folded");
    else if (field_is(field, "Content-Type") && !has_boundary_of(folded, utf8))
        err = err_set(detail, ERR_PERM, "a boundary cannot be made 7-bit");
    if (err == ERR_OK)
        err = field_put_lines(out, bytes_of_text(folded), "\r\n", detail);
    if (err == ERR_OK)
        err = spool_put(out, BYTES_LITERAL("\r\n"), detail);
    g_free(folded);
    g_free(line);
    g_free(name);
    g_free(value);
    g_free(utf8);
    return err;
}

enum err mime_field_put(struct spool *out, const struct field *field, struct detail *detail)
{
    struct mime_text text = mime_text_scan(field->all);
    if (mime_text_is_7bit(&text)) {
        enum err err = field_put_lines(out, field->all, "\r\n", detail);
        bool has_end = field->all.data[field->all.len - 1] == '\n';
        return err == ERR_OK && !has_end ? spool_put(out, BYTES_LITERAL("\r\n"), detail) : err;
    }
    struct buf unfolded;
    buf_init(&unfolded, field->value.len);
    enum err err = field_unfold(field->value, &unfolded);
    if (err != ERR_OK)
        err = err_set(detail, err, "header: out of memory");
    else
        err = put_encoded(out, field, buf_text(&unfolded), detail);
    buf_clear(&unfolded);
    return err;
}
