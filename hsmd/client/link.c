// SPDX-License-Identifier: Apache-2.0
// ZeroMQ would reconnect by itself, silently and for ever, in idle sockets too, and each attempt
// would put events into a monitor that nobody reads until it blocks the I/O thread. So a socket
// here connects exactly once (ZMQ_RECONNECT_IVL -1). When its connection cannot be made or ends,
// the monitor says so at once, the link is thrown away, and the caller decides when and where to
// try again.
//
// To ask a socket and its monitor whether they have something costs a dozen system calls, to wait
// for the one message that is expected costs two. So on a connection that stands, a reply is first
// waited for alone, and the monitor is heard only when none came at once.
#include "hsmd/client/link.h"

#include <stdio.h>
#include <string.h>

#include <zmq.h>

#include "hsmd/base/alloc.h"
#include "hsmd/wire/wire.h"

// Frames; one is under way at a time. ZeroMQ tells the other side of each queue when half of it was
// taken, which wakes a thread: seldom, then.
#define QUEUE_MAX 256
#define ALONE_MS 50          // how long a reply is waited for without an eye on the connection
#define TRUSTED_MS 50        // how long after a reply a connection is taken to stand
#define HEARTBEAT_MS 5000    // a peer that vanished without a word is noticed after twice that
#define HANDSHAKE_MS 3600000 // the call's deadline comes first
#define ADMISSION_DENIED 400 // status code of ZAP (ZeroMQ RFC 27)

#define EVENTS                                                              \
    (ZMQ_EVENT_CONNECTED | ZMQ_EVENT_CLOSED | ZMQ_EVENT_DISCONNECTED |      \
     ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | \
     ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)

static bool set_options(void *socket, const struct link_conf *conf)
{
    const struct {
        int option;
        int value;
    } numbers[] = {
        {ZMQ_LINGER, 0},
        {ZMQ_RECONNECT_IVL, -1},
        {ZMQ_SNDHWM, QUEUE_MAX},
        {ZMQ_RCVHWM, QUEUE_MAX},
        {ZMQ_RCVTIMEO, ALONE_MS},
        {ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS},
        {ZMQ_CONNECT_TIMEOUT, (int)conf->connect_ms},
        {ZMQ_HEARTBEAT_IVL, HEARTBEAT_MS},
        {ZMQ_HEARTBEAT_TIMEOUT, HEARTBEAT_MS},
        // A name would then be looked up as IPv6 only, and localhost is 127.0.0.1 to many.
        {ZMQ_IPV6, strchr(conf->endpoint, '[') != NULL},
    };
    const struct {
        int option;
        const char *value;
    } keys[] = {
        {ZMQ_CURVE_SERVERKEY, conf->server_key},
        {ZMQ_CURVE_PUBLICKEY, conf->public_key},
        {ZMQ_CURVE_SECRETKEY, conf->secret_key},
    };
    int64_t frame_max = conf->frame_max ? (int64_t)conf->frame_max : WIRE_FRAME_MAX;
    bool ok = zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &frame_max, sizeof frame_max) == 0;
    for (size_t i = 0; ok && i < sizeof numbers / sizeof *numbers; i++)
        ok = zmq_setsockopt(socket, numbers[i].option, &numbers[i].value, sizeof(int)) == 0;
    for (size_t i = 0; ok && i < sizeof keys / sizeof *keys; i++)
        ok = zmq_setsockopt(socket, keys[i].option, keys[i].value, strlen(keys[i].value)) == 0;
    return ok;
}

static bool open_monitor(struct link *link, const struct link_conf *conf)
{
    char address[40];
    int none = 0;
    snprintf(address, sizeof address, "inproc://monitor-%u", conf->number);
    link->monitor = zmq_socket(conf->context, ZMQ_PAIR);
    return link->monitor && zmq_setsockopt(link->monitor, ZMQ_LINGER, &none, sizeof none) == 0 &&
           zmq_socket_monitor(link->socket, address, EVENTS) == 0 &&
           zmq_connect(link->monitor, address) == 0;
}

enum err link_open(const struct link_conf *conf, struct link **link, struct detail *detail)
{
    struct link *opened = mem_calloc(1, sizeof *opened);
    if (!opened)
        return err_set(detail, ERR_TEMP, "out of memory");
    opened->socket = zmq_socket(conf->context, ZMQ_DEALER);
    if (!opened->socket || !set_options(opened->socket, conf) || !open_monitor(opened, conf)) {
        (void)err_set(detail, ERR_TEMP, "cannot make a socket: %s", zmq_strerror(zmq_errno()));
        link_close(opened);
        return ERR_TEMP;
    }
    if (zmq_connect(opened->socket, conf->endpoint) != 0) {
        (void)err_set(detail, ERR_PERM, "%s: %s", conf->endpoint, zmq_strerror(zmq_errno()));
        link_close(opened);
        return ERR_PERM;
    }
    *link = opened;
    return ERR_OK;
}

void link_close(struct link *link)
{
    if (!link)
        return;
    if (link->socket) {
        // An event with nobody to take it would block ZeroMQ's I/O thread until the context ends.
        zmq_socket_monitor(link->socket, NULL, 0);
        zmq_close(link->socket);
    }
    if (link->monitor)
        zmq_close(link->monitor);
    mem_free(link);
}

void link_abandon(struct link *link)
{
    mem_free(link);
}

static bool is_final(enum link_state state)
{
    return state >= LINK_UNREACHABLE;
}

static enum link_state next_state(enum link_state state, unsigned event, unsigned value)
{
    switch (event) {
    case ZMQ_EVENT_CONNECTED:
        return LINK_CONNECTED;
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        return LINK_READY;
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
        return value == ADMISSION_DENIED ? LINK_REFUSED : LINK_LOST;
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        return LINK_UNTRUSTED;
    case ZMQ_EVENT_CLOSED:
        return LINK_UNREACHABLE;
    case ZMQ_EVENT_DISCONNECTED:
        return state == LINK_READY ? LINK_LOST : LINK_UNTRUSTED;
    default:
        return state;
    }
}

// An event is two frames: event (16 bits) and value (32 bits) in the host's order, and the address.
static bool read_event(void *monitor, uint16_t *event, uint32_t *value)
{
    uint8_t head[sizeof *event + sizeof *value];
    char address[1];
    if (zmq_recv(monitor, head, sizeof head, ZMQ_DONTWAIT) != (int)sizeof head)
        return false;
    memcpy(event, head, sizeof *event);
    memcpy(value, head + sizeof *event, sizeof *value);
    zmq_recv(monitor, address, sizeof address, ZMQ_DONTWAIT);
    return true;
}

bool link_is_alive(struct link *link)
{
    uint16_t event = 0;
    uint32_t value = 0;
    while (read_event(link->monitor, &event, &value)) {
        if (!is_final(link->state))
            link->state = next_state(link->state, event, value);
    }
    return !is_final(link->state);
}

enum err link_send(struct link *link, struct bytes frame)
{
    if (zmq_send(link->socket, frame.data, frame.len, ZMQ_DONTWAIT) == (int)frame.len)
        return ERR_OK;
    if (link_is_alive(link))
        link->state = LINK_LOST; // the connection went, its event is still on the way
    return ERR_TEMP;
}

bool link_is_usable(struct link *link)
{
    return (link->state == LINK_READY && clock_ms() < link->trusted_until) || link_is_alive(link);
}

// Takes one message, if there is one: *is_there. Its memory is wiped, it may hold a secret. flags:
// ZMQ_DONTWAIT, or 0 to wait for ALONE_MS.
static enum err take_frame(struct link *link, int flags, struct buf *out, bool *is_there)
{
    zmq_msg_t message;
    enum err err = ERR_TEMP;
    zmq_msg_init(&message);
    *is_there = zmq_msg_recv(&message, link->socket, flags) >= 0;
    if (!*is_there) {
        zmq_msg_close(&message);
        return ERR_TEMP;
    }
    buf_reset(out);
    if (zmq_msg_more(&message))
        link->state = LINK_MALFORMED;
    else if ((err = buf_put(out, zmq_msg_data(&message), zmq_msg_size(&message))) != ERR_OK)
        link->state = LINK_LOST;
    explicit_bzero(zmq_msg_data(&message), zmq_msg_size(&message));
    zmq_msg_close(&message);
    link->trusted_until = clock_ms() + TRUSTED_MS;
    return err;
}

enum err link_receive(struct link *link, deadline_t deadline, struct buf *out)
{
    bool is_there = false;
    if (link->state == LINK_READY && deadline_left(deadline) > ALONE_MS) {
        enum err err = take_frame(link, 0, out, &is_there);
        if (is_there)
            return err;
    }
    for (;;) {
        zmq_pollitem_t items[] = {
            {.socket = link->socket, .events = ZMQ_POLLIN},
            {.socket = link->monitor, .events = ZMQ_POLLIN},
        };
        int left = deadline_left(deadline);
        bool is_dead = false;
        zmq_poll(items, 2, left); // a signal ends it early, which is no harm
        if (items[1].revents && !items[0].revents)
            is_dead = !link_is_alive(link);
        if (items[0].revents || is_dead) {
            // What hsmd said before the connection ended still counts.
            enum err err = take_frame(link, ZMQ_DONTWAIT, out, &is_there);
            if (is_there)
                return err;
        }
        if (is_dead || left == 0)
            return ERR_TEMP;
    }
}
