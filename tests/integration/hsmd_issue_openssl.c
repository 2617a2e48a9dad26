// SPDX-License-Identifier: Apache-2.0
// What the openssl command says of the requests and certificates that hsmd makes: it verifies them,
// shows what is in them, and lets a CA sign the request.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/pem.h>

#include "hsmd/base/file.h"
#include "tests/support/issue_signer.h"
#include "tests/support/pki.h"

static EVP_PKEY *rsa_3072;
static char dir[] = "/tmp/hsmd-issue-XXXXXX";

static int setup(void **state)
{
    (void)state;
    rsa_3072 = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)3072);
    return rsa_3072 && mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    static const char *const names[] = {"der", "pem", "ca", "ca.key", "issued"};
    char path[64];
    EVP_PKEY_free(rsa_3072);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    return rmdir(dir);
}

static const char *in_dir(const char *name)
{
    static char path[64];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

// Both outputs of a shell command in the directory, which must succeed.
static void run(const char *command, char *out, size_t size)
{
    char line[1024];
    size_t len = 0;
    size_t got;
    snprintf(line, sizeof line, "cd %s && { %s; } 2>&1", dir, command);
    FILE *pipe = popen(line, "r");
    assert_non_null(pipe);
    while ((got = fread(out + len, 1, size - 1 - len, pipe)) > 0)
        len += got;
    out[len] = 0;
    if (pclose(pipe) != 0)
        fail_msg("%s: %s", command, out);
}

static void assert_says(const char *out, const char *text)
{
    if (!strstr(out, text))
        fail_msg("no \"%s\" in: %s", text, out);
}

static void write_der(const struct buf *der)
{
    assert_int_equal(file_write(in_dir("der"), buf_bytes(der), 0600, NULL), ERR_OK);
}

static const struct {
    const char *name;
    int key; // PKI_KEY_COUNT: RSA-3072
    enum hash hash;
    bool pss;
    enum wire_purpose purpose;
    const char *algorithm, *key_text, *usage;
} rows[] = {
    {"RSA-2048", PKI_RSA_2048, HASH_SHA256, false, WIRE_SMIME_SIGN, "sha256WithRSAEncryption",
     "Public-Key: (2048 bit)", "Digital Signature, Non Repudiation"},
    {"RSA-3072", PKI_KEY_COUNT, HASH_SHA512, false, WIRE_SMIME_DECRYPT, "sha512WithRSAEncryption",
     "Public-Key: (3072 bit)", "Key Encipherment"},
    {"RSA-2048 PSS", PKI_RSA_2048, HASH_SHA256, true, WIRE_SMIME_SIGN, "rsassaPss",
     "Salt Length: 0x20", "Digital Signature, Non Repudiation"},
    {"RSA-3072 PSS", PKI_KEY_COUNT, HASH_SHA384, true, WIRE_SMIME_SIGN, "rsassaPss",
     "Salt Length: 0x30", "Digital Signature, Non Repudiation"},
    {"P-256", PKI_EC_P256, HASH_SHA256, false, WIRE_SMIME_DECRYPT, "ecdsa-with-SHA256",
     "NIST CURVE: P-256", "Key Agreement"},
    {"P-384", PKI_EC_P384, HASH_SHA384, false, WIRE_GENERAL, "ecdsa-with-SHA384",
     "NIST CURVE: P-384", "Digital Signature, Non Repudiation, Key Agreement"},
};

static void make(size_t i, enum act_kind kind)
{
    struct issue_signer_key key = {
        .pkey = rows[i].key == PKI_KEY_COUNT ? rsa_3072 : pki_key((enum pki_key)rows[i].key)};
    const struct issue_signer signer = issue_signer_init(&key, rows[i].purpose);
    struct act act = issue_signer_act(kind);
    uint8_t digest[HASH_SIZE_MAX];
    size_t len = 0;
    struct detail detail = {0};
    struct buf der;
    act.hash = rows[i].hash;
    act.pss = rows[i].pss;
    buf_init(&der, 65536);
    enum err err = kind == ACT_KEY_REQUEST
                       ? issue_request(&act, &signer, &der, digest, &len, &detail)
                       : issue_self_signed(&act, &signer, &der, digest, &len, &detail);
    if (err != ERR_OK)
        fail_msg("%s: %s", rows[i].name, detail.text);
    write_der(&der);
    buf_clear(&der);
}

static void assert_contents(const char *out, size_t i)
{
    assert_says(out, rows[i].algorithm);
    assert_says(out, rows[i].key_text);
    assert_says(out, "X509v3 Key Usage: critical\n");
    assert_says(out, rows[i].usage);
    assert_says(out, "X509v3 Subject Alternative Name: \n");
    assert_says(out,
                "email:alice@a.example, email:b.o-b@b.example, DNS:a.example, DNS:*.b.example");
    assert_says(out, "C = DE, ST = NRW, L = K\\C3\\B6ln");
    assert_says(out, "OU = Mail, CN = mail.a.example");
    bool is_smime = rows[i].purpose != WIRE_GENERAL;
    assert_int_equal(strstr(out, "E-mail Protection") != NULL, is_smime);
}

static void test_self_signed(void **state)
{
    (void)state;
    static char out[65536];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        make(i, ACT_KEY_SELF_SIGN);
        run("openssl x509 -inform DER -in der -out pem", out, sizeof out);
        run("openssl verify -x509_strict -check_ss_sig -CAfile pem pem", out, sizeof out);
        assert_says(out, "pem: OK");
        run("openssl x509 -in pem -noout -text", out, sizeof out);
        assert_contents(out, i);
        assert_says(out, "Version: 3 (0x2)");
        assert_says(out, "X509v3 Basic Constraints: critical\n                CA:FALSE");
        assert_says(out, "X509v3 Subject Key Identifier");
        assert_says(out, "X509v3 Authority Key Identifier");
        run("openssl x509 -in pem -noout -checkend 7689600", out, sizeof out); // 89 days
        if (rows[i].purpose == WIRE_SMIME_SIGN) {
            run("openssl verify -purpose smimesign -CAfile pem pem", out, sizeof out);
            assert_says(out, "pem: OK");
        }
    }
}

// The request is good, and what a CA makes of it is good enough to be put beside the key.
static void test_request(void **state)
{
    (void)state;
    static char out[65536];
    X509 *ca = pki_ca("ca", PKI_EC_P256_B);
    pki_write_certificates(in_dir("ca"), ca, NULL);
    pki_write_key(in_dir("ca.key"), pki_key(PKI_EC_P256_B));
    X509_free(ca);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        make(i, ACT_KEY_REQUEST);
        run("openssl req -inform DER -in der -noout -verify", out, sizeof out);
        assert_says(out, "verify OK");
        run("openssl req -inform DER -in der -noout -text", out, sizeof out);
        assert_contents(out, i);
        assert_says(out, "Version: 1 (0x0)");
        assert_says(out, "Requested Extensions:");
        run("openssl x509 -req -inform DER -in der -CA ca -CAkey ca.key -copy_extensions copy "
            "-days 30 -out issued && openssl verify -x509_strict -CAfile ca issued && "
            "openssl x509 -in issued -outform DER -out der && "
            "openssl x509 -in ca -outform DER >> der",
            out, sizeof out);
        assert_says(out, "issued: OK");
        struct buf der;
        struct detail warning, detail = {0};
        struct issue_signer_key key = {
            .pkey = rows[i].key == PKI_KEY_COUNT ? rsa_3072 : pki_key((enum pki_key)rows[i].key)};
        const struct issue_signer signer = issue_signer_init(&key, rows[i].purpose);
        buf_init(&der, 65536);
        assert_int_equal(file_read(in_dir("der"), &der, NULL), ERR_OK);
        if (issue_check_certificates(buf_bytes(&der), signer.public_key, rows[i].purpose, false,
                                     &warning, &detail) != ERR_OK)
            fail_msg("%s: %s", rows[i].name, detail.text);
        assert_string_equal(warning.text, "");
        buf_clear(&der);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_self_signed),
        cmocka_unit_test(test_request),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
