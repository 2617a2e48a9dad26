// SPDX-License-Identifier: Apache-2.0
// What is not well, each with its reason in a few words.
#include <inttypes.h>
#include <stdio.h>

#include "hsmd/lineage.h"
#include "hsmd/registry/store.h"
#include "hsmd/watch/selftest.h"
#include "hsmd/watch/status.h"

#define PROBLEM_MAX 200

struct list {
    status_tell tell;
    void *context;
    unsigned count;
};

static void add(struct list *list, const char *kind, const char *name, const char *problem)
{
    char text[PROBLEM_MAX];
    snprintf(text, sizeof text, "%s%s%s: %s", kind, *name ? " " : "", name, problem);
    list->count++;
    if (list->tell)
        list->tell(list->context, text);
}

static void check_audit(const struct status *status, struct list *list)
{
    struct audit_status audit;
    struct checkpointer_status checkpoint;
    if (metrics_is_audit_failing(status->core->metrics))
        add(list, "audit log", "", "it cannot be written");
    audit_get_status(status->core->audit, &audit);
    if (audit.unsynced_ms > STATUS_UNSYNCED_MS)
        add(list, "audit log", "", "it does not get to the disk");
    if (!status->checkpointer)
        return;
    checkpointer_get_status(status->checkpointer, &checkpoint);
    if (checkpoint.is_failing && checkpoint.key[0])
        add(list, "audit log", "", "no checkpoints are made");
}

static bool has_enabled(const struct registry *registry, size_t token)
{
    const struct registry_key *key = NULL;
    for (size_t i = 0; (key = registry_key_at(registry, i)) != NULL; i++) {
        if (key->state == WIRE_ENABLED && key->store && keystore_key_is_in(key->store, token))
            return true;
    }
    return false;
}

// NULL: it is well.
static const char *what_ails(const struct keystore_status *token)
{
    switch (token->token.state) {
    case TOKEN_LOCKED:
        return token->is_officers_lock ? "it is locked, by officers" : "it is locked";
    case TOKEN_PIN_REFUSED:
        return "it refused its PIN";
    case TOKEN_ABSENT:
        return "it is not there";
    case TOKEN_RECOVERING:
        return "it was lost, and is being restored";
    case TOKEN_READY:
        break;
    }
    if (token->token.is_breaking)
        return "it fails, and is given a rest";
    return token->token.failures ? "its last operation failed" : NULL;
}

// Where its tokens are well, and none of them has it, or has it so that it may be used.
static bool is_missing(const struct status *status, const struct registry_key *key)
{
    struct keystore_status token;
    bool is_in_one = false;
    for (size_t i = 0; keystore_get_status(status->keystore, i, &token); i++) {
        if (!keystore_key_is_in(key->store, i))
            continue;
        if (what_ails(&token))
            return false; // which is a problem of its own
        is_in_one = true;
    }
    for (size_t i = 0; is_in_one && i < STORE_PLACES_MAX; i++) {
        if (keystore_key_is_open(key->store, i))
            return false;
    }
    return is_in_one;
}

static void check_keys(const struct status *status, struct list *list)
{
    const struct registry_key *key = NULL;
    const struct registry *registry = live_take(status->core->live);
    for (size_t i = 0; status->keystore && (key = registry_key_at(registry, i)) != NULL; i++) {
        if (key->state == WIRE_ENABLED && key->store && is_missing(status, key))
            add(list, "key", key->name,
                "its token does not have it, or not so that it may be used");
    }
    live_give(status->core->live, registry);
}

// Is one of them locked?
static bool check_tokens(const struct status *status, struct list *list)
{
    struct keystore_status token;
    bool is_locked = false;
    const struct registry *registry = live_take(status->core->live);
    for (size_t i = 0; status->keystore && keystore_get_status(status->keystore, i, &token); i++) {
        const char *problem = what_ails(&token);
        is_locked = is_locked || token.token.state == TOKEN_LOCKED;
        if (problem && has_enabled(registry, i))
            add(list, "token", token.name, problem);
    }
    live_give(status->core->live, registry);
    return is_locked;
}

static void add_failed(void *context, const char *key, bool is_hanging)
{
    add(context, "key", key, is_hanging ? "its self-test does not end" : "its self-test failed");
}

enum status_state status_each_problem(const struct status *status, status_tell tell, void *context)
{
    struct list list = {.tell = tell, .context = context};
    check_audit(status, &list);
    if (status->registry_problem && status->registry_problem[0])
        add(&list, "registry", "", status->registry_problem);
    if (status->lost_act) {
        char number[24];
        snprintf(number, sizeof number, "%" PRIu64, status->lost_act);
        add(&list, "proposal", number, LINEAGE_LOST_ACT);
    }
    if (status->budgets_problem && status->budgets_problem[0])
        add(&list, "budgets", "", status->budgets_problem);
    bool is_locked = check_tokens(status, &list);
    check_keys(status, &list);
    if (status->selftest)
        selftest_each_failed(status->selftest, add_failed, &list);
    if (is_locked)
        return STATUS_LOCKED;
    return list.count ? STATUS_DEGRADED : STATUS_READY;
}

const char *status_state_name(enum status_state state)
{
    static const char *const names[] = {
        [STATUS_READY] = "ready", [STATUS_LOCKED] = "locked", [STATUS_DEGRADED] = "degraded"};
    return names[state];
}
