// SPDX-License-Identifier: Apache-2.0
// The real sealgated as a child process, for cmocka tests.
#pragma once

#include <sys/types.h>

// Starts it and waits until it is ready; what it says is added to the file log.
pid_t sealgated_start(const char *conf, const char *log);
// Ends it with SIGTERM; its wait status.
int sealgated_stop(pid_t pid);
// Runs sealgated -t; its exit status. What it says is then in the file log, alone.
int sealgated_check(const char *conf, const char *log);
