// SPDX-License-Identifier: Apache-2.0
// CURVE key pairs in files: PREFIX.key the secret half (mode 0400), PREFIX.pub the public one, each
// one line of Z85.
#pragma once

#include "hsmd/base/err.h"
#include "hsmd/base/secret.h"
#include "hsmd/registry/registry.h"

// Makes both files. ERR_PERM: one of them is there already, or cannot be written.
enum err server_key_generate(const char *prefix, struct detail *detail);

// Reads a secret half and derives the public one. key must be initialised; its len becomes 40.
enum err server_key_load(const char *path, struct secret *key,
                         char public_key[REGISTRY_PUBLIC_KEY_SIZE], struct detail *detail);
