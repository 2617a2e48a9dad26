// SPDX-License-Identifier: Apache-2.0
#include "hsmd/watch/status.h"

#include <openssl/x509.h>

#include "hsmd/registry/budget.h"
#include "hsmd/watch/selftest.h"

#define NAMESPACE "sealgate_hsmd_"
#define SECONDS_A_DAY 86400.0

typedef double (*token_value)(const struct keystore_status *token);

static void put_each(const struct status *status, struct exposition *out, token_value value)
{
    struct keystore_status token;
    for (size_t i = 0; status->keystore && keystore_get_status(status->keystore, i, &token); i++)
        exposition_put(out, "", value(&token), "token", token.name, NULL);
}

static double is_up(const struct keystore_status *token)
{
    return token->is_open && !token->token.failures;
}

static double is_refused(const struct keystore_status *token)
{
    return token->token.state == TOKEN_PIN_REFUSED;
}

static double is_locked(const struct keystore_status *token)
{
    return token->token.state == TOKEN_LOCKED;
}

static double failures(const struct keystore_status *token)
{
    return token->token.failures;
}

static double is_breaking(const struct keystore_status *token)
{
    return token->token.is_breaking;
}

static double sessions(const struct keystore_status *token)
{
    return token->sessions;
}

static double sessions_in_use(const struct keystore_status *token)
{
    return token->token.out;
}

static double longest_call(const struct keystore_status *token)
{
    return token->token.longest_call_ms / 1000.0;
}

static double keys_missing(const struct keystore_status *token)
{
    return token->keys_missing;
}

static void put_tokens(const struct status *status, struct exposition *out)
{
    exposition_begin(out, NAMESPACE "token_up", "gauge",
                     "1: found and logged in, and the last operation did not fail with it.");
    put_each(status, out, is_up);
    exposition_begin(out, NAMESPACE "token_locked", "gauge", "1: nobody has given its PIN.");
    put_each(status, out, is_locked);
    exposition_begin(out, NAMESPACE "token_pin_refused", "gauge",
                     "1: the token refused its PIN, which is not tried again.");
    put_each(status, out, is_refused);
    exposition_begin(out, NAMESPACE "token_failures", "gauge",
                     "Operations in a row that failed for reasons that may pass.");
    put_each(status, out, failures);
    exposition_begin(out, NAMESPACE "token_breaking", "gauge",
                     "1: after failures, requests are refused but for one now and then.");
    put_each(status, out, is_breaking);
    exposition_begin(out, NAMESPACE "token_sessions", "gauge", "Sessions asked of the token.");
    put_each(status, out, sessions);
    exposition_begin(out, NAMESPACE "token_sessions_in_use", "gauge",
                     "Sessions that somebody has at this moment.");
    put_each(status, out, sessions_in_use);
    exposition_begin(out, NAMESPACE "token_longest_call_seconds", "gauge",
                     "Of the calls into the module under way, the longest.");
    put_each(status, out, longest_call);
    exposition_begin(out, NAMESPACE "token_keys_missing", "gauge",
                     "Keys that should be in the token and are not open there.");
    put_each(status, out, keys_missing);
}

static void put_audit(const struct status *status, struct exposition *out)
{
    struct audit_status audit;
    struct checkpointer_status checkpoint = {0};
    audit_get_status(status->core->audit, &audit);
    if (status->checkpointer)
        checkpointer_get_status(status->checkpointer, &checkpoint);
    exposition_begin(out, NAMESPACE "audit_failing", "gauge",
                     "1: the last line could not be written to the audit log.");
    exposition_put(out, "", metrics_is_audit_failing(status->core->metrics), NULL);
    exposition_begin(out, NAMESPACE "audit_unsynced_lines", "gauge",
                     "Lines written and not on the disk yet.");
    exposition_put(out, "", (double)audit.unsynced, NULL);
    exposition_begin(out, NAMESPACE "audit_unsynced_seconds", "gauge",
                     "Age of the oldest of them.");
    exposition_put(out, "", (double)audit.unsynced_ms / 1000, NULL);
    exposition_begin(out, NAMESPACE "audit_uncovered_lines", "gauge",
                     "Lines that no checkpoint of this run covers.");
    exposition_put(out, "", (double)checkpoint.uncovered, NULL);
    exposition_begin(out, NAMESPACE "audit_checkpoint_age_seconds", "gauge",
                     "Since the last checkpoint.");
    if (checkpoint.seq)
        exposition_put(out, "", (double)checkpoint.age_ms / 1000, NULL);
}

// Days until the key's own certificate ends; negative when it has. False: no certificate.
static bool days_left(const struct registry_key *key, double *days)
{
    int whole = 0;
    int seconds = 0;
    const uint8_t *der = key->certificates.data;
    X509 *certificate = der ? d2i_X509(NULL, &der, (long)key->certificates.len) : NULL;
    bool ok =
        certificate && ASN1_TIME_diff(&whole, &seconds, NULL, X509_get0_notAfter(certificate)) == 1;
    X509_free(certificate);
    *days = whole + seconds / SECONDS_A_DAY;
    return ok;
}

static void put_keys(const struct status *status, struct exposition *out)
{
    const struct registry *registry = live_take(status->core->live);
    const struct registry_key *key = NULL;
    exposition_begin(out, NAMESPACE "key_state", "gauge", "1 for the state the key is in.");
    for (size_t i = 0; (key = registry_key_at(registry, i)) != NULL; i++)
        exposition_put(out, "", 1, "key", key->name, "state", wire_state_name(key->state), NULL);
    exposition_begin(out, NAMESPACE "certificate_days_left", "gauge",
                     "Days until the key's certificate ends.");
    for (size_t i = 0; (key = registry_key_at(registry, i)) != NULL; i++) {
        double days = 0;
        if (days_left(key, &days))
            exposition_put(out, "", days, "key", key->name, NULL);
    }
    live_give(status->core->live, registry);
}

static void put_left(struct exposition *out, struct budget *budget, const char *limit,
                     uint64_t left)
{
    if (left != UINT64_MAX)
        exposition_put(out, "", (double)left, "budget", budget_identity(budget), "limit", limit,
                       NULL);
}

static void put_budgets(const struct status *status, struct exposition *out)
{
    struct budget *budget = NULL;
    exposition_begin(out, NAMESPACE "budget_left", "gauge", "What is left of a limit.");
    for (unsigned i = 0; status->budgets && (budget = budgets_at(status->budgets, i)); i++) {
        struct budget_left left = budget_get_left(budget, clock_ms());
        put_left(out, budget, "per-minute", left.per_minute);
        put_left(out, budget, "per-hour", left.per_hour);
        put_left(out, budget, "total", left.total);
        put_left(out, budget, "failures-per-hour", left.failures_per_hour);
    }
    exposition_begin(out, NAMESPACE "budget_refused_total", "counter",
                     "Requests for which a budget had nothing left.");
    for (unsigned i = 0; status->budgets && (budget = budgets_at(status->budgets, i)); i++)
        exposition_put(out, "", (double)budget_refused(budget), "budget", budget_identity(budget),
                       NULL);
}

enum err status_put_metrics(const struct status *status, struct buf *buf)
{
    struct exposition exposition = {.out = buf};
    struct exposition *out = &exposition;
    exposition_begin(out, NAMESPACE "build_info", "gauge", "The version that runs.");
    exposition_put(out, "", 1, "version", SEALGATE_VERSION, NULL);
    exposition_begin(out, NAMESPACE "start_time_seconds", "gauge",
                     "When hsmd was started, in seconds since 1970.");
    exposition_put(out, "", (double)status->started, NULL);
    exposition_begin(out, NAMESPACE "workers", "gauge", "Workers there are.");
    exposition_put(out, "", status->workers, NULL);
    if (status->core->metrics)
        metrics_put(status->core->metrics, out);
    put_audit(status, out);
    put_tokens(status, out);
    put_keys(status, out);
    put_budgets(status, out);
    if (status->selftest)
        selftest_put(status->selftest, out);
    return exposition.err;
}

// Problems, as lines or as the members of a JSON array. Their texts are ours and names of the
// registry, so there is nothing to escape.
struct problems {
    struct buf list;
    bool is_json;
    unsigned count;
    enum err err;
};

static void put_problem(void *context, const char *problem)
{
    struct problems *problems = context;
    const char *comma = problems->count++ ? "," : "";
    if (problems->err != ERR_OK)
        return;
    problems->err = problems->is_json ? buf_printf(&problems->list, "%s\"%s\"", comma, problem)
                                      : buf_printf(&problems->list, "%s\n", problem);
}

enum err status_put_health(const struct status *status, bool is_json, struct buf *out,
                           bool *is_well)
{
    struct problems problems = {.is_json = is_json};
    buf_init(&problems.list, out->max);
    bool is_locked_now = status_each_problem(status, put_problem, &problems) == STATUS_LOCKED;
    const char *state = !problems.count ? "ok" : is_locked_now ? "locked" : "failing";
    enum err err = problems.err;
    if (err == ERR_OK && is_json)
        err = buf_printf(out, "{\"status\":\"%s\",\"problems\":[%s]}\n", state,
                         problems.count ? buf_text(&problems.list) : "");
    else if (err == ERR_OK)
        err = buf_put_text(out, problems.count ? buf_text(&problems.list) : "ok\n");
    buf_clear(&problems.list);
    *is_well = problems.count == 0;
    return err;
}
