// SPDX-License-Identifier: Apache-2.0
// What a key may be used for, apart from who asks: state, purpose, type, algorithms, parameters.
// Pure functions over the registry's key and what the keystore says of it.
#pragma once

#include "hsmd/base/err.h"
#include "hsmd/registry/registry.h"
#include "hsmd/wire/wire.h"
#include "pkcs11/token.h"

// ERR_DENIED: the key is not for that; ERR_PERM: the request does not fit the key.
enum err core_check_sign(const struct registry_key *key, const struct token_key_info *info,
                         const struct wire_sign *request, struct detail *detail);
enum err core_check_unwrap(const struct registry_key *key, const struct token_key_info *info,
                           const struct wire_unwrap *request, struct detail *detail);
enum err core_check_agree(const struct registry_key *key, const struct token_key_info *info,
                          const struct wire_agree *request, struct detail *detail);

// What the token is asked for, of an algorithm of sign.
enum token_scheme core_scheme(enum wire_algorithm algorithm);
