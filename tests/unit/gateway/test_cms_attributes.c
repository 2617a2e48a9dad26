// SPDX-License-Identifier: Apache-2.0
// Verdicts about signed attributes: those that libcrypto lets one write but that lie.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include <openssl/cms.h>
#include <openssl/ess.h>

#include "tests/unit/gateway/cms_fixture.h"

static const struct bytes content = {(const uint8_t *)CONTENT, sizeof CONTENT - 1};

enum lie {
    LIE_NONE,
    LIE_PROTECTION_DIGEST,
    LIE_PROTECTION_NULL, // no lie: NULL for absent parameters
    LIE_PROTECTION_TWICE,
    LIE_PROTECTION_JUNK,
    LIE_CERTIFICATE_V2,
    LIE_CERTIFICATE_V1,
    LIE_CERTIFICATE_JUNK,
    LIE_TIME_TYPE,
};

#define PROTECTION "1.2.840.113549.1.9.52"
#define OID_SHA "\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02"
#define OID_RSA "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01"

static void add_sequence(CMS_SignerInfo *si, const char *oid, const char *der, size_t len)
{
    assert_int_equal(CMS_signed_add1_attr_by_txt(si, oid, V_ASN1_SEQUENCE, der, (int)len), 1);
}

static void add_certificate(CMS_SignerInfo *si, bool v2, X509 *cert)
{
    unsigned char *der = NULL;
    int len;
    if (v2) {
        ESS_SIGNING_CERT_V2 *sc = OSSL_ESS_signing_cert_v2_new_init(EVP_sha512(), cert, NULL, 1);
        len = i2d_ESS_SIGNING_CERT_V2(sc, &der);
        ESS_SIGNING_CERT_V2_free(sc);
    } else {
        ESS_SIGNING_CERT *sc = OSSL_ESS_signing_cert_new_init(cert, NULL, 1);
        len = i2d_ESS_SIGNING_CERT(sc, &der);
        ESS_SIGNING_CERT_free(sc);
    }
    assert_true(len > 0);
    assert_int_equal(CMS_signed_add1_attr_by_NID(si,
                                                 v2 ? NID_id_smime_aa_signingCertificateV2
                                                    : NID_id_smime_aa_signingCertificate,
                                                 V_ASN1_SEQUENCE, der, len),
                     1);
    OPENSSL_free(der);
}

static void tell(CMS_SignerInfo *si, enum lie lie)
{
    static const char protection[] = "\x30\x1c\x30\x0b" OID_SHA "\x01\xa1\x0d" OID_RSA "\x05\x00";
    static const char with_null[] = "\x30\x1c\x30\x0d" OID_SHA "\x01\x05\x00\xa1\x0b" OID_RSA;
    static const char wrong[] = "\x30\x1c\x30\x0b" OID_SHA "\x03\xa1\x0d" OID_RSA "\x05\x00";
    switch (lie) {
    case LIE_NONE:
        add_sequence(si, PROTECTION, protection, sizeof protection - 1);
        add_certificate(si, true, fixture.rsa);
        add_certificate(si, false, fixture.rsa);
        break;
    case LIE_PROTECTION_NULL:
        add_sequence(si, PROTECTION, with_null, sizeof with_null - 1);
        break;
    case LIE_PROTECTION_DIGEST:
        add_sequence(si, PROTECTION, wrong, sizeof wrong - 1);
        break;
    case LIE_PROTECTION_TWICE:
        add_sequence(si, PROTECTION, protection, sizeof protection - 1);
        add_sequence(si, PROTECTION, protection, sizeof protection - 1);
        break;
    case LIE_PROTECTION_JUNK:
        add_sequence(si, PROTECTION, "\x30\x02\x05\x00", 4);
        break;
    case LIE_CERTIFICATE_V2:
        add_certificate(si, true, fixture.rsa_b);
        break;
    case LIE_CERTIFICATE_V1:
        add_certificate(si, false, fixture.rsa_b);
        break;
    case LIE_CERTIFICATE_JUNK:
        assert_int_equal(CMS_signed_add1_attr_by_NID(si, NID_id_smime_aa_signingCertificateV2,
                                                     V_ASN1_SEQUENCE, "\x30\x00", 2),
                         1);
        break;
    case LIE_TIME_TYPE:
        assert_int_equal(CMS_signed_add1_attr_by_NID(si, NID_pkcs9_signingTime, V_ASN1_UTF8STRING,
                                                     "261121120000Z", 13),
                         1);
        break;
    }
}

static struct spool *sign_lying(enum lie lie)
{
    const unsigned flags = CMS_PARTIAL | CMS_BINARY;
    struct spool *out = spool_make();
    unsigned char *der = NULL;
    BIO *source = BIO_new_mem_buf(content.data, (int)content.len);
    CMS_ContentInfo *cms = CMS_sign(NULL, NULL, NULL, NULL, flags);
    CMS_SignerInfo *si =
        CMS_add1_signer(cms, fixture.rsa, pki_key(PKI_RSA_2048), EVP_sha256(), flags);
    assert_non_null(si);
    assert_int_equal(CMS_add1_cert(cms, fixture.intermediate), 1);
    tell(si, lie);
    assert_int_equal(CMS_final(cms, source, NULL, flags), 1);
    int len = i2d_CMS_ContentInfo(cms, &der);
    assert_int_equal(spool_put(out, bytes_of(der, (size_t)len), NULL), ERR_OK);
    OPENSSL_free(der);
    CMS_ContentInfo_free(cms);
    BIO_free(source);
    return out;
}

static void test_attributes(void **state)
{
    static const struct {
        enum lie lie;
        const char *reason; // NULL: good
    } rows[] = {
        {LIE_NONE, NULL},
        {LIE_PROTECTION_NULL, NULL}, // the signature has NULL there, which is the same as nothing
        {LIE_PROTECTION_DIGEST, "algorithm protection"},
        {LIE_PROTECTION_TWICE, "algorithm protection"},
        {LIE_PROTECTION_JUNK, "algorithm protection"},
        {LIE_CERTIFICATE_V2, "signingCertificate"},
        {LIE_CERTIFICATE_V1, "signingCertificate"},
        {LIE_CERTIFICATE_JUNK, "signingCertificate"},
        {LIE_TIME_TYPE, "signing-time"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct spool *der = sign_lying(rows[i].lie);
        struct spool *out = spool_make();
        char name[20];
        snprintf(name, sizeof name, "lie %d", rows[i].lie);
        struct cms_verification v =
            fixture_verify(spool_bytes(der), bytes_of(NULL, 0), NULL, time(NULL), out);
        fixture_assert_verdict(name, &v, rows[i].reason ? CMS_BAD_SIGNATURE : CMS_GOOD,
                               rows[i].reason ? rows[i].reason : "");
        cms_verification_clear(&v);
        spool_free(der);
        spool_free(out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_attributes)};
    return cmocka_run_group_tests_name("cms attributes", tests, fixture_setup, fixture_teardown);
}
