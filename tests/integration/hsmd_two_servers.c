// SPDX-License-Identifier: Apache-2.0
// The data path and a second server beside it, as the officers' channel is: whoever belongs to one
// has no way into the other, whatever it swaps; limits, lanes and modes are each one's own; and
// what may hold secrets is wiped.
//
// The linker puts our zmq_msg_close and zmq_msg_recv in front of ZeroMQ's, to look at what the
// server gives back.
#include "hsmd/server/server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>
#include <zmq.h>

#include "hsmd/core_handler.h"
#include "hsmd/server/zap.h"
#include "tests/integration/hsmd_peer.h"
#include "tests/support/custodian.h"

#define TIMEOUT_MS 1000
#define REQUEST_MAX 100000
#define REPLY_MAX 300000
#define MARK "the PIN is 123456, in a frame that is not among the short ones"

static struct custodian custodian;
static struct server *data_server, *officers_server;
static char data_public[41], data_secret[41];
static char officers_public[41], officers_secret[41]; // of the server
static char officer_public[41], officer_secret[41];   // of an officer
static char data_endpoint[128], officers_endpoint[128];
static struct buf frame;
static atomic_uint seen_outstanding[2]; // by the last call of pick_lane
static atomic_uint workers_made, workers_freed, refused, logged;
static atomic_uint marks; // messages given back with MARK in them
static atomic_bool is_hung;

int __real_zmq_msg_close(zmq_msg_t *message);
int __real_zmq_msg_recv(zmq_msg_t *message, void *socket, int flags);
int __wrap_zmq_msg_close(zmq_msg_t *message);
int __wrap_zmq_msg_recv(zmq_msg_t *message, void *socket, int flags);

static void look_at(zmq_msg_t *message)
{
    if (zmq_msg_size(message) &&
        memmem(zmq_msg_data(message), zmq_msg_size(message), MARK, strlen(MARK)))
        atomic_fetch_add(&marks, 1);
}

int __wrap_zmq_msg_close(zmq_msg_t *message)
{
    look_at(message);
    return __real_zmq_msg_close(message);
}

int __wrap_zmq_msg_recv(zmq_msg_t *message, void *socket, int flags)
{
    look_at(message); // what was in it is given back
    return __real_zmq_msg_recv(message, socket, flags);
}

static bool is_officer(void *context, const char *public_key)
{
    return strcmp(public_key, context) == 0;
}

// "1..." goes to lane 1, "2..." to lane 2, all else is light.
static unsigned pick_lane(void *context, const char *peer, struct bytes request,
                          const unsigned *outstanding)
{
    (void)context;
    assert_string_equal(peer, officer_public);
    for (unsigned i = 0; i < 2; i++)
        atomic_store(&seen_outstanding[i], outstanding[i]);
    if (!request.len)
        return 0;
    return *request.data == '1' ? 1 : *request.data == '2' ? 2 : 0;
}

static enum err make_worker(void *context, unsigned lane, void **worker, struct detail *detail)
{
    (void)context;
    unsigned *made = malloc(sizeof *made);
    *made = lane;
    *worker = made;
    atomic_fetch_add(&workers_made, 1);
    return made ? ERR_OK : err_set(detail, ERR_TEMP, "out of memory");
}

static void free_worker(void *worker)
{
    free(worker);
    atomic_fetch_add(&workers_freed, 1);
}

// "big": a reply as large as there may be; "no": none; else the lane and the request's length.
static bool handle(void *context, void *worker, const char *peer, struct bytes request,
                   deadline_t deadline, struct buf *reply)
{
    static const uint8_t zeros[REPLY_MAX];
    (void)context;
    (void)peer;
    (void)deadline;
    while (atomic_load(&is_hung) && request.len && *request.data == '1')
        zmq_poll(NULL, 0, 5);
    if (bytes_equal(request, BYTES_LITERAL("no")))
        return false;
    if (bytes_equal(request, BYTES_LITERAL("big")))
        return buf_put(reply, zeros, sizeof zeros) == ERR_OK;
    return buf_printf(reply, "%u %zu", *(unsigned *)worker, request.len) == ERR_OK;
}

static void refuse(void *context, struct bytes request, enum err class, struct buf *reply)
{
    (void)context;
    (void)request;
    atomic_fetch_add(&refused, 1);
    (void)buf_printf(reply, "refused: %s", err_name(class));
}

static void log_refusal(void *context, const char *peer, struct bytes request, enum err class,
                        const char *reason)
{
    (void)context;
    (void)peer;
    (void)request;
    (void)class;
    (void)reason;
    atomic_fetch_add(&logged, 1);
}

static enum err open_data(bool is_direct)
{
    static const unsigned workers[] = {1, 1};
    const char *const endpoints[] = {data_endpoint};
    struct secret key = {.data = (uint8_t *)data_secret, .len = 40, .room = 41};
    const struct server_conf conf = {.domain = ZAP_DOMAIN_DATA,
                                     .endpoints = endpoints,
                                     .endpoint_count = 1,
                                     .mode = 0660,
                                     .server_key = &key,
                                     .handler = core_handler(&custodian.core),
                                     .workers = workers,
                                     .lane_count = 2,
                                     .light_workers = 1,
                                     .is_direct = is_direct,
                                     .timeout_ms = TIMEOUT_MS,
                                     .request_max = WIRE_FRAME_MAX,
                                     .reply_max = WIRE_FRAME_MAX};
    return server_open(&conf, &data_server, NULL);
}

static enum err open_officers(bool is_secret)
{
    static const unsigned workers[] = {1, 1};
    const char *const endpoints[] = {officers_endpoint};
    struct secret key = {.data = (uint8_t *)officers_secret, .len = 40, .room = 41};
    const struct server_conf conf = {.domain = ZAP_DOMAIN_OFFICERS,
                                     .endpoints = endpoints,
                                     .endpoint_count = 1,
                                     .mode = 0600,
                                     .server_key = &key,
                                     .handler = {.context = officer_public,
                                                 .is_allowed = is_officer,
                                                 .lane = pick_lane,
                                                 .worker_new = make_worker,
                                                 .worker_free = free_worker,
                                                 .handle = handle,
                                                 .refuse = refuse,
                                                 .log_refusal = log_refusal,
                                                 .is_secret_request = is_secret},
                                     .workers = workers,
                                     .lane_count = 2,
                                     .light_workers = 2,
                                     .timeout_ms = TIMEOUT_MS,
                                     .request_max = REQUEST_MAX,
                                     .reply_max = REPLY_MAX};
    return server_open(&conf, &officers_server, NULL);
}

static int setup_with(bool is_secret, bool is_direct)
{
    custodian_setup(&custodian);
    buf_init(&frame, REPLY_MAX);
    assert_int_equal(zmq_curve_keypair(data_public, data_secret), 0);
    assert_int_equal(zmq_curve_keypair(officers_public, officers_secret), 0);
    assert_int_equal(zmq_curve_keypair(officer_public, officer_secret), 0);
    snprintf(data_endpoint, sizeof data_endpoint, "ipc://%s/data", custodian.dir);
    snprintf(officers_endpoint, sizeof officers_endpoint, "ipc://%s/officers", custodian.dir);
    atomic_store(&is_hung, false);
    atomic_store(&marks, 0);
    atomic_store(&refused, 0);
    atomic_store(&logged, 0);
    return open_data(is_direct) == ERR_OK && open_officers(is_secret) == ERR_OK ? 0 : -1;
}

static int setup(void **state)
{
    (void)state;
    return setup_with(true, true); // as hsmd
}

// The data path by the router too, as on the network.
static int setup_routers(void **state)
{
    (void)state;
    return setup_with(true, false);
}

static int setup_careless(void **state)
{
    (void)state;
    return setup_with(false, true);
}

static int teardown(void **state)
{
    (void)state;
    atomic_store(&is_hung, false);
    assert_int_equal(server_close(officers_server, NULL), ERR_OK);
    assert_int_equal(server_close(data_server, NULL), ERR_OK);
    assert_int_equal(atomic_load(&workers_made), atomic_load(&workers_freed));
    buf_clear(&frame);
    custodian_teardown(&custodian);
    return 0;
}

static void open_officer(struct peer *peer)
{
    peer_open(peer, &(struct peer_conf){officers_endpoint, officers_public, officer_public,
                                        officer_secret, NULL});
}

static void ask(struct peer *peer, const char *request)
{
    peer_send(peer, bytes_of_text(request), false);
}

static void expect(struct peer *peer, const char *reply)
{
    assert_true(peer_receive(peer, PEER_WAIT_MS, &frame));
    if (!bytes_equal(buf_bytes(&frame), bytes_of_text(reply)))
        fail_msg("\"%s\", not \"%s\"", buf_text(&frame), reply);
}

// Every combination of socket, server key and own key: in come the two that belong together.
static void test_ways_in(void **state)
{
    (void)state;
    const char *own[][2] = {
        {custodian.public_keys[CUSTODIAN_ALL], custodian.secret_keys[CUSTODIAN_ALL]},
        {officer_public, officer_secret},
        {data_public, data_secret}, // the servers' own keys are nobody's
        {officers_public, officers_secret},
    };
    for (unsigned socket = 0; socket < 2; socket++) {
        for (unsigned server_key = 0; server_key < 2; server_key++) {
            for (unsigned key = 0; key < 4; key++) {
                struct peer peer;
                peer_open(&peer, &(struct peer_conf){socket ? officers_endpoint : data_endpoint,
                                                     server_key ? officers_public : data_public,
                                                     own[key][0], own[key][1], NULL});
                bool expected = socket == server_key && socket == key;
                if (peer_is_admitted(&peer) != expected)
                    fail_msg("socket %u, server key %u, key %u: %s", socket, server_key, key,
                             expected ? "kept out" : "let in");
                peer_close(&peer);
            }
        }
    }
}

static void test_each_its_own(void **state)
{
    (void)state;
    struct stat st;
    struct peer peer;
    assert_int_equal(stat(data_endpoint + 6, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0660);
    assert_int_equal(stat(officers_endpoint + 6, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    open_officer(&peer);
    ask(&peer, "hello");
    expect(&peer, "0 5");
    ask(&peer, "1 hello");
    expect(&peer, "1 7");
    ask(&peer, "2");
    expect(&peer, "2 1");
    ask(&peer, "big");
    assert_true(peer_receive(&peer, PEER_WAIT_MS, &frame));
    assert_int_equal(frame.len, REPLY_MAX);
    ask(&peer, "no");
    assert_false(peer_receive(&peer, PEER_QUIET_MS, &frame));
    uint8_t *large = calloc(1, REQUEST_MAX + 1000);
    peer_send(&peer, bytes_of(large, REQUEST_MAX), false);
    expect(&peer, "0 100000");
    assert_true(peer_is_admitted(&peer));
    peer_send(&peer, bytes_of(large, REQUEST_MAX + 1000), false);
    assert_false(peer_is_admitted(&peer)); // the end of the connection
    peer_close(&peer);
    free(large);
}

// A lane knows what it has, and loses it when the work is done or taken back, not when its client
// has been told "temp".
static void test_outstanding(void **state)
{
    (void)state;
    struct peer peer;
    atomic_store(&is_hung, true);
    open_officer(&peer);
    ask(&peer, "1");
    ask(&peer, "1");
    ask(&peer, "1");
    ask(&peer, "light");
    expect(&peer, "0 5");
    assert_int_equal(seen_outstanding[0], 3);
    assert_int_equal(seen_outstanding[1], 0);
    for (unsigned i = 0; i < 3; i++)
        expect(&peer, "refused: temp"); // at their deadline
    ask(&peer, "light");
    expect(&peer, "0 5");
    assert_int_equal(seen_outstanding[0], 1); // the worker hangs in it, two are taken back
    atomic_store(&is_hung, false);
    do {
        ask(&peer, "light");
        expect(&peer, "0 5");
    } while (seen_outstanding[0]);
    assert_int_equal(atomic_load(&logged), 3);
    peer_close(&peer);
}

// The way of a secret: served; late, with and without a worker that has it; of several frames; from
// a peer with a routing id of its own.
static void send_marks(void)
{
    struct peer peer;
    struct peer named;
    atomic_store(&is_hung, true);
    open_officer(&peer);
    ask(&peer, "0" MARK);
    expect(&peer, "0 63");
    ask(&peer, "1" MARK);
    ask(&peer, "1" MARK);
    expect(&peer, "refused: temp");
    expect(&peer, "refused: temp");
    for (unsigned i = 0; i < 3; i++)
        peer_send(&peer, BYTES_LITERAL("1" MARK), i < 2);
    expect(&peer, "0 0");
    peer_open(&named, &(struct peer_conf){officers_endpoint, officers_public, officer_public,
                                          officer_secret, "name"});
    ask(&named, "0" MARK);
    assert_false(peer_receive(&named, PEER_QUIET_MS, &frame));
    atomic_store(&is_hung, false);
    do {
        ask(&peer, "light");
        expect(&peer, "0 5");
    } while (seen_outstanding[0]);
    peer_close(&named);
    peer_close(&peer);
}

static void test_wiped(void **state)
{
    (void)state;
    send_marks();
    assert_int_equal(atomic_load(&marks), 0);
}

// The same without is_secret_request, so that one sees that it would be seen.
static void test_not_wiped(void **state)
{
    (void)state;
    send_marks();
    assert_true(atomic_load(&marks) >= 7);
}

// One ends; the other goes on.
static void test_apart(void **state)
{
    (void)state;
    struct peer peer;
    assert_int_equal(server_close(data_server, NULL), ERR_OK);
    data_server = NULL;
    open_officer(&peer);
    ask(&peer, "hello");
    expect(&peer, "0 5");
    server_end_zap(officers_server);
    struct peer late;
    open_officer(&late);
    assert_false(peer_is_admitted(&late));
    peer_close(&late);
    peer_close(&peer);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_ways_in),
        cmocka_unit_test_setup_teardown(test_ways_in, setup_routers, teardown),
        TEST(test_each_its_own),
        TEST(test_outstanding),
        TEST(test_wiped),
        cmocka_unit_test_setup_teardown(test_not_wiped, setup_careless, teardown),
        TEST(test_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
