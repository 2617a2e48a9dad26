// SPDX-License-Identifier: Apache-2.0
// The hash functions S/MIME uses, as one table.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"

// The numbers are those of the wire (hsmd-protocol(7)) and never change.
#define HASH_TABLE(X)               \
    X(HASH_NONE, 0, "none", 0)      \
    X(HASH_SHA1, 1, "sha1", 20)     \
    X(HASH_SHA224, 2, "sha224", 28) \
    X(HASH_SHA256, 3, "sha256", 32) \
    X(HASH_SHA384, 4, "sha384", 48) \
    X(HASH_SHA512, 5, "sha512", 64)

enum hash {
#define X(symbol, number, name, size) symbol = (number),
    HASH_TABLE(X)
#undef X
        HASH_COUNT
};

#define HASH_SIZE_MAX 64

const char *hash_name(enum hash hash);    // "sha256"; also OpenSSL's name of it
size_t hash_size(enum hash hash);         // bytes of a digest
enum hash hash_by_name(const char *name); // any of OpenSSL's spellings; HASH_NONE: unknown
enum hash hash_by_size(size_t size);      // HASH_NONE: no such
// DER of the DigestInfo (RFC 8017, 9.2) in front of the digest itself; empty for HASH_NONE.
struct bytes hash_digest_info_prefix(enum hash hash);

// With the default library context's algorithms, which are kept until the process ends: not for
// hsmd.so, which may be unloaded before. out: HASH_SIZE_MAX bytes. ERR_BUG: HASH_NONE; ERR_TEMP:
// out of memory.
enum err hash_digest(enum hash hash, struct bytes data, uint8_t *out);
