// SPDX-License-Identifier: Apache-2.0
// The file itself: made, told from other files, looked at, locked; transactions.
//
// SQLite holds its own lock on the file as long as the store is open (locking_mode EXCLUSIVE), so
// there is one hsmd, or one hsmd migrate, at a time.
#include "hsmd/registry/store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/rand.h>

#include "hsmd/base/alloc.h"
#include "hsmd/registry/store_internal.h"

#define BUSY_MS 2000

// Tokens that officers have locked, and not unlocked since.
#define LOCKED "CREATE TABLE locked (token TEXT PRIMARY KEY NOT NULL) STRICT, WITHOUT ROWID;"

// Sets are 64 bits in SQLite's signed integers. Officers are named by proposals and verdicts, and
// not referred to: what a former one has signed stays to be read.
static const char schema[] =
    "CREATE TABLE custodian ("
    " one INTEGER PRIMARY KEY CHECK (one = 1),"
    " instance BLOB NOT NULL CHECK (length(instance) = 16),"
    " quorum INTEGER NOT NULL DEFAULT 0 CHECK (quorum >= 0)) STRICT;"
    "CREATE TABLE key ("
    " name TEXT PRIMARY KEY NOT NULL,"
    " purpose INTEGER NOT NULL,"
    " state INTEGER NOT NULL,"
    " is_destroyed INTEGER NOT NULL DEFAULT 0 CHECK (is_destroyed IN (0, 1)),"
    " algorithms INTEGER NOT NULL,"
    " per_minute INTEGER NOT NULL, per_hour INTEGER NOT NULL,"
    " total INTEGER NOT NULL, failures_per_hour INTEGER NOT NULL,"
    " public_key BLOB NOT NULL,"
    " certificates BLOB NOT NULL,"
    " created TEXT NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE place ("
    " key TEXT NOT NULL REFERENCES key(name),"
    " position INTEGER NOT NULL,"
    " token TEXT NOT NULL,"
    " label TEXT NOT NULL,"
    " id BLOB NOT NULL,"
    " PRIMARY KEY (key, position), UNIQUE (key, token)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE client ("
    " name TEXT PRIMARY KEY NOT NULL,"
    " public_key TEXT NOT NULL UNIQUE,"
    " created TEXT NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE access ("
    " client TEXT NOT NULL REFERENCES client(name) ON DELETE CASCADE,"
    " key TEXT NOT NULL REFERENCES key(name),"
    " operations INTEGER NOT NULL CHECK (operations <> 0),"
    " algorithms INTEGER NOT NULL CHECK (algorithms <> 0),"
    " per_minute INTEGER NOT NULL, per_hour INTEGER NOT NULL,"
    " total INTEGER NOT NULL, failures_per_hour INTEGER NOT NULL,"
    " PRIMARY KEY (client, key, operations, algorithms)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX access_by_key ON access (key);"
    "CREATE TABLE officer ("
    " name TEXT PRIMARY KEY NOT NULL,"
    " role INTEGER NOT NULL,"
    " signing_key BLOB NOT NULL UNIQUE CHECK (length(signing_key) = 32),"
    " curve_key TEXT NOT NULL UNIQUE,"
    " created TEXT NOT NULL) STRICT, WITHOUT ROWID;"
    // state: place in the table of states
    "CREATE TABLE proposal ("
    " number INTEGER PRIMARY KEY AUTOINCREMENT,"
    " state INTEGER NOT NULL,"
    " nonce BLOB NOT NULL UNIQUE REFERENCES nonce(nonce),"
    " proposer TEXT NOT NULL,"
    " replaces INTEGER NOT NULL,"
    " lapse INTEGER NOT NULL,"
    " act BLOB NOT NULL,"
    " signature BLOB NOT NULL CHECK (length(signature) = 64),"
    " lapses INTEGER NOT NULL,"
    " created TEXT NOT NULL,"
    " ended TEXT NOT NULL DEFAULT '',"
    " result BLOB NOT NULL DEFAULT x'') STRICT;"
    "CREATE INDEX proposal_by_state ON proposal (state);"
    "CREATE TABLE verdict ("
    " number INTEGER NOT NULL REFERENCES proposal(number),"
    " officer TEXT NOT NULL,"
    " is_approval INTEGER NOT NULL CHECK (is_approval IN (0, 1)),"
    " signature BLOB NOT NULL CHECK (length(signature) = 64),"
    " created TEXT NOT NULL,"
    " PRIMARY KEY (number, officer)) STRICT, WITHOUT ROWID;"
    // All that were ever seen, of proposals that have another one by now too.
    "CREATE TABLE nonce (nonce BLOB PRIMARY KEY NOT NULL CHECK (length(nonce) = 16))"
    " STRICT, WITHOUT ROWID;" LOCKED;

static enum err set_version(struct store *store, struct detail *detail)
{
    char pragmas[100];
    snprintf(pragmas, sizeof pragmas, "PRAGMA application_id = %d; PRAGMA user_version = %d",
             STORE_APPLICATION_ID, STORE_SCHEMA_VERSION);
    return store_execute(store, pragmas, detail);
}

static enum err make_tables(struct store *store, struct detail *detail)
{
    uint8_t instance[STATEMENT_INSTANCE_SIZE];
    if (RAND_bytes(instance, sizeof instance) != 1)
        return err_openssl(detail, ERR_TEMP, "%s: no random numbers", store->path);
    enum err err = store_execute(store, schema, detail);
    if (err == ERR_OK)
        err = store_run(store, "INSERT INTO custodian (one, instance) VALUES (1, ?1)",
                        VALUES(BYTES(bytes_of(instance, sizeof instance))), NULL, detail);
    return err == ERR_OK ? set_version(store, detail) : err;
}

static enum err add_tables(struct store *store, struct detail *detail)
{
    enum err err = store_execute(store, LOCKED, detail);
    return err == ERR_OK ? set_version(store, detail) : err;
}

// Ours, of this version, or of the one before, or empty: then it gets its tables. In a transaction.
static enum err ensure_tables(struct store *store, struct detail *detail)
{
    int64_t version = 0, application = 0, tables = 0;
    enum err err = store_number(store, "PRAGMA user_version", NULL, 0, &version, detail);
    if (err == ERR_OK)
        err = store_number(store, "PRAGMA application_id", NULL, 0, &application, detail);
    if (err == ERR_OK)
        err = store_number(store, "SELECT count(*) FROM sqlite_schema", NULL, 0, &tables, detail);
    if (err != ERR_OK)
        return err;
    if (application == STORE_APPLICATION_ID && version == STORE_SCHEMA_VERSION)
        return ERR_OK;
    if (application == STORE_APPLICATION_ID && version > STORE_SCHEMA_VERSION)
        return err_set(detail, ERR_PERM, "%s: of a later version of hsmd (%lld, we know %d)",
                       store->path, (long long)version, STORE_SCHEMA_VERSION);
    if (application == STORE_APPLICATION_ID && version == 1)
        return add_tables(store, detail);
    if (application != 0 || version != 0 || tables != 0)
        return err_set(detail, ERR_PERM, "%s: no registry of hsmd, but another database",
                       store->path);
    return make_tables(store, detail);
}

static enum err check_whole(struct store *store, struct detail *detail)
{
    char said[200];
    bool is_row = false;
    sqlite3_stmt *statement = NULL;
    enum err err = store_prepare(store, "PRAGMA quick_check(1)", NULL, 0, &statement, detail);
    if (err == ERR_OK)
        err = store_step(store, statement, &is_row, detail);
    if (err == ERR_OK && (!is_row || !store_column_text(statement, 0, said, sizeof said)))
        snprintf(said, sizeof said, "no answer to quick_check");
    sqlite3_finalize(statement);
    if (err == ERR_OK && strcmp(said, "ok") != 0)
        err = store_damaged(store, said, detail);
    if (err != ERR_OK)
        return err;
    statement = NULL;
    err = store_prepare(store, "PRAGMA foreign_key_check", NULL, 0, &statement, detail);
    if (err == ERR_OK)
        err = store_step(store, statement, &is_row, detail);
    if (err == ERR_OK && is_row)
        err = store_damaged(store, "something in it refers to what is not there", detail);
    sqlite3_finalize(statement);
    return err;
}

static enum err read_instance(struct store *store, struct detail *detail)
{
    bool is_row = false;
    sqlite3_stmt *statement = NULL;
    enum err err =
        store_prepare(store, "SELECT instance FROM custodian", NULL, 0, &statement, detail);
    if (err == ERR_OK)
        err = store_step(store, statement, &is_row, detail);
    if (err == ERR_OK &&
        (!is_row || !store_column_copy(statement, 0, store->instance, sizeof store->instance)))
        err = store_damaged(store, "no instance", detail);
    sqlite3_finalize(statement);
    return err;
}

// A file that root makes belongs to whom the directory belongs to.
static int give_away(int fd, const char *path)
{
    char directory[PATH_MAX];
    struct stat st;
    const char *slash = strrchr(path, '/');
    snprintf(directory, sizeof directory, "%.*s", slash ? (int)(slash - path) + 1 : 1,
             slash ? path : ".");
    if (geteuid() != 0)
        return 0;
    return stat(directory, &st) == 0 ? fchown(fd, st.st_uid, st.st_gid) : -1;
}

// SQLite's files beside it take mode and owner from it.
static enum err make_file(const char *path, struct detail *detail)
{
    struct stat st;
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool is_new = fd >= 0;
    if (!is_new && errno == EEXIST)
        fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return err_errno(detail, ERR_PERM, "%s", path);
    enum err err = ERR_OK;
    if (is_new && (fchmod(fd, 0600) != 0 || give_away(fd, path) != 0))
        err = err_errno(detail, ERR_PERM, "%s", path);
    else if (fstat(fd, &st) != 0)
        err = err_errno(detail, ERR_PERM, "%s", path);
    else if (!S_ISREG(st.st_mode))
        err = err_set(detail, ERR_PERM, "%s: not a regular file", path);
    else if ((st.st_mode & 077) != 0)
        err = err_set(detail, ERR_PERM, "%s: mode %04o: others may open it (chmod 0600 %s)", path,
                      st.st_mode & 07777u, path);
    close(fd);
    return err;
}

static enum err connect_file(struct store *store, struct detail *detail)
{
    int code =
        sqlite3_open_v2(store->path, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (code != SQLITE_OK)
        return store_failure(store, code, detail);
    sqlite3_busy_timeout(store->db, BUSY_MS);
    sqlite3_extended_result_codes(store->db, 1);
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    return store_execute(store,
                         "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;"
                         "PRAGMA foreign_keys = ON; PRAGMA locking_mode = EXCLUSIVE;"
                         "PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL;"
                         "PRAGMA temp_store = MEMORY",
                         detail);
}

enum err store_open(const char *path, struct store **out, struct detail *detail)
{
    struct store *store = NULL;
    enum err err = make_file(path, detail);
    if (err != ERR_OK)
        return err;
    store = mem_calloc(1, sizeof *store);
    if (store)
        store->path = mem_strdup(path);
    if (!store || !store->path) {
        mem_free(store);
        return err_set(detail, ERR_TEMP, "%s: out of memory", path);
    }
    err = connect_file(store, detail);
    // The lock that this takes stays.
    if (err == ERR_OK)
        err = store_execute(store, "BEGIN EXCLUSIVE", detail);
    if (err == ERR_OK)
        err = ensure_tables(store, detail);
    if (err == ERR_OK)
        err = store_execute(store, "COMMIT", detail);
    if (err == ERR_OK)
        err = check_whole(store, detail);
    if (err == ERR_OK)
        err = read_instance(store, detail);
    if (err != ERR_OK) {
        store_close(store);
        return err;
    }
    *out = store;
    return ERR_OK;
}

void store_close(struct store *store)
{
    if (!store)
        return;
    store_rollback(store);
    sqlite3_close(store->db);
    mem_free(store->path);
    mem_free(store);
}

enum err store_begin(struct store *store, struct detail *detail)
{
    if (store->is_begun)
        return err_set(detail, ERR_BUG, "%s: a transaction in a transaction", store->path);
    enum err err = store_execute(store, "BEGIN IMMEDIATE", detail);
    store->is_begun = err == ERR_OK;
    return err;
}

enum err store_commit(struct store *store, struct detail *detail)
{
    if (!store->is_begun)
        return err_set(detail, ERR_BUG, "%s: no transaction to commit", store->path);
    enum err err = ERR_OK;
    if (sqlite3_get_autocommit(store->db))
        err = err_set(detail, ERR_TEMP, "%s: the transaction has been rolled back", store->path);
    else
        err = store_execute(store, "COMMIT", detail);
    store_rollback(store); // nothing, if it is committed
    return err;
}

void store_rollback(struct store *store)
{
    if (store->is_begun && !sqlite3_get_autocommit(store->db))
        (void)store_execute(store, "ROLLBACK", NULL);
    store->is_begun = false;
}

const uint8_t *store_instance(const struct store *store)
{
    return store->instance;
}

enum err store_get_quorum(struct store *store, unsigned *quorum, struct detail *detail)
{
    int64_t number = 0;
    enum err err = store_number(store, "SELECT quorum FROM custodian", NULL, 0, &number, detail);
    if (err != ERR_OK)
        return err;
    if (number < 0 || number > UINT_MAX)
        return store_damaged(store, "quorum", detail);
    *quorum = (unsigned)number;
    return ERR_OK;
}

enum err store_set_quorum(struct store *store, unsigned quorum, struct detail *detail)
{
    return store_run(store, "UPDATE custodian SET quorum = ?1", VALUES(NUMBER(quorum)), NULL,
                     detail);
}
