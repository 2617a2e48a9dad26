// SPDX-License-Identifier: Apache-2.0
// Operations whose answer is known, on the keys rsa2048 and p256 of the fixture.
#pragma once

#include "tests/token/fixture.h"

enum known {
    KNOWN_SIGN,   // RSA PKCS#1
    KNOWN_UNWRAP, // RSA PKCS#1 v1.5, length known
    KNOWN_AGREE,
    KNOWN_PSS,
    KNOWN_ECDSA,
    KNOWN_OAEP, // SHA-1, which SoftHSM can do by itself
    KNOWN_BAD,  // a ciphertext with a bad padding: something of the right length, but not the key
    KNOWN_COUNT
};

void known_begin(void); // opens the keys; fixture_begin was called
void known_end(void);
const char *known_name(enum known known);

// Runs it; *right: it was ERR_OK, and with the right answer.
enum err known_run(struct token_session *session, enum known known, struct secret *out, bool *right,
                   struct detail *detail);
