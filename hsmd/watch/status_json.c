// SPDX-License-Identifier: Apache-2.0
// What officers read of hsmd's state. A member that could not be made is NULL, which json_pack
// takes for a failure of the whole.
#include <string.h>

#include "hsmd/base/text.h"
#include "hsmd/watch/status.h"

// What a module or token says may be anything; JSON is UTF-8.
static json_t *foreign_text(const char *text)
{
    char quoted[TEXT_QUOTED_SIZE];
    json_t *json = json_string(text);
    return json ? json : json_string(text_quote(text, strlen(text), quoted, sizeof quoted));
}

static json_t *token_json(const struct keystore_status *token)
{
    const struct token_status *status = &token->token;
    deadline_t now = clock_ms();
    uint64_t since = status->since && status->since < now ? now - status->since : 0;
    return json_pack(
        "{s:s, s:s, s:I, s:b, s:b, s:i, s:i, s:i, s:i, s:i, s:I, s:I, s:I, s:I, s:i, s:i, s:o}",
        "name", token->name, "state", token_state_name(status->state), "since_ms",
        (json_int_t)since, "final_try", status->is_final_try, "breaking", status->is_breaking,
        "sessions", (int)status->sessions, "in_use", (int)status->out, "in_call",
        (int)status->in_call, "longest_call_ms", (int)status->longest_call_ms, "failures",
        (int)status->failures, "calls", (json_int_t)status->calls, "calls_failed",
        (json_int_t)status->calls_failed, "refused", (json_int_t)status->refused, "restored",
        (json_int_t)status->restored, "keys", (int)token->keys, "keys_missing",
        (int)token->keys_missing, "error",
        status->error[0] ? foreign_text(status->error) : json_null());
}

static json_t *tokens_json(const struct status *status)
{
    struct keystore_status token;
    json_t *tokens = json_array();
    for (size_t i = 0; status->keystore && keystore_get_status(status->keystore, i, &token); i++) {
        if (json_array_append_new(tokens, token_json(&token)) != 0) {
            json_decref(tokens);
            return NULL;
        }
    }
    return tokens;
}

static json_t *keys_json(const struct status *status)
{
    const struct registry_key *key = NULL;
    int counts[WIRE_RETIRED + 1] = {0};
    const struct registry *registry = live_take(status->core->live);
    for (size_t i = 0; (key = registry_key_at(registry, i)) != NULL; i++)
        counts[key->state]++;
    live_give(status->core->live, registry);
    return json_pack("{s:i, s:i, s:i}", "enabled", counts[WIRE_ENABLED], "disabled",
                     counts[WIRE_DISABLED], "retired", counts[WIRE_RETIRED]);
}

static json_t *audit_json(const struct status *status)
{
    struct audit_status audit;
    struct checkpointer_status made = {0};
    struct buf hash;
    audit_get_status(status->core->audit, &audit);
    if (status->checkpointer)
        checkpointer_get_status(status->checkpointer, &made);
    json_t *checkpoint = made.seq ? json_pack("{s:I, s:I}", "seq", (json_int_t)made.seq, "age_s",
                                              (json_int_t)(made.age_ms / 1000))
                                  : json_null();
    buf_init(&hash, 2 * AUDIT_HASH_SIZE + 1);
    json_t *json = NULL;
    if (text_put_hex(&hash, bytes_of(audit.head.hash, AUDIT_HASH_SIZE)) == ERR_OK)
        json = json_pack(
            "{s:I, s:s, s:b, s:s, s:I, s:I, s:s?, s:O, s:I}", "seq", (json_int_t)audit.head.seq,
            "hash", buf_text(&hash), "failing", metrics_is_audit_failing(status->core->metrics),
            "sync", audit_sync_name(audit.sync), "unsynced", (json_int_t)audit.unsynced,
            "unsynced_ms", (json_int_t)audit.unsynced_ms, "key", made.key[0] ? made.key : NULL,
            "checkpoint", checkpoint, "uncovered", (json_int_t)made.uncovered);
    json_decref(checkpoint);
    buf_clear(&hash);
    return json;
}

static void append(void *context, const char *problem)
{
    json_array_append_new(context, foreign_text(problem)); // short of memory: one line less
}

enum err status_json(const struct status *status, json_t **out)
{
    char started[32] = "";
    struct tm tm;
    json_t *problems = json_array();
    enum status_state state = status_each_problem(status, problems ? append : NULL, problems);
    gmtime_r(&status->started, &tm);
    strftime(started, sizeof started, "%Y-%m-%dT%H:%M:%SZ", &tm);
    json_t *json =
        json_pack("{s:s, s:s, s:I, s:s, s:o, s:o, s:o, s:o}", "version", SEALGATE_VERSION,
                  "started", started, "uptime", (json_int_t)(time(NULL) - status->started), "state",
                  status_state_name(state), "keys", keys_json(status), "tokens",
                  tokens_json(status), "audit", audit_json(status), "problems", problems);
    if (!json)
        return ERR_TEMP;
    *out = json;
    return ERR_OK;
}
