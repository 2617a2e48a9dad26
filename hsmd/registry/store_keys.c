// SPDX-License-Identifier: Apache-2.0
// Keys, and where they are.
#include <stdio.h>
#include <string.h>

#include "hsmd/registry/store_internal.h"

#define COLUMNS                                                                    \
    "name, purpose, state, is_destroyed, algorithms, per_minute, per_hour, total," \
    " failures_per_hour, public_key, certificates, created"

bool store_are_limits(const struct budget_limits *limits)
{
    return limits->per_minute <= BUDGET_LIMIT_MAX && limits->per_hour <= BUDGET_LIMIT_MAX &&
           limits->total <= BUDGET_LIMIT_MAX && limits->failures_per_hour <= BUDGET_LIMIT_MAX;
}

bool store_column_limits(sqlite3_stmt *statement, int column, struct budget_limits *limits)
{
    unsigned *const to[] = {&limits->per_minute, &limits->per_hour, &limits->total,
                            &limits->failures_per_hour};
    for (int i = 0; i < 4; i++) {
        int64_t number = sqlite3_column_int64(statement, column + i);
        if (number < 0 || number > BUDGET_LIMIT_MAX)
            return false;
        *to[i] = (unsigned)number;
    }
    return true;
}

// What is wrong with a key, whether it is to be written or was read; NULL: nothing.
static const char *flaw(const struct store_key *key)
{
    if (!text_is_name(key->name, strnlen(key->name, sizeof key->name)))
        return "the name of a key";
    if (!wire_purpose_name(key->purpose))
        return "the purpose of a key";
    if (!wire_state_name(key->state))
        return "the state of a key";
    if (!store_are_limits(&key->limits))
        return "the limits of a key";
    if (key->public_key.len > WIRE_PUBLIC_KEY_MAX)
        return "the public key of a key";
    if (key->certificates.len > WIRE_CERTIFICATES_MAX)
        return "the certificates of a key";
    if (key->place_count > STORE_PLACES_MAX)
        return "the places of a key";
    for (size_t i = 0; i < key->place_count; i++) {
        const struct store_place *place = &key->places[i];
        size_t label = strnlen(place->label, sizeof place->label);
        if (!text_is_name(place->token, strnlen(place->token, sizeof place->token)) ||
            label == sizeof place->label || place->id_len > sizeof place->id)
            return "a place of a key";
        for (size_t j = 0; j < i; j++) {
            if (strcmp(key->places[j].token, place->token) == 0)
                return "two places of a key in one token";
        }
    }
    return NULL;
}

static enum err read_places(struct store *store, struct store_key *key, struct detail *detail)
{
    sqlite3_stmt *statement = NULL;
    enum err err =
        store_prepare(store, "SELECT token, label, id FROM place WHERE key = ?1 ORDER BY position",
                      VALUES(TEXT(key->name)), &statement, detail);
    for (bool is_row = true; err == ERR_OK;) {
        err = store_step(store, statement, &is_row, detail);
        if (err != ERR_OK || !is_row)
            break;
        struct store_place *place = &key->places[key->place_count];
        struct bytes id = store_column_bytes(statement, 2);
        if (key->place_count == STORE_PLACES_MAX || id.len > sizeof place->id ||
            !store_column_text(statement, 0, place->token, sizeof place->token) ||
            !store_column_text(statement, 1, place->label, sizeof place->label)) {
            err = store_damaged(store, "a place of a key", detail);
            break;
        }
        if (id.len)
            memcpy(place->id, id.data, id.len);
        place->id_len = id.len;
        key->place_count++;
    }
    sqlite3_finalize(statement);
    return err;
}

static enum err read_key(struct store *store, sqlite3_stmt *statement, struct store_key *key,
                         struct detail *detail)
{
    *key = (struct store_key){
        .purpose = (enum wire_purpose)sqlite3_column_int(statement, 1),
        .state = (enum wire_state)sqlite3_column_int(statement, 2),
        .is_destroyed = sqlite3_column_int(statement, 3) != 0,
        .algorithms = (uint64_t)sqlite3_column_int64(statement, 4),
        .public_key = store_column_bytes(statement, 9),
        .certificates = store_column_bytes(statement, 10),
    };
    if (!store_column_text(statement, 0, key->name, sizeof key->name) ||
        !store_column_limits(statement, 5, &key->limits) ||
        !store_column_text(statement, 11, key->created, sizeof key->created))
        return store_damaged(store, "a key", detail);
    enum err err = read_places(store, key, detail);
    const char *wrong = err == ERR_OK ? flaw(key) : NULL;
    return wrong ? store_damaged(store, wrong, detail) : err;
}

enum err store_each_key(struct store *store, const char *name, store_see_key see, void *context,
                        struct detail *detail)
{
    sqlite3_stmt *statement = NULL;
    enum err err = store_prepare(
        store, "SELECT " COLUMNS " FROM key WHERE ?1 IS NULL OR name = ?1 ORDER BY name",
        VALUES(TEXT(name)), &statement, detail);
    for (bool is_row = true; err == ERR_OK;) {
        struct store_key key;
        err = store_step(store, statement, &is_row, detail);
        if (err != ERR_OK || !is_row)
            break;
        err = read_key(store, statement, &key, detail);
        if (err == ERR_OK)
            err = see(context, &key);
    }
    sqlite3_finalize(statement);
    return err;
}

enum err store_check_key(struct store *store, const char *name, struct detail *detail)
{
    int64_t is_there = 0;
    enum err err =
        store_number(store, "SELECT count(*) FROM key WHERE name = ?1 AND is_destroyed = 0",
                     VALUES(TEXT(name)), &is_there, detail);
    if (err != ERR_OK || is_there)
        return err;
    return err_set(detail, ERR_PERM, "there is no key \"%s\"", name);
}

static enum err write_places(struct store *store, const struct store_key *key,
                             struct detail *detail)
{
    enum err err =
        store_run(store, "DELETE FROM place WHERE key = ?1", VALUES(TEXT(key->name)), NULL, detail);
    for (size_t i = 0; i < key->place_count && err == ERR_OK; i++) {
        const struct store_place *place = &key->places[i];
        err = store_run(store, "INSERT INTO place VALUES (?1, ?2, ?3, ?4, ?5)",
                        VALUES(TEXT(key->name), NUMBER(i), TEXT(place->token), TEXT(place->label),
                               BYTES(bytes_of(place->id, place->id_len))),
                        NULL, detail);
    }
    return err;
}

// Whether there was such a key before is the caller's to say.
static enum err write_key(struct store *store, const struct store_key *key, const char *sql,
                          struct detail *detail)
{
    char stamp[CLOCK_STAMP_SIZE];
    clock_stamp(stamp);
    enum err err = store_run(store, sql,
                             VALUES(TEXT(key->name), NUMBER(key->purpose), NUMBER(key->state),
                                    NUMBER(key->algorithms), NUMBER(key->limits.per_minute),
                                    NUMBER(key->limits.per_hour), NUMBER(key->limits.total),
                                    NUMBER(key->limits.failures_per_hour), BYTES(key->public_key),
                                    BYTES(key->certificates), TEXT(stamp)),
                             NULL, detail);
    return err == ERR_OK ? write_places(store, key, detail) : err;
}

static enum err insert_key(struct store *store, const struct store_key *key, struct detail *detail)
{
    int64_t destroyed = 0;
    enum err err = store_number(store, "SELECT 1 + is_destroyed FROM key WHERE name = ?1",
                                VALUES(TEXT(key->name)), &destroyed, detail);
    if (err != ERR_OK)
        return err;
    if (destroyed)
        return err_set(detail, ERR_PERM, "there %s a key \"%s\"%s", destroyed == 2 ? "was" : "is",
                       key->name, destroyed == 2 ? ", and its name is not used again" : " already");
    return write_key(store, key,
                     "INSERT INTO key (name, purpose, state, algorithms, per_minute, per_hour,"
                     " total, failures_per_hour, public_key, certificates, created)"
                     " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                     detail);
}

static enum err update_key(struct store *store, const struct store_key *key, struct detail *detail)
{
    enum err err = store_check_key(store, key->name, detail);
    if (err != ERR_OK)
        return err;
    return write_key(store, key, // ?11, when it was made, stays as it is
                     "UPDATE key SET purpose = ?2, state = ?3, algorithms = ?4, per_minute = ?5,"
                     " per_hour = ?6, total = ?7, failures_per_hour = ?8, public_key = ?9,"
                     " certificates = ?10 WHERE name = ?1 AND ?11 IS NOT NULL",
                     detail);
}

static enum err change_key(struct store *store, const struct store_key *key,
                           enum err (*change)(struct store *store, const struct store_key *key,
                                              struct detail *detail),
                           struct detail *detail)
{
    const char *wrong = flaw(key);
    if (wrong)
        return err_set(detail, ERR_PERM, "key \"%.*s\": %s is not well-formed", TEXT_NAME_MAX,
                       key->name, wrong);
    enum err err = store_enter(store, detail);
    return err == ERR_OK ? store_leave(store, change(store, key, detail), detail) : err;
}

enum err store_add_key(struct store *store, const struct store_key *key, struct detail *detail)
{
    return change_key(store, key, insert_key, detail);
}

enum err store_set_key(struct store *store, const struct store_key *key, struct detail *detail)
{
    return change_key(store, key, update_key, detail);
}

static enum err destroy_key(struct store *store, const char *name, struct detail *detail)
{
    static const char *const steps[] = {
        "DELETE FROM access WHERE key = ?1",
        "DELETE FROM place WHERE key = ?1",
        "UPDATE key SET is_destroyed = 1 WHERE name = ?1",
    };
    enum err err = store_check_key(store, name, detail);
    for (size_t i = 0; i < sizeof steps / sizeof *steps && err == ERR_OK; i++)
        err = store_run(store, steps[i], VALUES(TEXT(name)), NULL, detail);
    return err;
}

enum err store_drop_key(struct store *store, const char *name, struct detail *detail)
{
    enum err err = store_enter(store, detail);
    return err == ERR_OK ? store_leave(store, destroy_key(store, name, detail), detail) : err;
}
