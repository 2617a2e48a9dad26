// SPDX-License-Identifier: Apache-2.0
#include "hsmd/config_check.h"

#include <string.h>
#include <sys/un.h>

#include "hsmd/base/curve.h"
#include "hsmd/base/text.h"
#include "hsmd/config_internal.h"
#include "pkcs11/token.h"

#define TIMEOUT_MIN 100
#define TIMEOUT_MAX 600000
#define CHECKPOINT_LINES_MAX 1000000
#define CHECKPOINT_SECONDS_MAX 86400
#define INTERVAL_MAX 86400
#define QUORUM_MAX 64

// Lists are checked as a whole each time; then the last value is the newest.
static const char *newest(cfg_opt_t *opt)
{
    unsigned count = cfg_opt_size(opt);
    const char *text = count ? cfg_opt_getnstr(opt, count - 1) : NULL;
    return text ? text : "";
}

static int reject(cfg_t *cfg, cfg_opt_t *opt, const char *text, const char *expected)
{
    char quoted[TEXT_QUOTED_SIZE];
    cfg_error(cfg, "%s: \"%s\" is not %s", cfg_opt_name(opt),
              text_quote(text, strlen(text), quoted, sizeof quoted), expected);
    return -1;
}

int config_check_text(cfg_t *cfg, cfg_opt_t *opt)
{
    return *newest(opt) ? 0 : reject(cfg, opt, "", "a value");
}

int config_check_name(cfg_t *cfg, cfg_opt_t *opt)
{
    const char *name = newest(opt);
    return text_is_name(name, strlen(name))
               ? 0
               : reject(cfg, opt, name, "a name (1 to 64 of a-z A-Z 0-9 . _ -)");
}

int config_check_title(cfg_t *cfg, cfg_opt_t *opt)
{
    const char *title = cfg_title(cfg_opt_getnsec(opt, cfg_opt_size(opt) - 1));
    if (!title || text_is_name(title, strlen(title)))
        return 0;
    return reject(cfg, opt, title, "a name (1 to 64 of a-z A-Z 0-9 . _ -)");
}

int config_check_id(cfg_t *cfg, cfg_opt_t *opt)
{
    struct buf id;
    buf_init(&id, CONFIG_ID_MAX);
    enum err err = text_get_hex(newest(opt), &id);
    buf_clear(&id);
    return err == ERR_OK ? 0 : reject(cfg, opt, newest(opt), "hex of at most 64 bytes");
}

size_t config_parse_id(const char *hex, uint8_t id[CONFIG_ID_MAX])
{
    struct buf bytes;
    size_t len = 0;
    buf_init(&bytes, CONFIG_ID_MAX);
    if (hex && text_get_hex(hex, &bytes) == ERR_OK && bytes.len) {
        len = bytes.len;
        memcpy(id, bytes.data, len);
    }
    buf_clear(&bytes);
    return len;
}

int config_check_purpose(cfg_t *cfg, cfg_opt_t *opt)
{
    return wire_purpose_by_name(newest(opt))
               ? 0
               : reject(cfg, opt, newest(opt), "smime-sign, smime-decrypt, general or audit");
}

int config_check_state(cfg_t *cfg, cfg_opt_t *opt)
{
    return wire_state_by_name(newest(opt))
               ? 0
               : reject(cfg, opt, newest(opt), "enabled, disabled or retired");
}

int config_check_operations(cfg_t *cfg, cfg_opt_t *opt)
{
    for (unsigned i = 0; i < cfg_opt_size(opt); i++) {
        const char *name = cfg_opt_getnstr(opt, i);
        enum wire_operation operation = wire_operation_by_name(name);
        if (operation != WIRE_SIGN && operation != WIRE_UNWRAP && operation != WIRE_AGREE)
            return reject(cfg, opt, name, "sign, unwrap or agree");
    }
    return 0;
}

int config_check_algorithms(cfg_t *cfg, cfg_opt_t *opt)
{
    for (unsigned i = 0; i < cfg_opt_size(opt); i++) {
        const char *name = cfg_opt_getnstr(opt, i);
        if (!wire_algorithm_by_name(name))
            return reject(cfg, opt, name, "an algorithm");
    }
    return 0;
}

int config_check_public_key(cfg_t *cfg, cfg_opt_t *opt)
{
    return curve_is_key(newest(opt))
               ? 0
               : reject(cfg, opt, newest(opt), "a CURVE public key in Z85 (40 characters)");
}

int config_check_listen(cfg_t *cfg, cfg_opt_t *opt)
{
    if (cfg_opt_size(opt) > CONFIG_ENDPOINTS_MAX) {
        cfg_error(cfg, "%s: more than %d endpoints", cfg_opt_name(opt), CONFIG_ENDPOINTS_MAX);
        return -1;
    }
    for (unsigned i = 0; i < cfg_opt_size(opt); i++) {
        const char *endpoint = cfg_opt_getnstr(opt, i);
        bool is_ipc = strncmp(endpoint, "ipc:///", 7) == 0;
        if (!is_ipc && strncmp(endpoint, "tcp://", 6) != 0)
            return reject(cfg, opt, endpoint, "ipc:///path or tcp://address:port");
        if (is_ipc && strlen(endpoint) - 6 >= sizeof((struct sockaddr_un *)0)->sun_path) {
            cfg_error(cfg, "%s: the path of an ipc endpoint has room for 107 characters",
                      cfg_opt_name(opt));
            return -1;
        }
    }
    return 0;
}

int config_check_role(cfg_t *cfg, cfg_opt_t *opt)
{
    return officer_role_by_name(newest(opt)) ? 0
                                             : reject(cfg, opt, newest(opt), "officer or auditor");
}

bool config_parse_signing_key(const char *hex, uint8_t key[OFFICER_SIGNING_KEY_SIZE])
{
    return text_get_hex_exact(hex, key, OFFICER_SIGNING_KEY_SIZE) &&
           statement_is_key(bytes_of(key, OFFICER_SIGNING_KEY_SIZE));
}

int config_check_signing_key(cfg_t *cfg, cfg_opt_t *opt)
{
    uint8_t key[OFFICER_SIGNING_KEY_SIZE];
    return config_parse_signing_key(newest(opt), key)
               ? 0
               : reject(cfg, opt, newest(opt), "an Ed25519 public key (64 hex digits)");
}

int config_check_log(cfg_t *cfg, cfg_opt_t *opt)
{
    enum log_sink sink;
    return log_sink_by_name(newest(opt), &sink)
               ? 0
               : reject(cfg, opt, newest(opt), "auto, stderr, syslog or journal");
}

int config_check_log_level(cfg_t *cfg, cfg_opt_t *opt)
{
    enum log_level level;
    return log_level_by_name(newest(opt), &level)
               ? 0
               : reject(cfg, opt, newest(opt), "error, warning, notice, info or debug");
}

static int check_range(cfg_t *cfg, cfg_opt_t *opt, long low, long high)
{
    long value = cfg_opt_getnint(opt, cfg_opt_size(opt) - 1);
    if (value >= low && value <= high)
        return 0;
    cfg_error(cfg, "%s must be %ld to %ld, not %ld", cfg_opt_name(opt), low, high, value);
    return -1;
}

int config_check_quorum(cfg_t *cfg, cfg_opt_t *opt)
{
    return check_range(cfg, opt, 1, QUORUM_MAX);
}

int config_check_lapse(cfg_t *cfg, cfg_opt_t *opt)
{
    return check_range(cfg, opt, STATEMENT_LAPSE_MIN, STATEMENT_LAPSE_MAX);
}

int config_check_audit_sync(cfg_t *cfg, cfg_opt_t *opt)
{
    enum audit_sync sync;
    return audit_sync_by_name(newest(opt), &sync)
               ? 0
               : reject(cfg, opt, newest(opt), "always, batch or off");
}

int config_check_checkpoint_lines(cfg_t *cfg, cfg_opt_t *opt)
{
    return check_range(cfg, opt, 1, CHECKPOINT_LINES_MAX);
}

int config_check_checkpoint_seconds(cfg_t *cfg, cfg_opt_t *opt)
{
    return check_range(cfg, opt, 1, CHECKPOINT_SECONDS_MAX);
}

int config_check_sessions(cfg_t *cfg, cfg_opt_t *opt)
{
    return check_range(cfg, opt, 1, TOKEN_SESSIONS_MAX);
}

int config_check_timeout(cfg_t *cfg, cfg_opt_t *opt)
{
    return check_range(cfg, opt, TIMEOUT_MIN, TIMEOUT_MAX);
}

int config_check_interval(cfg_t *cfg, cfg_opt_t *opt)
{
    return check_range(cfg, opt, 0, INTERVAL_MAX);
}

int config_check_budget(cfg_t *cfg, cfg_opt_t *opt)
{
    return check_range(cfg, opt, 0, BUDGET_LIMIT_MAX);
}

int config_check_metrics_listen(cfg_t *cfg, cfg_opt_t *opt)
{
    struct http_address address;
    return !*newest(opt) || http_parse_address(newest(opt), &address) == ERR_OK
               ? 0
               : reject(cfg, opt, newest(opt), "ADDRESS:PORT with a number for an address");
}
