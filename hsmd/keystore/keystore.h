// SPDX-License-Identifier: Apache-2.0
// Where the private keys are, as the custodian's core sees it: a handful of operations on one key.
// keystore_token.c fills it from pkcs11/; the tests have one in memory.
#pragma once

#include "hsmd/base/buf.h"
#include "hsmd/base/clock.h"
#include "hsmd/base/err.h"
#include "hsmd/base/secret.h"
#include "pkcs11/token.h"

struct keystore_key; // defined by the implementation

struct keystore_ops {
    // As token_sign, token_unwrap and token_agree, with the session found and given back inside.
    enum err (*sign)(struct keystore_key *key, enum token_scheme scheme, enum hash hash,
                     unsigned salt, struct bytes digest, deadline_t deadline, uint8_t *out,
                     size_t *out_len, struct detail *detail);
    enum err (*unwrap)(struct keystore_key *key, const struct token_padding *padding,
                       struct bytes ciphertext, deadline_t deadline, struct secret *out,
                       struct detail *detail);
    enum err (*agree)(struct keystore_key *key, struct bytes peer, bool cofactor,
                      deadline_t deadline, struct secret *z, struct detail *detail);
    const struct token_key_info *(*describe)(const struct keystore_key *key);
    // Which token the key is in, from 0: what one does not wait for what another does.
    unsigned (*token)(const struct keystore_key *key);
};
