// SPDX-License-Identifier: Apache-2.0
// What hsmd.conf says about officers: their channel, and the first of them.
#include <stdio.h>
#include <string.h>

#include "hsmd/base/log.h"
#include "hsmd/config_check.h"
#include "hsmd/config_internal.h"
#include "hsmd/officers/keyfile.h"

enum err config_take_channel(struct config *config, struct detail *detail)
{
    cfg_t *cfg = config->parsed;
    const char *key_file = config_optional(cfg, "officers-server-key-file");
    config->officers_timeout = (unsigned)cfg_getint(cfg, "officers-timeout");
    config->has_quorum = cfg_getint(cfg, "quorum") != 0; // 0 cannot be given
    config->quorum = config->has_quorum ? (unsigned)cfg_getint(cfg, "quorum") : 1;
    config->proposal_lapse = (unsigned)cfg_getint(cfg, "proposal-lapse");
    config->officers_listen_count = cfg_size(cfg, "officers-listen");
    for (size_t i = 0; i < config->officers_listen_count; i++) {
        config->officers_listen[i] = cfg_getnstr(cfg, "officers-listen", (unsigned)i);
        for (size_t j = 0; j < config->listen_count; j++) {
            if (strcmp(config->officers_listen[i], config->listen[j]) == 0)
                return err_set(detail, ERR_PERM, "%s: listen and officers-listen are both %s",
                               config->path, config->listen[j]);
        }
    }
    if (config->officers_listen_count && !key_file)
        return err_set(detail, ERR_PERM,
                       "%s: officers-server-key-file is missing, for officers-listen",
                       config->path);
    const char *server = config_optional(cfg, "server-key-file");
    if (key_file && server && strcmp(key_file, server) == 0)
        return err_set(detail, ERR_PERM,
                       "%s: officers-server-key-file must not be server-key-file: two keys, so "
                       "that nobody mistakes one channel for the other",
                       config->path);
    return config_resolve(config, key_file, &config->officers_server_key_file);
}

static enum err read_public(const char *path, struct config_officer *officer, struct detail *detail)
{
    struct officer_public public = {0};
    enum err err = officer_public_read(path, &public, detail);
    if (err != ERR_OK)
        return err;
    if (strcmp(public.name, officer->name) != 0)
        return err_set(detail, ERR_PERM, "%s: is of officer \"%s\"", path, public.name);
    memcpy(officer->signing_key, public.signing_key, sizeof officer->signing_key);
    memcpy(officer->curve_key, public.curve_key, sizeof officer->curve_key);
    return ERR_OK;
}

enum err config_take_officer(struct config *config, cfg_t *cfg, struct detail *detail)
{
    struct config_officer *officer = &config->officers[config->officer_count++];
    const char *role = config_optional(cfg, "role");
    const char *signing = config_optional(cfg, "signing-key");
    const char *curve = config_optional(cfg, "public-key");
    const char *path = NULL;
    officer->name = cfg_title(cfg);
    if (!role)
        return config_complain(cfg, detail, "role is missing; it must be officer or auditor");
    officer->role = officer_role_by_name(role);
    enum err err = config_resolve(config, config_optional(cfg, "file"), &path);
    if (err != ERR_OK)
        return err_set(detail, err, "out of memory");
    if (path ? signing || curve : !signing || !curve)
        return config_complain(cfg, detail,
                               "either file, or signing-key and public-key, must be given");
    if (!path) {
        snprintf(officer->curve_key, sizeof officer->curve_key, "%s", curve);
        return config_parse_signing_key(signing, officer->signing_key) // checked where it stands
                   ? ERR_OK
                   : config_complain(cfg, detail, "signing-key is no key");
    }
    err = read_public(path, officer, detail);
    if (err == ERR_OK)
        return ERR_OK;
    struct detail reason = *detail;
    (void)config_complain(cfg, detail, reason.text);
    return err;
}

static enum err check_keys(const struct config *config, size_t index, struct detail *detail)
{
    const struct config_officer *officer = &config->officers[index];
    for (size_t i = 0; i < index; i++) {
        const struct config_officer *other = &config->officers[i];
        if (memcmp(other->signing_key, officer->signing_key, sizeof other->signing_key) == 0 ||
            strcmp(other->curve_key, officer->curve_key) == 0)
            return err_set(detail, ERR_PERM, "%s: officers %s and %s have the same key",
                           config->path, other->name, officer->name);
    }
    for (size_t i = 0; i < config->client_count; i++) {
        if (strcmp(config->clients[i].public_key, officer->curve_key) == 0)
            return err_set(detail, ERR_PERM, "%s: officer %s and client %s have the same key",
                           config->path, officer->name, config->clients[i].name);
    }
    return ERR_OK;
}

void config_warn_quorum(const struct config *config)
{
    size_t signers = 0;
    for (size_t i = 0; i < config->officer_count; i++)
        signers += config->officers[i].role == OFFICER_OFFICER;
    if (!config->has_quorum && signers > 1)
        log_warning("officers", "err",
                    "hsmd.conf says no quorum, so it is 1: each officer alone can have every act "
                    "carried out");
}

enum err config_check_officers(const struct config *config, struct detail *detail)
{
    size_t signers = 0;
    for (size_t i = 0; i < config->officer_count; i++) {
        enum err err = check_keys(config, i, detail);
        if (err != ERR_OK)
            return err;
        signers += config->officers[i].role == OFFICER_OFFICER;
    }
    if (config->officer_count && config->quorum > signers)
        return err_set(detail, ERR_PERM,
                       "%s: quorum is %u, and there are %zu officers: nobody could ever agree",
                       config->path, config->quorum, signers);
    return ERR_OK;
}
