// SPDX-License-Identifier: Apache-2.0
// A stand-in for hsmd's officers' channel in a thread: a ROUTER with CURVE and a ZAP handler. It
// keeps one proposal, verifies what is signed as hsmd does, and wants two signatures.
#pragma once

#include <stdatomic.h>

#include "hsmd/base/curve.h"
#include "hsmd/base/secret.h"
#include "hsmd/officers/keyfile.h"
#include "hsmd/officers/message.h"

#define PEER_OFFICERS 3 // alice, bob: officers; dave: auditor
#define PEER_AUDIT_LOG "one\ntwo\nthree\nfour\nfive\n"

enum peer_mode {
    PEER_GOOD,
    PEER_DENYING,    // ZAP lets nobody in
    PEER_SILENT,     // takes requests and says nothing
    PEER_GARBAGE,    // answers with what is no reply
    PEER_OTHER_ID,   // answers another question
    PEER_TWO_FRAMES, // answers with two frames
    PEER_NO_JSON,    // of reads: bodies that are no JSON
    PEER_NO_LOG,     // class temp to all, with a terminal's escape sequence in the detail
    // As good, but of the proposal:
    PEER_OTHER_ACT,       // another act than was signed, with the digest of that one
    PEER_OTHER_DIGEST,    // a wrong digest
    PEER_OTHER_SIGNATURE, // a signature that is not the proposer's
    PEER_LATER_ACT,       // an act of a kind that nobody here knows
    PEER_ENOUGH,          // one signature is enough, and yet the first one waits
    PEER_ROTATING,        // the log is rotated after its first piece
    PEER_FAILING,         // what is agreed on fails
};

struct peer {
    char endpoint[120]; // from here to the blank line: set by the test
    enum peer_mode mode;
    atomic_uint self; // who is at the other end; may change at any time
    struct officer_public officers[PEER_OFFICERS];
    char secret_key[CURVE_TEXT_SIZE];

    struct peer_state *state;
};

void peer_start(struct peer *peer);
void peer_stop(struct peer *peer);
// The attachment of the last proposal, and how many signatures were good; -1: a bad one came.
struct bytes peer_attachment(const struct peer *peer);
int peer_signatures(const struct peer *peer);
