// SPDX-License-Identifier: Apache-2.0
#include "hsmd/core_call.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "hsmd/base/log.h"
#include "hsmd/registry/budget.h"

#define GRANTS_MAX 16 // of one client for the same use that are looked at for a budget with room

// Whether an unwrapping of PKCS#1 v1.5 has failed is nobody's to know, by a count neither (promise
// 5): the cap of failures is for those that tell, and keeps no others away.
static bool has_failures(enum wire_algorithm algorithm)
{
    return algorithm == WIRE_RSAES_OAEP || algorithm == WIRE_ECDH_X963;
}

static enum err take_budget(struct core_call *call, enum wire_algorithm algorithm)
{
    struct budget *grants[GRANTS_MAX] = {NULL};
    unsigned count = registry_budgets(call->registry, call->client, call->key,
                                      call->request.operation, algorithm, grants, GRANTS_MAX);
    deadline_t now = clock_ms();
    enum err err = ERR_DENIED;
    for (unsigned i = 0; i == 0 || (i < count && err == ERR_DENIED); i++) {
        struct budget *both[2] = {grants[i], call->key->budget};
        err = budget_take(both, 2, call->may_fail, now, &call->detail);
        if (err == ERR_OK)
            memcpy(call->budgets, both, sizeof both);
    }
    call->is_over_budget = err == ERR_DENIED;
    return err;
}

enum err core_call_begin_use(struct core_call *call, enum wire_algorithm algorithm)
{
    call->may_fail = has_failures(algorithm);
    enum err err = take_budget(call, algorithm);
    call->is_used = err == ERR_OK;
    call->began = clock_us();
    return err;
}

void core_call_end_use(const struct core_call *call, enum err err)
{
    metrics_token_time(call->core->metrics, call->request.operation, clock_us() - call->began);
    for (unsigned i = 0; i < 2 && err == ERR_PERM && call->may_fail; i++)
        budget_add_failure(call->budgets[i], clock_ms());
}

enum err core_call_write_down(struct core_call *call, enum err err)
{
    struct detail detail;
    if (err == ERR_OK && !call->is_used)
        return ERR_OK;
    if (!call->is_used && !refusals_admit(call->core->refusals, call->client->name, clock_ms())) {
        call->is_untold = true;
        return err;
    }
    call->record.event = call->is_used ? AUDIT_USE : AUDIT_REFUSE;
    call->record.client = call->client->name;
    call->record.operation = wire_operation_name(call->request.operation);
    call->record.has_id = true;
    call->record.id = call->request.id;
    call->record.result = err_name(err);
    call->record.reason = err == ERR_OK ? NULL : call->detail.text;
    uint64_t began = clock_us();
    bool is_written = audit_write(call->core->audit, &call->record, &detail) == ERR_OK;
    metrics_audit_time(call->core->metrics, clock_us() - began, is_written);
    if (is_written)
        return err;
    call->detail = detail;
    return ERR_TEMP;
}

void core_call_count(const struct core_call *call, bool is_readable, enum err err)
{
    struct metrics *metrics = call->core->metrics;
    const struct registry_key *key = registry_key_by_name(call->registry, call->record.key);
    if (is_readable)
        metrics_request(metrics, call->client->name, key ? key->name : "", call->request.operation,
                        err);
    else
        metrics_refused(metrics, METRICS_MALFORMED);
}

void core_call_log(const struct core_call *call, enum err err)
{
    if (call->is_over_budget && err == ERR_DENIED)
        return;
    enum log_level level = err == ERR_OK ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING;
    if (!log_is_on(level))
        return;
    const char *operation = wire_operation_name(call->request.operation);
    char id[24];
    char key[WIRE_NAME_MAX + 1];
    char reason[sizeof call->detail.text + 8];
    snprintf(id, sizeof id, "%" PRIu64, call->request.id);
    snprintf(key, sizeof key, "%.*s", (int)call->record.key.len,
             call->record.key.len ? (const char *)call->record.key.data : "");
    snprintf(reason, sizeof reason, "%s: %s", err_name(err), call->detail.text);
    log_event(level, operation ? operation : "request", "key", *key ? key : NULL, "peer",
              call->client->name, "algorithm", call->record.algorithm, "id", id, "err",
              err == ERR_OK ? NULL : reason, NULL);
}
