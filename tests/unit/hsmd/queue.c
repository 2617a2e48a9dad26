// SPDX-License-Identifier: Apache-2.0
// Who gets a place, and whose turn it is. One thread plays both sides.
#include "hsmd/server/queue.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define JOBS 12

static struct queue *queue;

static int setup(void **state)
{
    (void)state;
    return queue_new(JOBS, 3, 1024, 1024, &queue, NULL) == ERR_OK ? 0 : -1;
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

static struct job *pop(unsigned lane)
{
    bool is_scout;
    struct job *job = queue_pop(queue, lane, &is_scout);
    assert_false(is_scout);
    return job;
}

static void assert_turns(unsigned lane, const char *clients)
{
    for (; *clients; clients++) {
        struct job *job = pop(lane);
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
    struct job *job = pop(0);
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
    assert_ptr_equal(pop(0), a);
    assert_false(queue_withdraw(queue, a)); // at work
    queue_finish(queue, a);
    assert_false(queue_withdraw(queue, a)); // done
    assert_ptr_equal(queue_collect(queue), a);
    queue_release(queue, a);
    assert_turns(0, "d");
    assert_int_equal(push_all(0, 'a'), JOBS / 2); // and no place is lost
    assert_turns(0, "aaaaaa");
}

// How often the scout has been called since the last time.
static unsigned calls(void)
{
    uint64_t count = 0;
    return read(queue_call_fd(queue), &count, sizeof count) > 0 ? (unsigned)count : 0;
}

static void scout(unsigned lane)
{
    bool is_scout;
    assert_null(queue_pop(queue, lane, &is_scout));
    assert_true(is_scout);
}

// There is one scout. It is called once, for work of its own lane.
static void test_scout(void **state)
{
    (void)state;
    assert_false(queue_has_scout(queue));
    assert_non_null(push(1, 'a'));
    assert_int_equal(calls(), 0); // nobody is there
    assert_turns(1, "a");
    scout(1);
    assert_true(queue_has_scout(queue));
    assert_non_null(push(0, 'a'));
    assert_true(queue_has_work(queue, 0));
    assert_false(queue_has_work(queue, 1));
    assert_non_null(push(2, 'a'));
    assert_int_equal(calls(), 0);
    for (int i = 0; i < 3; i++)
        assert_non_null(push(1, 'a'));
    assert_int_equal(calls(), 1); // it has not come yet
    queue_end_scout(queue);
    assert_false(queue_has_scout(queue));
    assert_turns(1, "aaa");
    assert_int_equal(calls(), 0); // nobody is left
    scout(1);
    char peer[REGISTRY_PUBLIC_KEY_SIZE] = "b";
    queue_push(queue, queue_take(queue, 1, peer), false); // for the one who pushes
    assert_int_equal(calls(), 0);
    queue_end_scout(queue);
    assert_turns(1, "b");
    assert_turns(2, "a");
    scout(2);
    assert_non_null(push(1, 'a'));
    assert_int_equal(calls(), 0);
    assert_non_null(push(2, 'a'));
    assert_int_equal(calls(), 1);
}

static void *sleep_for_scout(void *lane)
{
    scout(*(unsigned *)lane);
    return NULL;
}

// When there is no scout any more, and only then; of any lane but 0.
static void test_call_for_scout(void **state)
{
    (void)state;
    unsigned lane = 2;
    pthread_t thread;
    scout(1);
    assert_true(queue_call_for_scout(queue, 1)); // there is one, and nobody else
    assert_int_equal(pthread_create(&thread, NULL, sleep_for_scout, &lane), 0);
    usleep(20000);
    assert_true(queue_call_for_scout(queue, 1));
    usleep(20000);
    queue_end_scout(queue);
    assert_true(queue_call_for_scout(queue, 1)); // or it comes by itself, if it is late
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(queue_has_scout(queue));
    queue_end_scout(queue);
    assert_false(queue_call_for_scout(queue, 1));
}

static void *sleep_for_work(void *lane)
{
    return pop(*(unsigned *)lane);
}

// One scouts, of any lane but 0; the others sleep, and are called first.
static void test_sleepers(void **state)
{
    (void)state;
    static unsigned lanes[] = {0, 1};
    pthread_t threads[2];
    void *job;
    scout(1);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, sleep_for_work, &lanes[i]), 0);
    usleep(20000); // they sleep by now, or soon: it must be well in either case
    for (unsigned i = 0; i < 2; i++) {
        struct job *pushed = push(i, 'a');
        assert_int_equal(pthread_join(threads[i], &job), 0);
        assert_ptr_equal(job, pushed);
        queue_release(queue, job);
    }
}

static void test_done(void **state)
{
    (void)state;
    struct job *first = push(0, 'a');
    struct job *second = push(1, 'a');
    assert_false(queue_has_done(queue));
    assert_ptr_equal(pop(1), second);
    assert_ptr_equal(pop(0), first);
    queue_finish(queue, second);
    queue_finish(queue, first);
    assert_true(queue_has_done(queue));
    assert_ptr_equal(queue_collect(queue), second);
    queue_release(queue, second);
    queue_release(queue, first);
    assert_false(queue_has_done(queue));
}

static void test_stop(void **state)
{
    (void)state;
    scout(1);
    assert_non_null(push(1, 'a'));
    assert_int_equal(calls(), 1);
    queue_stop(queue);
    assert_int_equal(calls(), 1);
    queue_end_scout(queue);
    assert_null(pop(0));
    assert_null(pop(1));
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

// What a large request or reply took is not kept for the next one; what a small one took is.
static void test_memory(void **state)
{
    (void)state;
    static const uint8_t zeros[20000];
    static const struct {
        size_t size;
        bool is_kept;
    } rows[] = {{sizeof zeros, false}, {1000, true}};
    struct queue *other = NULL;
    char peer[REGISTRY_PUBLIC_KEY_SIZE] = "a";
    assert_int_equal(queue_new(1, 1, sizeof zeros, sizeof zeros, &other, NULL), ERR_OK);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct job *job = queue_take(other, 0, peer);
        assert_int_equal(buf_put(&job->frame, zeros, rows[i].size), ERR_OK);
        assert_int_equal(buf_put(&job->reply, zeros, rows[i].size), ERR_OK);
        queue_release(other, job);
        assert_ptr_equal(queue_take(other, 0, peer), job);
        assert_int_equal(job->frame.len + job->reply.len, 0);
        assert_int_equal(job->frame.data != NULL, rows[i].is_kept);
        assert_int_equal(job->reply.data != NULL, rows[i].is_kept);
        queue_release(other, job);
    }
    queue_free(other);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_turns),    TEST(test_flood),  TEST(test_shares_of_lanes),
        TEST(test_withdraw), TEST(test_scout),  TEST(test_call_for_scout),
        TEST(test_sleepers), TEST(test_done),   TEST(test_stop),
        TEST(test_wiped),    TEST(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
