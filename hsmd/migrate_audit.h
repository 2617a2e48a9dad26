// SPDX-License-Identifier: Apache-2.0
// What hsmd migrate has brought, in the audit log: it is done by who runs the machine, and no
// officer has signed it.
#pragma once

#include "hsmd/config.h"
#include "hsmd/registry/store.h"

// The file that the log is in so far, PATH_MAX bytes: one that was moved away is found (ERR_PERM:
// it is not) by its head (audit_resume.h). Nothing is changed.
enum err migrate_find_log(const struct config *config, char *from, struct detail *detail);

// Within the transaction, before the commit: a line for each key, client and grant of the store.
// Makes the log if it is not there; *is_made says so, and the caller removes it if the migration
// fails. Its owner is the directory's. One that was moved away is left to the start to go on after:
// it gets the lines where it is, and its head stays, which may be behind.
enum err migrate_tell(const struct config *config, struct store *store, bool *is_made,
                      struct detail *detail);
