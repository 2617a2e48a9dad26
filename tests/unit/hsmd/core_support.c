// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/hsmd/core_support.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/rsa.h>

struct custodian custodian;
struct buf attributes;
struct buf attributes512;
struct buf frame;
uint8_t point[65];
uint8_t wrapped_pkcs1[256];
uint8_t wrapped_oaep[256];
const char content_key[17] = "0123456789abcdef";

static void wrap(int padding, uint8_t *out)
{
    size_t len = 256;
    EVP_PKEY *pkey = memstore_key_pkey(custodian.stores[CUSTODIAN_RSA]);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pkey, NULL);
    assert_true(EVP_PKEY_encrypt_init(ctx) > 0);
    assert_true(EVP_PKEY_CTX_set_rsa_padding(ctx, padding) > 0);
    if (padding == RSA_PKCS1_OAEP_PADDING)
        assert_true(EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_sha256()) > 0);
    assert_true(EVP_PKEY_encrypt(ctx, out, &len, (const uint8_t *)content_key, 16) > 0);
    EVP_PKEY_CTX_free(ctx);
}

int setup(void **state)
{
    (void)state;
    size_t len = 0;
    custodian_setup(&custodian);
    buf_init(&attributes, 4096);
    buf_init(&frame, WIRE_FRAME_MAX);
    custodian_attributes(HASH_SHA256, &attributes);
    buf_init(&attributes512, 4096);
    custodian_attributes(HASH_SHA512, &attributes512);
    EVP_PKEY *peer = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    EVP_PKEY_get_octet_string_param(peer, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point, &len);
    EVP_PKEY_free(peer);
    assert_int_equal(len, sizeof point);
    wrap(RSA_PKCS1_PADDING, wrapped_pkcs1);
    wrap(RSA_PKCS1_OAEP_PADDING, wrapped_oaep);
    return 0;
}

int teardown(void **state)
{
    (void)state;
    buf_clear(&attributes);
    buf_clear(&attributes512);
    buf_clear(&frame);
    custodian_teardown(&custodian);
    return 0;
}

struct wire_request make_sign(const char *key, enum wire_algorithm algorithm, enum wire_form form)
{
    return (struct wire_request){.operation = WIRE_SIGN,
                                 .id = 77,
                                 .sign = {.key = bytes_of_text(key),
                                          .algorithm = algorithm,
                                          .hash = HASH_SHA256,
                                          .salt = algorithm == WIRE_RSA_PSS ? 32 : 0,
                                          .form = form,
                                          .data = form == WIRE_DIGEST
                                                      ? bytes_of(attributes.data, 32)
                                                      : buf_bytes(&attributes)}};
}

struct wire_request make_eddsa(const char *key, enum wire_form form)
{
    return (struct wire_request){.operation = WIRE_SIGN,
                                 .id = 76,
                                 .sign = {.key = bytes_of_text(key),
                                          .algorithm = WIRE_EDDSA,
                                          .hash = form == WIRE_MESSAGE ? HASH_NONE : HASH_SHA512,
                                          .form = form,
                                          .data = form == WIRE_MESSAGE
                                                      ? BYTES_LITERAL("a message of any length")
                                                      : buf_bytes(&attributes512)}};
}

struct wire_request make_unwrap(const char *key, bool oaep)
{
    return (struct wire_request){
        .operation = WIRE_UNWRAP,
        .id = 78,
        .unwrap = {.key = bytes_of_text(key),
                   .algorithm = oaep ? WIRE_RSAES_OAEP : WIRE_RSAES_PKCS1,
                   .hash = oaep ? HASH_SHA256 : HASH_NONE,
                   .mgf_hash = oaep ? HASH_SHA256 : HASH_NONE,
                   .length = oaep ? 0 : 16,
                   .ciphertext = bytes_of(oaep ? wrapped_oaep : wrapped_pkcs1, 256)}};
}

struct wire_request make_agree(const char *key)
{
    return (struct wire_request){.operation = WIRE_AGREE,
                                 .id = 79,
                                 .agree = {.key = bytes_of_text(key),
                                           .algorithm = WIRE_ECDH_X963,
                                           .hash = HASH_SHA256,
                                           .peer = bytes_of(point, sizeof point),
                                           .info = BYTES_LITERAL("info"),
                                           .length = 32}};
}

int call(enum custodian_client client, const struct wire_request *request, struct wire_reply *reply)
{
    struct wire_reply ignored;
    if (!reply)
        reply = &ignored;
    return custodian_call(&custodian, client, request, reply, &frame) ? (int)reply->class : -1;
}
