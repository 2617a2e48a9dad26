// SPDX-License-Identifier: Apache-2.0
// What is particular to unwrapping and agreeing: parameters, answers of one shape, and that nothing
// of a secret stays behind.
#include "hsmd/core.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/kdf.h>

#include "tests/unit/hsmd/core_support.h"

static void test_unwrap_details(void **state)
{
    (void)state;
    struct wire_reply reply;
    struct wire_request request = make_unwrap("rsa.smime-decrypt.enabled", false);
    request.unwrap.ciphertext.len = 255;
    assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_PERM);
    request = make_unwrap("rsa.smime-decrypt.enabled", false);
    request.unwrap.hash = HASH_SHA256;
    assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_PERM);
    request = make_unwrap("rsa.smime-decrypt.enabled", true);
    request.unwrap.mgf_hash = HASH_NONE;
    assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_PERM);
    request = make_unwrap("rsa.smime-decrypt.enabled", false);
    request.unwrap.length = 246;
    assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_PERM);
    request = make_unwrap("rsa.smime-decrypt.enabled", true);
    request.unwrap.label = BYTES_LITERAL("another");
    assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_PERM);
    // Promise 5: whatever the padding, an answer of the same shape, the same for the same question.
    request = make_unwrap("rsa.smime-decrypt.enabled", false);
    uint8_t garbage[256];
    memcpy(garbage, wrapped_pkcs1, sizeof garbage);
    garbage[255] ^= 1;
    request.unwrap.ciphertext = bytes_of(garbage, sizeof garbage);
    assert_int_equal(call(CUSTODIAN_ALL, &request, &reply), ERR_OK);
    assert_int_equal(reply.secret.len, 16);
    uint8_t first[16];
    memcpy(first, reply.secret.data, sizeof first);
    assert_int_equal(call(CUSTODIAN_ALL, &request, &reply), ERR_OK);
    assert_memory_equal(first, reply.secret.data, 16);
}

// Encryption does not hide how long a reply is: so it must not depend on the padding, nor on the
// key that was wrapped. Without a length the synthetic secrets are of all lengths.
static void test_unwrap_sizes(void **state)
{
    (void)state;
    struct wire_reply reply;
    struct wire_request request = make_unwrap("rsa.smime-decrypt.enabled", false);
    request.unwrap.length = 0;
    assert_int_equal(call(CUSTODIAN_ALL, &request, &reply), ERR_OK);
    assert_true(bytes_equal(reply.secret, bytes_of(content_key, 16)));
    const size_t size = frame.len;
    size_t shortest = SIZE_MAX;
    size_t longest = 0;
    uint8_t garbage[256];
    memcpy(garbage, wrapped_pkcs1, sizeof garbage);
    request.unwrap.ciphertext = bytes_of(garbage, sizeof garbage);
    for (unsigned i = 1; i <= 40; i++) {
        garbage[255] = (uint8_t)(wrapped_pkcs1[255] ^ i);
        assert_int_equal(call(CUSTODIAN_ALL, &request, &reply), ERR_OK);
        assert_int_equal(frame.len, size);
        shortest = reply.secret.len < shortest ? reply.secret.len : shortest;
        longest = reply.secret.len > longest ? reply.secret.len : longest;
    }
    assert_true(shortest < longest); // or this test says nothing
    request = make_unwrap("rsa.smime-decrypt.enabled", true);
    assert_int_equal(call(CUSTODIAN_ALL, &request, &reply), ERR_OK);
    assert_int_equal(reply.secret.len, 16);
    assert_int_equal(frame.len, size);
}

static void test_agree_value(void **state)
{
    (void)state;
    uint8_t z[32];
    uint8_t expected[40];
    size_t len = sizeof z;
    struct wire_reply reply;
    struct wire_request request = make_agree("ec.smime-decrypt.enabled");
    request.agree.length = sizeof expected;
    assert_int_equal(call(CUSTODIAN_ALL, &request, &reply), ERR_OK);
    EVP_PKEY *mine = memstore_key_pkey(custodian.stores[CUSTODIAN_EC]);
    EVP_PKEY *peer = EVP_PKEY_new();
    EVP_PKEY_copy_parameters(peer, mine);
    EVP_PKEY_set1_encoded_public_key(peer, point, sizeof point);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(mine, NULL);
    assert_true(EVP_PKEY_derive_init(ctx) > 0 && EVP_PKEY_derive_set_peer(ctx, peer) > 0 &&
                EVP_PKEY_derive(ctx, z, &len) > 0);
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(peer);
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "X963KDF", NULL);
    EVP_KDF_CTX *kdf_ctx = EVP_KDF_CTX_new(kdf);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, "SHA256", 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, z, len),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, "info", 4),
        OSSL_PARAM_construct_end(),
    };
    assert_int_equal(EVP_KDF_derive(kdf_ctx, expected, sizeof expected, params), 1);
    EVP_KDF_CTX_free(kdf_ctx);
    EVP_KDF_free(kdf);
    assert_true(bytes_equal(reply.secret, bytes_of(expected, sizeof expected)));
    point[64] ^= 1; // off the curve
    assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_PERM);
    point[64] ^= 1;
    request.agree.length = 0;
    assert_int_not_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_OK);
}

static bool is_zero(const uint8_t *data, size_t len)
{
    while (len && data[len - 1] == 0)
        len--;
    return len == 0;
}

static bool holds(const struct buf *reply, struct bytes secret)
{
    return memmem(reply->data, reply->room, secret.data, secret.len) != NULL;
}

// What left the token is nowhere when the answer is on its way: not with the worker after any
// request, not in the reply's memory after buf_wipe.
static void test_secrets_are_wiped(void **state)
{
    (void)state;
    struct custodian *c = &custodian;
    const struct wire_request requests[] = {make_unwrap("rsa.smime-decrypt.enabled", false),
                                            make_unwrap("rsa.smime-decrypt.enabled", true),
                                            make_agree("ec.smime-decrypt.enabled")};
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        struct wire_reply reply;
        struct buf fresh;
        uint8_t secret[32];
        buf_init(&fresh, WIRE_FRAME_MAX);
        assert_true(custodian_call(c, CUSTODIAN_ALL, &requests[i], &reply, &fresh));
        assert_int_equal(reply.class, ERR_OK);
        assert_int_equal(c->worker.secret.len, 0);
        assert_true(is_zero(c->worker.secret.data, c->worker.secret.room));
        assert_true(is_zero(c->worker.z.data, c->worker.z.room));
        struct bytes kept = bytes_of(secret, reply.secret.len);
        assert_true(kept.len >= 16 && kept.len <= sizeof secret);
        memcpy(secret, reply.secret.data, kept.len);
        assert_true(holds(&fresh, kept));
        buf_wipe(&fresh);
        assert_int_equal(fresh.len, 0);
        assert_true(is_zero(fresh.data, fresh.room));
        buf_clear(&fresh);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unwrap_details),
        cmocka_unit_test(test_unwrap_sizes),
        cmocka_unit_test(test_agree_value),
        cmocka_unit_test(test_secrets_are_wiped),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
