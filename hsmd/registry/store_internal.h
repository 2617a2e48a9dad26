// SPDX-License-Identifier: Apache-2.0
// What the files of the store share: SQLite's calls in our terms. Private to hsmd/registry, and to
// the store's tests.
#pragma once

#include <sqlite3.h>

#include "hsmd/registry/store.h"

#define STORE_APPLICATION_ID 0x53475231 // "SGR1"; file(1) and we know the file by it
#define STORE_SCHEMA_VERSION 2          // 1 had no table locked

struct store {
    sqlite3 *db;
    char *path;
    uint8_t instance[STATEMENT_INSTANCE_SIZE];
    bool is_begun; // between store_begin and its end
};

// What a parameter of a statement is set to.
struct store_value {
    enum { STORE_NUMBER, STORE_TEXT, STORE_BYTES } kind;
    int64_t number;
    const char *text; // NULL: SQL's NULL
    struct bytes bytes;
};

#define NUMBER(value) ((struct store_value){.kind = STORE_NUMBER, .number = (int64_t)(value)})
#define TEXT(value) ((struct store_value){.kind = STORE_TEXT, .text = (value)})
#define BYTES(value) ((struct store_value){.kind = STORE_BYTES, .bytes = (value)})
#define VALUES(...)                            \
    (const struct store_value[]){__VA_ARGS__}, \
        sizeof((const struct store_value[]){__VA_ARGS__}) / sizeof(struct store_value)

// SQLite's result code in our classes, with path and SQLite's words.
enum err store_failure(struct store *store, int code, struct detail *detail);
// Something in the file is not as we write it.
enum err store_damaged(struct store *store, const char *what, struct detail *detail);

enum err store_execute(struct store *store, const char *sql, struct detail *detail);
// The values are copied. Always finalize *statement, which may be NULL.
enum err store_prepare(struct store *store, const char *sql, const struct store_value *values,
                       size_t count, sqlite3_stmt **statement, struct detail *detail);
enum err store_step(struct store *store, sqlite3_stmt *statement, bool *is_row,
                    struct detail *detail);
// A statement without rows. changes: how many rows it changed; or NULL.
enum err store_run(struct store *store, const char *sql, const struct store_value *values,
                   size_t count, int *changes, struct detail *detail);
// The first column of its first row; 0 if there is none.
enum err store_number(struct store *store, const char *sql, const struct store_value *values,
                      size_t count, int64_t *number, struct detail *detail);

// Around writes of several statements, within a transaction or not. store_leave undoes them all
// unless err is ERR_OK; returns err, or what became of it.
enum err store_enter(struct store *store, struct detail *detail);
enum err store_leave(struct store *store, enum err err, struct detail *detail);

// Columns. Bytes live until the next step. False: not of the size or kind we write.
bool store_column_text(sqlite3_stmt *statement, int column, char *out, size_t size);
struct bytes store_column_bytes(sqlite3_stmt *statement, int column);
bool store_column_copy(sqlite3_stmt *statement, int column, void *out, size_t size);

bool store_column_limits(sqlite3_stmt *statement, int column, struct budget_limits *limits);
bool store_are_limits(const struct budget_limits *limits);

// ERR_PERM: there is no such key, or it is destroyed.
enum err store_check_key(struct store *store, const char *name, struct detail *detail);
