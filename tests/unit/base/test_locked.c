// SPDX-License-Identifier: Apache-2.0
// That secrets are locked into memory. Without sanitizers, which make mlock(2) do nothing.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/base/secret.h"

#define NOBODY 65534

// Whether the mapping at that address has all these flags (proc(5), VmFlags).
static bool has_flags(const void *address, const char *const flags[], size_t count)
{
    char line[512];
    bool here = false;
    bool found = false;
    FILE *maps = fopen("/proc/self/smaps", "re");
    assert_non_null(maps);
    while (fgets(line, sizeof line, maps)) {
        unsigned long from = 0;
        unsigned long to = 0;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            here = from <= (unsigned long)address && (unsigned long)address < to;
        if (!here || strncmp(line, "VmFlags:", 8) != 0)
            continue;
        found = true;
        for (size_t i = 0; i < count; i++)
            found = found && strstr(line, flags[i]);
    }
    fclose(maps);
    return found;
}

static void test_locked_and_not_dumped(void **state)
{
    static const char *const flags[] = {" lo", " dd"};
    struct secret secret;
    (void)state;
    assert_int_equal(secret_init(&secret, 5000, NULL), ERR_OK);
    assert_true(has_flags(secret.data, flags, 2));
    assert_true(has_flags(secret.data + 4999, flags, 2));
    secret_clear(&secret);
}

// Runs in a child, for the limits cannot be raised again.
static int without_locked_memory(void)
{
    struct rlimit none = {0, 0};
    struct secret secret;
    struct detail detail = {0};
    if (geteuid() == 0 && setresuid(NOBODY, NOBODY, NOBODY) != 0)
        return 1;
    if (setrlimit(RLIMIT_MEMLOCK, &none) != 0)
        return 2;
    if (secret_init(&secret, 16, &detail) != ERR_TEMP || secret.data)
        return 3;
    return strstr(detail.text, "LimitMEMLOCK") ? 0 : 4;
}

static void test_limit_of_locked_memory(void **state)
{
    int status = 0;
    pid_t pid = fork();
    (void)state;
    if (pid == 0)
        _exit(without_locked_memory());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_locked_and_not_dumped),
        cmocka_unit_test(test_limit_of_locked_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
