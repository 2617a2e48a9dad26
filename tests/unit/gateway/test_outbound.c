// SPDX-License-Identifier: Apache-2.0
// Outgoing messages through the pipeline with keys in files: who gets which copy, who signs, and
// what is refused.
#include "tests/unit/gateway/flow_support.h"

#include "gateway/facts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/base/alloc.h"

static struct organisation organisation;

static const char plain[] = MESSAGE_FROM("Bob <bob@a.example>");

static void test_replies(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text, *profile, *recipients, *reply;
    } cases[] = {
        {"one without a certificate", plain, "sign-encrypt", "dave@b.example erin@c.example",
         "550 5.7.5 no encryption certificate for erin@c.example"},
        {"drop", plain, "drop", "dave@b.example erin@c.example",
         "drop no encryption certificate for erin@c.example"},
        {"not an address", plain, "sign-encrypt", "dave@b.example <>",
         "550 5.7.5 no encryption certificate for <>"},
        {"no such profile", plain, "gold", "dave@b.example",
         "550 5.7.1 there is no S/MIME profile \\x22gold\\x22"},
        {"nobody may sign", MESSAGE_FROM("eve@c.example"), "sign", "dave@b.example",
         "550 5.7.1 no signing certificate covers eve@c.example"},
        {"two in From", MESSAGE_FROM("bob@a.example, eve@a.example"), "sign", "dave@b.example",
         "550 5.7.1 cannot be signed: the message has not exactly one From address"},
        {"expired", MESSAGE_FROM("x@expired.example"), "all-signers", "dave@b.example",
         "451 4.7.5 S/MIME certificate is expired"},
        {"hsmd is away", MESSAGE_FROM("x@absent.example"), "all-signers", "dave@b.example",
         "451 4.3.0 S/MIME processing is not possible now"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct outcome outcome;
        struct message *message = flow_send(&organisation, cases[i].text, cases[i].profile,
                                            cases[i].recipients, &outcome);
        if (strcmp(flow_reply(&outcome), cases[i].reply) != 0)
            fail_msg("%s: \"%s\"", cases[i].name, flow_reply(&outcome));
        outcome_clear(&outcome);
        message_free(message);
    }
}

// local-recipients = clear is for the profile of the configuration, not for one that is asked for.
static void test_local_recipients(void **state)
{
    (void)state;
    static const struct {
        const char *profile, *text, *reply;
    } cases[] = {
        {NULL, plain, ""},
        {"sign-encrypt", plain, "550 5.7.5 no encryption certificate for bob@a.example"},
        {NULL, "X-Profile: sign-encrypt\r\n" MESSAGE_FROM("bob@a.example"),
         "550 5.7.5 no encryption certificate for bob@a.example"},
    };
    struct organisation clear;
    organisation_open_like(&clear, &organisation,
                           "outbound { profile = sign-encrypt  profile-header = \"X-Profile\""
                           "  local-recipients = clear }\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct outcome outcome;
        struct message *message =
            flow_send(&clear, cases[i].text, cases[i].profile, "bob@a.example", &outcome);
        if (strcmp(flow_reply(&outcome), cases[i].reply) != 0)
            fail_msg("%zu: \"%s\"", i, flow_reply(&outcome));
        outcome_clear(&outcome);
        message_free(message);
    }
    organisation_close(&clear);
}

// Growth near the worst case: 8-bit text becomes 7-bit, and three layers in base64 go around it.
static void test_largest_message(void **state)
{
    (void)state;
    enum { SIZE = 4000000 };
    struct organisation small;
    struct outcome outcome;
    char *text = mem_calloc(1, SIZE + 1);
    memset(text, 0xe4, SIZE);
    for (size_t i = 0; i + 1 < SIZE; i += 60)
        memcpy(text + i, "\r\n", 2);
    memcpy(text, MESSAGE_FROM("bob@a.example"), strlen(MESSAGE_FROM("bob@a.example")));
    organisation_open_like(&small, &organisation, "message-max = 4000000\n");
    struct message *message = flow_send(&small, text, "triple-opaque", "dave@b.example", &outcome);
    assert_string_equal(flow_reply(&outcome), "");
    outcome_clear(&outcome);
    message_free(message);
    organisation_close(&small);
    mem_free(text);
}

// hsmd did not answer for one identity: for a moment it is not asked for others either, whatever
// message or thread they are for.
static void test_hsmd_is_away_for_all(void **state)
{
    (void)state;
    struct organisation away;
    struct identity_material material;
    size_t first = SIZE_MAX, second = SIZE_MAX;
    organisation_open_like(&away, &organisation,
                           "identity second { key = \"hsmd:second\"  certificate-file = "
                           "\"signing.pem\"  use = sign }\n");
    for (size_t i = 0; i < away.conf->identity_count; i++) {
        const char *name = away.conf->identities[i].identity.name;
        first = strcmp(name, "absent") == 0 ? i : first;
        second = strcmp(name, "second") == 0 ? i : second;
    }
    static const char *const told[] = {"identity absent", "identity absent", "identity second"};
    for (size_t i = 0; i < 3; i++) {
        bool is_away = false;
        struct detail detail = {0};
        if (i == 2)
            usleep((GATEWAY_AWAY + 100) * 1000);
        assert_int_equal(gateway_get_identity(away.gateway, i == 0 ? first : second, &is_away,
                                              &material, &detail),
                         ERR_TEMP);
        assert_true(is_away);
        if (!strstr(detail.text, told[i]))
            fail_msg("%zu: %s", i, detail.text);
    }
    organisation_close(&away);
}

static void test_split(void **state)
{
    (void)state;
    struct outcome outcome;
    struct message *message =
        flow_send(&organisation, plain, "split",
                  "dave@b.example erin@c.example carl@ec.b.example frank@d.example", &outcome);
    assert_int_equal(outcome.verdict.kind, VERDICT_DELIVER);
    assert_int_equal(outcome.copy_count, 3);
    const struct outcome_copy *dave = flow_copy_for(&outcome, 0);
    const struct outcome_copy *erin = flow_copy_for(&outcome, 1);
    const struct outcome_copy *carl = flow_copy_for(&outcome, 2);
    assert_ptr_equal(flow_copy_for(&outcome, 3), erin);
    assert_ptr_not_equal(dave, carl); // RSA and EC
    assert_true(dave->is_protected && carl->is_protected && !erin->is_protected);
    assert_null(erin->message);                 // as it came
    assert_ptr_equal(erin, &outcome.copies[2]); // the MTA keeps an encrypted one
    assert_int_equal(flow_kind(dave->message), MIME_PKCS7);
    assert_int_equal(flow_kind(carl->message), MIME_PKCS7);
    outcome_clear(&outcome);
    message_free(message);
}

// Bcc recipients are in no RecipientInfo of a message that others get.
static void test_hidden_recipients_get_their_own_copy(void **state)
{
    (void)state;
    struct outcome outcome;
    struct message *message = flow_send(&organisation, plain, "encrypt",
                                        "dave@b.example x@b2.example y@b.example", &outcome);
    assert_int_equal(outcome.copy_count, 2);
    assert_ptr_not_equal(flow_copy_for(&outcome, 0), flow_copy_for(&outcome, 1));
    // The domain's certificate tells nothing of y.
    assert_ptr_equal(flow_copy_for(&outcome, 0), flow_copy_for(&outcome, 2));
    outcome_clear(&outcome);
    message_free(message);
}

static void test_named_in_header(void **state)
{
    (void)state;
    static const struct {
        const char *header, *address;
        bool is_named;
    } cases[] = {
        {"To: dave@b.example\r\n", "dave@b.example", true},
        {"To: Dave <DAVE@B.example>\r\n", "dave@b.example", true},
        {"Cc: x@y.example,\r\n dave@b.example\r\n", "dave@b.example", true},
        {"Resent-To: dave@b.example\r\n", "dave@b.example", true},
        {"To: xdave@b.example\r\n", "dave@b.example", false},
        {"To: dave@b.example.org\r\n", "dave@b.example", false},
        {"To: xdave@b.example, dave@b.example\r\n", "dave@b.example", true},
        {"Bcc: dave@b.example\r\n", "dave@b.example", false},
        {"Subject: dave@b.example\r\n", "dave@b.example", false},
        {"To: \r\n", "dave@b.example", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[200];
        snprintf(text, sizeof text, "%s\r\n", cases[i].header);
        struct message *message = organisation_message(&organisation, text);
        if (facts_is_named(message, cases[i].address) != cases[i].is_named)
            fail_msg("%s", cases[i].header);
        message_free(message);
    }
}

static void test_signer_is_chosen_by_from(void **state)
{
    (void)state;
    static const struct {
        const char *text, *note;
    } cases[] = {
        {MESSAGE_FROM("bob@a.example"), "signer=personal"},
        {MESSAGE_FROM("BOB@A.EXAMPLE"), "signer=personal"},
        {MESSAGE_FROM("ann@a.example"), "signer=signing"},
        {MESSAGE_FROM("ann@ec.example"), "signer=ec-signing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct outcome outcome;
        char *text = mem_strdup(cases[i].text);
        // "absent" might name the whole address; without it the others decide.
        struct message *message =
            flow_send(&organisation, text, i == 0 || i == 1 ? "all-signers" : "sign",
                      "dave@b.example", &outcome);
        assert_string_equal(flow_reply(&outcome), "");
        if (!strstr(outcome.note, cases[i].note))
            fail_msg("%s: %s", cases[i].text, outcome.note);
        outcome_clear(&outcome);
        message_free(message);
        mem_free(text);
    }
}

static void test_left_alone(void **state)
{
    (void)state;
    struct outcome outcome;
    struct message *message =
        flow_send(&organisation, plain, "none", "dave@b.example erin@c.example", &outcome);
    assert_int_equal(outcome.copy_count, 1);
    assert_null(outcome.copies[0].message);
    assert_false(outcome.copies[0].is_protected);
    assert_int_equal(outcome.copies[0].recipient_count, 2);
    outcome_clear(&outcome);
    message_free(message);
}

static void test_profile_header(void **state)
{
    (void)state;
    struct organisation chosen;
    struct outcome outcome;
    static const struct {
        const char *field;
        bool is_encrypted;
        const char *reply;
    } cases[] = {
        {"", true, ""},
        {"X-Sealgate-Profile: none\r\n", false, ""},
        {"x-sealgate-profile:  sign \r\n", false, ""},
        {"X-Sealgate-Profile: silver\r\n", false,
         "550 5.7.1 there is no S/MIME profile \\x22silver\\x22"},
    };
    organisation_open(&chosen, "outbound { profile = encrypt\n"
                               "  profile-header = \"X-Sealgate-Profile\" }\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[600];
        snprintf(text, sizeof text, "%s%s", cases[i].field, plain);
        struct message *message = flow_send(&chosen, text, NULL, "dave@b.example", &outcome);
        assert_string_equal(flow_reply(&outcome), cases[i].reply);
        if (outcome.copy_count > 0) {
            const struct message *sent = flow_message(&outcome.copies[0], message);
            assert_null(message_header(sent, "X-Sealgate-Profile"));
            assert_int_equal(flow_kind(sent) == MIME_PKCS7, cases[i].is_encrypted);
        }
        outcome_clear(&outcome);
        // Where the configuration names no field, senders choose nothing.
        flow_run(&organisation, DIRECTION_OUTBOUND, "encrypt", "dave@b.example", message, &outcome);
        assert_int_equal(flow_kind(outcome.copies[0].message), MIME_PKCS7);
        outcome_clear(&outcome);
        message_free(message);
    }
    organisation_close(&chosen);
}

// A spool directory that takes no file stands for a full disk.
static void test_no_room_is_temporary(void **state)
{
    (void)state;
    enum { SIZE = 200000 };
    char *text = mem_calloc(1, SIZE + sizeof plain);
    struct message *message;
    struct outcome outcome;
    assert_non_null(text);
    memcpy(text, plain, sizeof plain - 1);
    for (size_t i = 0; i < SIZE; i++)
        text[sizeof plain - 1 + i] = i % 64 == 62 ? '\r' : i % 64 == 63 ? '\n' : 'x';
    message = organisation_message(&organisation, text);
    assert_int_equal(
        rename(organisation_path(&organisation, "spool"), organisation_path(&organisation, "gone")),
        0);
    flow_run(&organisation, DIRECTION_OUTBOUND, "sign-encrypt", "dave@b.example", message,
             &outcome);
    assert_string_equal(flow_reply(&outcome), "451 4.3.0 S/MIME processing is not possible now");
    outcome_clear(&outcome);
    assert_int_equal(
        rename(organisation_path(&organisation, "gone"), organisation_path(&organisation, "spool")),
        0);
    flow_run(&organisation, DIRECTION_OUTBOUND, "sign-encrypt", "dave@b.example", message,
             &outcome);
    assert_string_equal(flow_reply(&outcome), "");
    outcome_clear(&outcome);
    message_free(message);
    mem_free(text);
}

// Whichever allocation fails: the message is encrypted, or tried again later. Never in clear.
static void test_each_allocation_may_fail(void **state)
{
    (void)state;
    struct message *message = organisation_message(&organisation, plain);
    struct outcome outcome;
    for (unsigned n = 1;; n++) {
        mem_fail_at(n);
        flow_run(&organisation, DIRECTION_OUTBOUND, "split", "dave@b.example carl@ec.b.example",
                 message, &outcome);
        mem_fail_at(0);
        bool is_delivered = outcome.verdict.kind == VERDICT_DELIVER;
        if (is_delivered) {
            for (size_t i = 0; i < outcome.copy_count; i++)
                assert_true(outcome.copies[i].message &&
                            flow_kind(outcome.copies[i].message) == MIME_PKCS7);
        } else {
            assert_int_equal(outcome.verdict.kind, VERDICT_TEMP);
        }
        outcome_clear(&outcome);
        if (is_delivered && n > 200)
            break;
    }
    message_free(message);
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
        cmocka_unit_test(test_replies),
        cmocka_unit_test(test_local_recipients),
        cmocka_unit_test(test_largest_message),
        cmocka_unit_test(test_hsmd_is_away_for_all),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_hidden_recipients_get_their_own_copy),
        cmocka_unit_test(test_named_in_header),
        cmocka_unit_test(test_signer_is_chosen_by_from),
        cmocka_unit_test(test_left_alone),
        cmocka_unit_test(test_profile_header),
        cmocka_unit_test(test_no_room_is_temporary),
        cmocka_unit_test(test_each_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
