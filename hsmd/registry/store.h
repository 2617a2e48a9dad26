// SPDX-License-Identifier: Apache-2.0
// What hsmd knows for good: keys and where they are, certificates, clients, grants, officers,
// proposals and their signatures, in one SQLite file of the state directory. The running daemon
// answers from a struct registry made from it (registry_store.h).
//
// One thread at a time (the callers lock). Writes are between store_begin and store_commit; outside
// of it each is a transaction of its own. ERR_TEMP: disk full, locked, out of memory; ERR_PERM:
// what is asked for does not fit (a duplicate, a reference to what is not there), or the file is
// none of ours, damaged, or of a later version: the detail says which.
#pragma once

#include <stdint.h>

#include "hsmd/base/buf.h"
#include "hsmd/base/clock.h"
#include "hsmd/base/curve.h"
#include "hsmd/base/err.h"
#include "hsmd/base/text.h"
#include "hsmd/officers/act.h"
#include "hsmd/officers/statement.h"
#include "hsmd/registry/budget.h"
#include "hsmd/wire/wire.h"

#define STORE_FILE "registry.db" // in the state directory

struct store;

// Makes the file (mode 0600) and its tables if it is not there. Looks whether it is whole
// (PRAGMA quick_check, foreign_key_check). WAL is off: one file that can be copied while hsmd
// stands. The file is locked until store_close; ERR_TEMP: another process has it. Made by root, it
// belongs to whom the directory belongs to.
enum err store_open(const char *path, struct store **store, struct detail *detail);
void store_close(struct store *store); // rolls back; NULL is fine

enum err store_begin(struct store *store, struct detail *detail); // IMMEDIATE
enum err store_commit(struct store *store, struct detail *detail);
void store_rollback(struct store *store); // does nothing outside of a transaction

// Random, made with the file, never changed.
const uint8_t *store_instance(const struct store *store); // STATEMENT_INSTANCE_SIZE bytes
enum err store_get_quorum(struct store *store, unsigned *quorum, struct detail *detail); // 0: unset
enum err store_set_quorum(struct store *store, unsigned quorum, struct detail *detail);

struct store_place {
    char token[TEXT_NAME_MAX + 1]; // of hsmd.conf
    char label[129];
    uint8_t id[64];
    size_t id_len;
};
#define STORE_PLACES_MAX 8 // tokens of one key

struct store_key {
    char name[TEXT_NAME_MAX + 1];
    enum wire_purpose purpose;
    enum wire_state state;
    uint64_t algorithms;
    struct budget_limits limits;
    struct bytes public_key;   // SubjectPublicKeyInfo; empty: not seen yet (migrated, token locked)
    struct bytes certificates; // may be empty
    char created[CLOCK_STAMP_SIZE];
    struct store_place places[STORE_PLACES_MAX];
    size_t place_count;
    bool is_destroyed; // kept so that its name is not used again; no grants, no places
};

struct store_client {
    char name[TEXT_NAME_MAX + 1];
    char public_key[CURVE_TEXT_SIZE];
    char created[CLOCK_STAMP_SIZE];
};

struct store_grant {
    char client[TEXT_NAME_MAX + 1];
    char key[TEXT_NAME_MAX + 1];
    uint64_t operations;
    uint64_t algorithms;
    struct budget_limits limits;
};

struct store_officer {
    char name[TEXT_NAME_MAX + 1];
    enum officer_role role;
    uint8_t signing_key[OFFICER_SIGNING_KEY_SIZE];
    char curve_key[CURVE_TEXT_SIZE];
    char created[CLOCK_STAMP_SIZE];
};

// X(symbol, name)
#define STORE_PROPOSAL_STATES(X)                                                             \
    X(PROPOSAL_PENDING, "pending")                                                           \
    X(PROPOSAL_DONE, "done")         /* carried out */                                       \
    X(PROPOSAL_FAILED, "failed")     /* agreed on, and could not be carried out */           \
    X(PROPOSAL_REJECTED, "rejected") /* a quorum cannot be reached any more, or withdrawn */ \
    X(PROPOSAL_LAPSED, "lapsed")

enum store_proposal_state {
#define X(symbol, name) symbol,
    STORE_PROPOSAL_STATES(X)
#undef X
};
const char *store_proposal_state_name(enum store_proposal_state state);

struct store_proposal {
    uint64_t number; // from 1; given by store_add_proposal
    enum store_proposal_state state;
    struct statement statement; // as signed
    struct bytes signature;     // the proposer's
    int64_t lapses;             // seconds since 1970; read: no later than was signed
    char created[CLOCK_STAMP_SIZE];
    char ended[CLOCK_STAMP_SIZE]; // "" while pending
    struct bytes result; // JSON text: what came of it ({"pem":"..."}, {"err":"..."}), or empty
};

struct store_verdict {
    uint64_t number;
    char officer[TEXT_NAME_MAX + 1];
    bool is_approval;
    uint8_t signature[STATEMENT_SIGNATURE_SIZE];
    char created[CLOCK_STAMP_SIZE];
};

// Each calls see with every item (of a name or number, if one is given: NULL or 0 for all), in the
// order of names or numbers; what it is given lives until it returns. Ends early with what see
// returns if that is not ERR_OK. Nothing found is ERR_OK. see may read the store; it changes it
// only if it then ends the walk.
typedef enum err (*store_see_key)(void *context, const struct store_key *key);
typedef enum err (*store_see_client)(void *context, const struct store_client *client);
typedef enum err (*store_see_grant)(void *context, const struct store_grant *grant);
typedef enum err (*store_see_officer)(void *context, const struct store_officer *officer);
typedef enum err (*store_see_proposal)(void *context, const struct store_proposal *proposal);
typedef enum err (*store_see_verdict)(void *context, const struct store_verdict *verdict);
enum err store_each_key(struct store *store, const char *name, store_see_key see, void *context,
                        struct detail *detail);
enum err store_each_client(struct store *store, const char *name, store_see_client see,
                           void *context, struct detail *detail);
enum err store_each_grant(struct store *store, const char *client, const char *key,
                          store_see_grant see, void *context, struct detail *detail);
enum err store_each_officer(struct store *store, const char *name, store_see_officer see,
                            void *context, struct detail *detail);
enum err store_each_proposal(struct store *store, uint64_t number, bool pending_only,
                             store_see_proposal see, void *context, struct detail *detail);
enum err store_each_verdict(struct store *store, uint64_t number, store_see_verdict see,
                            void *context, struct detail *detail);

// SHA-256 of what the registry says of officers, quorum, clients, grants, keys and locked tokens,
// and, in a transaction, will say when it is committed; see store_digest.c.
#define STORE_DIGEST_SIZE 32
enum err store_digest(struct store *store, uint8_t digest[STORE_DIGEST_SIZE],
                      struct detail *detail);

// Have officers locked the token (name of a section of hsmd.conf), and not unlocked it since?
enum err store_is_locked(struct store *store, const char *token, bool *is_locked,
                         struct detail *detail);
enum err store_set_locked(struct store *store, const char *token, bool is_locked,
                          struct detail *detail);

// New ones (created is filled in), and changes by name. ERR_PERM: there is one of that name (or, of
// clients and officers, of that public key: neither may share one with the other kind either).
enum err store_add_key(struct store *store, const struct store_key *key, struct detail *detail);
enum err store_set_key(struct store *store, const struct store_key *key, struct detail *detail);
// Marks it destroyed, and drops its places and grants.
enum err store_drop_key(struct store *store, const char *name, struct detail *detail);
enum err store_add_client(struct store *store, const struct store_client *client,
                          struct detail *detail);
enum err store_drop_client(struct store *store, const char *name, struct detail *detail);
// Of one client, key, set of operations and set of algorithms there is one: the limits of an equal
// one are replaced.
enum err store_put_grant(struct store *store, const struct store_grant *grant,
                         struct detail *detail);
enum err store_drop_grants(struct store *store, const char *client, const char *key,
                           struct detail *detail); // ERR_PERM: there are none
enum err store_add_officer(struct store *store, const struct store_officer *officer,
                           struct detail *detail);
// And what she has signed of proposals that are pending, lest it count when she comes back.
enum err store_drop_officer(struct store *store, const char *name, struct detail *detail);

// statement.instance is store_instance's. ERR_PERM: the nonce was seen before (ever).
enum err store_add_proposal(struct store *store, const struct store_proposal *proposal,
                            uint64_t *number, struct detail *detail);
// Puts another statement, signature and time of lapse in the place of those that are there, and
// drops all verdicts.
enum err store_change_proposal(struct store *store, const struct store_proposal *proposal,
                               struct detail *detail);
enum err store_last_proposal(struct store *store, uint64_t *number,
                             struct detail *detail); // 0: none
enum err store_end_proposal(struct store *store, uint64_t number, enum store_proposal_state state,
                            struct bytes result, struct detail *detail);
// Drops the act of a proposal that has ended (its statement then has none). ERR_PERM: it is
// pending.
enum err store_forget_act(struct store *store, uint64_t number, struct detail *detail);
// One an officer and proposal: a later one replaces the former.
enum err store_put_verdict(struct store *store, const struct store_verdict *verdict,
                           struct detail *detail);
