// SPDX-License-Identifier: Apache-2.0
// What the audit log remembers of the registry: who may decide, and who may do what.
//
// Each row is hashed as its table's name and its columns, each with its type and length, in the
// order of its key, so that two registries have one digest if, and only if, they say the same. Of
// proposals the numbers of those that were carried out, so that none of them can be made to wait
// again. Not in it: what proposals and verdicts say, which they have signatures of their own for;
// the times when rows were made;
// and the public key of a key, which hsmd learns from the token by itself.
#include <openssl/evp.h>

#include "hsmd/registry/store_internal.h"

_Static_assert(PROPOSAL_DONE == 1 && PROPOSAL_FAILED == 2, "as in the last of the queries");
static const char *const queries[] = {
    "SELECT 'quorum', quorum FROM custodian",
    "SELECT 'officer', name, role, signing_key, curve_key FROM officer ORDER BY name",
    "SELECT 'client', name, public_key FROM client ORDER BY name",
    "SELECT 'access', client, key, operations, algorithms, per_minute, per_hour, total,"
    " failures_per_hour FROM access ORDER BY client, key, operations, algorithms",
    "SELECT 'key', name, purpose, state, is_destroyed, algorithms, per_minute, per_hour, total,"
    " failures_per_hour, certificates FROM key ORDER BY name",
    "SELECT 'place', key, position, token, label, id FROM place ORDER BY key, position",
    "SELECT 'locked', token FROM locked ORDER BY token",
    "SELECT 'ended', number FROM proposal WHERE state IN (1, 2) ORDER BY number",
};

static bool add(EVP_MD_CTX *context, char type, struct bytes value)
{
    uint64_t len = value.len;
    uint8_t head[9] = {(uint8_t)type};
    for (unsigned i = 1; i < sizeof head; i++, len >>= 8)
        head[i] = (uint8_t)len;
    return EVP_DigestUpdate(context, head, sizeof head) == 1 &&
           (!value.len || EVP_DigestUpdate(context, value.data, value.len) == 1);
}

static bool add_column(EVP_MD_CTX *context, sqlite3_stmt *statement, int column)
{
    uint8_t number[8];
    uint64_t value = 0;
    switch (sqlite3_column_type(statement, column)) {
    case SQLITE_INTEGER:
        value = (uint64_t)sqlite3_column_int64(statement, column);
        for (unsigned i = 0; i < sizeof number; i++, value >>= 8)
            number[i] = (uint8_t)value;
        return add(context, 'i', bytes_of(number, sizeof number));
    case SQLITE_TEXT:
        return add(context, 't', store_column_bytes(statement, column));
    default:
        return add(context, 'b', store_column_bytes(statement, column));
    }
}

static enum err add_rows(struct store *store, const char *query, EVP_MD_CTX *context,
                         struct detail *detail)
{
    sqlite3_stmt *statement = NULL;
    enum err err = store_prepare(store, query, NULL, 0, &statement, detail);
    for (bool is_row = true; err == ERR_OK;) {
        err = store_step(store, statement, &is_row, detail);
        if (err != ERR_OK || !is_row)
            break;
        for (int i = 0; i < sqlite3_column_count(statement) && err == ERR_OK; i++)
            err = add_column(context, statement, i)
                      ? ERR_OK
                      : err_openssl(detail, ERR_TEMP, "%s: its hash", store->path);
    }
    sqlite3_finalize(statement);
    return err;
}

enum err store_digest(struct store *store, uint8_t digest[STORE_DIGEST_SIZE], struct detail *detail)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    enum err err = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1
                       ? ERR_OK
                       : err_openssl(detail, ERR_TEMP, "%s: its hash", store->path);
    for (size_t i = 0; i < sizeof queries / sizeof *queries && err == ERR_OK; i++)
        err = add_rows(store, queries[i], context, detail);
    if (err == ERR_OK && EVP_DigestFinal_ex(context, digest, NULL) != 1)
        err = err_openssl(detail, ERR_TEMP, "%s: its hash", store->path);
    EVP_MD_CTX_free(context);
    return err;
}
