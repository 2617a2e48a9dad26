// SPDX-License-Identifier: Apache-2.0
// Nobody comes in but who the registry knows, in any row of this table of libzmq's behaviour:
//
//     ZMQ_ZAP_ENFORCE_DOMAIN | ZMQ_ZAP_DOMAIN | handler denies all | no handler, or it ended
//     0                      | any            | denied             | accepted
//     1                      | empty          | accepted           | accepted
//     1                      | set            | denied             | denied
//
// The rows are tried on bare sockets first: that shows that the test would notice a peer let in,
// and tells us if a new libzmq behaves otherwise. Then our own sockets are put in the same places.
#include "hsmd/server/zap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/base/log.h"
#include "tests/integration/hsmd_peer.h"

#define ENFORCE_DOMAIN 93

enum handler {
    HANDLER_DENIES,
    HANDLER_NONE,
    HANDLER_ENDED,
    HANDLER_ALLOWS,
    HANDLER_OTHER // allows the client, but in another domain
};

static const char *domain; // of this run: the data path's, or the officers'

static char dir[64];
static char endpoint[96];
static char server_public[41];
static char server_secret[41];
static char client_public[41];
static char client_secret[41];

static int setup(void **state)
{
    (void)state;
    log_open("test", LOG_SINK_STDERR, LOG_LEVEL_ERROR);
    snprintf(dir, sizeof dir, "/tmp/zap-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(endpoint, sizeof endpoint, "ipc://%s/socket", dir);
    assert_int_equal(zmq_curve_keypair(server_public, server_secret), 0);
    assert_int_equal(zmq_curve_keypair(client_public, client_secret), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(endpoint + strlen("ipc://"));
    return rmdir(dir);
}

static bool deny(void *context, const char *of, const char *public_key)
{
    (void)context;
    (void)of;
    (void)public_key;
    return false;
}

static bool allow_client(void *context, const char *of, const char *public_key)
{
    (void)context;
    return strcmp(of, domain) == 0 && strcmp(public_key, client_public) == 0;
}

static bool allow_other_domain(void *context, const char *of, const char *public_key)
{
    (void)context;
    return strcmp(of, domain) != 0 && strcmp(public_key, client_public) == 0;
}

// What a bare socket is set to; NULL: it is secured by zap_secure.
struct setting {
    int enforce;
    const char *domain;
};

static void *open_socket(void *context, const struct setting *setting)
{
    int one = 1;
    int none = 0;
    int handshake_ms = 2000; // a handler that ends while it is asked is waited for so long
    void *socket = zmq_socket(context, ZMQ_ROUTER);
    assert_non_null(socket);
    zmq_setsockopt(socket, ZMQ_LINGER, &none, sizeof none);
    zmq_setsockopt(socket, ZMQ_HANDSHAKE_IVL, &handshake_ms, sizeof handshake_ms);
    if (setting) {
        assert_int_equal(
            zmq_setsockopt(socket, ENFORCE_DOMAIN, &setting->enforce, sizeof setting->enforce), 0);
        if (setting->domain)
            assert_int_equal(
                zmq_setsockopt(socket, ZMQ_ZAP_DOMAIN, setting->domain, strlen(setting->domain)),
                0);
        zmq_setsockopt(socket, ZMQ_CURVE_SERVER, &one, sizeof one);
        zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, server_secret, 40);
    } else {
        struct secret key = {.data = (uint8_t *)server_secret, .len = 40, .room = 41};
        assert_int_equal(zap_secure(socket, domain, &key, NULL), ERR_OK);
    }
    assert_int_equal(zmq_bind(socket, endpoint), 0);
    return socket;
}

// Is the client let in by such a socket beside such a handler?
static bool is_admitted(const struct setting *setting, enum handler handler)
{
    struct peer peer;
    struct zap *zap = NULL;
    void *context = zmq_ctx_new();
    zap_is_allowed is_allowed = handler == HANDLER_DENIES  ? deny
                                : handler == HANDLER_OTHER ? allow_other_domain
                                                           : allow_client;
    if (handler != HANDLER_NONE)
        assert_int_equal(zap_open(context, is_allowed, NULL, &zap, NULL), ERR_OK);
    void *socket = open_socket(context, setting);
    if (handler == HANDLER_ENDED) {
        zap_close(zap);
        zap = NULL;
    }
    peer_open(&peer,
              &(struct peer_conf){endpoint, server_public, client_public, client_secret, NULL});
    bool admitted = peer_is_admitted(&peer);
    peer_close(&peer);
    zmq_close(socket);
    zap_close(zap);
    zmq_ctx_term(context);
    return admitted;
}

static void test_libzmq(void **state)
{
    (void)state;
    const struct {
        struct setting setting;
        bool denies, none, ended; // admitted with such a handler
    } rows[] = {
        {{0, NULL}, false, true, true},
        {{0, domain}, false, true, true},
        {{1, NULL}, true, true, true},
        {{1, domain}, false, false, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(is_admitted(&rows[i].setting, HANDLER_DENIES), rows[i].denies);
        assert_int_equal(is_admitted(&rows[i].setting, HANDLER_NONE), rows[i].none);
        // A thread of libzmq's takes the closed handler away; who comes before that is refused.
        bool ended = is_admitted(&rows[i].setting, HANDLER_ENDED);
        for (unsigned again = 0; again < 5 && rows[i].ended && !ended; again++)
            ended = is_admitted(&rows[i].setting, HANDLER_ENDED);
        assert_int_equal(ended, rows[i].ended);
    }
}

static void test_ours(void **state)
{
    (void)state;
    assert_true(is_admitted(NULL, HANDLER_ALLOWS));
    assert_false(is_admitted(NULL, HANDLER_DENIES));
    assert_false(is_admitted(NULL, HANDLER_NONE));
    assert_false(is_admitted(NULL, HANDLER_ENDED));
    assert_false(is_admitted(NULL, HANDLER_OTHER));
}

// The rows with an empty domain cannot be had from us, nor those without enforcement: it is read
// back.
static void test_no_domain(void **state)
{
    (void)state;
    struct detail detail = {0};
    int enforced = 0;
    char set[64] = "";
    size_t size = sizeof enforced;
    struct secret key = {.data = (uint8_t *)server_secret, .len = 40, .room = 41};
    void *context = zmq_ctx_new();
    void *socket = zmq_socket(context, ZMQ_ROUTER);
    assert_int_equal(zap_secure(socket, "", &key, &detail), ERR_PERM);
    assert_non_null(strstr(detail.text, "ZAP domain"));
    assert_int_equal(zap_secure(socket, domain, &key, NULL), ERR_OK);
    assert_int_equal(zmq_getsockopt(socket, ENFORCE_DOMAIN, &enforced, &size), 0);
    assert_int_equal(enforced, 1);
    size = sizeof set;
    assert_int_equal(zmq_getsockopt(socket, ZMQ_ZAP_DOMAIN, set, &size), 0);
    assert_string_equal(set, domain);
    zmq_close(socket);
    // A socket that does not take the options, as an old libzmq would not.
    socket = zmq_socket(context, ZMQ_ROUTER);
    key.len = 39;
    assert_int_equal(zap_secure(socket, domain, &key, &detail), ERR_PERM);
    zmq_close(socket);
    zmq_ctx_term(context);
}

// A client that speaks no CURVE, or for another server, has no way in.
static void test_other_mechanisms(void **state)
{
    (void)state;
    struct peer peer;
    struct zap *zap = NULL;
    void *context = zmq_ctx_new();
    assert_int_equal(zap_open(context, allow_client, NULL, &zap, NULL), ERR_OK);
    void *socket = open_socket(context, NULL);
    peer_open(&peer, &(struct peer_conf){.endpoint = endpoint});
    assert_false(peer_is_admitted(&peer));
    peer_close(&peer);
    peer_open(&peer,
              &(struct peer_conf){endpoint, client_public, client_public, client_secret, NULL});
    assert_false(peer_is_admitted(&peer));
    peer_close(&peer);
    zmq_close(socket);
    zap_close(zap);
    zmq_ctx_term(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_libzmq),
        cmocka_unit_test(test_ours),
        cmocka_unit_test(test_no_domain),
        cmocka_unit_test(test_other_mechanisms),
    };
    domain = ZAP_DOMAIN_DATA;
    int failed = cmocka_run_group_tests_name(domain, tests, setup, teardown);
    domain = ZAP_DOMAIN_OFFICERS;
    return failed + cmocka_run_group_tests_name(domain, tests, setup, teardown);
}
