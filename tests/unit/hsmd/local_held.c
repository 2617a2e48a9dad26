// SPDX-License-Identifier: Apache-2.0
// Connections that a worker holds: whose they are, what nobody else is told meanwhile, and that
// everybody is told again afterwards, whatever has come in between.
#include "tests/unit/hsmd/local_support.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define ANSWER BYTES_LITERAL("answer")

static struct arrival arrival;

static int setup(void **state)
{
    arrival_init(&arrival);
    return door_setup(state);
}

static int teardown(void **state)
{
    arrival_clear(&arrival);
    return door_teardown(state);
}

static void say(struct peer *peer)
{
    peer_say(peer, "question");
    peer_write(peer, 0);
}

static bool has_another(void)
{
    return local_receive(door.local, &arrival);
}

// Its connection.
static uint64_t ask(struct peer *peer)
{
    say(peer);
    door_await(&arrival);
    assert_false(has_another());
    return arrival.route.connection;
}

static void answer(struct peer *peer, uint64_t connection)
{
    local_send(door.local, connection, ANSWER);
    peer_expect(peer, "answer");
}

// One that has asked twice at once, and has its answers.
static uint64_t enter_prompt(struct peer *peer)
{
    peer_enter(peer);
    answer(peer, ask(peer));
    uint64_t connection = ask(peer);
    answer(peer, connection);
    return connection;
}

static bool is_told(void)
{
    door_settle();
    return has_another();
}

// What a worker does that finds the descriptor readable. It takes all there is.
static bool look_at(uint64_t connection)
{
    local_look_held(door.local, connection);
    return has_another();
}

static bool is_readable(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    return poll(&poll_fd, 1, 0) == 1;
}

static void test_in_step(void **state)
{
    (void)state;
    struct peer peer;
    peer_enter(&peer);
    uint64_t connection = ask(&peer);
    answer(&peer, connection);
    assert_int_equal(local_hold(door.local, connection), -1); // nobody knows it yet
    answer(&peer, ask(&peer));
    int fd = local_hold(door.local, connection);
    assert_true(fd >= 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_false(is_readable(fd));
        say(&peer);
        assert_false(is_told());
        assert_true(is_readable(fd));
        assert_true(look_at(connection));
        assert_true(arrival.route.connection == connection);
        local_let_go(door.local, connection, false);
        assert_false(is_told()); // of what has been read
        answer(&peer, connection);
        assert_int_equal(local_hold(door.local, connection), fd);
        assert_int_equal(local_hold(door.local, connection), -1); // somebody has it
    }
    peer_leave(&peer);
}

// The events come again; also of what is there already.
static void test_let_go(void **state)
{
    (void)state;
    struct peer peer;
    uint64_t connection = enter_prompt(&peer);
    assert_true(local_hold(door.local, connection) >= 0);
    local_let_go(door.local, connection, false);
    local_let_go(door.local, connection, false);
    answer(&peer, ask(&peer));
    assert_true(local_hold(door.local, connection) >= 0);
    say(&peer);
    assert_false(is_told());
    local_let_go(door.local, connection, false);
    assert_true(is_told());
    assert_false(has_another());
    answer(&peer, connection);
    peer_ask(&peer);
    peer_leave(&peer);
}

static void test_late(void **state)
{
    (void)state;
    struct peer peer;
    uint64_t connection = enter_prompt(&peer);
    unsigned times = 0;
    for (; local_hold(door.local, connection) >= 0; times++) {
        assert_in_range(times, 0, 20);
        clock_advance_us(LOCAL_PROMPT_US);
        local_let_go(door.local, connection, true);
        answer(&peer, ask(&peer));
    }
    assert_in_range(times, 2, 20); // once is nothing
    answer(&peer, ask(&peer));     // it has better days
    assert_true(local_hold(door.local, connection) >= 0);
    // To be read late, by one who had other things to do, is not the peer's fault.
    for (unsigned i = 0; i < 2 * times; i++) {
        say(&peer);
        clock_advance_us(LOCAL_PROMPT_US);
        assert_true(look_at(connection));
        assert_false(has_another());
        local_let_go(door.local, connection, false);
        answer(&peer, connection);
        assert_true(local_hold(door.local, connection) >= 0);
    }
    peer_leave(&peer);
}

// One that does not wait for its answers.
static void test_out_of_step(void **state)
{
    (void)state;
    struct peer peer;
    uint64_t connection = enter_prompt(&peer);
    assert_true(local_hold(door.local, connection) >= 0);
    peer_say(&peer, "another");
    say(&peer);
    assert_true(look_at(connection));
    assert_true(has_another());
    assert_false(has_another());
    local_let_go(door.local, connection, false);
    assert_int_equal(ask(&peer), connection);
    answer(&peer, connection);
    assert_int_equal(local_hold(door.local, connection), -1); // two are open
    answer(&peer, connection);
    assert_true(local_hold(door.local, connection) >= 0);
    answer(&peer, connection);
    peer_leave(&peer);
}

// It is gone, and another has its place.
static void test_gone(void **state)
{
    (void)state;
    struct peer peer;
    struct peer other;
    unsigned files = open_files();
    uint64_t connection = enter_prompt(&peer);
    int fd = local_hold(door.local, connection);
    peer_leave(&peer);
    assert_true(is_readable(fd));
    assert_false(look_at(connection));
    assert_int_equal(open_files(), files);
    peer_enter(&other);
    answer(&other, ask(&other));
    assert_int_equal(local_hold(door.local, connection), -1);
    local_let_go(door.local, connection, true);
    assert_false(look_at(connection));
    answer(&other, ask(&other));
    assert_true(local_hold(door.local, arrival.route.connection) >= 0);
    peer_leave(&other);
}

// It does not read its answers: the door waits until it does, and so long it is nobody's.
static void test_deaf(void **state)
{
    (void)state;
    static char answers[60000];
    struct peer peer;
    uint64_t connection = enter_prompt(&peer);
    unsigned sent = 0;
    while (local_hold(door.local, connection) >= 0) {
        say(&peer);
        assert_true(look_at(connection));
        assert_false(has_another());
        if (sent % 2)
            local_let_go(door.local, connection, false);
        local_send(door.local, connection, bytes_of(answers, sizeof answers));
        assert_in_range(++sent, 1, 100);
        local_let_go(door.local, connection, false);
    }
    local_let_go(door.local, connection, true);
    for (unsigned i = 0; i < sent; i++)
        peer_expect(&peer, answers);
    answer(&peer, ask(&peer));
    peer_leave(&peer);
}

// An answer that the holder writes itself: all of it, a part, nothing.
static void test_sealed(void **state)
{
    (void)state;
    struct peer peer;
    uint64_t connection = enter_prompt(&peer);
    int fd = local_hold(door.local, connection);
    for (size_t part = 0; part < 3; part++) {
        say(&peer);
        assert_true(look_at(connection));
        assert_false(has_another());
        struct bytes sealed = local_seal(door.local, connection, ANSWER);
        assert_true(sealed.len > ANSWER.len);
        assert_false(is_told());
        size_t len = sealed.len * part / 2;
        assert_int_equal(send(fd, sealed.data, len, MSG_NOSIGNAL), len);
        local_sent(door.local, connection, len);
        peer_expect(&peer, "answer");
        assert_false(is_told()); // it is still held
    }
    local_let_go(door.local, connection, false);
    say(&peer);
    door_await(&arrival);
    assert_int_equal(local_hold(door.local, connection), -1); // more may have been read
    assert_false(has_another());
    assert_int_equal(local_hold(door.local, connection), fd);
    answer(&peer, connection);
    peer_leave(&peer);
}

// It goes while its answer is written: the descriptor is the holder's until that is over.
static void test_gone_sealed(void **state)
{
    (void)state;
    struct peer peer;
    unsigned files = open_files();
    uint64_t connection = enter_prompt(&peer);
    int fd = local_hold(door.local, connection);
    say(&peer);
    assert_true(look_at(connection));
    assert_false(has_another());
    struct bytes sealed = local_seal(door.local, connection, ANSWER);
    assert_true(sealed.len);
    peer_leave(&peer);
    door_settle();
    assert_int_equal(open_files(), files + 1);
    assert_true(send(fd, sealed.data, sealed.len, MSG_NOSIGNAL) < 0);
    local_sent(door.local, connection, 0);
    assert_int_equal(open_files(), files);
    assert_int_equal(local_seal(door.local, connection, ANSWER).len, 0);
    local_look_held(door.local, connection);
    local_let_go(door.local, connection, false);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_in_step), TEST(test_let_go), TEST(test_late),   TEST(test_out_of_step),
        TEST(test_gone),    TEST(test_deaf),   TEST(test_sealed), TEST(test_gone_sealed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
