// SPDX-License-Identifier: Apache-2.0
// Who may do what with which key: the one seam between the custodian's core and wherever keys,
// clients and grants are kept.
//
// A registry is filled (registry_add_*), and from then on only read, by any number of threads.
// Whoever fills it from a changing store makes a new one and swaps it in: what is looked up in one
// registry fits together, and lives as long as it does. Deny by default: what no grant allows is
// refused.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "hsmd/base/buf.h"
#include "hsmd/base/curve.h"
#include "hsmd/base/err.h"
#include "hsmd/base/text.h"
#include "hsmd/wire/wire.h"

#define REGISTRY_PUBLIC_KEY_SIZE CURVE_TEXT_SIZE

// Sets of operations and of algorithms: bit n stands for the wire's number n.
#define REGISTRY_SET(number) (UINT64_C(1) << (number))
#define REGISTRY_ALL UINT64_MAX

struct keystore_key;
struct budget;

struct registry_key {
    char name[TEXT_NAME_MAX + 1];
    enum wire_purpose purpose;
    enum wire_state state;
    uint64_t algorithms;        // set; what the purpose and the type rule out stays ruled out
    struct bytes certificates;  // DER one after the other, the key's own first; or empty
    struct keystore_key *store; // borrowed; NULL: in no keystore
    struct budget *budget;      // borrowed; NULL: no limits
};

struct registry_client {
    char name[TEXT_NAME_MAX + 1];
    char public_key[REGISTRY_PUBLIC_KEY_SIZE];
};

struct registry;

enum err registry_new(struct registry **registry);
// One owner less; the last one frees it. Thread-safe; NULL is fine.
void registry_free(struct registry *registry);
// One owner more, by somebody who is one. Thread-safe.
void registry_keep(struct registry *registry);

// Filling. Each copies what it is given. ERR_PERM: no name, no key, a duplicate, a reference to
// what is not there; ERR_TEMP: out of memory.
enum err registry_add_key(struct registry *registry, const struct registry_key *key,
                          struct detail *detail);
enum err registry_add_client(struct registry *registry, const struct registry_client *client,
                             struct detail *detail);
// Several grants of one client and key add up. ERR_PERM: nobody has a grant for a key of purpose
// audit. budget: its own, borrowed; NULL: no limits.
enum err registry_add_grant(struct registry *registry, const char *client, const char *key,
                            uint64_t operations, uint64_t algorithms, struct budget *budget,
                            struct detail *detail);

// Looking up. NULL: no such one.
const struct registry_client *registry_client_by_public_key(const struct registry *registry,
                                                            const char *public_key);
const struct registry_key *registry_key_by_name(const struct registry *registry, struct bytes name);
// All of them, in the order of their names; NULL past the last.
const struct registry_key *registry_key_at(const struct registry *registry, size_t index);
// The key that signs the audit log: of the enabled ones of purpose audit the first by name.
const struct registry_key *registry_audit_key(const struct registry *registry);

// May this client have this operation with this algorithm done with this key? ERR_DENIED: no.
// For WIRE_DESCRIBE the algorithm is not looked at, and any grant will do.
enum err registry_authorise(const struct registry *registry, const struct registry_client *client,
                            const struct registry_key *key, enum wire_operation operation,
                            enum wire_algorithm algorithm);

// The budgets of the grants by which registry_authorise says yes: whichever of them has room will
// do. How many; 0: one of the grants has no limits. Those over max are left out.
unsigned registry_budgets(const struct registry *registry, const struct registry_client *client,
                          const struct registry_key *key, enum wire_operation operation,
                          enum wire_algorithm algorithm, struct budget **budgets, unsigned max);

// Names of keys the client has any grant for, in byte order, greater than after; how many.
size_t registry_list(const struct registry *registry, const struct registry_client *client,
                     struct bytes after, struct bytes *names, size_t max);
