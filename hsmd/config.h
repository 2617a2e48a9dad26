// SPDX-License-Identifier: Apache-2.0
// hsmd.conf(5), read once at start into a constant struct. Values are checked here one by one and
// against each other; what they point to (files, tokens, keys) is checked by those who open it.
//
// Keys, clients and grants are the former configuration: they are still read, for hsmd migrate,
// which brings them into the registry. hsmd does not start while they are there.
#pragma once

#include <confuse.h>

#include "hsmd/audit/audit.h"
#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"
#include "hsmd/base/log.h"
#include "hsmd/officers/act.h"
#include "hsmd/registry/budget.h"
#include "hsmd/watch/http.h"
#include "hsmd/registry/registry.h"

#define CONFIG_ENDPOINTS_MAX 8
#define CONFIG_ID_MAX 64

struct config_token {
    const char *name;
    const char *module;
    const char *label;          // or NULL
    const char *serial;         // or NULL
    const char *init_args;      // or NULL
    const char *pin_file;       // or NULL
    const char *pin_credential; // or NULL; without both the token is locked until an officer
                                // gives its PIN
    unsigned sessions;
    bool healing;   // the PIN an officer gives stays in locked memory
    bool copy_keys; // keys are used by copies among the session objects
};

struct config_key {
    const char *name;
    const char *token;
    const char *label;
    uint8_t id[CONFIG_ID_MAX]; // CKA_ID
    size_t id_len;             // 0: any
    enum wire_purpose purpose;
    enum wire_state state;
    uint64_t algorithms;          // set of enum wire_algorithm; REGISTRY_ALL if none is listed
    const char *certificate_file; // or NULL
    struct budget_limits limits;
};

struct config_client {
    const char *name;
    char public_key[REGISTRY_PUBLIC_KEY_SIZE];
};

struct config_grant {
    const char *client;
    const char *key;
    uint64_t operations; // set of enum wire_operation, never empty
    uint64_t algorithms; // set; REGISTRY_ALL if none is listed
    struct budget_limits limits;
};

// The first officers, for a registry that has none.
struct config_officer {
    const char *name;
    enum officer_role role;
    uint8_t signing_key[OFFICER_SIGNING_KEY_SIZE];
    char curve_key[CURVE_TEXT_SIZE];
};

// Everything belongs to the struct and lives until config_free. Paths are absolute, or relative to
// the working directory as the path of the file was.
struct config {
    const char *path;
    const char *listen[CONFIG_ENDPOINTS_MAX];
    size_t listen_count;
    const char *server_key_file;
    const char *officers_listen[CONFIG_ENDPOINTS_MAX];
    size_t officers_listen_count;         // 0: no officers' channel
    const char *officers_server_key_file; // NULL only if there is no channel
    unsigned officers_timeout;            // ms
    bool has_quorum;                      // it says one
    unsigned quorum;                      // of a registry that has none; else 1
    unsigned proposal_lapse;              // s, the most a proposal may ask for
    struct config_officer *officers;
    size_t officer_count;
    const char *state_directory;
    const char *audit_log;
    enum audit_sync audit_sync;
    unsigned audit_checkpoint_lines;
    unsigned audit_checkpoint_seconds;
    bool has_audit_key;
    struct config_key audit_key; // no client can name it; name "audit-key", purpose smime-sign
    enum log_sink log_sink;
    enum log_level log_level;
    unsigned request_timeout;    // ms
    unsigned self_test_interval; // s; 0: off
    bool has_metrics;
    struct http_address metrics_address; // if it has
    struct config_token *tokens;
    size_t token_count;
    struct config_key *keys;
    size_t key_count;
    struct config_client *clients;
    size_t client_count;
    struct config_grant *grants;
    size_t grant_count;
    bool has_former;      // sections key, audit-key, client or grant
    unsigned former_line; // where the first of them begins
    cfg_t *parsed;        // what most of the texts above point into
    char **paths;         // and the others
    size_t path_count;
};

// ERR_PERM: the detail is "FILE:LINE: reason".
enum err config_load(const char *path, struct config **config, struct detail *detail);
void config_free(struct config *config);

// ERR_PERM: sections of the former configuration are in the file; the detail names file, line and
// the command that brings them into the registry.
enum err config_check_former(const struct config *config, struct detail *detail);

// Logs a warning if there are several officers, and no quorum is given: for whoever checks the
// file, or takes the officers from it.
void config_warn_quorum(const struct config *config);

// The table of options, for the test that compares it with hsmd.conf(5). Ends with CFG_END.
const cfg_opt_t *config_options(void);
