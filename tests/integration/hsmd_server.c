// SPDX-License-Identifier: Apache-2.0
// The server over real sockets, with keys in memory: whom it answers, what it answers when it
// cannot do the work, and that nobody waits for ever. All of it by each of the two doors.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/base/log.h"
#include "hsmd/server/zap.h"
#include "tests/integration/hsmd_doors.h"

static unsigned used_before;
static int kept_stderr;

// Operations that came to the store in this test.
static unsigned used(void)
{
    return memstore_used() - used_before;
}

static int setup_with(const struct doors_conf *conf)
{
    used_before = memstore_used();
    return doors_open(conf);
}

static int setup(void **state)
{
    (void)state;
    return setup_with(&(struct doors_conf){0});
}

// For a test in which no deadline shall pass.
static int setup_patient(void **state)
{
    (void)state;
    return setup_with(&(struct doors_conf){.timeout_ms = 60000});
}

static int teardown(void **state)
{
    struct stat st;
    int result = doors_close(state);
    assert_int_not_equal(stat(doors.endpoint + 6, &st), 0);
    return result;
}

// Drops replies until one refuses a request.
static void wait_refused(struct peer *peer)
{
    struct wire_reply reply = {0};
    while (reply.class != ERR_TEMP) {
        assert_true(peer_receive(peer, PEER_WAIT_MS, &doors.frame));
        assert_int_equal(wire_decode_reply(WIRE_SIGN, buf_bytes(&doors.frame), &reply, NULL),
                         ERR_OK);
    }
}

static void test_modes(void **state)
{
    (void)state;
    struct stat st;
    assert_int_equal(stat(doors.endpoint + 6, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0660);
}

static void test_strangers(void **state)
{
    (void)state;
    struct peer peer;
    struct wire_request request = doors_sign_request(1);
    doors_open_peer(&peer, CUSTODIAN_STRANGER, NULL);
    doors_send(&peer, &request);
    assert_false(peer_is_admitted(&peer));
    assert_false(peer_receive(&peer, PEER_QUIET_MS, &doors.frame));
    peer_close(&peer);
    // Known, but with a routing id of its own making: such a peer could take another's place.
    doors_open_peer(&peer, CUSTODIAN_ALL, "another's");
    doors_send(&peer, &request);
    assert_int_equal(peer_is_admitted(&peer), !doors.is_direct); // libzmq has no way to refuse it
    assert_false(peer_receive(&peer, PEER_QUIET_MS, &doors.frame));
    peer_close(&peer);
    assert_int_equal(used(), 0);
    doors_open_peer(&peer, CUSTODIAN_ALL, NULL);
    doors_send(&peer, &request);
    assert_int_equal(doors_receive_class(&peer, 1), ERR_OK);
    peer_close(&peer);
}

static void test_malformed(void **state)
{
    (void)state;
    static const uint8_t junk[] = {0xdd, 0x0f, 0xff, 0xff, 0xff, 0x01};
    struct peer peer;
    struct wire_request request = doors_sign_request(9);
    uint8_t *large = calloc(1, WIRE_FRAME_MAX + 100);
    doors_open_peer(&peer, CUSTODIAN_ALL, NULL);
    peer_send(&peer, bytes_of(NULL, 0), false);
    assert_int_equal(doors_receive_class(&peer, 0), ERR_PERM);
    peer_send(&peer, bytes_of(junk, sizeof junk), false);
    assert_int_equal(doors_receive_class(&peer, 0), ERR_PERM);
    peer_send(&peer, bytes_of(large, WIRE_FRAME_MAX), false);
    assert_int_equal(doors_receive_class(&peer, 0), ERR_PERM);
    for (int parts = 2; parts < 6; parts++) {
        for (int i = 1; i < parts; i++)
            peer_send(&peer, bytes_of(NULL, 0), true);
        doors_send(&peer, &request);
        assert_int_equal(doors_receive_class(&peer, 0), ERR_PERM);
    }
    doors_send(&peer, &request);
    assert_int_equal(doors_receive_class(&peer, 9), ERR_OK);
    assert_true(peer_is_admitted(&peer));
    // Over the limit is the end of the connection; hsmd goes on.
    peer_send(&peer, bytes_of(large, WIRE_FRAME_MAX + 100), false);
    assert_false(peer_is_admitted(&peer));
    peer_close(&peer);
    doors_open_peer(&peer, CUSTODIAN_ALL, NULL);
    doors_send(&peer, &request);
    assert_int_equal(doors_receive_class(&peer, 9), ERR_OK);
    peer_close(&peer);
    free(large);
}

// The token hangs: the client has its answer at the deadline all the same, and what comes late from
// the worker is not sent as the answer to something else.
static void test_deadline(void **state)
{
    (void)state;
    struct peer peer;
    memstore_key_break(doors.custodian.stores[CUSTODIAN_RSA], ERR_OK, 3 * DOORS_TIMEOUT_MS);
    doors_open_peer(&peer, CUSTODIAN_ALL, NULL);
    deadline_t start = clock_ms();
    for (uint64_t id = 1; id <= 3 * DOORS_WORKERS; id++) {
        struct wire_request request = doors_sign_request(id);
        doors_send(&peer, &request);
    }
    for (uint64_t id = 1; id <= 3 * DOORS_WORKERS; id++)
        assert_int_equal(doors_receive_class(&peer, id), ERR_TEMP);
    assert_true(clock_ms() - start >= DOORS_TIMEOUT_MS);
    // Long before the two that are in the token come back; the others are not begun any more.
    memstore_key_break(doors.custodian.stores[CUSTODIAN_RSA], ERR_OK, 0);
    assert_false(peer_receive(&peer, 3 * DOORS_TIMEOUT_MS, &doors.frame));
    assert_int_equal(used(), DOORS_WORKERS);
    struct wire_request request = doors_sign_request(99);
    doors_send(&peer, &request);
    assert_int_equal(doors_receive_class(&peer, 99), ERR_OK);
    peer_close(&peer);
}

// More than one client's share of the queue: those over it are refused at once, not at their
// deadline; the others are done.
static void test_back_pressure(void **state)
{
    (void)state;
    struct peer peer;
    const unsigned over = 50;
    const unsigned share = SERVER_QUEUE_MAX / 2;
    memstore_key_break(doors.custodian.stores[CUSTODIAN_RSA], ERR_OK, 3000); // until all are sent
    doors_open_peer(&peer, CUSTODIAN_ALL, NULL);
    for (uint64_t id = 1; id <= share + over; id++) {
        struct wire_request request = doors_sign_request(id);
        doors_send(&peer, &request);
    }
    for (uint64_t id = share + 1; id <= share + over; id++)
        assert_int_equal(doors_receive_class(&peer, id), ERR_TEMP);
    memstore_key_break(doors.custodian.stores[CUSTODIAN_RSA], ERR_OK, 0);
    for (unsigned i = 0; i < share; i++) {
        struct wire_reply reply;
        assert_true(peer_receive(&peer, PEER_WAIT_MS, &doors.frame));
        assert_int_equal(wire_decode_reply(WIRE_SIGN, buf_bytes(&doors.frame), &reply, NULL),
                         ERR_OK);
        assert_int_equal(reply.class, ERR_OK);
    }
    peer_close(&peer);
}

// One client floods: another one's request is done after a few, not after all of those.
static void test_fair_turns(void **state)
{
    (void)state;
    struct peer flood;
    struct peer other;
    const unsigned slow_ms = 50;
    memstore_key_break(doors.custodian.stores[CUSTODIAN_RSA], ERR_OK, slow_ms);
    doors_open_peer(&flood, CUSTODIAN_ALL, NULL);
    doors_open_peer(&other, CUSTODIAN_SIGNER, NULL);
    for (uint64_t id = 1; id <= SERVER_QUEUE_MAX; id++) {
        struct wire_request request = doors_sign_request(id);
        doors_send(&flood, &request);
    }
    wait_refused(&flood); // its share is taken
    unsigned before = used();
    struct wire_request request = doors_sign_request(7);
    doors_send(&other, &request);
    assert_int_equal(doors_receive_class(&other, 7), ERR_OK);
    assert_true(used() - before < SERVER_QUEUE_MAX / 8);
    memstore_key_break(doors.custodian.stores[CUSTODIAN_RSA], ERR_OK, 0);
    peer_close(&flood);
    peer_close(&other);
}

// One token hangs, with more requests than it has workers: the other token answers, and what needs
// none is answered too, even to the same client.
static void test_hung_token(void **state)
{
    (void)state;
    struct peer peer;
    struct peer other;
    memstore_key_break(doors.custodian.stores[CUSTODIAN_RSA], ERR_OK, 4000);
    doors_open_peer(&peer, CUSTODIAN_ALL, NULL);
    doors_open_peer(&other, CUSTODIAN_ALL, NULL);
    for (uint64_t id = 1; id <= 4 * DOORS_WORKERS; id++) {
        struct wire_request request = doors_sign_request(id);
        doors_send(&peer, &request);
    }
    while (used() < DOORS_WORKERS)
        usleep(1000);
    struct wire_request request = doors_sign_request(50);
    request.sign.key = BYTES_LITERAL("ec.smime-sign.enabled");
    request.sign.algorithm = WIRE_ECDSA;
    doors_send(&other, &request);
    assert_int_equal(doors_receive_class(&other, 50), ERR_OK);
    struct wire_request list = {.operation = WIRE_LIST, .id = 51};
    struct wire_reply reply;
    doors_send(&other, &list);
    assert_true(peer_receive(&other, PEER_WAIT_MS, &doors.frame));
    assert_int_equal(wire_decode_reply(WIRE_LIST, buf_bytes(&doors.frame), &reply, NULL), ERR_OK);
    request = doors_sign_request(52); // no grant, no token
    request.sign.key = BYTES_LITERAL("nothing");
    doors_send(&other, &request);
    assert_int_equal(doors_receive_class(&other, 52), ERR_DENIED);
    assert_int_equal(used(), DOORS_WORKERS + 1); // the hung ones still hang
    memstore_key_break(doors.custodian.stores[CUSTODIAN_RSA], ERR_OK, 0);
    peer_close(&peer);
    peer_close(&other);
}

// As setup, and what hsmd logs goes to a file: from before it has threads until it has none.
static int setup_logged(void **state)
{
    char path[] = "/tmp/hsmd-server-log-XXXXXX";
    (void)state;
    int fd = mkstemp(path);
    kept_stderr = dup(STDERR_FILENO);
    assert_true(kept_stderr >= 0 && fd >= 0);
    unlink(path);
    assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    close(fd);
    return setup_with(&(struct doors_conf){.log_level = LOG_LEVEL_WARNING});
}

// Ends hsmd and gives its log.
static void stop_and_read_log(char *text, size_t size)
{
    assert_int_equal(server_close(doors.server, NULL), ERR_OK);
    doors.server = NULL;
    ssize_t len = pread(STDERR_FILENO, text, size - 1, 0);
    dup2(kept_stderr, STDERR_FILENO);
    close(kept_stderr);
    assert_true(len >= 0);
    text[len] = 0;
}

// A request that never gets to a worker, or not in time, has its reason in the log all the same,
// with peer, key and id; a flood has few lines.
static void test_refusals_logged(void **state)
{
    (void)state;
    static char text[200000];
    struct peer peer;
    const unsigned over = 200;
    unsigned full = 0;
    memstore_key_break(doors.custodian.stores[CUSTODIAN_RSA], ERR_OK, 3 * DOORS_TIMEOUT_MS);
    doors_open_peer(&peer, CUSTODIAN_ALL, NULL);
    for (uint64_t id = 4000; id < 4000 + SERVER_QUEUE_MAX / 2 + over; id++) {
        struct wire_request request = doors_sign_request(id);
        doors_send(&peer, &request);
    }
    for (unsigned i = 0; i < SERVER_QUEUE_MAX / 2 + over; i++)
        assert_true(peer_receive(&peer, PEER_WAIT_MS, &doors.frame));
    memstore_key_break(doors.custodian.stores[CUSTODIAN_RSA], ERR_OK, 0);
    assert_false(
        peer_receive(&peer, 3 * DOORS_TIMEOUT_MS, &doors.frame)); // until nothing hangs any more
    stop_and_read_log(text, sizeof text);
    assert_non_null(strstr(text, "event=sign key=\"" DOORS_KEY "\" peer=\"all\" algorithm=\"rsa-pkcs1\" "
                                 "id=\"4005\" err=\"temp: not done at its deadline\""));
    for (const char *at = text; (at = strstr(at, "share of the queue")); at++)
        full++;
    assert_in_range(full, 1, over / 4);
    peer_close(&peer);
}

// A peer that is let in already stays, but new ones do not come in when the handler has died.
static void test_zap_dies(void **state)
{
    (void)state;
    struct peer before;
    struct peer after;
    struct wire_request request = doors_sign_request(3);
    doors_open_peer(&before, CUSTODIAN_ALL, NULL);
    assert_true(peer_is_admitted(&before));
    server_end_zap(doors.server);
    doors_open_peer(&after, CUSTODIAN_ALL, NULL);
    assert_false(peer_is_admitted(&after));
    doors_send(&before, &request);
    assert_int_equal(doors_receive_class(&before, 3), ERR_OK);
    peer_close(&after);
    peer_close(&before);
}

#define CALLERS 8
#define CALLS 40

static void *call_many(void *argument)
{
    struct buf reply_frame;
    struct wire_reply reply;
    unsigned *good = argument;
    buf_init(&reply_frame, WIRE_FRAME_MAX);
    for (unsigned i = 0; i < CALLS; i++) {
        struct wire_request request = doors_sign_request(0);
        buf_reset(&reply_frame);
        if (client_call(doors.client, &request, &reply_frame, &reply, NULL) == ERR_OK &&
            reply.signature.len == 256)
            (*good)++;
    }
    buf_clear(&reply_frame);
    return NULL;
}

// Our own client, many threads at once.
static void test_callers(void **state)
{
    (void)state;
    pthread_t threads[CALLERS];
    unsigned good[CALLERS] = {0};
    doors_open_client(CUSTODIAN_ONE);
    for (unsigned i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call_many, &good[i]), 0);
    for (unsigned i = 0; i < CALLERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(good[i], CALLS);
    }
    client_close(doors.client);
}

// What is at work when hsmd stops is finished and answered.
static void test_drain(void **state)
{
    struct peer peer;
    memstore_key_break(doors.custodian.stores[CUSTODIAN_RSA], ERR_OK, DOORS_TIMEOUT_MS / 2);
    doors_open_peer(&peer, CUSTODIAN_ALL, NULL);
    struct wire_request request = doors_sign_request(8);
    doors_send(&peer, &request);
    while (used() == 0)
        usleep(1000);
    assert_int_equal(server_close(doors.server, NULL), ERR_OK);
    doors.server = NULL;
    assert_int_equal(doors_receive_class(&peer, 8), ERR_OK);
    peer_close(&peer);
    (void)state;
}

int main(void)
{
#define WITH(name, setup) cmocka_unit_test_setup_teardown(name, setup, teardown)
    static const struct CMUnitTest both[] = {
        WITH(test_strangers, setup),
        WITH(test_modes, setup),
        WITH(test_malformed, setup),
        WITH(test_deadline, setup),
        WITH(test_callers, setup),
        WITH(test_drain, setup),
        WITH(test_refusals_logged, setup_logged),
        WITH(test_back_pressure, setup_patient),
        WITH(test_fair_turns, setup_patient),
        WITH(test_hung_token, setup_patient),
    };
    static const struct CMUnitTest router[] = {WITH(test_zap_dies, setup)};
    int failed = cmocka_run_group_tests_name("router", both, NULL, NULL);
    failed += cmocka_run_group_tests(router, NULL, NULL);
    doors.is_direct = true;
    return failed + cmocka_run_group_tests_name("local", both, NULL, NULL);
}
