// SPDX-License-Identifier: Apache-2.0
// A key of hsmd in a program that forks. A program of its own, because ThreadSanitizer does not
// support threads in the child of a process with threads, and is not run with it.
#include "tests/unit/providers/app.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 12
#define CHILD_OK 42

static struct fake *fake;

static int setup(void **state)
{
    app_fake_setup(state);
    fake = *state;
    return 0;
}

static bool signs(OSSL_LIB_CTX *libctx, EVP_PKEY *key, const char *text)
{
    uint8_t sig[512];
    size_t len = app_digest_sign(libctx, key, "SHA256", NULL, text, strlen(text), sig, sizeof sig);
    return len && app_digest_verify(libctx, key, "SHA256", NULL, text, strlen(text), sig, len) == 1;
}

static void await(pid_t pid, int expected)
{
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), expected);
}

// Before the first use, after it, and from a child of a child; parents go on undisturbed.
static void test_fork(void **state)
{
    (void)state;
    OSSL_LIB_CTX *libctx = app_open(fake, "default hsmd", "30000", NULL);
    pid_t early = fork();
    if (early == 0) {
        EVP_PKEY *key = app_try_key(libctx, "hsmd:general");
        _exit(key && signs(libctx, key, "early child") ? CHILD_OK : 1);
    }
    await(early, CHILD_OK);
    EVP_PKEY *key = app_key(libctx, "hsmd:general");
    assert_true(signs(libctx, key, "parent"));
    pid_t late = fork();
    if (late == 0) {
        bool ok = signs(libctx, key, "late child");
        pid_t grandchild = fork();
        if (grandchild == 0)
            _exit(signs(libctx, key, "grandchild") ? CHILD_OK : 1);
        int status = 0;
        ok = ok && waitpid(grandchild, &status, 0) == grandchild && WIFEXITED(status) &&
             WEXITSTATUS(status) == CHILD_OK && signs(libctx, key, "again");
        EVP_PKEY_free(key);
        OSSL_LIB_CTX_free(libctx); // its inherited sockets are the parent's
        _exit(ok ? CHILD_OK : 1);
    }
    for (int i = 0; i < ROUNDS; i++)
        assert_true(signs(libctx, key, "parent, meanwhile"));
    await(late, CHILD_OK);
    assert_true(signs(libctx, key, "parent, later"));
    EVP_PKEY_free(key);
    app_close(libctx);
}

static bool signs_anew(void)
{
    OSSL_LIB_CTX *libctx = app_open(fake, "default hsmd", "30000", NULL);
    EVP_PKEY *key = app_try_key(libctx, "hsmd:general");
    bool ok = key && signs(libctx, key, "anew");
    EVP_PKEY_free(key);
    app_close(libctx);
    return ok;
}

// OpenSSL has let go of the module, and its fork handler is called all the same.
static void test_fork_after_unload(void **state)
{
    (void)state;
    assert_true(signs_anew());
    pid_t child = fork();
    if (child == 0)
        _exit(signs_anew() ? CHILD_OK : 1);
    await(child, CHILD_OK);
    assert_true(signs_anew());
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fork),
                                       cmocka_unit_test(test_fork_after_unload)};
    return cmocka_run_group_tests(tests, setup, app_fake_teardown);
}
