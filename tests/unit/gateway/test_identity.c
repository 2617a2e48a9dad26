// SPDX-License-Identifier: Apache-2.0
// Identities over file: URIs; hsmd: is tested with hsmd.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/identity.h"
#include "tests/support/pki.h"

static char directory[] = "/tmp/sealgate-identity-XXXXXX";
static char key_path[100], key_uri[110], cert_path[100];
static X509 *ca, *intermediate, *signer;

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(directory))
        return 1;
    snprintf(key_path, sizeof key_path, "%s/key.pem", directory);
    snprintf(key_uri, sizeof key_uri, "file:%s", key_path);
    snprintf(cert_path, sizeof cert_path, "%s/cert.pem", directory);
    ca = pki_ca("CA", PKI_EC_P384);
    intermediate = pki_intermediate("I", PKI_EC_P256_B, ca, pki_key(PKI_EC_P384));
    signer = pki_signer("s", PKI_EC_P256, "DNS:a.example", intermediate, pki_key(PKI_EC_P256_B));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(key_path);
    unlink(cert_path);
    X509_free(ca);
    X509_free(intermediate);
    X509_free(signer);
    return rmdir(directory);
}

static struct identity *open_identity(const char *uri, const char *cert)
{
    struct identity *identity = NULL;
    struct detail detail = {0};
    struct identity_conf conf = {"signing", uri, cert};
    if (identity_open(&conf, &identity, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
    return identity;
}

static void test_get(void **state)
{
    struct identity_material material = {0};
    struct detail detail = {0};
    (void)state;
    pki_write_key(key_path, pki_key(PKI_EC_P256));
    pki_write_certificates(cert_path, signer, intermediate);
    struct identity *identity = open_identity(key_uri, cert_path);
    assert_string_equal(identity_name(identity), "signing");
    assert_int_equal(X509_cmp(identity_certificate(identity), signer), 0);
    assert_int_equal(identity_get(identity, &material, &detail), ERR_OK);
    assert_int_equal(X509_cmp(material.cert, signer), 0);
    assert_int_equal(EVP_PKEY_eq(material.key, pki_key(PKI_EC_P256)), 1);
    assert_int_equal(sk_X509_num(material.chain), 1);
    unlink(key_path); // what was got stays
    struct identity_material again = {0};
    assert_int_equal(identity_get(identity, &again, &detail), ERR_OK);
    assert_ptr_equal(again.key, material.key);
    identity_close(identity);
}

static void test_root_left_out(void **state)
{
    struct identity_material material = {0};
    struct detail detail = {0};
    (void)state;
    pki_write_key(key_path, pki_key(PKI_EC_P256));
    pki_write_certificates(cert_path, signer, ca);
    struct identity *identity = open_identity(key_uri, cert_path);
    assert_int_equal(identity_get(identity, &material, &detail), ERR_OK);
    assert_int_equal(sk_X509_num(material.chain), 0);
    identity_close(identity);
}

// The key comes later: every get tries again until it is there.
static void test_heals(void **state)
{
    struct identity_material material = {0};
    struct detail detail = {0};
    (void)state;
    unlink(key_path);
    pki_write_certificates(cert_path, signer, NULL);
    struct identity *identity = open_identity(key_uri, cert_path);
    assert_int_not_equal(identity_get(identity, &material, &detail), ERR_OK);
    assert_int_equal(strncmp(detail.text, "identity signing: ", 18), 0);
    assert_null(material.key);
    assert_int_equal(X509_cmp(identity_certificate(identity), signer), 0);
    pki_write_key(key_path, pki_key(PKI_EC_P256));
    assert_int_equal(identity_get(identity, &material, &detail), ERR_OK);
    identity_close(identity);
}

static void test_wrong_key(void **state)
{
    struct identity_material material = {0};
    struct detail detail = {0};
    (void)state;
    pki_write_key(key_path, pki_key(PKI_EC_P256_B));
    pki_write_certificates(cert_path, signer, NULL);
    struct identity *identity = open_identity(key_uri, cert_path);
    assert_int_equal(identity_get(identity, &material, &detail), ERR_PERM);
    assert_non_null(strstr(detail.text, "do not match"));
    identity_close(identity);
}

// Without a certificate file, the one that stands with the key.
static void test_certificate_with_key(void **state)
{
    struct identity_material material = {0};
    struct detail detail = {0};
    (void)state;
    pki_write_key(key_path, pki_key(PKI_EC_P256));
    struct identity *identity = open_identity(key_uri, NULL);
    assert_null(identity_certificate(identity));
    assert_int_equal(identity_get(identity, &material, &detail), ERR_PERM);
    assert_non_null(strstr(detail.text, "no certificate"));
    char command[300];
    pki_write_certificates(cert_path, signer, intermediate);
    snprintf(command, sizeof command, "cat %s >> %s", cert_path, key_path);
    assert_int_equal(system(command), 0); // NOLINT: the line is the test's own
    assert_int_equal(identity_get(identity, &material, &detail), ERR_OK);
    assert_int_equal(X509_cmp(material.cert, signer), 0);
    assert_int_equal(X509_cmp(identity_certificate(identity), signer), 0);
    assert_int_equal(sk_X509_num(material.chain), 1);
    identity_close(identity);
}

static void test_open(void **state)
{
    struct identity *identity = NULL;
    struct detail detail = {0};
    struct identity_conf conf = {"x", "file:/nonexistent", "/nonexistent/cert.pem"};
    (void)state;
    assert_int_equal(identity_open(&conf, &identity, &detail), ERR_PERM);
    assert_null(identity);
    identity_close(NULL);
    // A scheme that nobody knows: the provider is not there (yet).
    struct identity_material material = {0};
    pki_write_certificates(cert_path, signer, NULL);
    identity = open_identity("hsmd:signing", cert_path);
    assert_int_equal(identity_get(identity, &material, &detail), ERR_TEMP);
    identity_close(identity);
}

static void *get_often(void *arg)
{
    for (int i = 0; i < 100; i++) {
        struct identity_material material = {0};
        if (identity_get(arg, &material, NULL) != ERR_OK || !identity_certificate(arg))
            return arg;
    }
    return NULL;
}

static void test_threads(void **state)
{
    pthread_t threads[4];
    (void)state;
    pki_write_key(key_path, pki_key(PKI_EC_P256));
    pki_write_certificates(cert_path, signer, intermediate);
    struct identity *identity = open_identity(key_uri, cert_path);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, get_often, identity), 0);
    for (int i = 0; i < 4; i++) {
        void *bad = NULL;
        pthread_join(threads[i], &bad);
        assert_null(bad);
    }
    identity_close(identity);
}

#define SHARING 6
static atomic_int asked, ended;

static void *get_once(void *arg)
{
    struct identity_material material = {0};
    struct detail detail = {0};
    atomic_fetch_add(&asked, 1);
    enum err err = identity_get(arg, &material, &detail);
    atomic_fetch_add(&ended, 1);
    return err == ERR_PERM && strstr(detail.text, "identity signing: ") ? NULL : arg;
}

// A key that lets us wait, a FIFO here: nobody else waits for more than the one try, and what is
// known of the certificate is told at once.
static void test_one_waits_for_all(void **state)
{
    pthread_t threads[SHARING];
    int tries = 0;
    (void)state;
    unlink(key_path);
    assert_int_equal(mkfifo(key_path, 0600), 0);
    pki_write_certificates(cert_path, signer, NULL);
    struct identity *identity = open_identity(key_uri, cert_path);
    for (int i = 0; i < SHARING; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, get_once, identity), 0);
    while (asked < SHARING)
        usleep(1000);
    usleep(300000);
    assert_non_null(identity_certificate(identity)); // hung where the lock was held
    while (ended < SHARING) {
        int fifo = open(key_path, O_WRONLY | O_NONBLOCK); // only while one reads it
        if (fifo >= 0) {
            tries++;
            assert_int_equal(write(fifo, "no key\n", 7), 7);
            close(fifo);
        }
        usleep(100000);
    }
    for (int i = 0; i < SHARING; i++) {
        void *bad = NULL;
        pthread_join(threads[i], &bad);
        assert_null(bad);
    }
    assert_in_range(tries, 1, SHARING - 1);
    identity_close(identity);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_get),
        cmocka_unit_test(test_root_left_out),
        cmocka_unit_test(test_heals),
        cmocka_unit_test(test_wrong_key),
        cmocka_unit_test(test_certificate_with_key),
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_one_waits_for_all),
    };
    return cmocka_run_group_tests_name("identity", tests, setup, teardown);
}
