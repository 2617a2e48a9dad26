// SPDX-License-Identifier: Apache-2.0
// How hsmd is, and who used how much.
#include "hsmd/custody/reads.h"

#include <string.h>

#define HEALTH_MAX 65536

struct tally_of_keys {
    unsigned enabled, disabled, retired, destroyed;
};

static enum err count_key(void *context, const struct store_key *key)
{
    struct tally_of_keys *keys = context;
    if (key->is_destroyed)
        keys->destroyed++;
    else if (key->state == WIRE_ENABLED)
        keys->enabled++;
    else if (key->state == WIRE_RETIRED)
        keys->retired++;
    else
        keys->disabled++;
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
    struct tally_of_keys keys = {0};
    struct officers officers;
    unsigned clients = 0;
    unsigned pending = 0;
    struct detail ignored = {0};
    json_t *top = reading->top;
    (void)custody_lapse(reading->custody, &ignored); // the next tick tries again
    enum err err = officers_load(store, &officers, detail);
    if (err == ERR_OK)
        err = store_each_key(store, NULL, count_key, &keys, detail);
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
    reads_put(reading, top, "keys",
              json_pack("{si si si si}", "enabled", keys.enabled, "disabled", keys.disabled,
                        "retired", keys.retired, "destroyed", keys.destroyed));
    return ERR_OK;
}

static void put_token(struct reading *reading, json_t *array, const struct keystore_status *from)
{
    const struct token_status *token = &from->token;
    deadline_t now = clock_ms();
    json_t *item = json_object();
    reads_put(reading, item, "name", json_string(from->name));
    reads_put(reading, item, "state", json_string(token_state_name(token->state)));
    reads_put(reading, item, "since_ms",
              token->since && token->since <= now ? json_integer((json_int_t)(now - token->since))
                                                  : json_null());
    reads_put(reading, item, "final_try", json_boolean(token->is_final_try));
    reads_put(reading, item, "breaking", json_boolean(token->is_breaking));
    reads_put(reading, item, "sessions", json_integer(from->sessions));
    reads_put(reading, item, "in_use", json_integer(token->out));
    reads_put(reading, item, "in_call", json_integer(token->in_call));
    reads_put(reading, item, "longest_call_ms", json_integer(token->longest_call_ms));
    reads_put(reading, item, "failures", json_integer(token->failures));
    reads_put(reading, item, "calls", json_integer((json_int_t)token->calls));
    reads_put(reading, item, "calls_failed", json_integer((json_int_t)token->calls_failed));
    reads_put(reading, item, "refused", json_integer((json_int_t)token->refused));
    reads_put(reading, item, "restored", json_integer((json_int_t)token->restored));
    reads_put(reading, item, "keys", json_integer(from->keys));
    reads_put(reading, item, "keys_missing", json_integer(from->keys_missing));
    reads_put(reading, item, "error",
              token->error[0] ? reads_text(bytes_of_text(token->error)) : json_null());
    reads_add(reading, array, item);
}

// "ready"; "locked": no token can be used before an officer unlocks one; else "degraded".
static const char *put_tokens(struct reading *reading)
{
    const struct custody_conf *conf = &reading->custody->conf;
    struct keystore_status status;
    unsigned ready = 0;
    unsigned locked = 0;
    size_t count = 0;
    json_t *array = json_array();
    for (; conf->tokens->get_status(conf->keystore, count, &status); count++) {
        ready += status.is_open && status.token.state == TOKEN_READY && !status.token.is_breaking;
        locked += status.token.state == TOKEN_LOCKED || status.token.state == TOKEN_PIN_REFUSED;
        put_token(reading, array, &status);
    }
    reads_put(reading, reading->top, "tokens", array);
    if (ready == count)
        return "ready";
    return locked == count ? "locked" : "degraded";
}

static json_t *checkpoint(struct custody *custody)
{
    struct checkpointer_status status = {0};
    const struct status *whole = custody->conf.status;
    if (whole && whole->checkpointer)
        checkpointer_get_status(whole->checkpointer, &status);
    return status.seq ? json_pack("{sI sI}", "seq", (json_int_t)status.seq, "age_s",
                                  (json_int_t)(status.age_ms / 1000))
                      : json_null();
}

static void put_audit(struct reading *reading)
{
    const struct custody_conf *conf = &reading->custody->conf;
    struct audit_link head = audit_head(conf->audit);
    const struct registry *registry = live_take(conf->live);
    const struct registry_key *key = registry_audit_key(registry);
    reads_put(reading, reading->top, "audit",
              json_pack("{sI so sb so so ss}", "seq", (json_int_t)head.seq, "hash",
                        reads_hex(bytes_of(head.hash, sizeof head.hash)), "failing",
                        metrics_is_audit_failing(conf->metrics), "checkpoint",
                        checkpoint(reading->custody), "key",
                        key ? json_string(key->name) : json_null(), "sync",
                        audit_sync_name(conf->config->audit_sync)));
    live_give(conf->live, registry);
}

// What /healthz says, of the same function.
static enum err put_problems(struct reading *reading, bool *is_well)
{
    const struct status *status = reading->custody->conf.status;
    struct buf text;
    buf_init(&text, HEALTH_MAX);
    *is_well = true;
    enum err err = status ? status_put_health(status, true, &text, is_well) : ERR_OK;
    json_t *health =
        err == ERR_OK && status ? json_loadb(buf_text(&text), text.len, 0, NULL) : NULL;
    json_t *problems = json_object_get(health, "problems");
    reads_put(reading, reading->top, "problems", problems ? json_incref(problems) : json_array());
    json_decref(health);
    buf_clear(&text);
    return err;
}

enum err reads_status(struct reading *reading)
{
    struct custody *custody = reading->custody;
    bool is_well = true;
    pthread_mutex_lock(&custody->store);
    enum err err = put_counts(reading);
    pthread_mutex_unlock(&custody->store);
    if (err == ERR_OK)
        err = put_problems(reading, &is_well);
    if (err != ERR_OK)
        return err;
    const char *state = put_tokens(reading);
    put_audit(reading);
    reads_put(reading, reading->top, "version", json_string(SEALGATE_VERSION));
    reads_put(reading, reading->top, "started", json_string(custody->started));
    reads_put(reading, reading->top, "uptime",
              json_integer((json_int_t)((clock_ms() - custody->started_ms) / 1000)));
    reads_put(reading, reading->top, "state",
              json_string(is_well || strcmp(state, "locked") == 0 ? state : "degraded"));
    return ERR_OK;
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
