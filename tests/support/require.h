// SPDX-License-Identifier: Apache-2.0
// What the support of a test takes for granted: the process ends if it does not hold.
#pragma once

#include <stdio.h>
#include <stdlib.h>

#define REQUIRE(condition)                                                         \
    do {                                                                           \
        if (!(condition)) {                                                        \
            fprintf(stderr, "%s:%d: %s failed\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                               \
        }                                                                          \
    } while (0)
