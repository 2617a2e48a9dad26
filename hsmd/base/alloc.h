// SPDX-License-Identifier: Apache-2.0
// The one way to the heap. All return NULL on exhaustion; tests can make the n-th call fail.
// What they return is freed with mem_free.
#pragma once

#include <stddef.h>

// Zeroed memory for count objects of size bytes; NULL too if the product overflows.
void *mem_calloc(size_t count, size_t size);
void *mem_realloc(void *ptr, size_t size);
char *mem_strdup(const char *text);
char *mem_strndup(const char *text, size_t max);
void mem_free(void *ptr); // NULL is fine

// For tests: let the next n-1 allocations of this process succeed and the n-th fail, once. 0: none.
void mem_fail_at(unsigned n);
