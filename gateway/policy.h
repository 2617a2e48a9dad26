// SPDX-License-Identifier: Apache-2.0
// Decides on an outgoing message: facts in, plan out, nothing read and nothing written.
#pragma once

#include "gateway/facts.h"
#include "gateway/verdict.h"
#include "hsmd/base/err.h"

enum plan_layer {
    PLAN_SIGN,
    PLAN_ENCRYPT,
};
#define PLAN_LAYERS_MAX 3

#define PLAN_NONE ((size_t)-1)

// The copies of a message: copies 0 to copy_count-1 get the layers, each encrypted for its own
// recipients; the clear copy, if there is one, has the last number and goes as it came.
struct plan {
    struct verdict verdict;
    enum plan_layer layers[PLAN_LAYERS_MAX]; // from the inside; none: the message goes as it came
    size_t layer_count;
    size_t signer;     // identity, or PLAN_NONE
    size_t *copy_of;   // for every recipient of the facts, the number of its copy; owned
    size_t copy_count; // with the clear one
    size_t clear_copy; // or PLAN_NONE
};

// ERR_TEMP: out of memory. A refusal is a verdict.
enum err policy_plan(const struct facts *facts, struct plan *plan, struct detail *detail);
void plan_clear(struct plan *plan);
