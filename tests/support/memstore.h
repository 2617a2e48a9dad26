// SPDX-License-Identifier: Apache-2.0
// A keystore in memory, for tests of the custodian that need no token: OpenSSL's keys and our own
// unpadding. Thread-safe, as the real one.
#pragma once

#include <openssl/evp.h>

#include "hsmd/keystore/keystore.h"

extern const struct keystore_ops memstore_ops;

// Takes the key over. Exits the test if something is wrong.
struct keystore_key *memstore_key_new(EVP_PKEY *pkey);
struct keystore_key *memstore_key_generate(const char *kind); // "RSA-2048", "P-256", ...
void memstore_key_free(struct keystore_key *key);
EVP_PKEY *memstore_key_pkey(const struct keystore_key *key); // borrowed

// From now on each operation takes so long, and ends with err ("broken by the test") if it is not
// ERR_OK. May be called while others use the key.
void memstore_key_break(struct keystore_key *key, enum err err, unsigned delay_ms);

// Until it is let go, operations wait that have come as far as the store.
void memstore_key_hold(struct keystore_key *key, bool is_held);

// Operations of all keys so far that came as far as the store.
unsigned memstore_used(void);

// From now on it is this key (taken over; of the same type). Not while others use it.
void memstore_key_replace(struct keystore_key *key, EVP_PKEY *pkey);

// From now on unwrap takes block (borrowed; empty: no longer) for what RSA makes of any ciphertext,
// and spends no time on RSA. Not while others use the key.
void memstore_key_set_raw(struct keystore_key *key, struct bytes block);
