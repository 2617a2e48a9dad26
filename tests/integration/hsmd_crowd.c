// SPDX-License-Identifier: Apache-2.0
// The real hsmd and more of everything than it usually has: many clients that come and go, and more
// requests than it takes while its token hangs. Its memory stays what it was, and those that are
// refused are so at once.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/base/file.h"
#include "hsmd/client/link.h"
#include "hsmd/server/server.h"
#include "tests/integration/hsmd_process.h"
#include "tests/support/custodian.h"
#include "tests/support/require.h"

#define CLIENTS 400
#define ROUNDS 8
#define GROWTH_KIB 8192 // less than one round of them takes
#define REFUSED 5000
#define SHARE (SERVER_QUEUE_MAX / 2) // of the queue, for one client
#define FEW_FILES 256                // which ipc endpoints would have all but 64 of
#define FILES 4096                   // which hsmd asks for
#define WAIT_MS 30000
#define GIVEN_BACK_MS 20000

static struct hsmd hsmd;
static struct buf attributes, frame;
static char server_key[CURVE_TEXT_SIZE], public_key[CURVE_TEXT_SIZE], secret_key[64];

static int setup(void **state)
{
    (void)state;
    struct buf secret;
    hsmd_setup(&hsmd);
    hsmd_use_shim(&hsmd);
    // No deadline passes in here: "temp" is said for no other reason than a full queue.
    hsmd_configure(&hsmd, "MODULE", SHIM_PATH, "request-timeout = 4000", "request-timeout = 60000",
                   "log-level = info", "log-level = error", NULL);
    buf_init(&attributes, 4096);
    buf_init(&frame, WIRE_FRAME_MAX);
    buf_init(&secret, sizeof secret_key - 1);
    custodian_attributes(HASH_SHA256, &attributes);
    REQUIRE(curve_read_public(hsmd_path(&hsmd, "server.pub"), server_key, NULL) == ERR_OK);
    REQUIRE(curve_read_public(hsmd_path(&hsmd, "gw.pub"), public_key, NULL) == ERR_OK);
    REQUIRE(file_read(hsmd_path(&hsmd, "gw.key"), &secret, NULL) == ERR_OK);
    snprintf(secret_key, sizeof secret_key, "%.*s", CURVE_TEXT_SIZE - 1, buf_text(&secret));
    buf_clear(&secret);
    hsmd_serve(&hsmd);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hsmd_teardown(&hsmd);
    buf_clear(&attributes);
    buf_clear(&frame);
    return 0;
}

static void send_request(struct link *link, const struct wire_request *request)
{
    struct buf encoded;
    buf_init(&encoded, WIRE_FRAME_MAX);
    assert_int_equal(wire_encode_request(request, &encoded), ERR_OK);
    assert_int_equal(link_send(link, buf_bytes(&encoded)), ERR_OK);
    buf_clear(&encoded);
}

static struct wire_reply receive_reply(struct link *link, enum wire_operation operation)
{
    struct wire_reply reply;
    assert_int_equal(link_receive(link, deadline_in(WAIT_MS), &frame), ERR_OK);
    assert_int_equal(wire_decode_reply(operation, buf_bytes(&frame), &reply, NULL), ERR_OK);
    return reply;
}

// Connected: it was answered.
static struct link *connect_one(void)
{
    struct link *link = NULL;
    const struct wire_request request = {.operation = WIRE_LIST, .id = 1};
    const struct link_conf conf = {.endpoint = hsmd.endpoint,
                                   .keys = {server_key, public_key, secret_key}};
    struct detail detail = {0};
    if (link_open(&conf, &link, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
    send_request(link, &request);
    assert_int_equal(receive_reply(link, WIRE_LIST).class, ERR_OK);
    return link;
}

static void send_sign(struct link *link, uint64_t id)
{
    const struct wire_request request = {.operation = WIRE_SIGN,
                                         .id = id,
                                         .sign = {.key = BYTES_LITERAL("ec-signing"),
                                                  .algorithm = WIRE_ECDSA,
                                                  .hash = HASH_SHA256,
                                                  .form = WIRE_ATTRIBUTES,
                                                  .data = buf_bytes(&attributes)}};
    send_request(link, &request);
}

// Resident, of hsmd.
static long memory_kib(void)
{
    char path[40], line[200];
    long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)hsmd.pid);
    FILE *file = fopen(path, "r");
    REQUIRE(file);
    while (!kib && fgets(line, sizeof line, file))
        (void)sscanf(line, "VmRSS: %ld", &kib);
    (void)fclose(file);
    REQUIRE(kib > 0);
    return kib;
}

static void come_and_go(void)
{
    static struct link *links[CLIENTS];
    for (unsigned i = 0; i < CLIENTS; i++)
        links[i] = connect_one();
    for (unsigned i = 0; i < CLIENTS; i++)
        link_close(links[i]);
}

// The soft limit of open files it is started with, out of the hard one, is not that of its clients.
static void test_soft_limit(void **state)
{
    (void)state;
    struct rlimit own, files;
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &own), 0);
    assert_in_range(own.rlim_max, CLIENTS + 100, RLIM_INFINITY);
    const struct rlimit few = {FEW_FILES, own.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    hsmd_serve(&hsmd);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &own), 0);
    assert_int_equal(prlimit(hsmd.pid, RLIMIT_NOFILE, NULL, &files), 0);
    assert_int_equal(files.rlim_cur, own.rlim_max < FILES ? own.rlim_max : FILES);
    assert_int_equal(files.rlim_max, own.rlim_max);
    come_and_go();
}

// What they leave behind is given back, so that as many can come again and again.
static void test_clients_that_leave(void **state)
{
    (void)state;
    long before = memory_kib(), after = before;
    for (unsigned i = 0; i < ROUNDS; i++)
        come_and_go();
    long most = memory_kib();
    deadline_t until = deadline_in(GIVEN_BACK_MS);
    while ((after = memory_kib()) > before + GROWTH_KIB && !deadline_is_past(until))
        usleep(100000);
    print_message("%d rounds of %d clients: %ld KiB, then %ld, and %ld when all is given back\n",
                  ROUNDS, CLIENTS, before, most, after);
    assert_in_range(after, 1, before + GROWTH_KIB);
}

// Whatever comes on top of a full queue is answered while the token hangs, each before the next one
// is sent, and nothing of it stays.
static void test_overload(void **state)
{
    (void)state;
    struct link *link = connect_one();
    hsmd_shim(&hsmd, "count C_Sign\nhang C_Sign\n");
    for (uint64_t id = 1; id <= SHARE; id++)
        send_sign(link, id);
    while (!hsmd_shim_calls(&hsmd, "C_Sign"))
        usleep(1000);
    long before = memory_kib();
    for (uint64_t id = SHARE + 1; id <= SHARE + REFUSED; id++) {
        send_sign(link, id);
        struct wire_reply reply = receive_reply(link, WIRE_SIGN);
        assert_int_equal(reply.id, id);
        assert_int_equal(reply.class, ERR_TEMP);
    }
    assert_in_range(memory_kib(), 0, before + GROWTH_KIB);
    hsmd_shim(&hsmd, "");
    for (unsigned i = 0; i < SHARE; i++) {
        struct wire_reply reply = receive_reply(link, WIRE_SIGN);
        assert_in_range(reply.id, 1, SHARE);
        assert_int_equal(reply.class, ERR_OK);
    }
    link_close(link);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clients_that_leave),
        cmocka_unit_test(test_overload),
        cmocka_unit_test(test_soft_limit),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
