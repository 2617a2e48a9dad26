// SPDX-License-Identifier: Apache-2.0
// Time. Deadlines are points on the monotonic clock, in milliseconds, and are passed down the call
// chain, so that every wait on the way shares one limit.
#pragma once

#include <stdbool.h>

#include <stdint.h>
#include <time.h>

typedef uint64_t deadline_t;

deadline_t clock_ms(void);              // now, monotonic
uint64_t clock_us(void);                // the same clock in microseconds, to measure with
uint64_t clock_wall_ms(void);           // the wall clock, since 1970
deadline_t deadline_in(unsigned ms);    // now + ms
int deadline_left(deadline_t deadline); // milliseconds left, 0 if past; fits poll(2)
bool deadline_is_past(deadline_t deadline);
// For pthread_cond_timedwait with a condition on the monotonic clock.
struct timespec deadline_timespec(deadline_t deadline);

// The wall clock as RFC 3339 UTC with milliseconds, "2026-11-21T22:54:14.123Z".
#define CLOCK_STAMP_SIZE 25
void clock_stamp(char stamp[CLOCK_STAMP_SIZE]);
