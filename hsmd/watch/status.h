// SPDX-License-Identifier: Apache-2.0
// How hsmd is, for those who watch it: all metrics, whether all is well, and what officers read.
// Names of keys, clients and tokens, and numbers, nothing secret. Reasons stay in the log; officers
// get those of tokens. Nothing here waits for a token or the disk.
#pragma once

#include <time.h>

#include <jansson.h>

#include "hsmd/audit/audit_checkpoint.h"
#include "hsmd/core.h"
#include "hsmd/keystore/keystore_status.h"
#include "hsmd/watch/metrics.h"

#define STATUS_UNSYNCED_MS 10000 // audit lines that wait longer for the disk are a problem

// All borrowed; NULL or 0 where there is none. Not changed once others see it.
struct status {
    const struct core *core;
    struct keystore *keystore;
    struct budgets *budgets;
    struct selftest *selftest;
    struct checkpointer *checkpointer;
    const char *budgets_problem;  // as the next one
    const char *registry_problem; // found at the start (lineage.h); NULL or "": none
    uint64_t lost_act;            // too: a proposal; 0: none
    unsigned workers;
    time_t started;
};

enum status_state {
    STATUS_READY,
    STATUS_LOCKED,   // a token waits for its PIN
    STATUS_DEGRADED, // there are problems
};

// Calls tell (NULL: nobody) with each problem, as a line of text without its end: the audit log
// cannot be written, is not synced, or no checkpoints are made though there is a key for them; a
// token that has a place of an enabled key is not ready, is given a rest after failures, or its
// last operation failed; a self-test has failed or does not end. The state is locked also when a
// token is that no enabled key is in: nobody can make one there.
typedef void (*status_tell)(void *context, const char *problem);
enum status_state status_each_problem(const struct status *status, status_tell tell, void *context);
const char *status_state_name(enum status_state state); // "ready", "locked", "degraded"

enum err status_put_metrics(const struct status *status, struct buf *out);

// "ok", or a line per problem. As JSON {"status":"ok"|"locked"|"failing","problems":["..."]}.
// Well: there are no problems; a locked token without an enabled key is none.
enum err status_put_health(const struct status *status, bool is_json, struct buf *out,
                           bool *is_well);

// What READ_STATUS says of these members (hsmctl status --json):
//     {"version", "started" (RFC 3339), "uptime" (s), "state":"ready|locked|degraded",
//      "keys":{"enabled","disabled","retired"},
//      "tokens":[{"name","state","since_ms","final_try","breaking","sessions","in_use","in_call",
//                 "longest_call_ms","failures","calls","calls_failed","refused","restored","keys",
//                 "keys_missing","error"|null}],
//      "audit":{"seq","hash","failing","sync","unsynced","unsynced_ms","key"|null,
//               "checkpoint":{"seq","age_s"}|null,"uncovered"},
//      "problems":["..."]}
// since_ms: for how long the token has been in that state; sessions: that it has, in_use of them.
// The caller frees it (json_decref). ERR_TEMP: out of memory.
enum err status_json(const struct status *status, json_t **out);
