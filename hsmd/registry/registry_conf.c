// SPDX-License-Identifier: Apache-2.0
#include "hsmd/registry/registry_conf.h"

#include <stdio.h>
#include <string.h>

#include "hsmd/certificate.h"
#include "hsmd/registry/budget_identity.h"

static bool is_same_grant(const struct config_grant *a, const struct config_grant *b)
{
    return strcmp(a->client, b->client) == 0 && strcmp(a->key, b->key) == 0 &&
           a->operations == b->operations && a->algorithms == b->algorithms;
}

// Of equal ones each has its own by its place among them.
static enum err grant_budget(const struct config *config, size_t index, struct budgets *budgets,
                             struct budget **budget, struct detail *detail)
{
    const struct config_grant *grant = &config->grants[index];
    unsigned place = 1;
    if (!budgets)
        return ERR_OK;
    for (size_t i = 0; i < index; i++)
        place += is_same_grant(&config->grants[i], grant);
    return budget_of_grant(budgets, grant->client, grant->key, grant->operations, grant->algorithms,
                           place, &grant->limits, budget, detail);
}

static enum err add_keys(const struct config *config, struct budgets *budgets,
                         struct registry *registry, struct detail *detail)
{
    for (size_t i = 0; i < config->key_count; i++) {
        const struct config_key *from = &config->keys[i];
        struct registry_key key = {
            .purpose = from->purpose, .state = from->state, .algorithms = from->algorithms};
        struct buf certificates;
        buf_init(&certificates, WIRE_CERTIFICATES_MAX);
        snprintf(key.name, sizeof key.name, "%s", from->name);
        enum err err = ERR_OK;
        if (from->certificate_file)
            err = certificate_load(from->certificate_file, &certificates, detail);
        if (err != ERR_OK)
            err = err_prefix(detail, err, "key %s", from->name);
        key.certificates = buf_bytes(&certificates);
        if (err == ERR_OK && budgets)
            err = budget_of_key(budgets, from->name, &from->limits, &key.budget, detail);
        if (err == ERR_OK)
            err = registry_add_key(registry, &key, detail);
        buf_clear(&certificates);
        if (err != ERR_OK)
            return err;
    }
    return ERR_OK;
}

static enum err add_clients(const struct config *config, struct registry *registry,
                            struct detail *detail)
{
    for (size_t i = 0; i < config->client_count; i++) {
        struct registry_client client;
        snprintf(client.name, sizeof client.name, "%s", config->clients[i].name);
        memcpy(client.public_key, config->clients[i].public_key, sizeof client.public_key);
        enum err err = registry_add_client(registry, &client, detail);
        if (err != ERR_OK)
            return err;
    }
    return ERR_OK;
}

enum err registry_from_config(const struct config *config, struct budgets *budgets,
                              struct registry **out, struct detail *detail)
{
    struct registry *registry = NULL;
    enum err err = registry_new(&registry);
    if (err != ERR_OK)
        return err_set(detail, err, "out of memory");
    err = add_keys(config, budgets, registry, detail);
    if (err == ERR_OK)
        err = add_clients(config, registry, detail);
    for (size_t i = 0; i < config->grant_count && err == ERR_OK; i++) {
        const struct config_grant *grant = &config->grants[i];
        struct budget *budget = NULL;
        err = grant_budget(config, i, budgets, &budget, detail);
        if (err == ERR_OK)
            err = registry_add_budgeted_grant(registry, grant->client, grant->key,
                                              grant->operations, grant->algorithms, budget, detail);
    }
    if (err != ERR_OK) {
        registry_free(registry);
        return err;
    }
    *out = registry;
    return ERR_OK;
}
