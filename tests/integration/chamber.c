// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/chamber.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <openssl/rand.h>
#include <sqlite3.h>
#include <zmq.h>

#include "hsmd/base/file.h"
#include "tests/support/require.h"

#define WAIT_MS 30000
#define LAPSE 3600
#define FILE_MAX_SIZE ((size_t)16 << 20)

static const char *const names[MEMBERS] = {"alice", "bob", "carol", "dave", "eve"};

void chamber_setup(struct chamber *chamber)
{
    char output[400];
    *chamber = (struct chamber){.next_id = 1000};
    hsmd_setup(&chamber->hsmd);
    REQUIRE(hsmd_run(&chamber->hsmd, output, sizeof output, "keygen",
                     hsmd_path(&chamber->hsmd, "officers-server"), NULL) == 0);
    REQUIRE(curve_read_public(hsmd_path(&chamber->hsmd, "officers-server.pub"),
                              chamber->officers_key, NULL) == ERR_OK);
    for (unsigned i = 0; i < MEMBERS; i++)
        REQUIRE(officer_key_generate(&chamber->keys[i], NULL) == ERR_OK);
}

void chamber_teardown(struct chamber *chamber)
{
    for (unsigned i = 0; i < MEMBERS; i++) {
        chamber_hang_up(chamber, (enum member)i);
        officer_key_clear(&chamber->keys[i]);
    }
    hsmd_teardown(&chamber->hsmd);
}

void chamber_configure(struct chamber *chamber, unsigned officers, unsigned quorum,
                       const char *module, const char *token)
{
    struct buf text;
    const char *dir = chamber->hsmd.dir;
    buf_init(&text, 8192);
    REQUIRE(buf_printf(&text,
                       "listen = { \"ipc://%s/data.sock\" }\nserver-key-file = \"server.key\"\n"
                       "officers-listen = { \"ipc://%s/officers.sock\" }\n"
                       "officers-server-key-file = \"officers-server.key\"\n"
                       "state-directory = \"state\"\nlog-level = info\nself-test-interval = 0\n"
                       "request-timeout = 4000\nquorum = %u\n"
                       "token main { module = \"%s\" label = \"hsmd test\" sessions = 2 %s }\n",
                       dir, dir, quorum, module, token) == ERR_OK);
    for (unsigned i = 0; i <= DAVE; i++) {
        if (i >= officers && i != DAVE)
            continue;
        REQUIRE(buf_printf(&text, "officer %s { role = %s signing-key = \"", names[i],
                           i == DAVE ? "auditor" : "officer") == ERR_OK);
        REQUIRE(text_put_hex(&text, bytes_of(chamber->keys[i].public_signing,
                                             OFFICER_SIGNING_KEY_SIZE)) == ERR_OK);
        REQUIRE(buf_printf(&text, "\" public-key = '%s' }\n", chamber->keys[i].public_curve) ==
                ERR_OK);
    }
    REQUIRE(file_write(hsmd_path(&chamber->hsmd, "hsmd.conf"), buf_bytes(&text), 0600, NULL) ==
            ERR_OK);
    chamber->hsmd.is_to_migrate = false; // there is nothing former in it
    buf_clear(&text);
}

void chamber_hang_up(struct chamber *chamber, enum member member)
{
    if (chamber->links[member])
        link_close(chamber->links[member]);
    chamber->links[member] = NULL;
}

void chamber_start(struct chamber *chamber)
{
    struct buf hex;
    if (!hsmd_start(&chamber->hsmd, NULL)) {
        (void)hsmd_said(&chamber->hsmd, "ready"); // prints what it said instead
        exit(1);
    }
    buf_init(&hex, STATEMENT_INSTANCE_SIZE);
    json_t *status = chamber_read(chamber, DAVE, READ_STATUS, "");
    REQUIRE(status);
    REQUIRE(text_get_hex(json_string_value(json_object_get(status, "instance")), &hex) == ERR_OK);
    REQUIRE(hex.len == sizeof chamber->instance);
    memcpy(chamber->instance, hex.data, hex.len);
    json_decref(status);
    buf_clear(&hex);
}

void chamber_stop(struct chamber *chamber)
{
    for (unsigned i = 0; i < MEMBERS; i++)
        chamber_hang_up(chamber, (enum member)i);
    REQUIRE(hsmd_stop(&chamber->hsmd, SIGTERM) == 0);
}

void answer_clear(struct answer *answer)
{
    json_decref(answer->body);
    *answer = (struct answer){0};
}

static struct link *link_of(struct chamber *chamber, enum member member)
{
    char endpoint[128];
    snprintf(endpoint, sizeof endpoint, "ipc://%s/officers.sock", chamber->hsmd.dir);
    const struct link_conf conf = {.endpoint = endpoint,
                                   .keys = {chamber->officers_key,
                                            chamber->keys[member].public_curve,
                                            (const char *)chamber->keys[member].curve.data},
                                   .frame_max = MESSAGE_REPLY_MAX};
    if (chamber->links[member] && !link_is_alive(chamber->links[member]))
        chamber_hang_up(chamber, member);
    if (!chamber->links[member])
        REQUIRE(link_open(&conf, &chamber->links[member], NULL) == ERR_OK);
    return chamber->links[member];
}

void chamber_send(struct chamber *chamber, enum member member, struct bytes frame,
                  struct answer *answer)
{
    struct buf reply;
    struct message_reply decoded = {0};
    struct link *link = link_of(chamber, member);
    *answer = (struct answer){0};
    buf_init(&reply, MESSAGE_REPLY_MAX);
    enum err err = link_send(link, frame);
    if (err == ERR_OK)
        err =
            link_receive(link, deadline_in(chamber->wait_ms ? chamber->wait_ms : WAIT_MS), &reply);
    (void)link_is_alive(link);
    answer->state = link->state;
    answer->is_answered = err == ERR_OK;
    if (answer->is_answered) {
        REQUIRE(message_decode_reply(buf_bytes(&reply), &decoded, NULL) == ERR_OK);
        answer->class = decoded.class;
        snprintf(answer->detail, sizeof answer->detail, "%.*s", (int)decoded.detail.len,
                 (const char *)decoded.detail.data);
        if (decoded.body.len)
            answer->body = json_loadb((const char *)decoded.body.data, decoded.body.len, 0, NULL);
    }
    buf_clear(&reply);
}

static void encode(struct chamber *chamber, struct message_request *request, struct buf *frame)
{
    struct detail detail = {0};
    request->id = ++chamber->next_id;
    buf_init(frame, MESSAGE_REQUEST_MAX);
    if (message_encode_request(request, frame, &detail) != ERR_OK) {
        fprintf(stderr, "%s\n", detail.text);
        exit(1);
    }
}

json_t *chamber_read(struct chamber *chamber, enum member member, enum message_read what,
                     const char *argument)
{
    struct buf frame;
    struct answer answer;
    struct message_request request = {.operation = MESSAGE_READ,
                                      .read = {.what = what, .argument = bytes_of_text(argument)}};
    encode(chamber, &request, &frame);
    chamber_send(chamber, member, buf_bytes(&frame), &answer);
    buf_clear(&frame);
    if (answer.is_answered && answer.class == ERR_OK)
        return answer.body;
    answer_clear(&answer);
    return NULL;
}

void chamber_look(struct chamber *chamber, uint64_t number, char state[16],
                  uint8_t digest[STATEMENT_DIGEST_SIZE])
{
    char text[24];
    struct buf hex;
    snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    json_t *list = chamber_read(chamber, DAVE, READ_PROPOSALS, text);
    const json_t *item = json_array_get(list, 0);
    REQUIRE(item);
    buf_init(&hex, STATEMENT_DIGEST_SIZE);
    REQUIRE(text_get_hex(json_string_value(json_object_get(item, "digest")), &hex) == ERR_OK);
    memcpy(digest, hex.data, STATEMENT_DIGEST_SIZE);
    snprintf(state, 16, "%s", json_string_value(json_object_get(item, "state")));
    buf_clear(&hex);
    json_decref(list);
}

static void sign(const struct chamber *chamber, enum member signer, struct buf *message,
                 uint8_t signature[STATEMENT_SIGNATURE_SIZE])
{
    REQUIRE(officer_key_sign(&chamber->keys[signer], buf_bytes(message), signature, NULL) ==
            ERR_OK);
    buf_clear(message);
}

static struct bytes instance_of(const struct chamber *chamber, bool is_other)
{
    static const uint8_t other[STATEMENT_INSTANCE_SIZE] = {0x0b, 0xad};
    return bytes_of(is_other ? other : chamber->instance, STATEMENT_INSTANCE_SIZE);
}

static void encode_act(const struct act *act, struct buf *out)
{
    struct detail detail = {0};
    buf_init(out, ACT_SIZE_MAX);
    if (act_encode(act, out, &detail) != ERR_OK) {
        fprintf(stderr, "%s\n", detail.text);
        exit(1);
    }
}

void chamber_put_proposal(struct chamber *chamber, const struct proposing *proposing,
                          struct buf *frame)
{
    struct buf act, lie, message;
    uint8_t nonce[STATEMENT_NONCE_SIZE], other[STATEMENT_NONCE_SIZE];
    uint8_t signature[STATEMENT_SIGNATURE_SIZE];
    const uint64_t lapse = (uint64_t)time(NULL) + LAPSE;
    REQUIRE(RAND_bytes(nonce, sizeof nonce) == 1 && RAND_bytes(other, sizeof other) == 1);
    encode_act(&proposing->act, &act);
    encode_act(proposing->signed_act ? proposing->signed_act : &proposing->act, &lie);
    struct statement statement = {
        .instance = instance_of(chamber, proposing->is_other_instance),
        .nonce = bytes_of(proposing->is_other_nonce ? other : nonce, sizeof nonce),
        .proposer =
            bytes_of_text(proposing->proposer ? proposing->proposer : names[proposing->signer]),
        .replaces = proposing->signed_replaces ? proposing->signed_replaces : proposing->replaces,
        .lapse = proposing->signed_lapse ? proposing->signed_lapse : lapse,
        .act = buf_bytes(&lie)};
    buf_init(&message, STATEMENT_SIZE_MAX);
    REQUIRE(statement_put(&statement, &message) == ERR_OK);
    sign(chamber, proposing->signer, &message, signature);
    statement.nonce.data = nonce;
    statement.replaces = proposing->replaces;
    statement.lapse = lapse;
    statement.act = buf_bytes(&act);
    struct bytes attachment =
        proposing->attachment ? bytes_of_text(proposing->attachment) : proposing->attached;
    struct message_request request = {
        .operation = MESSAGE_PROPOSE,
        .propose = {.statement = statement,
                    .signature = bytes_of(signature, sizeof signature),
                    .attachment = attachment}};
    encode(chamber, &request, frame);
    buf_clear(&act);
    buf_clear(&lie);
}

void chamber_put_verdict(struct chamber *chamber, const struct judging *judging, struct buf *frame)
{
    struct buf message;
    uint8_t signature[STATEMENT_SIGNATURE_SIZE];
    const uint8_t *digest = judging->signed_digest ? judging->signed_digest : judging->digest;
    bool is_approval = !judging->is_rejection;
    buf_init(&message, 1024);
    REQUIRE(statement_put_verdict(is_approval != judging->is_signed_other_way,
                                  instance_of(chamber, judging->is_other_instance),
                                  judging->signed_number ? judging->signed_number : judging->number,
                                  bytes_of(digest, STATEMENT_DIGEST_SIZE), &message) == ERR_OK);
    sign(chamber, judging->signer, &message, signature);
    struct message_request request = {
        .operation = is_approval ? MESSAGE_APPROVE : MESSAGE_REJECT,
        .verdict = {.number = judging->number,
                    .digest = bytes_of(judging->digest, STATEMENT_DIGEST_SIZE),
                    .signature = bytes_of(signature, sizeof signature)}};
    encode(chamber, &request, frame);
}

uint64_t chamber_propose(struct chamber *chamber, enum member member, const struct act *act,
                         const char *attachment, struct answer *answer)
{
    struct buf frame;
    const struct proposing proposing = {.signer = member, .act = *act, .attachment = attachment};
    chamber_put_proposal(chamber, &proposing, &frame);
    chamber_send(chamber, member, buf_bytes(&frame), answer);
    buf_clear(&frame);
    return (uint64_t)json_integer_value(json_object_get(answer->body, "number"));
}

void chamber_judge(struct chamber *chamber, enum member member, uint64_t number, bool is_rejection,
                   struct answer *answer)
{
    char state[16];
    struct buf frame;
    struct judging judging = {.signer = member, .number = number, .is_rejection = is_rejection};
    chamber_look(chamber, number, state, judging.digest);
    chamber_put_verdict(chamber, &judging, &frame);
    chamber_send(chamber, member, buf_bytes(&frame), answer);
    buf_clear(&frame);
}

static void must(struct answer *answer)
{
    if (!answer->is_answered || answer->class != ERR_OK) {
        fprintf(stderr, "refused: %s\n", answer->detail);
        exit(1);
    }
    answer_clear(answer);
}

uint64_t chamber_must_propose(struct chamber *chamber, enum member member, const struct act *act,
                              const char *attachment)
{
    struct answer answer;
    uint64_t number = chamber_propose(chamber, member, act, attachment, &answer);
    must(&answer);
    return number;
}

void chamber_must_judge(struct chamber *chamber, enum member member, uint64_t number,
                        bool is_rejection)
{
    struct answer answer;
    chamber_judge(chamber, member, number, is_rejection, &answer);
    must(&answer);
}

struct judging chamber_judging(struct chamber *chamber, enum member signer, uint64_t number)
{
    char state[16];
    struct judging judging = {.signer = signer, .number = number};
    chamber_look(chamber, number, state, judging.digest);
    return judging;
}

bool chamber_has_client(struct chamber *chamber, const char *name)
{
    json_t *list = chamber_read(chamber, DAVE, READ_CLIENTS, "");
    const json_t *item = NULL;
    size_t i = 0;
    bool is_there = false;
    json_array_foreach(list, i, item)
    {
        is_there = is_there || strcmp(json_string_value(json_object_get(item, "name")), name) == 0;
    }
    json_decref(list);
    return is_there;
}

static int put_row(void *context, int count, char **values, char **columns)
{
    (void)columns;
    for (int i = 0; i < count; i++)
        REQUIRE(buf_printf(context, "%s|", values[i] ? values[i] : "NULL") == ERR_OK);
    return buf_put_text(context, "\n") == ERR_OK ? 0 : 1;
}

// hsmd holds SQLite's lock, so a copy is looked at.
void chamber_dump(struct chamber *chamber, bool has_proposals, struct buf *out)
{
    static const char *const tables[] = {
        "SELECT hex(instance), quorum FROM custodian",
        "SELECT name, purpose, state, is_destroyed, algorithms, per_minute, per_hour, total, "
        "failures_per_hour, hex(public_key), hex(certificates), created FROM key",
        "SELECT key, position, token, label, hex(id) FROM place", "SELECT * FROM client",
        "SELECT * FROM access",
        "SELECT name, role, hex(signing_key), curve_key, created FROM officer",
        // The last three are about proposals.
        "SELECT number, state, hex(nonce), proposer, replaces, lapse, hex(act), hex(signature), "
        "lapses, created, ended, hex(result) FROM proposal",
        "SELECT number, officer, is_approval, hex(signature), created FROM verdict",
        "SELECT hex(nonce) FROM nonce"};
    struct buf file;
    sqlite3 *db = NULL;
    const char *copy = hsmd_path(&chamber->hsmd, "copy.db");
    buf_init(&file, FILE_MAX_SIZE);
    REQUIRE(file_read(hsmd_path(&chamber->hsmd, "state/registry.db"), &file, NULL) == ERR_OK);
    REQUIRE(file_write(copy, buf_bytes(&file), 0600, NULL) == ERR_OK);
    REQUIRE(sqlite3_open(copy, &db) == SQLITE_OK);
    for (unsigned i = 0; i < sizeof tables / sizeof *tables - (has_proposals ? 0 : 3); i++)
        REQUIRE(sqlite3_exec(db, tables[i], put_row, out, NULL) == SQLITE_OK);
    sqlite3_close(db);
    unlink(copy);
    buf_clear(&file);
}

void chamber_tamper(struct chamber *chamber, const char *sql)
{
    sqlite3 *db = NULL;
    REQUIRE(sqlite3_open(hsmd_path(&chamber->hsmd, "state/registry.db"), &db) == SQLITE_OK);
    REQUIRE(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK);
    REQUIRE(sqlite3_total_changes(db) > 0);
    sqlite3_close(db);
}

unsigned chamber_lines(struct chamber *chamber, const char *text, const char *other)
{
    struct buf log;
    unsigned count = 0;
    buf_init(&log, FILE_MAX_SIZE);
    REQUIRE(file_read(hsmd_path(&chamber->hsmd, "state/audit.log"), &log, NULL) == ERR_OK);
    char *rest = (char *)log.data;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;)
        count += strstr(line, text) && strstr(line, other);
    buf_clear(&log);
    return count;
}
