// SPDX-License-Identifier: Apache-2.0
// Many callers, several endpoints, and an hsmd that goes and comes.
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "callers.h"
#include "fixture.h"

#define HUNG_HOST "hung.invalid"
#define HUNG_MS 1500
#define SHORT_MS 1000 // of a call: less

// How often the client has tried to reach an endpoint of TCP.
static atomic_uint tries;

int __real_connect(int fd, const struct sockaddr *address, socklen_t len);
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t len);
int __real_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **found);
int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **found);

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t len)
{
    tries += address->sa_family == AF_INET;
    return __real_connect(fd, address, len);
}

// One host's name server does not answer.
int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **found)
{
    if (strcmp(host, HUNG_HOST) != 0)
        return __real_getaddrinfo(host, port, hints, found);
    tries++;
    usleep(1000 * HUNG_MS);
    return EAI_AGAIN;
}

static void test_many_threads(void **state)
{
    static const unsigned sockets[] = {0, 3};
    struct fixture *fixture = *state;
    struct caller callers[CALLERS];
    fixture_start(fixture);
    for (size_t i = 0; i < sizeof sockets / sizeof *sockets; i++) {
        struct client *client = fixture_client(fixture, NULL, TIMEOUT_MS, sockets[i]);
        callers_start(callers, client, CALLS);
        callers_join(callers);
        client_close(client);
    }
}

static void *run_silent(void *data)
{
    struct caller *caller = data;
    caller->failed = fixture_sign(caller->client, "silent", "x", &caller->detail) != ERR_OK;
    return NULL;
}

// With one socket, which a silent request holds, a second call ends at its deadline too.
static void test_waiters_have_a_deadline(void **state)
{
    struct fixture *fixture = *state;
    fixture_start(fixture);
    struct client *client = fixture_client(fixture, NULL, 500, 1);
    struct caller callers[2];
    for (unsigned i = 0; i < 2; i++) {
        callers[i] = (struct caller){.client = client};
        assert_int_equal(pthread_create(&callers[i].thread, NULL, run_silent, &callers[i]), 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(callers[i].thread, NULL);
        assert_int_equal(callers[i].failed, 1);
    }
    client_close(client);
}

// A TCP port of 127.0.0.1 where the kernel takes connections and nobody ever answers; closed, one
// where nobody listens.
static int open_silent(char *endpoint, size_t size)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    assert_int_equal(listen(fd, 16), 0);
    snprintf(endpoint, size, "tcp://127.0.0.1:%u", ntohs(address.sin_port));
    return fd;
}

static unsigned count_connections(int fd)
{
    unsigned count = 0;
    for (int accepted; (accepted = accept(fd, NULL, NULL)) >= 0; count++)
        close(accepted);
    return count;
}

static void test_goes_on_from_a_dead_endpoint(void **state)
{
    struct fixture *fixture = *state;
    char dead[64];
    char both[300];
    close(open_silent(dead, sizeof dead));
    snprintf(both, sizeof both, "%s, %s", dead, fixture->conf.endpoint);
    fixture_start(fixture);
    struct client *client = fixture_client(fixture, both, TIMEOUT_MS, 0);
    assert_signs(client, "first");
    assert_signs(client, "second");
    client_close(client);
}

static void test_goes_on_from_a_silent_endpoint(void **state)
{
    struct fixture *fixture = *state;
    char silent[64];
    char both[300];
    int fd = open_silent(silent, sizeof silent);
    snprintf(both, sizeof both, "%s,%s", silent, fixture->conf.endpoint);
    fixture_start(fixture);
    struct client *client = fixture_client(fixture, both, 2000, 0);
    assert_signs(client, "first");
    assert_int_equal(count_connections(fd), 1);
    assert_signs(client, "second"); // begins with the last good one
    assert_int_equal(count_connections(fd), 0);
    client_close(client);
    close(fd);
}

// One whose backlog is full, so that connections to it are neither made nor refused.
static void fill(int listening, int fds[4])
{
    struct sockaddr_in address;
    socklen_t len = sizeof address;
    assert_int_equal(listen(listening, 0), 0);
    assert_int_equal(getsockname(listening, (struct sockaddr *)&address, &len), 0);
    for (unsigned i = 0; i < 4; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)__real_connect(fds[i], (struct sockaddr *)&address, len);
    }
}

// A call that fails has found out who it is that keeps everybody waiting: the next one begins with
// the other, which is there now.
static void assert_avoids(struct fixture *fixture, const char *hung)
{
    char both[300];
    struct detail detail = {0};
    snprintf(both, sizeof both, "%s,%s", hung, fixture->conf.endpoint);
    struct client *client = fixture_client(fixture, both, SHORT_MS, 0);
    tries = 0;
    assert_int_equal(fixture_sign(client, "key", "data", &detail), ERR_TEMP);
    assert_int_not_equal(tries, 0);
    tries = 0;
    fixture_start(fixture);
    assert_signs(client, "data");
    assert_int_equal(tries, 0);
    fixture_stop(fixture);
    client_close(client);
}

static void test_avoids_what_hung(void **state)
{
    char endpoint[64];
    int fds[4];
    int fd = open_silent(endpoint, sizeof endpoint);
    assert_avoids(*state, endpoint);
    fill(fd, fds);
    assert_avoids(*state, endpoint);
    for (unsigned i = 0; i < 4; i++)
        close(fds[i]);
    close(fd);
    assert_avoids(*state, "tcp://" HUNG_HOST ":7");
}

// Who has no time for us says so at once; that another one hangs makes it no slower.
static void test_does_not_wait_beside_an_answer(void **state)
{
    struct fixture *fixture = *state;
    struct detail detail = {0};
    char silent[64];
    char both[300];
    int fd = open_silent(silent, sizeof silent);
    snprintf(both, sizeof both, "%s,%s", fixture->conf.endpoint, silent);
    fixture_start(fixture);
    struct client *client = fixture_client(fixture, both, SHORT_MS, 0);
    tries = 0;
    assert_int_equal(fixture_sign(client, "temp", "data", &detail), ERR_TEMP);
    assert_int_equal(tries, 1);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(fixture_sign(client, "temp", "data", &detail), ERR_TEMP);
    assert_int_equal(tries, 1);
    client_close(client);
    close(fd);
}

static void test_goes_on_from_one_in_trouble(void **state)
{
    struct fixture *fixture = *state;
    struct server_conf troubled = fixture->conf;
    char both[500];
    snprintf(troubled.endpoint, sizeof troubled.endpoint, "ipc://%s/troubled", fixture->directory);
    troubled.is_failing = true;
    snprintf(both, sizeof both, "%s,%s", troubled.endpoint, fixture->conf.endpoint);
    struct server *server = server_start(&troubled);
    fixture_start(fixture);
    struct client *client = fixture_client(fixture, both, TIMEOUT_MS, 0);
    assert_signs(client, "data");
    assert_int_equal(server_requests(server), 1);
    client_close(client);
    server_stop(server);
    unlink(strchr(troubled.endpoint, '/') + 2);
}

static void test_names_every_endpoint_that_failed(void **state)
{
    struct fixture *fixture = *state;
    struct detail detail = {0};
    char silent[64];
    char both[300];
    int fd = open_silent(silent, sizeof silent);
    snprintf(both, sizeof both, "%s,%s", silent, fixture->conf.endpoint);
    struct client *client = fixture_client(fixture, both, 1000, 0);
    assert_int_equal(fixture_sign(client, "key", "data", &detail), ERR_TEMP);
    assert_non_null(strstr(detail.text, "does not answer; "));
    assert_non_null(strstr(detail.text, "cannot reach it"));
    client_close(client);
    close(fd);
}

static void test_restart_between_calls(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = fixture_client(fixture, NULL, TIMEOUT_MS, 0);
    for (int i = 0; i < 4; i++) {
        fixture_start(fixture);
        assert_signs(client, "first");
        assert_signs(client, "second");
        fixture_stop(fixture);
    }
    client_close(client);
}

static void test_restart_amid_calls(void **state)
{
    struct fixture *fixture = *state;
    struct caller callers[CALLERS];
    fixture_start(fixture);
    struct client *client = fixture_client(fixture, NULL, TIMEOUT_MS, 0);
    callers_start(callers, client, CALLS);
    for (int i = 0; i < 2; i++) {
        usleep(20000);
        fixture_stop(fixture);
        fixture_start(fixture);
    }
    callers_join(callers);
    client_close(client);
}

static void test_waits_for_a_server_that_comes(void **state)
{
    struct fixture *fixture = *state;
    struct client *client = fixture_client(fixture, NULL, TIMEOUT_MS, 0);
    struct caller caller = {.client = client, .calls = 1};
    assert_int_equal(pthread_create(&caller.thread, NULL, caller_run, &caller), 0);
    usleep(300000);
    fixture_start(fixture);
    pthread_join(caller.thread, NULL);
    if (caller.failed)
        fail_msg("%s", caller.detail.text);
    client_close(client);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_many_threads),
        TEST(test_waiters_have_a_deadline),
        TEST(test_goes_on_from_a_dead_endpoint),
        TEST(test_goes_on_from_a_silent_endpoint),
        TEST(test_avoids_what_hung),
        TEST(test_does_not_wait_beside_an_answer),
        TEST(test_goes_on_from_one_in_trouble),
        TEST(test_names_every_endpoint_that_failed),
        TEST(test_restart_between_calls),
        TEST(test_restart_amid_calls),
        TEST(test_waits_for_a_server_that_comes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
