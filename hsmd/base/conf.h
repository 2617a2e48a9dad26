// SPDX-License-Identifier: Apache-2.0
// Configuration files, read by libConfuse. An unknown key, a wrong type, a value out of range is an
// error that names file and line; nothing is read later than at start.
#pragma once

#include <confuse.h>

#include "hsmd/base/err.h"

// Parses path by opts. On success *cfg is the caller's (cfg_free). The first thing wrong is in
// detail, as "FILE:LINE: reason". Validation functions report with cfg_error; they may be called
// more than once for a value. A file that ends inside a section is an error.
enum err conf_load(const char *path, cfg_opt_t *opts, cfg_t **cfg, struct detail *detail);
