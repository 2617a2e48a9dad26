// SPDX-License-Identifier: Apache-2.0
// A key as OpenSSL's key management sees it: the public half as an EVP_PKEY of the provider's
// private library context, the private half as a name in hsmd.
//
// A key with a name comes out of hsmd and never changes. A key without one is a public key, or only
// a curve, that OpenSSL handed over: a peer in ECDH, or a certificate's key to compare with. Such a
// one is put together by one thread before anyone else sees it. Counted; thread-safe otherwise.
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/evp.h>

#include "providers/provider.h"

struct key {
    atomic_uint users;
    struct provider *prov;
    enum wire_key_type type;
    EVP_PKEY *public_half; // NULL: nothing yet; of EC perhaps a curve without a point
    bool has_point;        // public_half holds a public key, not only a curve

    char *name; // NULL: no private half
    enum wire_purpose purpose;
    enum wire_state state; // when it was fetched
    uint8_t *certificates; // DER, one after the other
    size_t certificates_len;
};

// What the store hands to libcrypto and libcrypto to keymgmt_load; the store holds the key
// meanwhile.
struct key_reference {
    struct key *key;
};

// NULL: out of memory, which is raised.
struct key *key_new(struct provider *prov, enum wire_key_type type);
// Asks hsmd to describe the key. NULL: failed, which is raised.
struct key *key_fetch(struct provider *prov, const char *name);
// A copy of its own: selection is OSSL_KEYMGMT_SELECT_*. NULL: failed, raised.
struct key *key_dup(const struct key *key, int selection);

struct key *key_hold(struct key *key); // one more user; returns key; NULL is fine
void key_free(struct key *key);        // one less; NULL is fine

const char *key_type_name(enum wire_key_type type); // "RSA", "EC", "ED25519"
unsigned key_bits(const struct key *key);
// Bytes of the longest signature or, for RSA, of the modulus; 0 without a public key.
size_t key_size(const struct key *key);

// A context of the private library for the public half. NULL: failed, raised.
EVP_PKEY_CTX *key_public_context(const struct key *key);

// True if the key has a private half, of one of the two purposes; else false, and raised: "with
// such a key one does not VERB".
bool key_check_use(const struct key *key, enum wire_purpose purpose, const char *verb);
