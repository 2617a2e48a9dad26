// SPDX-License-Identifier: Apache-2.0
// What others propose. Nothing hsmd says of a proposal is believed that can be found out here: the
// act is decoded and explained from the bytes that were signed, the digest is computed from them,
// and the proposer's signature is verified.
#include "tools/hsmctl.h"

#include <inttypes.h>
#include <string.h>

#include <openssl/evp.h>

#include "tools/hsmctl_ask.h"
#include "tools/hsmctl_print.h"

#define QUESTION_MAX (4 * ACT_EXPLANATION_MAX)

static const char *text_of(const json_t *item, const char *name)
{
    const char *text = json_string_value(json_object_get(item, name));
    return text ? text : "";
}

// RFC 4648, 4, on one line.
static enum err get_base64(const char *text, struct buf *out)
{
    size_t len = strlen(text);
    uint8_t *place = NULL;
    if (len == 0 || len % 4 || len > out->max)
        return ERR_PERM;
    enum err err = buf_reserve(out, len / 4 * 3, &place);
    if (err != ERR_OK)
        return err;
    int n = EVP_DecodeBlock(place, (const unsigned char *)text, (int)len);
    if (n < 0)
        return ERR_PERM;
    out->len = (size_t)n - (text[len - 1] == '=') - (text[len - 2] == '=');
    return ERR_OK;
}

static enum err check_signature(struct call *call, const json_t *item, struct proposal *proposal,
                                struct detail *detail)
{
    struct buf message;
    uint8_t key[OFFICER_SIGNING_KEY_SIZE];
    const char *proposer = text_of(item, "proposer");
    char quoted[TEXT_QUOTED_SIZE];
    text_quote(proposer, strlen(proposer), quoted, sizeof quoted);
    if (session_signing_key(&call->session, proposer, key) != ERR_OK)
        return err_set(detail, ERR_DENIED, "proposal %" PRIu64 ": %s is no officer",
                       proposal->number, quoted);
    buf_init(&message, STATEMENT_SIZE_MAX);
    enum err err = statement_put(&proposal->statement, &message);
    if (err == ERR_OK)
        err = statement_check(bytes_of(key, sizeof key), buf_bytes(&message),
                              buf_bytes(&proposal->signature), detail);
    buf_clear(&message);
    return err == ERR_OK
               ? ERR_OK
               : err_set(detail, ERR_DENIED,
                         "proposal %" PRIu64 ": this is not what %s signed: do not approve it",
                         proposal->number, quoted);
}

static enum err check_digest(const json_t *item, struct proposal *proposal, struct detail *detail)
{
    struct buf said;
    buf_init(&said, STATEMENT_DIGEST_SIZE);
    enum err err = statement_digest(&proposal->statement, proposal->digest);
    if (err == ERR_OK)
        err = text_get_hex(text_of(item, "digest"), &said);
    if (err == ERR_OK &&
        !bytes_equal(buf_bytes(&said), bytes_of(proposal->digest, STATEMENT_DIGEST_SIZE)))
        err = ERR_PERM;
    buf_clear(&said);
    return err == ERR_OK ? ERR_OK
                         : err_set(detail, ERR_DENIED,
                                   "proposal %" PRIu64 ": its digest is not what hsmd says",
                                   proposal->number);
}

enum err proposal_open(struct call *call, const json_t *item, struct proposal *proposal,
                       struct detail *detail)
{
    *proposal = (struct proposal){0};
    buf_init(&proposal->act_bytes, 2 * ACT_SIZE_MAX);
    buf_init(&proposal->nonce, STATEMENT_NONCE_SIZE);
    buf_init(&proposal->signature, STATEMENT_SIGNATURE_SIZE);
    buf_init(&proposal->instance, STATEMENT_INSTANCE_SIZE);
    proposal->number = (uint64_t)json_integer_value(json_object_get(item, "number"));
    enum err err = session_instance(&call->session, &proposal->instance, detail);
    if (err != ERR_OK)
        return err;
    if (get_base64(text_of(item, "act"), &proposal->act_bytes) != ERR_OK ||
        text_get_hex(text_of(item, "nonce"), &proposal->nonce) != ERR_OK ||
        text_get_hex(text_of(item, "signature"), &proposal->signature) != ERR_OK)
        return err_set(detail, ERR_PERM, "proposal %" PRIu64 " came damaged", proposal->number);
    proposal->statement = (struct statement){
        .instance = buf_bytes(&proposal->instance),
        .nonce = buf_bytes(&proposal->nonce),
        .proposer = bytes_of_text(text_of(item, "proposer")),
        .replaces = (uint64_t)json_integer_value(json_object_get(item, "replaces")),
        .lapse = (uint64_t)json_integer_value(json_object_get(item, "lapse")),
        .act = buf_bytes(&proposal->act_bytes),
    };
    err = act_decode(proposal->statement.act, &proposal->act, detail);
    proposal->is_readable = err == ERR_OK;
    if (err != ERR_OK)
        return err_prefix(detail, ERR_PERM, "proposal %" PRIu64 " cannot be read by this hsmctl",
                          proposal->number);
    err = check_digest(item, proposal, detail);
    return err == ERR_OK ? check_signature(call, item, proposal, detail) : err;
}

void proposal_clear(struct proposal *proposal)
{
    buf_clear(&proposal->act_bytes);
    buf_clear(&proposal->nonce);
    buf_clear(&proposal->signature);
    buf_clear(&proposal->instance);
}

static enum err take_number(struct call *call, struct detail *detail)
{
    uint64_t number = 0;
    if (*call->argument[0] == '0' || !number_get(call->argument[0], INT64_MAX, &number))
        return err_set(detail, ERR_PERM, "%s: not the number of a proposal", call->command->words);
    return ERR_OK;
}

// The proposal of the first argument; the caller's reference.
static enum err fetch(struct call *call, json_t **item, struct detail *detail)
{
    json_t *list = NULL;
    enum err err = take_number(call, detail);
    if (err == ERR_OK)
        err = session_know(call, detail);
    if (err == ERR_OK)
        err = session_read(call, READ_PROPOSALS, call->argument[0], &list, detail);
    if (err == ERR_OK && json_array_size(list) != 1) {
        call->failure = HSMCTL_EXIT_BAD;
        err = err_set(detail, ERR_PERM, "there is no proposal %s", call->argument[0]);
    }
    if (err == ERR_OK)
        *item = json_incref(json_array_get(list, 0));
    json_decref(list);
    return err;
}

static enum err put_field(struct buf *out, const char *title, const json_t *item, const char *path)
{
    size_t before = out->len;
    enum err err = buf_printf(out, "  %s: ", title);
    size_t start = out->len;
    if (err == ERR_OK)
        err = print_value(item, path, out);
    if (err == ERR_OK && out->len == start) {
        out->len = before; // nothing to say
        out->data[before] = 0;
        return ERR_OK;
    }
    return err == ERR_OK ? buf_put_text(out, "\n") : err;
}

// Of what was withdrawn or has lapsed hsmd keeps digest, kind and summary alone.
static bool is_forgotten(const json_t *item)
{
    return strcmp(text_of(item, "state"), "pending") != 0 && !*text_of(item, "act");
}

static enum err put_act(const json_t *item, const struct proposal *proposal, struct buf *out)
{
    if (proposal->is_readable)
        return act_explain(&proposal->act, out);
    enum err err =
        buf_put_text(out, is_forgotten(item) ? "It was not carried out; what hsmd keeps of it: "
                                             : "It cannot be read here. hsmd calls it: ");
    return err == ERR_OK ? print_value(item, "summary", out) : err;
}

// Head and tail are hsmd's words, cleaned; between them is what we decoded. why: what is wrong with
// it; "": nothing.
static enum err put_proposal(const json_t *item, const struct proposal *proposal, const char *why,
                             struct buf *out)
{
    enum err err = *why ? buf_put_text(out, "DO NOT TRUST THIS: ") : ERR_OK;
    if (err == ERR_OK)
        err = print_clean(out, bytes_of_text(why), false);
    if (err == ERR_OK)
        err = buf_put_text(out, *why ? "\n" : "");
    if (err == ERR_OK)
        err = buf_printf(out, "Proposal %" PRIu64 " of ", proposal->number);
    if (err == ERR_OK)
        err = print_value(item, "proposer", out);
    if (err == ERR_OK)
        err = buf_put_text(out, ":\n");
    if (err == ERR_OK)
        err = put_act(item, proposal, out);
    if (err == ERR_OK && out->data[out->len - 1] != '\n')
        err = buf_put_text(out, "\n");
    static const struct column columns[] = {
        {"warning", "warning"},
        {"state", "state"},
        {"proposed", "created"},
        {"lapses", "lapses"},
        {"ended", "ended"},
        {"approved by", "approvals.officer"},
        {"rejected by", "rejections.officer"},
        {"why not", "result.detail"},
    };
    for (size_t i = 0; err == ERR_OK && i < sizeof columns / sizeof *columns; i++)
        err = put_field(out, columns[i].title, item, columns[i].path);
    return err;
}

static enum err send_verdict(struct call *call, const struct proposal *proposal, bool is_approval,
                             struct buf *body, struct detail *detail)
{
    struct buf message;
    uint8_t signature[STATEMENT_SIGNATURE_SIZE];
    struct bytes digest = bytes_of(proposal->digest, STATEMENT_DIGEST_SIZE);
    buf_init(&message, STATEMENT_SIZE_MAX);
    enum err err = statement_put_verdict(is_approval, proposal->statement.instance,
                                         proposal->number, digest, &message);
    if (err != ERR_OK)
        (void)err_set(detail, err, "cannot write down what is to be signed");
    if (err == ERR_OK)
        err = officer_key_sign(&call->session.key, buf_bytes(&message), signature, detail);
    if (err == ERR_OK) {
        struct message_request request = {
            .operation = is_approval ? MESSAGE_APPROVE : MESSAGE_REJECT,
            .verdict = {.number = proposal->number,
                        .digest = digest,
                        .signature = bytes_of(signature, sizeof signature)},
        };
        err = session_ask(call, &request, body, detail);
    }
    buf_clear(&message);
    return err;
}

// Whether one's own counts again is for hsmd to say: it may have been agreed on and not written
// down.
static enum err check_verdict(const struct call *call, const json_t *item, struct detail *detail)
{
    char quoted[TEXT_QUOTED_SIZE];
    const char *state = text_of(item, "state");
    if (call->session.is_auditor)
        return err_set(detail, ERR_DENIED, "%s is an auditor: auditors read, and change nothing",
                       call->session.name);
    if (strcmp(state, "pending") != 0)
        return err_set(detail, ERR_PERM, "proposal %s does not wait any more: %s",
                       call->argument[0], text_quote(state, strlen(state), quoted, sizeof quoted));
    return ERR_OK;
}

static enum err confirm(struct call *call, const json_t *item, const struct proposal *proposal,
                        bool is_approval, const char *why, struct detail *detail)
{
    struct buf text;
    bool is_yes = call_has(call, OPTION_YES);
    buf_init(&text, QUESTION_MAX);
    enum err err = put_proposal(item, proposal, why, &text);
    if (err == ERR_OK && proposal->is_readable)
        err = proposal_put_summary(&proposal->act, &text);
    if (err != ERR_OK)
        err = err_set(detail, err, "cannot explain this proposal");
    else if (!is_yes)
        err = ask_yes(buf_text(&text), is_approval ? "Approve this?" : "Reject this?", &is_yes,
                      detail);
    else if (!call_has(call, OPTION_JSON))
        fputs(buf_text(&text), stderr);
    buf_clear(&text);
    return err != ERR_OK || is_yes ? err
                                   : err_set(detail, ERR_DENIED, "not signed: nothing was done");
}

// What is not as it should be, or of a later version, can be rejected all the same: of the digest
// that hsmd knows it by.
static enum err take_digest(const json_t *item, struct proposal *proposal, struct detail *detail)
{
    return text_get_hex_exact(text_of(item, "digest"), proposal->digest, STATEMENT_DIGEST_SIZE)
               ? ERR_OK
               : err_set(detail, ERR_PERM, "proposal %" PRIu64 " came damaged", proposal->number);
}

static enum err decide(struct call *call, const json_t *item, bool is_approval, json_t **outcome,
                       struct detail *detail)
{
    struct proposal proposal;
    struct detail why = {0};
    struct buf body;
    buf_init(&body, MESSAGE_REPLY_MAX);
    call->failure = HSMCTL_EXIT_BAD; // who is asked may say no
    enum err err = proposal_open(call, item, &proposal, &why);
    if (!is_approval && (err == ERR_DENIED || err == ERR_PERM))
        err = take_digest(item, &proposal, detail);
    else if (err != ERR_OK)
        *detail = why;
    if (err == ERR_OK)
        err = check_verdict(call, item, detail);
    if (err == ERR_OK)
        err = confirm(call, item, &proposal, is_approval, why.text, detail);
    if (err == ERR_OK)
        err = proposal_take(send_verdict(call, &proposal, is_approval, &body, detail), &body,
                            outcome, detail);
    proposal_clear(&proposal);
    buf_clear(&body);
    return err;
}

static enum err run_verdict(struct call *call, bool is_approval, struct detail *detail)
{
    json_t *item = NULL, *outcome = NULL;
    enum err err = fetch(call, &item, detail);
    if (err == ERR_OK)
        err = decide(call, item, is_approval, &outcome, detail);
    if (err == ERR_OK)
        err = proposal_tell(call, outcome, detail);
    json_decref(item);
    json_decref(outcome);
    return err;
}

enum err run_approve(struct call *call, struct detail *detail)
{
    return run_verdict(call, true, detail);
}

enum err run_reject(struct call *call, struct detail *detail)
{
    return run_verdict(call, false, detail);
}

enum err run_result(struct call *call, struct detail *detail)
{
    json_t *item = NULL;
    enum err err = fetch(call, &item, detail);
    if (err == ERR_OK && strcmp(text_of(item, "state"), "pending") == 0)
        call->status = HSMCTL_EXIT_BAD;
    if (err == ERR_OK)
        err = proposal_tell(call, item, detail);
    json_decref(item);
    return err;
}

// One proposal in full: what it says, and whether its signature is good.
static enum err show_one(struct call *call, struct detail *detail)
{
    json_t *item = NULL;
    struct proposal proposal;
    struct buf text;
    enum err err = fetch(call, &item, detail);
    if (err != ERR_OK || call_has(call, OPTION_JSON)) {
        err = err == ERR_OK ? print_json(item, detail) : err;
        json_decref(item);
        return err;
    }
    buf_init(&text, QUESTION_MAX);
    err = proposal_open(call, item, &proposal, detail);
    if (is_forgotten(item))
        err = ERR_OK;
    if (err != ERR_OK)
        call->failure = HSMCTL_EXIT_BAD;
    if (put_proposal(item, &proposal, err == ERR_OK ? "" : detail->text, &text) == ERR_OK)
        print_text(stdout, buf_text(&text), true);
    else if (err == ERR_OK)
        err = err_set(detail, ERR_TEMP, "cannot explain this proposal");
    buf_clear(&text);
    proposal_clear(&proposal);
    json_decref(item);
    return err;
}

static bool has_warning(const json_t *list)
{
    const json_t *item = NULL;
    size_t i = 0;
    json_array_foreach(list, i, item)
    {
        if (*text_of(item, "warning"))
            return true;
    }
    return false;
}

enum err run_proposals(struct call *call, struct detail *detail)
{
    static const struct column columns[] = {
        {"NUMBER", "number"},
        {"STATE", "state"},
        {"PROPOSER", "proposer"},
        {"LAPSES", "lapses"},
        {"APPROVED BY", "approvals.officer"},
        {"NEEDED", "needed"},
        {"WHAT", "summary"},
        {"WARNING", "warning"}, // only if there is one
    };
    json_t *list = NULL;
    size_t count = sizeof columns / sizeof *columns;
    if (call->arguments)
        return show_one(call, detail);
    enum err err =
        session_read(call, READ_PROPOSALS, call_has(call, OPTION_ALL) ? "all" : "", &list, detail);
    if (err == ERR_OK && call_has(call, OPTION_JSON))
        err = print_json(list, detail);
    else if (err == ERR_OK)
        err = print_table(stdout, list, columns, has_warning(list) ? count : count - 1,
                          "Nothing waits for signatures.");
    json_decref(list);
    return err;
}
