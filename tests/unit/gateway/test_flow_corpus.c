// SPDX-License-Identifier: Apache-2.0
// Messages of others through the whole pipeline: hostile MIME in both directions, and what openssl
// and Bouncy Castle made. Without the shared corpus these are skipped, visibly.
#include "tests/unit/gateway/flow_support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>

#include <cmocka.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/file.h"
#include "hsmd/base/log.h"
#include "tests/unit/gateway/corpus.h"

#define GENERATED TEST_CORPUS "/generated"

static struct organisation organisation;
static size_t delivered, refused;

// The outside of a message that leaves under an encrypting profile is an encrypted object, whatever
// the inside was.
static void assert_encrypted(const char *path, const struct message *message)
{
    struct mime_facts facts;
    struct cms_summary summary = {0};
    struct bytes der;
    struct spool *spool = spool_new(&organisation.gateway->spool);
    assert_int_equal(mime_inspect(message, &facts, NULL), ERR_OK);
    if (facts.kind != MIME_PKCS7 || mime_decode_pkcs7(message, spool, NULL) ||
        spool_view(spool, &der, NULL) || cms_inspect(der, true, &summary, NULL) ||
        summary.type != CMS_TYPE_ENVELOPED)
        fail_msg("%s left in clear", path);
    spool_free(spool);
}

static void out_and_in(const char *path, const struct message *message, const char *profile,
                       bool encrypts)
{
    struct outcome out, in;
    flow_run(&organisation, DIRECTION_OUTBOUND, profile, "dave@b.example", message, &out);
    if (out.verdict.kind == VERDICT_DELIVER) {
        const struct message *sent = flow_message(&out.copies[0], message);
        if (encrypts)
            assert_encrypted(path, sent);
        flow_run(&organisation, DIRECTION_INBOUND, NULL, "dave@b.example", sent, &in);
        assert_string_equal(flow_reply(&in), "");
        const struct message *got = flow_message(&in.copies[0], sent);
        if (encrypts && !strstr(flow_result(got), "decrypted"))
            fail_msg("%s does not come back: %s", path, flow_result(got));
        outcome_clear(&in);
        delivered++;
    } else {
        // Only what cannot be told or signed is refused, and for good: never "try again".
        if (out.verdict.kind != VERDICT_BOUNCE)
            fail_msg("%s: %s", path, flow_reply(&out));
        print_message("%s, %s: %s\n", strrchr(path, '/') + 1, profile, flow_reply(&out));
        refused++;
    }
    outcome_clear(&out);
}

static void take_nasty(const char *path, struct bytes content, void *ctx)
{
    struct message *message = NULL;
    struct outcome in;
    (void)ctx;
    assert_int_equal(message_parse(content, &organisation.gateway->spool, &message, NULL), ERR_OK);
    flow_run(&organisation, DIRECTION_INBOUND, NULL, "dave@b.example", message, &in);
    if (*flow_reply(&in))
        fail_msg("%s is not delivered: %s", path, flow_reply(&in));
    outcome_clear(&in);
    out_and_in(path, message, "encrypt", true);
    // So that there is somebody who may sign it:
    message_remove_headers(message, "From");
    if (message_prepend_header(message, "From", " bob@a.example", NULL) == ERR_OK) {
        out_and_in(path, message, "sign-encrypt", true);
        out_and_in(path, message, "triple-opaque", false);
        out_and_in(path, message, "sign", false);
    }
    message_free(message);
}

static void test_nasty_mime(void **state)
{
    (void)state;
    static const char *const endings[] = {".eml", ".txt", NULL};
    size_t count = corpus_each(TEST_CORPUS "/nasty-mime", endings, take_nasty, NULL);
    if (count == 0)
        skip();
    print_message("%zu messages: %zu runs delivered, %zu refused\n", count, delivered, refused);
    assert_true(delivered > 50 * refused);
}

// ---- what others made ----

struct generated {
    struct conf *conf;
    struct gateway *gateway;
    struct bytes entity;
};

static const struct {
    const char *file; // .eml, .p7m, or a detached signature without .p7s
    const char *from;
    const char *result;
    bool is_content; // the reader gets the content of entity.txt
    bool legacy;
} messages[] = {
    {"ossl/auth-gcm-ecdh256.eml", "rsa", "none", true, false},
    {"ossl/auth-gcm-oaep256.eml", "rsa", "none", true, false},
    {"ossl/auth-gcm-rsa15.eml", "rsa", "none", true, false},
    {"ossl/auth-gcm128-rsa15.eml", "rsa", "none", true, false},
    {"ossl/auth-gcm-rsa15-stream.p7m", "rsa", "none", true, false},
    {"ossl/env-3des-rsa15.eml", "rsa", "permerror", false, false},
    {"ossl/env-3des-rsa15.eml", "rsa", "none", true, true},
    {"ossl/env-cbc-ecdh256.eml", "rsa", "none", true, false},
    {"ossl/env-cbc-ecdh384.eml", "rsa", "none", true, false},
    {"ossl/env-cbc-ecdhdefault.eml", "rsa", "none", true, false},
    {"ossl/env-cbc-oaep1.eml", "rsa", "none", true, false},
    {"ossl/env-cbc-oaep256.eml", "rsa", "none", true, false},
    {"ossl/env-cbc-oaep256mgf1.eml", "rsa", "none", true, false},
    {"ossl/env-cbc-rsa15.eml", "rsa", "none", true, false},
    {"ossl/env-cbc-rsa15-stream.p7m", "rsa", "none", true, false},
    {"ossl/env-multi.eml", "rsa", "none", true, false},
    {"ossl/sign-detached-rsa.eml", "rsa", "pass", true, false},
    {"ossl/sign-detached-pss.eml", "rsa", "pass", true, false},
    {"ossl/sign-detached-ecdsa.eml", "rsa", "policy", false, false}, // by another
    {"ossl/sign-detached-ecdsa.eml", "ec", "pass", true, false},
    {"ossl/sign-detached-psskey.eml", "psskey", "pass", true, false},
    {"ossl/sign-opaque-rsa.eml", "rsa", "pass", true, false},
    {"ossl/sign-opaque-stream.p7m", "rsa", "pass", true, false},
    {"ossl/triple.eml", "rsa", "pass", true, false},
    {"bcmsg/auth-ccm-rsa15.p7m", "rsa", "neutral", false, false},
    {"bcmsg/auth-gcm-ecdh256.p7m", "rsa", "none", true, false},
    {"bcmsg/auth-gcm-oaep256.p7m", "rsa", "none", true, false},
    {"bcmsg/auth-gcm-rsa15.p7m", "rsa", "none", true, false},
    {"bcmsg/env-cbc-ecdh256.p7m", "rsa", "none", true, false},
    {"bcmsg/env-cbc-ecdh384.p7m", "rsa", "none", true, false},
    {"bcmsg/env-cbc-ecdhdefault.p7m", "rsa", "none", true, false},
    {"bcmsg/env-cbc-oaep1.p7m", "rsa", "none", true, false},
    {"bcmsg/env-cbc-oaep256.p7m", "rsa", "none", true, false},
    {"bcmsg/env-cbc-rsa15.p7m", "rsa", "none", true, false},
    {"bcmsg/env-cbc128-rsa15.p7m", "rsa", "none", true, false},
    {"bcmsg/sign-opaque-rsa.p7m", "rsa", "pass", true, false},
    {"bcmsg/sign-detached-rsa", "rsa", "pass", true, false},
    {"bcmsg/sign-detached-pss", "rsa", "pass", true, false},
    {"bcmsg/sign-detached-sha384", "rsa", "pass", true, false},
    {"bcmsg/sign-detached-ecdsa", "ec", "pass", true, false},
    {"bcmsg/sign-detached-ed25519", "ed25519", "neutral", false, false},
    {"neg/gcm-badct.p7m", "rsa", "permerror", false, false},
    {"neg/gcm-badtag.p7m", "rsa", "permerror", false, false},
    {"neg/gcm-tag1.p7m", "rsa", "permerror", false, false},
    {"neg/gcm-tag4.p7m", "rsa", "permerror", false, false},
    {"neg/gcm-tag12.p7m", "rsa", "none", true, false},
};

static void open_generated(struct generated *g, bool legacy)
{
    static const char *const names[] = {"rsa", "rsa2", "ec", "ec384"};
    struct detail detail = {0};
    const char *path = organisation_path(&organisation, "generated.conf");
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "authserv-id = \"mx.b.example\"\ntrust-anchors = \"" GENERATED "/pki/ca.crt\"\n"
                  "store = \"generated.db\"\nspool-directory = \"spool\"\n");
    for (size_t i = 0; i < 4; i++)
        fprintf(file,
                "identity %s { key = \"file:" GENERATED "/pki/%s.key\" use = decrypt\n"
                "  certificate-file = \"" GENERATED "/pki/%s.crt\" }\n",
                names[i], names[i], names[i]);
    fprintf(file, "inbound { signature = remove legacy-ciphers = %s }\n", legacy ? "yes" : "no");
    fclose(file);
    if (conf_read(path, &g->conf, &detail) || gateway_open(g->conf, &g->gateway, &detail))
        fail_msg("%s", detail.text);
}

static void read_file(const char *name, struct buf *buf)
{
    char path[300];
    struct detail detail = {0};
    buf_init(buf, 1 << 20);
    snprintf(path, sizeof path, GENERATED "/%s", name);
    if (file_read(path, buf, &detail))
        fail_msg("%s", detail.text);
}

static void put_base64(struct buf *text, const struct buf *der)
{
    uint8_t *place;
    size_t size = der->len / 3 * 4 + 8;
    assert_int_equal(buf_reserve(text, size, &place), ERR_OK);
    int len = EVP_EncodeBlock(place, der->data, (int)der->len);
    text->len -= size - (size_t)len;
}

// The file as a message: as it is, or put into one.
static void make_text(const char *file, struct buf *text)
{
    char name[100];
    struct buf object, content;
    const char *ending = strrchr(file, '.');
    if (ending && strcmp(ending, ".eml") == 0) {
        read_file(file, text);
        return;
    }
    buf_init(text, 1 << 20);
    if (ending && strcmp(ending, ".p7m") == 0) {
        read_file(file, &object);
        (void)buf_put_text(text, "Content-Type: application/octet-stream; name=smime.p7m\n"
                                 "Content-Transfer-Encoding: base64\n\n");
        put_base64(text, &object);
    } else {
        snprintf(name, sizeof name, "%s.p7s", file);
        read_file(name, &object);
        snprintf(name, sizeof name, "%s.content", file);
        read_file(name, &content);
        (void)buf_put_text(text, "Content-Type: multipart/signed; boundary=\"=x=\";\n"
                                 " protocol=\"application/pkcs7-signature\"\n\n--=x=\r\n");
        (void)buf_put(text, content.data, content.len);
        (void)buf_put_text(text, "\r\n--=x=\nContent-Type: application/pkcs7-signature\n"
                                 "Content-Transfer-Encoding: base64\n\n");
        put_base64(text, &object);
        (void)buf_put_text(text, "\n--=x=--\n");
        buf_clear(&content);
    }
    (void)buf_put_text(text, "\n");
    buf_clear(&object);
}

static void check_generated(struct generated *g, size_t i)
{
    struct buf text;
    struct message *message = NULL;
    struct outcome outcome;
    char from[60];
    const char *recipient = "rsa@interop.example";
    char wanted[40];
    make_text(messages[i].file, &text);
    assert_int_equal(message_parse(buf_bytes(&text), &g->gateway->spool, &message, NULL), ERR_OK);
    message_remove_headers(message, "From");
    snprintf(from, sizeof from, " %s@interop.example", messages[i].from);
    assert_int_equal(message_prepend_header(message, "From", from, NULL), ERR_OK);
    struct request request = {
        .direction = DIRECTION_INBOUND,
        .envelope = {.sender = "", .recipients = &recipient, .recipient_count = 1},
        .message = message};
    pipeline_run(g->gateway, &request, &outcome);
    assert_string_equal(flow_reply(&outcome), "");
    const struct message *got = flow_message(&outcome.copies[0], message);
    snprintf(wanted, sizeof wanted, "smime=%s", messages[i].result);
    if (!strstr(flow_result(got), wanted))
        fail_msg("%s: \"%s\" in place of %s", messages[i].file, flow_result(got), wanted);
    struct bytes body = flow_body(got);
    bool is_content =
        memmem(body.data, body.len, "Hello interop, umlaut", 21) && flow_kind(got) == MIME_PLAIN;
    if (is_content != messages[i].is_content)
        fail_msg("%s: the reader gets %s", messages[i].file, is_content ? "it" : "something else");
    outcome_clear(&outcome);
    message_free(message);
    buf_clear(&text);
}

static void test_generated(void **state)
{
    (void)state;
    if (access(GENERATED "/pki/ca.crt", R_OK) != 0)
        skip();
    for (int legacy = 0; legacy < 2; legacy++) {
        struct generated g = {0};
        open_generated(&g, legacy);
        for (size_t i = 0; i < sizeof messages / sizeof *messages; i++) {
            if (messages[i].legacy == legacy)
                check_generated(&g, i);
        }
        gateway_close(g.gateway);
        conf_free(g.conf);
    }
}

static int setup(void **state)
{
    (void)state;
    organisation_open(&organisation, "spool-memory = 4000\n");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    organisation_close(&organisation);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nasty_mime),
        cmocka_unit_test(test_generated),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
