// SPDX-License-Identifier: Apache-2.0
// What the key managements of all types have in common. keydata is a struct key.
#pragma once

#include <openssl/core.h>

#include "providers/key.h"

void keymgmt_free(void *keydata);
void *keymgmt_load(const void *reference, size_t size);
void *keymgmt_dup(const void *keydata, int selection);
int keymgmt_has(const void *keydata, int selection);
int keymgmt_match(const void *keydata, const void *other, int selection);
int keymgmt_validate(const void *keydata, int selection, int check_type);
int keymgmt_get_params(void *keydata, OSSL_PARAM params[]);

// Takes the public half out of params. public_name: the parameter that is the public key;
// private_name: the one whose presence makes it a private key, which is refused.
int keymgmt_import(struct key *key, int selection, const OSSL_PARAM params[],
                   const char *public_name, const char *private_name);
// Gives the public half; refuses if the private half of a key in hsmd is asked for.
int keymgmt_export(void *keydata, int selection, OSSL_CALLBACK *callback, void *arg);
