// SPDX-License-Identifier: Apache-2.0
#include "hsmd/registry/registry.h"

#include <stdatomic.h>
#include <string.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/curve.h"

// A sorted array of pointers: what they point to never moves, so grants and callers may keep it.
struct index {
    void **items;
    size_t count;
};

struct grant {
    const struct registry_client *client;
    const struct registry_key *key;
    uint64_t operations;
    uint64_t algorithms;
    struct budget *budget;
};

struct registry {
    atomic_uint owners;
    struct index keys;    // struct registry_key, by name
    struct index clients; // struct registry_client, by public key
    struct grant *grants; // by client, then key, as pointers compare
    size_t grant_count;
};

enum err registry_new(struct registry **registry)
{
    struct registry *made = mem_calloc(1, sizeof *made);
    if (!made)
        return ERR_TEMP;
    atomic_init(&made->owners, 1);
    *registry = made;
    return ERR_OK;
}

void registry_keep(struct registry *registry)
{
    atomic_fetch_add_explicit(&registry->owners, 1, memory_order_relaxed);
}

void registry_free(struct registry *registry)
{
    // What every owner read is over before the last one frees it.
    if (!registry || atomic_fetch_sub_explicit(&registry->owners, 1, memory_order_acq_rel) > 1)
        return;
    for (size_t i = 0; i < registry->keys.count; i++) {
        struct registry_key *key = registry->keys.items[i];
        mem_free((void *)key->certificates.data);
        mem_free(key);
    }
    for (size_t i = 0; i < registry->clients.count; i++)
        mem_free(registry->clients.items[i]);
    mem_free(registry->keys.items);
    mem_free(registry->clients.items);
    mem_free(registry->grants);
    mem_free(registry);
}

static int compare_bytes(struct bytes a, struct bytes b)
{
    size_t shorter = a.len < b.len ? a.len : b.len;
    int order = shorter ? memcmp(a.data, b.data, shorter) : 0;
    if (order)
        return order;
    return a.len < b.len ? -1 : a.len > b.len;
}

// The first place whose text is not below the wanted one. The text begins at offset of an item.
static size_t index_place(const struct index *index, size_t offset, struct bytes wanted,
                          bool *found)
{
    size_t low = 0;
    size_t high = index->count;
    *found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const char *text = (const char *)index->items[middle] + offset;
        int order = compare_bytes(bytes_of_text(text), wanted);
        if (order == 0)
            *found = true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static enum err index_insert(struct index *index, size_t place, void *item)
{
    void **items = mem_realloc(index->items, (index->count + 1) * sizeof *items);
    if (!items)
        return ERR_TEMP;
    index->items = items;
    memmove(items + place + 1, items + place, (index->count - place) * sizeof *items);
    items[place] = item;
    index->count++;
    return ERR_OK;
}

enum err registry_add_key(struct registry *registry, const struct registry_key *key,
                          struct detail *detail)
{
    bool found = false;
    if (!text_is_name(key->name, strlen(key->name)))
        return err_set(detail, ERR_PERM, "\"%s\" is no name for a key", key->name);
    size_t place = index_place(&registry->keys, offsetof(struct registry_key, name),
                               bytes_of_text(key->name), &found);
    if (found)
        return err_set(detail, ERR_PERM, "two keys are called \"%s\"", key->name);
    struct registry_key *copy = mem_calloc(1, sizeof *copy);
    uint8_t *certificates = mem_calloc(key->certificates.len, 1);
    if (copy && certificates) {
        *copy = *key;
        if (key->certificates.len)
            memcpy(certificates, key->certificates.data, key->certificates.len);
        copy->certificates = bytes_of(certificates, key->certificates.len);
        if (index_insert(&registry->keys, place, copy) == ERR_OK)
            return ERR_OK;
    }
    mem_free(copy);
    mem_free(certificates);
    return err_set(detail, ERR_TEMP, "out of memory");
}

enum err registry_add_client(struct registry *registry, const struct registry_client *client,
                             struct detail *detail)
{
    bool found = false;
    if (!text_is_name(client->name, strlen(client->name)))
        return err_set(detail, ERR_PERM, "\"%s\" is no name for a client", client->name);
    if (!curve_is_key(client->public_key))
        return err_set(detail, ERR_PERM, "client \"%s\": no Z85 public key", client->name);
    for (size_t i = 0; i < registry->clients.count; i++) {
        const struct registry_client *other = registry->clients.items[i];
        if (strcmp(other->name, client->name) == 0)
            return err_set(detail, ERR_PERM, "two clients are called \"%s\"", client->name);
    }
    size_t place = index_place(&registry->clients, offsetof(struct registry_client, public_key),
                               bytes_of_text(client->public_key), &found);
    if (found) {
        const struct registry_client *other = registry->clients.items[place];
        return err_set(detail, ERR_PERM, "clients \"%s\" and \"%s\" have the same public key",
                       other->name, client->name);
    }
    struct registry_client *copy = mem_calloc(1, sizeof *copy);
    if (copy) {
        *copy = *client;
        if (index_insert(&registry->clients, place, copy) == ERR_OK)
            return ERR_OK;
    }
    mem_free(copy);
    return err_set(detail, ERR_TEMP, "out of memory");
}

static const struct registry_client *client_by_name(const struct registry *registry,
                                                    const char *name)
{
    for (size_t i = 0; i < registry->clients.count; i++) {
        const struct registry_client *client = registry->clients.items[i];
        if (strcmp(client->name, name) == 0)
            return client;
    }
    return NULL;
}

static int compare_grant(const struct grant *grant, const struct registry_client *client,
                         const struct registry_key *key)
{
    if (grant->client != client)
        return (uintptr_t)grant->client < (uintptr_t)client ? -1 : 1;
    if (grant->key != key)
        return (uintptr_t)grant->key < (uintptr_t)key ? -1 : 1;
    return 0;
}

// The first grant of this client and key, or where it would be.
static size_t grant_place(const struct registry *registry, const struct registry_client *client,
                          const struct registry_key *key)
{
    size_t low = 0;
    size_t high = registry->grant_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_grant(&registry->grants[middle], client, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

enum err registry_add_grant(struct registry *registry, const char *client, const char *key,
                            uint64_t operations, uint64_t algorithms, struct budget *budget,
                            struct detail *detail)
{
    struct grant grant = {client_by_name(registry, client),
                          registry_key_by_name(registry, bytes_of_text(key)), operations,
                          algorithms, budget};
    if (!grant.client)
        return err_set(detail, ERR_PERM, "grant: there is no client \"%s\"", client);
    if (!grant.key)
        return err_set(detail, ERR_PERM, "grant: there is no key \"%s\"", key);
    if (grant.key->purpose == WIRE_AUDIT)
        return err_set(detail, ERR_PERM, "grant: key \"%s\" is for audit alone", key);
    struct grant *grants =
        mem_realloc(registry->grants, (registry->grant_count + 1) * sizeof *grants);
    if (!grants)
        return err_set(detail, ERR_TEMP, "out of memory");
    registry->grants = grants;
    size_t place = grant_place(registry, grant.client, grant.key);
    memmove(grants + place + 1, grants + place, (registry->grant_count - place) * sizeof *grants);
    grants[place] = grant;
    registry->grant_count++;
    return ERR_OK;
}

const struct registry_client *registry_client_by_public_key(const struct registry *registry,
                                                            const char *public_key)
{
    bool found = false;
    size_t place = index_place(&registry->clients, offsetof(struct registry_client, public_key),
                               bytes_of_text(public_key), &found);
    return found ? registry->clients.items[place] : NULL;
}

const struct registry_key *registry_key_by_name(const struct registry *registry, struct bytes name)
{
    bool found = false;
    size_t place = index_place(&registry->keys, offsetof(struct registry_key, name), name, &found);
    return found ? registry->keys.items[place] : NULL;
}

const struct registry_key *registry_audit_key(const struct registry *registry)
{
    for (size_t i = 0; i < registry->keys.count; i++) {
        const struct registry_key *key = registry->keys.items[i];
        if (key->purpose == WIRE_AUDIT && key->state == WIRE_ENABLED)
            return key;
    }
    return NULL;
}

const struct registry_key *registry_key_at(const struct registry *registry, size_t index)
{
    return index < registry->keys.count ? registry->keys.items[index] : NULL;
}

enum err registry_authorise(const struct registry *registry, const struct registry_client *client,
                            const struct registry_key *key, enum wire_operation operation,
                            enum wire_algorithm algorithm)
{
    for (size_t i = grant_place(registry, client, key); i < registry->grant_count; i++) {
        const struct grant *grant = &registry->grants[i];
        if (compare_grant(grant, client, key) != 0)
            break;
        if (operation == WIRE_DESCRIBE)
            return ERR_OK;
        if ((grant->operations & REGISTRY_SET(operation)) &&
            (grant->algorithms & REGISTRY_SET(algorithm)))
            return ERR_OK;
    }
    return ERR_DENIED;
}

unsigned registry_budgets(const struct registry *registry, const struct registry_client *client,
                          const struct registry_key *key, enum wire_operation operation,
                          enum wire_algorithm algorithm, struct budget **budgets, unsigned max)
{
    unsigned count = 0;
    for (size_t i = grant_place(registry, client, key); i < registry->grant_count; i++) {
        const struct grant *grant = &registry->grants[i];
        if (compare_grant(grant, client, key) != 0)
            break;
        if (!(grant->operations & REGISTRY_SET(operation)) ||
            !(grant->algorithms & REGISTRY_SET(algorithm)))
            continue;
        if (!grant->budget)
            return 0;
        if (count < max)
            budgets[count++] = grant->budget;
    }
    return count;
}

size_t registry_list(const struct registry *registry, const struct registry_client *client,
                     struct bytes after, struct bytes *names, size_t max)
{
    bool found = false;
    size_t count = 0;
    size_t i = index_place(&registry->keys, offsetof(struct registry_key, name), after, &found);
    for (i += found; i < registry->keys.count && count < max; i++) {
        const struct registry_key *key = registry->keys.items[i];
        if (registry_authorise(registry, client, key, WIRE_DESCRIBE, 0) == ERR_OK)
            names[count++] = bytes_of_text(key->name);
    }
    return count;
}
