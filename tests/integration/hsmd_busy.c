// SPDX-License-Identifier: Apache-2.0
// A server that is busy: one that is told to stop does so, whoever goes on asking; and one whose
// workers are all at work in a slow token still has somebody who looks at the doors. By each of the
// two doors.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/integration/hsmd_doors.h"
#include "tests/support/slowness.h"

#define PROMPT_MS (3000 * SLOWNESS) // for what waits for nobody
#define HAMMERS DOORS_WORKERS       // each is expected by a worker to ask again at once

static atomic_bool is_over;

static int setup_patient(void **state)
{
    (void)state;
    return doors_open(&(struct doors_conf){.timeout_ms = 60000});
}

// One worker, for RSA keys, and nobody else but those for light work.
static int setup_alone(void **state)
{
    (void)state;
    return doors_open(&(struct doors_conf){.timeout_ms = 60000, .workers = 1, .lanes = 1});
}

static int setup_alone_hasty(void **state)
{
    (void)state;
    return doors_open(&(struct doors_conf){.workers = 1, .lanes = 1});
}

static void hold(unsigned type, bool is_held)
{
    memstore_key_hold(doors.custodian.stores[type], is_held);
}

static void await_used(unsigned count)
{
    deadline_t until = deadline_in(PEER_WAIT_MS);
    while (memstore_used() < count) {
        assert_false(deadline_is_past(until));
        usleep(1000);
    }
}

// Asks again as soon as it is answered.
struct hammer {
    pthread_t thread;
    struct peer peer;
    atomic_uint good, refused;
};

static void *hammer(void *argument)
{
    struct hammer *self = argument;
    struct wire_request request = doors_sign_request(1);
    struct wire_reply reply;
    struct buf frame;
    buf_init(&frame, WIRE_FRAME_MAX);
    doors_send(&self->peer, &request);
    while (!atomic_load(&is_over)) {
        if (!peer_receive(&self->peer, 50, &frame))
            continue;
        if (wire_decode_reply(WIRE_SIGN, buf_bytes(&frame), &reply, NULL) == ERR_OK)
            atomic_fetch_add(reply.class == ERR_OK ? &self->good : &self->refused, 1);
        doors_send(&self->peer, &request);
    }
    buf_clear(&frame);
    return NULL;
}

struct closing {
    enum err err;
    atomic_bool is_done;
};

static void *close_server(void *argument)
{
    struct closing *closing = argument;
    closing->err = server_close(doors.server, NULL);
    atomic_store(&closing->is_done, true);
    return NULL;
}

static void await(const atomic_uint *count, unsigned more)
{
    unsigned target = atomic_load(count) + more;
    deadline_t until = deadline_in(PEER_WAIT_MS * SLOWNESS);
    while (atomic_load(count) < target && !deadline_is_past(until))
        usleep(1000);
}

// What is at work is waited for; those who go on asking meanwhile are told at once that nothing is
// done any more, and hold up nobody.
static void test_stop_amid_calls(void **state)
{
    (void)state;
    static struct hammer hammers[HAMMERS];
    struct closing closing = {0};
    struct peer slow;
    pthread_t closer;
    unsigned good[HAMMERS];
    bool is_any_refused = true;
    atomic_store(&is_over, false);
    doors_open_peer(&slow, CUSTODIAN_ALL, NULL);
    hold(CUSTODIAN_EC, true);
    unsigned before = memstore_used();
    struct wire_request request = doors_sign_request(77);
    request.sign.key = BYTES_LITERAL("ec.smime-sign.enabled");
    request.sign.algorithm = WIRE_ECDSA;
    doors_send(&slow, &request);
    await_used(before + 1);
    for (unsigned i = 0; i < HAMMERS; i++) {
        atomic_store(&hammers[i].good, 0);
        atomic_store(&hammers[i].refused, 0);
        doors_open_peer(&hammers[i].peer, CUSTODIAN_ALL, NULL);
        assert_int_equal(pthread_create(&hammers[i].thread, NULL, hammer, &hammers[i]), 0);
    }
    for (unsigned i = 0; i < HAMMERS; i++)
        await(&hammers[i].good, 20);
    assert_int_equal(pthread_create(&closer, NULL, close_server, &closing), 0);
    for (unsigned i = 0; i < HAMMERS; i++) {
        await(&hammers[i].refused, 1); // it stops
        good[i] = atomic_load(&hammers[i].good);
        await(&hammers[i].refused, 10);
        is_any_refused = is_any_refused && atomic_load(&hammers[i].refused) > 10 &&
                         good[i] == atomic_load(&hammers[i].good);
    }
    bool is_early = atomic_load(&closing.is_done);
    hold(CUSTODIAN_EC, false);
    for (deadline_t until = deadline_in(PROMPT_MS);
         !atomic_load(&closing.is_done) && !deadline_is_past(until);)
        usleep(1000);
    bool is_late = !atomic_load(&closing.is_done);
    atomic_store(&is_over, true);
    pthread_join(closer, NULL);
    doors.server = NULL;
    for (unsigned i = 0; i < HAMMERS; i++) {
        pthread_join(hammers[i].thread, NULL);
        peer_close(&hammers[i].peer);
    }
    assert_true(is_any_refused);
    assert_false(is_early);
    assert_false(is_late);
    assert_int_equal(closing.err, ERR_OK);
    assert_int_equal(doors_receive_class(&slow, 77), ERR_OK);
    peer_close(&slow);
}

// It needs no token.
static void ask_list(struct peer *peer, uint64_t id)
{
    struct wire_request list = {.operation = WIRE_LIST, .id = id};
    struct wire_reply reply;
    deadline_t start = clock_ms();
    doors_send(peer, &list);
    assert_true(peer_receive(peer, PEER_WAIT_MS, &doors.frame));
    assert_int_equal(wire_decode_reply(WIRE_LIST, buf_bytes(&doors.frame), &reply, NULL), ERR_OK);
    assert_int_equal(reply.class, ERR_OK);
    assert_true(clock_ms() - start < PROMPT_MS);
}

// The only worker of a token is in it: peers that are there are heard, new ones come in, what needs
// no token is answered, what is too much is refused, and all of it at once; the rest waits.
static void test_all_at_work(void **state)
{
    (void)state;
    struct peer busy;
    struct peer other;
    struct peer late;
    const unsigned share = SERVER_QUEUE_MAX / 2;
    unsigned before = memstore_used();
    doors_open_peer(&busy, CUSTODIAN_ALL, NULL);
    doors_open_peer(&other, CUSTODIAN_SIGNER, NULL);
    ask_list(&busy, 1);
    ask_list(&other, 2);
    hold(CUSTODIAN_RSA, true);
    struct wire_request request = doors_sign_request(3);
    doors_send(&busy, &request);
    await_used(before + 1);
    for (unsigned i = 0; i < 5; i++) {
        usleep(i == 4 ? 1000000 : 20000); // however long it has looked in vain
        ask_list(&other, 10 + i);
    }
    doors_open_peer(&late, CUSTODIAN_ALL, NULL);
    deadline_t start = clock_ms();
    assert_true(peer_is_admitted(&late));
    ask_list(&late, 20);
    for (uint64_t id = 100; id < 100 + share + 5; id++) {
        request = doors_sign_request(id);
        doors_send(&other, &request);
    }
    unsigned refused = 0;
    struct wire_reply reply;
    while (peer_receive(&other, PEER_QUIET_MS, &doors.frame)) {
        assert_int_equal(wire_decode_reply(WIRE_SIGN, buf_bytes(&doors.frame), &reply, NULL),
                         ERR_OK);
        assert_int_equal(reply.class, ERR_TEMP);
        refused++;
    }
    assert_in_range(refused, 5, 6); // one place less while another's is taken
    assert_true(clock_ms() - start < 2 * PROMPT_MS);
    assert_int_equal(memstore_used(), before + 1);
    hold(CUSTODIAN_RSA, false);
    assert_int_equal(doors_receive_class(&busy, 3), ERR_OK);
    for (unsigned i = refused; i < share + 5; i++) {
        assert_true(peer_receive(&other, PEER_WAIT_MS, &doors.frame));
        assert_int_equal(wire_decode_reply(WIRE_SIGN, buf_bytes(&doors.frame), &reply, NULL),
                         ERR_OK);
        assert_int_equal(reply.class, ERR_OK);
    }
    peer_close(&late);
    peer_close(&other);
    peer_close(&busy);
}

// A request that comes then has its deadline from when it came.
static void test_deadline_of_waiting(void **state)
{
    (void)state;
    struct peer busy;
    struct peer other;
    unsigned before = memstore_used();
    doors_open_peer(&busy, CUSTODIAN_ALL, NULL);
    doors_open_peer(&other, CUSTODIAN_SIGNER, NULL);
    ask_list(&other, 1);
    hold(CUSTODIAN_RSA, true);
    struct wire_request request = doors_sign_request(2);
    doors_send(&busy, &request);
    await_used(before + 1);
    assert_int_equal(doors_receive_class(&busy, 2), ERR_TEMP); // nothing is awaited any more
    for (uint64_t id = 3; id < 6; id++) {
        deadline_t start = clock_ms();
        request = doors_sign_request(id);
        doors_send(&other, &request);
        assert_int_equal(doors_receive_class(&other, id), ERR_TEMP);
        assert_in_range(clock_ms() - start, DOORS_TIMEOUT_MS - 1, DOORS_TIMEOUT_MS + PROMPT_MS);
    }
    assert_int_equal(memstore_used(), before + 1);
    hold(CUSTODIAN_RSA, false);
    request = doors_sign_request(9);
    doors_send(&other, &request);
    assert_int_equal(doors_receive_class(&other, 9), ERR_OK);
    peer_close(&other);
    peer_close(&busy);
}

int main(void)
{
#define WITH(name, setup) cmocka_unit_test_setup_teardown(name, setup, doors_close)
    static const struct CMUnitTest tests[] = {
        WITH(test_stop_amid_calls, setup_patient),
        WITH(test_all_at_work, setup_alone),
        WITH(test_deadline_of_waiting, setup_alone_hasty),
    };
    int failed = cmocka_run_group_tests_name("router", tests, NULL, NULL);
    doors.is_direct = true;
    return failed + cmocka_run_group_tests_name("local", tests, NULL, NULL);
}
