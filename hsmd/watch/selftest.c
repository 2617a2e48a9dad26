// SPDX-License-Identifier: Apache-2.0
#include "hsmd/watch/selftest.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/log.h"
#include "hsmd/watch/selftest_key.h"
#include "hsmd/ticker.h"

#define NAMESPACE "sealgate_hsmd_"
#define HANGING_MS 1000 // past its deadline

// A key that was tested in the last round, by name.
struct result {
    struct result *next;
    char key[TEXT_NAME_MAX + 1];
    bool is_current; // tested in the round under way
    bool is_bad;
    time_t when;
};

struct selftest {
    const struct core *core;
    unsigned interval_ms;
    unsigned timeout_ms;
    struct ticker *ticker;
    struct secret scratch;
    pthread_mutex_t lock; // for what follows; never held in the token
    struct result *results;
    char running[TEXT_NAME_MAX + 1]; // key under test; "": none
    deadline_t running_until;
};

// Lock held. NULL: out of memory.
static struct result *result_of(struct selftest *selftest, const char *key)
{
    for (struct result *result = selftest->results; result; result = result->next) {
        if (strcmp(result->key, key) == 0)
            return result;
    }
    struct result *made = mem_calloc(1, sizeof *made);
    if (!made)
        return NULL;
    snprintf(made->key, sizeof made->key, "%s", key);
    made->next = selftest->results;
    selftest->results = made;
    return made;
}

static void set_running(struct selftest *selftest, const char *key, deadline_t until)
{
    pthread_mutex_lock(&selftest->lock);
    snprintf(selftest->running, sizeof selftest->running, "%s", key);
    selftest->running_until = until;
    pthread_mutex_unlock(&selftest->lock);
}

static enum err write_down(struct selftest *selftest, const struct registry_key *key,
                           const struct selftest_outcome *outcome, enum err err,
                           struct detail *detail)
{
    struct detail reason;
    const struct core *core = selftest->core;
    struct audit_record record = {.event = AUDIT_SELF_TEST,
                                  .key = bytes_of_text(key->name),
                                  .operation = wire_operation_name(outcome->operation),
                                  .algorithm = wire_algorithm_name(outcome->algorithm),
                                  .result = err_name(err),
                                  .reason = err == ERR_OK ? NULL : detail->text};
    if (outcome->hash != HASH_NONE)
        record.hash = hash_name(outcome->hash);
    if (outcome->operation == WIRE_SIGN)
        record.message_digest = bytes_of(outcome->digest, hash_size(outcome->hash));
    uint64_t began = clock_us();
    bool is_written = audit_write(core->audit, &record, &reason) == ERR_OK;
    metrics_audit_time(core->metrics, clock_us() - began, is_written);
    if (is_written)
        return err;
    *detail = reason;
    return ERR_TEMP;
}

static void keep(struct selftest *selftest, const struct registry_key *key, enum err err,
                 const struct detail *detail)
{
    bool was_bad = false;
    pthread_mutex_lock(&selftest->lock);
    struct result *result = result_of(selftest, key->name);
    if (result) {
        was_bad = result->is_bad;
        result->is_current = true;
        result->is_bad = err != ERR_OK;
        result->when = time(NULL);
    }
    selftest->running[0] = 0;
    pthread_mutex_unlock(&selftest->lock);
    if (err != ERR_OK && !was_bad)
        log_error("self-test", "key", key->name, "state", "failing", "class", err_name(err), "err",
                  detail->text);
    else if (err == ERR_OK && was_bad)
        log_notice("self-test", "key", key->name, "state", "well again");
}

static bool test_key(struct selftest *selftest, const struct registry_key *key)
{
    struct selftest_outcome outcome;
    struct detail detail = {0};
    deadline_t deadline = deadline_in(selftest->timeout_ms);
    set_running(selftest, key->name, deadline + HANGING_MS);
    enum err err = selftest_key(selftest->core->keystore, key, deadline, &selftest->scratch,
                                &outcome, &detail);
    err = write_down(selftest, key, &outcome, err, &detail);
    keep(selftest, key, err, &detail);
    return err == ERR_OK;
}

// A key that is no longer enabled is not failing either.
static void forget_others(struct selftest *selftest)
{
    pthread_mutex_lock(&selftest->lock);
    for (struct result **place = &selftest->results; *place;) {
        struct result *result = *place;
        bool is_current = result->is_current;
        result->is_current = false;
        if (is_current) {
            place = &result->next;
            continue;
        }
        *place = result->next;
        mem_free(result);
    }
    pthread_mutex_unlock(&selftest->lock);
}

static unsigned tick(void *context)
{
    struct selftest *selftest = context;
    const struct registry_key *key = NULL;
    bool is_well = true;
    const struct registry *registry = live_take(selftest->core->live);
    for (size_t i = 0; (key = registry_key_at(registry, i)) != NULL; i++) {
        // The audit key signs nothing but checkpoints, and these are its test.
        if (key->state == WIRE_ENABLED && key->store && key->purpose != WIRE_AUDIT)
            is_well = test_key(selftest, key) && is_well;
    }
    live_give(selftest->core->live, registry);
    forget_others(selftest);
    bool is_sooner = !is_well && selftest->interval_ms > SELFTEST_AGAIN_MS;
    return is_sooner ? SELFTEST_AGAIN_MS : selftest->interval_ms;
}

static void release(struct selftest *selftest)
{
    for (struct result *next, *result = selftest->results; result; result = next) {
        next = result->next;
        mem_free(result);
    }
    secret_clear(&selftest->scratch);
    pthread_mutex_destroy(&selftest->lock);
    mem_free(selftest);
}

enum err selftest_open(const struct core *core, unsigned interval_ms, unsigned timeout_ms,
                       struct selftest **out, struct detail *detail)
{
    struct selftest *selftest = mem_calloc(1, sizeof *selftest);
    if (!selftest)
        return err_set(detail, ERR_TEMP, "out of memory");
    *selftest =
        (struct selftest){.core = core, .interval_ms = interval_ms, .timeout_ms = timeout_ms};
    pthread_mutex_init(&selftest->lock, NULL);
    enum err err = secret_init(&selftest->scratch, SELFTEST_SECRET_MAX, detail);
    if (err == ERR_OK)
        err = ticker_start(0, tick, selftest, &selftest->ticker, detail);
    if (err != ERR_OK) {
        release(selftest);
        return err;
    }
    *out = selftest;
    return ERR_OK;
}

bool selftest_close(struct selftest *selftest, unsigned wait_ms)
{
    if (!selftest)
        return true;
    if (!ticker_stop(selftest->ticker, wait_ms))
        return false;
    release(selftest);
    return true;
}

void selftest_each_failed(struct selftest *selftest,
                          void (*failed)(void *context, const char *key, bool is_hanging),
                          void *context)
{
    pthread_mutex_lock(&selftest->lock);
    bool is_hanging = selftest->running[0] && deadline_is_past(selftest->running_until);
    if (is_hanging)
        failed(context, selftest->running, true);
    for (struct result *result = selftest->results; result; result = result->next) {
        if (result->is_bad && !(is_hanging && strcmp(result->key, selftest->running) == 0))
            failed(context, result->key, false);
    }
    pthread_mutex_unlock(&selftest->lock);
}

void selftest_put(struct selftest *selftest, struct exposition *out)
{
    pthread_mutex_lock(&selftest->lock);
    exposition_begin(out, NAMESPACE "self_test_ok", "gauge", "1: the key passed its last test.");
    for (struct result *result = selftest->results; result; result = result->next)
        exposition_put(out, "", !result->is_bad, "key", result->key, NULL);
    exposition_begin(out, NAMESPACE "self_test_time_seconds", "gauge",
                     "When the key was tested, in seconds since 1970.");
    for (struct result *result = selftest->results; result; result = result->next)
        exposition_put(out, "", (double)result->when, "key", result->key, NULL);
    pthread_mutex_unlock(&selftest->lock);
}
