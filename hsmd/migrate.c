// SPDX-License-Identifier: Apache-2.0
// The store's transaction is committed last: until then the former file can be put back by a
// rename, which needs no room on the disk.
#include "hsmd/migrate.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/x509.h>

#include "hsmd/audit/audit_trace.h"
#include "hsmd/base/file.h"
#include "hsmd/base/log.h"
#include "hsmd/certificate.h"
#include "hsmd/config.h"
#include "hsmd/former.h"
#include "hsmd/migrate_audit.h"
#include "hsmd/registry/store.h"
#include "hsmd/state_directory.h"

#define FILE_SIZE_MAX ((size_t)4 * 1024 * 1024)
#define FORMER_SUFFIX ".before-migration"

struct move {
    const struct config *config;
    struct migration *migration;
    char temporary[PATH_MAX]; // the new file; "": not made yet
    bool is_again; // an hsmd migrate that was killed has written the new file, and not the registry
    bool is_kept;  // the former one has its second name
    bool is_replaced;
};

// SubjectPublicKeyInfo, as a token's is made; empty if the certificate does not tell.
static void put_public_key(struct bytes certificates, struct buf *out)
{
    const uint8_t *der = certificates.data;
    uint8_t *encoded = NULL;
    X509 *certificate = d2i_X509(NULL, &der, (long)certificates.len);
    EVP_PKEY *key = certificate ? X509_get_pubkey(certificate) : NULL;
    bool is_ec = key && EVP_PKEY_is_a(key, "EC");
    if (is_ec)
        EVP_PKEY_set_utf8_string_param(key, OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT,
                                       OSSL_PKEY_EC_POINT_CONVERSION_FORMAT_UNCOMPRESSED);
    int len = key && (is_ec || EVP_PKEY_is_a(key, "RSA") || EVP_PKEY_is_a(key, "ED25519"))
                  ? i2d_PUBKEY(key, &encoded)
                  : 0;
    if (len > 0)
        (void)buf_put(out, encoded, (size_t)len); // empty means not seen yet
    OPENSSL_free(encoded);
    EVP_PKEY_free(key);
    X509_free(certificate);
    ERR_clear_error();
}

struct naming {
    const struct store_key *key;
    char other[TEXT_NAME_MAX + 1]; // another name of it; "": none
    bool is_by_certificate;
};

// Without an id the label alone says which one it is.
static bool is_same_place(const struct store_place *a, const struct store_place *b)
{
    bool is_same_id = !a->id_len || !b->id_len ||
                      bytes_equal(bytes_of(a->id, a->id_len), bytes_of(b->id, b->id_len));
    return strcmp(a->token, b->token) == 0 && strcmp(a->label, b->label) == 0 && is_same_id;
}

static enum err see_other(void *context, const struct store_key *other)
{
    struct naming *naming = context;
    const struct store_key *key = naming->key;
    bool is_by_certificate = key->public_key.len && bytes_equal(key->public_key, other->public_key);
    if (!is_by_certificate && !is_same_place(&key->places[0], &other->places[0]))
        return ERR_OK;
    snprintf(naming->other, sizeof naming->other, "%s", other->name);
    naming->is_by_certificate = is_by_certificate;
    return ERR_OK;
}

// A key has one name: under two it could be used as the one purpose forbids, and grants, limits and
// states would be of no avail. Of a key in two objects only its certificates can tell that here.
static enum err check_one_name(struct store *store, const struct store_key *key,
                               struct detail *detail)
{
    struct naming naming = {.key = key};
    enum err err = store_each_key(store, NULL, see_other, &naming, detail);
    if (err == ERR_OK && naming.other[0])
        err =
            err_set(detail, ERR_PERM,
                    naming.is_by_certificate
                        ? "key %s: certificate: its certificate is of the same key as that of key "
                          "%s: a key has one name"
                        : "key %s: it is the same key in the token as key %s: a key has one name",
                    key->name, naming.other);
    return err;
}

static enum err load_certificates(const struct config_key *from, struct buf *certificates,
                                  struct detail *detail)
{
    struct detail warning = {0};
    enum err err = certificate_load(from->certificate_file, certificates, detail);
    if (err == ERR_OK)
        err = certificate_check_use(buf_bytes(certificates), from->purpose, &warning, detail);
    if (err == ERR_OK && warning.text[0])
        log_warning("migrate", "key", from->name, "err", warning.text);
    return err;
}

static enum err move_key(struct store *store, const struct config_key *from, const char *name,
                         struct detail *detail)
{
    struct buf certificates;
    struct buf public_key;
    struct store_key key = {.purpose = from->purpose,
                            .state = from->state,
                            .algorithms = from->algorithms,
                            .limits = from->limits,
                            .place_count = 1};
    struct store_place *place = &key.places[0];
    snprintf(key.name, sizeof key.name, "%s", name);
    snprintf(place->token, sizeof place->token, "%s", from->token);
    if ((size_t)snprintf(place->label, sizeof place->label, "%s", from->label) >=
        sizeof place->label)
        return err_set(detail, ERR_PERM, "key %s: label is longer than %zu bytes", name,
                       sizeof place->label - 1);
    memcpy(place->id, from->id, from->id_len);
    place->id_len = from->id_len;
    buf_init(&certificates, WIRE_CERTIFICATES_MAX);
    buf_init(&public_key, WIRE_PUBLIC_KEY_MAX);
    enum err err = ERR_OK;
    if (from->certificate_file)
        err = load_certificates(from, &certificates, detail);
    if (err != ERR_OK)
        err = err_prefix(detail, err, "key %s", name);
    key.certificates = buf_bytes(&certificates);
    if (key.certificates.len)
        put_public_key(key.certificates, &public_key);
    key.public_key = buf_bytes(&public_key);
    if (err == ERR_OK)
        err = check_one_name(store, &key, detail);
    if (err == ERR_OK)
        err = store_add_key(store, &key, detail);
    buf_clear(&certificates);
    buf_clear(&public_key);
    return err;
}

static bool has_key(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->key_count; i++) {
        if (strcmp(config->keys[i].name, name) == 0)
            return true;
    }
    return false;
}

// It had no name so far.
static enum err move_audit_key(struct store *store, struct move *move, struct detail *detail)
{
    static const char *const names[] = {"audit", "audit-key"};
    struct config_key from = move->config->audit_key;
    from.purpose = WIRE_AUDIT;
    from.state = WIRE_ENABLED;
    from.algorithms = REGISTRY_ALL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (has_key(move->config, names[i]))
            continue;
        snprintf(move->migration->audit_key, sizeof move->migration->audit_key, "%s", names[i]);
        move->migration->keys++;
        return move_key(store, &from, names[i], detail);
    }
    return err_set(detail, ERR_PERM,
                   "audit-key: there are keys called audit and audit-key: rename one of them");
}

// In the registry one grant says a thing; equal ones had a budget each.
static enum err move_grant(struct store *store, const struct config *config, size_t index,
                           struct detail *detail)
{
    const struct config_grant *from = &config->grants[index];
    struct store_grant grant = {
        .operations = from->operations, .algorithms = from->algorithms, .limits = from->limits};
    for (size_t i = 0; i < index; i++) {
        const struct config_grant *other = &config->grants[i];
        if (strcmp(other->client, from->client) == 0 && strcmp(other->key, from->key) == 0 &&
            other->operations == from->operations && other->algorithms == from->algorithms)
            return err_set(detail, ERR_PERM,
                           "two grants of client %s for key %s allow the same: make one of them",
                           from->client, from->key);
    }
    snprintf(grant.client, sizeof grant.client, "%s", from->client);
    snprintf(grant.key, sizeof grant.key, "%s", from->key);
    return store_put_grant(store, &grant, detail);
}

static enum err move_all(struct store *store, struct move *move, struct detail *detail)
{
    const struct config *config = move->config;
    struct migration *migration = move->migration;
    enum err err = ERR_OK;
    for (size_t i = 0; i < config->key_count && err == ERR_OK; i++, migration->keys++)
        err = move_key(store, &config->keys[i], config->keys[i].name, detail);
    if (err == ERR_OK && config->has_audit_key)
        err = move_audit_key(store, move, detail);
    for (size_t i = 0; i < config->client_count && err == ERR_OK; i++, migration->clients++) {
        struct store_client client = {0};
        snprintf(client.name, sizeof client.name, "%s", config->clients[i].name);
        snprintf(client.public_key, sizeof client.public_key, "%s", config->clients[i].public_key);
        err = store_add_client(store, &client, detail);
    }
    for (size_t i = 0; i < config->grant_count && err == ERR_OK; i++, migration->grants++)
        err = move_grant(store, config, i, detail);
    return err;
}

static enum err refuse_key(void *context, const struct store_key *key)
{
    return err_set(context, ERR_PERM, "the registry has keys already (\"%s\")", key->name);
}

static enum err refuse_officer(void *context, const struct store_officer *officer)
{
    return err_set(
        context, ERR_PERM,
        "the registry has officers already (\"%s\"): they make keys, clients and grants, "
        "with hsmctl",
        officer->name);
}

static enum err refuse_client(void *context, const struct store_client *client)
{
    return err_set(context, ERR_PERM, "the registry has clients already (\"%s\")", client->name);
}

static enum err check_empty(struct store *store, struct detail *detail)
{
    enum err err = store_each_key(store, NULL, refuse_key, detail, detail);
    return err == ERR_OK ? store_each_client(store, NULL, refuse_client, detail, detail) : err;
}

// Beside the file, so that its paths mean the same: read by hsmd's own rules, it must be without
// former sections and otherwise as it was.
static enum err check_new_file(const struct move *move, struct detail *detail)
{
    struct config *config = NULL;
    enum err err = config_load(move->temporary, &config, detail);
    if (err != ERR_OK)
        return err_prefix(detail, err, "the new file would be wrong");
    bool is_same = !config->has_former && config->token_count == move->config->token_count &&
                   config->listen_count == move->config->listen_count &&
                   config->officer_count == move->config->officer_count;
    config_free(config);
    return is_same
               ? ERR_OK
               : err_set(detail, ERR_BUG, "%s: its former sections cannot be told from the rest",
                         move->migration->file);
}

static enum err write_new_file(struct move *move, struct detail *detail)
{
    struct stat st;
    struct buf text;
    struct buf written;
    const char *file = move->migration->file;
    buf_init(&text, FILE_SIZE_MAX);
    buf_init(&written, 2 * FILE_SIZE_MAX);
    enum err err = file_read(file, &text, detail);
    if (err == ERR_OK && former_comment_out(buf_bytes(&text), &written) != ERR_OK)
        err = err_set(detail, ERR_TEMP, "out of memory");
    if (err == ERR_OK && stat(file, &st) != 0)
        err = err_errno(detail, ERR_PERM, "%s", file);
    if (err == ERR_OK) {
        snprintf(move->temporary, sizeof move->temporary, "%s.migrated", file);
        err = file_write(move->temporary, buf_bytes(&written), st.st_mode & 07777, detail);
    }
    if (err == ERR_OK && (st.st_uid != geteuid() || st.st_gid != getegid()) &&
        (chown(move->temporary, st.st_uid, st.st_gid) != 0 ||
         chmod(move->temporary, st.st_mode & 07777) != 0))
        err = err_errno(detail, ERR_PERM, "%s: its owner", move->temporary);
    buf_clear(&text);
    buf_clear(&written);
    return err == ERR_OK ? check_new_file(move, detail) : err;
}

static enum err replace_file(struct move *move, struct detail *detail)
{
    const char *file = move->migration->file;
    const char *former = move->migration->former;
    if (link(file, former) != 0)
        return err_errno(detail, ERR_PERM, "%s", former);
    move->is_kept = true;
    if (rename(move->temporary, file) != 0)
        return err_errno(detail, ERR_PERM, "%s", file);
    move->is_replaced = true;
    return file_sync_directory(file) ? ERR_OK : err_errno(detail, ERR_TEMP, "%s", file);
}

static void put_back(struct move *move)
{
    const char *file = move->migration->file;
    const char *former = move->migration->former;
    if (move->is_replaced && rename(former, file) != 0)
        log_error("migrate", "err", "the former file cannot be put back", "file", former);
    else if (move->is_kept && !move->is_replaced)
        unlink(former);
    if (move->temporary[0] && !move->is_replaced)
        unlink(move->temporary);
}

static enum err move_into(struct store *store, struct move *move, struct detail *detail)
{
    bool is_log_made = false;
    enum err err = store_begin(store, detail);
    if (err == ERR_OK)
        err = check_empty(store, detail);
    if (err == ERR_OK)
        err = store_each_officer(store, NULL, refuse_officer, detail, detail);
    if (err == ERR_PERM && move->is_again)
        err = err_set(detail, err, "%s: has no keys, clients or grants to bring",
                      move->migration->file);
    if (err == ERR_OK)
        err = move_all(store, move, detail);
    if (err == ERR_OK)
        err = migrate_tell(move->config, store, &is_log_made, detail);
    if (err == ERR_OK && !move->is_again)
        err = write_new_file(move, detail);
    if (err == ERR_OK && !move->is_again)
        err = replace_file(move, detail);
    if (err == ERR_OK)
        err = store_commit(store, detail);
    store_rollback(store);
    if (err != ERR_OK)
        put_back(move);
    if (err != ERR_OK && is_log_made)
        unlink(move->config->audit_log);
    return err;
}

// Killed before the new file took the name: the former one has two.
static bool is_same_file(const char *a, const char *b)
{
    struct stat first, second;
    return stat(a, &first) == 0 && stat(b, &second) == 0 && first.st_dev == second.st_dev &&
           first.st_ino == second.st_ino;
}

// Where everything is. The file itself is replaced, not a link to it.
static enum err find_files(const struct config *config, struct migration *migration, bool *is_again,
                           struct detail *detail)
{
    char real[PATH_MAX];
    if (!realpath(config->path, real))
        return err_errno(detail, ERR_PERM, "%s", config->path);
    if ((size_t)snprintf(migration->file, sizeof migration->file, "%s", real) >=
            sizeof migration->file ||
        (size_t)snprintf(migration->registry, sizeof migration->registry, "%s/" STORE_FILE,
                         config->state_directory) >= sizeof migration->registry)
        return err_set(detail, ERR_PERM, "%s: its path, or state-directory, is too long", real);
    snprintf(migration->former, sizeof migration->former, "%s" FORMER_SUFFIX, migration->file);
    bool is_there =
        access(migration->former, F_OK) == 0 && !is_same_file(migration->file, migration->former);
    *is_again = !config->has_former && is_there;
    return !is_there || *is_again
               ? ERR_OK
               : err_set(detail, ERR_PERM, "%s: is there already", migration->former);
}

// Has hsmd run with a registry that officers had to do with? Then no migration was killed: that
// registry was lost, and the former file knows nothing of what they have revoked since.
static enum err has_run_since(const struct config *config, bool *has_run, struct detail *detail)
{
    char from[PATH_MAX];
    struct audit_trace trace = {0};
    enum err err = migrate_find_log(config, from, detail);
    if (err == ERR_OK)
        err = audit_trace_read(from, &trace, detail);
    *has_run = trace.has_instance || trace.has_acts;
    return err == ERR_OK ? ERR_OK : err_prefix(detail, err, "audit log");
}

static enum err check_again(const struct config *config, const struct migration *migration,
                            struct detail *detail)
{
    bool has_run = false;
    enum err err = has_run_since(config, &has_run, detail);
    if (err != ERR_OK || !has_run)
        return err;
    return err_set(detail, ERR_PERM,
                   "%s: has no keys, clients or grants to bring, and hsmd has run since %s by the "
                   "audit log. If %s is lost, put back a copy, or begin anew: hsmd found -c %s",
                   migration->file, migration->former, migration->registry, config->path);
}

// Who has officers has keys, clients and grants from them, or from nobody.
static enum err check_new(const struct config *config, struct detail *detail)
{
    bool has_run = false;
    enum err err = has_run_since(config, &has_run, detail);
    if (err != ERR_OK || !has_run)
        return err;
    return err_set(detail, ERR_PERM,
                   "there have been officers by the audit log, %s: they make keys, clients and "
                   "grants, with hsmctl",
                   config->audit_log);
}

static enum err migrate_config(const struct config *config, struct migration *migration,
                               bool is_again, struct detail *detail)
{
    struct store *store = NULL;
    struct move move = {.config = config, .migration = migration, .is_again = is_again};
    if (!config->has_former)
        return err_set(detail, ERR_PERM, "%s: has no keys, clients or grants to bring",
                       config->path);
    bool is_new_directory = mkdir(config->state_directory, 0700) == 0;
    bool is_new_store = access(migration->registry, F_OK) != 0;
    enum err err = state_directory_check(config->state_directory, detail);
    if (err == ERR_OK && !is_again)
        err = check_new(config, detail);
    if (err == ERR_OK)
        err = store_open(migration->registry, &store, detail);
    if (err == ERR_OK)
        err = move_into(store, &move, detail);
    store_close(store);
    if (err != ERR_OK && is_new_store)
        unlink(migration->registry);
    if (err != ERR_OK && is_new_directory)
        rmdir(config->state_directory);
    return err;
}

enum err migrate(const char *path, struct migration *out, struct detail *detail)
{
    struct config *config = NULL;
    struct migration migration = {0};
    enum err err = config_load(path, &config, detail);
    if (err != ERR_OK)
        return err;
    bool is_again = false;
    err = find_files(config, &migration, &is_again, detail);
    if (err == ERR_OK && is_same_file(migration.file, migration.former) &&
        unlink(migration.former) != 0)
        err = err_errno(detail, ERR_PERM, "%s", migration.former);
    if (err == ERR_OK && is_again)
        err = check_again(config, &migration, detail);
    if (err == ERR_OK && is_again) {
        config_free(config);
        config = NULL;
        err = config_load(migration.former, &config, detail);
    }
    if (err == ERR_OK)
        err = migrate_config(config, &migration, is_again, detail);
    config_free(config);
    if (err == ERR_OK)
        *out = migration;
    return err;
}

enum err migrate_check(const struct config *config, struct store *store, struct detail *detail)
{
    struct migration migration = {0};
    struct detail ignored = {0};
    bool is_again = false;
    bool has_run = false;
    if (find_files(config, &migration, &is_again, &ignored) != ERR_OK || !is_again ||
        check_empty(store, &ignored) != ERR_OK)
        return ERR_OK;
    enum err err = has_run_since(config, &has_run, detail);
    if (err != ERR_OK || has_run)
        return err;
    return err_set(
        detail, ERR_PERM,
        "registry: it is empty, and %s is there: 'hsmd migrate' was killed before it had "
        "ended. Give the command again: hsmd migrate -c %s",
        migration.former, config->path);
}
