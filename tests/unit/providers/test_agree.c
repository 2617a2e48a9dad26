// SPDX-License-Identifier: Apache-2.0
// Key agreement with keys of hsmd, seen from EVP. The other side is libcrypto with the certificate.
#include "tests/unit/providers/app.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/x509.h>

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
    EVP_PKEY *half = d2i_PUBKEY_ex(NULL, &p, len, app.libctx, NULL);
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
    EVP_PKEY *key = app_key(app.libctx, uri);
    EVP_PKEY *ephemeral = EVP_PKEY_Q_keygen(app.libctx, NULL, "EC", curve);
    EVP_PKEY *peer = public_of(ephemeral);
    EVP_PKEY_CTX *context = agreement(app.libctx, key, peer, kdf);
    unsigned before = fake_count(app.fake, WIRE_AGREE);
    if (!context)
        ERR_print_errors_fp(stderr);
    assert_non_null(context);
    EVP_PKEY_CTX *copy = EVP_PKEY_CTX_dup(context);
    assert_non_null(copy);
    assert_true(EVP_PKEY_derive(copy, NULL, &size) > 0);
    assert_int_equal(size, kdf->length);
    assert_int_equal(fake_count(app.fake, WIRE_AGREE), before);
    assert_true(EVP_PKEY_derive(copy, ours, &size) > 0);
    assert_int_equal(fake_last(app.fake)->agree.cofactor, kdf->cofactor == 1);
    EVP_PKEY_CTX_free(copy);
    EVP_PKEY_CTX_free(context);

    // The other side has the certificate of our key.
    EVP_PKEY *mine = X509_get_pubkey(fake_certificate(app.fake, uri + 5));
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
    EVP_PKEY *key = app_key(app.libctx, "hsmd:ec-decryption");
    EVP_PKEY *ephemeral = EVP_PKEY_Q_keygen(app.libctx, NULL, "EC", "P-256");
    EVP_PKEY *mine = X509_get_pubkey(fake_certificate(app.fake, "ec-decryption"));
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
        context = agreement(app.libctx, key, peer, &kdf);
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
    EVP_PKEY *key = app_key(app.libctx, "hsmd:ec-decryption");
    EVP_PKEY *ephemeral = public_of(fake_key(app.fake, "ec-general"));
    EVP_PKEY *other_curve = public_of(fake_key(app.fake, "ec384-decryption"));
    unsigned before = fake_count(app.fake, WIRE_AGREE);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t out[64];
        size_t len = sizeof out;
        print_message("%s\n", cases[i].kdf.name);
        EVP_PKEY_CTX *context = agreement(app.libctx, key, ephemeral, &cases[i].kdf);
        assert_non_null(context);
        assert_true(EVP_PKEY_derive(context, out, &len) <= 0);
        app_expect_error(cases[i].reason, cases[i].data);
        EVP_PKEY_CTX_free(context);
    }
    for (size_t i = 0; i < sizeof early / sizeof *early; i++) {
        print_message("%s\n", early[i].kdf.name);
        assert_null(agreement(app.libctx, key, ephemeral, &early[i].kdf));
        app_expect_error(early[i].reason, early[i].data);
    }
    static const struct kdf kdf = {"", "X963KDF", "SHA256", 32, 0};
    assert_null(agreement(app.libctx, key, other_curve, &kdf));
    ERR_clear_error();
    EVP_PKEY *signing = app_key(app.libctx, "hsmd:ec-signing");
    assert_null(agreement(app.libctx, signing, ephemeral, &kdf));
    app_expect_error("not what the key is for", "smime-sign and does not agree on keys");
    assert_int_equal(fake_count(app.fake, WIRE_AGREE), before);
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
    EVP_PKEY *key = app_key(app.libctx, "hsmd:ec-decryption");
    EVP_PKEY *ephemeral = public_of(fake_key(app.fake, "ec-general"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t out[32];
        size_t len = sizeof out;
        fake_set_fault(app.fake, cases[i].fault);
        EVP_PKEY_CTX *context = agreement(app.libctx, key, ephemeral, &kdf);
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
        cmocka_unit_test_teardown(test_agree, app_no_fault),
        cmocka_unit_test_teardown(test_peer_by_point, app_no_fault),
        cmocka_unit_test_teardown(test_agree_refusals, app_no_fault),
        cmocka_unit_test_teardown(test_agree_faults, app_no_fault),
    };
    return cmocka_run_group_tests(tests, app_setup, app_teardown);
}
