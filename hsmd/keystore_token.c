// SPDX-License-Identifier: Apache-2.0
#include "hsmd/keystore_token.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <limits.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/file.h"

#define PIN_MAX 256
#define SESSION_WAIT_MS 10000 // at most; a request's own deadline is mostly nearer

struct keystore_key {
    struct token *token;
    struct token_key *key;
};

struct keystore {
    struct token **tokens;
    size_t token_count;
    struct keystore_key *keys;
    size_t key_count;
};

static enum err sign(struct keystore_key *key, enum token_scheme scheme, enum hash hash,
                     unsigned salt, struct bytes digest, deadline_t deadline, uint8_t *out,
                     size_t *out_len, struct detail *detail)
{
    struct token_session *session = NULL;
    enum err err = token_session_get(key->token, deadline, &session, detail);
    if (err != ERR_OK)
        return err;
    err = token_sign(session, key->key, scheme, hash, salt, digest, out, out_len, detail);
    token_session_put(session);
    return err;
}

static enum err unwrap(struct keystore_key *key, const struct token_padding *padding,
                       struct bytes ciphertext, deadline_t deadline, struct secret *out,
                       struct detail *detail)
{
    struct token_session *session = NULL;
    enum err err = token_session_get(key->token, deadline, &session, detail);
    if (err != ERR_OK)
        return err;
    err = token_unwrap(session, key->key, padding, ciphertext, out, detail);
    token_session_put(session);
    return err;
}

static enum err agree(struct keystore_key *key, struct bytes peer, bool cofactor,
                      deadline_t deadline, struct secret *z, struct detail *detail)
{
    struct token_session *session = NULL;
    enum err err = token_session_get(key->token, deadline, &session, detail);
    if (err != ERR_OK)
        return err;
    err = token_agree(session, key->key, peer, cofactor, z, detail);
    token_session_put(session);
    return err;
}

static const struct token_key_info *describe(const struct keystore_key *key)
{
    return token_key_describe(key->key);
}

const struct keystore_ops keystore_token_ops = {
    .sign = sign,
    .unwrap = unwrap,
    .agree = agree,
    .describe = describe,
};

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
    if (purpose == WIRE_SMIME_SIGN && !info->can_sign)
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
    return err;
}

static enum err open_token(const struct config_token *from, struct token **token,
                           struct detail *detail)
{
    const struct token_conf conf = {.name = from->name,
                                    .module = from->module,
                                    .label = from->label,
                                    .serial = from->serial,
                                    .init_args = from->init_args,
                                    .sessions = from->sessions,
                                    .wait_ms = SESSION_WAIT_MS};
    enum err err = token_open(&conf, token, detail);
    return err == ERR_OK ? log_in(*token, from, detail) : err;
}

static struct token *token_by_name(const struct keystore *keystore, const struct config *config,
                                   const char *name)
{
    for (size_t i = 0; i < keystore->token_count; i++) {
        if (strcmp(config->tokens[i].name, name) == 0)
            return keystore->tokens[i];
    }
    return NULL;
}

static enum err open_key(struct token *token, const struct config_key *from,
                         struct keystore_key *key, struct detail *detail)
{
    key->token = token;
    enum err err =
        token_key_open(token, from->label, bytes_of(from->id, from->id_len), &key->key, detail);
    if (err == ERR_OK)
        err = keystore_check_key(token_key_describe(key->key), from->purpose, detail);
    return err == ERR_OK ? ERR_OK : err_prefix(detail, err, "key %s", from->name);
}

static enum err open_all(struct keystore *keystore, const struct config *config,
                         struct detail *detail)
{
    keystore->tokens = mem_calloc(config->token_count, sizeof(struct token *));
    keystore->keys = mem_calloc(config->key_count, sizeof *keystore->keys);
    if (!keystore->tokens || !keystore->keys)
        return err_set(detail, ERR_TEMP, "out of memory");
    enum err err = ERR_OK;
    for (size_t i = 0; i < config->token_count && err == ERR_OK; i++) {
        err = open_token(&config->tokens[i], &keystore->tokens[i], detail);
        keystore->token_count = i + 1;
    }
    for (size_t i = 0; i < config->key_count && err == ERR_OK; i++) {
        const struct config_key *from = &config->keys[i];
        err = open_key(token_by_name(keystore, config, from->token), from, &keystore->keys[i],
                       detail);
        keystore->key_count = i + 1;
    }
    return err;
}

enum err keystore_open(const struct config *config, struct keystore **out, struct detail *detail)
{
    struct keystore *keystore = mem_calloc(1, sizeof *keystore);
    if (!keystore)
        return err_set(detail, ERR_TEMP, "out of memory");
    enum err err = open_all(keystore, config, detail);
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
    for (size_t i = 0; i < keystore->key_count; i++) {
        if (keystore->keys[i].key)
            token_key_close(keystore->keys[i].key);
    }
    for (size_t i = 0; i < keystore->token_count; i++) {
        if (keystore->tokens[i])
            token_close(keystore->tokens[i]);
    }
    mem_free(keystore->keys);
    mem_free(keystore->tokens);
    mem_free(keystore);
}

struct keystore_key *keystore_find_key(struct keystore *keystore, size_t index)
{
    return index < keystore->key_count ? &keystore->keys[index] : NULL;
}
