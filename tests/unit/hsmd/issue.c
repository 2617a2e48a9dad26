// SPDX-License-Identifier: Apache-2.0
// Requests and certificates as OpenSSL reads them back; and signers that fail or lie.
#include "hsmd/custody/issue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <openssl/x509v3.h>

#include "hsmd/base/text.h"
#include "tests/support/issue_signer.h"
#include "tests/support/pki.h"

#define DS X509v3_KU_DIGITAL_SIGNATURE
#define NR X509v3_KU_NON_REPUDIATION
#define KE X509v3_KU_KEY_ENCIPHERMENT
#define KA X509v3_KU_KEY_AGREEMENT
#define AUDIT ((enum wire_purpose)4) // the purpose of keys that sign checkpoints

#define ED25519 (PKI_KEY_COUNT + 1)

static EVP_PKEY *p521, *ed25519;

static int setup(void **state)
{
    (void)state;
    p521 = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-521");
    ed25519 = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    return p521 && ed25519 ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    EVP_PKEY_free(p521);
    EVP_PKEY_free(ed25519);
    return 0;
}

static EVP_PKEY *key_of(int key)
{
    if (key == ED25519)
        return ed25519;
    return key == PKI_KEY_COUNT ? p521 : pki_key((enum pki_key)key);
}

static X509 *read_certificate(const struct buf *der)
{
    const uint8_t *at = der->data;
    X509 *certificate = d2i_X509(NULL, &at, (long)der->len);
    assert_non_null(certificate);
    assert_ptr_equal(at, der->data + der->len);
    return certificate;
}

static X509_REQ *read_request(const struct buf *der)
{
    const uint8_t *at = der->data;
    X509_REQ *request = d2i_X509_REQ(NULL, &at, (long)der->len);
    assert_non_null(request);
    assert_ptr_equal(at, der->data + der->len);
    return request;
}

static void assert_hex(struct bytes bytes, const char *hex)
{
    struct buf text;
    buf_init(&text, 4096);
    assert_int_equal(text_put_hex(&text, bytes), ERR_OK);
    assert_string_equal(buf_text(&text), hex);
    buf_clear(&text);
}

static void assert_algorithm(const X509_ALGOR *algorithm, const char *hex)
{
    uint8_t *der = NULL;
    int len = i2d_X509_ALGOR(algorithm, &der);
    assert_true(len > 0);
    assert_hex(bytes_of(der, (size_t)len), hex);
    OPENSSL_free(der);
}

// Each key type and hash: the algorithm octet for octet (RFC 4055, RFC 5758; PSS as the CA/Browser
// Forum writes it), the salt, the digest, and OpenSSL's opinion of the signature.
static void test_algorithms(void **state)
{
    (void)state;
    static const struct {
        int key;
        enum hash hash;
        bool pss;
        unsigned salt;
        const char *algorithm;
    } rows[] = {
        {PKI_RSA_2048, HASH_SHA256, false, 0, "300d06092a864886f70d01010b0500"},
        {PKI_RSA_2048, HASH_SHA384, false, 0, "300d06092a864886f70d01010c0500"},
        {PKI_RSA_2048, HASH_SHA512, false, 0, "300d06092a864886f70d01010d0500"},
        {PKI_RSA_2048, HASH_SHA256, true, 32,
         "304106092a864886f70d01010a3034a00f300d06096086480165030402010500a11c301a06092a864886f70d0"
         "1"
         "0108300d06096086480165030402010500a203020120"},
        {PKI_RSA_2048, HASH_SHA384, true, 48,
         "304106092a864886f70d01010a3034a00f300d06096086480165030402020500a11c301a06092a864886f70d0"
         "1"
         "0108300d06096086480165030402020500a203020130"},
        {PKI_RSA_2048, HASH_SHA512, true, 64,
         "304106092a864886f70d01010a3034a00f300d06096086480165030402030500a11c301a06092a864886f70d0"
         "1"
         "0108300d06096086480165030402030500a203020140"},
        {PKI_EC_P256, HASH_SHA256, false, 0, "300a06082a8648ce3d040302"},
        {PKI_EC_P384, HASH_SHA384, false, 0, "300a06082a8648ce3d040303"},
        {PKI_EC_P384, HASH_SHA256, false, 0, "300a06082a8648ce3d040302"},
        {PKI_KEY_COUNT, HASH_SHA512, false, 0, "300a06082a8648ce3d040304"},
        {ED25519, HASH_SHA256, false, 0, "300506032b6570"}, // RFC 8410, 3: the hash is its own
        {ED25519, HASH_SHA512, false, 0, "300506032b6570"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct issue_signer_key key = {.pkey = key_of(rows[i].key)};
        const struct issue_signer signer = issue_signer_init(&key, WIRE_SMIME_SIGN);
        struct act act = issue_signer_act(ACT_KEY_SELF_SIGN);
        struct detail detail = {0};
        uint8_t digest[HASH_SIZE_MAX];
        size_t digest_len = 0;
        const X509_ALGOR *algorithm = NULL;
        const ASN1_BIT_STRING *signature = NULL;
        struct buf der;
        buf_init(&der, 65536);
        act.hash = rows[i].hash;
        act.pss = rows[i].pss;
        assert_int_equal(issue_self_signed(&act, &signer, &der, digest, &digest_len, &detail),
                         ERR_OK);
        X509 *certificate = read_certificate(&der);
        assert_int_equal(X509_verify(certificate, key.pkey), 1);
        assert_algorithm(X509_get0_tbs_sigalg(certificate), rows[i].algorithm);
        X509_get0_signature(&signature, &algorithm, certificate);
        assert_algorithm(algorithm, rows[i].algorithm);
        assert_int_equal(key.salt, rows[i].salt);
        assert_int_equal(digest_len,
                         hash_size(rows[i].key == ED25519 ? HASH_SHA512 : rows[i].hash));
        assert_memory_equal(digest, key.digest, digest_len);
        X509_free(certificate);

        buf_reset(&der);
        act.kind = ACT_KEY_REQUEST;
        assert_int_equal(issue_request(&act, &signer, &der, digest, &digest_len, &detail), ERR_OK);
        X509_REQ *request = read_request(&der);
        assert_int_equal(X509_REQ_verify(request, key.pkey), 1);
        X509_REQ_get0_signature(request, &signature, &algorithm);
        assert_algorithm(algorithm, rows[i].algorithm);
        assert_memory_equal(digest, key.digest, digest_len);
        assert_int_equal(key.calls, 2);
        X509_REQ_free(request);
        buf_clear(&der);
    }
}

static STACK_OF(X509_EXTENSION) * extensions_of(const struct buf *der, bool is_request)
{
    STACK_OF(X509_EXTENSION) *extensions = NULL;
    if (is_request) {
        X509_REQ *request = read_request(der);
        extensions = X509_REQ_get_extensions(request);
        X509_REQ_free(request);
        return extensions;
    }
    X509 *certificate = read_certificate(der);
    extensions = sk_X509_EXTENSION_deep_copy(X509_get0_extensions(certificate), X509_EXTENSION_dup,
                                             X509_EXTENSION_free);
    X509_free(certificate);
    return extensions;
}

// keyUsage and extendedKeyUsage by purpose and kind of key, in requests as in certificates.
static void test_usage(void **state)
{
    (void)state;
    static const struct {
        int key;
        enum wire_purpose purpose;
        unsigned usage;
        bool has_extended;
    } rows[] = {
        {PKI_RSA_2048, WIRE_SMIME_SIGN, DS | NR, true},
        {PKI_EC_P256, WIRE_SMIME_SIGN, DS | NR, true},
        {PKI_RSA_2048, WIRE_SMIME_DECRYPT, KE, true},
        {PKI_EC_P256, WIRE_SMIME_DECRYPT, KA, true},
        {PKI_RSA_2048, WIRE_GENERAL, DS | NR | KE, false},
        {PKI_EC_P256, WIRE_GENERAL, DS | NR | KA, false},
        {PKI_RSA_2048, AUDIT, DS, false},
        {PKI_EC_P256, AUDIT, DS, false},
        {ED25519, WIRE_SMIME_SIGN, DS | NR, true},
        {ED25519, WIRE_GENERAL, DS | NR, false}, // it can do nothing else
    };
    for (size_t i = 0; i < 2 * sizeof rows / sizeof *rows; i++) {
        bool is_request = i % 2;
        struct issue_signer_key key = {.pkey = key_of(rows[i / 2].key)};
        const struct issue_signer signer = issue_signer_init(&key, rows[i / 2].purpose);
        struct act act = issue_signer_act(is_request ? ACT_KEY_REQUEST : ACT_KEY_SELF_SIGN);
        uint8_t digest[HASH_SIZE_MAX];
        size_t len = 0;
        int critical = 0;
        unsigned found = 0;
        struct buf der;
        buf_init(&der, 65536);
        enum err err = is_request ? issue_request(&act, &signer, &der, digest, &len, NULL)
                                  : issue_self_signed(&act, &signer, &der, digest, &len, NULL);
        assert_int_equal(err, ERR_OK);
        STACK_OF(X509_EXTENSION) *extensions = extensions_of(&der, is_request);
        assert_int_equal(sk_X509_EXTENSION_num(extensions),
                         2 + rows[i / 2].has_extended + (is_request ? 0 : 3));
        ASN1_BIT_STRING *usage = X509V3_get_d2i(extensions, NID_key_usage, &critical, NULL);
        assert_non_null(usage);
        assert_int_equal(critical, 1);
        for (int bit = 0; bit < 8; bit++)
            found |= ASN1_BIT_STRING_get_bit(usage, bit) ? 0x80u >> bit : 0;
        assert_int_equal(found, rows[i / 2].usage);
        ASN1_BIT_STRING_free(usage);
        EXTENDED_KEY_USAGE *extended =
            X509V3_get_d2i(extensions, NID_ext_key_usage, &critical, NULL);
        assert_int_equal(extended != NULL, rows[i / 2].has_extended);
        if (extended) {
            assert_int_equal(critical, 0);
            assert_int_equal(sk_ASN1_OBJECT_num(extended), 1);
            assert_int_equal(OBJ_obj2nid(sk_ASN1_OBJECT_value(extended, 0)), NID_email_protect);
        }
        EXTENDED_KEY_USAGE_free(extended);
        sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
        buf_clear(&der);
    }
}

static void assert_names(STACK_OF(X509_EXTENSION) * extensions)
{
    static const struct {
        int type;
        const char *text;
    } expected[] = {
        {GEN_EMAIL, "alice@a.example"},
        {GEN_EMAIL, "b.o-b@b.example"},
        {GEN_DNS, "a.example"},
        {GEN_DNS, "*.b.example"},
    };
    int critical = 0;
    GENERAL_NAMES *names = X509V3_get_d2i(extensions, NID_subject_alt_name, &critical, NULL);
    assert_int_equal(sk_GENERAL_NAME_num(names), 4);
    assert_int_equal(critical, 0);
    for (int i = 0; i < 4; i++) {
        int type = 0;
        const ASN1_STRING *text = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);
        assert_int_equal(type, expected[i].type);
        assert_int_equal(ASN1_STRING_length(text), strlen(expected[i].text));
        assert_memory_equal(ASN1_STRING_get0_data(text), expected[i].text,
                            strlen(expected[i].text));
    }
    GENERAL_NAMES_free(names);
}

static void assert_subject(const X509_NAME *name, const char *expected)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    assert_true(X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) > 0);
    long len = BIO_get_mem_data(bio, &text);
    assert_int_equal(len, strlen(expected));
    assert_memory_equal(text, expected, strlen(expected));
    BIO_free(bio);
}

// Every field of F14, where it belongs; empty ones are not there at all.
static void test_names(void **state)
{
    (void)state;
    static const char all[] = "CN=mail.a.example,OU=Mail,O=Example Pflüger GmbH,L=Köln,ST=NRW,C=DE";
    struct issue_signer_key key = {.pkey = pki_key(PKI_EC_P256)};
    const struct issue_signer signer = issue_signer_init(&key, WIRE_SMIME_SIGN);
    struct act act = issue_signer_act(ACT_KEY_SELF_SIGN);
    uint8_t digest[HASH_SIZE_MAX];
    size_t len = 0;
    struct buf der;
    buf_init(&der, 65536);
    assert_int_equal(issue_self_signed(&act, &signer, &der, digest, &len, NULL), ERR_OK);
    X509 *certificate = read_certificate(&der);
    assert_subject(X509_get_subject_name(certificate), all);
    assert_subject(X509_get_issuer_name(certificate), all);
    STACK_OF(X509_EXTENSION) *extensions = extensions_of(&der, false);
    assert_names(extensions);
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    X509_free(certificate);

    buf_reset(&der);
    act.kind = ACT_KEY_REQUEST;
    assert_int_equal(issue_request(&act, &signer, &der, digest, &len, NULL), ERR_OK);
    X509_REQ *request = read_request(&der);
    assert_subject(X509_REQ_get_subject_name(request), all);
    extensions = extensions_of(&der, true);
    assert_names(extensions);
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    X509_REQ_free(request);

    buf_reset(&der);
    const struct act bare = {.kind = ACT_KEY_REQUEST,
                             .common_name = BYTES_LITERAL("Gateway, the \"second\""),
                             .any_name = true,
                             .hash = HASH_SHA256};
    assert_int_equal(issue_request(&bare, &signer, &der, digest, &len, NULL), ERR_OK);
    request = read_request(&der);
    assert_subject(X509_REQ_get_subject_name(request), "CN=Gateway\\, the \\\"second\\\"");
    extensions = extensions_of(&der, true);
    assert_int_equal(X509v3_get_ext_by_NID(extensions, NID_subject_alt_name, -1), -1);
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    X509_REQ_free(request);
    buf_clear(&der);
}

static void assert_around(const ASN1_TIME *time_of, time_t expected)
{
    time_t early = expected - 60;
    time_t late = expected + 60;
    assert_int_equal(X509_cmp_time(time_of, &early), 1);
    assert_int_equal(X509_cmp_time(time_of, &late), -1);
}

static void test_certificate(void **state)
{
    (void)state;
    struct issue_signer_key key = {.pkey = pki_key(PKI_RSA_2048)};
    const struct issue_signer signer = issue_signer_init(&key, WIRE_SMIME_SIGN);
    struct act act = issue_signer_act(ACT_KEY_SELF_SIGN);
    uint8_t digest[HASH_SIZE_MAX];
    size_t len = 0;
    const time_t now = time(NULL);
    struct buf der, another;
    buf_init(&der, 65536);
    buf_init(&another, 65536);
    act.days = ACT_DAYS_MAX;
    assert_int_equal(issue_self_signed(&act, &signer, &der, digest, &len, NULL), ERR_OK);
    assert_int_equal(issue_self_signed(&act, &signer, &another, digest, &len, NULL), ERR_OK);
    X509 *one = read_certificate(&der);
    X509 *other = read_certificate(&another);
    assert_int_equal(X509_get_version(one), X509_VERSION_3);
    assert_around(X509_get0_notBefore(one), now - 24 * 3600);
    assert_around(X509_get0_notAfter(one), now + ACT_DAYS_MAX * 24 * 3600L);
    assert_int_equal(X509_check_ca(one), 0);
    assert_true(X509_get_extension_flags(one) & EXFLAG_BCONS);
    assert_int_equal(X509_check_purpose(one, X509_PURPOSE_SMIME_SIGN, 0), 1);
    // Serial numbers: positive, 16 bytes, and not the same twice.
    const ASN1_INTEGER *serial = X509_get0_serialNumber(one);
    assert_int_equal(ASN1_STRING_length(serial), 16);
    assert_int_equal(ASN1_STRING_type(serial), V_ASN1_INTEGER);
    assert_true(ASN1_INTEGER_cmp(serial, X509_get0_serialNumber(other)) != 0);
    // Both key identifiers: the SHA-1 of the key.
    uint8_t hashed[EVP_MAX_MD_SIZE];
    unsigned hashed_len = 0;
    assert_int_equal(X509_pubkey_digest(one, EVP_sha1(), hashed, &hashed_len), 1);
    const ASN1_OCTET_STRING *subject = X509_get0_subject_key_id(one);
    const ASN1_OCTET_STRING *authority = X509_get0_authority_key_id(one);
    assert_non_null(subject);
    assert_non_null(authority);
    assert_int_equal(ASN1_OCTET_STRING_cmp(subject, authority), 0);
    assert_int_equal(ASN1_STRING_length(subject), hashed_len);
    assert_memory_equal(ASN1_STRING_get0_data(subject), hashed, hashed_len);
    X509_free(one);
    X509_free(other);
    buf_clear(&der);
    buf_clear(&another);
}

typedef enum err (*make_fn)(const struct act *, const struct issue_signer *, struct buf *,
                            uint8_t *, size_t *, struct detail *);

// What a signer fails with is passed on; a signature that is not one never leaves; in the buffer is
// what was there before.
static void test_faults(void **state)
{
    (void)state;
    static const struct {
        enum issue_signer_fault fault;
        enum err expected;
        const char *said;
    } rows[] = {
        {ISSUE_SIGNER_GOOD, ERR_OK, ""},
        {ISSUE_SIGNER_FLIPPED, ERR_TEMP, "the token's signature is not one of this key"},
        {ISSUE_SIGNER_STALE, ERR_TEMP, "the token's signature is not one of this key"},
        {ISSUE_SIGNER_EMPTY, ERR_TEMP, "a signature of 0 bytes"},
        {ISSUE_SIGNER_TEMP, ERR_TEMP, "the token is gone"},
        {ISSUE_SIGNER_DENIED, ERR_DENIED, "the token is locked"},
    };
    static const int keys[] = {PKI_RSA_2048, ED25519};
    static const make_fn makes[] = {issue_request, issue_self_signed};
    for (size_t i = 0; i < 4 * sizeof rows / sizeof *rows; i++) {
        size_t row = i / 4;
        struct issue_signer_key key = {.pkey = key_of(keys[i % 2]), .fault = rows[row].fault};
        const struct issue_signer signer = issue_signer_init(&key, WIRE_SMIME_SIGN);
        const struct act act = issue_signer_act(i / 2 % 2 ? ACT_KEY_SELF_SIGN : ACT_KEY_REQUEST);
        uint8_t digest[HASH_SIZE_MAX] = {0};
        size_t len = 0;
        struct detail detail = {0};
        struct buf der;
        buf_init(&der, 65536);
        assert_int_equal(buf_put_text(&der, "before"), ERR_OK);
        assert_int_equal(makes[i / 2 % 2](&act, &signer, &der, digest, &len, &detail),
                         rows[row].expected);
        assert_non_null(strstr(detail.text, rows[row].said));
        assert_int_equal(der.len == 6, rows[row].expected != ERR_OK);
        assert_memory_equal(buf_text(&der), "before", 6);
        // What the token was asked to sign is known for the audit log all the same.
        assert_int_equal(len, i % 2 ? 64 : 32);
        assert_memory_equal(digest, key.digest, len);
        buf_clear(&der);
    }
}

// What is refused is refused before the token is asked.
static void test_refusals(void **state)
{
    (void)state;
    struct issue_signer_key key = {.pkey = pki_key(PKI_EC_P256)};
    struct issue_signer signer = issue_signer_init(&key, WIRE_SMIME_SIGN);
    struct act act = issue_signer_act(ACT_KEY_REQUEST);
    struct detail detail = {0};
    uint8_t digest[HASH_SIZE_MAX];
    size_t len = 9;
    struct buf der;
    buf_init(&der, 65536);
    act.pss = true;
    assert_int_equal(issue_request(&act, &signer, &der, digest, &len, &detail), ERR_PERM);
    assert_string_equal(detail.text, "pss: the key is not an RSA key");
    assert_int_equal(len, 0);
    struct issue_signer_key edwards = {.pkey = ed25519};
    signer = issue_signer_init(&edwards, WIRE_SMIME_SIGN);
    assert_int_equal(issue_request(&act, &signer, &der, digest, &len, &detail), ERR_PERM);
    assert_string_equal(detail.text, "pss: the key is not an RSA key");
    assert_int_equal(edwards.calls, 0);
    signer = issue_signer_init(&key, WIRE_SMIME_SIGN);
    act.pss = false;
    act.country = BYTES_LITERAL("XX");
    assert_int_equal(issue_request(&act, &signer, &der, digest, &len, &detail), ERR_PERM);
    assert_non_null(strstr(detail.text, "country: \"XX\""));
    act = issue_signer_act(ACT_KEY_SELF_SIGN);
    signer.public_key = BYTES_LITERAL("no key");
    assert_int_equal(issue_self_signed(&act, &signer, &der, digest, &len, &detail), ERR_PERM);
    assert_non_null(strstr(detail.text, "the public key cannot be read"));
    assert_int_equal(key.calls, 0);
    // No room: the token was asked, but nothing is given out.
    signer = issue_signer_init(&key, WIRE_SMIME_SIGN);
    struct buf small;
    buf_init(&small, 100);
    assert_int_equal(issue_self_signed(&act, &signer, &small, digest, &len, &detail), ERR_PERM);
    assert_int_equal(small.len, 0);
    buf_clear(&small);
    buf_clear(&der);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_algorithms), cmocka_unit_test(test_usage),
        cmocka_unit_test(test_names),      cmocka_unit_test(test_certificate),
        cmocka_unit_test(test_faults),     cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
