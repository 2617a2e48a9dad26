// SPDX-License-Identifier: Apache-2.0
#include "hsmd/base/curve.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <zmq.h>

#include "hsmd/base/file.h"

#define KEY "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"

static void test_is_key(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool expected;
    } rows[] = {
        {KEY, true},
        {"0000000000000000000000000000000000000000", true},
        {"%nSc0%nSc0%nSc0%nSc0%nSc0%nSc0%nSc0%nSc0", true},  // all bits
        {"%nSc0%nSc0%nSc0%nSc0%nSc0%nSc0%nSc0%nSc1", false}, // and one more
        {"%nSc1%nSc0%nSc0%nSc0%nSc0%nSc0%nSc0%nSc0", false},
        {"", false},
        {KEY "0", false},
        {KEY KEY, false},
        {"rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf", false},
        {"rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf\"", false},
        {"rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf\xff", false},
        {" q:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (curve_is_key(rows[i].text) != rows[i].expected)
            fail_msg("%s", rows[i].text);
    }
}

// What ZeroMQ makes is a key; of what it makes with one character another, both say the same.
static void test_as_zeromq(void **state)
{
    (void)state;
    unsigned good = 0;
    unsigned bad = 0;
    for (unsigned n = 0; n < 50; n++) {
        char public_key[CURVE_TEXT_SIZE];
        char secret_key[CURVE_TEXT_SIZE];
        uint8_t raw[32];
        assert_int_equal(zmq_curve_keypair(public_key, secret_key), 0);
        assert_true(curve_is_key(public_key));
        assert_true(curve_is_key(secret_key));
        char text[CURVE_TEXT_SIZE] = "untouched";
        assert_true(curve_decode(public_key, raw));
        curve_encode(raw, text);
        assert_string_equal(text, public_key);
        for (char c = ' ' + 1; c < 0x7f; c++) {
            public_key[n % (CURVE_TEXT_SIZE - 1)] = c;
            bool expected = zmq_z85_decode(raw, public_key) != NULL;
            assert_int_equal(curve_is_key(public_key), expected);
            *(expected ? &good : &bad) += 1;
        }
    }
    assert_true(good > 0 && bad > 0);
}

static void test_read(void **state)
{
    (void)state;
    static const struct {
        struct bytes content;
        bool expected;
    } rows[] = {
        {BYTES_LITERAL(KEY), true},
        {BYTES_LITERAL(KEY "\n"), true},
        {BYTES_LITERAL(KEY " \r\n\n"), true},
        {BYTES_LITERAL(""), false},
        {BYTES_LITERAL("\n"), false},
        {BYTES_LITERAL("\n" KEY), false},
        {BYTES_LITERAL(KEY "\n" KEY "\n"), false},
        {BYTES_LITERAL(KEY "\0\n"), false},
    };
    char path[] = "/tmp/curve-XXXXXX";
    close(mkstemp(path));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char key[CURVE_TEXT_SIZE] = "untouched";
        struct detail detail = {0};
        assert_int_equal(file_write(path, rows[i].content, 0600, NULL), ERR_OK);
        enum err err = curve_read_public(path, key, &detail);
        assert_int_equal(err, rows[i].expected ? ERR_OK : ERR_PERM);
        assert_string_equal(key, rows[i].expected ? KEY : "untouched");
        if (!rows[i].expected)
            assert_non_null(strstr(detail.text, "no CURVE key"));
    }
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_is_key),
        cmocka_unit_test(test_as_zeromq),
        cmocka_unit_test(test_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
