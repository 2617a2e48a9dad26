// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pthread.h>
#include <stdbool.h>

// Starts a thread that takes no signals: they are for the one who waits for them.
bool thread_start(pthread_t *thread, void *(*run)(void *argument), void *argument);
