// SPDX-License-Identifier: Apache-2.0
// The real sealgated behind its milter socket: messages given as an MTA gives them, edits carried
// out as an MTA does, copies caught where they are handed back.
#include "tests/integration/milter_client.h"
#include "tests/integration/sealgated_process.h"
#include "tests/integration/smtp_sink.h"
#include "tests/unit/gateway/flow_support.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>
#include <libmilter/mfdef.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/file.h"

#define STEPS 0x1fffffU // all of protocol 6

static struct organisation organisation; // its gateway checks in this process what came out
static struct smtp_sink sink;
static pid_t daemon_pid;
static char socket_path[100];

#define HEAD                                                                      \
    "From: Bob <bob@a.example>\r\nTo: dave@b.example,\r\n\tcarl@ec.b.example\r\n" \
    "Subject: noon\r\nX-Order: 1\r\nX-Order: 2\r\nMIME-Version: 1.0\r\n"          \
    "Content-Type: text/plain;\r\n charset=us-ascii\r\n"
#define BODY "\r\nWe meet at noon.\r\n.\r\n.. and\r\n"

static struct milter_message make(const char *profile, const char *head, const char *body)
{
    char field[100] = "";
    struct buf text;
    buf_init(&text, 1 << 26);
    if (profile)
        snprintf(field, sizeof field, "X-Sealgate-Profile: %s\r\n", profile);
    assert_int_equal(buf_printf(&text, "%s", field), ERR_OK);
    assert_int_equal(buf_put_text(&text, head), ERR_OK);
    assert_int_equal(buf_put_text(&text, body), ERR_OK);
    struct milter_message m = {.sender = "<bob@a.example>",
                               .recipients = {"<dave@b.example>"},
                               .message = organisation_message(&organisation, buf_text(&text))};
    buf_clear(&text);
    return m;
}

static void outbound(struct milter_client *client)
{
    milter_client_open(client, socket_path, STEPS);
    assert_false(client->is_refused);
    milter_client_connect(client, "192.0.2.1", "ORIGINATING");
}

// For any thread; does not look what the sink got.
static void send_out_only(struct milter_message *m)
{
    struct milter_client client;
    outbound(&client);
    milter_client_send(&client, m);
    milter_client_close(&client);
}

static void send_out(struct milter_message *m)
{
    send_out_only(m);
    smtp_sink_look(&sink);
}

static void send_in(struct milter_message *m)
{
    struct milter_client client;
    milter_client_open(&client, socket_path, STEPS);
    milter_client_connect(&client, "192.0.2.1", NULL);
    milter_client_send(&client, m);
    milter_client_close(&client);
}

static void assert_same_text(const struct message *a, const char *b)
{
    char *text = flow_text(a);
    assert_string_equal(text, b);
    mem_free(text);
}

static void test_round_trips(void **state)
{
    (void)state;
    static const struct {
        const char *profile;
        enum mime_kind on_way;
        const char *result;
    } cases[] = {
        {"sign", MIME_SIGNED, "pass"},   {"sign-opaque", MIME_PKCS7, "pass"},
        {"encrypt", MIME_PKCS7, "none"}, {"sign-encrypt", MIME_PKCS7, "pass"},
        {"triple", MIME_SIGNED, "pass"}, {"triple-opaque", MIME_PKCS7, "pass"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct milter_message m = make(cases[i].profile, HEAD, BODY);
        send_out(&m);
        assert_int_equal(m.verdict, SMFIR_CONTINUE);
        assert_null(message_header(m.message, "X-Sealgate-Profile"));
        assert_int_equal(flow_kind(m.message), cases[i].on_way);
        send_in(&m);
        assert_int_equal(m.verdict, SMFIR_CONTINUE);
        char wanted[40];
        snprintf(wanted, sizeof wanted, "smime=%s", cases[i].result);
        assert_non_null(strstr(flow_result(m.message), wanted));
        // With our own field off it is the message that was sent, byte for byte.
        message_remove_headers(m.message, "Authentication-Results");
        assert_true(bytes_equal(flow_body(m.message), bytes_of_text(BODY + 2)));
        assert_string_equal(message_header(m.message, "Content-Type"),
                            " text/plain;\n charset=us-ascii");
        assert_string_equal(message_header(m.message, "To"),
                            " dave@b.example,\n\tcarl@ec.b.example");
        message_free(m.message);
    }
}

static void test_left_alone(void **state)
{
    (void)state;
    struct milter_message m = make(NULL, HEAD, BODY);
    send_in(&m);
    assert_int_equal(m.verdict, SMFIR_CONTINUE);
    assert_int_equal(m.edits, 0);
    assert_same_text(m.message, HEAD BODY);
    message_free(m.message);
    m = make("none", HEAD, BODY);
    send_out(&m);
    assert_int_equal(m.edits, 1); // the field that said so
    assert_same_text(m.message, HEAD BODY);
    message_free(m.message);
}

static void test_direction(void **state)
{
    (void)state;
    static const struct {
        const char *address, *daemon, *login;
        bool is_out;
    } cases[] = {
        {"192.0.2.1", NULL, NULL, false},         {"192.0.2.1", "inbound", NULL, false},
        {"192.0.2.1", "ORIGINATING", NULL, true}, {"127.0.0.1", NULL, NULL, true},
        {"192.0.2.1", NULL, "bob", true},         {"198.51.100.7", NULL, NULL, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct milter_client client;
        struct milter_message m = make("sign", HEAD, BODY);
        m.login = cases[i].login;
        milter_client_open(&client, socket_path, STEPS);
        milter_client_connect(&client, cases[i].address, cases[i].daemon);
        milter_client_send(&client, &m);
        milter_client_close(&client);
        if ((flow_kind(m.message) == MIME_SIGNED) != cases[i].is_out)
            fail_msg("case %zu", i);
        message_free(m.message);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *profile, *head, *recipient;
        char verdict;
        const char *reply;
    } cases[] = {
        {"sign-encrypt", HEAD, "<erin@c.example>", SMFIR_REPLYCODE,
         "550 5.7.5 no encryption certificate for erin@c.example"},
        {"sign-encrypt", HEAD, "<a%b@c.example>", SMFIR_REPLYCODE,
         "550 5.7.5 no encryption certificate for a%%b@c.example"},
        {"drop", HEAD, "<erin@c.example>", SMFIR_DISCARD, ""},
        {"all-signers", "From: x@expired.example\r\n", "<dave@b.example>", SMFIR_REPLYCODE,
         "451 4.7.5 S/MIME certificate is expired"},
        {"all-signers", "From: x@absent.example\r\n", "<dave@b.example>", SMFIR_REPLYCODE,
         "451 4.3.0 S/MIME processing is not possible now"},
        {"sign", "Subject: no From\r\n", "<dave@b.example>", SMFIR_REPLYCODE,
         "550 5.7.1 cannot be signed: the message has not exactly one From address"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct milter_message m = make(cases[i].profile, cases[i].head, BODY);
        m.recipients[0] = cases[i].recipient;
        send_out(&m);
        assert_int_equal(m.verdict, cases[i].verdict);
        assert_string_equal(m.reply, cases[i].reply);
        assert_int_equal(m.edits, 0);
        message_free(m.message);
    }
}

// The encrypted copy stays with the MTA, the clear one comes back as it came.
static void test_split(void **state)
{
    (void)state;
    struct milter_message m = make("split", HEAD, BODY);
    m.recipients[1] = "<erin@c.example>";
    m.recipients[2] = "<frank@c.example>";
    smtp_sink_reset(&sink, 0, NULL);
    send_out(&m);
    assert_int_equal(m.verdict, SMFIR_CONTINUE);
    assert_string_equal(m.recipients[0], "<dave@b.example>");
    assert_string_equal(m.recipients[1], "");
    assert_string_equal(m.recipients[2], "");
    assert_int_equal(flow_kind(m.message), MIME_PKCS7);
    assert_int_equal(sink.seen.count, 1);
    assert_non_null(strstr(buf_text(&sink.seen.envelopes), "MAIL FROM:<bob@a.example>"));
    assert_non_null(strstr(buf_text(&sink.seen.envelopes),
                           "RCPT TO:<erin@c.example>\nRCPT TO:<frank@c.example>\n"));
    assert_string_equal(buf_text(&sink.seen.data), HEAD BODY);
    message_free(m.message);
}

static void test_copies_for_kinds_of_keys(void **state)
{
    (void)state;
    struct milter_message m = make("split", HEAD, BODY);
    m.sender = "<>";
    m.recipients[1] = "<carl@ec.b.example>";
    m.recipients[2] = "<erin@c.example>";
    smtp_sink_reset(&sink, 0, NULL);
    send_out(&m);
    assert_int_equal(m.verdict, SMFIR_CONTINUE);
    assert_int_equal(sink.seen.count, 2);
    // Encrypted ones first, so that what fails leaves nothing in clear behind.
    assert_string_equal(strchr(buf_text(&sink.seen.envelopes), '<'),
                        strstr(buf_text(&sink.seen.envelopes), "<>"));
    const char *carl = strstr(buf_text(&sink.seen.envelopes), "<carl@ec.b.example>");
    const char *erin = strstr(buf_text(&sink.seen.envelopes), "<erin@c.example>");
    assert_true(carl && erin && carl < erin);
    assert_non_null(strstr(buf_text(&sink.seen.data), "application/pkcs7-mime"));
    message_free(m.message);
}

// The line of the log, of which there must be one only, about the message of that sender.
static void assert_logged(const char *sender, const char *const *words)
{
    struct buf log;
    char from[60];
    buf_init(&log, 1 << 24);
    assert_int_equal(file_read(organisation_path(&organisation, "daemon.log"), &log, NULL), ERR_OK);
    snprintf(from, sizeof from, "from=\"%s\"", sender);
    char *at = strstr(buf_text(&log), from);
    assert_non_null(at);
    assert_null(strstr(at + 1, from));
    char *end = strchr(at, '\n');
    *end = 0;
    while (at > buf_text(&log) && at[-1] != '\n')
        at--;
    for (; *words; words++) {
        if (!strstr(at, *words))
            fail_msg("no %s in %s", *words, at);
    }
    buf_clear(&log);
}

// What is logged is what became of the message, with all that is known of it, once.
static void test_log_of_failures(void **state)
{
    (void)state;
    static const char *const not_handed_on[] = {"verdict=\"temporary\"",
                                                "rcpt=\"<dave@b.example>\"", "event=outbound",
                                                "copy 2 of 2", NULL};
    static const char *const too_large[] = {"verdict=\"bounce\"", "rcpt=\"<dave@b.example>\"",
                                            "over the limit", NULL};
    struct milter_message m = make("split", HEAD, BODY);
    m.sender = "<split@a.example>";
    m.recipients[1] = "<erin@c.example>";
    smtp_sink_reset(&sink, 0, "450 4.2.0 not now");
    send_out(&m);
    assert_int_equal(m.verdict, SMFIR_REPLYCODE);
    assert_logged(m.sender, not_handed_on);
    message_free(m.message);

    enum { SIZE = 2100000 };
    char *body = mem_calloc(1, SIZE + 1);
    memset(body, 'x', SIZE);
    memcpy(body, "\r\n", 2);
    m = make("sign", HEAD, body);
    m.sender = "<large@a.example>";
    send_out(&m);
    assert_true(strncmp(m.reply, "552 5.3.4 ", 10) == 0);
    assert_logged(m.sender, too_large);
    message_free(m.message);
    mem_free(body);
}

static void test_copy_cannot_be_handed_on(void **state)
{
    (void)state;
    static const char *const refusals[] = {"450 4.2.0 not now", "550 5.1.1 nobody",
                                           "421 4.3.0 closing"};
    for (size_t i = 0; i < 3; i++) {
        struct milter_message m = make("split", HEAD, BODY);
        m.recipients[1] = "<erin@c.example>";
        smtp_sink_reset(&sink, 0, refusals[i]);
        send_out(&m);
        assert_int_equal(m.verdict, SMFIR_REPLYCODE);
        assert_string_equal(m.reply, "451 4.3.0 S/MIME processing is not possible now");
        assert_int_equal(m.edits, 0);
        assert_int_equal(sink.seen.count, 0);
        message_free(m.message);
    }
    // The second of two: the first has gone, the sender tries again, nothing is lost.
    struct milter_message m = make("split", HEAD, BODY);
    m.recipients[1] = "<carl@ec.b.example>";
    m.recipients[2] = "<erin@c.example>";
    smtp_sink_reset(&sink, 1, "450 4.2.0 not now");
    send_out(&m);
    assert_int_equal(m.verdict, SMFIR_REPLYCODE);
    assert_int_equal(m.edits, 0);
    assert_int_equal(sink.seen.count, 1);
    assert_null(strstr(buf_text(&sink.seen.data), "noon.")); // what went was encrypted
    message_free(m.message);
}

static void test_too_large(void **state)
{
    (void)state;
    enum { SIZE = 3000000 };
    char *body = mem_calloc(1, SIZE + 1);
    memset(body, 'x', SIZE);
    for (size_t i = 0; i + 1 < SIZE; i += 70)
        memcpy(body + i, "\r\n", 2);
    struct milter_message m = make("sign-encrypt", HEAD, body);
    send_out(&m);
    assert_int_equal(m.verdict, SMFIR_REPLYCODE);
    assert_true(strncmp(m.reply, "552 5.3.4 ", 10) == 0);
    message_free(m.message);
    // Just below the limit, in many chunks.
    body[1990000] = 0;
    m = make("triple-opaque", HEAD, body);
    send_out(&m);
    assert_int_equal(m.verdict, SMFIR_CONTINUE);
    send_in(&m);
    if (m.verdict == SMFIR_CONTINUE) // grown by three layers of base64 it is over the limit
        fail_msg("taken");
    assert_true(strncmp(m.reply, "552 ", 4) == 0);
    message_free(m.message);
    body[600000] = 0;
    m = make("triple-opaque", HEAD, body);
    send_out(&m);
    send_in(&m);
    assert_int_equal(m.verdict, SMFIR_CONTINUE);
    assert_true(bytes_equal(flow_body(m.message), bytes_of_text(body + 2)));
    message_free(m.message);
    mem_free(body);
}

static void test_several_messages_on_a_connection(void **state)
{
    (void)state;
    struct milter_client client;
    outbound(&client);
    for (int i = 0; i < 3; i++) {
        struct milter_message aborted = make("sign", HEAD "X-Left-Over: 1\r\n", BODY);
        struct milter_message m = make("sign", HEAD, BODY);
        milter_client_abort(&client, &aborted);
        milter_client_send(&client, &m);
        assert_int_equal(m.verdict, SMFIR_CONTINUE);
        assert_int_equal(flow_kind(m.message), MIME_SIGNED);
        assert_null(message_header(m.message, "X-Left-Over"));
        message_free(aborted.message);
        message_free(m.message);
    }
    milter_client_close(&client);
}

static void test_old_mta_is_told_off(void **state)
{
    (void)state;
    struct milter_client client;
    milter_client_open(&client, socket_path, STEPS & ~(uint32_t)SMFIP_HDR_LEADSPC);
    assert_true(client.is_refused);
    milter_client_close(&client);
}

static void *many(void *arg)
{
    (void)arg;
    for (int i = 0; i < 5; i++) {
        struct milter_message m = make("sign-encrypt", HEAD, BODY);
        send_out_only(&m);
        assert_int_equal(m.verdict, SMFIR_CONTINUE);
        send_in(&m);
        assert_non_null(strstr(flow_result(m.message), "smime=pass"));
        message_free(m.message);
    }
    return NULL;
}

static void test_many_at_once(void **state)
{
    (void)state;
    pthread_t threads[8];
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, many, NULL), 0);
    for (size_t i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
}

// Last: SIGTERM ends it cleanly, and then nobody listens.
static void test_end(void **state)
{
    (void)state;
    int status = sealgated_stop(daemon_pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    daemon_pid = 0;
}

static int setup(void **state)
{
    (void)state;
    char more[600];
    static struct organisation served;
    signal(SIGPIPE, SIG_IGN);
    smtp_sink_open(&sink);
    organisation_open(&organisation, NULL);
    snprintf(socket_path, sizeof socket_path, "%s",
             organisation_path(&organisation, "milter.sock"));
    snprintf(more, sizeof more,
             "listen = \"unix:%s\"\nreinject = \"smtp://127.0.0.1:%u\"\nlog-level = info\n"
             "log = stderr\nmessage-max = 2000000\n"
             "internal-networks = { 127.0.0.0/8, 198.51.100.0/24 }\n"
             "outbound { profile-header = \"X-Sealgate-Profile\" }\n"
             "inbound { signature = remove }\n",
             socket_path, sink.port);
    organisation_open_like(&served, &organisation, more);
    daemon_pid = sealgated_start(organisation_path(&served, served.conf_file),
                                 organisation_path(&organisation, "daemon.log"));
    organisation_close(&served);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (daemon_pid)
        sealgated_stop(daemon_pid);
    organisation_close(&organisation);
    smtp_sink_close(&sink);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_left_alone),
        cmocka_unit_test(test_direction),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_copies_for_kinds_of_keys),
        cmocka_unit_test(test_copy_cannot_be_handed_on),
        cmocka_unit_test(test_log_of_failures),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_several_messages_on_a_connection),
        cmocka_unit_test(test_old_mta_is_told_off),
        cmocka_unit_test(test_many_at_once),
        cmocka_unit_test(test_end),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
