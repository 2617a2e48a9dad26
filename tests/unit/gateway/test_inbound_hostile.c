// SPDX-License-Identifier: Apache-2.0
// Incoming messages that mean harm: damaged, broken, forged, and encrypted where nothing is
// decrypted.
#include "tests/unit/gateway/flow_trip.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hsmd/base/alloc.h"

static struct organisation keeps, removes; // signatures kept, removed

static const char plain[] = FLOW_HEAD FLOW_TEXT;

// Every third byte of the encrypted object, one bit wrong: it never passes and never gets lost.
static void test_damaged_encryption(void **state)
{
    (void)state;
    struct trip trip;
    size_t refused = 0;
    trip_make(&trip, &keeps, &removes, plain, "encrypt-gcm", "dave@b.example");
    char *text = flow_text(trip.sent);
    char *body = strstr(text, "\r\n\r\n") + 4;
    for (size_t i = 0, size = strlen(body); i < size; i += 3) {
        struct outcome outcome;
        char was = body[i];
        if (was == '\r' || was == '\n' || was == '=')
            continue;
        body[i] = was == 'A' ? 'B' : 'A';
        struct message *changed = organisation_message(&keeps, text);
        flow_receive(&removes, changed, &outcome);
        const struct message *got = flow_message(&outcome.copies[0], changed);
        bool is_opened = flow_kind(got) == MIME_PLAIN;
        // Only bits that mean nothing, such as those of a name, let it open, and then to the truth.
        if (is_opened)
            assert_true(bytes_equal(flow_body(got), flow_body(trip.original)));
        else
            assert_true(bytes_equal(flow_body(got), flow_body(changed)));
        refused += is_opened ? 0 : 1;
        outcome_clear(&outcome);
        message_free(changed);
        body[i] = was;
    }
    assert_true(refused > 100);
    mem_free(text);
    trip_clear(&trip);
}

static void test_broken_is_delivered(void **state)
{
    (void)state;
    static const char *const cases[] = {
        FLOW_HEAD "Content-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n"
                  "Content-Transfer-Encoding: base64\r\n\r\nVGhpcyBpcyBub3QgQ01T\r\n",
        FLOW_HEAD "Content-Type: application/pkcs7-mime\r\n\r\nAll in the clear.\r\n",
        FLOW_HEAD "Content-Type: application/pkcs7-mime\r\n\r\n",
        FLOW_HEAD "Content-Type: multipart/signed; micalg=sha-256; boundary=b;\r\n"
                  " protocol=\"application/pkcs7-signature\"\r\n\r\nno parts\r\n",
        FLOW_HEAD "Content-Type: multipart/signed; micalg=sha-256; boundary=b;\r\n"
                  " protocol=\"application/pkcs7-signature\"\r\n\r\n--b\r\n\r\nx\r\n--b\r\n"
                  "Content-Type: application/pkcs7-signature\r\n\r\nnonsense\r\n--b--\r\n",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct outcome outcome;
        struct message *message = organisation_message(&keeps, cases[i]);
        flow_receive(&removes, message, &outcome);
        flow_assert_as_it_came(&outcome, message, "");
        assert_null(strstr(flow_result(outcome.copies[0].message), "smime=pass"));
        outcome_clear(&outcome);
        message_free(message);
    }
}

static void test_forged_results_go(void **state)
{
    (void)state;
    struct outcome outcome;
    struct message *message = organisation_message(
        &keeps, "Authentication-Results: mx.b.example; smime=pass\r\n"
                "Authentication-Results: MX.B.example 1; dkim=pass\r\n"
                "Authentication-Results: mx.other.example; dkim=pass\r\n" FLOW_HEAD FLOW_TEXT);
    flow_receive(&keeps, message, &outcome);
    const struct message *got = outcome.copies[0].message;
    assert_non_null(got);
    assert_non_null(strstr(flow_result(got), "mx.other.example"));
    assert_int_equal(got->header_count, message->header_count - 2);
    outcome_clear(&outcome);
    message_free(message);
}

// EFAIL: encrypted parts below the root are never opened.
static void test_only_the_root_is_decrypted(void **state)
{
    (void)state;
    struct trip trip;
    struct outcome outcome;
    trip_make(&trip, &keeps, &keeps, plain, "encrypt", "dave@b.example");
    char *sent = flow_text(trip.sent);
    const char *entity = strstr(sent, "MIME-Version");
    char *text = mem_calloc(1, strlen(sent) + 600);
    assert_non_null(entity);
    sprintf(text,
            FLOW_HEAD "Content-Type: multipart/mixed; boundary=out\r\n\r\n--out\r\n"
                      "Content-Type: text/html\r\n\r\n<img src=\"http://evil/\r\n--out\r\n%s\r\n"
                      "--out--\r\n",
            entity);
    struct message *message = organisation_message(&keeps, text);
    flow_receive(&keeps, message, &outcome);
    flow_assert_as_it_came(&outcome, message, "neutral");
    outcome_clear(&outcome);
    message_free(message);
    mem_free(text);
    mem_free(sent);
    trip_clear(&trip);
}

static void test_nesting_has_a_limit(void **state)
{
    (void)state;
    struct organisation shallow;
    struct outcome outcome;
    organisation_open_like(&shallow, &keeps, "depth = 2\n");
    // A message encrypted again and again.
    struct message *message = organisation_message(&shallow, plain);
    struct outcome layers[4];
    const struct message *last = message;
    for (size_t i = 0; i < 4; i++) {
        struct spool *entity = spool_new(&shallow.gateway->spool);
        struct spool *cms = spool_new(&shallow.gateway->spool);
        struct bytes view, cms_view;
        struct cms_encryption encryption = {.recipients = sk_X509_new_null()};
        sk_X509_push(encryption.recipients, identity_certificate(shallow.gateway->identities[6]));
        assert_int_equal(mime_make_entity(last, entity, NULL), ERR_OK);
        assert_int_equal(spool_view(entity, &view, NULL), ERR_OK);
        assert_int_equal(cms_encrypt(&encryption, view, cms, NULL), ERR_OK);
        assert_int_equal(spool_view(cms, &cms_view, NULL), ERR_OK);
        struct message *wrapped = NULL;
        assert_int_equal(mime_wrap_pkcs7(last, cms_view, "enveloped-data", &wrapped, NULL), ERR_OK);
        layers[i] = (struct outcome){0};
        outcome_add(&layers[i], 0)->message = wrapped;
        last = wrapped;
        sk_X509_free(encryption.recipients);
        spool_free(entity);
        spool_free(cms);
    }
    flow_receive(&shallow, last, &outcome);
    const struct message *got = outcome.copies[0].message;
    flow_assert_result(got, "neutral");
    assert_non_null(strstr(flow_result(got), "too deep"));
    // Two layers came off, two are on.
    assert_true(bytes_equal(flow_body(got), flow_body(layers[1].copies[0].message)));
    outcome_clear(&outcome);
    flow_receive(&shallow, layers[1].copies[0].message, &outcome);
    assert_int_equal(flow_kind(outcome.copies[0].message), MIME_PLAIN);
    outcome_clear(&outcome);
    for (size_t i = 0; i < 4; i++)
        outcome_clear(&layers[i]);
    message_free(message);
    organisation_close(&shallow);
}

static int setup(void **state)
{
    (void)state;
    organisation_open(&keeps, NULL);
    organisation_open_like(&removes, &keeps, "inbound { signature = remove }\n");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    organisation_close(&removes);
    organisation_close(&keeps);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_damaged_encryption),
        cmocka_unit_test(test_broken_is_delivered),
        cmocka_unit_test(test_forged_results_go),
        cmocka_unit_test(test_only_the_root_is_decrypted),
        cmocka_unit_test(test_nesting_has_a_limit),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
