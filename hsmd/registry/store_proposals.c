// SPDX-License-Identifier: Apache-2.0
// Proposals, and what officers have signed about them.
#include <string.h>

#include "hsmd/registry/store_internal.h"

const char *store_proposal_state_name(enum store_proposal_state state)
{
    switch (state) {
#define X(symbol, name) \
    case symbol:        \
        return name;
        STORE_PROPOSAL_STATES(X)
#undef X
    }
    return NULL;
}

static enum err read_proposal(struct store *store, sqlite3_stmt *statement, char *proposer,
                              struct store_proposal *proposal, struct detail *detail)
{
    *proposal = (struct store_proposal){
        .number = (uint64_t)sqlite3_column_int64(statement, 0),
        .state = (enum store_proposal_state)sqlite3_column_int(statement, 1),
        .statement = {.instance = bytes_of(store->instance, sizeof store->instance),
                      .nonce = store_column_bytes(statement, 2),
                      .replaces = (uint64_t)sqlite3_column_int64(statement, 4),
                      .lapse = (uint64_t)sqlite3_column_int64(statement, 5),
                      .act = store_column_bytes(statement, 6)},
        .signature = store_column_bytes(statement, 7),
        .lapses = sqlite3_column_int64(statement, 8),
        .result = store_column_bytes(statement, 11),
    };
    if (!store_proposal_state_name(proposal->state) ||
        proposal->statement.nonce.len != STATEMENT_NONCE_SIZE ||
        proposal->signature.len != STATEMENT_SIGNATURE_SIZE ||
        !store_column_text(statement, 3, proposer, TEXT_NAME_MAX + 1) ||
        !store_column_text(statement, 9, proposal->created, sizeof proposal->created) ||
        !store_column_text(statement, 10, proposal->ended, sizeof proposal->ended))
        return store_damaged(store, "a proposal", detail);
    if (proposal->lapses > (int64_t)proposal->statement.lapse)
        proposal->lapses = (int64_t)proposal->statement.lapse; // what was signed is the most
    proposal->statement.proposer = bytes_of_text(proposer);
    return ERR_OK;
}

enum err store_each_proposal(struct store *store, uint64_t number, bool pending_only,
                             store_see_proposal see, void *context, struct detail *detail)
{
    sqlite3_stmt *statement = NULL;
    enum err err = store_prepare(
        store,
        "SELECT number, state, nonce, proposer, replaces, lapse, act, signature, lapses, created,"
        " ended, result FROM proposal WHERE (?1 = 0 OR number = ?1) AND (?2 = 0 OR state = ?3)"
        " ORDER BY number",
        VALUES(NUMBER(number), NUMBER(pending_only), NUMBER(PROPOSAL_PENDING)), &statement, detail);
    for (bool is_row = true; err == ERR_OK;) {
        struct store_proposal proposal;
        char proposer[TEXT_NAME_MAX + 1];
        err = store_step(store, statement, &is_row, detail);
        if (err != ERR_OK || !is_row)
            break;
        err = read_proposal(store, statement, proposer, &proposal, detail);
        if (err == ERR_OK)
            err = see(context, &proposal);
    }
    sqlite3_finalize(statement);
    return err;
}

static bool is_proposal(const struct store *store, const struct store_proposal *proposal)
{
    const struct statement *statement = &proposal->statement;
    const struct bytes proposer = statement->proposer;
    return bytes_equal(statement->instance, bytes_of(store->instance, sizeof store->instance)) &&
           statement->nonce.len == STATEMENT_NONCE_SIZE &&
           proposal->signature.len == STATEMENT_SIGNATURE_SIZE && statement->act.len > 0 &&
           statement->act.len <= ACT_SIZE_MAX && proposer.len <= TEXT_NAME_MAX &&
           text_is_name((const char *)proposer.data, proposer.len);
}

// A nonce is seen once, whatever becomes of its proposal.
static enum err use_nonce(struct store *store, struct bytes nonce, struct detail *detail)
{
    int64_t is_seen = 0;
    enum err err = store_number(store, "SELECT count(*) FROM nonce WHERE nonce = ?1",
                                VALUES(BYTES(nonce)), &is_seen, detail);
    if (err == ERR_OK && is_seen)
        err = err_set(detail, ERR_PERM, "this has been proposed before: its nonce is used");
    if (err == ERR_OK)
        err = store_run(store, "INSERT INTO nonce VALUES (?1)", VALUES(BYTES(nonce)), NULL, detail);
    return err;
}

static enum err check_pending(struct store *store, uint64_t number, struct detail *detail)
{
    int64_t state = 0;
    enum err err = store_number(store, "SELECT 1 + state FROM proposal WHERE number = ?1",
                                VALUES(NUMBER(number)), &state, detail);
    if (err != ERR_OK || state == 1 + PROPOSAL_PENDING)
        return err;
    if (state == 0)
        return err_set(detail, ERR_PERM, "there is no proposal %llu", (unsigned long long)number);
    const char *name = store_proposal_state_name((enum store_proposal_state)(state - 1));
    return err_set(detail, ERR_PERM, "proposal %llu is pending no more: %s",
                   (unsigned long long)number, name ? name : "damaged");
}

// sql: an INSERT or UPDATE with the parameters in this order.
static enum err write_proposal(struct store *store, const struct store_proposal *proposal,
                               const char *sql, struct detail *detail)
{
    char stamp[CLOCK_STAMP_SIZE];
    char proposer[TEXT_NAME_MAX + 1] = "";
    const struct statement *statement = &proposal->statement;
    memcpy(proposer, statement->proposer.data, statement->proposer.len);
    clock_stamp(stamp);
    enum err err = use_nonce(store, statement->nonce, detail);
    if (err != ERR_OK)
        return err;
    return store_run(store, sql,
                     VALUES(NUMBER(proposal->number), NUMBER(PROPOSAL_PENDING),
                            BYTES(statement->nonce), TEXT(proposer), NUMBER(statement->replaces),
                            NUMBER(statement->lapse), BYTES(statement->act),
                            BYTES(proposal->signature), NUMBER(proposal->lapses), TEXT(stamp)),
                     NULL, detail);
}

static enum err insert_proposal(struct store *store, const struct store_proposal *proposal,
                                struct detail *detail)
{
    return write_proposal(store, proposal,
                          "INSERT INTO proposal (number, state, nonce, proposer, replaces, lapse,"
                          " act, signature, lapses, created)"
                          " VALUES (nullif(?1, 0), ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                          detail);
}

enum err store_add_proposal(struct store *store, const struct store_proposal *proposal,
                            uint64_t *number, struct detail *detail)
{
    struct store_proposal added = *proposal;
    added.number = 0; // SQLite gives it one that never was
    if (!is_proposal(store, proposal))
        return err_set(detail, ERR_PERM, "the proposal is not well-formed, or of another hsmd");
    enum err err = store_enter(store, detail);
    if (err != ERR_OK)
        return err;
    err = store_leave(store, insert_proposal(store, &added, detail), detail);
    if (err == ERR_OK)
        *number = (uint64_t)sqlite3_last_insert_rowid(store->db);
    return err;
}

static enum err update_proposal(struct store *store, const struct store_proposal *proposal,
                                struct detail *detail)
{
    enum err err = check_pending(store, proposal->number, detail);
    if (err == ERR_OK)
        err = write_proposal(store, proposal,
                             "UPDATE proposal SET nonce = ?3, proposer = ?4, replaces = ?5,"
                             " lapse = ?6, act = ?7, signature = ?8, lapses = ?9"
                             " WHERE number = ?1 AND state = ?2 AND ?10 IS NOT NULL",
                             detail);
    if (err == ERR_OK)
        err = store_run(store, "DELETE FROM verdict WHERE number = ?1",
                        VALUES(NUMBER(proposal->number)), NULL, detail);
    return err;
}

enum err store_change_proposal(struct store *store, const struct store_proposal *proposal,
                               struct detail *detail)
{
    if (!is_proposal(store, proposal))
        return err_set(detail, ERR_PERM, "the proposal is not well-formed, or of another hsmd");
    enum err err = store_enter(store, detail);
    return err == ERR_OK ? store_leave(store, update_proposal(store, proposal, detail), detail)
                         : err;
}

enum err store_end_proposal(struct store *store, uint64_t number, enum store_proposal_state state,
                            struct bytes result, struct detail *detail)
{
    char stamp[CLOCK_STAMP_SIZE];
    if (state == PROPOSAL_PENDING || !store_proposal_state_name(state))
        return err_set(detail, ERR_BUG, "a proposal does not end as %d", (int)state);
    enum err err = check_pending(store, number, detail);
    if (err != ERR_OK)
        return err;
    clock_stamp(stamp);
    return store_run(
        store, "UPDATE proposal SET state = ?2, result = ?3, ended = ?4 WHERE number = ?1",
        VALUES(NUMBER(number), NUMBER(state), BYTES(result), TEXT(stamp)), NULL, detail);
}

enum err store_forget_act(struct store *store, uint64_t number, struct detail *detail)
{
    int changes = 0;
    enum err err =
        store_run(store, "UPDATE proposal SET act = x'' WHERE number = ?1 AND state <> ?2",
                  VALUES(NUMBER(number), NUMBER(PROPOSAL_PENDING)), &changes, detail);
    if (err == ERR_OK && !changes)
        err = err_set(detail, ERR_PERM, "proposal %llu has not ended", (unsigned long long)number);
    return err;
}

enum err store_last_proposal(struct store *store, uint64_t *number, struct detail *detail)
{
    sqlite3_stmt *statement = NULL;
    bool is_row = false;
    enum err err =
        store_prepare(store, "SELECT coalesce(max(number), 0) FROM proposal WHERE ?1 IS NOT NULL",
                      VALUES(NUMBER(0)), &statement, detail);
    if (err == ERR_OK)
        err = store_step(store, statement, &is_row, detail);
    *number = is_row ? (uint64_t)sqlite3_column_int64(statement, 0) : 0;
    sqlite3_finalize(statement);
    return err;
}

enum err store_each_verdict(struct store *store, uint64_t number, store_see_verdict see,
                            void *context, struct detail *detail)
{
    sqlite3_stmt *statement = NULL;
    enum err err = store_prepare(store,
                                 "SELECT number, officer, is_approval, signature, created"
                                 " FROM verdict WHERE ?1 = 0 OR number = ?1"
                                 " ORDER BY number, officer",
                                 VALUES(NUMBER(number)), &statement, detail);
    for (bool is_row = true; err == ERR_OK;) {
        struct store_verdict verdict;
        err = store_step(store, statement, &is_row, detail);
        if (err != ERR_OK || !is_row)
            break;
        verdict.number = (uint64_t)sqlite3_column_int64(statement, 0);
        verdict.is_approval = sqlite3_column_int(statement, 2) != 0;
        if (!store_column_text(statement, 1, verdict.officer, sizeof verdict.officer) ||
            !store_column_copy(statement, 3, verdict.signature, sizeof verdict.signature) ||
            !store_column_text(statement, 4, verdict.created, sizeof verdict.created))
            err = store_damaged(store, "a verdict", detail);
        else
            err = see(context, &verdict);
    }
    sqlite3_finalize(statement);
    return err;
}

enum err store_put_verdict(struct store *store, const struct store_verdict *verdict,
                           struct detail *detail)
{
    char stamp[CLOCK_STAMP_SIZE];
    if (!text_is_name(verdict->officer, strnlen(verdict->officer, sizeof verdict->officer)))
        return err_set(detail, ERR_PERM, "a verdict of nobody");
    enum err err = check_pending(store, verdict->number, detail);
    if (err != ERR_OK)
        return err;
    clock_stamp(stamp);
    return store_run(
        store, "INSERT OR REPLACE INTO verdict VALUES (?1, ?2, ?3, ?4, ?5)",
        VALUES(NUMBER(verdict->number), TEXT(verdict->officer), NUMBER(verdict->is_approval),
               BYTES(bytes_of(verdict->signature, sizeof verdict->signature)), TEXT(stamp)),
        NULL, detail);
}
