// SPDX-License-Identifier: Apache-2.0
// What is said of a key and changes nothing in its token: states, limits, certificates.
#include "hsmd/custody/act_run.h"

#include <string.h>

#include "hsmd/custody/issue.h"

static enum err find(struct act_run *run)
{
    return act_find_key(run, run->act.name);
}

static enum err check_state(struct act_run *run, enum wire_state state)
{
    enum err err = find(run);
    if (err == ERR_OK && run->key.key.state == state)
        err = err_set(run->detail, ERR_PERM, "key \"%s\" is %s already", run->key.key.name,
                      wire_state_name(state));
    return err;
}

static enum err change_state(struct act_run *run, enum wire_state state)
{
    enum err err = check_state(run, state);
    run->key.key.state = state;
    return err == ERR_OK ? store_set_key(run->custody->conf.store, &run->key.key, run->detail)
                         : err;
}

static enum err check_enable(struct act_run *run)
{
    enum err err = check_state(run, WIRE_ENABLED);
    if (err == ERR_OK && custody_is_carrying(run->custody, 0, ACT_KEY_DESTROY, run->key.key.name))
        err = err_set(run->detail, ERR_TEMP, "key \"%s\" is being destroyed", run->key.key.name);
    return err;
}

static enum err change_enable(struct act_run *run)
{
    enum err err = check_enable(run);
    return err == ERR_OK ? change_state(run, WIRE_ENABLED) : err;
}

static enum err check_disable(struct act_run *run)
{
    return check_state(run, WIRE_DISABLED);
}

static enum err change_disable(struct act_run *run)
{
    return change_state(run, WIRE_DISABLED);
}

static enum err check_retire(struct act_run *run)
{
    enum err err = check_state(run, WIRE_RETIRED);
    enum wire_purpose purpose = run->key.key.purpose;
    if (err == ERR_OK && purpose != WIRE_SMIME_DECRYPT && purpose != WIRE_GENERAL)
        err = err_set(run->detail, ERR_PERM,
                      "key \"%s\" is of purpose %s and never decrypts: disable it instead",
                      run->key.key.name, wire_purpose_name(purpose));
    return err;
}

static enum err change_retire(struct act_run *run)
{
    enum err err = check_retire(run);
    return err == ERR_OK ? change_state(run, WIRE_RETIRED) : err;
}

const struct act_steps act_steps_enable = {
    .check = check_enable, .change = change_enable, .is_registry_changed = true};
const struct act_steps act_steps_disable = {
    .check = check_disable, .change = change_disable, .is_registry_changed = true};
const struct act_steps act_steps_retire = {
    .check = check_retire, .change = change_retire, .is_registry_changed = true};

static enum err check_limit(struct act_run *run)
{
    const struct act *act = &run->act;
    if (act->per_minute > BUDGET_LIMIT_MAX || act->per_hour > BUDGET_LIMIT_MAX ||
        act->total > BUDGET_LIMIT_MAX || act->failures_per_hour > BUDGET_LIMIT_MAX)
        return err_set(run->detail, ERR_PERM, "a limit may be %d at most", BUDGET_LIMIT_MAX);
    return find(run);
}

static enum err change_limit(struct act_run *run)
{
    const struct act *act = &run->act;
    enum err err = check_limit(run);
    run->key.key.limits =
        (struct budget_limits){.per_minute = (unsigned)act->per_minute,
                               .per_hour = (unsigned)act->per_hour,
                               .total = (unsigned)act->total,
                               .failures_per_hour = (unsigned)act->failures_per_hour};
    return err == ERR_OK ? store_set_key(run->custody->conf.store, &run->key.key, run->detail)
                         : err;
}

const struct act_steps act_steps_limit = {
    .check = check_limit, .change = change_limit, .is_registry_changed = true};

enum err act_warning(struct store *store, const struct act *act, struct detail *warning,
                     struct detail *detail)
{
    struct key_copy key = {0};
    struct detail refused = {0};
    char name[TEXT_NAME_MAX + 1];
    bool is_known = act->kind == ACT_KEY_IMPORT && act->certificates.len;
    struct bytes public_key = act->public_key;
    enum wire_purpose purpose = act->purpose;
    enum err err = ERR_OK;
    *warning = (struct detail){0};
    if (act->kind == ACT_KEY_CERTIFICATE) {
        act_name(act->name, name);
        err = key_copy_get(store, name, &key, &is_known, detail);
        public_key = key.key.public_key;
        purpose = key.key.purpose;
        if (err == ERR_OK && (!is_known || key.key.is_destroyed))
            (void)err_set(warning, ERR_PERM, "it would be refused now: the key was destroyed");
    }
    if (err == ERR_OK && is_known && !key.key.is_destroyed &&
        issue_check_certificates(act->certificates, public_key, purpose, act->any_name, warning,
                                 &refused) != ERR_OK)
        (void)err_set(warning, ERR_PERM, "it would be refused now: %.400s", refused.text);
    key_copy_clear(&key);
    return err;
}

static enum err check_certificate(struct act_run *run)
{
    struct detail warning = {0};
    enum err err = find(run);
    if (err == ERR_OK && !run->key.key.public_key.len)
        err = err_set(run->detail, ERR_TEMP,
                      "the public key of \"%s\" is not known before its token was open once",
                      run->key.key.name);
    if (err == ERR_OK)
        err = issue_check_certificates(run->act.certificates, run->key.key.public_key,
                                       run->key.key.purpose, run->act.any_name, &warning,
                                       run->detail);
    if (err == ERR_OK && warning.text[0] && run->result &&
        json_object_set_new(run->result, "warning", json_string(warning.text)) != 0)
        err = err_set(run->detail, ERR_TEMP, "out of memory");
    return err;
}

static enum err change_certificate(struct act_run *run)
{
    enum err err = find(run);
    run->key.key.certificates = run->act.certificates;
    return err == ERR_OK ? store_set_key(run->custody->conf.store, &run->key.key, run->detail)
                         : err;
}

const struct act_steps act_steps_certificate = {
    .check = check_certificate, .change = change_certificate, .is_registry_changed = true};
