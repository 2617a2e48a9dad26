// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/sealgated_process.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define START_LIMIT 60000

extern char **environ;

static char program[] = TEST_BUILD "/bin/sealgated";

static pid_t spawn(char **args, const char *log, int log_flags)
{
    pid_t pid;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 2, log, O_WRONLY | O_CREAT | log_flags, 0600);
    assert_int_equal(posix_spawn(&pid, program, &actions, NULL, args, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    return pid;
}

pid_t sealgated_start(const char *conf, const char *log)
{
    int ends[2];
    char number[12];
    char line[16];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(fcntl(ends[0], F_SETFD, FD_CLOEXEC), 0);
    snprintf(number, sizeof number, "%d", ends[1]);
    char *args[] = {program, "-c", (char *)conf, "--ready-fd", number, NULL};
    pid_t pid = spawn(args, log, O_APPEND);
    close(ends[1]);
    struct pollfd wait = {.fd = ends[0], .events = POLLIN};
    assert_int_equal(poll(&wait, 1, START_LIMIT), 1);
    assert_true(read(ends[0], line, sizeof line) > 0);
    close(ends[0]);
    return pid;
}

int sealgated_stop(pid_t pid)
{
    int status = -1;
    kill(pid, SIGTERM);
    waitpid(pid, &status, 0);
    return status;
}

int sealgated_check(const char *conf, const char *log)
{
    int status;
    char *args[] = {program, "-t", "-c", (char *)conf, NULL};
    pid_t pid = spawn(args, log, O_TRUNC);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}
