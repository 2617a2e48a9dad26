// SPDX-License-Identifier: Apache-2.0
// An act on its way: explained, confirmed, signed, sent, and what came of it told.
#include "tools/hsmctl.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/rand.h>

#include "hsmd/custody/issue.h"
#include "tools/hsmctl_ask.h"
#include "tools/hsmctl_print.h"

#define QUESTION_MAX (4 * ACT_EXPLANATION_MAX)

static const char *text_of(const json_t *item, const char *name)
{
    const char *text = json_string_value(json_object_get(item, name));
    return text ? text : "";
}

// What can be left out when there is one token only.
static enum err fill_token(struct call *call, struct act *act, struct detail *detail)
{
    bool is_placed = act->kind == ACT_KEY_GENERATE || act->kind == ACT_KEY_IMPORT;
    bool is_token = act->kind == ACT_UNLOCK || act->kind == ACT_LOCK;
    if (is_placed && !act->tokens.len)
        return session_token(call, &act->tokens, detail);
    if (is_token && !act->name.len)
        return session_token(call, &act->name, detail);
    return ERR_OK;
}

static enum err put_duration(struct buf *out, uint64_t seconds)
{
    if (seconds % 86400 == 0)
        return buf_printf(out, "%" PRIu64 " d", seconds / 86400);
    if (seconds % 3600 == 0)
        return buf_printf(out, "%" PRIu64 " h", seconds / 3600);
    return buf_printf(out, "%" PRIu64 " min", seconds / 60);
}

enum err proposal_put_summary(const struct act *act, struct buf *out)
{
    struct buf summary;
    buf_init(&summary, ACT_SUMMARY_MAX);
    enum err err = act_summary(act, &summary);
    if (err == ERR_OK)
        err = buf_put_text(out, "\nIn short: ");
    if (err == ERR_OK)
        err = print_clean(out, buf_bytes(&summary), false);
    buf_clear(&summary);
    return err == ERR_OK ? buf_put_text(out, "\n") : err;
}

// The purpose of a key that hsmd has. 0: it has none of that name, or does not say.
static enum err find_purpose(struct call *call, struct bytes name, enum wire_purpose *purpose,
                             struct detail *detail)
{
    char text[TEXT_NAME_MAX + 1];
    json_t *keys = NULL;
    snprintf(text, sizeof text, "%.*s", (int)name.len, (const char *)name.data);
    enum err err = session_open(call, detail);
    if (err == ERR_OK)
        err = session_read(call, READ_KEYS, text, &keys, detail);
    *purpose = wire_purpose_by_name(text_of(json_array_get(keys, 0), "purpose"));
    json_decref(keys);
    return err;
}

// What only some recipients mind about the certificates of the act, before it is signed. ERR_PERM:
// what hsmd would refuse them for.
static enum err foresee(struct call *call, const struct act *act, struct detail *warning,
                        struct detail *detail)
{
    enum wire_purpose purpose = act->purpose;
    bool is_import = act->kind == ACT_KEY_IMPORT && act->certificates.len;
    enum err err = ERR_OK;
    if (act->kind == ACT_KEY_CERTIFICATE)
        err = find_purpose(call, act->name, &purpose, detail);
    else if (!is_import)
        return ERR_OK;
    if (err != ERR_OK || !purpose)
        return err;
    // Whether it is of that key is for hsmd to say, but of one that is brought along.
    err = issue_check_certificates(act->certificates, act->public_key, purpose, act->any_name,
                                   warning, detail);
    if (err == ERR_PERM)
        call->failure = HSMCTL_EXIT_BAD;
    return err;
}

static enum err put_warning(struct bytes warning, struct buf *out)
{
    enum err err = warning.len ? buf_put_text(out, "Warning: ") : ERR_OK;
    if (err == ERR_OK)
        err = print_clean(out, warning, false);
    return err == ERR_OK && warning.len ? buf_put_text(out, "\n") : err;
}

static enum err put_question(const struct act *act, uint64_t replaces, uint64_t wait,
                             const struct detail *warning, struct buf *out)
{
    enum err err = act_explain(act, out);
    if (err == ERR_OK && out->len && out->data[out->len - 1] != '\n')
        err = buf_put_text(out, "\n");
    if (err == ERR_OK)
        err = put_warning(bytes_of_text(warning->text), out);
    if (err == ERR_OK && replaces)
        err = buf_printf(
            out, "This takes the place of proposal %" PRIu64 ", which loses its signatures.\n",
            replaces);
    if (err == ERR_OK)
        err = buf_put_text(out, "If other officers must agree, they have ");
    if (err == ERR_OK)
        err = put_duration(out, wait);
    if (err == ERR_OK)
        err = buf_put_text(out, ".\n");
    return err == ERR_OK ? proposal_put_summary(act, out) : err;
}

// --yes: shown all the same, but for programs.
static enum err confirm(struct call *call, const struct act *act, uint64_t replaces, uint64_t wait,
                        struct detail *detail)
{
    struct buf text;
    struct detail warning = {0};
    bool is_yes = call_has(call, OPTION_YES);
    enum err err = foresee(call, act, &warning, detail);
    if (err != ERR_OK)
        return err;
    buf_init(&text, QUESTION_MAX);
    err = put_question(act, replaces, wait, &warning, &text);
    if (err != ERR_OK)
        err = err_set(detail, err, "cannot explain this act");
    else if (!is_yes)
        err = ask_yes(buf_text(&text), "Sign this?", &is_yes, detail);
    else if (!call_has(call, OPTION_JSON))
        fputs(buf_text(&text), stderr);
    if (err == ERR_OK && !is_yes) {
        call->failure = HSMCTL_EXIT_BAD;
        err = err_set(detail, ERR_DENIED, "not signed: nothing was done");
    }
    buf_clear(&text);
    return err;
}

static enum err sign_and_send(struct call *call, struct statement *statement, struct buf *body,
                              struct detail *detail)
{
    struct buf message, instance;
    uint8_t signature[STATEMENT_SIGNATURE_SIZE];
    struct session *session = &call->session;
    buf_init(&message, STATEMENT_SIZE_MAX);
    buf_init(&instance, STATEMENT_INSTANCE_SIZE);
    enum err err = session_instance(session, &instance, detail);
    statement->instance = buf_bytes(&instance);
    statement->proposer = bytes_of_text(session->name);
    if (err == ERR_OK && (err = statement_put(statement, &message)) != ERR_OK)
        err = err_set(detail, err, "cannot write down what is to be signed");
    if (err == ERR_OK)
        err = officer_key_sign(&session->key, buf_bytes(&message), signature, detail);
    if (err == ERR_OK) {
        struct message_request request = {
            .operation = MESSAGE_PROPOSE,
            .propose = {.statement = *statement,
                        .signature = bytes_of(signature, sizeof signature),
                        .attachment = bytes_of(call->attachment.data, call->attachment.len)},
        };
        err = session_ask(call, &request, body, detail);
    }
    buf_clear(&message);
    buf_clear(&instance);
    return err;
}

static enum err propose(struct call *call, const struct act *act, struct bytes encoding,
                        struct detail *detail)
{
    struct buf body;
    uint8_t nonce[STATEMENT_NONCE_SIZE] = {0};
    json_t *item = NULL;
    uint64_t wait = 0;
    struct statement statement = {.nonce = bytes_of(nonce, sizeof nonce), .act = encoding};
    buf_init(&body, MESSAGE_REPLY_MAX);
    enum err err = call_lapse(call, act->kind, &wait, detail);
    if (err == ERR_OK)
        err = call_number(call, OPTION_AMEND, INT64_MAX, &statement.replaces, detail);
    if (err == ERR_OK && RAND_bytes(nonce, sizeof nonce) != 1)
        err = err_openssl(detail, ERR_TEMP, "no random numbers");
    if (err == ERR_OK)
        err = confirm(call, act, statement.replaces, wait, detail);
    if (err == ERR_OK)
        err = session_know(call, detail);
    if (err == ERR_OK && call->session.is_auditor) {
        call->failure = HSMCTL_EXIT_BAD;
        err = err_set(detail, ERR_DENIED, "%s is an auditor: auditors read, and change nothing",
                      call->session.name);
    }
    statement.lapse = (uint64_t)time(NULL) + wait;
    if (err == ERR_OK)
        err = sign_and_send(call, &statement, &body, detail);
    err = proposal_take(err, &body, &item, detail);
    if (err == ERR_OK)
        err = proposal_tell(call, item, detail);
    json_decref(item);
    buf_clear(&body);
    return err;
}

enum err run_proposal(struct call *call, struct detail *detail)
{
    struct act act;
    struct buf encoding;
    buf_init(&encoding, ACT_SIZE_MAX);
    enum err err = call_build(call, &act, detail);
    if (err == ERR_OK)
        err = fill_token(call, &act, detail);
    if (err == ERR_OK)
        err = act_encode(&act, &encoding, detail);
    if (err == ERR_OK && (act.kind == ACT_KEY_REQUEST || act.kind == ACT_KEY_SELF_SIGN))
        err = issue_check(&act, detail);
    if (err == ERR_OK)
        err = propose(call, &act, buf_bytes(&encoding), detail);
    buf_clear(&encoding);
    return err;
}

enum err proposal_take(enum err err, const struct buf *body, json_t **item, struct detail *detail)
{
    if (err != ERR_OK && body->len == 0)
        return err;
    json_t *taken = json_loadb(buf_text(body), body->len, JSON_REJECT_DUPLICATES, NULL);
    bool is_told = err == ERR_OK || strcmp(text_of(taken, "state"), "failed") == 0;
    if (taken && is_told) {
        *item = taken;
        return ERR_OK;
    }
    json_decref(taken);
    return err != ERR_OK ? err : err_set(detail, ERR_PERM, "hsmd's answer is no JSON");
}

static enum err tell_result(struct call *call, FILE *out, const json_t *item, struct detail *detail)
{
    static const struct column columns[] = {
        {"  SHA-256 of its public key", "public_key_sha256"},
        {"  note", "note"},
        {"  warning", "warning"},
    };
    const json_t *result = json_object_get(item, "result");
    const char *pem = text_of(result, "pem");
    enum err err = print_fields(out, result, columns, sizeof columns / sizeof *columns);
    if (json_is_true(json_object_get(result, "wrapped")))
        fputs("  The key went into the token wrapped.\n", out);
    return err == ERR_OK && *pem ? output_write(call, bytes_of_text(pem), detail) : err;
}

static void tell_pending(const json_t *item)
{
    long long number = (long long)json_integer_value(json_object_get(item, "number"));
    long long needed = (long long)json_integer_value(json_object_get(item, "needed"));
    // Its proposer is among them, unless she is no officer any more.
    long long left = needed - (long long)json_array_size(json_object_get(item, "approvals"));
    if (left < 1) {
        printf(
            "Proposal %lld has all its signatures, but was not carried out. To try again, one of "
            "its officers types:\n    hsmctl approve %lld\n",
            number, number);
        return;
    }
    printf("Proposal %lld waits for %lld more signature%s, until ", number, left,
           left > 1 ? "s" : "");
    print_text(stdout, text_of(item, "lapses"), false);
    printf(".\n%s must type:\n    hsmctl approve %lld\n",
           left > 1 ? "Other officers" : "Another officer", number);
}

static enum err tell_people(struct call *call, const json_t *item, struct detail *detail)
{
    const char *state = text_of(item, "state");
    const json_t *result = json_object_get(item, "result");
    long long number = (long long)json_integer_value(json_object_get(item, "number"));
    // A request or certificate has standard output to itself.
    FILE *out = *text_of(result, "pem") ? stderr : stdout;
    if (strcmp(state, "done") == 0) {
        fprintf(out, "Done: proposal %lld was carried out.\n", number);
        return tell_result(call, out, item, detail);
    }
    if (strcmp(state, "pending") == 0) {
        tell_pending(item);
        return ERR_OK;
    }
    if (strcmp(state, "failed") == 0) {
        printf("Proposal %lld was agreed on, but could not be carried out:\n    ", number);
        print_text(stdout, text_of(result, "detail"), false);
        printf("\nIt is over: what is still wanted must be proposed again.\n");
        return ERR_OK;
    }
    printf("Proposal %lld is over: ", number);
    print_text(stdout, state, false);
    putchar('\n');
    return ERR_OK;
}

enum err proposal_tell(struct call *call, const json_t *item, struct detail *detail)
{
    const char *state = text_of(item, "state");
    const char *pem = text_of(json_object_get(item, "result"), "pem");
    if (strcmp(state, "failed") == 0)
        call->status = HSMCTL_EXIT_BAD;
    if (!call_has(call, OPTION_JSON))
        return tell_people(call, item, detail);
    if (*pem && call_has(call, OPTION_OUT)) {
        enum err err = output_write(call, bytes_of_text(pem), detail);
        if (err != ERR_OK)
            return err;
    }
    return print_json(item, detail);
}
