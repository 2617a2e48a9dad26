// SPDX-License-Identifier: Apache-2.0
#include "hsmd/custody/proposal.h"

#include <inttypes.h>
#include <string.h>

#include <jansson.h>

#define ROOM_MAX (STATEMENT_SIZE_MAX + ((size_t)1 << 20)) // with a result

static enum err see_officer(void *context, const struct store_officer *officer)
{
    struct officers *officers = context;
    if (officers->count == CUSTODY_OFFICERS_MAX)
        return ERR_PERM;
    officers->list[officers->count++] = *officer;
    officers->signers += officer->role == OFFICER_OFFICER;
    return ERR_OK;
}

enum err officers_load(struct store *store, struct officers *officers, struct detail *detail)
{
    officers->count = officers->signers = officers->quorum = 0;
    enum err err = store_each_officer(store, NULL, see_officer, officers, detail);
    if (err == ERR_PERM && officers->count == CUSTODY_OFFICERS_MAX)
        return err_set(detail, err, "more than %d officers in the store", CUSTODY_OFFICERS_MAX);
    return err == ERR_OK ? store_get_quorum(store, &officers->quorum, detail) : err;
}

const struct store_officer *officers_find(const struct officers *officers, struct bytes name)
{
    for (size_t i = 0; i < officers->count; i++) {
        if (bytes_equal(bytes_of_text(officers->list[i].name), name))
            return &officers->list[i];
    }
    return NULL;
}

struct loading {
    struct store *store;
    struct proposal *proposal;
    bool is_found;
};

static struct bytes keep(struct buf *room, struct bytes bytes, enum err *err)
{
    size_t at = room->len;
    if (*err == ERR_OK)
        *err = buf_put_bytes(room, bytes);
    return *err == ERR_OK ? bytes_of(room->data + at, bytes.len) : (struct bytes){0};
}

static enum err see_proposal(void *context, const struct store_proposal *row)
{
    struct loading *loading = context;
    struct proposal *proposal = loading->proposal;
    const struct statement *from = &row->statement;
    struct statement *to = &proposal->row.statement;
    uint8_t *place = NULL;
    proposal->row = *row;
    // Room for all at once, so that nothing moves.
    enum err err = buf_reserve(&proposal->room,
                               from->nonce.len + from->proposer.len + from->act.len +
                                   row->signature.len + row->result.len,
                               &place);
    buf_reset(&proposal->room);
    to->nonce = keep(&proposal->room, from->nonce, &err);
    to->proposer = keep(&proposal->room, from->proposer, &err);
    to->act = keep(&proposal->room, from->act, &err);
    proposal->row.signature = keep(&proposal->room, row->signature, &err);
    proposal->row.result = keep(&proposal->room, row->result, &err);
    to->instance = bytes_of(store_instance(loading->store), STATEMENT_INSTANCE_SIZE);
    loading->is_found = err == ERR_OK;
    return err;
}

// Of one whose act is kept no more, from its result.
static bool get_digest(struct proposal *proposal)
{
    const struct store_proposal *row = &proposal->row;
    if (row->state == PROPOSAL_PENDING || row->statement.act.len)
        return statement_digest(&row->statement, proposal->digest) == ERR_OK;
    json_t *result = row->result.len ? json_loadb((const char *)row->result.data, row->result.len,
                                                  JSON_REJECT_DUPLICATES, NULL)
                                     : NULL;
    const char *hex = json_string_value(json_object_get(result, "digest"));
    bool ok = text_get_hex_exact(hex, proposal->digest, STATEMENT_DIGEST_SIZE);
    json_decref(result);
    return ok;
}

enum err proposal_load(struct store *store, uint64_t number, struct proposal *proposal,
                       struct detail *detail)
{
    struct loading loading = {.store = store, .proposal = proposal};
    *proposal = (struct proposal){0};
    buf_init(&proposal->room, ROOM_MAX);
    enum err err = number && number <= INT64_MAX
                       ? store_each_proposal(store, number, false, see_proposal, &loading, detail)
                       : ERR_OK;
    if (err == ERR_OK && !loading.is_found)
        err = err_set(detail, ERR_PERM, "there is no proposal %" PRIu64, number);
    if (err == ERR_OK && !get_digest(proposal))
        err = err_set(detail, ERR_PERM, "proposal %" PRIu64 " is damaged in the store", number);
    if (err != ERR_OK)
        proposal_clear(proposal);
    return err;
}

void proposal_clear(struct proposal *proposal)
{
    buf_clear(&proposal->room);
    *proposal = (struct proposal){0};
}

struct counting {
    struct store *store;
    const struct proposal *proposal;
    const struct officers *officers;
    struct tally *tally;
    struct buf message;
};

static bool is_signed(const struct counting *counting, const struct store_officer *officer,
                      struct bytes signature)
{
    return officer->role == OFFICER_OFFICER &&
           statement_check(bytes_of(officer->signing_key, sizeof officer->signing_key),
                           buf_bytes(&counting->message), signature, NULL) == ERR_OK;
}

// Has an officer with the same key approved already? Two names do not make two people.
static bool is_counted(const struct counting *counting, const struct store_officer *officer)
{
    for (size_t i = 0; i < counting->officers->count; i++) {
        if (counting->tally->of[i].has_approved &&
            memcmp(counting->officers->list[i].signing_key, officer->signing_key,
                   sizeof officer->signing_key) == 0)
            return true;
    }
    return false;
}

static void count(struct counting *counting, const struct store_officer *officer, bool is_approval,
                  const char *time)
{
    size_t i = (size_t)(officer - counting->officers->list);
    struct tally *tally = counting->tally;
    if (is_approval ? is_counted(counting, officer) : tally->of[i].has_approved)
        return;
    tally->of[i].has_approved = is_approval;
    tally->of[i].has_rejected = !is_approval;
    memcpy(tally->of[i].time, time, CLOCK_STAMP_SIZE);
    tally->approvals += is_approval;
    tally->rejections += !is_approval;
}

static enum err see_verdict(void *context, const struct store_verdict *verdict)
{
    struct counting *counting = context;
    const struct proposal *proposal = counting->proposal;
    const struct store_officer *officer =
        officers_find(counting->officers, bytes_of_text(verdict->officer));
    if (!officer)
        return ERR_OK;
    buf_reset(&counting->message);
    enum err err = statement_put_verdict(
        verdict->is_approval, proposal->row.statement.instance, proposal->row.number,
        bytes_of(proposal->digest, sizeof proposal->digest), &counting->message);
    if (err == ERR_OK &&
        is_signed(counting, officer, bytes_of(verdict->signature, sizeof verdict->signature)))
        count(counting, officer, verdict->is_approval, verdict->created);
    return err;
}

enum err proposal_count(struct store *store, const struct proposal *proposal,
                        const struct officers *officers, struct tally *tally, struct detail *detail)
{
    struct counting counting = {
        .store = store, .proposal = proposal, .officers = officers, .tally = tally};
    const struct store_officer *proposer =
        officers_find(officers, proposal->row.statement.proposer);
    memset(tally, 0, sizeof *tally);
    buf_init(&counting.message, STATEMENT_SIZE_MAX);
    // Of one that ended and whose act is kept no more, nobody can tell what its proposer signed.
    bool is_kept = proposal->row.state == PROPOSAL_PENDING || proposal->row.statement.act.len;
    enum err err = is_kept ? statement_put(&proposal->row.statement, &counting.message) : ERR_OK;
    if (err != ERR_OK)
        err = err_set(detail, err, "the proposal is damaged in the store");
    // What its proposer did not sign was changed in the store: nobody has agreed to that.
    if (!is_kept)
        proposer = NULL;
    bool is_genuine = !proposer || is_signed(&counting, proposer, proposal->row.signature);
    tally->is_altered = !is_genuine;
    if (err == ERR_OK && proposer && is_genuine)
        count(&counting, proposer, true, proposal->row.created);
    if (err == ERR_OK && is_genuine)
        err = store_each_verdict(store, proposal->row.number, see_verdict, &counting, detail);
    buf_clear(&counting.message);
    return err;
}
