// SPDX-License-Identifier: Apache-2.0
// The door for peers on this machine, to those whose heart beats, as that of a libzmq client can.
#include "tests/unit/hsmd/local_support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/zmtp_forger.h"
#include "tests/support/zmtp_server.h"

#define WELCOME_SIZE (2 + 8 + 16 + 144)
#define PONG_SIZE (2 + 8 + 8 + 16 + 1 + 5)
#define PING BYTES_LITERAL("\4PING\0\0")
#define PONG BYTES_LITERAL("\4PONG")

struct heart {
    int fd;
    struct zmtp_forger forger;
    struct buf out;
    struct buf in;
};

static void say(struct heart *heart)
{
    raw_write(heart->fd, buf_bytes(&heart->out));
    buf_reset(&heart->out);
}

// What is there, looking. False: nothing.
static bool hear(struct heart *heart)
{
    static uint8_t data[65536];
    struct arrival arrival;
    arrival_init(&arrival);
    door_look();
    assert_false(local_receive(door.local, &arrival));
    ssize_t len = recv(heart->fd, data, sizeof data, MSG_DONTWAIT);
    assert_true(len); // not the end
    if (len > 0)
        assert_int_equal(buf_put(&heart->in, data, (size_t)len), ERR_OK);
    return len > 0;
}

static struct bytes await(struct heart *heart, size_t len)
{
    deadline_t until = deadline_in(WAIT_MS);
    buf_reset(&heart->in);
    while (heart->in.len < len) {
        assert_false(deadline_is_past(until));
        (void)hear(heart);
    }
    assert_int_equal(heart->in.len, len);
    return buf_bytes(&heart->in);
}

static void enter(struct heart *heart)
{
    *heart = (struct heart){.fd = raw_connect()};
    buf_init(&heart->out, SIZE_MAX);
    buf_init(&heart->in, SIZE_MAX);
    zmtp_forger_init(&heart->forger, ZMTP_SERVER_PUBLIC, ZMTP_CLIENT_PUBLIC, ZMTP_CLIENT_SECRET);
    zmtp_forger_greeting("CURVE", &heart->out);
    say(heart);
    assert_true(zmtp_forger_take_greeting(await(heart, 64)));
    zmtp_forger_hello(&heart->forger, &heart->out);
    say(heart);
    assert_true(zmtp_forger_take_welcome(&heart->forger, await(heart, WELCOME_SIZE)));
    zmtp_forger_initiate(&heart->forger, BYTES_LITERAL("\13Socket-Type\0\0\0\6DEALER"),
                         &heart->out);
    say(heart);
    assert_true(zmtp_forger_take_ready(&heart->forger, await(heart, ZMTP_READY_SIZE)));
}

static void expect_pong(struct heart *heart, struct bytes frame)
{
    struct buf content;
    buf_init(&content, SIZE_MAX);
    assert_true(zmtp_forger_take_command(&heart->forger, frame, &content));
    assert_true(bytes_equal(buf_bytes(&content), PONG));
    buf_clear(&content);
}

static void beat(struct heart *heart)
{
    zmtp_forger_message(&heart->forger, 2, PING, &heart->out);
    say(heart);
    expect_pong(heart, await(heart, PONG_SIZE));
}

static void leave(struct heart *heart)
{
    close(heart->fd);
    buf_clear(&heart->out);
    buf_clear(&heart->in);
}

static void test_answered(void **state)
{
    (void)state;
    struct heart heart;
    struct peer peer;
    enter(&heart);
    peer_enter(&peer);
    for (unsigned i = 0; i < 3; i++) {
        beat(&heart);
        peer_ask(&peer);
    }
    peer_leave(&peer);
    leave(&heart);
}

// Who beats and beats, and does not listen, is not read any more, and has little kept for him; when
// he listens, what he was told is whole, and it goes on.
static void test_flood(void **state)
{
    (void)state;
    struct heart heart;
    struct peer peer;
    size_t said = 0;
    unsigned answers = 0;
    struct arrival arrival;
    arrival_init(&arrival);
    enter(&heart);
    peer_enter(&peer);
    for (unsigned i = 0; i < 40000; i++)
        zmtp_forger_message(&heart.forger, 2, PING, &heart.out);
    for (unsigned quiet = 0; quiet < 20 && said < heart.out.len; quiet++) {
        ssize_t len = send(heart.fd, heart.out.data + said, heart.out.len - said,
                           MSG_NOSIGNAL | MSG_DONTWAIT);
        said += len > 0 ? (size_t)len : 0;
        quiet = len > 0 ? 0 : quiet;
        door_look();
        assert_false(local_receive(door.local, &arrival));
    }
    assert_in_range(said, 10000, heart.out.len - 1);
    peer_ask(&peer);
    buf_reset(&heart.in);
    for (unsigned quiet = 0; quiet < 50; quiet++)
        quiet = hear(&heart) ? 0 : quiet;
    for (size_t at = 0; at < heart.in.len; at += PONG_SIZE, answers++)
        expect_pong(&heart, bytes_of(heart.in.data + at, PONG_SIZE));
    assert_in_range(answers, 1000, 40000);
    while (said < heart.out.len) { // the rest of it
        ssize_t len = send(heart.fd, heart.out.data + said, heart.out.len - said,
                           MSG_NOSIGNAL | MSG_DONTWAIT);
        said += len > 0 ? (size_t)len : 0;
        (void)hear(&heart);
    }
    for (unsigned quiet = 0; quiet < 50; quiet++)
        quiet = hear(&heart) ? 0 : quiet;
    for (size_t at = (size_t)answers * PONG_SIZE; at < heart.in.len; at += PONG_SIZE)
        expect_pong(&heart, bytes_of(heart.in.data + at, PONG_SIZE));
    buf_reset(&heart.out);
    beat(&heart);
    peer_ask(&peer);
    peer_leave(&peer);
    leave(&heart);
    arrival_clear(&arrival);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, door_setup, door_teardown)
    const struct CMUnitTest tests[] = {TEST(test_answered), TEST(test_flood)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
