// SPDX-License-Identifier: Apache-2.0
// Random numbers of libsodium that are the same in each run, for fuzzers.
#pragma once

int same_random_install(void); // before sodium_init; 0: done
void same_random_restart(void);
