// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/ct.h"

// Both are barrel shifters: one pass for every bit of the distance, taken or not.

void ct_shift_left(uint8_t *data, size_t len, size_t count)
{
    for (size_t step = 1; step <= len; step <<= 1) {
        ct_mask taken = ~ct_is_zero(count & step);
        for (size_t i = 0; i < len; i++) {
            uint8_t from = i + step < len ? data[i + step] : 0;
            data[i] = (uint8_t)ct_select(taken, from, data[i]);
        }
    }
}

void ct_shift_right(uint8_t *data, size_t len, size_t count)
{
    for (size_t step = 1; step <= len; step <<= 1) {
        ct_mask taken = ~ct_is_zero(count & step);
        for (size_t i = len; i-- > 0;) {
            uint8_t from = i >= step ? data[i - step] : 0;
            data[i] = (uint8_t)ct_select(taken, from, data[i]);
        }
    }
}
