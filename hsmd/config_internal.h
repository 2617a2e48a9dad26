// SPDX-License-Identifier: Apache-2.0
// What the files that read hsmd.conf share.
#pragma once

#include "hsmd/config.h"
#include "hsmd/officers/statement.h"

// ERR_PERM, with a section's own words for where it is.
enum err config_complain(const cfg_t *section, struct detail *detail, const char *problem);
// NULL and "" mean the same: not given.
const char *config_optional(cfg_t *cfg, const char *option);
// A path of the file, seen from the file's directory. NULL stays NULL.
enum err config_resolve(struct config *config, const char *path, const char **out);

// The officers' channel, among the settings.
enum err config_take_channel(struct config *config, struct detail *detail);
// A section "token".
enum err config_take_token(struct config *config, cfg_t *cfg, struct detail *detail);
// A section "officer".
enum err config_take_officer(struct config *config, cfg_t *cfg, struct detail *detail);
// Everything is taken: nobody has a key twice, and the quorum can be reached.
enum err config_check_officers(const struct config *config, struct detail *detail);
