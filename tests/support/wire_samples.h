// SPDX-License-Identifier: Apache-2.0
// Messages of every operation, for tests and fuzzers, and whether two are equal.
#pragma once

#include "hsmd/wire/wire.h"

enum sample_size {
    SAMPLE_SMALLEST, // every field at its lower bound
    SAMPLE_TYPICAL,
    SAMPLE_LARGEST, // at its upper bound
    SAMPLE_SIZES
};

extern const enum wire_operation sample_operations[];
extern const size_t sample_operations_count;

// The bytes they refer to are constant.
struct wire_request sample_request(enum wire_operation operation, enum sample_size size);
struct wire_reply sample_reply(enum wire_operation operation, enum sample_size size);

bool sample_request_equal(const struct wire_request *a, const struct wire_request *b);
bool sample_reply_equal(enum wire_operation operation, const struct wire_reply *a,
                        const struct wire_reply *b);
