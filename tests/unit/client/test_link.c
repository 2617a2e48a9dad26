// SPDX-License-Identifier: Apache-2.0
// A link and a peer in a thread that misbehaves: what the link tells, and that it keeps its
// deadline without turning round and round.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "hostile.h"
#include "hsmd/client/link.h"

#define LONG_PATH                                        \
    "ipc:///a-path-of-more-than-a-hundred-bytes/"        \
    "01234567890123456789012345678901234567890123456789" \
    "0123456789012345678901234567890123456789"
#define PATIENCE_MS 20000 // of calls that are to end by themselves
#define SHORT_MS 300      // of those that are not

static struct link *open_link(const char *endpoint)
{
    const struct link_conf conf = {
        .endpoint = endpoint,
        .keys = {ZMTP_SERVER_PUBLIC, ZMTP_CLIENT_PUBLIC, ZMTP_CLIENT_SECRET},
        .frame_max = BIG};
    struct link *link = NULL;
    struct detail detail = {0};
    if (link_open(&conf, &link, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
    return link;
}

static uint64_t cpu_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

static void test_tells_how_it_ended(void **state)
{
    static const struct {
        const char *name;
        enum stage stage;
        enum act act;
        enum link_state tells;
    } rows[] = {
        {"accepts and waits", AT_ACCEPT, ACT_WAIT, LINK_CONNECTED},
        {"greets and waits", AT_GREETING, ACT_WAIT, LINK_CONNECTED},
        {"takes HELLO and waits", AT_HELLO, ACT_WAIT, LINK_CONNECTED},
        {"welcomes and waits", AT_WELCOME, ACT_WAIT, LINK_CONNECTED},
        {"takes INITIATE and waits", AT_INITIATE, ACT_WAIT, LINK_CONNECTED},
        {"is ready and waits", AT_READY, ACT_WAIT, LINK_READY},
        {"accepts and closes", AT_ACCEPT, ACT_CLOSE, LINK_UNTRUSTED},
        {"accepts and resets", AT_ACCEPT, ACT_RESET, LINK_UNTRUSTED},
        {"greets and closes", AT_GREETING, ACT_CLOSE, LINK_UNTRUSTED},
        {"greets and resets", AT_GREETING, ACT_RESET, LINK_UNTRUSTED},
        {"takes HELLO and closes", AT_HELLO, ACT_CLOSE, LINK_UNTRUSTED},
        {"welcomes and closes", AT_WELCOME, ACT_CLOSE, LINK_LOST},
        {"welcomes and resets", AT_WELCOME, ACT_RESET, LINK_LOST},
        {"takes INITIATE and closes", AT_INITIATE, ACT_CLOSE, LINK_LOST},
        {"is ready and closes", AT_READY, ACT_CLOSE, LINK_LOST},
        {"is ready and resets", AT_READY, ACT_RESET, LINK_LOST},
        {"cuts its message", AT_READY, ACT_PART, LINK_LOST},
        {"refuses", AT_WELCOME, ACT_REFUSE, LINK_REFUSED},
        {"refuses after ready", AT_READY, ACT_REFUSE, LINK_MALFORMED},
        {"fails", AT_WELCOME, ACT_FAIL, LINK_LOST},
        {"is no ZMTP server", AT_ACCEPT, ACT_GARBAGE, LINK_UNTRUSTED},
        {"says garbage after its greeting", AT_GREETING, ACT_GARBAGE, LINK_UNTRUSTED},
        {"says garbage after WELCOME", AT_WELCOME, ACT_GARBAGE, LINK_UNTRUSTED},
        {"says garbage when ready", AT_READY, ACT_GARBAGE, LINK_MALFORMED},
    };
    static const int families[] = {AF_UNIX, AF_INET};
    unsigned wrong = 0;
    (void)state;
    for (size_t i = 0; i < 2 * sizeof rows / sizeof *rows; i++) {
        struct peer peer;
        struct buf reply;
        size_t row = i / 2;
        assert_true(peer_start(&peer, rows[row].stage, rows[row].act, families[i % 2]));
        bool is_silent = rows[row].act == ACT_WAIT;
        struct link *link = open_link(peer.endpoint);
        deadline_t begin = clock_ms();
        uint64_t cpu = cpu_ms();
        buf_init(&reply, BIG);
        enum err err = link_send(link, BYTES_LITERAL("request"));
        if (err == ERR_OK)
            err = link_receive(link, deadline_in(is_silent ? SHORT_MS : PATIENCE_MS), &reply);
        uint64_t took = clock_ms() - begin;
        bool ok = err == ERR_TEMP && link->state == rows[row].tells && took < PATIENCE_MS / 2 &&
                  (!is_silent || took >= SHORT_MS) && cpu_ms() - cpu < SHORT_MS / 2 &&
                  link_is_alive(link) == is_silent;
        if (!ok)
            print_error("%s: class %s, state %u, after %u ms\n", rows[row].name, err_name(err),
                        link->state, (unsigned)took);
        wrong += !ok;
        buf_clear(&reply);
        link_close(link);
        peer_stop(&peer);
    }
    assert_int_equal(wrong, 0);
}

static void test_says_what_came_before_the_end(void **state)
{
    struct peer peer;
    struct buf reply;
    (void)state;
    assert_true(peer_start(&peer, AT_READY, ACT_ECHO_CLOSE, AF_UNIX));
    struct link *link = open_link(peer.endpoint);
    buf_init(&reply, BIG);
    assert_int_equal(link_send(link, BYTES_LITERAL("request")), ERR_OK);
    while (link->state != LINK_LOST)
        (void)link_is_alive(link);
    assert_int_equal(link_receive(link, deadline_in(PATIENCE_MS), &reply), ERR_OK);
    assert_true(bytes_equal(buf_bytes(&reply), BYTES_LITERAL("request")));
    assert_int_equal(link_receive(link, deadline_in(PATIENCE_MS), &reply), ERR_TEMP);
    assert_int_equal(link_send(link, BYTES_LITERAL("more")), ERR_TEMP);
    buf_clear(&reply);
    link_close(link);
    peer_stop(&peer);
}

static void exchange(struct link *link, size_t len)
{
    struct buf reply;
    uint8_t *data = malloc(len);
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(i * 7 + i / 251);
    buf_init(&reply, BIG);
    assert_int_equal(link_send(link, bytes_of(data, len)), ERR_OK);
    assert_int_equal(link_receive(link, deadline_in(PATIENCE_MS), &reply), ERR_OK);
    assert_int_equal(link->state, LINK_READY);
    assert_true(bytes_equal(buf_bytes(&reply), bytes_of(data, len)));
    buf_clear(&reply);
    free(data);
}

// More than the sockets hold, in both directions.
static void test_carries_big_frames(void **state)
{
    static const int families[] = {AF_UNIX, AF_INET, AF_INET6};
    (void)state;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        struct peer peer;
        if (!peer_start(&peer, AT_READY, ACT_ECHO, families[i])) {
            print_message("SKIPPED: no IPv6 here\n");
            assert_int_equal(families[i], AF_INET6);
            continue;
        }
        struct link *link = open_link(peer.endpoint);
        exchange(link, BIG);
        link_close(link);
        peer_stop(&peer);
    }
}

// The peer reads nothing of a big frame: to send it does not wait, to receive waits for its time.
static void test_waits_for_no_reader(void **state)
{
    struct peer peer;
    struct buf reply;
    uint8_t *data = calloc(1, BIG);
    (void)state;
    assert_true(peer_start(&peer, AT_READY, ACT_WAIT, AF_UNIX));
    struct link *link = open_link(peer.endpoint);
    buf_init(&reply, BIG);
    for (int i = 0; i < 2; i++) { // kept for the handshake's end, and then sent
        deadline_t begin = clock_ms();
        uint64_t cpu = cpu_ms();
        assert_int_equal(link_send(link, bytes_of(data, BIG)), ERR_OK);
        assert_int_equal(link_receive(link, deadline_in(SHORT_MS), &reply), ERR_TEMP);
        assert_int_equal(link->state, LINK_READY);
        assert_in_range(clock_ms() - begin, SHORT_MS, PATIENCE_MS / 2);
        assert_true(link_is_alive(link));
        assert_true(cpu_ms() - cpu < SHORT_MS * 3 / 4);
    }
    buf_clear(&reply);
    link_close(link);
    peer_stop(&peer);
    free(data);
}

static void ignore(int number)
{
    (void)number;
}

static void test_keeps_its_deadline_amid_signals(void **state)
{
    const struct itimerval often = {{0, 2000}, {0, 2000}};
    const struct itimerval never = {0};
    const struct sigaction action = {.sa_handler = ignore}; // no SA_RESTART
    struct peer peer;
    struct buf reply;
    (void)state;
    sigaction(SIGALRM, &action, NULL);
    buf_init(&reply, BIG);
    assert_true(peer_start(&peer, AT_READY, ACT_WAIT, AF_UNIX));
    struct link *link = open_link(peer.endpoint);
    setitimer(ITIMER_REAL, &often, NULL);
    deadline_t begin = clock_ms();
    assert_int_equal(link_receive(link, deadline_in(SHORT_MS), &reply), ERR_TEMP);
    assert_int_equal(link->state, LINK_READY);
    assert_in_range(clock_ms() - begin, SHORT_MS, PATIENCE_MS / 2);
    link_close(link);
    peer_stop(&peer);
    assert_true(peer_start(&peer, AT_READY, ACT_ECHO, AF_UNIX));
    link = open_link(peer.endpoint);
    exchange(link, BIG);
    setitimer(ITIMER_REAL, &never, NULL);
    link_close(link);
    peer_stop(&peer);
    buf_clear(&reply);
}

static void await_child(pid_t child)
{
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

// The child lets go, and the connection goes on.
static void test_child_abandons(void **state)
{
    struct peer peer;
    (void)state;
    assert_true(peer_start(&peer, AT_READY, ACT_ECHO, AF_UNIX));
    struct link *link = open_link(peer.endpoint);
    while (link->state != LINK_READY)
        assert_true(link_is_alive(link));
    pid_t child = fork();
    if (child == 0) {
        link_abandon(link);
        _exit(0);
    }
    await_child(child);
    exchange(link, 100);
    link_close(link);
    peer_stop(&peer);
}

// The parent closes, and the connection ends though a child still has the descriptor.
static void test_parent_closes(void **state)
{
    struct peer peer;
    int hold[2];
    char byte = 0;
    (void)state;
    assert_true(peer_start(&peer, AT_READY, ACT_ECHO, AF_UNIX));
    struct link *link = open_link(peer.endpoint);
    exchange(link, 100);
    int copy = dup(link->fd);
    assert_int_equal(pipe(hold), 0);
    pid_t child = fork();
    if (child == 0) {
        close(hold[1]);
        _exit(read(hold[0], &byte, 1) == 0 ? 0 : 1);
    }
    link_close(link);
    assert_int_equal(recv(copy, &byte, 1, 0), 0);
    close(copy);
    close(hold[1]);
    await_child(child);
    close(hold[0]);
    peer_stop(&peer);
}

static void test_refuses_what_is_no_endpoint(void **state)
{
    static const char *const bad[] = {
        "",
        "inproc://x",
        "tcp://",
        "tcp://localhost",
        "tcp://localhost:",
        "tcp://localhost:ssh",
        "tcp://localhost:0",
        "tcp://localhost:65536",
        "tcp://localhost:70000",
        "tcp://localhost:4294967376",
        "tcp://localhost:-1",
        "tcp://localhost:+80",
        "tcp://localhost:80x",
        "tcp://:80",
        "tcp://[]:80",
        "tcp://[::1]",
        "tcp://[::1:80",
        "tcp://::1:80",
        "tcp://[localhost]:80",
        "tcp://[127.0.0.1]:80",
        "ipc://",
        "ipc://relative",
        LONG_PATH,
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const struct link_conf conf = {
            .endpoint = bad[i],
            .keys = {ZMTP_SERVER_PUBLIC, ZMTP_CLIENT_PUBLIC, ZMTP_CLIENT_SECRET}};
        struct link *link = NULL;
        struct detail detail = {0};
        enum err err = link_open(&conf, &link, &detail);
        if (err != ERR_PERM || link || !strstr(detail.text, bad[i]))
            fail_msg("%s: class %s: %s", bad[i], err_name(err), detail.text);
    }
}

static void test_cannot_reach(void **state)
{
    // The second is a name that no resolver asks anybody about: a part of it is too long.
    static const char *const away[] = {
        "ipc:///nonexistent/socket",
        "tcp://a12345678901234567890123456789012345678901234567890123456789012345.invalid:80",
        NULL, // a port where nobody listens any more
    };
    struct peer peer;
    (void)state;
    assert_true(peer_start(&peer, AT_ACCEPT, ACT_CLOSE, AF_INET));
    struct link *link = open_link(peer.endpoint);
    while (link->state == LINK_CONNECTING)
        (void)link_is_alive(link);
    link_close(link);
    peer_stop(&peer);
    for (size_t i = 0; i < sizeof away / sizeof *away; i++) {
        struct buf reply;
        link = open_link(away[i] ? away[i] : peer.endpoint);
        buf_init(&reply, BIG);
        (void)link_send(link, BYTES_LITERAL("request"));
        assert_int_equal(link_receive(link, deadline_in(PATIENCE_MS), &reply), ERR_TEMP);
        assert_int_equal(link->state, LINK_UNREACHABLE);
        assert_false(link_is_alive(link));
        assert_int_equal(link_send(link, BYTES_LITERAL("request")), ERR_TEMP);
        link_close(link);
        buf_clear(&reply);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tells_how_it_ended),
        cmocka_unit_test(test_says_what_came_before_the_end),
        cmocka_unit_test(test_carries_big_frames),
        cmocka_unit_test(test_waits_for_no_reader),
        cmocka_unit_test(test_keeps_its_deadline_amid_signals),
        cmocka_unit_test(test_child_abandons),
        cmocka_unit_test(test_parent_closes),
        cmocka_unit_test(test_refuses_what_is_no_endpoint),
        cmocka_unit_test(test_cannot_reach),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
