// SPDX-License-Identifier: Apache-2.0
#include "hsmd/keystore/keystore_internal.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/file.h"
#include "hsmd/base/log.h"

#define PIN_MAX 256
// A session is waited for as long as the request has time; this is for what has no deadline.
#define SESSION_WAIT_MS 30000
// Modules have been seen to hang in C_Initialize and C_Login. hsmd's start waits for them that long
// and goes on without their tokens.
#define OPEN_WAIT_MS 10000

enum err keystore_read_pin(const struct config_token *token, struct secret *pin,
                           struct detail *detail)
{
    char path[PATH_MAX];
    const char *directory = getenv("CREDENTIALS_DIRECTORY");
    if (token->pin_file)
        return file_read_secret(token->pin_file, pin, detail);
    if (!token->pin_credential)
        return err_set(detail, ERR_PERM, "none is configured");
    if (!directory)
        return err_set(detail, ERR_PERM,
                       "no credential \"%s\": systemd has set no CREDENTIALS_DIRECTORY",
                       token->pin_credential);
    if ((size_t)snprintf(path, sizeof path, "%s/%s", directory, token->pin_credential) >=
        sizeof path)
        return err_set(detail, ERR_PERM, "CREDENTIALS_DIRECTORY is too long");
    return file_read_secret(path, pin, detail);
}

void keystore_give_up(struct keystore_token *token, const struct detail *detail)
{
    struct token_status status = {0};
    struct token *opened = atomic_load(&token->token);
    if (atomic_exchange(&token->is_refused, true))
        return;
    if (opened)
        token_status(opened, &status);
    atomic_store(&token->is_final_try, status.is_final_try);
    log_error("token", "token", token->conf->name, "state",
              "given up until hsmd is started again or unlocked", "err", detail->text);
}

void keystore_forget_pin(struct keystore_token *token)
{
    pthread_mutex_lock(&token->lock);
    secret_clear(&token->pin);
    token->pin = (struct secret){0};
    token->source = PIN_NONE;
    pthread_mutex_unlock(&token->lock);
}

// The PIN of the moment; empty if there is none.
static enum err get_pin(struct keystore_token *token, struct secret *pin, enum pin_source *source,
                        uint64_t *locks, struct detail *detail)
{
    enum err err = ERR_OK;
    pthread_mutex_lock(&token->lock);
    *source = token->source;
    *locks = token->locks;
    if (token->source == PIN_GIVEN && token->pin.data)
        err = secret_set(pin, token->pin.data, token->pin.len);
    else if (token->source == PIN_GIVEN)
        *source = PIN_NONE; // it was forgotten once used
    pthread_mutex_unlock(&token->lock);
    if (*source == PIN_CONFIGURED)
        err = keystore_read_pin(token->conf, pin, detail);
    return err == ERR_OK ? ERR_OK : err_prefix(detail, err, "token %s: PIN", token->conf->name);
}

static bool is_locked_since(struct keystore_token *token, uint64_t locks)
{
    pthread_mutex_lock(&token->lock);
    bool is_locked = token->locks != locks;
    pthread_mutex_unlock(&token->lock);
    return is_locked;
}

enum err keystore_log_in(struct keystore_token *token, struct token *opened, struct detail *detail)
{
    const struct config_token *conf = token->conf;
    struct secret pin = {0};
    enum pin_source source = PIN_NONE;
    uint64_t locks = 0;
    if (atomic_load(&token->is_refused))
        return ERR_OK;
    enum err err = secret_init(&pin, PIN_MAX, detail);
    if (err == ERR_OK)
        err = get_pin(token, &pin, &source, &locks, detail);
    if (err == ERR_OK && source != PIN_NONE) {
        err = token_login(opened, &pin, detail); // its details name the token
        if (is_locked_since(token, locks))
            err = token_logout(opened, detail);
        else if (err == ERR_OK && source == PIN_CONFIGURED &&
                 !atomic_exchange(&token->has_logged_in, true))
            atomic_store(&token->is_login_due, true);
    }
    secret_clear(&pin);
    if (err != ERR_DENIED || source != PIN_CONFIGURED)
        return err;
    struct detail reason = *detail;
    return err_set(detail, err, "%s (its PIN is from %s %s)", reason.text,
                   conf->pin_file ? "the file" : "the credential",
                   conf->pin_file ? conf->pin_file : conf->pin_credential);
}

enum err keystore_open_token(struct keystore_token *token, struct detail *detail)
{
    const struct config_token *from = token->conf;
    const struct token_conf conf = {.name = from->name,
                                    .module = from->module,
                                    .label = from->label,
                                    .serial = from->serial,
                                    .init_args = from->init_args,
                                    .sessions = token->sessions,
                                    .wait_ms = SESSION_WAIT_MS,
                                    .forget_pin = !from->healing,
                                    .copy_keys = from->copy_keys};
    struct token *opened = NULL;
    if (atomic_exchange(&token->is_opening, true))
        return err_set(detail, ERR_TEMP, "token %s: being opened", from->name);
    enum err err = ERR_OK;
    if (!atomic_load(&token->token)) {
        err = token_open(&conf, &opened, detail);
        if (err == ERR_OK) {
            // Seen before it is logged in, so that it can be locked meanwhile.
            atomic_store(&token->token, opened);
            err = keystore_log_in(token, opened, detail);
        }
    }
    if (err == ERR_DENIED)
        keystore_give_up(token, detail);
    atomic_store(&token->is_opening, false);
    return err;
}

void keystore_close_token(struct keystore_token *token)
{
    for (struct place *place = atomic_load(&token->keystore->places); place; place = place->next) {
        if (place->token == token)
            token_key_close(atomic_exchange(&place->key, NULL));
    }
    token_close(atomic_exchange(&token->token, NULL));
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

struct keystore_token *keystore_find_token(struct keystore *keystore, const char *name,
                                           struct detail *detail)
{
    for (size_t i = 0; i < keystore->token_count; i++) {
        if (strcmp(keystore->tokens[i].conf->name, name) == 0)
            return &keystore->tokens[i];
    }
    (void)err_set(detail, ERR_PERM, "there is no token section \"%s\"", name);
    return NULL;
}

// Who belongs to whom, nothing opened yet.
static enum err lay_out(struct keystore *keystore, const struct config *config,
                        const bool *is_locked, struct detail *detail)
{
    pthread_mutex_init(&keystore->lock, NULL);
    pthread_mutex_init(&keystore->telling, NULL);
    keystore->modules = mem_calloc(config->token_count, sizeof *keystore->modules);
    keystore->tokens = mem_calloc(config->token_count, sizeof *keystore->tokens);
    if (!keystore->modules || !keystore->tokens)
        return err_set(detail, ERR_TEMP, "out of memory");
    for (size_t i = 0; i < config->token_count; i++) {
        pthread_condattr_t monotonic;
        struct keystore_token *token = &keystore->tokens[keystore->token_count++];
        token->keystore = keystore;
        token->conf = &config->tokens[i];
        token->module = module_of(keystore, token->conf->module);
        // One more than there are workers: for the checkpoints, and for those who watch.
        token->sessions = token->conf->sessions + 1;
        if (token->sessions > TOKEN_SESSIONS_MAX)
            token->sessions = TOKEN_SESSIONS_MAX;
        atomic_store(&token->is_officers_lock, is_locked && is_locked[i]);
        if (!token->is_officers_lock && (token->conf->pin_file || token->conf->pin_credential))
            token->source = PIN_CONFIGURED;
        pthread_mutex_init(&token->lock, NULL);
        pthread_condattr_init(&monotonic);
        pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
        pthread_cond_init(&token->changed, &monotonic);
        pthread_condattr_destroy(&monotonic);
    }
    return ERR_OK;
}

// A PIN that is configured must be there; whether it is right, only the token knows.
static enum err check_pin(const struct keystore_token *token, struct detail *detail)
{
    struct secret pin = {0};
    if (token->source != PIN_CONFIGURED)
        return ERR_OK;
    enum err err = secret_init(&pin, PIN_MAX, detail);
    if (err == ERR_OK)
        err = keystore_read_pin(token->conf, &pin, detail);
    secret_clear(&pin);
    return err == ERR_OK ? ERR_OK : err_prefix(detail, err, "token %s: PIN", token->conf->name);
}

enum err keystore_open_first(struct keystore_token *token, struct detail *detail)
{
    // In case it hangs: let it be known in which.
    log_notice("token", "token", token->conf->name, "state", "opening", "module",
               token->conf->module);
    enum err err = keystore_open_token(token, detail);
    pthread_mutex_lock(&token->lock);
    bool has_pin = token->source != PIN_NONE;
    pthread_mutex_unlock(&token->lock);
    keystore_note(token);
    if (err != ERR_OK && err != ERR_DENIED)
        log_error("token", "token", token->conf->name, "state", "not there", "err", detail->text);
    else if (err == ERR_OK && !has_pin)
        log_notice("token", "token", token->conf->name, "state", "locked", "reason",
                   atomic_load(&token->is_officers_lock) ? "officers have locked it" : "no PIN");
    return err;
}

// The watchers are still at it: these tokens are lost until their calls return.
static void tell_hanging(struct keystore *keystore)
{
    for (size_t i = 0; i < keystore->token_count; i++) {
        struct keystore_token *token = &keystore->tokens[i];
        pthread_mutex_lock(&token->lock);
        bool has_tried = token->has_tried;
        pthread_mutex_unlock(&token->lock);
        if (has_tried)
            continue;
        log_error("token", "token", token->conf->name, "state", "hanging, going on without it",
                  "module", token->conf->module);
        struct detail hangs;
        keystore_tell_changes(token, err_set(&hangs, ERR_TEMP, "its module hangs"), &hangs);
    }
}

enum err keystore_open(const struct config *config, const bool *is_locked, struct keystore **out,
                       struct detail *detail)
{
    struct keystore *keystore = mem_calloc(1, sizeof *keystore);
    if (!keystore)
        return err_set(detail, ERR_TEMP, "out of memory");
    enum err err = lay_out(keystore, config, is_locked, detail);
    for (size_t i = 0; i < keystore->token_count && err == ERR_OK; i++)
        err = check_pin(&keystore->tokens[i], detail);
    if (err == ERR_OK)
        err = keystore_start_watchers(keystore, detail);
    if (err == ERR_OK && !keystore_wait_opened(keystore, deadline_in(OPEN_WAIT_MS)))
        tell_hanging(keystore);
    if (err != ERR_OK) {
        (void)keystore_close(keystore); // nothing is open yet that could hang
        return err;
    }
    *out = keystore;
    return ERR_OK;
}

bool keystore_close(struct keystore *keystore)
{
    if (!keystore)
        return true;
    if (!keystore_stop_watchers(keystore))
        return false; // the one that hangs still uses all of it
    for (size_t i = 0; i < keystore->token_count; i++)
        keystore_close_token(&keystore->tokens[i]);
    keystore_free_keys(keystore);
    for (size_t i = 0; i < keystore->token_count; i++) {
        secret_clear(&keystore->tokens[i].pin);
        pthread_cond_destroy(&keystore->tokens[i].changed);
        pthread_mutex_destroy(&keystore->tokens[i].lock);
    }
    for (size_t i = 0; i < keystore->module_count; i++)
        gate_clear(&keystore->modules[i].gate);
    pthread_mutex_destroy(&keystore->telling);
    pthread_mutex_destroy(&keystore->lock);
    mem_free(keystore->tokens);
    mem_free(keystore->modules);
    mem_free(keystore);
    return true;
}
