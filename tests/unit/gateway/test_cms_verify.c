// SPDX-License-Identifier: Apache-2.0
// Verdicts: one signature after another with one thing wrong.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/gateway/cms_fixture.h"

#define DAY (24 * 3600L)

static const struct bytes content = {(const uint8_t *)CONTENT, sizeof CONTENT - 1};

static struct spool *sign(X509 *cert, enum pki_key key, bool detached)
{
    struct detail detail = {0};
    struct spool *der = spool_make();
    struct cms_signer signer = {pki_key(key), cert, fixture.chain, HASH_SHA256, false};
    if (cms_sign(&signer, content, detached, der, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
    return der;
}

// Who signs, as far as the certificate goes.
static const struct {
    const char *name;
    struct pki_request request;
    bool is_self_signed;
    enum cms_verdict verdict;
    const char *reason;
} signer_rows[] = {
    {"good",
     {.name = "s", .key = PKI_RSA_2048, .key_usage = "digitalSignature"},
     false,
     CMS_GOOD,
     ""},
    {"nonRepudiation",
     {.name = "s", .key = PKI_RSA_2048, .key_usage = "nonRepudiation"},
     false,
     CMS_GOOD,
     ""},
    {"no key usage", {.name = "s", .key = PKI_RSA_2048}, false, CMS_GOOD, ""},
    {"any extended usage",
     {.name = "s", .key = PKI_RSA_2048, .extended = "anyExtendedKeyUsage"},
     false,
     CMS_GOOD,
     ""},
    {"for encryption only",
     {.name = "s", .key = PKI_RSA_2048, .key_usage = "keyEncipherment"},
     false,
     CMS_UNTRUSTED,
     "key usage"},
    {"for servers only",
     {.name = "s", .key = PKI_RSA_2048, .extended = "serverAuth"},
     false,
     CMS_UNTRUSTED,
     "extended key usage"},
    {"rsa 1024", {.name = "s", .key = PKI_RSA_1024}, false, CMS_UNTRUSTED, "key too weak"},
    {"expired",
     {.name = "s", .key = PKI_RSA_2048, .from = -3 * DAY, .until = -DAY},
     false,
     CMS_EXPIRED,
     "not in date"},
    {"not yet valid",
     {.name = "s", .key = PKI_RSA_2048, .from = DAY, .until = 3 * DAY},
     false,
     CMS_EXPIRED,
     "not in date"},
    {"expired and for encryption only",
     {.name = "s",
      .key = PKI_RSA_2048,
      .key_usage = "keyEncipherment",
      .from = -3 * DAY,
      .until = -DAY},
     false,
     CMS_UNTRUSTED,
     "key usage"},
    {"self-signed", {.name = "s", .key = PKI_RSA_2048}, true, CMS_UNTRUSTED, "self-signed"},
    {"issued with SHA-1",
     {.name = "s", .key = PKI_RSA_2048, .hash = "SHA1"},
     false,
     CMS_UNTRUSTED,
     "too weak"},
    {"ec", {.name = "s", .key = PKI_EC_P256}, false, CMS_GOOD, ""},
};

static void test_signers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof signer_rows / sizeof *signer_rows; i++) {
        X509 *cert = signer_rows[i].is_self_signed
                         ? pki_certificate(&signer_rows[i].request, NULL, NULL)
                         : pki_certificate(&signer_rows[i].request, fixture.intermediate,
                                           pki_key(PKI_EC_P256_B));
        struct spool *der = sign(cert, signer_rows[i].request.key, true);
        struct cms_verification v =
            fixture_verify(spool_bytes(der), content, NULL, time(NULL), NULL);
        fixture_assert_verdict(signer_rows[i].name, &v, signer_rows[i].verdict,
                               signer_rows[i].reason);
        assert_int_equal(X509_cmp(v.signer, cert), 0);
        cms_verification_clear(&v);
        spool_free(der);
        X509_free(cert);
    }
}

static void test_time(void **state)
{
    (void)state;
    struct spool *der = sign(fixture.rsa, PKI_RSA_2048, true);
    struct cms_verification v =
        fixture_verify(spool_bytes(der), content, NULL, time(NULL) + 400 * DAY, NULL);
    fixture_assert_verdict("in 400 days", &v, CMS_EXPIRED, "not in date");
    cms_verification_clear(&v);
    spool_free(der);
}

static void test_content(void **state)
{
    static const char other[] = CONTENT "P.S.\r\n";
    (void)state;
    struct spool *detached = sign(fixture.rsa, PKI_RSA_2048, true);
    struct spool *opaque = sign(fixture.rsa, PKI_RSA_2048, false);
    struct spool *out = spool_make();
    struct cms_verification v =
        fixture_verify(spool_bytes(detached), bytes_of_text(other), NULL, time(NULL), NULL);
    fixture_assert_verdict("changed", &v, CMS_BAD_SIGNATURE, "content was changed");
    cms_verification_clear(&v);
    v = fixture_verify(spool_bytes(detached), bytes_of(NULL, 0), NULL, time(NULL), out);
    fixture_assert_verdict("gone", &v, CMS_BAD_SIGNATURE, "content was changed");
    assert_int_equal(spool_len(out), 0);
    cms_verification_clear(&v);
    v = fixture_verify(spool_bytes(opaque), content, NULL, time(NULL), out);
    fixture_assert_verdict("twice", &v, CMS_BAD_SIGNATURE, "twice");
    cms_verification_clear(&v);
    // LF for CRLF is another content: nothing is canonicalised here.
    v = fixture_verify(spool_bytes(detached),
                       BYTES_LITERAL("Content-Type: text/plain\n\nWe meet at noon.\n"), NULL,
                       time(NULL), NULL);
    fixture_assert_verdict("LF", &v, CMS_BAD_SIGNATURE, "content was changed");
    cms_verification_clear(&v);
    spool_free(detached);
    spool_free(opaque);
    spool_free(out);
}

// Every byte of the object changed, in turn: never good, unless it is in a part that no signature
// covers (certificates of the chain, the order of digests).
static void test_flips(void **state)
{
    static uint8_t copy[20000];
    (void)state;
    struct cms_signer bare = {pki_key(PKI_EC_P256), fixture.ec, NULL, HASH_SHA256, false};
    struct spool *der = spool_make();
    assert_int_equal(cms_sign(&bare, content, false, der, NULL), ERR_OK);
    size_t len = spool_len(der);
    assert_true(len <= sizeof copy);
    unsigned good = 0;
    for (size_t i = 0; i < len; i++) {
        struct cms_verification v;
        struct detail detail = {0};
        struct spool *out = spool_make();
        memcpy(copy, spool_bytes(der).data, len);
        copy[i] ^= 0x15;
        // The intermediate comes from elsewhere, so that a broken chain is not why it fails.
        enum err err = cms_verify(bytes_of(copy, len), bytes_of(NULL, 0), fixture.trust,
                                  fixture.chain, NULL, time(NULL), out, &v, &detail);
        assert_true(err == ERR_OK || err == ERR_PERM);
        if (err == ERR_OK && v.verdict == CMS_GOOD) {
            assert_true(bytes_equal(spool_bytes(out), content));
            good++;
        }
        cms_verification_clear(&v);
        spool_free(out);
    }
    assert_true(good < 40); // versions, and identifiers of digests in the outer list
    spool_free(der);
}

static const struct {
    const char *options; // of openssl cms -sign
    enum cms_verdict verdict;
    const char *reason;
} command_rows[] = {
    {"-signer rsa.pem -inkey rsa.key -certfile intermediate.pem", CMS_GOOD, ""},
    {"-signer rsa.pem -inkey rsa.key -certfile intermediate.pem -keyid", CMS_GOOD, ""},
    {"-signer rsa.pem -inkey rsa.key -certfile intermediate.pem -stream", CMS_GOOD, ""},
    {"-signer rsa.pem -inkey rsa.key -certfile intermediate.pem -cades", CMS_GOOD, ""},
    {"-signer rsa.pem -inkey rsa.key -certfile intermediate.pem -cades -md sha384", CMS_GOOD, ""},
    {"-signer rsa.pem -inkey rsa.key -certfile intermediate.pem -md sha1", CMS_UNSUPPORTED,
     "weak: rsa-sha1"},
    {"-signer ec.pem -inkey ec.key -certfile intermediate.pem -md sha1", CMS_UNSUPPORTED,
     "weak: ecdsa-sha1"},
    {"-signer rsa.pem -inkey rsa.key -certfile intermediate.pem -md md5", CMS_BAD_SIGNATURE,
     "forbidden: md5"},
    {"-signer rsa.pem -inkey rsa.key -certfile intermediate.pem -noattr", CMS_BAD_SIGNATURE,
     "no signed attributes"},
    {"-signer rsa.pem -inkey rsa.key -nocerts", CMS_NO_CERTIFICATE, "certificate is not there"},
    {"-signer rsa.pem -inkey rsa.key", CMS_UNTRUSTED, "unable to get"},
    {"-signer rsa.pem -inkey rsa.key -certfile intermediate.pem -keyopt rsa_padding_mode:pss",
     CMS_GOOD, ""},
    {"-signer rsa.pem -inkey rsa.key -certfile intermediate.pem -keyopt rsa_padding_mode:pss "
     "-keyopt rsa_pss_saltlen:20",
     CMS_GOOD, ""},
    {"-signer rsa.pem -inkey rsa.key -signer ec.pem -inkey ec.key -certfile intermediate.pem",
     CMS_GOOD, ""},
};

static struct spool *load(const char *name)
{
    static uint8_t bytes[1 << 16];
    struct spool *spool = spool_make();
    FILE *file = fopen(fixture_path(name), "re");
    assert_non_null(file);
    size_t len = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    assert_int_equal(spool_put(spool, bytes_of(bytes, len), NULL), ERR_OK);
    return spool;
}

static void test_commands(void **state)
{
    (void)state;
    fixture_write("content", content);
    for (size_t i = 0; i < sizeof command_rows / sizeof *command_rows; i++) {
        if (fixture_run(
                "openssl cms -sign -binary -nodetach -in content -outform DER -out s.der %s",
                command_rows[i].options) != 0)
            fail_msg("openssl cms -sign %s", command_rows[i].options);
        struct spool *der = load("s.der");
        struct spool *out = spool_make();
        struct cms_verification v =
            fixture_verify(spool_bytes(der), bytes_of(NULL, 0), "bob@a.example", time(NULL), out);
        fixture_assert_verdict(command_rows[i].options, &v, command_rows[i].verdict,
                               command_rows[i].reason);
        if (v.verdict != CMS_BAD_SIGNATURE)
            assert_true(bytes_equal(spool_bytes(out), content));
        cms_verification_clear(&v);
        spool_free(der);
        spool_free(out);
    }
}

static void test_extra(void **state)
{
    struct cms_verification v;
    (void)state;
    assert_int_equal(
        fixture_run("openssl cms -sign -binary -nodetach -in content -outform DER -out s.der "
                    "-signer rsa.pem -inkey rsa.key -nocerts"),
        0);
    struct spool *der = load("s.der");
    struct spool *out = spool_make();
    STACK_OF(X509) *extra = sk_X509_new_null();
    sk_X509_push(extra, fixture.rsa);
    sk_X509_push(extra, fixture.intermediate);
    assert_int_equal(cms_verify(spool_bytes(der), bytes_of(NULL, 0), fixture.trust, extra, NULL,
                                time(NULL), out, &v, NULL),
                     ERR_OK);
    fixture_assert_verdict("certificates from elsewhere", &v, CMS_GOOD, "");
    assert_int_equal(sk_X509_num(v.certificates), 0);
    cms_verification_clear(&v);
    sk_X509_free(extra);
    spool_free(der);
    spool_free(out);
}

// Two signers: who covers the sender speaks, if its signature is good.
static void test_from(void **state)
{
    static const struct {
        const char *from;
        enum certificate_match match;
        X509 *const *signer;
    } rows[] = {
        {"bob@a.example", CERTIFICATE_MATCHES_ADDRESS, &fixture.rsa},
        {"eve@a.example", CERTIFICATE_MATCHES_DOMAIN, &fixture.ec},
        {"eve@c.example", CERTIFICATE_NO_MATCH, &fixture.rsa},
    };
    (void)state;
    fixture_write("content", content);
    assert_int_equal(
        fixture_run("openssl cms -sign -binary -nodetach -in content -outform DER -out s.der "
                    "-signer rsa.pem -inkey rsa.key -signer ec.pem -inkey ec.key "
                    "-certfile intermediate.pem"),
        0);
    struct spool *der = load("s.der");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct spool *out = spool_make();
        struct cms_verification v =
            fixture_verify(spool_bytes(der), bytes_of(NULL, 0), rows[i].from, time(NULL), out);
        fixture_assert_verdict(rows[i].from, &v, CMS_GOOD, "");
        assert_int_equal(v.match, rows[i].match);
        if (v.match != CERTIFICATE_NO_MATCH)
            assert_int_equal(X509_cmp(v.signer, *rows[i].signer), 0);
        cms_verification_clear(&v);
        spool_free(out);
    }
    spool_free(der);
}

static void test_not_signed(void **state)
{
    struct cms_verification v;
    struct detail detail = {0};
    (void)state;
    assert_int_equal(cms_verify(BYTES_LITERAL("hello"), bytes_of(NULL, 0), fixture.trust, NULL,
                                NULL, time(NULL), NULL, &v, &detail),
                     ERR_PERM);
    cms_verification_clear(&v);
    // Certificates only: signed-data, but nobody signed.
    assert_int_equal(
        fixture_run("openssl crl2pkcs7 -nocrl -certfile rsa.pem -outform DER -out s.der"), 0);
    struct spool *der = load("s.der");
    v = fixture_verify(spool_bytes(der), bytes_of(NULL, 0), NULL, time(NULL), NULL);
    fixture_assert_verdict("certificates only", &v, CMS_BAD_SIGNATURE, "no signer");
    assert_null(v.signer);
    assert_int_equal(sk_X509_num(v.certificates), 1);
    cms_verification_clear(&v);
    // Nobody is trusted without anchors.
    struct spool *ours = sign(fixture.rsa, PKI_RSA_2048, true);
    assert_int_equal(
        cms_verify(spool_bytes(ours), content, NULL, NULL, NULL, time(NULL), NULL, &v, &detail),
        ERR_OK);
    fixture_assert_verdict("no anchors", &v, CMS_UNTRUSTED, "anchors");
    cms_verification_clear(&v);
    spool_free(ours);
    spool_free(der);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signers),  cmocka_unit_test(test_time),
        cmocka_unit_test(test_content),  cmocka_unit_test(test_flips),
        cmocka_unit_test(test_commands), cmocka_unit_test(test_extra),
        cmocka_unit_test(test_from),     cmocka_unit_test(test_not_signed),
    };
    return cmocka_run_group_tests_name("cms verify", tests, fixture_setup, fixture_teardown);
}
