// SPDX-License-Identifier: Apache-2.0
// The periodic self-test: now and then each enabled key is used once (selftest_key.h), with a line
// in the audit log, so that a token that has died is noticed before a message needs it. Retired and
// disabled keys are left alone: what an officer has put away is not used by anybody.
//
// It runs in a thread of its own, through the keystore as requests do, and so helps it to heal. As
// long as a key fails it is repeated sooner. The log tells changes alone.
#pragma once

#include "hsmd/core.h"
#include "hsmd/watch/exposition.h"

#define SELFTEST_AGAIN_MS 5000 // after a failure; sooner if the interval is shorter

struct selftest;

// Starts at once. core is borrowed. timeout_ms: for one key.
enum err selftest_open(const struct core *core, unsigned interval_ms, unsigned timeout_ms,
                       struct selftest **selftest, struct detail *detail);
// False: it hangs in the token, and all it uses must be left alone. NULL is fine.
bool selftest_close(struct selftest *selftest, unsigned wait_ms);

// Calls failed with the name of each key whose test failed, or does not end (is_hanging).
void selftest_each_failed(struct selftest *selftest,
                          void (*failed)(void *context, const char *key, bool is_hanging),
                          void *context);
void selftest_put(struct selftest *selftest, struct exposition *out);
