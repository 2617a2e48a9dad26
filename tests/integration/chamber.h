// SPDX-License-Identifier: Apache-2.0
// The officers' channel of a real hsmd, and officers who send over it what hsmctl never would.
// Exits the test if something of its own fails.
#pragma once

#include <jansson.h>

#include "hsmd/client/link.h"
#include "hsmd/officers/keyfile.h"
#include "hsmd/officers/message.h"
#include "tests/integration/hsmd_process.h"

enum member {
    ALICE, // officers
    BOB,
    CAROL,
    DAVE, // an auditor
    EVE,  // in no registry
    MEMBERS
};

struct chamber {
    struct hsmd hsmd;
    struct officer_key keys[MEMBERS];
    struct link *links[MEMBERS]; // opened when first used
    char officers_key[CURVE_TEXT_SIZE];
    uint8_t instance[STATEMENT_INSTANCE_SIZE];
    uint64_t next_id;
    unsigned wait_ms; // for an answer; 0: as long as it may take
};

// Makes keys; nothing is configured or started yet.
void chamber_setup(struct chamber *chamber);
void chamber_teardown(struct chamber *chamber);
// officers: how many of alice, bob and carol there are; dave always. token: what is in its section
// beside module and label.
void chamber_configure(struct chamber *chamber, unsigned officers, unsigned quorum,
                       const char *module, const char *token);
void chamber_start(struct chamber *chamber); // and learns the instance
void chamber_stop(struct chamber *chamber);
void chamber_hang_up(struct chamber *chamber, enum member member);

struct answer {
    bool is_answered;
    enum link_state state; // of the connection, if it is not
    enum err class;
    char detail[MESSAGE_DETAIL_MAX + 1];
    json_t *body; // NULL: none
};
void answer_clear(struct answer *answer);

void chamber_send(struct chamber *chamber, enum member member, struct bytes frame,
                  struct answer *answer);
// The caller's; NULL: refused.
json_t *chamber_read(struct chamber *chamber, enum member member, enum message_read what,
                     const char *argument);
// Of a proposal: its state, and its digest as officers see it.
void chamber_look(struct chamber *chamber, uint64_t number, char state[16],
                  uint8_t digest[STATEMENT_DIGEST_SIZE]);

// What goes into a proposal's frame. What is signed is the same but for the lies.
struct proposing {
    enum member signer;
    struct act act;
    const char *attachment; // or NULL
    struct bytes attached;  // in its place
    uint64_t replaces;
    const char *proposer; // as signed; NULL: the signer's own name
    const struct act *signed_act;
    uint64_t signed_lapse, signed_replaces;
    bool is_other_nonce, is_other_instance;
};
void chamber_put_proposal(struct chamber *chamber, const struct proposing *proposing,
                          struct buf *frame);

struct judging {
    enum member signer;
    uint64_t number;
    uint8_t digest[STATEMENT_DIGEST_SIZE];
    bool is_rejection;
    uint64_t signed_number;       // 0: number
    const uint8_t *signed_digest; // NULL: digest
    bool is_other_instance, is_signed_other_way;
};
void chamber_put_verdict(struct chamber *chamber, const struct judging *judging, struct buf *frame);
// That signer approves the proposal as it is now.
struct judging chamber_judging(struct chamber *chamber, enum member signer, uint64_t number);
bool chamber_has_client(struct chamber *chamber, const char *name);

// The honest ways; propose: the number of the proposal. must: ends the test if refused.
uint64_t chamber_must_propose(struct chamber *chamber, enum member member, const struct act *act,
                              const char *attachment);
void chamber_must_judge(struct chamber *chamber, enum member member, uint64_t number,
                        bool is_rejection);
uint64_t chamber_propose(struct chamber *chamber, enum member member, const struct act *act,
                         const char *attachment, struct answer *answer);
void chamber_judge(struct chamber *chamber, enum member member, uint64_t number, bool is_rejection,
                   struct answer *answer);

// All rows of all tables of registry.db, as text; appended. has_proposals: those about them too.
void chamber_dump(struct chamber *chamber, bool has_proposals, struct buf *out);
// While hsmd is stopped.
void chamber_tamper(struct chamber *chamber, const char *sql);
// How many lines of the audit log have both texts.
unsigned chamber_lines(struct chamber *chamber, const char *text, const char *other);
