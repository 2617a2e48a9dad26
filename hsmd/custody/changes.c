// SPDX-License-Identifier: Apache-2.0
// Proposals and what officers say to them. Each change of the store is one transaction that is
// committed after its line is in the audit log.
#include "hsmd/custody/custody_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "hsmd/custody/reads.h"

#define LAPSE_BATCH 32

static enum err check_signature(struct call *call, const struct buf *message,
                                struct bytes signature)
{
    const struct store_officer *officer = &call->officer;
    enum err err = statement_check(bytes_of(officer->signing_key, sizeof officer->signing_key),
                                   buf_bytes(message), signature, &call->detail);
    if (err == ERR_DENIED)
        err = err_set(&call->detail, err,
                      "it is not signed by officer \"%s\", whose connection this is, or something "
                      "in it was changed",
                      officer->name);
    return err;
}

// That nobody waits for it longer than this hsmd, or its memory, will have it.
static enum err check_lapse(struct call *call, uint64_t lapse)
{
    uint64_t most = call->custody->conf.config->proposal_lapse;
    uint64_t now = (uint64_t)call->custody->now();
    bool is_secret = call->request.propose.attachment.len > 0;
    if (lapse <= now)
        return err_set(&call->detail, ERR_PERM,
                       "the proposal's time is over already: look at the clocks");
    if (lapse - now > most + STATEMENT_SKEW_MAX)
        return err_set(&call->detail, ERR_PERM,
                       "a proposal may wait %" PRIu64
                       " seconds at most: ask for less, or look at the clocks",
                       most);
    if (is_secret && lapse - now > STATEMENT_LAPSE_ATTACHMENT_MAX + STATEMENT_SKEW_MAX)
        return err_set(&call->detail, ERR_PERM,
                       "a proposal with a PIN or a private key may wait %d seconds at most: it "
                       "waits in memory",
                       STATEMENT_LAPSE_ATTACHMENT_MAX);
    return ERR_OK;
}

// The statement of a request is signed by whose connection it is, for this hsmd: neither name is in
// the request.
static enum err check_statement(struct call *call, struct statement *statement)
{
    struct buf message;
    statement->instance =
        bytes_of(store_instance(call->custody->conf.store), STATEMENT_INSTANCE_SIZE);
    statement->proposer = bytes_of_text(call->officer.name);
    buf_init(&message, STATEMENT_SIZE_MAX);
    enum err err = check_lapse(call, statement->lapse);
    if (err == ERR_OK)
        err = statement_put(statement, &message);
    if (err == ERR_OK)
        err = check_signature(call, &message, call->request.propose.signature);
    buf_clear(&message);
    return err;
}

struct pending {
    struct bytes proposer;
    unsigned count;
};

static enum err count_pending(void *context, const struct store_proposal *proposal)
{
    struct pending *pending = context;
    pending->count += bytes_equal(proposal->statement.proposer, pending->proposer);
    return ERR_OK;
}

// A proposal that is still to be decided on.
static enum err load_pending(struct call *call, uint64_t number, struct proposal *proposal)
{
    enum err err = proposal_load(call->custody->conf.store, number, proposal, &call->detail);
    if (err != ERR_OK)
        return err;
    bool is_lapsed = proposal->row.state == PROPOSAL_PENDING;
    bool is_at_work = custody_is_carrying(call->custody, number, 0, NULL);
    if (is_lapsed && proposal->row.lapses > call->custody->now() && !is_at_work)
        return ERR_OK;
    if (is_at_work)
        err = err_set(&call->detail, ERR_TEMP, "proposal %" PRIu64 " is being carried out", number);
    else
        err = err_set(&call->detail, ERR_PERM, "proposal %" PRIu64 " is %s: it cannot be changed",
                      number,
                      is_lapsed ? store_proposal_state_name(PROPOSAL_LAPSED)
                                : store_proposal_state_name(proposal->row.state));
    proposal_clear(proposal);
    return err;
}

static enum err check_replaced(struct call *call, uint64_t number)
{
    struct proposal proposal = {0};
    enum err err = load_pending(call, number, &proposal);
    if (err == ERR_OK &&
        !bytes_equal(proposal.row.statement.proposer, bytes_of_text(call->officer.name)))
        err = err_set(&call->detail, ERR_DENIED,
                      "proposal %" PRIu64 " is not yours: only who proposed it can change it",
                      number);
    proposal_clear(&proposal);
    return err;
}

// In a transaction.
static enum err put_proposal(struct call *call, uint64_t *number)
{
    struct custody *custody = call->custody;
    struct store *store = custody->conf.store;
    const struct statement *statement = &call->request.propose.statement;
    struct pending pending = {.proposer = statement->proposer};
    struct store_proposal row = {.number = statement->replaces,
                                 .state = PROPOSAL_PENDING,
                                 .statement = *statement,
                                 .signature = call->request.propose.signature,
                                 .lapses = (int64_t)statement->lapse};
    enum err err = store_each_proposal(store, 0, true, count_pending, &pending, &call->detail);
    if (err == ERR_OK && !row.number && pending.count >= CUSTODY_PENDING_MAX)
        err =
            err_set(&call->detail, ERR_TEMP,
                    "%d proposals of yours wait already: have them carried out, or take them back",
                    CUSTODY_PENDING_MAX);
    if (err == ERR_OK && row.number)
        err = check_replaced(call, row.number);
    if (err != ERR_OK)
        return err;
    *number = row.number;
    if (row.number)
        err = store_change_proposal(store, &row, &call->detail);
    else
        err = store_add_proposal(store, &row, number, &call->detail);
    if (err == ERR_OK)
        err = custody_tell(custody, AUDIT_PROPOSE, call->officer.name, *number, statement->act,
                           err_name(ERR_OK), NULL, &call->detail);
    return err;
}

// Begins and ends the transaction.
static enum err record_proposal(struct call *call, uint64_t *number)
{
    struct custody *custody = call->custody;
    struct bytes attachment = call->request.propose.attachment;
    uint64_t given = 0;
    enum err err = store_begin(custody->conf.store, &call->detail);
    if (err == ERR_OK)
        err = put_proposal(call, &given);
    if (err == ERR_OK && attachment.len)
        err = attachments_put(&custody->attachments, call->officer.name,
                              call->request.propose.statement.replaces, attachment, &call->detail);
    if (err == ERR_OK)
        err = store_commit(custody->conf.store, &call->detail);
    if (err != ERR_OK) {
        store_rollback(custody->conf.store);
        attachments_drop(&custody->attachments, ATTACHMENTS_UNNUMBERED);
        return err;
    }
    attachments_give_number(&custody->attachments, given);
    *number = given;
    return ERR_OK;
}

// What is to be carried out now? Anew, whatever was said before.
static enum err is_agreed(struct call *call, uint64_t number, bool *is_reached)
{
    struct store *store = call->custody->conf.store;
    struct officers officers;
    struct tally tally;
    struct proposal proposal = {0};
    *is_reached = false;
    enum err err = officers_load(store, &officers, &call->detail);
    if (err == ERR_OK)
        err = proposal_load(store, number, &proposal, &call->detail);
    if (err == ERR_OK)
        err = proposal_count(store, &proposal, &officers, &tally, &call->detail);
    if (err == ERR_OK)
        *is_reached = officers.quorum && tally.approvals >= officers.quorum;
    proposal_clear(&proposal);
    return err;
}

static enum err propose(struct call *call, uint64_t *number, bool *is_reached)
{
    struct statement *statement = &call->request.propose.statement;
    struct detail ignored = {0};
    // What has lapsed meanwhile is refused below whether that could be written down or not.
    (void)custody_lapse(call->custody, &ignored);
    enum err err = check_statement(call, statement);
    if (err == ERR_OK)
        err = custody_check_act(call, statement->act, call->request.propose.attachment);
    if (err == ERR_OK)
        err = custody_check_rate(call->custody, call->officer.name, false, &call->detail);
    if (err == ERR_OK)
        err = record_proposal(call, number);
    if (err == ERR_OK)
        err = custody_check_rate(call->custody, call->officer.name, true, &call->detail);
    return err == ERR_OK ? is_agreed(call, *number, is_reached) : err;
}

// Who was an officer when this request came may be none by now, or an auditor. Under the hold of
// the lock in which it is done.
static enum err look_again(struct call *call)
{
    enum err err = custody_find_officer(call->custody, call->peer, &call->officer, &call->detail);
    if (err == ERR_OK && call->officer.role != OFFICER_OFFICER)
        err = err_set(&call->detail, ERR_DENIED, "an auditor reads, and changes nothing");
    return err;
}

static enum err finish(struct call *call, uint64_t number, bool is_reached)
{
    enum err err = is_reached ? custody_carry(call, number) : ERR_OK;
    pthread_mutex_lock(&call->custody->store);
    enum err put = reads_put_proposal(call, number);
    pthread_mutex_unlock(&call->custody->store);
    return err == ERR_OK ? put : err;
}

enum err custody_propose(struct call *call)
{
    struct custody *custody = call->custody;
    uint64_t number = 0;
    bool is_reached = false;
    pthread_mutex_lock(&custody->store);
    enum err err = look_again(call);
    if (err == ERR_OK)
        err = propose(call, &number, &is_reached);
    pthread_mutex_unlock(&custody->store);
    return err == ERR_OK ? finish(call, number, is_reached) : err;
}

static enum err check_verdict(struct call *call, bool is_approval, const struct proposal *proposal)
{
    struct buf message;
    uint64_t number = proposal->row.number;
    if (!bytes_equal(call->request.verdict.digest,
                     bytes_of(proposal->digest, sizeof proposal->digest)))
        return err_set(&call->detail, ERR_DENIED,
                       "proposal %" PRIu64 " is another one than what was signed: it was changed, "
                       "look at it again",
                       number);
    buf_init(&message, STATEMENT_SIZE_MAX);
    enum err err = statement_put_verdict(is_approval, proposal->row.statement.instance, number,
                                         call->request.verdict.digest, &message);
    if (err == ERR_OK)
        err = check_signature(call, &message, call->request.verdict.signature);
    buf_clear(&message);
    return err;
}

// One transaction. ending: the proposal is rejected by it, and why; NULL: it is not.
static enum err record_verdict(struct call *call, bool is_approval, const struct proposal *proposal,
                               const char *ending)
{
    struct custody *custody = call->custody;
    struct store *store = custody->conf.store;
    struct store_verdict verdict = {.number = proposal->row.number, .is_approval = is_approval};
    char result[160] = "";
    bool is_withdrawn =
        bytes_equal(proposal->row.statement.proposer, bytes_of_text(call->officer.name));
    memcpy(verdict.officer, call->officer.name, sizeof verdict.officer);
    memcpy(verdict.signature, call->request.verdict.signature.data, sizeof verdict.signature);
    clock_stamp(verdict.created);
    if (ending)
        snprintf(result, sizeof result, "{\"err\":\"denied\",\"detail\":\"%s\"}", ending);
    enum err err = custody_check_rate(custody, call->officer.name, false, &call->detail);
    if (err == ERR_OK)
        err = store_begin(store, &call->detail);
    if (err == ERR_OK)
        err = store_put_verdict(store, &verdict, &call->detail);
    if (err == ERR_OK && ending && is_withdrawn)
        err = custody_end_and_forget(custody, proposal, PROPOSAL_REJECTED, ending, &call->detail);
    else if (err == ERR_OK && ending)
        err = store_end_proposal(store, verdict.number, PROPOSAL_REJECTED, bytes_of_text(result),
                                 &call->detail);
    if (err == ERR_OK)
        err = custody_tell(custody, is_approval ? AUDIT_APPROVE : AUDIT_REJECT, call->officer.name,
                           verdict.number, proposal->row.statement.act, err_name(ERR_OK), ending,
                           &call->detail);
    if (err == ERR_OK)
        err = store_commit(store, &call->detail);
    if (err != ERR_OK) {
        store_rollback(store);
        return err;
    }
    if (ending)
        attachments_drop(&custody->attachments, verdict.number);
    return custody_check_rate(custody, call->officer.name, true, &call->detail);
}

static enum err approve(struct call *call, const struct proposal *proposal,
                        const struct officers *officers, const struct tally *tally, size_t mine)
{
    if (tally->is_altered)
        return err_set(&call->detail, ERR_DENIED,
                       "proposal %" PRIu64
                       " is not what its proposer signed: it was changed in the "
                       "registry behind hsmd's back; reject it, and find out by whom",
                       proposal->row.number);
    // Enough have signed, and it was not carried out: the quorum was larger then, or the audit log
    // could not be written. Who signed already may say so again.
    if (tally->of[mine].has_approved)
        return tally->approvals >= officers->quorum
                   ? ERR_OK
                   : err_set(&call->detail, ERR_PERM,
                             "you have approved proposal %" PRIu64
                             " already, and each officer counts once: %u of %u have",
                             proposal->row.number, tally->approvals, officers->quorum);
    return record_verdict(call, true, proposal, NULL);
}

static enum err reject(struct call *call, const struct proposal *proposal,
                       const struct officers *officers, const struct tally *tally, size_t mine)
{
    const char *ending = NULL;
    unsigned rejections = tally->rejections + !tally->of[mine].has_rejected;
    if (bytes_equal(proposal->row.statement.proposer, bytes_of_text(call->officer.name)))
        ending = "taken back by its proposer";
    else if (tally->is_altered)
        ending = "it was not what its proposer signed"; // nothing is lost: it could not be done
    else if (officers->signers - rejections < officers->quorum)
        ending = "too many have rejected it for a quorum";
    else if (tally->of[mine].has_rejected)
        return err_set(&call->detail, ERR_PERM, "you have rejected proposal %" PRIu64 " already",
                       proposal->row.number);
    return record_verdict(call, false, proposal, ending);
}

static enum err give_verdict(struct call *call, bool is_approval, bool *is_reached)
{
    struct store *store = call->custody->conf.store;
    uint64_t number = call->request.verdict.number;
    struct proposal proposal = {0};
    struct officers officers;
    struct tally tally;
    struct detail ignored = {0};
    (void)custody_lapse(call->custody, &ignored); // as above
    enum err err = load_pending(call, number, &proposal);
    if (err == ERR_OK)
        err = check_verdict(call, is_approval, &proposal);
    if (err == ERR_OK)
        err = officers_load(store, &officers, &call->detail);
    if (err == ERR_OK)
        err = proposal_count(store, &proposal, &officers, &tally, &call->detail);
    const struct store_officer *me =
        err == ERR_OK ? officers_find(&officers, bytes_of_text(call->officer.name)) : NULL;
    if (err == ERR_OK && !me)
        err = err_set(&call->detail, ERR_DENIED, "you are no officer any more");
    if (err == ERR_OK)
        err = (is_approval ? approve : reject)(call, &proposal, &officers, &tally,
                                               (size_t)(me - officers.list));
    if (err == ERR_OK && is_approval)
        err = is_agreed(call, number, is_reached);
    proposal_clear(&proposal);
    return err;
}

enum err custody_give_verdict(struct call *call, bool is_approval)
{
    struct custody *custody = call->custody;
    bool is_reached = false;
    pthread_mutex_lock(&custody->store);
    enum err err = look_again(call);
    if (err == ERR_OK)
        err = give_verdict(call, is_approval, &is_reached);
    pthread_mutex_unlock(&custody->store);
    return err == ERR_OK ? finish(call, call->request.verdict.number, is_reached) : err;
}

struct lapsing {
    struct custody *custody;
    uint64_t numbers[LAPSE_BATCH];
    size_t count;
};

static enum err see_lapsed(void *context, const struct store_proposal *proposal)
{
    struct lapsing *lapsing = context;
    if (proposal->lapses <= lapsing->custody->now() &&
        !custody_is_carrying(lapsing->custody, proposal->number, 0, NULL) &&
        lapsing->count < LAPSE_BATCH)
        lapsing->numbers[lapsing->count++] = proposal->number;
    return ERR_OK;
}

static enum err lapse(struct custody *custody, uint64_t number, struct detail *detail)
{
    struct store *store = custody->conf.store;
    struct proposal proposal = {0};
    enum err err = proposal_load(store, number, &proposal, detail);
    if (err == ERR_OK)
        err = store_begin(store, detail);
    if (err == ERR_OK)
        err = custody_end_and_forget(custody, &proposal, PROPOSAL_LAPSED,
                                     "nobody has agreed on it in time", detail);
    if (err == ERR_OK)
        err = custody_tell(custody, AUDIT_LAPSE, NULL, number, proposal.row.statement.act, NULL,
                           NULL, detail);
    if (err == ERR_OK)
        err = store_commit(store, detail);
    if (err == ERR_OK)
        attachments_drop(&custody->attachments, number);
    else
        store_rollback(store);
    proposal_clear(&proposal);
    return err;
}

enum err custody_lapse(struct custody *custody, struct detail *detail)
{
    struct lapsing lapsing = {.custody = custody, .count = LAPSE_BATCH};
    enum err err = ERR_OK;
    while (err == ERR_OK && lapsing.count == LAPSE_BATCH) {
        lapsing.count = 0;
        err = store_each_proposal(custody->conf.store, 0, true, see_lapsed, &lapsing, detail);
        for (size_t i = 0; i < lapsing.count && err == ERR_OK; i++)
            err = lapse(custody, lapsing.numbers[i], detail);
    }
    return err;
}
