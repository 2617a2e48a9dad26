// SPDX-License-Identifier: Apache-2.0
// Every way a frame can be wrong, and that each is refused with nothing set but the id.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/wire_samples.h"

// A frame taken apart: the bytes of each element of its array.
#define ELEMENTS_MAX 300
struct parts {
    struct buf frame; // owns the bytes
    struct bytes elements[ELEMENTS_MAX];
    size_t count;
};

// Length of the element at data, of those that msgpack-c makes of our messages.
static size_t element_length(const uint8_t *data)
{
    switch (data[0]) {
    case 0xcc:
        return 2;
    case 0xcd:
        return 3;
    case 0xce:
        return 5;
    case 0xcf:
        return 9;
    case 0xd9:
    case 0xc4:
        return 2u + data[1];
    case 0xc5:
        return 3u + (size_t)(data[1] << 8 | data[2]);
    default:
        if (data[0] < 0x80)
            return 1;
        assert_int_equal(data[0] & 0xe0, 0xa0);
        return 1u + (data[0] & 0x1f);
    }
}

static void take_apart(struct parts *parts)
{
    const uint8_t *at = parts->frame.data;
    const uint8_t *end = at + parts->frame.len;
    if (at[0] == 0xdc) {
        at += 3;
    } else {
        assert_int_equal(at[0] & 0xf0, 0x90);
        at += 1;
    }
    for (parts->count = 0; at < end; parts->count++) {
        assert_true(parts->count < ELEMENTS_MAX);
        parts->elements[parts->count] = bytes_of(at, element_length(at));
        at += parts->elements[parts->count].len;
    }
    assert_ptr_equal(at, end);
}

static void parts_of_request(struct parts *parts, enum wire_operation operation)
{
    struct wire_request request = sample_request(operation, SAMPLE_TYPICAL);
    buf_init(&parts->frame, WIRE_FRAME_MAX);
    assert_int_equal(wire_encode_request(&request, &parts->frame), ERR_OK);
    take_apart(parts);
}

static void parts_of_reply(struct parts *parts, enum wire_operation operation)
{
    struct wire_reply reply = sample_reply(operation, SAMPLE_TYPICAL);
    buf_init(&parts->frame, WIRE_FRAME_MAX);
    assert_int_equal(wire_encode_reply(operation, &reply, &parts->frame), ERR_OK);
    take_apart(parts);
}

// Puts the elements together with an array header for count of them.
static void put_together(struct buf *out, const struct bytes *elements, size_t there, size_t count)
{
    uint8_t header[] = {0xdc, (uint8_t)(count >> 8), (uint8_t)count};
    buf_reset(out);
    assert_int_equal(buf_put(out, header, sizeof header), ERR_OK);
    for (size_t i = 0; i < there; i++)
        assert_int_equal(buf_put_bytes(out, elements[i]), ERR_OK);
}

// A copy that ends where its memory ends, for the sanitizer.
static uint8_t *exact(struct bytes bytes)
{
    uint8_t *copy = malloc(bytes.len ? bytes.len : 1);
    assert_non_null(copy);
    if (bytes.len)
        memcpy(copy, bytes.data, bytes.len);
    return copy;
}

// reply: the operation whose reply it is; 0: it is a request.
static enum err decode(enum wire_operation reply, struct bytes bytes, uint64_t *id,
                       struct detail *detail)
{
    static struct wire_request request;
    static struct wire_request untouched_request;
    static struct wire_reply answer;
    static struct wire_reply untouched_answer;
    uint8_t *frame = exact(bytes);
    memset(&request, 0xa5, sizeof request);
    memset(&answer, 0xa5, sizeof answer);
    untouched_request = request;
    untouched_answer = answer;
    *detail = (struct detail){0};
    enum err err = reply ? wire_decode_reply(reply, bytes_of(frame, bytes.len), &answer, detail)
                         : wire_decode_request(bytes_of(frame, bytes.len), &request, detail);
    free(frame);
    *id = reply ? answer.id : request.id;
    if (err != ERR_OK) {
        answer.id = untouched_answer.id;
        request.id = untouched_request.id;
        assert_memory_equal(&answer, &untouched_answer, sizeof answer);
        assert_memory_equal(&request, &untouched_request, sizeof request);
        assert_true(detail->text[0] != 0);
    }
    return err;
}

static void assert_refused(const char *name, enum wire_operation reply, struct bytes frame,
                           uint64_t id)
{
    uint64_t got = 0;
    struct detail detail = {0};
    enum err err = decode(reply, frame, &got, &detail);
    if (err != ERR_PERM || got != id)
        fail_msg("%s: class %s, id %jx: %s", name, err_name(err), (uintmax_t)got, detail.text);
}

static void assert_taken(const char *name, enum wire_operation reply, struct bytes frame)
{
    uint64_t id = 0;
    struct detail detail = {0};
    if (decode(reply, frame, &id, &detail) != ERR_OK)
        fail_msg("%s: %s", name, detail.text);
}

typedef void (*check)(struct parts *parts, enum wire_operation reply, struct buf *out);

// Runs the check on a request and a reply of every operation.
static void for_each_message(check run)
{
    struct parts parts;
    struct buf out;
    buf_init(&out, 2 * WIRE_FRAME_MAX);
    for (size_t i = 0; i < sample_operations_count; i++) {
        parts_of_request(&parts, sample_operations[i]);
        run(&parts, (enum wire_operation)0, &out);
        buf_clear(&parts.frame);
        parts_of_reply(&parts, sample_operations[i]);
        run(&parts, sample_operations[i], &out);
        buf_clear(&parts.frame);
    }
    buf_clear(&out);
}

#define ID 0x0123456789abcdef // of the typical samples

static void check_truncated(struct parts *parts, enum wire_operation reply, struct buf *out)
{
    (void)out;
    for (size_t len = 0; len < parts->frame.len; len++) {
        size_t header = 1 + 1 + 1 + 9; // array, version, operation or class, id
        assert_refused("truncated", reply, bytes_of(parts->frame.data, len), len < header ? 0 : ID);
    }
}

static void check_extended(struct parts *parts, enum wire_operation reply, struct buf *out)
{
    struct bytes *elements = parts->elements;
    size_t count = parts->count;
    put_together(out, elements, count, count);
    assert_taken("as it was", reply, buf_bytes(out));
    assert_int_equal(buf_put(out, "", 1), ERR_OK);
    assert_refused("trailing byte", reply, buf_bytes(out), ID);
    put_together(out, elements, count, count + 1);
    assert_refused("count too high", reply, buf_bytes(out), ID);
    put_together(out, elements, count, 0);
    assert_refused("count 0", reply, buf_bytes(out), 0);
    put_together(out, elements, count, 0xffff);
    assert_refused("count 65535", reply, buf_bytes(out), ID);
    elements[count] = BYTES_LITERAL("\xc4\x01x");
    put_together(out, elements, count + 1, count + 1);
    assert_refused("another field", reply, buf_bytes(out), ID);
    if (reply == WIRE_LIST) // as many names as there are
        return;
    put_together(out, elements, count - 1, count - 1);
    assert_refused("a field missing", reply, buf_bytes(out), ID);
}

// Every element replaced by one of every other type.
static void check_types(struct parts *parts, enum wire_operation reply, struct buf *out)
{
    static const struct {
        const char *name;
        char type; // u, s, b: what our messages are made of
        struct bytes element;
    } foreign[] = {
        {"uint", 'u', BYTES_LITERAL("\x01")},
        {"uint64", 'u', BYTES_LITERAL("\xcf\x00\x00\x00\x00\x00\x00\x00\x01")},
        {"str", 's', BYTES_LITERAL("\xa1z")},
        {"str32", 's', BYTES_LITERAL("\xdb\x00\x00\x00\x01z")},
        {"bin", 'b', BYTES_LITERAL("\xc4\x01z")},
        {"bin32", 'b', BYTES_LITERAL("\xc6\x00\x00\x00\x01z")},
        {"nil", 0, BYTES_LITERAL("\xc0")},
        {"never used", 0, BYTES_LITERAL("\xc1")},
        {"false", 0, BYTES_LITERAL("\xc2")},
        {"true", 0, BYTES_LITERAL("\xc3")},
        {"negative fixint", 0, BYTES_LITERAL("\xff")},
        {"int8", 0, BYTES_LITERAL("\xd0\x01")},
        {"int16", 0, BYTES_LITERAL("\xd1\x00\x01")},
        {"int32", 0, BYTES_LITERAL("\xd2\x00\x00\x00\x01")},
        {"int64", 0, BYTES_LITERAL("\xd3\x00\x00\x00\x00\x00\x00\x00\x01")},
        {"float32", 0, BYTES_LITERAL("\xca\x3f\x80\x00\x00")},
        {"float64", 0, BYTES_LITERAL("\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00")},
        {"fixext1", 0, BYTES_LITERAL("\xd4\x01\x01")},
        {"ext8", 0, BYTES_LITERAL("\xc7\x01\x01\x01")},
        {"empty array", 0, BYTES_LITERAL("\x90")},
        {"array", 0, BYTES_LITERAL("\x91\x01")},
        {"array32", 0, BYTES_LITERAL("\xdd\x00\x00\x00\x01\x01")},
        {"map", 0, BYTES_LITERAL("\x81\x01\x01")},
    };
    for (size_t i = 0; i < parts->count; i++) {
        struct bytes kept = parts->elements[i];
        uint8_t first = kept.data[0];
        char type = first < 0x80 || (first >= 0xcc && first <= 0xcf) ? 'u'
                    : first >= 0xc4 && first <= 0xc6                 ? 'b'
                                                                     : 's';
        for (size_t j = 0; j < sizeof foreign / sizeof *foreign; j++) {
            if (foreign[j].type == type)
                continue;
            parts->elements[i] = foreign[j].element;
            put_together(out, parts->elements, parts->count, parts->count);
            assert_refused(foreign[j].name, reply, buf_bytes(out), i < 3 ? 0 : ID);
        }
        parts->elements[i] = kept;
    }
}

// The same message with every number and length in its longest form is the same message.
static void check_long_forms(struct parts *parts, enum wire_operation reply, struct buf *out)
{
    uint8_t header[] = {0xdd, 0, 0, 0, (uint8_t)parts->count};
    buf_reset(out);
    assert_int_equal(buf_put(out, header, sizeof header), ERR_OK);
    for (size_t i = 0; i < parts->count; i++) {
        struct bytes element = parts->elements[i];
        uint8_t first = element.data[0];
        if (first < 0x80) {
            uint8_t number[] = {0xcf, 0, 0, 0, 0, 0, 0, 0, first};
            assert_int_equal(buf_put(out, number, sizeof number), ERR_OK);
        } else if ((first & 0xe0) == 0xa0) {
            uint8_t str[] = {0xdb, 0, 0, 0, first & 0x1f};
            assert_int_equal(buf_put(out, str, sizeof str), ERR_OK);
            assert_int_equal(buf_put(out, element.data + 1, element.len - 1), ERR_OK);
        } else if (first == 0xc4) {
            uint8_t bin[] = {0xc6, 0, 0, 0, element.data[1]};
            assert_int_equal(buf_put(out, bin, sizeof bin), ERR_OK);
            assert_int_equal(buf_put(out, element.data + 2, element.len - 2), ERR_OK);
        } else {
            assert_int_equal(buf_put_bytes(out, element), ERR_OK);
        }
    }
    assert_taken("long forms", reply, buf_bytes(out));
}

static void test_truncated(void **state)
{
    (void)state;
    for_each_message(check_truncated);
}

static void test_extended(void **state)
{
    (void)state;
    for_each_message(check_extended);
}

static void test_types(void **state)
{
    (void)state;
    for_each_message(check_types);
}

static void test_long_forms(void **state)
{
    (void)state;
    for_each_message(check_long_forms);
}

struct value {
    const char *name;
    enum wire_operation operation;
    bool is_reply;
    size_t index; // of the element that is replaced
    struct bytes element;
    bool is_fine;
};

#define SIXTY_FOUR "aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd"
#define HEADER_ENDS 3

// 0 is the version, 1 the operation or class, 2 the id, and from 3 on the fields. The typical
// samples sign with ecdsa, unwrap with rsaes-pkcs1.
static const struct value values[] = {
    {"version 0", WIRE_SIGN, false, 0, BYTES_LITERAL("\x00"), false},
    {"version 2", WIRE_SIGN, false, 0, BYTES_LITERAL("\x02"), false},
    {"version 2 of a reply", WIRE_SIGN, true, 0, BYTES_LITERAL("\x02"), false},
    {"operation 0", WIRE_SIGN, false, 1, BYTES_LITERAL("\x00"), false},
    {"operation 6", WIRE_SIGN, false, 1, BYTES_LITERAL("\x06"), false},
    {"operation 2^32 + 1", WIRE_SIGN, false, 1, BYTES_LITERAL("\xcf\0\0\0\1\0\0\0\1"), false},
    {"class 5", WIRE_SIGN, true, 1, BYTES_LITERAL("\x05"), false},
    {"class 2^32", WIRE_SIGN, true, 1, BYTES_LITERAL("\xcf\0\0\0\1\0\0\0\0"), false},
    {"class temp with fields", WIRE_SIGN, true, 1, BYTES_LITERAL("\x01"), false},
    {"names after class denied", WIRE_LIST, true, 1, BYTES_LITERAL("\x03"), false},
    {"key of 64", WIRE_SIGN, false, 3, BYTES_LITERAL("\xd9\x40" SIXTY_FOUR), true},
    {"key of 65", WIRE_SIGN, false, 3, BYTES_LITERAL("\xd9\x41" SIXTY_FOUR "e"), false},
    {"key empty", WIRE_SIGN, false, 3, BYTES_LITERAL("\xa0"), false},
    {"key with a space", WIRE_SIGN, false, 3, BYTES_LITERAL("\xa3z b"), false},
    {"key with a 0", WIRE_SIGN, false, 3, BYTES_LITERAL("\xa3z\0b"), false},
    {"key with a slash", WIRE_DESCRIBE, false, 3, BYTES_LITERAL("\xa3../"), false},
    {"key in UTF-8", WIRE_UNWRAP, false, 3, BYTES_LITERAL("\xa2\xc3\xa4"), false},
    {"algorithm 0", WIRE_SIGN, false, 4, BYTES_LITERAL("\x00"), false},
    {"ed25519 of a digest", WIRE_SIGN, false, 4, BYTES_LITERAL("\x04"), false},
    {"algorithm 5", WIRE_SIGN, false, 4, BYTES_LITERAL("\x05"), false},
    {"algorithm 2^32 + 3", WIRE_SIGN, false, 4, BYTES_LITERAL("\xcf\0\0\0\1\0\0\0\3"), false},
    {"rsa-pkcs1", WIRE_SIGN, false, 4, BYTES_LITERAL("\x01"), true},
    {"unwrap's for sign", WIRE_SIGN, false, 4, BYTES_LITERAL("\x10"), false},
    {"agree's for sign", WIRE_SIGN, false, 4, BYTES_LITERAL("\x20"), false},
    {"sign's for unwrap", WIRE_UNWRAP, false, 4, BYTES_LITERAL("\x01"), false},
    {"sign's for agree", WIRE_AGREE, false, 4, BYTES_LITERAL("\x03"), false},
    {"hash 6", WIRE_SIGN, false, 5, BYTES_LITERAL("\x06"), false},
    {"hash 5", WIRE_SIGN, false, 5, BYTES_LITERAL("\x05"), true},
    {"salt of ecdsa", WIRE_SIGN, false, 6, BYTES_LITERAL("\x20"), false},
    {"salt 2^32", WIRE_SIGN, false, 6, BYTES_LITERAL("\xcf\0\0\0\1\0\0\0\0"), false},
    {"form 0", WIRE_SIGN, false, 7, BYTES_LITERAL("\x00"), true},
    {"message of ecdsa", WIRE_SIGN, false, 7, BYTES_LITERAL("\x02"), false},
    {"form 3", WIRE_SIGN, false, 7, BYTES_LITERAL("\x03"), false},
    {"data empty", WIRE_SIGN, false, 8, BYTES_LITERAL("\xc4\x00"), false},
    {"data of 2^32 - 1", WIRE_SIGN, false, 8, BYTES_LITERAL("\xc6\xff\xff\xff\xff"), false},
    {"oaep without hashes", WIRE_UNWRAP, false, 4, BYTES_LITERAL("\x11"), false},
    {"hash of v1.5", WIRE_UNWRAP, false, 5, BYTES_LITERAL("\x03"), false},
    {"mgf-hash of v1.5", WIRE_UNWRAP, false, 6, BYTES_LITERAL("\x03"), false},
    {"label of v1.5", WIRE_UNWRAP, false, 7, BYTES_LITERAL("\xc4\x01z"), false},
    {"length 2048", WIRE_UNWRAP, false, 8, BYTES_LITERAL("\xcd\x08\x00"), true},
    {"length 2049", WIRE_UNWRAP, false, 8, BYTES_LITERAL("\xcd\x08\x01"), false},
    {"ciphertext empty", WIRE_UNWRAP, false, 9, BYTES_LITERAL("\xc4\x00"), false},
    {"agree with hash none", WIRE_AGREE, false, 5, BYTES_LITERAL("\x00"), false},
    {"cofactor 1", WIRE_AGREE, false, 6, BYTES_LITERAL("\x01"), true},
    {"cofactor 2", WIRE_AGREE, false, 6, BYTES_LITERAL("\x02"), false},
    {"peer empty", WIRE_AGREE, false, 7, BYTES_LITERAL("\xc4\x00"), false},
    {"info empty", WIRE_AGREE, false, 8, BYTES_LITERAL("\xc4\x00"), true},
    {"agree on 0 bytes", WIRE_AGREE, false, 9, BYTES_LITERAL("\x00"), false},
    {"after nothing", WIRE_LIST, false, 3, BYTES_LITERAL("\xa0"), true},
    {"after no name", WIRE_LIST, false, 3, BYTES_LITERAL("\xa1/"), false},
    {"signature empty", WIRE_SIGN, true, 3, BYTES_LITERAL("\xc4\x00"), false},
    {"derived key empty", WIRE_AGREE, true, 3, BYTES_LITERAL("\xc4\x00"), true},
    {"secret empty", WIRE_UNWRAP, true, 3, BYTES_LITERAL("\xc4\x03\0\0\0"), true},
    {"secret of all there is", WIRE_UNWRAP, true, 3, BYTES_LITERAL("\xc4\x04\0\2zz"), true},
    {"secret with a zero behind", WIRE_UNWRAP, true, 3, BYTES_LITERAL("\xc4\x04\0\1z\0"), true},
    {"secret without a length", WIRE_UNWRAP, true, 3, BYTES_LITERAL("\xc4\x00"), false},
    {"secret with half a length", WIRE_UNWRAP, true, 3, BYTES_LITERAL("\xc4\x01\0"), false},
    {"secret without a place", WIRE_UNWRAP, true, 3, BYTES_LITERAL("\xc4\x02\0\0"), false},
    {"secret longer than it is", WIRE_UNWRAP, true, 3, BYTES_LITERAL("\xc4\x04\0\3zz"), false},
    {"secret much longer", WIRE_UNWRAP, true, 3, BYTES_LITERAL("\xc4\x04\xff\xffzz"), false},
    {"secret with more behind", WIRE_UNWRAP, true, 3, BYTES_LITERAL("\xc4\x04\0\1zz"), false},
    {"an empty name", WIRE_LIST, true, 4, BYTES_LITERAL("\xa0"), false},
    {"key type 0", WIRE_DESCRIBE, true, 4, BYTES_LITERAL("\x00"), false},
    {"key type 3", WIRE_DESCRIBE, true, 4, BYTES_LITERAL("\x03"), true},
    {"key type 4", WIRE_DESCRIBE, true, 4, BYTES_LITERAL("\x04"), false},
    {"purpose 5", WIRE_DESCRIBE, true, 5, BYTES_LITERAL("\x05"), false},
    {"state 4", WIRE_DESCRIBE, true, 6, BYTES_LITERAL("\x04"), false},
    {"bits 0", WIRE_DESCRIBE, true, 7, BYTES_LITERAL("\x00"), false},
    {"bits 16385", WIRE_DESCRIBE, true, 7, BYTES_LITERAL("\xcd\x40\x01"), false},
    {"no public key", WIRE_DESCRIBE, true, 8, BYTES_LITERAL("\xc4\x00"), false},
    {"no certificates", WIRE_DESCRIBE, true, 9, BYTES_LITERAL("\xc4\x00"), true},
};

static void test_values(void **state)
{
    struct parts parts;
    struct buf out;
    (void)state;
    buf_init(&out, WIRE_FRAME_MAX);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        const struct value *value = &values[i];
        enum wire_operation reply = value->is_reply ? value->operation : (enum wire_operation)0;
        if (value->is_reply)
            parts_of_reply(&parts, value->operation);
        else
            parts_of_request(&parts, value->operation);
        assert_true(value->index < parts.count);
        parts.elements[value->index] = value->element;
        put_together(&out, parts.elements, parts.count, parts.count);
        if (value->is_fine)
            assert_taken(value->name, reply, buf_bytes(&out));
        else
            assert_refused(value->name, reply, buf_bytes(&out), ID);
        buf_clear(&parts.frame);
    }
    buf_clear(&out);
}

// What goes with ed25519: attributes of sha512, a message of no hash, and no salt.
static void test_eddsa(void **state)
{
    (void)state;
    struct parts parts;
    struct buf out;
    buf_init(&out, WIRE_FRAME_MAX);
    for (unsigned n = 0; n < 3 * HASH_COUNT * 2; n++) {
        const uint8_t form = (uint8_t)(n % 3), hash = (uint8_t)(n / 3 % HASH_COUNT);
        const uint8_t salt = n / 3 / HASH_COUNT ? 32 : 0, algorithm = WIRE_EDDSA;
        bool is_fine = !salt && ((form == WIRE_ATTRIBUTES && hash == HASH_SHA512) ||
                                 (form == WIRE_MESSAGE && hash == HASH_NONE));
        char name[60];
        snprintf(name, sizeof name, "form %d, hash %d, salt %d", form, hash, salt);
        parts_of_request(&parts, WIRE_SIGN);
        parts.elements[4] = bytes_of(&algorithm, 1);
        parts.elements[5] = bytes_of(&hash, 1);
        parts.elements[6] = bytes_of(&salt, 1);
        parts.elements[7] = bytes_of(&form, 1);
        put_together(&out, parts.elements, parts.count, parts.count);
        if (is_fine)
            assert_taken(name, (enum wire_operation)0, buf_bytes(&out));
        else
            assert_refused(name, (enum wire_operation)0, buf_bytes(&out), ID);
        buf_clear(&parts.frame);
    }
    buf_clear(&out);
}

static void test_bombs(void **state)
{
    static const struct {
        const char *name;
        struct bytes frame;
    } bombs[] = {
        {"nothing", {NULL, 0}},
        {"array of 2^28", BYTES_LITERAL("\xdd\x0f\xff\xff\xff\x01")},
        {"array of 2^32 - 1", BYTES_LITERAL("\xdd\xff\xff\xff\xff\x01\x01\x01")},
        {"map", BYTES_LITERAL("\xdf\xff\xff\xff\xff\x01")},
        {"nested", BYTES_LITERAL("\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91")},
        {"empty array", BYTES_LITERAL("\x90")},
        {"two elements", BYTES_LITERAL("\x92\x01\x01")},
        {"text", BYTES_LITERAL("GET / HTTP/1.1\r\n\r\n")},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bombs / sizeof *bombs; i++) {
        uint64_t id = 7;
        struct detail detail = {0};
        for (unsigned reply = 0; reply <= WIRE_DESCRIBE; reply++) {
            enum err err = decode((enum wire_operation)reply, bombs[i].frame, &id, &detail);
            if (err != ERR_PERM || id > 1)
                fail_msg("%s, %u: class %s: %s", bombs[i].name, reply, err_name(err), detail.text);
        }
    }
}

static void test_names_of_a_list_are_counted(void **state)
{
    struct parts parts;
    struct buf out;
    (void)state;
    buf_init(&out, WIRE_FRAME_MAX);
    parts_of_reply(&parts, WIRE_LIST);
    for (size_t i = HEADER_ENDS; i < HEADER_ENDS + WIRE_LIST_MAX + 1; i++)
        parts.elements[i] = BYTES_LITERAL("\xa1z");
    put_together(&out, parts.elements, HEADER_ENDS, HEADER_ENDS);
    assert_taken("no names", WIRE_LIST, buf_bytes(&out));
    put_together(&out, parts.elements, HEADER_ENDS + WIRE_LIST_MAX, HEADER_ENDS + WIRE_LIST_MAX);
    assert_taken("most names", WIRE_LIST, buf_bytes(&out));
    put_together(&out, parts.elements, HEADER_ENDS + WIRE_LIST_MAX + 1,
                 HEADER_ENDS + WIRE_LIST_MAX + 1);
    assert_refused("too many names", WIRE_LIST, buf_bytes(&out), ID);
    buf_clear(&parts.frame);
    buf_clear(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_truncated), cmocka_unit_test(test_extended),
        cmocka_unit_test(test_types),     cmocka_unit_test(test_long_forms),
        cmocka_unit_test(test_values),    cmocka_unit_test(test_eddsa),
        cmocka_unit_test(test_bombs),     cmocka_unit_test(test_names_of_a_list_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
