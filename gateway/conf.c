// SPDX-License-Identifier: Apache-2.0
#include "gateway/conf.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

#include "gateway/address.h"
#include "gateway/conf_options.h"
#include "hsmd/base/alloc.h"
#include "hsmd/base/conf.h"
#include "hsmd/base/text.h"

// A configuration on its way from libConfuse's tree to ours.
struct reading {
    const char *path;
    cfg_t *cfg;
    struct conf *conf;
    struct detail *detail;
};

struct choice {
    const char *name;
    int value;
};

static const struct choice modes[] = {{"sign", PROFILE_SIGN},
                                      {"encrypt", PROFILE_ENCRYPT},
                                      {"sign-encrypt", PROFILE_SIGN_ENCRYPT},
                                      {"triple", PROFILE_TRIPLE},
                                      {NULL, 0}};
static const struct choice missing_keys[] = {{"bounce", MISSING_KEY_BOUNCE},
                                             {"drop", MISSING_KEY_DROP},
                                             {"split", MISSING_KEY_SPLIT},
                                             {NULL, 0}};
static const struct choice sign_modes[] = {{"detached", false}, {"opaque", true}, {NULL, 0}};
static const struct choice signatures[] = {{"keep", true}, {"remove", false}, {NULL, 0}};
static const struct choice local_ways[] = {{"protect", true}, {"clear", false}, {NULL, 0}};

// ERR_PERM with file and line of a section.
#define FAIL_AT(reading, section, fmt, ...)                                               \
    err_set((reading)->detail, ERR_PERM, "%s:%d: " fmt, (reading)->path, (section)->line, \
            __VA_ARGS__)

static enum err out_of_memory(struct reading *r)
{
    return err_set(r->detail, ERR_TEMP, "%s: out of memory", r->path);
}

// The conf's own copy of a text; NULL for "" and NULL.
static enum err keep(struct reading *r, const char *text, const char **kept)
{
    struct conf_texts *owned = &r->conf->owned;
    assert(kept);
    *kept = NULL;
    if (!text || !*text)
        return ERR_OK;
    const char **items = mem_realloc(owned->items, (owned->count + 1) * sizeof *items);
    if (!items)
        return out_of_memory(r);
    owned->items = items;
    char *copy = mem_strdup(text);
    if (!copy)
        return out_of_memory(r);
    items[owned->count++] = copy;
    *kept = copy;
    return ERR_OK;
}

// A path, taken relative to the folder of the configuration file.
static enum err keep_path(struct reading *r, const char *text, const char **kept)
{
    const char *slash = strrchr(r->path, '/');
    struct buf joined;
    if (!text || !*text || *text == '/' || !slash)
        return keep(r, text, kept);
    buf_init(&joined, 4096);
    enum err err = buf_put(&joined, r->path, (size_t)(slash - r->path) + 1);
    if (!err)
        err = buf_put_text(&joined, text);
    if (err)
        err = err_set(r->detail, err, "%s: the path \"%.60s\" is too long", r->path, text);
    else
        err = keep(r, buf_text(&joined), kept);
    buf_clear(&joined);
    return err;
}

static enum err keep_list(struct reading *r, cfg_t *section, const char *option,
                          struct conf_texts *texts)
{
    size_t count = cfg_size(section, option);
    texts->items = mem_calloc(count + 1, sizeof *texts->items);
    if (!texts->items)
        return out_of_memory(r);
    for (size_t i = 0; i < count; i++) {
        const char *text = NULL;
        enum err err = keep(r, cfg_getnstr(section, option, (unsigned)i), &text);
        if (err)
            return err;
        if (text)
            texts->items[texts->count++] = text;
    }
    return ERR_OK;
}

static enum err get_choice(struct reading *r, cfg_t *section, const char *option,
                           const struct choice *choices, int *value)
{
    const char *text = cfg_getstr(section, option);
    for (const struct choice *c = choices; c->name; c++) {
        if (text && strcmp(c->name, text) == 0) {
            *value = c->value;
            return ERR_OK;
        }
    }
    if (!text)
        return FAIL_AT(r, section, "%s is missing", option);
    return FAIL_AT(r, section, "%s cannot be \"%.60s\"", option, text);
}

static enum err get_flag(struct reading *r, cfg_t *section, const char *option,
                         const struct choice *choices, bool *value)
{
    int chosen = 0;
    enum err err = get_choice(r, section, option, choices, &chosen);
    if (!err)
        *value = chosen != 0;
    return err;
}

static enum err read_networks(struct reading *r)
{
    size_t count = cfg_size(r->cfg, "internal-networks");
    r->conf->networks = mem_calloc(count + 1, sizeof *r->conf->networks);
    if (!r->conf->networks)
        return out_of_memory(r);
    for (size_t i = 0; i < count; i++) {
        const char *text = cfg_getnstr(r->cfg, "internal-networks", (unsigned)i);
        if (network_parse(text, &r->conf->networks[r->conf->network_count], r->detail))
            return err_prefix(r->detail, ERR_PERM, "%s: internal-networks", r->path);
        r->conf->network_count++;
    }
    return ERR_OK;
}

static enum err read_log(struct reading *r)
{
    const char *sink = cfg_getstr(r->cfg, "log");
    const char *level = cfg_getstr(r->cfg, "log-level");
    if (!log_sink_by_name(sink, &r->conf->log_sink))
        return FAIL_AT(r, r->cfg, "log cannot be \"%.60s\"", sink);
    if (!log_level_by_name(level, &r->conf->log_level))
        return FAIL_AT(r, r->cfg, "log-level cannot be \"%.60s\"", level);
    return ERR_OK;
}

static enum err read_sizes(struct reading *r)
{
    struct conf *conf = r->conf;
    conf->spool_memory = (size_t)cfg_getint(r->cfg, "spool-memory");
    conf->message_max = (size_t)cfg_getint(r->cfg, "message-max");
    conf->depth = (unsigned)cfg_getint(r->cfg, "depth");
    conf->reinject_timeout = (unsigned)cfg_getint(r->cfg, "reinject-timeout");
    if (conf->depth > CONF_DEPTH_MAX)
        return FAIL_AT(r, r->cfg, "depth cannot be over %d", CONF_DEPTH_MAX);
    return ERR_OK;
}

static enum err read_top(struct reading *r)
{
    struct conf *conf = r->conf;
    enum err err = keep(r, cfg_getstr(r->cfg, "authserv-id"), &conf->authserv_id);
    if (!err && !conf->authserv_id)
        err = err_set(r->detail, ERR_PERM, "%s: authserv-id is missing", r->path);
    if (!err)
        err = keep_path(r, cfg_getstr(r->cfg, "store"), &conf->store);
    if (!err && !conf->store)
        err = err_set(r->detail, ERR_PERM, "%s: store is missing", r->path);
    if (!err)
        err = keep_path(r, cfg_getstr(r->cfg, "trust-anchors"), &conf->trust_anchors);
    if (!err)
        err = keep(r, cfg_getstr(r->cfg, "listen"), &conf->listen);
    if (!err)
        err = keep(r, cfg_getstr(r->cfg, "reinject"), &conf->reinject);
    if (!err)
        err = keep_path(r, cfg_getstr(r->cfg, "spool-directory"), &conf->spool_directory);
    if (!err && !conf->spool_directory)
        err = err_set(r->detail, ERR_PERM, "%s: spool-directory is missing", r->path);
    if (!err)
        err = keep_list(r, r->cfg, "domains", &conf->domains);
    if (!err)
        err = keep_list(r, r->cfg, "originating-daemons", &conf->originating_daemons);
    if (!err)
        err = read_networks(r);
    if (!err)
        err = read_log(r);
    return err ? err : read_sizes(r);
}

static enum err read_identity(struct reading *r, cfg_t *section, struct conf_identity *identity)
{
    const char *title = cfg_title(section);
    struct conf_texts uses = {0};
    if (!text_is_name(title, strlen(title)))
        return FAIL_AT(r, section, "\"%.60s\" is not a name", title);
    enum err err = keep(r, title, &identity->identity.name);
    if (!err)
        err = keep(r, cfg_getstr(section, "key"), &identity->identity.key_uri);
    if (!err && !identity->identity.key_uri)
        err = FAIL_AT(r, section, "identity %s: key is missing", title);
    if (!err)
        err = keep_path(r, cfg_getstr(section, "certificate-file"),
                        &identity->identity.certificate_file);
    if (!err)
        err = keep_list(r, section, "use", &uses);
    for (size_t i = 0; !err && i < uses.count; i++) {
        if (strcmp(uses.items[i], "sign") == 0)
            identity->can_sign = true;
        else if (strcmp(uses.items[i], "decrypt") == 0)
            identity->can_decrypt = true;
        else
            err = FAIL_AT(r, section, "use cannot be \"%.60s\"", uses.items[i]);
    }
    if (!err && uses.count == 0)
        err = FAIL_AT(r, section, "identity %s: use is missing", title);
    mem_free(uses.items);
    return err;
}

static enum err read_identities(struct reading *r)
{
    size_t count = cfg_size(r->cfg, "identity");
    r->conf->identities = mem_calloc(count + 1, sizeof *r->conf->identities);
    if (!r->conf->identities)
        return out_of_memory(r);
    for (size_t i = 0; i < count; i++) {
        struct conf_identity *identity = &r->conf->identities[r->conf->identity_count];
        enum err err = read_identity(r, cfg_getnsec(r->cfg, "identity", (unsigned)i), identity);
        if (err)
            return err;
        r->conf->identity_count++;
    }
    return ERR_OK;
}

static enum err read_signers(struct reading *r, cfg_t *section, struct profile *profile)
{
    const struct conf *conf = r->conf;
    size_t count = cfg_size(section, "signer");
    if (count > CONF_SIGNERS_MAX)
        return FAIL_AT(r, section, "profile %s: over %d signers", profile->name, CONF_SIGNERS_MAX);
    for (size_t i = 0; i < count; i++) {
        const char *name = cfg_getnstr(section, "signer", (unsigned)i);
        size_t at = 0;
        while (at < conf->identity_count && strcmp(conf->identities[at].identity.name, name) != 0)
            at++;
        if (at == conf->identity_count)
            return FAIL_AT(r, section, "profile %s: there is no identity \"%.60s\"", profile->name,
                           name);
        if (!conf->identities[at].can_sign)
            return FAIL_AT(r, section, "profile %s: identity %.60s is not for signing",
                           profile->name, name);
        profile->signers[profile->signer_count++] = at;
    }
    if (profile_signs(profile) && count == 0)
        return FAIL_AT(r, section, "profile %s signs but has no signer", profile->name);
    return ERR_OK;
}

static enum err read_profile(struct reading *r, cfg_t *section, struct profile *profile)
{
    const char *title = cfg_title(section);
    int mode = 0;
    int missing_key = 0;
    if (!text_is_name(title, strlen(title)) || strcmp(title, "none") == 0)
        return FAIL_AT(r, section, "\"%.60s\" cannot be the name of a profile", title);
    enum err err = keep(r, title, &profile->name);
    if (!err)
        err = get_choice(r, section, "mode", modes, &mode);
    if (!err)
        err = get_flag(r, section, "sign-mode", sign_modes, &profile->is_opaque);
    if (!err)
        err = get_choice(r, section, "missing-key", missing_keys, &missing_key);
    if (err)
        return err;
    profile->mode = (enum profile_mode)mode;
    profile->missing_key = (enum missing_key)missing_key;
    profile->oaep = cfg_getbool(section, "oaep");
    profile->pss = cfg_getbool(section, "pss");
    const char *cipher = cfg_getstr(section, "cipher");
    if (!cms_cipher_by_name(cipher, &profile->cipher))
        return FAIL_AT(r, section, "cipher cannot be \"%.60s\"", cipher);
    const char *hash = cfg_getstr(section, "hash");
    profile->hash = hash_by_name(hash);
    if (profile->hash < HASH_SHA256)
        return FAIL_AT(r, section, "hash cannot be \"%.60s\"", hash);
    return read_signers(r, section, profile);
}

static enum err read_profiles(struct reading *r)
{
    size_t count = cfg_size(r->cfg, "profile");
    r->conf->profiles = mem_calloc(count + 1, sizeof *r->conf->profiles);
    if (!r->conf->profiles)
        return out_of_memory(r);
    for (size_t i = 0; i < count; i++) {
        struct profile *profile = &r->conf->profiles[r->conf->profile_count];
        enum err err = read_profile(r, cfg_getnsec(r->cfg, "profile", (unsigned)i), profile);
        if (err)
            return err;
        r->conf->profile_count++;
    }
    return ERR_OK;
}

static enum err read_directions(struct reading *r)
{
    struct conf *conf = r->conf;
    cfg_t *outbound = cfg_getsec(r->cfg, "outbound");
    cfg_t *inbound = cfg_getsec(r->cfg, "inbound");
    const char *name = cfg_getstr(outbound, "profile");
    if (name && *name && strcmp(name, "none") != 0) {
        conf->outbound_profile = conf_profile(conf, name);
        if (!conf->outbound_profile)
            return FAIL_AT(r, outbound, "there is no profile \"%.60s\"", name);
    }
    enum err err = keep(r, cfg_getstr(outbound, "profile-header"), &conf->profile_header);
    if (!err)
        err = get_flag(r, outbound, "local-recipients", local_ways, &conf->protects_local);
    if (!err)
        err = get_flag(r, inbound, "signature", signatures, &conf->keep_signature);
    conf->verify = cfg_getbool(inbound, "verify");
    conf->decrypt = cfg_getbool(inbound, "decrypt");
    conf->allow_legacy = cfg_getbool(inbound, "legacy-ciphers");
    if (!err && conf->verify && !conf->trust_anchors)
        err = err_set(r->detail, ERR_PERM,
                      "%s: trust-anchors is missing (or set inbound verify = false)", r->path);
    return err;
}

static enum err read_tree(const char *path, cfg_t **cfg, struct detail *detail)
{
#define X_TEXT(name, value) CFG_STR(name, value, CFGF_NONE),
#define X_LIST(name, value) CFG_STR_LIST(name, value, CFGF_NONE),
#define X_NUMBER(name, value) CFG_INT(name, value, CFGF_NONE),
#define X_FLAG(name, value) CFG_BOOL(name, value, CFGF_NONE),
#define OPTIONS(table) table(X_TEXT, X_LIST, X_NUMBER, X_FLAG)
    const cfg_flag_t titled = CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES;
    cfg_opt_t identity[] = {OPTIONS(CONF_OPTIONS_IDENTITY) CFG_END()};
    cfg_opt_t profile[] = {OPTIONS(CONF_OPTIONS_PROFILE) CFG_END()};
    cfg_opt_t outbound[] = {OPTIONS(CONF_OPTIONS_OUTBOUND) CFG_END()};
    cfg_opt_t inbound[] = {OPTIONS(CONF_OPTIONS_INBOUND) CFG_END()};
    cfg_opt_t top[] = {OPTIONS(CONF_OPTIONS_TOP) CFG_SEC("identity", identity, titled),
                       CFG_SEC("profile", profile, titled),
                       CFG_SEC("outbound", outbound, CFGF_NONE),
                       CFG_SEC("inbound", inbound, CFGF_NONE), CFG_END()};
#undef OPTIONS
#undef X_FLAG
#undef X_NUMBER
#undef X_LIST
#undef X_TEXT
    return conf_load(path, top, cfg, detail);
}

static enum err check_numbers(struct reading *r)
{
    static const char *const numbers[] = {"reinject-timeout", "spool-memory", "message-max",
                                          "depth"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        long value = cfg_getint(r->cfg, numbers[i]);
        if (value <= 0 || value > (1L << 31))
            return FAIL_AT(r, r->cfg, "%s cannot be %ld", numbers[i], value);
    }
    return ERR_OK;
}

enum err conf_read(const char *path, struct conf **conf, struct detail *detail)
{
    struct reading r = {.path = path, .detail = detail};
    enum err err = read_tree(path, &r.cfg, detail);
    if (err)
        return err;
    r.conf = mem_calloc(1, sizeof *r.conf);
    err = r.conf ? check_numbers(&r) : out_of_memory(&r);
    if (!err)
        err = read_top(&r);
    if (!err)
        err = read_identities(&r);
    if (!err)
        err = read_profiles(&r);
    if (!err)
        err = read_directions(&r);
    cfg_free(r.cfg);
    if (err) {
        conf_free(r.conf);
        return err;
    }
    *conf = r.conf;
    return ERR_OK;
}

void conf_free(struct conf *conf)
{
    if (!conf)
        return;
    for (size_t i = 0; i < conf->owned.count; i++)
        mem_free((char *)conf->owned.items[i]);
    mem_free(conf->owned.items);
    mem_free(conf->domains.items);
    mem_free(conf->originating_daemons.items);
    mem_free(conf->networks);
    mem_free(conf->identities);
    mem_free(conf->profiles);
    mem_free(conf);
}

const struct profile *conf_profile(const struct conf *conf, const char *name)
{
    for (size_t i = 0; i < conf->profile_count; i++) {
        if (strcmp(conf->profiles[i].name, name) == 0)
            return &conf->profiles[i];
    }
    return NULL;
}

bool conf_is_local(const struct conf *conf, const char *address)
{
    for (size_t i = 0; i < conf->domains.count; i++) {
        if (address_is_in_domain(address, conf->domains.items[i]))
            return true;
    }
    return false;
}

bool profile_signs(const struct profile *profile)
{
    return profile->mode != PROFILE_ENCRYPT;
}

bool profile_encrypts(const struct profile *profile)
{
    return profile->mode != PROFILE_SIGN;
}
