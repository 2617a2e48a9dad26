// SPDX-License-Identifier: Apache-2.0
// What one officer alone can make hsmd keep for ever is little: of proposals that were taken back
// or lapsed the digest and one line, and only so many signatures an hour.
#include "hsmd/custody/custody_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hsmd/custody/reads.h"

#define RESULT_MAX 8192
#define SLOT_MS 60000 // of a window of 60 slots: an hour

// {"err","detail","kind","summary","digest"}
static enum err put_rest(const struct proposal *proposal, const char *class, const char *why,
                         struct buf *out, struct detail *detail)
{
    struct act act = {0};
    struct buf summary;
    buf_init(&summary, ACT_SUMMARY_MAX);
    bool is_readable = act_decode(proposal->row.statement.act, &act, NULL) == ERR_OK &&
                       act_summary(&act, &summary) == ERR_OK;
    json_t *json =
        json_pack("{ss ss ss? so so}", "err", class, "detail", why, "kind",
                  is_readable ? act_kind_name(act.kind) : NULL, "summary",
                  is_readable ? reads_text(buf_bytes(&summary)) : json_string("cannot be read"),
                  "digest", reads_hex(bytes_of(proposal->digest, sizeof proposal->digest)));
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    enum err err = text ? buf_put_text(out, text) : err_set(detail, ERR_TEMP, "out of memory");
    free(text);
    json_decref(json);
    buf_clear(&summary);
    return err;
}

enum err custody_end_and_forget(struct custody *custody, const struct proposal *proposal,
                                enum store_proposal_state state, const char *why,
                                struct detail *detail)
{
    struct store *store = custody->conf.store;
    uint64_t number = proposal->row.number;
    struct buf result;
    buf_init(&result, RESULT_MAX);
    enum err err = put_rest(proposal, err_name(ERR_DENIED), why, &result, detail);
    if (err == ERR_OK)
        err = store_end_proposal(store, number, state, buf_bytes(&result), detail);
    if (err == ERR_OK)
        err = store_forget_act(store, number, detail);
    buf_clear(&result);
    return err;
}

// The officer's, or one that nobody has used for an hour. NULL: there is none.
static struct window *window_of(struct custody *custody, const char *name, deadline_t now)
{
    struct rate *free = NULL;
    for (size_t i = 0; i < CUSTODY_RATES_MAX; i++) {
        struct rate *rate = &custody->rates[i];
        if (strcmp(rate->officer, name) == 0)
            return &rate->window;
        if (!rate->officer[0] || window_left(&rate->window, now) >= custody->signatures_an_hour)
            free = rate;
    }
    if (!free)
        return NULL;
    snprintf(free->officer, sizeof free->officer, "%s", name);
    window_init(&free->window, SLOT_MS);
    return &free->window;
}

enum err custody_check_rate(struct custody *custody, const char *officer, bool is_counted,
                            struct detail *detail)
{
    deadline_t now = clock_ms();
    struct window *window = window_of(custody, officer, now);
    if (!window)
        return ERR_OK; // of more people than can be officers
    atomic_store(&window->limit, custody->signatures_an_hour);
    if (is_counted)
        window_count(window, now);
    else if (window_left(window, now) == 0)
        return err_set(detail, ERR_TEMP, "you have signed %u times within an hour: wait",
                       custody->signatures_an_hour);
    return ERR_OK;
}
