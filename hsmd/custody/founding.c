// SPDX-License-Identifier: Apache-2.0
// The first officers. From then on officers are made by officers, and hsmd.conf is not asked again:
// whoever can write it must not become one.
#include "hsmd/custody/custody_internal.h"

#include <stdio.h>
#include <string.h>

#include "hsmd/base/log.h"

static enum err add_officer(struct custody *custody, const struct config_officer *from,
                            struct detail *detail)
{
    struct store_officer officer = {.role = from->role};
    struct buf what;
    snprintf(officer.name, sizeof officer.name, "%s", from->name);
    snprintf(officer.curve_key, sizeof officer.curve_key, "%s", from->curve_key);
    memcpy(officer.signing_key, from->signing_key, sizeof officer.signing_key);
    buf_init(&what, AUDIT_WHAT_MAX);
    enum err err = store_add_officer(custody->conf.store, &officer, detail);
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
        err = audit_write(custody->conf.audit, &record, detail);
    buf_clear(&what);
    return err;
}

static enum err set_quorum(struct custody *custody, unsigned quorum, struct detail *detail)
{
    char what[64];
    snprintf(what, sizeof what, "first quorum of the configuration: %u", quorum);
    const struct audit_record record = {
        .event = AUDIT_ACT,
        .act = act_kind_name(ACT_QUORUM),
        .what = what,
        .result = err_name(ERR_OK),
    };
    enum err err = store_set_quorum(custody->conf.store, quorum, detail);
    return err == ERR_OK ? audit_write(custody->conf.audit, &record, detail) : err;
}

static enum err found(struct custody *custody, const struct officers *known, struct detail *detail)
{
    const struct config *config = custody->conf.config;
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
        err = add_officer(custody, &config->officers[i], detail);
    return err == ERR_OK ? set_quorum(custody, config->quorum, detail) : err;
}

enum err custody_found(struct custody *custody, struct detail *detail)
{
    const struct config *config = custody->conf.config;
    struct store *store = custody->conf.store;
    struct officers known;
    enum err err = officers_load(store, &known, detail);
    if (err != ERR_OK || (known.count && known.quorum) || (!known.count && !config->officer_count))
        return err;
    if (config->officer_count > CUSTODY_OFFICERS_MAX)
        return err_set(detail, ERR_PERM, "more than %d officers", CUSTODY_OFFICERS_MAX);
    err = store_begin(store, detail);
    if (err == ERR_OK)
        err = found(custody, &known, detail);
    if (err == ERR_OK)
        err = store_commit(store, detail);
    if (err != ERR_OK)
        store_rollback(store);
    else
        log_notice("officers", "state", "taken from the configuration");
    return err;
}
