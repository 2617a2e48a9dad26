// SPDX-License-Identifier: Apache-2.0
// What hsmctl audit verify --state remembers from one check to the next: of each audit key the last
// line of the log that was good. A file of text, one line a key after the first:
//
//     Sealgate audit state 1
//     KEY-ID SEQ HASH
//
// with key id (of checkpoints, hsmd-audit(5)) and hash in hex.
#pragma once

#include <openssl/types.h>

#include "hsmd/audit/audit.h"

#define AUDIT_STATE_KEYS_MAX 256

struct audit_state {
    struct {
        uint8_t key_id[AUDIT_HASH_SIZE];
        struct audit_link last;
    } keys[AUDIT_STATE_KEYS_MAX];
    unsigned count;
};

// No file: nothing is remembered. ERR_PERM: it is none of ours, others may write it, or it cannot
// be read.
enum err audit_state_load(const char *path, struct audit_state *state, struct detail *detail);
// In the place of the file that is there, mode 0600.
enum err audit_state_save(const char *path, const struct audit_state *state, struct detail *detail);

// The furthest line that is remembered of any of the keys; seq 0: of none.
enum err audit_state_find(const struct audit_state *state, EVP_PKEY *const *keys, unsigned count,
                          struct audit_link *last, struct detail *detail);
// From now on that line, for each of the keys. ERR_PERM: too many keys.
enum err audit_state_set(struct audit_state *state, EVP_PKEY *const *keys, unsigned count,
                         const struct audit_link *last, struct detail *detail);
