// SPDX-License-Identifier: Apache-2.0
// DER of the AlgorithmIdentifier of a signature, as certificates and CMS carry it.
#pragma once

#include <openssl/x509.h>

#include "hsmd/base/hash.h"
#include "hsmd/wire/wire.h"

#define ALGID_SIZE_MAX 128

// algorithm: WIRE_RSA_PKCS1, WIRE_RSA_PSS (MGF1 with the same hash, salt bytes of salt; RFC 4055)
// WIRE_ECDSA or, with any hash, WIRE_EDDSA. out: ALGID_SIZE_MAX bytes. ERR_PERM: no such
// combination.
enum err algid_encode(enum wire_algorithm algorithm, enum hash hash, unsigned salt, uint8_t *out,
                      size_t *len);
