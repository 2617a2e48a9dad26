// SPDX-License-Identifier: Apache-2.0
// Lines of the audit log as text: making them, and reading back what the chain needs. No I/O.
#pragma once

#include "hsmd/audit/audit.h"

// What a checkpoint's signature is over, as text so that it can be made by hand: a label that keeps
// it apart from all else that is ever signed, and three lines.
//     Sealgate audit checkpoint 1 LF  TIME LF  COVERS LF  CHAIN LF
// TIME is the checkpoint line's "time", COVERS the number of the last line covered in decimal,
// CHAIN the hash of that line in hex. Hashed with SHA-256; ECDSA (DER) or RSA PKCS#1 v1.5.
#define AUDIT_CHECKPOINT_LABEL "Sealgate audit checkpoint 1"
#define AUDIT_SIGNATURE_MAX 1024 // bytes: RSA-8192, so that it fits a line
enum err audit_line_signed(const struct audit_link *covered, const char *stamp, struct buf *out);

// What a line says of its own, without seq, time and prev. Cap of out: AUDIT_LINE_MAX.
enum err audit_line_body(const struct audit_record *record, struct buf *out);

// Appends a whole line with its line end and moves link on to it.
enum err audit_line_put(struct buf *out, struct bytes body, const char *stamp,
                        struct audit_link *link);

// The number a line begins with. False: it is no whole line of ours. Only begin and end are looked
// at, but no part of a line looks like a whole one.
bool audit_line_seq(struct bytes line, uint64_t *seq);

// Sets link to the end of the chain in the last bytes of a log (all of them, or at least
// 2 * AUDIT_LINE_MAX). torn: the last line has no end. ERR_PERM: no line of ours in it.
enum err audit_line_find_end(struct bytes tail, struct audit_link *link, bool *torn);
