// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/pem.h>

#include "gateway/certificate.h"
#include "tests/support/pki.h"

#define DAY (24 * 3600L)

// subjectAltName with one name of a tag, for what openssl.cnf's syntax cannot say.
#define SAN_OID "2.5.29.17"

struct cover_row {
    const char *name, *san, *email;
    const char *raw; // subjectAltName in DER
    int raw_len;
    const char *address;
    enum certificate_match match;
};

#define RAW(der) der, sizeof(der) - 1
#define NONE NULL, 0

static const struct cover_row cover_rows[] = {
    {"address", "email:bob@a.example", NULL, NONE, "bob@a.example", CERTIFICATE_MATCHES_ADDRESS},
    {"address, other case", "email:Bob@A.Example", NULL, NONE, "bob@a.example",
     CERTIFICATE_MATCHES_ADDRESS},
    {"another address", "email:bob@a.example", NULL, NONE, "dave@a.example", CERTIFICATE_NO_MATCH},
    {"second address", "email:x@a.example,email:bob@a.example", NULL, NONE, "bob@a.example",
     CERTIFICATE_MATCHES_ADDRESS},
    {"domain", "DNS:a.example", NULL, NONE, "bob@a.example", CERTIFICATE_MATCHES_DOMAIN},
    {"domain, other case", "DNS:A.EXAMPLE", NULL, NONE, "bob@a.example",
     CERTIFICATE_MATCHES_DOMAIN},
    {"domain is not its parent", "DNS:mail.a.example", NULL, NONE, "bob@a.example",
     CERTIFICATE_NO_MATCH},
    {"domain is not its child", "DNS:a.example", NULL, NONE, "bob@mail.a.example",
     CERTIFICATE_NO_MATCH},
    {"wildcard", "DNS:*.a.example", NULL, NONE, "bob@mail.a.example", CERTIFICATE_MATCHES_DOMAIN},
    {"wildcard, deep", "DNS:*.a.example", NULL, NONE, "bob@x.mail.a.example",
     CERTIFICATE_MATCHES_DOMAIN},
    {"wildcard is not the domain itself", "DNS:*.a.example", NULL, NONE, "bob@a.example",
     CERTIFICATE_NO_MATCH},
    {"wildcard of half a label", "DNS:*.a.example", NULL, NONE, "bob@xa.example",
     CERTIFICATE_NO_MATCH},
    {"star in the middle", "DNS:m*.a.example", NULL, NONE, "bob@mail.a.example",
     CERTIFICATE_NO_MATCH},
    {"star for a whole tree", "DNS:*.example", NULL, NONE, "bob@a.example", CERTIFICATE_NO_MATCH},
    {"star alone", "DNS:*", NULL, NONE, "bob@a.example", CERTIFICATE_NO_MATCH},
    {"both: the address", "email:bob@a.example,DNS:a.example", NULL, NONE, "bob@a.example",
     CERTIFICATE_MATCHES_ADDRESS},
    {"both: the domain", "email:bob@a.example,DNS:a.example", NULL, NONE, "dave@a.example",
     CERTIFICATE_MATCHES_DOMAIN},
    {"legacy", NULL, "bob@a.example", NONE, "bob@a.example", CERTIFICATE_MATCHES_ADDRESS},
    {"legacy beside a SAN", "DNS:c.example", "Bob@A.example", NONE, "bob@a.example",
     CERTIFICATE_MATCHES_ADDRESS},
    {"names nothing", NULL, NULL, NONE, "bob@a.example", CERTIFICATE_NO_MATCH},
    {"no address", "DNS:a.example", NULL, NONE, "", CERTIFICATE_NO_MATCH},
    {"SmtpUTF8Mailbox", "otherName:1.3.6.1.5.5.7.8.9;UTF8:bob@a.example", NULL, NONE,
     "bob@a.example", CERTIFICATE_MATCHES_ADDRESS},
    {"SmtpUTF8Mailbox with U-labels", NULL, NULL,
     RAW("\x30\x25\xa0\x23\x06\x08\x2b\x06\x01\x05\x05\x07\x08\x09\xa0\x17\x0c\x15"
         "J\xc3\xb6rg@B\xc3\xbc"
         "cher.example"),
     "j\xc3\xb6rg@xn--bcher-kva.example", CERTIFICATE_MATCHES_ADDRESS},
    {"other otherName", "otherName:1.3.6.1.4.1.311.20.2.3;UTF8:bob@a.example", NULL, NONE,
     "bob@a.example", CERTIFICATE_NO_MATCH},
    {"NUL in an address", NULL, NULL,
     RAW("\x30\x18\x81\x16"
         "bob@a.example\0.c.example"),
     "bob@a.example", CERTIFICATE_NO_MATCH},
    {"NUL in a domain", NULL, NULL,
     RAW("\x30\x14\x82\x12"
         "a.example\0c.example"),
     "bob@a.example", CERTIFICATE_NO_MATCH},
    {"address in a dNSName", NULL, NULL,
     RAW("\x30\x0f\x82\x0d"
         "bob@a.example"),
     "bob@a.example", CERTIFICATE_NO_MATCH},
    {"domain in an rfc822Name", NULL, NULL,
     RAW("\x30\x0b\x81\x09"
         "a.example"),
     "bob@a.example", CERTIFICATE_NO_MATCH},
    {"8-bit in a domain", NULL, NULL,
     RAW("\x30\x0b\x82\x09"
         "\xe4.example"),
     "bob@\xe4.example", CERTIFICATE_NO_MATCH},
};

static X509 *make(const struct cover_row *row)
{
    struct pki_request request = {.name = "x",
                                  .key = PKI_EC_P256,
                                  .san = row->san,
                                  .email = row->email,
                                  .extra_oid = row->raw ? SAN_OID : NULL,
                                  .extra = (const unsigned char *)row->raw,
                                  .extra_len = row->raw_len};
    return pki_certificate(&request, NULL, NULL);
}

static void test_covers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cover_rows / sizeof *cover_rows; i++) {
        X509 *cert = make(&cover_rows[i]);
        enum certificate_match match = certificate_covers(cert, cover_rows[i].address);
        if (match != cover_rows[i].match)
            fail_msg("%s: %d", cover_rows[i].name, match);
        X509_free(cert);
    }
}

static void collect(void *ctx, enum certificate_match kind, const char *name)
{
    char *list = ctx;
    snprintf(list + strlen(list), 200 - strlen(list), "%s%s ",
             kind == CERTIFICATE_MATCHES_DOMAIN ? "D:" : "A:", name);
}

static void test_each_name(void **state)
{
    char list[200] = "";
    struct cover_row row = {.san = "DNS:B.example,email:Bob@a.example,DNS:*.c.example",
                            .email = "old@a.example"};
    (void)state;
    X509 *cert = make(&row);
    certificate_each_name(cert, collect, list);
    assert_string_equal(list, "A:bob@a.example A:old@a.example D:b.example D:*.c.example ");
    X509_free(cert);
}

static const struct {
    const char *name;
    enum pki_key key;
    const char *usage, *extended;
    bool signing, own_signing, encryption;
} usage_rows[] = {
    {"nothing said", PKI_RSA_2048, NULL, NULL, true, true, false},
    {"both signing", PKI_RSA_2048, "digitalSignature,nonRepudiation", NULL, true, true, false},
    {"digitalSignature", PKI_RSA_2048, "digitalSignature", NULL, true, false, false},
    {"nonRepudiation", PKI_RSA_2048, "nonRepudiation", NULL, true, false, false},
    {"keyEncipherment", PKI_RSA_2048, "keyEncipherment", NULL, false, false, true},
    {"all", PKI_RSA_2048, "digitalSignature,nonRepudiation,keyEncipherment", "emailProtection",
     true, true, true},
    {"RSA with keyAgreement", PKI_RSA_2048, "keyAgreement", NULL, false, false, false},
    {"EC with keyAgreement", PKI_EC_P256, "keyAgreement", NULL, false, false, true},
    {"EC with keyEncipherment", PKI_EC_P256, "keyEncipherment", NULL, false, false, false},
    {"X25519", PKI_X25519, "keyAgreement", NULL, false, false, false},
    {"Ed25519", PKI_ED25519, "digitalSignature,nonRepudiation", NULL, true, true, false},
    {"server", PKI_RSA_2048, "digitalSignature,nonRepudiation,keyEncipherment", "serverAuth", false,
     false, false},
    {"server and mail", PKI_RSA_2048, "keyEncipherment", "serverAuth,emailProtection", false, false,
     true},
    {"any", PKI_RSA_2048, "keyEncipherment", "anyExtendedKeyUsage", false, false, true},
    {"RSA 1024", PKI_RSA_1024, "digitalSignature,nonRepudiation,keyEncipherment", NULL, false,
     false, false},
};

static void test_usage(void **state)
{
    X509 *ca = pki_ca("CA", PKI_EC_P384);
    (void)state;
    for (size_t i = 0; i < sizeof usage_rows / sizeof *usage_rows; i++) {
        struct detail detail = {0};
        struct pki_request request = {.name = "x",
                                      .key = usage_rows[i].key,
                                      .key_usage = usage_rows[i].usage,
                                      .extended = usage_rows[i].extended};
        X509 *cert = pki_certificate(&request, ca, pki_key(PKI_EC_P384));
        bool is_right =
            (certificate_check_signing(cert, &detail) == ERR_OK) == usage_rows[i].signing &&
            (certificate_check_own_signing(cert, &detail) == ERR_OK) == usage_rows[i].own_signing &&
            (certificate_check_encryption(cert, &detail) == ERR_OK) == usage_rows[i].encryption;
        if (!is_right)
            fail_msg("%s: %s", usage_rows[i].name, detail.text);
        X509_free(cert);
    }
    X509_free(ca);
}

static void test_dates(void **state)
{
    struct pki_request request = {.name = "x", .key = PKI_EC_P256, .from = -DAY, .until = DAY};
    X509 *cert = pki_certificate(&request, NULL, NULL);
    time_t now = time(NULL);
    (void)state;
    assert_false(certificate_is_expired(cert, now));
    assert_false(certificate_is_not_yet_valid(cert, now));
    assert_true(certificate_is_expired(cert, now + 2 * DAY));
    assert_false(certificate_is_not_yet_valid(cert, now + 2 * DAY));
    assert_true(certificate_is_not_yet_valid(cert, now - 2 * DAY));
    assert_false(certificate_is_expired(cert, now - 2 * DAY));
    X509_free(cert);
}

static void test_texts(void **state)
{
    struct pki_request request = {
        .name = "Bob, \"the\" builder", .key = PKI_EC_P256, .serial = 0xbeef};
    char text[200], small[8], hex[CERTIFICATE_FINGERPRINT_SIZE];
    (void)state;
    X509 *cert = pki_certificate(&request, NULL, NULL);
    certificate_subject(cert, text, sizeof text);
    assert_string_equal(text, "CN=Bob\\, \\\"the\\\" builder,O=Sealgate test");
    certificate_issuer(cert, text, sizeof text);
    assert_string_equal(text, "CN=Bob\\, \\\"the\\\" builder,O=Sealgate test");
    certificate_subject(cert, small, sizeof small);
    assert_string_equal(small, "CN=Bob\\");
    certificate_serial(cert, text, sizeof text);
    assert_string_equal(text, "beef");
    certificate_serial(cert, small, 4);
    assert_string_equal(small, "be");
    certificate_fingerprint(cert, hex);
    assert_int_equal(strlen(hex), 64);
    assert_int_equal(strspn(hex, "0123456789abcdef"), 64);
    X509_free(cert);
}

static void test_parse(void **state)
{
    struct detail detail = {0};
    STACK_OF(X509) *certs = NULL;
    char path[] = "/tmp/sealgate-certificate-XXXXXX";
    unsigned char *der = NULL;
    (void)state;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    X509 *a = pki_ca("A", PKI_EC_P256), *b = pki_ca("B", PKI_EC_P384);
    pki_write_certificates(path, a, b);
    assert_int_equal(certificate_read(path, &certs, &detail), ERR_OK);
    assert_int_equal(sk_X509_num(certs), 2);
    assert_int_equal(X509_cmp(sk_X509_value(certs, 1), b), 0);
    sk_X509_pop_free(certs, X509_free);
    int len = i2d_X509(a, &der);
    assert_int_equal(certificate_parse(bytes_of(der, (size_t)len), &certs, &detail), ERR_OK);
    assert_int_equal(sk_X509_num(certs), 1);
    sk_X509_pop_free(certs, X509_free);
    certs = NULL;
    for (size_t cut = 0; cut < (size_t)len; cut += 7)
        assert_int_equal(certificate_parse(bytes_of(der, cut), &certs, &detail), ERR_PERM);
    pki_write_key(path, pki_key(PKI_EC_P256));
    assert_int_equal(certificate_read(path, &certs, &detail), ERR_PERM);
    assert_int_equal(certificate_read("/nonexistent/x.pem", &certs, &detail), ERR_PERM);
    const char *broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_int_equal(certificate_parse(bytes_of_text(broken), &certs, &detail), ERR_PERM);
    assert_null(certs);
    OPENSSL_free(der);
    X509_free(a);
    X509_free(b);
    close(fd);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_covers), cmocka_unit_test(test_each_name),
        cmocka_unit_test(test_usage),  cmocka_unit_test(test_dates),
        cmocka_unit_test(test_texts),  cmocka_unit_test(test_parse),
    };
    return cmocka_run_group_tests_name("certificate", tests, NULL, NULL);
}
