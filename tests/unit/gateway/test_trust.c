// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/trust.h"
#include "tests/support/pki.h"

#define DAY (24 * 3600L)

static char path[] = "/tmp/sealgate-trust-XXXXXX";
static X509 *ca, *intermediate, *old_intermediate, *other_ca, *leaf;

static int setup(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    EVP_PKEY *ca_key = pki_key(PKI_EC_P384);
    struct pki_request old = {.name = "Old",
                              .key = PKI_EC_P256_B,
                              .is_ca = true,
                              .key_usage = "keyCertSign",
                              .from = -9 * DAY,
                              .until = -DAY};
    ca = pki_ca("CA", PKI_EC_P384);
    other_ca = pki_ca("Other", PKI_RSA_2048);
    intermediate = pki_intermediate("Intermediate", PKI_EC_P256_B, ca, ca_key);
    old_intermediate = pki_certificate(&old, ca, ca_key);
    leaf = pki_signer("leaf", PKI_EC_P256, NULL, intermediate, pki_key(PKI_EC_P256_B));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    X509_free(ca);
    X509_free(other_ca);
    X509_free(intermediate);
    X509_free(old_intermediate);
    X509_free(leaf);
    return unlink(path);
}

static struct trust *trust_in(X509 *first, X509 *second)
{
    struct trust *trust = NULL;
    struct detail detail = {0};
    pki_write_certificates(path, first, second);
    if (trust_load(path, &trust, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
    return trust;
}

static enum err check(X509 *anchor, X509 *cert, X509 *between, enum trust_purpose purpose,
                      bool *is_expired, struct detail *detail)
{
    struct trust *trust = trust_in(anchor, NULL);
    STACK_OF(X509) *intermediates = sk_X509_new_null();
    if (between)
        sk_X509_push(intermediates, between);
    enum err err = trust_check(trust, cert, between ? intermediates : NULL, purpose, time(NULL),
                               is_expired, detail);
    sk_X509_free(intermediates);
    trust_free(trust);
    return err;
}

static void test_chains(void **state)
{
    EVP_PKEY *inter_key = pki_key(PKI_EC_P256_B);
    X509 *old_leaf = pki_signer("x", PKI_EC_P256, NULL, old_intermediate, inter_key);
    X509 *not_ca = pki_signer("x", PKI_RSA_2048, NULL, leaf, pki_key(PKI_EC_P256));
    X509 *pinned = pki_signer("pinned", PKI_RSA_2048, NULL, NULL, NULL);
    const struct {
        const char *name;
        X509 *anchor, *cert, *between;
        enum err err;
        bool is_expired;
        const char *reason;
    } rows[] = {
        {"by the intermediate", ca, leaf, intermediate, ERR_OK, false, ""},
        {"intermediate missing", ca, leaf, NULL, ERR_PERM, false, "unable to get local issuer"},
        {"intermediate as anchor", intermediate, leaf, NULL, ERR_OK, false, ""},
        {"end entity as anchor", leaf, leaf, NULL, ERR_OK, false, ""},
        {"self-signed as anchor", pinned, pinned, NULL, ERR_OK, false, ""},
        {"self-signed", ca, pinned, NULL, ERR_PERM, false, "self-signed"},
        {"another anchor", other_ca, leaf, intermediate, ERR_PERM, false, "unable to get"},
        {"expired intermediate", ca, old_leaf, old_intermediate, ERR_PERM, true, "not in date"},
        {"expired and another anchor", other_ca, old_leaf, old_intermediate, ERR_PERM, false,
         "unable to get"},
        {"issuer is no CA", intermediate, not_ca, leaf, ERR_PERM, false, "CA"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool is_expired = !rows[i].is_expired;
        struct detail detail = {0};
        enum err err =
            check(rows[i].anchor, rows[i].cert, rows[i].between, TRUST_SIGN, &is_expired, &detail);
        if (err != rows[i].err || is_expired != rows[i].is_expired ||
            !strstr(detail.text, rows[i].reason))
            fail_msg("%s: %s %d \"%s\"", rows[i].name, err_name(err), is_expired, detail.text);
    }
    X509_free(old_leaf);
    X509_free(not_ca);
    X509_free(pinned);
}

static void test_purposes(void **state)
{
    static const struct {
        const char *name;
        enum pki_key key;
        const char *usage, *extended;
        bool sign, encrypt;
    } rows[] = {
        {"signing", PKI_RSA_2048, "digitalSignature", "emailProtection", true, false},
        {"encryption", PKI_RSA_2048, "keyEncipherment", "emailProtection", false, true},
        {"EC agreement", PKI_EC_P256, "keyAgreement", "emailProtection", false, true},
        {"all", PKI_RSA_2048, "digitalSignature,keyEncipherment", NULL, true, true},
        {"server", PKI_RSA_2048, "digitalSignature,keyEncipherment", "serverAuth", false, false},
        {"any", PKI_RSA_2048, "digitalSignature,keyEncipherment", "anyExtendedKeyUsage", true,
         true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool is_expired = false;
        struct detail detail = {0};
        struct pki_request request = {.name = "x",
                                      .key = rows[i].key,
                                      .key_usage = rows[i].usage,
                                      .extended = rows[i].extended};
        X509 *cert = pki_certificate(&request, ca, pki_key(PKI_EC_P384));
        bool is_right =
            (check(ca, cert, NULL, TRUST_SIGN, &is_expired, &detail) == ERR_OK) == rows[i].sign &&
            (check(ca, cert, NULL, TRUST_ENCRYPT, &is_expired, &detail) == ERR_OK) ==
                rows[i].encrypt;
        if (!is_right)
            fail_msg("%s: %s", rows[i].name, detail.text);
        X509_free(cert);
    }
}

// An intermediate limited to other uses cannot issue for mail.
static void test_intermediate_usage(void **state)
{
    static const struct {
        const char *extended;
        bool is_good;
    } rows[] = {{NULL, true},
                {"emailProtection", true},
                {"anyExtendedKeyUsage", true},
                {"serverAuth", false}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool is_expired = false;
        struct detail detail = {0};
        struct pki_request request = {.name = "I",
                                      .key = PKI_EC_P256_B,
                                      .is_ca = true,
                                      .key_usage = "keyCertSign",
                                      .extended = rows[i].extended};
        X509 *between = pki_certificate(&request, ca, pki_key(PKI_EC_P384));
        X509 *cert = pki_signer("x", PKI_EC_P256, NULL, between, pki_key(PKI_EC_P256_B));
        bool is_good = check(ca, cert, between, TRUST_SIGN, &is_expired, &detail) == ERR_OK;
        if (is_good != rows[i].is_good)
            fail_msg("%s: %s", rows[i].extended, detail.text);
        X509_free(cert);
        X509_free(between);
    }
}

static void test_load(void **state)
{
    struct trust *trust = NULL;
    struct detail detail = {0};
    bool is_expired = false;
    (void)state;
    assert_int_equal(trust_load("/nonexistent/ca.pem", &trust, &detail), ERR_PERM);
    pki_write_key(path, pki_key(PKI_EC_P256));
    assert_int_equal(trust_load(path, &trust, &detail), ERR_PERM);
    trust = trust_in(other_ca, ca); // several anchors in one file
    STACK_OF(X509) *intermediates = sk_X509_new_null();
    sk_X509_push(intermediates, intermediate);
    assert_int_equal(
        trust_check(trust, leaf, intermediates, TRUST_SIGN, time(NULL), &is_expired, &detail),
        ERR_OK);
    assert_int_equal(trust_check(trust, leaf, intermediates, TRUST_SIGN, time(NULL) + 400 * DAY,
                                 &is_expired, &detail),
                     ERR_PERM);
    assert_true(is_expired);
    sk_X509_free(intermediates);
    trust_free(trust);
    trust_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chains),
        cmocka_unit_test(test_purposes),
        cmocka_unit_test(test_intermediate_usage),
        cmocka_unit_test(test_load),
    };
    return cmocka_run_group_tests_name("trust", tests, setup, teardown);
}
