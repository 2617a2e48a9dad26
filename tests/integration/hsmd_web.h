// SPDX-License-Identifier: Apache-2.0
// A browser for the web server of a real hsmd.
#pragma once

#include <stdint.h>

#include "hsmd/base/buf.h"

#define P "sealgate_hsmd_"

extern struct buf body; // of the newest answer
extern uint16_t port;   // of 127.0.0.1, free when web_open found it: for metrics-listen

void web_open(void); // once
void web_close(void);

// GET, or another method; header may be NULL. The status; 0: no answer.
long fetch(const char *method, const char *path, const char *header);
void fetch_metrics(void); // which must be well formed
// Of a sample of them, with its labels; -1: none.
double value_of(const char *sample);
// Asks for /healthz until that is its status, for 20 seconds; the status.
long wait_health(long wanted);
