// SPDX-License-Identifier: Apache-2.0
// Threads that call at the same time.
#pragma once

#include <pthread.h>

#include "hsmd/client/client.h"

#define CALLERS 16
#define CALLS 100

struct caller {
    pthread_t thread;
    struct client *client;
    unsigned number;
    unsigned calls;
    unsigned failed;
    struct detail detail;
};

// The calls of one caller, each with data of its own; for pthread_create.
void *caller_run(void *caller);

void callers_start(struct caller callers[CALLERS], struct client *client, unsigned calls);
void callers_join(struct caller callers[CALLERS]); // fails the test if a call did

// One call that must succeed.
void assert_signs(struct client *client, const char *data);
