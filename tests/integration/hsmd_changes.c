// SPDX-License-Identifier: Apache-2.0
// A change of the registry in a running server, seen by clients that are connected already: what is
// taken away is gone for the very next request, and what is given is there for it. By each of the
// two doors, and by the network.
#include "hsmd/registry/live.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zmq.h>

#include "hsmd/core_handler.h"
#include "hsmd/server/zap.h"
#include "tests/integration/hsmd_peer.h"
#include "tests/support/custodian.h"

#define TIMEOUT_MS 60000
#define KEY "rsa.smime-sign.enabled"
#define OTHER "rsa.general.enabled"

static struct custodian custodian;
static char server_public[41];
static char server_secret[41];
static enum { ROUTER, LOCAL, NETWORK } door; // of this run
static char ipc[128], tcp[64];
static const char *endpoints[] = {ipc, tcp};
static struct server *server;
static struct buf attributes;
static struct buf frame;
static uint64_t last_id;

static int setup(void **state)
{
    (void)state;
    struct secret key = {.data = (uint8_t *)server_secret, .len = 40, .room = 41};
    static const unsigned workers[] = {2, 2};
    custodian_setup(&custodian);
    buf_init(&attributes, 4096);
    buf_init(&frame, WIRE_FRAME_MAX);
    custodian_attributes(HASH_SHA256, &attributes);
    assert_int_equal(zmq_curve_keypair(server_public, server_secret), 0);
    snprintf(ipc, sizeof ipc, "ipc://%s/socket", custodian.dir);
    snprintf(tcp, sizeof tcp, "tcp://127.0.0.1:%u", peer_free_port());
    const struct server_conf conf = {.domain = ZAP_DOMAIN_DATA,
                                     .endpoints = endpoints,
                                     .endpoint_count = 2,
                                     .mode = 0660,
                                     .server_key = &key,
                                     .handler = core_handler(&custodian.core),
                                     .workers = workers,
                                     .lane_count = 2,
                                     .light_workers = 1,
                                     .is_direct = door != ROUTER,
                                     .timeout_ms = TIMEOUT_MS,
                                     .request_max = WIRE_FRAME_MAX,
                                     .reply_max = WIRE_FRAME_MAX};
    return server_open(&conf, &server, NULL) == ERR_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(server_close(server, NULL), ERR_OK);
    buf_clear(&attributes);
    buf_clear(&frame);
    custodian_teardown(&custodian);
    return 0;
}

static void open_peer_at(struct peer *peer, const char *endpoint, enum custodian_client client)
{
    peer_open(peer, &(struct peer_conf){endpoint, server_public, custodian.public_keys[client],
                                        custodian.secret_keys[client], NULL});
}

static void open_peer(struct peer *peer, enum custodian_client client)
{
    open_peer_at(peer, door == NETWORK ? tcp : ipc, client);
}

static void send_sign(struct peer *peer, const char *key)
{
    struct buf encoded;
    const struct wire_request request = {.operation = WIRE_SIGN,
                                         .id = ++last_id,
                                         .sign = {.key = bytes_of_text(key),
                                                  .algorithm = WIRE_RSA_PKCS1,
                                                  .hash = HASH_SHA256,
                                                  .form = WIRE_ATTRIBUTES,
                                                  .data = buf_bytes(&attributes)}};
    buf_init(&encoded, WIRE_FRAME_MAX);
    assert_int_equal(wire_encode_request(&request, &encoded), ERR_OK);
    peer_send(peer, buf_bytes(&encoded), false);
    buf_clear(&encoded);
}

// The class of the answer to a signature asked for now.
static enum err sign(struct peer *peer, const char *key)
{
    struct wire_reply reply;
    send_sign(peer, key);
    assert_true(peer_receive(peer, PEER_WAIT_MS, &frame));
    assert_int_equal(wire_decode_reply(WIRE_SIGN, buf_bytes(&frame), &reply, NULL), ERR_OK);
    assert_int_equal(reply.id, last_id);
    return reply.class;
}

// Connected, served, revoked: not served, not even told no; and the key was not used. Another
// client does not notice. With its right given back the same connection is served again.
static void test_revoked_client(void **state)
{
    (void)state;
    struct peer revoked;
    struct peer other;
    open_peer(&revoked, CUSTODIAN_ALL);
    open_peer(&other, CUSTODIAN_SIGNER);
    assert_int_equal(sign(&revoked, KEY), ERR_OK);
    assert_int_equal(sign(&other, KEY), ERR_OK);
    custodian_swap(&custodian,
                   &(struct custodian_change){.revoked = custodian.public_keys[CUSTODIAN_ALL]});
    unsigned used = memstore_used();
    send_sign(&revoked, KEY);
    assert_false(peer_receive(&revoked, PEER_QUIET_MS, &frame));
    assert_int_equal(memstore_used(), used);
    assert_int_equal(sign(&other, KEY), ERR_OK);
    struct peer again; // nor does it come in anew
    open_peer(&again, CUSTODIAN_ALL);
    assert_false(peer_is_admitted(&again));
    peer_close(&again);
    custodian_swap(&custodian, &(struct custodian_change){0});
    assert_int_equal(sign(&revoked, KEY), ERR_OK);
    peer_close(&revoked);
    peer_close(&other);
}

static void test_grant_taken(void **state)
{
    (void)state;
    struct peer peer;
    open_peer(&peer, CUSTODIAN_ALL);
    assert_int_equal(sign(&peer, KEY), ERR_OK);
    custodian_swap(&custodian, &(struct custodian_change){.ungranted = KEY});
    unsigned used = memstore_used();
    assert_int_equal(sign(&peer, KEY), ERR_DENIED);
    assert_int_equal(memstore_used(), used);
    custodian_swap(&custodian, &(struct custodian_change){0});
    assert_int_equal(sign(&peer, KEY), ERR_OK);
    peer_close(&peer);
}

static void test_key_disabled(void **state)
{
    (void)state;
    struct peer peer;
    open_peer(&peer, CUSTODIAN_SIGNER);
    assert_int_equal(sign(&peer, KEY), ERR_OK);
    custodian_swap(&custodian, &(struct custodian_change){.disabled = KEY});
    unsigned used = memstore_used();
    assert_int_equal(sign(&peer, KEY), ERR_DENIED);
    assert_int_equal(memstore_used(), used);
    custodian_swap(&custodian, &(struct custodian_change){.disabled = OTHER});
    assert_int_equal(sign(&peer, KEY), ERR_OK);
    peer_close(&peer);
}

static void test_new_client(void **state)
{
    (void)state;
    struct peer peer;
    open_peer(&peer, CUSTODIAN_STRANGER);
    assert_false(peer_is_admitted(&peer));
    peer_close(&peer);
    custodian_swap(&custodian, &(struct custodian_change){.has_stranger = true});
    open_peer(&peer, CUSTODIAN_STRANGER);
    assert_int_equal(sign(&peer, KEY), ERR_OK);
    peer_close(&peer);
}

// What waits in the queue when its client is revoked is not done either.
static void test_revoked_while_waiting(void **state)
{
    (void)state;
    struct peer revoked;
    struct peer other;
    unsigned used = memstore_used();
    open_peer(&revoked, CUSTODIAN_ALL);
    open_peer(&other, CUSTODIAN_SIGNER);
    memstore_key_break(custodian.stores[CUSTODIAN_RSA], ERR_OK, 1500);
    for (unsigned i = 0; i < 10; i++)
        send_sign(&revoked, KEY);
    while (memstore_used() < used + 2) // both workers
        zmq_poll(NULL, 0, 1);
    custodian_swap(&custodian,
                   &(struct custodian_change){.revoked = custodian.public_keys[CUSTODIAN_ALL]});
    memstore_key_break(custodian.stores[CUSTODIAN_RSA], ERR_OK, 0);
    assert_int_equal(sign(&other, KEY), ERR_OK);
    // Those two were begun with the registry that had the client.
    assert_true(peer_receive(&revoked, PEER_WAIT_MS, &frame));
    assert_true(peer_receive(&revoked, PEER_WAIT_MS, &frame));
    assert_false(peer_receive(&revoked, PEER_QUIET_MS, &frame));
    assert_int_equal(memstore_used(), used + 3);
    peer_close(&revoked);
    peer_close(&other);
}

// One client, by both doors at once.
static void test_both_doors(void **state)
{
    (void)state;
    struct peer peers[2];
    for (unsigned i = 0; i < 2; i++) {
        open_peer_at(&peers[i], endpoints[i], CUSTODIAN_ALL);
        assert_int_equal(sign(&peers[i], KEY), ERR_OK);
    }
    custodian_swap(&custodian,
                   &(struct custodian_change){.revoked = custodian.public_keys[CUSTODIAN_ALL]});
    unsigned used = memstore_used();
    for (unsigned i = 0; i < 2; i++)
        send_sign(&peers[i], KEY);
    for (unsigned i = 0; i < 2; i++) {
        struct peer again;
        assert_false(peer_receive(&peers[i], PEER_QUIET_MS, &frame));
        open_peer_at(&again, endpoints[i], CUSTODIAN_ALL);
        assert_false(peer_is_admitted(&again));
        peer_close(&again);
    }
    assert_int_equal(memstore_used(), used);
    custodian_swap(&custodian, &(struct custodian_change){0});
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(sign(&peers[i], KEY), ERR_OK);
        peer_close(&peers[i]);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    static const struct CMUnitTest tests[] = {
        TEST(test_revoked_client), TEST(test_grant_taken),           TEST(test_key_disabled),
        TEST(test_new_client),     TEST(test_revoked_while_waiting), TEST(test_both_doors),
    };
    static const char *const names[] = {"router", "local", "network"};
    int failed = 0;
    for (door = ROUTER; door <= NETWORK; door++)
        failed += cmocka_run_group_tests_name(names[door], tests, NULL, NULL);
    return failed;
}
