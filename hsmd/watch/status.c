// SPDX-License-Identifier: Apache-2.0
#include "hsmd/watch/status.h"

#include <openssl/x509.h>

#include "hsmd/registry/budget.h"
#include "hsmd/watch/selftest.h"

#define NAMESPACE "sealgate_hsmd_"
#define SECONDS_A_DAY 86400.0

// Problems, as lines or as the members of a JSON array. Their texts are ours and names of the
// registry, so there is nothing to escape.
struct problems {
    struct buf *out;
    bool is_json;
    unsigned count;
    enum err err;
};

static void put_problem(struct problems *problems, const char *kind, const char *name,
                        const char *problem)
{
    const char *quote = problems->is_json ? "\"" : "";
    const char *comma = problems->is_json && problems->count ? "," : "";
    if (problems->err == ERR_OK)
        problems->err =
            buf_printf(problems->out, "%s%s%s%s%s: %s%s%s", comma, quote, kind, *name ? " " : "",
                       name, problem, quote, problems->is_json ? "" : "\n");
    problems->count++;
}

static void put_tokens(const struct status *status, struct exposition *out)
{
    struct keystore_status token;
    exposition_begin(out, NAMESPACE "token_up", "gauge",
                     "1: found and logged in, and the last operation did not fail with it.");
    for (size_t i = 0; status->keystore && keystore_get_status(status->keystore, i, &token); i++)
        exposition_put(out, "", token.is_open && !token.token.failures, "token", token.name, NULL);
    exposition_begin(out, NAMESPACE "token_pin_refused", "gauge",
                     "1: the token refused its PIN, which is not tried again.");
    for (size_t i = 0; status->keystore && keystore_get_status(status->keystore, i, &token); i++)
        exposition_put(out, "", token.token.state == TOKEN_PIN_REFUSED, "token", token.name, NULL);
    exposition_begin(out, NAMESPACE "token_failures", "gauge",
                     "Operations in a row that failed for reasons that may pass.");
    for (size_t i = 0; status->keystore && keystore_get_status(status->keystore, i, &token); i++)
        exposition_put(out, "", token.token.failures, "token", token.name, NULL);
    exposition_begin(out, NAMESPACE "token_sessions", "gauge", "Sessions asked of the token.");
    for (size_t i = 0; status->keystore && keystore_get_status(status->keystore, i, &token); i++)
        exposition_put(out, "", token.sessions, "token", token.name, NULL);
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
    exposition_begin(out, NAMESPACE "audit_failing", "gauge",
                     "1: the last line could not be written to the audit log.");
    exposition_put(out, "", metrics_is_audit_failing(status->core->metrics), NULL);
    if (status->core->metrics)
        metrics_put(status->core->metrics, out);
    put_tokens(status, out);
    put_keys(status, out);
    put_budgets(status, out);
    if (status->selftest)
        selftest_put(status->selftest, out);
    return exposition.err;
}

static void check_tokens(const struct status *status, struct problems *problems)
{
    struct keystore_status token;
    for (size_t i = 0; status->keystore && keystore_get_status(status->keystore, i, &token); i++) {
        if (!token.keys)
            continue;
        if (token.token.state == TOKEN_PIN_REFUSED)
            put_problem(problems, "token", token.name, "it refused its PIN");
        else if (token.token.state == TOKEN_LOCKED)
            put_problem(problems, "token", token.name, "it is locked");
        else if (!token.is_open)
            put_problem(problems, "token", token.name, "it is not there");
        else if (token.token.failures)
            put_problem(problems, "token", token.name, "its last operation failed");
    }
}

static void put_failed(void *context, const char *key, bool is_hanging)
{
    put_problem(context, "key", key,
                is_hanging ? "its self-test does not end" : "its self-test failed");
}

enum err status_put_health(const struct status *status, bool is_json, struct buf *out,
                           bool *is_well)
{
    struct problems problems = {.is_json = is_json};
    struct buf list;
    buf_init(&list, out->max);
    problems.out = &list;
    if (metrics_is_audit_failing(status->core->metrics))
        put_problem(&problems, "audit log", "", "it cannot be written");
    check_tokens(status, &problems);
    if (status->selftest)
        selftest_each_failed(status->selftest, put_failed, &problems);
    enum err err = problems.err;
    if (err == ERR_OK && is_json)
        err = buf_printf(out, "{\"status\":\"%s\",\"problems\":[%s]}\n",
                         problems.count ? "failing" : "ok", buf_text(&list));
    else if (err == ERR_OK)
        err = buf_put_text(out, problems.count ? buf_text(&list) : "ok\n");
    buf_clear(&list);
    *is_well = problems.count == 0;
    return err;
}
