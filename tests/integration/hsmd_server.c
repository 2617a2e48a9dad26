// SPDX-License-Identifier: Apache-2.0
// The server over real sockets, with keys in memory: whom it answers, what it answers when it
// cannot do the work, and that nobody waits for ever. All of it by each of the two doors.
#include "hsmd/server/server.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <zmq.h>

#include "hsmd/base/file.h"
#include "hsmd/base/log.h"
#include "hsmd/client/client.h"
#include "hsmd/core_handler.h"
#include "hsmd/server/zap.h"
#include "tests/integration/hsmd_peer.h"
#include "tests/support/custodian.h"

#define TIMEOUT_MS 600
#define WORKERS 2
#define KEY "rsa.smime-sign.enabled"

static bool is_direct; // the door of this run: local.h, or router.h
static struct custodian custodian;
static char server_public[41];
static char server_secret[41];
static char endpoint[128];
static const char *endpoints[] = {endpoint};
static struct server *server;
static struct buf attributes;
static struct buf frame;
static unsigned used_before;
static enum log_level log_level = LOG_LEVEL_ERROR;
static int kept_stderr;

// Operations that came to the store in this test.
static unsigned used(void)
{
    return memstore_used() - used_before;
}

static int setup_with(unsigned timeout_ms, unsigned worker_count, unsigned lane_count)
{
    struct secret key = {.data = (uint8_t *)server_secret, .len = 40, .room = 41};
    custodian_setup(&custodian);
    log_open("test", LOG_SINK_STDERR, log_level);
    used_before = memstore_used();
    buf_init(&attributes, 4096);
    buf_init(&frame, WIRE_FRAME_MAX);
    custodian_attributes(HASH_SHA256, &attributes);
    assert_int_equal(zmq_curve_keypair(server_public, server_secret), 0);
    snprintf(endpoint, sizeof endpoint, "ipc://%s/socket", custodian.dir);
    const unsigned workers[] = {worker_count, worker_count}; // RSA keys and the others
    const struct server_conf conf = {.domain = ZAP_DOMAIN_DATA,
                                     .endpoints = endpoints,
                                     .endpoint_count = 1,
                                     .mode = 0660,
                                     .server_key = &key,
                                     .handler = core_handler(&custodian.core),
                                     .workers = workers,
                                     .lane_count = lane_count,
                                     .light_workers = SERVER_LIGHT_WORKERS,
                                     .is_direct = is_direct,
                                     .timeout_ms = timeout_ms,
                                     .request_max = WIRE_FRAME_MAX,
                                     .reply_max = WIRE_FRAME_MAX};
    struct detail detail = {0};
    enum err err = server_open(&conf, &server, &detail);
    assert_string_equal(detail.text, "");
    return err == ERR_OK ? 0 : -1;
}

static int setup(void **state)
{
    (void)state;
    return setup_with(TIMEOUT_MS, WORKERS, 2);
}

// One worker, for RSA keys.
static int setup_alone(void **state)
{
    (void)state;
    return setup_with(TIMEOUT_MS, 1, 1);
}

// For a test in which no deadline shall pass.
static int setup_patient(void **state)
{
    (void)state;
    return setup_with(60000, WORKERS, 2);
}

static int teardown(void **state)
{
    (void)state;
    struct stat st;
    assert_int_equal(server_close(server, NULL), ERR_OK);
    assert_int_not_equal(stat(endpoint + 6, &st), 0);
    buf_clear(&attributes);
    buf_clear(&frame);
    custodian_teardown(&custodian);
    return 0;
}

static void open_peer(struct peer *peer, enum custodian_client client, const char *routing_id)
{
    peer_open(peer, &(struct peer_conf){endpoint, server_public, custodian.public_keys[client],
                                        custodian.secret_keys[client], routing_id});
}

static struct wire_request sign_request(uint64_t id)
{
    return (struct wire_request){.operation = WIRE_SIGN,
                                 .id = id,
                                 .sign = {.key = BYTES_LITERAL(KEY),
                                          .algorithm = WIRE_RSA_PKCS1,
                                          .hash = HASH_SHA256,
                                          .form = WIRE_ATTRIBUTES,
                                          .data = buf_bytes(&attributes)}};
}

static void send_request(struct peer *peer, const struct wire_request *request)
{
    struct buf encoded;
    buf_init(&encoded, WIRE_FRAME_MAX);
    assert_int_equal(wire_encode_request(request, &encoded), ERR_OK);
    peer_send(peer, buf_bytes(&encoded), false);
    buf_clear(&encoded);
}

// The class of the next reply; its id must be this.
static enum err receive_class(struct peer *peer, uint64_t id)
{
    struct wire_reply reply;
    assert_true(peer_receive(peer, PEER_WAIT_MS, &frame));
    assert_int_equal(wire_decode_reply(WIRE_SIGN, buf_bytes(&frame), &reply, NULL), ERR_OK);
    assert_int_equal(reply.id, id);
    return reply.class;
}

// Drops replies until one refuses a request.
static void wait_refused(struct peer *peer)
{
    struct wire_reply reply = {0};
    while (reply.class != ERR_TEMP) {
        assert_true(peer_receive(peer, PEER_WAIT_MS, &frame));
        assert_int_equal(wire_decode_reply(WIRE_SIGN, buf_bytes(&frame), &reply, NULL), ERR_OK);
    }
}

static void test_modes(void **state)
{
    (void)state;
    struct stat st;
    assert_int_equal(stat(endpoint + 6, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0660);
}

static void test_strangers(void **state)
{
    (void)state;
    struct peer peer;
    struct wire_request request = sign_request(1);
    open_peer(&peer, CUSTODIAN_STRANGER, NULL);
    send_request(&peer, &request);
    assert_false(peer_is_admitted(&peer));
    assert_false(peer_receive(&peer, PEER_QUIET_MS, &frame));
    peer_close(&peer);
    // Known, but with a routing id of its own making: such a peer could take another's place.
    open_peer(&peer, CUSTODIAN_ALL, "another's");
    send_request(&peer, &request);
    assert_int_equal(peer_is_admitted(&peer), !is_direct); // libzmq has no way to refuse it
    assert_false(peer_receive(&peer, PEER_QUIET_MS, &frame));
    peer_close(&peer);
    assert_int_equal(used(), 0);
    open_peer(&peer, CUSTODIAN_ALL, NULL);
    send_request(&peer, &request);
    assert_int_equal(receive_class(&peer, 1), ERR_OK);
    peer_close(&peer);
}

static void test_malformed(void **state)
{
    (void)state;
    static const uint8_t junk[] = {0xdd, 0x0f, 0xff, 0xff, 0xff, 0x01};
    struct peer peer;
    struct wire_request request = sign_request(9);
    uint8_t *large = calloc(1, WIRE_FRAME_MAX + 100);
    open_peer(&peer, CUSTODIAN_ALL, NULL);
    peer_send(&peer, bytes_of(NULL, 0), false);
    assert_int_equal(receive_class(&peer, 0), ERR_PERM);
    peer_send(&peer, bytes_of(junk, sizeof junk), false);
    assert_int_equal(receive_class(&peer, 0), ERR_PERM);
    peer_send(&peer, bytes_of(large, WIRE_FRAME_MAX), false);
    assert_int_equal(receive_class(&peer, 0), ERR_PERM);
    for (int parts = 2; parts < 6; parts++) {
        for (int i = 1; i < parts; i++)
            peer_send(&peer, bytes_of(NULL, 0), true);
        send_request(&peer, &request);
        assert_int_equal(receive_class(&peer, 0), ERR_PERM);
    }
    send_request(&peer, &request);
    assert_int_equal(receive_class(&peer, 9), ERR_OK);
    assert_true(peer_is_admitted(&peer));
    // Over the limit is the end of the connection; hsmd goes on.
    peer_send(&peer, bytes_of(large, WIRE_FRAME_MAX + 100), false);
    assert_false(peer_is_admitted(&peer));
    peer_close(&peer);
    open_peer(&peer, CUSTODIAN_ALL, NULL);
    send_request(&peer, &request);
    assert_int_equal(receive_class(&peer, 9), ERR_OK);
    peer_close(&peer);
    free(large);
}

// The token hangs: the client has its answer at the deadline all the same, and what comes late from
// the worker is not sent as the answer to something else.
static void test_deadline(void **state)
{
    (void)state;
    struct peer peer;
    memstore_key_break(custodian.stores[CUSTODIAN_RSA], ERR_OK, 3 * TIMEOUT_MS);
    open_peer(&peer, CUSTODIAN_ALL, NULL);
    deadline_t start = clock_ms();
    for (uint64_t id = 1; id <= 3 * WORKERS; id++) {
        struct wire_request request = sign_request(id);
        send_request(&peer, &request);
    }
    for (uint64_t id = 1; id <= 3 * WORKERS; id++)
        assert_int_equal(receive_class(&peer, id), ERR_TEMP);
    assert_true(clock_ms() - start >= TIMEOUT_MS);
    // Long before the two that are in the token come back; the others are not begun any more.
    memstore_key_break(custodian.stores[CUSTODIAN_RSA], ERR_OK, 0);
    assert_false(peer_receive(&peer, 3 * TIMEOUT_MS, &frame));
    assert_int_equal(used(), WORKERS);
    struct wire_request request = sign_request(99);
    send_request(&peer, &request);
    assert_int_equal(receive_class(&peer, 99), ERR_OK);
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
    memstore_key_break(custodian.stores[CUSTODIAN_RSA], ERR_OK, 3000); // until all are sent
    open_peer(&peer, CUSTODIAN_ALL, NULL);
    for (uint64_t id = 1; id <= share + over; id++) {
        struct wire_request request = sign_request(id);
        send_request(&peer, &request);
    }
    for (uint64_t id = share + 1; id <= share + over; id++)
        assert_int_equal(receive_class(&peer, id), ERR_TEMP);
    memstore_key_break(custodian.stores[CUSTODIAN_RSA], ERR_OK, 0);
    for (unsigned i = 0; i < share; i++) {
        struct wire_reply reply;
        assert_true(peer_receive(&peer, PEER_WAIT_MS, &frame));
        assert_int_equal(wire_decode_reply(WIRE_SIGN, buf_bytes(&frame), &reply, NULL), ERR_OK);
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
    memstore_key_break(custodian.stores[CUSTODIAN_RSA], ERR_OK, slow_ms);
    open_peer(&flood, CUSTODIAN_ALL, NULL);
    open_peer(&other, CUSTODIAN_SIGNER, NULL);
    for (uint64_t id = 1; id <= SERVER_QUEUE_MAX; id++) {
        struct wire_request request = sign_request(id);
        send_request(&flood, &request);
    }
    wait_refused(&flood); // its share is taken
    unsigned before = used();
    struct wire_request request = sign_request(7);
    send_request(&other, &request);
    assert_int_equal(receive_class(&other, 7), ERR_OK);
    assert_true(used() - before < SERVER_QUEUE_MAX / 8);
    memstore_key_break(custodian.stores[CUSTODIAN_RSA], ERR_OK, 0);
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
    memstore_key_break(custodian.stores[CUSTODIAN_RSA], ERR_OK, 4000);
    open_peer(&peer, CUSTODIAN_ALL, NULL);
    open_peer(&other, CUSTODIAN_ALL, NULL);
    for (uint64_t id = 1; id <= 4 * WORKERS; id++) {
        struct wire_request request = sign_request(id);
        send_request(&peer, &request);
    }
    while (used() < WORKERS)
        usleep(1000);
    struct wire_request request = sign_request(50);
    request.sign.key = BYTES_LITERAL("ec.smime-sign.enabled");
    request.sign.algorithm = WIRE_ECDSA;
    send_request(&other, &request);
    assert_int_equal(receive_class(&other, 50), ERR_OK);
    struct wire_request list = {.operation = WIRE_LIST, .id = 51};
    struct wire_reply reply;
    send_request(&other, &list);
    assert_true(peer_receive(&other, PEER_WAIT_MS, &frame));
    assert_int_equal(wire_decode_reply(WIRE_LIST, buf_bytes(&frame), &reply, NULL), ERR_OK);
    request = sign_request(52); // no grant, no token
    request.sign.key = BYTES_LITERAL("nothing");
    send_request(&other, &request);
    assert_int_equal(receive_class(&other, 52), ERR_DENIED);
    assert_int_equal(used(), WORKERS + 1); // the hung ones still hang
    memstore_key_break(custodian.stores[CUSTODIAN_RSA], ERR_OK, 0);
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
    log_level = LOG_LEVEL_WARNING;
    int result = setup_with(TIMEOUT_MS, WORKERS, 2);
    log_level = LOG_LEVEL_ERROR;
    return result;
}

// Ends hsmd and gives its log.
static void stop_and_read_log(char *text, size_t size)
{
    assert_int_equal(server_close(server, NULL), ERR_OK);
    server = NULL;
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
    memstore_key_break(custodian.stores[CUSTODIAN_RSA], ERR_OK, 3 * TIMEOUT_MS);
    open_peer(&peer, CUSTODIAN_ALL, NULL);
    for (uint64_t id = 4000; id < 4000 + SERVER_QUEUE_MAX / 2 + over; id++) {
        struct wire_request request = sign_request(id);
        send_request(&peer, &request);
    }
    for (unsigned i = 0; i < SERVER_QUEUE_MAX / 2 + over; i++)
        assert_true(peer_receive(&peer, PEER_WAIT_MS, &frame));
    memstore_key_break(custodian.stores[CUSTODIAN_RSA], ERR_OK, 0);
    assert_false(peer_receive(&peer, 3 * TIMEOUT_MS, &frame)); // until nothing hangs any more
    stop_and_read_log(text, sizeof text);
    assert_non_null(strstr(text, "event=sign key=\"" KEY "\" peer=\"all\" algorithm=\"rsa-pkcs1\" "
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
    struct wire_request request = sign_request(3);
    open_peer(&before, CUSTODIAN_ALL, NULL);
    assert_true(peer_is_admitted(&before));
    server_end_zap(server);
    open_peer(&after, CUSTODIAN_ALL, NULL);
    assert_false(peer_is_admitted(&after));
    send_request(&before, &request);
    assert_int_equal(receive_class(&before, 3), ERR_OK);
    peer_close(&after);
    peer_close(&before);
}

#define CALLERS 8
#define CALLS 40

static struct client *shared_client;

static void *call_many(void *argument)
{
    struct buf reply_frame;
    struct wire_reply reply;
    unsigned *good = argument;
    buf_init(&reply_frame, WIRE_FRAME_MAX);
    for (unsigned i = 0; i < CALLS; i++) {
        struct wire_request request = sign_request(0);
        buf_reset(&reply_frame);
        if (client_call(shared_client, &request, &reply_frame, &reply, NULL) == ERR_OK &&
            reply.signature.len == 256)
            (*good)++;
    }
    buf_clear(&reply_frame);
    return NULL;
}

static void write_key(char *path, size_t size, const char *name, const char *key, unsigned mode)
{
    snprintf(path, size, "%s/%s", custodian.dir, name);
    assert_int_equal(file_write(path, bytes_of_text(key), mode, NULL), ERR_OK);
}

static void open_shared_client(void)
{
    char server_file[128];
    char public_file[128];
    char secret_file[128];
    write_key(server_file, sizeof server_file, "server.pub", server_public, 0644);
    write_key(public_file, sizeof public_file, "c.pub", custodian.public_keys[CUSTODIAN_ONE], 0644);
    write_key(secret_file, sizeof secret_file, "c.key", custodian.secret_keys[CUSTODIAN_ONE], 0400);
    const struct client_conf conf = {.endpoints = endpoint,
                                     .server_key_file = server_file,
                                     .public_key_file = public_file,
                                     .secret_key_file = secret_file};
    assert_int_equal(client_open(&conf, &shared_client, NULL), ERR_OK);
    unlink(server_file);
    unlink(public_file);
    unlink(secret_file);
}

// Our own client, many threads at once.
static void test_callers(void **state)
{
    (void)state;
    pthread_t threads[CALLERS];
    unsigned good[CALLERS] = {0};
    open_shared_client();
    for (unsigned i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call_many, &good[i]), 0);
    for (unsigned i = 0; i < CALLERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(good[i], CALLS);
    }
    client_close(shared_client);
}

static atomic_uint in_step;
static atomic_bool is_over;

static void *call_in_step(void *argument)
{
    struct buf reply_frame;
    struct wire_reply reply;
    (void)argument;
    buf_init(&reply_frame, WIRE_FRAME_MAX);
    while (!atomic_load(&is_over)) {
        struct wire_request request = sign_request(0);
        buf_reset(&reply_frame);
        if (client_call(shared_client, &request, &reply_frame, &reply, NULL) == ERR_OK)
            atomic_fetch_add(&in_step, 1);
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
    open_shared_client();
    open_peer(&other, CUSTODIAN_ALL, NULL);
    atomic_store(&is_over, false);
    assert_int_equal(pthread_create(&thread, NULL, call_in_step, NULL), 0);
    for (uint64_t id = 1; id <= 20; id++) {
        unsigned before = atomic_load(&in_step);
        while (atomic_load(&in_step) < before + 10)
            usleep(1000);
        before = atomic_load(&in_step);
        struct wire_request request = sign_request(id);
        send_request(&other, &request);
        assert_int_equal(receive_class(&other, id), ERR_OK);
        waited += atomic_load(&in_step) - before;
    }
    assert_in_range(waited, 0, 500); // one or two each is usual
    assert_int_equal(server_close(server, NULL), ERR_OK);
    server = NULL;
    atomic_store(&is_over, true);
    pthread_join(thread, NULL);
    peer_close(&other);
    client_close(shared_client);
}

// What is at work when hsmd stops is finished and answered.
static void test_drain(void **state)
{
    struct peer peer;
    memstore_key_break(custodian.stores[CUSTODIAN_RSA], ERR_OK, TIMEOUT_MS / 2);
    open_peer(&peer, CUSTODIAN_ALL, NULL);
    struct wire_request request = sign_request(8);
    send_request(&peer, &request);
    while (used() == 0)
        usleep(1000);
    assert_int_equal(server_close(server, NULL), ERR_OK);
    server = NULL;
    assert_int_equal(receive_class(&peer, 8), ERR_OK);
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
        WITH(test_in_step, setup_alone),
        WITH(test_refusals_logged, setup_logged),
        WITH(test_back_pressure, setup_patient),
        WITH(test_fair_turns, setup_patient),
        WITH(test_hung_token, setup_patient),
    };
    static const struct CMUnitTest router[] = {WITH(test_zap_dies, setup)};
    int failed = cmocka_run_group_tests_name("router", both, NULL, NULL);
    failed += cmocka_run_group_tests(router, NULL, NULL);
    is_direct = true;
    return failed + cmocka_run_group_tests_name("local", both, NULL, NULL);
}
