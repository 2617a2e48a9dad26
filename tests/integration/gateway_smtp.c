// SPDX-License-Identifier: Apache-2.0
// Copies handed back by SMTP: line ends, dots, addresses, refusals, deadlines.
#include "gateway/smtp.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/integration/smtp_sink.h"

static struct smtp_sink sink;
static char url[60];
static struct smtp_conf conf = {.url = url, .name = "mx.a.example", .timeout_ms = 20000};

static enum err hand_on(const char *sender, const char *recipient, struct bytes message,
                        struct detail *detail)
{
    struct envelope envelope = {.sender = sender, .recipients = &recipient, .recipient_count = 1};
    enum err err = smtp_send(&conf, &envelope, message, detail);
    smtp_sink_look(&sink);
    return err;
}

static void test_text_arrives(void **state)
{
    (void)state;
    static const struct {
        const char *given, *arrives;
    } cases[] = {
        {"A: b\r\n\r\nx\r\n", "A: b\r\n\r\nx\r\n"},
        {"A: b\n\nx\n", "A: b\r\n\r\nx\r\n"},
        {"A: b\r\n\r\n.\r\n..\r\n.x\r\n", "A: b\r\n\r\n.\r\n..\r\n.x\r\n"},
        // What a smuggler hides behind a bare LF stays text.
        {"A: b\r\n\r\nx\n.\r\nMAIL FROM:<evil@x>\r\n",
         "A: b\r\n\r\nx\r\n.\r\nMAIL FROM:<evil@x>\r\n"},
        {"A: b\r\n\r\nx\n.\nQUIT\n", "A: b\r\n\r\nx\r\n.\r\nQUIT\r\n"},
        {"A: b\r\n\r\nno end", "A: b\r\n\r\nno end\r\n"},
        {"A: b\r\n\r\n\n\n", "A: b\r\n\r\n\r\n\r\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct detail detail = {0};
        smtp_sink_reset(&sink, 0, NULL);
        if (hand_on("a@x.example", "b@y.example", bytes_of_text(cases[i].given), &detail))
            fail_msg("%s", detail.text);
        assert_int_equal(sink.seen.count, 1);
        assert_string_equal(buf_text(&sink.seen.data), cases[i].arrives);
    }
}

// Line ends at every place of the buffers on the way.
static void test_long_text_arrives(void **state)
{
    (void)state;
    static char given[400000], arrives[800000];
    struct detail detail = {0};
    size_t n = 0;
    for (size_t i = 0; i < sizeof given - 1; i++) {
        given[i] = i % 7 == 3 ? '\n' : 'x';
        if (given[i] == '\n')
            arrives[n++] = '\r';
        arrives[n++] = given[i];
    }
    given[sizeof given - 2] = '\n';
    if (arrives[n - 1] != '\n') {
        arrives[n - 1] = '\r';
        arrives[n++] = '\n';
    }
    smtp_sink_reset(&sink, 0, NULL);
    assert_int_equal(hand_on("<>", "b@y.example", bytes_of_text(given), &detail), ERR_OK);
    assert_int_equal(sink.seen.data.len, n);
    assert_memory_equal(sink.seen.data.data, arrives, n);
}

static void test_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *sender, *recipient, *envelope; // NULL: refused before anything is said
    } cases[] = {
        {"a@x.example", "b@y.example", "MAIL FROM:<a@x.example>"},
        {"<a@x.example>", "<b@y.example>", "MAIL FROM:<a@x.example>"},
        {"<>", "<b@y.example>", "MAIL FROM:<>"},
        {"", "<b@y.example>", "MAIL FROM:<>"},
        {"a@x.example\r\nRCPT TO:<evil@x>", "b@y.example", NULL},
        {"a@x.example", "b@y.example\r\nDATA", NULL},
        {"a@x.example> SIZE=1", "b@y.example", NULL},
        {"a@x.example", "", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        smtp_sink_reset(&sink, 0, NULL);
        enum err err =
            hand_on(cases[i].sender, cases[i].recipient, BYTES_LITERAL("A: b\r\n\r\n"), NULL);
        assert_int_equal(err, cases[i].envelope ? ERR_OK : ERR_PERM);
        assert_int_equal(sink.seen.count, cases[i].envelope ? 1 : 0);
        if (cases[i].envelope) {
            assert_non_null(strstr(buf_text(&sink.seen.envelopes), cases[i].envelope));
            assert_non_null(strstr(buf_text(&sink.seen.envelopes), "RCPT TO:<b@y.example>"));
        }
    }
}

static void test_refusal_is_temporary(void **state)
{
    (void)state;
    static const char *const refusals[] = {"450 4.2.0 later", "550 5.1.1 never"};
    for (size_t i = 0; i < 2; i++) {
        struct detail detail = {0};
        smtp_sink_reset(&sink, 0, refusals[i]);
        assert_int_equal(hand_on("a@x", "b@y", BYTES_LITERAL("A: b\r\n\r\n"), &detail), ERR_TEMP);
        assert_int_equal(sink.seen.count, 0);
        assert_non_null(strstr(detail.text, i == 0 ? "450" : "550"));
    }
}

// A port that takes connections and says nothing, and one where nobody listens.
static void test_silence_has_a_deadline(void **state)
{
    (void)state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    char silent[60];
    struct detail detail = {0};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    snprintf(silent, sizeof silent, "smtp://127.0.0.1:%u", ntohs(address.sin_port));
    struct smtp_conf quick = {.url = silent, .name = "mx", .timeout_ms = 300};
    const char *recipient = "b@y.example";
    struct envelope envelope = {.sender = "", .recipients = &recipient, .recipient_count = 1};
    assert_int_equal(smtp_send(&quick, &envelope, BYTES_LITERAL("\r\n"), &detail), ERR_TEMP);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(smtp_send(&quick, &envelope, BYTES_LITERAL("\r\n"), &detail), ERR_TEMP);
    close(fd);
}

static int setup(void **state)
{
    (void)state;
    smtp_sink_open(&sink);
    snprintf(url, sizeof url, "smtp://127.0.0.1:%u", sink.port);
    return smtp_start(NULL);
}

static int teardown(void **state)
{
    (void)state;
    smtp_stop();
    smtp_sink_close(&sink);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_arrives),
        cmocka_unit_test(test_long_text_arrives),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_refusal_is_temporary),
        cmocka_unit_test(test_silence_has_a_deadline),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
