// SPDX-License-Identifier: Apache-2.0
// What the fault tests share: the fixture with the shim between it and the token.
#pragma once

#include "tests/fault/shim.h"
#include "tests/support/slowness.h"
#include "tests/support/healing.h"
#include "tests/token/known.h"

enum { POOL = 4 }; // sessions

// Group setup and teardown; the test teardown that ends all faults.
int fault_begin(void **state);
int fault_end(void **state);
int fault_reset(void **state);

// As an operator would who puts another key in the place of the old one: another process destroys
// it.
void fault_destroy_key(const char *label);

// Closes the token of the fixture with its keys, and opens it anew, with the shim as it is.
void fault_close(void);
void fault_open(void);

// Runs a known operation with a session of the token's pool.
enum err fault_operate(struct token *token, enum known known, struct secret *out,
                       unsigned patience_ms, bool *right, struct detail *detail);
// One operation, all operations must work.
void fault_works(enum known known);
void fault_all_work(void);

// The fault is over: the token must be well again in time. Returns how long it took, in ms.
#define RECOVERY_MS (3000 * SLOWNESS) // one second on a machine with nothing else to do
unsigned fault_recover(void);

void fault_rest(unsigned ms);
