// SPDX-License-Identifier: Apache-2.0
// The server's half of ZMTP against libzmq's sockets, over an ipc socket that this test pumps.
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>
#include <zmq.h>

#include "hsmd/base/clock.h"
#include "hsmd/zmtp/zmtp.h"
#include "tests/support/zmtp_server.h"

#define FRAME_MAX 65536
#define PATIENCE_MS 20000

struct side {
    void *zmq;
    void *socket;
    void *monitor;
    char directory[64];
    char path[80];
    int listener;
    int fd;
    struct zmtp *zmtp;
    bool is_open; // the gate
    unsigned event;
    unsigned value;
    struct buf received;
};

struct peer {
    int type;
    const char *server_key;
    const char *routing_id;
    int heartbeat_ms; // 0: none
};

static bool is_allowed(void *context, const char *public_key)
{
    const struct side *side = context;
    return side->is_open && strcmp(public_key, ZMTP_CLIENT_PUBLIC) == 0;
}

static void listen_at(struct side *side)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *directory = getenv("TMPDIR");
    snprintf(side->directory, sizeof side->directory, "%.30s/sealgate-zmtp-XXXXXX",
             directory ? directory : "/tmp");
    assert_non_null(mkdtemp(side->directory));
    snprintf(side->path, sizeof side->path, "%s/socket", side->directory);
    memcpy(address.sun_path, side->path, strlen(side->path));
    side->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(side->listener >= 0);
    assert_int_equal(bind(side->listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(side->listener, 4), 0);
}

static void connect_peer(struct side *side, const struct peer *peer)
{
    char endpoint[96];
    int linger = 0;
    side->zmq = zmq_ctx_new();
    side->socket = zmq_socket(side->zmq, peer->type);
    side->monitor = zmq_socket(side->zmq, ZMQ_PAIR);
    zmq_setsockopt(side->socket, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(side->monitor, ZMQ_LINGER, &linger, sizeof linger);
    const char *key = peer->server_key ? peer->server_key : ZMTP_SERVER_PUBLIC;
    assert_int_equal(zmq_setsockopt(side->socket, ZMQ_CURVE_SERVERKEY, key, 40), 0);
    assert_int_equal(zmq_setsockopt(side->socket, ZMQ_CURVE_PUBLICKEY, ZMTP_CLIENT_PUBLIC, 40), 0);
    assert_int_equal(zmq_setsockopt(side->socket, ZMQ_CURVE_SECRETKEY, ZMTP_CLIENT_SECRET, 40), 0);
    if (peer->routing_id)
        assert_int_equal(zmq_setsockopt(side->socket, ZMQ_ROUTING_ID, peer->routing_id,
                                        strlen(peer->routing_id)),
                         0);
    assert_int_equal(
        zmq_setsockopt(side->socket, ZMQ_HEARTBEAT_IVL, &peer->heartbeat_ms, sizeof(int)), 0);
    assert_int_equal(zmq_socket_monitor(side->socket, "inproc://monitor",
                                        ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED |
                                            ZMQ_EVENT_HANDSHAKE_FAILED_AUTH |
                                            ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                                            ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL),
                     0);
    assert_int_equal(zmq_connect(side->monitor, "inproc://monitor"), 0);
    snprintf(endpoint, sizeof endpoint, "ipc://%s", side->path);
    assert_int_equal(zmq_connect(side->socket, endpoint), 0);
}

static void open_side(struct side *side, const struct peer *peer)
{
    *side = (struct side){.fd = -1, .is_open = true};
    const struct zmtp_host host = {ZMTP_SERVER_SECRET, ZMTP_SERVER_PUBLIC, is_allowed, side};
    buf_init(&side->received, FRAME_MAX);
    assert_int_equal(zmtp_serve(&host, FRAME_MAX, &side->zmtp, NULL), ERR_OK);
    listen_at(side);
    connect_peer(side, peer);
    struct pollfd poll_fd = {.fd = side->listener, .events = POLLIN};
    assert_int_equal(poll(&poll_fd, 1, PATIENCE_MS), 1);
    side->fd = accept4(side->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    assert_true(side->fd >= 0);
}

static void close_side(struct side *side)
{
    zmq_socket_monitor(side->socket, NULL, 0); // libzmq leaks an event that nobody takes
    zmq_close(side->socket);
    zmq_close(side->monitor);
    zmq_ctx_term(side->zmq);
    close(side->fd);
    close(side->listener);
    unlink(side->path);
    rmdir(side->directory);
    zmtp_free(side->zmtp);
    buf_clear(&side->received);
}

// What can be moved now, and what the monitor says.
static void pump(struct side *side)
{
    uint8_t data[4096];
    struct pollfd poll_fd = {.fd = side->fd, .events = POLLIN};
    struct bytes out = zmtp_output(side->zmtp);
    if (out.len) {
        ssize_t len = send(side->fd, out.data, out.len, MSG_NOSIGNAL);
        if (len > 0)
            zmtp_written(side->zmtp, (size_t)len);
    }
    (void)poll(&poll_fd, 1, zmtp_output(side->zmtp).len ? 1 : 5);
    ssize_t len = recv(side->fd, data, sizeof data, 0);
    if (len > 0 && zmtp_state(side->zmtp) <= ZMTP_READY) {
        enum err err = zmtp_feed(side->zmtp, bytes_of(data, (size_t)len));
        assert_int_equal(err, zmtp_state(side->zmtp) <= ZMTP_READY ? ERR_OK : ERR_PERM);
    }
    uint8_t event[6];
    if (zmq_recv(side->monitor, event, sizeof event, ZMQ_DONTWAIT) == sizeof event) {
        uint16_t number;
        uint32_t value;
        memcpy(&number, event, sizeof number);
        memcpy(&value, event + 2, sizeof value);
        side->event = number;
        side->value = value;
        (void)zmq_recv(side->monitor, data, sizeof data, 0); // the endpoint
    }
}

// Until libzmq has said how the handshake ended, and so has the server's half.
static void shake_hands(struct side *side)
{
    deadline_t deadline = deadline_in(PATIENCE_MS);
    while ((!side->event || zmtp_state(side->zmtp) < ZMTP_READY) && deadline_left(deadline) > 0)
        pump(side);
}

static struct bytes receive(struct side *side)
{
    bool is_there = false;
    deadline_t deadline = deadline_in(PATIENCE_MS);
    buf_reset(&side->received);
    while (!is_there && deadline_left(deadline) > 0) {
        assert_int_equal(zmtp_receive(side->zmtp, &side->received, &is_there), ERR_OK);
        if (!is_there)
            pump(side);
    }
    assert_true(is_there);
    return buf_bytes(&side->received);
}

static int receive_zmq(struct side *side, uint8_t *data, size_t size)
{
    deadline_t deadline = deadline_in(PATIENCE_MS);
    int len = -1;
    while (len < 0 && deadline_left(deadline) > 0) {
        pump(side);
        len = zmq_recv(side->socket, data, size, ZMQ_DONTWAIT);
    }
    return len;
}

static void test_sockets_are_let_in(void **state)
{
    static const int types[] = {ZMQ_DEALER, ZMQ_REQ, ZMQ_ROUTER};
    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct side side;
        open_side(&side, &(struct peer){.type = types[i]});
        shake_hands(&side);
        assert_int_equal(side.event, ZMQ_EVENT_HANDSHAKE_SUCCEEDED);
        assert_int_equal(zmtp_state(side.zmtp), ZMTP_READY);
        assert_string_equal(zmtp_peer(side.zmtp), ZMTP_CLIENT_PUBLIC);
        close_side(&side);
    }
}

static void test_messages_pass(void **state)
{
    static uint8_t sent[FRAME_MAX];
    static uint8_t got[FRAME_MAX + 1];
    static const size_t sizes[] = {0, 1, 255, 256, 65536};
    struct side side;
    (void)state;
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (uint8_t)(i * 11 >> 4);
    open_side(&side, &(struct peer){.type = ZMQ_DEALER});
    for (size_t i = 0; i < 2 * sizeof sizes / sizeof *sizes; i++) {
        size_t len = sizes[i / 2];
        assert_int_equal(zmq_send(side.socket, sent, len, 0), len);
        assert_true(bytes_equal(receive(&side), bytes_of(sent, len)));
        assert_int_equal(zmtp_send(side.zmtp, bytes_of(sent, len)), ERR_OK);
        assert_int_equal(receive_zmq(&side, got, sizeof got), len);
        assert_memory_equal(got, sent, len);
    }
    close_side(&side);
}

// Messages of several frames come as one empty one, and nothing is left of them.
static void test_parts_are_dropped(void **state)
{
    struct side side;
    (void)state;
    open_side(&side, &(struct peer){.type = ZMQ_DEALER});
    assert_int_equal(zmq_send(side.socket, "one", 3, ZMQ_SNDMORE), 3);
    assert_int_equal(zmq_send(side.socket, "", 0, ZMQ_SNDMORE), 0);
    assert_int_equal(zmq_send(side.socket, "three", 5, 0), 5);
    assert_int_equal(zmq_send(side.socket, "alone", 5, 0), 5);
    assert_int_equal(receive(&side).len, 0);
    assert_true(bytes_equal(receive(&side), BYTES_LITERAL("alone")));
    close_side(&side);
    open_side(&side, &(struct peer){.type = ZMQ_REQ}); // an empty frame before each
    assert_int_equal(zmq_send(side.socket, "ask", 3, 0), 3);
    assert_int_equal(receive(&side).len, 0);
    close_side(&side);
}

// An idle client's heart beats, and is heard: it would end the connection itself if not.
static void test_heartbeats_are_answered(void **state)
{
    static const int intervals[] = {0, 50};
    (void)state;
    for (size_t i = 0; i < sizeof intervals / sizeof *intervals; i++) {
        struct side side;
        uint8_t got[8];
        bool is_there = false;
        unsigned said = 0;
        open_side(&side, &(struct peer){.type = ZMQ_DEALER, .heartbeat_ms = intervals[i]});
        shake_hands(&side);
        deadline_t deadline = deadline_in(1000);
        while (deadline_left(deadline) > 0) {
            pump(&side);
            assert_int_equal(zmtp_receive(side.zmtp, &side.received, &is_there), ERR_OK);
            assert_false(is_there);
            said += zmtp_output(side.zmtp).len > 0;
        }
        assert_int_equal(side.event, ZMQ_EVENT_HANDSHAKE_SUCCEEDED);
        assert_true(intervals[i] ? said >= 5 : !said);
        assert_int_equal(zmq_send(side.socket, "ask", 3, 0), 3);
        assert_true(bytes_equal(receive(&side), BYTES_LITERAL("ask")));
        assert_int_equal(zmtp_send(side.zmtp, BYTES_LITERAL("answer")), ERR_OK);
        assert_int_equal(receive_zmq(&side, got, sizeof got), 6);
        close_side(&side);
    }
}

static void test_denial_is_told(void **state)
{
    struct side side;
    (void)state;
    open_side(&side, &(struct peer){.type = ZMQ_DEALER});
    side.is_open = false;
    shake_hands(&side);
    assert_int_equal(zmtp_state(side.zmtp), ZMTP_REFUSED);
    assert_int_equal(side.event, ZMQ_EVENT_HANDSHAKE_FAILED_AUTH);
    assert_int_equal(side.value, 400);
    assert_null(zmtp_peer(side.zmtp));
    close_side(&side);
}

static void test_strangers_are_not_trusted(void **state)
{
    static const struct peer rows[] = {
        {.type = ZMQ_DEALER, .server_key = ZMTP_CLIENT_PUBLIC},
        {.type = ZMQ_DEALER, .routing_id = "me"},
        {.type = ZMQ_SUB},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct side side;
        deadline_t deadline = deadline_in(PATIENCE_MS);
        open_side(&side, &rows[i]);
        while (zmtp_state(side.zmtp) < ZMTP_READY && deadline_left(deadline) > 0)
            pump(&side);
        assert_int_equal(zmtp_state(side.zmtp), ZMTP_UNTRUSTED);
        assert_int_equal(side.event, 0);
        close_side(&side);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sockets_are_let_in),
        cmocka_unit_test(test_messages_pass),
        cmocka_unit_test(test_parts_are_dropped),
        cmocka_unit_test(test_denial_is_told),
        cmocka_unit_test(test_strangers_are_not_trusted),
        cmocka_unit_test(test_heartbeats_are_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
