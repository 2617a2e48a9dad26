// SPDX-License-Identifier: Apache-2.0
// Checks of single values of hsmd.conf, called by libConfuse as it reads them: 0 is well, -1 not,
// and then cfg_error has said why.
#pragma once

#include <confuse.h>

#include "hsmd/config.h"

int config_check_text(cfg_t *cfg, cfg_opt_t *opt); // not empty
int config_check_name(cfg_t *cfg, cfg_opt_t *opt); // text_is_name
int config_check_title(cfg_t *cfg, cfg_opt_t *opt);
int config_check_id(cfg_t *cfg, cfg_opt_t *opt);
int config_check_purpose(cfg_t *cfg, cfg_opt_t *opt);
int config_check_state(cfg_t *cfg, cfg_opt_t *opt);
int config_check_operations(cfg_t *cfg, cfg_opt_t *opt);
int config_check_algorithms(cfg_t *cfg, cfg_opt_t *opt);
int config_check_public_key(cfg_t *cfg, cfg_opt_t *opt);
int config_check_role(cfg_t *cfg, cfg_opt_t *opt);
int config_check_signing_key(cfg_t *cfg, cfg_opt_t *opt);
int config_check_quorum(cfg_t *cfg, cfg_opt_t *opt);
int config_check_lapse(cfg_t *cfg, cfg_opt_t *opt);
int config_check_listen(cfg_t *cfg, cfg_opt_t *opt);
int config_check_audit_sync(cfg_t *cfg, cfg_opt_t *opt);
int config_check_checkpoint_lines(cfg_t *cfg, cfg_opt_t *opt);
int config_check_checkpoint_seconds(cfg_t *cfg, cfg_opt_t *opt);
int config_check_log(cfg_t *cfg, cfg_opt_t *opt);
int config_check_log_level(cfg_t *cfg, cfg_opt_t *opt);
int config_check_sessions(cfg_t *cfg, cfg_opt_t *opt);
int config_check_timeout(cfg_t *cfg, cfg_opt_t *opt);
int config_check_interval(cfg_t *cfg, cfg_opt_t *opt);
int config_check_budget(cfg_t *cfg, cfg_opt_t *opt);
int config_check_metrics_listen(cfg_t *cfg, cfg_opt_t *opt);

// A CKA_ID in hex that config_check_id has passed; how many bytes. NULL: 0.
size_t config_parse_id(const char *hex, uint8_t id[CONFIG_ID_MAX]);
// An Ed25519 public key in hex. False: it is none, and what is in key means nothing.
bool config_parse_signing_key(const char *hex, uint8_t key[OFFICER_SIGNING_KEY_SIZE]);
