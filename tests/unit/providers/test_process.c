// SPDX-License-Identifier: Apache-2.0
// The provider as part of a process: deadlines, threads, library contexts, unloading, exit.
#include "tests/unit/providers/app.h"

#include <dirent.h>
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

static unsigned count_threads(void)
{
    unsigned count = 0;
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    while (readdir(tasks))
        count++;
    closedir(tasks);
    return count;
}

// The first context brings the fake's own threads up; the others have clients of their own.
static void test_brings_no_threads(void **state)
{
    static const char *const timeouts[] = {"20001", "20002", "20003"};
    unsigned before = 0;
    (void)state;
    for (size_t i = 0; i < sizeof timeouts / sizeof *timeouts; i++) {
        OSSL_LIB_CTX *libctx = app_open(fake, "default hsmd", timeouts[i], NULL);
        EVP_PKEY *key = app_key(libctx, "hsmd:general");
        assert_true(signs(libctx, key, "alone"));
        if (i)
            assert_int_equal(count_threads(), before);
        before = count_threads();
        EVP_PKEY_free(key);
        app_close(libctx);
    }
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
        app_close(libctx); // and with it the client and its connections
    }
}

// What a program needs that is configured by the environment alone.
static void set_environment(bool on)
{
    static const char *const names[][2] = {{"HSMD_SERVER_KEY_FILE", "server.pub"},
                                           {"HSMD_PUBLIC_KEY_FILE", "client.pub"},
                                           {"HSMD_SECRET_KEY_FILE", "client.key"}};
    if (on)
        setenv("HSMD_ENDPOINTS", fake_endpoint(fake), 1);
    else
        unsetenv("HSMD_ENDPOINTS");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", fake_dir(fake), names[i][1]);
        if (on)
            setenv(names[i][0], path, 1);
        else
            unsetenv(names[i][0]);
    }
}

// A key may be all that still holds the provider.
static void test_key_outlives_unload(void **state)
{
    (void)state;
    OSSL_LIB_CTX *libctx = OSSL_LIB_CTX_new();
    set_environment(true);
    OSSL_PROVIDER_set_default_search_path(libctx, TEST_BUILD "/bin");
    OSSL_PROVIDER *base = OSSL_PROVIDER_load(libctx, "default");
    OSSL_PROVIDER *ours = OSSL_PROVIDER_load(libctx, "hsmd");
    assert_non_null(base);
    assert_non_null(ours);
    EVP_PKEY *key = app_key(libctx, "hsmd:general");
    assert_true(signs(libctx, key, "before"));
    OSSL_PROVIDER_unload(ours);
    ERR_clear_error();
    // Whether OpenSSL still lets it sign is OpenSSL's affair; if not, it says so.
    assert_true(signs(libctx, key, "after") || ERR_peek_error());
    ERR_clear_error();
    EVP_PKEY_free(key);
    OSSL_PROVIDER_unload(base);
    OSSL_LIB_CTX_free(libctx);
    set_environment(false);
}

static void *wait_for_ever(void *arg)
{
    struct worker *worker = arg;
    signs(worker->libctx, worker->keys[0], "in flight");
    return NULL;
}

// The program that the next test runs: exit, with atexit handlers, OpenSSL's among them, while
// other threads wait in calls (had they come back, libcrypto itself would not have survived its own
// cleanup). In the default library context, as the openssl command
// does.
static int exit_in_flight(long milliseconds)
{
    pthread_t threads[4];
    char go;
    OSSL_PROVIDER_set_default_search_path(NULL, TEST_BUILD "/bin");
    if (!OSSL_PROVIDER_load(NULL, "default") || !OSSL_PROVIDER_load(NULL, "hsmd"))
        return 1;
    struct worker worker = {.keys = {app_try_key(NULL, "hsmd:general")}};
    if (!worker.keys[0])
        return 2;
    alarm(60);
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, wait_for_ever, &worker);
    if (read(STDIN_FILENO, &go, 1) != 1)
        return 3;
    nanosleep(&(struct timespec){.tv_nsec = milliseconds * 1000000}, NULL);
    exit(CHILD_OK);
}

static pid_t start_exit_in_flight(int round, int *go)
{
    char milliseconds[16];
    int ends[2];
    snprintf(milliseconds, sizeof milliseconds, "%d", 20 * round);
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[0], STDIN_FILENO);
        close(ends[0]);
        close(ends[1]);
        setenv("TSAN_OPTIONS", "report_bugs=0", 1); // tests/CMakeLists.txt says why
        setenv("HSMD_TIMEOUT", "60000", 1);
        execl("/proc/self/exe", "test", "exit", milliseconds, (char *)NULL);
        _exit(127);
    }
    close(ends[0]);
    *go = ends[1];
    return child;
}

// No crash, no hang, from the moment on when all requests are with hsmd.
static void test_exit_in_flight(void **state)
{
    (void)state;
    set_environment(true);
    fake_set_fault(fake, FAKE_SIGNS_NEVER);
    for (int round = 0; round < 4; round++) {
        int go = -1;
        unsigned before = fake_count(fake, WIRE_SIGN);
        deadline_t start = clock_ms();
        pid_t child = start_exit_in_flight(round, &go);
        while (fake_count(fake, WIRE_SIGN) < before + 4 && clock_ms() - start < 30000)
            nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        assert_int_equal(write(go, "", 1), 1);
        close(go);
        await(child, CHILD_OK);
        assert_true(fake_count(fake, WIRE_SIGN) >= before + 4);
    }
    set_environment(false);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "exit") == 0)
        return exit_in_flight(strtol(argv[2], NULL, 10));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_deadline, no_fault),
        cmocka_unit_test_teardown(test_threads, no_fault),
        cmocka_unit_test_teardown(test_first_use_from_many_threads, no_fault),
        cmocka_unit_test_teardown(test_brings_no_threads, no_fault),
        cmocka_unit_test_teardown(test_two_contexts, no_fault),
        cmocka_unit_test_teardown(test_unload_and_load, no_fault),
        cmocka_unit_test_teardown(test_key_outlives_unload, no_fault),
        cmocka_unit_test_teardown(test_exit_in_flight, no_fault),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
