// SPDX-License-Identifier: Apache-2.0
// Incoming messages through the pipeline: what was made by the outgoing way comes back as it was,
// and what is wrong is delivered with the result in the header.
#include "tests/unit/gateway/flow_trip.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

#include "hsmd/base/alloc.h"

static struct organisation keeps, removes, blind; // signatures kept, removed, nothing done at all

#define PARTS                                                                      \
    "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"=b=\"\r\n\r\n" \
    "--=b=\r\nContent-Type: text/plain\r\n\r\nSee the file.\r\n"                   \
    "--=b=\r\nContent-Type: application/octet-stream; name=a.bin\r\n"              \
    "Content-Transfer-Encoding: base64\r\n\r\nAAECAwQ=\r\n--=b=--\r\n"

static const char *const texts[] = {FLOW_HEAD FLOW_TEXT, FLOW_HEAD PARTS,
                                    FLOW_HEAD "Content-Type: text/plain\r\n\r\n"};

static void assert_same_content(const struct message *message, const struct message *original)
{
    static const char *const same[] = {"From", "To", "Subject", "Message-ID", "Content-Type"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        assert_string_equal(message_header(message, same[i]), message_header(original, same[i]));
    assert_true(bytes_equal(flow_body(message), flow_body(original)));
}

static void test_round_trips(void **state)
{
    (void)state;
    static const struct {
        const char *profile, *recipient;
        const char *result;
        const char *said;      // also in the field
        enum mime_kind kept;   // what a reader gets whose signatures are kept
        enum mime_kind on_way; // what travels
    } cases[] = {
        {"sign", "dave@b.example", "pass", "ann@a.example", MIME_SIGNED, MIME_SIGNED},
        {"sign-opaque", "dave@b.example", "pass", "", MIME_PKCS7, MIME_PKCS7},
        {"sign-pss", "dave@b.example", "pass", "", MIME_SIGNED, MIME_SIGNED},
        {"encrypt", "dave@b.example", "none", "not authenticated", MIME_PLAIN, MIME_PKCS7},
        {"encrypt-gcm", "dave@b.example", "none", "decrypted", MIME_PLAIN, MIME_PKCS7},
        {"encrypt", "carl@ec.b.example", "none", "not authenticated", MIME_PLAIN, MIME_PKCS7},
        {"encrypt", "both@b.example", "none", "not authenticated", MIME_PLAIN, MIME_PKCS7},
        {"sign-encrypt", "dave@b.example", "pass", "decrypted", MIME_SIGNED, MIME_PKCS7},
        {"sign-encrypt", "carl@ec.b.example", "pass", "decrypted", MIME_SIGNED, MIME_PKCS7},
        {"sign-encrypt-opaque", "dave@b.example", "pass", "decrypted", MIME_PKCS7, MIME_PKCS7},
        {"triple", "dave@b.example", "pass", "decrypted", MIME_SIGNED, MIME_SIGNED},
        {"triple-opaque", "dave@b.example", "pass", "decrypted", MIME_PKCS7, MIME_PKCS7},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (size_t t = 0; t < sizeof texts / sizeof *texts; t++) {
            struct trip trip;
            trip_make(&trip, &keeps, &keeps, texts[t], cases[i].profile, cases[i].recipient);
            assert_int_equal(flow_kind(trip.sent), cases[i].on_way);
            assert_int_equal(flow_kind(trip.got), cases[i].kept);
            flow_assert_result(trip.got, cases[i].result);
            assert_non_null(strstr(flow_result(trip.got), cases[i].said));
            if (cases[i].kept == MIME_PLAIN)
                assert_same_content(trip.got, trip.original);
            trip_clear(&trip);

            trip_make(&trip, &keeps, &removes, texts[t], cases[i].profile, cases[i].recipient);
            assert_int_equal(flow_kind(trip.got), MIME_PLAIN);
            flow_assert_result(trip.got, cases[i].result);
            assert_same_content(trip.got, trip.original);
            trip_clear(&trip);
        }
    }
}

// A kept signature is one that the reader's own client can check again.
static void test_kept_signature_is_whole(void **state)
{
    (void)state;
    static const char *const profiles[] = {"sign", "sign-encrypt", "sign-encrypt-opaque", "triple"};
    for (size_t i = 0; i < sizeof profiles / sizeof *profiles; i++) {
        struct trip trip;
        struct outcome again;
        trip_make(&trip, &keeps, &keeps, texts[1], profiles[i], "dave@b.example");
        flow_run(&removes, DIRECTION_INBOUND, NULL, "dave@b.example", trip.got, &again);
        flow_assert_result(again.copies[0].message, "pass");
        assert_same_content(again.copies[0].message, trip.original);
        // The field of the first gateway was forged for the second.
        size_t count = 0;
        for (size_t h = 0; h < again.copies[0].message->header_count; h++)
            count +=
                strcasecmp(again.copies[0].message->headers[h].name, "Authentication-Results") == 0;
        assert_int_equal(count, 1);
        outcome_clear(&again);
        trip_clear(&trip);
    }
}

// text of the message with the first place of from replaced by to, of the same length.
static struct message *tampered(const struct message *message, const char *from, const char *to)
{
    char *text = flow_text(message);
    char *place = strstr(text, from);
    assert_non_null(place);
    memcpy(place, to, strlen(to));
    struct message *changed = organisation_message(&keeps, text);
    mem_free(text);
    return changed;
}

static void test_bad_signature_stays(void **state)
{
    (void)state;
    struct trip trip;
    struct outcome outcome;
    trip_make(&trip, &keeps, &removes, texts[0], "sign", "dave@b.example");
    struct message *changed = tampered(trip.sent, "at noon", "at nine");
    flow_receive(&removes, changed, &outcome);
    flow_assert_as_it_came(&outcome, changed, "fail");
    outcome_clear(&outcome);
    message_free(changed);
    trip_clear(&trip);

    // The signature round the encryption of a triple one.
    trip_make(&trip, &keeps, &removes, texts[0], "triple", "dave@b.example");
    changed = tampered(trip.sent, "MII", "MIJ");
    flow_receive(&removes, changed, &outcome);
    flow_assert_as_it_came(&outcome, changed, "fail");
    outcome_clear(&outcome);
    message_free(changed);
    trip_clear(&trip);
}

// Decrypts, but what was inside is not what was signed: the reader gets it, with the signature.
static void test_bad_signature_inside(void **state)
{
    (void)state;
    struct trip trip;
    struct outcome encrypted, outcome;
    trip_make(&trip, &keeps, &keeps, texts[0], "sign", "dave@b.example");
    struct message *changed = tampered(trip.sent, "at noon", "at nine");
    flow_run(&keeps, DIRECTION_OUTBOUND, "encrypt", "dave@b.example", changed, &encrypted);
    assert_string_equal(flow_reply(&encrypted), "");
    flow_receive(&removes, encrypted.copies[0].message, &outcome);
    flow_assert_result(outcome.copies[0].message, "fail");
    assert_non_null(strstr(flow_result(outcome.copies[0].message), "not authenticated"));
    assert_int_equal(flow_kind(outcome.copies[0].message), MIME_SIGNED);
    outcome_clear(&outcome);
    outcome_clear(&encrypted);
    message_free(changed);
    trip_clear(&trip);
}

// Good signatures that say nothing about the sender stay on, and are not called a pass.
static void test_policy_results(void **state)
{
    (void)state;
    static const struct {
        const char *name, *from, *profile, *seen_from, *reason;
        bool is_named; // whose certificate it is: only if somebody we trust says so
    } cases[] = {
        {"another sender", "ann@a.example", "sign", "eve@a.evil", "From", true},
        {"a subdomain", "ann@a.example", "sign", "n@x.a.example", "From", true},
        {"another authority", "x@foreign.example", "foreign", "x@foreign.example",
         "not trusted: ", false},
        {"expired", "x@expired.example", "expired", "x@expired.example", "", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[400];
        struct outcome in;
        snprintf(text, sizeof text, "From: %s\r\nTo: dave@b.example\r\n" FLOW_TEXT, cases[i].from);
        struct message *message = organisation_message(&keeps, text);
        struct gateway *gateway = keeps.gateway;
        struct identity_material material;
        struct spool *entity = spool_new(&gateway->spool);
        struct spool *signature = spool_new(&gateway->spool);
        struct bytes entity_view, signature_view;
        struct message *sent;
        // The outgoing way would refuse most of these.
        size_t identity = strcmp(cases[i].profile, "sign") == 0      ? 0
                          : strcmp(cases[i].profile, "expired") == 0 ? 3
                                                                     : 4;
        assert_int_equal(identity_get(gateway->identities[identity], &material, NULL), ERR_OK);
        struct cms_signer signer = {
            .key = material.key, .cert = material.cert, .hash = HASH_SHA256};
        assert_int_equal(mime_make_entity(message, entity, NULL), ERR_OK);
        assert_int_equal(spool_view(entity, &entity_view, NULL), ERR_OK);
        assert_int_equal(cms_sign(&signer, entity_view, true, signature, NULL), ERR_OK);
        assert_int_equal(spool_view(signature, &signature_view, NULL), ERR_OK);
        assert_int_equal(
            mime_wrap_signed(message, entity_view, signature_view, "sha-256", &sent, NULL), ERR_OK);
        message_remove_headers(sent, "From");
        char from[100];
        snprintf(from, sizeof from, " %s", cases[i].seen_from);
        assert_int_equal(message_add_header(sent, "From", from, NULL), ERR_OK);
        flow_receive(&removes, sent, &in);
        flow_assert_as_it_came(&in, sent, "policy");
        if (!strstr(flow_result(in.copies[0].message), cases[i].reason))
            fail_msg("%s: %s", cases[i].name, flow_result(in.copies[0].message));
        const char *result = flow_result(in.copies[0].message);
        if ((strstr(result, "body.smime-serial") != NULL) != cases[i].is_named ||
            (strstr(result, "body.smime-issuer") != NULL) != cases[i].is_named ||
            (strstr(result, "CN=") != NULL && !cases[i].is_named) ||
            strstr(result, "foreign") != NULL)
            fail_msg("%s: %s", cases[i].name, result);
        outcome_clear(&in);
        message_free(sent);
        spool_free(entity);
        spool_free(signature);
        message_free(message);
    }
}

static void test_not_for_us(void **state)
{
    (void)state;
    struct trip trip;
    trip_make(&trip, &keeps, &removes, texts[0], "encrypt", "x@b2.example");
    flow_assert_as_it_came(&trip.in, trip.sent, "neutral");
    trip_clear(&trip);
    // Nor does the signature round it come off.
    trip_make(&trip, &keeps, &removes, texts[0], "triple", "x@b2.example");
    flow_assert_as_it_came(&trip.in, trip.sent, "neutral");
    trip_clear(&trip);
}

static void test_plain_is_not_touched(void **state)
{
    (void)state;
    struct outcome outcome;
    struct message *message = organisation_message(&keeps, texts[1]);
    flow_receive(&removes, message, &outcome);
    assert_null(outcome.copies[0].message);
    outcome_clear(&outcome);
    message_free(message);
}

static void test_nothing_to_do(void **state)
{
    (void)state;
    static const char *const profiles[] = {"sign", "encrypt", "triple"};
    for (size_t i = 0; i < 3; i++) {
        struct trip trip;
        trip_make(&trip, &keeps, &blind, texts[0], profiles[i], "dave@b.example");
        assert_string_equal(flow_result(trip.got), "");
        assert_true(bytes_equal(flow_body(trip.got), flow_body(trip.sent)));
        trip_clear(&trip);
    }
}

// hsmd is away: mail that may need its key waits, mail that does not passes.
static void test_key_out_of_reach_is_temporary(void **state)
{
    (void)state;
    struct organisation away;
    struct trip trip;
    struct outcome outcome;
    organisation_open_like(&away, &keeps,
                           "identity remote { certificate-file = \"decryption.pem\""
                           " key = \"hsmd:remote\" use = decrypt }\n");
    // For a key that is there:
    trip_make(&trip, &keeps, &keeps, texts[0], "encrypt", "x@b2.example");
    flow_run(&away, DIRECTION_INBOUND, NULL, "x@b2.example", trip.sent, &outcome);
    assert_string_equal(flow_reply(&outcome), "451 4.3.0 S/MIME processing is not possible now");
    outcome_clear(&outcome);
    trip_clear(&trip);
    trip_make(&trip, &keeps, &keeps, texts[0], "sign", "dave@b.example");
    flow_run(&away, DIRECTION_INBOUND, NULL, "dave@b.example", trip.sent, &outcome);
    assert_string_equal(flow_reply(&outcome), "");
    outcome_clear(&outcome);
    trip_clear(&trip);
    organisation_close(&away);
}

// Whichever allocation fails: the right result, or tried again later. Nothing half.
static void test_each_allocation_may_fail(void **state)
{
    (void)state;
    struct trip trip;
    struct outcome outcome;
    trip_make(&trip, &keeps, &removes, texts[0], "triple", "dave@b.example");
    for (unsigned n = 1;; n++) {
        mem_fail_at(n);
        flow_run(&removes, DIRECTION_INBOUND, NULL, "dave@b.example", trip.sent, &outcome);
        mem_fail_at(0);
        bool is_delivered = outcome.verdict.kind == VERDICT_DELIVER;
        if (is_delivered) {
            flow_assert_result(outcome.copies[0].message, "pass");
            assert_same_content(outcome.copies[0].message, trip.original);
        } else {
            assert_int_equal(outcome.verdict.kind, VERDICT_TEMP);
        }
        outcome_clear(&outcome);
        if (is_delivered && n > 200)
            break;
    }
    trip_clear(&trip);
}

static int setup(void **state)
{
    (void)state;
    organisation_open(&keeps, NULL);
    organisation_open_like(&removes, &keeps, "inbound { signature = remove }\n");
    organisation_open_like(&blind, &keeps, "inbound { verify = false decrypt = false }\n");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    organisation_close(&blind);
    organisation_close(&removes);
    organisation_close(&keeps);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_kept_signature_is_whole),
        cmocka_unit_test(test_bad_signature_stays),
        cmocka_unit_test(test_bad_signature_inside),
        cmocka_unit_test(test_policy_results),
        cmocka_unit_test(test_not_for_us),
        cmocka_unit_test(test_plain_is_not_touched),
        cmocka_unit_test(test_nothing_to_do),
        cmocka_unit_test(test_key_out_of_reach_is_temporary),
        cmocka_unit_test(test_each_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
