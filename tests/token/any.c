// SPDX-License-Identifier: Apache-2.0
#include "tests/token/any.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hsmd/base/file.h"

#define ROWS_MAX 64

static struct {
    char operation[64], result[200];
} sheet[ROWS_MAX];
static unsigned rows;

static const char *from_environment(const char *name)
{
    const char *value = getenv(name);
    if (!value)
        fail_msg("%s is not set: to be run by with-token", name);
    return value;
}

const char *any_kind(void)
{
    return from_environment("TOKEN_KIND");
}

void any_begin(unsigned sessions)
{
    struct detail detail = {0};
    const char *init_args = from_environment("TOKEN_INIT_ARGS");
    const struct token_conf conf = {.name = any_kind(),
                                    .module = from_environment("TOKEN_MODULE"),
                                    .label = from_environment("TOKEN_LABEL"),
                                    .init_args = *init_args ? init_args : NULL,
                                    .sessions = sessions,
                                    .wait_ms = 60000,
                                    .copy_keys = true};
    assert_ok(secret_init(&fixture.pin, 64, &detail), &detail);
    assert_ok(secret_init(&fixture.out, 4096, &detail), &detail);
    assert_ok(file_read_secret(from_environment("TOKEN_PIN_FILE"), &fixture.pin, &detail), &detail);
    assert_ok(token_open(&conf, &fixture.token, &detail), &detail);
    any_direct_begin(conf.module, conf.label);
    assert_ok(token_login(fixture.token, &fixture.pin, &detail), &detail);
}

void any_end(void)
{
    token_close(fixture.token);
    secret_clear(&fixture.pin);
    secret_clear(&fixture.out);
}

static void note(const char *operation, const char *result)
{
    assert_true(rows < ROWS_MAX);
    snprintf(sheet[rows].operation, sizeof sheet->operation, "%s", operation);
    snprintf(sheet[rows].result, sizeof sheet->result, "%s", result);
    printf("    %-36s %s\n", operation, result);
    rows++;
}

void sheet_tested(const char *operation)
{
    note(operation, "tested");
}

static __attribute__((format(printf, 3, 0))) void
note_cannot(const char *operation, const char *who, const char *fmt, va_list ap)
{
    char reason[160], result[200];
    vsnprintf(reason, sizeof reason, fmt, ap);
    snprintf(result, sizeof result, "%s cannot: %s", who, reason);
    note(operation, result);
}

void sheet_cannot(const char *operation, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    note_cannot(operation, "token", fmt, ap);
    va_end(ap);
}

void sheet_hsmd_cannot(const char *operation, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    note_cannot(operation, "hsmd", fmt, ap);
    va_end(ap);
}

// The cell of a table's line, without the blanks around it. False: there is none.
static bool cell(const char *line, unsigned column, char *out, size_t room)
{
    for (unsigned i = 0; i <= column; i++) {
        line = strchr(line, '|');
        if (!line)
            return false;
        line++;
    }
    line += strspn(line, " ");
    size_t len = strcspn(line, "|\n");
    while (len > 0 && line[len - 1] == ' ')
        len--;
    snprintf(out, room, "%.*s", (int)len, line);
    return true;
}

// The column of the token in the table's first line; 0: none.
static unsigned column_of(const char *line, const char *kind)
{
    char text[64];
    for (unsigned i = 1; cell(line, i, text, sizeof text); i++) {
        if (strcmp(text, kind) == 0)
            return i;
    }
    return 0;
}

static void write_sheet(void)
{
    const char *path = getenv("TOKEN_SHEET");
    FILE *file = path ? fopen(path, "w") : NULL;
    for (unsigned i = 0; i < rows && file; i++)
        fprintf(file, "%s|%s\n", sheet[i].operation, sheet[i].result);
    if (file)
        assert_int_equal(fclose(file), 0);
}

void sheet_compare(const char *table)
{
    char line[2000], operation[64], result[200];
    unsigned column = 0, at = 0, wrong = 0;
    write_sheet();
    FILE *file = fopen(table, "r");
    if (!file)
        fail_msg("cannot read %s", table);
    while (fgets(line, sizeof line, file)) {
        if (column == 0) {
            column = *line == '|' ? column_of(line, any_kind()) : 0;
            continue;
        }
        if (!cell(line, 0, operation, sizeof operation))
            break; // what follows is another table
        if (*operation == '-' || !cell(line, column, result, sizeof result))
            continue;
        bool same = at < rows && strcmp(sheet[at].operation, operation) == 0 &&
                    strcmp(sheet[at].result, result) == 0;
        if (!same)
            printf("table: %s: %s\n  came: %s: %s\n", operation, result,
                   at < rows ? sheet[at].operation : "", at < rows ? sheet[at].result : "nothing");
        wrong += !same;
        at++;
    }
    fclose(file);
    if (column == 0 || wrong > 0 || at != rows)
        fail_msg("%s is not what came out for %s: %u rows of %u differ; tests/token/make-table "
                 "writes it anew",
                 table, any_kind(), wrong, rows);
}
