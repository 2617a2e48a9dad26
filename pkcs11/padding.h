// SPDX-License-Identifier: Apache-2.0
// RSA paddings taken off without telling how they looked: no branch, index or loop bound depends on
// the plaintext. Pure functions; used after a raw RSA operation, and to make any failure of a token
// look alike.
#pragma once

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"
#include "hsmd/base/hash.h"
#include "hsmd/base/secret.h"

#define PADDING_SEED_SIZE 32

// PKCS#1 v1.5, type 2 (RFC 8017, 7.2.2) with implicit rejection. block: the raw RSA result, as long
// as the modulus (at least 64 bytes). seed: a secret of this key and ciphertext, from which the
// synthetic message is made. length: bytes expected, or 0. Never fails; ERR_TEMP or ERR_BUG only
// for causes that have nothing to do with the block's content.
enum err padding_remove_pkcs1(struct bytes block, const uint8_t seed[PADDING_SEED_SIZE],
                              size_t length, struct secret *out);

// The seed from a secret of the key and the ciphertext: HMAC-SHA256(key_secret, ciphertext).
enum err padding_seed(const uint8_t key_secret[PADDING_SEED_SIZE], struct bytes ciphertext,
                      uint8_t seed[PADDING_SEED_SIZE]);

// OAEP (RFC 8017, 7.1.2, step 3). ERR_PERM, one and the same, for every way of being wrong.
enum err padding_remove_oaep(struct bytes block, enum hash hash, enum hash mgf_hash,
                             struct bytes label, struct secret *out);
