// SPDX-License-Identifier: Apache-2.0
// A hsmd for the provider's tests: one thread behind a ROUTER socket with CURVE, keys in memory,
// and any of the faults below on demand. It answers as hsmd-protocol(7) says, but authorises
// nobody.
#pragma once

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "hsmd/wire/wire.h"

enum fake_fault {
    FAKE_NO_FAULT,
    FAKE_SILENT,      // takes requests and never answers
    FAKE_SIGNS_NEVER, // never answers sign
    FAKE_DENIED,
    FAKE_TEMP,
    FAKE_PERM,
    FAKE_BUG,
    FAKE_GARBAGE,         // bytes that are no frame
    FAKE_WRONG_ID,        // a good answer to another request
    FAKE_SHORT_SIGNATURE, // one byte less than it must have
    FAKE_LONG_SIGNATURE,
    FAKE_LONG_SECRET, // longer than asked for, or than the modulus
    FAKE_SMALL_PLACE, // an unwrapped key without zeros behind it
    FAKE_OTHER_NAME,  // describes another key
    FAKE_OTHER_TYPE,  // says RSA of an EC key and the reverse
    FAKE_BAD_PUBLIC_KEY,
    FAKE_BAD_CERTIFICATE,
    FAKE_SLOW, // 300 ms for each answer
};

// The keys: signing (RSA, smime-sign), decryption (RSA, smime-decrypt), ec-signing (P-256,
// smime-sign), ec-decryption (P-256, smime-decrypt), general (RSA), ec-general (P-256),
// ec384-decryption (P-384, smime-decrypt), ed25519-general, ed25519-signing (smime-sign). All have
// a self-signed certificate but ec-general.
#define FAKE_KEYS 9

struct fake;

// Starts it in a new directory under /tmp; exits the program if that fails.
struct fake *fake_start(void);
void fake_stop(struct fake *fake); // removes the directory

const char *fake_dir(const struct fake *fake); // holds server.pub, client.pub, client.key
const char *fake_endpoint(const struct fake *fake);
void fake_set_fault(struct fake *fake, enum fake_fault fault);

// Requests of that operation so far.
unsigned fake_count(const struct fake *fake, enum wire_operation operation);
// The fields of the last sign, unwrap or agree request but for its bytes. Ask after the answer.
const struct wire_request *fake_last(const struct fake *fake);

// Borrowed: the private key and certificate of a name.
EVP_PKEY *fake_key(const struct fake *fake, const char *name);
X509 *fake_certificate(const struct fake *fake, const char *name);
