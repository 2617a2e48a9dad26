// SPDX-License-Identifier: Apache-2.0
// Tokens are locked and unlocked. That officers have locked one is kept in the store, so that a
// configured PIN does not unlock it again at the next start. A PIN is tried once: if it is wrong,
// or what comes after it fails, the proposal has failed and the PIN is gone.
#include "hsmd/custody/act_run.h"

#include <string.h>

static enum err check(struct act_run *run)
{
    char name[TEXT_NAME_MAX + 1];
    act_name(run->act.name, name);
    return act_is_token(run, run->act.name)
               ? ERR_OK
               : err_set(run->detail, ERR_PERM, "there is no token \"%s\" in the configuration",
                         name);
}

static enum err prepare_unlock(struct act_run *run)
{
    char name[TEXT_NAME_MAX + 1];
    act_name(run->act.name, name);
    enum err err = run->custody->conf.tokens->unlock(run->custody->conf.keystore, name, run->secret,
                                                     run->detail);
    run->done = err == ERR_OK;
    return err;
}

// As it is by now: a lock may have overtaken an unlock.
static enum err keep_state(struct act_run *run)
{
    const struct custody_conf *conf = &run->custody->conf;
    char name[TEXT_NAME_MAX + 1];
    act_name(run->act.name, name);
    return store_set_locked(conf->store, name, conf->tokens->is_locked(conf->keystore, name),
                            run->detail);
}

static enum err undo_unlock(struct act_run *run)
{
    char name[TEXT_NAME_MAX + 1];
    act_name(run->act.name, name);
    return run->done
               ? run->custody->conf.tokens->lock(run->custody->conf.keystore, name, run->detail)
               : ERR_OK;
}

static enum err prepare_lock(struct act_run *run)
{
    char name[TEXT_NAME_MAX + 1];
    act_name(run->act.name, name);
    run->done = true; // even if the token could not be logged out at once: its PIN is forgotten
    return run->custody->conf.tokens->lock(run->custody->conf.keystore, name, run->detail);
}

// The PIN is forgotten.
static enum err undo_lock(struct act_run *run)
{
    return run->done ? err_set(run->detail, ERR_TEMP, "the token stays locked") : ERR_OK;
}

const struct act_steps act_steps_unlock = {
    .check = check, .prepare = prepare_unlock, .change = keep_state, .undo = undo_unlock};
const struct act_steps act_steps_lock = {.check = check,
                                         .prepare = prepare_lock,
                                         .change = keep_state,
                                         .salvage = keep_state,
                                         .undo = undo_lock};
