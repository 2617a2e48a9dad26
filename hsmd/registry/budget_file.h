// SPDX-License-Identifier: Apache-2.0
// The file of totals: a first line of its own, then lines of number, space, identity. Replaced as a
// whole each time, so that it is whole whenever we are stopped.
#pragma once

#include <stdint.h>

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"

#define BUDGET_FILE_MAX ((size_t)4 << 20)

// Calls take for each line. No file at all has none. ERR_PERM: not such a file, or take said so.
enum err budget_file_read(const char *path,
                          enum err (*take)(void *context, struct bytes identity, uint64_t used),
                          void *context, struct detail *detail);

struct budget_file {
    struct buf text;
    enum err err;
};

void budget_file_begin(struct budget_file *file);
void budget_file_put(struct budget_file *file, const char *identity, uint64_t used);
// Mode 0600, synced. Ends file whatever happens.
enum err budget_file_write(struct budget_file *file, const char *path, struct detail *detail);
