// SPDX-License-Identifier: Apache-2.0
// Where hsmd's threads run. A request passes through several, and to wake one on a processor that
// sleeps costs more than all that hsmd does for it; so the thread that moves messages and the
// worker that is called first share a processor, and the workers let everybody else go first.
#pragma once

#include <pthread.h>

// The processor that they share: the last of those that this process may use, or -1 if that is only
// one.
int cpu_home(void);

// Keeps the calling thread on that processor. It is a wish: a failure is none of the caller's.
void cpu_stay(int cpu);

// The calling thread computes for milliseconds at a time: whoever wakes up meanwhile, to bring a
// message or to take one, need not wait for its slice to end. Kernels before 6.12 take no notice of
// that, and need not (sched_setattr(2), sched_runtime of SCHED_OTHER).
void cpu_be_patient(void);
