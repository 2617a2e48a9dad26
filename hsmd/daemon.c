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
#include "hsmd/core_handler.h"
#include "hsmd/custody/custody_handler.h"
#include "hsmd/custody/token_lines.h"
#include "hsmd/lineage.h"
#include "hsmd/migrate.h"
#include "hsmd/server/endpoint.h"
#include "hsmd/keystore/keystore_token.h"
#include "hsmd/watch/selftest.h"
#include "hsmd/server/server.h"
#include "hsmd/server/server_key.h"
#include "hsmd/server/zap.h"
#include "hsmd/state_directory.h"
#include "hsmd/watch/status.h"
#include "hsmd/ticker.h"

#define SECRET_FILE_MAX 256
#define DATA_SOCKET_MODE 0660     // gateways are in its group
#define OFFICERS_SOCKET_MODE 0660 // CURVE decides; the directory may be narrower
#define BUDGETS_FILE "budgets"    // in the state directory
#define BUDGETS_TICK_MS 2000
#define KEYSTORE_TICK_MS 500 // a key that is there again is seen within a second
#define CUSTODY_TICK_MS 2000
#define TICKER_STOP_MS 5000 // for the file of budgets to be written

struct daemon {
    const struct config *config;
    struct store *store;
    struct live *live;
    struct keystore *keystore;
    struct audit *audit;
    struct token_lines *token_lines;
    struct lineage lineage;
    struct refusals *refusals;
    struct checkpointer *checkpointer;
    struct metrics *metrics;
    struct budgets *budgets;
    struct ticker *budgets_ticker;
    struct ticker *keystore_ticker;
    struct custody *custody;
    struct ticker *custody_ticker;
    struct core core;
    struct server *server;
    struct server *officers;   // NULL: no channel for them
    struct selftest *selftest; // NULL: switched off
    struct status status;
    struct http *http; // NULL: not configured
};

static enum err load_server_key(const char *file, const char *what, struct secret *key,
                                char public_key[REGISTRY_PUBLIC_KEY_SIZE], struct detail *detail)
{
    enum err err = secret_init(key, SECRET_FILE_MAX, detail);
    if (err == ERR_OK)
        err = server_key_load(file, key, public_key, detail);
    if (err == ERR_OK)
        return ERR_OK;
    secret_clear(key);
    return err_prefix(detail, err, "%s", what);
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

static enum err check_endpoints(const char *const *endpoints, size_t count, struct detail *detail)
{
    for (size_t i = 0; i < count; i++) {
        struct detail reason = {0};
        bool is_absent = false;
        enum err err = endpoint_check(endpoints[i], &is_absent, &reason);
        if (is_absent) // the service manager may make it, at the start
            log_warning("check", "err", reason.text);
        else if (err != ERR_OK)
            return err_set(detail, err, "%s", reason.text);
    }
    return ERR_OK;
}

static enum err look_at_server_key(const char *file, const char *what,
                                   char public_key[REGISTRY_PUBLIC_KEY_SIZE], struct detail *detail)
{
    struct secret key = {0};
    enum err err = load_server_key(file, what, &key, public_key, detail);
    secret_clear(&key);
    return err;
}

// With one key for both sockets a gateway could be led to the officers', and an officer to the
// gateways', by whoever sits between.
static enum err check_server_keys(const struct config *config, struct detail *detail)
{
    char data[REGISTRY_PUBLIC_KEY_SIZE] = "";
    char officers[REGISTRY_PUBLIC_KEY_SIZE] = "";
    enum err err = look_at_server_key(config->server_key_file, "server key", data, detail);
    if (err == ERR_OK && config->officers_listen_count)
        err = look_at_server_key(config->officers_server_key_file, "officers' server key", officers,
                                 detail);
    if (err == ERR_OK && strcmp(data, officers) == 0)
        err = err_set(detail, ERR_PERM,
                      "officers' server key: it is the server key too: make one of its own with "
                      "'hsmd keygen'");
    return err;
}

// What can be looked at while another hsmd is running: the registry and the tokens are not.
enum err daemon_check(const struct config *config, struct detail *detail)
{
    enum err err = config_check_former(config, detail);
    if (err == ERR_OK)
        err = check_server_keys(config, detail);
    if (err == ERR_OK && access(config->state_directory, F_OK) == 0)
        err = state_directory_check(config->state_directory, detail);
    for (size_t i = 0; i < config->token_count && err == ERR_OK; i++)
        err = check_token(&config->tokens[i], detail);
    if (err == ERR_OK)
        err = check_endpoints(config->listen, config->listen_count, detail);
    if (err == ERR_OK)
        err = check_endpoints(config->officers_listen, config->officers_listen_count, detail);
    if (err == ERR_OK && !config->officers_listen_count)
        log_warning("check", "err", "no officers-listen: nobody can change the registry");
    if (err == ERR_OK)
        config_warn_quorum(config);
    return err;
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

static unsigned tick_custody(void *context)
{
    struct daemon *daemon = context;
    custody_tick(daemon->custody);
    token_lines_retry(daemon->token_lines);
    return CUSTODY_TICK_MS;
}

// A file of the state directory; path: PATH_MAX bytes.
static enum err state_path(const struct config *config, const char *name, char *path,
                           struct detail *detail)
{
    int len = snprintf(path, PATH_MAX, "%s/%s", config->state_directory, name);
    return len < PATH_MAX ? ERR_OK
                          : err_set(detail, ERR_PERM, "state directory: its path is too long");
}

static enum err open_store(struct daemon *daemon, struct detail *detail)
{
    char path[PATH_MAX];
    enum err err = state_path(daemon->config, STORE_FILE, path, detail);
    if (err == ERR_OK)
        err = store_open(path, &daemon->store, detail);
    return err == ERR_OK ? migrate_check(daemon->config, daemon->store, detail) : err;
}

static enum err open_budgets(struct daemon *daemon, struct detail *detail)
{
    char path[PATH_MAX];
    enum err err = state_path(daemon->config, BUDGETS_FILE, path, detail);
    if (err == ERR_OK)
        err = budgets_open(path, clock_ms(), clock_wall_ms(), &daemon->budgets, detail);
    if (err == ERR_OK)
        err = ticker_start(BUDGETS_TICK_MS, tick_budgets, daemon->budgets, &daemon->budgets_ticker,
                           detail);
    return err == ERR_OK ? ERR_OK : err_prefix(detail, err, "budgets");
}

static enum err open_audit(struct daemon *daemon, struct detail *detail)
{
    enum err err = lineage_open_audit(daemon->config, daemon->store, daemon->budgets,
                                      &daemon->lineage, &daemon->audit, detail);
    return err == ERR_OK ? ERR_OK : err_prefix(detail, err, "audit log");
}

static enum err open_keystore(struct daemon *daemon, struct detail *detail)
{
    const struct config *config = daemon->config;
    bool *is_locked = mem_calloc(config->token_count, sizeof *is_locked);
    enum err err = is_locked ? ERR_OK : err_set(detail, ERR_TEMP, "out of memory");
    for (size_t i = 0; i < config->token_count && err == ERR_OK; i++)
        err = store_is_locked(daemon->store, config->tokens[i].name, &is_locked[i], detail);
    if (err == ERR_OK)
        err = keystore_open(config, is_locked, &daemon->keystore, detail);
    mem_free(is_locked);
    if (err != ERR_OK)
        return err;
    if (token_lines_new(daemon->audit, &daemon->token_lines) != ERR_OK)
        return err_set(detail, ERR_TEMP, "out of memory");
    keystore_on_event(daemon->keystore, token_lines_tell, daemon->token_lines);
    return ticker_start(KEYSTORE_TICK_MS, tick_keystore, daemon->keystore, &daemon->keystore_ticker,
                        detail);
}

// From the store, by way of custody, to the registry of the moment.
static enum err open_custody(struct daemon *daemon, struct detail *detail)
{
    struct registry *empty = NULL;
    if (registry_new(&empty) != ERR_OK || live_new(empty, &daemon->live) != ERR_OK)
        return err_set(detail, ERR_TEMP, "out of memory");
    const struct custody_conf conf = {.config = daemon->config,
                                      .store = daemon->store,
                                      .live = daemon->live,
                                      .tokens = &custody_keystore_ops,
                                      .keystore = daemon->keystore,
                                      .budgets = daemon->budgets,
                                      .audit = daemon->audit,
                                      .metrics = daemon->metrics,
                                      .status = &daemon->status};
    enum err err = custody_new(&conf, &daemon->custody, detail);
    if (err == ERR_OK)
        err = lineage_remember(daemon->store, daemon->audit, detail);
    if (err == ERR_OK)
        err = ticker_start(CUSTODY_TICK_MS, tick_custody, daemon, &daemon->custody_ticker, detail);
    return err == ERR_OK ? ERR_OK : err_prefix(detail, err, "registry");
}

static enum err open_checkpointer(struct daemon *daemon, struct detail *detail)
{
    const struct checkpointer_conf conf = {
        .audit = daemon->audit,
        .keystore = &keystore_token_ops,
        .live = daemon->live,
        .lines = daemon->config->audit_checkpoint_lines,
        .seconds = daemon->config->audit_checkpoint_seconds,
    };
    return checkpointer_open(&conf, &daemon->checkpointer, detail);
}

// What both servers, and those who watch, look at.
static enum err make_core(struct daemon *daemon, struct detail *detail)
{
    const struct config *config = daemon->config;
    if (refusals_new(&daemon->refusals) != ERR_OK)
        return err_set(detail, ERR_TEMP, "out of memory");
    daemon->core = (struct core){.live = daemon->live,
                                 .keystore = &keystore_token_ops,
                                 .audit = daemon->audit,
                                 .refusals = daemon->refusals,
                                 .metrics = daemon->metrics};
    daemon->status = (struct status){.core = &daemon->core,
                                     .keystore = daemon->keystore,
                                     .budgets = daemon->budgets,
                                     .checkpointer = daemon->checkpointer,
                                     .registry_problem = daemon->lineage.problem,
                                     .budgets_problem = daemon->lineage.budgets_problem,
                                     .lost_act = daemon->lineage.lost_act,
                                     .workers = SERVER_LIGHT_WORKERS,
                                     .started = time(NULL)};
    for (size_t i = 0; i < config->token_count; i++)
        daemon->status.workers += config->tokens[i].sessions + SERVER_SPARE_WORKERS;
    return ERR_OK;
}

// A worker for each session that the tokens give us, and some for requests on the way there and
// back, so that no session waits for them.
static enum err open_server(struct daemon *daemon, struct detail *detail)
{
    const struct config *config = daemon->config;
    struct secret key = {0};
    unsigned *workers = mem_calloc(config->token_count, sizeof *workers);
    if (!workers)
        return err_set(detail, ERR_TEMP, "out of memory");
    for (size_t i = 0; i < config->token_count; i++)
        workers[i] = config->tokens[i].sessions + SERVER_SPARE_WORKERS;
    char public_key[REGISTRY_PUBLIC_KEY_SIZE];
    enum err err = load_server_key(config->server_key_file, "server key", &key, public_key, detail);
    const struct server_conf conf = {.domain = ZAP_DOMAIN_DATA,
                                     .endpoints = config->listen,
                                     .endpoint_count = config->listen_count,
                                     .mode = DATA_SOCKET_MODE,
                                     .server_key = &key,
                                     .handler = core_handler(&daemon->core),
                                     .workers = workers,
                                     .lane_count = (unsigned)config->token_count,
                                     .light_workers = SERVER_LIGHT_WORKERS,
                                     .is_direct = true,
                                     .timeout_ms = config->request_timeout,
                                     .request_max = WIRE_FRAME_MAX,
                                     .reply_max = WIRE_FRAME_MAX};
    if (err == ERR_OK)
        err = server_open(&conf, &daemon->server, detail);
    secret_clear(&key);
    mem_free(workers);
    return err;
}

// Workers for acts, one for reads that ask a token, and those that read.
static enum err open_officers(struct daemon *daemon, struct detail *detail)
{
    const struct config *config = daemon->config;
    struct secret key = {0};
    const unsigned workers[] = {custody_act_workers(config), 1};
    if (!config->officers_listen_count)
        return ERR_OK;
    char public_key[REGISTRY_PUBLIC_KEY_SIZE];
    enum err err = load_server_key(config->officers_server_key_file, "officers' server key", &key,
                                   public_key, detail);
    const struct server_conf conf = {.domain = ZAP_DOMAIN_OFFICERS,
                                     .endpoints = config->officers_listen,
                                     .endpoint_count = config->officers_listen_count,
                                     .mode = OFFICERS_SOCKET_MODE,
                                     .server_key = &key,
                                     .handler = custody_handler(daemon->custody),
                                     .workers = workers,
                                     .lane_count = 2,
                                     .light_workers = SERVER_LIGHT_WORKERS,
                                     .timeout_ms = config->officers_timeout,
                                     .request_max = MESSAGE_REQUEST_MAX,
                                     .reply_max = MESSAGE_REPLY_MAX};
    if (err == ERR_OK)
        err = server_open(&conf, &daemon->officers, detail);
    secret_clear(&key);
    return err == ERR_OK ? ERR_OK : err_prefix(detail, err, "officers' channel");
}

static enum err open_metrics(struct daemon *daemon, struct detail *detail)
{
    return metrics_new(&daemon->metrics) == ERR_OK ? ERR_OK
                                                   : err_set(detail, ERR_TEMP, "out of memory");
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

// In this order: each needs those before it, and nothing is served before all that is looked at by
// who answers is there.
static enum err start(struct daemon *daemon, struct detail *detail)
{
    enum err (*const steps[])(struct daemon * daemon, struct detail * detail) = {
        open_store,        open_budgets, open_audit,    open_metrics, open_keystore, open_custody,
        open_checkpointer, make_core,    open_selftest, open_server,  open_officers, open_http,
    };
    enum err err = config_check_former(daemon->config, detail);
    if (err == ERR_OK)
        err = check_server_keys(daemon->config, detail);
    if (err == ERR_OK)
        err = state_directory_make(daemon->config->state_directory, detail);
    for (size_t i = 0; i < sizeof steps / sizeof *steps && err == ERR_OK; i++)
        err = steps[i](daemon, detail);
    return err;
}

enum err daemon_start(const struct config *config, struct daemon **out, struct detail *detail)
{
    struct daemon *daemon = mem_calloc(1, sizeof *daemon);
    if (!daemon)
        return err_set(detail, ERR_TEMP, "out of memory");
    daemon->config = config;
    enum err err = start(daemon, detail);
    if (err != ERR_OK) {
        if (daemon_stop(daemon, NULL) != ERR_OK)
            *out = daemon;
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

// Nobody asks any more; ERR_TEMP: whoever hangs still uses the rest.
static enum err stop_serving(struct daemon *daemon, struct detail *detail)
{
    enum err err = server_close(daemon->server, detail);
    if (err == ERR_OK)
        err = server_close(daemon->officers, detail);
    if (!selftest_close(daemon->selftest, SERVER_DRAIN_MS) && err == ERR_OK)
        err = err_set(detail, ERR_TEMP, "the self-test is stuck in the token");
    if (!ticker_stop(daemon->custody_ticker, TICKER_STOP_MS) && err == ERR_OK)
        err = err_set(detail, ERR_TEMP, "the officers' ticker does not end");
    return err;
}

enum err daemon_stop(struct daemon *daemon, struct detail *detail)
{
    if (!daemon)
        return ERR_OK;
    http_close(daemon->http);
    enum err err = stop_serving(daemon, detail);
    if (!ticker_stop(daemon->keystore_ticker, TICKER_STOP_MS) && err == ERR_OK)
        err = err_set(detail, ERR_TEMP, "the tokens' ticker does not end");
    if (daemon->keystore) // what a token does now is no news: the log ends here
        keystore_on_event(daemon->keystore, NULL, NULL);
    if (daemon->lineage.is_told) {
        struct detail reason;
        core_tell_refusals(&daemon->core, REFUSALS_ALL);
        if (daemon->custody)
            custody_tell_refusals(daemon->custody, REFUSALS_ALL);
        if (daemon->token_lines)
            token_lines_retry(daemon->token_lines);
        if (lineage_tell_stop(err == ERR_OK ? daemon->store : NULL, daemon->budgets, daemon->audit,
                              &reason) != ERR_OK)
            log_error("stop", "err", reason.text);
    }
    if (err == ERR_OK)
        err = checkpointer_close(daemon->checkpointer, detail);
    if (!ticker_stop(daemon->budgets_ticker, TICKER_STOP_MS) && err == ERR_OK)
        err = err_set(detail, ERR_TEMP, "the file of budgets cannot be written");
    if (err != ERR_OK)
        return err; // whoever hangs still uses the rest
    if (!keystore_close(daemon->keystore))
        return err_set(detail, ERR_TEMP, "the thread of a token is stuck in its module");
    custody_free(daemon->custody);
    token_lines_free(daemon->token_lines);
    audit_close(daemon->audit);
    live_free(daemon->live);
    refusals_free(daemon->refusals);
    budgets_close(daemon->budgets);
    metrics_free(daemon->metrics);
    store_close(daemon->store);
    mem_free(daemon);
    return ERR_OK;
}
