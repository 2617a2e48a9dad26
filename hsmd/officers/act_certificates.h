// SPDX-License-Identifier: Apache-2.0
// What people are told of public keys and certificates. Private to this folder.
#pragma once

#include "hsmd/officers/words.h"

// "rsa:3072, SHA-256 HEX" of a SubjectPublicKeyInfo.
void words_public_key(struct words *words, struct bytes der);
// Lines "  certificate: ..." and what it says, for each of DER certificates one after the other.
void words_certificates(struct words *words, struct bytes der);
unsigned count_certificates(struct bytes der);
