// SPDX-License-Identifier: Apache-2.0
// Which worker holds the connection of a peer that asks again at once: the one that answers it,
// alone on its processor, and nobody else. The workers are played by one thread, in the order that
// is to be tried.
#include "tests/unit/hsmd/local_support.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "hsmd/server/server_internal.h"

#define FRAME_SIZE 65536
#define TIMEOUT_MS 1000
#define ELSEWHERE 4096 // a processor that nobody has

static struct server server;
static struct worker workers[2];
static unsigned outstanding[1];

static unsigned only_lane(void *context, const char *peer, struct bytes frame,
                          const unsigned *of_lanes)
{
    (void)context;
    (void)peer;
    (void)frame;
    (void)of_lanes;
    return 1;
}

static void refuse(void *context, struct bytes frame, enum err class, struct buf *reply)
{
    (void)context;
    (void)frame;
    (void)class;
    assert_int_equal(buf_put_bytes(reply, BYTES_LITERAL("refused")), ERR_OK);
}

static void log_refusal(void *context, const char *peer, struct bytes frame, enum err class,
                        const char *reason)
{
    (void)context;
    (void)peer;
    (void)frame;
    (void)class;
    (void)reason;
}

static int setup(void **state)
{
    int status = door_setup(state);
    server = (struct server){
        .handler = {.lane = only_lane, .refuse = refuse, .log_refusal = log_refusal},
        .reply_max = FRAME_SIZE,
        .timeout_ms = TIMEOUT_MS,
        .watch_ms = WATCH_MS,
        .lane_count = 2,
        .epoll = door.epoll,
        .wake = -1,
        .local = door.local,
        .outstanding = outstanding,
        .workers = workers,
        .worker_count = sizeof workers / sizeof *workers,
    };
    pthread_mutex_init(&server.lock, NULL);
    buf_init(&server.arrival.frame, FRAME_SIZE);
    for (unsigned i = 0; i < server.worker_count; i++)
        workers[i] = (struct worker){.server = &server, .lane = 1, .cpu = -1};
    outstanding[0] = 0;
    assert_int_equal(queue_new(8, 2, FRAME_SIZE, FRAME_SIZE, &server.queue, NULL), ERR_OK);
    return status;
}

static int teardown(void **state)
{
    queue_free(server.queue);
    buf_clear(&server.arrival.frame);
    pthread_mutex_destroy(&server.lock);
    return door_teardown(state);
}

static struct job *take(void)
{
    bool is_scout;
    struct job *job = queue_pop(server.queue, 1, &is_scout);
    assert_non_null(job);
    return job;
}

// What is left to do is done in a further turn, as its event says.
static void look(void)
{
    for (unsigned i = 0; i < 3; i++)
        exchange_turn(&server);
}

static void ask(struct peer *peer)
{
    peer_say(peer, "question");
    peer_write(peer, 0);
    look();
}

static void finish(struct worker *worker, struct job *job, const char *reply)
{
    assert_int_equal(buf_put_bytes(&job->reply, bytes_of_text(reply)), ERR_OK);
    exchange_finish(worker, job);
}

// It is known to ask again at once, and has done so; returns what it asks.
static struct job *enter_prompt(struct peer *peer)
{
    peer_enter(peer);
    for (unsigned i = 0; i < 2; i++) {
        ask(peer);
        finish(&workers[1], take(), "answer");
        peer_expect(peer, "answer");
        if (workers[1].held)
            exchange_give_up(&workers[1]);
    }
    workers[1].cpu = -1;
    ask(peer);
    return take();
}

static void test_own(void **state)
{
    (void)state;
    struct peer peer;
    struct job *job = enter_prompt(&peer);
    for (unsigned i = 0; i < 3; i++) {
        finish(&workers[0], job, "answer");
        assert_true(workers[0].held);
        peer_expect(&peer, "answer");
        peer_say(&peer, "question");
        peer_write(&peer, 0);
        look(); // nobody else is told
        exchange_enter(&workers[0], NULL, 0);
        assert_false(workers[0].held);
        job = take();
    }
    finish(&workers[0], job, "answer");
    exchange_give_up(&workers[0]);
    assert_false(workers[0].held);
    ask(&peer);
    finish(&workers[1], take(), "answer");
    peer_expect(&peer, "answer");
    exchange_give_up(&workers[1]);
    peer_leave(&peer);
}

static void test_crowded(void **state)
{
    (void)state;
    struct peer peer;
    cpu_set_t all;
    cpu_set_t one;
    int cpu = sched_getcpu();
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    struct job *job = enter_prompt(&peer);
    workers[1].cpu = cpu;
    finish(&workers[0], job, "answer");
    assert_false(workers[0].held);
    peer_expect(&peer, "answer");
    ask(&peer);
    workers[1].cpu = ELSEWHERE;
    finish(&workers[0], take(), "answer");
    assert_true(workers[0].held);
    peer_expect(&peer, "answer");
    exchange_give_up(&workers[0]);
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
    peer_leave(&peer);
}

// What one worker has done another sends; or it was too late, and refused: who did it does not hold
// the connection, whose next question may be with somebody already.
static void test_not_its_own(void **state)
{
    (void)state;
    for (unsigned is_late = 0; is_late < 2; is_late++) {
        struct peer peer;
        unsigned files = open_files();
        struct job *job = enter_prompt(&peer);
        if (is_late) {
            clock_advance(TIMEOUT_MS);
            look();
        } else {
            assert_int_equal(buf_put_bytes(&job->reply, BYTES_LITERAL("answer")), ERR_OK);
            queue_finish(server.queue, job);
            look();
        }
        peer_expect(&peer, is_late ? "refused" : "answer");
        ask(&peer);
        struct job *next = take();
        if (is_late)
            finish(&workers[0], job, "too late");
        else
            exchange_enter(&workers[0], NULL, 0);
        assert_false(workers[0].held);
        finish(&workers[1], next, "answer");
        assert_true(workers[1].held);
        peer_expect(&peer, "answer");
        peer_leave(&peer);
        look();
        assert_int_equal(open_files(), files + 1); // as long as it is held
        exchange_give_up(&workers[1]);
        look();
        assert_int_equal(open_files(), files);
        workers[0].cpu = workers[1].cpu = -1;
    }
}

// The peer of a request without a reply (of a client that is none any more) is not expected, and
// goes when it says no more.
static void test_empty(void **state)
{
    (void)state;
    struct peer peer;
    unsigned files = open_files();
    struct job *job = enter_prompt(&peer);
    exchange_finish(&workers[0], job);
    assert_false(workers[0].held);
    ask(&peer);
    finish(&workers[0], take(), "answer");
    assert_true(workers[0].held);
    exchange_give_up(&workers[0]);
    ask(&peer);
    assert_int_equal(shutdown(peer.fd, SHUT_WR), 0);
    look();
    exchange_finish(&workers[0], take());
    look();
    assert_int_equal(open_files(), files + 1); // the peer's own
    peer_leave(&peer);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_own),
        TEST(test_crowded),
        TEST(test_not_its_own),
        TEST(test_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
