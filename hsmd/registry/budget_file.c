// SPDX-License-Identifier: Apache-2.0
#include "hsmd/registry/budget_file.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "hsmd/base/file.h"
#include "hsmd/registry/budget.h"

#define FORMER_FIRST "sealgate hsmd budgets 1\n"
#define FIRST "sealgate hsmd budgets 2 "

static const char *const names[] = {
#define X(symbol, name) [symbol] = (name),
    BUDGET_LINES(X)
#undef X
};

struct reading {
    budget_file_take take;
    void *context;
};

// The digits that text begins with, which are cut off it. False: none, or too many.
static bool take_number(struct bytes *text, uint64_t *number)
{
    uint64_t value = 0;
    size_t i = 0;
    for (; i < text->len && text->data[i] >= '0' && text->data[i] <= '9' && i < 19; i++)
        value = value * 10 + (uint64_t)(text->data[i] - '0');
    *number = value;
    *text = bytes_of(text->data + i, text->len - i);
    return i > 0;
}

static bool take_char(struct bytes *text, char c)
{
    if (!text->len || text->data[0] != (uint8_t)c)
        return false;
    *text = bytes_of(text->data + 1, text->len - 1);
    return true;
}

static bool is_identity(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < ' ' || text.data[i] > '~')
            return false;
    }
    return text.len > 0 && text.len <= BUDGET_IDENTITY_MAX;
}

// Which line it is; its name is cut off.
static bool take_name(struct bytes *text, enum budget_line *line)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t len = strlen(names[i]);
        if (text->len > len && memcmp(text->data, names[i], len) == 0 && text->data[len] == ' ') {
            *text = bytes_of(text->data + len + 1, text->len - len - 1);
            *line = (enum budget_line)i;
            return true;
        }
    }
    return false;
}

static enum err take_total(const struct reading *reading, struct bytes rest)
{
    uint64_t used = 0;
    if (!take_number(&rest, &used) || !take_char(&rest, ' ') || !is_identity(rest))
        return ERR_DENIED;
    return reading->take(reading->context, BUDGET_TOTAL, rest, 0, used);
}

// Identity first, since it is behind the slots.
static enum err take_window(const struct reading *reading, enum budget_line line, struct bytes rest)
{
    const uint8_t *space = memchr(rest.data, ' ', rest.len);
    size_t len = space ? (size_t)(space - rest.data) : 0;
    struct bytes identity = bytes_of(rest.data + len + 1, rest.len - len - 1);
    struct bytes slots = bytes_of(rest.data, len);
    if (!space || !is_identity(identity))
        return ERR_DENIED;
    do {
        uint64_t slot = 0, count = 0;
        if (!take_number(&slots, &slot) || !take_char(&slots, ':') ||
            !take_number(&slots, &count) || slot > UINT32_MAX || count > UINT32_MAX)
            return ERR_DENIED;
        enum err err = reading->take(reading->context, line, identity, slot, count);
        if (err != ERR_OK)
            return err;
    } while (take_char(&slots, ','));
    return slots.len ? ERR_DENIED : ERR_OK;
}

// ERR_DENIED: no line of ours.
static enum err take_line(const struct reading *reading, struct bytes line, bool is_former)
{
    enum budget_line kind = BUDGET_TOTAL;
    if (!is_former && !take_name(&line, &kind))
        return ERR_DENIED;
    return kind == BUDGET_TOTAL ? take_total(reading, line) : take_window(reading, kind, line);
}

static bool take_first(struct bytes *text, bool *is_former, uint64_t *writes)
{
    size_t former = sizeof FORMER_FIRST - 1;
    size_t first = sizeof FIRST - 1;
    *is_former = text->len >= former && memcmp(text->data, FORMER_FIRST, former) == 0;
    *writes = 0;
    if (*is_former) {
        *text = bytes_of(text->data + former, text->len - former);
        return true;
    }
    if (text->len < first || memcmp(text->data, FIRST, first) != 0)
        return false;
    *text = bytes_of(text->data + first, text->len - first);
    return take_number(text, writes) && take_char(text, '\n');
}

static enum err parse(const struct reading *reading, struct bytes text, const char *path,
                      uint64_t *writes, struct detail *detail)
{
    bool is_former = false;
    if (!take_first(&text, &is_former, writes))
        return err_set(detail, ERR_PERM, "%s: no file of budgets", path);
    for (unsigned number = 2; text.len; number++) {
        const uint8_t *end = memchr(text.data, '\n', text.len);
        size_t len = end ? (size_t)(end - text.data) : 0;
        enum err err = end ? take_line(reading, bytes_of(text.data, len), is_former) : ERR_DENIED;
        if (err == ERR_DENIED)
            return err_set(detail, ERR_PERM, "%s:%u: no line of a budget", path, number);
        if (err != ERR_OK)
            return err_set(detail, err, "%s:%u: %s", path, number,
                           err == ERR_PERM ? "a budget twice" : "out of memory");
        text = bytes_of(end + 1, text.len - len - 1);
    }
    return ERR_OK;
}

enum err budget_file_read(const char *path, budget_file_take take, void *context, uint64_t *writes,
                          struct detail *detail)
{
    struct buf text;
    const struct reading reading = {.take = take, .context = context};
    *writes = 0;
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return ERR_OK;
    buf_init(&text, BUDGET_FILE_MAX);
    enum err err = file_read(path, &text, detail);
    if (err == ERR_OK)
        err = parse(&reading, buf_bytes(&text), path, writes, detail);
    buf_clear(&text);
    return err;
}

void budget_file_begin(struct budget_file *file, uint64_t writes)
{
    buf_init(&file->text, BUDGET_FILE_MAX);
    file->err = buf_printf(&file->text, FIRST "%" PRIu64 "\n", writes);
}

void budget_file_put(struct budget_file *file, const char *identity, uint64_t used)
{
    if (file->err == ERR_OK)
        file->err =
            buf_printf(&file->text, "%s %" PRIu64 " %s\n", names[BUDGET_TOTAL], used, identity);
}

void budget_file_put_window(struct budget_file *file, enum budget_line line, const char *identity,
                            const struct window *window, deadline_t now)
{
    bool is_any = false;
    for (unsigned i = 0; i < WINDOW_SLOTS && file->err == ERR_OK; i++) {
        uint64_t number = 0;
        uint32_t count = window_get_slot(window, i, now, &number);
        if (!count)
            continue;
        file->err =
            is_any ? buf_put_text(&file->text, ",") : buf_printf(&file->text, "%s ", names[line]);
        if (file->err == ERR_OK)
            file->err = buf_printf(&file->text, "%" PRIu64 ":%" PRIu32, number, count);
        is_any = true;
    }
    if (file->err == ERR_OK && is_any)
        file->err = buf_printf(&file->text, " %s\n", identity);
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
