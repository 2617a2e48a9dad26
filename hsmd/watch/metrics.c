// SPDX-License-Identifier: Apache-2.0
// Series of requests are found in a table of open addressing whose slots only ever go from empty to
// taken: a reader that meets an empty slot has seen all there is, and a writer that loses the race
// for one looks at it again.
#include "hsmd/watch/metrics.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/text.h"

#define SLOT_COUNT (2 * METRICS_SERIES_MAX) // a power of two, never more than half full
#define OPERATION_COUNT (WIRE_DESCRIBE + 1) // by the wire's number; 0 is none
#define RESULT_COUNT (ERR_BUG + 1)
#define NAMESPACE "sealgate_hsmd_"

_Static_assert(RESULT_COUNT == METRICS_RESULTS, "metrics.h says how many classes there are");

typedef atomic_uint_least64_t tally;

struct series {
    char client[TEXT_NAME_MAX + 1];
    char key[TEXT_NAME_MAX + 1];
    tally requests[OPERATION_COUNT][RESULT_COUNT];
};

// Upper bounds: from a tenth of what SoftHSM takes for a signature to the usual request-timeout.
static const struct bucket {
    const char *le;
    uint64_t us;
} buckets[] = {{"0.0001", 100},     {"0.00025", 250}, {"0.0005", 500},  {"0.001", 1000},
               {"0.0025", 2500},    {"0.005", 5000},  {"0.01", 10000},  {"0.025", 25000},
               {"0.05", 50000},     {"0.1", 100000},  {"0.25", 250000}, {"0.5", 500000},
               {"1", 1000000},      {"2.5", 2500000}, {"5", 5000000},   {"10", 10000000},
               {"+Inf", UINT64_MAX}};

#define BUCKET_COUNT (sizeof buckets / sizeof *buckets)

struct histogram {
    tally counts[BUCKET_COUNT]; // each alone; added up when written
    tally sum_us;
};

struct metrics {
    _Atomic(struct series *) slots[SLOT_COUNT];
    atomic_uint series_count;
    struct series unnamed; // what found no room
    tally refused[METRICS_REFUSAL_COUNT];
    struct histogram queue;
    struct histogram token[OPERATION_COUNT];
    struct histogram audit;
    tally audit_failures;
    atomic_bool is_audit_failing;
    atomic_int waiting;
    atomic_int busy;
};

static void count(tally *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static double read_counter(const tally *counter)
{
    return (double)atomic_load_explicit(counter, memory_order_relaxed);
}

enum err metrics_new(struct metrics **metrics)
{
    struct metrics *made = mem_calloc(1, sizeof *made);
    if (!made)
        return ERR_TEMP;
    *metrics = made;
    return ERR_OK;
}

void metrics_free(struct metrics *metrics)
{
    if (!metrics)
        return;
    for (size_t i = 0; i < SLOT_COUNT; i++)
        mem_free(atomic_load(&metrics->slots[i]));
    mem_free(metrics);
}

// FNV-1a. Names are those of the registry, so nobody gains by making them collide.
static uint32_t hash_text(uint32_t hash, const char *text)
{
    for (; *text; text++)
        hash = (hash ^ (uint8_t)*text) * 16777619u;
    return (hash ^ 0xff) * 16777619u;
}

static struct series *make_series(struct metrics *metrics, const char *client, const char *key)
{
    if (atomic_fetch_add(&metrics->series_count, 1) >= METRICS_SERIES_MAX) {
        atomic_fetch_sub(&metrics->series_count, 1);
        return NULL;
    }
    struct series *series = mem_calloc(1, sizeof *series);
    if (!series) {
        atomic_fetch_sub(&metrics->series_count, 1);
        return NULL;
    }
    snprintf(series->client, sizeof series->client, "%s", client);
    snprintf(series->key, sizeof series->key, "%s", key);
    return series;
}

static struct series *find_series(struct metrics *metrics, const char *client, const char *key)
{
    struct series *mine = NULL;
    uint32_t place = hash_text(hash_text(2166136261u, client), key);
    for (;; place++) {
        _Atomic(struct series *) *slot = &metrics->slots[place % SLOT_COUNT];
        struct series *there = atomic_load_explicit(slot, memory_order_acquire);
        if (!there && !mine)
            mine = make_series(metrics, client, key);
        if (!there && !mine)
            return &metrics->unnamed;
        if (!there && atomic_compare_exchange_strong(slot, &there, mine))
            return mine;
        if (strcmp(there->client, client) == 0 && strcmp(there->key, key) == 0)
            break;
    }
    struct series *found = atomic_load(&metrics->slots[place % SLOT_COUNT]);
    if (mine) { // another thread was first
        atomic_fetch_sub(&metrics->series_count, 1);
        mem_free(mine);
    }
    return found;
}

void metrics_request(struct metrics *metrics, const char *client, const char *key,
                     enum wire_operation operation, enum err result)
{
    if (!metrics || (unsigned)operation >= OPERATION_COUNT || (unsigned)result >= RESULT_COUNT)
        return;
    count(&find_series(metrics, client, key)->requests[operation][result]);
}

void metrics_refused(struct metrics *metrics, enum metrics_refusal reason)
{
    if (metrics)
        count(&metrics->refused[reason]);
}

static void observe(struct histogram *histogram, uint64_t us)
{
    size_t i = 0;
    while (us > buckets[i].us)
        i++;
    count(&histogram->counts[i]);
    atomic_fetch_add_explicit(&histogram->sum_us, us, memory_order_relaxed);
}

void metrics_queue_time(struct metrics *metrics, uint64_t us)
{
    if (metrics)
        observe(&metrics->queue, us);
}

void metrics_token_time(struct metrics *metrics, enum wire_operation operation, uint64_t us)
{
    if (metrics && (unsigned)operation < OPERATION_COUNT)
        observe(&metrics->token[operation], us);
}

void metrics_audit_time(struct metrics *metrics, uint64_t us, bool is_written)
{
    if (!metrics)
        return;
    observe(&metrics->audit, us);
    if (!is_written)
        count(&metrics->audit_failures);
    if (atomic_load_explicit(&metrics->is_audit_failing, memory_order_relaxed) == is_written)
        atomic_store(&metrics->is_audit_failing, !is_written);
}

void metrics_add_waiting(struct metrics *metrics, int change)
{
    if (metrics)
        atomic_fetch_add_explicit(&metrics->waiting, change, memory_order_relaxed);
}

void metrics_add_busy(struct metrics *metrics, int change)
{
    if (metrics)
        atomic_fetch_add_explicit(&metrics->busy, change, memory_order_relaxed);
}

bool metrics_is_audit_failing(const struct metrics *metrics)
{
    return metrics && atomic_load(&metrics->is_audit_failing);
}

static void put_series(const struct series *series, struct exposition *out)
{
    for (unsigned operation = 1; operation < OPERATION_COUNT; operation++) {
        for (unsigned result = 0; result < RESULT_COUNT; result++) {
            double value = read_counter(&series->requests[operation][result]);
            if (value > 0)
                exposition_put(out, "", value, "client", series->client, "key", series->key,
                               "operation", wire_operation_name((enum wire_operation)operation),
                               "result", err_name((enum err)result), NULL);
        }
    }
}

static void see_series(const struct series *series, metrics_see see, void *context)
{
    for (unsigned operation = 1; operation < OPERATION_COUNT; operation++) {
        uint64_t results[METRICS_RESULTS] = {0};
        uint64_t total = 0;
        for (unsigned result = 0; result < RESULT_COUNT; result++) {
            results[result] =
                atomic_load_explicit(&series->requests[operation][result], memory_order_relaxed);
            total += results[result];
        }
        if (total)
            see(context, series->client, series->key, (enum wire_operation)operation, results);
    }
}

void metrics_each_request(const struct metrics *metrics, metrics_see see, void *context)
{
    for (size_t i = 0; metrics && i < SLOT_COUNT; i++) {
        const struct series *series = atomic_load(&metrics->slots[i]);
        if (series)
            see_series(series, see, context);
    }
    if (metrics)
        see_series(&metrics->unnamed, see, context);
}

// operation: NULL for a histogram without that label.
static void put_histogram(const struct histogram *histogram, const char *operation,
                          struct exposition *out)
{
    const char *label = operation ? "operation" : NULL;
    double total = 0;
    for (size_t i = 0; i < BUCKET_COUNT; i++) {
        total += read_counter(&histogram->counts[i]);
        exposition_put(out, "_bucket", total, "le", buckets[i].le, label, operation, NULL);
    }
    exposition_put(out, "_sum", read_counter(&histogram->sum_us) / 1e6, label, operation, NULL);
    exposition_put(out, "_count", total, label, operation, NULL);
}

static void put_requests(const struct metrics *metrics, struct exposition *out)
{
    static const char *const reasons[] = {
#define X(symbol, reason, when) [symbol] = (reason),
        METRICS_REFUSALS(X)
#undef X
    };
    exposition_begin(out, NAMESPACE "requests_total", "counter",
                     "Requests of known clients, by the class of their answer.");
    for (size_t i = 0; i < SLOT_COUNT; i++) {
        const struct series *series = atomic_load(&metrics->slots[i]);
        if (series)
            put_series(series, out);
    }
    put_series(&metrics->unnamed, out);
    exposition_begin(out, NAMESPACE "refused_total", "counter",
                     "Requests refused or given up without a look at who may what.");
    for (size_t i = 0; i < METRICS_REFUSAL_COUNT; i++)
        exposition_put(out, "", read_counter(&metrics->refused[i]), "reason", reasons[i], NULL);
}

void metrics_put(const struct metrics *metrics, struct exposition *out)
{
    static const enum wire_operation used[] = {WIRE_SIGN, WIRE_UNWRAP, WIRE_AGREE};
    put_requests(metrics, out);
    exposition_begin(out, NAMESPACE "queue_seconds", "histogram",
                     "Time that requests waited for a worker.");
    put_histogram(&metrics->queue, NULL, out);
    exposition_begin(out, NAMESPACE "token_seconds", "histogram",
                     "Time that the token took, with the wait for a session of it.");
    for (size_t i = 0; i < sizeof used / sizeof *used; i++)
        put_histogram(&metrics->token[used[i]], wire_operation_name(used[i]), out);
    exposition_begin(out, NAMESPACE "audit_write_seconds", "histogram",
                     "Time that answers waited for their lines in the audit log.");
    put_histogram(&metrics->audit, NULL, out);
    exposition_begin(out, NAMESPACE "audit_failures_total", "counter",
                     "Lines that could not be written to the audit log.");
    exposition_put(out, "", read_counter(&metrics->audit_failures), NULL);
    exposition_begin(out, NAMESPACE "queue_length", "gauge", "Requests that wait for a worker.");
    exposition_put(out, "", atomic_load(&metrics->waiting), NULL);
    exposition_begin(out, NAMESPACE "workers_busy", "gauge", "Workers that have a request.");
    exposition_put(out, "", atomic_load(&metrics->busy), NULL);
}
