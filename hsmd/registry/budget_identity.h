// SPDX-License-Identifier: Apache-2.0
// What the budgets of keys and grants are called. Their totals are kept under these names, so they
// are the same whatever a registry is filled from.
#pragma once

#include "hsmd/registry/budget.h"

// "key NAME". Results as budgets_get.
enum err budget_of_key(struct budgets *budgets, const char *name,
                       const struct budget_limits *limits, struct budget **budget,
                       struct detail *detail);

// "grant CLIENT KEY OPERATIONS [ALGORITHMS] [PLACE]": what a grant says is what it is called, so
// another one has another budget. place: of several that say the same, which one; from 1.
enum err budget_of_grant(struct budgets *budgets, const char *client, const char *key,
                         uint64_t operations, uint64_t algorithms, unsigned place,
                         const struct budget_limits *limits, struct budget **budget,
                         struct detail *detail);
