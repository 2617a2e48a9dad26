// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>

#include "corpus.h"
#include "gateway/mime.h"
#include "hsmd/base/file.h"
#include "mime_util.h"

#define SIG_PART "Content-Type: application/pkcs7-signature\n\nMIAG\n"

static const struct {
    const char *name, *raw;
    enum mime_kind kind;
    const char *smime_type;
    bool has_nested, is_pgp, is_broken;
} inspect_cases[] = {
    {"no MIME", "From: a@b\n\nhi\n", MIME_PLAIN, "", false, false, false},
    {"text", "Content-Type: text/plain\n\nhi\n", MIME_PLAIN, "", false, false, false},
    {"enveloped", "Content-Type: application/pkcs7-mime; smime-type=Enveloped-Data\n\nMIAG\n",
     MIME_PKCS7, "enveloped-data", false, false, false},
    {"x-, upper case, quoted, folded",
     "CONTENT-TYPE: APPLICATION/X-PKCS7-MIME;\n\tSMIME-TYPE=\"signed-data\"\n\nMIAG\n", MIME_PKCS7,
     "signed-data", false, false, false},
    {"space before the colon", "Content-Type : application/pkcs7-mime\n\nMIAG\n", MIME_PKCS7, "",
     false, false, false},
    {"octet-stream by name", "Content-Type: application/octet-stream; name=smime.p7m\n\nMIAG\n",
     MIME_PKCS7, "", false, false, false},
    {"octet-stream by filename",
     "Content-Type: application/octet-stream\nContent-Disposition: attachment;\n"
     " filename=\"X.P7M\"\n\nMIAG\n",
     MIME_PKCS7, "", false, false, false},
    {"octet-stream by RFC 2231 name",
     "Content-Type: application/octet-stream; name*0=smi; name*1=me.p7m\n\nMIAG\n", MIME_PKCS7, "",
     false, false, false},
    {"octet-stream by RFC 2231 filename",
     "Content-Type: application/octet-stream\n"
     "Content-Disposition: attachment; filename*=utf-8''gru%C3%9F.p7z\n\nMIAG\n",
     MIME_PKCS7, "", false, false, false},
    {"octet-stream of another name", "Content-Type: application/octet-stream; name=p7m\n\nMIAG\n",
     MIME_PLAIN, "", false, false, false},
    {"a text named p7m", "Content-Type: text/plain; name=smime.p7m\n\nMIAG\n", MIME_PLAIN, "",
     false, false, false},
    {"empty enveloped", "Content-Type: application/pkcs7-mime\n\n \n", MIME_PKCS7, "", false, false,
     true},
    {"two Content-Types", "Content-Type: application/pkcs7-mime\nContent-Type: text/html\n\nMIAG\n",
     MIME_PKCS7, "", false, false, true},
    {"signed",
     "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=b\n\n"
     "--b\n\nhi\n--b\n" SIG_PART "--b--\n",
     MIME_SIGNED, "", false, false, false},
    {"signed, x-, case, comment",
     "Content-Type: Multipart/Signed (c); Protocol = Application/X-PKCS7-Signature;\n"
     " boundary=\"b\"\n\n--b\n\nhi\n--b\n" SIG_PART "--b--\n",
     MIME_SIGNED, "", false, false, false},
    {"signed, no protocol",
     "Content-Type: multipart/signed; boundary=b\n\n--b\n\nhi\n--b\n" SIG_PART "--b--\n",
     MIME_SIGNED, "", false, false, false},
    {"signed, no protocol, nothing known",
     "Content-Type: multipart/signed; boundary=b\n\n--b\n\nhi\n--b\n\nx\n--b--\n", MIME_PLAIN, "",
     false, false, false},
    {"signed, no end", "Content-Type: multipart/signed; boundary=b\n\n--b\n\nhi\n--b\n" SIG_PART,
     MIME_SIGNED, "", false, false, false},
    {"signed, no boundary",
     "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"\n\n--b\n",
     MIME_SIGNED, "", false, false, true},
    {"signed, one part",
     "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=b\n\n"
     "--b\n\nhi\n--b--\n",
     MIME_SIGNED, "", false, false, true},
    {"signed, three parts",
     "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=b\n\n"
     "--b\n\nhi\n--b\n" SIG_PART "--b\n\nunsigned!\n--b--\n",
     MIME_SIGNED, "", false, false, true},
    {"signed, a part behind the end",
     "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=b\n\n"
     "--b\n\nhi\n--b\n" SIG_PART "--b--\n--b\n\nunsigned!\n--b--\n",
     MIME_SIGNED, "", false, false, true},
    {"signed, enveloped inside",
     "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=b\n\n"
     "--b\nContent-Type: application/pkcs7-mime\n\nMIAG\n--b\n" SIG_PART "--b--\n",
     MIME_SIGNED, "", true, false, false},
    {"PGP signed",
     "Content-Type: multipart/signed; protocol=\"application/PGP-signature\"; boundary=b\n\n--b\n",
     MIME_PLAIN, "", false, true, false},
    {"PGP encrypted",
     "Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=b\n\n",
     MIME_PLAIN, "", false, true, false},
    {"PGP encrypted by its part",
     "Content-Type: multipart/encrypted; boundary=b\n\n"
     "--b\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n--b--\n",
     MIME_PLAIN, "", false, true, false},
    {"EFAIL: enveloped below the root",
     "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/html\n\n<img src=\"\n"
     "--b\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data\n\nMIAG\n--b--\n",
     MIME_PLAIN, "", true, false, false},
    {"signed in a forwarded message",
     "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\n"
     "From x Mon\nFrom: x@y\nContent-Type: multipart/signed; boundary=c\n\n"
     "--c\n\nhi\n--c\n" SIG_PART "--c--\n--b--\n",
     MIME_PLAIN, "", true, false, false},
    {"digest's default type",
     "Content-Type: multipart/digest; boundary=b\n\n--b\n\nContent-Type: application/pkcs7-mime\n\n"
     "MIAG\n--b--\n",
     MIME_PLAIN, "", true, false, false},
    {"boundary like an encoded word",
     "Content-Type: multipart/mixed; boundary=\"=?us-ascii?q?b?=\"\n\n--=?us-ascii?q?b?=\n"
     "Content-Type: application/pkcs7-mime\n\nMIAG\n--=?us-ascii?q?b?=--\n",
     MIME_PLAIN, "", true, false, false},
    {"boundary split by RFC 2231",
     "Content-Type: multipart/mixed; boundary*0=a; boundary*1=b\n\n--ab\n"
     "Content-Type: application/pkcs7-mime\n\nMIAG\n--ab--\n",
     MIME_PLAIN, "", true, false, false},
};

static void test_inspect(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof inspect_cases / sizeof inspect_cases[0]; i++) {
        print_message("%s\n", inspect_cases[i].name);
        struct message *message = parse(bytes_of_text(inspect_cases[i].raw));
        struct mime_facts facts;
        assert_int_equal(mime_inspect(message, &facts, NULL), ERR_OK);
        assert_int_equal(facts.kind, inspect_cases[i].kind);
        assert_string_equal(facts.smime_type, inspect_cases[i].smime_type);
        assert_int_equal(facts.has_nested_smime, inspect_cases[i].has_nested);
        assert_int_equal(facts.is_pgp, inspect_cases[i].is_pgp);
        assert_int_equal(facts.is_broken, inspect_cases[i].is_broken);
        assert_int_equal(facts.reason[0] != 0, inspect_cases[i].is_broken);
        message_free(message);
    }
}

#define SIGNED(boundary)                                                           \
    "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\";\n " \
    "boundary=" boundary "\n\n"

static const struct {
    const char *name, *raw, *content, *signature; // content NULL: broken
} split_cases[] = {
    {"LF", SIGNED("b") "preamble\n--b\nA: b\n\nhi\n--b\n\nSIG\n--b--\nepilogue\n", "A: b\r\n\r\nhi",
     "SIG"},
    {"CRLF",
     "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nhi\r\n\r\n--b\r\n\r\n"
     "SIG\r\n--b--\r\n",
     "\r\nhi\r\n", "SIG"},
    {"mixed ends", SIGNED("b") "--b\r\nA: b\n\r\nhi\n--b\n\nSIG\r\n--b--", "A: b\r\n\r\nhi", "SIG"},
    {"no preamble line end", SIGNED("b") "--b\n\nhi\n--b\n\nSIG\n--b--\n", "\r\nhi", "SIG"},
    {"padding", SIGNED("b") "--b \t\n\nhi\n--b  \r\n\nSIG\n--b--  \n", "\r\nhi", "SIG"},
    {"boundary with a space at its end", SIGNED("\"b \"") "--b \n\nhi\n--b\n\nSIG\n--b -- \n--b--",
     "\r\nhi", "SIG\n--b -- "},
    {"quoted boundary", SIGNED("\"b c;d\"") "--b c;d\n\nhi\n--b c;d\n\nSIG\n--b c;d--\n", "\r\nhi",
     "SIG"},
    {"longer boundary inside",
     SIGNED("b") "--b\nContent-Type: multipart/mixed; boundary=bb\n\n--bb\n\nhi\n--bb--\n\n--b\n\n"
                 "SIG\n--b--\n",
     "Content-Type: multipart/mixed; boundary=bb\r\n\r\n--bb\r\n\r\nhi\r\n--bb--\r\n", "SIG"},
    {"boundary inside a line", SIGNED("b") "--b\n\nx --b\n ---b\n--b\n\nSIG\n--b--\n",
     "\r\nx --b\r\n ---b", "SIG"},
    {"empty first part", SIGNED("b") "--b\n--b\n\nSIG\n--b--\n", "", "SIG"},
    {"no end", SIGNED("b") "--b\n\nhi\n--b\n\nSIG\n", "\r\nhi", "SIG\n"},
    {"base64 with junk",
     SIGNED("b") "--b\n\nhi\n--b\nContent-Transfer-Encoding: BASE64 (x)\n\nU0!\n l*\nH\n--b--\n",
     "\r\nhi", "SIG"},
    {"quoted-printable",
     SIGNED("b") "--b\n\nhi\n--b\nContent-Transfer-Encoding: quoted-printable\n\nS=49=\nG\n--b--\n",
     "\r\nhi", "SIG"},
    {"base64 without a label", SIGNED("b") "--b\n\nhi\n--b\n\nMIAG\n--b--\n", "\r\nhi",
     "0\x80\x06"},
    {"bare CR stays", SIGNED("b") "--b\n\nh\ri\n--b\n\nSIG\n--b--\n", "\r\nh\ri", "SIG"},
    {"three parts", SIGNED("b") "--b\n\nhi\n--b\n\nSIG\n--b\n\nx\n--b--\n", NULL, NULL},
    {"no signature", SIGNED("b") "--b\n\nhi\n--b\n\n\n--b--\n", NULL, NULL},
    {"close first", SIGNED("b") "--b--\n\nhi\n--b\n\nSIG\n--b--\n", NULL, NULL},
    {"not multipart/signed", "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nhi\n--b\n\nS\n",
     NULL, NULL},
};

static void test_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof split_cases / sizeof split_cases[0]; i++) {
        print_message("%s\n", split_cases[i].name);
        struct message *message = parse(bytes_of_text(split_cases[i].raw));
        struct spool *content = spool_new(&test_conf);
        struct spool *signature = spool_new(&test_conf);
        struct detail detail = {0};
        enum err err = mime_split_signed(message, content, signature, &detail);
        assert_int_equal(err, split_cases[i].content ? ERR_OK : ERR_PERM);
        assert_int_equal(detail.text[0] != 0, err != ERR_OK);
        if (err == ERR_OK) {
            assert_bytes(view_of(content), bytes_of_text(split_cases[i].content));
            assert_bytes(view_of(signature), bytes_of_text(split_cases[i].signature));
        }
        spool_free(content);
        spool_free(signature);
        message_free(message);
    }
}

static const struct {
    const char *name, *encoding, *body;
    struct bytes der; // empty: ERR_PERM
} decode_cases[] = {
    {"base64", "base64", "MIAGAA==\n", BYTES_LITERAL("0\x80\x06\0")},
    {"base64, case and space", "  Base64 ", "MIAG\r\nAA==\r\n", BYTES_LITERAL("0\x80\x06\0")},
    {"base64, junk and footer", "base64", "MI AG\n!AA==\n", BYTES_LITERAL("0\x80\x06\0")},
    {"no label", NULL, "\nMIAGAA==\n", BYTES_LITERAL("0\x80\x06\0")},
    {"wrong label", "7bit", "MIAGAA==\n", BYTES_LITERAL("0\x80\x06\0")},
    {"unknown label", "x-base64", "MIAGAA==\n", BYTES_LITERAL("0\x80\x06\0")},
    {"binary", "binary", "0\x80\x06\x01", BYTES_LITERAL("0\x80\x06\x01")},
    {"quoted-printable", "quoted-printable", "0=80=06=\n=00", BYTES_LITERAL("0\x80\x06\0")},
    {"nothing", "base64", "\n", {NULL, 0}},
};

static void test_decode(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof decode_cases / sizeof decode_cases[0]; i++) {
        print_message("%s\n", decode_cases[i].name);
        char raw[300] = "Content-Type: application/pkcs7-mime\n";
        if (decode_cases[i].encoding)
            sprintf(raw + strlen(raw), "Content-Transfer-Encoding:%s\n", decode_cases[i].encoding);
        sprintf(raw + strlen(raw), "\n%s", decode_cases[i].body);
        struct message *message = parse(bytes_of_text(raw));
        struct spool *der = spool_new(&test_conf);
        enum err err = mime_decode_pkcs7(message, der, NULL);
        assert_int_equal(err, decode_cases[i].der.len ? ERR_OK : ERR_PERM);
        if (err == ERR_OK)
            assert_bytes(view_of(der), decode_cases[i].der);
        spool_free(der);
        message_free(message);
    }
}

// 10,000 deep: no more stack than the limit takes, and an answer.
static void test_deep_nesting(void **state)
{
    (void)state;
    enum { DEPTH = 10000 };
    for (int kind = 0; kind < 3; kind++) {
        char *raw = calloc(DEPTH, 80);
        size_t n = 0;
        for (int i = 0; i < DEPTH; i++)
            n += (size_t)(kind == 0 ? sprintf(raw + n,
                                              "Content-Type: multipart/mixed; boundary=b%d\n"
                                              "\n--b%d\n",
                                              i, i)
                          : kind == 1
                              ? sprintf(raw + n, "Content-Type: message/rfc822\n\n")
                              : sprintf(raw + n, "Content-Type: multipart/mixed; boundary=b\n"
                                                 "\n--b\n"));
        n += (size_t)sprintf(raw + n, "\n8-bit: \xe4\n");
        struct message *message = parse(bytes_of(raw, n));
        struct mime_facts facts;
        assert_int_equal(mime_inspect(message, &facts, NULL), ERR_OK);
        assert_int_equal(facts.kind, MIME_PLAIN);
        struct spool *entity = spool_new(&test_conf);
        struct detail detail = {0};
        enum err err = mime_make_entity(message, entity, &detail);
        assert_int_equal(err, kind == 2 ? ERR_OK : ERR_PERM);
        spool_free(entity);
        message_free(message);
        free(raw);
    }
}

static void every_function(const char *path, struct bytes raw, void *ctx)
{
    (void)ctx;
    (void)path;
    struct message *message = parse(raw);
    struct mime_facts facts;
    assert_int_equal(mime_inspect(message, &facts, NULL), ERR_OK);
    struct spool *a = spool_new(&test_conf);
    struct spool *b = spool_new(&test_conf);
    struct spool *c = spool_new(&test_conf);
    enum err err = mime_split_signed(message, a, b, NULL);
    // What inspect calls whole, split can split.
    if (facts.kind == MIME_SIGNED && !facts.is_broken)
        assert_int_equal(err, ERR_OK);
    else
        assert_true(err == ERR_OK || err == ERR_PERM);
    err = mime_decode_pkcs7(message, c, NULL);
    assert_true(err == ERR_OK || err == ERR_PERM);
    spool_free(a);
    spool_free(b);
    spool_free(c);
    message_free(message);
}

static void test_corpus(void **state)
{
    (void)state;
    assert_true(corpus_each(TEST_DATA "/mime", NULL, every_function, NULL) > 0);
    size_t more = corpus_each(TEST_CORPUS, NULL, every_function, NULL);
    print_message("%zu files of the corpus\n", more);
}

// What stands beside X.eml is what is in it: X.content and X.p7s, or X.p7m.
static bool read_beside(const char *path, const char *ending, struct buf *content)
{
    char beside[4096];
    snprintf(beside, sizeof beside, "%.*s%s", (int)strlen(path) - 4, path, ending);
    buf_init(content, 1 << 20);
    return file_read(beside, content, NULL) == ERR_OK;
}

static void compare_generated(const char *path, struct bytes raw, void *ctx)
{
    size_t *count = ctx;
    struct message *message = parse(raw);
    struct spool *content = spool_new(&test_conf);
    struct spool *object = spool_new(&test_conf);
    struct buf want;
    struct mime_facts facts;
    assert_int_equal(mime_inspect(message, &facts, NULL), ERR_OK);
    assert_false(facts.is_broken);
    if (facts.kind == MIME_SIGNED) {
        assert_int_equal(mime_split_signed(message, content, object, NULL), ERR_OK);
        assert_true(read_beside(path, ".content", &want));
        assert_bytes(view_of(content), buf_bytes(&want));
        buf_clear(&want);
        assert_true(read_beside(path, ".p7s", &want));
    } else {
        assert_int_equal(facts.kind, MIME_PKCS7);
        assert_int_equal(mime_decode_pkcs7(message, object, NULL), ERR_OK);
        assert_true(read_beside(path, ".p7m", &want));
    }
    assert_true(bytes_equal(view_of(object), buf_bytes(&want)));
    buf_clear(&want);
    spool_free(content);
    spool_free(object);
    message_free(message);
    (*count)++;
}

static void test_generated(void **state)
{
    (void)state;
    const char *const endings[] = {".eml", NULL};
    size_t count = 0;
    corpus_each(TEST_CORPUS "/generated/ossl", endings, compare_generated, &count);
    print_message("%zu messages of OpenSSL compared\n", count);
}

int main(void)
{
    mime_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inspect), cmocka_unit_test(test_split),
        cmocka_unit_test(test_decode),  cmocka_unit_test(test_deep_nesting),
        cmocka_unit_test(test_corpus),  cmocka_unit_test(test_generated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
