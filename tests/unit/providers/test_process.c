// SPDX-License-Identifier: Apache-2.0
// The provider as part of a process: deadlines, threads, forks, library contexts, unloading, exit.
#include "tests/unit/providers/app.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/provider.h>

#include "hsmd/base/clock.h"

#define THREADS 8
#define ROUNDS 12
#define CHILD_OK 42

static struct fake *fake;

static int setup(void **state)
{
    app_fake_setup(state);
    fake = *state;
    return 0;
}

static int teardown(void **state)
{
    return app_fake_teardown(state);
}

static int no_fault(void **state)
{
    (void)state;
    fake_set_fault(fake, FAKE_NO_FAULT);
    ERR_clear_error();
    return 0;
}

static bool signs(OSSL_LIB_CTX *libctx, EVP_PKEY *key, const char *text)
{
    uint8_t sig[512];
    size_t len = app_digest_sign(libctx, key, "SHA256", NULL, text, strlen(text), sig, sizeof sig);
    return len && app_digest_verify(libctx, key, "SHA256", NULL, text, strlen(text), sig, len) == 1;
}

// Whatever hsmd does instead of answering, the call ends soon after its deadline, and the next one,
// to a hsmd in health, works.
static void test_deadline(void **state)
{
    static const struct {
        const char *name;
        enum fake_fault fault;
    } rows[] = {{"silent", FAKE_SILENT},
                {"garbage", FAKE_GARBAGE},
                {"wrong id", FAKE_WRONG_ID},
                {"too slow", FAKE_SLOW}};
    (void)state;
    OSSL_LIB_CTX *patient = app_open(fake, "default hsmd", APP_TIMEOUT, NULL);
    OSSL_LIB_CTX *hurried = app_open(fake, "default hsmd", "150", NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        EVP_PKEY *key = app_key(patient, "hsmd:general");
        fake_set_fault(fake, rows[i].fault);
        deadline_t start = clock_ms();
        print_message("%s\n", rows[i].name);
        assert_null(app_try_key(hurried, "hsmd:general"));
        app_expect_error("hsmd cannot do it now", "describe with key general");
        assert_true(clock_ms() - start < 6000);
        fake_set_fault(fake, FAKE_NO_FAULT);
        assert_true(signs(patient, key, "healed"));
        EVP_PKEY_free(key);
    }
    app_close(hurried);
    app_close(patient);
}

struct worker {
    OSSL_LIB_CTX *libctx;
    EVP_PKEY *keys[2];
    int number;
    int good;
};

static void *work(void *arg)
{
    struct worker *worker = arg;
    for (int i = 0; i < ROUNDS; i++) {
        char text[40];
        snprintf(text, sizeof text, "thread %d round %d", worker->number, i);
        worker->good += signs(worker->libctx, worker->keys[i % 2], text);
    }
    OPENSSL_thread_stop_ex(worker->libctx);
    return NULL;
}

// One key object for all threads, and the first call from all at once.
static void test_threads(void **state)
{
    struct worker workers[THREADS];
    pthread_t threads[THREADS];
    (void)state;
    OSSL_LIB_CTX *libctx = app_open(fake, "default hsmd", "60000", NULL);
    EVP_PKEY *rsa = app_key(libctx, "hsmd:general");
    EVP_PKEY *ec = app_key(libctx, "hsmd:ec-general");
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.libctx = libctx, .keys = {rsa, ec}, .number = i};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(workers[i].good, ROUNDS);
    }
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(ec);
    app_close(libctx);
}

static void *load(void *arg)
{
    struct worker *worker = arg;
    EVP_PKEY *key = app_try_key(worker->libctx, "hsmd:general");
    worker->good = key && signs(worker->libctx, key, "first use");
    EVP_PKEY_free(key);
    OPENSSL_thread_stop_ex(worker->libctx);
    return NULL;
}

// The client is opened by whoever comes first, and by nobody twice.
static void test_first_use_from_many_threads(void **state)
{
    (void)state;
    for (int round = 0; round < 3; round++) {
        struct worker workers[THREADS];
        pthread_t threads[THREADS];
        OSSL_LIB_CTX *both[2] = {app_open(fake, "default hsmd", "50000", NULL),
                                 app_open(fake, "default hsmd", "50000", NULL)};
        for (int i = 0; i < THREADS; i++) {
            workers[i] = (struct worker){.libctx = both[i % 2]};
            assert_int_equal(pthread_create(&threads[i], NULL, load, &workers[i]), 0);
        }
        for (int i = 0; i < THREADS; i++) {
            pthread_join(threads[i], NULL);
            assert_int_equal(workers[i].good, 1);
        }
        app_close(both[0]);
        app_close(both[1]);
    }
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

static void test_two_contexts(void **state)
{
    (void)state;
    OSSL_LIB_CTX *first = app_open(fake, "default hsmd", "20000", NULL);
    OSSL_LIB_CTX *second = app_open(fake, "default hsmd", "20000", NULL);
    EVP_PKEY *first_key = app_key(first, "hsmd:general");
    EVP_PKEY *second_key = app_key(second, "hsmd:ec-general");
    assert_true(signs(first, first_key, "first"));
    assert_true(signs(second, second_key, "second"));
    EVP_PKEY_free(first_key);
    app_close(first);
    // The other one still has the client they shared.
    assert_true(signs(second, second_key, "second, alone"));
    EVP_PKEY_free(second_key);
    app_close(second);
}

static void test_unload_and_load(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        OSSL_LIB_CTX *libctx = app_open(fake, "default hsmd", APP_TIMEOUT, NULL);
        EVP_PKEY *key = app_key(libctx, "hsmd:general");
        assert_true(signs(libctx, key, "loaded"));
        EVP_PKEY_free(key);
        app_close(libctx); // and with it the client, its threads and the module
    }
}

// A key may be all that still holds the provider.
static void test_key_outlives_unload(void **state)
{
    (void)state;
    OSSL_LIB_CTX *libctx = OSSL_LIB_CTX_new();
    char path[128];
    setenv("HSMD_ENDPOINTS", fake_endpoint(fake), 1);
    snprintf(path, sizeof path, "%s/server.pub", fake_dir(fake));
    setenv("HSMD_SERVER_KEY_FILE", path, 1);
    snprintf(path, sizeof path, "%s/client.pub", fake_dir(fake));
    setenv("HSMD_PUBLIC_KEY_FILE", path, 1);
    snprintf(path, sizeof path, "%s/client.key", fake_dir(fake));
    setenv("HSMD_SECRET_KEY_FILE", path, 1);
    OSSL_PROVIDER_set_default_search_path(libctx, TEST_BUILD "/bin");
    OSSL_PROVIDER *base = OSSL_PROVIDER_load(libctx, "default");
    OSSL_PROVIDER *ours = OSSL_PROVIDER_load(libctx, "hsmd");
    assert_non_null(base);
    assert_non_null(ours);
    EVP_PKEY *key = app_key(libctx, "hsmd:general");
    assert_true(signs(libctx, key, "before"));
    OSSL_PROVIDER_unload(ours);
    ERR_clear_error();
    EVP_PKEY_free(key);
    OSSL_PROVIDER_unload(base);
    OSSL_LIB_CTX_free(libctx);
    unsetenv("HSMD_ENDPOINTS");
    unsetenv("HSMD_SERVER_KEY_FILE");
    unsetenv("HSMD_PUBLIC_KEY_FILE");
    unsetenv("HSMD_SECRET_KEY_FILE");
}

static void *work_for_ever(void *arg)
{
    struct worker *worker = arg;
    for (;;)
        signs(worker->libctx, worker->keys[0], "in flight");
    return NULL;
}

// exit while other threads are in the middle of calls: no crash, no hang.
static void test_exit_in_flight(void **state)
{
    (void)state;
    for (int round = 0; round < 6; round++) {
        fake_set_fault(fake, round % 2 ? FAKE_SLOW : FAKE_NO_FAULT);
        pid_t child = fork();
        if (child == 0) {
            pthread_t threads[4];
            OSSL_LIB_CTX *libctx = app_open(fake, "default hsmd", APP_TIMEOUT, NULL);
            struct worker worker = {.libctx = libctx, .keys = {app_key(libctx, "hsmd:general")}};
            alarm(60);
            for (int i = 0; i < 4; i++)
                pthread_create(&threads[i], NULL, work_for_ever, &worker);
            nanosleep(&(struct timespec){.tv_nsec = 50000000 + round * 7000000}, NULL);
            exit(CHILD_OK); // with atexit handlers, OpenSSL's among them
        }
        await(child, CHILD_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_deadline, no_fault),
        cmocka_unit_test_teardown(test_threads, no_fault),
        cmocka_unit_test_teardown(test_first_use_from_many_threads, no_fault),
        cmocka_unit_test_teardown(test_fork, no_fault),
        cmocka_unit_test_teardown(test_two_contexts, no_fault),
        cmocka_unit_test_teardown(test_unload_and_load, no_fault),
        cmocka_unit_test_teardown(test_key_outlives_unload, no_fault),
        cmocka_unit_test_teardown(test_exit_in_flight, no_fault),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
