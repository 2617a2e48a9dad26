// SPDX-License-Identifier: Apache-2.0
// Sixteen callers who sign and unwrap without a pause, and every fault at every call on the way,
// for the tests of a token and of a keystore. What is held against them: no wrong answer, no call
// past its deadline but one that itself hangs, no deadlock; and soon after the fault all are served
// again.
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "tests/fault/common.h"
#include "tests/support/healing.h"

enum {
    CALLERS = 16,
    CALLERS_PATIENCE_MS = 300, // of a call
    CALLERS_SLACK_MS = 3000,   // what a noisy machine may add
};

struct caller {
    pthread_t thread;
    atomic_uint answered, temporary, late;
    _Atomic deadline_t began; // of the call under way, 0: none
};
extern struct caller callers[CALLERS];

// One operation of the caller, by its number; odd turns sign, even ones unwrap into out.
typedef enum err (*callers_operate)(unsigned caller, unsigned turn, struct secret *out,
                                    bool *right);
// What is wrong at the moment, for the one who reads that a caller is not served.
typedef void (*callers_explain)(struct detail *detail);

// Until callers_end, which aborts if anything was wrong.
void callers_begin(callers_operate operate, callers_explain explain);
void callers_end(void);

struct callers_fault {
    const char *name;
    unsigned long rv; // 0: the call hangs
};
extern const struct callers_fault callers_faults[];
extern const unsigned callers_fault_count; // the last one is the hang
// C_Initialize and C_Finalize, which are called when a module is opened anew, are behind the
// others.
extern const char *const callers_places[];
extern const unsigned callers_place_count, callers_module_place_count;

bool callers_is_module_place(const char *place);

// From now on the fault is there, and the token was lost, so that what heals is walked through as
// well; for C_Initialize and C_Finalize the module must be opened anew. Returns after the first
// call that met the fault, and ms more; if it hangs, when everybody else has come back. Whoever
// begins a call until callers_relieve may be late if it is a hang.
void callers_strike(const struct callers_fault *fault, const char *place, unsigned ms);
// The fault is over.
void callers_relieve(void);

// Until everybody was served once more; fails the test after RECOVERY_MS. In ms.
unsigned callers_wait_served(const char *fault, const char *place);

// Of the callers whose numbers are first, first + step, ...
unsigned callers_answered(unsigned first, unsigned step);
unsigned callers_temporary(unsigned first, unsigned step);
