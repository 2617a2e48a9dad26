// SPDX-License-Identifier: Apache-2.0
// Counted is what was asked, under threads too; the text is good to a strict reader; no name that a
// client made up is in it.
#include "hsmd/watch/metrics.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hsmd/base/alloc.h"
#include "hsmd/watch/status.h"
#include "tests/support/custodian.h"
#include "tests/unit/hsmd/exposition_parse.h"

#define THREADS 16
#define ROUNDS 2000
#define P "sealgate_hsmd_"

static struct metrics *metrics;
static struct buf text;

static int setup(void **state)
{
    (void)state;
    buf_init(&text, 16 << 20);
    return metrics_new(&metrics) == ERR_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    metrics_free(metrics);
    buf_clear(&text);
    return 0;
}

static const char *put(void)
{
    struct exposition out = {.out = &text};
    buf_reset(&text);
    metrics_put(metrics, &out);
    assert_int_equal(out.err, ERR_OK);
    const char *error = exposition_parse(buf_text(&text));
    assert_string_equal(error ? error : "", "");
    return buf_text(&text);
}

static double value_of(const char *sample)
{
    double value = -1;
    if (!exposition_find(buf_text(&text), sample, &value))
        print_error("no sample %s\n", sample);
    return value;
}

// The reader itself refuses what is wrong, else it proves nothing.
static void test_reader(void **state)
{
    (void)state;
#define HEAD(name, type) "# HELP " name " Help.\n# TYPE " name " " type "\n"
    static const struct {
        const char *name, *text;
        bool is_good;
    } rows[] = {
        {"a gauge", HEAD("a", "gauge") "a -1\n", true},
        {"labels", HEAD("a", "gauge") "a{b=\"c\\\\\\\"\\n\",d=\"\"} 1.5\n", true},
        {"nothing", "", false},
        {"no line end", HEAD("a", "gauge") "a 1", false},
        {"no head", "a 1\n", false},
        {"no type", "# HELP a Help.\na 1\n", false},
        {"other type", HEAD("a", "thing") "a 1\n", false},
        {"twice", HEAD("a", "gauge") "a 1\n" HEAD("a", "gauge") "a 1\n", false},
        {"sample twice", HEAD("a", "gauge") "a{b=\"c\"} 1\na{b=\"c\"} 1\n", false},
        {"other metric", HEAD("a", "gauge") "b 1\n", false},
        {"no value", HEAD("a", "gauge") "a \n", false},
        {"two values", HEAD("a", "gauge") "a 1 2\n", false},
        {"open label", HEAD("a", "gauge") "a{b=\"c} 1\n", false},
        {"bad escape", HEAD("a", "gauge") "a{b=\"\\x\"} 1\n", false},
        {"unnamed counter", HEAD("a", "counter") "a 1\n", false},
        {"negative counter", HEAD("a_total", "counter") "a_total -1\n", false},
        {"histogram",
         HEAD("a",
              "histogram") "a_bucket{le=\"1\"} 1\na_bucket{le=\"+Inf\"} 2\na_sum 3\na_count 2\n",
         true},
        {"descending",
         HEAD("a",
              "histogram") "a_bucket{le=\"1\"} 3\na_bucket{le=\"+Inf\"} 2\na_sum 3\na_count 2\n",
         false},
        {"no +Inf", HEAD("a", "histogram") "a_bucket{le=\"1\"} 1\na_sum 3\na_count 1\n", false},
        {"other count", HEAD("a", "histogram") "a_bucket{le=\"+Inf\"} 2\na_sum 3\na_count 1\n",
         false},
        {"no count", HEAD("a", "histogram") "a_bucket{le=\"+Inf\"} 2\na_sum 3\n", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool is_good = exposition_parse(rows[i].text) == NULL;
        if (is_good != rows[i].is_good)
            print_error("%s\n", rows[i].name);
        assert_int_equal(is_good, rows[i].is_good);
    }
}

static void test_writer(void **state)
{
    (void)state;
    struct exposition out = {.out = &text};
    exposition_begin(&out, "a", "gauge", "Help.");
    exposition_put(&out, "", 9007199254740991.0, "b", "c\"d\\e\nf", NULL);
    exposition_put(&out, "", 0.25, NULL);
    assert_string_equal(buf_text(&text), "# HELP a Help.\n# TYPE a gauge\n"
                                         "a{b=\"c\\\"d\\\\e\\nf\"} 9007199254740991\na 0.25\n");
    assert_null(exposition_parse(buf_text(&text)));
    struct buf small;
    buf_init(&small, 40);
    out = (struct exposition){.out = &small};
    exposition_begin(&out, "a", "gauge", "Help.");
    exposition_put(&out, "", 1, "b", "long enough", NULL);
    exposition_put(&out, "", 1, NULL);
    assert_int_equal(out.err, ERR_PERM); // stays
    buf_clear(&small);
}

static void *work(void *argument)
{
    const unsigned number = *(const unsigned *)argument;
    char client[16];
    for (unsigned i = 0; i < ROUNDS; i++) {
        snprintf(client, sizeof client, "gw%u", (i + number) % 40);
        metrics_request(metrics, client, "signing", WIRE_SIGN, ERR_OK);
        metrics_request(metrics, "shared", "signing", WIRE_UNWRAP, ERR_DENIED);
        metrics_refused(metrics, METRICS_QUEUE_FULL);
        metrics_queue_time(metrics, i % 2 ? 90 : 20000000);
        metrics_token_time(metrics, WIRE_SIGN, 1000);
        metrics_audit_time(metrics, 3, i % 4 != 0);
        metrics_add_waiting(metrics, i % 2 ? 1 : -1);
        metrics_add_busy(metrics, i % 2 ? 1 : -1);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    unsigned numbers[THREADS];
    char sample[128];
    double sum = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, work, &numbers[i]), 0);
    }
    for (int i = 0; i < 20; i++)
        put(); // while they are at it: good text all the time
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    put();
    for (unsigned i = 0; i < 40; i++) {
        snprintf(sample, sizeof sample,
                 P
                 "requests_total{client=\"gw%u\",key=\"signing\",operation=\"sign\",result=\"ok\"}",
                 i);
        sum += value_of(sample);
    }
    const double all = (double)THREADS * ROUNDS;
    assert_true(sum == all);
    assert_true(value_of(P "requests_total{client=\"shared\",key=\"signing\",operation=\"unwrap\","
                           "result=\"denied\"}") == all);
    assert_true(value_of(P "refused_total{reason=\"queue_full\"}") == all);
    assert_true(value_of(P "refused_total{reason=\"malformed\"}") == 0);
    assert_true(value_of(P "queue_seconds_bucket{le=\"0.0001\"}") == all / 2);
    assert_true(value_of(P "queue_seconds_bucket{le=\"10\"}") == all / 2);
    assert_true(value_of(P "queue_seconds_count") == all);
    assert_true(value_of(P "token_seconds_bucket{le=\"0.0005\",operation=\"sign\"}") == 0);
    assert_true(value_of(P "token_seconds_bucket{le=\"0.001\",operation=\"sign\"}") == all);
    assert_true(value_of(P "audit_failures_total") == all / 4);
    assert_true(value_of(P "audit_write_seconds_bucket{le=\"0.0001\"}") == all);
    assert_true(value_of(P "queue_length") == 0);
    metrics_add_busy(metrics, 2);
    put();
    assert_true(value_of(P "workers_busy") == 2);
}

// More names than there is room for are counted all the same, and memory stays bounded.
static void test_bound(void **state)
{
    (void)state;
    char key[24];
    for (unsigned i = 0; i < METRICS_SERIES_MAX + 100; i++) {
        snprintf(key, sizeof key, "k%u", i);
        metrics_request(metrics, "gw", key, WIRE_SIGN, ERR_OK);
    }
    put();
    assert_true(
        value_of(P "requests_total{client=\"\",key=\"\",operation=\"sign\",result=\"ok\"}") == 100);
    mem_fail_at(1);
    metrics_free(metrics);
    assert_int_equal(metrics_new(&metrics), ERR_TEMP);
    mem_fail_at(0);
    assert_int_equal(metrics_new(&metrics), ERR_OK);
    mem_fail_at(1);
    metrics_request(metrics, "gw", "k", WIRE_SIGN, ERR_OK); // without a name then
    mem_fail_at(0);
    put();
    assert_true(
        value_of(P "requests_total{client=\"\",key=\"\",operation=\"sign\",result=\"ok\"}") == 1);
}

static void sign(struct custodian *custodian, const char *key, struct buf *frame)
{
    struct wire_reply reply;
    struct buf attributes;
    buf_init(&attributes, 4096);
    custodian_attributes(HASH_SHA256, &attributes);
    const struct wire_request request = {.operation = WIRE_SIGN,
                                         .sign = {.key = bytes_of_text(key),
                                                  .algorithm = WIRE_RSA_PKCS1,
                                                  .hash = HASH_SHA256,
                                                  .form = WIRE_ATTRIBUTES,
                                                  .data = buf_bytes(&attributes)}};
    assert_true(custodian_call(custodian, CUSTODIAN_ALL, &request, &reply, frame));
    buf_clear(&attributes);
}

static void test_core(void **state)
{
    (void)state;
    struct custodian custodian;
    struct buf frame;
    bool is_well = false;
    custodian_setup(&custodian);
    custodian.core.metrics = metrics;
    buf_init(&frame, WIRE_FRAME_MAX);
    sign(&custodian, "rsa.smime-sign.enabled", &frame);
    sign(&custodian, "rsa.smime-sign.enabled", &frame);
    sign(&custodian, "rsa.smime-sign.disabled", &frame);
    sign(&custodian, "made-up", &frame);
    buf_reset(&frame);
    assert_true(core_handle(&custodian.core, &custodian.worker, custodian.public_keys[0],
                            BYTES_LITERAL("garbage"), deadline_in(1000), &frame));
    assert_false(core_handle(&custodian.core, &custodian.worker,
                             custodian.public_keys[CUSTODIAN_STRANGER], BYTES_LITERAL("x"),
                             deadline_in(1000), &frame));
    const struct status status = {.core = &custodian.core, .workers = 3, .started = 1000};
    buf_reset(&text);
    assert_int_equal(status_put_metrics(&status, &text), ERR_OK);
    const char *error = exposition_parse(buf_text(&text));
    assert_string_equal(error ? error : "", "");
#define REQUESTS P "requests_total{client=\"all\",key=\""
    assert_true(value_of(REQUESTS "rsa.smime-sign.enabled\",operation=\"sign\",result=\"ok\"}") ==
                2);
    assert_true(
        value_of(REQUESTS "rsa.smime-sign.disabled\",operation=\"sign\",result=\"denied\"}") == 1);
    assert_true(value_of(REQUESTS "\",operation=\"sign\",result=\"denied\"}") == 1);
    assert_null(strstr(buf_text(&text), "made-up"));
    assert_true(value_of(P "refused_total{reason=\"malformed\"}") == 1);
    assert_true(value_of(P "refused_total{reason=\"unknown_peer\"}") == 1);
    assert_true(value_of(P "token_seconds_count{operation=\"sign\"}") == 2);
    assert_true(value_of(P "key_state{key=\"rsa.listed\",state=\"enabled\"}") == 1);
    assert_true(value_of(P "workers") == 3);
    buf_reset(&text);
    assert_int_equal(status_put_health(&status, false, &text, &is_well), ERR_OK);
    assert_true(is_well);
    assert_string_equal(buf_text(&text), "ok\n");
    metrics_audit_time(metrics, 1, false);
    buf_reset(&text);
    assert_int_equal(status_put_health(&status, true, &text, &is_well), ERR_OK);
    assert_false(is_well);
    assert_string_equal(
        buf_text(&text),
        "{\"status\":\"failing\",\"problems\":[\"audit log: it cannot be written\"]}\n");
    buf_clear(&frame);
    custodian_teardown(&custodian);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(test_reader), TEST(test_writer), TEST(test_threads),
                                       TEST(test_bound), TEST(test_core)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
