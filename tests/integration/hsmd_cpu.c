// SPDX-License-Identifier: Apache-2.0
// Which threads of a server keep to one processor: some with one token lane, none with two, whose
// workers would then share what is there for both.
#include "hsmd/server/server.h"

#include <dirent.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <zmq.h>

#include "hsmd/server/zap.h"

#define SETTLED_MS 5000 // a thread does it itself, once it runs
#define QUIET_MS 500

static char directory[] = "/tmp/hsmd-cpu-XXXXXX";
static char endpoint[64];

static unsigned count_pinned(void)
{
    unsigned count = 0;
    DIR *dir = opendir("/proc/self/task");
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        cpu_set_t set;
        pid_t thread = (pid_t)atoi(entry->d_name);
        count +=
            thread > 0 && sched_getaffinity(thread, sizeof set, &set) == 0 && CPU_COUNT(&set) == 1;
    }
    closedir(dir);
    return count;
}

static struct server *open_server(unsigned lane_count, bool is_settled)
{
    static const char *const endpoints[] = {endpoint};
    static const unsigned workers[] = {2, 2};
    char public_key[41];
    char secret_key[41];
    struct secret key = {.data = (uint8_t *)secret_key, .len = 40, .room = 41};
    struct server *server = NULL;
    struct detail detail = {0};
    assert_int_equal(zmq_curve_keypair(public_key, secret_key), 0);
    const struct server_conf conf = {.domain = ZAP_DOMAIN_DATA, // nobody comes: no handler
                                     .endpoints = endpoints,
                                     .endpoint_count = 1,
                                     .mode = 0600,
                                     .server_key = &key,
                                     .workers = workers,
                                     .lane_count = lane_count,
                                     .light_workers = 1,
                                     .is_settled = is_settled,
                                     .timeout_ms = 1000,
                                     .request_max = 1024,
                                     .reply_max = 1024};
    (void)server_open(&conf, &server, &detail);
    assert_string_equal(detail.text, "");
    return server;
}

// How many there are once so many have been seen, or the time is over.
static unsigned pinned_of(unsigned lane_count, bool is_settled, unsigned enough, unsigned ms)
{
    struct server *server = open_server(lane_count, is_settled);
    unsigned count = 0;
    for (deadline_t until = deadline_in(ms);
         (count = count_pinned()) < enough && !deadline_is_past(until);)
        usleep(5000);
    assert_int_equal(server_close(server, NULL), ERR_OK);
    // A thread that was joined is in the list a moment longer.
    for (deadline_t until = deadline_in(SETTLED_MS); count_pinned() > 0; usleep(1000))
        assert_false(deadline_is_past(until));
    return count;
}

static void test_processors(void **state)
{
    (void)state;
    cpu_set_t set;
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    if (CPU_COUNT(&set) < 2) {
        print_message("one processor: there is nothing to choose\n");
        skip();
    }
    // The first worker of each lane, and ZeroMQ's two threads.
    assert_int_equal(pinned_of(1, true, 4, SETTLED_MS), 4);
    assert_int_equal(pinned_of(2, true, 1, QUIET_MS), 0);
    assert_int_equal(pinned_of(1, false, 1, QUIET_MS), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_processors)};
    if (!mkdtemp(directory))
        return 1;
    snprintf(endpoint, sizeof endpoint, "ipc://%s/socket", directory);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(directory);
    return failed;
}
