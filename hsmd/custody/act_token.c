// SPDX-License-Identifier: Apache-2.0
// Tokens are locked and unlocked. A PIN is tried once: if it is wrong, or what comes after it
// fails, the proposal has failed and the PIN is gone.
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
    enum err err = run->custody->conf.tokens->lock(run->custody->conf.keystore, name, run->detail);
    run->done = err == ERR_OK;
    return err;
}

// The PIN is forgotten.
static enum err undo_lock(struct act_run *run)
{
    return run->done ? err_set(run->detail, ERR_TEMP, "the token is locked nevertheless") : ERR_OK;
}

const struct act_steps act_steps_unlock = {
    .check = check, .prepare = prepare_unlock, .undo = undo_unlock};
const struct act_steps act_steps_lock = {
    .check = check, .prepare = prepare_lock, .undo = undo_lock};
