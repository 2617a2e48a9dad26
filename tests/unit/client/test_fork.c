// SPDX-License-Identifier: Apache-2.0
// A client in a process that forks.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "callers.h"
#include "fixture.h"

// Runs in a forked child: calls, closes, and tells by its exit status.
static void be_child(struct client *client)
{
    struct detail detail = {0};
    int status = fixture_sign(client, "key", "of the child", &detail) == ERR_OK ? 0 : 1;
    if (status)
        fprintf(stderr, "child: %s\n", detail.text);
    client_close(client);
    _exit(status);
}

static void assert_child_ends_well(pid_t pid)
{
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_fork_before_first_use(void **state)
{
    struct fixture *fixture = *state;
    fixture_start(fixture);
    struct client *client = fixture_client(fixture, NULL, TIMEOUT_MS, 0);
    pid_t pid = fork();
    if (pid == 0)
        be_child(client);
    assert_child_ends_well(pid);
    assert_signs(client, "of the parent");
    client_close(client);
}

static void test_fork_after_first_use(void **state)
{
    struct fixture *fixture = *state;
    fixture_start(fixture);
    struct client *client = fixture_client(fixture, NULL, TIMEOUT_MS, 0);
    assert_signs(client, "before");
    for (int i = 0; i < 3; i++) {
        pid_t pid = fork();
        if (pid == 0)
            be_child(client);
        assert_signs(client, "meanwhile");
        assert_child_ends_well(pid);
    }
    assert_signs(client, "after");
    client_close(client);
}

// A child that closes without a call touches nothing of its parent's.
static void test_close_in_child(void **state)
{
    struct fixture *fixture = *state;
    fixture_start(fixture);
    struct client *client = fixture_client(fixture, NULL, TIMEOUT_MS, 0);
    assert_signs(client, "before");
    pid_t pid = fork();
    if (pid == 0) {
        client_close(client);
        _exit(0);
    }
    assert_child_ends_well(pid);
    assert_signs(client, "after");
    client_close(client);
}

// The fork may fall into a moment when another thread holds the pool's lock.
static void test_fork_amid_calls(void **state)
{
    struct fixture *fixture = *state;
    struct caller callers[CALLERS];
    fixture_start(fixture);
    struct client *client = fixture_client(fixture, NULL, TIMEOUT_MS, 4);
    callers_start(callers, client, CALLS);
    for (int i = 0; i < 5; i++) {
        pid_t pid = fork();
        if (pid == 0)
            be_child(client);
        assert_child_ends_well(pid);
    }
    callers_join(callers);
    client_close(client);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_fork_before_first_use),
        TEST(test_fork_after_first_use),
        TEST(test_close_in_child),
        TEST(test_fork_amid_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
