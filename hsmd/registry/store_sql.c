// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "hsmd/registry/store_internal.h"

enum err store_failure(struct store *store, int code, struct detail *detail)
{
    enum err class = ERR_TEMP;
    const char *said = store->db ? sqlite3_errmsg(store->db) : sqlite3_errstr(code);
    switch (code & 0xff) {
    case SQLITE_NOTADB:
        return err_set(detail, ERR_PERM, "%s: no registry of hsmd, but another file", store->path);
    case SQLITE_CORRUPT:
        return store_damaged(store, said, detail);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return err_set(detail, ERR_TEMP, "%s: in use by another process (is hsmd running?)",
                       store->path);
    case SQLITE_CONSTRAINT:
    case SQLITE_TOOBIG:
    case SQLITE_MISMATCH:
    case SQLITE_READONLY:
    case SQLITE_AUTH:
        class = ERR_PERM;
        break;
    case SQLITE_MISUSE:
    case SQLITE_RANGE:
    case SQLITE_ERROR:
        class = ERR_BUG;
        break;
    default: // full, I/O, memory: may pass
        break;
    }
    return err_set(detail, class, "%s: %s", store->path, said);
}

enum err store_damaged(struct store *store, const char *what, struct detail *detail)
{
    return err_set(detail, ERR_PERM, "%s: damaged (%s): put a good copy in its place", store->path,
                   what);
}

enum err store_execute(struct store *store, const char *sql, struct detail *detail)
{
    int code = sqlite3_exec(store->db, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? ERR_OK : store_failure(store, code, detail);
}

static int bind(sqlite3_stmt *statement, int at, const struct store_value *value)
{
    switch (value->kind) {
    case STORE_NUMBER:
        return sqlite3_bind_int64(statement, at, value->number);
    case STORE_TEXT:
        return sqlite3_bind_text(statement, at, value->text, -1, SQLITE_TRANSIENT);
    case STORE_BYTES:
        if (value->bytes.len == 0) // not NULL
            return sqlite3_bind_zeroblob(statement, at, 0);
        return sqlite3_bind_blob64(statement, at, value->bytes.data, value->bytes.len,
                                   SQLITE_TRANSIENT);
    }
    return SQLITE_MISUSE;
}

enum err store_prepare(struct store *store, const char *sql, const struct store_value *values,
                       size_t count, sqlite3_stmt **statement, struct detail *detail)
{
    // SQLite rolls back by itself when the disk fails; nothing may be written by itself after that.
    if (store->is_begun && sqlite3_get_autocommit(store->db))
        return err_set(detail, ERR_TEMP, "%s: the transaction has been rolled back", store->path);
    int code = sqlite3_prepare_v2(store->db, sql, -1, statement, NULL);
    for (size_t i = 0; i < count && code == SQLITE_OK; i++)
        code = bind(*statement, (int)i + 1, &values[i]);
    return code == SQLITE_OK ? ERR_OK : store_failure(store, code, detail);
}

enum err store_step(struct store *store, sqlite3_stmt *statement, bool *is_row,
                    struct detail *detail)
{
    int code = sqlite3_step(statement);
    *is_row = code == SQLITE_ROW;
    return code == SQLITE_ROW || code == SQLITE_DONE ? ERR_OK : store_failure(store, code, detail);
}

enum err store_run(struct store *store, const char *sql, const struct store_value *values,
                   size_t count, int *changes, struct detail *detail)
{
    bool is_row = false;
    sqlite3_stmt *statement = NULL;
    enum err err = store_prepare(store, sql, values, count, &statement, detail);
    if (err == ERR_OK)
        err = store_step(store, statement, &is_row, detail);
    if (err == ERR_OK && changes)
        *changes = sqlite3_changes(store->db);
    sqlite3_finalize(statement);
    return err;
}

enum err store_number(struct store *store, const char *sql, const struct store_value *values,
                      size_t count, int64_t *number, struct detail *detail)
{
    bool is_row = false;
    sqlite3_stmt *statement = NULL;
    enum err err = store_prepare(store, sql, values, count, &statement, detail);
    if (err == ERR_OK)
        err = store_step(store, statement, &is_row, detail);
    if (err == ERR_OK)
        *number = is_row ? sqlite3_column_int64(statement, 0) : 0;
    sqlite3_finalize(statement);
    return err;
}

enum err store_enter(struct store *store, struct detail *detail)
{
    return store_run(store, "SAVEPOINT change", NULL, 0, NULL, detail);
}

enum err store_leave(struct store *store, enum err err, struct detail *detail)
{
    if (err == ERR_OK)
        err = store_execute(store, "RELEASE change", detail);
    if (err != ERR_OK && !sqlite3_get_autocommit(store->db)) {
        (void)store_execute(store, "ROLLBACK TO change", NULL);
        (void)store_execute(store, "RELEASE change", NULL);
    }
    return err;
}

bool store_column_text(sqlite3_stmt *statement, int column, char *out, size_t size)
{
    const unsigned char *text = sqlite3_column_text(statement, column);
    size_t len = (size_t)sqlite3_column_bytes(statement, column);
    if (!text || len >= size || memchr(text, 0, len))
        return false;
    memcpy(out, text, len);
    out[len] = 0;
    return true;
}

struct bytes store_column_bytes(sqlite3_stmt *statement, int column)
{
    const void *data = sqlite3_column_blob(statement, column);
    return bytes_of(data, data ? (size_t)sqlite3_column_bytes(statement, column) : 0);
}

bool store_column_copy(sqlite3_stmt *statement, int column, void *out, size_t size)
{
    struct bytes bytes = store_column_bytes(statement, column);
    if (bytes.len != size)
        return false;
    memcpy(out, bytes.data, size);
    return true;
}
