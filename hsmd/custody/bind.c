// SPDX-License-Identifier: Apache-2.0
// Keys of the store and the keystore's keys for them. They are bound before a change is committed
// and without the lock of the store, since that may ask a token; while a registry is made they are
// only looked up. The keystore's keys live as long as it does.
#include "hsmd/custody/act_run.h"

#include <stdio.h>
#include <string.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/log.h"
#include "hsmd/registry/registry_store.h"

static struct bound *find(struct custody *custody, const char *name)
{
    for (size_t i = 0; i < custody->bound_count; i++) {
        if (strcmp(custody->bound[i].name, name) == 0)
            return &custody->bound[i];
    }
    return NULL;
}

struct keystore_key *custody_bound(struct custody *custody, const char *name)
{
    pthread_mutex_lock(&custody->bindings);
    const struct bound *bound = find(custody, name);
    struct keystore_key *key = bound ? bound->key : NULL;
    pthread_mutex_unlock(&custody->bindings);
    return key;
}

void custody_unbind(struct custody *custody, const char *name)
{
    struct keystore_key *key = NULL;
    pthread_mutex_lock(&custody->bindings);
    struct bound *bound = find(custody, name);
    if (bound) {
        key = bound->key;
        *bound = custody->bound[--custody->bound_count];
    }
    pthread_mutex_unlock(&custody->bindings);
    if (key)
        custody->conf.tokens->drop_key(custody->conf.keystore, key);
}

// False: no memory for one more.
static bool put(struct custody *custody, const char *name, struct keystore_key *key)
{
    pthread_mutex_lock(&custody->bindings);
    struct bound *bound = find(custody, name);
    if (!bound) {
        size_t size = (custody->bound_count + 1) * sizeof *bound;
        bound = mem_realloc(custody->bound, size);
        if (bound) {
            custody->bound = bound;
            bound = &custody->bound[custody->bound_count++];
            snprintf(bound->name, sizeof bound->name, "%s", name);
        }
    }
    if (bound)
        bound->key = key;
    pthread_mutex_unlock(&custody->bindings);
    return bound != NULL;
}

enum err custody_bind(struct custody *custody, const struct store_key *key, struct detail *detail)
{
    struct keystore_place places[STORE_PLACES_MAX];
    struct keystore_key *store = NULL;
    for (size_t i = 0; i < key->place_count; i++)
        places[i] = act_place(&key->places[i]);
    enum err err =
        custody->conf.tokens->add_key(custody->conf.keystore, key->name, key->purpose,
                                      key->public_key, places, key->place_count, &store, detail);
    if (err != ERR_OK)
        return err;
    if (put(custody, key->name, store))
        return ERR_OK;
    custody->conf.tokens->drop_key(custody->conf.keystore, store);
    return err_set(detail, ERR_TEMP, "out of memory");
}

struct binding {
    struct custody *custody;
    struct detail *detail;
};

static enum err see_key(void *context, const struct store_key *key)
{
    struct binding *binding = context;
    return key->is_destroyed ? ERR_OK : custody_bind(binding->custody, key, binding->detail);
}

enum err custody_bind_all(struct custody *custody, struct detail *detail)
{
    struct binding binding = {.custody = custody, .detail = detail};
    return store_each_key(custody->conf.store, NULL, see_key, &binding, detail);
}

static enum err look_up(void *context, const struct store_key *key, struct keystore_key **bound,
                        struct detail *detail)
{
    *bound = custody_bound(context, key->name);
    return *bound ? ERR_OK : err_set(detail, ERR_BUG, "key \"%s\" was not bound before", key->name);
}

enum err custody_make_registry(struct custody *custody, struct registry **registry,
                               struct detail *detail)
{
    return registry_from_store(custody->conf.store, custody->conf.budgets, look_up, custody,
                               registry, detail);
}

// Names of keys without a public key.
struct pinning {
    struct custody *custody;
    char names[16][TEXT_NAME_MAX + 1]; // the others at the next look
    size_t count;
};

static enum err see_unpinned(void *context, const struct store_key *key)
{
    struct pinning *pinning = context;
    const struct custody_token_ops *tokens = pinning->custody->conf.tokens;
    struct keystore_key *bound = custody_bound(pinning->custody, key->name);
    bool is_open = false;
    for (size_t i = 0; i < key->place_count && bound; i++)
        is_open = is_open || tokens->is_open(bound, i);
    if (!key->is_destroyed && !key->public_key.len && is_open &&
        pinning->count < sizeof pinning->names / sizeof *pinning->names)
        memcpy(pinning->names[pinning->count++], key->name, sizeof pinning->names[0]);
    return ERR_OK;
}

// Two names for one key: the second one is disabled, once; no officer has asked for it.
static enum err disable_twin(struct custody *custody, struct store_key *key, const char *why,
                             struct detail *detail)
{
    struct store *store = custody->conf.store;
    struct registry *registry = NULL;
    uint8_t digest[STORE_DIGEST_SIZE] = {0};
    const struct audit_record record = {.event = AUDIT_ACT,
                                        .registry = bytes_of(digest, sizeof digest),
                                        .act = act_kind_name(ACT_KEY_DISABLE),
                                        .key = bytes_of_text(key->name),
                                        .what = "disabled by hsmd itself",
                                        .result = err_name(ERR_OK),
                                        .reason = why};
    if (key->state == WIRE_DISABLED)
        return ERR_OK;
    key->state = WIRE_DISABLED;
    enum err err = store_begin(store, detail);
    if (err == ERR_OK)
        err = store_set_key(store, key, detail);
    if (err == ERR_OK)
        err = custody_make_registry(custody, &registry, detail);
    if (err == ERR_OK)
        err = store_digest(store, digest, detail);
    if (err == ERR_OK)
        err = audit_write(custody->conf.audit, &record, detail);
    if (err == ERR_OK)
        err = store_commit(store, detail);
    if (err != ERR_OK) {
        store_rollback(store);
        registry_free(registry);
        return err;
    }
    live_swap(custody->conf.live, registry);
    log_error("key", "key", key->name, "state", "disabled", "err", why);
    return ERR_OK;
}

static enum err pin(struct custody *custody, const char *name, struct detail *detail)
{
    struct act_run run = {.custody = custody, .detail = detail};
    bool is_found = false;
    const struct token_key_info *info =
        custody->conf.tokens->keys->describe(custody_bound(custody, name));
    if (!info || !info->public_key.len)
        return ERR_OK;
    enum err err = key_copy_get(custody->conf.store, name, &run.key, &is_found, detail);
    if (err == ERR_OK)
        err = act_check_new_public_key(&run, info->public_key, name);
    if (err == ERR_PERM) {
        struct detail why = *detail;
        err = disable_twin(custody, &run.key.key, why.text, detail);
    } else if (err == ERR_OK) {
        run.key.key.public_key = info->public_key;
        err = store_set_key(custody->conf.store, &run.key.key, detail);
        if (err == ERR_OK)
            log_notice("key", "key", name, "state", "its public key is known from now on");
    }
    key_copy_clear(&run.key);
    return err == ERR_OK ? err : err_prefix(detail, err, "key %s", name);
}

enum err custody_pin(struct custody *custody, struct detail *detail)
{
    struct pinning pinning = {.custody = custody};
    enum err first = store_each_key(custody->conf.store, NULL, see_unpinned, &pinning, detail);
    for (size_t i = 0; i < pinning.count; i++) {
        struct detail why = {0};
        enum err err = pin(custody, pinning.names[i], &why);
        if (err == ERR_OK || first != ERR_OK)
            continue;
        first = err;
        *detail = why;
    }
    return first;
}
