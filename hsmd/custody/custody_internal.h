// SPDX-License-Identifier: Apache-2.0
// What the files of custody share.
//
// Two locks. "store" is held while the connection to SQLite is used, never while a token works, so
// that a token that hangs stops neither reads nor the acts that need no token. Transactions are
// begun and ended under one hold of it. "bindings" is held for a look at the list of bound keys,
// and nothing is called under it.
//
// A proposal that is being carried out is in the list of carried ones, from the hold of "store" in
// which its signatures were counted to that in which it ended: meanwhile nobody else carries it
// out, changes it or lets it lapse. Of acts that have work in a token one is carried out at a time,
// so that what it looked up of keys and places stays as it was; states, limits and certificates of
// its key may change meanwhile, and are read anew in the transaction. Locking a token waits for
// none of them.
#pragma once

#include <jansson.h>
#include <pthread.h>

#include "hsmd/custody/attachments.h"
#include "hsmd/custody/custody.h"
#include "hsmd/custody/proposal.h"
#include "hsmd/registry/window.h"
#include "hsmd/refusals.h"

// Of each officer, so that nobody can shut the others out.
#define CUSTODY_PENDING_MAX 16 // proposals that wait
#define CUSTODY_SIGNATURES_AN_HOUR 240
#define CUSTODY_RATES_MAX (2 * CUSTODY_OFFICERS_MAX) // with those removed within the hour
#define CUSTODY_CARRYING_MAX 32
#define CUSTODY_UNDO_MS 10000 // for a token to take back what it did

// A key of the store and the keystore's key for it; behind "bindings".
struct bound {
    char name[TEXT_NAME_MAX + 1];
    struct keystore_key *key;
};

// A proposal that is being carried out.
struct carried {
    uint64_t number; // 0: none
    enum act_kind kind;
    bool is_in_token;             // has work in a token
    char name[TEXT_NAME_MAX + 1]; // what the act is about
};

// How often an officer has signed.
struct rate {
    char officer[TEXT_NAME_MAX + 1]; // "": none
    struct window window;
};

struct custody {
    struct custody_conf conf;
    pthread_mutex_t store;
    struct attachments attachments;                // behind store
    struct carried carrying[CUSTODY_CARRYING_MAX]; // as above
    struct rate rates[CUSTODY_RATES_MAX];          // as above
    unsigned signatures_an_hour;                   // 0: no limit
    pthread_mutex_t bindings;
    struct bound *bound;
    size_t bound_count;
    struct refusals *refusals;
    char started[CLOCK_STAMP_SIZE];
    int64_t (*now)(void); // seconds since 1970; for tests
};

// A request on its way.
struct call {
    struct custody *custody;
    const char *peer;
    deadline_t deadline;
    struct store_officer officer;
    struct message_request request;
    struct buf body;
    bool is_carried; // an act failed that has its own line in the audit log
    struct detail detail;
};

// custody.c
// Only under "store".
enum err custody_find_officer(struct custody *custody, const char *curve_key,
                              struct store_officer *officer, struct detail *detail);
// Only under "store": a line about a proposal. what: its summary is made here. officer: NULL: none.
enum err custody_tell(struct custody *custody, enum audit_event event, const char *officer,
                      uint64_t number, struct bytes act, const char *result, const char *reason,
                      struct detail *detail);

// founding.c: the first officers and the quorum of hsmd.conf.
enum err custody_found(struct custody *custody, struct detail *detail);

// changes.c: propose, approve, reject. Take the lock.
enum err custody_propose(struct call *call);
enum err custody_give_verdict(struct call *call, bool is_approval);
// Under "store".
enum err custody_lapse(struct custody *custody, struct detail *detail);

// forget.c, under "store". In a transaction: ends a proposal that was never carried out; of its act
// only digest and summary stay, in its result.
enum err custody_end_and_forget(struct custody *custody, const struct proposal *proposal,
                                enum store_proposal_state state, const char *why,
                                struct detail *detail);
// is_counted: one more proposal or verdict was recorded; else ERR_TEMP: the hour's are used up.
enum err custody_check_rate(struct custody *custody, const char *officer, bool is_counted,
                            struct detail *detail);

// carry.c: carries a proposal out whose quorum is reached. Not under "store". ERR_TEMP, and it
// waits: another one is at work in a token.
enum err custody_carry(struct call *call, uint64_t number);
// Under "store". number 0: any; kind 0: any; name: NULL: any.
bool custody_is_carrying(const struct custody *custody, uint64_t number, enum act_kind kind,
                         const char *name);
// Would it do, as far as can be told now? Under "store". attachment may be empty, if it has none.
enum err custody_check_act(struct call *call, struct bytes act, struct bytes attachment);

// bind.c. Not under "bindings".
enum err custody_bind_all(struct custody *custody, struct detail *detail);
// Has the keystore know the key as it stands there, and remembers it. The token may be asked.
enum err custody_bind(struct custody *custody, const struct store_key *key, struct detail *detail);
struct keystore_key *custody_bound(struct custody *custody, const char *name); // NULL: none
void custody_unbind(struct custody *custody, const char *name);
// Under "store": a registry of what is in the store, with keys bound before.
enum err custody_make_registry(struct custody *custody, struct registry **registry,
                               struct detail *detail);
// Under "store": public keys that were not known yet, of keys that are open by now.
enum err custody_pin(struct custody *custody, struct detail *detail);

// reads.c and others: append JSON (or the log) to call->body.
enum err custody_read(struct call *call);
