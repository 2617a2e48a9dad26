// SPDX-License-Identifier: Apache-2.0
// The custodian as a function from request frame to reply frame. No sockets, no threads of its own;
// any number of threads may be in core_handle, each with a core_worker of its own.
//
// Every request goes the same way: decode, who asks, may they, does it suit the key, do it, write
// it down, answer. The reply tells the class alone; the log and the audit log have the reason,
// under the request's id.
#pragma once

#include "hsmd/audit/audit.h"
#include "hsmd/base/buf.h"
#include "hsmd/base/clock.h"
#include "hsmd/base/err.h"
#include "hsmd/base/secret.h"
#include "hsmd/keystore/keystore.h"
#include "hsmd/watch/metrics.h"
#include "hsmd/refusals.h"
#include "hsmd/registry/live.h"

struct core {
    struct live *live;
    const struct keystore_ops *keystore;
    struct audit *audit;
    struct refusals *refusals; // NULL: each one is written down
    struct metrics *metrics;   // NULL: nothing is counted
};

// What a thread needs over and over.
struct core_worker {
    struct secret secret; // that leaves: an unwrapped or a derived key
    struct secret z;      // that never does
    uint8_t signature[TOKEN_SIGNATURE_MAX];
    unsigned token; // where its operations are done first; KEYSTORE_ANY if that is all one
};

enum err core_worker_init(struct core_worker *worker, struct detail *detail);
void core_worker_clear(struct core_worker *worker); // a zeroed struct is fine

// peer: who sent the frame, as the CURVE handshake proved it (Z85), or NULL if it did not.
// Puts the reply into reply, an empty buffer with cap WIRE_FRAME_MAX that the caller wipes
// (buf_wipe) when it is sent. False: no answer at all, the peer is unknown, or not known any more;
// that has a line in the audit log too, or is one more in a count.
bool core_handle(const struct core *core, struct core_worker *worker, const char *peer,
                 struct bytes frame, deadline_t deadline, struct buf *reply);

// Whose turn it is to do this: 1 and up, a token of the keystore, in its order; 0: none. What is
// going to be refused needs no token either.
// outstanding: requests per token, by the keystore's numbers; NULL: all equal.
unsigned core_lane(const struct core *core, const char *peer, struct bytes frame,
                   const unsigned *outstanding);

// May the holder of this CURVE key (Z85) connect: is it a client's at this moment?
bool core_is_client(const struct core *core, const char *public_key);
// It was not, and is turned away: a line in the audit log, or one more in a count.
void core_tell_stranger(const struct core *core, const char *public_key);

// The reply to a frame that core_handle does not get to see, or not in time. Puts nothing if memory
// is short.
void core_refuse(struct bytes frame, enum err class, struct buf *reply);
// And its line in the log, under the request's id as the others.
void core_log_refusal(const struct core *core, const char *peer, struct bytes frame, enum err class,
                      const char *reason);

// Writes down how many refusals were not written down one by one, of clients whose time is over
// (REFUSALS_ALL: of all). To be called now and then, and at the end.
void core_tell_refusals(const struct core *core, deadline_t now);
