// SPDX-License-Identifier: Apache-2.0
#include "hsmd/keystore/keystore_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <limits.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/file.h"
#include "hsmd/base/log.h"

#define PIN_MAX 256
// A session is waited for as long as the request has time; this is only for what has no deadline.
#define SESSION_WAIT_MS 600000
#define SEEK_EVERY_MS 1000 // at most, for a key that is not there

enum err keystore_read_pin(const struct config_token *token, struct secret *pin,
                           struct detail *detail)
{
    char path[PATH_MAX];
    const char *directory = getenv("CREDENTIALS_DIRECTORY");
    if (token->pin_file)
        return file_read_secret(token->pin_file, pin, detail);
    if (!directory)
        return err_set(detail, ERR_PERM,
                       "no credential \"%s\": systemd has set no CREDENTIALS_DIRECTORY",
                       token->pin_credential);
    if ((size_t)snprintf(path, sizeof path, "%s/%s", directory, token->pin_credential) >=
        sizeof path)
        return err_set(detail, ERR_PERM, "CREDENTIALS_DIRECTORY is too long");
    return file_read_secret(path, pin, detail);
}

enum err keystore_check_key(const struct token_key_info *info, enum wire_purpose purpose,
                            struct detail *detail)
{
    bool is_rsa = info->type == TOKEN_KEY_RSA;
    if (info->extractable)
        return err_set(detail, ERR_PERM,
                       "attributes: CKA_EXTRACTABLE is true: the key could "
                       "leave its token");
    if (!info->sensitive)
        return err_set(detail, ERR_PERM,
                       "attributes: CKA_SENSITIVE is false: the token would "
                       "show the key");
    bool can_decrypt = is_rsa ? info->can_decrypt : info->can_derive;
    if ((purpose == WIRE_SMIME_SIGN || purpose == WIRE_AUDIT) && !info->can_sign)
        return err_set(detail, ERR_PERM, "attributes: CKA_SIGN is false, but the purpose is %s",
                       wire_purpose_name(purpose));
    if (purpose == WIRE_SMIME_DECRYPT && !can_decrypt)
        return err_set(detail, ERR_PERM, "attributes: %s is false, but the purpose is %s",
                       is_rsa ? "CKA_DECRYPT" : "CKA_DERIVE", wire_purpose_name(purpose));
    if (!info->can_sign && !can_decrypt)
        return err_set(detail, ERR_PERM, "attributes: the key can neither sign nor decrypt");
    return ERR_OK;
}

static enum err log_in(struct token *token, const struct config_token *conf, struct detail *detail)
{
    struct secret pin = {0};
    enum err err = secret_init(&pin, PIN_MAX, detail);
    if (err == ERR_OK)
        err = keystore_read_pin(conf, &pin, detail);
    if (err != ERR_OK)
        err = err_prefix(detail, err, "token %s: PIN", conf->name);
    else
        err =
            token_login(token, &pin, detail); // its details name the token, and so does token_open
    secret_clear(&pin);
    if (err != ERR_DENIED)
        return err;
    struct detail reason = *detail;
    return err_set(detail, err, "%s (its PIN is from %s %s)", reason.text,
                   conf->pin_file ? "the file" : "the credential",
                   conf->pin_file ? conf->pin_file : conf->pin_credential);
}

// The audit key has one more, so that signing the log takes none from the requests.
static unsigned sessions_of(const struct keystore_token *token)
{
    unsigned sessions = token->conf->sessions + token->has_audit_key;
    return sessions < TOKEN_SESSIONS_MAX ? sessions : TOKEN_SESSIONS_MAX;
}

static enum err take_token(struct keystore_token *token, struct detail *detail)
{
    const struct config_token *from = token->conf;
    const struct token_conf conf = {.name = from->name,
                                    .module = from->module,
                                    .label = from->label,
                                    .serial = from->serial,
                                    .init_args = from->init_args,
                                    .sessions = sessions_of(token),
                                    .wait_ms = SESSION_WAIT_MS};
    // Modules have been seen to hang here: let it be known in which.
    log_notice("token", "token", from->name, "state", "opening", "module", from->module);
    enum err err = token_open(&conf, &token->token, detail);
    return err == ERR_OK ? log_in(token->token, from, detail) : err;
}

// The key's description outlives the key; one that comes back must be the one that went.
static enum err keep_info(struct keystore_key *key, const struct token_key_info *info,
                          struct detail *detail)
{
    if (key->info.public_key.len)
        return bytes_equal(key->info.public_key, info->public_key)
                   ? ERR_OK
                   : err_set(detail, ERR_PERM, "another key has taken its place in the token");
    uint8_t *copy = mem_calloc(info->public_key.len, 1);
    if (!copy)
        return err_set(detail, ERR_TEMP, "out of memory");
    memcpy(copy, info->public_key.data, info->public_key.len);
    key->info = *info;
    key->info.public_key = bytes_of(copy, info->public_key.len);
    return ERR_OK;
}

static enum err take_key(struct keystore_key *key, struct detail *detail)
{
    const struct config_key *from = key->conf;
    struct token_key *opened = NULL;
    enum err err = token_key_open(key->token->token, from->label, bytes_of(from->id, from->id_len),
                                  &opened, detail);
    if (err == ERR_OK)
        err = keystore_check_key(token_key_describe(opened), from->purpose, detail);
    if (err == ERR_OK)
        err = keep_info(key, token_key_describe(opened), detail);
    if (err != ERR_OK) {
        token_key_close(opened);
        return err_prefix(detail, err, "key %s", from->name);
    }
    atomic_store(&key->key, opened);
    return ERR_OK;
}

enum err keystore_seek_key(struct keystore_key *key, struct detail *detail)
{
    enum err err = err_set(detail, ERR_PERM, "key %s: its token does not have it", key->conf->name);
    if (clock_ms() < atomic_load(&key->next_look) || atomic_exchange(&key->is_being_sought, true))
        return err;
    if (atomic_load(&key->key)) {
        err = ERR_OK; // another one has found it meanwhile
    } else {
        err = take_key(key, detail);
        if (err == ERR_OK)
            log_notice("key", "key", key->conf->name, "state", "there again");
        atomic_store(&key->next_look, deadline_in(SEEK_EVERY_MS));
    }
    atomic_store(&key->is_being_sought, false);
    return err;
}

// One key of a token that is opened anew. Only what says that the token is not well after all stops
// the others.
static enum err take_key_again(struct keystore_key *key, struct detail *detail)
{
    struct detail reason = {0};
    enum err err = take_key(key, &reason);
    if (err == ERR_DENIED)
        return err_set(detail, err, "%s", reason.text);
    atomic_store(&key->next_look, deadline_in(SEEK_EVERY_MS));
    if (err != ERR_OK)
        log_error("key", "key", key->conf->name, "state", "not there", "err", reason.text);
    return ERR_OK;
}

enum err keystore_open_token(struct keystore *keystore, struct keystore_token *token, bool is_start,
                             struct detail *detail)
{
    enum err err = take_token(token, detail);
    for (size_t i = 0; i < keystore->key_count && err == ERR_OK; i++) {
        if (keystore->keys[i].token == token)
            err = (is_start ? take_key : take_key_again)(&keystore->keys[i], detail);
    }
    if (err != ERR_OK)
        keystore_close_token(keystore, token);
    return err;
}

void keystore_close_token(struct keystore *keystore, struct keystore_token *token)
{
    for (size_t i = 0; i < keystore->key_count; i++) {
        if (keystore->keys[i].token == token)
            token_key_close(atomic_exchange(&keystore->keys[i].key, NULL));
    }
    if (token->token)
        token_close(token->token);
    token->token = NULL;
}

static struct keystore_module *module_of(struct keystore *keystore, const char *path)
{
    for (size_t i = 0; i < keystore->module_count; i++) {
        if (strcmp(keystore->modules[i].path, path) == 0)
            return &keystore->modules[i];
    }
    struct keystore_module *module = &keystore->modules[keystore->module_count++];
    gate_init(&module->gate);
    module->path = path;
    return module;
}

// Who belongs to whom, nothing opened yet.
static enum err lay_out(struct keystore *keystore, const struct config *config,
                        struct detail *detail)
{
    keystore->modules = mem_calloc(config->token_count, sizeof *keystore->modules);
    keystore->tokens = mem_calloc(config->token_count, sizeof *keystore->tokens);
    const size_t key_count = config->key_count + config->has_audit_key;
    keystore->keys = mem_calloc(key_count, sizeof *keystore->keys);
    if (!keystore->modules || !keystore->tokens || !keystore->keys)
        return err_set(detail, ERR_TEMP, "out of memory");
    for (size_t i = 0; i < config->token_count; i++) {
        struct keystore_token *token = &keystore->tokens[keystore->token_count++];
        token->conf = &config->tokens[i];
        token->module = module_of(keystore, token->conf->module);
    }
    for (size_t i = 0; i < key_count; i++) {
        struct keystore_key *key = &keystore->keys[keystore->key_count++];
        bool is_audit_key = i == config->key_count;
        key->keystore = keystore;
        key->conf = is_audit_key ? &config->audit_key : &config->keys[i];
        for (size_t t = 0; t < config->token_count; t++) {
            if (strcmp(config->tokens[t].name, key->conf->token) == 0)
                key->token = &keystore->tokens[t];
        }
        key->token->has_audit_key = key->token->has_audit_key || is_audit_key;
    }
    return ERR_OK;
}

// Who may use it under another name could sign checkpoints.
static enum err check_audit_key(const struct keystore *keystore, size_t index,
                                struct detail *detail)
{
    for (size_t i = 0; i < index; i++) {
        if (bytes_equal(keystore->keys[i].info.public_key, keystore->keys[index].info.public_key))
            return err_set(detail, ERR_PERM, "audit key: it is key %s too, which clients may use",
                           keystore->keys[i].conf->name);
    }
    return ERR_OK;
}

enum err keystore_open(const struct config *config, struct keystore **out, struct detail *detail)
{
    struct keystore *keystore = mem_calloc(1, sizeof *keystore);
    if (!keystore)
        return err_set(detail, ERR_TEMP, "out of memory");
    enum err err = lay_out(keystore, config, detail);
    for (size_t i = 0; i < keystore->token_count && err == ERR_OK; i++)
        err = keystore_open_token(keystore, &keystore->tokens[i], true, detail);
    if (err == ERR_OK && config->has_audit_key)
        err = check_audit_key(keystore, config->key_count, detail);
    if (err != ERR_OK) {
        keystore_close(keystore);
        return err;
    }
    *out = keystore;
    return ERR_OK;
}

void keystore_close(struct keystore *keystore)
{
    if (!keystore)
        return;
    for (size_t i = 0; i < keystore->token_count; i++)
        keystore_close_token(keystore, &keystore->tokens[i]);
    for (size_t i = 0; i < keystore->key_count; i++)
        mem_free((void *)keystore->keys[i].info.public_key.data);
    for (size_t i = 0; i < keystore->module_count; i++)
        gate_clear(&keystore->modules[i].gate);
    mem_free(keystore->keys);
    mem_free(keystore->tokens);
    mem_free(keystore->modules);
    mem_free(keystore);
}

struct keystore_key *keystore_find_key(struct keystore *keystore, size_t index)
{
    return index < keystore->key_count ? &keystore->keys[index] : NULL;
}
