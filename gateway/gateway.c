// SPDX-License-Identifier: Apache-2.0
#include "gateway/gateway.h"

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <openssl/provider.h>

#include "gateway/certificate.h"
#include "gateway/mime.h"
#include "hsmd/base/alloc.h"

// What a message may grow to: up to 3 times where it becomes quoted-printable, then three layers,
// each 78/57 times by base64 and its line ends, and signatures.
#define GROWTH_FACTOR 8
#define GROWTH_ROOM (1 << 20)

static enum err open_identities(struct gateway *gateway, struct detail *detail)
{
    const struct conf *conf = gateway->conf;
    // NOLINTNEXTLINE(bugprone-sizeof-expression): pointers are what it holds
    gateway->identities = mem_calloc(conf->identity_count + 1, sizeof *gateway->identities);
    gateway->has_identity = mem_calloc(conf->identity_count + 1, sizeof *gateway->has_identity);
    if (!gateway->identities || !gateway->has_identity)
        return err_set(detail, ERR_TEMP, "out of memory");
    for (size_t i = 0; i < conf->identity_count; i++) {
        enum err err =
            identity_open(&conf->identities[i].identity, &gateway->identities[i], detail);
        if (err)
            return err_prefix(detail, err, "identity %s", conf->identities[i].identity.name);
    }
    return ERR_OK;
}

enum err gateway_open(const struct conf *conf, struct gateway **gateway, struct detail *detail)
{
    struct gateway *opened = mem_calloc(1, sizeof *opened);
    if (!opened)
        return err_set(detail, ERR_TEMP, "out of memory");
    opened->conf = conf;
    opened->spool = (struct spool_conf){.directory = conf->spool_directory,
                                        .memory_max = conf->spool_memory,
                                        .max = conf->message_max * GROWTH_FACTOR + GROWTH_ROOM};
    pthread_mutex_init(&opened->away_lock, NULL);
    mime_init();
    enum err err = ERR_OK;
    if (conf->trust_anchors)
        err = trust_load(conf->trust_anchors, &opened->trust, detail);
    if (!err)
        err = certstore_open(conf->store, &opened->store, detail);
    if (!err)
        err = open_identities(opened, detail);
    if (err) {
        gateway_close(opened);
        return err;
    }
    *gateway = opened;
    return ERR_OK;
}

void gateway_close(struct gateway *gateway)
{
    if (!gateway)
        return;
    for (size_t i = 0; gateway->identities && i < gateway->conf->identity_count; i++)
        identity_close(gateway->identities[i]);
    mem_free(gateway->identities);
    mem_free(gateway->has_identity);
    certstore_close(gateway->store);
    trust_free(gateway->trust);
    pthread_mutex_destroy(&gateway->away_lock);
    mem_free(gateway);
}

static bool is_with_hsmd(const struct identity_conf *conf)
{
    return strncmp(conf->key_uri, "hsmd:", strlen("hsmd:")) == 0;
}

static enum err known_to_be_away(struct gateway *gateway, struct detail *detail)
{
    enum err err = ERR_OK;
    pthread_mutex_lock(&gateway->away_lock);
    if (gateway->away_until && !deadline_is_past(gateway->away_until))
        err = err_set(detail, ERR_TEMP, "%s", gateway->away_why.text);
    pthread_mutex_unlock(&gateway->away_lock);
    return err;
}

static void note_away(struct gateway *gateway, const struct detail *why)
{
    pthread_mutex_lock(&gateway->away_lock);
    gateway->away_until = deadline_in(GATEWAY_AWAY);
    gateway->away_why = *why;
    pthread_mutex_unlock(&gateway->away_lock);
}

enum err gateway_get_identity(struct gateway *gateway, size_t index, bool *is_away,
                              struct identity_material *material, struct detail *detail)
{
    const struct identity_conf *conf = &gateway->conf->identities[index].identity;
    struct detail why = {0};
    bool may_wait = !gateway->has_identity[index] && is_with_hsmd(conf);
    if (may_wait && *is_away)
        return ERR_TEMP; // detail tells of the first
    enum err err = may_wait ? known_to_be_away(gateway, detail) : ERR_OK;
    if (!err) {
        err = identity_get(gateway->identities[index], material, &why);
        if (err == ERR_OK)
            gateway->has_identity[index] = true;
        else
            (void)err_set(detail, err, "%s", why.text);
        if (err == ERR_TEMP && may_wait)
            note_away(gateway, &why);
    }
    if (err == ERR_TEMP && may_wait)
        *is_away = true;
    return err;
}

struct check {
    void (*tell)(void *ctx, bool is_error, const char *line);
    void *ctx;
    size_t errors;
};

static void tell(struct check *check, bool is_error, const char *name, const char *what)
{
    char line[600];
    snprintf(line, sizeof line, "%s: %s", name, what);
    check->tell(check->ctx, is_error, line);
    check->errors += is_error ? 1 : 0;
}

// Whether the key is there and fits. That hsmd is away for now is no error.
static void check_key(struct check *check, const struct conf_identity *conf,
                      struct identity *identity)
{
    char name[100];
    struct detail detail = {0};
    struct identity_material material;
    snprintf(name, sizeof name, "identity %.64s", conf->identity.name);
    if (is_with_hsmd(&conf->identity) && OSSL_PROVIDER_available(NULL, "hsmd") != 1) {
        tell(check, true, name, "the provider hsmd is not loaded, see OPENSSL_CONF");
        return;
    }
    enum err err = identity_get(identity, &material, &detail);
    if (err)
        tell(check, err != ERR_TEMP || !is_with_hsmd(&conf->identity), "key", detail.text);
}

// "PORT" with nothing behind it but, perhaps, end.
static bool is_port(const char *text, char end)
{
    char *rest;
    if (!isdigit((unsigned char)*text))
        return false;
    long port = strtol(text, &rest, 10);
    return port > 0 && port <= UINT16_MAX && (!*rest || *rest == end);
}

// As libmilter has it: [PROTOCOL:]WHERE.
static bool is_milter_socket(const char *text)
{
    size_t len = strcspn(text, ":");
    const char *where = text[len] ? text + len + 1 : text;
    if (!text[len])
        return *text == '/';
    if (strncmp(text, "inet:", 5) == 0 || strncmp(text, "inet6:", 6) == 0)
        return is_port(where, '@');
    return (strncmp(text, "unix:", 5) == 0 || strncmp(text, "local:", 6) == 0) && *where;
}

// smtp[s]://HOST[:PORT], HOST perhaps in brackets.
static bool is_smtp_url(const char *text)
{
    const char *host = strstr(text, "://");
    if (!host || (strncmp(text, "smtp:", 5) != 0 && strncmp(text, "smtps:", 6) != 0))
        return false;
    host += 3;
    size_t len = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/");
    if (len == 0 || len > strlen(host))
        return false;
    return host[len] == ':' ? is_port(host + len + 1, '/') : !host[len] || host[len] == '/';
}

// What stands in a header field unquoted (RFC 2045, token), or is UTF-8.
static bool is_authserv_id(const char *text)
{
    for (const char *c = text; *c; c++) {
        bool is_high = (unsigned char)*c >= 0x80;
        if (!is_high && (!isgraph((unsigned char)*c) || strchr("()<>@,;:\\\"/[]?=", *c)))
            return false;
    }
    return *text;
}

static void check_texts(struct check *check, const struct conf *conf)
{
    if (conf->listen && !is_milter_socket(conf->listen))
        tell(check, true, "listen", "neither inet:PORT@ADDRESS nor unix:PATH");
    if (conf->reinject && !is_smtp_url(conf->reinject))
        tell(check, true, "reinject", "not smtp://HOST:PORT");
    if (!is_authserv_id(conf->authserv_id))
        tell(check, true, "authserv-id", "not a name such as mx.a.example");
}

static void check_identity(struct check *check, const struct conf_identity *conf, const X509 *cert)
{
    char name[100];
    struct detail detail = {0};
    snprintf(name, sizeof name, "identity %.64s", conf->identity.name);
    if (!cert) {
        tell(check, false, name, "the certificate comes from hsmd and was not checked");
        return;
    }
    if (conf->can_sign && certificate_check_own_signing(cert, &detail))
        tell(check, true, name, detail.text);
    if (conf->can_decrypt && certificate_check_encryption(cert, &detail))
        tell(check, true, name, detail.text);
    if (certificate_is_expired(cert, time(NULL)))
        tell(check, false, name, "the certificate has expired");
    if (certificate_is_not_yet_valid(cert, time(NULL)))
        tell(check, false, name, "the certificate is not valid yet");
}

size_t gateway_check(const struct gateway *gateway, bool asks_for_keys,
                     void (*tell_line)(void *ctx, bool is_error, const char *line), void *ctx)
{
    const struct conf *conf = gateway->conf;
    struct check check = {.tell = tell_line, .ctx = ctx};
    bool has_encrypting = false;
    check_texts(&check, conf);
    for (size_t i = 0; i < conf->identity_count; i++) {
        if (asks_for_keys)
            check_key(&check, &conf->identities[i], gateway->identities[i]);
        check_identity(&check, &conf->identities[i], identity_certificate(gateway->identities[i]));
    }
    if (access(conf->spool_directory, W_OK | X_OK) != 0)
        tell(&check, true, conf->spool_directory, "the spool directory cannot be written");
    for (size_t i = 0; i < conf->profile_count; i++)
        has_encrypting = has_encrypting || profile_encrypts(&conf->profiles[i]);
    if (has_encrypting && !conf->reinject)
        tell(&check, false, "reinject",
             "not set: a message that needs several copies will be refused with 451");
    return check.errors;
}
