// SPDX-License-Identifier: Apache-2.0
// An act as JSON, for tests to compare.
#pragma once

#include <jansson.h>

#include "hsmd/officers/act.h"

// {"kind":"key-generate","name":"signing",...} with the fields of the kind; sets and lists as
// arrays of names, binaries as hex; "type":"rsa:3072" says the bits too; no restriction and no
// limit: null. NULL: out of memory.
json_t *act_json(const struct act *act);
