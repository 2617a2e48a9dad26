// SPDX-License-Identifier: Apache-2.0
// Whose directory hsmd writes to.
#include "hsmd/state_directory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define NOBODY 65534
#define UNNAMED 3999999999u

static char dir[64];
static char state[80];

static int setup(void **unused)
{
    (void)unused;
    snprintf(dir, sizeof dir, "/tmp/state-XXXXXX");
    snprintf(state, sizeof state, "%s/state", mkdtemp(dir));
    return 0;
}

static int teardown(void **unused)
{
    (void)unused;
    rmdir(state);
    return rmdir(dir);
}

typedef enum err (*state_function)(const char *path, struct detail *detail);

static void says(state_function look, const char *path, const char *text)
{
    struct detail detail = {0};
    assert_int_equal(look(path, &detail), ERR_PERM);
    if (!strstr(detail.text, text))
        fail_msg("\"%s\"", detail.text);
}

static void test_made(void **unused)
{
    (void)unused;
    struct stat st;
    says(state_directory_check, state, "No such file");
    says(state_directory_own, state, "No such file");
    assert_int_equal(state_directory_make(state, NULL), ERR_OK);
    assert_int_equal(stat(state, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(state_directory_make(state, NULL), ERR_OK);
    assert_int_equal(state_directory_own(state, NULL), ERR_OK);
    assert_int_equal(state_directory_check(state, NULL), ERR_OK);
    assert_int_equal(chmod(state, 0750), 0);
    says(state_directory_make, state, "mode 0750: others may enter it");
    says(state_directory_check, state, "mode 0750: others may enter it");
    says(state_directory_check, "/dev/null", "not a directory");
}

// What root writes in another's directory that other cannot read, nor can anybody else write there.
static void test_another(void **unused)
{
    (void)unused;
    if (geteuid() != 0) { // root's own is another's
        says(state_directory_own, "/root", "belongs to the user root");
        says(state_directory_check, "/root", "'runuser -u root -- '");
        return;
    }
    assert_int_equal(mkdir(state, 0700), 0);
    assert_int_equal(chown(state, NOBODY, NOBODY), 0);
    says(state_directory_own, state, "'runuser -u nobody -- '");
    says(state_directory_make, state, "belongs to the user nobody");
    assert_int_equal(state_directory_check(state, NULL), ERR_OK);
    assert_int_equal(chown(state, UNNAMED, 0), 0);
    says(state_directory_own, state, "belongs to user 3999999999");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(test_made), TEST(test_another)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
