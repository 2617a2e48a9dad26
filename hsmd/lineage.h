// SPDX-License-Identifier: Apache-2.0
// Does the registry go on where the audit log left off? Who can remove registry.db, or put an old
// copy in its place, would else have hsmd take its officers from hsmd.conf again, or bring back
// officers, clients and statements that were done with, and nobody would see it.
#pragma once

#include "hsmd/audit/audit.h"
#include "hsmd/audit/audit_trace.h"
#include "hsmd/config.h"
#include "hsmd/registry/store.h"

struct lineage {
    struct audit_trace trace; // what the log knows
    bool has_officers;        // the registry has
    uint64_t proposal;        // the number of its last one; 0: none
    char problem[160];        // what does not fit together; "": nothing
};

// Opens the log that the configuration names, sees what does not fit together, ends a rotation that
// was interrupted (audit_resume.h), and writes the line of the start, which says it too. Once the
// registry has officers, its number there and in the first line of each rotated file is for the
// next start to compare with. lineage outlives the log, which may be there on failure as well.
// ERR_PERM, too: the registry has no officers, hsmd.conf has, and the log knows that there were
// some before: hsmd must not found itself anew without a trace ('hsmd found').
enum err lineage_open_audit(const struct config *config, struct store *store,
                            struct lineage *lineage, struct audit **audit, struct detail *detail);
// After officers may have been founded.
enum err lineage_remember(struct store *store, struct audit *audit, struct detail *detail);

// hsmd found: after the registry was lost, takes the officers of the configuration in path into a
// new one, with a line in the audit log that says so. ERR_PERM: the registry has officers, or the
// configuration has none, or the state directory is not there or another user's; ERR_TEMP: hsmd is
// running.
enum err lineage_found(const char *path, unsigned *officers, struct detail *detail);
