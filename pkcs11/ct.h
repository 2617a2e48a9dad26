// SPDX-License-Identifier: Apache-2.0
// Decisions without branches. A mask is all ones (yes) or all zeros (no). The barrier keeps the
// compiler from seeing that, and so from making a branch of it.
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef uint64_t ct_mask;

static inline uint64_t ct_barrier(uint64_t x)
{
    __asm__("" : "+r"(x));
    return x;
}

static inline ct_mask ct_top_bit(uint64_t x)
{
    return 0 - (ct_barrier(x) >> 63);
}

static inline ct_mask ct_is_zero(uint64_t x)
{
    return ct_top_bit(~x & (x - 1));
}

static inline ct_mask ct_is_equal(uint64_t a, uint64_t b)
{
    return ct_is_zero(a ^ b);
}

static inline ct_mask ct_is_less(uint64_t a, uint64_t b)
{
    return ct_top_bit(a ^ ((a ^ b) | ((a - b) ^ b)));
}

static inline uint64_t ct_select(ct_mask mask, uint64_t yes, uint64_t no)
{
    return (ct_barrier(mask) & yes) | (ct_barrier(~mask) & no);
}

// Moves data to the left by count (at most len) bytes, zeros come in at the right; to the right
// likewise. The time depends on len alone.
void ct_shift_left(uint8_t *data, size_t len, size_t count);
void ct_shift_right(uint8_t *data, size_t len, size_t count);
