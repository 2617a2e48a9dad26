// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/hsmd_peer.h"

#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <zmq.h>

#include "hsmd/base/clock.h"

#define REQUIRE(condition)                                                            \
    do {                                                                              \
        if (!(condition)) {                                                           \
            fprintf(stderr, "%s:%d: %s failed: %s\n", __FILE__, __LINE__, #condition, \
                    zmq_strerror(zmq_errno()));                                       \
            exit(1);                                                                  \
        }                                                                             \
    } while (0)

#define MONITOR "inproc://peer-monitor"

static void set_text(void *socket, int option, const char *text)
{
    REQUIRE(zmq_setsockopt(socket, option, text, strlen(text)) == 0);
}

void peer_open(struct peer *peer, const struct peer_conf *conf)
{
    peer_open_as(peer, ZMQ_DEALER, conf);
}

void peer_open_as(struct peer *peer, int type, const struct peer_conf *conf)
{
    int none = 0;
    int events = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                 ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH |
                 ZMQ_EVENT_DISCONNECTED;
    peer->context = zmq_ctx_new();
    peer->socket = zmq_socket(peer->context, type);
    peer->monitor = zmq_socket(peer->context, ZMQ_PAIR);
    REQUIRE(peer->socket && peer->monitor);
    zmq_setsockopt(peer->socket, ZMQ_LINGER, &none, sizeof none);
    zmq_setsockopt(peer->monitor, ZMQ_LINGER, &none, sizeof none);
    zmq_setsockopt(peer->socket, ZMQ_SNDHWM, &none, sizeof none);
    zmq_setsockopt(peer->socket, ZMQ_RCVHWM, &none, sizeof none);
    if (conf->server_public) {
        set_text(peer->socket, ZMQ_CURVE_SERVERKEY, conf->server_public);
        set_text(peer->socket, ZMQ_CURVE_PUBLICKEY, conf->public_key);
        set_text(peer->socket, ZMQ_CURVE_SECRETKEY, conf->secret_key);
    }
    if (conf->routing_id)
        set_text(peer->socket, ZMQ_ROUTING_ID, conf->routing_id);
    REQUIRE(zmq_socket_monitor(peer->socket, MONITOR, events) == 0);
    REQUIRE(zmq_connect(peer->monitor, MONITOR) == 0);
    REQUIRE(zmq_connect(peer->socket, conf->endpoint) == 0);
}

void peer_close(struct peer *peer)
{
    // libzmq forgets the address of an event that nobody takes any more: there shall be none.
    REQUIRE(zmq_socket_monitor(peer->socket, NULL, 0) == 0);
    zmq_close(peer->socket);
    zmq_close(peer->monitor);
    zmq_ctx_term(peer->context);
}

bool peer_is_admitted(struct peer *peer)
{
    zmq_pollitem_t item = {.socket = peer->monitor, .events = ZMQ_POLLIN};
    uint8_t head[6];
    char address[200];
    uint16_t event;
    REQUIRE(zmq_poll(&item, 1, PEER_WAIT_MS) == 1); // a handshake has an end
    REQUIRE(zmq_recv(peer->monitor, head, sizeof head, 0) == (int)sizeof head);
    zmq_recv(peer->monitor, address, sizeof address, 0);
    memcpy(&event, head, sizeof event);
    return event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED;
}

unsigned peer_free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    REQUIRE(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    REQUIRE(getsockname(fd, (struct sockaddr *)&address, &size) == 0);
    close(fd);
    return ntohs(address.sin_port);
}

void peer_send(struct peer *peer, struct bytes frame, bool more)
{
    REQUIRE(zmq_send(peer->socket, frame.data ? (const void *)frame.data : "", frame.len,
                     more ? ZMQ_SNDMORE : 0) >= 0);
}

bool peer_receive(struct peer *peer, int wait_ms, struct buf *frame)
{
    zmq_pollitem_t item = {.socket = peer->socket, .events = ZMQ_POLLIN};
    zmq_msg_t message;
    buf_reset(frame);
    if (zmq_poll(&item, 1, wait_ms) != 1)
        return false;
    zmq_msg_init(&message);
    REQUIRE(zmq_msg_recv(&message, peer->socket, 0) >= 0);
    REQUIRE(!zmq_msg_more(&message));
    REQUIRE(buf_put(frame, zmq_msg_data(&message), zmq_msg_size(&message)) == ERR_OK);
    zmq_msg_close(&message);
    return true;
}
