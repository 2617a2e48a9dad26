// SPDX-License-Identifier: Apache-2.0
#include "hsmd/migrate_audit.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hsmd/audit/audit.h"
#include "hsmd/audit/audit_resume.h"
#include "hsmd/registry/registry.h"

struct telling {
    struct audit *audit;
    struct detail *detail;
};

static enum err tell(struct telling *telling, const char *client, const char *key,
                     const struct buf *what)
{
    const struct audit_record record = {.event = AUDIT_MIGRATE,
                                        .client = client,
                                        .key = key ? bytes_of_text(key) : (struct bytes){0},
                                        .what = buf_text(what)};
    return audit_write(telling->audit, &record, telling->detail);
}

static enum err tell_key(void *context, const struct store_key *key)
{
    struct buf what;
    const struct store_place *place = &key->places[0];
    buf_init(&what, AUDIT_WHAT_MAX);
    enum err err = buf_printf(&what, "key for %s, %s, in token \"%s\", label \"%s\"; by user %u",
                              wire_purpose_name(key->purpose), wire_state_name(key->state),
                              place->token, place->label, (unsigned)getuid());
    if (err == ERR_OK)
        err = tell(context, NULL, key->name, &what);
    buf_clear(&what);
    return err;
}

static enum err tell_client(void *context, const struct store_client *client)
{
    struct buf what;
    buf_init(&what, AUDIT_WHAT_MAX);
    enum err err = buf_printf(&what, "client with public key %s; by user %u", client->public_key,
                              (unsigned)getuid());
    if (err == ERR_OK)
        err = tell(context, client->name, NULL, &what);
    buf_clear(&what);
    return err;
}

static enum err tell_grant(void *context, const struct store_grant *grant)
{
    struct buf what;
    buf_init(&what, AUDIT_WHAT_MAX);
    enum err err = buf_put_text(&what, "grant of");
    for (unsigned i = 0; i < 64 && err == ERR_OK; i++) {
        const char *name = wire_operation_name((enum wire_operation)i);
        if (name && (grant->operations & REGISTRY_SET(i)))
            err = buf_printf(&what, " %s", name);
    }
    if (err == ERR_OK)
        err = buf_printf(&what, "; by user %u", (unsigned)getuid());
    if (err == ERR_OK)
        err = tell(context, grant->client, grant->key, &what);
    buf_clear(&what);
    return err;
}

// Made by root, it is for whom the directory is for.
static enum err give_away(const char *path, struct detail *detail)
{
    char directory[PATH_MAX];
    struct stat st;
    const char *slash = strrchr(path, '/');
    snprintf(directory, sizeof directory, "%.*s", slash ? (int)(slash - path) + 1 : 1,
             slash ? path : ".");
    if (geteuid() != 0 || (stat(directory, &st) == 0 && lchown(path, st.st_uid, st.st_gid) == 0))
        return ERR_OK;
    return err_errno(detail, ERR_PERM, "%s: its owner", path);
}

enum err migrate_find_log(const struct config *config, char *from, struct detail *detail)
{
    char head[PATH_MAX];
    if (snprintf(head, sizeof head, "%s/" AUDIT_HEAD_FILE, config->state_directory) >= PATH_MAX)
        return err_set(detail, ERR_PERM, "state directory: its path is too long");
    return audit_find_last(config->audit_log, head, from, detail);
}

enum err migrate_tell(const struct config *config, struct store *store, bool *is_made,
                      struct detail *detail)
{
    struct telling telling = {.detail = detail};
    char path[PATH_MAX] = "";
    enum err err = migrate_find_log(config, path, detail);
    bool is_new = err == ERR_OK && access(path, F_OK) != 0;
    if (err == ERR_OK)
        err = audit_open(path, &telling.audit, detail);
    *is_made = is_new && err == ERR_OK;
    if (err == ERR_OK && is_new)
        err = give_away(path, detail);
    if (err == ERR_OK)
        err = audit_set_sync(telling.audit, AUDIT_SYNC_ALWAYS, detail);
    if (err == ERR_OK)
        err = store_each_key(store, NULL, tell_key, &telling, detail);
    if (err == ERR_OK)
        err = store_each_client(store, NULL, tell_client, &telling, detail);
    if (err == ERR_OK)
        err = store_each_grant(store, NULL, NULL, tell_grant, &telling, detail);
    audit_close(telling.audit);
    return err == ERR_OK ? ERR_OK : err_prefix(detail, err, "audit log");
}
