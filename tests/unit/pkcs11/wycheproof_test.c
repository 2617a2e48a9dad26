// SPDX-License-Identifier: Apache-2.0
// The RSA decryption cases of the Wycheproof project, where they are there: the private operation
// by OpenSSL, the unpadding ours. Exit status 77 (a skip ctest shows) where they are not.
#include "pkcs11/padding.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "hsmd/base/text.h"

#define FOLDER TEST_CORPUS "/wycheproof/"

static struct secret out;
static const uint8_t seed[PADDING_SEED_SIZE] = {1};

static struct buf hex(const json_t *object, const char *name)
{
    struct buf value;
    const char *text = json_string_value(json_object_get(object, name));
    buf_init(&value, 65536);
    if (text)
        assert_int_equal(text_get_hex(text, &value), ERR_OK);
    return value;
}

// False if the ciphertext is not as long as the modulus or not below it; the token layer refuses
// such ones before the token sees them.
static bool raw(EVP_PKEY *key, const struct buf *ciphertext, uint8_t *block)
{
    size_t len = (size_t)EVP_PKEY_get_size(key);
    if (ciphertext->len != len)
        return false;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
    bool ok = EVP_PKEY_decrypt_init(ctx) == 1 &&
              EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_NO_PADDING) == 1 &&
              EVP_PKEY_decrypt(ctx, block, &len, ciphertext->data, ciphertext->len) == 1;
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static EVP_PKEY *read_key(const json_t *group)
{
    struct buf der = hex(group, "privateKeyPkcs8");
    const unsigned char *at = der.data;
    EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &at, (long)der.len);
    assert_non_null(key);
    buf_clear(&der);
    return key;
}

static bool is_same(const struct buf *message)
{
    return out.len == message->len && memcmp(out.data, buf_text(message), message->len) == 0;
}

static void check(const json_t *group, const json_t *test, EVP_PKEY *key)
{
    uint8_t block[PADDING_BLOCK_MAX];
    struct buf message = hex(test, "msg"), ciphertext = hex(test, "ct"), label = hex(test, "label");
    bool valid = strcmp(json_string_value(json_object_get(test, "result")), "valid") == 0;
    const char *sha = json_string_value(json_object_get(group, "sha"));
    bool got = raw(key, &ciphertext, block);
    size_t size = (size_t)EVP_PKEY_get_size(key);
    if (got && sha) {
        enum hash hash = hash_by_name(sha);
        enum hash mgf = hash_by_name(json_string_value(json_object_get(group, "mgfSha")));
        enum err err =
            padding_remove_oaep(bytes_of(block, size), hash, mgf, buf_bytes(&label), &out);
        got = err == ERR_OK && is_same(&message);
        assert_true(err == ERR_OK || err == ERR_PERM);
    } else if (got) {
        assert_int_equal(padding_remove_pkcs1(bytes_of(block, size), seed, 0, &out), ERR_OK);
        got = is_same(&message);
        if (message.len > 0) { // and with the length known
            assert_int_equal(padding_remove_pkcs1(bytes_of(block, size), seed, message.len, &out),
                             ERR_OK);
            assert_int_equal(is_same(&message), got);
        }
        if (!valid && message.len == 0)
            got = false; // a synthetic message may be empty
    }
    if (got != valid)
        fail_msg("case %lld: %s", json_integer_value(json_object_get(test, "tcId")),
                 json_string_value(json_object_get(test, "comment")));
    buf_clear(&message);
    buf_clear(&ciphertext);
    buf_clear(&label);
}

static void run(const char *file, size_t expected)
{
    json_error_t error;
    json_t *root = json_load_file(file, 0, &error), *group, *test;
    size_t i, k, count = 0;
    assert_non_null(root);
    json_array_foreach(json_object_get(root, "testGroups"), i, group)
    {
        EVP_PKEY *key = read_key(group);
        json_array_foreach(json_object_get(group, "tests"), k, test)
        {
            check(group, test, key);
            count++;
        }
        EVP_PKEY_free(key);
    }
    json_decref(root);
    assert_true(count >= expected);
}

static void pkcs1(void **state)
{
    (void)state;
    run(FOLDER "rsa_pkcs1_2048_test.json", 60);
}

static void oaep_sha1(void **state)
{
    (void)state;
    run(FOLDER "rsa_oaep_2048_sha1_mgf1sha1_test.json", 30);
}

static void oaep_sha256(void **state)
{
    (void)state;
    run(FOLDER "rsa_oaep_2048_sha256_mgf1sha256_test.json", 30);
}

static int begin(void **state)
{
    (void)state;
    return secret_init(&out, PADDING_BLOCK_MAX, NULL) == ERR_OK ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    secret_clear(&out);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pkcs1),
        cmocka_unit_test(oaep_sha1),
        cmocka_unit_test(oaep_sha256),
    };
    if (access(FOLDER, R_OK) != 0) {
        fprintf(stderr, "no %s\n", FOLDER);
        return 77;
    }
    return cmocka_run_group_tests(tests, begin, end);
}
