// SPDX-License-Identifier: Apache-2.0
#include "hsmd/registry/budget_file.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "hsmd/base/file.h"
#include "hsmd/registry/budget.h"

#define FIRST_LINE "sealgate hsmd budgets 1\n"

// Number, space, identity; nothing else. False: something else.
static bool parse_line(struct bytes line, struct bytes *identity, uint64_t *used)
{
    uint64_t value = 0;
    size_t i = 0;
    for (; i < line.len && line.data[i] >= '0' && line.data[i] <= '9' && i < 19; i++)
        value = value * 10 + (uint64_t)(line.data[i] - '0');
    if (i == 0 || i + 1 >= line.len || line.data[i] != ' ')
        return false;
    *identity = bytes_of(line.data + i + 1, line.len - i - 1);
    *used = value;
    for (size_t k = 0; k < identity->len; k++) {
        if (identity->data[k] < ' ' || identity->data[k] > '~')
            return false;
    }
    return identity->len <= BUDGET_IDENTITY_MAX;
}

static enum err parse(struct bytes text, const char *path,
                      enum err (*take)(void *context, struct bytes identity, uint64_t used),
                      void *context, struct detail *detail)
{
    size_t first = sizeof FIRST_LINE - 1;
    if (text.len < first || memcmp(text.data, FIRST_LINE, first) != 0)
        return err_set(detail, ERR_PERM, "%s: no file of budgets", path);
    text = bytes_of(text.data + first, text.len - first);
    for (unsigned number = 2; text.len; number++) {
        struct bytes identity;
        uint64_t used = 0;
        const uint8_t *end = memchr(text.data, '\n', text.len);
        size_t len = end ? (size_t)(end - text.data) : 0;
        if (!end || !parse_line(bytes_of(text.data, len), &identity, &used))
            return err_set(detail, ERR_PERM, "%s:%u: no line of a budget", path, number);
        enum err err = take(context, identity, used);
        if (err != ERR_OK)
            return err_set(detail, err, "%s:%u: %s", path, number,
                           err == ERR_PERM ? "a budget twice" : "out of memory");
        text = bytes_of(end + 1, text.len - len - 1);
    }
    return ERR_OK;
}

enum err budget_file_read(const char *path,
                          enum err (*take)(void *context, struct bytes identity, uint64_t used),
                          void *context, struct detail *detail)
{
    struct buf text;
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return ERR_OK;
    buf_init(&text, BUDGET_FILE_MAX);
    enum err err = file_read(path, &text, detail);
    if (err == ERR_OK)
        err = parse(buf_bytes(&text), path, take, context, detail);
    buf_clear(&text);
    return err;
}

void budget_file_begin(struct budget_file *file)
{
    buf_init(&file->text, BUDGET_FILE_MAX);
    file->err = buf_put_text(&file->text, FIRST_LINE);
}

void budget_file_put(struct budget_file *file, const char *identity, uint64_t used)
{
    if (file->err == ERR_OK)
        file->err = buf_printf(&file->text, "%" PRIu64 " %s\n", used, identity);
}

enum err budget_file_write(struct budget_file *file, const char *path, struct detail *detail)
{
    enum err err = file->err;
    if (err == ERR_OK)
        err = file_write(path, buf_bytes(&file->text), 0600, detail);
    else
        err = err_set(detail, err, "%s: cannot be made", path);
    buf_clear(&file->text);
    return err;
}
