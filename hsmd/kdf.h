// SPDX-License-Identifier: Apache-2.0
// The key derivation of ECDH in CMS (RFC 5753, 7.2), so that the shared secret stays in hsmd.
#pragma once

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"
#include "hsmd/base/hash.h"
#include "hsmd/base/secret.h"

// ANSI-X9.63-KDF (SEC 1, 3.6.1) of z with SharedInfo info: length bytes into out, replacing its
// content. ERR_PERM: length 0 or over out's room, or HASH_NONE; ERR_TEMP: out of memory.
enum err kdf_x963(enum hash hash, struct bytes z, struct bytes info, size_t length,
                  struct secret *out);
