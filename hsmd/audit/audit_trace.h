// SPDX-License-Identifier: Apache-2.0
// What the audit log knows of the registry that hsmd ran with last: whose it was, and how far it
// had come. A registry that was removed, or put back from a copy, does not know that itself.
#pragma once

#include "hsmd/audit/audit.h"

struct audit_trace {
    bool has_instance; // a line of start, rotate or found says which registry it was
    uint8_t instance[AUDIT_INSTANCE_SIZE];
    bool has_acts;     // after that line, or in the whole file if there is none: acts of officers
    uint64_t proposal; // the greatest number of a proposal there; 0: none
    uint64_t act;      // there too, the last act that was carried out: its proposal; 0: none, or
                       // it had none, or it is known to be lost (AUDIT_ACT_LOST)
    uint64_t budgets;  // writes of the file of budgets, by the last line that says; 0: none
    // What the registry said (store_digest) by the last line that knows, and by the one before.
    unsigned known; // how many of them there are
    uint8_t registry[2][AUDIT_HASH_SIZE];
    bool is_act; // the last one is of an act: hsmd may have ended before that was committed
};

// Reads the log from its end back to that line. No file, or an empty one: nothing is known. Lines
// that are no lines of ours are passed over (hsmctl audit verify is who finds them). ERR_PERM,
// ERR_TEMP: it cannot be read.
enum err audit_trace_read(const char *path, struct audit_trace *trace, struct detail *detail);
