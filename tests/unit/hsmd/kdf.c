// SPDX-License-Identifier: Apache-2.0
#include "hsmd/kdf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

static void openssl_x963(const char *hash, struct bytes z, struct bytes info, uint8_t *out,
                         size_t len)
{
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "X963KDF", NULL);
    EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)hash, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)z.data, z.len),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)info.data, info.len),
        OSSL_PARAM_construct_end(),
    };
    assert_int_equal(EVP_KDF_derive(ctx, out, len, params), 1);
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
}

static void test_against_openssl(void **state)
{
    (void)state;
    static const size_t z_lengths[] = {1, 32, 48, 66};
    static const size_t info_lengths[] = {0, 1, 55, 300};
    static const size_t lengths[] = {1, 16, 32, 33, 64, 100, 2048};
    uint8_t material[400];
    uint8_t expected[2048];
    struct secret out;
    assert_int_equal(secret_init(&out, sizeof expected, NULL), ERR_OK);
    for (size_t i = 0; i < sizeof material; i++)
        material[i] = (uint8_t)(i * 7 + 3);
    for (unsigned hash = HASH_SHA1; hash < HASH_COUNT; hash++) {
        for (size_t n = 0; n < 4 * 4 * 7; n++) {
            struct bytes z = bytes_of(material, z_lengths[n % 4]);
            struct bytes info = bytes_of(material + 80, info_lengths[n / 4 % 4]);
            size_t len = lengths[n / 16];
            openssl_x963(hash_name((enum hash)hash), z, info, expected, len);
            assert_int_equal(kdf_x963((enum hash)hash, z, info, len, &out), ERR_OK);
            assert_int_equal(out.len, len);
            assert_memory_equal(out.data, expected, len);
        }
    }
    secret_clear(&out);
}

static void test_limits(void **state)
{
    (void)state;
    struct secret out;
    assert_int_equal(secret_init(&out, 64, NULL), ERR_OK);
    struct bytes z = BYTES_LITERAL("z");
    assert_int_equal(kdf_x963(HASH_NONE, z, z, 16, &out), ERR_PERM);
    assert_int_equal(kdf_x963(HASH_SHA256, z, z, 0, &out), ERR_PERM);
    assert_int_equal(kdf_x963(HASH_SHA256, z, z, out.room + 1, &out), ERR_PERM);
    assert_int_equal(kdf_x963(HASH_SHA256, z, z, out.room, &out), ERR_OK);
    secret_clear(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_openssl),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
