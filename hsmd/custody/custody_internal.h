// SPDX-License-Identifier: Apache-2.0
// What the files of custody share.
//
// Two locks. "act" is held from the beginning of a change to its end, however long a token takes,
// so that changes come one after the other. "store" is held while the connection to SQLite is used,
// never while a token works, so that reads are answered meanwhile; whoever wants both takes act
// first. Transactions are begun and ended under one hold of "store".
#pragma once

#include <jansson.h>
#include <pthread.h>

#include "hsmd/custody/attachments.h"
#include "hsmd/custody/custody.h"
#include "hsmd/custody/proposal.h"
#include "hsmd/refusals.h"

// Of each officer, so that nobody can shut the others out.
#define CUSTODY_PENDING_MAX 16 // proposals that wait
#define CUSTODY_UNDO_MS 10000  // for a token to take back what it did

// A key of the store and the keystore's key for it; behind the lock of acts.
struct bound {
    char name[TEXT_NAME_MAX + 1];
    struct keystore_key *key;
};

struct custody {
    struct custody_conf conf;
    pthread_mutex_t act;
    pthread_mutex_t store;
    struct attachments attachments; // behind store
    uint64_t carrying;              // number of the proposal that is being carried out; as above
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
enum err custody_find_officer(struct custody *custody, const char *curve_key,
                              struct store_officer *officer, struct detail *detail);
// Only under "store": a line about a proposal. what: its summary is made here. officer: NULL: none.
enum err custody_tell(struct custody *custody, enum audit_event event, const char *officer,
                      uint64_t number, struct bytes act, const char *result, const char *reason,
                      struct detail *detail);

// founding.c: the first officers and the quorum of hsmd.conf.
enum err custody_found(struct custody *custody, struct detail *detail);

// changes.c: propose, approve, reject. Take the locks.
enum err custody_propose(struct call *call);
enum err custody_give_verdict(struct call *call, bool is_approval);
// Under "store".
enum err custody_lapse(struct custody *custody, struct detail *detail);

// carry.c: carries a proposal out whose quorum is reached. Under "act", not under "store".
enum err custody_carry(struct call *call, uint64_t number);
// Would it do, as far as can be told now? Under "store". attachment may be empty, if it has none.
enum err custody_check_act(struct call *call, struct bytes act, struct bytes attachment);

// bind.c. Under "act".
enum err custody_bind_all(struct custody *custody, struct detail *detail);
// Has the keystore know the key as it stands there, and remembers it. The token may be asked.
enum err custody_bind(struct custody *custody, const struct store_key *key, struct detail *detail);
struct keystore_key *custody_bound(struct custody *custody, const char *name); // NULL: none
void custody_unbind(struct custody *custody, const char *name);
// Under "store" too: a registry of what is in the store, with keys bound before.
enum err custody_make_registry(struct custody *custody, struct registry **registry,
                               struct detail *detail);
// Under "store": public keys that were not known yet, of keys that are open by now.
enum err custody_pin(struct custody *custody, struct detail *detail);

// reads.c and others: append JSON (or the log) to call->body.
enum err custody_read(struct call *call);
