// SPDX-License-Identifier: Apache-2.0
// The real hsmd with a real (Soft)HSM, asked through the real client.
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "hsmd/base/file.h"
#include "tests/integration/hsmd_process.h"
#include "tests/support/custodian.h"

static struct hsmd hsmd;
static struct buf frame;
static struct buf attributes;

static int setup(void **state)
{
    (void)state;
    hsmd_setup(&hsmd);
    buf_init(&frame, WIRE_FRAME_MAX);
    buf_init(&attributes, 4096);
    custodian_attributes(HASH_SHA256, &attributes);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hsmd_teardown(&hsmd);
    buf_clear(&frame);
    buf_clear(&attributes);
    return 0;
}

// Each test begins with the usual configuration and no hsmd, no log.
static int begin(void **state)
{
    (void)state;
    if (hsmd.pid)
        hsmd_stop(&hsmd, SIGKILL);
    hsmd_drop_log(&hsmd);
    hsmd_configure(&hsmd, NULL);
    return 0;
}

static enum err call(struct client *client, struct wire_request *request, struct wire_reply *reply)
{
    struct detail detail = {0};
    buf_reset(&frame);
    return client_call(client, request, &frame, reply, &detail);
}

static struct wire_request sign_request(const char *key, enum wire_algorithm algorithm)
{
    return (struct wire_request){.operation = WIRE_SIGN,
                                 .sign = {.key = bytes_of_text(key),
                                          .algorithm = algorithm,
                                          .hash = HASH_SHA256,
                                          .salt = algorithm == WIRE_RSA_PSS ? 32 : 0,
                                          .form = WIRE_ATTRIBUTES,
                                          .data = buf_bytes(&attributes)}};
}

static enum err sign(struct client *client)
{
    struct wire_reply reply;
    struct wire_request request = sign_request("signing", WIRE_RSA_PKCS1);
    return call(client, &request, &reply);
}

static void check_signature(const char *label, enum wire_algorithm algorithm,
                            struct bytes signature)
{
    EVP_PKEY *key = softhsm_public_key(&hsmd.hsm, label);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pkey_ctx = NULL;
    assert_int_equal(EVP_DigestVerifyInit(ctx, &pkey_ctx, EVP_sha256(), NULL, key), 1);
    if (algorithm == WIRE_RSA_PSS) {
        assert_true(EVP_PKEY_CTX_set_rsa_padding(pkey_ctx, RSA_PKCS1_PSS_PADDING) > 0);
        assert_true(EVP_PKEY_CTX_set_rsa_pss_saltlen(pkey_ctx, 32) > 0);
    }
    assert_int_equal(
        EVP_DigestVerify(ctx, signature.data, signature.len, attributes.data, attributes.len), 1);
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
}

static void test_sign(void **state)
{
    (void)state;
    static const struct {
        const char *key, *label;
        enum wire_algorithm algorithm;
    } rows[] = {{"signing", "rsa2048", WIRE_RSA_PKCS1},
                {"signing", "rsa2048", WIRE_RSA_PSS},
                {"ec-signing", "p256", WIRE_ECDSA}};
    hsmd_serve(&hsmd);
    struct client *client = hsmd_client(&hsmd, "gw", 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct wire_reply reply;
        struct wire_request request = sign_request(rows[i].key, rows[i].algorithm);
        assert_int_equal(call(client, &request, &reply), ERR_OK);
        check_signature(rows[i].label, rows[i].algorithm, reply.signature);
        request.sign.form = WIRE_DIGEST;
        request.sign.data.len = 32;
        assert_int_equal(call(client, &request, &reply), ERR_DENIED);
        request.sign.key = BYTES_LITERAL("decryption");
        assert_int_equal(call(client, &request, &reply), ERR_DENIED);
    }
    client_close(client);
}

static void test_unwrap(void **state)
{
    (void)state;
    static const uint8_t content_key[32] = {1, 2, 3, 4, 5};
    uint8_t wrapped[512];
    hsmd_serve(&hsmd);
    struct client *client = hsmd_client(&hsmd, "gw", 0);
    EVP_PKEY *key = softhsm_public_key(&hsmd.hsm, "rsa3072");
    for (int oaep = 0; oaep < 2; oaep++) {
        size_t len = sizeof wrapped;
        EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
        assert_true(EVP_PKEY_encrypt_init(ctx) > 0);
        assert_true(EVP_PKEY_CTX_set_rsa_padding(ctx, oaep ? RSA_PKCS1_OAEP_PADDING
                                                           : RSA_PKCS1_PADDING) > 0);
        if (oaep)
            assert_true(EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_sha256()) > 0);
        assert_true(EVP_PKEY_encrypt(ctx, wrapped, &len, content_key, sizeof content_key) > 0);
        EVP_PKEY_CTX_free(ctx);
        struct wire_reply reply;
        struct wire_request request = {
            .operation = WIRE_UNWRAP,
            .unwrap = {.key = BYTES_LITERAL("decryption"),
                       .algorithm = oaep ? WIRE_RSAES_OAEP : WIRE_RSAES_PKCS1,
                       .hash = oaep ? HASH_SHA256 : HASH_NONE,
                       .mgf_hash = oaep ? HASH_SHA256 : HASH_NONE,
                       .length = oaep ? 0 : sizeof content_key,
                       .ciphertext = bytes_of(wrapped, len)}};
        assert_int_equal(call(client, &request, &reply), ERR_OK);
        assert_true(bytes_equal(reply.secret, bytes_of(content_key, sizeof content_key)));
        request.unwrap.key = BYTES_LITERAL("signing");
        assert_int_equal(call(client, &request, &reply), ERR_DENIED);
        wrapped[10] ^= 1; // an answer of the same shape, or OAEP's one error
        request.unwrap.key = BYTES_LITERAL("decryption");
        assert_int_equal(call(client, &request, &reply), oaep ? ERR_PERM : ERR_OK);
        assert_true(oaep || reply.secret.len == sizeof content_key);
    }
    EVP_PKEY_free(key);
    client_close(client);
}

static void test_agree(void **state)
{
    (void)state;
    uint8_t point[97];
    size_t len = 0;
    hsmd_serve(&hsmd);
    struct client *client = hsmd_client(&hsmd, "gw", 0);
    EVP_PKEY *mine = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384");
    EVP_PKEY *theirs = softhsm_public_key(&hsmd.hsm, "p384");
    EVP_PKEY_get_octet_string_param(mine, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point, &len);
    struct wire_reply reply;
    struct wire_request request = {.operation = WIRE_AGREE,
                                   .agree = {.key = BYTES_LITERAL("ec-decryption"),
                                             .algorithm = WIRE_ECDH_X963,
                                             .hash = HASH_SHA384,
                                             .peer = bytes_of(point, len),
                                             .info = BYTES_LITERAL("shared info"),
                                             .length = 32}};
    assert_int_equal(call(client, &request, &reply), ERR_OK);
    // The sender's side of it, by libcrypto.
    uint8_t expected[32];
    len = sizeof expected;
    size_t kdf_len = sizeof expected;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_EXCHANGE_PARAM_KDF_TYPE, "X963KDF", 0),
        OSSL_PARAM_construct_utf8_string(OSSL_EXCHANGE_PARAM_KDF_DIGEST, "SHA384", 0),
        OSSL_PARAM_construct_size_t(OSSL_EXCHANGE_PARAM_KDF_OUTLEN, &kdf_len),
        OSSL_PARAM_construct_octet_string(OSSL_EXCHANGE_PARAM_KDF_UKM, (void *)"shared info", 11),
        OSSL_PARAM_construct_end()};
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(mine, NULL);
    assert_true(EVP_PKEY_derive_init_ex(ctx, params) > 0);
    assert_true(EVP_PKEY_derive_set_peer(ctx, theirs) > 0);
    assert_true(EVP_PKEY_derive(ctx, expected, &len) > 0);
    assert_true(bytes_equal(reply.secret, bytes_of(expected, 32)));
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(mine);
    EVP_PKEY_free(theirs);
    client_close(client);
}

static void test_list_describe(void **state)
{
    (void)state;
    static const char *const names[] = {"decryption", "ec-decryption", "ec-signing", "general",
                                        "signing"};
    struct wire_reply reply;
    struct wire_request list = {.operation = WIRE_LIST};
    hsmd_serve(&hsmd);
    struct client *client = hsmd_client(&hsmd, "gw", 0);
    assert_int_equal(call(client, &list, &reply), ERR_OK);
    assert_int_equal(reply.list.count, 5);
    for (size_t i = 0; i < 5; i++)
        assert_true(bytes_equal(reply.list.names[i], bytes_of_text(names[i])));
    struct wire_request describe = {.operation = WIRE_DESCRIBE,
                                    .describe = {BYTES_LITERAL("signing")}};
    assert_int_equal(call(client, &describe, &reply), ERR_OK);
    assert_int_equal(reply.description.bits, 2048);
    const uint8_t *der = reply.description.certificates.data;
    X509 *certificate = d2i_X509(NULL, &der, (long)reply.description.certificates.len);
    EVP_PKEY *key = softhsm_public_key(&hsmd.hsm, "rsa2048");
    assert_non_null(certificate);
    assert_int_equal(EVP_PKEY_eq(key, X509_get0_pubkey(certificate)), 1);
    EVP_PKEY_free(key);
    X509_free(certificate);
    client_close(client);
}

static unsigned count_lines(const char *needle)
{
    struct buf text;
    unsigned count = 0;
    buf_init(&text, 1 << 20);
    assert_int_equal(file_read(hsmd_path(&hsmd, "state/audit.log"), &text, NULL), ERR_OK);
    for (const char *at = buf_text(&text); (at = strstr(at, needle)) != NULL; at++)
        count++;
    buf_clear(&text);
    return count;
}

static void test_stranger_and_stop(void **state)
{
    (void)state;
    struct stat st;
    hsmd_serve(&hsmd);
    struct client *stranger = hsmd_client(&hsmd, "stranger", 2000);
    struct client *client = hsmd_client(&hsmd, "gw", 0);
    assert_int_equal(sign(stranger), ERR_TEMP); // "refused this client's key", and nothing else
    assert_int_equal(sign(client), ERR_OK);
    client_close(stranger);
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    assert_true(hsmd_said(&hsmd, "denied: unknown client"));
    assert_int_not_equal(stat(hsmd_path(&hsmd, "data.sock"), &st), 0);
    assert_int_equal(count_lines("\"event\":\"start\""), 1);
    assert_int_equal(count_lines("\"event\":\"use\""), 1);
    assert_int_equal(count_lines("\"event\":\"stop\""), 1);
    // Another one takes over, and the client that stayed finds it.
    hsmd_serve(&hsmd);
    assert_int_equal(sign(client), ERR_OK);
    // Killed: its socket stays behind and is no hindrance, and the log is whole.
    assert_int_equal(hsmd_stop(&hsmd, SIGKILL), 1000 + SIGKILL);
    hsmd_serve(&hsmd);
    assert_int_equal(sign(client), ERR_OK);
    assert_int_equal(count_lines("\"event\":\"use\""), 3);
    assert_int_equal(hsmd_stop(&hsmd, SIGINT), 0);
    client_close(client);
}

static void test_rotation(void **state)
{
    (void)state;
    struct stat st;
    hsmd_serve(&hsmd);
    struct client *client = hsmd_client(&hsmd, "gw", 0);
    assert_int_equal(rename(hsmd_path(&hsmd, "state/audit.log"), hsmd_path(&hsmd, "state/old")), 0);
    kill(hsmd.pid, SIGHUP);
    for (int i = 0; i < 800 && stat(hsmd_path(&hsmd, "state/audit.log"), &st) != 0; i++)
        usleep(10000);
    assert_int_equal(sign(client), ERR_OK);
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    assert_int_equal(count_lines("\"event\":\"rotate\""), 1);
    assert_int_equal(count_lines("\"event\":\"use\""), 1);
    client_close(client);
}

// The token's files go away and come back.
static void test_token_lost(void **state)
{
    (void)state;
    char tokens[240];
    char away[240];
    snprintf(tokens, sizeof tokens, "%s/tokens", hsmd.hsm.dir);
    snprintf(away, sizeof away, "%s/away", hsmd.hsm.dir);
    hsmd_serve(&hsmd);
    struct client *client = hsmd_client(&hsmd, "gw", 0);
    assert_int_equal(sign(client), ERR_OK);
    assert_int_equal(rename(tokens, away), 0);
    usleep(1100000); // for so long its copy may be used
    unsigned temporary = 0;
    for (unsigned i = 0; i < 4; i++, usleep(400000)) // long enough to be looked for and not found
        temporary += sign(client) == ERR_TEMP;
    assert_int_equal(rename(away, tokens), 0);
    assert_int_equal(temporary, 4);
    assert_true(hsmd_said(&hsmd, "state=\"not there\""));
    enum err err = ERR_TEMP;
    for (int i = 0; i < 50 && err != ERR_OK; i++) {
        err = sign(client);
        if (err != ERR_OK)
            usleep(100000);
    }
    assert_int_equal(err, ERR_OK);
    assert_true(hsmd_said(&hsmd, "state=\"lost\""));
    assert_true(hsmd_said(&hsmd, "state=\"back\""));
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    client_close(client);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, begin)
    const struct CMUnitTest tests[] = {
        TEST(test_sign),
        TEST(test_unwrap),
        TEST(test_agree),
        TEST(test_list_describe),
        TEST(test_stranger_and_stop),
        TEST(test_rotation),
        TEST(test_token_lost),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
