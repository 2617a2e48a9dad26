// SPDX-License-Identifier: Apache-2.0
// A PKCS#11 module in this process, and the slots it shows.
#pragma once

#include <p11-kit/pkcs11.h>

#include "hsmd/base/err.h"

struct module;

// Loads and initialises the module, or gives the one that is already there: ERR_PERM if it was
// initialised with other init_args (NULL or "": none). Every get has its put; the last one ends it
// with C_Finalize. It is never unloaded: modules leave threads, exit handlers and thread-local data
// behind that do not survive it.
enum err module_get(const char *path, const char *init_args, struct module **module,
                    struct detail *detail);
void module_put(struct module *module);
CK_FUNCTION_LIST *module_functions(const struct module *module);

struct slot {
    CK_SLOT_ID id;
    char label[33], serial[17]; // of the token, without the blanks at the end
};

#define SLOTS_MAX 128

// The slots with an initialised token, anew. slots: SLOTS_MAX.
enum err module_slots(struct module *module, struct slot *slots, unsigned *count,
                      struct detail *detail);

// Copies a blank-padded field of Cryptoki as a string; out: size + 1 bytes.
void module_text(const CK_UTF8CHAR *field, size_t size, char *out);
