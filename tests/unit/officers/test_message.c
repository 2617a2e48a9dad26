// SPDX-License-Identifier: Apache-2.0
// Messages there and back, and those that are refused.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/officers_samples.h"

static void test_requests(void **state)
{
    struct message_request request;
    const char *name = NULL;
    struct buf first;
    struct buf second;
    (void)state;
    buf_init(&first, MESSAGE_REQUEST_MAX);
    buf_init(&second, MESSAGE_REQUEST_MAX);
    for (size_t i = 0; message_sample(i, &name, &request); i++) {
        struct message_request got = {0};
        struct detail detail = {0};
        buf_reset(&first);
        buf_reset(&second);
        if (message_encode_request(&request, &first, &detail) != ERR_OK ||
            message_decode_request(buf_bytes(&first), &got, &detail) != ERR_OK ||
            message_encode_request(&got, &second, &detail) != ERR_OK)
            fail_msg("%s: %s", name, detail.text);
        assert_true(bytes_equal(buf_bytes(&first), buf_bytes(&second)));
        assert_int_equal(got.operation, request.operation);
        assert_int_equal(got.id, request.id);
        for (size_t cut = 0; cut < first.len; cut++)
            assert_int_equal(message_decode_request(bytes_of(first.data, cut), &got, NULL),
                             ERR_PERM);
        assert_int_equal(buf_put(&first, "", 1), ERR_OK);
        got.id = 0;
        assert_int_equal(message_decode_request(buf_bytes(&first), &got, NULL), ERR_PERM);
        assert_int_equal(got.id, request.id); // known even so
    }
    buf_clear(&first);
    buf_clear(&second);
}

static void find(const char *wanted, struct message_request *request)
{
    const char *name = NULL;
    for (size_t i = 0; message_sample(i, &name, request); i++) {
        if (strcmp(name, wanted) == 0)
            return;
    }
    fail_msg("no sample %s", wanted);
}

static void refused(const struct message_request *request, const char *why)
{
    struct detail detail = {0};
    struct buf out;
    buf_init(&out, MESSAGE_REQUEST_MAX);
    assert_int_equal(message_encode_request(request, &out, &detail), ERR_PERM);
    assert_int_equal(out.len, 0);
    if (!strstr(detail.text, why))
        fail_msg("\"%s\" without \"%s\"", detail.text, why);
    buf_clear(&out);
}

static void test_bounds(void **state)
{
    static const uint8_t big[ACT_SIZE_MAX + 1];
    struct message_request good;
    struct message_request bad;
    (void)state;
#define BAD(member, value, why) \
    bad = good;                 \
    bad.member = (value);       \
    refused(&bad, why)
    find("propose", &good);
    BAD(operation, (enum message_operation)9, "no such operation 9");
    BAD(propose.statement.nonce.len, 15, "nonce");
    BAD(propose.statement.lapse, 0, "lapse");
    BAD(propose.statement.lapse, STATEMENT_TIME_MAX + 1ULL, "lapse");
    BAD(propose.statement.replaces, (uint64_t)INT64_MAX + 1, "replaces");
    BAD(propose.statement.act.len, 0, "act");
    BAD(propose.statement.act, bytes_of(big, ACT_SIZE_MAX + 1), "act");
    BAD(propose.signature.len, 63, "signature");
    BAD(propose.attachment, bytes_of(big, ACT_ATTACHMENT_MAX + 1), "attachment");
    find("approve", &good);
    BAD(verdict.number, 0, "number");
    BAD(verdict.number, (uint64_t)INT64_MAX + 1, "number");
    BAD(verdict.digest.len, 31, "digest");
    BAD(verdict.signature.len, 65 - 2, "signature");
    find("keys", &good);
    BAD(read.what, (enum message_read)99, "no such number 99");
    BAD(read.argument, BYTES_LITERAL("a b"), "argument");
    BAD(read.offset, 1, "offset");
    find("status", &good);
    BAD(read.argument, BYTES_LITERAL("x"), "argument");
    find("objects", &good);
    BAD(read.argument.len, 0, "argument");
    find("proposals-one", &good);
    BAD(read.argument, BYTES_LITERAL("x1"), "argument");
    BAD(read.argument, BYTES_LITERAL("01"), "argument");
#undef BAD
}

static void test_replies(void **state)
{
    struct message_reply reply = {ERR_DENIED, 5, BYTES_LITERAL("why \x1b[31m \xc3\xa4"),
                                  BYTES_LITERAL("body")};
    struct message_reply got = {0};
    struct detail detail = {0};
    struct buf frame;
    (void)state;
    buf_init(&frame, MESSAGE_REPLY_MAX);
    assert_int_equal(message_encode_reply(&reply, &frame), ERR_OK);
    assert_int_equal(message_decode_reply(buf_bytes(&frame), &got, &detail), ERR_OK);
    assert_int_equal(got.class, ERR_DENIED);
    assert_int_equal(got.id, 5);
    assert_true(bytes_equal(got.detail, BYTES_LITERAL("why ?[31m ??")));
    assert_true(bytes_equal(got.body, reply.body));
    memcpy(frame.data + 9, "\x1b", 1); // within the detail
    assert_int_equal(message_decode_reply(buf_bytes(&frame), &got, &detail), ERR_PERM);
    buf_reset(&frame);
    reply.class = ERR_OK; // with a reason
    assert_int_equal(message_encode_reply(&reply, &frame), ERR_PERM);
    reply.detail = bytes_of(NULL, 0);
    assert_int_equal(message_encode_reply(&reply, &frame), ERR_OK);
    for (size_t cut = 0; cut < frame.len; cut++)
        assert_int_equal(message_decode_reply(bytes_of(frame.data, cut), &got, NULL), ERR_PERM);
    frame.data[2] = ERR_BUG + 1;
    assert_int_equal(message_decode_reply(buf_bytes(&frame), &got, NULL), ERR_PERM);
    buf_clear(&frame);
}

// A secret is in one place only: with an empty buffer there is one allocation, of all of it.
static void test_one_place(void **state)
{
    struct message_request request;
    uint8_t secret[ACT_ATTACHMENT_MAX];
    struct buf out;
    (void)state;
    memset(secret, 's', sizeof secret);
    find("propose", &request);
    request.propose.attachment = bytes_of(secret, sizeof secret);
    buf_init(&out, MESSAGE_REQUEST_MAX);
    assert_int_equal(message_encode_request(&request, &out, NULL), ERR_OK);
    size_t len = out.len;
    size_t room = out.room;
    buf_clear(&out);
    uint8_t *place = NULL;
    assert_int_equal(buf_reserve(&out, len, &place), ERR_OK);
    assert_int_equal(out.room, room);
    const uint8_t *data = out.data;
    buf_reset(&out);
    assert_int_equal(message_encode_request(&request, &out, NULL), ERR_OK);
    assert_ptr_equal(out.data, data);
    buf_clear(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_replies),
        cmocka_unit_test(test_one_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
