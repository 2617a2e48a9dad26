// SPDX-License-Identifier: Apache-2.0
// Key transport with keys of hsmd, seen from EVP. The sender is libcrypto with a
// certificate or key of its own.
#include "tests/unit/providers/app.h"

#include <stdio.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/prov_ssl.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

static const uint8_t cek[32] = "content encryption key, 32 bytes";

struct padding {
    const char *name, *hash, *mgf_hash, *label;
    int mode; // 0: not set
    enum wire_algorithm algorithm;
    enum hash wire_hash, wire_mgf_hash;
};

static const struct padding paddings[] = {
    {"nothing said", NULL, NULL, NULL, 0, WIRE_RSAES_PKCS1, HASH_NONE, HASH_NONE},
    {"v1.5", NULL, NULL, NULL, RSA_PKCS1_PADDING, WIRE_RSAES_PKCS1, HASH_NONE, HASH_NONE},
    {"OAEP", NULL, NULL, NULL, RSA_PKCS1_OAEP_PADDING, WIRE_RSAES_OAEP, HASH_SHA1, HASH_SHA1},
    {"OAEP SHA-256", "SHA256", NULL, NULL, RSA_PKCS1_OAEP_PADDING, WIRE_RSAES_OAEP, HASH_SHA256,
     HASH_SHA256},
    {"OAEP SHA-384", "SHA384", "SHA384", NULL, RSA_PKCS1_OAEP_PADDING, WIRE_RSAES_OAEP, HASH_SHA384,
     HASH_SHA384},
    {"OAEP SHA-512, MGF SHA-1", "SHA512", "SHA1", NULL, RSA_PKCS1_OAEP_PADDING, WIRE_RSAES_OAEP,
     HASH_SHA512, HASH_SHA1},
    {"OAEP label", "SHA256", "SHA256", "TPM", RSA_PKCS1_OAEP_PADDING, WIRE_RSAES_OAEP, HASH_SHA256,
     HASH_SHA256},
};
#define PADDINGS (sizeof paddings / sizeof *paddings)

static void padding_params(const struct padding *padding, int *mode, OSSL_PARAM params[5])
{
    size_t n = 0;
    *mode = padding->mode;
    if (padding->mode)
        params[n++] = OSSL_PARAM_construct_int(OSSL_ASYM_CIPHER_PARAM_PAD_MODE, mode);
    if (padding->hash)
        params[n++] = OSSL_PARAM_construct_utf8_string(OSSL_ASYM_CIPHER_PARAM_OAEP_DIGEST,
                                                       (char *)padding->hash, 0);
    if (padding->mgf_hash)
        params[n++] = OSSL_PARAM_construct_utf8_string(OSSL_ASYM_CIPHER_PARAM_MGF1_DIGEST,
                                                       (char *)padding->mgf_hash, 0);
    if (padding->label)
        params[n++] = OSSL_PARAM_construct_octet_string(
            OSSL_ASYM_CIPHER_PARAM_OAEP_LABEL, (char *)padding->label, strlen(padding->label));
    params[n] = OSSL_PARAM_construct_end();
}

static size_t encrypt(OSSL_LIB_CTX *where, EVP_PKEY *key, const struct padding *padding,
                      const uint8_t *in, size_t inlen, uint8_t *out, size_t room)
{
    OSSL_PARAM params[5];
    int mode = 0;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(where, key, NULL);
    padding_params(padding, &mode, params);
    if (EVP_PKEY_encrypt_init_ex(context, params) <= 0 ||
        EVP_PKEY_encrypt(context, out, &room, in, inlen) <= 0)
        room = 0;
    EVP_PKEY_CTX_free(context);
    return room;
}

// 0: failed, and the queue says why. The size query must not reach hsmd.
static size_t decrypt(EVP_PKEY *key, const struct padding *padding, const uint8_t *in, size_t inlen,
                      uint8_t *out, size_t room)
{
    OSSL_PARAM params[5];
    int mode = 0;
    size_t size = 0;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(app.libctx, key, NULL);
    padding_params(padding, &mode, params);
    unsigned before = fake_count(app.fake, WIRE_UNWRAP);
    bool ok = EVP_PKEY_decrypt_init_ex(context, params) > 0 &&
              EVP_PKEY_decrypt(context, NULL, &size, in, inlen) > 0;
    assert_int_equal(fake_count(app.fake, WIRE_UNWRAP), before);
    EVP_PKEY_CTX *copy = ok ? EVP_PKEY_CTX_dup(context) : NULL;
    if (!copy || EVP_PKEY_decrypt(copy, out, &room, in, inlen) <= 0)
        room = 0;
    EVP_PKEY_CTX_free(copy);
    EVP_PKEY_CTX_free(context);
    return room;
}

static void test_decrypt(void **state)
{
    (void)state;
    EVP_PKEY *key = app_key(app.libctx, "hsmd:decryption");
    for (size_t i = 0; i < PADDINGS; i++) {
        for (int own = 0; own < 2; own++) { // the sender has the certificate, or our key object
            uint8_t in[512];
            uint8_t out[512];
            EVP_PKEY *to = own ? key : X509_get0_pubkey(fake_certificate(app.fake, "decryption"));
            print_message("%s%s\n", paddings[i].name, own ? ", encrypted by the provider" : "");
            size_t len =
                encrypt(own ? app.libctx : NULL, to, &paddings[i], cek, sizeof cek, in, sizeof in);
            assert_int_equal(len, 256);
            size_t got = decrypt(key, &paddings[i], in, len, out, sizeof out);
            if (!got)
                ERR_print_errors_fp(stderr);
            assert_int_equal(got, sizeof cek);
            assert_memory_equal(out, cek, sizeof cek);
            const struct wire_unwrap *unwrap = &fake_last(app.fake)->unwrap;
            assert_int_equal(unwrap->algorithm, paddings[i].algorithm);
            assert_int_equal(unwrap->hash, paddings[i].wire_hash);
            assert_int_equal(unwrap->mgf_hash, paddings[i].wire_mgf_hash);
            assert_int_equal(unwrap->label.len, paddings[i].label ? strlen(paddings[i].label) : 0);
            assert_int_equal(unwrap->length, 0);
        }
    }
    app_expect_no_error();
    EVP_PKEY_free(key);
}

static void test_get_params(void **state)
{
    char pad[20] = "";
    char hash[20] = "";
    char mgf_hash[20] = "";
    void *label = NULL;
    int mode = 0;
    OSSL_PARAM params[5];
    (void)state;
    EVP_PKEY *key = app_key(app.libctx, "hsmd:decryption");
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(app.libctx, key, NULL);
    padding_params(&paddings[PADDINGS - 1], &mode, params);
    assert_true(EVP_PKEY_decrypt_init_ex(context, params) > 0);
    OSSL_PARAM query[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_ASYM_CIPHER_PARAM_PAD_MODE, pad, sizeof pad),
        OSSL_PARAM_construct_utf8_string(OSSL_ASYM_CIPHER_PARAM_OAEP_DIGEST, hash, sizeof hash),
        OSSL_PARAM_construct_utf8_string(OSSL_ASYM_CIPHER_PARAM_MGF1_DIGEST, mgf_hash,
                                         sizeof mgf_hash),
        OSSL_PARAM_construct_octet_ptr(OSSL_ASYM_CIPHER_PARAM_OAEP_LABEL, &label, 0),
        OSSL_PARAM_construct_end()};
    assert_true(EVP_PKEY_CTX_get_params(context, query) > 0);
    assert_string_equal(pad, "oaep");
    assert_string_equal(hash, "sha256");
    assert_string_equal(mgf_hash, "sha256");
    assert_int_equal(query[3].return_size, 3);
    assert_memory_equal(label, "TPM", 3);
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_free(key);
}

static void test_decrypt_faults(void **state)
{
    static const struct {
        const char *name, *reason, *data;
        size_t inlen, room;
        enum fake_fault fault;
        bool asked;
    } cases[] = {
        {"denied", "hsmd denies", "unwrap with key decryption", 256, 256, FAKE_DENIED, true},
        {"temp", "hsmd cannot do it now", "unwrap with key decryption", 256, 256, FAKE_TEMP, true},
        {"perm", "hsmd rejects", "\"perm\"", 256, 256, FAKE_PERM, true},
        {"too long a secret", "no sense", "not asked for", 256, 512, FAKE_LONG_SECRET, true},
        {"no zeros behind", "no sense", "not asked for", 256, 256, FAKE_SMALL_PLACE, true},
        {"small buffer", "length", "room for 255 bytes", 256, 255, FAKE_NO_FAULT, false},
        {"long ciphertext", "length", "257 bytes of ciphertext", 257, 256, FAKE_NO_FAULT, false},
    };
    uint8_t in[512] = {0};
    (void)state;
    EVP_PKEY *key = app_key(app.libctx, "hsmd:decryption");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t out[512] = {0};
        uint8_t zero[512] = {0};
        unsigned before = fake_count(app.fake, WIRE_UNWRAP);
        print_message("%s\n", cases[i].name);
        fake_set_fault(app.fake, cases[i].fault);
        assert_int_equal(
            encrypt(NULL, fake_key(app.fake, "decryption"), &paddings[0], cek, 16, in, sizeof in),
            256);
        assert_int_equal(decrypt(key, &paddings[0], in, cases[i].inlen, out, cases[i].room), 0);
        app_expect_error(cases[i].reason, cases[i].data);
        assert_memory_equal(out, zero, sizeof out);
        assert_int_equal(fake_count(app.fake, WIRE_UNWRAP) - before, cases[i].asked);
    }
    EVP_PKEY_free(key);
}

static void test_decrypt_refusals(void **state)
{
    static const struct padding none = {.name = "none", .mode = RSA_NO_PADDING};
    static const struct padding md5 = {"MD5", "MD5", NULL, NULL, RSA_PKCS1_OAEP_PADDING, 0, 0, 0};
    uint8_t in[256] = {0};
    uint8_t out[256];
    (void)state;
    EVP_PKEY *key = app_key(app.libctx, "hsmd:decryption");
    EVP_PKEY *signing = app_key(app.libctx, "hsmd:signing");
    assert_int_equal(decrypt(key, &none, in, sizeof in, out, sizeof out), 0);
    app_expect_error("padding", "3 is neither");
    assert_int_equal(decrypt(key, &md5, in, sizeof in, out, sizeof out), 0);
    app_expect_error("digest", "MD5 is not supported");
    assert_int_equal(decrypt(signing, &paddings[0], in, sizeof in, out, sizeof out), 0);
    app_expect_error("not what the key is for", "smime-sign and does not decrypt");
    EVP_PKEY_free(signing);
    EVP_PKEY_free(key);
}

// Bad v1.5 padding succeeds here with hsmd's synthetic secret; a dropped leading zero is put back.
static void test_no_oracle(void **state)
{
    uint8_t in[256];
    uint8_t out[256];
    (void)state;
    EVP_PKEY *key = app_key(app.libctx, "hsmd:decryption");
    memset(in, 1, sizeof in);
    assert_int_equal(decrypt(key, &paddings[0], in, sizeof in, out, sizeof out), 24);
    assert_int_equal(decrypt(key, &paddings[0], in, 255, out, sizeof out), 24);
    assert_int_equal(fake_last(app.fake)->unwrap.ciphertext.len, 256);
    app_expect_no_error();
    EVP_PKEY_free(key);
}

// The premaster secret of TLS: a wrong version, or a wrong padding, gives a random one.
static void test_tls(void **state)
{
    static const struct {
        const char *name;
        unsigned negotiated;
        unsigned char major, minor;
        bool good;
    } cases[] = {
        {"good", 0, 3, 3, true},          {"other version", 0, 3, 1, false},
        {"other major", 0, 2, 3, false},  {"negotiated", 0x0301, 3, 1, true},
        {"neither", 0x0301, 3, 2, false},
    };
    (void)state;
    EVP_PKEY *key = app_key(app.libctx, "hsmd:general");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t secret[48];
        uint8_t in[256] = {0};
        uint8_t out[48];
        size_t outlen = sizeof out;
        unsigned mode = RSA_PKCS1_WITH_TLS_PADDING;
        unsigned client = 0x0303;
        unsigned negotiated = cases[i].negotiated;
        memset(secret, 0x77, sizeof secret);
        secret[0] = cases[i].major;
        secret[1] = cases[i].minor;
        assert_int_equal(encrypt(NULL, fake_key(app.fake, "general"), &paddings[0], secret,
                                 sizeof secret, in, sizeof in),
                         256);
        EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(app.libctx, key, NULL);
        OSSL_PARAM params[] = {
            OSSL_PARAM_construct_uint(OSSL_ASYM_CIPHER_PARAM_PAD_MODE, &mode),
            OSSL_PARAM_construct_uint(OSSL_ASYM_CIPHER_PARAM_TLS_CLIENT_VERSION, &client),
            OSSL_PARAM_construct_uint(OSSL_ASYM_CIPHER_PARAM_TLS_NEGOTIATED_VERSION, &negotiated),
            OSSL_PARAM_construct_end()};
        print_message("%s\n", cases[i].name);
        assert_true(EVP_PKEY_decrypt_init_ex(context, params) > 0);
        assert_true(EVP_PKEY_decrypt(context, out, &outlen, in, sizeof in) > 0);
        assert_int_equal(outlen, 48);
        assert_int_equal(fake_last(app.fake)->unwrap.length, 48);
        assert_int_equal(memcmp(out, secret, 48) == 0, cases[i].good);
        in[100] ^= 1;
        assert_true(EVP_PKEY_decrypt(context, out, &outlen, in, sizeof in) > 0);
        assert_int_not_equal(memcmp(out, secret, 48), 0);
        EVP_PKEY_CTX_free(context);
    }
    EVP_PKEY_free(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_decrypt, app_no_fault),
        cmocka_unit_test_teardown(test_get_params, app_no_fault),
        cmocka_unit_test_teardown(test_decrypt_faults, app_no_fault),
        cmocka_unit_test_teardown(test_decrypt_refusals, app_no_fault),
        cmocka_unit_test_teardown(test_no_oracle, app_no_fault),
        cmocka_unit_test_teardown(test_tls, app_no_fault),
    };
    return cmocka_run_group_tests(tests, app_setup, app_teardown);
}
