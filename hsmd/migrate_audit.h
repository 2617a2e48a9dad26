// SPDX-License-Identifier: Apache-2.0
// What hsmd migrate has brought, in the audit log: it is done by who runs the machine, and no
// officer has signed it.
#pragma once

#include "hsmd/config.h"
#include "hsmd/registry/store.h"

// Within the transaction, before the commit: a line for each key, client and grant of the store.
// Makes the log if it is not there; *is_made says so, and the caller removes it if the migration
// fails. Its owner is the directory's.
enum err migrate_tell(const struct config *config, struct store *store, bool *is_made,
                      struct detail *detail);
