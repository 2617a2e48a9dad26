// SPDX-License-Identifier: Apache-2.0
#include "tests/support/council.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/rand.h>

#include "hsmd/base/file.h"
#include "hsmd/registry/registry_store.h"
#include "hsmd/registry/store_internal.h"
#include "tests/support/council_tokens.h"
#include "tests/support/memstore.h"

#define HOUR 3600
#define LOG_MAX ((size_t)64 << 20)

const char *const council_names[COUNCIL_MEMBERS] = {"alice", "bob", "carol", "auditor", "stranger"};

static struct officer_key keys[COUNCIL_MEMBERS]; // made once a process

static void must(bool ok, const char *what, const struct detail *detail)
{
    if (ok)
        return;
    fprintf(stderr, "council: %s: %s\n", what, detail ? detail->text : "");
    abort();
}

const struct officer_key *council_key(enum council_member member)
{
    struct detail detail = {0};
    if (!keys[member].signing.data)
        must(officer_key_generate(&keys[member], &detail) == ERR_OK, "officer's key", &detail);
    return &keys[member];
}

static void fill_config(struct council *council, unsigned quorum)
{
    static const char *const tokens[COUNCIL_TOKENS] = {"main", "spare"};
    struct config *config = &council->config;
    for (size_t i = 0; i < COUNCIL_TOKENS; i++)
        council->config_tokens[i].name = tokens[i];
    for (unsigned i = 0; i <= COUNCIL_AUDITOR; i++) {
        struct config_officer *officer = &council->config_officers[i];
        const struct officer_key *key = council_key((enum council_member)i);
        officer->name = council_names[i];
        officer->role = i == COUNCIL_AUDITOR ? OFFICER_AUDITOR : OFFICER_OFFICER;
        memcpy(officer->signing_key, key->public_signing, sizeof officer->signing_key);
        memcpy(officer->curve_key, key->public_curve, sizeof officer->curve_key);
    }
    config->tokens = council->config_tokens;
    config->token_count = COUNCIL_TOKENS;
    config->officers = council->config_officers;
    config->officer_count = COUNCIL_AUDITOR + 1;
    config->quorum = quorum;
    config->proposal_lapse = STATEMENT_LAPSE_MAX;
    config->audit_log = council->audit_path;
}

enum err council_open(struct council *council)
{
    council->core = (struct core){.live = council->live,
                                  .keystore = &memstore_ops,
                                  .audit = council->audit,
                                  .metrics = council->metrics};
    council->status = (struct status){.core = &council->core,
                                      .keystore = council->keystore,
                                      .budgets = council->budgets,
                                      .started = time(NULL)};
    const struct custody_conf conf = {
        .config = &council->config,
        .store = council->store,
        .live = council->live,
        .tokens = council->ops ? council->ops : &council_token_ops,
        .keystore = council->ops ? council->keystore : (struct keystore *)(void *)&council->tokens,
        .budgets = council->budgets,
        .audit = council->audit,
        .metrics = council->metrics,
        .status = &council->status};
    enum err err = custody_new(&conf, &council->custody, &council->detail);
    if (err == ERR_OK)
        council->custody->signatures_an_hour = 0; // tests are quick
    return err;
}

static void open_store(struct council *council)
{
    struct registry *registry = NULL;
    struct detail *detail = &council->detail;
    must(store_open(council->store_path, &council->store, detail) == ERR_OK, "store", detail);
    must(registry_from_store(council->store, council->budgets, NULL, NULL, &registry, detail) ==
                 ERR_OK &&
             live_new(registry, &council->live) == ERR_OK,
         "registry", detail);
}

void council_setup(struct council *council, unsigned quorum)
{
    memset(council, 0, sizeof *council);
    struct detail *detail = &council->detail;
    snprintf(council->dir, sizeof council->dir, "/tmp/council-XXXXXX");
    must(mkdtemp(council->dir) != NULL, "directory", NULL);
    snprintf(council->store_path, sizeof council->store_path, "%s/" STORE_FILE, council->dir);
    snprintf(council->audit_path, sizeof council->audit_path, "%s/audit.log", council->dir);
    fill_config(council, quorum);
    council_tokens_init(&council->tokens);
    must(budgets_open(NULL, 0, 0, &council->budgets, detail) == ERR_OK, "budgets", detail);
    must(metrics_new(&council->metrics) == ERR_OK, "metrics", NULL);
    must(audit_open(council->audit_path, &council->audit, detail) == ERR_OK, "audit", detail);
    open_store(council);
    if (quorum)
        must(council_open(council) == ERR_OK, "custody", detail);
}

static void close_store(struct council *council)
{
    custody_free(council->custody);
    council->custody = NULL;
    live_free(council->live);
    store_close(council->store);
}

void council_restart(struct council *council)
{
    close_store(council);
    open_store(council);
    must(council_open(council) == ERR_OK, "custody", &council->detail);
}

void council_teardown(struct council *council)
{
    close_store(council);
    audit_close(council->audit);
    metrics_free(council->metrics);
    budgets_close(council->budgets);
    council_tokens_clear(&council->tokens);
    unlink(council->store_path);
    unlink(council->audit_path);
    rmdir(council->dir);
}

bool council_send(struct council *council, enum council_member member, struct bytes frame,
                  enum err *class, json_t **body)
{
    struct buf buf;
    struct message_reply reply = {0};
    *body = NULL;
    buf_init(&buf, MESSAGE_REPLY_MAX);
    bool is_answered = custody_handle(council->custody, council_key(member)->public_curve, frame,
                                      deadline_in(60000), &buf);
    if (is_answered) {
        must(message_decode_reply(buf_bytes(&buf), &reply, NULL) == ERR_OK, "reply", NULL);
        *class = reply.class;
        snprintf(council->detail.text, sizeof council->detail.text, "%.*s", (int)reply.detail.len,
                 (const char *)reply.detail.data);
        if (reply.body.len)
            *body = json_loadb((const char *)reply.body.data, reply.body.len,
                               JSON_REJECT_DUPLICATES, NULL);
    }
    buf_clear(&buf);
    return is_answered;
}

enum err council_request(struct council *council, enum council_member member,
                         const struct message_request *request, json_t **body)
{
    struct buf frame;
    struct detail detail = {0};
    enum err class = ERR_BUG;
    buf_init(&frame, MESSAGE_REQUEST_MAX);
    must(message_encode_request(request, &frame, &detail) == ERR_OK, "request", &detail);
    must(council_send(council, member, buf_bytes(&frame), &class, body), "no answer", NULL);
    buf_clear(&frame);
    return class;
}

static void sign(enum council_member member, const struct buf *message,
                 uint8_t signature[STATEMENT_SIGNATURE_SIZE])
{
    must(officer_key_sign(council_key(member), buf_bytes(message), signature, NULL) == ERR_OK,
         "signature", NULL);
}

static uint64_t number_of(const json_t *body)
{
    return (uint64_t)json_integer_value(json_object_get(body, "number"));
}

enum err council_propose_as(struct council *council, enum council_member sender,
                            enum council_member signer, const struct council_proposal *proposal,
                            uint64_t *number, json_t **body)
{
    struct buf act;
    struct buf message;
    struct detail detail = {0};
    uint8_t nonce[STATEMENT_NONCE_SIZE];
    uint8_t signature[STATEMENT_SIGNATURE_SIZE];
    struct bytes attachment =
        proposal->attachment ? bytes_of_text(proposal->attachment) : proposal->attached;
    buf_init(&act, ACT_SIZE_MAX);
    buf_init(&message, STATEMENT_SIZE_MAX);
    must(act_encode(proposal->act, &act, &detail) == ERR_OK, "act", &detail);
    must(RAND_bytes(nonce, sizeof nonce) == 1, "nonce", NULL);
    struct message_request request = {
        .operation = MESSAGE_PROPOSE,
        .id = 1,
        .propose = {
            .statement =
                {.instance = bytes_of(store_instance(council->store), STATEMENT_INSTANCE_SIZE),
                 .nonce = bytes_of(proposal->has_nonce ? proposal->nonce : nonce, sizeof nonce),
                 .proposer = bytes_of_text(council_names[signer]),
                 .replaces = proposal->replaces,
                 .lapse = (uint64_t)time(NULL) + (proposal->lapse ? proposal->lapse : HOUR),
                 .act = buf_bytes(&act)},
            .signature = bytes_of(signature, sizeof signature),
            .attachment = attachment}};
    must(statement_put(&request.propose.statement, &message) == ERR_OK, "statement", NULL);
    sign(signer, &message, signature);
    enum err err = council_request(council, sender, &request, body);
    if (number)
        *number = number_of(*body);
    buf_clear(&act);
    buf_clear(&message);
    return err;
}

enum err council_propose(struct council *council, enum council_member member, const struct act *act,
                         uint64_t *number)
{
    const struct council_proposal proposal = {.act = act};
    json_t *body = NULL;
    enum err err = council_propose_as(council, member, member, &proposal, number, &body);
    json_decref(body);
    return err;
}

static enum err give_verdict(struct council *council, enum council_member member, uint64_t number,
                             bool is_approval, json_t **body)
{
    struct buf message;
    struct buf digest;
    uint8_t signature[STATEMENT_SIGNATURE_SIZE];
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    json_t *read = council_read(council, COUNCIL_ALICE, READ_PROPOSALS, text);
    must(read != NULL, "no such proposal", &council->detail);
    buf_init(&message, 1024);
    buf_init(&digest, STATEMENT_DIGEST_SIZE);
    must(text_get_hex(json_string_value(json_object_get(json_array_get(read, 0), "digest")),
                      &digest) == ERR_OK,
         "digest", NULL);
    must(statement_put_verdict(is_approval,
                               bytes_of(store_instance(council->store), STATEMENT_INSTANCE_SIZE),
                               number, buf_bytes(&digest), &message) == ERR_OK,
         "verdict", NULL);
    sign(member, &message, signature);
    const struct message_request request = {
        .operation = is_approval ? MESSAGE_APPROVE : MESSAGE_REJECT,
        .id = 2,
        .verdict = {.number = number,
                    .digest = buf_bytes(&digest),
                    .signature = bytes_of(signature, sizeof signature)}};
    enum err err = council_request(council, member, &request, body);
    json_decref(read);
    buf_clear(&message);
    buf_clear(&digest);
    return err;
}

enum err council_approve(struct council *council, enum council_member member, uint64_t number)
{
    json_t *body = NULL;
    enum err err = give_verdict(council, member, number, true, &body);
    json_decref(body);
    return err;
}

enum err council_reject(struct council *council, enum council_member member, uint64_t number)
{
    json_t *body = NULL;
    enum err err = give_verdict(council, member, number, false, &body);
    json_decref(body);
    return err;
}

enum err council_do_with(struct council *council, const struct act *act, const char *attachment,
                         json_t **result)
{
    const struct council_proposal proposal = {.act = act, .attachment = attachment};
    json_t *body = NULL;
    uint64_t number = 0;
    enum err err =
        council_propose_as(council, COUNCIL_ALICE, COUNCIL_ALICE, &proposal, &number, &body);
    json_decref(body);
    body = NULL;
    if (err == ERR_OK)
        err = give_verdict(council, COUNCIL_BOB, number, true, &body);
    if (result)
        *result = json_incref(json_object_get(body, "result"));
    json_decref(body);
    return err;
}

enum err council_do(struct council *council, const struct act *act)
{
    return council_do_with(council, act, NULL, NULL);
}

json_t *council_read(struct council *council, enum council_member member, enum message_read what,
                     const char *argument)
{
    const struct message_request request = {
        .operation = MESSAGE_READ,
        .id = 3,
        .read = {.what = what, .argument = bytes_of_text(argument)}};
    json_t *body = NULL;
    enum err err = council_request(council, member, &request, &body);
    if (err == ERR_OK)
        return body;
    json_decref(body);
    return NULL;
}

const char *council_state(struct council *council, uint64_t number)
{
    static char state[32];
    struct proposal proposal = {0};
    must(proposal_load(council->store, number, &proposal, &council->detail) == ERR_OK, "proposal",
         &council->detail);
    snprintf(state, sizeof state, "%s", store_proposal_state_name(proposal.row.state));
    proposal_clear(&proposal);
    return state;
}

unsigned council_objects(const struct council *council)
{
    unsigned count = 0;
    for (size_t i = 0; i < COUNCIL_OBJECTS; i++)
        count += council->tokens.objects[i].is_there;
    return count;
}

unsigned council_lines(const struct council *council, const char *text)
{
    struct buf log;
    unsigned count = 0;
    buf_init(&log, LOG_MAX);
    must(file_read(council->audit_path, &log, NULL) == ERR_OK, "audit log", NULL);
    char *rest = log.data ? (char *)log.data : NULL;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;)
        count += strstr(line, text) != NULL;
    buf_clear(&log);
    return count;
}

void council_store_hash(struct council *council, uint8_t hash[HASH_SIZE_MAX])
{
    struct buf all;
    buf_init(&all, LOG_MAX);
    must(file_read(council->store_path, &all, NULL) == ERR_OK &&
             hash_digest(HASH_SHA256, buf_bytes(&all), hash) == ERR_OK,
         "hash of the store", NULL);
    buf_clear(&all);
}

void council_tamper(struct council *council, const char *sql)
{
    char *why = NULL;
    int result = sqlite3_exec(council->store->db, sql, NULL, NULL, &why);
    if (result != SQLITE_OK)
        fprintf(stderr, "council: %s\n", why);
    must(result == SQLITE_OK, "tamper", NULL);
}
