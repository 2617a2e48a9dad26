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

#define KEYSTORE_ANY 0xffffffffu // no token preferred

struct keystore_ops {
    // As token_sign, token_unwrap and token_agree, with the session found and given back inside.
    // token: where to do it first (pick's number, or KEYSTORE_ANY); if that one fails with ERR_TEMP
    // and the key is in others too, those are tried while the deadline lasts. A failure that came
    // as a surprise is waited out for a second at most, within the deadline, and the operation done
    // once more.
    enum err (*sign)(struct keystore_key *key, unsigned token, enum token_scheme scheme,
                     enum hash hash, unsigned salt, struct bytes digest, deadline_t deadline,
                     uint8_t *out, size_t *out_len, struct detail *detail);
    enum err (*unwrap)(struct keystore_key *key, unsigned token,
                       const struct token_padding *padding, struct bytes ciphertext,
                       deadline_t deadline, struct secret *out, struct detail *detail);
    enum err (*agree)(struct keystore_key *key, unsigned token, struct bytes peer, bool cofactor,
                      deadline_t deadline, struct secret *z, struct detail *detail);
    // What is known of it, locked or not: of a key never opened yet type, bits, curve and public
    // key come from what the registry says, and what it can do from its purpose.
    const struct token_key_info *(*describe)(const struct keystore_key *key);
    // The token, from 0, that should do the next operation of this key: of those it is in and that
    // are well, the one with the least outstanding. outstanding: requests per token, by the same
    // numbers; NULL: all equal. If none is well, the first.
    unsigned (*pick)(const struct keystore_key *key, const unsigned *outstanding);
};
