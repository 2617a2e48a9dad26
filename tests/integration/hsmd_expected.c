// SPDX-License-Identifier: Apache-2.0
// Peers that ask as soon as they are answered are expected by the worker that has answered them:
// nobody else may suffer for it, nor they themselves when that worker hangs. And there is always
// somebody who watches. By each of the two doors.
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/server/server_internal.h"
#include "tests/integration/hsmd_doors.h"

static sem_t told;

// As one who waits for a disk.
static void wait_for_disk(void *context, const char *public_key)
{
    (void)context;
    (void)public_key;
    sem_wait(&told);
}

static int setup(void **state)
{
    (void)state;
    return doors_open(&(struct doors_conf){0});
}

// One worker, for RSA keys.
static int setup_alone(void **state)
{
    (void)state;
    return doors_open(&(struct doors_conf){.workers = 1, .lanes = 1});
}

// Threads have the processors of the one that makes them.
static int setup_crowded(void **state)
{
    (void)state;
    cpu_set_t all;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_getaffinity(0, sizeof all, &all);
    sched_setaffinity(0, sizeof one, &one);
    int status = doors_open(&(struct doors_conf){.lanes = 1});
    sched_setaffinity(0, sizeof all, &all);
    return status;
}

static int setup_slow_disk(void **state)
{
    (void)state;
    sem_init(&told, 0, 0);
    return doors_open(&(struct doors_conf){.timeout_ms = 60000, .tell_stranger = wait_for_disk});
}

static atomic_uint in_step;
static atomic_bool is_over;
static unsigned pause_us; // of one who asks in step

static void *call_in_step(void *argument)
{
    struct buf reply_frame;
    struct wire_reply reply;
    (void)argument;
    buf_init(&reply_frame, WIRE_FRAME_MAX);
    while (!atomic_load(&is_over)) {
        struct wire_request request = doors_sign_request(0);
        buf_reset(&reply_frame);
        if (client_call(doors.client, &request, &reply_frame, &reply, NULL) == ERR_OK)
            atomic_fetch_add(&in_step, 1);
        if (pause_us)
            usleep(pause_us);
    }
    buf_clear(&reply_frame);
    return NULL;
}

// One client asks as soon as it is answered, and so has the only worker for itself; but not when
// another one comes, nor for ever.
static void test_in_step(void **state)
{
    (void)state;
    pthread_t thread;
    struct peer other;
    unsigned waited = 0;
    doors_open_client(CUSTODIAN_ONE);
    doors_open_peer(&other, CUSTODIAN_ALL, NULL);
    atomic_store(&is_over, false);
    assert_int_equal(pthread_create(&thread, NULL, call_in_step, NULL), 0);
    for (uint64_t id = 1; id <= 20; id++) {
        unsigned before = atomic_load(&in_step);
        while (atomic_load(&in_step) < before + 10)
            usleep(1000);
        before = atomic_load(&in_step);
        struct wire_request request = doors_sign_request(id);
        doors_send(&other, &request);
        assert_int_equal(doors_receive_class(&other, id), ERR_OK);
        waited += atomic_load(&in_step) - before;
    }
    assert_in_range(waited, 0, 150); // one or two each is usual
    assert_int_equal(server_close(doors.server, NULL), ERR_OK);
    doors.server = NULL;
    atomic_store(&is_over, true);
    pthread_join(thread, NULL);
    peer_close(&other);
    client_close(doors.client);
}

static unsigned count_held(struct server *server)
{
    unsigned count = 0;
    pthread_mutex_lock(&server->lock);
    for (unsigned i = 0; i < server->worker_count; i++)
        count += server->workers[i].held != 0;
    pthread_mutex_unlock(&server->lock);
    return count;
}

// Workers that have but one processor among them: no two of them expect somebody at a time.
static void test_crowded(void **state)
{
    (void)state;
    pthread_t threads[2];
    unsigned held[DOORS_WORKERS + 1] = {0};
    doors_open_client(CUSTODIAN_ONE);
    atomic_store(&is_over, false);
    atomic_store(&in_step, 0);
    pause_us = LOCAL_PROMPT_US / 3;
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call_in_step, NULL), 0);
    deadline_t until = deadline_in(60000);
    while (atomic_load(&in_step) < 2000 && !deadline_is_past(until))
        held[count_held(doors.server)]++;
    assert_false(deadline_is_past(until));
    atomic_store(&is_over, true);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    pause_us = 0;
    assert_int_equal(held[1] > 0, doors.is_direct); // the other door has nobody who is expected
    assert_int_equal(held[2], 0);
    client_close(doors.client);
}

static enum err call(const char *key, enum wire_algorithm algorithm)
{
    struct wire_reply reply;
    struct wire_request request = doors_sign_request(0);
    request.sign.key = bytes_of_text(key);
    request.sign.algorithm = algorithm;
    return client_call(doors.client, &request, &doors.frame, &reply, NULL);
}

// The token that it has always asked hangs. It asks another, on the same connection.
static void test_hung(void **state)
{
    (void)state;
    const unsigned hung_ms = 4000;
    doors_open_client(CUSTODIAN_ALL);
    for (unsigned i = 0; i < 200; i++)
        assert_int_equal(call(DOORS_KEY, WIRE_RSA_PKCS1), ERR_OK);
    memstore_key_break(doors.custodian.stores[CUSTODIAN_RSA], ERR_OK, hung_ms);
    deadline_t start = clock_ms();
    assert_int_equal(call(DOORS_KEY, WIRE_RSA_PKCS1), ERR_TEMP);
    assert_int_equal(call("ec.smime-sign.enabled", WIRE_ECDSA), ERR_OK);
    assert_true(clock_ms() - start < hung_ms / 2);
    usleep(hung_ms * 1000); // it is well again
    memstore_key_break(doors.custodian.stores[CUSTODIAN_RSA], ERR_OK, 0);
    client_close(doors.client);
}

// Whoever is held up by what is told of a stranger, the others are served.
static void test_stranger(void **state)
{
    (void)state;
    struct peer peer;
    struct peer stranger;
    struct wire_request request = doors_sign_request(1);
    doors_open_peer(&peer, CUSTODIAN_ALL, NULL);
    doors_send(&peer, &request);
    assert_int_equal(doors_receive_class(&peer, 1), ERR_OK);
    doors_open_peer(&stranger, CUSTODIAN_STRANGER, NULL);
    assert_false(peer_is_admitted(&stranger));
    deadline_t start = clock_ms();
    for (unsigned i = 0; i < 20; i++) {
        doors_send(&peer, &request);
        assert_int_equal(doors_receive_class(&peer, 1), ERR_OK);
    }
    assert_true(clock_ms() - start < 3000); // and not when its handshake would have been too late
    for (unsigned i = 0; i < 10; i++)       // it may have tried more than once
        sem_post(&told);
    peer_close(&stranger);
    peer_close(&peer);
}

int main(void)
{
#define WITH(name, setup) cmocka_unit_test_setup_teardown(name, setup, doors_close)
    static const struct CMUnitTest tests[] = {
        WITH(test_in_step, setup_alone),
        WITH(test_crowded, setup_crowded),
        WITH(test_hung, setup),
        WITH(test_stranger, setup_slow_disk),
    };
    int failed = cmocka_run_group_tests_name("router", tests, NULL, NULL);
    doors.is_direct = true;
    return failed + cmocka_run_group_tests_name("local", tests, NULL, NULL);
}
