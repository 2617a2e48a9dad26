// SPDX-License-Identifier: Apache-2.0
// The door for peers on this machine, over real sockets: who comes in, what is read and written,
// and that it goes on whatever a peer does, and whatever runs out.
#include "tests/unit/hsmd/local_support.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/base/alloc.h"
#include "tests/support/zmtp_server.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

#define HANDSHAKE_MS 5000
#define QUIET_MS 60000

static void test_served(void **state)
{
    (void)state;
    struct arrival arrival;
    struct peer peer;
    arrival_init(&arrival);
    peer_enter(&peer);
    peer_say(&peer, "one");
    peer_say(&peer, "two");
    peer_say(&peer, ""); // has no reply, as it is given back
    peer_say(&peer, "three");
    peer_write(&peer, 0); // in one piece
    static const char *const texts[] = {"one", "two", "", "three", NULL};
    for (const char *const *text = texts; *text; text++) {
        door_await(&arrival);
        assert_string_equal(buf_text(&arrival.frame), *text);
        assert_string_equal(arrival.peer, peer_keys.public_key);
        local_send(door.local, arrival.route.connection, buf_bytes(&arrival.frame));
    }
    assert_false(local_receive(door.local, &arrival));
    peer_expect(&peer, "one");
    peer_expect(&peer, "two");
    peer_expect(&peer, "three");
    peer_leave(&peer);
    arrival_clear(&arrival);
}

// A byte at a time, from the first of the greeting on.
static void test_in_pieces(void **state)
{
    (void)state;
    struct arrival arrival;
    struct peer peer;
    arrival_init(&arrival);
    peer_connect(&peer, &peer_keys);
    peer_say(&peer, "a message in many pieces");
    deadline_t until = deadline_in(WAIT_MS);
    while (!local_receive(door.local, &arrival)) {
        assert_false(deadline_is_past(until));
        peer_write(&peer, 1);
        door_look();
        peer_read(&peer);
    }
    assert_string_equal(buf_text(&arrival.frame), "a message in many pieces");
    peer_leave(&peer);
    arrival_clear(&arrival);
}

// Told so, and the end; with who it was in the log, once a minute for each key.
static void test_refused(void **state)
{
    (void)state;
    char who[64];
    char public_keys[2][CURVE_TEXT_SIZE];
    snprintf(who, sizeof who, "process %d of user %u", (int)getpid(), (unsigned)getuid());
    for (unsigned i = 0; i < 2; i++) {
        char secret_key[CURVE_TEXT_SIZE];
        const struct zmtp_keys keys = {peer_keys.server_key, public_keys[i], secret_key};
        peer_make_keys(public_keys[i], secret_key);
        for (unsigned times = 0; times < 3; times++) {
            struct peer peer;
            peer_connect(&peer, &keys);
            peer_await_end(&peer);
            assert_int_equal(zmtp_state(peer.zmtp), ZMTP_REFUSED);
            peer_leave(&peer);
        }
    }
    assert_int_equal(door_times_said("denied: unknown client"), 2);
    assert_int_equal(door_times_said(who), 2);
    assert_int_equal(door_times_said(public_keys[0]), 1);
    assert_int_equal(door_times_said(public_keys[1]), 1);
    struct peer peer;
    char secret_key[CURVE_TEXT_SIZE];
    const struct zmtp_keys keys = {peer_keys.server_key, public_keys[0], secret_key};
    clock_advance(QUIET_MS);
    peer_make_keys(public_keys[0], secret_key);
    peer_connect(&peer, &keys);
    peer_await_end(&peer);
    peer_leave(&peer);
    assert_int_equal(door_times_said("denied: unknown client"), 3);
}

#define GREETING(major, mechanism) "\xff\0\0\0\0\0\0\0\1\x7f" major "\0" mechanism
#define CURVE GREETING("\3", "CURVE\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0") ZEROS(32)
#define ZEROS(count) ZEROS_##count
#define ZEROS_32 "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"

// What is no client of ours is the end of that connection, of no other.
static void test_garbage(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct bytes bytes;
    } rows[] = {
        {"HTTP", BYTES_LITERAL("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")},
        {"one byte", BYTES_LITERAL("\0")},
        {"TLS", BYTES_LITERAL("\x16\3\1\2\0\1\0\1\xfc\3\3")},
        {"an older ZMTP", BYTES_LITERAL(GREETING("\1", ""))},
        {"no CURVE", BYTES_LITERAL(GREETING("\3", "NULL\0"))},
        {"a message", BYTES_LITERAL(CURVE "\0\1x")},
        {"another command", BYTES_LITERAL(CURVE "\4\6\5READY")},
        {"a long command", BYTES_LITERAL(CURVE "\6\0\0\0\0\0\0\4\1")},
        {"an endless one", BYTES_LITERAL(CURVE "\6\xff\xff\xff\xff\xff\xff\xff\xff")},
        {"a short HELLO", BYTES_LITERAL(CURVE "\4\x08\5HELLO\1\0")},
    };
    struct peer peer;
    peer_enter(&peer);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int fd = raw_connect();
        raw_write(fd, rows[i].bytes);
        if (!raw_is_ended(fd))
            fail_msg("%s: the connection is still there", rows[i].name);
        close(fd);
        peer_ask(&peer);
    }
    peer_leave(&peer);
}

// The same from one who has come in.
static void test_bad_frames(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct bytes bytes;
    } rows[] = {
        {"a command", BYTES_LITERAL("\4\1x")},
        {"no box", BYTES_LITERAL("\0\1x")},
        {"a box that does not open", BYTES_LITERAL("\0\x28\7MESSAGE" ZEROS(32))},
        {"too long", BYTES_LITERAL("\2\0\0\0\0\0\1\x10\0")},
        {"endless", BYTES_LITERAL("\2\xff\xff\xff\xff\xff\xff\xff\xff")},
    };
    struct peer other;
    peer_enter(&other);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct peer peer;
        peer_enter(&peer);
        raw_write(peer.fd, rows[i].bytes);
        if (!raw_is_ended(peer.fd))
            fail_msg("%s: the connection is still there", rows[i].name);
        peer_leave(&peer);
        peer_ask(&other);
    }
    peer_leave(&other);
}

// Those that have come in are not asked for more.
static void test_handshake_ends(void **state)
{
    (void)state;
    struct peer peer;
    peer_enter(&peer);
    assert_true(local_expire(door.local) == UINT64_MAX);
    int silent = raw_connect();
    int half = raw_connect();
    raw_write(half, BYTES_LITERAL(GREETING("\3", "CUR")));
    door_settle();
    deadline_t due = local_expire(door.local);
    assert_in_range(due - clock_ms(), HANDSHAKE_MS / 2, HANDSHAKE_MS);
    clock_advance(HANDSHAKE_MS / 2);
    assert_true(local_expire(door.local) == due);
    clock_advance(HANDSHAKE_MS / 2 + 1);
    assert_true(local_expire(door.local) == UINT64_MAX);
    assert_true(raw_is_ended(silent));
    assert_true(raw_is_ended(half));
    close(silent);
    close(half);
    peer_ask(&peer);
    peer_leave(&peer);
}

// A line for each user and minute; none of those who go away, or come in.
static void test_failures_are_told(void **state)
{
    (void)state;
    static const struct zmtp_keys keys = {ZMTP_CLIENT_PUBLIC, ZMTP_CLIENT_PUBLIC,
                                          ZMTP_CLIENT_SECRET};
    struct peer peer;
    char who[64];
    snprintf(who, sizeof who, "address=\"process %d of user %u\"", (int)getpid(),
             (unsigned)getuid());
    int hasty = raw_connect();
    raw_write(hasty, BYTES_LITERAL(CURVE));
    door_settle();
    close(hasty);
    peer_enter(&peer);
    door_settle();
    assert_int_equal(door_times_said("event="), 0);
    for (unsigned i = 0; i < 3; i++) {
        int fd = raw_connect();
        raw_write(fd, BYTES_LITERAL("EHLO localhost\r\n"));
        assert_true(raw_is_ended(fd));
        close(fd);
    }
    assert_int_equal(door_times_said("err=\"handshake failed: not ZMTP 3 with CURVE\""), 1);
    assert_int_equal(door_times_said(who), 1);
    clock_advance(QUIET_MS);
    int silent = raw_connect();
    door_settle();
    clock_advance(HANDSHAKE_MS + 1);
    (void)local_expire(door.local);
    assert_true(raw_is_ended(silent));
    close(silent);
    assert_int_equal(door_times_said("err=\"handshake failed: timed out\""), 1);
    door.pretended_user = 4711; // who has a line of his own
    struct peer lost;
    peer_connect(&lost, &keys);
    peer_await_end(&lost);
    peer_leave(&lost);
    assert_int_equal(door_times_said("err=\"handshake failed: wrong server key\""), 1);
    assert_int_equal(door_times_said("of user 4711"), 1);
    clock_advance(QUIET_MS);
    raw_write(peer.fd, BYTES_LITERAL("\0\1x"));
    assert_true(raw_is_ended(peer.fd));
    assert_int_equal(door_times_said("err=\"cut off: it sent what is no message"), 1);
    assert_int_equal(door_times_said("event="), 4);
    peer_leave(&peer);
}

// Sends what the peer has to say with a descriptor.
static ssize_t write_with(struct peer *peer, int fd)
{
    struct bytes bytes = zmtp_output(peer->zmtp);
    struct iovec piece = {(void *)bytes.data, bytes.len};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof fd)];
    } control = {.header = {CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS}};
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    const struct msghdr message = {.msg_iov = &piece,
                                   .msg_iovlen = 1,
                                   .msg_control = &control,
                                   .msg_controllen = sizeof control};
    return sendmsg(peer->fd, &message, MSG_NOSIGNAL);
}

// They cannot be sent where the kernel knows how to refuse them; else it is the end, and they are
// closed.
static void test_descriptors(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct peer peer;
        int ends[2];
        door.is_old = i == 0;
        local_close(door.local);
        assert_int_equal(door_open_another(&door.local), ERR_OK);
        assert_int_equal(local_bind(door.local, door.path, NULL), ERR_OK);
        peer_enter(&peer);
        bool is_known = getsockopt(peer.fd, SOL_SOCKET, SO_PASSRIGHTS, &(int){0},
                                   &(socklen_t){sizeof(int)}) == 0;
        assert_int_equal(pipe(ends), 0);
        peer_say(&peer, "a message");
        ssize_t len = write_with(&peer, ends[1]);
        close(ends[1]);
        if (is_known && !door.is_old) {
            assert_true(len < 0 && errno == EPERM);
            peer_write(&peer, 0);
            peer_ask(&peer);
        } else {
            assert_int_equal(len, zmtp_output(peer.zmtp).len);
            assert_true(raw_is_ended(peer.fd));
        }
        assert_int_equal(read(ends[0], &(char){0}, 1), 0);
        close(ends[0]);
        peer_leave(&peer);
    }
}

// One has sent a hundred: the other is not behind them all.
static void test_turns(void **state)
{
    (void)state;
    struct arrival arrival;
    struct peer many;
    struct peer one;
    unsigned before = 0;
    arrival_init(&arrival);
    peer_enter(&many);
    peer_enter(&one);
    assert_false(local_receive(door.local, &arrival));
    for (unsigned i = 0; i < 100; i++)
        peer_say(&many, "many");
    peer_write(&many, 0);
    door_settle();
    peer_say(&one, "one");
    peer_write(&one, 0);
    door_settle();
    do {
        door_await(&arrival);
        before++;
    } while (strcmp(buf_text(&arrival.frame), "one") != 0);
    assert_in_range(before, 1, 2);
    while (++before <= 101)
        door_await(&arrival);
    assert_false(local_receive(door.local, &arrival));
    peer_leave(&many);
    peer_leave(&one);
    arrival_clear(&arrival);
}

// One connection's life. False: memory has run out in it.
static bool live(void)
{
    struct arrival arrival;
    struct peer peer;
    arrival_init(&arrival);
    bool ok = peer_try_connect(&peer);
    bool is_asked = false;
    for (unsigned i = 0; i < 20 && ok && !peer.is_ended; i++) {
        peer_write(&peer, 0);
        door_look();
        peer_read(&peer);
        ok = zmtp_state(peer.zmtp) <= ZMTP_READY;
        if (zmtp_state(peer.zmtp) == ZMTP_READY && !is_asked)
            is_asked = ok = zmtp_send(peer.zmtp, BYTES_LITERAL("question")) == ERR_OK;
        if (local_receive(door.local, &arrival))
            local_send(door.local, arrival.route.connection, BYTES_LITERAL("answer"));
    }
    ok = ok && peer_has(&peer, "answer");
    peer_leave(&peer);
    arrival_clear(&arrival);
    return ok;
}

static void test_out_of_memory(void **state)
{
    (void)state;
    unsigned bad = 0;
    unsigned good = 0;
    for (unsigned n = 1; good < 3; n++) {
        struct peer peer;
        mem_fail_at(n);
        bool ok = live();
        mem_fail_at(0);
        bad += !ok;
        good = ok ? good + 1 : 0;
        clock_advance(1001);
        (void)local_expire(door.local);
        peer_enter(&peer);
        peer_ask(&peer);
        peer_leave(&peer);
    }
    assert_true(bad > 10);
    door_settle();
    // Opening it.
    struct local *local = NULL;
    for (unsigned n = 1; !local; n++) {
        mem_fail_at(n);
        assert_true(door_open_another(&local) == ERR_OK || n < 10);
        mem_fail_at(0);
    }
    local_close(local);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, door_setup, door_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_served),
        TEST(test_in_pieces),
        TEST(test_refused),
        TEST(test_garbage),
        TEST(test_bad_frames),
        TEST(test_handshake_ends),
        TEST(test_failures_are_told),
        TEST(test_descriptors),
        TEST(test_turns),
        TEST(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
