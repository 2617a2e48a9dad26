// SPDX-License-Identifier: Apache-2.0
// The difference between a message and what it became, as the modifications a milter can ask for.
// Computed whole before the first one is asked for (promise 7).
#pragma once

#include "gateway/message.h"
#include "hsmd/base/err.h"

enum edit_kind {
    EDIT_CHANGE_HEADER, // the index-th field of that name (from 1) gets value; NULL deletes it
    EDIT_INSERT_HEADER, // so that it becomes field index of the whole header; field 0 is the MTA's
                        // own Received field, which a milter is not shown. As smfi_insheader counts
    EDIT_ADD_HEADER,    // at the end
};

struct edit {
    enum edit_kind kind;
    unsigned index;
    char *name;
    char *value; // as in struct header
};

struct edits {
    struct edit *items; // owned, to be applied in this order
    size_t count;
    bool has_new_body; // the body is to be replaced by the new message's
};

// Applying the edits to old as a milter does gives new's fields in new's order of names and values
// (Postfix appends what cannot be inserted; the order of unrelated fields is kept). ERR_TEMP: out
// of memory.
enum err edits_compute(const struct message *old, const struct message *new, struct edits *edits,
                       struct detail *detail);
void edits_clear(struct edits *edits);
