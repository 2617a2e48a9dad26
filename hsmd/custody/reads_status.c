// SPDX-License-Identifier: Apache-2.0
// How hsmd is, and who used how much.
#include "hsmd/custody/reads.h"

static enum err count_destroyed(void *context, const struct store_key *key)
{
    *(unsigned *)context += key->is_destroyed;
    return ERR_OK;
}

static enum err count_client(void *context, const struct store_client *client)
{
    (void)client;
    ++*(unsigned *)context;
    return ERR_OK;
}

static enum err count_proposal(void *context, const struct store_proposal *proposal)
{
    (void)proposal;
    ++*(unsigned *)context;
    return ERR_OK;
}

static enum err put_counts(struct reading *reading)
{
    struct store *store = reading->custody->conf.store;
    struct detail *detail = &reading->call->detail;
    unsigned destroyed = 0;
    struct officers officers;
    unsigned clients = 0;
    unsigned pending = 0;
    struct detail ignored = {0};
    json_t *top = reading->top;
    (void)custody_lapse(reading->custody, &ignored); // the next tick tries again
    enum err err = officers_load(store, &officers, detail);
    if (err == ERR_OK)
        err = store_each_key(store, NULL, count_destroyed, &destroyed, detail);
    if (err == ERR_OK)
        err = store_each_client(store, NULL, count_client, &clients, detail);
    if (err == ERR_OK)
        err = store_each_proposal(store, 0, true, count_proposal, &pending, detail);
    if (err != ERR_OK)
        return err;
    reads_put(reading, top, "instance",
              reads_hex(bytes_of(store_instance(store), STATEMENT_INSTANCE_SIZE)));
    reads_put(reading, top, "quorum", json_integer(officers.quorum));
    reads_put(reading, top, "officers", json_integer(officers.signers));
    reads_put(reading, top, "auditors",
              json_integer((json_int_t)officers.count - officers.signers));
    reads_put(reading, top, "pending", json_integer(pending));
    reads_put(reading, top, "clients", json_integer(clients));
    reads_put(reading, json_object_get(top, "keys"), "destroyed", json_integer(destroyed));
    return ERR_OK;
}

enum err reads_status(struct reading *reading)
{
    struct custody *custody = reading->custody;
    json_t *status = NULL;
    enum err err = status_json(custody->conf.status, &status);
    reading->is_short = json_object_update(reading->top, status) != 0 || reading->is_short;
    json_decref(status);
    if (err != ERR_OK)
        return err_set(&reading->call->detail, err, "out of memory");
    pthread_mutex_lock(&custody->store);
    err = put_counts(reading);
    pthread_mutex_unlock(&custody->store);
    return err;
}

static void see_use(void *context, const char *client, const char *key,
                    enum wire_operation operation, const uint64_t results[METRICS_RESULTS])
{
    struct reading *reading = context;
    uint64_t failed = results[ERR_TEMP] + results[ERR_PERM] + results[ERR_BUG];
    reads_add(reading, reading->into,
              json_pack("{ss ss ss sI sI sI}", "client", client, "key", key, "operation",
                        wire_operation_name(operation), "ok", (json_int_t)results[ERR_OK], "failed",
                        (json_int_t)failed, "denied", (json_int_t)results[ERR_DENIED]));
}

static json_t *budget_item(struct budget *budget)
{
    struct budget_limits limits = budget_get_limits(budget);
    struct budget_left left = budget_get_left(budget, clock_ms());
    return json_pack("{ss so so so sI}", "identity", budget_identity(budget), "used_total",
                     limits.total ? json_integer((json_int_t)budget_used(budget)) : json_null(),
                     "left", reads_left(&left), "limits", reads_limits(&limits), "refused",
                     (json_int_t)budget_refused(budget));
}

enum err reads_usage(struct reading *reading)
{
    const struct custody_conf *conf = &reading->custody->conf;
    json_t *uses = json_array();
    json_t *budgets = json_array();
    struct budget *budget = NULL;
    reading->into = uses;
    metrics_each_request(conf->metrics, see_use, reading);
    for (unsigned i = 0; conf->budgets && (budget = budgets_at(conf->budgets, i)) != NULL; i++)
        reads_add(reading, budgets, budget_item(budget));
    reads_put(reading, reading->top, "since", json_string(reading->custody->started));
    reads_put(reading, reading->top, "uses", uses);
    reads_put(reading, reading->top, "budgets", budgets);
    return ERR_OK;
}
