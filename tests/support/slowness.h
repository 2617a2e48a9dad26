// SPDX-License-Identifier: Apache-2.0
// How many times longer than otherwise something may take under a sanitizer, for the limits of tests
// that start whole programs.
#pragma once

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOWNESS 5
#else
#define SLOWNESS 1
#endif
