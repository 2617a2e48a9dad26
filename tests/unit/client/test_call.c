// SPDX-License-Identifier: Apache-2.0
// One client and one server: keys, answers, what goes wrong and how it is told.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <zmq.h>

#include "fixture.h"
#include "hsmd/base/alloc.h"

#define assert_contains(text, part)                          \
    do {                                                     \
        if (!strstr((text), (part)))                         \
            fail_msg("\"%s\" is not in \"%s\"", part, text); \
    } while (0)

static void test_lists_and_signs(void **state)
{
    struct fixture *fixture = *state;
    struct detail detail = {0};
    struct buf frame;
    struct wire_reply reply;
    struct wire_request request = {.operation = WIRE_LIST};
    fixture_start(fixture);
    struct client *client = fixture_client(fixture, NULL, TIMEOUT_MS, 0);
    buf_init(&frame, WIRE_FRAME_MAX);
    assert_int_equal(client_call(client, &request, &frame, &reply, &detail), ERR_OK);
    assert_int_equal(reply.list.count, 2);
    assert_true(bytes_equal(reply.list.names[0], BYTES_LITERAL("decryption")));
    uint64_t id = request.id;
    assert_int_not_equal(id, 0);
    assert_int_equal(client_call(client, &request, &frame, &reply, &detail), ERR_OK);
    assert_int_not_equal(request.id, id);
    buf_clear(&frame);
    assert_int_equal(fixture_sign(client, "signing", "some bytes", &detail), ERR_OK);
    client_close(client);
}

static void test_goes_over_tcp(void **state)
{
    struct fixture *fixture = *state;
    struct detail detail = {0};
    // Any free port: bound, looked up, given back to the server.
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    close(fd);
    snprintf(fixture->conf.endpoint, sizeof fixture->conf.endpoint, "tcp://127.0.0.1:%u",
             ntohs(address.sin_port));
    fixture_start(fixture);
    struct client *client = fixture_client(fixture, NULL, TIMEOUT_MS, 0);
    if (fixture_sign(client, "signing", "some bytes", &detail) != ERR_OK)
        fail_msg("%s", detail.text);
    client_close(client);
}

static void test_tells_classes_apart(void **state)
{
    static const enum err classes[] = {ERR_PERM, ERR_DENIED, ERR_BUG};
    struct fixture *fixture = *state;
    fixture_start(fixture);
    struct client *client = fixture_client(fixture, NULL, TIMEOUT_MS, 0);
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        struct detail detail = {0};
        const char *name = err_name(classes[i]);
        assert_int_equal(fixture_sign(client, name, "some bytes", &detail), classes[i]);
        assert_contains(detail.text, name);
        assert_contains(detail.text, "sign");
    }
    client_close(client);
}

struct failure {
    const char *name;
    const char *key;
    bool stranger;     // the server does not admit our key
    bool wrong_server; // the server has another key than we think
    bool nobody;       // no server at all
    unsigned timeout_ms;
    const char *says;
};

static const struct failure failures[] = {
    {.name = "a temporary failure of hsmd",
     .key = "temp",
     .timeout_ms = TIMEOUT_MS,
     .says = "reports a temporary failure"},
    {.name = "a malformed reply",
     .key = "garbage",
     .timeout_ms = TIMEOUT_MS,
     .says = "malformed reply"},
    {.name = "a reply of two frames",
     .key = "two-frames",
     .timeout_ms = TIMEOUT_MS,
     .says = "malformed reply"},
    {.name = "silence", .key = "silent", .timeout_ms = 1000, .says = "does not answer"},
    {.name = "nobody there", .nobody = true, .timeout_ms = 300, .says = "cannot reach"},
    {.name = "a client that is not admitted",
     .stranger = true,
     .timeout_ms = TIMEOUT_MS,
     .says = "refused this client's key"},
    {.name = "a server with another key",
     .wrong_server = true,
     .timeout_ms = 1000,
     .says = "handshake failed"},
};

static void test_tells_failures_apart(void **state)
{
    struct fixture *fixture = *state;
    struct server_conf good = fixture->conf;
    for (size_t i = 0; i < sizeof failures / sizeof *failures; i++) {
        const struct failure *failure = &failures[i];
        struct detail detail = {0};
        char public[SERVER_KEY_SIZE];
        fixture->conf = good;
        if (failure->stranger)
            fixture->conf.admitted[0] = good.admitted[0] == 'a' ? 'b' : 'a';
        if (failure->wrong_server)
            assert_int_equal(zmq_curve_keypair(public, fixture->conf.secret_key), 0);
        if (!failure->nobody)
            fixture_start(fixture);
        struct client *client = fixture_client(fixture, NULL, failure->timeout_ms, 0);
        deadline_t start = clock_ms();
        enum err err = fixture_sign(client, failure->key ? failure->key : "key", "data", &detail);
        unsigned long took = (unsigned long)(clock_ms() - start);
        if (err != ERR_TEMP || !strstr(detail.text, failure->says) ||
            !strstr(detail.text, good.endpoint) || took > failure->timeout_ms + 5000)
            fail_msg("%s: class %s after %lu ms: %s", failure->name, err_name(err), took,
                     detail.text);
        client_close(client);
        fixture_stop(fixture);
    }
}

static void test_drops_replies_to_others(void **state)
{
    struct fixture *fixture = *state;
    struct detail detail = {0};
    fixture_start(fixture);
    struct client *client = fixture_client(fixture, NULL, TIMEOUT_MS, 0);
    assert_int_equal(fixture_sign(client, "other-id", "mine", &detail), ERR_OK);
    client_close(client);
}

// The reply comes after the deadline, when the next call is waiting.
static void test_never_takes_a_late_reply(void **state)
{
    struct fixture *fixture = *state;
    struct detail detail = {0};
    fixture_start(fixture);
    struct client *client = fixture_client(fixture, NULL, SERVER_SLOW_MS / 2, 1);
    assert_int_equal(fixture_sign(client, "slow", "first", &detail), ERR_TEMP);
    assert_contains(detail.text, "does not answer");
    client_close(client);
    client = fixture_client(fixture, NULL, SERVER_SLOW_MS * 3 / 4, 1);
    assert_int_equal(fixture_sign(client, "slow", "second", &detail), ERR_TEMP);
    for (int i = 0; i < 20; i++) {
        if (fixture_sign(client, "key", "third", &detail) != ERR_OK)
            fail_msg("%s", detail.text);
        usleep(20000);
    }
    client_close(client);
}

static void test_refuses_bad_configuration(void **state)
{
    struct fixture *fixture = *state;
    char other[SERVER_KEY_SIZE];
    char secret[SERVER_KEY_SIZE];
    char bad[128];
    const char *endpoint = fixture->conf.endpoint;
    const struct {
        const char *name;
        const char *endpoints;
        const char *text; // of the bad file
        unsigned mode;
        bool as_server;
        bool as_public;
        bool as_secret;
        const char *says;
    } cases[] = {
        {"no endpoints", " , ", "", 0, false, false, false, "no endpoints"},
        {"other transport", "inproc://x", "", 0, false, false, false, "no endpoint"},
        {"nine endpoints",
         "tcp://h:1,tcp://h:2,tcp://h:3,tcp://h:4,tcp://h:5,tcp://h:6,tcp://h:7,tcp://h:8,tcp://"
         "h:9",
         "", 0, false, false, false, "more than 8"},
        {"no server key file", endpoint, NULL, 0, true, false, false, "bad.key"},
        {"no public key file", endpoint, NULL, 0, false, true, false, "bad.key"},
        {"no secret key file", endpoint, NULL, 0, false, false, true, "bad.key"},
        {"short server key", endpoint, "abc\n", 0644, true, false, false, "no CURVE key"},
        {"long server key", endpoint, "0123456789012345678901234567890123456789012345", 0644, true,
         false, false, "bad.key"},
        {"not Z85", endpoint, "\"123456789012345678901234567890123456789\n", 0644, true, false,
         false, "no CURVE key"},
        {"not Z85, secret", endpoint, "\"123456789012345678901234567890123456789\n", 0600, false,
         false, true, "no CURVE key"},
        {"secret open to others", endpoint, secret, 0644, false, false, true, "chmod 0400"},
        {"of another pair", endpoint, secret, 0600, false, false, true, "is not the public key"},
    };
    assert_int_equal(zmq_curve_keypair(other, secret), 0);
    snprintf(bad, sizeof bad, "%s/bad.key", fixture->directory);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct client *client = NULL;
        struct detail detail = {0};
        struct client_conf conf = {
            .endpoints = cases[i].endpoints,
            .server_key_file = cases[i].as_server ? bad : fixture->server_public,
            .public_key_file = cases[i].as_public ? bad : fixture->client_public,
            .secret_key_file = cases[i].as_secret ? bad : fixture->client_secret,
        };
        if (cases[i].text)
            fixture_write(bad, cases[i].text, cases[i].mode);
        enum err err = client_open(&conf, &client, &detail);
        unlink(bad);
        if (err != ERR_PERM || !strstr(detail.text, cases[i].says))
            fail_msg("%s: class %s: %s", cases[i].name, err_name(err), detail.text);
        assert_null(client);
    }
}

static void test_takes_line_ends_in_key_files(void **state)
{
    struct fixture *fixture = *state;
    struct detail detail = {0};
    char line[64];
    snprintf(line, sizeof line, "%s\r\n", fixture->conf.admitted);
    fixture_write(fixture->client_public, line, 0644);
    fixture_start(fixture);
    struct client *client = fixture_client(fixture, NULL, TIMEOUT_MS, 0);
    assert_int_equal(fixture_sign(client, "key", "data", &detail), ERR_OK);
    client_close(client);
}

static void test_bounds_the_wait_for_a_socket(void **state)
{
    struct fixture *fixture = *state;
    struct detail detail = {0};
    fixture_start(fixture);
    struct client *client = fixture_client(fixture, NULL, 1, 1);
    assert_int_equal(fixture_sign(client, "silent", "data", &detail), ERR_TEMP);
    client_close(client);
}

// Every allocation fails once; the call fails or heals, and the next one works.
static void test_survives_failing_allocations(void **state)
{
    struct fixture *fixture = *state;
    struct detail detail = {0};
    unsigned failed = 0;
    fixture_start(fixture);
    for (unsigned n = 1; n <= 20; n++) {
        struct client *client = fixture_client(fixture, NULL, TIMEOUT_MS, 0);
        mem_fail_at(n);
        enum err err = fixture_sign(client, "key", "data", &detail);
        mem_fail_at(0);
        assert_true(err == ERR_OK || err == ERR_TEMP);
        failed += err == ERR_TEMP;
        if (fixture_sign(client, "key", "data", &detail) != ERR_OK)
            fail_msg("after allocation %u failed: %s", n, detail.text);
        client_close(client);
    }
    assert_true(failed > 0 && failed < 20);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_lists_and_signs),
        TEST(test_goes_over_tcp),
        TEST(test_tells_classes_apart),
        TEST(test_tells_failures_apart),
        TEST(test_drops_replies_to_others),
        TEST(test_never_takes_a_late_reply),
        TEST(test_refuses_bad_configuration),
        TEST(test_takes_line_ends_in_key_files),
        TEST(test_bounds_the_wait_for_a_socket),
        TEST(test_survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
