// SPDX-License-Identifier: Apache-2.0
// What hsmd.conf says about officers: their channel, and the first of them.
#include <stdio.h>
#include <string.h>

#include "hsmd/base/file.h"
#include "hsmd/config_check.h"
#include "hsmd/config_internal.h"

#define PUBLIC_FILE_MAX 256
#define PUBLIC_TAG "officer-1 "

enum officer_role config_role_by_name(const char *name)
{
#define X(symbol, number, role_name)  \
    if (strcmp(name, role_name) == 0) \
        return symbol;
    OFFICER_ROLES(X)
#undef X
    return 0;
}

enum err config_take_channel(struct config *config, struct detail *detail)
{
    cfg_t *cfg = config->parsed;
    const char *key_file = config_optional(cfg, "officers-server-key-file");
    config->officers_timeout = (unsigned)cfg_getint(cfg, "officers-timeout");
    config->quorum = (unsigned)cfg_getint(cfg, "quorum");
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

static bool parse_hex(const char *hex, size_t len, uint8_t key[OFFICER_SIGNING_KEY_SIZE])
{
    char text[2 * OFFICER_SIGNING_KEY_SIZE + 1];
    struct buf bytes;
    if (len != sizeof text - 1)
        return false;
    memcpy(text, hex, len);
    text[len] = 0;
    buf_init(&bytes, OFFICER_SIGNING_KEY_SIZE);
    bool is_key = text_get_hex(text, &bytes) == ERR_OK && bytes.len == OFFICER_SIGNING_KEY_SIZE;
    if (is_key)
        memcpy(key, bytes.data, bytes.len);
    buf_clear(&bytes);
    return is_key;
}

// "officer-1 NAME SIGNINGHEX CURVEZ85", as hsmctl officer keygen writes it; no name holds a space.
static bool parse_public(const char *line, struct config_officer *officer)
{
    size_t tag = sizeof PUBLIC_TAG - 1;
    size_t name = strlen(officer->name);
    size_t hex = (size_t)2 * OFFICER_SIGNING_KEY_SIZE;
    if (strlen(line) != tag + name + 1 + hex + 1 + CURVE_TEXT_SIZE - 1 ||
        memcmp(line, PUBLIC_TAG, tag) != 0 || memcmp(line + tag, officer->name, name) != 0 ||
        line[tag + name] != ' ' || line[tag + name + 1 + hex] != ' ')
        return false;
    const char *curve = line + tag + name + 1 + hex + 1;
    snprintf(officer->curve_key, sizeof officer->curve_key, "%s", curve);
    return curve_is_key(curve) && parse_hex(line + tag + name + 1, hex, officer->signing_key);
}

static enum err read_public(const char *path, struct config_officer *officer, struct detail *detail)
{
    struct buf text;
    buf_init(&text, PUBLIC_FILE_MAX);
    enum err err = file_read(path, &text, detail);
    while (text.len && strchr("\r\n", text.data[text.len - 1]))
        text.data[--text.len] = 0;
    if (err == ERR_OK && !parse_public(buf_text(&text), officer))
        err = err_set(detail, ERR_PERM,
                      "%s: not the line of officer \"%s\" that hsmctl officer keygen writes", path,
                      officer->name);
    buf_clear(&text);
    return err;
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
    officer->role = config_role_by_name(role);
    enum err err = config_resolve(config, config_optional(cfg, "file"), &path);
    if (err != ERR_OK)
        return err_set(detail, err, "out of memory");
    if (path ? signing || curve : !signing || !curve)
        return config_complain(cfg, detail,
                               "either file, or signing-key and public-key, must be given");
    if (!path) {
        snprintf(officer->curve_key, sizeof officer->curve_key, "%s", curve);
        (void)parse_hex(signing, strlen(signing), officer->signing_key); // checked where it stands
        return ERR_OK;
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
