// SPDX-License-Identifier: Apache-2.0
// Peers with other sockets of ZeroMQ than a DEALER, and keys that are let in: both doors do the
// same with them, which is what ZMTP has a ROUTER do (RFC 23, RFC 28).
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <zmq.h>

#include "tests/integration/hsmd_doors.h"

static int setup(void **state)
{
    (void)state;
    return doors_open(&(struct doors_conf){0});
}

static void open_as(struct peer *peer, int type)
{
    const struct custodian *custodian = &doors.custodian;
    const struct peer_conf conf = {.endpoint = doors.endpoint,
                                   .server_public = doors.server_public,
                                   .public_key = custodian->public_keys[CUSTODIAN_ALL],
                                   .secret_key = custodian->secret_keys[CUSTODIAN_ALL]};
    peer_open_as(peer, type, &conf);
}

// Whom neither lets in is in unit.zmtp_interop: libzmq's own peers end it by themselves too.
static void test_types(void **state)
{
    (void)state;
    static const int types[] = {ZMQ_DEALER, ZMQ_REQ, ZMQ_ROUTER};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct peer peer;
        open_as(&peer, types[i]);
        if (!peer_is_admitted(&peer))
            fail_msg("socket type %d is not let in", types[i]);
        peer_close(&peer);
    }
}

// A REQ sends an empty frame before its request, and expects one before the answer. Such a message
// is malformed here, which is on record; nothing is done; and the answer, which has no such frame,
// makes it give up the connection.
static void test_req(void **state)
{
    (void)state;
    struct peer peer;
    char line[1024];
    struct wire_request request = doors_sign_request(1);
    unsigned used = memstore_used();
    open_as(&peer, ZMQ_REQ);
    assert_true(peer_is_admitted(&peer));
    doors_send(&peer, &request);
    assert_false(peer_is_admitted(&peer)); // the end of the connection
    assert_false(peer_receive(&peer, PEER_QUIET_MS, &doors.frame));
    peer_close(&peer);
    assert_int_equal(memstore_used(), used);
    assert_int_equal(custodian_audit_lines(&doors.custodian, line, sizeof line), 1);
    assert_non_null(strstr(line, "\"event\":\"refuse\",\"client\":\"all\",\"id\":0,"
                                 "\"result\":\"perm\""));
    // What a DEALER gets for the same, who can read it.
    open_as(&peer, ZMQ_DEALER);
    peer_send(&peer, bytes_of(NULL, 0), true);
    doors_send(&peer, &request);
    assert_int_equal(doors_receive_class(&peer, 0), ERR_PERM);
    doors_send(&peer, &request);
    assert_int_equal(doors_receive_class(&peer, 1), ERR_OK);
    peer_close(&peer);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, doors_close)
    static const struct CMUnitTest tests[] = {TEST(test_types), TEST(test_req)};
    int failed = cmocka_run_group_tests_name("router", tests, NULL, NULL);
    doors.is_direct = true;
    return failed + cmocka_run_group_tests_name("local", tests, NULL, NULL);
}
