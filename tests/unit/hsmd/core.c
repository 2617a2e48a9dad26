// SPDX-License-Identifier: Apache-2.0
// Who gets what: every client with every key by every operation, form and algorithm; then names,
// lists and descriptions, frames that are none, and memory that runs out.
#include "hsmd/core.h"

#include <string.h>

#include <openssl/rsa.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/text.h"
#include "tests/unit/hsmd/core_support.h"

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
        ok = class == -1 && used == 0 && lines == 1 && strstr(last, "\"event\":\"refuse\"") &&
             strstr(last, custodian.public_keys[CUSTODIAN_STRANGER]);
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
        cmocka_unit_test(test_matrix),      cmocka_unit_test(test_key_list),
        cmocka_unit_test(test_no_such_key), cmocka_unit_test(test_list),
        cmocka_unit_test(test_describe),    cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_allocations),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
