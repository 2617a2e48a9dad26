// SPDX-License-Identifier: Apache-2.0
// Carrying out what a quorum has agreed on, so that a failure at any point leaves token, store and
// registry as they were, or is told precisely:
//
//   1  all signatures anew; the act read anew from what was signed; would it do? If a token has a
//      part in it, a line in the audit log that it begins
//   2  the token does its part, while others read, and carry out what needs no token
//   3  one transaction: the act's changes, a registry made of what is there now, the proposal's
//      end, the line in the audit log, the commit
//   4  the registry is swapped in
//
// What was agreed on at 1 is done, whoever is removed during 2. If 2 or 3 fails, the transaction is
// rolled back, what the token did is undone, and a second transaction ends the proposal as failed,
// with a line that says why. If that cannot be written either, or the line of 1, the proposal goes
// on waiting, and is carried out when one of its officers approves again; but a PIN is gone as soon
// as it was tried, so that it is never tried twice.
#include "hsmd/custody/act_run.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "hsmd/base/log.h"
#include "hsmd/custody/reads.h"

#define RESULT_MAX ((size_t)1 << 19)

static enum audit_event event_of(enum act_kind kind)
{
    if (kind == ACT_UNLOCK)
        return AUDIT_UNLOCK;
    return kind == ACT_LOCK ? AUDIT_LOCK : AUDIT_ACT;
}

static void clear(struct act_run *run)
{
    key_copy_clear(&run->key);
    buf_clear(&run->public_key);
    buf_clear(&run->certificates);
    secret_clear(&run->pin);
    json_decref(run->result);
    run->result = NULL;
}

static enum err begin(struct act_run *run, struct call *call, struct bytes encoding)
{
    *run = (struct act_run){.custody = call->custody, .call = call, .detail = &call->detail};
    buf_init(&run->public_key, WIRE_PUBLIC_KEY_MAX);
    buf_init(&run->certificates, WIRE_CERTIFICATES_MAX);
    run->result = json_object();
    enum err err = act_decode(encoding, &run->act, run->detail);
    run->steps = err == ERR_OK ? act_steps_of(run->act.kind) : NULL;
    if (!run->result)
        return err_set(run->detail, ERR_TEMP, "out of memory");
    if (err == ERR_OK && !run->steps)
        err = err_set(run->detail, ERR_PERM, "nobody here knows how to do that");
    return err;
}

enum err custody_check_act(struct call *call, struct bytes encoding, struct bytes attachment)
{
    struct act_run run;
    enum err err = begin(&run, call, encoding);
    bool is_wanted = err == ERR_OK && act_attachment(run.act.kind) != ' ';
    run.attachment = attachment;
    if (err == ERR_OK && is_wanted != (attachment.len > 0))
        err = err_set(run.detail, ERR_PERM,
                      is_wanted ? "the PIN or the private key is missing"
                                : "this act has no PIN and no private key beside it");
    if (err == ERR_OK && run.steps->check)
        err = run.steps->check(&run);
    clear(&run);
    return err;
}

// The result of the act as text.
static enum err put_result(const struct act_run *run, enum err outcome, struct buf *out,
                           struct detail *detail)
{
    bool ok = outcome == ERR_OK ||
              (json_object_set_new(run->result, "err", json_string(err_name(outcome))) == 0 &&
               json_object_set_new(run->result, "detail",
                                   reads_text(bytes_of_text(run->detail->text))) == 0);
    char *text = ok ? json_dumps(run->result, JSON_COMPACT) : NULL;
    enum err err = text ? buf_put_text(out, text) : ERR_TEMP;
    free(text);
    return err == ERR_OK ? err : err_set(detail, err, "out of memory");
}

// The end of a transaction: the proposal's end and the line, then the commit. is_logged: the line
// is in the log, whatever came after it.
static enum err end_proposal(struct act_run *run, const struct proposal *proposal, enum err outcome,
                             bool *is_logged, struct detail *detail)
{
    struct store *store = run->custody->conf.store;
    bool is_done = outcome == ERR_OK;
    struct buf result;
    buf_init(&result, RESULT_MAX);
    enum err err = put_result(run, outcome, &result, detail);
    if (err == ERR_OK)
        err = store_end_proposal(store, run->number, is_done ? PROPOSAL_DONE : PROPOSAL_FAILED,
                                 buf_bytes(&result), detail);
    if (err == ERR_OK)
        err = custody_tell(run->custody, event_of(run->act.kind), run->call->officer.name,
                           run->number, proposal->row.statement.act, err_name(outcome),
                           is_done ? NULL : run->detail->text, detail);
    *is_logged = err == ERR_OK;
    if (err == ERR_OK)
        err = store_commit(store, detail);
    buf_clear(&result);
    return err;
}

// Limits are the budgets' own as soon as a registry was made; after a rollback, those of the store.
static void restore_limits(struct act_run *run)
{
    struct registry *registry = NULL;
    struct detail detail = {0};
    if (!run->steps->is_registry_changed)
        return;
    if (custody_make_registry(run->custody, &registry, &detail) != ERR_OK)
        log_error("custody", "state", "limits may be those of an act that was not carried out",
                  "err", detail.text);
    registry_free(registry);
}

// Step 3 and 4.
static enum err commit(struct act_run *run, const struct proposal *proposal, bool *is_logged)
{
    struct custody *custody = run->custody;
    struct registry *registry = NULL;
    enum err err = store_begin(custody->conf.store, run->detail);
    if (err == ERR_OK && run->steps->change)
        err = run->steps->change(run);
    if (err == ERR_OK && run->steps->is_registry_changed)
        err = custody_make_registry(custody, &registry, run->detail);
    if (err == ERR_OK)
        err = end_proposal(run, proposal, ERR_OK, is_logged, run->detail);
    if (err != ERR_OK) {
        store_rollback(custody->conf.store);
        registry_free(registry);
        restore_limits(run);
        return err;
    }
    if (registry)
        live_swap(custody->conf.live, registry);
    return ERR_OK;
}

// The transaction of an act that failed.
static enum err commit_failure(struct act_run *run, const struct proposal *proposal,
                               enum err outcome, struct detail *detail)
{
    struct custody *custody = run->custody;
    struct registry *registry = NULL;
    bool is_logged = false;
    bool is_salvaged = run->done && run->steps->salvage;
    enum err err = store_begin(custody->conf.store, detail);
    if (err == ERR_OK && is_salvaged)
        err = run->steps->salvage(run);
    if (err == ERR_OK && is_salvaged && run->steps->is_registry_changed)
        err = custody_make_registry(custody, &registry, detail);
    if (err == ERR_OK)
        err = end_proposal(run, proposal, outcome, &is_logged, detail);
    if (err != ERR_OK) {
        store_rollback(custody->conf.store);
        registry_free(registry);
        return err;
    }
    attachments_drop(&custody->attachments, run->number);
    if (registry)
        live_swap(custody->conf.live, registry);
    run->is_salvaged = is_salvaged;
    return ERR_OK;
}

static enum err fail(struct act_run *run, const struct proposal *proposal, enum err outcome)
{
    struct custody *custody = run->custody;
    struct detail left = {0};
    struct detail detail = {0};
    if (run->steps->undo) {
        struct detail why = *run->detail;
        run->detail = &left;
        bool is_left = run->steps->undo(run) != ERR_OK;
        run->detail = &run->call->detail;
        if (is_left)
            (void)err_set(run->detail, outcome, "%.220s; and %.220s", why.text, left.text);
    }
    pthread_mutex_lock(&custody->store);
    enum err err = commit_failure(run, proposal, outcome, &detail);
    pthread_mutex_unlock(&custody->store);
    if (err == ERR_OK && run->is_salvaged && run->steps->finish)
        run->steps->finish(run);
    if (err != ERR_OK) {
        struct detail why = *run->detail;
        log_error("custody", "state", "the end of a proposal could not be recorded", "err",
                  detail.text);
        (void)err_set(run->detail, outcome,
                      "%.200s; and this could not be recorded (%.120s): approve proposal %" PRIu64
                      " again to have it recorded",
                      why.text, detail.text, run->number);
    }
    return outcome;
}

bool custody_is_carrying(const struct custody *custody, uint64_t number, enum act_kind kind,
                         const char *name)
{
    for (size_t i = 0; i < CUSTODY_CARRYING_MAX; i++) {
        const struct carried *carried = &custody->carrying[i];
        if (carried->number && (!number || carried->number == number) &&
            (!kind || carried->kind == kind) && (!name || strcmp(carried->name, name) == 0))
            return true;
    }
    return false;
}

// Marks the proposal as being carried out, unless that has to wait.
static enum err mark(struct act_run *run, uint64_t number)
{
    struct custody *custody = run->custody;
    struct carried *free = NULL;
    enum act_kind kind = run->act.kind;
    struct carried mine = {
        .number = number, .kind = kind, .is_in_token = run->steps->prepare && kind != ACT_LOCK};
    act_name(run->act.name, mine.name);
    for (size_t i = 0; i < CUSTODY_CARRYING_MAX; i++) {
        struct carried *other = &custody->carrying[i];
        bool is_in_way =
            (mine.is_in_token && other->is_in_token) ||
            (kind == ACT_LOCK && other->kind == kind && strcmp(other->name, mine.name) == 0);
        if (other->number && is_in_way)
            return err_set(run->detail, ERR_TEMP,
                           "proposal %" PRIu64 " is at work in a token: approve proposal %" PRIu64
                           " again when that has ended",
                           other->number, number);
        if (!other->number)
            free = other;
    }
    if (!free)
        return err_set(run->detail, ERR_TEMP,
                       "%d proposals are being carried out: approve proposal %" PRIu64
                       " again when one of them has ended",
                       CUSTODY_CARRYING_MAX, number);
    *free = mine;
    run->number = number;
    return ERR_OK;
}

static void unmark(struct act_run *run)
{
    struct custody *custody = run->custody;
    pthread_mutex_lock(&custody->store);
    for (size_t i = 0; i < CUSTODY_CARRYING_MAX; i++) {
        if (custody->carrying[i].number == run->number)
            custody->carrying[i] = (struct carried){0};
    }
    pthread_mutex_unlock(&custody->store);
}

// Step 1, under the lock of the store. run->number: it is marked as being carried out.
static enum err verify(struct call *call, uint64_t number, struct proposal *proposal,
                       struct act_run *run)
{
    struct custody *custody = call->custody;
    struct officers officers;
    struct tally tally;
    enum err err = proposal_load(custody->conf.store, number, proposal, &call->detail);
    if (err == ERR_OK &&
        (proposal->row.state != PROPOSAL_PENDING || proposal->row.lapses <= custody->now()))
        err = err_set(&call->detail, ERR_PERM, "the proposal has ended");
    if (err == ERR_OK)
        err = officers_load(custody->conf.store, &officers, &call->detail);
    if (err == ERR_OK)
        err = proposal_count(custody->conf.store, proposal, &officers, &tally, &call->detail);
    if (err == ERR_OK && (!officers.quorum || tally.approvals < officers.quorum))
        err = err_set(&call->detail, ERR_DENIED, "%u of %u officers have approved", tally.approvals,
                      officers.quorum);
    if (err == ERR_OK)
        err = begin(run, call, proposal->row.statement.act);
    return err == ERR_OK ? mark(run, number) : err;
}

// The PIN or the private key that came with it.
static enum err find_attachment(struct act_run *run)
{
    struct attachments *attachments = &run->custody->attachments;
    char wanted = act_attachment(run->act.kind);
    run->secret = attachments_get(attachments, run->number);
    if (wanted != ' ' && !run->secret)
        return err_set(run->detail, ERR_PERM,
                       "hsmd has no longer the PIN or private key that came with this: the PIN was "
                       "tried, or hsmd was started anew; propose it again");
    if (run->secret)
        run->attachment = bytes_of(run->secret->data, run->secret->len);
    return ERR_OK;
}

// The rest of step 1. is_stopped: nothing was done, and the proposal goes on waiting.
static enum err check_again(struct act_run *run, const struct proposal *proposal, bool *is_stopped)
{
    struct detail why = {0};
    enum err err = find_attachment(run);
    if (err == ERR_OK && run->steps->check)
        err = run->steps->check(run);
    if (err != ERR_OK || !run->steps->prepare)
        return err;
    *is_stopped = custody_tell(run->custody, AUDIT_BEGIN, run->call->officer.name, run->number,
                               proposal->row.statement.act, NULL, NULL, &why) != ERR_OK;
    if (*is_stopped)
        return err_set(run->detail, ERR_TEMP,
                       "nothing was done, for the audit log cannot be written (%.200s): approve "
                       "proposal %" PRIu64 " again when it can",
                       why.text, run->number);
    if (act_attachment(run->act.kind) == 'p') {
        run->pin = attachments_take(&run->custody->attachments, run->number);
        run->secret = &run->pin;
        run->attachment = (struct bytes){0};
    }
    return ERR_OK;
}

// Steps 1 and 2. The list of carried ones keeps a private key where it is.
static enum err prepare(struct act_run *run, const struct proposal *proposal, bool *is_stopped)
{
    struct custody *custody = run->custody;
    pthread_mutex_lock(&custody->store);
    enum err err = check_again(run, proposal, is_stopped);
    pthread_mutex_unlock(&custody->store);
    if (err == ERR_OK && run->steps->prepare)
        err = run->steps->prepare(run);
    secret_clear(&run->pin);
    return err;
}

// The act's line says that it was done, and it was not.
static void take_back_line(struct act_run *run, const struct proposal *proposal)
{
    struct detail detail = {0};
    if (custody_tell(run->custody, event_of(run->act.kind), run->call->officer.name, run->number,
                     proposal->row.statement.act, err_name(ERR_TEMP),
                     "it was not done, whatever the line before says", &detail) != ERR_OK)
        log_error("custody", "state",
                  "the audit log says of an act that it was done, and it was not", "err",
                  detail.text);
}

static enum err carry(struct act_run *run, const struct proposal *proposal)
{
    struct custody *custody = run->custody;
    bool is_logged = false;
    bool is_stopped = false;
    enum err err = prepare(run, proposal, &is_stopped);
    if (is_stopped)
        return err;
    if (err == ERR_OK) {
        pthread_mutex_lock(&custody->store);
        err = commit(run, proposal, &is_logged);
        if (err == ERR_OK)
            attachments_drop(&custody->attachments, run->number);
        else if (is_logged)
            take_back_line(run, proposal);
        pthread_mutex_unlock(&custody->store);
    }
    if (err != ERR_OK)
        return fail(run, proposal, err);
    if (run->steps->finish)
        run->steps->finish(run);
    log_notice("act", "officer", run->call->officer.name, "act", act_kind_name(run->act.kind));
    return ERR_OK;
}

enum err custody_carry(struct call *call, uint64_t number)
{
    struct custody *custody = call->custody;
    struct proposal proposal = {0};
    struct act_run run = {0};
    pthread_mutex_lock(&custody->store);
    enum err err = verify(call, number, &proposal, &run);
    pthread_mutex_unlock(&custody->store);
    run.digest = proposal.digest;
    if (err == ERR_OK) {
        err = carry(&run, &proposal);
        call->is_carried = true;
    }
    if (run.number)
        unmark(&run);
    clear(&run);
    proposal_clear(&proposal);
    return err;
}
