// SPDX-License-Identifier: Apache-2.0
// A small audit log written by hsmd's own code, with checkpoints of a key in memory, for tests of
// those who read it. Exits the test if something is wrong.
#pragma once

#include "hsmd/audit/audit.h"
#include "tests/support/memstore.h"

// kind: "P-256", "RSA-2048"; one key of each kind for all logs of a process.
struct keystore_key *audit_log_key(const char *kind);
EVP_PKEY *audit_log_public(const char *kind);

// One line of event "use".
void audit_log_use(struct audit *audit, uint64_t id);
// A checkpoint over all lines so far.
void audit_log_seal(struct audit *audit, const char *kind);

// 12 lines: start checkpoint use use use checkpoint use use refuse use stop checkpoint.
#define AUDIT_LOG_LINES 12
void audit_log_make(const char *path, const char *kind);

// The lines of the file, which is a whole chain from line 1 on; signatures are not looked at. Exits
// the test if it is not.
uint64_t audit_log_verify(const char *path);
