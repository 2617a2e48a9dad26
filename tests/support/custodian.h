// SPDX-License-Identifier: Apache-2.0
// The custodian's core with keys in memory, for tests: keys of every type, purpose and state,
// clients with and without grants, an audit log in a temporary directory.
#pragma once

#include <stdio.h>

#include "hsmd/core.h"
#include "tests/support/memstore.h"

enum { CUSTODIAN_RSA, CUSTODIAN_EC, CUSTODIAN_ED25519, CUSTODIAN_TYPES };

enum custodian_client {
    CUSTODIAN_ALL,      // every operation with every key
    CUSTODIAN_SIGNER,   // sign with every key
    CUSTODIAN_OPENER,   // unwrap and agree with every key
    CUSTODIAN_PSS,      // sign, rsa-pss alone, with every key
    CUSTODIAN_ONE,      // all operations, with key rsa.smime-sign.enabled alone
    CUSTODIAN_NONE,     // known, without a grant
    CUSTODIAN_STRANGER, // in no registry
    CUSTODIAN_CLIENTS
};

struct custodian {
    char dir[64];
    char audit_path[96];
    struct keystore_key *stores[CUSTODIAN_TYPES]; // RSA-2048, P-256, Ed25519
    struct registry *registry;                    // the first one; live owns it
    struct live *live;
    struct audit *audit;
    struct core core;
    struct core_worker worker;
    char public_keys[CUSTODIAN_CLIENTS][REGISTRY_PUBLIC_KEY_SIZE];
    char secret_keys[CUSTODIAN_CLIENTS][REGISTRY_PUBLIC_KEY_SIZE];
};

// Exit the test if something is wrong. Keys are called TYPE.PURPOSE.STATE, as
// "rsa.smime-sign.enabled", "ec.general.retired"; and "rsa.listed" (general, rsa-pkcs1 and
// rsaes-oaep alone).
void custodian_setup(struct custodian *custodian);
void custodian_teardown(struct custodian *custodian);

// Puts the registry as it was at the beginning, with these changes, in the place of the present
// one. NULL and false: no change.
struct custodian_change {
    const char *revoked;   // the client of this public key is gone
    const char *ungranted; // nobody has a grant to sign with this key
    const char *disabled;  // this key is disabled
    bool has_stranger;     // CUSTODIAN_STRANGER is a client with every operation and key
};
void custodian_swap(struct custodian *custodian, const struct custodian_change *change);

const char *custodian_key_name(unsigned type, enum wire_purpose purpose, enum wire_state state,
                               char name[TEXT_NAME_MAX + 1]);

// One request through the core. False: no answer. The reply points into frame. What the wire does
// not even encode has that class.
bool custodian_call(struct custodian *custodian, enum custodian_client client,
                    const struct wire_request *request, struct wire_reply *reply,
                    struct buf *frame);

// Good SignedAttributes of now, with a message-digest as long as the hash; appended.
void custodian_attributes(enum hash hash, struct buf *out);

// Lines of the audit log; how many. The last one goes to last (may be NULL) without its line end.
unsigned custodian_audit_lines(const struct custodian *custodian, char *last, size_t size);
