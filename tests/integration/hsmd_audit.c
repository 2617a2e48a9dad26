// SPDX-License-Identifier: Apache-2.0
// The audit log of the real hsmd, under load from several clients: killed, rotated, with a full
// disk, with every audit-sync, it verifies, and nothing that was answered is missing from it.
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/evp.h>

#include "hsmd/audit/audit_parse.h"
#include "hsmd/audit/audit_verify.h"
#include "hsmd/base/file.h"
#include "tests/integration/hsmd_process.h"
#include "tests/support/custodian.h"

#define CLIENTS 6
#define CALLS_MAX 20000
#define LOG_MAX ((size_t)64 << 20)
#define AUDIT_KEY "audit-key { token = main label = \"audit\" }\n"

static struct hsmd hsmd;
static struct buf attributes;
static EVP_PKEY *key;

static int setup(void **state)
{
    (void)state;
    hsmd_setup(&hsmd);
    softhsm_make_key(&hsmd.hsm,
                     &(struct softhsm_key){.label = "audit", .id = 0x31, .kind = "P-256"});
    key = softhsm_public_key(&hsmd.hsm, "audit");
    buf_init(&attributes, 4096);
    custodian_attributes(HASH_SHA256, &attributes);
    return key ? 0 : 1;
}

static int teardown(void **state)
{
    (void)state;
    EVP_PKEY_free(key);
    buf_clear(&attributes);
    hsmd_teardown(&hsmd);
    return 0;
}

// A signer under load: which requests were answered "ok".
struct load {
    pthread_t thread;
    struct client *client;
    const char *key_name;
    atomic_bool is_stopping;
    atomic_uint count, failed;
    uint64_t ids[CALLS_MAX];
};

static struct load loads[CLIENTS];

static enum err sign(struct load *load)
{
    struct wire_reply reply;
    struct buf frame;
    bool is_ec = strcmp(load->key_name, "ec-signing") == 0;
    struct wire_request request = {.operation = WIRE_SIGN,
                                   .sign = {.key = bytes_of_text(load->key_name),
                                            .algorithm = is_ec ? WIRE_ECDSA : WIRE_RSA_PKCS1,
                                            .hash = HASH_SHA256,
                                            .form = WIRE_ATTRIBUTES,
                                            .data = buf_bytes(&attributes)}};
    buf_init(&frame, WIRE_FRAME_MAX);
    enum err err = client_call(load->client, &request, &frame, &reply, NULL);
    if (err == ERR_OK && load->count < CALLS_MAX)
        load->ids[load->count++] = request.id;
    load->failed += err != ERR_OK;
    buf_clear(&frame);
    return err;
}

static void *sign_on(void *argument)
{
    struct load *load = argument;
    while (!load->is_stopping && load->count < CALLS_MAX)
        (void)sign(load);
    return NULL;
}

static void begin_load(void)
{
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct load *load = &loads[i];
        load->client = hsmd_client(&hsmd, "gw", 1000);
        load->key_name = i % 2 ? "signing" : "ec-signing";
        load->is_stopping = false;
        load->count = load->failed = 0;
        assert_int_equal(pthread_create(&load->thread, NULL, sign_on, load), 0);
    }
}

// Until so many more were answered "ok".
static void wait_for_answers(unsigned more)
{
    unsigned before = 0;
    unsigned now = 0;
    for (unsigned i = 0; i < CLIENTS; i++)
        before += loads[i].count;
    for (unsigned tries = 0; now < before + more && tries < 30000; tries++) {
        usleep(1000);
        now = 0;
        for (unsigned i = 0; i < CLIENTS; i++)
            now += loads[i].count;
    }
    assert_true(now >= before + more);
}

// How many were answered "ok".
static unsigned end_load(void)
{
    unsigned count = 0;
    for (unsigned i = 0; i < CLIENTS; i++)
        loads[i].is_stopping = true;
    for (unsigned i = 0; i < CLIENTS; i++) {
        pthread_join(loads[i].thread, NULL);
        client_close(loads[i].client);
        count += loads[i].count;
    }
    return count;
}

static void configure(const char *sync)
{
    char text[400];
    snprintf(text, sizeof text,
             "log-level = warning\naudit-sync = %s\naudit-checkpoint-lines = 50\n"
             "audit-checkpoint-seconds = 1\n" AUDIT_KEY,
             sync);
    hsmd_drop_log(&hsmd);
    unlink(hsmd_path(&hsmd, "state/old"));
    hsmd_configure(&hsmd, "log-level = info", text, NULL);
}

static void read_log(const char *name, struct buf *text)
{
    buf_init(text, LOG_MAX);
    assert_int_equal(file_read(hsmd_path(&hsmd, name), text, NULL), ERR_OK);
}

// Files by name, NULL-ended.
static struct audit_report verify(bool is_closed, ...)
{
    const struct audit_expected expected = {.is_closed = is_closed};
    struct audit_verify *check = NULL;
    va_list ap;
    assert_int_equal(audit_verify_new(key, &expected, &check, NULL), ERR_OK);
    va_start(ap, is_closed);
    for (const char *name; (name = va_arg(ap, const char *)) != NULL;) {
        struct buf text;
        read_log(name, &text);
        audit_verify_file(check, name);
        audit_verify_put(check, buf_bytes(&text));
        buf_clear(&text);
    }
    va_end(ap);
    struct audit_report report = *audit_verify_end(check);
    audit_verify_free(check);
    if (report.is_bad)
        fail_msg("line %u: %s", (unsigned)report.bad_line, report.reason.text);
    return report;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

// The ids of uses that went well, sorted; how many.
static size_t used_ids(const char *name, uint64_t **ids)
{
    struct buf text;
    size_t count = 0;
    read_log(name, &text);
    *ids = calloc(text.len / 100 + 1, sizeof **ids);
    assert_non_null(*ids);
    char *rest = (char *)text.data;
    for (char *at; (at = strsep(&rest, "\n")) && rest;) {
        struct audit_line line;
        if (audit_parse(bytes_of_text(at), &line, NULL) == ERR_OK && line.event == AUDIT_USE &&
            bytes_equal(line.fields[AUDIT_FIELD_RESULT], BYTES_LITERAL("ok")))
            (*ids)[count++] = audit_field_number(line.fields[AUDIT_FIELD_ID]);
    }
    buf_clear(&text);
    qsort(*ids, count, sizeof **ids, compare);
    return count;
}

static void nothing_is_missing(void)
{
    uint64_t *ids = NULL;
    size_t count = used_ids("state/audit.log", &ids);
    for (unsigned i = 0; i < CLIENTS; i++) {
        for (unsigned n = 0; n < loads[i].count; n++) {
            if (!bsearch(&loads[i].ids[n], ids, count, sizeof *ids, compare))
                fail_msg("request %llu was answered and is not in the log",
                         (unsigned long long)loads[i].ids[n]);
        }
    }
    free(ids);
}

static void test_killed(void **state)
{
    (void)state;
    static const char *const syncs[] = {"off", "batch", "always"};
    for (unsigned s = 0; s < 3; s++) {
        configure(syncs[s]);
        for (unsigned round = 0; round < 3; round++) {
            hsmd_serve(&hsmd);
            begin_load();
            wait_for_answers(60 + 37 * round);
            assert_int_equal(hsmd_stop(&hsmd, SIGKILL), 1000 + SIGKILL);
            (void)end_load();
            nothing_is_missing();
            (void)verify(false, "state/audit.log", NULL);
        }
        hsmd_serve(&hsmd);
        assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
        struct audit_report report = verify(true, "state/audit.log", NULL);
        assert_int_equal(report.unclean, 3);
        assert_true(report.checkpoints >= 5);
        assert_int_equal(report.uncovered, 0);
    }
}

static void wait_for_file(const char *name)
{
    struct stat st;
    for (int i = 0; i < 2000 && (stat(hsmd_path(&hsmd, name), &st) != 0 || st.st_size == 0); i++)
        usleep(10000);
    assert_int_equal(stat(hsmd_path(&hsmd, name), &st), 0);
}

static void test_rotated(void **state)
{
    (void)state;
    configure("batch");
    hsmd_serve(&hsmd);
    begin_load();
    wait_for_answers(50);
    assert_int_equal(rename(hsmd_path(&hsmd, "state/audit.log"), hsmd_path(&hsmd, "state/old")), 0);
    kill(hsmd.pid, SIGHUP);
    wait_for_file("state/audit.log");
    wait_for_answers(50);
    (void)end_load();
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    struct audit_report report = verify(true, "state/old", "state/audit.log", NULL);
    assert_int_equal(report.files, 2);
    assert_int_equal(report.first_seq, 1);
    struct audit_report second = verify(true, "state/audit.log", NULL);
    assert_true(second.first_seq > 1);
    assert_int_equal(second.last.seq, report.last.seq);
}

// Moved away, and killed before it was told; then, while it stood.
static void test_rotated_unheard(void **state)
{
    (void)state;
    char log[160];
    configure("batch");
    snprintf(log, sizeof log, "%s", hsmd_path(&hsmd, "state/audit.log"));
    hsmd_serve(&hsmd);
    begin_load();
    wait_for_answers(50);
    assert_int_equal(rename(log, hsmd_path(&hsmd, "state/audit.log.2")), 0);
    wait_for_answers(50);
    assert_int_equal(hsmd_stop(&hsmd, SIGKILL), 1000 + SIGKILL);
    (void)end_load();
    hsmd_serve(&hsmd);
    assert_true(hsmd_said(&hsmd, "it was moved away"));
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    assert_int_equal(rename(log, hsmd_path(&hsmd, "state/audit.log.1")), 0);
    hsmd_serve(&hsmd);
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    struct audit_report report =
        verify(true, "state/audit.log.2", "state/audit.log.1", "state/audit.log", NULL);
    assert_int_equal(report.first_seq, 1);
    assert_true(report.lines > 100);
    unlink(hsmd_path(&hsmd, "state/audit.log.1"));
    unlink(hsmd_path(&hsmd, "state/audit.log.2"));
}

static void set_file_limit(rlim_t limit)
{
    struct rlimit both = {limit, RLIM_INFINITY};
    assert_int_equal(prlimit(hsmd.pid, RLIMIT_FSIZE, &both, NULL), 0);
}

static unsigned failures(void)
{
    unsigned failed = 0;
    for (unsigned i = 0; i < CLIENTS; i++)
        failed += loads[i].failed;
    return failed;
}

static void wait_for_failures(void)
{
    unsigned before = failures();
    for (unsigned tries = 0; failures() == before && tries < 30000; tries++)
        usleep(1000);
    assert_true(failures() > before);
}

// Full under load, room again, full again: refused meanwhile, and the log is whole.
static void test_full(void **state)
{
    (void)state;
    struct stat st;
    configure("always");
    hsmd_serve(&hsmd);
    begin_load();
    for (unsigned i = 0; i < 3; i++) {
        wait_for_answers(30);
        assert_int_equal(stat(hsmd_path(&hsmd, "state/audit.log"), &st), 0);
        set_file_limit((rlim_t)st.st_size + 3000);
        wait_for_failures();
        set_file_limit(RLIM_INFINITY);
    }
    wait_for_answers(30);
    (void)end_load();
    nothing_is_missing();
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    (void)verify(true, "state/audit.log", NULL);
}

// A key that clients may use cannot be the audit key, whatever it is called; and nobody may use it.
static void test_audit_key(void **state)
{
    (void)state;
    int status = 0;
    hsmd_configure(&hsmd, "log-level = info",
                   "audit-key { token = main label = \"p256\" }\nlog-level = info", NULL);
    assert_false(hsmd_start(&hsmd, &status));
    assert_int_equal(status, 78);
    assert_true(hsmd_said(&hsmd, "key audit: it is the same key in the token as key ec-signing"));
    configure("batch");
    hsmd_serve(&hsmd);
    struct load *load = &loads[0];
    load->client = hsmd_client(&hsmd, "gw", 4000);
    static const char *const names[] = {"audit", "audit-key"};
    for (unsigned i = 0; i < 2; i++) {
        load->key_name = names[i];
        assert_int_equal(sign(load), ERR_DENIED);
    }
    client_close(load->client);
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    (void)verify(true, "state/audit.log", NULL);
    struct buf said;
    read_log("stderr", &said);
    assert_null(strstr(buf_text(&said), "no enabled key of purpose audit"));
    buf_clear(&said);
    hsmd_configure(&hsmd, NULL);
    hsmd_serve(&hsmd);
    bool is_said = false;
    for (unsigned i = 0; i < 1000 && !is_said; i++, usleep(10000)) {
        read_log("stderr", &said);
        is_said = strstr(buf_text(&said), "no enabled key of purpose audit");
        buf_clear(&said);
    }
    assert_true(is_said);
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed),          cmocka_unit_test(test_rotated),
        cmocka_unit_test(test_rotated_unheard), cmocka_unit_test(test_full),
        cmocka_unit_test(test_audit_key),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
