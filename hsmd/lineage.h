// SPDX-License-Identifier: Apache-2.0
// Does the registry go on where the audit log left off? Who can remove registry.db, or put an old
// copy in its place, would else have hsmd take its officers from hsmd.conf again, or bring back
// officers, clients and statements that were done with, and nobody would see it. Or who edits it
// while hsmd is down: so lines of acts, starts and stops have a hash of what it says.
#pragma once

#include "hsmd/audit/audit.h"
#include "hsmd/audit/audit_trace.h"
#include "hsmd/config.h"
#include "hsmd/registry/budget.h"
#include "hsmd/registry/store.h"

#define LINEAGE_LOST_ACT "hsmd ended before what the act changed was kept: the proposal waits still"

struct lineage {
    struct audit_trace trace;          // what the log knows
    bool has_officers;                 // the registry has
    uint64_t proposal;                 // the number of its last one; 0: none
    uint8_t digest[STORE_DIGEST_SIZE]; // of what it says
    char budgets_problem[160];         // what is wrong with their file; "": nothing
    char problem[160];                 // what does not fit together; "": nothing
    uint64_t lost_act; // a proposal that was carried out by the log, and waits still; 0: none
    bool is_told;      // the line of the start is written, and one of a stop may come after it
};

// Opens the log that the configuration names, sees what does not fit together, and writes the line
// of the start, which says it too, after one of an act that was lost: hsmd ended between the act's
// line and the commit of what it changed. A rotation that was interrupted (audit_resume.h) is then
// brought to its end, so that the first line of the new file knows what the start did. The
// file of budgets must go on where it left off as well, or what was used is forgotten; it is
// written anew. Once the registry has officers, its number there and in the first line of each
// rotated file is for the next start to compare with. lineage outlives the log, which may be there
// on failure as well. ERR_PERM, too: the registry has no officers, hsmd.conf has, and the log knows
// that there were some before: hsmd must not found itself anew without a trace ('hsmd found').
enum err lineage_open_audit(const struct config *config, struct store *store,
                            struct budgets *budgets, struct lineage *lineage, struct audit **audit,
                            struct detail *detail);
// The line of a stop, with what the registry says by then; store: NULL if others may still use it.
// Only if lineage->is_told: what a start that was refused has found is to be found by the next one.
enum err lineage_tell_stop(struct store *store, struct budgets *budgets, struct audit *audit,
                           struct detail *detail);
// After officers may have been founded.
enum err lineage_remember(struct store *store, struct audit *audit, struct detail *detail);

// hsmd found: after the registry was lost, takes the officers of the configuration in path into a
// new one, with a line in the audit log that says so. ERR_PERM: the registry has officers, or the
// configuration has none, or the state directory is not there or another user's; ERR_TEMP: hsmd is
// running.
enum err lineage_found(const char *path, unsigned *officers, struct detail *detail);
