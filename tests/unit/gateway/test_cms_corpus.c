// SPDX-License-Identifier: Apache-2.0
// The shared corpus: what other programs made is opened as its README says, what was tampered with
// is refused and releases nothing. Without the corpus this is a visible skip; what the project
// itself promises is tested in the other files.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/cms_ber.h"
#include "tests/unit/gateway/cms_fixture.h"

static struct cms_identity identities[5];
static struct trust *trust;

static int corpus_setup(void **state)
{
    static const char *const names[] = {"rsa2", "rsa", "ec", "ec384"};
    static char paths[8][60];
    struct detail detail = {0};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(paths[0], sizeof paths[0], "generated/pki/%s.crt", names[i]);
        snprintf(paths[1], sizeof paths[1], "generated/pki/%s.key", names[i]);
        identities[i] =
            (struct cms_identity){names[i], corpus_key(paths[1]), corpus_certificate(paths[0])};
    }
    if (trust_load(TEST_CORPUS "/generated/pki/ca.crt", &trust, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
    return 0;
}

static int corpus_teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        EVP_PKEY_free(identities[i].key);
        X509_free(identities[i].cert);
    }
    trust_free(trust);
    return 0;
}

struct open_row {
    const char *name;
    bool legacy;
    const char *refusal; // NULL: opens to the entity; "": opens to garbage
};

static const struct open_row open_rows[] = {
    {"ossl/env-cbc-rsa15.p7m", false, NULL},
    {"ossl/env-cbc-rsa15-stream.p7m", false, NULL},
    {"ossl/env-cbc-oaep1.p7m", false, NULL},
    {"ossl/env-cbc-oaep256.p7m", false, NULL},
    {"ossl/env-cbc-oaep256mgf1.p7m", false, NULL},
    {"ossl/env-cbc-ecdh256.p7m", false, NULL},
    {"ossl/env-cbc-ecdh384.p7m", false, NULL},
    {"ossl/env-cbc-ecdhdefault.p7m", false, NULL},
    {"ossl/env-multi.p7m", false, NULL},
    {"ossl/env-3des-rsa15.p7m", true, NULL},
    {"ossl/env-3des-rsa15.p7m", false, "forbidden: 3des-cbc"},
    {"ossl/auth-gcm-rsa15.p7m", false, NULL},
    {"ossl/auth-gcm-rsa15-stream.p7m", false, NULL},
    {"ossl/auth-gcm128-rsa15.p7m", false, NULL},
    {"ossl/auth-gcm-oaep256.p7m", false, NULL},
    {"ossl/auth-gcm-ecdh256.p7m", false, NULL},
    {"bcmsg/env-cbc-rsa15.p7m", false, NULL},
    {"bcmsg/env-cbc128-rsa15.p7m", false, NULL},
    {"bcmsg/env-cbc-oaep1.p7m", false, NULL},
    {"bcmsg/env-cbc-oaep256.p7m", false, NULL},
    {"bcmsg/env-cbc-ecdh256.p7m", false, NULL},
    {"bcmsg/env-cbc-ecdh384.p7m", false, NULL},
    {"bcmsg/env-cbc-ecdhdefault.p7m", false, NULL},
    {"bcmsg/auth-gcm-rsa15.p7m", false, NULL},
    {"bcmsg/auth-gcm-oaep256.p7m", false, NULL},
    {"bcmsg/auth-gcm-ecdh256.p7m", false, NULL},
    {"bcmsg/auth-ccm-rsa15.p7m", false, "unsupported: aes-256-ccm"},
    {"neg/gcm-badtag.p7m", false, "decryption failed"},
    {"neg/gcm-badct.p7m", false, "decryption failed"},
    {"neg/gcm-tag1.p7m", false, "forbidden: aes-256-gcm with a tag of 1 bytes (RFC 5084)"},
    {"neg/gcm-tag4.p7m", false, "forbidden: aes-256-gcm with a tag of 4 bytes (RFC 5084)"},
    {"neg/gcm-tag12.p7m", false, NULL},
    {"neg/cbc-flip.p7m", false, ""},
};

static void test_open(void **state)
{
    (void)state;
    struct spool *entity = corpus_read("generated/ossl/entity.txt");
    for (size_t i = 0; i < sizeof open_rows / sizeof *open_rows; i++) {
        const struct open_row *row = &open_rows[i];
        char path[100];
        struct cms_summary summary;
        struct detail detail = {0};
        size_t used = 0;
        struct spool *out = spool_make();
        snprintf(path, sizeof path, "generated/%s", row->name);
        struct spool *object = corpus_read(path);
        enum err err = cms_inspect(spool_bytes(object), row->legacy, &summary, &detail);
        print_message("%-40s %s %s\n", row->name, summary.algorithms, detail.text);
        assert_true(summary.type == CMS_TYPE_ENVELOPED || summary.type == CMS_TYPE_AUTH_ENVELOPED);
        if (err == ERR_OK)
            err = cms_decrypt(spool_bytes(object), identities, 4, out, &used, &detail);
        if (row->refusal && *row->refusal) {
            assert_int_equal(err, ERR_PERM);
            assert_string_equal(detail.text, row->refusal);
            assert_int_equal(spool_len(out), 0);
        } else {
            if (err != ERR_OK)
                fail_msg("%s: %s", row->name, detail.text);
            assert_int_equal(bytes_equal(spool_bytes(out), spool_bytes(entity)), !row->refusal);
        }
        spool_free(object);
        spool_free(out);
    }
    spool_free(entity);
}

struct verify_row {
    const char *name;
    const char *content; // NULL: opaque
    enum cms_verdict verdict;
    const char *reason;
};

static const struct verify_row verify_rows[] = {
    {"ossl/sign-detached-rsa.p7s", "ossl/sign-detached-rsa.content", CMS_GOOD, ""},
    {"ossl/sign-detached-pss.p7s", "ossl/sign-detached-pss.content", CMS_GOOD, ""},
    {"ossl/sign-detached-psskey.p7s", "ossl/sign-detached-psskey.content", CMS_GOOD, ""},
    {"ossl/sign-detached-ecdsa.p7s", "ossl/sign-detached-ecdsa.content", CMS_GOOD, ""},
    {"ossl/sign-opaque-rsa.p7m", NULL, CMS_GOOD, ""},
    {"ossl/sign-opaque-stream.p7m", NULL, CMS_GOOD, ""},
    {"ossl/triple.p7s", "ossl/triple.content", CMS_GOOD, ""},
    {"ossl/sign-detached-rsa.p7s", "ossl/triple.content", CMS_BAD_SIGNATURE, "content was changed"},
    {"bcmsg/sign-detached-rsa.p7s", "bcmsg/sign-detached-rsa.content", CMS_GOOD, ""},
    {"bcmsg/sign-detached-pss.p7s", "bcmsg/sign-detached-pss.content", CMS_GOOD, ""},
    {"bcmsg/sign-detached-ecdsa.p7s", "bcmsg/sign-detached-ecdsa.content", CMS_GOOD, ""},
    {"bcmsg/sign-detached-sha384.p7s", "bcmsg/sign-detached-sha384.content", CMS_GOOD, ""},
    {"bcmsg/sign-opaque-rsa.p7m", NULL, CMS_GOOD, ""},
    {"bcmsg/sign-detached-ed25519.p7s", "bcmsg/sign-detached-ed25519.content", CMS_UNSUPPORTED,
     "unsupported: ed25519"},
};

static void test_verify(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof verify_rows / sizeof *verify_rows; i++) {
        const struct verify_row *row = &verify_rows[i];
        char path[100];
        struct cms_verification v;
        struct detail detail = {0};
        struct spool *out = spool_make();
        snprintf(path, sizeof path, "generated/%s", row->name);
        struct spool *object = corpus_read(path);
        snprintf(path, sizeof path, "generated/%s", row->content ? row->content : "README");
        struct spool *content = row->content ? corpus_read(path) : spool_make();
        assert_int_equal(cms_verify(spool_bytes(object),
                                    row->content ? spool_bytes(content) : bytes_of(NULL, 0), trust,
                                    NULL, NULL, time(NULL), out, &v, &detail),
                         ERR_OK);
        if (v.verdict != row->verdict || strcmp(v.reason, row->reason) != 0)
            fail_msg("%s: verdict %d: %s", row->name, v.verdict, v.reason);
        assert_non_null(v.signer);
        assert_int_equal(spool_len(out) > 0, !row->content);
        cms_verification_clear(&v);
        spool_free(object);
        spool_free(content);
        spool_free(out);
    }
}

// OpenSSL's own malformed ones, as DER or PEM: nothing good comes of them, and nothing breaks.
static void test_malformed(void **state)
{
    static const char *const names[] = {
        "authenticated_attrs.pem", "authenveloped_attrs.pem", "bad_authenveloped_attrs.pem",
        "bad_signtime_attr.cms",   "ct_multiple_attr.cms",    "dh-malformed.der",
        "ecdh-malformed.der",      "no_ct_attr.cms",          "no_md_attr.cms",
        "pkcs7-md4.pem",           "rsa-malformed.der",       "ciphertext_from_1_1_1.cms",
    };
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[100];
        struct cms_summary summary;
        struct cms_verification v;
        struct detail detail = {0};
        size_t used = 0;
        snprintf(path, sizeof path, "openssl/80-test_cms_data/%s", names[i]);
        struct spool *raw = corpus_read(path);
        struct bytes object = spool_bytes(raw);
        struct spool *out = spool_make();
        unsigned char *der = NULL;
        if (object.data[0] != 0x30) { // PEM or S/MIME: let openssl take the wrapping off
            fixture_write("in", object);
            bool is_pem = strstr(names[i], ".pem") != NULL;
            if (is_pem)
                assert_int_equal(fixture_run("sed -e '/^-----/d' in | base64 -di > out.der"), 0);
            else
                assert_int_equal(fixture_run("tr -d '\\r' < in | sed -e '1,/^$/d' | base64 -di > "
                                             "out.der"),
                                 0);
            FILE *file = fopen(fixture_path("out.der"), "re");
            assert_non_null(file);
            der = test_malloc(1 << 20);
            object = bytes_of(der, fread(der, 1, 1 << 20, file));
            fclose(file);
        }
        (void)cms_inspect(object, false, &summary, &detail);
        print_message("%-30s type %d: %s %s\n", names[i], summary.type, summary.algorithms,
                      detail.text);
        if (summary.type == CMS_TYPE_SIGNED) {
            assert_int_equal(cms_verify(object, bytes_of(NULL, 0), trust, NULL, NULL, time(NULL),
                                        out, &v, &detail),
                             ERR_OK);
            print_message("    verdict %d: %s\n", v.verdict, v.reason);
            assert_int_not_equal(v.verdict, CMS_GOOD);
            assert_true(v.verdict == CMS_BAD_SIGNATURE || v.verdict == CMS_UNSUPPORTED);
            cms_verification_clear(&v);
        } else {
            assert_int_equal(cms_decrypt(object, identities, 4, out, &used, &detail), ERR_PERM);
            assert_int_equal(spool_len(out), 0);
        }
        if (der)
            test_free(der);
        spool_free(raw);
        spool_free(out);
    }
}

static void test_rfc9216(void **state)
{
    static const char *const names[] = {
        "3.1_RSA-Certification-Authority-Root-Certificate.crt.pem",
        "3.3_RSA-Certification-Authority-Cross-Signed-Certificate.crt.pem",
        "4.1_Alice-s-Signature-Verification-End-Entity-Certificate.crt.pem",
        "4.3_Alice-s-Encryption-End-Entity-Certificate.crt.pem",
        "5.1_Bob-s-Signature-Verification-End-Entity-Certificate.crt.pem",
        "5.3_Bob-s-Encryption-End-Entity-Certificate.crt.pem",
        "6.1_Ed25519-Certification-Authority-Root-Certificate.crt.pem",
        "6.3_Ed25519-Certification-Authority-Cross-Signed-Certificate.crt.pem",
        "7.1_Carlos-s-Signature-Verification-End-Entity-Certificate.crt.pem",
        "7.3_Carlos-s-Encryption-End-Entity-Certificate.crt.pem",
        "8.1_Dana-s-Signature-Verification-End-Entity-Certificate.crt.pem",
        "8.3_Dana-s-Encryption-End-Entity-Certificate.crt.pem",
    };
    struct detail detail = {0};
    struct trust *samples = NULL;
    bool is_expired = false;
    (void)state;
    X509 *certs[12];
    for (size_t i = 0; i < 12; i++) {
        char path[120];
        snprintf(path, sizeof path, "rfc9216/%s", names[i]);
        certs[i] = corpus_certificate(path);
    }
    assert_int_equal(certificate_covers(certs[2], "alice@smime.example"),
                     CERTIFICATE_MATCHES_ADDRESS);
    assert_int_equal(certificate_covers(certs[4], "alice@smime.example"), CERTIFICATE_NO_MATCH);
    assert_int_equal(certificate_check_signing(certs[2], &detail), ERR_OK);
    assert_int_equal(certificate_check_encryption(certs[2], &detail), ERR_PERM);
    assert_int_equal(certificate_check_encryption(certs[3], &detail), ERR_OK);
    char ca[300];
    snprintf(ca, sizeof ca, "%s/rfc9216/%s", TEST_CORPUS, names[0]);
    assert_int_equal(trust_load(ca, &samples, &detail), ERR_OK);
    for (size_t i = 2; i < 12; i++) {
        if (i == 6 || i == 7)
            continue;
        STACK_OF(X509) *cross = sk_X509_new_null(); // Carlos and Dana by way of it
        sk_X509_push(cross, certs[7]);
        sk_X509_push(cross, certs[1]);
        enum trust_purpose purpose = i % 2 == 0 ? TRUST_SIGN : TRUST_ENCRYPT;
        enum err err =
            trust_check(samples, certs[i], cross, purpose, time(NULL), &is_expired, &detail);
        print_message("%s: %s\n", names[i], err == ERR_OK ? "ok" : detail.text);
        if (i < 6)
            assert_int_equal(err, ERR_OK);
        sk_X509_free(cross);
    }
    for (size_t i = 0; i < 12; i++)
        X509_free(certs[i]);
    trust_free(samples);
}

static int setup(void **state)
{
    return fixture_setup(state) || corpus_setup(state);
}

static int teardown(void **state)
{
    return fixture_teardown(state) || corpus_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_verify),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_rfc9216),
    };
    if (!corpus_is_there()) {
        fprintf(stderr, "no corpus in %s\n", TEST_CORPUS);
        return 77;
    }
    return cmocka_run_group_tests_name("cms corpus", tests, setup, teardown);
}
