// SPDX-License-Identifier: Apache-2.0
// Which certificates may be put beside a key (F17, F22, F23), and what is said of the others.
#include "hsmd/custody/issue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/x509v3.h>

#include "tests/support/issue_signer.h"
#include "tests/support/pki.h"

#define ROOT PKI_EC_P256_B
#define MIDDLE PKI_EC_P256_C
#define BOTH_USAGES "critical,digitalSignature,nonRepudiation"

static X509 *root, *middle, *old_middle, *signer, *namesake, *no_issuer, *from_leaf;

static int setup(void **state)
{
    (void)state;
    EVP_PKEY *root_key = pki_key(ROOT);
    EVP_PKEY *middle_key = pki_key(MIDDLE);
    const struct pki_request old = {.name = "middle",
                                    .key = MIDDLE,
                                    .is_ca = true,
                                    .key_usage = "critical,keyCertSign",
                                    .from = -7200,
                                    .until = -3600};
    const struct pki_request no_signer = {
        .name = "middle", .key = MIDDLE, .is_ca = true, .key_usage = "critical,cRLSign"};
    root = pki_ca("root", ROOT);
    middle = pki_intermediate("middle", MIDDLE, root, root_key);
    old_middle = pki_certificate(&old, root, root_key);
    no_issuer = pki_certificate(&no_signer, root, root_key);
    namesake = pki_intermediate("middle", PKI_EC_P384, root, root_key);
    signer = pki_signer("mail.a.example", PKI_EC_P256, "DNS:a.example", middle, middle_key);
    from_leaf =
        pki_signer("b.example", PKI_RSA_2048, "DNS:b.example", signer, pki_key(PKI_EC_P256));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    X509 *all[] = {root, middle, old_middle, signer, namesake, no_issuer, from_leaf};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        X509_free(all[i]);
    return 0;
}

static void put(struct buf *der, X509 *certificate)
{
    uint8_t *place = NULL;
    int len = i2d_X509(certificate, NULL);
    assert_true(len > 0);
    assert_int_equal(buf_reserve(der, (size_t)len, &place), ERR_OK);
    assert_int_equal(i2d_X509(certificate, &place), len);
}

// Both say every one of the texts (separated by '|'), and nothing if there is none.
static bool says(const struct detail *detail, const char *texts)
{
    if (!*texts)
        return detail->text[0] == 0;
    while (*texts) {
        char text[200];
        size_t len = strcspn(texts, "|");
        snprintf(text, sizeof text, "%.*s", (int)len, texts);
        if (!strstr(detail->text, text))
            return false;
        texts += len + (texts[len] == '|');
    }
    return true;
}

static bool is_as_expected(struct bytes certificates, EVP_PKEY *key, enum wire_purpose purpose,
                           bool any_name, const char *flaws, const char *doubts)
{
    struct detail warning = {"left over"};
    struct detail detail = {0};
    uint8_t *spki = NULL;
    int len = key ? i2d_PUBKEY(key, &spki) : 0;
    enum err err = issue_check_certificates(certificates, bytes_of(spki, (size_t)len), purpose,
                                            any_name, &warning, &detail);
    bool ok = err == (*flaws ? ERR_PERM : ERR_OK) && says(&detail, flaws) &&
              (!doubts || says(&warning, doubts));
    if (!ok)
        print_error("%s, flaws \"%s\", doubts \"%s\"\n", err_name(err), detail.text, warning.text);
    OPENSSL_free(spki);
    return ok;
}

#define DOUBT_SUBJECT "its subject has no unit; city; state; country"
#define DOUBT_ALONE "that of its issuer is not with it"
#define DOUBT_DOMAIN "it has no domain in its subjectAltName"
#define CA NULL // self-signed

// One certificate: keyUsage and extendedKeyUsage (F22, F23), times, names (F17), the key.
static const struct {
    struct pki_request request;
    enum wire_purpose purpose;
    bool any_name;
    int key; // that it should be of; -1: not looked at
    const char *flaws, *doubts;
} rows[] = {
#define SIGN(usage, flaws)                                             \
    {                                                                  \
        {"a.example",                                                  \
         PKI_RSA_2048,                                                 \
         "DNS:a.example",                                              \
         usage,                                                        \
         NULL,                                                         \
         NULL,                                                         \
         false,                                                        \
         0,                                                            \
         0,                                                            \
         NULL,                                                         \
         0,                                                            \
         NULL,                                                         \
         NULL,                                                         \
         0},                                                           \
            WIRE_SMIME_SIGN, false, PKI_RSA_2048, flaws, DOUBT_SUBJECT \
    }
#define OPENS(which, san, usage, flaws, doubts)                                             \
    {                                                                                       \
        {"Not a name", which, san, usage, NULL, NULL, false, 0, 0, NULL, 0, NULL, NULL, 0}, \
            WIRE_SMIME_DECRYPT, false, which, flaws, doubts                                 \
    }
#define DECRYPT(which, usage, flaws) OPENS(which, "DNS:a.example", usage, flaws, "")
    SIGN(NULL, ""),
    SIGN(BOTH_USAGES, ""),
    SIGN("digitalSignature,nonRepudiation,keyEncipherment", ""),
    SIGN("digitalSignature", "should have both digitalSignature and nonRepudiation"),
    SIGN("nonRepudiation", "should have both digitalSignature and nonRepudiation"),
    SIGN("keyEncipherment", "is not for signatures"),
    SIGN("keyAgreement,cRLSign", "is not for signatures"),
    DECRYPT(PKI_RSA_2048, "keyEncipherment", ""),
    DECRYPT(PKI_RSA_2048, "digitalSignature,keyEncipherment", ""),
    DECRYPT(PKI_RSA_2048, NULL, "should have a keyUsage with keyEncipherment"),
    DECRYPT(PKI_RSA_2048, "keyAgreement", "keyUsage lacks keyEncipherment"),
    DECRYPT(PKI_RSA_2048, "dataEncipherment", "keyUsage lacks keyEncipherment"),
    DECRYPT(PKI_EC_P256, "keyAgreement", ""),
    DECRYPT(PKI_EC_P256, NULL, "should have a keyUsage with keyAgreement"),
    DECRYPT(PKI_EC_P256, "keyEncipherment", "keyUsage lacks keyAgreement"),
    OPENS(PKI_RSA_2048, NULL, "keyEncipherment", "", DOUBT_DOMAIN),
    OPENS(PKI_RSA_2048, "email:a@a.example", "keyEncipherment", "", DOUBT_DOMAIN),
    OPENS(PKI_RSA_2048, "email:a@a.example,DNS:*.a.example", "keyEncipherment", "", ""),
    OPENS(PKI_EC_P256, "DNS:not_a_name", "keyAgreement", "", ""), // F17 is not of these
    OPENS(PKI_EC_P256, "IP:192.0.2.1", "keyAgreement", "", DOUBT_DOMAIN),
#define NAMED(cn, san, any, flaws, doubts)                                                    \
    {                                                                                         \
        {cn, PKI_EC_P256, san, BOTH_USAGES, NULL, NULL, false, 0, 0, NULL, 0, NULL, NULL, 0}, \
            WIRE_SMIME_SIGN, any, PKI_EC_P256, flaws, doubts                                  \
    }
    NAMED("mail.a.example", "DNS:*.a.example,email:a@a.example", false, "", DOUBT_SUBJECT),
    NAMED("gateway@a.example", "email:gateway@a.example", false, "", DOUBT_SUBJECT),
    NAMED("Mail Gateway", "DNS:a.example", false,
          "its common name \"Mail Gateway\" has a character other than", DOUBT_SUBJECT),
    NAMED("Mail Gateway", "DNS:a.example", true, "", DOUBT_SUBJECT),
    NAMED("a@intern", "DNS:a.example", false, "its common name \"a@intern\" is no fully", NULL),
    NAMED("a.example", "DNS:intern", false, "its domain \"intern\" is no fully qualified", NULL),
    NAMED("a.example", "DNS:intern", true, "", DOUBT_SUBJECT),
    NAMED("a.example", "DNS:a.example,DNS:x.*.example", false, "its domain \"x.*.example\"", NULL),
    NAMED("a.example", "IP:192.0.2.1", false, "", DOUBT_SUBJECT "|fits no sender"),
    NAMED("a.example", NULL, false, "", DOUBT_SUBJECT "|fits no sender"),
#define OTHER(which, usage, extended, from, until, purpose, key, flaws, doubts) \
    {                                                                           \
        {"a.example", which, "DNS:a.example", usage, extended, NULL,            \
         false,       from,  until,           NULL,  0,        NULL,            \
         NULL,        0},                                                       \
            purpose, false, key, flaws, doubts                                  \
    }
    OTHER(PKI_EC_P256, BOTH_USAGES, "emailProtection", 0, 0, WIRE_SMIME_SIGN, PKI_EC_P256, "",
          DOUBT_SUBJECT),
    OTHER(PKI_EC_P256, BOTH_USAGES, "anyExtendedKeyUsage", 0, 0, WIRE_SMIME_SIGN, PKI_EC_P256, "",
          NULL),
    OTHER(PKI_EC_P256, BOTH_USAGES, "serverAuth", 0, 0, WIRE_SMIME_SIGN, PKI_EC_P256,
          "should have emailProtection", NULL),
    OTHER(PKI_EC_P256, "keyAgreement", "serverAuth", 0, 0, WIRE_SMIME_DECRYPT, PKI_EC_P256,
          "should have emailProtection", NULL),
    OTHER(PKI_EC_P256, "keyAgreement", "serverAuth", 0, 0, WIRE_GENERAL, PKI_EC_P256, "", ""),
    OTHER(PKI_EC_P256, BOTH_USAGES, NULL, -7200, -3600, WIRE_SMIME_SIGN, PKI_EC_P256,
          "its certificate has expired", NULL),
    OTHER(PKI_EC_P256, BOTH_USAGES, NULL, 3600, 7200, WIRE_SMIME_SIGN, PKI_EC_P256,
          "its certificate is not valid yet", NULL),
    OTHER(PKI_EC_P256, NULL, NULL, -7200, -3600, WIRE_GENERAL, PKI_EC_P256,
          "its certificate has expired", NULL),
    OTHER(PKI_EC_P256, BOTH_USAGES, NULL, 0, 0, WIRE_SMIME_SIGN, PKI_EC_P256_B,
          "its certificate is of another key", NULL),
    OTHER(PKI_EC_P256, BOTH_USAGES, NULL, 0, 0, WIRE_SMIME_SIGN, PKI_RSA_2048,
          "its certificate is of another key", NULL),
    OTHER(PKI_EC_P256, BOTH_USAGES, NULL, 0, 0, WIRE_SMIME_SIGN, -1, "", NULL),
    OTHER(PKI_RSA_1024, BOTH_USAGES, NULL, 0, 0, WIRE_SMIME_SIGN, PKI_RSA_1024, "",
          "less than 2048 bits"),
    // All that is wrong, at once.
    OTHER(PKI_EC_P256, "digitalSignature", "serverAuth", -7200, -3600, WIRE_SMIME_SIGN,
          PKI_EC_P256_B,
          "of another key|both digitalSignature and nonRepudiation|emailProtection|has expired",
          NULL),
};

static void test_one(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        X509 *certificate = pki_certificate(&rows[i].request, CA, CA);
        struct buf der;
        buf_init(&der, 65536);
        put(&der, certificate);
        if (!is_as_expected(buf_bytes(&der),
                            rows[i].key < 0 ? NULL : pki_key((enum pki_key)rows[i].key),
                            rows[i].purpose, rows[i].any_name, rows[i].flaws, rows[i].doubts))
            fail_msg("row %zu", i);
        X509_free(certificate);
        buf_clear(&der);
    }
}

static void test_chain(void **state)
{
    (void)state;
    const struct {
        X509 *chain[4];
        const char *flaws, *doubts;
    } chains[] = {
        {{signer}, "", DOUBT_SUBJECT "|" DOUBT_ALONE},
        {{signer, middle}, "", DOUBT_SUBJECT},
        {{signer, middle, root}, "", DOUBT_SUBJECT},
        {{signer, old_middle, root}, "", "certificate 2 of 3 has expired"},
        {{signer, root},
         "certificate 2 of 2 has another name than the issuer|leave none out",
         NULL},
        {{signer, root, middle},
         "certificate 2 of 3 has another name|certificate 3 of 3 has",
         NULL},
        {{signer, middle, middle}, "certificate 3 of 3 has another name", NULL},
        {{middle, signer},
         "its certificate is of another key|certificate 2 of 2 has another name|in their order",
         NULL},
        {{signer, namesake, root}, "certificate 2 of 3 did not issue the one before it", NULL},
        {{signer, no_issuer, root}, "certificate 2 of 3 may not issue certificates", NULL},
        {{from_leaf, signer, middle, root},
         "of another key|certificate 2 of 4 may not issue certificates",
         NULL},
        {{signer, middle, root, signer}, "certificate 4 of 4 has another name", NULL},
    };
    for (size_t i = 0; i < sizeof chains / sizeof *chains; i++) {
        struct buf der;
        buf_init(&der, 65536);
        for (size_t n = 0; n < 4 && chains[i].chain[n]; n++)
            put(&der, chains[i].chain[n]);
        if (!is_as_expected(buf_bytes(&der), pki_key(PKI_EC_P256), WIRE_SMIME_SIGN, false,
                            chains[i].flaws, chains[i].doubts))
            fail_msg("chain %zu", i);
        buf_clear(&der);
    }
}

// The right names and key identifiers, and a signature of somebody else.
static void test_forged(void **state)
{
    (void)state;
    struct buf der;
    X509 *forged = X509_dup(signer);
    assert_true(X509_sign(forged, pki_key(PKI_EC_P384), EVP_sha256()) > 0);
    buf_init(&der, 65536);
    put(&der, forged);
    put(&der, middle);
    assert_true(is_as_expected(buf_bytes(&der), pki_key(PKI_EC_P256), WIRE_SMIME_SIGN, false,
                               "certificate 2 of 2 did not issue the one before it", NULL));
    X509_free(forged);
    buf_clear(&der);
}

static void test_subject(void **state)
{
    (void)state;
    static const struct {
        const char *common_name; // NULL: none
        size_t len;
        const char *flaws;
    } subjects[] = {
        {NULL, 0, "its subject has no common name"},
        {"a.example\0.evil", 15, "its common name \"a.example\\x00.evil\" has a character"},
        {"a\"b\x1b.example", 12, "its common name \"a\\x22b\\x1b.example\" has a character"},
    };
    for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++) {
        X509 *certificate = X509_dup(signer);
        X509_NAME *name = X509_NAME_new();
        struct buf der;
        buf_init(&der, 65536);
        if (subjects[i].common_name)
            assert_int_equal(X509_NAME_add_entry_by_NID(name, NID_commonName, V_ASN1_UTF8STRING,
                                                        (const uint8_t *)subjects[i].common_name,
                                                        (int)subjects[i].len, -1, 0),
                             1);
        assert_int_equal(X509_set_subject_name(certificate, name), 1);
        assert_true(X509_sign(certificate, pki_key(MIDDLE), EVP_sha256()) > 0);
        put(&der, certificate);
        put(&der, middle);
        if (!is_as_expected(buf_bytes(&der), pki_key(PKI_EC_P256), WIRE_SMIME_SIGN, false,
                            subjects[i].flaws, NULL))
            fail_msg("subject %zu", i);
        X509_NAME_free(name);
        X509_free(certificate);
        buf_clear(&der);
    }
}

static void test_malformed(void **state)
{
    (void)state;
    struct buf der;
    buf_init(&der, 65536);
    assert_true(is_as_expected((struct bytes){0}, NULL, WIRE_SMIME_SIGN, false,
                               "there is no certificate", ""));
    assert_true(is_as_expected(BYTES_LITERAL("-----BEGIN"), NULL, WIRE_SMIME_SIGN, false,
                               "certificate 1 cannot be read", ""));
    put(&der, signer);
    size_t len = der.len;
    assert_true(is_as_expected(bytes_of(der.data, len - 1), NULL, WIRE_SMIME_SIGN, false,
                               "certificate 1 cannot be read", ""));
    assert_int_equal(buf_put(&der, "\0", 1), ERR_OK);
    assert_true(is_as_expected(buf_bytes(&der), NULL, WIRE_SMIME_SIGN, false,
                               "certificate 2 cannot be read", ""));
    buf_reset(&der);
    for (unsigned i = 0; i < 17; i++)
        put(&der, root);
    assert_true(is_as_expected(buf_bytes(&der), NULL, WIRE_GENERAL, false,
                               "more than 16 certificates", ""));
    while (der.len <= WIRE_CERTIFICATES_MAX)
        put(&der, root);
    assert_true(is_as_expected(buf_bytes(&der), NULL, WIRE_GENERAL, false,
                               "certificates of more than 32768 bytes", ""));
    buf_clear(&der);
}

// What hsmd makes for a key is good enough to be put beside it.
static void test_own(void **state)
{
    (void)state;
    static const enum pki_key keys[] = {PKI_RSA_2048, PKI_EC_P256, PKI_EC_P384};
    for (unsigned i = 0; i < 9; i++) {
        struct issue_signer_key key = {.pkey = pki_key(keys[i % 3])};
        enum wire_purpose purpose = (enum wire_purpose)(WIRE_SMIME_SIGN + i / 3);
        const struct issue_signer maker = issue_signer_init(&key, purpose);
        const struct act act = issue_signer_act(ACT_KEY_SELF_SIGN);
        uint8_t digest[HASH_SIZE_MAX];
        size_t len = 0;
        struct buf der;
        buf_init(&der, 65536);
        assert_int_equal(issue_self_signed(&act, &maker, &der, digest, &len, NULL), ERR_OK);
        assert_true(is_as_expected(buf_bytes(&der), key.pkey, purpose, false, "", ""));
        buf_clear(&der);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one),       cmocka_unit_test(test_chain),
        cmocka_unit_test(test_forged),    cmocka_unit_test(test_subject),
        cmocka_unit_test(test_malformed), cmocka_unit_test(test_own),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
