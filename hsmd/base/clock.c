// SPDX-License-Identifier: Apache-2.0
#include "hsmd/base/clock.h"

#include <limits.h>
#include <string.h>
#include <time.h>

deadline_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (deadline_t)now.tv_sec * 1000 + (deadline_t)now.tv_nsec / 1000000;
}

uint64_t clock_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t clock_wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

deadline_t deadline_in(unsigned ms)
{
    return clock_ms() + ms;
}

int deadline_left(deadline_t deadline)
{
    deadline_t now = clock_ms();
    if (now >= deadline)
        return 0;
    return deadline - now > INT_MAX ? INT_MAX : (int)(deadline - now);
}

bool deadline_is_past(deadline_t deadline)
{
    return deadline_left(deadline) == 0;
}

struct timespec deadline_timespec(deadline_t deadline)
{
    return (struct timespec){.tv_sec = (time_t)(deadline / 1000),
                             .tv_nsec = (long)(deadline % 1000) * 1000000};
}

// The text of the second is kept, since many stamps are of the same one.
void clock_stamp(char stamp[CLOCK_STAMP_SIZE])
{
    static _Thread_local time_t second;
    static _Thread_local char text[] = "1970-01-01T00:00:00";
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    if (now.tv_sec != second) {
        second = now.tv_sec;
        gmtime_r(&second, &tm);
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    }
    unsigned ms = (unsigned)now.tv_nsec / 1000000;
    const char end[] = {
        '.', (char)('0' + ms / 100), (char)('0' + ms / 10 % 10), (char)('0' + ms % 10), 'Z', 0};
    memcpy(stamp, text, sizeof text - 1);
    memcpy(stamp + sizeof text - 1, end, sizeof end);
}
