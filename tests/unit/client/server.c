// SPDX-License-Identifier: Apache-2.0
#include "server.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zmq.h>

#include "hsmd/base/buf.h"
#include "hsmd/base/clock.h"
#include "hsmd/wire/wire.h"

#define LATER_MAX 8
#define IDENTITY_MAX 64

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "server: %s: %s\n", what, zmq_strerror(zmq_errno()));
    abort();
}

struct later {
    deadline_t due; // 0: free
    uint8_t identity[IDENTITY_MAX];
    size_t identity_len;
    struct buf frame;
};

struct server {
    struct server_conf conf;
    void *context;
    void *router;
    void *zap;
    void *control; // the end of server_stop
    void *controlled;
    pthread_t thread;
    atomic_uint requests;
    struct buf out; // with memory from the start: mem_fail_at is meant for the client
    struct later later[LATER_MAX];
};

static void reply_zap(struct server *server)
{
    // version, request id, domain, address, identity, mechanism, key
    uint8_t frames[7][256];
    size_t lens[7];
    char key[SERVER_KEY_SIZE];
    for (int i = 0; i < 7; i++) {
        int n = zmq_recv(server->zap, frames[i], sizeof frames[i], 0);
        must(n >= 0 && n <= (int)sizeof frames[i], "ZAP request");
        lens[i] = (size_t)n;
    }
    must(lens[6] == 32 && zmq_z85_encode(key, frames[6], 32), "ZAP key");
    bool admit = strcmp(key, server->conf.admitted) == 0;
    zmq_send(server->zap, "1.0", 3, ZMQ_SNDMORE);
    zmq_send(server->zap, frames[1], lens[1], ZMQ_SNDMORE);
    zmq_send(server->zap, admit ? "200" : "400", 3, ZMQ_SNDMORE);
    zmq_send(server->zap, "", 0, ZMQ_SNDMORE);
    zmq_send(server->zap, "client", 6, ZMQ_SNDMORE);
    zmq_send(server->zap, "", 0, 0);
}

static void send_to(struct server *server, struct bytes identity, struct bytes frame)
{
    zmq_send(server->router, identity.data, identity.len, ZMQ_SNDMORE);
    zmq_send(server->router, frame.data, frame.len, 0);
}

static void send_later(struct server *server, struct bytes identity, struct bytes frame)
{
    for (int i = 0; i < LATER_MAX; i++) {
        struct later *later = &server->later[i];
        if (later->due)
            continue;
        later->due = deadline_in(SERVER_SLOW_MS);
        later->identity_len = identity.len;
        memcpy(later->identity, identity.data, identity.len);
        buf_reset(&later->frame);
        must(buf_put_bytes(&later->frame, frame) == ERR_OK, "memory");
        return;
    }
    must(false, "too many slow requests");
}

static void send_due(struct server *server)
{
    for (int i = 0; i < LATER_MAX; i++) {
        struct later *later = &server->later[i];
        if (!later->due || !deadline_is_past(later->due))
            continue;
        send_to(server, bytes_of(later->identity, later->identity_len), buf_bytes(&later->frame));
        later->due = 0;
    }
}

static void compose(const struct server *server, const struct wire_request *request,
                    struct wire_reply *reply)
{
    static const enum err classes[] = {ERR_TEMP, ERR_PERM, ERR_DENIED, ERR_BUG};
    *reply = (struct wire_reply){.class = ERR_OK, .id = request->id};
    if (server->conf.is_failing)
        reply->class = ERR_TEMP;
    if (request->operation == WIRE_LIST) {
        reply->list.count = 2;
        reply->list.names[0] = BYTES_LITERAL("decryption");
        reply->list.names[1] = BYTES_LITERAL("signing");
        return;
    }
    must(request->operation == WIRE_SIGN, "operation");
    reply->signature = request->sign.data;
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        if (bytes_equal(request->sign.key, bytes_of_text(err_name(classes[i]))))
            reply->class = classes[i];
    }
}

static void encode(enum wire_operation operation, const struct wire_reply *reply, struct buf *out)
{
    buf_reset(out);
    must(wire_encode_reply(operation, reply, out) == ERR_OK, "encode");
}

static void answer(struct server *server, struct bytes identity, struct bytes frame)
{
    struct wire_request request = {0};
    struct wire_reply reply;
    struct detail detail = {0};
    struct buf *out = &server->out;
    if (wire_decode_request(frame, &request, &detail) != ERR_OK) {
        fprintf(stderr, "server: %s\n", detail.text);
        abort();
    }
    compose(server, &request, &reply);
    struct bytes key = request.operation == WIRE_SIGN ? request.sign.key : bytes_of(NULL, 0);
    if (bytes_equal(key, BYTES_LITERAL("other-id"))) {
        reply.id = request.id + 1;
        reply.signature = BYTES_LITERAL("of another");
        encode(request.operation, &reply, out);
        send_to(server, identity, buf_bytes(out));
        compose(server, &request, &reply);
    }
    encode(request.operation, &reply, out);
    if (bytes_equal(key, BYTES_LITERAL("garbage")))
        must(buf_put_text(out, "x") == ERR_OK, "memory");
    if (bytes_equal(key, BYTES_LITERAL("slow"))) {
        send_later(server, identity, buf_bytes(out));
    } else if (bytes_equal(key, BYTES_LITERAL("two-frames"))) {
        zmq_send(server->router, identity.data, identity.len, ZMQ_SNDMORE);
        zmq_send(server->router, out->data, out->len, ZMQ_SNDMORE);
        zmq_send(server->router, "x", 1, 0);
    } else if (!bytes_equal(key, BYTES_LITERAL("silent"))) {
        send_to(server, identity, buf_bytes(out));
    }
}

static void serve_one(struct server *server)
{
    uint8_t identity[IDENTITY_MAX];
    static _Thread_local uint8_t frame[WIRE_FRAME_MAX];
    int identity_len = zmq_recv(server->router, identity, sizeof identity, 0);
    int frame_len = zmq_recv(server->router, frame, sizeof frame, 0);
    must(identity_len > 0 && frame_len > 0, "request");
    atomic_fetch_add(&server->requests, 1);
    answer(server, bytes_of(identity, (size_t)identity_len), bytes_of(frame, (size_t)frame_len));
}

static void *run(void *data)
{
    struct server *server = data;
    for (;;) {
        zmq_pollitem_t items[] = {
            {.socket = server->controlled, .events = ZMQ_POLLIN},
            {.socket = server->zap, .events = ZMQ_POLLIN},
            {.socket = server->router, .events = ZMQ_POLLIN},
        };
        if (zmq_poll(items, 3, 20) < 0)
            continue;
        if (items[0].revents)
            break;
        if (items[1].revents)
            reply_zap(server);
        if (items[2].revents)
            serve_one(server);
        send_due(server);
    }
    zmq_close(server->router);
    zmq_close(server->zap);
    zmq_close(server->controlled);
    return NULL;
}

struct server *server_start(const struct server_conf *conf)
{
    struct server *server = calloc(1, sizeof *server);
    int one = 1;
    int none = 0;
    must(server != NULL, "memory");
    server->conf = *conf;
    for (int i = 0; i < LATER_MAX; i++)
        buf_init(&server->later[i].frame, WIRE_FRAME_MAX);
    uint8_t *place = NULL;
    buf_init(&server->out, WIRE_FRAME_MAX);
    must(buf_reserve(&server->out, WIRE_FRAME_MAX, &place) == ERR_OK, "memory");
    server->context = zmq_ctx_new();
    server->zap = zmq_socket(server->context, ZMQ_REP);
    server->control = zmq_socket(server->context, ZMQ_PAIR);
    server->controlled = zmq_socket(server->context, ZMQ_PAIR);
    server->router = zmq_socket(server->context, ZMQ_ROUTER);
    must(server->router != NULL, "sockets");
    must(zmq_bind(server->zap, "inproc://zeromq.zap.01") == 0, "ZAP");
    must(zmq_bind(server->controlled, "inproc://control") == 0, "control");
    must(zmq_connect(server->control, "inproc://control") == 0, "control");
    zmq_setsockopt(server->router, ZMQ_LINGER, &none, sizeof none);
    zmq_setsockopt(server->router, ZMQ_CURVE_SERVER, &one, sizeof one);
    zmq_setsockopt(server->router, ZMQ_ZAP_DOMAIN, "test", 4);
    must(zmq_setsockopt(server->router, ZMQ_CURVE_SECRETKEY, conf->secret_key, 40) == 0, "key");
    // Of the server before, on the same address, ZeroMQ's thread may still hold the socket.
    deadline_t deadline = deadline_in(5000);
    while (zmq_bind(server->router, conf->endpoint) != 0)
        must(!deadline_is_past(deadline), conf->endpoint);
    must(pthread_create(&server->thread, NULL, run, server) == 0, "thread");
    return server;
}

void server_stop(struct server *server)
{
    zmq_send(server->control, "", 0, 0);
    pthread_join(server->thread, NULL);
    zmq_close(server->control);
    zmq_ctx_term(server->context);
    for (int i = 0; i < LATER_MAX; i++)
        buf_clear(&server->later[i].frame);
    buf_clear(&server->out);
    free(server);
}

unsigned server_requests(const struct server *server)
{
    return atomic_load(&server->requests);
}
