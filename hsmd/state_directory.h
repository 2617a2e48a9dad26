// SPDX-License-Identifier: Apache-2.0
// The directory of what hsmd keeps: registry, budgets, audit log. Nobody else may enter it.
#pragma once

#include "hsmd/base/err.h"

// ERR_PERM: not there, not a directory, not ours, or others may enter it.
enum err state_directory_check(const char *path, struct detail *detail);

// Makes it, mode 0700, unless it is there; then checks it.
enum err state_directory_make(const char *path, struct detail *detail);
