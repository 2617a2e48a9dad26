// SPDX-License-Identifier: Apache-2.0
// Promise 5, seen from the wire: the PKCS#1 v1.5 cases of the Wycheproof project as unwrap requests
// through the core. What is well padded and what is not get answers of one class, one length and
// one form; only a ciphertext that everybody can see to be none of this key's is refused.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/x509.h>

#include "hsmd/base/text.h"
#include "tests/support/custodian.h"

#define CASES 67
#define MODULUS 256 // bytes
#define KEY "rsa.smime-decrypt.enabled"

static struct custodian custodian;

static struct {
    unsigned valid, invalid, refused; // cases
    size_t frame_len;                 // of every answer so far; 0: none yet
} seen;

static int setup(void **state)
{
    (void)state;
    custodian_setup(&custodian);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    custodian_teardown(&custodian);
    return 0;
}

static struct buf hex(const json_t *object, const char *name)
{
    struct buf value;
    const char *text = json_string_value(json_object_get(object, name));
    buf_init(&value, 65536);
    assert_non_null(text);
    assert_int_equal(text_get_hex(text, &value), ERR_OK);
    return value;
}

static EVP_PKEY *read_key(const json_t *group)
{
    struct buf der = hex(group, "privateKeyPkcs8");
    const uint8_t *at = der.data;
    EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &at, (long)der.len);
    assert_non_null(key);
    buf_clear(&der);
    return key;
}

// As long as the modulus and below it: whoever sends it can see that, too.
static bool is_of_key(const struct buf *ciphertext)
{
    BIGNUM *n = NULL;
    EVP_PKEY *key = memstore_key_pkey(custodian.stores[CUSTODIAN_RSA]);
    assert_int_equal(EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_N, &n), 1);
    BIGNUM *number = BN_bin2bn(buf_bytes(ciphertext).data, (int)ciphertext->len, NULL);
    bool is_below = ciphertext->len == MODULUS && BN_cmp(number, n) < 0;
    BN_free(number);
    BN_free(n);
    return is_below;
}

static void ask(const struct buf *ciphertext, size_t length, struct wire_reply *reply,
                struct buf *frame)
{
    const struct wire_request request = {.operation = WIRE_UNWRAP,
                                         .id = 7,
                                         .unwrap = {.key = bytes_of_text(KEY),
                                                    .algorithm = WIRE_RSAES_PKCS1,
                                                    .length = (unsigned)length,
                                                    .ciphertext = buf_bytes(ciphertext)}};
    assert_true(custodian_call(&custodian, CUSTODIAN_OPENER, &request, reply, frame));
}

// All but the secret and its length: the octets before, how many there are, zeros behind it.
static void assert_shape(const struct wire_reply *reply, const struct buf *frame, size_t length)
{
    static uint8_t head[16];
    static size_t head_len;
    struct bytes secret = reply->unwrapped.secret;
    const uint8_t *end = frame->data + frame->len;
    if (!seen.frame_len) {
        seen.frame_len = frame->len;
        head_len = frame->len - MODULUS - WIRE_LENGTH_SIZE;
        assert_true(head_len <= sizeof head);
        memcpy(head, frame->data, head_len);
    }
    assert_int_equal(frame->len, seen.frame_len);
    assert_memory_equal(frame->data, head, head_len);
    assert_int_equal(reply->unwrapped.size, MODULUS);
    assert_true(length ? secret.len == length : secret.len <= MODULUS - 11);
    assert_ptr_equal(secret.data, end - MODULUS);
    for (const uint8_t *at = secret.data + secret.len; at < end; at++)
        assert_int_equal(*at, 0);
}

// What is written down of it tells nothing either.
static void assert_audited_as_ok(void)
{
    char line[2048];
    custodian_audit_lines(&custodian, line, sizeof line);
    assert_non_null(strstr(line, "\"result\":\"ok\""));
    assert_null(strstr(line, "\"reason\""));
}

static void answer_one(const struct buf *ciphertext, const struct buf *message, size_t length,
                       bool is_valid)
{
    struct wire_reply reply, again;
    struct buf frame, frame_again;
    buf_init(&frame, WIRE_FRAME_MAX);
    buf_init(&frame_again, WIRE_FRAME_MAX);
    ask(ciphertext, length, &reply, &frame);
    assert_int_equal(reply.class, ERR_OK);
    assert_shape(&reply, &frame, length);
    assert_audited_as_ok();
    bool is_message = bytes_equal(reply.unwrapped.secret, buf_bytes(message));
    bool may_be_right = is_valid && (length == 0 || length == message->len);
    // A synthetic message may be empty, as the one it stands for.
    assert_true(may_be_right ? is_message : !is_message || message->len == 0);
    // Asked again it is the same, so that nothing is learnt from that.
    ask(ciphertext, length, &again, &frame_again);
    assert_true(bytes_equal(buf_bytes(&frame), buf_bytes(&frame_again)));
    buf_clear(&frame);
    buf_clear(&frame_again);
}

static void refuse_one(const struct buf *ciphertext)
{
    struct wire_reply reply = {.class = ERR_OK};
    struct buf frame;
    buf_init(&frame, WIRE_FRAME_MAX);
    ask(ciphertext, 0, &reply, &frame);
    assert_int_equal(reply.class, ERR_PERM);
    buf_clear(&frame);
}

static void check(const json_t *test)
{
    struct buf ciphertext = hex(test, "ct");
    struct buf message = hex(test, "msg");
    bool is_valid = strcmp(json_string_value(json_object_get(test, "result")), "valid") == 0;
    const size_t lengths[] = {0, message.len, 16, 32, MODULUS - 11};
    if (!is_of_key(&ciphertext)) {
        assert_false(is_valid);
        refuse_one(&ciphertext);
        seen.refused++;
    } else {
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
            answer_one(&ciphertext, &message, lengths[i], is_valid);
        seen.valid += is_valid;
        seen.invalid += !is_valid;
    }
    buf_clear(&ciphertext);
    buf_clear(&message);
}

static void test_wycheproof(void **state)
{
    (void)state;
    json_error_t error;
    size_t i, n;
    json_t *group, *test;
    json_t *root = json_load_file(TEST_DATA "/wycheproof/rsa_pkcs1_2048.json", 0, &error);
    assert_non_null(root);
    json_array_foreach(json_object_get(root, "testGroups"), i, group)
    {
        memstore_key_replace(custodian.stores[CUSTODIAN_RSA], read_key(group));
        json_array_foreach(json_object_get(group, "tests"), n, test) check(test);
    }
    json_decref(root);
    // Too long, too short, empty, not below the modulus: 6 cases.
    assert_int_equal(seen.refused, 6);
    assert_int_equal(seen.invalid, 19);
    assert_int_equal(seen.valid, CASES - 6 - 19);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_wycheproof)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
