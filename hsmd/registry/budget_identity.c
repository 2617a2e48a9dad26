// SPDX-License-Identifier: Apache-2.0
#include "hsmd/registry/budget_identity.h"

#include <stdio.h>

#include "hsmd/registry/registry.h"

enum err budget_of_key(struct budgets *budgets, const char *name,
                       const struct budget_limits *limits, struct budget **budget,
                       struct detail *detail)
{
    char identity[BUDGET_IDENTITY_MAX];
    snprintf(identity, sizeof identity, "key %s", name);
    return budgets_get(budgets, identity, limits, budget, detail);
}

static void put_names(struct buf *out, uint64_t set, const char *(*name_of)(unsigned number))
{
    const char *separator = " ";
    for (unsigned i = 0; i < 64; i++) {
        if (!(set & REGISTRY_SET(i)) || !name_of(i))
            continue;
        (void)buf_printf(out, "%s%s", separator, name_of(i)); // cut if need be
        separator = ",";
    }
}

static const char *operation_name(unsigned number)
{
    return wire_operation_name((enum wire_operation)number);
}

static const char *algorithm_name(unsigned number)
{
    return wire_algorithm_name((enum wire_algorithm)number);
}

enum err budget_of_grant(struct budgets *budgets, const char *client, const char *key,
                         uint64_t operations, uint64_t algorithms, unsigned place,
                         const struct budget_limits *limits, struct budget **budget,
                         struct detail *detail)
{
    struct buf identity;
    buf_init(&identity, BUDGET_IDENTITY_MAX);
    enum err err = buf_printf(&identity, "grant %s %s", client, key);
    put_names(&identity, operations, operation_name);
    if (algorithms != REGISTRY_ALL)
        put_names(&identity, algorithms, algorithm_name);
    if (err == ERR_OK && place > 1)
        err = buf_printf(&identity, " %u", place);
    if (err == ERR_OK)
        err = budgets_get(budgets, buf_text(&identity), limits, budget, detail);
    else
        err = err_set(detail, err, "no name for the budget of client %s and key %s", client, key);
    buf_clear(&identity);
    return err;
}
