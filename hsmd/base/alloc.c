// SPDX-License-Identifier: Apache-2.0
#include "hsmd/base/alloc.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static atomic_uint fail_countdown;

void mem_fail_at(unsigned n)
{
    atomic_store(&fail_countdown, n);
}

static bool is_failing(void)
{
    unsigned n = atomic_load_explicit(&fail_countdown, memory_order_relaxed);
    while (n) {
        if (atomic_compare_exchange_weak(&fail_countdown, &n, n - 1)) {
            if (n == 1)
                errno = ENOMEM;
            return n == 1;
        }
    }
    return false;
}

void *mem_calloc(size_t count, size_t size)
{
    size_t total = 0;
    if (__builtin_mul_overflow(count, size, &total) || is_failing())
        return NULL;
    return calloc(total ? total : 1, 1);
}

void *mem_realloc(void *ptr, size_t size)
{
    return is_failing() ? NULL : realloc(ptr, size ? size : 1);
}

char *mem_strndup(const char *text, size_t max)
{
    size_t n = strnlen(text, max);
    char *copy = mem_calloc(n + 1, 1);
    if (copy)
        memcpy(copy, text, n);
    return copy;
}

char *mem_strdup(const char *text)
{
    return mem_strndup(text, strlen(text));
}

void mem_free(void *ptr)
{
    free(ptr);
}
