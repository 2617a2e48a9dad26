// SPDX-License-Identifier: Apache-2.0
// Acts and messages of every kind, for tests, fuzzers' oracles and their seeds.
#pragma once

#include "hsmd/officers/act.h"
#include "hsmd/officers/message.h"

struct act_sample {
    const char *name; // of the case, and of its seed
    struct act act;
    const char *explanation; // the whole of it
    const char *summary;
};

// Some of each kind; static. With the certificate and key of tests/data/custodian/.
const struct act_sample *act_samples(size_t *count);

// By index; false past the last. Static memory.
bool message_sample(size_t index, const char **name, struct message_request *request);
