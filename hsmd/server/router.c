// SPDX-License-Identifier: Apache-2.0
#include "hsmd/server/router.h"

#include <errno.h>
#include <string.h>

#include "hsmd/base/alloc.h"

#define CURVE_OVERHEAD 64 // at least what encryption adds to a frame, which MAXMSGSIZE counts
#define LINGER_MS 1000    // for the last replies
#define HANDSHAKE_MS 5000 // for a peer to prove who it is
// Messages of one connection that wait in ZeroMQ; it waits then. They do not wait for workers, so
// few are enough, and together with MAXMSGSIZE they bound what a connection can take: but for a
// message of many parts, which ZeroMQ keeps until its last part has come, and counts as one. There
// is no option against that; MemoryMax= in hsmd.service is the bound.
#define RECEIVE_MAX 16
#define BACKLOG 1024 // connections waiting to be accepted

struct router {
    void *zmq;
    struct zap *zap;
    void *socket;
    int fd;
};

static enum err set_limits(void *socket, const struct router_conf *conf, struct detail *detail)
{
    const int64_t frame_max = (int64_t)conf->request_max + CURVE_OVERHEAD;
    const struct {
        int option;
        int value;
    } numbers[] = {
        {ZMQ_RCVHWM, RECEIVE_MAX},
        {ZMQ_SNDHWM, conf->backlog},
        {ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS},
        {ZMQ_LINGER, LINGER_MS},
        {ZMQ_BACKLOG, BACKLOG},
        {ZMQ_TCP_KEEPALIVE, 1},
        {ZMQ_IPV6, 1},
    };
    bool ok = zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &frame_max, sizeof frame_max) == 0;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers && ok; i++)
        ok = zmq_setsockopt(socket, numbers[i].option, &numbers[i].value, sizeof(int)) == 0;
    return ok ? ERR_OK
              : err_set(detail, ERR_PERM, "cannot set up the socket: %s",
                        zmq_strerror(zmq_errno()));
}

// In this order: the handler is there before any socket that needs it.
static enum err open_socket(struct router *router, const struct router_conf *conf,
                            struct detail *detail)
{
    size_t size = sizeof router->fd;
    router->zmq = zmq_ctx_new();
    if (!router->zmq)
        return err_set(detail, ERR_TEMP, "ZeroMQ: %s", zmq_strerror(zmq_errno()));
    enum err err = zap_open(router->zmq, conf->is_allowed, conf->context, &router->zap, detail);
    if (err != ERR_OK)
        return err;
    router->socket = zmq_socket(router->zmq, ZMQ_ROUTER);
    if (!router->socket)
        return err_set(detail, ERR_TEMP, "ZeroMQ: %s", zmq_strerror(zmq_errno()));
    err = set_limits(router->socket, conf, detail);
    if (err == ERR_OK)
        err = zap_secure(router->socket, conf->domain, conf->server_key, detail);
    if (err == ERR_OK && zmq_getsockopt(router->socket, ZMQ_FD, &router->fd, &size) != 0)
        err = err_set(detail, ERR_TEMP, "ZeroMQ: %s", zmq_strerror(zmq_errno()));
    return err;
}

enum err router_open(const struct router_conf *conf, struct router **out, struct detail *detail)
{
    struct router *router = mem_calloc(1, sizeof *router);
    if (!router)
        return err_set(detail, ERR_TEMP, "out of memory");
    enum err err = open_socket(router, conf, detail);
    if (err == ERR_OK)
        *out = router;
    else
        router_close(router);
    return err;
}

void router_close(struct router *router)
{
    if (!router)
        return;
    if (router->socket)
        zmq_close(router->socket);
    zap_close(router->zap);
    while (router->zmq && zmq_ctx_term(router->zmq) != 0 && zmq_errno() == EINTR)
        ;
    mem_free(router);
}

enum err router_bind(struct router *router, const char *endpoint, struct detail *detail)
{
    return zmq_bind(router->socket, endpoint) == 0
               ? ERR_OK
               : err_set(detail, ERR_PERM, "%s", zmq_strerror(zmq_errno()));
}

int router_fd(const struct router *router)
{
    return router->fd;
}

static void wipe(bool is_secret, zmq_msg_t *message)
{
    if (is_secret)
        explicit_bzero(zmq_msg_data(message), zmq_msg_size(message));
}

// Route and frame, and what is beyond that. Returns how many parts there were.
static size_t receive_parts(struct router *router, bool is_secret, zmq_msg_t parts[2])
{
    zmq_msg_t more;
    size_t count = 0;
    zmq_msg_init(&more);
    for (bool has_more = true; has_more; count++) {
        zmq_msg_t *part = count < 2 ? &parts[count] : &more;
        wipe(is_secret, part);
        if (zmq_msg_recv(part, router->socket, ZMQ_DONTWAIT) < 0)
            break;
        has_more = zmq_msg_more(part);
    }
    wipe(is_secret, &more);
    zmq_msg_close(&more);
    return count;
}

// Whether there was a message; whether the arrival has it: its sender is known, and memory was
// there.
static bool take(struct router *router, bool is_secret, struct arrival *arrival, bool *is_taken)
{
    zmq_msg_t parts[2];
    zmq_msg_init(&parts[0]);
    zmq_msg_init(&parts[1]);
    size_t count = receive_parts(router, is_secret, parts);
    const char *peer = count > 1 ? zap_peer(&parts[1]) : NULL;
    buf_reset(&arrival->frame);
    *is_taken = peer && (count > 2 || buf_put(&arrival->frame, zmq_msg_data(&parts[1]),
                                              zmq_msg_size(&parts[1])) == ERR_OK);
    if (*is_taken) {
        memcpy(arrival->peer, peer, sizeof arrival->peer);
        arrival->route.connection = 0;
        zmq_msg_move(&arrival->route.router, &parts[0]);
    }
    wipe(is_secret, &parts[1]);
    zmq_msg_close(&parts[0]);
    zmq_msg_close(&parts[1]);
    return count > 0;
}

bool router_receive(struct router *router, bool is_secret, struct arrival *arrival)
{
    bool is_taken = false;
    while (!is_taken && take(router, is_secret, arrival, &is_taken))
        ;
    return is_taken;
}

static void free_reply(void *data, void *hint)
{
    struct buf reply = {.data = data, .room = (size_t)hint};
    buf_wipe(&reply);
    mem_free(data);
}

void router_send(struct router *router, zmq_msg_t *route, struct buf *reply)
{
    zmq_msg_t body;
    if (zmq_msg_init_data(&body, reply->data, reply->len, free_reply, (void *)reply->room) != 0)
        return;
    buf_init(reply, reply->max); // it is the message's now
    if (zmq_msg_send(route, router->socket, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0 ||
        zmq_msg_send(&body, router->socket, ZMQ_DONTWAIT) < 0)
        zmq_msg_close(&body);
}

void router_end_zap(struct router *router)
{
    zap_close(router->zap);
    router->zap = NULL;
}
