// SPDX-License-Identifier: Apache-2.0
// Officers and proposals.
#include "hsmd/custody/act_run.h"
#include "hsmd/custody/reads.h"

#include <stdlib.h>
#include <string.h>

#define LIST_MAX 1024 // proposals in one answer: the newest ones

struct listing {
    struct reading *reading;
    bool is_all;
    uint64_t numbers[LIST_MAX]; // a ring
    size_t count;
};

static json_t *people(struct reading *reading, const struct officers *officers,
                      const struct tally *tally, bool is_approval)
{
    json_t *array = json_array();
    for (size_t i = 0; i < officers->count; i++) {
        if (is_approval ? tally->of[i].has_approved : tally->of[i].has_rejected)
            reads_add(
                reading, array,
                json_pack("{ssss}", "officer", officers->list[i].name, "time", tally->of[i].time));
    }
    return array;
}

// result: where it is if the act is kept no more.
static void put_act(struct reading *reading, json_t *item, const struct proposal *proposal,
                    const json_t *result)
{
    const struct statement *statement = &proposal->row.statement;
    struct act act = {0};
    struct buf summary;
    const char *kind = json_string_value(json_object_get(result, "kind"));
    const char *said = json_string_value(json_object_get(result, "summary"));
    buf_init(&summary, ACT_SUMMARY_MAX);
    if (act_decode(statement->act, &act, NULL) == ERR_OK && act_summary(&act, &summary) == ERR_OK) {
        kind = act_kind_name(act.kind);
        said = buf_text(&summary);
    }
    reads_put(reading, item, "kind", kind ? json_string(kind) : json_null());
    reads_put(reading, item, "summary", json_string(said ? said : "cannot be read"));
    buf_clear(&summary);
}

// For those who are to agree, as long as they can: afterwards it is in the result.
static void put_warning(struct reading *reading, json_t *item, const struct proposal *proposal)
{
    struct act act = {0};
    struct detail warning = {0};
    bool is_waiting = proposal->row.state == PROPOSAL_PENDING;
    if (is_waiting && act_decode(proposal->row.statement.act, &act, NULL) == ERR_OK &&
        act_warning(reading->custody->conf.store, &act, &warning, NULL) != ERR_OK)
        reading->is_short = true;
    reads_put(reading, item, "warning",
              warning.text[0] ? reads_text(bytes_of_text(warning.text)) : json_null());
}

// What was signed, so that who reads it can check it and sign it.
static void put_statement(struct reading *reading, json_t *item, const struct proposal *proposal)
{
    const struct statement *statement = &proposal->row.statement;
    reads_put(reading, item, "act", reads_base64(statement->act));
    reads_put(reading, item, "nonce", reads_hex(statement->nonce));
    reads_put(reading, item, "replaces", json_integer((json_int_t)statement->replaces));
    reads_put(reading, item, "lapse", json_integer((json_int_t)statement->lapse));
    reads_put(reading, item, "signature", reads_hex(proposal->row.signature));
    reads_put(reading, item, "digest",
              reads_hex(bytes_of(proposal->digest, sizeof proposal->digest)));
}

static json_t *make_item(struct reading *reading, const struct proposal *proposal,
                         const struct officers *officers, const struct tally *tally)
{
    const struct store_proposal *row = &proposal->row;
    bool is_late = row->state == PROPOSAL_PENDING && row->lapses <= reading->custody->now();
    enum store_proposal_state state = is_late ? PROPOSAL_LAPSED : row->state;
    json_t *item = json_object();
    json_t *result = row->result.len ? json_loadb((const char *)row->result.data, row->result.len,
                                                  JSON_REJECT_DUPLICATES, NULL)
                                     : NULL;
    reads_put(reading, item, "number", json_integer((json_int_t)row->number));
    reads_put(reading, item, "state", json_string(store_proposal_state_name(state)));
    reads_put(reading, item, "proposer", reads_text(row->statement.proposer));
    reads_put(reading, item, "created", json_string(row->created));
    reads_put(reading, item, "lapses", reads_stamp(row->lapses));
    reads_put(reading, item, "ended", row->ended[0] ? json_string(row->ended) : json_null());
    reads_put(reading, item, "replaced", json_boolean(row->statement.replaces != 0));
    put_act(reading, item, proposal, result);
    put_warning(reading, item, proposal);
    put_statement(reading, item, proposal);
    reads_put(reading, item, "approvals", people(reading, officers, tally, true));
    reads_put(reading, item, "rejections", people(reading, officers, tally, false));
    reads_put(reading, item, "needed", json_integer(officers->quorum));
    reads_put(reading, item, "result", result ? result : json_null());
    return item;
}

static enum err load_item(struct reading *reading, uint64_t number, const struct officers *officers,
                          json_t **item)
{
    struct proposal proposal = {0};
    struct tally tally;
    struct store *store = reading->custody->conf.store;
    struct detail *detail = &reading->call->detail;
    enum err err = proposal_load(store, number, &proposal, detail);
    if (err == ERR_OK)
        err = proposal_count(store, &proposal, officers, &tally, detail);
    if (err == ERR_OK)
        *item = make_item(reading, &proposal, officers, &tally);
    proposal_clear(&proposal);
    return err;
}

static enum err see_number(void *context, const struct store_proposal *proposal)
{
    struct listing *listing = context;
    listing->numbers[listing->count++ % LIST_MAX] = proposal->number;
    return ERR_OK;
}

// What may be long is left out of lists, so that nobody can make them too long to be read; one is
// asked for by its number.
static void cut(json_t *item)
{
    json_t *result = json_object_get(item, "result");
    (void)json_object_del(item, "act");
    (void)json_object_del(result, "pem");
    (void)json_object_del(result, "public_key_pem");
}

enum err reads_proposals(struct reading *reading)
{
    struct custody *custody = reading->custody;
    struct bytes argument = reading->call->request.read.argument;
    struct listing listing = {.reading = reading,
                              .is_all = bytes_equal(argument, BYTES_LITERAL("all"))};
    struct officers officers;
    struct detail ignored = {0};
    char text[24] = "";
    char *end = text;
    bool is_number = argument.len && !listing.is_all && argument.len < sizeof text;
    (void)custody_lapse(custody, &ignored); // what could not be written down is shown as lapsed
    enum err err = officers_load(custody->conf.store, &officers, &reading->call->detail);
    if (is_number) {
        memcpy(text, argument.data, argument.len);
        listing.numbers[0] = strtoull(text, &end, 10);
        listing.count = 1;
    }
    if (argument.len && !listing.is_all && (!is_number || *end || text[0] == '-'))
        return err_set(&reading->call->detail, ERR_PERM, "that is no number of a proposal");
    if (err == ERR_OK && !is_number)
        err = store_each_proposal(custody->conf.store, 0, !listing.is_all, see_number, &listing,
                                  &reading->call->detail);
    size_t first = listing.count > LIST_MAX ? listing.count - LIST_MAX : 0;
    for (size_t i = first; i < listing.count && err == ERR_OK; i++) {
        json_t *item = NULL;
        err = load_item(reading, listing.numbers[i % LIST_MAX], &officers, &item);
        if (err == ERR_OK && !is_number)
            cut(item);
        if (err == ERR_OK)
            reads_add(reading, reading->top, item);
    }
    return err;
}

enum err reads_put_proposal(struct call *call, uint64_t number)
{
    struct reading reading = {.call = call, .custody = call->custody};
    struct officers officers;
    json_t *item = NULL;
    struct detail why = call->detail; // of the act, which may have failed
    enum err err = officers_load(call->custody->conf.store, &officers, &call->detail);
    if (err == ERR_OK)
        err = load_item(&reading, number, &officers, &item);
    char *text = err == ERR_OK && !reading.is_short ? json_dumps(item, JSON_COMPACT) : NULL;
    if (err == ERR_OK)
        err = text ? buf_put_text(&call->body, text)
                   : err_set(&call->detail, ERR_TEMP, "out of memory");
    if (why.text[0])
        call->detail = why;
    free(text);
    json_decref(item);
    return err;
}

enum err reads_officers(struct reading *reading)
{
    struct officers officers;
    json_t *array = json_array();
    enum err err = officers_load(reading->custody->conf.store, &officers, &reading->call->detail);
    reads_put(reading, reading->top, "quorum", json_integer(err == ERR_OK ? officers.quorum : 0));
    reads_put(reading, reading->top, "officers", array);
    for (size_t i = 0; err == ERR_OK && i < officers.count && array; i++) {
        const struct store_officer *officer = &officers.list[i];
        bool is_self = strcmp(officer->name, reading->call->officer.name) == 0;
        reads_add(reading, array,
                  json_pack("{ssss soss ss sb}", "name", officer->name, "role",
                            officer_role_name(officer->role), "signing_key",
                            reads_hex(bytes_of(officer->signing_key, sizeof officer->signing_key)),
                            "curve_key", officer->curve_key, "created", officer->created, "self",
                            is_self));
    }
    return err;
}
