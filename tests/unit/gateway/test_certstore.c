// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

#include <cmocka.h>

#include <sqlite3.h>

#include "gateway/certificate.h"
#include "gateway/certstore.h"
#include "tests/support/pki.h"

#define DAY (24 * 3600L)

static char directory[] = "/tmp/sealgate-certstore-XXXXXX";
static X509 *ca;

static const char *path_of(const char *name)
{
    static char path[200];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static int setup(void **state)
{
    (void)state;
    ca = pki_ca("CA", PKI_EC_P384);
    return mkdtemp(directory) ? 0 : 1;
}

static int teardown(void **state)
{
    char command[200];
    (void)state;
    X509_free(ca);
    snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command); // NOLINT: the line is the test's own
}

static struct certstore *store_open(const char *name)
{
    struct certstore *store = NULL;
    struct detail detail = {0};
    if (certstore_open(path_of(name), &store, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
    return store;
}

static X509 *issue(const struct pki_request *request)
{
    return pki_certificate(request, ca, pki_key(PKI_EC_P384));
}

static void add(struct certstore *store, const char *name, X509 *cert)
{
    struct detail detail = {0};
    if (certstore_add(store, name, cert, &detail) != ERR_OK)
        fail_msg("%s: %s", name, detail.text);
}

// What is in the store of the find test, by serial number.
static const struct {
    const char *name;
    struct pki_request request;
} stored[] = {
    {"bob",
     {.name = "bob",
      .key = PKI_RSA_2048,
      .san = "email:bob@a.example",
      .key_usage = "keyEncipherment",
      .serial = 1}},
    {"bob-new",
     {.name = "bob",
      .key = PKI_EC_P256,
      .san = "email:Bob@A.example",
      .key_usage = "keyAgreement",
      .serial = 2}},
    {"bob-old",
     {.name = "bob",
      .key = PKI_RSA_2048,
      .san = "email:bob@a.example",
      .key_usage = "keyEncipherment",
      .serial = 3,
      .from = -3 * DAY,
      .until = -DAY}},
    {"bob-signs",
     {.name = "bob",
      .key = PKI_RSA_2048,
      .san = "email:bob@a.example",
      .key_usage = "digitalSignature",
      .serial = 4}},
    {"dave-later",
     {.name = "dave",
      .key = PKI_RSA_2048,
      .san = "email:dave@a.example",
      .key_usage = "keyEncipherment",
      .serial = 5,
      .from = 3 * DAY,
      .until = 9 * DAY}},
    {"a",
     {.name = "a",
      .key = PKI_RSA_2048_B,
      .san = "DNS:a.example",
      .key_usage = "keyEncipherment",
      .serial = 6}},
    {"a-sub",
     {.name = "a",
      .key = PKI_RSA_2048_B,
      .san = "DNS:*.a.example",
      .key_usage = "keyEncipherment",
      .serial = 7}},
    {"a-more",
     {.name = "a",
      .key = PKI_RSA_2048,
      .san = "DNS:a.example,DNS:b.example,email:x@c.example",
      .key_usage = "keyEncipherment",
      .serial = 8}},
    {"deep",
     {.name = "d",
      .key = PKI_RSA_2048,
      .san = "DNS:*.mail.a.example",
      .key_usage = "keyEncipherment",
      .serial = 9}},
    {"legacy",
     {.name = "l",
      .key = PKI_RSA_2048,
      .email = "old@d.example",
      .key_usage = "keyEncipherment",
      .serial = 10}},
};

static void test_find(void **state)
{
    static const struct {
        const char *address;
        const char *serials; // in order of names
    } rows[] = {
        {"bob@a.example", "01 02 "},
        {"eve@a.example", "06 08 "},
        {"dave@a.example", "06 08 "}, // his own is not valid yet
        {"x@c.example", "08 "},
        {"y@c.example", ""},
        {"eve@b.example", "08 "},
        {"eve@mail.a.example", "07 "},
        {"eve@x.mail.a.example", "07 09 "},
        {"eve@xa.example", ""},
        {"old@d.example", "0a "},
        {"eve@example", ""},
        {"", ""},
        {"'; DROP TABLE certificate; --@a.example", "06 08 "},
    };
    (void)state;
    struct certstore *store = store_open("find.db");
    for (size_t i = 0; i < sizeof stored / sizeof *stored; i++) {
        X509 *cert = issue(&stored[i].request);
        add(store, stored[i].name, cert);
        X509_free(cert);
    }
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char serials[100] = "";
        STACK_OF(X509) *certs = NULL;
        struct detail detail = {0};
        if (certstore_find(store, rows[i].address, time(NULL), &certs, &detail) != ERR_OK)
            fail_msg("%s: %s", rows[i].address, detail.text);
        for (int k = 0; k < sk_X509_num(certs); k++) {
            char serial[20];
            certificate_serial(sk_X509_value(certs, k), serial, sizeof serial);
            snprintf(serials + strlen(serials), sizeof serials - strlen(serials), "%s ", serial);
        }
        // Names sort "a", "a-more", "a-sub", so order by number before comparing.
        if (strlen(serials) == 6 && strncmp(serials, serials + 3, 2) > 0) {
            char first[4];
            memcpy(first, serials, 3);
            memmove(serials, serials + 3, 3);
            memcpy(serials + 3, first, 3);
        }
        if (strcmp(serials, rows[i].serials) != 0)
            fail_msg("%s: %s", rows[i].address, serials);
        sk_X509_pop_free(certs, X509_free);
    }
    certstore_close(store);
}

// The same certificate under two names is one recipient.
static void test_once(void **state)
{
    STACK_OF(X509) *certs = NULL;
    (void)state;
    struct certstore *store = store_open("once.db");
    X509 *cert = issue(&stored[0].request);
    add(store, "one", cert);
    add(store, "two", cert);
    assert_int_equal(certstore_find(store, "bob@a.example", time(NULL), &certs, NULL), ERR_OK);
    assert_int_equal(sk_X509_num(certs), 1);
    sk_X509_pop_free(certs, X509_free);
    X509_free(cert);
    certstore_close(store);
}

static bool collect(void *ctx, const char *name, X509 *cert)
{
    char *list = ctx;
    assert_non_null(cert);
    snprintf(list + strlen(list), 100 - strlen(list), "%s ", name);
    return strcmp(name, "m") != 0;
}

static void test_names(void **state)
{
    struct detail detail = {0};
    char list[100] = "";
    X509 *got = NULL;
    (void)state;
    struct certstore *store = store_open("names.db");
    X509 *a = issue(&stored[0].request), *b = issue(&stored[1].request);
    add(store, "z", a);
    add(store, "m", b);
    add(store, "c", a);
    add(store, "z", a); // again
    assert_int_equal(certstore_add(store, "z", b, &detail), ERR_PERM);
    assert_non_null(strstr(detail.text, "taken"));
    assert_int_equal(certstore_get(store, "z", &got, &detail), ERR_OK);
    assert_int_equal(X509_cmp(got, a), 0);
    X509_free(got);
    assert_int_equal(certstore_get(store, "nobody", &got, &detail), ERR_PERM);
    assert_int_equal(certstore_each(store, collect, list, &detail), ERR_OK);
    assert_string_equal(list, "c m ");
    assert_int_equal(certstore_remove(store, "z", &detail), ERR_OK);
    assert_int_equal(certstore_remove(store, "z", &detail), ERR_PERM);
    assert_int_equal(certstore_remove(store, "c", &detail), ERR_OK);
    STACK_OF(X509) *certs = NULL; // removed with its names: only m is left
    assert_int_equal(certstore_find(store, "bob@a.example", time(NULL), &certs, &detail), ERR_OK);
    assert_int_equal(sk_X509_num(certs), 1);
    sk_X509_pop_free(certs, X509_free);
    X509_free(a);
    X509_free(b);
    certstore_close(store);
}

static void test_refuses(void **state)
{
    static const struct {
        const char *name;
        struct pki_request request;
        const char *reason;
    } rows[] = {
        {"x",
         {.name = "x", .key = PKI_RSA_2048, .key_usage = "keyEncipherment"},
         "names no address"},
        {"x",
         {.name = "x", .key = PKI_RSA_2048, .san = "DNS:a.example", .key_usage = "keyCertSign"},
         "neither"},
        {"x", {.name = "x", .key = PKI_RSA_1024, .san = "DNS:a.example"}, "neither"},
        {"../x", {.name = "x", .key = PKI_RSA_2048, .san = "DNS:a.example"}, "not a name"},
        {"", {.name = "x", .key = PKI_RSA_2048, .san = "DNS:a.example"}, "not a name"},
    };
    (void)state;
    struct certstore *store = store_open("refuses.db");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct detail detail = {0};
        X509 *cert = issue(&rows[i].request);
        assert_int_equal(certstore_add(store, rows[i].name, cert, &detail), ERR_PERM);
        if (!strstr(detail.text, rows[i].reason))
            fail_msg("%zu: %s", i, detail.text);
        X509_free(cert);
    }
    certstore_close(store);
}

static void execute(const char *name, const char *sql)
{
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(path_of(name), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void test_open(void **state)
{
    struct certstore *store = NULL;
    struct detail detail = {0};
    struct stat st;
    (void)state;
    umask(022);
    certstore_close(store_open("open.db"));
    assert_int_equal(stat(path_of("open.db"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    certstore_close(store_open("open.db")); // there already
    execute("open.db", "PRAGMA user_version = 2");
    assert_int_equal(certstore_open(path_of("open.db"), &store, &detail), ERR_PERM);
    assert_non_null(strstr(detail.text, "newer"));
    execute("other.db", "CREATE TABLE t (x)");
    assert_int_equal(certstore_open(path_of("other.db"), &store, &detail), ERR_PERM);
    assert_non_null(strstr(detail.text, "not a store"));
    FILE *file = fopen(path_of("text.db"), "we");
    assert_non_null(file);
    for (int i = 0; i < 1000; i++)
        fputs("this is a text, and no database\n", file);
    fclose(file);
    assert_int_equal(certstore_open(path_of("text.db"), &store, &detail), ERR_PERM);
    assert_int_equal(certstore_open("/nonexistent/x.db", &store, &detail), ERR_PERM);
    assert_null(store);
}

// A full disk is a temporary failure, nothing is half there, and it heals.
static void test_full(void **state)
{
    struct detail detail = {0};
    struct rlimit limit, old;
    STACK_OF(X509) *certs = NULL;
    struct stat st;
    (void)state;
    struct certstore *store = store_open("full.db");
    X509 *cert = issue(&stored[0].request);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(stat(path_of("full.db-wal"), &st), 0);
    limit = old;
    limit.rlim_cur = (rlim_t)st.st_size;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    enum err err = certstore_add(store, "bob", cert, &detail);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    if (err != ERR_TEMP)
        fail_msg("%s: %s", err_name(err), detail.text);
    assert_int_equal(certstore_find(store, "bob@a.example", time(NULL), &certs, NULL), ERR_OK);
    assert_int_equal(sk_X509_num(certs), 0);
    sk_X509_pop_free(certs, X509_free);
    add(store, "bob", cert);
    X509_free(cert);
    certstore_close(store);
}

// Several processes open a new store at once and write to it.
static void test_processes(void **state)
{
    pid_t children[6];
    (void)state;
    X509 *cert = issue(&stored[0].request);
    for (int i = 0; i < 6; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            struct certstore *store = NULL;
            char name[40];
            bool is_good = certstore_open(path_of("shared.db"), &store, NULL) == ERR_OK;
            for (int k = 0; is_good && k < 10; k++) {
                snprintf(name, sizeof name, "n-%d-%d", i, k);
                is_good = certstore_add(store, name, cert, NULL) == ERR_OK;
            }
            _exit(is_good ? 0 : 1);
        }
        assert_true(children[i] > 0);
    }
    for (int i = 0; i < 6; i++) {
        int status = 0;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
    struct certstore *store = store_open("shared.db");
    for (int i = 0; i < 60; i++) {
        char name[40];
        X509 *got = NULL;
        snprintf(name, sizeof name, "n-%d-%d", i / 10, i % 10);
        assert_int_equal(certstore_get(store, name, &got, NULL), ERR_OK);
        X509_free(got);
    }
    X509_free(cert);
    certstore_close(store);
}

static void *find_often(void *arg)
{
    size_t bad = 0;
    for (int i = 0; i < 50; i++) {
        STACK_OF(X509) *certs = NULL;
        bad += certstore_find(arg, "bob@a.example", time(NULL), &certs, NULL) != ERR_OK ||
               sk_X509_num(certs) != 1;
        sk_X509_pop_free(certs, X509_free);
    }
    return bad ? arg : NULL;
}

static void test_threads(void **state)
{
    pthread_t threads[4];
    (void)state;
    struct certstore *store = store_open("threads.db");
    X509 *cert = issue(&stored[0].request);
    add(store, "bob", cert);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, find_often, store), 0);
    for (int i = 0; i < 4; i++) {
        void *bad = NULL;
        pthread_join(threads[i], &bad);
        assert_null(bad);
    }
    X509_free(cert);
    certstore_close(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),      cmocka_unit_test(test_once),
        cmocka_unit_test(test_names),     cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_open),      cmocka_unit_test(test_full),
        cmocka_unit_test(test_processes), cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests_name("certstore", tests, setup, teardown);
}
