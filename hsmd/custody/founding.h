// SPDX-License-Identifier: Apache-2.0
// The first officers and the quorum, from hsmd.conf.
#pragma once

#include "hsmd/audit/audit.h"
#include "hsmd/config.h"
#include "hsmd/registry/store.h"

// Puts them into a store that has none, in one transaction, a line in the audit log each; does
// nothing if it has, or if the configuration has no officers. Whether that may be is the caller's
// matter (lineage.h). ERR_PERM: more officers than can be, or fewer than the quorum.
enum err founding_do(const struct config *config, struct store *store, struct audit *audit,
                     struct detail *detail);
