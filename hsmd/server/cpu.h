// SPDX-License-Identifier: Apache-2.0
// Where hsmd's threads run. A request passes through several, and to wake one on a processor that
// sleeps costs more than all that hsmd does for it; so the thread that moves messages and the
// worker that is called first share a processor. Measured on a virtual machine with two: a P-256
// signature took one caller 145 us in place of 200.
#pragma once

// The processor that they share: the last of those that this process may use, or -1 if that is only
// one, or if the system does not let it choose.
int cpu_home(void);

// Keeps the calling thread on that processor. It is a wish: a failure is none of the caller's.
void cpu_stay(int cpu);
