// SPDX-License-Identifier: Apache-2.0
#include "gateway/certstore.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <sqlite3.h>

#include "gateway/certificate.h"
#include "hsmd/base/alloc.h"
#include "hsmd/base/text.h"

#define APPLICATION_ID 0x53474331 // "SGC1"; file(1) and we know the file by it
#define SCHEMA_VERSION 1
#define BUSY_MS 5000
#define LABELS_MAX 64 // of a domain looked up

static const char schema[] =
    "CREATE TABLE certificate ("
    " id INTEGER PRIMARY KEY,"
    " name TEXT NOT NULL UNIQUE,"
    " fingerprint TEXT NOT NULL,"   // SHA-256, hex
    " not_before INTEGER NOT NULL," // seconds since 1970
    " not_after INTEGER NOT NULL,"
    " added INTEGER NOT NULL,"
    " der BLOB NOT NULL);"
    // kind: enum certificate_match; value: "bob@a.example", "a.example" or "*.a.example"
    "CREATE TABLE certificate_name ("
    " certificate INTEGER NOT NULL REFERENCES certificate(id) ON DELETE CASCADE,"
    " kind INTEGER NOT NULL,"
    " value TEXT NOT NULL,"
    " PRIMARY KEY (kind, value, certificate)) WITHOUT ROWID;"
    "CREATE INDEX certificate_name_by_certificate ON certificate_name (certificate);";

struct certstore {
    pthread_mutex_t lock; // a connection is one thread's at a time
    sqlite3 *db;
    char *path;
};

// SQLite's word, in our classes; the caller gives that of a constraint.
static enum err failure(struct certstore *store, int code, struct detail *detail)
{
    enum err class = ERR_TEMP;
    switch (code & 0xff) {
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
    case SQLITE_CONSTRAINT:
    case SQLITE_TOOBIG:
    case SQLITE_MISMATCH:
        class = ERR_PERM;
        break;
    case SQLITE_MISUSE:
    case SQLITE_ERROR:
        class = ERR_BUG;
        break;
    default: // busy, full, I/O, read-only, memory: may pass
        break;
    }
    return err_set(detail, class, "%s: %s", store->path,
                   store->db ? sqlite3_errmsg(store->db) : sqlite3_errstr(code));
}

static enum err execute(struct certstore *store, const char *sql, struct detail *detail)
{
    int code = sqlite3_exec(store->db, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? ERR_OK : failure(store, code, detail);
}

static enum err prepare(struct certstore *store, const char *sql, sqlite3_stmt **statement,
                        struct detail *detail)
{
    int code = sqlite3_prepare_v2(store->db, sql, -1, statement, NULL);
    return code == SQLITE_OK ? ERR_OK : failure(store, code, detail);
}

static bool bind_text(sqlite3_stmt *statement, int at, const char *text)
{
    return sqlite3_bind_text(statement, at, text, -1, SQLITE_TRANSIENT) == SQLITE_OK;
}

static enum err pragma_get(struct certstore *store, const char *sql, sqlite3_int64 *value,
                           struct detail *detail)
{
    sqlite3_stmt *statement = NULL;
    enum err err = prepare(store, sql, &statement, detail);
    if (err == ERR_OK) {
        int code = sqlite3_step(statement);
        if (code == SQLITE_ROW)
            *value = sqlite3_column_int64(statement, 0);
        else
            err = failure(store, code, detail);
    }
    sqlite3_finalize(statement);
    return err;
}

// Inside a transaction, so that of several processes one makes the tables.
static enum err schema_ensure(struct certstore *store, struct detail *detail)
{
    sqlite3_int64 version = 0, application = 0, tables = 0;
    enum err err = pragma_get(store, "PRAGMA user_version", &version, detail);
    if (err == ERR_OK)
        err = pragma_get(store, "PRAGMA application_id", &application, detail);
    if (err == ERR_OK)
        err = pragma_get(store, "SELECT count(*) FROM sqlite_master", &tables, detail);
    if (err != ERR_OK)
        return err;
    if (application == APPLICATION_ID && version == SCHEMA_VERSION)
        return ERR_OK;
    if (application == APPLICATION_ID && version > SCHEMA_VERSION)
        return err_set(detail, ERR_PERM, "%s: made by a newer version (%lld)", store->path,
                       (long long)version);
    if (application != 0 || version != 0 || tables != 0)
        return err_set(detail, ERR_PERM, "%s: not a store of certificates", store->path);
    err = execute(store, schema, detail);
    if (err == ERR_OK)
        err = execute(store, "PRAGMA application_id = 1397179185; PRAGMA user_version = 1", detail);
    return err;
}

static enum err connect(struct certstore *store, struct detail *detail)
{
    // SQLite's own files beside it take the mode from it.
    int fd = open(store->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd < 0)
        return err_errno(detail, ERR_PERM, "%s", store->path);
    close(fd);
    int code =
        sqlite3_open_v2(store->path, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (code != SQLITE_OK)
        return failure(store, code, detail);
    sqlite3_busy_timeout(store->db, BUSY_MS);
    enum err err = execute(store,
                           "PRAGMA trusted_schema = OFF; PRAGMA foreign_keys = ON;"
                           "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                           "BEGIN IMMEDIATE",
                           detail);
    if (err != ERR_OK)
        return err;
    err = schema_ensure(store, detail);
    if (err == ERR_OK)
        err = execute(store, "COMMIT", detail);
    if (err != ERR_OK)
        (void)execute(store, "ROLLBACK", NULL);
    return err;
}

enum err certstore_open(const char *path, struct certstore **store, struct detail *detail)
{
    _Static_assert(APPLICATION_ID == 1397179185, "the number in schema_ensure");
    struct certstore *made = mem_calloc(1, sizeof *made);
    if (!made)
        return err_set(detail, ERR_TEMP, "out of memory");
    pthread_mutex_init(&made->lock, NULL);
    made->path = mem_strdup(path);
    enum err err = made->path ? connect(made, detail) : err_set(detail, ERR_TEMP, "out of memory");
    if (err != ERR_OK) {
        certstore_close(made);
        return err;
    }
    *store = made;
    return ERR_OK;
}

void certstore_close(struct certstore *store)
{
    if (!store)
        return;
    sqlite3_close(store->db);
    pthread_mutex_destroy(&store->lock);
    mem_free(store->path);
    mem_free(store);
}

static bool time_of(const ASN1_TIME *time, sqlite3_int64 *seconds)
{
    struct tm tm = {0};
    if (ASN1_TIME_to_tm(time, &tm) != 1)
        return false;
    *seconds = timegm(&tm);
    return true;
}

static X509 *certificate_of(sqlite3_stmt *statement, int column)
{
    const unsigned char *der = sqlite3_column_blob(statement, column);
    return der ? d2i_X509(NULL, &der, sqlite3_column_bytes(statement, column)) : NULL;
}

// One row, inserted or found to be there already with the same certificate. *id: 0 if it was there.
static enum err certificate_insert(struct certstore *store, const char *name, X509 *cert,
                                   sqlite3_int64 *id, struct detail *detail)
{
    char fingerprint[CERTIFICATE_FINGERPRINT_SIZE];
    unsigned char *der = NULL;
    sqlite3_stmt *statement = NULL;
    sqlite3_int64 from = 0, until = 0;
    enum err err = ERR_OK;
    int len = i2d_X509(cert, &der);
    certificate_fingerprint(cert, fingerprint);
    if (len <= 0 || !time_of(X509_get0_notBefore(cert), &from) ||
        !time_of(X509_get0_notAfter(cert), &until)) {
        err = err_openssl(detail, ERR_PERM, "its dates cannot be read");
        goto out;
    }
    err = prepare(store,
                  "INSERT INTO certificate (name, fingerprint, not_before, not_after, added, der)"
                  " VALUES (?, ?, ?, ?, unixepoch(), ?) ON CONFLICT (name) DO NOTHING",
                  &statement, detail);
    if (err != ERR_OK)
        goto out;
    bool is_bound = bind_text(statement, 1, name) && bind_text(statement, 2, fingerprint) &&
                    sqlite3_bind_int64(statement, 3, from) == SQLITE_OK &&
                    sqlite3_bind_int64(statement, 4, until) == SQLITE_OK &&
                    sqlite3_bind_blob(statement, 5, der, len, SQLITE_TRANSIENT) == SQLITE_OK;
    int code = is_bound ? sqlite3_step(statement) : SQLITE_NOMEM;
    if (code != SQLITE_DONE)
        err = failure(store, code, detail);
    else
        *id = sqlite3_changes(store->db) ? sqlite3_last_insert_rowid(store->db) : 0;
out:
    sqlite3_finalize(statement);
    OPENSSL_free(der);
    return err;
}

struct names { // being inserted
    struct certstore *store;
    sqlite3_stmt *statement;
    sqlite3_int64 id;
    int count;
    int code; // the first that went wrong
};

static void name_insert(void *ctx, enum certificate_match kind, const char *name)
{
    struct names *names = ctx;
    names->count++;
    if (!names->statement || names->code != SQLITE_OK)
        return;
    bool is_bound = sqlite3_bind_int64(names->statement, 1, names->id) == SQLITE_OK &&
                    sqlite3_bind_int(names->statement, 2, (int)kind) == SQLITE_OK &&
                    bind_text(names->statement, 3, name);
    int code = is_bound ? sqlite3_step(names->statement) : SQLITE_NOMEM;
    if (code != SQLITE_DONE)
        names->code = code;
    sqlite3_reset(names->statement);
}

static enum err names_insert(struct certstore *store, sqlite3_int64 id, const X509 *cert,
                             struct detail *detail)
{
    struct names names = {.store = store, .id = id};
    enum err err = prepare(store,
                           "INSERT OR IGNORE INTO certificate_name (certificate, kind, value)"
                           " VALUES (?, ?, ?)",
                           &names.statement, detail);
    if (err == ERR_OK)
        certificate_each_name(cert, name_insert, &names);
    if (err == ERR_OK && names.code != SQLITE_OK)
        err = failure(store, names.code, detail);
    sqlite3_finalize(names.statement);
    return err;
}

static enum err check(const char *name, const X509 *cert, struct detail *detail)
{
    struct names names = {0};
    char quoted[TEXT_QUOTED_SIZE];
    if (!text_is_name(name, strlen(name)))
        return err_set(detail, ERR_PERM, "not a name: \"%s\"",
                       text_quote(name, strlen(name), quoted, sizeof quoted));
    certificate_each_name(cert, name_insert, &names);
    if (names.count == 0)
        return err_set(detail, ERR_PERM, "it names no address and no domain");
    if (certificate_check_encryption(cert, detail) != ERR_OK &&
        certificate_check_signing(cert, NULL) != ERR_OK)
        return err_prefix(detail, ERR_PERM, "it can neither encrypt nor sign");
    return err_set(detail, ERR_OK, "%s", "");
}

static enum err certificate_find(struct certstore *store, const char *name, X509 **cert,
                                 struct detail *detail)
{
    sqlite3_stmt *statement = NULL;
    enum err err = prepare(store, "SELECT der FROM certificate WHERE name = ?", &statement, detail);
    if (err != ERR_OK)
        return err;
    int code = bind_text(statement, 1, name) ? sqlite3_step(statement) : SQLITE_NOMEM;
    if (code == SQLITE_DONE)
        err = err_set(detail, ERR_PERM, "no certificate of that name");
    else if (code != SQLITE_ROW)
        err = failure(store, code, detail);
    else if (!(*cert = certificate_of(statement, 0)))
        err = err_openssl(detail, ERR_PERM, "%s: broken certificate", store->path);
    sqlite3_finalize(statement);
    return err;
}

static enum err add(struct certstore *store, const char *name, X509 *cert, struct detail *detail)
{
    sqlite3_int64 id = 0;
    X509 *there = NULL;
    enum err err = certificate_insert(store, name, cert, &id, detail);
    if (err != ERR_OK)
        return err;
    if (id != 0)
        return names_insert(store, id, cert, detail);
    err = certificate_find(store, name, &there, detail);
    if (err == ERR_OK && X509_cmp(there, cert) != 0)
        err = err_set(detail, ERR_PERM, "the name is taken by another certificate");
    X509_free(there);
    return err;
}

enum err certstore_add(struct certstore *store, const char *name, X509 *cert, struct detail *detail)
{
    enum err err = check(name, cert, detail);
    if (err != ERR_OK)
        return err;
    pthread_mutex_lock(&store->lock);
    err = execute(store, "BEGIN IMMEDIATE", detail);
    if (err == ERR_OK) {
        err = add(store, name, cert, detail);
        if (err == ERR_OK)
            err = execute(store, "COMMIT", detail);
        if (err != ERR_OK)
            (void)execute(store, "ROLLBACK", NULL);
    }
    pthread_mutex_unlock(&store->lock);
    ERR_clear_error();
    return err;
}

enum err certstore_remove(struct certstore *store, const char *name, struct detail *detail)
{
    sqlite3_stmt *statement = NULL;
    pthread_mutex_lock(&store->lock);
    enum err err = prepare(store, "DELETE FROM certificate WHERE name = ?", &statement, detail);
    if (err == ERR_OK) {
        int code = bind_text(statement, 1, name) ? sqlite3_step(statement) : SQLITE_NOMEM;
        if (code != SQLITE_DONE)
            err = failure(store, code, detail);
        else if (sqlite3_changes(store->db) == 0)
            err = err_set(detail, ERR_PERM, "no certificate of that name");
    }
    sqlite3_finalize(statement);
    pthread_mutex_unlock(&store->lock);
    return err;
}

enum err certstore_get(struct certstore *store, const char *name, X509 **cert,
                       struct detail *detail)
{
    pthread_mutex_lock(&store->lock);
    enum err err = certificate_find(store, name, cert, detail);
    pthread_mutex_unlock(&store->lock);
    return err;
}

enum err certstore_each(struct certstore *store,
                        bool (*take)(void *ctx, const char *name, X509 *cert), void *ctx,
                        struct detail *detail)
{
    sqlite3_stmt *statement = NULL;
    int code = SQLITE_ROW;
    bool goes_on = true;
    pthread_mutex_lock(&store->lock);
    enum err err =
        prepare(store, "SELECT name, der FROM certificate ORDER BY name", &statement, detail);
    while (err == ERR_OK && goes_on && (code = sqlite3_step(statement)) == SQLITE_ROW) {
        X509 *cert = certificate_of(statement, 1);
        if (cert)
            goes_on = take(ctx, (const char *)sqlite3_column_text(statement, 0), cert);
        else
            err = err_openssl(detail, ERR_PERM, "%s: broken certificate", store->path);
        X509_free(cert);
    }
    if (err == ERR_OK && code != SQLITE_ROW && code != SQLITE_DONE)
        err = failure(store, code, detail);
    sqlite3_finalize(statement);
    pthread_mutex_unlock(&store->lock);
    return err;
}

static bool is_among(STACK_OF(X509) * certs, const X509 *cert)
{
    for (int i = 0; i < sk_X509_num(certs); i++) {
        if (X509_cmp(sk_X509_value(certs, i), cert) == 0)
            return true;
    }
    return false;
}

// Adds the certificates with that name in the table that are in date, fit, and really cover
// address.
static enum err find_by_value(struct certstore *store, enum certificate_match kind,
                              const char *value, const char *address, time_t at,
                              STACK_OF(X509) * certs, struct detail *detail)
{
    sqlite3_stmt *statement = NULL;
    enum err err = prepare(store,
                           "SELECT der FROM certificate_name JOIN certificate ON id = certificate"
                           " WHERE kind = ? AND value = ? ORDER BY name",
                           &statement, detail);
    if (err != ERR_OK)
        return err;
    int code =
        sqlite3_bind_int(statement, 1, (int)kind) == SQLITE_OK && bind_text(statement, 2, value)
            ? SQLITE_OK
            : SQLITE_NOMEM;
    while (code == SQLITE_OK || code == SQLITE_ROW) {
        code = sqlite3_step(statement);
        if (code != SQLITE_ROW)
            break;
        X509 *cert = certificate_of(statement, 0);
        bool fits = cert && !certificate_is_expired(cert, at) &&
                    !certificate_is_not_yet_valid(cert, at) &&
                    certificate_check_encryption(cert, NULL) == ERR_OK &&
                    certificate_covers(cert, address) == kind && !is_among(certs, cert);
        if (fits && sk_X509_push(certs, cert) > 0)
            cert = NULL;
        X509_free(cert);
    }
    if (code != SQLITE_DONE)
        err = failure(store, code, detail);
    sqlite3_finalize(statement);
    return err;
}

// The domain itself, then "*." before each domain it is in.
static enum err find_by_domain(struct certstore *store, const char *address, time_t at,
                               STACK_OF(X509) * certs, struct detail *detail)
{
    char pattern[ADDRESS_MAX + 2];
    const char *domain = address_domain(address);
    enum err err =
        find_by_value(store, CERTIFICATE_MATCHES_DOMAIN, domain, address, at, certs, detail);
    const char *dot = domain;
    for (int i = 0; err == ERR_OK && i < LABELS_MAX && (dot = strchr(dot, '.')); i++, dot++) {
        pattern[0] = '*';
        size_t len = strnlen(dot, ADDRESS_MAX);
        memcpy(pattern + 1, dot, len);
        pattern[len + 1] = 0;
        err = find_by_value(store, CERTIFICATE_MATCHES_DOMAIN, pattern, address, at, certs, detail);
    }
    return err;
}

enum err certstore_find(struct certstore *store, const char *address, time_t at,
                        STACK_OF(X509) * *certs, struct detail *detail)
{
    STACK_OF(X509) *found = sk_X509_new_null();
    if (!found)
        return err_set(detail, ERR_TEMP, "out of memory");
    pthread_mutex_lock(&store->lock);
    enum err err =
        find_by_value(store, CERTIFICATE_MATCHES_ADDRESS, address, address, at, found, detail);
    if (err == ERR_OK && sk_X509_num(found) == 0)
        err = find_by_domain(store, address, at, found, detail);
    pthread_mutex_unlock(&store->lock);
    ERR_clear_error();
    if (err != ERR_OK) {
        sk_X509_pop_free(found, X509_free);
        return err;
    }
    *certs = found;
    return ERR_OK;
}
