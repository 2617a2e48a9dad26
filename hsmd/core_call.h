// SPDX-License-Identifier: Apache-2.0
// One request on its way through core_handle, for core.c and core_call.c alone: what it may take
// from the budgets, and what is told of it to the audit log, the metrics and the log.
#pragma once

#include "hsmd/core.h"

struct core_call {
    const struct core *core;
    struct core_worker *worker;
    deadline_t deadline;
    const struct registry *registry; // taken once: what is looked up fits together
    const struct registry_client *client;
    const struct registry_key *key; // NULL until found
    struct wire_request request;
    struct wire_reply reply;
    struct audit_record record;
    uint8_t hashed[HASH_SIZE_MAX]; // what record.ciphertext or .message_digest points to
    struct budget *budgets[2];     // what it was taken from
    bool is_over_budget;           // logged where that began, not once a request
    bool is_used;                  // the key was asked to do it
    bool may_fail;                 // and failures of that are counted
    bool is_untold;                // refused, and only counted
    uint64_t began;                // that, on clock_us
    struct detail detail;
};

// Takes one use from the key's budget and from one of the grants'; from here to core_call_end_use
// the token is at work. ERR_DENIED: they are used up.
enum err core_call_begin_use(struct core_call *call, enum wire_algorithm algorithm);
// err: what became of it.
void core_call_end_use(const struct core_call *call, enum err err);

// Every use and every refusal is written down, a flood of refusals by its number; that a client has
// looked at the list is not. Returns err, or ERR_TEMP: it could not be written, so that nothing of
// it may be told.
enum err core_call_write_down(struct core_call *call, enum err err);
// is_readable: one that is not has no operation to be counted by.
void core_call_count(const struct core_call *call, bool is_readable, enum err err);
void core_call_log(const struct core_call *call, enum err err);
