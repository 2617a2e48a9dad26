// SPDX-License-Identifier: Apache-2.0
// Who gets what: every client with every key by every operation, form and algorithm; then what is
// particular to each operation.
#include "hsmd/core.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/rsa.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/text.h"
#include "tests/support/custodian.h"

static struct custodian custodian;
static struct buf attributes; // good ones, SHA-256
static struct buf attributes512;
static struct buf frame;  // the newest reply
static uint8_t point[65]; // a peer's public point
static uint8_t wrapped_pkcs1[256];
static uint8_t wrapped_oaep[256];
static const char content_key[] = "0123456789abcdef";

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

static int setup(void **state)
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

static int teardown(void **state)
{
    (void)state;
    buf_clear(&attributes);
    buf_clear(&attributes512);
    buf_clear(&frame);
    custodian_teardown(&custodian);
    return 0;
}

static struct wire_request make_sign(const char *key, enum wire_algorithm algorithm,
                                     enum wire_form form)
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

static struct wire_request make_eddsa(const char *key, enum wire_form form)
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

static struct wire_request make_unwrap(const char *key, bool oaep)
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

static struct wire_request make_agree(const char *key)
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

// Class of the answer; -1: none.
static int call(enum custodian_client client, const struct wire_request *request,
                struct wire_reply *reply)
{
    struct wire_reply ignored;
    if (!reply)
        reply = &ignored;
    return custodian_call(&custodian, client, request, reply, &frame) ? (int)reply->class : -1;
}

#define PURPOSE(purpose) (1u << (purpose))
#define STATE(state) (1u << (state))
#define CLIENT(client) (1u << (client))

// What a request is good for: the matrix by its allowed cells. All else is refused.
static const struct cell {
    const char *name;
    enum wire_algorithm algorithm;
    enum wire_form form;
    unsigned type;
    unsigned purposes;
    unsigned states;
    unsigned clients; // CUSTODIAN_ONE is besides bound to one key
} cells[] = {
    {"pkcs1 of attributes", WIRE_RSA_PKCS1, WIRE_ATTRIBUTES, CUSTODIAN_RSA,
     PURPOSE(WIRE_SMIME_SIGN), STATE(WIRE_ENABLED),
     CLIENT(CUSTODIAN_ALL) | CLIENT(CUSTODIAN_SIGNER) | CLIENT(CUSTODIAN_ONE)},
    {"pkcs1 of a digest", WIRE_RSA_PKCS1, WIRE_DIGEST, CUSTODIAN_RSA, PURPOSE(WIRE_GENERAL),
     STATE(WIRE_ENABLED), CLIENT(CUSTODIAN_ALL) | CLIENT(CUSTODIAN_SIGNER)},
    {"pss of attributes", WIRE_RSA_PSS, WIRE_ATTRIBUTES, CUSTODIAN_RSA, PURPOSE(WIRE_SMIME_SIGN),
     STATE(WIRE_ENABLED),
     CLIENT(CUSTODIAN_ALL) | CLIENT(CUSTODIAN_SIGNER) | CLIENT(CUSTODIAN_PSS) |
         CLIENT(CUSTODIAN_ONE)},
    {"pss of a digest", WIRE_RSA_PSS, WIRE_DIGEST, CUSTODIAN_RSA, PURPOSE(WIRE_GENERAL),
     STATE(WIRE_ENABLED), CLIENT(CUSTODIAN_ALL) | CLIENT(CUSTODIAN_SIGNER) | CLIENT(CUSTODIAN_PSS)},
    {"ecdsa of attributes", WIRE_ECDSA, WIRE_ATTRIBUTES, CUSTODIAN_EC, PURPOSE(WIRE_SMIME_SIGN),
     STATE(WIRE_ENABLED), CLIENT(CUSTODIAN_ALL) | CLIENT(CUSTODIAN_SIGNER)},
    {"ecdsa of a digest", WIRE_ECDSA, WIRE_DIGEST, CUSTODIAN_EC, PURPOSE(WIRE_GENERAL),
     STATE(WIRE_ENABLED), CLIENT(CUSTODIAN_ALL) | CLIENT(CUSTODIAN_SIGNER)},
    {"ed25519 of attributes", WIRE_EDDSA, WIRE_ATTRIBUTES, CUSTODIAN_ED25519,
     PURPOSE(WIRE_SMIME_SIGN), STATE(WIRE_ENABLED),
     CLIENT(CUSTODIAN_ALL) | CLIENT(CUSTODIAN_SIGNER)},
    {"ed25519 of a message", WIRE_EDDSA, WIRE_MESSAGE, CUSTODIAN_ED25519, PURPOSE(WIRE_GENERAL),
     STATE(WIRE_ENABLED), CLIENT(CUSTODIAN_ALL) | CLIENT(CUSTODIAN_SIGNER)},
    {"unwrap pkcs1", WIRE_RSAES_PKCS1, 0, CUSTODIAN_RSA,
     PURPOSE(WIRE_SMIME_DECRYPT) | PURPOSE(WIRE_GENERAL), STATE(WIRE_ENABLED) | STATE(WIRE_RETIRED),
     CLIENT(CUSTODIAN_ALL) | CLIENT(CUSTODIAN_OPENER)},
    {"unwrap oaep", WIRE_RSAES_OAEP, 0, CUSTODIAN_RSA,
     PURPOSE(WIRE_SMIME_DECRYPT) | PURPOSE(WIRE_GENERAL), STATE(WIRE_ENABLED) | STATE(WIRE_RETIRED),
     CLIENT(CUSTODIAN_ALL) | CLIENT(CUSTODIAN_OPENER)},
    {"agree", WIRE_ECDH_X963, 0, CUSTODIAN_EC, PURPOSE(WIRE_SMIME_DECRYPT) | PURPOSE(WIRE_GENERAL),
     STATE(WIRE_ENABLED) | STATE(WIRE_RETIRED), CLIENT(CUSTODIAN_ALL) | CLIENT(CUSTODIAN_OPENER)},
};

static struct wire_request make(const struct cell *cell, const char *key)
{
    if (cell->algorithm == WIRE_RSAES_PKCS1 || cell->algorithm == WIRE_RSAES_OAEP)
        return make_unwrap(key, cell->algorithm == WIRE_RSAES_OAEP);
    if (cell->algorithm == WIRE_ECDH_X963)
        return make_agree(key);
    if (cell->algorithm == WIRE_EDDSA)
        return make_eddsa(key, cell->form);
    return make_sign(key, cell->algorithm, cell->form);
}

static bool check_signature(unsigned type, const struct cell *cell, struct bytes signature)
{
    uint8_t digest[HASH_SIZE_MAX];
    struct bytes hashed = bytes_of(attributes.data, 32);
    if (cell->form == WIRE_ATTRIBUTES) {
        assert_int_equal(hash_digest(HASH_SHA256, buf_bytes(&attributes), digest), ERR_OK);
        hashed = bytes_of(digest, 32);
    }
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(memstore_key_pkey(custodian.stores[type]), NULL);
    bool ok = EVP_PKEY_verify_init(ctx) > 0 &&
              EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()) > 0 &&
              (cell->algorithm != WIRE_RSA_PSS ||
               (EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) > 0 &&
                EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) > 0)) &&
              EVP_PKEY_verify(ctx, signature.data, signature.len, hashed.data, hashed.len) == 1;
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static bool check_eddsa(const struct cell *cell, struct bytes signature)
{
    struct wire_request request = make_eddsa("any", cell->form);
    struct bytes message = request.sign.data;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = EVP_DigestVerifyInit(ctx, NULL, NULL, NULL,
                                   memstore_key_pkey(custodian.stores[CUSTODIAN_ED25519])) > 0 &&
              EVP_DigestVerify(ctx, signature.data, signature.len, message.data, message.len) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

static bool is_right_answer(const struct cell *cell, unsigned type, const struct wire_reply *reply)
{
    if (cell->algorithm == WIRE_ECDH_X963)
        return reply->secret.len == 32;
    if (cell->algorithm == WIRE_RSAES_PKCS1 || cell->algorithm == WIRE_RSAES_OAEP)
        return bytes_equal(reply->secret, bytes_of(content_key, 16));
    if (cell->algorithm == WIRE_EDDSA)
        return check_eddsa(cell, reply->signature);
    return check_signature(type, cell, reply->signature);
}

// One cell of the matrix: the answer, that the key was used or not, that one line says which.
static bool check_cell(const struct cell *cell, unsigned client, unsigned type,
                       enum wire_purpose purpose, enum wire_state state)
{
    char key[TEXT_NAME_MAX + 1];
    char last[AUDIT_LINE_MAX];
    struct wire_reply reply;
    custodian_key_name(type, purpose, state, key);
    bool is_granted = client != CUSTODIAN_ONE || strcmp(key, "rsa.smime-sign.enabled") == 0;
    bool expected = is_granted && cell->type == type && (cell->purposes & PURPOSE(purpose)) &&
                    (cell->states & STATE(state)) && (cell->clients & CLIENT(client));
    struct wire_request request = make(cell, key);
    unsigned used = memstore_used();
    unsigned lines = custodian_audit_lines(&custodian, NULL, 0);
    int class = call((enum custodian_client)client, &request, &reply);
    used = memstore_used() - used;
    lines = custodian_audit_lines(&custodian, last, sizeof last) - lines;
    bool ok = false;
    if (client == CUSTODIAN_STRANGER)
        ok = class == -1 && used == 0 && lines == 0;
    else if (expected)
        ok = class == ERR_OK && used == 1 && lines == 1 && strstr(last, "\"event\":\"use\"") &&
             strstr(last, "\"result\":\"ok\"") && is_right_answer(cell, type, &reply);
    else
        ok = (class == ERR_DENIED || class == ERR_PERM) && used == 0 && lines == 1 &&
             strstr(last, "\"event\":\"refuse\"");
    if (!ok)
        print_error("%s, client %u, key %s: class %d, used %u, lines %u %s\n", cell->name, client,
                    key, class, used, lines, last);
    return ok;
}

static void test_matrix(void **state)
{
    (void)state;
    unsigned failures = 0;
    unsigned checked = 0;
    for (unsigned client = 0; client < CUSTODIAN_CLIENTS; client++) {
        // A log of its own, so that reading it over and over stays quick.
        assert_int_equal(remove(custodian.audit_path), 0);
        assert_int_equal(audit_reopen(custodian.audit, NULL), ERR_OK);
        for (size_t c = 0; c < sizeof cells / sizeof *cells; c++) {
            for (unsigned n = 0; n < CUSTODIAN_TYPES * 9; n++, checked++)
                failures +=
                    !check_cell(&cells[c], client, n % CUSTODIAN_TYPES,
                                (enum wire_purpose)(WIRE_SMIME_SIGN + n / CUSTODIAN_TYPES % 3),
                                (enum wire_state)(WIRE_ENABLED + n / (3 * CUSTODIAN_TYPES)));
        }
    }
    assert_int_equal(failures, 0);
    assert_int_equal(checked, CUSTODIAN_CLIENTS * 11 * 27);
}

// What does not go together with Ed25519 is refused before the key is asked.
static void test_eddsa(void **state)
{
    (void)state;
    static const struct {
        const char *name, *key;
        enum wire_form form;
        enum hash hash;
        unsigned salt;
        enum err err;
    } rows[] = {
        {"a message", "ed25519.general.enabled", WIRE_MESSAGE, HASH_NONE, 0, ERR_OK},
        {"a message with a hash", "ed25519.general.enabled", WIRE_MESSAGE, HASH_SHA512, 0,
         ERR_PERM},
        {"a message with salt", "ed25519.general.enabled", WIRE_MESSAGE, HASH_NONE, 1, ERR_PERM},
        {"a digest", "ed25519.general.enabled", WIRE_DIGEST, HASH_SHA512, 0, ERR_PERM},
        {"a digest without a hash", "ed25519.general.enabled", WIRE_DIGEST, HASH_NONE, 0, ERR_PERM},
        {"attributes with a general key", "ed25519.general.enabled", WIRE_ATTRIBUTES, HASH_SHA512,
         0, ERR_DENIED},
        {"attributes", "ed25519.smime-sign.enabled", WIRE_ATTRIBUTES, HASH_SHA512, 0, ERR_OK},
        {"attributes of SHA-256", "ed25519.smime-sign.enabled", WIRE_ATTRIBUTES, HASH_SHA256, 0,
         ERR_PERM},
        {"a message that is none of S/MIME", "ed25519.smime-sign.enabled", WIRE_MESSAGE, HASH_NONE,
         0, ERR_DENIED},
        {"a retired key", "ed25519.general.retired", WIRE_MESSAGE, HASH_NONE, 0, ERR_DENIED},
        {"a key of another type", "ec.general.enabled", WIRE_MESSAGE, HASH_NONE, 0, ERR_PERM},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct wire_request request = make_eddsa(rows[i].key, rows[i].form);
        request.sign.hash = rows[i].hash;
        request.sign.salt = rows[i].salt;
        unsigned used = memstore_used();
        int class = call(CUSTODIAN_ALL, &request, NULL);
        if (class != (int)rows[i].err || memstore_used() - used != (rows[i].err == ERR_OK))
            fail_msg("%s: class %d", rows[i].name, class);
    }
    struct wire_request request = make_sign("ec.general.enabled", WIRE_ECDSA, WIRE_MESSAGE);
    assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_PERM);
}

// hsmd reads attributes for Ed25519 too; bytes that only look like them are not signed.
static void test_eddsa_is_not_blind(void **state)
{
    (void)state;
    struct wire_request request = make_eddsa("ed25519.smime-sign.enabled", WIRE_ATTRIBUTES);
    unsigned used = memstore_used();
    request.sign.data = bytes_of(attributes512.data, attributes512.len - 1);
    assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_PERM);
    request.sign.data = BYTES_LITERAL("a message");
    assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_PERM);
    request.sign.data = buf_bytes(&attributes); // their message-digest is of SHA-256
    assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_PERM);
    assert_int_equal(memstore_used(), used);
}

// The log tells a message by its SHA-512, attributes by their message-digest.
static void test_eddsa_in_the_log(void **state)
{
    (void)state;
    char last[AUDIT_LINE_MAX];
    uint8_t digest[HASH_SIZE_MAX];
    struct buf hex;
    struct wire_request request = make_eddsa("ed25519.general.enabled", WIRE_MESSAGE);
    assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_OK);
    custodian_audit_lines(&custodian, last, sizeof last);
    assert_int_equal(hash_digest(HASH_SHA512, request.sign.data, digest), ERR_OK);
    buf_init(&hex, 256);
    assert_int_equal(text_put_hex(&hex, bytes_of(digest, 64)), ERR_OK);
    assert_non_null(strstr(last, buf_text(&hex)));
    assert_non_null(strstr(last, "\"algorithm\":\"ed25519\""));
    assert_non_null(strstr(last, "\"hash\":\"sha512\""));
    request = make_eddsa("ed25519.smime-sign.enabled", WIRE_ATTRIBUTES);
    assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_OK);
    custodian_audit_lines(&custodian, last, sizeof last);
    buf_reset(&hex);
    memset(digest, 0xd1, sizeof digest); // custodian_attributes
    assert_int_equal(text_put_hex(&hex, bytes_of(digest, 64)), ERR_OK);
    assert_non_null(strstr(last, buf_text(&hex)));
    buf_clear(&hex);
}

static void test_key_list(void **state)
{
    (void)state;
    struct wire_request request = make_sign("rsa.listed", WIRE_RSA_PKCS1, WIRE_DIGEST);
    assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_OK);
    request = make_sign("rsa.listed", WIRE_RSA_PSS, WIRE_DIGEST);
    assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_DENIED);
    request = make_unwrap("rsa.listed", true);
    assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_OK);
    request = make_unwrap("rsa.listed", false);
    assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_DENIED);
}

// A key that is not there and one that is not granted look the same.
static void test_no_such_key(void **state)
{
    (void)state;
    struct wire_request request = make_sign("nothing", WIRE_RSA_PKCS1, WIRE_ATTRIBUTES);
    assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_DENIED);
    struct buf other = frame;
    buf_init(&frame, WIRE_FRAME_MAX);
    request = make_sign("rsa.smime-sign.enabled", WIRE_RSA_PKCS1, WIRE_ATTRIBUTES);
    assert_int_equal(call(CUSTODIAN_NONE, &request, NULL), ERR_DENIED);
    assert_true(bytes_equal(buf_bytes(&frame), buf_bytes(&other)));
    buf_clear(&other);
}

static void test_sign_details(void **state)
{
    (void)state;
    static const struct {
        const char *name, *key;
        enum wire_algorithm algorithm;
        enum hash hash;
        unsigned salt;
        enum wire_form form;
        size_t digest_len; // of a digest
        enum err expected;
    } rows[] = {
        {"digest too short", "rsa.general.enabled", WIRE_RSA_PKCS1, HASH_SHA256, 0, WIRE_DIGEST, 31,
         ERR_PERM},
        {"digest of another hash", "rsa.general.enabled", WIRE_RSA_PKCS1, HASH_SHA512, 0,
         WIRE_DIGEST, 32, ERR_PERM},
        {"sha1 digest, general", "rsa.general.enabled", WIRE_RSA_PKCS1, HASH_SHA1, 0, WIRE_DIGEST,
         20, ERR_OK},
        {"no hash", "rsa.general.enabled", WIRE_RSA_PKCS1, HASH_NONE, 0, WIRE_DIGEST, 32, ERR_PERM},
        {"salt without pss", "rsa.general.enabled", WIRE_RSA_PKCS1, HASH_SHA256, 32, WIRE_DIGEST,
         32, ERR_PERM},
        {"pss, long salt, general", "rsa.general.enabled", WIRE_RSA_PSS, HASH_SHA256, 222,
         WIRE_DIGEST, 32, ERR_OK},
        {"pss, salt too long", "rsa.general.enabled", WIRE_RSA_PSS, HASH_SHA256, 223, WIRE_DIGEST,
         32, ERR_PERM},
        {"pss, salt 0, general", "rsa.general.enabled", WIRE_RSA_PSS, HASH_SHA256, 0, WIRE_DIGEST,
         32, ERR_OK},
        {"pss, salt 0, smime", "rsa.smime-sign.enabled", WIRE_RSA_PSS, HASH_SHA256, 0,
         WIRE_ATTRIBUTES, 0, ERR_PERM},
        {"pss, salt 20, smime", "rsa.smime-sign.enabled", WIRE_RSA_PSS, HASH_SHA256, 20,
         WIRE_ATTRIBUTES, 0, ERR_PERM},
        {"sha1, smime", "rsa.smime-sign.enabled", WIRE_RSA_PKCS1, HASH_SHA1, 0, WIRE_ATTRIBUTES, 0,
         ERR_DENIED},
        {"attributes of another hash", "rsa.smime-sign.enabled", WIRE_RSA_PKCS1, HASH_SHA384, 0,
         WIRE_ATTRIBUTES, 0, ERR_PERM},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct wire_request request = make_sign(rows[i].key, rows[i].algorithm, rows[i].form);
        request.sign.hash = rows[i].hash;
        request.sign.salt = rows[i].salt;
        if (rows[i].digest_len)
            request.sign.data.len = rows[i].digest_len;
        int class = call(CUSTODIAN_ALL, &request, NULL);
        if (class != (int)rows[i].expected)
            print_error("%s: %d\n", rows[i].name, class);
        assert_int_equal(class, rows[i].expected);
    }
}

// Something that is no SignedAttributes, though it is as long: promise 4.
static void test_never_blind(void **state)
{
    (void)state;
    unsigned used = memstore_used();
    for (size_t i = 0; i < attributes.len; i++) {
        struct wire_request request =
            make_sign("rsa.smime-sign.enabled", WIRE_RSA_PKCS1, WIRE_ATTRIBUTES);
        request.sign.data.len = i ? i : 1;
        assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_PERM);
    }
    assert_int_equal(memstore_used(), used);
}

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

static void test_list(void **state)
{
    (void)state;
    struct wire_reply reply;
    struct wire_request request = {.operation = WIRE_LIST, .id = 1, .list = {BYTES_LITERAL("")}};
    assert_int_equal(call(CUSTODIAN_ALL, &request, &reply), ERR_OK);
    assert_int_equal(reply.list.count, 28);
    assert_true(bytes_equal(reply.list.names[0], BYTES_LITERAL("ec.general.disabled")));
    request.list.after = BYTES_LITERAL("rsa.smime-sign.enabled");
    assert_int_equal(call(CUSTODIAN_ALL, &request, &reply), ERR_OK);
    assert_int_equal(reply.list.count, 1);
    assert_true(bytes_equal(reply.list.names[0], BYTES_LITERAL("rsa.smime-sign.retired")));
    request.list.after = BYTES_LITERAL("");
    assert_int_equal(call(CUSTODIAN_ONE, &request, &reply), ERR_OK);
    assert_int_equal(reply.list.count, 1);
    assert_int_equal(call(CUSTODIAN_NONE, &request, &reply), ERR_OK);
    assert_int_equal(reply.list.count, 0);
    assert_int_equal(call(CUSTODIAN_STRANGER, &request, &reply), -1);
}

static void test_describe(void **state)
{
    (void)state;
    struct wire_reply reply;
    struct wire_request request = {.operation = WIRE_DESCRIBE,
                                   .id = 2,
                                   .describe = {BYTES_LITERAL("ec.smime-decrypt.disabled")}};
    const struct token_key_info *info = memstore_ops.describe(custodian.stores[CUSTODIAN_EC]);
    assert_int_equal(call(CUSTODIAN_PSS, &request, &reply), ERR_OK);
    assert_int_equal(reply.description.type, WIRE_KEY_EC);
    assert_int_equal(reply.description.purpose, WIRE_SMIME_DECRYPT);
    assert_int_equal(reply.description.state, WIRE_DISABLED);
    assert_int_equal(reply.description.bits, 256);
    assert_true(bytes_equal(reply.description.name, request.describe.key));
    assert_true(bytes_equal(reply.description.public_key, info->public_key));
    assert_true(bytes_equal(reply.description.certificates, BYTES_LITERAL("no real certificate")));
    assert_int_equal(call(CUSTODIAN_ONE, &request, &reply), ERR_DENIED);
    assert_int_equal(call(CUSTODIAN_NONE, &request, &reply), ERR_DENIED);
}

static void test_store_failures(void **state)
{
    (void)state;
    char last[AUDIT_LINE_MAX];
    struct wire_request request =
        make_sign("rsa.smime-sign.enabled", WIRE_RSA_PKCS1, WIRE_ATTRIBUTES);
    static const enum err classes[] = {ERR_TEMP, ERR_PERM, ERR_DENIED, ERR_BUG};
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        memstore_key_break(custodian.stores[CUSTODIAN_RSA], classes[i], 0);
        assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), classes[i]);
        custodian_audit_lines(&custodian, last, sizeof last);
        assert_non_null(strstr(last, "\"event\":\"use\""));
        assert_non_null(strstr(last, "broken by the test"));
        assert_non_null(strstr(last, err_name(classes[i])));
    }
    memstore_key_break(custodian.stores[CUSTODIAN_RSA], ERR_OK, 0);
    assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_OK);
}

static void test_audit_fields(void **state)
{
    (void)state;
    char last[AUDIT_LINE_MAX];
    struct wire_request request =
        make_sign("rsa.smime-sign.enabled", WIRE_RSA_PSS, WIRE_ATTRIBUTES);
    request.id = UINT64_MAX;
    assert_int_equal(call(CUSTODIAN_PSS, &request, NULL), ERR_OK);
    custodian_audit_lines(&custodian, last, sizeof last);
    assert_non_null(strstr(
        last,
        "\"event\":\"use\",\"client\":\"pss\",\"key\":\"rsa.smime-sign.enabled\",\"operation\":"
        "\"sign\",\"algorithm\":\"rsa-pss\",\"hash\":\"sha256\",\"id\":18446744073709551615,"
        "\"result\":\"ok\",\"message_digest\":"
        "\"d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1\",\"prev\":\""));
    request = make_unwrap("rsa.general.retired", false);
    assert_int_equal(call(CUSTODIAN_ALL, &request, NULL), ERR_OK);
    custodian_audit_lines(&custodian, last, sizeof last);
    uint8_t hashed[32];
    char expected[100] = "\"ciphertext_sha256\":\"";
    assert_int_equal(hash_digest(HASH_SHA256, request.unwrap.ciphertext, hashed), ERR_OK);
    for (size_t i = 0; i < 32; i++)
        snprintf(expected + strlen(expected), 3, "%02x", hashed[i]);
    assert_non_null(strstr(last, expected));
    assert_null(strstr(last, "0123456789abcdef0"));
}

// Promise 6, the short form; tests/fuzz/hsmd_core.c is the long one.
static void test_malformed(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct bytes frame;
        uint64_t id;
    } rows[] = {
        {"empty", {NULL, 0}, 0},
        {"an array of nothing", {(const uint8_t *)"\x90", 1}, 0},
        {"a map", {(const uint8_t *)"\x80", 1}, 0},
        {"unknown operation", {(const uint8_t *)"\x93\x01\x63\x07", 4}, 7},
        {"unknown version", {(const uint8_t *)"\x94\x02\x04\x07\xa0", 5}, 7},
        {"list without its field", {(const uint8_t *)"\x93\x01\x04\x07", 4}, 7},
        {"list with a trailing byte", {(const uint8_t *)"\x94\x01\x04\x07\xa0\x00", 6}, 7},
        {"8 GiB in six bytes", {(const uint8_t *)"\xdd\x0f\xff\xff\xff\x01", 6}, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct wire_reply reply;
        buf_reset(&frame);
        assert_true(core_handle(&custodian.core, &custodian.worker,
                                custodian.public_keys[CUSTODIAN_ALL], rows[i].frame,
                                deadline_in(1000), &frame));
        assert_int_equal(wire_decode_reply(WIRE_LIST, buf_bytes(&frame), &reply, NULL), ERR_OK);
        assert_int_equal(reply.class, ERR_PERM);
        assert_int_equal(reply.id, rows[i].id);
        buf_reset(&frame);
        assert_false(core_handle(&custodian.core, &custodian.worker, NULL, rows[i].frame,
                                 deadline_in(1000), &frame));
        assert_int_equal(frame.len, 0);
        core_refuse(rows[i].frame, ERR_TEMP, &frame);
        assert_int_equal(wire_decode_reply(WIRE_LIST, buf_bytes(&frame), &reply, NULL), ERR_OK);
        assert_int_equal(reply.class, ERR_PERM);
    }
}

// A client that has itself refused over and over fills neither log: its first refusals have their
// lines, then there is a count. Uses, and other clients, have theirs all the time.
static void test_refusals_are_counted(void **state)
{
    (void)state;
    char last[AUDIT_LINE_MAX];
    const unsigned over = 1000;
    struct wire_request refused =
        make_sign("rsa.smime-sign.enabled", WIRE_RSA_PKCS1, WIRE_ATTRIBUTES);
    assert_int_equal(refusals_new(&custodian.core.refusals), ERR_OK);
    unsigned before = custodian_audit_lines(&custodian, NULL, 0);
    for (unsigned i = 0; i < REFUSALS_MAX + over; i++)
        assert_int_equal(call(CUSTODIAN_NONE, &refused, NULL), ERR_DENIED);
    assert_int_equal(custodian_audit_lines(&custodian, NULL, 0) - before, REFUSALS_MAX);
    core_tell_refusals(&custodian.core, clock_ms());
    assert_int_equal(custodian_audit_lines(&custodian, NULL, 0) - before, REFUSALS_MAX);
    assert_int_equal(call(CUSTODIAN_OPENER, &refused, NULL), ERR_DENIED); // another one
    assert_int_equal(custodian_audit_lines(&custodian, NULL, 0) - before, REFUSALS_MAX + 1);
    for (unsigned i = 0; i < 2 * REFUSALS_MAX; i++)
        assert_int_equal(call(CUSTODIAN_SIGNER, &refused, NULL), ERR_OK);
    before += 3 * REFUSALS_MAX + 1;
    assert_int_equal(custodian_audit_lines(&custodian, NULL, 0), before);
    core_tell_refusals(&custodian.core, clock_ms() + REFUSALS_TIME_MS);
    assert_int_equal(custodian_audit_lines(&custodian, last, sizeof last), before + 1);
    assert_non_null(strstr(last, "\"event\":\"refuse\",\"client\":\"none\""));
    assert_non_null(strstr(last, "\"1000 more refusals"));
    core_tell_refusals(&custodian.core, REFUSALS_ALL);
    assert_int_equal(custodian_audit_lines(&custodian, NULL, 0), before + 1); // once
    refusals_free(custodian.core.refusals);
    custodian.core.refusals = NULL;
}

// The minute is over: the next refusals have lines again, and the count is not lost.
static void test_refusals_next_minute(void **state)
{
    (void)state;
    struct refusals *refusals;
    char client[TEXT_NAME_MAX + 1];
    uint64_t count = 0;
    assert_int_equal(refusals_new(&refusals), ERR_OK);
    for (unsigned i = 0; i < REFUSALS_MAX; i++)
        assert_true(refusals_admit(refusals, "a", 1000 + i));
    assert_false(refusals_admit(refusals, "a", 2000));
    assert_false(refusals_take(refusals, 999 + REFUSALS_TIME_MS, client, &count));
    assert_true(refusals_admit(refusals, "a", 1000 + REFUSALS_TIME_MS));
    assert_true(refusals_take(refusals, REFUSALS_ALL, client, &count));
    assert_string_equal(client, "a");
    assert_int_equal(count, 1);
    assert_false(refusals_take(refusals, REFUSALS_ALL, client, &count));
    refusals_put_back(refusals, "a", 5);
    assert_true(refusals_take(refusals, REFUSALS_ALL, client, &count));
    assert_int_equal(count, 5);
    refusals_free(refusals);
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

// Memory runs out at every place there is: "temp", or what it would have been; and then all is well
// again.
static void test_allocations(void **state)
{
    (void)state;
    const struct wire_request requests[] = {
        make_sign("rsa.smime-sign.enabled", WIRE_RSA_PKCS1, WIRE_ATTRIBUTES),
        make_unwrap("rsa.smime-decrypt.enabled", true),
        make_agree("ec.smime-decrypt.enabled"),
        {.operation = WIRE_DESCRIBE, .id = 5, .describe = {BYTES_LITERAL("rsa.listed")}}};
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        struct buf encoded;
        buf_init(&encoded, WIRE_FRAME_MAX);
        assert_int_equal(wire_encode_request(&requests[i], &encoded), ERR_OK);
        for (unsigned n = 1; n <= 12; n++) {
            struct wire_reply reply;
            struct buf fresh;
            buf_init(&fresh, WIRE_FRAME_MAX);
            mem_fail_at(n);
            assert_true(core_handle(&custodian.core, &custodian.worker,
                                    custodian.public_keys[CUSTODIAN_ALL], buf_bytes(&encoded),
                                    deadline_in(60000), &fresh));
            mem_fail_at(0);
            if (fresh.len) {
                assert_int_equal(
                    wire_decode_reply(requests[i].operation, buf_bytes(&fresh), &reply, NULL),
                    ERR_OK);
                assert_true(reply.class == ERR_OK || reply.class == ERR_TEMP);
            }
            buf_clear(&fresh);
        }
        assert_int_equal(call(CUSTODIAN_ALL, &requests[i], NULL), ERR_OK);
        buf_clear(&encoded);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matrix),
        cmocka_unit_test(test_eddsa),
        cmocka_unit_test(test_eddsa_is_not_blind),
        cmocka_unit_test(test_eddsa_in_the_log),
        cmocka_unit_test(test_key_list),
        cmocka_unit_test(test_no_such_key),
        cmocka_unit_test(test_sign_details),
        cmocka_unit_test(test_never_blind),
        cmocka_unit_test(test_unwrap_details),
        cmocka_unit_test(test_agree_value),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_describe),
        cmocka_unit_test(test_store_failures),
        cmocka_unit_test(test_audit_fields),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_allocations),
        cmocka_unit_test(test_unwrap_sizes),
        cmocka_unit_test(test_refusals_are_counted),
        cmocka_unit_test(test_refusals_next_minute),
        cmocka_unit_test(test_secrets_are_wiped),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
