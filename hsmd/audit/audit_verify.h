// SPDX-License-Identifier: Apache-2.0
// Checks an audit log, in one file or in several that follow one another, as a stream: memory does
// not grow with the log. No I/O.
//
// The first line that is wrong ends the check. Which line that is follows from its neighbours: each
// line has the hash of the one before, so of two that do not fit together the line after them tells
// which one was changed, inserted or taken away. Who can write the file can also make all hashes
// anew; then the next checkpoint, whose signature they cannot make, is the line named.
//
// What no reader can find is that a log was cut after a checkpoint, or ends sooner than it did: see
// struct audit_expected, and is_closed.
#pragma once

#include <openssl/types.h>

#include "hsmd/audit/audit.h"

// What the reader knows from elsewhere, a former check or a copy.
struct audit_expected {
    uint64_t seq; // 0: nothing. The log must have this line,
    bool has_hash;
    uint8_t hash[AUDIT_HASH_SIZE]; // and a line (that one, if seq is given) with this hash
    bool is_closed;                // it must end with a stop and the checkpoint over it
    // seq 0: nothing. A line that was good in a former check: the log must have it, or begin with
    // the one after it.
    struct audit_link former;
};

struct audit_report {
    uint64_t files, lines;
    uint64_t first_seq;
    struct audit_link last; // the last good line
    uint64_t checkpoints;   // with a good signature; 0 if there is no key
    uint64_t covered;       // up to this line the last of them vouches for all lines looked at
    char covered_time[CLOCK_STAMP_SIZE];
    uint64_t uncovered; // lines after that, checkpoints not counted
    uint64_t torn;      // lines that a crash tore, all as they should be
    uint64_t unclean;   // starts with no stop before them
    bool is_closed;     // the last lines are a stop and, if there is a key, a checkpoint over it
    bool has_torn_end;  // the last line has no end, as after a crash, or while it is written
    bool is_bad;
    const char *bad_file; // as given; NULL: the log as a whole
    uint64_t bad_line;    // in the file, from 1
    uint64_t bad_seq;     // the number it has, or should have; 0: unknown
    struct detail reason;
};

struct audit_verify;

// key: the audit key's public half, borrowed; NULL: signatures are not looked at.
enum err audit_verify_new(EVP_PKEY *key, const struct audit_expected *expected,
                          struct audit_verify **verify, struct detail *detail);
// One more key that may have signed: a log goes on when its key is changed. Before the first file,
// to a verify that has a key. ERR_PERM: of no type for it, or too many.
enum err audit_verify_add_key(struct audit_verify *verify, EVP_PKEY *key, struct detail *detail);
void audit_verify_free(struct audit_verify *verify);

// The next file begins; name outlives verify. Then its content, in pieces of any size.
void audit_verify_file(struct audit_verify *verify, const char *name);
void audit_verify_put(struct audit_verify *verify, struct bytes bytes);

// The end of the last file. The report lives as long as verify.
const struct audit_report *audit_verify_end(struct audit_verify *verify);
