// SPDX-License-Identifier: Apache-2.0
// A proposal as the store has it, and who has signed it. Nothing the store says about signatures is
// believed: they are verified here each time, against the officers of that moment.
#pragma once

#include "hsmd/registry/store.h"

#define CUSTODY_OFFICERS_MAX 64 // officers and auditors

struct officers {
    struct store_officer list[CUSTODY_OFFICERS_MAX];
    size_t count; // of all
    unsigned quorum;
    unsigned signers; // that are no auditors
};

// ERR_PERM: more than CUSTODY_OFFICERS_MAX.
enum err officers_load(struct store *store, struct officers *officers, struct detail *detail);
const struct store_officer *officers_find(const struct officers *officers, struct bytes name);

// Embedded: proposal_load, proposal_clear (a zeroed struct is fine).
struct proposal {
    struct store_proposal row; // its bytes are in room
    struct buf room;
    uint8_t digest[STATEMENT_DIGEST_SIZE];
};

// Of one that was taken back or lapsed act is empty; result has what is left of it. ERR_PERM: there
// is no such proposal.
enum err proposal_load(struct store *store, uint64_t number, struct proposal *proposal,
                       struct detail *detail);
void proposal_clear(struct proposal *proposal);

// Who of the officers has signed what, by the index in officers.
struct tally {
    struct {
        bool has_approved; // a proposer has, by the proposal
        bool has_rejected;
        char time[CLOCK_STAMP_SIZE];
    } of[CUSTODY_OFFICERS_MAX];
    unsigned approvals, rejections;
    bool is_altered; // not what its proposer signed: changed behind hsmd's back, nothing counts
};

// Counts good signatures of officers over the statement as it stands in the store; each key of an
// officer counts once.
enum err proposal_count(struct store *store, const struct proposal *proposal,
                        const struct officers *officers, struct tally *tally,
                        struct detail *detail);
