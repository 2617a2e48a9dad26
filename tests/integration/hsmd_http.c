// SPDX-License-Identifier: Apache-2.0
// The web server of a real hsmd: what it tells, whom it tells, and that nothing a client of it does
// keeps another waiting.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>

#include "hsmd/base/clock.h"
#include "hsmd/base/file.h"
#include "hsmd/watch/http.h"
#include "tests/integration/hsmd_process.h"
#include "tests/integration/hsmd_web.h"
#include "tests/support/custodian.h"

static struct hsmd hsmd;
static struct buf attributes;

static void configure(const char *more)
{
    char text[600];
    snprintf(text, sizeof text, "log-level = info\nmetrics-listen = \"127.0.0.1:%u\"\n%s", port,
             more);
    hsmd_configure(&hsmd, "log-level = info\n", text, NULL);
}

static int setup(void **state)
{
    (void)state;
    hsmd_setup(&hsmd);
    buf_init(&attributes, 4096);
    custodian_attributes(HASH_SHA256, &attributes);
    web_open();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hsmd_teardown(&hsmd);
    buf_clear(&attributes);
    web_close();
    return 0;
}

static int begin(void **state)
{
    (void)state;
    if (hsmd.pid)
        hsmd_stop(&hsmd, SIGKILL);
    hsmd_drop_log(&hsmd);
    configure("");
    return 0;
}

static enum err sign(struct client *client)
{
    return hsmd_sign(client, "signing", WIRE_RSA_PKCS1, buf_bytes(&attributes), NULL);
}

static void test_metrics(void **state)
{
    (void)state;
    hsmd_serve(&hsmd);
    struct client *client = hsmd_client(&hsmd, "gw", 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(sign(client), ERR_OK);
    struct client *stranger = hsmd_client(&hsmd, "stranger", 2000);
    assert_int_equal(sign(stranger), ERR_TEMP);
    fetch_metrics();
    assert_true(value_of(P "requests_total{client=\"gateway\",key=\"signing\",operation=\"sign\","
                           "result=\"ok\"}") == 3);
    assert_true(value_of(P "refused_total{reason=\"unknown_peer\"}") >= 1);
    assert_true(value_of(P "queue_seconds_count") == 3);
    assert_true(value_of(P "token_seconds_count{operation=\"sign\"}") == 3);
    assert_true(value_of(P "token_seconds_sum{operation=\"sign\"}") > 0);
    assert_true(value_of(P "token_up{token=\"main\"}") == 1);
    assert_true(value_of(P "token_sessions{token=\"main\"}") == 2);
    assert_true(value_of(P "workers") == 6); // sessions, spare and light ones
    assert_true(value_of(P "certificate_days_left{key=\"signing\"}") > 1);
    assert_true(value_of(P "build_info{version=\"" SEALGATE_VERSION "\"}") == 1);
    assert_int_equal(fetch("GET", "/healthz", NULL), 200);
    assert_string_equal(buf_text(&body), "ok\n");
    assert_int_equal(fetch("GET", "/healthz?json", NULL), 200);
    assert_string_equal(buf_text(&body), "{\"status\":\"ok\",\"problems\":[]}\n");
    assert_int_equal(fetch("GET", "/healthz", "Accept: application/json"), 200);
    assert_string_equal(buf_text(&body), "{\"status\":\"ok\",\"problems\":[]}\n");
    client_close(stranger);
    client_close(client);
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
}

static unsigned count_in(const char *name, const char *needle)
{
    struct buf text;
    unsigned count = 0;
    buf_init(&text, 1 << 20);
    assert_int_equal(file_read(hsmd_path(&hsmd, name), &text, NULL), ERR_OK);
    for (const char *at = buf_text(&text); (at = strstr(at, needle)) != NULL; at++)
        count++;
    buf_clear(&text);
    return count;
}

static int dial(void)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

// Has the other side closed it, within ms?
static bool is_closed_within(int fd, unsigned ms)
{
    char bytes[4096];
    deadline_t until = deadline_in(ms);
    while (!deadline_is_past(until)) {
        struct pollfd item = {.fd = fd, .events = POLLIN};
        if (poll(&item, 1, 100) > 0 && recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) <= 0)
            return true;
    }
    return false;
}

static void test_hostile(void **state)
{
    (void)state;
    char *path = malloc(100001);
    hsmd_serve(&hsmd);
    memset(path, 'x', 100000);
    path[0] = '/';
    path[100000] = 0;
    assert_int_equal(fetch("GET", path, NULL), 414);
    path[0] = 'A';
    memcpy(path, "A: ", 3);
    long status = fetch("GET", "/metrics", path); // a header beyond all measure
    assert_true(status == 0 || (status >= 400 && status < 500));
    free(path);
    static const char *const methods[] = {"POST", "PUT", "DELETE", "HEAD", "OPTIONS", "BREW"};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        assert_int_equal(fetch(methods[i], "/metrics", NULL), 405);
    static const char *const paths[] = {"/",        "/metrics/", "/metricsx", "/../metrics%00",
                                        "/%2e%2e/", "/healthz/"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        assert_int_equal(fetch("GET", paths[i], NULL), 404);
    static const char *const garbage[] = {"\0\0\0\0\n\n", "GET", "GET /metrics HTTP/9.9\r\n\r\n",
                                          "\x16\x03\x01\x02\x00", "GET / HTTP/1.1\r\n: :\r\n\r\n"};
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++) {
        int fd = dial();
        assert_true(send(fd, garbage[i], i ? strlen(garbage[i]) : 6, MSG_NOSIGNAL) > 0);
        assert_true(is_closed_within(fd, 3 * HTTP_CONNECTION_MS));
        close(fd);
    }
    fetch_metrics();
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
}

// A byte now and then: lively, and ended all the same. And so many connections that there is no
// room for more: they go, and the next one is served.
static void test_slow_and_many(void **state)
{
    (void)state;
    int fds[4 * HTTP_CONNECTIONS_MAX];
    hsmd_serve(&hsmd);
    int slow = dial();
    bool is_ended = false;
    for (int i = 0; i < 40 * HTTP_CONNECTION_MS / 5000 && !is_ended; i++) {
        (void)!send(slow, i ? "a" : "GET /metrics HTTP/1.1\r\nA: ", i ? 1 : 26, MSG_NOSIGNAL);
        is_ended = is_closed_within(slow, 500);
    }
    assert_true(is_ended);
    close(slow);
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        fds[i] = dial();
    struct client *client = hsmd_client(&hsmd, "gw", 0);
    assert_int_equal(sign(client), ERR_OK); // requests do not notice
    long status = 0;
    for (int i = 0; i < 20 && status != 200; i++) {
        status = fetch("GET", "/metrics", NULL);
        usleep(500000);
    }
    assert_int_equal(status, 200);
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        close(fds[i]);
    client_close(client);
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
}

// hsmd starts though a token is away or refuses its PIN, or a key is not good enough; and says so.
static void test_crippled(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *problem;
    } rows[] = {
        {"MODULE", "/nonexistent/module.so", "token main: it is not there\n"},
        {"label = \"hsmd test\"", "label = \"another\"", "token main: it is not there\n"},
        {"\"pin\"", "\"wrong-pin\"", "token main: it refused its PIN\n"},
        {"\"p256\"", "\"p999\"", "key ec-signing: its token does not have it, or not so that "},
        {"\"p256\"", "\"weak\"", "key ec-signing: its token does not have it, or not so that "},
        {"\"p384\"", "\"sign-only\"", "key ec-decryption: its token does not have it, or not so "},
        {"CERTS/rsa2048.pem", "CERTS/general.pem", "key signing: its token does not have it, or "},
    };
    char text[300];
    assert_int_equal(file_write(hsmd_path(&hsmd, "wrong-pin"), BYTES_LITERAL("99999"), 0400, NULL),
                     ERR_OK);
    snprintf(text, sizeof text, "log-level = info\nmetrics-listen = \"127.0.0.1:%u\"\n", port);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        hsmd_configure(&hsmd, "log-level = info\n", text, rows[i].from, rows[i].to, NULL);
        hsmd_serve(&hsmd);
        assert_int_equal(fetch("GET", "/healthz", NULL), 503);
        const char *problem = strstr(buf_text(&body), rows[i].problem);
        if (!problem || problem != buf_text(&body) || strchr(problem, '\n')[1])
            fail_msg("row %zu: %s", i, buf_text(&body));
        assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    }
}

// 503 while the token's files are away, and 200 again.
static void test_token_lost(void **state)
{
    (void)state;
    char tokens[240];
    char away[240];
    snprintf(tokens, sizeof tokens, "%s/tokens", hsmd.hsm.dir);
    snprintf(away, sizeof away, "%s/away", hsmd.hsm.dir);
    hsmd_serve(&hsmd);
    struct client *client = hsmd_client(&hsmd, "gw", 0);
    assert_int_equal(sign(client), ERR_OK);
    assert_int_equal(rename(tokens, away), 0);
    usleep(1100000); // for so long its copy may be used
    assert_int_equal(sign(client), ERR_TEMP);
    assert_int_equal(fetch("GET", "/healthz", NULL), 503);
    assert_non_null(strstr(buf_text(&body), "token main: "));
    assert_int_equal(fetch("GET", "/healthz?json", NULL), 503);
    assert_non_null(
        strstr(buf_text(&body), "{\"status\":\"failing\",\"problems\":[\"token main: "));
    fetch_metrics();
    assert_true(value_of(P "token_up{token=\"main\"}") == 0);
    assert_int_equal(rename(away, tokens), 0);
    for (int i = 0; i < 50 && sign(client) != ERR_OK; i++)
        usleep(100000);
    assert_int_equal(wait_health(200), 200); // when the other keys are there again, too
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    client_close(client);
}

static void configure_budgets(const char *grant)
{
    char text[300];
    snprintf(text, sizeof text, "log-level = info\nmetrics-listen = \"127.0.0.1:%u\"\n", port);
    hsmd_configure(&hsmd, "log-level = info\n", text, "purpose = smime-sign\n    certificate-file",
                   "total = 6 purpose = smime-sign certificate-file", "operations = { sign } }",
                   grant, NULL);
}

static void restart(int signal)
{
    assert_int_equal(hsmd_stop(&hsmd, signal), signal == SIGTERM ? 0 : 1000 + signal);
    hsmd_serve(&hsmd);
}

// Said where somebody looks, at the one start.
static void lose_budgets(const char *copy, const char *problem)
{
    char reason[200];
    const char *file = hsmd_path(&hsmd, "state/budgets");
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    assert_int_equal(copy ? rename(copy, file) : unlink(file), 0);
    snprintf(reason, sizeof reason, "\"reason\":\"budgets: %s", problem);
    unsigned before = count_in("state/audit.log", reason);
    hsmd_serve(&hsmd);
    assert_int_equal(count_in("state/audit.log", reason), before + 1);
    assert_int_equal(fetch("GET", "/healthz", NULL), 503);
    assert_non_null(strstr(buf_text(&body), problem));
    restart(SIGTERM);
    assert_int_equal(wait_health(200), 200);
}

// What a client, the log, the audit log and the metrics see of a budget, which outlives a restart;
// a crash does not give anything back, and who takes the file away is seen.
static void test_budget(void **state)
{
    (void)state;
    char copy[200];
    configure_budgets("operations = { sign } per-hour = 3 }");
    hsmd_serve(&hsmd);
    lose_budgets(NULL, "their file was removed");
    unsigned refused = count_in("state/audit.log", "\"event\":\"refuse\"");
    struct client *client = hsmd_client(&hsmd, "gw", 0);
    for (int i = 0; i < 6; i++)
        assert_int_equal(sign(client), i < 3 ? ERR_OK : ERR_DENIED);
    fetch_metrics();
#define BUDGET "budget=\"grant gateway signing sign\""
    assert_true(value_of(P "budget_left{" BUDGET ",limit=\"per-hour\"}") == 0);
    assert_true(value_of(P "budget_left{budget=\"key signing\",limit=\"total\"}") == 3);
    assert_true(value_of(P "budget_refused_total{" BUDGET "}") == 3);
    assert_int_equal(count_in("stderr", "event=budget state=\"used up\""), 1);
    assert_int_equal(count_in("stderr", "denied: budget"), 0);
    assert_int_equal(count_in("state/audit.log", "\"event\":\"refuse\""), refused + 3);
    sleep(3); // BUDGETS_TICK_MS, and what it takes to write
    restart(SIGKILL);
    assert_int_equal(sign(client), ERR_DENIED);
    restart(SIGTERM);
    assert_int_equal(sign(client), ERR_DENIED);
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    configure_budgets("operations = { sign } }");
    hsmd_serve(&hsmd);
    snprintf(copy, sizeof copy, "%s/older", hsmd.dir);
    assert_int_equal(link(hsmd_path(&hsmd, "state/budgets"), copy), 0);
    // Of six three were used, and one is taken for used since the SIGKILL.
    assert_int_equal(sign(client), ERR_OK);
    restart(SIGTERM);
    assert_int_equal(sign(client), ERR_OK);
    assert_int_equal(sign(client), ERR_DENIED);
    restart(SIGKILL);
    assert_int_equal(sign(client), ERR_DENIED);
    lose_budgets(copy, "their file is older than the audit log");
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    client_close(client);
}

// Nobody asks for anything, and it is noticed all the same that the token is gone and is back.
static void test_self_test(void **state)
{
    (void)state;
    char text[300];
    char tokens[240];
    char away[240];
    static const char *const keys[] = {"signing", "decryption", "ec-signing", "ec-decryption"};
    snprintf(tokens, sizeof tokens, "%s/tokens", hsmd.hsm.dir);
    snprintf(away, sizeof away, "%s/away", hsmd.hsm.dir);
    snprintf(text, sizeof text, "log-level = info\nmetrics-listen = \"127.0.0.1:%u\"\n", port);
    hsmd_configure(&hsmd, "log-level = info\n", text, "interval = 0", "interval = 1",
                   "purpose = general", "purpose = general state = retired", NULL);
    const time_t begun = time(NULL);
    hsmd_serve(&hsmd);
    for (int i = 0; i < 100 && count_in("state/audit.log", "\"event\":\"self-test\"") < 4; i++)
        usleep(100000);
    fetch_metrics();
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char sample[80];
        snprintf(sample, sizeof sample, P "self_test_ok{key=\"%s\"}", keys[i]);
        assert_true(value_of(sample) == 1);
        snprintf(sample, sizeof sample, P "self_test_time_seconds{key=\"%s\"}", keys[i]);
        assert_true(value_of(sample) >= (double)begun && value_of(sample) <= (double)time(NULL));
    }
    assert_null(strstr(buf_text(&body), "self_test_ok{key=\"general\"}")); // retired
    assert_int_equal(fetch("GET", "/healthz", NULL), 200);
    assert_int_equal(rename(tokens, away), 0);
    long lost = wait_health(503);
    usleep(1500000); // a second round of failures is not logged again
    assert_int_equal(rename(away, tokens), 0);
    assert_int_equal(lost, 503);
    assert_int_equal(wait_health(200), 200);
    assert_int_equal(count_in("stderr", "event=self-test key=\"signing\" state=\"failing\""), 1);
    assert_int_equal(count_in("stderr", "event=self-test key=\"signing\" state=\"well again\""), 1);
    assert_int_equal(count_in("state/audit.log", "\"self-test\",\"key\":\"general\""), 0);
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
}

// Off unless asked for; on loopback unless it is said twice; and a port that is taken is said so.
static void test_configuration(void **state)
{
    (void)state;
    char address[160];
    int status = 0;
    hsmd_configure(&hsmd, NULL);
    hsmd_serve(&hsmd);
    assert_int_equal(fetch("GET", "/metrics", NULL), 0);
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    snprintf(address, sizeof address, "log-level = info metrics-listen = \"0.0.0.0:%u\"", port);
    hsmd_configure(&hsmd, "log-level = info", address, NULL);
    assert_false(hsmd_start(&hsmd, &status));
    assert_int_equal(status, 78);
    assert_true(hsmd_said(&hsmd, "metrics-allow-remote"));
    snprintf(address, sizeof address,
             "log-level = info metrics-listen = \"0.0.0.0:%u\" metrics-allow-remote = true", port);
    hsmd_configure(&hsmd, "log-level = info", address, NULL);
    hsmd_serve(&hsmd);
    fetch_metrics();
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    static const char *const bad[] = {
        "localhost:9464", "127.0.0.1",     "127.0.0.1:0", "127.0.0.1:65536",
        "::1:9464",       "127.0.0.1:80x", ":80"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(address, sizeof address, "log-level = info metrics-listen = \"%s\"", bad[i]);
        hsmd_configure(&hsmd, "log-level = info", address, NULL);
        assert_false(hsmd_start(&hsmd, &status));
        assert_int_equal(status, 78);
        assert_true(hsmd_said(&hsmd, "ADDRESS:PORT"));
    }
    configure("");
    struct sockaddr_in taken = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&taken, sizeof taken), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_false(hsmd_start(&hsmd, &status));
    assert_int_equal(status, 78);
    assert_true(hsmd_said(&hsmd, "metrics-listen: cannot listen"));
    close(fd);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, begin)
    const struct CMUnitTest tests[] = {TEST(test_metrics),       TEST(test_hostile),
                                       TEST(test_slow_and_many), TEST(test_token_lost),
                                       TEST(test_crippled),      TEST(test_budget),
                                       TEST(test_self_test),     TEST(test_configuration)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
