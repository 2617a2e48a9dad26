// SPDX-License-Identifier: Apache-2.0
#include "hsmd/registry/registry_store.h"

#include <stdio.h>
#include <string.h>

#include "hsmd/registry/budget_identity.h"

struct filling {
    struct registry *registry;
    struct budgets *budgets;
    registry_bind_fn bind;
    void *context;
    struct detail *detail;
};

static enum err fill_key(void *context, const struct store_key *from)
{
    const struct filling *filling = context;
    struct registry_key key = {.purpose = from->purpose,
                               .state = from->state,
                               .algorithms = from->algorithms,
                               .certificates = from->certificates};
    if (from->is_destroyed)
        return ERR_OK;
    snprintf(key.name, sizeof key.name, "%s", from->name);
    enum err err = ERR_OK;
    if (filling->budgets)
        err = budget_of_key(filling->budgets, from->name, &from->limits, &key.budget,
                            filling->detail);
    if (err == ERR_OK && filling->bind)
        err = filling->bind(filling->context, from, &key.store, filling->detail);
    return err == ERR_OK ? registry_add_key(filling->registry, &key, filling->detail) : err;
}

static enum err fill_client(void *context, const struct store_client *from)
{
    const struct filling *filling = context;
    struct registry_client client;
    memcpy(client.name, from->name, sizeof client.name);
    memcpy(client.public_key, from->public_key, sizeof client.public_key);
    return registry_add_client(filling->registry, &client, filling->detail);
}

static enum err fill_grant(void *context, const struct store_grant *grant)
{
    const struct filling *filling = context;
    struct budget *budget = NULL;
    enum err err = ERR_OK;
    if (filling->budgets)
        err = budget_of_grant(filling->budgets, grant->client, grant->key, grant->operations,
                              grant->algorithms, 1, &grant->limits, &budget, filling->detail);
    if (err != ERR_OK)
        return err;
    return registry_add_grant(filling->registry, grant->client, grant->key, grant->operations,
                              grant->algorithms, budget, filling->detail);
}

enum err registry_from_store(struct store *store, struct budgets *budgets, registry_bind_fn bind,
                             void *context, struct registry **registry, struct detail *detail)
{
    struct filling filling = {
        .budgets = budgets, .bind = bind, .context = context, .detail = detail};
    enum err err = registry_new(&filling.registry);
    if (err != ERR_OK)
        return err_set(detail, err, "out of memory");
    err = store_each_key(store, NULL, fill_key, &filling, detail);
    if (err == ERR_OK)
        err = store_each_client(store, NULL, fill_client, &filling, detail);
    if (err == ERR_OK)
        err = store_each_grant(store, NULL, NULL, fill_grant, &filling, detail);
    if (err != ERR_OK) {
        registry_free(filling.registry);
        return err;
    }
    *registry = filling.registry;
    return ERR_OK;
}
