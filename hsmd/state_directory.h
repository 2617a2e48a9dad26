// SPDX-License-Identifier: Apache-2.0
// The directory of what hsmd keeps: registry, budgets, audit log. Nobody else may enter it.
#pragma once

#include "hsmd/base/err.h"

// For who changes nothing there, or gives away what it makes, so root may be another than its
// owner. ERR_PERM: not there, not a directory, not ours, or others may enter it.
enum err state_directory_check(const char *path, struct detail *detail);

// The same for who writes there. ERR_PERM, too: it is another's than who runs this, root or not;
// files of root's would keep hsmd out from then on.
enum err state_directory_own(const char *path, struct detail *detail);

// Makes it, mode 0700, unless it is there; then state_directory_own.
enum err state_directory_make(const char *path, struct detail *detail);
