// SPDX-License-Identifier: Apache-2.0
// The door for peers on this machine: how connections end, by them or by us.
#include "tests/unit/hsmd/local_support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

// Its answer goes nowhere, least of all to whoever is in its place.
static void test_gone(void **state)
{
    (void)state;
    struct arrival arrival;
    struct peer peer;
    arrival_init(&arrival);
    peer_enter(&peer);
    peer_say(&peer, "question");
    peer_write(&peer, 0);
    door_await(&arrival);
    uint64_t gone = arrival.route.connection;
    peer_leave(&peer);
    local_send(door.local, gone, BYTES_LITERAL("not known to have gone"));
    door_settle();
    local_send(door.local, gone, BYTES_LITERAL("known to have gone"));
    peer_enter(&peer);
    peer_say(&peer, "another");
    peer_write(&peer, 0);
    door_await(&arrival);
    assert_int_equal((uint32_t)arrival.route.connection, (uint32_t)gone);
    assert_true(arrival.route.connection != gone);
    local_send(door.local, gone, BYTES_LITERAL("of the one before"));
    local_send(door.local, UINT64_MAX >> 1, BYTES_LITERAL("of nobody"));
    local_send(door.local, arrival.route.connection, BYTES_LITERAL("answer"));
    peer_expect(&peer, "answer");
    peer_leave(&peer);
    arrival_clear(&arrival);
}

// More than is read at once, and then the end, of one side at first or of both: nobody stays
// behind.
static void test_last_words(void **state)
{
    (void)state;
    struct arrival arrival;
    arrival_init(&arrival);
    for (unsigned messages = 0; messages < 1500; messages += 150) {
        struct peer peer;
        unsigned files = open_files();
        peer_enter(&peer);
        for (unsigned i = 0; i < messages; i++)
            peer_say(&peer, "some words");
        peer_write(&peer, 0);
        if (messages % 300) {
            assert_int_equal(shutdown(peer.fd, SHUT_WR), 0);
            door_settle();
        }
        peer_leave(&peer);
        deadline_t until = deadline_in(WAIT_MS);
        while (open_files() > files) {
            assert_false(deadline_is_past(until));
            door_look();
            (void)local_receive(door.local, &arrival);
        }
    }
    arrival_clear(&arrival);
}

#define QUESTIONS 8

// One that says no more: at once with its questions (shut_at 0), or when it is about to have this
// answer.
static void ask_and_shut(unsigned shut_at, const char *answer)
{
    struct arrival arrival;
    struct peer peer;
    arrival_init(&arrival);
    peer_enter(&peer);
    for (unsigned i = 0; i < QUESTIONS; i++)
        peer_say(&peer, "question");
    peer_write(&peer, 0);
    if (!shut_at)
        assert_int_equal(shutdown(peer.fd, SHUT_WR), 0);
    for (unsigned i = 0; i < QUESTIONS; i++)
        door_await(&arrival);
    assert_false(local_receive(door.local, &arrival));
    door_settle();
    for (unsigned i = 1; i <= QUESTIONS; i++) {
        if (i == shut_at)
            assert_int_equal(shutdown(peer.fd, SHUT_WR), 0);
        door_settle();
        local_send(door.local, arrival.route.connection, bytes_of_text(answer));
    }
    for (unsigned i = 0; i < QUESTIONS; i++)
        peer_expect(&peer, answer);
    assert_true(raw_is_ended(peer.fd));
    peer_leave(&peer);
    arrival_clear(&arrival);
}

// It has all its answers, however slowly it reads, and then the end: nobody waits for it to close
// its side for reading too.
static void test_last_questions(void **state)
{
    (void)state;
    static char large[60001]; // so many of those are more than there is room for
    memset(large, 'a', sizeof large - 1);
    for (unsigned shut_at = 0; shut_at <= QUESTIONS; shut_at++) {
        ask_and_shut(shut_at, "answer");
        ask_and_shut(shut_at, large);
    }
}

// The same with half a question, to which there is no answer.
static void test_half_a_question(void **state)
{
    (void)state;
    struct peer peer;
    peer_enter(&peer);
    peer_say(&peer, "question");
    peer_write(&peer, 10);
    assert_int_equal(shutdown(peer.fd, SHUT_WR), 0);
    assert_true(raw_is_ended(peer.fd));
    peer_leave(&peer);
}

// What one thread was told before it hung up is looked at after what another was told of it.
static void test_older_event(void **state)
{
    (void)state;
    struct arrival arrival;
    struct peer peer;
    struct epoll_event events[2];
    arrival_init(&arrival);
    unsigned files = open_files();
    peer_enter(&peer);
    assert_false(local_receive(door.local, &arrival));
    door_settle();
    peer_say(&peer, "some words");
    peer_write(&peer, 0);
    peer_leave(&peer);
    assert_int_equal(epoll_wait(door.epoll, events, 1, 0), 1);
    events[1] = (struct epoll_event){.events = EPOLLIN, .data = events[0].data};
    local_look(door.local, events, 2);
    assert_true(local_receive(door.local, &arrival));
    assert_false(local_receive(door.local, &arrival));
    door_settle();
    assert_int_equal(open_files(), files);
    arrival_clear(&arrival);
}

// Peers at every point of their lives, when the door is shut.
static void test_shut(void **state)
{
    (void)state;
    struct arrival arrival;
    struct peer greeted;
    struct peer idle;
    struct peer waiting;
    struct peer deaf;
    arrival_init(&arrival);
    int silent = raw_connect();
    peer_connect(&greeted, &peer_keys);
    peer_write(&greeted, 70);
    peer_enter(&idle);
    peer_enter(&deaf);
    peer_fill(&deaf);
    peer_enter(&waiting);
    peer_say(&waiting, "a message that nobody takes");
    peer_write(&waiting, 0);
    door_settle();
    int unaccepted = raw_connect();
    local_close(door.local);
    door.local = NULL;
    assert_true(raw_is_ended(silent));
    close(silent);
    close(unaccepted);
    peer_leave(&greeted);
    peer_leave(&idle);
    peer_leave(&waiting);
    peer_leave(&deaf);
    arrival_clear(&arrival);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, door_setup, door_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_gone),           TEST(test_last_words),
        TEST(test_last_questions), TEST(test_half_a_question),
        TEST(test_older_event),    TEST(test_shut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
