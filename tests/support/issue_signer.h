// SPDX-License-Identifier: Apache-2.0
// A signer for issue.h with a key in memory, which can be made to fail; and an act to begin with.
#pragma once

#include <openssl/evp.h>

#include "hsmd/custody/issue.h"

enum issue_signer_fault {
    ISSUE_SIGNER_GOOD,
    ISSUE_SIGNER_FLIPPED, // one bit of the signature
    ISSUE_SIGNER_EMPTY,   // no signature at all
    ISSUE_SIGNER_STALE,   // that of another digest
    ISSUE_SIGNER_TEMP,    // ERR_TEMP "the token is gone"
    ISSUE_SIGNER_DENIED,  // ERR_DENIED "the token is locked"
};

struct issue_signer_key {
    EVP_PKEY *pkey; // borrowed
    enum issue_signer_fault fault;
    unsigned calls;
    unsigned salt;                 // of the last call
    uint8_t public_key[4096];      // filled by issue_signer_init
    uint8_t digest[HASH_SIZE_MAX]; // of the last call
    size_t digest_len;
};

// The signer borrows key, whose pkey must be set.
struct issue_signer issue_signer_init(struct issue_signer_key *key, enum wire_purpose purpose);

// With every field of F14, sha256, 90 days.
struct act issue_signer_act(enum act_kind kind);
