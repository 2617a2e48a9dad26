// SPDX-License-Identifier: Apache-2.0
// Who gets a place, and whose turn it is. One thread plays both sides.
#include "hsmd/server/queue.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define JOBS 12

static struct queue *queue;

static int setup(void **state)
{
    (void)state;
    return queue_new(JOBS, 2, 1024, 1024, &queue, NULL) == ERR_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    queue_free(queue);
    return 0;
}

// Clients are a letter.
static struct job *push(unsigned lane, char client)
{
    char peer[REGISTRY_PUBLIC_KEY_SIZE] = {client};
    struct job *job = queue_take(queue, lane, peer);
    if (job)
        queue_push(queue, job, true);
    return job;
}

static unsigned push_all(unsigned lane, char client)
{
    unsigned count = 0;
    while (push(lane, client))
        count++;
    return count;
}

static void assert_turns(unsigned lane, const char *clients)
{
    for (; *clients; clients++) {
        struct job *job = queue_pop(queue, lane, false, NULL);
        assert_int_equal(job->peer[0], *clients);
        queue_release(queue, job);
    }
}

static void test_turns(void **state)
{
    (void)state;
    for (const char *client = "aaaabcab"; *client; client++)
        assert_non_null(push(0, *client));
    assert_turns(0, "abcabaaa");
    assert_non_null(push(0, 'c')); // the queue is as good as new
    assert_turns(0, "c");
}

// b comes after a has taken all it gets: its first job is next but one.
static void test_flood(void **state)
{
    (void)state;
    assert_int_equal(push_all(0, 'a'), JOBS / 2);
    assert_int_equal(push_all(0, 'b'), JOBS / 4);
    assert_non_null(push(0, 'c'));
    assert_turns(0, "abcabab");
    assert_turns(0, "aaa");
}

// The share is of each lane: who waits for one token has places for another.
static void test_shares_of_lanes(void **state)
{
    (void)state;
    assert_int_equal(push_all(0, 'a'), JOBS / 2);
    assert_null(push(0, 'a'));
    assert_non_null(push(1, 'a'));
    assert_turns(1, "a");
    struct job *job = queue_pop(queue, 0, false, NULL);
    assert_null(push(0, 'a')); // at work counts
    queue_release(queue, job);
    assert_non_null(push(0, 'a'));
    assert_turns(0, "aaaaaa");
}

static void test_withdraw(void **state)
{
    (void)state;
    struct job *a = push(0, 'a');
    struct job *b = push(0, 'b');
    struct job *last = push(0, 'c');
    assert_true(queue_withdraw(queue, b)); // from between
    queue_release(queue, b);
    assert_true(queue_withdraw(queue, last)); // from the end
    queue_release(queue, last);
    assert_non_null(push(0, 'd'));
    assert_ptr_equal(queue_pop(queue, 0, false, NULL), a);
    assert_false(queue_withdraw(queue, a)); // at work
    queue_finish(queue, a);
    assert_false(queue_withdraw(queue, a)); // done
    assert_ptr_equal(queue_collect(queue), a);
    queue_release(queue, a);
    assert_turns(0, "d");
    assert_int_equal(push_all(0, 'a'), JOBS / 2); // and no place is lost
    assert_turns(0, "aaaaaa");
}

static void test_stop(void **state)
{
    (void)state;
    assert_non_null(push(1, 'a'));
    queue_stop(queue);
    assert_null(queue_pop(queue, 0, false, NULL));
    assert_null(queue_pop(queue, 1, false, NULL));
}

static bool is_called(void)
{
    struct pollfd fd = {.fd = queue_scout_fd(queue), .events = POLLIN};
    return poll(&fd, 1, 0) == 1;
}

// Who would rather watch the socket than wait is told to, unless there is work; and is called for
// work of its own lane only.
static void test_scout(void **state)
{
    (void)state;
    bool is_scout = true;
    assert_null(queue_pop(queue, 1, false, &is_scout));
    assert_true(is_scout);
    struct job *other = push(0, 'a');
    assert_false(is_called());
    struct job *mine = push(1, 'a');
    assert_true(is_called());
    queue_end_scout(queue);
    assert_false(is_called());
    assert_ptr_equal(queue_pop(queue, 1, false, &is_scout), mine);
    assert_false(is_scout);
    is_scout = true;
    assert_ptr_equal(queue_pop(queue, 0, false, &is_scout), other);
    assert_false(is_scout);
    assert_false(queue_has_done(queue));
    queue_finish(queue, mine);
    queue_finish(queue, other);
    assert_true(queue_has_done(queue));
    assert_ptr_equal(queue_collect(queue), mine);
    queue_release(queue, mine);
    queue_release(queue, other);
    assert_false(queue_has_done(queue));
    is_scout = true;
    assert_null(queue_pop(queue, 0, false, &is_scout)); // the place is free again
    assert_true(is_scout);
    queue_stop(queue);
    assert_true(is_called());
}

static void *be_home(void *scouts)
{
    bool *is_scout = scouts;
    return queue_pop(queue, 0, true, is_scout);
}

// Scouts until the home worker is there to do it.
static void *be_other(void *argument)
{
    struct job *job = NULL;
    (void)argument;
    for (bool is_scout = true; is_scout;) {
        job = queue_pop(queue, 0, false, &is_scout);
        if (is_scout)
            queue_end_scout(queue);
    }
    return job;
}

// The home worker scouts, though it did not ask for it, if it has nothing to do; the others wait
// for what is too much for it.
static void test_home(void **state)
{
    pthread_t home;
    pthread_t other;
    bool is_scout = false;
    void *job = NULL;
    (void)state;
    assert_int_equal(pthread_create(&home, NULL, be_home, &is_scout), 0);
    assert_int_equal(pthread_create(&other, NULL, be_other, NULL), 0);
    assert_int_equal(pthread_join(home, &job), 0);
    assert_null(job);
    assert_true(is_scout);
    struct job *pushed = push(0, 'a');
    assert_int_equal(pthread_join(other, &job), 0);
    assert_ptr_equal(job, pushed);
    queue_release(queue, pushed);
    queue_end_scout(queue);
}

static const void *watched;
static bool is_wiped;

// In place of the C library's: says what was wiped, which nobody may look at once it is freed.
void explicit_bzero(void *data, size_t len)
{
    memset(data, 0, len);
    __asm__ volatile("" : : "r"(data) : "memory");
    is_wiped = is_wiped || (data == watched && len >= 4);
}

// What waits at the stop may have a PIN in it.
static void test_wiped(void **state)
{
    (void)state;
    struct queue *other = NULL;
    char peer[REGISTRY_PUBLIC_KEY_SIZE] = "a";
    assert_int_equal(queue_new(1, 2, 1024, 1024, &other, NULL), ERR_OK);
    struct job *job = queue_take(other, 1, peer);
    assert_int_equal(buf_put_text(&job->frame, "1234"), ERR_OK);
    watched = job->frame.data;
    is_wiped = false;
    queue_push(other, job, true);
    queue_free(other);
    assert_true(is_wiped);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_turns),    TEST(test_flood), TEST(test_shares_of_lanes),
        TEST(test_withdraw), TEST(test_stop),  TEST(test_scout),
        TEST(test_home),     TEST(test_wiped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
