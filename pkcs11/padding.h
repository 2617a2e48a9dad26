// SPDX-License-Identifier: Apache-2.0
// RSA paddings: taken off without telling how they looked, and put on where a token offers only the
// raw operation. In the padding_remove functions no branch, index or loop bound depends on the
// plaintext. Pure functions (but for the salt of PSS).
#pragma once

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"
#include "hsmd/base/hash.h"
#include "hsmd/base/secret.h"

#define PADDING_SEED_SIZE 32
#define PADDING_BLOCK_MAX 2048 // bytes of a modulus: RSA-16384

// PKCS#1 v1.5, type 2 (RFC 8017, 7.2.2) with implicit rejection. block: the raw RSA result, as long
// as the modulus (64 to PADDING_BLOCK_MAX bytes), not in out. seed: a secret of this key and
// ciphertext, from which the synthetic message is made. length: bytes expected, or 0. out: room for
// the block. Never fails for what is in the block; ERR_PERM: length cannot be had with such a
// block; ERR_TEMP or ERR_BUG for causes that have nothing to do with the block's content.
enum err padding_remove_pkcs1(struct bytes block, const uint8_t seed[PADDING_SEED_SIZE],
                              size_t length, struct secret *out);

// Gives the answer of a token that takes the padding off by itself the form of a raw block, so that
// padding_remove_pkcs1 treats success and failure alike. block: size bytes that start with the
// message of len bytes; is_bad: the token reported a failure (block and len are ignored then).
void padding_rebuild_pkcs1(uint8_t *block, size_t size, size_t len, bool is_bad);

// The seed from a secret of the key and the ciphertext: HMAC-SHA256(key_secret, ciphertext).
enum err padding_seed(const uint8_t key_secret[PADDING_SEED_SIZE], struct bytes ciphertext,
                      uint8_t seed[PADDING_SEED_SIZE]);

// OAEP (RFC 8017, 7.1.2, step 3). ERR_PERM, one and the same, for every way of being wrong. block
// and out as above.
enum err padding_remove_oaep(struct bytes block, enum hash hash, enum hash mgf_hash,
                             struct bytes label, struct secret *out);

// EMSA-PKCS1-v1_5 (RFC 8017, 9.2) of DigestInfo = prefix || digest into block of size bytes.
// ERR_PERM: the modulus is too short.
enum err padding_add_pkcs1(struct bytes prefix, struct bytes digest, uint8_t *block, size_t size);

// EMSA-PSS (RFC 8017, 9.1.1), MGF1 with the same hash, into block: (bits + 7) / 8 bytes, bits those
// of the modulus. ERR_PERM: the modulus is too short.
enum err padding_add_pss(enum hash hash, unsigned salt, struct bytes digest, unsigned bits,
                         uint8_t *block);

// XORs MGF1 (RFC 8017, B.2.1) of seed into data.
enum err padding_mgf1_xor(enum hash hash, struct bytes seed, uint8_t *data, size_t len);
