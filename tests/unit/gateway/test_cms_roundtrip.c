// SPDX-License-Identifier: Apache-2.0
// What we make is what we, and the openssl command, open again.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <pthread.h>

#include <cmocka.h>

#include <openssl/rand.h>

#include "gateway/cms_ber.h"
#include "tests/unit/gateway/cms_fixture.h"

struct sign_row {
    const char *name;
    enum pki_key key;
    X509 *const *cert;
    enum hash hash;
    bool pss, detached;
};

static const struct sign_row sign_rows[] = {
    {"rsa detached", PKI_RSA_2048, &fixture.rsa, HASH_SHA256, false, true},
    {"rsa opaque", PKI_RSA_2048, &fixture.rsa, HASH_SHA256, false, false},
    {"rsa sha384", PKI_RSA_2048, &fixture.rsa, HASH_SHA384, false, true},
    {"rsa sha512", PKI_RSA_2048, &fixture.rsa, HASH_SHA512, false, true},
    {"pss detached", PKI_RSA_2048, &fixture.rsa, HASH_SHA256, true, true},
    {"pss sha512 opaque", PKI_RSA_2048, &fixture.rsa, HASH_SHA512, true, false},
    {"ecdsa detached", PKI_EC_P256, &fixture.ec, HASH_SHA256, false, true},
    {"ecdsa p384 opaque", PKI_EC_P384, &fixture.ec384, HASH_SHA384, false, false},
};

static struct spool *sign(const struct sign_row *row, struct bytes content)
{
    struct detail detail = {0};
    struct spool *der = spool_make();
    struct cms_signer signer = {pki_key(row->key), *row->cert, fixture.chain, row->hash, row->pss};
    if (cms_sign(&signer, content, row->detached, der, &detail) != ERR_OK)
        fail_msg("%s: %s", row->name, detail.text);
    return der;
}

// DER has no indefinite lengths and no constructed strings.
static void assert_der(struct bytes object)
{
    size_t used = 0;
    assert_true(ber_check(object, &used));
    assert_int_equal(used, object.len);
    const unsigned char *at = object.data;
    ASN1_TYPE *any = d2i_ASN1_TYPE(NULL, &at, (long)object.len);
    assert_non_null(any);
    unsigned char *again = NULL;
    int len = i2d_ASN1_TYPE(any, &again);
    assert_int_equal(len, object.len);
    OPENSSL_free(again);
    ASN1_TYPE_free(any);
    for (size_t i = 0; i < 4; i++) // the outermost elements: SEQUENCE, OID, [0], SEQUENCE
        assert_true(object.data[1] != 0x80);
}

static void verify_ours(const struct sign_row *row, struct bytes der, struct bytes content)
{
    struct cms_verification v;
    struct cms_summary summary;
    struct detail detail = {0};
    struct spool *out = spool_make();
    assert_int_equal(cms_inspect(der, false, &summary, &detail), ERR_OK);
    assert_int_equal(summary.type, CMS_TYPE_SIGNED);
    assert_int_equal(summary.is_detached, row->detached);
    assert_false(summary.is_certs_only);
    assert_int_equal(cms_verify(der, row->detached ? content : bytes_of(NULL, 0), fixture.trust,
                                NULL, "bob@a.example", time(NULL), out, &v, &detail),
                     ERR_OK);
    if (v.verdict != CMS_GOOD)
        fail_msg("%s: %d %s", row->name, v.verdict, v.reason);
    assert_int_equal(X509_cmp(v.signer, *row->cert), 0);
    assert_int_not_equal(v.match, CERTIFICATE_NO_MATCH);
    assert_int_equal(v.hash, row->hash);
    assert_int_equal(sk_X509_num(v.certificates), 2);
    assert_true(labs((long)(time(NULL) - v.signing_time)) < 60);
    if (!row->detached)
        assert_true(bytes_equal(spool_bytes(out), content));
    cms_verification_clear(&v);
    spool_free(out);
}

static void verify_openssl(const struct sign_row *row, struct bytes der, struct bytes content)
{
    fixture_write("s.der", der);
    fixture_write("content", content);
    int status = fixture_run("openssl cms -verify -binary -inform DER -in s.der %s "
                             "-CAfile ca.pem -purpose smimesign -out s.out && cmp s.out content",
                             row->detached ? "-content content" : "");
    if (status != 0)
        fail_msg("%s: openssl cms -verify", row->name);
}

static void test_sign_verify(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sign_rows / sizeof *sign_rows; i++) {
        struct bytes content = BYTES_LITERAL(CONTENT);
        struct spool *der = sign(&sign_rows[i], content);
        assert_der(spool_bytes(der));
        verify_ours(&sign_rows[i], spool_bytes(der), content);
        verify_openssl(&sign_rows[i], spool_bytes(der), content);
        spool_free(der);
    }
}

static void test_sign_contents(void **state)
{
    uint8_t binary[100000];
    const struct bytes contents[] = {
        BYTES_LITERAL(""),
        BYTES_LITERAL("x"),
        BYTES_LITERAL("a\nb\r\nc\r\n"),
        bytes_of("\0\r\0\n", 4),
        bytes_of(binary, sizeof binary),
    };
    (void)state;
    RAND_bytes(binary, sizeof binary);
    for (size_t i = 0; i < sizeof contents / sizeof *contents; i++) {
        for (size_t k = 0; k < 2; k++) {
            struct spool *der = sign(&sign_rows[k], contents[i]);
            verify_ours(&sign_rows[k], spool_bytes(der), contents[i]);
            verify_openssl(&sign_rows[k], spool_bytes(der), contents[i]);
            spool_free(der);
        }
    }
}

// The attributes, as the openssl command prints them.
static void test_sign_attributes(void **state)
{
    struct spool *der = sign(&sign_rows[0], BYTES_LITERAL(CONTENT));
    (void)state;
    fixture_write("s.der", spool_bytes(der));
    spool_free(der);
    assert_int_equal(fixture_run("openssl cms -cmsout -print -noout -inform DER -in s.der > s.txt"),
                     0);
    static const char *const present[] = {
        "signingTime",
        "contentType",
        "messageDigest",
        "S/MIME Capabilities",
        "id-smime-aa-signingCertificateV2",
        "aes-256-gcm\\|aes256-GCM",
        "aes-256-cbc",
        "aes-128-cbc",
    };
    for (size_t i = 0; i < sizeof present / sizeof *present; i++) {
        if (fixture_run("grep -qi '%s' command.log s.txt", present[i]) != 0)
            fail_msg("%s is not in the signature", present[i]);
    }
    static const char *const absent[] = {"des-ede3", "rc2", "gost", "des-cbc"};
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++)
        assert_int_not_equal(fixture_run("grep -qi '%s' s.txt", absent[i]), 0);
    // signingCertificateV2 with SHA-256 leaves the default algorithm out (RFC 5035, 4).
    assert_int_equal(fixture_run("openssl asn1parse -inform DER -in s.der > s.asn"), 0);
    assert_int_equal(fixture_run("grep -A6 signingCertificateV2 s.asn | grep -q 'OCTET STRING'"),
                     0);
}

static void test_sign_refuses(void **state)
{
    struct detail detail = {0};
    struct spool *out = spool_make();
    (void)state;
    struct cms_signer sha1 = {pki_key(PKI_RSA_2048), fixture.rsa, NULL, HASH_SHA1, false};
    assert_int_equal(cms_sign(&sha1, BYTES_LITERAL("x"), true, out, &detail), ERR_PERM);
    struct cms_signer ec_pss = {pki_key(PKI_EC_P256), fixture.ec, NULL, HASH_SHA256, true};
    assert_int_equal(cms_sign(&ec_pss, BYTES_LITERAL("x"), true, out, &detail), ERR_PERM);
    struct cms_signer other = {pki_key(PKI_RSA_2048_B), fixture.rsa, NULL, HASH_SHA256, false};
    assert_int_not_equal(cms_sign(&other, BYTES_LITERAL("x"), true, out, &detail), ERR_OK);
    struct cms_signer ed = {pki_key(PKI_ED25519), fixture.rsa, NULL, HASH_SHA256, false};
    assert_int_equal(cms_sign(&ed, BYTES_LITERAL("x"), true, out, &detail), ERR_PERM);
    assert_int_equal(spool_len(out), 0);
    spool_free(out);
}

struct encrypt_row {
    const char *name;
    enum cms_cipher cipher;
    bool oaep;
    X509 *const *cert;
    enum pki_key key;
    const char *key_file, *cert_file;
};

static const struct encrypt_row encrypt_rows[] = {
#define RSA_ROW(label, cipher, oaep)                                                \
    {                                                                               \
        label, cipher, oaep, &fixture.to_rsa, PKI_RSA_2048, "rsa.key", "to-rsa.pem" \
    }
    RSA_ROW("rsa 128 cbc", CMS_AES_128_CBC, false),
    RSA_ROW("rsa 192 cbc", CMS_AES_192_CBC, false),
    RSA_ROW("rsa 256 cbc", CMS_AES_256_CBC, false),
    RSA_ROW("rsa 128 gcm", CMS_AES_128_GCM, false),
    RSA_ROW("rsa 256 gcm", CMS_AES_256_GCM, false),
    RSA_ROW("oaep 256 cbc", CMS_AES_256_CBC, true),
    RSA_ROW("oaep 256 gcm", CMS_AES_256_GCM, true),
    {"ec 128 cbc", CMS_AES_128_CBC, false, &fixture.to_ec, PKI_EC_P256, "ec.key", "to-ec.pem"},
    {"ec 192 gcm", CMS_AES_192_GCM, false, &fixture.to_ec, PKI_EC_P256, "ec.key", "to-ec.pem"},
    {"ec 256 cbc", CMS_AES_256_CBC, true, &fixture.to_ec, PKI_EC_P256, "ec.key", "to-ec.pem"},
    {"ec384 256 gcm", CMS_AES_256_GCM, false, &fixture.to_ec384, PKI_EC_P384, "ec384.key",
     "to-ec384.pem"},
};

static struct spool *encrypt(enum cms_cipher cipher, bool oaep, STACK_OF(X509) * recipients,
                             struct bytes content)
{
    struct detail detail = {0};
    struct spool *der = spool_make();
    struct cms_encryption encryption = {cipher, oaep, recipients};
    if (cms_encrypt(&encryption, content, der, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
    return der;
}

static void decrypt_ours(const struct encrypt_row *row, struct bytes der, struct bytes content)
{
    struct cms_identity identities[] = {
        {"other", pki_key(PKI_RSA_2048_B), fixture.to_rsa_b},
        {"ours", pki_key(row->key), *row->cert},
    };
    struct cms_summary summary;
    struct detail detail = {0};
    size_t used = 0;
    struct spool *out = spool_make();
    if (cms_inspect(der, false, &summary, &detail) != ERR_OK)
        fail_msg("%s: %s", row->name, detail.text);
    assert_int_equal(summary.type, cms_cipher_is_aead(row->cipher) ? CMS_TYPE_AUTH_ENVELOPED
                                                                   : CMS_TYPE_ENVELOPED);
    if (cms_decrypt(der, identities, 2, out, &used, &detail) != ERR_OK)
        fail_msg("%s: %s", row->name, detail.text);
    assert_int_equal(used, 1);
    assert_string_equal(detail.text, "");
    assert_true(bytes_equal(spool_bytes(out), content));
    spool_free(out);
}

static void test_encrypt_decrypt(void **state)
{
    (void)state;
    struct bytes content = BYTES_LITERAL(CONTENT);
    for (size_t i = 0; i < sizeof encrypt_rows / sizeof *encrypt_rows; i++) {
        const struct encrypt_row *row = &encrypt_rows[i];
        STACK_OF(X509) *recipients = sk_X509_new_null();
        sk_X509_push(recipients, *row->cert);
        struct spool *der = encrypt(row->cipher, row->oaep, recipients, content);
        assert_der(spool_bytes(der));
        decrypt_ours(row, spool_bytes(der), content);
        fixture_write("e.der", spool_bytes(der));
        fixture_write("content", content);
        if (fixture_run("openssl cms -decrypt -binary -inform DER -in e.der -recip %s -inkey %s "
                        "-out e.out && cmp e.out content",
                        row->cert_file, row->key_file) != 0)
            fail_msg("%s: openssl cms -decrypt", row->name);
        spool_free(der);
        sk_X509_free(recipients);
    }
}

// The parameters that openssl's defaults have otherwise.
static void test_encrypt_algorithms(void **state)
{
    static const struct {
        X509 *const *cert;
        enum cms_cipher cipher;
        bool oaep;
        const char *algorithms;
    } rows[] = {
        {&fixture.to_rsa, CMS_AES_256_CBC, false, "aes-256-cbc, rsa"},
        {&fixture.to_rsa, CMS_AES_128_CBC, true, "aes-128-cbc, rsaes-oaep(sha256)"},
        {&fixture.to_ec, CMS_AES_128_CBC, false, "aes-128-cbc, ecdh-sha256kdf+aes-128-wrap"},
        {&fixture.to_ec, CMS_AES_192_CBC, false, "aes-192-cbc, ecdh-sha256kdf+aes-192-wrap"},
        {&fixture.to_ec384, CMS_AES_256_GCM, false, "aes-256-gcm, ecdh-sha256kdf+aes-256-wrap"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct cms_summary summary;
        STACK_OF(X509) *recipients = sk_X509_new_null();
        sk_X509_push(recipients, *rows[i].cert);
        struct spool *der = encrypt(rows[i].cipher, rows[i].oaep, recipients, BYTES_LITERAL("x"));
        assert_int_equal(cms_inspect(spool_bytes(der), false, &summary, NULL), ERR_OK);
        assert_string_equal(summary.algorithms, rows[i].algorithms);
        spool_free(der);
        sk_X509_free(recipients);
    }
}

static void test_encrypt_several(void **state)
{
    struct detail detail = {0};
    STACK_OF(X509) *recipients = sk_X509_new_null();
    (void)state;
    sk_X509_push(recipients, fixture.to_rsa);
    sk_X509_push(recipients, fixture.to_rsa_b);
    sk_X509_push(recipients, fixture.to_ec);
    struct spool *der = encrypt(CMS_AES_256_CBC, false, recipients, BYTES_LITERAL(CONTENT));
    const struct cms_identity identities[] = {
        {"rsa", pki_key(PKI_RSA_2048), fixture.to_rsa},
        {"rsa-b", pki_key(PKI_RSA_2048_B), fixture.to_rsa_b},
        {"ec", pki_key(PKI_EC_P256), fixture.to_ec},
        {"stranger", pki_key(PKI_EC_P384), fixture.to_ec384},
    };
    for (size_t i = 0; i < 4; i++) {
        size_t used = 99;
        struct spool *out = spool_make();
        enum err err = cms_decrypt(spool_bytes(der), &identities[i], 1, out, &used, &detail);
        if (i < 3) {
            assert_int_equal(err, ERR_OK);
            assert_int_equal(used, 0);
            assert_true(bytes_equal(spool_bytes(out), BYTES_LITERAL(CONTENT)));
        } else {
            assert_int_equal(err, ERR_PERM);
            assert_string_equal(detail.text, "not for us");
            assert_int_equal(spool_len(out), 0);
        }
        spool_free(out);
    }
    spool_free(der);
    sk_X509_free(recipients);
}

static void test_encrypt_large(void **state)
{
    static const enum cms_cipher ciphers[] = {CMS_AES_256_CBC, CMS_AES_256_GCM};
    const size_t len = 5 << 20;
    uint8_t *content = test_malloc(len);
    (void)state;
    RAND_bytes(content, (int)len);
    STACK_OF(X509) *recipients = sk_X509_new_null();
    sk_X509_push(recipients, fixture.to_rsa);
    for (size_t i = 0; i < 2; i++) {
        size_t used = 0;
        struct cms_identity identity = {"rsa", pki_key(PKI_RSA_2048), fixture.to_rsa};
        struct spool *der = encrypt(ciphers[i], false, recipients, bytes_of(content, len));
        struct spool *out = spool_make();
        assert_int_equal(cms_decrypt(spool_bytes(der), &identity, 1, out, &used, NULL), ERR_OK);
        assert_true(bytes_equal(spool_bytes(out), bytes_of(content, len)));
        spool_free(out);
        spool_free(der);
    }
    sk_X509_free(recipients);
    test_free(content);
}

static void test_encrypt_refuses(void **state)
{
    struct detail detail = {0};
    struct spool *out = spool_make();
    STACK_OF(X509) *recipients = sk_X509_new_null();
    (void)state;
    struct cms_encryption encryption = {CMS_AES_256_CBC, false, recipients};
    assert_int_equal(cms_encrypt(&encryption, BYTES_LITERAL("x"), out, &detail), ERR_BUG);
    X509 *x25519 = pki_recipient("x25519", PKI_X25519, NULL, fixture.ca, pki_key(PKI_EC_P256_C));
    sk_X509_push(recipients, x25519);
    assert_int_equal(cms_encrypt(&encryption, BYTES_LITERAL("x"), out, &detail), ERR_PERM);
    assert_non_null(strstr(detail.text, "unsupported"));
    assert_int_equal(spool_len(out), 0);
    X509_free(x25519);
    sk_X509_free(recipients);
    spool_free(out);
}

// Keys, certificates and anchors are shared by all threads of sealgated.
static void *work(void *arg)
{
    struct cms_identity identity = {"rsa", pki_key(PKI_RSA_2048), fixture.to_rsa};
    struct cms_signer signer = {pki_key(PKI_EC_P256), fixture.ec, fixture.chain, HASH_SHA256,
                                false};
    struct cms_encryption encryption = {CMS_AES_256_GCM, false, arg};
    bool is_good = true;
    for (int i = 0; i < 20 && is_good; i++) {
        struct cms_verification v = {0};
        struct spool *signature = spool_new(&test_spool_conf), *out = spool_new(&test_spool_conf),
                     *der = spool_new(&test_spool_conf);
        struct bytes content = BYTES_LITERAL(CONTENT), view;
        size_t used = 0;
        is_good = signature && der && out &&
                  cms_sign(&signer, content, true, signature, NULL) == ERR_OK &&
                  spool_view(signature, &view, NULL) == ERR_OK &&
                  cms_verify(view, content, fixture.trust, NULL, NULL, time(NULL), NULL, &v,
                             NULL) == ERR_OK &&
                  v.verdict == CMS_GOOD && cms_encrypt(&encryption, content, der, NULL) == ERR_OK &&
                  spool_view(der, &view, NULL) == ERR_OK &&
                  cms_decrypt(view, &identity, 1, out, &used, NULL) == ERR_OK;
        cms_verification_clear(&v);
        spool_free(signature);
        spool_free(der);
        spool_free(out);
    }
    return is_good ? NULL : arg;
}

static void test_threads(void **state)
{
    pthread_t threads[4];
    STACK_OF(X509) *recipients = sk_X509_new_null();
    (void)state;
    sk_X509_push(recipients, fixture.to_rsa);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, recipients), 0);
    for (int i = 0; i < 4; i++) {
        void *bad = NULL;
        pthread_join(threads[i], &bad);
        assert_null(bad);
    }
    sk_X509_free(recipients);
}

static void test_names(void **state)
{
    enum cms_cipher cipher = CMS_AES_128_CBC;
    (void)state;
    assert_true(cms_cipher_by_name("aes-256-gcm", &cipher));
    assert_int_equal(cipher, CMS_AES_256_GCM);
    assert_true(cms_cipher_by_name("AES-192-CBC", &cipher));
    assert_int_equal(cipher, CMS_AES_192_CBC);
    assert_false(cms_cipher_by_name("3des", &cipher));
    assert_true(cms_cipher_is_aead(CMS_AES_128_GCM));
    assert_false(cms_cipher_is_aead(CMS_AES_128_CBC));
    assert_string_equal(cms_micalg(HASH_SHA256), "sha-256");
    assert_string_equal(cms_micalg(HASH_SHA512), "sha-512");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sign_verify),     cmocka_unit_test(test_sign_contents),
        cmocka_unit_test(test_sign_attributes), cmocka_unit_test(test_sign_refuses),
        cmocka_unit_test(test_encrypt_decrypt), cmocka_unit_test(test_encrypt_algorithms),
        cmocka_unit_test(test_encrypt_several), cmocka_unit_test(test_encrypt_large),
        cmocka_unit_test(test_encrypt_refuses), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests_name("cms roundtrip", tests, fixture_setup, fixture_teardown);
}
