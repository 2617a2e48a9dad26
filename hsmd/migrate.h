// SPDX-License-Identifier: Apache-2.0
// hsmd migrate: the keys, clients and grants of a former hsmd.conf brought into the registry.
#pragma once

#include "hsmd/base/err.h"
#include "hsmd/config.h"
#include "hsmd/registry/store.h"
#include "hsmd/base/text.h"

struct migration {
    char file[480];                    // the configuration that was written anew
    char former[500];                  // where the one before it is
    char registry[480];                // the store
    char audit_key[TEXT_NAME_MAX + 1]; // what the audit key is called now; "": there was none
    unsigned keys, clients, grants;    // how many were brought; the audit key is one of the keys
};

// All or nothing: either the registry has everything that the file had and the file has it in
// comments, or both are as they were. ERR_PERM: there is nothing to bring, the registry has keys or
// clients already, it or the audit log knows of officers, the file or a certificate is not
// well-formed, FILE.before-migration exists; ERR_TEMP: hsmd is running, or the disk is full. Killed
// half-way, it goes on where it was: then the former file is read and nothing but the registry
// written. The audit log gets a line for each. Not if the audit log knows a registry since then
// (ERR_PERM): it was lost.
enum err migrate(const char *path, struct migration *migration, struct detail *detail);

// Before hsmd serves: ERR_PERM if a migration was killed when the file was written anew and the
// registry was not, and by the audit log hsmd has not run with a registry since (lineage_open_audit
// sees to one that was lost). Changes nothing.
enum err migrate_check(const struct config *config, struct store *store, struct detail *detail);
