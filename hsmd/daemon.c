// SPDX-License-Identifier: Apache-2.0
#include "hsmd/daemon.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hsmd/audit/audit_checkpoint.h"
#include "hsmd/base/alloc.h"
#include "hsmd/base/log.h"
#include "hsmd/certificate.h"
#include "hsmd/core_handler.h"
#include "hsmd/server/endpoint.h"
#include "hsmd/keystore/keystore_token.h"
#include "hsmd/registry/registry_conf.h"
#include "hsmd/watch/selftest.h"
#include "hsmd/server/server.h"
#include "hsmd/server/server_key.h"
#include "hsmd/server/zap.h"
#include "hsmd/watch/status.h"
#include "hsmd/ticker.h"

#define SECRET_FILE_MAX 256
#define DATA_SOCKET_MODE 0660  // gateways are in its group
#define AUDIT_KEY "audit"      // its name in the registry
#define BUDGETS_FILE "budgets" // in the state directory
#define BUDGETS_TICK_MS 2000
#define KEYSTORE_TICK_MS 1000
#define TICKER_STOP_MS 5000 // for the file of budgets to be written

struct daemon {
    const struct config *config;
    struct registry *registry; // until live has it
    struct live *live;
    struct keystore *keystore;
    struct audit *audit;
    struct refusals *refusals;
    struct checkpointer *checkpointer;
    struct metrics *metrics;
    struct budgets *budgets;
    struct ticker *budgets_ticker;
    struct ticker *keystore_ticker;
    struct core core;
    struct server *server;
    struct selftest *selftest; // NULL: switched off
    struct status status;
    struct http *http; // NULL: not configured
};

static enum err check_state_directory(const char *path, struct detail *detail)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return err_errno(detail, ERR_PERM, "state directory: %s", path);
    if (!S_ISDIR(st.st_mode))
        return err_set(detail, ERR_PERM, "state directory: %s: not a directory", path);
    if ((st.st_mode & 077) != 0 || (st.st_uid != geteuid() && geteuid() != 0))
        return err_set(detail, ERR_PERM,
                       "state directory: %s: mode %04o, owner %u: others may enter it (chmod 0700)",
                       path, st.st_mode & 07777u, st.st_uid);
    return ERR_OK;
}

static enum err load_server_key(const struct config *config, struct secret *key,
                                struct detail *detail)
{
    char public_key[REGISTRY_PUBLIC_KEY_SIZE];
    enum err err = secret_init(key, SECRET_FILE_MAX, detail);
    if (err == ERR_OK)
        err = server_key_load(config->server_key_file, key, public_key, detail);
    if (err == ERR_OK)
        return ERR_OK;
    secret_clear(key);
    return err_prefix(detail, err, "server key");
}

// The PIN that -t can see: a systemd credential is there only when systemd has started us.
static enum err check_token(const struct config_token *token, struct detail *detail)
{
    struct secret pin = {0};
    if (access(token->module, R_OK) != 0)
        return err_errno(detail, ERR_PERM, "token %s: module: %s", token->name, token->module);
    if (!token->pin_file)
        return ERR_OK;
    enum err err = secret_init(&pin, SECRET_FILE_MAX, detail);
    if (err == ERR_OK)
        err = keystore_read_pin(token, &pin, detail);
    secret_clear(&pin);
    return err == ERR_OK ? ERR_OK : err_prefix(detail, err, "token %s: PIN", token->name);
}

static enum err check_endpoints(const struct config *config, struct detail *detail)
{
    for (size_t i = 0; i < config->listen_count; i++) {
        struct detail reason = {0};
        bool is_absent = false;
        enum err err = endpoint_check(config->listen[i], &is_absent, &reason);
        if (is_absent) // the service manager may make it, at the start
            log_warning("check", "err", reason.text);
        else if (err != ERR_OK)
            return err_set(detail, err, "%s", reason.text);
    }
    return ERR_OK;
}

static struct bytes certificates_of(const struct registry *registry, const struct config_key *key)
{
    return registry_key_by_name(registry, bytes_of_text(key->name))->certificates;
}

static bool is_same_object(const struct config_key *a, const struct config_key *b)
{
    return strcmp(a->token, b->token) == 0 && strcmp(a->label, b->label) == 0;
}

// The certificate of a key, as far as it can be looked at without the token.
static enum err check_certificate(const struct config *config, const struct registry *registry,
                                  size_t index, struct detail *detail)
{
    struct detail warning = {0};
    const struct config_key *key = &config->keys[index];
    struct bytes certificates = certificates_of(registry, key);
    if (!certificates.len)
        return ERR_OK;
    enum err err = certificate_check_use(certificates, key->purpose, &warning, detail);
    for (size_t i = 0; i < index && err == ERR_OK; i++) {
        if (!is_same_object(&config->keys[i], key) &&
            certificate_is_same_key(certificates_of(registry, &config->keys[i]), certificates))
            err = err_set(detail, ERR_PERM, "its certificate is of the same key as that of key %s",
                          config->keys[i].name);
    }
    if (warning.text[0])
        log_warning("check", "key", key->name, "err", warning.text);
    return err == ERR_OK ? ERR_OK : err_prefix(detail, err, "key %s: certificate", key->name);
}

enum err daemon_check(const struct config *config, struct detail *detail)
{
    struct secret key = {0};
    struct registry *registry = NULL;
    enum err err = load_server_key(config, &key, detail);
    secret_clear(&key);
    if (err == ERR_OK && access(config->state_directory, F_OK) == 0)
        err = check_state_directory(config->state_directory, detail);
    for (size_t i = 0; i < config->token_count && err == ERR_OK; i++)
        err = check_token(&config->tokens[i], detail);
    if (err == ERR_OK)
        err = check_endpoints(config, detail);
    if (err == ERR_OK)
        err = registry_from_config(config, NULL, &registry, detail);
    for (size_t i = 0; i < config->key_count && err == ERR_OK; i++)
        err = check_certificate(config, registry, i, detail);
    registry_free(registry);
    if (err == ERR_OK && !config->has_audit_key)
        log_warning("check", "err", "no audit-key: the audit log is not signed");
    return err;
}

static enum err make_state_directory(const char *path, struct detail *detail)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return err_errno(detail, ERR_PERM, "state directory: %s", path);
    return check_state_directory(path, detail);
}

static enum err add_key(struct daemon *daemon, const struct config_key *from,
                        struct keystore_key **store, struct detail *detail)
{
    const struct keystore_place place = {from->token, from->label,
                                         bytes_of(from->id, from->id_len)};
    return keystore_add_key(daemon->keystore, from->name, from->purpose, bytes_of(NULL, 0), &place,
                            1, store, detail);
}

// Puts the token's keys under the registry's names, each with a look at its certificate.
static enum err bind_key(struct daemon *daemon, size_t index, struct detail *detail)
{
    struct detail warning = {0};
    struct keystore_key *store = NULL;
    const struct config_key *from = &daemon->config->keys[index];
    enum err err = add_key(daemon, from, &store, detail);
    if (err == ERR_OK)
        err = registry_bind_key(daemon->registry, from->name, store, detail);
    if (err != ERR_OK)
        return err;
    const struct registry_key *key =
        registry_key_by_name(daemon->registry, bytes_of_text(from->name));
    if (key->certificates.len && keystore_token_ops.describe(store)->public_key.len)
        err = certificate_check(key->certificates, keystore_token_ops.describe(store),
                                from->purpose, &warning, detail);
    if (err != ERR_OK)
        return err_prefix(detail, err, "key %s: certificate", from->name);
    if (warning.text[0])
        log_warning("start", "key", from->name, "err", warning.text);
    return ERR_OK;
}

// The audit-key section's: no other may have it.
static enum err add_audit_key(struct daemon *daemon, struct detail *detail)
{
    const struct config *config = daemon->config;
    struct registry_key key = {.name = AUDIT_KEY, .purpose = WIRE_AUDIT, .state = WIRE_ENABLED};
    if (!config->has_audit_key)
        return ERR_OK;
    if (registry_key_by_name(daemon->registry, BYTES_LITERAL(AUDIT_KEY)))
        snprintf(key.name, sizeof key.name, "%s", config->audit_key.name);
    struct config_key from = config->audit_key;
    from.name = key.name;
    enum err err = add_key(daemon, &from, &key.store, detail);
    return err == ERR_OK ? registry_add_key(daemon->registry, &key, detail) : err;
}

static unsigned tick_keystore(void *context)
{
    keystore_tick(context);
    return KEYSTORE_TICK_MS;
}

static unsigned tick_budgets(void *context)
{
    budgets_tick(context, clock_ms());
    return BUDGETS_TICK_MS;
}

static enum err open_budgets(struct daemon *daemon, struct detail *detail)
{
    char path[PATH_MAX];
    const char *state = daemon->config->state_directory;
    if ((size_t)snprintf(path, sizeof path, "%s/" BUDGETS_FILE, state) >= sizeof path)
        return err_set(detail, ERR_PERM, "state directory: its path is too long");
    enum err err = budgets_open(path, &daemon->budgets, detail);
    if (err == ERR_OK)
        err = ticker_start(BUDGETS_TICK_MS, tick_budgets, daemon->budgets, &daemon->budgets_ticker,
                           detail);
    return err == ERR_OK ? ERR_OK : err_prefix(detail, err, "budgets");
}

static enum err open_keys(struct daemon *daemon, struct detail *detail)
{
    enum err err = registry_from_config(daemon->config, daemon->budgets, &daemon->registry, detail);
    if (err == ERR_OK)
        err = keystore_open(daemon->config, &daemon->keystore, detail);
    for (size_t i = 0; i < daemon->config->key_count && err == ERR_OK; i++)
        err = bind_key(daemon, i, detail);
    if (err == ERR_OK)
        err = add_audit_key(daemon, detail);
    if (err == ERR_OK && live_new(daemon->registry, &daemon->live) != ERR_OK)
        err = err_set(detail, ERR_TEMP, "out of memory");
    if (err == ERR_OK)
        daemon->registry = NULL; // live's now
    if (err == ERR_OK)
        err = ticker_start(KEYSTORE_TICK_MS, tick_keystore, daemon->keystore,
                           &daemon->keystore_ticker, detail);
    return err;
}

static enum err open_checkpointer(struct daemon *daemon, struct detail *detail)
{
    const struct config *config = daemon->config;
    const struct checkpointer_conf conf = {
        .audit = daemon->audit,
        .keystore = &keystore_token_ops,
        .live = daemon->live,
        .lines = config->audit_checkpoint_lines,
        .seconds = config->audit_checkpoint_seconds,
    };
    return checkpointer_open(&conf, &daemon->checkpointer, detail);
}

static enum err open_audit(struct daemon *daemon, struct detail *detail)
{
    enum err err = audit_open(daemon->config->audit_log, &daemon->audit, detail);
    if (err == ERR_OK)
        err = audit_set_sync(daemon->audit, daemon->config->audit_sync, detail);
    if (err == ERR_OK)
        err = audit_write(daemon->audit, &(struct audit_record){.event = AUDIT_START}, detail);
    if (err == ERR_OK)
        err = open_checkpointer(daemon, detail);
    return err == ERR_OK ? ERR_OK : err_prefix(detail, err, "audit log");
}

// A worker for each session that the tokens give us.
static enum err open_server(struct daemon *daemon, const struct secret *key, struct detail *detail)
{
    const struct config *config = daemon->config;
    unsigned *workers = mem_calloc(config->token_count, sizeof *workers);
    if (!workers || refusals_new(&daemon->refusals) != ERR_OK) {
        mem_free(workers);
        return err_set(detail, ERR_TEMP, "out of memory");
    }
    for (size_t i = 0; i < config->token_count; i++)
        workers[i] = config->tokens[i].sessions;
    daemon->core = (struct core){.live = daemon->live,
                                 .keystore = &keystore_token_ops,
                                 .audit = daemon->audit,
                                 .refusals = daemon->refusals,
                                 .metrics = daemon->metrics};
    daemon->status = (struct status){.core = &daemon->core,
                                     .keystore = daemon->keystore,
                                     .budgets = daemon->budgets,
                                     .checkpointer = daemon->checkpointer,
                                     .workers = SERVER_LIGHT_WORKERS,
                                     .started = time(NULL)};
    for (size_t i = 0; i < config->token_count; i++)
        daemon->status.workers += workers[i];
    const struct server_conf conf = {.domain = ZAP_DOMAIN_DATA,
                                     .endpoints = config->listen,
                                     .endpoint_count = config->listen_count,
                                     .mode = DATA_SOCKET_MODE,
                                     .server_key = key,
                                     .handler = core_handler(&daemon->core),
                                     .workers = workers,
                                     .lane_count = (unsigned)config->token_count,
                                     .light_workers = SERVER_LIGHT_WORKERS,
                                     .timeout_ms = config->request_timeout,
                                     .request_max = WIRE_FRAME_MAX,
                                     .reply_max = WIRE_FRAME_MAX};
    enum err err = server_open(&conf, &daemon->server, detail);
    mem_free(workers);
    return err;
}

static enum err put_metrics(void *context, struct buf *out)
{
    return status_put_metrics(context, out);
}

static enum err put_health(void *context, bool is_json, struct buf *out, bool *is_well)
{
    return status_put_health(context, is_json, out, is_well);
}

static enum err open_http(struct daemon *daemon, struct detail *detail)
{
    if (!daemon->config->has_metrics)
        return ERR_OK;
    const struct http_conf conf = {.address = daemon->config->metrics_address,
                                   .context = &daemon->status,
                                   .put_metrics = put_metrics,
                                   .put_health = put_health};
    enum err err = http_open(&conf, &daemon->http, detail);
    return err == ERR_OK ? ERR_OK : err_prefix(detail, err, "metrics-listen");
}

static enum err open_selftest(struct daemon *daemon, struct detail *detail)
{
    const struct config *config = daemon->config;
    if (!config->self_test_interval)
        return ERR_OK;
    enum err err = selftest_open(&daemon->core, config->self_test_interval * 1000,
                                 config->request_timeout, &daemon->selftest, detail);
    daemon->status.selftest = daemon->selftest;
    return err == ERR_OK ? ERR_OK : err_prefix(detail, err, "self-test");
}

enum err daemon_start(const struct config *config, struct daemon **out, struct detail *detail)
{
    struct secret key = {0};
    struct daemon *daemon = mem_calloc(1, sizeof *daemon);
    if (!daemon)
        return err_set(detail, ERR_TEMP, "out of memory");
    daemon->config = config;
    enum err err = make_state_directory(config->state_directory, detail);
    if (err == ERR_OK)
        err = load_server_key(config, &key, detail);
    if (err == ERR_OK)
        err = open_budgets(daemon, detail);
    if (err == ERR_OK)
        err = open_keys(daemon, detail);
    if (err == ERR_OK)
        err = open_audit(daemon, detail);
    if (err == ERR_OK && metrics_new(&daemon->metrics) != ERR_OK)
        err = err_set(detail, ERR_TEMP, "out of memory");
    if (err == ERR_OK)
        err = open_server(daemon, &key, detail);
    if (err == ERR_OK)
        err = open_selftest(daemon, detail);
    if (err == ERR_OK)
        err = open_http(daemon, detail);
    secret_clear(&key);
    if (err != ERR_OK) {
        (void)daemon_stop(daemon, NULL); // nothing is at work yet
        return err;
    }
    *out = daemon;
    return ERR_OK;
}

void daemon_reopen_logs(struct daemon *daemon)
{
    struct detail detail;
    if (audit_reopen(daemon->audit, &detail) != ERR_OK)
        log_error("audit", "state", "not reopened, going on with the old file", "err", detail.text);
}

void daemon_tell_refusals(struct daemon *daemon)
{
    core_tell_refusals(&daemon->core, clock_ms());
}

enum err daemon_stop(struct daemon *daemon, struct detail *detail)
{
    if (!daemon)
        return ERR_OK;
    http_close(daemon->http);
    enum err err = server_close(daemon->server, detail);
    if (!selftest_close(daemon->selftest, SERVER_DRAIN_MS) && err == ERR_OK)
        err = err_set(detail, ERR_TEMP, "the self-test is stuck in the token");
    if (daemon->audit) {
        struct detail reason;
        core_tell_refusals(&daemon->core, REFUSALS_ALL);
        if (audit_write(daemon->audit, &(struct audit_record){.event = AUDIT_STOP}, &reason) !=
            ERR_OK)
            log_error("stop", "err", reason.text);
    }
    if (err == ERR_OK)
        err = checkpointer_close(daemon->checkpointer, detail);
    if (!ticker_stop(daemon->keystore_ticker, TICKER_STOP_MS) && err == ERR_OK)
        err = err_set(detail, ERR_TEMP, "the tokens' ticker does not end");
    if (!ticker_stop(daemon->budgets_ticker, TICKER_STOP_MS) && err == ERR_OK)
        err = err_set(detail, ERR_TEMP, "the file of budgets cannot be written");
    if (err != ERR_OK)
        return err; // whoever hangs still uses the rest
    audit_close(daemon->audit);
    keystore_close(daemon->keystore);
    live_free(daemon->live);
    registry_free(daemon->registry);
    refusals_free(daemon->refusals);
    budgets_close(daemon->budgets);
    metrics_free(daemon->metrics);
    mem_free(daemon);
    return ERR_OK;
}
