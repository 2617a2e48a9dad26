// SPDX-License-Identifier: Apache-2.0
// What can be read, as JSON (hsmctl(1) has the tables). The first failure sticks: a member that
// could not be put, because memory is short, fails the whole.
#pragma once

#include "hsmd/custody/custody_internal.h"

struct reading {
    struct call *call;
    struct custody *custody;
    json_t *top;   // an array or an object
    json_t *into;  // where walks put what they see
    bool is_short; // of memory
};

// Put value under a name, or at the end of an array; take it over. NULL: memory was short.
void reads_put(struct reading *reading, json_t *object, const char *name, json_t *value);
void reads_add(struct reading *reading, json_t *array, json_t *value);
// Text of whatever bytes, quoted if it is no UTF-8; hex; base64; null if empty.
json_t *reads_text(struct bytes text);
json_t *reads_hex(struct bytes bytes);
json_t *reads_base64(struct bytes bytes);
json_t *reads_sha256(struct bytes bytes);
json_t *reads_stamp(int64_t seconds);                                     // since 1970
json_t *reads_set(uint64_t set, const char *(*name_of)(unsigned number)); // null: all of them
const char *reads_operation(unsigned number);
const char *reads_algorithm(unsigned number);
json_t *reads_limits(const struct budget_limits *limits);
json_t *reads_left(const struct budget_left *left);

// Each fills reading->top. Those with "store" are called under its lock, the others without.
enum err reads_status(struct reading *reading);
enum err reads_keys(struct reading *reading);
enum err reads_clients(struct reading *reading);
enum err reads_officers(struct reading *reading);
enum err reads_proposals(struct reading *reading); // under the lock
enum err reads_usage(struct reading *reading);
enum err reads_objects(struct reading *reading);

// One proposal as JSON into call->body. Under the lock of the store.
enum err reads_put_proposal(struct call *call, uint64_t number);
