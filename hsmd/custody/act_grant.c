// SPDX-License-Identifier: Apache-2.0
// Clients and grants, officers and the quorum: the store alone is changed. What a change needs is
// looked up by its check, which is asked again in front of it.
#include "hsmd/custody/act_run.h"

#include <stdio.h>
#include <string.h>

static struct store *store_of(const struct act_run *run)
{
    return run->custody->conf.store;
}

struct client_search {
    struct store_client client;
    bool is_found;
};

static enum err see_client(void *context, const struct store_client *client)
{
    struct client_search *search = context;
    search->client = *client;
    search->is_found = true;
    return ERR_OK;
}

static enum err find_client(struct act_run *run, char name[TEXT_NAME_MAX + 1], bool *is_found)
{
    struct client_search search = {0};
    act_name(run->act.name, name);
    enum err err = store_each_client(store_of(run), name, see_client, &search, run->detail);
    *is_found = search.is_found;
    return err;
}

static enum err need_client(struct act_run *run, char name[TEXT_NAME_MAX + 1])
{
    bool is_found = false;
    enum err err = find_client(run, name, &is_found);
    if (err == ERR_OK && !is_found)
        err = err_set(run->detail, ERR_PERM, "there is no client \"%s\"", name);
    return err;
}

struct holder_search {
    const char *curve_key;
    const uint8_t *signing_key; // or NULL
    char holder[TEXT_NAME_MAX + 16];
};

static enum err see_holder(void *context, const struct store_client *client)
{
    struct holder_search *search = context;
    if (strcmp(client->public_key, search->curve_key) == 0)
        snprintf(search->holder, sizeof search->holder, "client \"%s\"", client->name);
    return ERR_OK;
}

static enum err see_officer_holder(void *context, const struct store_officer *officer)
{
    struct holder_search *search = context;
    if (strcmp(officer->curve_key, search->curve_key) == 0 ||
        (search->signing_key &&
         memcmp(officer->signing_key, search->signing_key, sizeof officer->signing_key) == 0))
        snprintf(search->holder, sizeof search->holder, "officer \"%s\"", officer->name);
    return ERR_OK;
}

// One key, one holder: else gateways would reach the officers' channel, and one officer count
// twice.
static enum err check_key_is_free(struct act_run *run, const char *curve_key,
                                  const uint8_t *signing_key)
{
    struct holder_search search = {.curve_key = curve_key, .signing_key = signing_key};
    if (!curve_is_key(curve_key))
        return err_set(run->detail, ERR_PERM, "the public key is no CURVE key in Z85");
    enum err err = store_each_client(store_of(run), NULL, see_holder, &search, run->detail);
    if (err == ERR_OK)
        err = store_each_officer(store_of(run), NULL, see_officer_holder, &search, run->detail);
    if (err == ERR_OK && search.holder[0])
        err = err_set(run->detail, ERR_PERM, "this public key is %s's already", search.holder);
    return err;
}

static void get_curve_key(const struct act_run *run, char key[CURVE_TEXT_SIZE])
{
    snprintf(key, CURVE_TEXT_SIZE, "%.*s", (int)run->act.curve_key.len,
             run->act.curve_key.len ? (const char *)run->act.curve_key.data : "");
}

static enum err check_client_add(struct act_run *run)
{
    char name[TEXT_NAME_MAX + 1];
    char key[CURVE_TEXT_SIZE];
    bool is_found = false;
    get_curve_key(run, key);
    enum err err = find_client(run, name, &is_found);
    if (err == ERR_OK && is_found)
        err = err_set(run->detail, ERR_PERM, "there is a client \"%s\" already", name);
    return err == ERR_OK ? check_key_is_free(run, key, NULL) : err;
}

static enum err change_client_add(struct act_run *run)
{
    struct store_client client = {0};
    act_name(run->act.name, client.name);
    get_curve_key(run, client.public_key);
    enum err err = check_client_add(run);
    return err == ERR_OK ? store_add_client(store_of(run), &client, run->detail) : err;
}

static enum err check_client_revoke(struct act_run *run)
{
    char name[TEXT_NAME_MAX + 1];
    return need_client(run, name);
}

static enum err change_client_revoke(struct act_run *run)
{
    char name[TEXT_NAME_MAX + 1];
    enum err err = need_client(run, name);
    return err == ERR_OK ? store_drop_client(store_of(run), name, run->detail) : err;
}

static enum err check_grant(struct act_run *run)
{
    char name[TEXT_NAME_MAX + 1];
    const struct act *act = &run->act;
    enum err err = need_client(run, name);
    if (err == ERR_OK)
        err = act_find_key(run, act->key);
    if (err == ERR_OK && run->key.key.purpose == WIRE_AUDIT)
        err = err_set(run->detail, ERR_PERM,
                      "key \"%s\" signs the audit log, and nobody can be granted it",
                      run->key.key.name);
    if (err == ERR_OK &&
        (act->per_minute > BUDGET_LIMIT_MAX || act->per_hour > BUDGET_LIMIT_MAX ||
         act->total > BUDGET_LIMIT_MAX || act->failures_per_hour > BUDGET_LIMIT_MAX))
        err = err_set(run->detail, ERR_PERM, "a limit may be %d at most", BUDGET_LIMIT_MAX);
    return err;
}

static enum err count_grant(void *context, const struct store_grant *grant)
{
    (void)grant;
    ++*(unsigned *)context;
    return ERR_OK;
}

// Of one client and key there is one grant: the new one, whatever there was.
static enum err change_grant(struct act_run *run)
{
    const struct act *act = &run->act;
    unsigned count = 0;
    struct store *store = store_of(run);
    struct store_grant grant = {.operations = act->operations,
                                .algorithms = act->algorithms,
                                .limits = {.per_minute = (unsigned)act->per_minute,
                                           .per_hour = (unsigned)act->per_hour,
                                           .total = (unsigned)act->total,
                                           .failures_per_hour = (unsigned)act->failures_per_hour}};
    act_name(act->name, grant.client);
    act_name(act->key, grant.key);
    enum err err = check_grant(run);
    if (err == ERR_OK)
        err = store_each_grant(store, grant.client, grant.key, count_grant, &count, run->detail);
    if (err == ERR_OK && count)
        err = store_drop_grants(store, grant.client, grant.key, run->detail);
    return err == ERR_OK ? store_put_grant(store, &grant, run->detail) : err;
}

static enum err check_ungrant(struct act_run *run)
{
    char client[TEXT_NAME_MAX + 1];
    char key[TEXT_NAME_MAX + 1];
    unsigned count = 0;
    act_name(run->act.name, client);
    act_name(run->act.key, key);
    enum err err = store_each_grant(store_of(run), client, key, count_grant, &count, run->detail);
    if (err == ERR_OK && !count)
        err = err_set(run->detail, ERR_PERM, "client \"%s\" has no grant for key \"%s\"", client,
                      key);
    return err;
}

static enum err change_ungrant(struct act_run *run)
{
    char client[TEXT_NAME_MAX + 1];
    char key[TEXT_NAME_MAX + 1];
    act_name(run->act.name, client);
    act_name(run->act.key, key);
    enum err err = check_ungrant(run);
    return err == ERR_OK ? store_drop_grants(store_of(run), client, key, run->detail) : err;
}

static enum err check_officer_add(struct act_run *run)
{
    struct officers officers;
    char key[CURVE_TEXT_SIZE];
    enum err err = officers_load(store_of(run), &officers, run->detail);
    if (err != ERR_OK)
        return err;
    if (officers_find(&officers, run->act.name))
        return err_set(run->detail, ERR_PERM, "there is an officer of that name already");
    if (officers.count == CUSTODY_OFFICERS_MAX)
        return err_set(run->detail, ERR_PERM, "there can be %d officers and auditors, no more",
                       CUSTODY_OFFICERS_MAX);
    if (run->act.public_key.len != OFFICER_SIGNING_KEY_SIZE)
        return err_set(run->detail, ERR_PERM, "the signing key is none of Ed25519");
    get_curve_key(run, key);
    return check_key_is_free(run, key, run->act.public_key.data);
}

struct leaving {
    struct act_run *run;
    uint64_t numbers[CUSTODY_PENDING_MAX];
    size_t count;
};

static enum err see_left(void *context, const struct store_proposal *proposal)
{
    struct leaving *leaving = context;
    if (bytes_equal(proposal->statement.proposer, leaving->run->act.name) &&
        leaving->count < CUSTODY_PENDING_MAX)
        leaving->numbers[leaving->count++] = proposal->number;
    return ERR_OK;
}

// What a former officer of that name has proposed counts no more as signed by this one: it ends.
static enum err end_left(struct act_run *run)
{
    static const char why[] = "its proposer was removed, and is another officer now";
    struct leaving leaving = {.run = run};
    struct custody *custody = run->custody;
    enum err err = store_each_proposal(store_of(run), 0, true, see_left, &leaving, run->detail);
    for (size_t i = 0; i < leaving.count && err == ERR_OK; i++) {
        struct proposal left = {0};
        if (custody_is_carrying(custody, leaving.numbers[i], 0, NULL))
            return err_set(run->detail, ERR_TEMP, "a proposal of that name is being carried out");
        err = proposal_load(store_of(run), leaving.numbers[i], &left, run->detail);
        if (err == ERR_OK)
            err = custody_end_and_forget(custody, &left, PROPOSAL_REJECTED, why, run->detail);
        if (err == ERR_OK)
            err = custody_tell(custody, AUDIT_REJECT, NULL, leaving.numbers[i],
                               left.row.statement.act, err_name(ERR_OK), why, run->detail);
        proposal_clear(&left);
        attachments_drop(&custody->attachments, leaving.numbers[i]);
    }
    return err;
}

static enum err change_officer_add(struct act_run *run)
{
    struct store_officer officer = {.role = run->act.role};
    enum err err = check_officer_add(run);
    if (err != ERR_OK)
        return err;
    act_name(run->act.name, officer.name);
    get_curve_key(run, officer.curve_key);
    memcpy(officer.signing_key, run->act.public_key.data, sizeof officer.signing_key);
    err = end_left(run);
    return err != ERR_OK ? err : store_add_officer(store_of(run), &officer, run->detail);
}

static enum err check_officer_remove(struct act_run *run)
{
    struct officers officers;
    char name[TEXT_NAME_MAX + 1];
    act_name(run->act.name, name);
    enum err err = officers_load(store_of(run), &officers, run->detail);
    if (err != ERR_OK)
        return err;
    const struct store_officer *officer = officers_find(&officers, run->act.name);
    if (!officer)
        return err_set(run->detail, ERR_PERM, "there is no officer \"%s\"", name);
    if (officer->role == OFFICER_OFFICER && officers.signers <= officers.quorum)
        return err_set(run->detail, ERR_PERM,
                       "%u officers must agree, and without \"%s\" there are only %u: make the "
                       "quorum smaller, or add an officer, before",
                       officers.quorum, name, officers.signers - 1);
    return ERR_OK;
}

static enum err change_officer_remove(struct act_run *run)
{
    char name[TEXT_NAME_MAX + 1];
    act_name(run->act.name, name);
    enum err err = check_officer_remove(run);
    return err == ERR_OK ? store_drop_officer(store_of(run), name, run->detail) : err;
}

static enum err check_quorum(struct act_run *run)
{
    struct officers officers;
    enum err err = officers_load(store_of(run), &officers, run->detail);
    if (err == ERR_OK && (run->act.number < 1 || run->act.number > officers.signers))
        err = err_set(run->detail, ERR_PERM, "there are %u officers: the quorum is 1 to %u",
                      officers.signers, officers.signers);
    return err;
}

static enum err change_quorum(struct act_run *run)
{
    enum err err = check_quorum(run);
    return err == ERR_OK ? store_set_quorum(store_of(run), run->act.number, run->detail) : err;
}

const struct act_steps act_steps_client_add = {
    .check = check_client_add, .change = change_client_add, .is_registry_changed = true};
const struct act_steps act_steps_client_revoke = {
    .check = check_client_revoke, .change = change_client_revoke, .is_registry_changed = true};
const struct act_steps act_steps_grant = {
    .check = check_grant, .change = change_grant, .is_registry_changed = true};
const struct act_steps act_steps_ungrant = {
    .check = check_ungrant, .change = change_ungrant, .is_registry_changed = true};
const struct act_steps act_steps_officer_add = {.check = check_officer_add,
                                                .change = change_officer_add};
const struct act_steps act_steps_officer_remove = {.check = check_officer_remove,
                                                   .change = change_officer_remove};
const struct act_steps act_steps_quorum = {.check = check_quorum, .change = change_quorum};
