// SPDX-License-Identifier: Apache-2.0
#include "tools/hsmctl_conf.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/conf.h"

#define SYSTEM_CONF "/etc/hsmd/hsmctl.conf"
#define TIMEOUT_DEFAULT 120000 // ms: a key of 4096 bits takes its time in a slow token
#define TIMEOUT_MAX 3600000

static cfg_opt_t *options(void)
{
    static cfg_opt_t opts[] = {
        CFG_STR("endpoint", "ipc:///run/hsmd/officers.sock", CFGF_NONE),
        CFG_STR("server-key-file", NULL, CFGF_NONE),
        CFG_STR("key-file", NULL, CFGF_NONE),
        CFG_INT("timeout", TIMEOUT_DEFAULT, CFGF_NONE),
        CFG_END(),
    };
    return opts;
}

// Where it is by itself. ERR_PERM: nowhere.
static enum err find(char path[PATH_MAX], struct detail *detail)
{
    const char *named = getenv("HSMCTL_CONF");
    const char *home = getenv("HOME");
    if (named && *named) {
        snprintf(path, PATH_MAX, "%s", named);
        return ERR_OK;
    }
    if (home) {
        snprintf(path, PATH_MAX, "%s/.config/hsmctl.conf", home);
        if (access(path, F_OK) == 0)
            return ERR_OK;
    }
    snprintf(path, PATH_MAX, "%s", SYSTEM_CONF);
    if (access(path, F_OK) == 0)
        return ERR_OK;
    return err_set(detail, ERR_PERM,
                   "no configuration: neither -c, $HSMCTL_CONF, ~/.config/hsmctl.conf nor "
                   "%s is there (see hsmctl(1), FILES)",
                   SYSTEM_CONF);
}

static char *beside(const char *conf, const char *path)
{
    char joined[PATH_MAX];
    const char *slash = strrchr(conf, '/');
    if (*path == '/' || !slash)
        return mem_strdup(path);
    int n = snprintf(joined, sizeof joined, "%.*s%s", (int)(slash - conf) + 1, conf, path);
    return n > 0 && (size_t)n < sizeof joined ? mem_strdup(joined) : NULL;
}

static enum err take(const char *path, cfg_t *cfg, struct hsmctl_conf *conf, struct detail *detail)
{
    const char *server_key_file = cfg_getstr(cfg, "server-key-file");
    const char *key_file = cfg_getstr(cfg, "key-file");
    const char *endpoint = cfg_getstr(cfg, "endpoint");
    long timeout = cfg_getint(cfg, "timeout");
    if (!server_key_file || !key_file)
        return err_set(detail, ERR_PERM, "%s: %s is missing", path,
                       server_key_file ? "key-file" : "server-key-file");
    if (timeout < 1 || timeout > TIMEOUT_MAX)
        return err_set(detail, ERR_PERM, "%s: timeout: not from 1 to %d ms", path, TIMEOUT_MAX);
    conf->timeout_ms = (unsigned)timeout;
    conf->endpoint = endpoint ? mem_strdup(endpoint) : NULL;
    conf->key_file = beside(path, key_file);
    conf->server_key_file = beside(path, server_key_file);
    if (!conf->endpoint || !conf->key_file || !conf->server_key_file)
        return err_set(detail, ERR_TEMP, "%s: out of memory", path);
    return curve_read_public(conf->server_key_file, conf->server_key, detail);
}

enum err hsmctl_conf_load(const char *path, struct hsmctl_conf *conf, struct detail *detail)
{
    char found[PATH_MAX];
    struct hsmctl_conf loaded = {0};
    cfg_t *cfg = NULL;
    enum err err = path ? ERR_OK : find(found, detail);
    if (!path)
        path = found;
    if (err == ERR_OK)
        err = conf_load(path, options(), &cfg, detail);
    if (err == ERR_OK)
        err = take(path, cfg, &loaded, detail);
    if (cfg)
        cfg_free(cfg);
    if (err == ERR_OK)
        *conf = loaded;
    else
        hsmctl_conf_clear(&loaded);
    return err;
}

void hsmctl_conf_clear(struct hsmctl_conf *conf)
{
    mem_free(conf->endpoint);
    mem_free(conf->key_file);
    mem_free(conf->server_key_file);
    *conf = (struct hsmctl_conf){0};
}
