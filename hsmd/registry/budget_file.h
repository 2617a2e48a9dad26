// SPDX-License-Identifier: Apache-2.0
// The file of budgets, replaced as a whole each time, so that it is whole whenever we are stopped:
//
//     sealgate hsmd budgets 2 WRITES
//     total USED IDENTITY
//     minute|hour|failures SLOT:COUNT[,SLOT:COUNT...] IDENTITY
//
// WRITES: how often it was written, ever; the audit log knows that too. Slots are those of a
// window, by the wall clock. A file of before ("budgets 1") has lines of number, space, identity.
#pragma once

#include <stdint.h>

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"
#include "hsmd/registry/window.h"

#define BUDGET_FILE_MAX ((size_t)16 << 20)

// X(symbol, name)
#define BUDGET_LINES(X)        \
    X(BUDGET_TOTAL, "total")   \
    X(BUDGET_MINUTE, "minute") \
    X(BUDGET_HOUR, "hour")     \
    X(BUDGET_FAILURES, "failures")

enum budget_line {
#define X(symbol, name) symbol,
    BUDGET_LINES(X)
#undef X
};

// Calls take for each total (slot 0), and each slot of each window. No file at all has none, and
// *writes is 0. ERR_PERM: not such a file, or take said so.
typedef enum err (*budget_file_take)(void *context, enum budget_line line, struct bytes identity,
                                     uint64_t slot, uint64_t count);
enum err budget_file_read(const char *path, budget_file_take take, void *context, uint64_t *writes,
                          struct detail *detail);

struct budget_file {
    struct buf text;
    enum err err;
};

void budget_file_begin(struct budget_file *file, uint64_t writes);
void budget_file_put(struct budget_file *file, const char *identity, uint64_t used);
// Nothing, if nothing is in it any more.
void budget_file_put_window(struct budget_file *file, enum budget_line line, const char *identity,
                            const struct window *window, deadline_t now);
// Mode 0600, synced. Ends file whatever happens.
enum err budget_file_write(struct budget_file *file, const char *path, struct detail *detail);
