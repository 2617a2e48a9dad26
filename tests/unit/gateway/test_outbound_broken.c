// SPDX-License-Identifier: Apache-2.0
// Outgoing messages that come with S/MIME or its results already: what the sender's own client
// protected is kept, what is forged goes, and what is broken or only looks protected is refused.
#include "tests/unit/gateway/flow_support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hsmd/base/alloc.h"

static struct organisation organisation;

static const char plain[] = MESSAGE_FROM("Bob <bob@a.example>");

// Signed or encrypted by the sender's own client (P15).
static void test_protected_already(void **state)
{
    (void)state;
    static const struct {
        const char *first, *second;
        enum mime_kind last;
        bool is_changed;
    } cases[] = {
        {"sign", "sign", MIME_SIGNED, false},
        {"sign-opaque", "sign", MIME_PKCS7, false},
        {"sign", "sign-encrypt", MIME_PKCS7, true},
        {"sign-opaque", "sign-encrypt", MIME_PKCS7, true},
        {"sign", "triple", MIME_SIGNED, true}, // the outer signature is another one
        {"sign-opaque", "triple", MIME_SIGNED, true},
        {"encrypt", "sign", MIME_PKCS7, false},
        {"encrypt", "sign-encrypt", MIME_PKCS7, false},
        {"encrypt-gcm", "triple", MIME_PKCS7, false},
        {"triple", "encrypt", MIME_PKCS7, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct outcome first, second;
        struct message *message =
            flow_send(&organisation, plain, cases[i].first, "dave@b.example", &first);
        assert_string_equal(flow_reply(&first), "");
        const struct message *made = first.copies[0].message;
        flow_run(&organisation, DIRECTION_OUTBOUND, cases[i].second, "dave@b.example", made,
                 &second);
        assert_string_equal(flow_reply(&second), "");
        if ((second.copies[0].message != NULL) != cases[i].is_changed)
            fail_msg("%s, then %s", cases[i].first, cases[i].second);
        const struct message *last = flow_message(&second.copies[0], made);
        if (flow_kind(last) != cases[i].last)
            fail_msg("%s, then %s: %d", cases[i].first, cases[i].second, flow_kind(last));
        // What the client signed is whole under the gateway's encryption.
        struct outcome received;
        flow_run(&organisation, DIRECTION_INBOUND, NULL, "dave@b.example", last, &received);
        const char *result = flow_result(flow_message(&received.copies[0], last));
        bool is_signed = strncmp(cases[i].first, "encrypt", 7) != 0;
        if (strstr(result, is_signed ? "smime=pass" : "smime=none") == NULL)
            fail_msg("%s, then %s: %s", cases[i].first, cases[i].second, result);
        outcome_clear(&received);
        outcome_clear(&second);
        outcome_clear(&first);
        message_free(message);
    }
}

// Our own authserv-id in mail that goes out: its readers may be ours too.
static void test_forged_results_go(void **state)
{
    (void)state;
    static const char *const profiles[] = {"none", "sign", "encrypt", "split"};
    for (size_t i = 0; i < sizeof profiles / sizeof *profiles; i++) {
        struct outcome outcome;
        char text[600];
        snprintf(text, sizeof text,
                 "Authentication-Results: mx.b.example; smime=pass\r\n"
                 "Authentication-Results: mx.other.example; dkim=pass\r\n%s",
                 plain);
        // For erin there is no certificate: her copy of "split" is in clear.
        const char *recipients =
            strcmp(profiles[i], "split") == 0 ? "dave@b.example erin@c.example" : "dave@b.example";
        struct message *message = flow_send(&organisation, text, profiles[i], recipients, &outcome);
        assert_string_equal(flow_reply(&outcome), "");
        for (size_t c = 0; c < outcome.copy_count; c++) {
            const struct message *sent = flow_message(&outcome.copies[c], message);
            if (!strstr(flow_result(sent), "mx.other.example"))
                fail_msg("%s: %s", profiles[i], flow_result(sent));
        }
        outcome_clear(&outcome);
        message_free(message);
    }
}

static void test_broken_is_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "From: bob@a.example\r\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n"
        "Content-Transfer-Encoding: base64\r\n\r\nVGhpcyBpcyBub3QgQ01T\r\n",
        "From: bob@a.example\r\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n"
        "\r\nAll in the clear.\r\n",
        "From: bob@a.example\r\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n"
        "\r\n",
        "From: bob@a.example\r\nContent-Type: multipart/signed; micalg=sha-256; boundary=b;\r\n"
        " protocol=\"application/pkcs7-signature\"\r\n\r\nno parts\r\n",
        "From: bob@a.example\r\nContent-Type: multipart/signed; micalg=sha-256; boundary=b;\r\n"
        " protocol=\"application/pkcs7-signature\"\r\n\r\n--b\r\n\r\nx\r\n--b\r\n"
        "Content-Type: application/pkcs7-signature\r\n\r\nnot a signature\r\n--b--\r\n",
        // The cipher 1.2.3.4 leaves its content as it is.
        "From: bob@a.example\r\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n"
        "Content-Transfer-Encoding: base64\r\n\r\n"
        "MIIBZwYJKoZIhvcNAQcDoIIBWDCCAVQCAQAxggEhMIIBHQIBADAFMAACAQEwDQYJKoZIhvcNAQEB\r\n"
        "BQAEggEAeHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4\r\n"
        "eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4\r\n"
        "eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4\r\n"
        "eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4\r\n"
        "eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eDAqBgkqhkiG9w0BBwEwBQYDKgMEgBZU\r\n"
        "T1BTRUNSRVQgaW4gdGhlIGNsZWFy\r\n",
    };
    static const char *const profiles[] = {"sign", "encrypt", "sign-encrypt", "triple", "split"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases * 5; i++) {
        struct outcome outcome;
        struct message *message =
            flow_send(&organisation, cases[i / 5], profiles[i % 5], "dave@b.example", &outcome);
        if (outcome.verdict.kind == VERDICT_DELIVER && outcome.copies[0].message == NULL)
            fail_msg("case %zu left in clear with profile %s", i / 5, profiles[i % 5]);
        if (outcome.verdict.kind == VERDICT_DELIVER)
            fail_msg("case %zu: delivered with profile %s", i / 5, profiles[i % 5]);
        outcome_clear(&outcome);
        message_free(message);
    }
}

// Clear text behind what is encrypted, which a lenient decoder passes over.
static void test_clear_text_behind_encryption_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name, *profile, *added, *reply;
    } cases[] = {
        {"nothing", "encrypt", "", ""},
        {"white space", "encrypt", "\r\n \t\r\n", ""},
        {"a line", "encrypt", "\r\n... TOPSECRET ...\r\n",
         "554 5.6.0 broken S/MIME message: something else is in the base64"},
        {"letters of base64", "encrypt", "\r\nTOPSECRET\r\n", "554"},
        {"whole groups of letters", "encrypt-gcm", "\r\nTOPSECRETTOP\r\n", "554"},
        {"behind signed content", "sign-opaque", "\r\n... TOPSECRET ...\r\n", "554"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct outcome first, second;
        struct message *message =
            flow_send(&organisation, plain, cases[i].profile, "dave@b.example", &first);
        char *made = flow_text(first.copies[0].message);
        size_t size = strlen(made) + strlen(cases[i].added) + 1;
        char *text = mem_calloc(1, size);
        assert_non_null(text);
        snprintf(text, size, "%s%s", made, cases[i].added);
        message_free(message);
        message = flow_send(&organisation, text, "sign-encrypt", "dave@b.example", &second);
        bool is_right = *cases[i].reply ? strstr(flow_reply(&second), cases[i].reply) != NULL
                                        : *flow_reply(&second) == 0;
        if (!is_right)
            fail_msg("%s: \"%s\"", cases[i].name, flow_reply(&second));
        outcome_clear(&second);
        outcome_clear(&first);
        message_free(message);
        mem_free(text);
        mem_free(made);
    }
}

// An object of another kind where the signature should be.
static void test_what_is_no_detached_signature_is_refused(void **state)
{
    (void)state;
    static const char *const profiles[] = {"sign-opaque", "encrypt"};
    for (size_t i = 0; i < sizeof profiles / sizeof *profiles; i++) {
        struct outcome first, second;
        struct message *message =
            flow_send(&organisation, plain, profiles[i], "dave@b.example", &first);
        char *made = flow_text(first.copies[0].message);
        size_t size = strlen(made) + 600;
        char *text = mem_calloc(1, size);
        assert_non_null(text);
        snprintf(text, size,
                 "From: bob@a.example\r\nContent-Type: multipart/signed; micalg=sha-256;"
                 " boundary=b; protocol=\"application/pkcs7-signature\"\r\n\r\n--b\r\n\r\nx\r\n"
                 "--b\r\nContent-Type: application/pkcs7-signature\r\n"
                 "Content-Transfer-Encoding: base64\r\n%s\r\n--b--\r\n",
                 strstr(made, "\r\n\r\n") + 2);
        message_free(message);
        message = flow_send(&organisation, text, "sign", "dave@b.example", &second);
        assert_string_equal(flow_reply(&second), "554 5.6.0 broken S/MIME message:"
                                                 " the second part is not a detached signature");
        outcome_clear(&second);
        outcome_clear(&first);
        message_free(message);
        mem_free(text);
        mem_free(made);
    }
}

static int setup(void **state)
{
    (void)state;
    organisation_open(&organisation, NULL);
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
        cmocka_unit_test(test_protected_already),
        cmocka_unit_test(test_forged_results_go),
        cmocka_unit_test(test_broken_is_refused),
        cmocka_unit_test(test_clear_text_behind_encryption_is_refused),
        cmocka_unit_test(test_what_is_no_detached_signature_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
