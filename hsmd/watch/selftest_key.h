// SPDX-License-Identifier: Apache-2.0
// Does a key still do what it is for? One use of it whose right result is known.
//
// Signing: the digest of a fixed text (selftest_text), verified with the public half. hsmd never
// signs blind (promise 4), and this does not bend it: the text is ours, no caller has a say in it,
// and the signature is forgotten here. Were it to leak, it would be good for nothing: the text does
// not begin with the tag of a SET, so its digest is that of no SignedAttributes, and as the
// signature of a message without attributes (RFC 5652, 5.4) it would be of a message that says of
// itself what it is.
//
// Decrypting: a random secret, encrypted here with the public half. Agreeing: with a key pair of
// the moment.
#pragma once

#include "hsmd/keystore/keystore.h"
#include "hsmd/registry/registry.h"

#define SELFTEST_SECRET_MAX 2048

struct selftest_outcome {
    enum wire_operation operation;
    enum wire_algorithm algorithm;
    enum hash hash;
    uint8_t digest[HASH_SIZE_MAX]; // that was signed, with operation WIRE_SIGN
};

extern const char selftest_text[];

// The key is enabled and bound. scratch: room for SELFTEST_SECRET_MAX bytes, wiped afterwards.
// What was tried is in outcome whatever comes of it. ERR_PERM: a wrong result, or as the keystore.
enum err selftest_key(const struct keystore_ops *keystore, const struct registry_key *key,
                      deadline_t deadline, struct secret *scratch, struct selftest_outcome *outcome,
                      struct detail *detail);
