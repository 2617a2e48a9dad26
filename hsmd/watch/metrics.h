// SPDX-License-Identifier: Apache-2.0
// What hsmd counts about itself, for Prometheus; hsmd(8), METRICS, names every metric.
//
// Counting takes no lock and never waits: relaxed atomic additions, and for the first request of a
// client with a key one allocation. Every function takes NULL for metrics and does nothing then.
// Labels are names of the registry alone: what a client makes up (a key that is not there) never
// becomes one, so there are never more series than clients times keys. They stay when the registry
// changes.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "hsmd/watch/exposition.h"
#include "hsmd/wire/wire.h"

// Clients times keys in use that are told apart; requests beyond are counted without their names.
#define METRICS_SERIES_MAX 4096

// X(symbol, reason, when)
#define METRICS_REFUSALS(X)                                                             \
    X(METRICS_UNKNOWN_PEER, "unknown_peer", "the key of the connection is no client's") \
    X(METRICS_MALFORMED, "malformed", "the message is none of the protocol")            \
    X(METRICS_QUEUE_FULL, "queue_full", "too many requests wait already")               \
    X(METRICS_STOPPING, "stopping", "hsmd is about to end")                             \
    X(METRICS_DEADLINE, "deadline", "not done when request-timeout was over")

enum metrics_refusal {
#define X(symbol, reason, when) symbol,
    METRICS_REFUSALS(X)
#undef X
        METRICS_REFUSAL_COUNT
};

struct metrics;

enum err metrics_new(struct metrics **metrics);
void metrics_free(struct metrics *metrics);

// A request that was authorised or refused, by its result. key: "" if it names none of the
// registry.
void metrics_request(struct metrics *metrics, const char *client, const char *key,
                     enum wire_operation operation, enum err result);
void metrics_refused(struct metrics *metrics, enum metrics_refusal reason);

// Microseconds in the queue; in the token; in writing the audit log, and whether that worked.
void metrics_queue_time(struct metrics *metrics, uint64_t us);
void metrics_token_time(struct metrics *metrics, enum wire_operation operation, uint64_t us);
void metrics_audit_time(struct metrics *metrics, uint64_t us, bool is_written);

// Requests that wait, and workers that work: one more (1) or less (-1).
void metrics_add_waiting(struct metrics *metrics, int change);
void metrics_add_busy(struct metrics *metrics, int change);

// The last line for the audit log could not be written.
bool metrics_is_audit_failing(const struct metrics *metrics);

// Calls see for each client, key and operation that there was, with the requests by the class of
// their answer (enum err).
#define METRICS_RESULTS 5
typedef void (*metrics_see)(void *context, const char *client, const char *key,
                            enum wire_operation operation, const uint64_t results[METRICS_RESULTS]);
void metrics_each_request(const struct metrics *metrics, metrics_see see, void *context);

// Writes all of it.
void metrics_put(const struct metrics *metrics, struct exposition *out);
