// SPDX-License-Identifier: Apache-2.0
#include "gateway/field.h"

#include <string.h>
#include <strings.h>

struct bytes bytes_skip(struct bytes bytes, size_t n)
{
    return n ? bytes_of(bytes.data + n, bytes.len - n) : bytes;
}

struct bytes bytes_first(struct bytes bytes, size_t n)
{
    return bytes_of(bytes.data, n);
}

size_t field_line_len(struct bytes rest)
{
    const uint8_t *end = rest.len ? memchr(rest.data, '\n', rest.len) : NULL;
    return end ? (size_t)(end - rest.data) + 1 : rest.len;
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

// Length of the name at the front of a line, 0 if there is none; *colon: where it ends.
static size_t name_len(struct bytes line, size_t *colon)
{
    size_t n = 0;
    while (n < line.len && line.data[n] > 32 && line.data[n] < 127 && line.data[n] != ':')
        n++;
    size_t i = n;
    while (i < line.len && is_blank(line.data[i]))
        i++;
    if (i == line.len || line.data[i] != ':')
        return 0;
    *colon = i;
    return n;
}

bool field_next(struct bytes *rest, struct field *field)
{
    size_t len = field_line_len(*rest);
    size_t colon = 0;
    size_t name = name_len(bytes_first(*rest, len), &colon);
    if (name == 0)
        return false;
    while (len < rest->len && is_blank(rest->data[len]))
        len += field_line_len(bytes_skip(*rest, len));
    struct bytes all = bytes_first(*rest, len);
    struct bytes value = bytes_skip(all, colon + 1);
    if (value.len && value.data[value.len - 1] == '\n') {
        value.len--;
        if (value.len && value.data[value.len - 1] == '\r')
            value.len--;
    }
    *field = (struct field){bytes_first(*rest, name), value, all};
    *rest = bytes_skip(*rest, len);
    return true;
}

bool field_name_equal(struct bytes a, struct bytes b)
{
    while (a.len && is_blank(a.data[a.len - 1]))
        a.len--;
    while (b.len && is_blank(b.data[b.len - 1]))
        b.len--;
    return a.len == b.len &&
           (a.len == 0 || strncasecmp((const char *)a.data, (const char *)b.data, a.len) == 0);
}

bool field_is(const struct field *field, const char *name)
{
    return field_name_equal(field->name, bytes_of_text(name));
}

bool field_is_content(struct bytes name)
{
    return name.len >= 8 && strncasecmp((const char *)name.data, "Content-", 8) == 0;
}

enum err field_unfold(struct bytes value, struct buf *out)
{
    while (value.len && value.data[value.len - 1] <= ' ')
        value.len--;
    while (value.len && value.data[0] <= ' ')
        value = bytes_skip(value, 1);
    size_t start = out->len;
    enum err err = buf_put_bytes(out, value);
    if (err != ERR_OK)
        return err;
    for (size_t i = start; i < out->len; i++)
        if (out->data[i] == '\r' || out->data[i] == '\n' || out->data[i] == 0)
            out->data[i] = ' ';
    return ERR_OK;
}

enum err field_put_lines(struct spool *out, struct bytes text, const char *eol,
                         struct detail *detail)
{
    // Stretches whose line ends are right already are copied at once.
    bool want_cr = eol[0] == '\r';
    size_t start = 0;
    size_t pos = 0;
    while (pos < text.len) {
        const uint8_t *end = memchr(text.data + pos, '\n', text.len - pos);
        if (!end)
            break;
        size_t lf = (size_t)(end - text.data);
        bool has_cr = lf > pos && text.data[lf - 1] == '\r';
        pos = lf + 1;
        if (has_cr == want_cr)
            continue;
        size_t stop = lf - (has_cr ? 1 : 0);
        enum err err = spool_put(out, bytes_of(text.data + start, stop - start), detail);
        if (err == ERR_OK)
            err = spool_put(out, bytes_of_text(eol), detail);
        if (err != ERR_OK)
            return err;
        start = pos;
    }
    return start < text.len ? spool_put(out, bytes_skip(text, start), detail) : ERR_OK;
}
