// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>

#include <gmime/gmime.h>

#include "corpus.h"
#include "gateway/mime.h"
#include "gateway/mime_text.h"
#include "mime_util.h"

#define LONG_LINE                                                                                  \
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" \
    "xxx"                                                                                          \
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" \
    "xxx"

static const struct {
    const char *name;
    struct bytes raw, entity; // entity empty: ERR_PERM
} cases[] = {
    {"no MIME", BYTES_LITERAL("From: a@b\n\nhi\n"),
     BYTES_LITERAL("Content-Type: text/plain; charset=us-ascii\r\n\r\nhi\r\n")},
    {"no MIME, UTF-8", BYTES_LITERAL("From: a@b\n\nh\xc3\xa4\n"),
     BYTES_LITERAL("Content-Type: text/plain; charset=utf-8\r\n"
                   "Content-Transfer-Encoding: base64\r\n\r\naMOkDQo=\r\n")},
    {"no MIME, unknown charset", BYTES_LITERAL("From: a@b\n\nsans \xe9tiquette\n"),
     BYTES_LITERAL("Content-Type: text/plain; charset=unknown-8bit\r\n"
                   "Content-Transfer-Encoding: quoted-printable\r\n\r\nsans =E9tiquette\r\n")},
    {"7-bit is kept",
     BYTES_LITERAL("MIME-Version: 1.0\nSubject: x\nContent-type:text/plain;\n\tformat=flowed\n"
                   "Content-Language: de\nContent-Length: 7\n\nhi, \n-- \nx"),
     BYTES_LITERAL("Content-type:text/plain;\r\n\tformat=flowed\r\nContent-Language: de\r\n\r\n"
                   "hi, \r\n-- \r\nx")},
    {"CRLF", BYTES_LITERAL("Content-Type: text/html\r\n\r\nhi\r\n\r\n"),
     BYTES_LITERAL("Content-Type: text/html\r\n\r\nhi\r\n\r\n")},
    {"mixed line ends", BYTES_LITERAL("Content-Type: text/html\r\nX: y\n\r\na\r\nb\nc"),
     BYTES_LITERAL("Content-Type: text/html\r\n\r\na\r\nb\r\nc")},
    {"CR alone", BYTES_LITERAL("Content-Type: text/plain\n\na\rb\n"),
     BYTES_LITERAL("Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
                   "a=0Db\r\n")},
    {"zero byte", BYTES_LITERAL("Content-Type: text/plain\n\na\0b\n"),
     BYTES_LITERAL("Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n"
                   "YQBiCg==\r\n")},
    {"8-bit label on 7-bit text",
     BYTES_LITERAL("Content-Transfer-Encoding: 8bit\nContent-Type: text/plain\n\nhi\n"),
     BYTES_LITERAL("Content-Type: text/plain\r\nContent-Transfer-Encoding: 7bit\r\n\r\nhi\r\n")},
    {"From line", BYTES_LITERAL("Content-Type: text/plain\n\nx\nFrom a friend \n-- \n.\n"),
     BYTES_LITERAL("Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
                   "x\r\n=46rom a friend=20\r\n=2D-=20\r\n=2E\r\n")},
    {"From line in quoted-printable",
     BYTES_LITERAL("Content-Type: text/plain; charset=utf-8\n"
                   "Content-Transfer-Encoding: Quoted-Printable\n\nFrom a friend: =C3=A4=\nx\n"),
     BYTES_LITERAL(
         "Content-Type: text/plain; charset=utf-8\r\n"
         "Content-Transfer-Encoding: quoted-printable\r\n\r\n=46rom a friend: =C3=A4x\r\n")},
    {"not a From line", BYTES_LITERAL("Content-Type: text/plain\n\nFrom: x\n From y\nFromage\n"),
     BYTES_LITERAL("Content-Type: text/plain\r\n\r\nFrom: x\r\n From y\r\nFromage\r\n")},
    {"binary",
     BYTES_LITERAL("Content-Type: image/x\nContent-Transfer-Encoding: binary\n\n\x80\n\n"),
     BYTES_LITERAL("Content-Type: image/x\r\nContent-Transfer-Encoding: base64\r\n\r\ngAoK\r\n")},
    {"8-bit lines",
     BYTES_LITERAL("Content-Type: image/x\nContent-Transfer-Encoding: 8bit\n\n\x80\n"),
     BYTES_LITERAL("Content-Type: image/x\r\nContent-Transfer-Encoding: base64\r\n\r\ngA0K\r\n")},
    {"8-bit bytes in base64",
     BYTES_LITERAL("Content-Type: image/x\nContent-Transfer-Encoding: base64\n\ngA\xe4oK\n"),
     BYTES_LITERAL("Content-Type: image/x\r\nContent-Transfer-Encoding: base64\r\n\r\ngAoK\r\n")},
    {"8-bit bytes in uuencode",
     BYTES_LITERAL("Content-Type: text/plain\nContent-Transfer-Encoding: x-uuencode\n\n"
                   "begin 600 b\xe4r\n#0V%T\n`\nend\n"),
     BYTES_LITERAL("Content-Type: text/plain\r\n"
                   "Content-Transfer-Encoding: quoted-printable\r\n\r\nCat")},
    {"unknown encoding",
     BYTES_LITERAL("Content-Type: text/plain\nContent-Transfer-Encoding: x-odd\n\nFrom hi\n"),
     BYTES_LITERAL("Content-Type: text/plain\r\nContent-Transfer-Encoding: x-odd\r\n\r\n"
                   "From hi\r\n")},
    {"unknown encoding, 8-bit",
     BYTES_LITERAL("Content-Type: text/plain\nContent-Transfer-Encoding: x-odd\n\n\xe4\n"),
     {NULL, 0}},
    {"only the part in the way",
     BYTES_LITERAL("Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 8bit\n\n"
                   "pre\xe4\n--b\ncontent-TYPE: text/plain ; charset=utf-8\nX:y\n"
                   "Content-Transfer-Encoding: 8bit\n\nab\xc3\xa4 (ascii, mostly)\n\n"
                   "--b \nContent-Type: text/html\n\n<p>\n--b--\nepi\xe4logue\n"),
     BYTES_LITERAL("Content-Type: multipart/mixed; boundary=b\r\n"
                   "Content-Transfer-Encoding: 7bit\r\n\r\n"
                   "pre?\r\n--b\r\ncontent-TYPE: text/plain ; charset=utf-8\r\nX:y\r\n"
                   "Content-Transfer-Encoding: quoted-printable\r\n\r\nab=C3=A4 (ascii, mostly)\r\n"
                   "\r\n--b \r\nContent-Type: text/html\r\n\r\n<p>\r\n--b--\r\n")},
    {"epilogue of 7-bit mail",
     BYTES_LITERAL("Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b--\n\nfooter\n"),
     BYTES_LITERAL("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n")},
    {"part without header",
     BYTES_LITERAL("Content-Type: multipart/mixed; boundary=b\n\n--b\n\nabcdef\xe4\n--b--"),
     BYTES_LITERAL("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
                   "Content-Type: text/plain; charset=unknown-8bit\r\n"
                   "Content-Transfer-Encoding: quoted-printable\r\n\r\nabcdef=E4\r\n--b--")},
    {"forwarded message",
     BYTES_LITERAL("Content-Type: message/rfc822\n\nFrom erin Mon\nSubject: sch\xc3\xb6n\n"
                   "From: \xc3\x84rzte <x@y>\n\nabcdefghijkl \xc3\xa4\n"),
     BYTES_LITERAL("Content-Type: message/rfc822\r\n\r\nSubject: =?iso-8859-1?B?c2No9m4=?=\r\n"
                   "From: =?iso-8859-1?B?xHJ6dGU=?= <x@y>\r\n"
                   "Content-Type: text/plain; charset=utf-8\r\n"
                   "Content-Transfer-Encoding: quoted-printable\r\n\r\nabcdefghijkl =C3=A4\r\n")},
    {"8-bit parameter", BYTES_LITERAL("Content-Type: text/plain; name=\"b\xc3\xa4r\"\n\nx\n"),
     BYTES_LITERAL("Content-Type: text/plain; name*=iso-8859-1''b%E4r\r\n\r\nx\r\n")},
    {"signed by somebody",
     BYTES_LITERAL(
         "Content-Type: multipart/signed; boundary=b; protocol=\"application/pgp-signature\""
         "\nContent-Transfer-Encoding: 8bit\n\n--b\n\nFrom \xe4\n--b\n\nsig\n--b--\n"),
     BYTES_LITERAL(
         "Content-Type: multipart/signed; boundary=b; protocol=\"application/pgp-signature\""
         "\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
         "--b\r\n\r\nFrom \xe4\r\n--b\r\n\r\nsig\r\n--b--\r\n")},
    {"no delimiter, 7-bit", BYTES_LITERAL("Content-Type: multipart/mixed; boundary=b\n\nFrom x\n"),
     BYTES_LITERAL("Content-Type: multipart/mixed; boundary=b\r\n\r\nFrom x\r\n")},
    {"no delimiter, 8-bit",
     BYTES_LITERAL("Content-Type: multipart/mixed; boundary=b\n\n\xe4\n"),
     {NULL, 0}},
    {"long line",
     BYTES_LITERAL(
         "Content-Type: text/plain\n\n" LONG_LINE LONG_LINE LONG_LINE LONG_LINE LONG_LINE LONG_LINE
         "\n"),
     {NULL, 1}}, // only that it works
};

static void test_make_entity(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        print_message("%s\n", cases[i].name);
        struct message *message = parse(cases[i].raw);
        struct spool *entity = spool_new(&test_conf);
        struct detail detail = {0};
        enum err err = mime_make_entity(message, entity, &detail);
        assert_int_equal(err, cases[i].entity.len ? ERR_OK : ERR_PERM);
        assert_int_equal(detail.text[0] != 0, err != ERR_OK);
        if (cases[i].entity.data)
            assert_bytes(view_of(entity), cases[i].entity);
        spool_free(entity);
        message_free(message);
    }
}

// Each leaf's decoded content in the order of the parts, as GMime finds them.
struct leaves {
    GByteArray *all;
    bool has_signed;
};

static void put_leaf(GMimeObject *parent, GMimeObject *part, gpointer ctx)
{
    (void)parent;
    struct leaves *leaves = ctx;
    if (GMIME_IS_MULTIPART_SIGNED(part))
        leaves->has_signed = true;
    if (GMIME_IS_MESSAGE_PART(part)) {
        GMimeMessage *inner = g_mime_message_part_get_message(GMIME_MESSAGE_PART(part));
        if (inner)
            g_mime_message_foreach(inner, put_leaf, ctx);
    }
    if (!GMIME_IS_PART(part))
        return;
    GMimeStream *stream = g_mime_stream_mem_new();
    GMimeDataWrapper *content = g_mime_part_get_content(GMIME_PART(part));
    if (content)
        g_mime_data_wrapper_write_to_stream(content, stream);
    GByteArray *bytes = g_mime_stream_mem_get_byte_array(GMIME_STREAM_MEM(stream));
    // Line ends are equal whatever they are, and the last one may belong to the delimiter.
    while (bytes->len && strchr("\r\n", bytes->data[bytes->len - 1]))
        bytes->len--;
    for (guint i = 0; i < bytes->len; i++)
        if (bytes->data[i] != '\r' || i + 1 == bytes->len || bytes->data[i + 1] != '\n')
            g_byte_array_append(leaves->all, &bytes->data[i], 1);
    g_byte_array_append(leaves->all, (const guint8 *)"\n====\n", 6);
    g_object_unref(stream);
}

static struct leaves leaves_of(struct bytes raw)
{
    struct leaves leaves = {g_byte_array_new(), false};
    GMimeStream *stream = g_mime_stream_mem_new_with_buffer((const char *)raw.data, raw.len);
    GMimeParser *parser = g_mime_parser_new_with_stream(stream);
    GMimeMessage *message = g_mime_parser_construct_message(parser, NULL);
    if (message) {
        g_mime_message_foreach(message, put_leaf, &leaves);
        g_object_unref(message);
    }
    g_object_unref(parser);
    g_object_unref(stream);
    return leaves;
}

struct tally {
    size_t made, same, refused;
};

static struct spool *entity_of(const struct message *message)
{
    struct spool *entity = spool_new(&test_conf);
    assert_int_equal(mime_make_entity(message, entity, NULL), ERR_OK);
    return entity;
}

static void check_wraps(const struct message *outer, struct bytes entity)
{
    struct bytes signature = BYTES_LITERAL("0\x80 not really\0 a signature");
    struct message *wrapped = NULL;
    assert_int_equal(mime_wrap_signed(outer, entity, signature, "sha-256", &wrapped, NULL), ERR_OK);
    struct spool *written = write_out(wrapped);
    struct message *read = parse(view_of(written));
    struct mime_facts facts;
    assert_int_equal(mime_inspect(read, &facts, NULL), ERR_OK);
    assert_int_equal(facts.kind, MIME_SIGNED);
    assert_false(facts.is_broken);
    struct spool *content = spool_new(&test_conf);
    struct spool *decoded = spool_new(&test_conf);
    assert_int_equal(mime_split_signed(read, content, decoded, NULL), ERR_OK);
    assert_bytes(view_of(content), entity);
    assert_bytes(view_of(decoded), signature);
    // Signed again or encrypted, the signed bytes are still there.
    struct spool *again = entity_of(read);
    struct bytes whole = view_of(again);
    assert_non_null(memmem(whole.data, whole.len, entity.data, entity.len));

    struct message *unwrapped = NULL;
    assert_int_equal(mime_unwrap(read, view_of(content), &unwrapped, NULL), ERR_OK);
    struct spool *inner = entity_of(unwrapped);
    // What somebody signed as 8-bit gets the label that it lacked.
    struct mime_text text = mime_text_scan(entity);
    if (text.count_8bit == 0)
        assert_bytes(view_of(inner), entity);
    message_free(unwrapped);
    spool_free(inner);
    spool_free(again);
    spool_free(content);
    spool_free(decoded);
    message_free(read);
    spool_free(written);
    message_free(wrapped);

    assert_int_equal(mime_wrap_pkcs7(outer, entity, "enveloped-data", &wrapped, NULL), ERR_OK);
    assert_int_equal(mime_inspect(wrapped, &facts, NULL), ERR_OK);
    assert_int_equal(facts.kind, MIME_PKCS7);
    assert_string_equal(facts.smime_type, "enveloped-data");
    struct spool *der = spool_new(&test_conf);
    assert_int_equal(mime_decode_pkcs7(wrapped, der, NULL), ERR_OK);
    assert_bytes(view_of(der), entity);
    spool_free(der);
    message_free(wrapped);
}

static void every_function(const char *path, struct bytes raw, void *ctx)
{
    struct tally *tally = ctx;
    struct message *message = parse(raw);
    struct spool *entity = spool_new(&test_conf);
    struct detail detail = {0};
    enum err err = mime_make_entity(message, entity, &detail);
    if (err != ERR_OK) {
        print_message("refused: %s: %s\n", path, detail.text);
        assert_int_equal(err, ERR_PERM);
        tally->refused++;
    } else {
        tally->made++;
        struct bytes view = view_of(entity);
        struct leaves before = leaves_of(raw);
        struct leaves after = leaves_of(view);
        struct mime_text text = mime_text_scan(view);
        assert_true(mime_text_is_7bit(&text) || before.has_signed);
        if (bytes_equal(bytes_of(before.all->data, before.all->len),
                        bytes_of(after.all->data, after.all->len)))
            tally->same++;
        else
            print_message("GMime finds other content: %s\n", path);
        g_byte_array_unref(before.all);
        g_byte_array_unref(after.all);
        struct message *again = parse(view);
        struct spool *second = entity_of(again);
        assert_bytes(view_of(second), view);
        spool_free(second);
        message_free(again);
        check_wraps(message, view);
        message->has_crlf = !message->has_crlf;
        check_wraps(message, view);
    }
    spool_free(entity);
    message_free(message);
}

static void test_corpus(void **state)
{
    (void)state;
    const char *const endings[] = {".eml", ".txt", NULL};
    struct tally tally = {0};
    assert_true(corpus_each(TEST_DATA "/mime", endings, every_function, &tally) > 0);
    // Of sound mail GMime finds the same content before and after; of broken mail it may not.
    assert_int_equal(tally.refused, 0);
    assert_int_equal(tally.same, tally.made);
    corpus_each(TEST_CORPUS "/nasty-mime", endings, every_function, &tally);
    corpus_each(TEST_CORPUS "/generated", endings, every_function, &tally);
    print_message("%zu made, %zu of them the same to GMime; %zu refused\n", tally.made, tally.same,
                  tally.refused);
}

int main(void)
{
    mime_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_make_entity),
        cmocka_unit_test(test_corpus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
