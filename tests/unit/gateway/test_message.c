// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "corpus.h"
#include "gateway/message.h"
#include "hsmd/base/alloc.h"

static const struct spool_conf conf = {"/tmp", 1 << 20, 1 << 26};

static struct bytes view(struct spool *spool)
{
    struct bytes bytes;
    assert_int_equal(spool_view(spool, &bytes, NULL), ERR_OK);
    return bytes;
}

static void assert_bytes(struct bytes got, struct bytes want)
{
    if (!bytes_equal(got, want))
        fail_msg("got [%.*s] want [%.*s]", (int)got.len, got.data, (int)want.len, want.data);
}

static const struct {
    const char *name, *raw;
    size_t fields;
    bool has_crlf;
    const char *first_name, *first_value, *body;
    const char *written; // NULL: as raw
} cases[] = {
    {"plain LF", "From: a@b\nTo: c\n\nhello\n", 2, false, "From", " a@b", "hello\n", NULL},
    {"plain CRLF", "From: a@b\r\n\r\nhello\r\n", 1, true, "From", " a@b", "hello\r\n", NULL},
    {"folds become LF", "A: b\r\n c\r\n\td\r\n\r\n", 1, true, "A", " b\n c\n\td", "", NULL},
    {"mixed ends keep the CR", "A: b\r\n c\nB: d\n\nx\r\n", 2, false, "A", " b\r\n c", "x\r\n",
     NULL},
    {"LF header, CRLF empty line", "A: b\n\r\nx", 1, false, "A", " b", "x", NULL},
    {"CRLF header, LF empty line", "A: b\r\n\nx", 1, false, "A", " b\r", "x", NULL},
    {"CR CR LF", "A: b\r\r\n c\r\r\n\r\nx", 1, true, "A", " b\r\n c\r", "x", NULL},
    {"no body", "A: b\n\n", 1, false, "A", " b", "", NULL},
    {"no empty line", "A: b\n", 1, false, "A", " b", "", NULL},
    {"cut header", "A: b\nC: d", 2, false, "A", " b", "", NULL},
    {"cut header CRLF", "A: b\r\nC: d\r", 2, true, "A", " b", "", NULL},
    {"cut at a fold", "A: b\n ", 1, false, "A", " b\n ", "", NULL},
    {"body without empty line", "A: b\nthis is text\n\nmore", 1, false, "A", " b",
     "this is text\n\nmore", NULL},
    {"only a body", "hello\nA: b\n", 0, false, NULL, NULL, "hello\nA: b\n", NULL},
    {"only a body, CRLF", "hello\r\n", 0, true, NULL, NULL, "hello\r\n", NULL},
    {"fold first", " x: y\nA: b\n", 0, false, NULL, NULL, " x: y\nA: b\n", NULL},
    {"empty", "", 0, false, NULL, NULL, "", NULL},
    {"empty line only", "\n", 0, false, NULL, NULL, "", NULL},
    {"empty header CRLF", "\r\nbody", 0, true, NULL, NULL, "body", NULL},
    {"space before the colon", "Subject : x\n\n", 1, false, "Subject ", " x", "", NULL},
    {"no name", ": x\n\n", 0, false, NULL, NULL, ": x\n\n", NULL},
    {"no value", "A:\nB:\n\n", 2, false, "A", "", "", NULL},
    {"line of white space is a fold", "A: b\n \nC: d\n\n", 2, false, "A", " b\n ", "", NULL},
    {"8-bit name is no field", "\xc3\xa4: b\n\n", 0, false, NULL, NULL, "\xc3\xa4: b\n\n", NULL},
    {"mbox line is dropped", "From bob@a Mon Jan  1 00:00:00 2026\nA: b\n\nx", 1, false, "A", " b",
     "x", "A: b\n\nx"},
    {"From with a space is a field", "From : a@b\n\n", 1, false, "From ", " a@b", "", NULL},
};

static void test_parse_write(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        print_message("%s\n", cases[i].name);
        struct message *message = NULL;
        assert_int_equal(message_parse(bytes_of_text(cases[i].raw), &conf, &message, NULL), ERR_OK);
        assert_int_equal(message->header_count, cases[i].fields);
        assert_int_equal(message->has_crlf, cases[i].has_crlf);
        if (cases[i].first_name) {
            assert_string_equal(message->headers[0].name, cases[i].first_name);
            assert_string_equal(message->headers[0].value, cases[i].first_value);
        }
        assert_bytes(view(message->body), bytes_of_text(cases[i].body));
        const char *want = cases[i].written ? cases[i].written : cases[i].raw;
        struct message *copy = NULL;
        assert_int_equal(message_copy(message, &copy, NULL), ERR_OK);
        message_free(message);
        struct spool *out = spool_new(&conf);
        assert_int_equal(message_write(copy, out, NULL), ERR_OK);
        assert_bytes(view(out), bytes_of_text(want));
        spool_free(out);
        message_free(copy);
    }
}

static void test_zero_bytes_leave_the_header(void **state)
{
    (void)state;
    struct message *message = NULL;
    assert_int_equal(message_parse(BYTES_LITERAL("A: b\0c\nD: e\n\nx\0y"), &conf, &message, NULL),
                     ERR_OK);
    assert_int_equal(message->header_count, 2);
    assert_string_equal(message->headers[0].value, " bc");
    assert_bytes(view(message->body), BYTES_LITERAL("x\0y"));
    message_free(message);
}

static void test_headers(void **state)
{
    (void)state;
    struct message *message = message_new(&conf);
    assert_int_equal(message_add_header(message, "A", " 1", NULL), ERR_OK);
    assert_int_equal(message_add_header(message, "B", " 2", NULL), ERR_OK);
    assert_int_equal(message_add_header(message, "a ", " 3", NULL), ERR_OK);
    assert_int_equal(message_prepend_header(message, "C", " 4", NULL), ERR_OK);
    assert_string_equal(message_header(message, "a"), " 1");
    assert_null(message_header(message, "D"));
    message_remove_headers(message, "A");
    assert_int_equal(message->header_count, 2);
    message_remove_header_at(message, 0);
    assert_string_equal(message->headers[0].name, "B");
    message_free(message);
    message_free(NULL);
}

// A field added to a message that had no empty line gets one.
static void test_added_field_has_separator(void **state)
{
    (void)state;
    struct message *message = NULL;
    assert_int_equal(message_parse(BYTES_LITERAL(" folded?\n"), &conf, &message, NULL), ERR_OK);
    assert_int_equal(message_prepend_header(message, "X", " y", NULL), ERR_OK);
    struct spool *out = spool_new(&conf);
    assert_int_equal(message_write(message, out, NULL), ERR_OK);
    assert_bytes(view(out), BYTES_LITERAL("X: y\n\n folded?\n"));
    spool_free(out);
    message_free(message);
}

static void test_limits(void **state)
{
    (void)state;
    struct detail detail = {0};
    struct message *message = message_new(&conf);
    for (int i = 0; i < MESSAGE_HEADERS_MAX; i++)
        assert_int_equal(message_add_header(message, "A", "b", NULL), ERR_OK);
    assert_int_equal(message_add_header(message, "A", "b", &detail), ERR_PERM);
    message_remove_header_at(message, 7);
    assert_int_equal(message_prepend_header(message, "A", "b", NULL), ERR_OK);
    message_free(message);

    message = message_new(&conf);
    char *value = calloc(1, MESSAGE_HEADER_BYTES_MAX);
    memset(value, 'x', MESSAGE_HEADER_BYTES_MAX - 3);
    assert_int_equal(message_add_header(message, "A", value, NULL), ERR_OK);
    assert_int_equal(message_add_header(message, "A", "b", &detail), ERR_PERM);
    free(value);
    message_free(message);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    bool is_done = false;
    for (unsigned n = 1; !is_done; n++) {
        struct message *message = NULL;
        mem_fail_at(n);
        enum err err = message_parse(BYTES_LITERAL("A: b\nC: d\n\nhello"), &conf, &message, NULL);
        mem_fail_at(0);
        is_done = err == ERR_OK;
        assert_true(is_done || (err == ERR_TEMP && !message && n < 50));
        message_free(message);
    }
}

static void round_trip(const char *path, struct bytes raw, void *ctx)
{
    (void)ctx;
    // The mbox line is the one thing that is not kept.
    while (raw.len > 5 && memcmp(raw.data, "From ", 5) == 0) {
        const uint8_t *end = memchr(raw.data, '\n', raw.len);
        size_t n = end ? (size_t)(end - raw.data) + 1 : raw.len;
        raw = bytes_of(raw.data + n, raw.len - n);
    }
    struct message *message = NULL;
    assert_int_equal(message_parse(raw, &conf, &message, NULL), ERR_OK);
    struct spool *out = spool_new(&conf);
    assert_int_equal(message_write(message, out, NULL), ERR_OK);
    if (!bytes_equal(view(out), raw))
        fail_msg("%s is not written as it came", path);
    spool_free(out);
    message_free(message);
}

static void test_corpus_round_trip(void **state)
{
    (void)state;
    const char *const endings[] = {".eml", ".txt", ".p7m", NULL};
    size_t own = corpus_each(TEST_DATA "/mime", NULL, round_trip, NULL);
    size_t more = corpus_each(TEST_CORPUS, endings, round_trip, NULL);
    print_message("%zu own files, %zu of the corpus\n", own, more);
    assert_true(own > 0);
}

// Short texts of the characters that matter: a cheap exhaustive search.
static void test_all_short_messages(void **state)
{
    (void)state;
    static const char *const atoms[] = {"\r", "\n", "\r\n", "A:b", " ", "x", ":"};
    enum { ATOMS = 7, LENGTH = 6 };
    size_t total = 1;
    for (int i = 0; i < LENGTH; i++)
        total *= ATOMS;
    for (size_t k = 0; k < total; k++) {
        char raw[64] = "";
        for (size_t rest = k; rest; rest /= ATOMS)
            strcat(raw, atoms[rest % ATOMS]);
        round_trip(raw, bytes_of_text(raw), NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_write),
        cmocka_unit_test(test_zero_bytes_leave_the_header),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_added_field_has_separator),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_allocation_failures),
        cmocka_unit_test(test_corpus_round_trip),
        cmocka_unit_test(test_all_short_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
