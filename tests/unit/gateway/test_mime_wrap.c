// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>

#include "gateway/mime.h"
#include "mime_util.h"

#define BOUNDARY "=_sealgate_002e6b72cd60b8d5e68f2cd9e5f9c0e7bd"

static const char entity[] = "Content-Type: text/plain\r\n\r\nhi\r\n";

// The boundary is a hash; in the expected text it stands as BOUNDARY.
static void assert_written(const struct message *message, const char *want)
{
    struct spool *out = write_out(message);
    struct bytes got = view_of(out);
    char *text = calloc(1, got.len + 1);
    memcpy(text, got.data, got.len);
    for (char *at = text; (at = strstr(at, "=_sealgate_"));) {
        memcpy(at, BOUNDARY, strlen(BOUNDARY));
        at += strlen(BOUNDARY);
    }
    assert_string_equal(text, want);
    free(text);
    spool_free(out);
}

static void test_wrap_signed(void **state)
{
    (void)state;
    struct message *outer = parse(
        BYTES_LITERAL("From: a@b\nContent-Type: text/plain\nContent-Length: 3\nTo:c\n\nhi\n"));
    struct message *wrapped = NULL;
    assert_int_equal(mime_wrap_signed(outer, bytes_of_text(entity), BYTES_LITERAL("0\x80"),
                                      "sha-256", &wrapped, NULL),
                     ERR_OK);
    assert_written(wrapped,
                   "From: a@b\nTo:c\nMIME-Version: 1.0\n"
                   "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\";\n"
                   " micalg=\"sha-256\"; boundary=\"" BOUNDARY "\"\n\n"
                   "This is an S/MIME signed message\n\n--" BOUNDARY "\n"
                   "Content-Type: text/plain\n\nhi\n\n--" BOUNDARY "\n"
                   "Content-Type: application/pkcs7-signature; name=\"smime.p7s\"\n"
                   "Content-Transfer-Encoding: base64\n"
                   "Content-Disposition: attachment; filename=\"smime.p7s\"\n\n"
                   "MIA=\n--" BOUNDARY "--\n");
    message_free(wrapped);
    message_free(outer);
}

static void test_wrap_pkcs7(void **state)
{
    (void)state;
    struct message *outer = parse(BYTES_LITERAL(
        "mime-version: 1.0 (x)\r\ncontent-type: text/plain\r\nTo:\r\n c\r\n\r\nhi\r\n"));
    struct message *wrapped = NULL;
    uint8_t der[60] = {0};
    assert_int_equal(
        mime_wrap_pkcs7(outer, bytes_of(der, sizeof der), "authEnveloped-data", &wrapped, NULL),
        ERR_OK);
    assert_written(
        wrapped, "mime-version: 1.0 (x)\r\nTo:\r\n c\r\n"
                 "Content-Type: application/pkcs7-mime; smime-type=authEnveloped-data;\r\n"
                 " name=\"smime.p7m\"\r\nContent-Transfer-Encoding: base64\r\n"
                 "Content-Disposition: attachment; filename=\"smime.p7m\"\r\n\r\n"
                 "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n"
                 "AAAA\r\n");
    message_free(wrapped);
    message_free(outer);
}

// The same message has the same bytes when the MTA tries again; other content another boundary.
static void test_boundary(void **state)
{
    (void)state;
    struct message *outer = parse(BYTES_LITERAL("A: b\n\n"));
    const char *types[3];
    struct message *wrapped[3];
    for (int i = 0; i < 3; i++) {
        struct bytes content = i < 2 ? bytes_of_text(entity) : BYTES_LITERAL("\r\nother");
        assert_int_equal(
            mime_wrap_signed(outer, content, BYTES_LITERAL("x"), "sha-512", &wrapped[i], NULL),
            ERR_OK);
        types[i] = message_header(wrapped[i], "Content-Type");
    }
    assert_string_equal(types[0], types[1]);
    assert_string_not_equal(types[0], types[2]);
    for (int i = 0; i < 3; i++)
        message_free(wrapped[i]);
    message_free(outer);
}

#define OUTER "From: a@b\r\nContent-Type: x/y\r\nMIME-Version: 1.0\r\nContent-Class: z\r\n\r\nold"
#define KEPT "From: a@b\r\nMIME-Version: 1.0\r\n"

static const struct {
    const char *name;
    bool is_lf;
    struct bytes inner;
    const char *want; // NULL: ERR_PERM
} unwrap_cases[] = {
    {"CRLF", false, BYTES_LITERAL("Content-Type: text/plain\r\n\r\nhi\r\n"),
     KEPT "Content-Type: text/plain\r\n\r\nhi\r\n"},
    {"LF becomes CRLF", false, BYTES_LITERAL("Content-Type: text/plain;\n x=y\n\nhi\n"),
     KEPT "Content-Type: text/plain;\r\n x=y\r\n\r\nhi\r\n"},
    {"CRLF becomes LF", true, BYTES_LITERAL("Content-Type: text/plain;\r\n x=y\r\n\r\nhi\r\n"),
     "From: a@b\nMIME-Version: 1.0\nContent-Type: text/plain;\n x=y\n\nhi\n"},
    {"other fields stay inside", false,
     BYTES_LITERAL("Subject: secret\nContent-type: text/plain\nFrom: x@y\nX: z\n\nhi"),
     KEPT "Content-type: text/plain\r\n\r\nhi"},
    {"no header", false, BYTES_LITERAL("\nhi\n"), KEPT "\r\nhi\r\n"},
    {"no header, CRLF", false, BYTES_LITERAL("\r\nhi\r\n"), KEPT "\r\nhi\r\n"},
    {"header only", false, BYTES_LITERAL("Content-Type: text/plain\n"),
     KEPT "Content-Type: text/plain\r\n\r\n"},
    {"8-bit and no label", false, BYTES_LITERAL("Content-Type: text/plain\n\nh\xe4\n"),
     KEPT "Content-Type: text/plain\r\nContent-Transfer-Encoding: 8bit\r\n\r\nh\xe4\r\n"},
    {"binary becomes lines", false,
     BYTES_LITERAL("Content-Type: image/x\nContent-Transfer-Encoding: binary\n\n\0\n"),
     KEPT "Content-Type: image/x\r\nContent-Transfer-Encoding: base64\r\n\r\nAAo=\r\n"},
    {"forwarded message", false,
     BYTES_LITERAL("Content-Type: message/rfc822\n\nSubject: x\n\nhi\n"),
     KEPT "Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nhi\r\n"},
    {"wrong length field", false, BYTES_LITERAL("Content-Length: 99\nContent-Type: a/b\n\nhi\n"),
     KEPT "Content-Type: a/b\r\n\r\nhi\r\n"},
    {"nothing", false, BYTES_LITERAL(""), NULL},
    {"text", false, BYTES_LITERAL("hello\n\nworld\n"), NULL},
    {"garbage", false, BYTES_LITERAL("\x93\x17\0\xfftype: text/plain\n\nhi\n"), NULL},
    {"no empty line", false, BYTES_LITERAL("Content-Type: text/plain\nhello world\n"), NULL},
};

static void test_unwrap(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof unwrap_cases / sizeof unwrap_cases[0]; i++) {
        print_message("%s\n", unwrap_cases[i].name);
        struct message *outer = parse(BYTES_LITERAL(OUTER));
        outer->has_crlf = !unwrap_cases[i].is_lf;
        struct message *made = NULL;
        struct detail detail = {0};
        enum err err = mime_unwrap(outer, unwrap_cases[i].inner, &made, &detail);
        assert_int_equal(err, unwrap_cases[i].want ? ERR_OK : ERR_PERM);
        if (err == ERR_OK)
            assert_written(made, unwrap_cases[i].want);
        else
            assert_true(!made && detail.text[0]);
        message_free(made);
        message_free(outer);
    }
}

// The daemon's threads share GMime.
static void *work(void *raw)
{
    bool *ok = raw;
    *ok = true;
    for (int i = 0; i < 200 && *ok; i++) {
        struct message *message = NULL;
        struct message *wrapped = NULL;
        struct mime_facts facts = {0};
        struct spool *made = spool_new(&test_conf);
        *ok = message_parse(BYTES_LITERAL("From: a@b\nContent-Type: multipart/mixed; boundary=b\n\n"
                                          "--b\nContent-Type: text/plain; name=\"b\xc3\xa4r\"\n\n"
                                          "h\xc3\xa4\n--b--\n"),
                            &test_conf, &message, NULL) == ERR_OK &&
              mime_make_entity(message, made, NULL) == ERR_OK &&
              mime_wrap_pkcs7(message, bytes_of_text(entity), "enveloped-data", &wrapped, NULL) ==
                  ERR_OK &&
              mime_inspect(wrapped, &facts, NULL) == ERR_OK && facts.kind == MIME_PKCS7;
        message_free(message);
        message_free(wrapped);
        spool_free(made);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    bool ok[THREADS] = {false};
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &ok[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(ok[i]);
    }
}

int main(void)
{
    mime_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrap_signed), cmocka_unit_test(test_wrap_pkcs7),
        cmocka_unit_test(test_boundary),    cmocka_unit_test(test_unwrap),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
