// SPDX-License-Identifier: Apache-2.0
// What encodes decodes to the same; what may not be encoded leaves the buffer as it was.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hsmd/base/alloc.h"
#include "hsmd/wire/table.h"
#include "tests/support/wire_samples.h"

static const char *const size_names[] = {"smallest", "typical", "largest"};

static void test_requests_round_trip(void **state)
{
    (void)state;
    for (size_t i = 0; i < sample_operations_count * SAMPLE_SIZES; i++) {
        enum wire_operation operation = sample_operations[i / SAMPLE_SIZES];
        struct wire_request request = sample_request(operation, i % SAMPLE_SIZES);
        struct wire_request decoded = {0};
        struct detail detail = {0};
        struct buf frame;
        buf_init(&frame, WIRE_FRAME_MAX);
        assert_int_equal(wire_encode_request(&request, &frame), ERR_OK);
        enum err err = wire_decode_request(buf_bytes(&frame), &decoded, &detail);
        if (err != ERR_OK || !sample_request_equal(&request, &decoded))
            fail_msg("%s, %s: %s", wire_operation_name(operation), size_names[i % SAMPLE_SIZES],
                     detail.text);
        buf_clear(&frame);
    }
}

static void test_replies_round_trip(void **state)
{
    (void)state;
    for (size_t i = 0; i < sample_operations_count * SAMPLE_SIZES; i++) {
        enum wire_operation operation = sample_operations[i / SAMPLE_SIZES];
        struct wire_reply reply = sample_reply(operation, i % SAMPLE_SIZES);
        struct wire_reply decoded = {0};
        struct detail detail = {0};
        struct buf frame;
        buf_init(&frame, WIRE_FRAME_MAX);
        assert_int_equal(wire_encode_reply(operation, &reply, &frame), ERR_OK);
        enum err err = wire_decode_reply(operation, buf_bytes(&frame), &decoded, &detail);
        if (err != ERR_OK || !sample_reply_equal(operation, &reply, &decoded))
            fail_msg("%s, %s: %s", wire_operation_name(operation), size_names[i % SAMPLE_SIZES],
                     detail.text);
        buf_clear(&frame);
    }
}

// A reply of another class has no fields, and an operation that is not known can be answered so.
static void test_refusals_round_trip(void **state)
{
    static const enum err classes[] = {ERR_TEMP, ERR_PERM, ERR_DENIED, ERR_BUG};
    (void)state;
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        struct wire_reply reply = {.class = classes[i], .id = 77};
        struct wire_reply decoded = {0};
        struct buf frame;
        buf_init(&frame, WIRE_FRAME_MAX);
        assert_int_equal(wire_encode_reply((enum wire_operation)0, &reply, &frame), ERR_OK);
        assert_int_equal(frame.len, 4);
        assert_int_equal(wire_decode_reply(WIRE_SIGN, buf_bytes(&frame), &decoded, NULL), ERR_OK);
        assert_int_equal(decoded.class, classes[i]);
        assert_int_equal(decoded.id, 77);
        buf_clear(&frame);
    }
}

// Whether encode refuses what is one step over the bound of a field, either way.
static void put_out_of_bounds(const struct wire_field *field, uint8_t *message, bool below)
{
    static const uint8_t filler[WIRE_FRAME_MAX] = {0};
    void *member = message + field->offset;
    if (field->type == WIRE_FIELD_UNWRAPPED)
        *(struct wire_unwrapped *)member =
            (struct wire_unwrapped){bytes_of(filler, 0), below ? field->min - 1 : field->max + 1};
    else if (field->type == WIRE_FIELD_UINT)
        *(unsigned *)member = below ? field->min - 1 : field->max + 1;
    else
        *(struct bytes *)member = bytes_of(filler, below ? field->min - 1 : field->max + 1);
}

static bool has_bound(const struct wire_field *field, bool below)
{
    return field->type != WIRE_FIELD_BOOL && !field->name_of && (!below || field->min > 0);
}

static void assert_not_encoded(enum err err, enum err want, struct buf *frame, const char *name)
{
    if (err != want || frame->len != 4 || memcmp(frame->data, "kept", 5) != 0)
        fail_msg("%s: class %s, %zu bytes", name, err_name(err), frame->len);
}

static void test_bounds_are_kept_on_encoding(void **state)
{
    (void)state;
    unsigned tried = 0;
    for (size_t i = 0; i < sample_operations_count * 2; i++) {
        enum wire_operation operation = sample_operations[i / 2];
        bool below = i % 2;
        struct wire_fields requests = wire_request_fields(operation);
        struct wire_fields replies = wire_reply_fields(operation);
        struct buf frame;
        buf_init(&frame, WIRE_FRAME_MAX);
        assert_int_equal(buf_put_text(&frame, "kept"), ERR_OK);
        for (size_t j = 0; j < requests.count; j++) {
            struct wire_request request = sample_request(operation, SAMPLE_LARGEST);
            if (!has_bound(&requests.rows[j], below))
                continue;
            put_out_of_bounds(&requests.rows[j], (uint8_t *)&request, below);
            assert_not_encoded(wire_encode_request(&request, &frame), ERR_PERM, &frame,
                               requests.rows[j].name);
            tried++;
        }
        for (size_t j = 0; j < replies.count; j++) {
            struct wire_reply reply = sample_reply(operation, SAMPLE_LARGEST);
            if (!has_bound(&replies.rows[j], below))
                continue;
            put_out_of_bounds(&replies.rows[j], (uint8_t *)&reply, below);
            assert_not_encoded(wire_encode_reply(operation, &reply, &frame), ERR_PERM, &frame,
                               replies.rows[j].name);
            tried++;
        }
        buf_clear(&frame);
    }
    assert_true(tried > 30);
}

// Each wrong in one respect, and right without it.
static void test_fields_go_together(void **state)
{
    struct wire_request requests[9];
    struct wire_request *at = requests;
    struct buf frame;
    (void)state;
    buf_init(&frame, WIRE_FRAME_MAX);
    assert_int_equal(buf_put_text(&frame, "kept"), ERR_OK);
    for (size_t i = 0; i < 3; i++)
        requests[i] = sample_request(WIRE_UNWRAP, SAMPLE_LARGEST); // OAEP
    for (size_t i = 3; i < 6; i++)
        requests[i] = sample_request(WIRE_UNWRAP, SAMPLE_TYPICAL);
    requests[6] = sample_request(WIRE_SIGN, SAMPLE_TYPICAL);
    requests[7] = requests[6];
    requests[8] = sample_request(WIRE_AGREE, SAMPLE_TYPICAL);
    (at++)->unwrap.hash = HASH_NONE;
    (at++)->unwrap.mgf_hash = HASH_NONE;
    (at++)->unwrap.length = 32;
    (at++)->unwrap.hash = HASH_SHA256;
    (at++)->unwrap.mgf_hash = HASH_SHA256;
    (at++)->unwrap.label = BYTES_LITERAL("label");
    (at++)->sign.salt = 32;
    (at++)->sign.algorithm = WIRE_RSAES_PKCS1;
    (at++)->agree.hash = HASH_NONE;
    for (at = requests; at < requests + 9; at++)
        assert_not_encoded(wire_encode_request(at, &frame), ERR_PERM, &frame,
                           wire_operation_name(at->operation));
    buf_clear(&frame);
}

static void test_encoding_is_all_or_nothing(void **state)
{
    struct wire_request request = sample_request(WIRE_SIGN, SAMPLE_TYPICAL);
    struct wire_request unknown = {.operation = (enum wire_operation)6};
    struct wire_reply reply = sample_reply(WIRE_SIGN, SAMPLE_TYPICAL);
    struct wire_reply names = sample_reply(WIRE_LIST, SAMPLE_LARGEST);
    struct wire_reply classless = {.class = (enum err)5};
    struct buf frame;
    struct buf small;
    (void)state;
    buf_init(&frame, WIRE_FRAME_MAX);
    buf_init(&small, 60);
    assert_int_equal(buf_put_text(&frame, "kept"), ERR_OK);
    assert_int_equal(buf_put_text(&small, "kept"), ERR_OK);
    assert_not_encoded(wire_encode_request(&request, &small), ERR_PERM, &small, "cap");
    assert_not_encoded(wire_encode_reply(WIRE_SIGN, &reply, &small), ERR_PERM, &small, "cap");
    assert_not_encoded(wire_encode_request(&unknown, &frame), ERR_BUG, &frame, "operation");
    assert_not_encoded(wire_encode_reply((enum wire_operation)6, &reply, &frame), ERR_BUG, &frame,
                       "operation of a reply");
    assert_not_encoded(wire_encode_reply(WIRE_SIGN, &classless, &frame), ERR_BUG, &frame, "class");
    names.list.count = WIRE_LIST_MAX + 1;
    assert_not_encoded(wire_encode_reply(WIRE_LIST, &names, &frame), ERR_PERM, &frame, "names");
    mem_fail_at(1);
    assert_not_encoded(wire_encode_reply(WIRE_SIGN, &reply, &frame), ERR_TEMP, &frame, "memory");
    mem_fail_at(0);
    buf_clear(&frame);
    buf_clear(&small);
}

// One allocation at most, and none after a byte of the frame is written.
static void test_a_secret_is_copied_once(void **state)
{
    struct wire_reply reply = sample_reply(WIRE_UNWRAP, SAMPLE_LARGEST);
    struct buf frame;
    (void)state;
    buf_init(&frame, WIRE_FRAME_MAX);
    mem_fail_at(2);
    assert_int_equal(wire_encode_reply(WIRE_UNWRAP, &reply, &frame), ERR_OK);
    mem_fail_at(0);
    buf_clear(&frame);
}

static void test_names_and_numbers(void **state)
{
    (void)state;
#define X(symbol, number, name, rest)                                            \
    assert_string_equal(wire_operation_name((enum wire_operation)number), name); \
    assert_int_equal(wire_operation_by_name(name), number);
    WIRE_OPERATIONS(X)
#undef X
#define X(symbol, number, name, rest)                                            \
    assert_string_equal(wire_algorithm_name((enum wire_algorithm)number), name); \
    assert_int_equal(wire_algorithm_by_name(name), number);                      \
    assert_int_equal(wire_algorithm_operation((enum wire_algorithm)number), rest);
    WIRE_ALGORITHMS(X)
#undef X
#define X(symbol, number, name, rest)                                        \
    assert_string_equal(wire_purpose_name((enum wire_purpose)number), name); \
    assert_int_equal(wire_purpose_by_name(name), number);
    WIRE_PURPOSES(X)
#undef X
#define X(symbol, number, name, rest)                                    \
    assert_string_equal(wire_state_name((enum wire_state)number), name); \
    assert_int_equal(wire_state_by_name(name), number);
    WIRE_STATES(X)
#undef X
    assert_null(wire_operation_name((enum wire_operation)0));
    assert_null(wire_algorithm_name((enum wire_algorithm)5));
    assert_null(wire_purpose_name((enum wire_purpose)5));
    assert_null(wire_state_name((enum wire_state)0));
    assert_int_equal(wire_operation_by_name("Sign"), 0);
    assert_int_equal(wire_algorithm_by_name(""), 0);
    assert_int_equal(wire_algorithm_operation((enum wire_algorithm)5), 0);
    assert_int_equal(wire_purpose_by_name("general "), 0);
    assert_int_equal(wire_state_by_name("destroyed"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_round_trip),
        cmocka_unit_test(test_replies_round_trip),
        cmocka_unit_test(test_refusals_round_trip),
        cmocka_unit_test(test_bounds_are_kept_on_encoding),
        cmocka_unit_test(test_fields_go_together),
        cmocka_unit_test(test_encoding_is_all_or_nothing),
        cmocka_unit_test(test_a_secret_is_copied_once),
        cmocka_unit_test(test_names_and_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
