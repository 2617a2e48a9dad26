// SPDX-License-Identifier: Apache-2.0
#include "peer.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <openssl/evp.h>
#include <zmq.h>

#define INSTANCE "0123456789abcdef"
#define LATER_ACT BYTES_LITERAL("\x92\xcd\x7f\xff\x80") // of a kind that is not known yet
#define PIECE 10 // bytes of the log in one answer; a line is never longer

struct peer_state {
    void *context, *router, *zap, *control, *controlled;
    pthread_t thread;
    pthread_mutex_t lock; // of what follows; the thread holds it while it answers
    struct buf act, attachment;
    uint8_t nonce[STATEMENT_NONCE_SIZE];
    uint8_t signature[STATEMENT_SIGNATURE_SIZE];
    uint8_t digest[STATEMENT_DIGEST_SIZE];
    uint64_t lapse;
    unsigned proposer;
    bool has_proposal, is_done, is_rotated;
    int signatures;
};

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "peer: %s\n", what);
    abort();
}

static void reply_zap(struct peer *peer)
{
    struct peer_state *state = peer->state;
    uint8_t frames[7][256];
    int lens[7];
    for (int i = 0; i < 7; i++) {
        lens[i] = zmq_recv(state->zap, frames[i], sizeof frames[i], 0);
        must(lens[i] >= 0 && lens[i] <= (int)sizeof frames[i], "ZAP request");
    }
    bool admits = peer->mode != PEER_DENYING;
    zmq_send(state->zap, "1.0", 3, ZMQ_SNDMORE);
    zmq_send(state->zap, frames[1], (size_t)lens[1], ZMQ_SNDMORE);
    zmq_send(state->zap, admits ? "200" : "400", 3, ZMQ_SNDMORE);
    zmq_send(state->zap, "", 0, ZMQ_SNDMORE);
    zmq_send(state->zap, "officer", 7, ZMQ_SNDMORE);
    zmq_send(state->zap, "", 0, 0);
}

static json_t *hex(const uint8_t *data, size_t len)
{
    struct buf text;
    buf_init(&text, 2 * len);
    must(text_put_hex(&text, bytes_of(data, len)) == ERR_OK, "hex");
    json_t *json = json_string(buf_text(&text));
    buf_clear(&text);
    return json;
}

static struct statement statement_of(const struct peer *peer)
{
    const struct peer_state *state = peer->state;
    return (struct statement){
        .instance = BYTES_LITERAL(INSTANCE),
        .nonce = bytes_of(state->nonce, sizeof state->nonce),
        .proposer = bytes_of_text(peer->officers[state->proposer].name),
        .lapse = state->lapse,
        .act = buf_bytes(&state->act),
    };
}

static json_t *proposal_json(const struct peer *peer)
{
    struct peer_state *state = peer->state;
    char base64[ACT_SIZE_MAX / 3 * 4 + 8];
    struct statement statement = statement_of(peer);
    struct buf other;
    uint8_t digest[STATEMENT_DIGEST_SIZE];
    buf_init(&other, ACT_SIZE_MAX);
    if (peer->mode == PEER_OTHER_ACT) {
        const struct act act = {.kind = ACT_CLIENT_REVOKE, .name = BYTES_LITERAL("somebody")};
        must(act_encode(&act, &other, NULL) == ERR_OK, "another act");
        statement.act = buf_bytes(&other);
    }
    must(statement_digest(&statement, digest) == ERR_OK, "digest");
    if (peer->mode == PEER_LATER_ACT) {
        statement.act = LATER_ACT;
        must(statement_digest(&statement, digest) == ERR_OK, "digest");
    }
    if (peer->mode == PEER_OTHER_DIGEST)
        digest[0] ^= 1;
    EVP_EncodeBlock((unsigned char *)base64, statement.act.data, (int)statement.act.len);
    const uint8_t *signature = state->signature;
    json_t *result = json_null();
    if (state->is_done && peer->mode == PEER_FAILING)
        result = json_pack("{s:s, s:s}", "err", "temp", "detail", "token \033[2J gone");
    else if (state->is_done)
        result = json_pack("{s:s}", "pem", "-----BEGIN THING-----\n");
    json_t *json = json_pack(
        "{s:i, s:s, s:s, s:s, s:s, s:s, s:o, s:i, s:I, s:o, s:o, s:s, s:[{s:s}], s:i, s:o}",
        "number", 7, "state",
        !state->is_done              ? "pending"
        : peer->mode == PEER_FAILING ? "failed"
                                     : "done",
        "proposer", peer->officers[state->proposer].name, "created", "2026-11-22T01:00:00.000Z",
        "lapses", "2026-11-29T01:00:00.000Z", "act", base64, "nonce",
        hex(state->nonce, sizeof state->nonce), "replaces", 0, "lapse", (json_int_t)state->lapse,
        "signature", hex(signature, sizeof state->signature), "digest", hex(digest, sizeof digest),
        "summary", "a summary", "approvals", "officer", peer->officers[state->proposer].name,
        "needed", peer->mode == PEER_ENOUGH ? 1 : 2, "result", result);
    if (peer->mode == PEER_OTHER_SIGNATURE)
        json_object_set_new(json, "signature", hex((uint8_t[64]){1}, 64));
    buf_clear(&other);
    return json;
}

static json_t *officers_json(const struct peer *peer)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < PEER_OFFICERS; i++) {
        const struct officer_public *officer = &peer->officers[i];
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:o, s:s, s:b}", "name", officer->name, "role",
                                        i == 2 ? "auditor" : "officer", "signing_key",
                                        hex(officer->signing_key, sizeof officer->signing_key),
                                        "curve_key", officer->curve_key, "self", i == peer->self));
    }
    return json_pack("{s:i, s:o}", "quorum", 2, "officers", list);
}

static json_t *read_json(const struct peer *peer, enum message_read what)
{
    switch (what) {
    case READ_STATUS:
        return json_pack("{s:s, s:o, s:i, s:[{s:s, s:s}], s:[s]}", "state", "ready", "instance",
                         hex((const uint8_t *)INSTANCE, 16), "quorum", 2, "tokens", "name", "main",
                         "state", "ready", "problems", "escape \033[2J");
    case READ_OFFICERS:
        return officers_json(peer);
    case READ_PROPOSALS:
        return peer->state->has_proposal ? json_pack("[o]", proposal_json(peer)) : json_array();
    default:
        return json_array();
    }
}

static void put_json(json_t *json, struct buf *body)
{
    char *text = json_dumps(json, 0);
    must(text && buf_put_text(body, text) == ERR_OK, "JSON");
    free(text);
    json_decref(json);
}

static bool check(struct peer *peer, unsigned officer, const struct buf *message,
                  struct bytes signature)
{
    const struct officer_public *public = &peer->officers[officer];
    bool ok = statement_check(bytes_of(public->signing_key, sizeof public->signing_key),
                              buf_bytes(message), signature, NULL) == ERR_OK;
    peer->state->signatures = ok && peer->state->signatures >= 0 ? peer->state->signatures + 1 : -1;
    return ok;
}

static bool propose(struct peer *peer, const struct message_request *request)
{
    struct peer_state *state = peer->state;
    struct buf message;
    buf_reset(&state->act);
    buf_reset(&state->attachment);
    must(buf_put_bytes(&state->act, request->propose.statement.act) == ERR_OK &&
             buf_put_bytes(&state->attachment, request->propose.attachment) == ERR_OK,
         "room");
    memcpy(state->nonce, request->propose.statement.nonce.data, sizeof state->nonce);
    memcpy(state->signature, request->propose.signature.data, sizeof state->signature);
    state->lapse = request->propose.statement.lapse;
    state->proposer = peer->self;
    state->has_proposal = true;
    state->is_done = false;
    struct statement statement = statement_of(peer);
    buf_init(&message, STATEMENT_SIZE_MAX);
    must(statement_put(&statement, &message) == ERR_OK, "statement");
    bool ok = check(peer, peer->self, &message, request->propose.signature);
    buf_clear(&message);
    return ok;
}

static bool decide(struct peer *peer, const struct message_request *request)
{
    struct buf message;
    struct statement statement = statement_of(peer);
    uint8_t digest[STATEMENT_DIGEST_SIZE];
    if (peer->mode == PEER_LATER_ACT)
        statement.act = LATER_ACT;
    must(statement_digest(&statement, digest) == ERR_OK, "digest");
    buf_init(&message, STATEMENT_SIZE_MAX);
    must(statement_put_verdict(request->operation == MESSAGE_APPROVE, BYTES_LITERAL(INSTANCE), 7,
                               bytes_of(digest, sizeof digest), &message) == ERR_OK,
         "verdict");
    bool ok = check(peer, peer->self, &message, request->verdict.signature) &&
              bytes_equal(request->verdict.digest, bytes_of(digest, sizeof digest));
    peer->state->is_done = ok;
    buf_clear(&message);
    return ok;
}

static void answer(struct peer *peer, struct bytes frame, struct buf *out)
{
    struct message_request request;
    struct buf body;
    buf_init(&body, MESSAGE_REPLY_MAX);
    must(message_decode_request(frame, &request, NULL) == ERR_OK, "a request it cannot read");
    struct message_reply reply = {.id = request.id + (peer->mode == PEER_OTHER_ID)};
    if (peer->mode == PEER_NO_LOG) {
        reply.class = ERR_TEMP;
        reply.detail = BYTES_LITERAL("the audit log cannot be written");
    } else if (peer->mode == PEER_NO_JSON) {
        must(buf_put_text(&body, "{\"quorum\":") == ERR_OK, "room");
    } else if (request.operation == MESSAGE_READ && request.read.what == READ_AUDIT_LOG) {
        struct bytes log = BYTES_LITERAL(PEER_AUDIT_LOG);
        if (peer->state->is_rotated)
            log = BYTES_LITERAL("six\nseven\n");
        peer->state->is_rotated = peer->mode == PEER_ROTATING;
        size_t offset = request.read.offset < log.len ? (size_t)request.read.offset : log.len;
        size_t len = log.len - offset < PIECE ? log.len - offset : PIECE;
        must(buf_put(&body, log.data + offset, len) == ERR_OK, "room");
    } else if (request.operation == MESSAGE_READ) {
        put_json(read_json(peer, request.read.what), &body);
    } else if (request.operation == MESSAGE_APPROVE && peer->mode != PEER_ENOUGH &&
               peer->self == peer->state->proposer) {
        reply.class = ERR_PERM;
        reply.detail = BYTES_LITERAL("you have approved proposal 7 already");
    } else if (request.operation == MESSAGE_PROPOSE ? propose(peer, &request)
                                                    : decide(peer, &request)) {
        put_json(proposal_json(peer), &body);
        if (peer->state->is_done && peer->mode == PEER_FAILING) {
            reply.class = ERR_TEMP;
            reply.detail = BYTES_LITERAL("token gone");
        }
    } else {
        reply.class = ERR_DENIED;
        reply.detail = BYTES_LITERAL("not signed as it should be");
    }
    reply.body = buf_bytes(&body);
    must(message_encode_reply(&reply, out) == ERR_OK, "reply");
    buf_clear(&body);
}

static void serve(struct peer *peer)
{
    static uint8_t frame[MESSAGE_REQUEST_MAX];
    uint8_t identity[64];
    struct buf out;
    void *router = peer->state->router;
    int identity_len = zmq_recv(router, identity, sizeof identity, 0);
    int len = zmq_recv(router, frame, sizeof frame, 0);
    must(identity_len > 0 && len > 0 && len <= (int)sizeof frame, "request");
    if (peer->mode == PEER_SILENT)
        return;
    buf_init(&out, MESSAGE_REPLY_MAX + 1024);
    if (peer->mode == PEER_GARBAGE)
        must(buf_put_text(&out, "garbage") == ERR_OK, "room");
    else
        answer(peer, bytes_of(frame, (size_t)len), &out);
    zmq_send(router, identity, (size_t)identity_len, ZMQ_SNDMORE);
    zmq_send(router, out.data, out.len, peer->mode == PEER_TWO_FRAMES ? ZMQ_SNDMORE : 0);
    if (peer->mode == PEER_TWO_FRAMES)
        zmq_send(router, "more", 4, 0);
    buf_clear(&out);
}

static void *run(void *data)
{
    struct peer *peer = data;
    struct peer_state *state = peer->state;
    for (;;) {
        zmq_pollitem_t items[] = {{.socket = state->router, .events = ZMQ_POLLIN},
                                  {.socket = state->zap, .events = ZMQ_POLLIN},
                                  {.socket = state->controlled, .events = ZMQ_POLLIN}};
        zmq_poll(items, 3, -1);
        if (items[2].revents)
            return NULL;
        if (items[1].revents)
            reply_zap(peer);
        if (items[0].revents) {
            pthread_mutex_lock(&state->lock);
            serve(peer);
            pthread_mutex_unlock(&state->lock);
        }
    }
}

static void *open_socket(struct peer_state *state, int type)
{
    int none = 0;
    void *socket = zmq_socket(state->context, type);
    must(socket && zmq_setsockopt(socket, ZMQ_LINGER, &none, sizeof none) == 0, "socket");
    return socket;
}

void peer_start(struct peer *peer)
{
    int one = 1;
    struct peer_state *state = calloc(1, sizeof *state);
    must(state, "memory");
    peer->state = state;
    pthread_mutex_init(&state->lock, NULL);
    buf_init(&state->act, ACT_SIZE_MAX);
    buf_init(&state->attachment, ACT_ATTACHMENT_MAX);
    state->context = zmq_ctx_new();
    state->zap = open_socket(state, ZMQ_REP);
    must(zmq_bind(state->zap, "inproc://zeromq.zap.01") == 0, "ZAP");
    state->controlled = open_socket(state, ZMQ_PAIR);
    state->control = open_socket(state, ZMQ_PAIR);
    must(zmq_bind(state->controlled, "inproc://control") == 0 &&
             zmq_connect(state->control, "inproc://control") == 0,
         "control");
    state->router = open_socket(state, ZMQ_ROUTER);
    must(zmq_setsockopt(state->router, ZMQ_CURVE_SERVER, &one, sizeof one) == 0 &&
             zmq_setsockopt(state->router, ZMQ_CURVE_SECRETKEY, peer->secret_key, 40) == 0 &&
             zmq_setsockopt(state->router, ZMQ_ZAP_DOMAIN, "officers", 8) == 0 &&
             zmq_bind(state->router, peer->endpoint) == 0,
         "bind");
    must(pthread_create(&state->thread, NULL, run, peer) == 0, "thread");
}

void peer_stop(struct peer *peer)
{
    struct peer_state *state = peer->state;
    zmq_send(state->control, "", 0, 0);
    pthread_join(state->thread, NULL);
    zmq_close(state->router);
    zmq_close(state->zap);
    zmq_close(state->control);
    zmq_close(state->controlled);
    zmq_ctx_term(state->context);
    buf_clear(&state->act);
    buf_clear(&state->attachment);
    pthread_mutex_destroy(&state->lock);
    free(state);
    peer->state = NULL;
}

struct bytes peer_attachment(const struct peer *peer)
{
    pthread_mutex_lock(&peer->state->lock);
    struct bytes attachment = buf_bytes(&peer->state->attachment);
    pthread_mutex_unlock(&peer->state->lock);
    return attachment;
}

int peer_signatures(const struct peer *peer)
{
    pthread_mutex_lock(&peer->state->lock);
    int signatures = peer->state->signatures;
    pthread_mutex_unlock(&peer->state->lock);
    return signatures;
}
