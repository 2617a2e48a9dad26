// SPDX-License-Identifier: Apache-2.0
// A registry filled from hsmd.conf.
#pragma once

#include "hsmd/config.h"
#include "hsmd/registry/registry.h"

// budgets: where the limits of keys and grants go, borrowed by the registry; NULL: they are left
// out. Certificates are read from their files (PEM, the key's own first); keys are not bound yet.
// ERR_PERM: two clients with one public key, a certificate file that cannot be read.
enum err registry_from_config(const struct config *config, struct budgets *budgets,
                              struct registry **registry, struct detail *detail);
