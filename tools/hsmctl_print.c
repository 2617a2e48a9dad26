// SPDX-License-Identifier: Apache-2.0
#include "tools/hsmctl_print.h"

#include <inttypes.h>
#include <string.h>

#define CELL_MAX 4096
#define TABLE_MAX ((size_t)16 * 1024 * 1024)
#define WIDTH_MAX 60 // of a column; a longer cell pushes its row's others to the right

// One character of UTF-8 (RFC 3629): how many bytes; 0: none, or one that a terminal must not have.
static size_t take_character(struct bytes text, uint32_t *character)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint8_t first = text.data[0];
    size_t len = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc2 ? 2 : 0;
    if (len == 0 || len > text.len || first > 0xf4)
        return 0;
    *character = len == 1 ? first : first & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((text.data[i] & 0xc0) != 0x80)
            return 0;
        *character = *character << 6 | (text.data[i] & 0x3f);
    }
    return *character < least[len] || *character > 0x10ffff ||
                   (*character >= 0xd800 && *character <= 0xdfff)
               ? 0
               : len;
}

// C0, C1, and what turns the direction of writing or is not seen (Unicode's Cf, the usual ones).
static bool is_printable(uint32_t c)
{
    return c >= ' ' && !(c >= 0x7f && c < 0xa0) && c != 0xad && c != 0x61c && c != 0x180e &&
           !(c >= 0x200b && c <= 0x200f) && !(c >= 0x2028 && c <= 0x202e) &&
           !(c >= 0x2060 && c <= 0x206f) && c != 0xfeff && !(c >= 0xfff9 && c <= 0xfffb) &&
           !(c >= 0xe0000 && c <= 0xe0fff);
}

enum err print_clean(struct buf *out, struct bytes text, bool keeps_lines)
{
    enum err err = ERR_OK;
    while (err == ERR_OK && text.len) {
        uint32_t character = 0;
        size_t len = take_character(text, &character);
        bool is_kept = len && (is_printable(character) || (keeps_lines && character == '\n'));
        len = len ? len : 1;
        if (is_kept)
            err = buf_put(out, text.data, len);
        for (size_t i = 0; err == ERR_OK && !is_kept && i < len; i++)
            err = buf_printf(out, "\\x%02x", text.data[i]);
        text = bytes_of(text.data + len, text.len - len);
    }
    return err;
}

void print_text(FILE *out, const char *text, bool keeps_lines)
{
    struct buf clean;
    buf_init(&clean, 4 * strlen(text) + 1);
    if (print_clean(&clean, bytes_of_text(text), keeps_lines) == ERR_OK)
        fputs(buf_text(&clean), out);
    buf_clear(&clean);
}

static enum err put_scalar(const json_t *value, struct buf *out)
{
    if (json_is_string(value))
        return print_clean(out, bytes_of(json_string_value(value), json_string_length(value)),
                           false);
    if (json_is_integer(value))
        return buf_printf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    if (json_is_real(value))
        return buf_printf(out, "%.3g", json_real_value(value));
    if (json_is_boolean(value))
        return buf_put_text(out, json_is_true(value) ? "yes" : "no");
    return ERR_OK;
}

enum err print_value(const json_t *object, const char *path, struct buf *out)
{
    char step[64];
    size_t len = strcspn(path, ".");
    const json_t *value = object;
    enum err err = ERR_OK;
    if (json_is_array(value)) {
        size_t before = out->len;
        for (size_t i = 0; err == ERR_OK && i < json_array_size(value); i++) {
            if (out->len > before)
                err = buf_put_text(out, ",");
            if (err == ERR_OK)
                err = print_value(json_array_get(value, i), path, out);
        }
        return err;
    }
    if (len == 0)
        return put_scalar(value, out);
    snprintf(step, sizeof step, "%.*s", (int)len, path);
    value = json_object_get(value, step);
    return value ? print_value(value, path + len + (path[len] == '.'), out) : ERR_OK;
}

static size_t width_of(const char *text)
{
    size_t width = 0;
    for (; *text; text++)
        width += ((uint8_t)*text & 0xc0) != 0x80;
    return width;
}

static enum err fill_cells(struct buf *cells, const json_t *array, const struct column *columns,
                           size_t count)
{
    enum err err = ERR_OK;
    for (size_t row = 0; err == ERR_OK && row <= json_array_size(array); row++) {
        for (size_t i = 0; err == ERR_OK && i < count; i++) {
            struct buf cell;
            buf_init(&cell, CELL_MAX);
            if (row)
                err = print_value(json_array_get(array, row - 1), columns[i].path, &cell);
            else
                err = buf_put_text(&cell, columns[i].title);
            const char *text = cell.len ? buf_text(&cell) : "-";
            if (err == ERR_OK)
                err = buf_put(cells, text, strlen(text) + 1);
            buf_clear(&cell);
        }
    }
    return err;
}

#define COLUMNS_MAX 12

enum err print_table(FILE *out, const json_t *array, const struct column *columns, size_t count,
                     const char *empty)
{
    struct buf cells;
    size_t widths[COLUMNS_MAX] = {0};
    if (json_array_size(array) == 0) {
        fprintf(out, "%s\n", empty);
        return ERR_OK;
    }
    buf_init(&cells, TABLE_MAX);
    enum err err = count <= COLUMNS_MAX ? fill_cells(&cells, array, columns, count) : ERR_BUG;
    const char *cell = buf_text(&cells);
    const char *end = cell + cells.len;
    for (size_t i = 0; err == ERR_OK && cell < end; i = (i + 1) % count, cell += strlen(cell) + 1) {
        size_t width = width_of(cell);
        if (width > widths[i] && width <= WIDTH_MAX)
            widths[i] = width;
    }
    cell = buf_text(&cells);
    for (size_t i = 0; err == ERR_OK && cell < end; i = (i + 1) % count, cell += strlen(cell) + 1) {
        size_t width = width_of(cell);
        bool is_last = i + 1 == count;
        fputs(cell, out);
        if (is_last)
            putc('\n', out);
        else
            fprintf(out, "%*s", (int)(width < widths[i] ? widths[i] - width : 0) + 2, "");
    }
    buf_clear(&cells);
    return err;
}

enum err print_fields(FILE *out, const json_t *object, const struct column *columns, size_t count)
{
    size_t width = 0;
    enum err err = ERR_OK;
    for (size_t i = 0; i < count; i++)
        width = strlen(columns[i].title) > width ? strlen(columns[i].title) : width;
    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        struct buf value;
        buf_init(&value, CELL_MAX * 16);
        err = print_value(object, columns[i].path, &value);
        if (err == ERR_OK && value.len)
            fprintf(out, "%s:%*s %s\n", columns[i].title, (int)(width - strlen(columns[i].title)),
                    "", buf_text(&value));
        buf_clear(&value);
    }
    return err;
}

enum err print_json(const json_t *json, struct detail *detail)
{
    // ASCII: what turns a terminal's writing around, or is C1, is escaped like the rest.
    const size_t flags = JSON_INDENT(2) | JSON_ENCODE_ANY | JSON_ENSURE_ASCII;
    if (!json || json_dumpf(json, stdout, flags) != 0 || putchar('\n') == EOF)
        return err_set(detail, ERR_TEMP, "cannot print");
    return ERR_OK;
}
