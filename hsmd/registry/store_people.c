// SPDX-License-Identifier: Apache-2.0
// Clients, their grants, and officers.
#include <stdio.h>
#include <string.h>

#include "hsmd/registry/store_internal.h"

static const char *client_flaw(const struct store_client *client)
{
    if (!text_is_name(client->name, strnlen(client->name, sizeof client->name)))
        return "the name of a client";
    if (!memchr(client->public_key, 0, sizeof client->public_key) ||
        !curve_is_key(client->public_key))
        return "the public key of a client";
    return NULL;
}

enum err store_each_client(struct store *store, const char *name, store_see_client see,
                           void *context, struct detail *detail)
{
    sqlite3_stmt *statement = NULL;
    enum err err = store_prepare(store,
                                 "SELECT name, public_key, created FROM client"
                                 " WHERE ?1 IS NULL OR name = ?1 ORDER BY name",
                                 VALUES(TEXT(name)), &statement, detail);
    for (bool is_row = true; err == ERR_OK;) {
        struct store_client client;
        err = store_step(store, statement, &is_row, detail);
        if (err != ERR_OK || !is_row)
            break;
        if (!store_column_text(statement, 0, client.name, sizeof client.name) ||
            !store_column_text(statement, 1, client.public_key, sizeof client.public_key) ||
            !store_column_text(statement, 2, client.created, sizeof client.created) ||
            client_flaw(&client))
            err = store_damaged(store, "a client", detail);
        else
            err = see(context, &client);
    }
    sqlite3_finalize(statement);
    return err;
}

// Nobody may have a name that is taken in table, or a public CURVE key that anybody has.
static enum err check_new(struct store *store, const char *table, const char *name,
                          const char *public_key, struct detail *detail)
{
    char sql[80];
    char other[TEXT_NAME_MAX + 1];
    bool is_row = false;
    int64_t is_there = 0;
    sqlite3_stmt *statement = NULL;
    snprintf(sql, sizeof sql, "SELECT count(*) FROM %s WHERE name = ?1", table);
    enum err err = store_number(store, sql, VALUES(TEXT(name)), &is_there, detail);
    if (err != ERR_OK)
        return err;
    if (is_there)
        return err_set(detail, ERR_PERM, "there is %s \"%s\" already",
                       strcmp(table, "client") == 0 ? "a client" : "an officer", name);
    err = store_prepare(store,
                        "SELECT name, 0 FROM client WHERE public_key = ?1 UNION ALL"
                        " SELECT name, 1 FROM officer WHERE curve_key = ?1",
                        VALUES(TEXT(public_key)), &statement, detail);
    if (err == ERR_OK)
        err = store_step(store, statement, &is_row, detail);
    if (err == ERR_OK && is_row) {
        bool is_officer = sqlite3_column_int(statement, 1) != 0;
        if (!store_column_text(statement, 0, other, sizeof other))
            other[0] = 0;
        err = err_set(detail, ERR_PERM, "%s \"%s\" has the same public CURVE key as \"%s\"",
                      is_officer ? "officer" : "client", other, name);
    }
    sqlite3_finalize(statement);
    return err;
}

enum err store_add_client(struct store *store, const struct store_client *client,
                          struct detail *detail)
{
    char stamp[CLOCK_STAMP_SIZE];
    const char *wrong = client_flaw(client);
    if (wrong)
        return err_set(detail, ERR_PERM, "%s is not well-formed", wrong);
    enum err err = check_new(store, "client", client->name, client->public_key, detail);
    if (err != ERR_OK)
        return err;
    clock_stamp(stamp);
    return store_run(store, "INSERT INTO client VALUES (?1, ?2, ?3)",
                     VALUES(TEXT(client->name), TEXT(client->public_key), TEXT(stamp)), NULL,
                     detail);
}

enum err store_drop_client(struct store *store, const char *name, struct detail *detail)
{
    int changes = 0;
    enum err err = store_run(store, "DELETE FROM client WHERE name = ?1", VALUES(TEXT(name)),
                             &changes, detail);
    if (err == ERR_OK && !changes)
        err = err_set(detail, ERR_PERM, "there is no client \"%s\"", name);
    return err;
}

enum err store_each_grant(struct store *store, const char *client, const char *key,
                          store_see_grant see, void *context, struct detail *detail)
{
    sqlite3_stmt *statement = NULL;
    enum err err =
        store_prepare(store,
                      "SELECT client, key, operations, algorithms, per_minute, per_hour, total,"
                      " failures_per_hour FROM access WHERE (?1 IS NULL OR client = ?1)"
                      " AND (?2 IS NULL OR key = ?2) ORDER BY client, key, operations, algorithms",
                      VALUES(TEXT(client), TEXT(key)), &statement, detail);
    for (bool is_row = true; err == ERR_OK;) {
        struct store_grant grant;
        err = store_step(store, statement, &is_row, detail);
        if (err != ERR_OK || !is_row)
            break;
        grant.operations = (uint64_t)sqlite3_column_int64(statement, 2);
        grant.algorithms = (uint64_t)sqlite3_column_int64(statement, 3);
        if (!store_column_text(statement, 0, grant.client, sizeof grant.client) ||
            !store_column_text(statement, 1, grant.key, sizeof grant.key) ||
            !store_column_limits(statement, 4, &grant.limits))
            err = store_damaged(store, "a grant", detail);
        else
            err = see(context, &grant);
    }
    sqlite3_finalize(statement);
    return err;
}

// The client is there, and the key, and is one that clients use.
static enum err check_grant(struct store *store, const struct store_grant *grant,
                            struct detail *detail)
{
    int64_t count = 0;
    int64_t purpose = 0;
    if (!grant->operations || !grant->algorithms || !store_are_limits(&grant->limits))
        return err_set(detail, ERR_PERM, "a grant without operations or algorithms, or beyond %d",
                       BUDGET_LIMIT_MAX);
    enum err err = store_number(store, "SELECT count(*) FROM client WHERE name = ?1",
                                VALUES(TEXT(grant->client)), &count, detail);
    if (err == ERR_OK && !count)
        err = err_set(detail, ERR_PERM, "there is no client \"%s\"", grant->client);
    if (err == ERR_OK)
        err = store_check_key(store, grant->key, detail);
    if (err == ERR_OK)
        err = store_number(store, "SELECT purpose FROM key WHERE name = ?1",
                           VALUES(TEXT(grant->key)), &purpose, detail);
    if (err == ERR_OK && purpose == WIRE_AUDIT)
        err = err_set(detail, ERR_PERM, "key \"%s\" signs the audit log and nothing else",
                      grant->key);
    return err;
}

enum err store_put_grant(struct store *store, const struct store_grant *grant,
                         struct detail *detail)
{
    enum err err = check_grant(store, grant, detail);
    if (err != ERR_OK)
        return err;
    return store_run(store, "INSERT OR REPLACE INTO access VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                     VALUES(TEXT(grant->client), TEXT(grant->key), NUMBER(grant->operations),
                            NUMBER(grant->algorithms), NUMBER(grant->limits.per_minute),
                            NUMBER(grant->limits.per_hour), NUMBER(grant->limits.total),
                            NUMBER(grant->limits.failures_per_hour)),
                     NULL, detail);
}

enum err store_drop_grants(struct store *store, const char *client, const char *key,
                           struct detail *detail)
{
    int changes = 0;
    enum err err = store_run(store, "DELETE FROM access WHERE client = ?1 AND key = ?2",
                             VALUES(TEXT(client), TEXT(key)), &changes, detail);
    if (err == ERR_OK && !changes)
        err = err_set(detail, ERR_PERM, "client \"%s\" has no grant for key \"%s\"", client, key);
    return err;
}

static const char *officer_flaw(const struct store_officer *officer)
{
    if (!text_is_name(officer->name, strnlen(officer->name, sizeof officer->name)))
        return "the name of an officer";
    if (!officer_role_name(officer->role))
        return "the role of an officer";
    if (!statement_is_key(bytes_of(officer->signing_key, sizeof officer->signing_key)))
        return "the signing key of an officer";
    if (!memchr(officer->curve_key, 0, sizeof officer->curve_key) ||
        !curve_is_key(officer->curve_key))
        return "the public CURVE key of an officer";
    return NULL;
}

enum err store_each_officer(struct store *store, const char *name, store_see_officer see,
                            void *context, struct detail *detail)
{
    sqlite3_stmt *statement = NULL;
    enum err err = store_prepare(store,
                                 "SELECT name, role, signing_key, curve_key, created FROM officer"
                                 " WHERE ?1 IS NULL OR name = ?1 ORDER BY name",
                                 VALUES(TEXT(name)), &statement, detail);
    for (bool is_row = true; err == ERR_OK;) {
        struct store_officer officer;
        err = store_step(store, statement, &is_row, detail);
        if (err != ERR_OK || !is_row)
            break;
        officer.role = (enum officer_role)sqlite3_column_int(statement, 1);
        if (!store_column_text(statement, 0, officer.name, sizeof officer.name) ||
            !store_column_copy(statement, 2, officer.signing_key, sizeof officer.signing_key) ||
            !store_column_text(statement, 3, officer.curve_key, sizeof officer.curve_key) ||
            !store_column_text(statement, 4, officer.created, sizeof officer.created) ||
            officer_flaw(&officer))
            err = store_damaged(store, "an officer", detail);
        else
            err = see(context, &officer);
    }
    sqlite3_finalize(statement);
    return err;
}

enum err store_add_officer(struct store *store, const struct store_officer *officer,
                           struct detail *detail)
{
    char stamp[CLOCK_STAMP_SIZE];
    int64_t is_there = 0;
    const struct bytes signing = bytes_of(officer->signing_key, sizeof officer->signing_key);
    const char *wrong = officer_flaw(officer);
    if (wrong)
        return err_set(detail, ERR_PERM, "%s is not well-formed", wrong);
    enum err err = check_new(store, "officer", officer->name, officer->curve_key, detail);
    if (err == ERR_OK)
        err = store_number(store, "SELECT count(*) FROM officer WHERE signing_key = ?1",
                           VALUES(BYTES(signing)), &is_there, detail);
    if (err == ERR_OK && is_there) // who has one key cannot count twice
        err = err_set(detail, ERR_PERM, "another officer has the same signing key as \"%s\"",
                      officer->name);
    if (err != ERR_OK)
        return err;
    clock_stamp(stamp);
    return store_run(store, "INSERT INTO officer VALUES (?1, ?2, ?3, ?4, ?5)",
                     VALUES(TEXT(officer->name), NUMBER(officer->role), BYTES(signing),
                            TEXT(officer->curve_key), TEXT(stamp)),
                     NULL, detail);
}

enum err store_drop_officer(struct store *store, const char *name, struct detail *detail)
{
    int changes = 0;
    enum err err = store_enter(store, detail);
    if (err != ERR_OK)
        return err;
    err = store_run(store, "DELETE FROM officer WHERE name = ?1", VALUES(TEXT(name)), &changes,
                    detail);
    if (err == ERR_OK && !changes)
        err = err_set(detail, ERR_PERM, "there is no officer \"%s\"", name);
    if (err == ERR_OK)
        err = store_run(store,
                        "DELETE FROM verdict WHERE officer = ?1 AND number IN"
                        " (SELECT number FROM proposal WHERE state = ?2)",
                        VALUES(TEXT(name), NUMBER(PROPOSAL_PENDING)), NULL, detail);
    return store_leave(store, err, detail);
}
