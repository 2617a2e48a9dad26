// SPDX-License-Identifier: Apache-2.0
// Two steps: libConfuse parses, and checks each value where it stands (config_check.c), so that the
// message has the line; then the sections are copied into arrays and checked against each other.
#include "hsmd/config.h"

#include <stdio.h>
#include <string.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/conf.h"
#include "hsmd/base/file.h"
#include "hsmd/config_check.h"
#include "hsmd/config_internal.h"
#include "hsmd/former.h"
#include "pkcs11/token.h"

#define FILE_SIZE_MAX ((size_t)4 * 1024 * 1024)

#define TEXT(text_name, default_text, check)                                      \
    {                                                                             \
        .name = (text_name), .type = CFGT_STR, .def = {.string = (default_text)}, \
        .validcb = (check)                                                        \
    }
#define LIST(list_name, check)                                                              \
    {                                                                                       \
        .name = (list_name), .type = CFGT_STR, .flags = CFGF_LIST, .def = {.parsed = "{}"}, \
        .validcb = (check)                                                                  \
    }
#define NUMBER(number_name, default_number, check)                                    \
    {                                                                                 \
        .name = (number_name), .type = CFGT_INT, .def = {.number = (default_number)}, \
        .validcb = (check)                                                            \
    }
#define FLAG(flag_name, default_flag)                                               \
    {                                                                               \
        .name = (flag_name), .type = CFGT_BOOL, .def = {.boolean = (default_flag) } \
    }
#define SECTION(section_name, options, section_flags)                                    \
    {                                                                                    \
        .name = (section_name), .type = CFGT_SEC, .flags = CFGF_MULTI | (section_flags), \
        .subopts = (options), .validcb = config_check_title                              \
    }

#define BUDGET()                                                                              \
    NUMBER("per-minute", 0, config_check_budget), NUMBER("per-hour", 0, config_check_budget), \
        NUMBER("total", 0, config_check_budget),                                              \
        NUMBER("failures-per-hour", 0, config_check_budget)

static cfg_opt_t token_options[] = {
    TEXT("module", NULL, config_check_text),
    TEXT("label", NULL, config_check_text),
    TEXT("serial", NULL, NULL),
    TEXT("pin-file", NULL, NULL),
    TEXT("pin-credential", NULL, config_check_name),
    NUMBER("sessions", 4, config_check_sessions),
    TEXT("init-args", NULL, NULL),
    FLAG("healing", cfg_true),
    FLAG("copy-keys", cfg_true),
    CFG_END(),
};

static cfg_opt_t officer_options[] = {
    TEXT("role", NULL, config_check_role),
    TEXT("signing-key", NULL, config_check_signing_key),
    TEXT("public-key", NULL, config_check_public_key),
    TEXT("file", NULL, config_check_text),
    CFG_END(),
};

static cfg_opt_t key_options[] = {
    TEXT("token", NULL, config_check_name),
    TEXT("label", NULL, config_check_text),
    TEXT("id", NULL, config_check_id),
    TEXT("purpose", NULL, config_check_purpose),
    TEXT("state", "enabled", config_check_state),
    LIST("algorithms", config_check_algorithms),
    TEXT("certificate-file", NULL, NULL),
    BUDGET(),
    CFG_END(),
};

static cfg_opt_t audit_key_options[] = {
    TEXT("token", NULL, config_check_name),
    TEXT("label", NULL, config_check_text),
    TEXT("id", NULL, config_check_id),
    CFG_END(),
};

static cfg_opt_t client_options[] = {
    TEXT("public-key", NULL, config_check_public_key),
    TEXT("public-key-file", NULL, config_check_text),
    CFG_END(),
};

static cfg_opt_t grant_options[] = {
    TEXT("client", NULL, config_check_name),
    TEXT("key", NULL, config_check_name),
    LIST("operations", config_check_operations),
    LIST("algorithms", config_check_algorithms),
    BUDGET(),
    CFG_END(),
};

static cfg_opt_t options[] = {
    LIST("listen", config_check_listen),
    TEXT("server-key-file", NULL, config_check_text),
    LIST("officers-listen", config_check_listen),
    TEXT("officers-server-key-file", NULL, config_check_text),
    NUMBER("officers-timeout", 120000, config_check_timeout),
    NUMBER("quorum", 0, config_check_quorum),
    NUMBER("proposal-lapse", STATEMENT_LAPSE_DEFAULT, config_check_lapse),
    TEXT("state-directory", NULL, config_check_text),
    TEXT("audit-log", NULL, NULL),
    TEXT("audit-sync", "batch", config_check_audit_sync),
    NUMBER("audit-checkpoint-lines", 1000, config_check_checkpoint_lines),
    NUMBER("audit-checkpoint-seconds", 60, config_check_checkpoint_seconds),
    TEXT("log", "auto", config_check_log),
    TEXT("log-level", "notice", config_check_log_level),
    NUMBER("request-timeout", 10000, config_check_timeout),
    NUMBER("self-test-interval", 300, config_check_interval),
    TEXT("metrics-listen", NULL, config_check_metrics_listen),
    FLAG("metrics-allow-remote", cfg_false),
    SECTION("token", token_options, CFGF_TITLE | CFGF_NO_TITLE_DUPES),
    SECTION("officer", officer_options, CFGF_TITLE | CFGF_NO_TITLE_DUPES),
    SECTION("key", key_options, CFGF_TITLE | CFGF_NO_TITLE_DUPES),
    SECTION("audit-key", audit_key_options, 0),
    SECTION("client", client_options, CFGF_TITLE | CFGF_NO_TITLE_DUPES),
    SECTION("grant", grant_options, 0),
    CFG_END(),
};

const cfg_opt_t *config_options(void)
{
    return options;
}

enum err config_complain(const cfg_t *section, struct detail *detail, const char *problem)
{
    const char *title = cfg_title((cfg_t *)section);
    return err_set(detail, ERR_PERM, "%s:%d: %s%s%s: %s", section->filename, section->line,
                   section->name, title ? " " : "", title ? title : "", problem);
}

// A reference to a section that is not there.
static enum err complain_reference(const cfg_t *section, struct detail *detail, const char *kind,
                                   const char *given)
{
    char problem[2 * TEXT_NAME_MAX + 60];
    if (given)
        snprintf(problem, sizeof problem, "%s must name a %s section, not '%s'", kind, kind, given);
    else
        snprintf(problem, sizeof problem, "%s is missing; it must name a %s section", kind, kind);
    return config_complain(section, detail, problem);
}

const char *config_optional(cfg_t *cfg, const char *option)
{
    const char *text = cfg_getstr(cfg, option);
    return text && *text ? text : NULL;
}

enum err config_resolve(struct config *config, const char *path, const char **out)
{
    *out = path;
    const char *slash = strrchr(config->path, '/');
    if (!path || path[0] == '/' || !slash)
        return ERR_OK;
    size_t directory = (size_t)(slash - config->path) + 1;
    size_t size = directory + strlen(path) + 1;
    char **paths = mem_realloc(config->paths, (config->path_count + 1) * sizeof *paths);
    if (!paths)
        return ERR_TEMP;
    config->paths = paths;
    char *joined = mem_calloc(size, 1);
    if (!joined)
        return ERR_TEMP;
    snprintf(joined, size, "%.*s%s", (int)directory, config->path, path);
    paths[config->path_count++] = joined;
    *out = joined;
    return ERR_OK;
}

static uint64_t set_of(cfg_t *cfg, const char *option, unsigned (*number)(const char *name))
{
    uint64_t set = 0;
    for (unsigned i = 0; i < cfg_size(cfg, option); i++)
        set |= REGISTRY_SET(number(cfg_getnstr(cfg, option, i)));
    return set;
}

static unsigned operation_number(const char *name)
{
    return wire_operation_by_name(name);
}

static unsigned algorithm_number(const char *name)
{
    return wire_algorithm_by_name(name);
}

static uint64_t algorithms_of(cfg_t *cfg)
{
    uint64_t set = set_of(cfg, "algorithms", algorithm_number);
    return set ? set : REGISTRY_ALL;
}

static struct budget_limits limits_of(cfg_t *cfg)
{
    return (struct budget_limits){.per_minute = (unsigned)cfg_getint(cfg, "per-minute"),
                                  .per_hour = (unsigned)cfg_getint(cfg, "per-hour"),
                                  .total = (unsigned)cfg_getint(cfg, "total"),
                                  .failures_per_hour =
                                      (unsigned)cfg_getint(cfg, "failures-per-hour")};
}

static bool has_token(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->token_count; i++) {
        if (strcmp(config->tokens[i].name, name) == 0)
            return true;
    }
    return false;
}

static enum err take_key(struct config *config, cfg_t *cfg, struct detail *detail)
{
    struct config_key *key = &config->keys[config->key_count++];
    *key = (struct config_key){
        .name = cfg_title(cfg),
        .token = config_optional(cfg, "token"),
        .label = config_optional(cfg, "label"),
        .state = wire_state_by_name(cfg_getstr(cfg, "state")),
        .algorithms = algorithms_of(cfg),
        .limits = limits_of(cfg),
    };
    const char *purpose = config_optional(cfg, "purpose");
    if (!key->token || !has_token(config, key->token))
        return complain_reference(cfg, detail, "token", key->token);
    if (!key->label)
        return config_complain(cfg, detail, "label is missing");
    if (!purpose)
        return config_complain(cfg, detail, "purpose is missing");
    key->purpose = wire_purpose_by_name(purpose);
    key->id_len = config_parse_id(config_optional(cfg, "id"), key->id);
    return config_resolve(config, config_optional(cfg, "certificate-file"), &key->certificate_file);
}

static enum err take_audit_key(struct config *config, cfg_t *cfg, struct detail *detail)
{
    if (config->has_audit_key)
        return config_complain(cfg, detail, "there can be only one");
    config->has_audit_key = true;
    config->audit_key = (struct config_key){
        .name = "audit-key",
        .token = config_optional(cfg, "token"),
        .label = config_optional(cfg, "label"),
        .purpose = WIRE_AUDIT,
        .state = WIRE_ENABLED,
    };
    if (!config->audit_key.token || !has_token(config, config->audit_key.token))
        return config_complain(cfg, detail, "token must name a token section");
    if (!config->audit_key.label)
        return config_complain(cfg, detail, "label is missing");
    config->audit_key.id_len = config_parse_id(config_optional(cfg, "id"), config->audit_key.id);
    return ERR_OK;
}

static enum err take_client(struct config *config, cfg_t *cfg, struct detail *detail)
{
    struct config_client *client = &config->clients[config->client_count++];
    const char *public_key = config_optional(cfg, "public-key");
    const char *path = NULL;
    client->name = cfg_title(cfg);
    if (!public_key == !config_optional(cfg, "public-key-file"))
        return config_complain(cfg, detail, "either public-key or public-key-file must be given");
    if (public_key) {
        snprintf(client->public_key, sizeof client->public_key, "%s", public_key);
        return ERR_OK;
    }
    enum err err = config_resolve(config, config_optional(cfg, "public-key-file"), &path);
    if (err != ERR_OK)
        return err;
    err = curve_read_public(path, client->public_key, detail);
    if (err == ERR_OK)
        return ERR_OK;
    struct detail reason = *detail;
    return config_complain(cfg, detail, reason.text);
}

static enum err take_grant(struct config *config, cfg_t *cfg, struct detail *detail)
{
    struct config_grant *grant = &config->grants[config->grant_count++];
    *grant = (struct config_grant){
        .client = config_optional(cfg, "client"),
        .key = config_optional(cfg, "key"),
        .operations = set_of(cfg, "operations", operation_number),
        .algorithms = algorithms_of(cfg),
        .limits = limits_of(cfg),
    };
    bool has_client = false;
    bool has_key = false;
    for (size_t i = 0; i < config->client_count && grant->client; i++)
        has_client = has_client || strcmp(config->clients[i].name, grant->client) == 0;
    for (size_t i = 0; i < config->key_count && grant->key; i++)
        has_key = has_key || strcmp(config->keys[i].name, grant->key) == 0;
    if (!has_client)
        return complain_reference(cfg, detail, "client", grant->client);
    if (!has_key)
        return complain_reference(cfg, detail, "key", grant->key);
    if (!grant->operations)
        return config_complain(cfg, detail, "operations must list at least one");
    return ERR_OK;
}

static enum err take_sections(struct config *config, struct detail *detail)
{
    // In this order: each may name those before it.
    const struct {
        const char *section;
        void **array;
        size_t size;
        enum err (*take)(struct config *config, cfg_t *cfg, struct detail *detail);
    } kinds[] = {
        {"token", (void **)&config->tokens, sizeof *config->tokens, config_take_token},
        {"officer", (void **)&config->officers, sizeof *config->officers, config_take_officer},
        {"key", (void **)&config->keys, sizeof *config->keys, take_key},
        {"audit-key", NULL, 0, take_audit_key},
        {"client", (void **)&config->clients, sizeof *config->clients, take_client},
        {"grant", (void **)&config->grants, sizeof *config->grants, take_grant},
    };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        unsigned count = cfg_size(config->parsed, kinds[k].section);
        void *array = kinds[k].array ? mem_calloc(count + 1, kinds[k].size) : NULL;
        if (kinds[k].array && !array)
            return err_set(detail, ERR_TEMP, "out of memory");
        if (kinds[k].array)
            *kinds[k].array = array;
        for (unsigned i = 0; i < count; i++) {
            cfg_t *section = cfg_getnsec(config->parsed, kinds[k].section, i);
            enum err err = kinds[k].take(config, section, detail);
            if (err != ERR_OK)
                return err;
        }
    }
    if (config->token_count == 0)
        return err_set(detail, ERR_PERM, "%s: at least one token must be there", config->path);
    return config_check_officers(config, detail);
}

// libConfuse knows where a section ends; who is to mend the file wants to know where it begins.
static enum err take_former(struct config *config, struct detail *detail)
{
    struct buf text;
    struct former former = {0};
    if (!config->key_count && !config->has_audit_key && !config->client_count &&
        !config->grant_count)
        return ERR_OK;
    buf_init(&text, FILE_SIZE_MAX);
    enum err err = file_read(config->path, &text, detail);
    config->has_former = true;
    if (err == ERR_OK && former_next(buf_bytes(&text), &former))
        config->former_line = former.line;
    buf_clear(&text);
    return err;
}

enum err config_check_former(const struct config *config, struct detail *detail)
{
    if (!config->has_former)
        return ERR_OK;
    return err_set(detail, ERR_PERM,
                   "%s:%u: keys, clients and grants are kept in the registry: bring those of this "
                   "file there with 'hsmd migrate -c %s'",
                   config->path, config->former_line, config->path);
}

// Everyone who can connect may read the metrics: who uses which key how much.
static enum err take_metrics(struct config *config, struct detail *detail)
{
    const char *address = config_optional(config->parsed, "metrics-listen");
    config->has_metrics = address != NULL;
    if (!address)
        return ERR_OK;
    (void)http_parse_address(address, &config->metrics_address); // checked by its callback
    if (config->metrics_address.is_loopback || cfg_getbool(config->parsed, "metrics-allow-remote"))
        return ERR_OK;
    return err_set(detail, ERR_PERM,
                   "%s: metrics-listen: %s is no loopback address, and metrics-allow-remote is not "
                   "true",
                   config->path, address);
}

static enum err take_globals(struct config *config, struct detail *detail)
{
    cfg_t *cfg = config->parsed;
    config->listen_count = cfg_size(cfg, "listen");
    if (config->listen_count == 0)
        return err_set(detail, ERR_PERM, "%s: listen is missing", config->path);
    for (size_t i = 0; i < config->listen_count; i++)
        config->listen[i] = cfg_getnstr(cfg, "listen", (unsigned)i);
    const char *key_file = config_optional(cfg, "server-key-file");
    const char *state = config_optional(cfg, "state-directory");
    if (!key_file || !state)
        return err_set(detail, ERR_PERM, "%s: %s is missing", config->path,
                       key_file ? "state-directory" : "server-key-file");
    (void)log_sink_by_name(cfg_getstr(cfg, "log"), &config->log_sink); // checked by its callback
    (void)log_level_by_name(cfg_getstr(cfg, "log-level"), &config->log_level);
    (void)audit_sync_by_name(cfg_getstr(cfg, "audit-sync"), &config->audit_sync);
    config->audit_checkpoint_lines = (unsigned)cfg_getint(cfg, "audit-checkpoint-lines");
    config->audit_checkpoint_seconds = (unsigned)cfg_getint(cfg, "audit-checkpoint-seconds");
    config->request_timeout = (unsigned)cfg_getint(cfg, "request-timeout");
    config->self_test_interval = (unsigned)cfg_getint(cfg, "self-test-interval");
    enum err err = take_metrics(config, detail);
    if (err == ERR_OK)
        err = config_take_channel(config, detail);
    if (err == ERR_OK)
        err = config_resolve(config, key_file, &config->server_key_file);
    if (err == ERR_OK)
        err = config_resolve(config, state, &config->state_directory);
    if (err != ERR_OK || config_optional(cfg, "audit-log"))
        return err == ERR_OK
                   ? config_resolve(config, config_optional(cfg, "audit-log"), &config->audit_log)
                   : err;
    char audit_log[4096];
    if ((size_t)snprintf(audit_log, sizeof audit_log, "%s/audit.log", state) >= sizeof audit_log)
        return err_set(detail, ERR_PERM, "%s: state-directory is too long", config->path);
    cfg_setstr(cfg, "audit-log", audit_log);
    return config_resolve(config, cfg_getstr(cfg, "audit-log"), &config->audit_log);
}

enum err config_load(const char *path, struct config **out, struct detail *detail)
{
    struct detail scratch = {0};
    if (!detail)
        detail = &scratch;
    struct config *config = mem_calloc(1, sizeof *config);
    if (!config)
        return err_set(detail, ERR_TEMP, "out of memory");
    config->path = path;
    enum err err = conf_load(path, options, &config->parsed, detail);
    if (err == ERR_OK)
        err = take_globals(config, detail);
    if (err == ERR_OK)
        err = take_sections(config, detail);
    if (err == ERR_OK)
        err = take_former(config, detail);
    if (err != ERR_OK) {
        config_free(config);
        return err;
    }
    *out = config;
    return ERR_OK;
}

void config_free(struct config *config)
{
    if (!config)
        return;
    if (config->parsed)
        cfg_free(config->parsed);
    for (size_t i = 0; i < config->path_count; i++)
        mem_free(config->paths[i]);
    mem_free(config->paths);
    mem_free(config->tokens);
    mem_free(config->officers);
    mem_free(config->keys);
    mem_free(config->clients);
    mem_free(config->grants);
    mem_free(config);
}
