// SPDX-License-Identifier: Apache-2.0
// The officers' side of the custodian, as a function from request frame to reply frame: who asks,
// may they, is it signed, is there a quorum, do it, write it down, answer. No sockets here; any
// number of threads may be in custody_handle. Of acts that have work in a token one is done at a
// time, and meanwhile another is refused (ERR_TEMP) and waits; those that change the store alone,
// and locking a token, do not wait for a token that hangs.
//
// An act is carried out when as many officers as the quorum says have signed it, its proposer
// included and each counted once; signatures are verified anew at that moment, against the officers
// of that moment. What the act changes in the store is committed after its line is in the audit
// log; then the registry is swapped.
#pragma once

#include "hsmd/audit/audit.h"
#include "hsmd/audit/audit_checkpoint.h"
#include "hsmd/base/clock.h"
#include "hsmd/config.h"
#include "hsmd/custody/tokens.h"
#include "hsmd/officers/message.h"
#include "hsmd/registry/budget.h"
#include "hsmd/registry/live.h"
#include "hsmd/registry/store.h"
#include "hsmd/watch/metrics.h"
#include "hsmd/watch/status.h"

struct custody_conf {
    const struct config *config; // all borrowed
    struct store *store;         // custody's alone from now on
    struct live *live;
    const struct custody_token_ops *tokens; // custody_keystore_ops, but for tests
    struct keystore *keystore;
    struct budgets *budgets;
    struct audit *audit;
    struct metrics *metrics;
    const struct status *status; // for READ_STATUS
};

struct custody;

// Puts the first officers and the quorum of hsmd.conf into a store that has none (an audit line
// each), binds the keys, and makes the registry of the moment from the store. ERR_PERM: there are
// no officers and none configured is fine (the channel is then closed to all); a quorum of more
// than there are officers is not.
enum err custody_new(const struct custody_conf *conf, struct custody **custody,
                     struct detail *detail);
void custody_free(struct custody *custody);

// The four functions the server needs, in the terms of server.h.
bool custody_is_allowed(struct custody *custody, const char *public_key); // officer or auditor
unsigned custody_lane(struct custody *custody, const char *peer,
                      struct bytes frame); // 0 read, 1 act, 2 read of a token
// Workers of lane 1: so many that one is free for acts that need no token while all tokens hang.
unsigned custody_act_workers(const struct config *config);
bool custody_handle(struct custody *custody, const char *peer, struct bytes frame,
                    deadline_t deadline, struct buf *reply);
void custody_refuse(struct bytes frame, enum err class, const char *why, struct buf *reply);

// Ends proposals whose time is over, with a line in the audit log each; pins the public keys of
// keys that were seen for the first time; tells of refusals that were only counted. Every few
// seconds.
void custody_tick(struct custody *custody);
// Those of which a minute is over (REFUSALS_ALL: all); for the end, when nobody asks any more.
void custody_tell_refusals(struct custody *custody, deadline_t now);
