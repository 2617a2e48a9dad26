// SPDX-License-Identifier: Apache-2.0
// OSSL_PARAMs that more than one operation reads or writes. Each leaves its output as it is if the
// parameter is not there. False: raised.
#pragma once

#include <openssl/core.h>

#include "providers/provider.h"

struct params_choice {
    const char *name; // NULL ends the table
    int value;
};

// An integer, the name of a choice, or decimal digits. Which integers make sense the caller checks.
bool params_get_choice(const struct provider *prov, const OSSL_PARAM params[], const char *key,
                       const struct params_choice *choices, int *value);
// Into whichever of integer and text the parameter is; a value without a name in digits.
bool params_set_choice(OSSL_PARAM params[], const char *key, const struct params_choice *choices,
                       int value);

// The name of a hash.
bool params_get_hash(const struct provider *prov, const OSSL_PARAM params[], const char *key,
                     enum hash *hash);
bool params_set_hash(OSSL_PARAM params[], const char *key, enum hash hash);

// Replaces out by the octets. Over the cap of out: raised.
bool params_get_octets(const struct provider *prov, const OSSL_PARAM params[], const char *key,
                       struct buf *out);
