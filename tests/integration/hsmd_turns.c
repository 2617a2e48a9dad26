// SPDX-License-Identifier: Apache-2.0
// Two doors of one server, one or both of which always have something more: neither is in the way
// of the other.
//
// The linker puts ours in front of router_receive and local_receive. When nothing real has come by
// a door that is flooded, they make up a message of somebody who has gone away since.
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <zmq.h>

#include "hsmd/base/log.h"
#include "hsmd/core_handler.h"
#include "hsmd/server/local.h"
#include "hsmd/server/router.h"
#include "hsmd/server/zap.h"
#include "tests/integration/hsmd_peer.h"
#include "tests/support/custodian.h"

#define KEY "rsa.smime-sign.enabled"
#define ROUNDS 20

enum { ROUTER, LOCAL, DOORS };

static struct custodian custodian;
static struct server *server;
static char endpoints[DOORS][128];
static char server_public[41], server_secret[41];
static struct buf attributes;
static struct peer peers[DOORS];
static atomic_bool is_flooded[DOORS];
static atomic_uint made_up[DOORS];

bool __real_router_receive(struct router *router, bool is_secret, struct arrival *arrival);
bool __wrap_router_receive(struct router *router, bool is_secret, struct arrival *arrival);
bool __real_local_receive(struct local *local, struct arrival *arrival);
bool __wrap_local_receive(struct local *local, struct arrival *arrival);

static bool make_up(unsigned door, struct arrival *arrival)
{
    if (!atomic_load(&is_flooded[door]))
        return false;
    atomic_fetch_add(&made_up[door], 1);
    buf_reset(&arrival->frame);
    memcpy(arrival->peer, custodian.public_keys[CUSTODIAN_NONE], sizeof arrival->peer);
    arrival->route.connection = door == LOCAL ? UINT64_MAX : 0;
    zmq_msg_close(&arrival->route.router);
    if (door == LOCAL)
        return zmq_msg_init(&arrival->route.router) == 0;
    if (zmq_msg_init_size(&arrival->route.router, 5) != 0)
        abort();
    memcpy(zmq_msg_data(&arrival->route.router), "\0gone", 5);
    return true;
}

bool __wrap_router_receive(struct router *router, bool is_secret, struct arrival *arrival)
{
    return __real_router_receive(router, is_secret, arrival) || make_up(ROUTER, arrival);
}

bool __wrap_local_receive(struct local *local, struct arrival *arrival)
{
    return __real_local_receive(local, arrival) || make_up(LOCAL, arrival);
}

static void open_server(void)
{
    static const unsigned workers[] = {2};
    const char *const names[] = {endpoints[ROUTER], endpoints[LOCAL]};
    struct secret key = {.data = (uint8_t *)server_secret, .len = 40, .room = 41};
    struct detail detail = {0};
    const struct server_conf conf = {.domain = ZAP_DOMAIN_DATA,
                                     .endpoints = names,
                                     .endpoint_count = DOORS,
                                     .mode = 0600,
                                     .server_key = &key,
                                     .handler = core_handler(&custodian.core),
                                     .workers = workers,
                                     .lane_count = 1,
                                     .light_workers = 1,
                                     .is_direct = true,
                                     .timeout_ms = 60000,
                                     .request_max = WIRE_FRAME_MAX,
                                     .reply_max = WIRE_FRAME_MAX};
    (void)server_open(&conf, &server, &detail);
    assert_string_equal(detail.text, "");
}

static void ask(unsigned door)
{
    struct wire_request request = {.operation = WIRE_SIGN,
                                   .id = 1,
                                   .sign = {.key = BYTES_LITERAL(KEY),
                                            .algorithm = WIRE_RSA_PKCS1,
                                            .hash = HASH_SHA256,
                                            .form = WIRE_ATTRIBUTES,
                                            .data = buf_bytes(&attributes)}};
    struct wire_reply reply;
    struct buf frame;
    buf_init(&frame, WIRE_FRAME_MAX);
    assert_int_equal(wire_encode_request(&request, &frame), ERR_OK);
    peer_send(&peers[door], buf_bytes(&frame), false);
    assert_true(peer_receive(&peers[door], PEER_WAIT_MS, &frame));
    assert_int_equal(wire_decode_reply(WIRE_SIGN, buf_bytes(&frame), &reply, NULL), ERR_OK);
    assert_int_equal(reply.class, ERR_OK);
    buf_clear(&frame);
}

static int setup(void **state)
{
    (void)state;
    custodian_setup(&custodian);
    log_open("test", LOG_SINK_STDERR, LOG_LEVEL_ERROR);
    buf_init(&attributes, 4096);
    custodian_attributes(HASH_SHA256, &attributes);
    assert_int_equal(zmq_curve_keypair(server_public, server_secret), 0);
    snprintf(endpoints[ROUTER], sizeof *endpoints, "tcp://127.0.0.1:%u", peer_free_port());
    snprintf(endpoints[LOCAL], sizeof *endpoints, "ipc://%s/socket", custodian.dir);
    open_server();
    for (unsigned door = 0; door < DOORS; door++) {
        peer_open(&peers[door], &(struct peer_conf){endpoints[door], server_public,
                                                    custodian.public_keys[CUSTODIAN_ALL],
                                                    custodian.secret_keys[CUSTODIAN_ALL], NULL});
        ask(door);
        atomic_store(&made_up[door], 0);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (unsigned door = 0; door < DOORS; door++) {
        atomic_store(&is_flooded[door], false);
        peer_close(&peers[door]);
    }
    assert_int_equal(server_close(server, NULL), ERR_OK);
    buf_clear(&attributes);
    custodian_teardown(&custodian);
    return 0;
}

static void flood_one(unsigned door)
{
    atomic_store(&is_flooded[door], true);
    for (unsigned i = 0; i < ROUNDS; i++)
        ask(!door);
    assert_true(atomic_load(&made_up[door]) > ROUNDS); // it was one
    ask(door);
}

static void test_router_flooded(void **state)
{
    (void)state;
    flood_one(ROUTER);
}

static void test_local_flooded(void **state)
{
    (void)state;
    flood_one(LOCAL);
}

// As many come in by the one as by the other.
static void test_both_flooded(void **state)
{
    (void)state;
    unsigned most = 0;
    for (unsigned door = 0; door < DOORS; door++)
        atomic_store(&is_flooded[door], true);
    for (unsigned i = 0; i < ROUNDS; i++) {
        ask(ROUTER);
        ask(LOCAL);
    }
    for (unsigned door = 0; door < DOORS; door++) {
        atomic_store(&is_flooded[door], false);
        most = most < atomic_load(&made_up[door]) ? atomic_load(&made_up[door]) : most;
    }
    assert_true(most > 10 * ROUNDS);
    for (unsigned door = 0; door < DOORS; door++)
        assert_in_range(atomic_load(&made_up[door]), most - most / 4, most);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    static const struct CMUnitTest tests[] = {
        TEST(test_router_flooded),
        TEST(test_local_flooded),
        TEST(test_both_flooded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
