// SPDX-License-Identifier: Apache-2.0
// A server that cannot be opened, whatever it fails at: who opens it is told why, and of what was
// begun nothing is left: no thread, no descriptor, no file, nobody's memory.
//
// The linker puts ours in front of what it asks the system for, to have the nth of those calls
// fail.
#include "hsmd/server/server.h"

#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <zmq.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/file.h"
#include "hsmd/base/log.h"
#include "hsmd/server/zap.h"
#include "tests/integration/hsmd_peer.h"

#define LIGHT 2
#define WORKERS (LIGHT + 2 + 1)
#define ENDED_MS 8000 // a thread that was joined may be listed a moment longer

#ifdef __SANITIZE_THREAD__
#define OWN_THREADS 2 // the sanitizer has one
#else
#define OWN_THREADS 1
#endif

enum { FIRST, SECOND, NETWORK, ENDPOINTS };

static char directory[] = "/tmp/half-open-XXXXXX";
static char endpoints[ENDPOINTS][64];
static char server_public[41], server_secret[41];
static unsigned made, freed, fails_as; // workers; the number of the one that is not made, 0: none
static unsigned asked, failing;        // calls of the system; the number of the one that fails

static bool is_to_fail(int error)
{
    errno = error;
    return ++asked == failing;
}

#define WRAP(type, name, failed, error, parameters, arguments)       \
    type __real_##name parameters;                                   \
    type __wrap_##name parameters;                                   \
    type __wrap_##name parameters                                    \
    {                                                                \
        return is_to_fail(error) ? failed : __real_##name arguments; \
    }

WRAP(int, eventfd, -1, EMFILE, (unsigned count, int flags), (count, flags))
WRAP(int, epoll_create1, -1, EMFILE, (int flags), (flags))
WRAP(int, epoll_ctl, -1, ENOSPC, (int epoll, int what, int fd, struct epoll_event *event),
     (epoll, what, fd, event))
WRAP(int, socket, -1, EMFILE, (int domain, int type, int protocol), (domain, type, protocol))
WRAP(int, bind, -1, EACCES, (int fd, const struct sockaddr *address, socklen_t size),
     (fd, address, size))
WRAP(int, listen, -1, EADDRINUSE, (int fd, int backlog), (fd, backlog))
WRAP(int, pthread_create, EAGAIN, EAGAIN,
     (pthread_t * thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument),
     (thread, attributes, run, argument))
WRAP(void *, zmq_socket, NULL, EMFILE, (void *context, int type), (context, type))
WRAP(int, zmq_bind, -1, EADDRINUSE, (void *socket, const char *endpoint), (socket, endpoint))
WRAP(int, zmq_setsockopt, -1, EINVAL, (void *socket, int option, const void *value, size_t size),
     (socket, option, value, size))

static enum err make_worker(void *context, unsigned lane, void **worker, struct detail *detail)
{
    (void)context;
    if (made + 1 == fails_as)
        return err_set(detail, ERR_TEMP, "worker %u is not made", fails_as);
    unsigned *context_of_one = malloc(sizeof *context_of_one);
    assert_non_null(context_of_one);
    *context_of_one = lane;
    *worker = context_of_one;
    made++;
    return ERR_OK;
}

static void free_worker(void *worker)
{
    free(worker);
    freed++;
}

static bool is_allowed(void *context, const char *public_key)
{
    (void)context;
    (void)public_key;
    return false;
}

// As directory entries, which has the same ones too many each time.
static unsigned count_entries(const char *path)
{
    unsigned count = 0;
    DIR *entries = opendir(path);
    assert_non_null(entries);
    while (readdir(entries))
        count++;
    closedir(entries);
    return count;
}

// The kernel's number: who lists threads while one ends may miss another.
static unsigned count_threads(void)
{
    struct buf status;
    buf_init(&status, 65536);
    assert_int_equal(file_read("/proc/self/status", &status, NULL), ERR_OK);
    const char *line = strstr(buf_text(&status), "\nThreads:");
    assert_non_null(line);
    unsigned count = (unsigned)atoi(line + strlen("\nThreads:"));
    buf_clear(&status);
    return count;
}

static unsigned descriptors, files;

static void count_before(void)
{
    descriptors = count_entries("/proc/self/fd");
    files = count_entries(directory);
    made = freed = asked = 0;
}

static void assert_nothing_left(void)
{
    deadline_t until = deadline_in(ENDED_MS);
    while (count_threads() != OWN_THREADS && !deadline_is_past(until))
        usleep(1000);
    assert_int_equal(count_threads(), OWN_THREADS);
    assert_int_equal(count_entries("/proc/self/fd"), descriptors);
    assert_int_equal(count_entries(directory), files);
    assert_int_equal(made, freed);
}

static bool is_direct;

static enum err open_server(struct server **server, struct detail *detail)
{
    static const unsigned workers[] = {2, 1};
    const char *const names[] = {endpoints[FIRST], endpoints[SECOND], endpoints[NETWORK]};
    struct secret key = {.data = (uint8_t *)server_secret, .len = 40, .room = 41};
    const struct server_conf conf = {.domain = ZAP_DOMAIN_DATA,
                                     .endpoints = names,
                                     .endpoint_count = ENDPOINTS,
                                     .mode = 0600,
                                     .server_key = &key,
                                     .handler = {.is_allowed = is_allowed,
                                                 .worker_new = make_worker,
                                                 .worker_free = free_worker},
                                     .workers = workers,
                                     .lane_count = 2,
                                     .light_workers = LIGHT,
                                     .is_direct = is_direct,
                                     .timeout_ms = 1000,
                                     .request_max = 1000,
                                     .reply_max = 1000};
    return server_open(&conf, server, detail);
}

// It does not open, for that reason, and nothing is left.
static void assert_not_opened(const char *reason)
{
    struct server *server = NULL;
    struct detail detail = {0};
    count_before();
    enum err err = open_server(&server, &detail);
    unsigned last = asked;
    assert_null(server);
    if (err == ERR_OK)
        fail_msg("it opened in spite of call %u of %u", failing, last);
    assert_string_not_equal(detail.text, "");
    if (!strstr(detail.text, reason))
        fail_msg("not for \"%s\": %s", reason, detail.text);
    assert_nothing_left();
}

static void assert_opens(void)
{
    struct server *server = NULL;
    struct detail detail = {0};
    count_before();
    enum err err = open_server(&server, &detail);
    assert_string_equal(detail.text, "");
    assert_int_equal(err, ERR_OK);
    assert_int_equal(made, WORKERS);
    assert_int_equal(count_entries(directory), files + 4); // two sockets, and their locks
    assert_int_equal(server_close(server, NULL), ERR_OK);
    assert_nothing_left();
}

static int setup(void **state)
{
    (void)state;
    log_open("test", LOG_SINK_STDERR, LOG_LEVEL_ERROR);
    assert_non_null(mkdtemp(strcpy(directory, "/tmp/half-open-XXXXXX")));
    assert_int_equal(zmq_curve_keypair(server_public, server_secret), 0);
    snprintf(endpoints[FIRST], sizeof *endpoints, "ipc://%s/first", directory);
    snprintf(endpoints[SECOND], sizeof *endpoints, "ipc://%s/second", directory);
    snprintf(endpoints[NETWORK], sizeof *endpoints, "tcp://127.0.0.1:%u", peer_free_port());
    fails_as = failing = 0;
    assert_opens(); // and what libraries do but once is done
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fails_as = failing = 0;
    mem_fail_at(0);
    assert_opens(); // as if nothing had been
    return rmdir(directory);
}

// An endpoint that is not the first cannot be bound: a file is there, which stays; or somebody
// listens there.
static void test_endpoints(void **state)
{
    (void)state;
    struct stat st;
    const char *path = endpoints[SECOND] + strlen("ipc://");
    assert_int_equal(file_write(path, BYTES_LITERAL("precious"), 0600, NULL), ERR_OK);
    assert_not_opened("no socket");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, strlen("precious"));
    assert_int_equal(unlink(path), 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons((uint16_t)atoi(strrchr(endpoints[NETWORK], ':') + 1));
    int other = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(other, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(other, 1), 0);
    assert_not_opened(endpoints[NETWORK]);
    close(other);
}

// Those that were made before have threads at work.
static void test_workers(void **state)
{
    (void)state;
    char reason[40];
    for (fails_as = 1; fails_as <= WORKERS; fails_as++) {
        snprintf(reason, sizeof reason, "worker %u is not made", fails_as);
        assert_not_opened(reason);
        assert_int_equal(made, fails_as - 1);
    }
}

static void test_system(void **state)
{
    (void)state;
    struct server *server = NULL;
    count_before();
    assert_int_equal(open_server(&server, NULL), ERR_OK);
    const unsigned of_opening = asked;
    assert_int_equal(server_close(server, NULL), ERR_OK);
    assert_in_range(of_opening, WORKERS + 10, 200);
    for (failing = 1; failing <= of_opening; failing++)
        assert_not_opened("");
}

static void test_memory(void **state)
{
    (void)state;
    enum err err = ERR_TEMP;
    unsigned failures = 0;
    for (; err != ERR_OK; failures++) {
        struct server *server = NULL;
        count_before();
        mem_fail_at(failures + 1);
        err = open_server(&server, NULL);
        mem_fail_at(0);
        assert_int_equal(server_close(server, NULL), ERR_OK);
        assert_nothing_left();
    }
    assert_true(failures > 8);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    static const struct CMUnitTest tests[] = {
        TEST(test_endpoints),
        TEST(test_workers),
        TEST(test_system),
        TEST(test_memory),
    };
    int failed = cmocka_run_group_tests_name("router", tests, NULL, NULL);
    is_direct = true;
    return failed + cmocka_run_group_tests_name("local", tests, NULL, NULL);
}
