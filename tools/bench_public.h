// SPDX-License-Identifier: Apache-2.0
// The public half of the key that is measured, held by OpenSSL alone in a library context without
// any configuration: what is unwrapped is made with it, and what comes out is held against it.
#pragma once

#include <openssl/evp.h>

#include "tools/bench_half.h"

#define BENCH_BYTES_MAX 2048 // of a signature, a ciphertext, a modulus, a point
#define BENCH_DIGEST_SIZE 32 // of SHA-256, which every signature but Ed25519's is over

// NULL where the parts make no key; the caller frees it. Big-endian numbers; point: uncompressed,
// or of Ed25519 the 32 bytes; ec_params: CKA_EC_PARAMS, DER of a named curve.
EVP_PKEY *bench_public_rsa(const unsigned char *n, size_t n_len, const unsigned char *e,
                           size_t e_len);
EVP_PKEY *bench_public_ec(const unsigned char *ec_params, size_t params_len,
                          const unsigned char *point, size_t point_len);
EVP_PKEY *bench_public_ed25519(const unsigned char *point, size_t len);
// A copy of any key's public half, whichever provider has that key.
EVP_PKEY *bench_public_of(const EVP_PKEY *key);
EVP_PKEY *bench_public_of_hex(const char *spki);
// DER of SubjectPublicKeyInfo in hexadecimal, to be freed with OPENSSL_free; NULL: no memory.
char *bench_public_hex(const EVP_PKEY *key);

bool bench_public_is(const EVP_PKEY *key, const char *type); // "RSA", "EC", "ED25519"

// Sets the padding of an RSA operation; does nothing for other keys.
bool bench_set_padding(EVP_PKEY_CTX *context, enum bench_operation operation);
// Sets the KDF that CMS uses with ECDH (RFC 5753, 7.2): X9.63 with SHA-256, for BENCH_SECRET_SIZE.
bool bench_set_kdf(EVP_PKEY_CTX *context);

// Of unwrap and unwrap-oaep. len: the room in out, then what was written.
bool bench_public_encrypt(EVP_PKEY *key, enum bench_operation operation,
                          const unsigned char secret[BENCH_SECRET_SIZE], unsigned char *out,
                          size_t *len);
// Of sign and sign-pss. data: the digest, of Ed25519 the message; ECDSA's signature in DER.
bool bench_public_verify(EVP_PKEY *key, enum bench_operation operation, const unsigned char *data,
                         size_t data_len, const unsigned char *signature, size_t len);
// Of agree: a peer's key on the same curve; and what is agreed on with it, the x coordinate or what
// the KDF makes of it.
EVP_PKEY *bench_public_peer(EVP_PKEY *key);
bool bench_public_agree(EVP_PKEY *peer, EVP_PKEY *key, bool has_kdf, unsigned char *out,
                        size_t *len);
