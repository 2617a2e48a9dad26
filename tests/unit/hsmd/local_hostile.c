// SPDX-License-Identifier: Apache-2.0
// The door for peers on this machine, to whoever means it ill: strangers who take up room and time,
// clients who send without end or do not read; and no room for more.
#include "tests/unit/hsmd/local_support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/server/denials.h"

#define OUTPUT_MAX (1 << 20)
#define OUTPUT_ALL (1 << 25)
#define SOCKET_BUFFER (1 << 19) // more than the kernel takes of one who does not read
#define READ_SIZE 16384
#define QUESTION_SIZE 39 // "and?" in its frame

// All that it has been sent and has not read: whole, in order, from the first. How many.
static unsigned drain(struct peer *peer)
{
    char number[16];
    unsigned count = 0;
    for (unsigned quiet = 0; quiet < 50; quiet++) {
        bool is_there;
        door_look();
        peer_read(peer);
        buf_reset(&peer->received);
        assert_int_equal(zmtp_receive(peer->zmtp, &peer->received, &is_there), ERR_OK);
        if (!is_there)
            continue;
        snprintf(number, sizeof number, "%u ", count++);
        assert_memory_equal(peer->received.data, number, strlen(number));
        quiet = 0;
    }
    return count;
}

// It is sent so much and no more, nothing is read from it meanwhile, and others are served; when it
// reads, it goes on.
static void test_deaf(void **state)
{
    (void)state;
    struct arrival arrival;
    struct peer deaf;
    struct peer other;
    peer_enter(&other);
    peer_enter(&deaf);
    arrival_init(&arrival);
    unsigned answers = peer_fill(&deaf);
    peer_ask(&other);
    assert_false(local_receive(door.local, &arrival));
    unsigned kept = drain(&deaf);
    assert_in_range(kept, OUTPUT_MAX / 60000, (OUTPUT_MAX + SOCKET_BUFFER) / 60000 + 2);
    assert_in_range(answers, kept + 1, 2 * READ_SIZE / QUESTION_SIZE);
    for (unsigned i = 0; i < 2; i++) {
        peer_write(&deaf, 0);
        door_await(&arrival);
        assert_string_equal(buf_text(&arrival.frame), "and?"); // it is read again
        local_send(door.local, arrival.route.connection, BYTES_LITERAL("this"));
        peer_expect(&deaf, "this");
        peer_say(&deaf, "and?");
    }
    arrival_clear(&arrival);
    peer_leave(&deaf);
    peer_leave(&other);
}

// Many of them: there is a bound to what is kept for all. It is no matter to one who reads.
static void test_many_deaf(void **state)
{
    (void)state;
    struct peer deaf[2 * OUTPUT_ALL / OUTPUT_MAX];
    struct peer other;
    const unsigned count = sizeof deaf / sizeof *deaf;
    size_t kept = 0;
    peer_enter(&other);
    for (unsigned i = 0; i < count; i++) {
        peer_enter(&deaf[i]);
        (void)peer_fill(&deaf[i]);
    }
    peer_ask(&other);
    for (unsigned i = 0; i < count; i++)
        kept += 60000 * (size_t)drain(&deaf[i]);
    assert_in_range(kept, OUTPUT_ALL / 2, OUTPUT_ALL + count * (SOCKET_BUFFER + 60000));
    // Those that go leave their share.
    for (unsigned i = 0; i < count; i++) {
        (void)peer_fill(&deaf[i]);
        peer_leave(&deaf[i]);
    }
    peer_enter(&deaf[0]);
    (void)peer_fill(&deaf[0]);
    assert_true(drain(&deaf[0]) >= OUTPUT_MAX / 60000);
    peer_leave(&deaf[0]);
    peer_ask(&other);
    peer_leave(&other);
}

// Sent faster than it is received: it waits in the socket, not with us, and is no reason to end.
static void test_flood(void **state)
{
    (void)state;
    const unsigned messages = 20000;
    struct arrival arrival;
    struct peer peer;
    unsigned next = 0;
    char text[16];
    arrival_init(&arrival);
    peer_enter(&peer);
    for (unsigned i = 0; i < messages; i++) {
        snprintf(text, sizeof text, "%u", i);
        peer_say(&peer, text);
    }
    size_t all = zmtp_output(peer.zmtp).len;
    for (unsigned i = 0; i < 200; i++) {
        peer_write(&peer, 0);
        door_look();
    }
    assert_true(zmtp_output(peer.zmtp).len > all / 4);
    deadline_t until = deadline_in(WAIT_MS);
    while (next < messages) {
        assert_false(deadline_is_past(until));
        peer_write(&peer, 0);
        door_look();
        while (local_receive(door.local, &arrival)) {
            snprintf(text, sizeof text, "%u", next++);
            assert_string_equal(buf_text(&arrival.frame), text);
        }
    }
    peer_leave(&peer);
    arrival_clear(&arrival);
}

// Each is as far as to have us work for it. Who has come in already does not wait for them all.
static void test_handshakes_wait(void **state)
{
    (void)state;
    struct peer strangers[30];
    struct peer peer;
    struct arrival arrival;
    const unsigned count = sizeof strangers / sizeof *strangers;
    unsigned answered = 0;
    arrival_init(&arrival);
    peer_enter(&peer);
    for (unsigned i = 0; i < count; i++) {
        peer_connect(&strangers[i], &peer_keys);
        peer_write(&strangers[i], 0);
    }
    door_settle();
    assert_false(local_receive(door.local, &arrival));
    for (unsigned i = 0; i < count; i++) {
        peer_read(&strangers[i]);
        assert_int_equal(zmtp_state(strangers[i].zmtp), ZMTP_WELCOME);
        peer_write(&strangers[i], 0); // HELLO
    }
    peer_say(&peer, "question");
    peer_write(&peer, 0);
    door_look();
    assert_true(local_receive(door.local, &arrival));
    for (unsigned i = 0; i < count; i++) {
        peer_read(&strangers[i]);
        answered += zmtp_state(strangers[i].zmtp) > ZMTP_WELCOME;
    }
    assert_in_range(answered, 0, 10);
    // But their turn comes.
    deadline_t until = deadline_in(WAIT_MS);
    for (unsigned in = 0; in < count;) {
        in = 0;
        assert_false(deadline_is_past(until));
        door_look();
        for (unsigned i = 0; i < count; i++) {
            peer_write(&strangers[i], 0);
            peer_read(&strangers[i]);
            in += zmtp_state(strangers[i].zmtp) == ZMTP_READY;
        }
    }
    for (unsigned i = 0; i < count; i++)
        peer_leave(&strangers[i]);
    peer_leave(&peer);
    arrival_clear(&arrival);
}

// Strangers, more than there may be without a proof: there is room for who has one, and it is the
// oldest that go.
static void test_crowd(void **state)
{
    (void)state;
    int strangers[3 * DOOR_ENTERING];
    const unsigned count = sizeof strangers / sizeof *strangers;
    struct peer before;
    struct peer after;
    peer_enter(&before);
    unsigned files = open_files();
    for (unsigned i = 0; i < count; i++) {
        strangers[i] = raw_connect();
        door_settle();
    }
    assert_int_equal(open_files(), files + count + DOOR_ENTERING);
    peer_enter(&after);
    peer_ask(&after);
    peer_ask(&before);
    assert_true(raw_is_ended(strangers[0]));
    assert_true(raw_is_ended(strangers[count - DOOR_ENTERING - 1]));
    assert_true(recv(strangers[count - 1], &(char){0}, 1, MSG_DONTWAIT) < 0);
    assert_int_equal(door_times_said("no room"), 0);
    for (unsigned i = 0; i < count; i++)
        close(strangers[i]);
    peer_leave(&before);
    peer_leave(&after);
}

// A key of its own for each of many connections: the log has few of them, and how many more.
static void test_many_keys(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3 * DENIALS_REMEMBERED + 1; i++) {
        char public_key[CURVE_TEXT_SIZE];
        char secret_key[CURVE_TEXT_SIZE];
        const struct zmtp_keys keys = {peer_keys.server_key, public_key, secret_key};
        struct peer peer;
        if (i == 3 * DENIALS_REMEMBERED) {
            assert_int_equal(door_times_said("denied: unknown client"), DENIALS_REMEMBERED);
            clock_advance(60001);
        }
        peer_make_keys(public_key, secret_key);
        peer_connect(&peer, &keys);
        peer_await_end(&peer);
        assert_int_equal(zmtp_state(peer.zmtp), ZMTP_REFUSED);
        peer_leave(&peer);
    }
    assert_int_equal(door_times_said("unknown client; 32 more times, with other keys"), 1);
    assert_int_equal(door_times_said("denied: unknown client"), DENIALS_REMEMBERED + 1);
}

// The same of handshakes that fail, for users.
static void test_many_users(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3 * DENIALS_REMEMBERED + 1; i++) {
        door.pretended_user = 4711 + i;
        if (i == 3 * DENIALS_REMEMBERED) {
            assert_int_equal(door_times_said("handshake failed"), DENIALS_REMEMBERED);
            clock_advance(60001);
        }
        int fd = raw_connect();
        raw_write(fd, BYTES_LITERAL("GET / HTTP/1.1\r\n"));
        assert_true(raw_is_ended(fd));
        close(fd);
    }
    assert_int_equal(door_times_said("CURVE; 32 more times, by other users"), 1);
    assert_int_equal(door_times_said("handshake failed"), DENIALS_REMEMBERED + 1);
}

// Another user's: however many come, it keeps its place, and it is one of theirs that it takes.
static void test_crowd_of_another(void **state)
{
    (void)state;
    int strangers[3 * DOOR_ENTERING];
    const unsigned count = sizeof strangers / sizeof *strangers;
    struct peer peer;
    for (unsigned i = 0; i < count; i++) {
        door.pretended_user = i == DOOR_ENTERING ? 4711 : 4712;
        if (i == DOOR_ENTERING)
            peer_connect(&peer, &peer_keys);
        else
            strangers[i] = raw_connect();
        door_settle();
    }
    peer_await_entry(&peer);
    assert_true(raw_is_ended(strangers[0]));
    peer_ask(&peer);
    peer_leave(&peer);
    for (unsigned i = 0; i < count; i++) {
        if (i != DOOR_ENTERING)
            close(strangers[i]);
    }
}

// Two of them: it is the one with the larger crowd who gives way, not a third.
static void test_crowds_of_two(void **state)
{
    (void)state;
    int strangers[DOOR_ENTERING + 10];
    const unsigned count = sizeof strangers / sizeof *strangers;
    struct peer peer;
    door.pretended_user = 4711;
    peer_connect(&peer, &peer_keys);
    door_settle();
    for (unsigned i = 0; i < count; i++) {
        door.pretended_user = i < DOOR_ENTERING - 1 ? 4712 : 4713;
        strangers[i] = raw_connect();
        door_settle();
    }
    for (unsigned i = 0; i < 11; i++)
        assert_int_equal(recv(strangers[i], &(char){0}, 1, MSG_DONTWAIT), 0);
    for (unsigned i = 11; i < count; i++)
        assert_int_equal(recv(strangers[i], &(char){0}, 1, MSG_DONTWAIT), -1);
    peer_await_entry(&peer);
    peer_ask(&peer);
    peer_leave(&peer);
    for (unsigned i = 0; i < count; i++)
        close(strangers[i]);
}

static void limit_files(rlim_t count)
{
    struct rlimit files;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    files.rlim_cur = count;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
}

// The descriptors that there are are all that there may be. Returns how many there might be before.
static rlim_t use_up_files(void)
{
    struct rlimit files;
    int fd = dup(STDERR_FILENO);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    limit_files((rlim_t)fd);
    return files.rlim_cur;
}

// No descriptors: those who wait wait, those who are in are served; in a second it looks again, and
// in a minute it says so again.
static void test_full(void **state)
{
    (void)state;
    struct peer peer;
    int waiting[12];
    const unsigned count = sizeof waiting / sizeof *waiting;
    peer_enter(&peer);
    for (unsigned i = 0; i < count; i++)
        waiting[i] = raw_connect();
    unsigned before = open_files();
    for (unsigned times = 1; times <= 3; times++) { // it is no better a second later
        rlim_t most = use_up_files();
        door_settle();
        limit_files(most);
        assert_int_equal(door_times_said("no room for another connection"), times < 3 ? 1 : 2);
        assert_in_range(local_expire(door.local) - clock_ms(), 1, 1000);
        peer_ask(&peer);
        assert_int_equal(open_files(), before);
        clock_advance(times == 2 ? 60001 : 1001);
        (void)local_expire(door.local);
    }
    door_settle();
    assert_int_equal(open_files() - before, count);
    for (unsigned i = 0; i < count; i++)
        close(waiting[i]);
    peer_ask(&peer);
    peer_leave(&peer);
}

// The last descriptor is for who comes, not for a stranger; and it is not taken from one for
// nobody.
static void test_room_is_made(void **state)
{
    (void)state;
    int strangers[3];
    struct peer peer;
    for (unsigned i = 0; i < 3; i++) {
        strangers[i] = raw_connect();
        door_settle();
    }
    peer_connect(&peer, &peer_keys);
    rlim_t most = use_up_files();
    peer_await_entry(&peer);
    peer_ask(&peer);
    door_settle();
    limit_files(most);
    assert_true(raw_is_ended(strangers[0]));
    for (unsigned i = 1; i < 3; i++)
        assert_int_equal(recv(strangers[i], &(char){0}, 1, MSG_DONTWAIT), -1);
    assert_int_equal(door_times_said("no room"), 0);
    for (unsigned i = 0; i < 3; i++)
        close(strangers[i]);
    peer_leave(&peer);
}

// Nor is the last place.
static void test_places_are_made(void **state)
{
    (void)state;
    const unsigned count = DOOR_FILES - 64;
    struct peer *peers = calloc(count + 1, sizeof *peers);
    int strangers[3];
    for (unsigned i = 0; i < count - 3; i++)
        peer_enter(&peers[i]);
    for (unsigned i = 0; i < 3; i++) {
        strangers[i] = raw_connect();
        door_settle();
    }
    for (unsigned i = count - 3; i < count; i++) {
        peer_enter(&peers[i]);
        peer_ask(&peers[i]);
        assert_true(raw_is_ended(strangers[i - (count - 3)]));
    }
    assert_int_equal(door_times_said("no room"), 0);
    peer_connect(&peers[count], &peer_keys);
    door_settle();
    assert_int_equal(door_times_said("no room"), 1);
    for (unsigned i = 0; i <= count; i++)
        peer_leave(&peers[i]);
    for (unsigned i = 0; i < 3; i++)
        close(strangers[i]);
    free(peers);
}

// All places taken by those who have come in: as without descriptors; when one goes, one comes.
static void test_all_places(void **state)
{
    (void)state;
    const unsigned count = DOOR_FILES - 64;
    struct peer *peers = calloc(count + 1, sizeof *peers);
    for (unsigned i = 0; i < count; i++)
        peer_enter(&peers[i]);
    peer_connect(&peers[count], &peer_keys);
    peer_write(&peers[count], 0);
    door_settle();
    peer_read(&peers[count]);
    assert_int_equal(zmtp_state(peers[count].zmtp), ZMTP_GREETING);
    assert_false(peers[count].is_ended);
    assert_int_equal(door_times_said("no room"), 1);
    peer_ask(&peers[0]);
    peer_ask(&peers[count - 1]);
    peer_leave(&peers[7]);
    door_settle();
    clock_advance(1001);
    (void)local_expire(door.local);
    peer_await_entry(&peers[count]);
    peer_ask(&peers[count]);
    for (unsigned i = 0; i <= count; i++) {
        if (i != 7)
            peer_leave(&peers[i]);
    }
    free(peers);
}

// Here and away again, at each point of a handshake, a thousand times: nothing is left of them.
static void test_come_and_go(void **state)
{
    (void)state;
    struct arrival arrival;
    struct peer peer;
    arrival_init(&arrival);
    peer_enter(&peer);
    unsigned files = open_files();
    for (unsigned i = 0; i < 1000; i++) {
        struct peer hasty;
        peer_connect(&hasty, &peer_keys);
        for (unsigned step = 0; step < i % 6; step++) {
            peer_write(&hasty, i % 5 ? 0 : 33);
            door_look();
            assert_false(local_receive(door.local, &arrival));
            peer_read(&hasty);
        }
        peer_leave(&hasty);
    }
    door_settle();
    assert_false(local_receive(door.local, &arrival));
    door_settle();
    assert_int_equal(open_files(), files);
    peer_ask(&peer);
    peer_leave(&peer);
    arrival_clear(&arrival);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, door_setup, door_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_deaf),          TEST(test_many_deaf),
        TEST(test_flood),         TEST(test_handshakes_wait),
        TEST(test_many_keys),     TEST(test_many_users),
        TEST(test_crowd),         TEST(test_crowd_of_another),
        TEST(test_crowds_of_two), TEST(test_full),
        TEST(test_room_is_made),  TEST(test_places_are_made),
        TEST(test_all_places),    TEST(test_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
