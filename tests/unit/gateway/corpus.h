// SPDX-License-Identifier: Apache-2.0
// Every file below a directory, for property tests.
#pragma once

#include "hsmd/base/buf.h"

// Calls take for each file whose name ends with one of the endings (NULL-terminated list; NULL:
// every file). Returns how many there were; 0 also if there is no such directory.
size_t corpus_each(const char *directory, const char *const *endings,
                   void (*take)(const char *path, struct bytes content, void *ctx), void *ctx);
