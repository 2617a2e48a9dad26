// SPDX-License-Identifier: Apache-2.0
// Errors, allocation, buffers, text, hashes, the clock.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <openssl/err.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/buf.h"
#include "hsmd/base/clock.h"
#include "hsmd/base/err.h"
#include "hsmd/base/hash.h"
#include "hsmd/base/text.h"
#include "hsmd/base/thread.h"

static void test_err_texts(void **state)
{
    struct detail detail = {0};
    (void)state;
    assert_int_equal(err_set(&detail, ERR_DENIED, "key %s", "a"), ERR_DENIED);
    assert_string_equal(detail.text, "key a");
    assert_int_equal(err_prefix(&detail, ERR_PERM, "client %d", 7), ERR_PERM);
    assert_string_equal(detail.text, "client 7: key a");
    assert_int_equal(err_set(NULL, ERR_BUG, "nowhere"), ERR_BUG);
    assert_int_equal(err_prefix(NULL, ERR_TEMP, "nowhere"), ERR_TEMP);
    assert_string_equal(err_name(ERR_OK), "ok");
    assert_string_equal(err_name(ERR_TEMP), "temp");
    assert_string_equal(err_name(ERR_PERM), "perm");
    assert_string_equal(err_name(ERR_DENIED), "denied");
    assert_string_equal(err_name(ERR_BUG), "bug");
    assert_string_equal(err_name((enum err)99), "bug");
}

static void test_err_texts_are_cut(void **state)
{
    struct detail detail = {0};
    char longest[2 * sizeof detail.text];
    (void)state;
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    assert_int_equal(err_set(&detail, ERR_PERM, "%s", longest), ERR_PERM);
    assert_int_equal(strlen(detail.text), sizeof detail.text - 1);
    assert_int_equal(err_prefix(&detail, ERR_PERM, "%s", longest), ERR_PERM);
    assert_int_equal(strlen(detail.text), sizeof detail.text - 1);
    errno = ENOENT;
    assert_int_equal(err_errno(&detail, ERR_PERM, "%s", longest), ERR_PERM);
    assert_int_equal(strlen(detail.text), sizeof detail.text - 1);
}

static void test_err_of_errno(void **state)
{
    static const int temporary[] = {ENOSPC, EDQUOT, ENOMEM, EMFILE, ENFILE, EAGAIN, EIO, EINTR};
    struct detail detail = {0};
    (void)state;
    errno = ENOENT;
    assert_int_equal(err_errno(&detail, ERR_PERM, "file"), ERR_PERM);
    assert_string_equal(detail.text, "file: No such file or directory");
    for (size_t i = 0; i < sizeof temporary / sizeof *temporary; i++) {
        errno = temporary[i];
        assert_int_equal(err_errno(NULL, ERR_PERM, "file"), ERR_TEMP);
    }
}

static void test_err_of_openssl(void **state)
{
    struct detail detail = {0};
    (void)state;
    ERR_clear_error();
    ERR_raise_data(ERR_LIB_EVP, ERR_R_MALLOC_FAILURE, "older");
    ERR_raise_data(ERR_LIB_EVP, ERR_R_PASSED_NULL_PARAMETER, "newest");
    assert_int_equal(err_openssl(&detail, ERR_PERM, "certificate"), ERR_PERM);
    assert_string_equal(detail.text, "certificate: passed a null parameter: newest");
    assert_int_equal(ERR_peek_error(), 0);
    assert_int_equal(err_openssl(&detail, ERR_TEMP, "nothing queued"), ERR_TEMP);
    assert_string_equal(detail.text, "nothing queued");
}

static void test_alloc_fails_at(void **state)
{
    (void)state;
    mem_fail_at(2);
    char *first = mem_strdup("one");
    assert_string_equal(first, "one");
    assert_null(mem_calloc(1, 1));
    char *second = mem_strndup("two and more", 3);
    assert_string_equal(second, "two");
    mem_free(first);
    mem_free(second);
    mem_free(NULL);
    volatile size_t many = SIZE_MAX / 2;
    assert_null(mem_calloc(many, 3));
    void *empty = mem_calloc(0, 0);
    assert_non_null(empty);
    mem_free(empty);
}

static void test_buf_keeps_its_cap(void **state)
{
    static const size_t caps[] = {0, 1, 255, 256, 257, 5000};
    (void)state;
    for (size_t i = 0; i < sizeof caps / sizeof *caps; i++) {
        struct buf buf;
        buf_init(&buf, caps[i]);
        assert_string_equal(buf_text(&buf), "");
        for (size_t n = 0; n < caps[i]; n++) {
            assert_int_equal(buf_put(&buf, "x", 1), ERR_OK);
            assert_int_equal(buf.data[buf.len], 0);
        }
        assert_int_equal(buf.len, caps[i]);
        assert_int_equal(buf_put(&buf, "x", 1), ERR_PERM);
        assert_int_equal(buf_put(&buf, "", 0), ERR_OK);
        assert_int_equal(buf_printf(&buf, "%c", 'x'), ERR_PERM);
        assert_int_equal(buf_put_bytes(&buf, bytes_of(NULL, 0)), ERR_OK);
        uint8_t *place = NULL;
        assert_int_equal(buf_reserve(&buf, SIZE_MAX, &place), ERR_PERM);
        assert_int_equal(buf.len, caps[i]);
        buf_reset(&buf);
        assert_string_equal(buf_text(&buf), "");
        buf_clear(&buf);
        assert_int_equal(buf.max, caps[i]);
    }
}

static void test_buf_without_a_cap(void **state)
{
    struct buf buf;
    uint8_t *place = NULL;
    (void)state;
    buf_init(&buf, SIZE_MAX);
    assert_int_equal(buf_put_text(&buf, "text"), ERR_OK);
    assert_int_equal(buf_reserve(&buf, SIZE_MAX - 2, &place), ERR_PERM);
    assert_string_equal(buf_text(&buf), "text");
    buf_clear(&buf);
}

static void test_buf_all_or_nothing(void **state)
{
    struct buf buf;
    (void)state;
    buf_init(&buf, 600);
    assert_int_equal(buf_printf(&buf, "%s-%d", "text", 5), ERR_OK);
    assert_string_equal(buf_text(&buf), "text-5");
    mem_fail_at(1);
    assert_int_equal(buf_printf(&buf, "%500s", ""), ERR_TEMP);
    mem_fail_at(0);
    assert_string_equal(buf_text(&buf), "text-5");
    assert_int_equal(buf_printf(&buf, "%595s", ""), ERR_PERM);
    assert_string_equal(buf_text(&buf), "text-5");
    assert_true(bytes_equal(buf_bytes(&buf), BYTES_LITERAL("text-5")));
    assert_false(bytes_equal(buf_bytes(&buf), bytes_of_text("text-6")));
    assert_true(bytes_equal(bytes_of(NULL, 0), bytes_of("x", 0)));
    buf_clear(&buf);
}

static void test_buf_decimal(void **state)
{
    struct buf buf;
    (void)state;
    buf_init(&buf, 32);
    assert_int_equal(buf_put_decimal(&buf, 0), ERR_OK);
    assert_int_equal(buf_put_decimal(&buf, 1090), ERR_OK);
    assert_int_equal(buf_put_decimal(&buf, UINT64_MAX), ERR_OK);
    assert_string_equal(buf_text(&buf), "0109018446744073709551615");
    assert_int_equal(buf_put_decimal(&buf, 12345678), ERR_PERM);
    assert_string_equal(buf_text(&buf), "0109018446744073709551615");
    buf_clear(&buf);
}

static void test_text_quote(void **state)
{
    static const struct {
        struct bytes text;
        size_t size;
        const char *quoted;
    } cases[] = {
        {BYTES_LITERAL("plain text!"), 100, "plain text!"},
        {BYTES_LITERAL(""), 100, ""},
        {BYTES_LITERAL("a\"b\\c"), 100, "a\\x22b\\x5cc"},
        {BYTES_LITERAL("a\r\nb\tc"), 100, "a\\x0d\\x0ab\\x09c"},
        {BYTES_LITERAL("\x1b[31m\x00\x7f"), 100, "\\x1b[31m\\x00\\x7f"},
        {BYTES_LITERAL("\xc3\xa4\xff"), 100, "\\xc3\\xa4\\xff"},
        {BYTES_LITERAL("0123456789"), 11, "0123456..."},
        {BYTES_LITERAL("012345\n789"), 11, "012345..."},
        {BYTES_LITERAL("0123456789"), 4, "..."},
        {BYTES_LITERAL("0123456789"), 1, ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[101];
        memset(out, '#', sizeof out);
        text_quote((const char *)cases[i].text.data, cases[i].text.len, out, cases[i].size);
        assert_string_equal(out, cases[i].quoted);
        assert_int_equal(out[cases[i].size], '#');
    }
}

static void test_text_hex(void **state)
{
    static const char *const bad[] = {"a", "abc", "0g", "g0", "0x12", "12 34", "\xc3\xa4"};
    struct buf hex;
    struct buf back;
    (void)state;
    buf_init(&hex, 100);
    buf_init(&back, 4);
    assert_int_equal(text_put_hex(&hex, BYTES_LITERAL("\x00\x9f\xff"
                                                      "A")),
                     ERR_OK);
    assert_string_equal(buf_text(&hex), "009fff41");
    assert_int_equal(text_get_hex("009FfF41", &back), ERR_OK);
    assert_true(bytes_equal(buf_bytes(&back), BYTES_LITERAL("\x00\x9f\xff"
                                                            "A")));
    assert_int_equal(text_get_hex("00", &back), ERR_PERM);
    buf_reset(&back);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(text_get_hex(bad[i], &back), ERR_PERM);
        assert_int_equal(back.len, 0);
    }
    buf_clear(&hex);
    buf_clear(&back);
}

static void test_text_hex_exact(void **state)
{
    static const char *const bad[] = {"", "00", "0g00", "00 00", "00000", "000000", NULL};
    static const uint8_t zeros[3];
    uint8_t out[3] = {0};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(text_get_hex_exact(bad[i], out, 2));
    assert_memory_equal(out, zeros, sizeof out);
    assert_true(text_get_hex_exact("9FfF", out, 2));
    assert_memory_equal(out, "\x9f\xff", 3);
}

static void test_text_is_name(void **state)
{
    char longest[TEXT_NAME_MAX + 1];
    (void)state;
    memset(longest, 'n', sizeof longest);
    assert_true(text_is_name("a", 1));
    assert_true(text_is_name("_x.Y-9", 6));
    assert_true(text_is_name(longest, TEXT_NAME_MAX));
    assert_false(text_is_name(longest, TEXT_NAME_MAX + 1));
    assert_false(text_is_name("", 0));
    assert_false(text_is_name(".a", 2));
    assert_false(text_is_name("-a", 2));
    assert_false(text_is_name("a b", 3));
    assert_false(text_is_name("a\0b", 3));
    assert_false(text_is_name("a/b", 3));
    assert_false(text_is_name("a\n", 2));
    assert_false(text_is_name("\xe4", 1));
}

// FIPS 180-4's and RFC 3174's "abc".
static const struct {
    enum hash hash;
    const char *name;
    const char *digest;
} vectors[] = {
    {HASH_SHA1, "sha1", "a9993e364706816aba3e25717850c26c9cd0d89d"},
    {HASH_SHA224, "sha224", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"},
    {HASH_SHA256, "sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {HASH_SHA384, "sha384",
     "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c82"
     "5a7"},
    {HASH_SHA512, "sha512",
     "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3fee"
     "bbd454d4423643ce80e2a9ac94fa54ca49f"},
};

static void test_hash_vectors(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        uint8_t digest[HASH_SIZE_MAX];
        struct buf hex;
        enum hash hash = vectors[i].hash;
        buf_init(&hex, 2 * HASH_SIZE_MAX);
        assert_int_equal(hash_digest(hash, BYTES_LITERAL("abc"), digest), ERR_OK);
        assert_int_equal(text_put_hex(&hex, bytes_of(digest, hash_size(hash))), ERR_OK);
        assert_string_equal(buf_text(&hex), vectors[i].digest);
        assert_string_equal(hash_name(hash), vectors[i].name);
        assert_int_equal(hash_by_name(vectors[i].name), hash);
        assert_int_equal(hash_by_size(hash_size(hash)), hash);
        buf_clear(&hex);
    }
    assert_int_equal(hash_digest(HASH_NONE, BYTES_LITERAL("abc"), NULL), ERR_BUG);
}

// A DigestInfo: SEQUENCE of AlgorithmIdentifier and OCTET STRING, whose lengths must fit.
static void test_hash_digest_info(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        struct bytes prefix = hash_digest_info_prefix(vectors[i].hash);
        size_t size = hash_size(vectors[i].hash);
        assert_true(prefix.len > 6);
        assert_int_equal(prefix.data[1], prefix.len - 2 + size);
        assert_int_equal(prefix.data[prefix.len - 1], size);
        assert_int_equal(prefix.data[3], prefix.len - 6);
    }
    assert_int_equal(hash_digest_info_prefix(HASH_NONE).len, 0);
}

static void test_hash_names(void **state)
{
    (void)state;
    assert_int_equal(hash_by_name("SHA2-256"), HASH_SHA256);
    assert_int_equal(hash_by_name("SHA-512"), HASH_SHA512);
    assert_int_equal(hash_by_name("Sha1"), HASH_SHA1);
    assert_int_equal(hash_by_name("sha-1"), HASH_SHA1);
    assert_int_equal(hash_by_name("md5"), HASH_NONE);
    assert_int_equal(hash_by_name("none"), HASH_NONE);
    assert_int_equal(hash_by_name(""), HASH_NONE);
    assert_int_equal(hash_by_size(16), HASH_NONE);
    assert_int_equal(hash_size((enum hash)9), 0);
    assert_string_equal(hash_name((enum hash)9), "unknown");
}

static void test_clock(void **state)
{
    char stamp[CLOCK_STAMP_SIZE];
    (void)state;
    assert_true(deadline_is_past(clock_ms()));
    assert_false(deadline_is_past(deadline_in(60000)));
    assert_true(deadline_left(deadline_in(60000)) > 50000);
    assert_int_equal(deadline_left(0), 0);
    struct timespec time = deadline_timespec(12345);
    assert_int_equal(time.tv_sec, 12);
    assert_int_equal(time.tv_nsec, 345000000);
    assert_int_equal(deadline_left(UINT64_MAX), INT_MAX);
    clock_stamp(stamp);
    assert_int_equal(strlen(stamp), CLOCK_STAMP_SIZE - 1);
    assert_int_equal(stamp[10], 'T');
    assert_int_equal(stamp[CLOCK_STAMP_SIZE - 2], 'Z');
}

// What the wall clock says, if it is to say something of ours.
static const struct timespec *wall;
int __real_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);

int __wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
    if (!wall || clock != CLOCK_REALTIME)
        return __real_clock_gettime(clock, now);
    *now = *wall;
    return 0;
}

static void test_stamp(void **state)
{
    static const struct {
        struct timespec wall;
        const char *stamp;
    } cases[] = {
        {{0, 0}, "1970-01-01T00:00:00.000Z"},
        {{1798761599, 998999999}, "2026-12-31T23:59:59.998Z"},
        {{1798761599, 999999999}, "2026-12-31T23:59:59.999Z"},
        {{1798761600, 0}, "2027-01-01T00:00:00.000Z"},
        {{1798761600, 12000000}, "2027-01-01T00:00:00.012Z"},
        {{1798761599, 340000000}, "2026-12-31T23:59:59.340Z"}, // set back
        {{1835395200, 999999}, "2028-02-29T00:00:00.000Z"},
        {{-1, 500000000}, "1969-12-31T23:59:59.500Z"},
        {{0, 7000000}, "1970-01-01T00:00:00.007Z"},
    };
    char stamp[CLOCK_STAMP_SIZE];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        wall = &cases[i].wall;
        clock_stamp(stamp);
        wall = NULL;
        assert_string_equal(stamp, cases[i].stamp);
    }
    wall = &(struct timespec){253402300800, 0}; // beyond what RFC 3339 can say
    clock_stamp(stamp);
    wall = NULL;
    assert_int_equal(strlen(stamp), CLOCK_STAMP_SIZE - 1);
}

static void *see_mask(void *mask)
{
    pthread_sigmask(SIG_SETMASK, NULL, mask);
    return NULL;
}

static void test_thread_takes_no_signals(void **state)
{
    sigset_t of_thread;
    sigset_t own;
    pthread_t thread;
    (void)state;
    assert_true(thread_start(&thread, see_mask, &of_thread));
    pthread_join(thread, NULL);
    see_mask(&own);
    assert_int_equal(sigismember(&of_thread, SIGTERM), 1);
    assert_int_equal(sigismember(&of_thread, SIGHUP), 1);
    assert_int_equal(sigismember(&own, SIGTERM), 0);
}

// Memory is kept up to a size, and the cap for good.
static void test_buf_empty(void **state)
{
    (void)state;
    static const uint8_t bytes[1000];
    struct buf buf;
    buf_init(&buf, 4096);
    assert_int_equal(buf_put(&buf, bytes, 100), ERR_OK);
    size_t room = buf.room;
    buf_empty(&buf, room);
    assert_int_equal(buf.len, 0);
    assert_int_equal(buf.room, room);
    assert_int_equal(buf_put(&buf, bytes, sizeof bytes), ERR_OK);
    buf_empty(&buf, room);
    assert_int_equal(buf.len, 0);
    assert_null(buf.data);
    assert_int_equal(buf_put(&buf, bytes, sizeof bytes), ERR_OK);
    buf_clear(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buf_empty),
        cmocka_unit_test(test_err_texts),
        cmocka_unit_test(test_err_texts_are_cut),
        cmocka_unit_test(test_err_of_errno),
        cmocka_unit_test(test_err_of_openssl),
        cmocka_unit_test(test_alloc_fails_at),
        cmocka_unit_test(test_buf_keeps_its_cap),
        cmocka_unit_test(test_buf_without_a_cap),
        cmocka_unit_test(test_buf_all_or_nothing),
        cmocka_unit_test(test_buf_decimal),
        cmocka_unit_test(test_text_quote),
        cmocka_unit_test(test_text_hex),
        cmocka_unit_test(test_text_hex_exact),
        cmocka_unit_test(test_text_is_name),
        cmocka_unit_test(test_hash_vectors),
        cmocka_unit_test(test_hash_digest_info),
        cmocka_unit_test(test_hash_names),
        cmocka_unit_test(test_clock),
        cmocka_unit_test(test_stamp),
        cmocka_unit_test(test_thread_takes_no_signals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
