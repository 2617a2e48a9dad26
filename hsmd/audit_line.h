// SPDX-License-Identifier: Apache-2.0
// Lines of the audit log as text: making them, and reading back what the chain needs. No I/O.
#pragma once

#include "hsmd/audit.h"

#define AUDIT_HASH_SIZE 32

struct audit_link {
    uint64_t seq;                  // of the last line; 0: none yet
    uint8_t hash[AUDIT_HASH_SIZE]; // of the last line
};

// What a line says of its own, without seq, time and prev. Cap of out: AUDIT_LINE_MAX.
enum err audit_line_body(const struct audit_record *record, struct buf *out);

// Appends a whole line with its line end and moves link on to it.
enum err audit_line_put(struct buf *out, struct bytes body, const char *stamp,
                        struct audit_link *link);

// The number a line begins with. False: it is no line of ours.
bool audit_line_seq(struct bytes line, uint64_t *seq);

// Sets link to the end of the chain in the last bytes of a log (all of them, or at least
// 2 * AUDIT_LINE_MAX). torn: the last line has no end. ERR_PERM: no line of ours in it.
enum err audit_line_find_end(struct bytes tail, struct audit_link *link, bool *torn);
