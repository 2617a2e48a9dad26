// SPDX-License-Identifier: Apache-2.0
// Officers round a custodian, for tests: a real store and a real audit log in a temporary
// directory, tokens in memory that can be made to fail, and officers who sign what they say.
// Exits the test if something of the fixture is wrong.
#pragma once

#include <jansson.h>

#include "hsmd/custody/custody_internal.h"
#include "hsmd/officers/keyfile.h"

enum council_member {
    COUNCIL_ALICE, // officers
    COUNCIL_BOB,
    COUNCIL_CAROL,
    COUNCIL_AUDITOR,
    COUNCIL_STRANGER, // in no store
    COUNCIL_MEMBERS
};
extern const char *const council_names[COUNCIL_MEMBERS];

#define COUNCIL_TOKENS 2 // "main" and "spare"; their PIN is "1234"
#define COUNCIL_OBJECTS 32

struct council_object {
    bool is_there;
    unsigned token;
    char label[129];
    uint8_t id[64];
    size_t id_len;
    struct keystore_key *key;
};

// What the tokens do.
struct council_tokens {
    struct council_object objects[COUNCIL_OBJECTS];
    bool is_locked[COUNCIL_TOKENS];
    bool is_away[COUNCIL_TOKENS];  // every call is ERR_TEMP
    bool is_stuck[COUNCIL_TOKENS]; // destroy is ERR_TEMP
    unsigned pins_tried;
    // generate waits until the test lets it go (council_tokens_hang).
    pthread_mutex_t lock;
    pthread_cond_t change;
    bool is_hanging;
    bool is_in_call;
};

struct council {
    char dir[64];
    char store_path[96];
    char audit_path[96];
    struct config config;
    struct config_token config_tokens[COUNCIL_TOKENS];
    struct config_officer config_officers[COUNCIL_AUDITOR + 1];
    struct council_tokens tokens;
    const struct custody_token_ops *ops; // other tokens in their place; NULL: those
    struct keystore *keystore;           // of ops
    struct store *store;
    struct live *live;
    struct budgets *budgets;
    struct metrics *metrics;
    struct audit *audit;
    struct core core;
    struct status status; // of tokens: those of keystore alone
    struct custody *custody;
    struct detail detail; // of the last answer
};

void council_setup(struct council *council, unsigned quorum);
void council_teardown(struct council *council);
// Ends custody and store and opens them again, as hsmd started anew.
void council_restart(struct council *council);
enum err council_open(struct council *council); // custody alone: detail says why not
const struct officer_key *council_key(enum council_member member);

// One frame through custody_handle. False: no answer. body: the JSON of the answer, the caller's;
// NULL: none.
bool council_send(struct council *council, enum council_member member, struct bytes frame,
                  enum err *class, json_t **body);
enum err council_request(struct council *council, enum council_member member,
                         const struct message_request *request, json_t **body);

// A proposal, signed by signer, sent by sender; number: its own (may be NULL).
struct council_proposal {
    const struct act *act;
    const char *attachment; // or NULL
    struct bytes attached;  // in its place
    uint64_t replaces;
    uint64_t lapse; // seconds from now; 0: an hour
    uint8_t nonce[STATEMENT_NONCE_SIZE];
    bool has_nonce; // else a new one
};
enum err council_propose(struct council *council, enum council_member member, const struct act *act,
                         uint64_t *number);
enum err council_propose_as(struct council *council, enum council_member sender,
                            enum council_member signer, const struct council_proposal *proposal,
                            uint64_t *number, json_t **body);
enum err council_approve(struct council *council, enum council_member member, uint64_t number);
enum err council_reject(struct council *council, enum council_member member, uint64_t number);
// Proposed by alice and approved by bob; the class of the act.
enum err council_do(struct council *council, const struct act *act);
enum err council_do_with(struct council *council, const struct act *act, const char *attachment,
                         json_t **result);

// An answer to a read; the caller's. NULL: refused.
json_t *council_read(struct council *council, enum council_member member, enum message_read what,
                     const char *argument);
const char *council_state(struct council *council, uint64_t number); // of a proposal
unsigned council_objects(const struct council *council);             // in all tokens
// Frees the keys of objects that were destroyed: nobody uses them any more.
void council_tokens_forget(struct council *council);
// How many lines of the audit log have this text.
unsigned council_lines(const struct council *council, const char *text);
// All rows of the store, as one hash.
void council_store_hash(struct council *council, uint8_t hash[HASH_SIZE_MAX]);
// Changes the store behind custody's back.
void council_tamper(struct council *council, const char *sql);
