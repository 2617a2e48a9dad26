// SPDX-License-Identifier: Apache-2.0
// The first officers. From then on officers are made by officers, and hsmd.conf is not asked again:
// whoever can write it must not become one.
#include "hsmd/custody/founding.h"

#include <stdio.h>
#include <string.h>

#include "hsmd/base/log.h"
#include "hsmd/custody/custody_internal.h"

struct founding {
    const struct config *config;
    struct store *store;
    struct audit *audit;
};

static enum err add_officer(const struct founding *founding, const struct config_officer *from,
                            struct detail *detail)
{
    struct store_officer officer = {.role = from->role};
    struct buf what;
    snprintf(officer.name, sizeof officer.name, "%s", from->name);
    snprintf(officer.curve_key, sizeof officer.curve_key, "%s", from->curve_key);
    memcpy(officer.signing_key, from->signing_key, sizeof officer.signing_key);
    buf_init(&what, AUDIT_WHAT_MAX);
    enum err err = store_add_officer(founding->store, &officer, detail);
    if (err == ERR_OK)
        err = buf_printf(&what, "first %s \"%s\" of the configuration, signing key ",
                         officer_role_name(officer.role), officer.name);
    if (err == ERR_OK)
        err = text_put_hex(&what, bytes_of(officer.signing_key, sizeof officer.signing_key));
    const struct audit_record record = {
        .event = AUDIT_ACT,
        .act = act_kind_name(ACT_OFFICER_ADD),
        .what = buf_text(&what),
        .result = err_name(ERR_OK),
    };
    if (err == ERR_OK)
        err = audit_write(founding->audit, &record, detail);
    buf_clear(&what);
    return err;
}

static enum err set_quorum(const struct founding *founding, unsigned quorum, struct detail *detail)
{
    char what[64];
    uint8_t digest[STORE_DIGEST_SIZE] = {0};
    snprintf(what, sizeof what, "first quorum of the configuration: %u", quorum);
    const struct audit_record record = {
        .event = AUDIT_ACT,
        .registry = bytes_of(digest, sizeof digest), // the last line of the founding
        .act = act_kind_name(ACT_QUORUM),
        .what = what,
        .result = err_name(ERR_OK),
    };
    enum err err = store_set_quorum(founding->store, quorum, detail);
    if (err == ERR_OK)
        err = store_digest(founding->store, digest, detail);
    return err == ERR_OK ? audit_write(founding->audit, &record, detail) : err;
}

static enum err found(const struct founding *founding, const struct officers *known,
                      struct detail *detail)
{
    const struct config *config = founding->config;
    size_t count = known->count ? 0 : config->officer_count;
    unsigned signers = known->signers;
    enum err err = ERR_OK;
    for (size_t i = 0; i < count; i++)
        signers += config->officers[i].role == OFFICER_OFFICER;
    if (config->quorum > signers)
        return err_set(detail, ERR_PERM,
                       "a quorum of %u, and only %u officers: nobody could ever agree",
                       config->quorum, signers);
    for (size_t i = 0; i < count && err == ERR_OK; i++)
        err = add_officer(founding, &config->officers[i], detail);
    return err == ERR_OK ? set_quorum(founding, config->quorum, detail) : err;
}

enum err founding_do(const struct config *config, struct store *store, struct audit *audit,
                     struct detail *detail)
{
    const struct founding founding = {.config = config, .store = store, .audit = audit};
    struct officers known;
    enum err err = officers_load(store, &known, detail);
    if (err != ERR_OK || (known.count && known.quorum) || (!known.count && !config->officer_count))
        return err;
    if (config->officer_count > CUSTODY_OFFICERS_MAX)
        return err_set(detail, ERR_PERM, "more than %d officers", CUSTODY_OFFICERS_MAX);
    err = store_begin(store, detail);
    if (err == ERR_OK)
        err = found(&founding, &known, detail);
    if (err == ERR_OK)
        err = store_commit(store, detail);
    if (err != ERR_OK) {
        store_rollback(store);
        return err;
    }
    log_notice("officers", "state", "taken from the configuration");
    config_warn_quorum(config);
    return ERR_OK;
}

enum err custody_found(struct custody *custody, struct detail *detail)
{
    const struct custody_conf *conf = &custody->conf;
    return founding_do(conf->config, conf->store, conf->audit, detail);
}
