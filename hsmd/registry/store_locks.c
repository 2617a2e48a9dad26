// SPDX-License-Identifier: Apache-2.0
// Tokens that officers have locked.
#include "hsmd/registry/store_internal.h"

enum err store_is_locked(struct store *store, const char *token, bool *is_locked,
                         struct detail *detail)
{
    int64_t count = 0;
    enum err err = store_number(store, "SELECT count(*) FROM locked WHERE token = ?1",
                                VALUES(TEXT(token)), &count, detail);
    if (err == ERR_OK)
        *is_locked = count != 0;
    return err;
}

enum err store_set_locked(struct store *store, const char *token, bool is_locked,
                          struct detail *detail)
{
    return store_run(store,
                     is_locked ? "INSERT OR IGNORE INTO locked (token) VALUES (?1)"
                               : "DELETE FROM locked WHERE token = ?1",
                     VALUES(TEXT(token)), NULL, detail);
}
