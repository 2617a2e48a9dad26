// SPDX-License-Identifier: Apache-2.0
// Key transport and key agreement with keys of hsmd, seen from EVP. The sender is libcrypto with a
// certificate or key of its own.
#include "tests/unit/providers/app.h"

#include <stdio.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/prov_ssl.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

static struct fake *fake;
static OSSL_LIB_CTX *libctx;
static const uint8_t cek[32] = "content encryption key, 32 bytes";

static int setup(void **state)
{
    app_fake_setup(state);
    fake = *state;
    libctx = app_open(fake, "default hsmd", APP_TIMEOUT, NULL);
    return 0;
}

static int teardown(void **state)
{
    app_close(libctx);
    return app_fake_teardown(state);
}

static int no_fault(void **state)
{
    (void)state;
    fake_set_fault(fake, FAKE_NO_FAULT);
    ERR_clear_error();
    return 0;
}

struct padding {
    const char *name;
    int mode; // 0: not set
    const char *hash, *mgf_hash, *label;
    enum wire_algorithm algorithm;
    enum hash wire_hash, wire_mgf_hash;
};

static const struct padding paddings[] = {
    {"nothing said", 0, NULL, NULL, NULL, WIRE_RSAES_PKCS1, HASH_NONE, HASH_NONE},
    {"v1.5", RSA_PKCS1_PADDING, NULL, NULL, NULL, WIRE_RSAES_PKCS1, HASH_NONE, HASH_NONE},
    {"OAEP", RSA_PKCS1_OAEP_PADDING, NULL, NULL, NULL, WIRE_RSAES_OAEP, HASH_SHA1, HASH_SHA1},
    {"OAEP SHA-256", RSA_PKCS1_OAEP_PADDING, "SHA256", NULL, NULL, WIRE_RSAES_OAEP, HASH_SHA256,
     HASH_SHA256},
    {"OAEP SHA-384", RSA_PKCS1_OAEP_PADDING, "SHA384", "SHA384", NULL, WIRE_RSAES_OAEP, HASH_SHA384,
     HASH_SHA384},
    {"OAEP SHA-512, MGF SHA-1", RSA_PKCS1_OAEP_PADDING, "SHA512", "SHA1", NULL, WIRE_RSAES_OAEP,
     HASH_SHA512, HASH_SHA1},
    {"OAEP label", RSA_PKCS1_OAEP_PADDING, "SHA256", "SHA256", "TPM", WIRE_RSAES_OAEP, HASH_SHA256,
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
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(libctx, key, NULL);
    padding_params(padding, &mode, params);
    unsigned before = fake_count(fake, WIRE_UNWRAP);
    bool ok = EVP_PKEY_decrypt_init_ex(context, params) > 0 &&
              EVP_PKEY_decrypt(context, NULL, &size, in, inlen) > 0;
    assert_int_equal(fake_count(fake, WIRE_UNWRAP), before);
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
    EVP_PKEY *key = app_key(libctx, "hsmd:decryption");
    for (size_t i = 0; i < PADDINGS; i++) {
        for (int own = 0; own < 2; own++) { // the sender has the certificate, or our key object
            uint8_t in[512];
            uint8_t out[512];
            EVP_PKEY *to = own ? key : X509_get0_pubkey(fake_certificate(fake, "decryption"));
            print_message("%s%s\n", paddings[i].name, own ? ", encrypted by the provider" : "");
            size_t len =
                encrypt(own ? libctx : NULL, to, &paddings[i], cek, sizeof cek, in, sizeof in);
            assert_int_equal(len, 256);
            size_t got = decrypt(key, &paddings[i], in, len, out, sizeof out);
            if (!got)
                ERR_print_errors_fp(stderr);
            assert_int_equal(got, sizeof cek);
            assert_memory_equal(out, cek, sizeof cek);
            const struct wire_unwrap *unwrap = &fake_last(fake)->unwrap;
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
    EVP_PKEY *key = app_key(libctx, "hsmd:decryption");
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(libctx, key, NULL);
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
        const char *name;
        enum fake_fault fault;
        size_t inlen, room;
        const char *reason, *data;
        bool asked;
    } cases[] = {
        {"denied", FAKE_DENIED, 256, 256, "hsmd denies", "unwrap with key decryption", true},
        {"temp", FAKE_TEMP, 256, 256, "hsmd cannot do it now", "unwrap with key decryption", true},
        {"perm", FAKE_PERM, 256, 256, "hsmd rejects", "\"perm\"", true},
        {"too long a secret", FAKE_LONG_SECRET, 256, 512, "no sense", "not asked for", true},
        {"small buffer", FAKE_NO_FAULT, 256, 255, "length", "room for 255 bytes", false},
        {"long ciphertext", FAKE_NO_FAULT, 257, 256, "length", "257 bytes of ciphertext", false},
    };
    uint8_t in[512] = {0};
    (void)state;
    EVP_PKEY *key = app_key(libctx, "hsmd:decryption");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t out[512] = {0};
        uint8_t zero[512] = {0};
        unsigned before = fake_count(fake, WIRE_UNWRAP);
        print_message("%s\n", cases[i].name);
        fake_set_fault(fake, cases[i].fault);
        assert_int_equal(
            encrypt(NULL, fake_key(fake, "decryption"), &paddings[0], cek, 16, in, sizeof in), 256);
        assert_int_equal(decrypt(key, &paddings[0], in, cases[i].inlen, out, cases[i].room), 0);
        app_expect_error(cases[i].reason, cases[i].data);
        assert_memory_equal(out, zero, sizeof out);
        assert_int_equal(fake_count(fake, WIRE_UNWRAP) - before, cases[i].asked);
    }
    EVP_PKEY_free(key);
}

static void test_decrypt_refusals(void **state)
{
    static const struct padding none = {.name = "none", .mode = RSA_NO_PADDING};
    static const struct padding md5 = {"MD5", RSA_PKCS1_OAEP_PADDING, "MD5", NULL, NULL, 0, 0, 0};
    uint8_t in[256] = {0};
    uint8_t out[256];
    (void)state;
    EVP_PKEY *key = app_key(libctx, "hsmd:decryption");
    EVP_PKEY *signing = app_key(libctx, "hsmd:signing");
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
    EVP_PKEY *key = app_key(libctx, "hsmd:decryption");
    memset(in, 1, sizeof in);
    assert_int_equal(decrypt(key, &paddings[0], in, sizeof in, out, sizeof out), 24);
    assert_int_equal(decrypt(key, &paddings[0], in, 255, out, sizeof out), 24);
    assert_int_equal(fake_last(fake)->unwrap.ciphertext.len, 256);
    app_expect_no_error();
    EVP_PKEY_free(key);
}

// The premaster secret of TLS: a wrong version, or a wrong padding, gives a random one.
static void test_tls(void **state)
{
    static const struct {
        const char *name;
        unsigned char major, minor;
        unsigned negotiated;
        bool good;
    } cases[] = {
        {"good", 3, 3, 0, true},          {"other version", 3, 1, 0, false},
        {"other major", 2, 3, 0, false},  {"negotiated", 3, 1, 0x0301, true},
        {"neither", 3, 2, 0x0301, false},
    };
    (void)state;
    EVP_PKEY *key = app_key(libctx, "hsmd:general");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t secret[48];
        uint8_t in[256];
        uint8_t out[48];
        size_t outlen = sizeof out;
        unsigned mode = RSA_PKCS1_WITH_TLS_PADDING;
        unsigned client = 0x0303;
        unsigned negotiated = cases[i].negotiated;
        memset(secret, 0x77, sizeof secret);
        secret[0] = cases[i].major;
        secret[1] = cases[i].minor;
        assert_int_equal(encrypt(NULL, fake_key(fake, "general"), &paddings[0], secret,
                                 sizeof secret, in, sizeof in),
                         256);
        EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(libctx, key, NULL);
        OSSL_PARAM params[] = {
            OSSL_PARAM_construct_uint(OSSL_ASYM_CIPHER_PARAM_PAD_MODE, &mode),
            OSSL_PARAM_construct_uint(OSSL_ASYM_CIPHER_PARAM_TLS_CLIENT_VERSION, &client),
            OSSL_PARAM_construct_uint(OSSL_ASYM_CIPHER_PARAM_TLS_NEGOTIATED_VERSION, &negotiated),
            OSSL_PARAM_construct_end()};
        print_message("%s\n", cases[i].name);
        assert_true(EVP_PKEY_decrypt_init_ex(context, params) > 0);
        assert_true(EVP_PKEY_decrypt(context, out, &outlen, in, sizeof in) > 0);
        assert_int_equal(outlen, 48);
        assert_int_equal(fake_last(fake)->unwrap.length, 48);
        assert_int_equal(memcmp(out, secret, 48) == 0, cases[i].good);
        in[100] ^= 1;
        assert_true(EVP_PKEY_decrypt(context, out, &outlen, in, sizeof in) > 0);
        assert_int_not_equal(memcmp(out, secret, 48), 0);
        EVP_PKEY_CTX_free(context);
    }
    EVP_PKEY_free(key);
}

struct kdf {
    const char *name, *type, *hash;
    size_t length;
    int cofactor;
};

// The public half alone, which is what one has of a peer.
static EVP_PKEY *public_of(EVP_PKEY *key)
{
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(key, &der);
    const unsigned char *p = der;
    EVP_PKEY *half = d2i_PUBKEY_ex(NULL, &p, len, libctx, NULL);
    assert_non_null(half);
    OPENSSL_free(der);
    return half;
}

// Sets up an agreement with the peer; NULL: failed.
static EVP_PKEY_CTX *agreement(OSSL_LIB_CTX *where, EVP_PKEY *key, EVP_PKEY *peer,
                               const struct kdf *kdf)
{
    size_t length = kdf->length;
    int cofactor = kdf->cofactor;
    OSSL_PARAM params[6];
    size_t n = 0;
    params[n++] = OSSL_PARAM_construct_int(OSSL_EXCHANGE_PARAM_EC_ECDH_COFACTOR_MODE, &cofactor);
    if (kdf->type)
        params[n++] =
            OSSL_PARAM_construct_utf8_string(OSSL_EXCHANGE_PARAM_KDF_TYPE, (char *)kdf->type, 0);
    if (kdf->hash)
        params[n++] =
            OSSL_PARAM_construct_utf8_string(OSSL_EXCHANGE_PARAM_KDF_DIGEST, (char *)kdf->hash, 0);
    if (kdf->length)
        params[n++] = OSSL_PARAM_construct_size_t(OSSL_EXCHANGE_PARAM_KDF_OUTLEN, &length);
    params[n++] = OSSL_PARAM_construct_octet_string(OSSL_EXCHANGE_PARAM_KDF_UKM, (char *)"info", 4);
    params[n] = OSSL_PARAM_construct_end();
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(where, key, NULL);
    if (EVP_PKEY_derive_init_ex(context, params) > 0 && EVP_PKEY_derive_set_peer(context, peer) > 0)
        return context;
    EVP_PKEY_CTX_free(context);
    return NULL;
}

static void check_agreement(const char *uri, const char *curve, const struct kdf *kdf)
{
    uint8_t ours[128];
    uint8_t theirs[128];
    size_t size = 0;
    EVP_PKEY *key = app_key(libctx, uri);
    EVP_PKEY *ephemeral = EVP_PKEY_Q_keygen(libctx, NULL, "EC", curve);
    EVP_PKEY *peer = public_of(ephemeral);
    EVP_PKEY_CTX *context = agreement(libctx, key, peer, kdf);
    unsigned before = fake_count(fake, WIRE_AGREE);
    if (!context)
        ERR_print_errors_fp(stderr);
    assert_non_null(context);
    EVP_PKEY_CTX *copy = EVP_PKEY_CTX_dup(context);
    assert_non_null(copy);
    assert_true(EVP_PKEY_derive(copy, NULL, &size) > 0);
    assert_int_equal(size, kdf->length);
    assert_int_equal(fake_count(fake, WIRE_AGREE), before);
    assert_true(EVP_PKEY_derive(copy, ours, &size) > 0);
    assert_int_equal(fake_last(fake)->agree.cofactor, kdf->cofactor == 1);
    EVP_PKEY_CTX_free(copy);
    EVP_PKEY_CTX_free(context);

    // The other side has the certificate of our key.
    EVP_PKEY *mine = X509_get_pubkey(fake_certificate(fake, uri + 5));
    EVP_PKEY *sender = EVP_PKEY_dup(ephemeral);
    context = agreement(NULL, sender, mine, kdf);
    assert_non_null(context);
    size = sizeof theirs;
    assert_true(EVP_PKEY_derive(context, theirs, &size) > 0);
    assert_int_equal(size, kdf->length);
    assert_memory_equal(ours, theirs, size);
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_free(sender);
    EVP_PKEY_free(peer);
    EVP_PKEY_free(mine);
    EVP_PKEY_free(ephemeral);
    EVP_PKEY_free(key);
}

static void test_agree(void **state)
{
    static const struct kdf kdfs[] = {
        {"SHA-1", "X963KDF", "SHA1", 16, 0},      {"SHA-224", "X963KDF", "SHA224", 24, -1},
        {"SHA-256", "X963KDF", "SHA256", 32, 0},  {"SHA-384", "X963KDF", "SHA384", 32, 1},
        {"SHA-512", "X963KDF", "SHA512", 128, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof kdfs / sizeof *kdfs; i++) {
        print_message("%s\n", kdfs[i].name);
        check_agreement("hsmd:ec-decryption", "P-256", &kdfs[i]);
        check_agreement("hsmd:ec384-decryption", "P-384", &kdfs[i]);
    }
    app_expect_no_error();
}

// The peer's key made as CMS makes it: our key's curve, then a point, which may be compressed.
static void test_peer_by_point(void **state)
{
    static const struct kdf kdf = {"", "X963KDF", "SHA256", 32, 0};
    (void)state;
    EVP_PKEY *key = app_key(libctx, "hsmd:ec-decryption");
    EVP_PKEY *ephemeral = EVP_PKEY_Q_keygen(libctx, NULL, "EC", "P-256");
    EVP_PKEY *mine = X509_get_pubkey(fake_certificate(fake, "ec-decryption"));
    EVP_PKEY_CTX *context = agreement(NULL, ephemeral, mine, &kdf);
    uint8_t theirs[32];
    size_t size = sizeof theirs;
    assert_true(EVP_PKEY_derive(context, theirs, &size) > 0);
    EVP_PKEY_CTX_free(context);
    for (int compressed = 0; compressed < 2; compressed++) {
        unsigned char *point = NULL;
        uint8_t ours[32];
        EVP_PKEY *peer = EVP_PKEY_new();
        size_t len = EVP_PKEY_get1_encoded_public_key(ephemeral, &point);
        assert_int_equal(len, 65);
        if (compressed) {
            point[0] = 2 + (point[64] & 1);
            len = 33;
        }
        assert_int_equal(EVP_PKEY_copy_parameters(peer, key), 1);
        assert_int_equal(EVP_PKEY_set1_encoded_public_key(peer, point, len), 1);
        context = agreement(libctx, key, peer, &kdf);
        assert_non_null(context);
        size = sizeof ours;
        assert_true(EVP_PKEY_derive(context, ours, &size) > 0);
        assert_memory_equal(ours, theirs, sizeof ours);
        EVP_PKEY_CTX_free(context);
        point[len - 1] ^= 1; // no longer on the curve, if uncompressed
        if (!compressed)
            assert_int_not_equal(EVP_PKEY_set1_encoded_public_key(peer, point, len), 1);
        ERR_clear_error();
        OPENSSL_free(point);
        EVP_PKEY_free(peer);
    }
    EVP_PKEY_free(mine);
    EVP_PKEY_free(ephemeral);
    EVP_PKEY_free(key);
}

static void test_agree_refusals(void **state)
{
    static const struct {
        struct kdf kdf;
        const char *reason, *data;
    } cases[] = {
        {{"no KDF", NULL, NULL, 0, 0}, "raw shared secret", "set the KDF"},
        {{"empty KDF", "", NULL, 0, 0}, "raw shared secret", "set the KDF"},
        {{"no hash", "X963KDF", NULL, 32, 0}, "parameter", "no digest"},
        {{"no length", "X963KDF", "SHA256", 0, 0}, "parameter", "no output length"},
    };
    static const struct {
        struct kdf kdf;
        const char *reason, *data;
    } early[] = {
        {{"other KDF", "HKDF", "SHA256", 32, 0}, "raw shared secret", "HKDF is not supported"},
        {{"other hash", "X963KDF", "MD5", 32, 0}, "digest", "MD5 is not supported"},
        {{"too much", "X963KDF", "SHA256", 2049, 0}, "length", "1 to 2048 bytes"},
        {{"cofactor mode", "X963KDF", "SHA256", 32, 2}, "parameter", "cofactor mode"},
    };
    (void)state;
    EVP_PKEY *key = app_key(libctx, "hsmd:ec-decryption");
    EVP_PKEY *ephemeral = public_of(fake_key(fake, "ec-general"));
    EVP_PKEY *other_curve = public_of(fake_key(fake, "ec384-decryption"));
    unsigned before = fake_count(fake, WIRE_AGREE);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t out[64];
        size_t len = sizeof out;
        print_message("%s\n", cases[i].kdf.name);
        EVP_PKEY_CTX *context = agreement(libctx, key, ephemeral, &cases[i].kdf);
        assert_non_null(context);
        assert_true(EVP_PKEY_derive(context, out, &len) <= 0);
        app_expect_error(cases[i].reason, cases[i].data);
        EVP_PKEY_CTX_free(context);
    }
    for (size_t i = 0; i < sizeof early / sizeof *early; i++) {
        print_message("%s\n", early[i].kdf.name);
        assert_null(agreement(libctx, key, ephemeral, &early[i].kdf));
        app_expect_error(early[i].reason, early[i].data);
    }
    static const struct kdf kdf = {"", "X963KDF", "SHA256", 32, 0};
    assert_null(agreement(libctx, key, other_curve, &kdf));
    ERR_clear_error();
    EVP_PKEY *signing = app_key(libctx, "hsmd:ec-signing");
    assert_null(agreement(libctx, signing, ephemeral, &kdf));
    app_expect_error("not what the key is for", "smime-sign and does not agree on keys");
    assert_int_equal(fake_count(fake, WIRE_AGREE), before);
    EVP_PKEY_free(signing);
    EVP_PKEY_free(other_curve);
    EVP_PKEY_free(ephemeral);
    EVP_PKEY_free(key);
}

static void test_agree_faults(void **state)
{
    static const struct kdf kdf = {"", "X963KDF", "SHA256", 32, 0};
    static const struct {
        enum fake_fault fault;
        const char *reason, *data;
    } cases[] = {
        {FAKE_DENIED, "hsmd denies", "agree with key ec-decryption"},
        {FAKE_TEMP, "hsmd cannot do it now", "agree with key ec-decryption"},
        {FAKE_PERM, "hsmd rejects", "\"perm\""},
        {FAKE_LONG_SECRET, "no sense", "300 bytes, not 32"},
    };
    (void)state;
    EVP_PKEY *key = app_key(libctx, "hsmd:ec-decryption");
    EVP_PKEY *ephemeral = public_of(fake_key(fake, "ec-general"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t out[32];
        size_t len = sizeof out;
        fake_set_fault(fake, cases[i].fault);
        EVP_PKEY_CTX *context = agreement(libctx, key, ephemeral, &kdf);
        assert_non_null(context);
        assert_true(EVP_PKEY_derive(context, out, &len) <= 0);
        app_expect_error(cases[i].reason, cases[i].data);
        len = 31;
        assert_true(EVP_PKEY_derive(context, out, &len) <= 0);
        app_expect_error("length", "room for 31 bytes");
        EVP_PKEY_CTX_free(context);
    }
    EVP_PKEY_free(ephemeral);
    EVP_PKEY_free(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_decrypt, no_fault),
        cmocka_unit_test_teardown(test_get_params, no_fault),
        cmocka_unit_test_teardown(test_decrypt_faults, no_fault),
        cmocka_unit_test_teardown(test_decrypt_refusals, no_fault),
        cmocka_unit_test_teardown(test_no_oracle, no_fault),
        cmocka_unit_test_teardown(test_tls, no_fault),
        cmocka_unit_test_teardown(test_agree, no_fault),
        cmocka_unit_test_teardown(test_peer_by_point, no_fault),
        cmocka_unit_test_teardown(test_agree_refusals, no_fault),
        cmocka_unit_test_teardown(test_agree_faults, no_fault),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
