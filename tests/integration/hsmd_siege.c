// SPDX-License-Identifier: Apache-2.0
// The server's local door, with all its threads, among people who mean it ill: strangers who come
// without end, say nothing, or nonsense that costs time; a client who is let in, asks and goes, in
// the middle of a frame too, or asks and does not read. Another client is served all the while, and
// nothing of them is left.
#include "hsmd/server/server.h"

#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>
#include <zmq.h>

#include "hsmd/client/link.h"
#include "hsmd/core_handler.h"
#include "hsmd/server/zap.h"
#include "hsmd/zmtp/zmtp.h"
#include "tests/support/custodian.h"
#include "tests/support/require.h"

#define TIMEOUT_MS 20000
#define HANDSHAKE_MS 5000
#define LATE_MS 5000
#define CALLS 200
#define SILENT 400 // connections that say nothing; more than may be in their handshake
#define HELLO_SIZE 202
#define LATE_REQUESTS 20000 // their replies are more than the socket and hsmd keep

static struct custodian custodian;
static char server_public[41], server_secret[41];
static char endpoint[128];
static struct server *server;
static atomic_bool is_over;
static atomic_uint strangers, rude, deaf; // that have come

static int connect_raw(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(fd >= 0);
    memcpy(address.sun_path, endpoint + strlen("ipc://"), strlen(endpoint) - strlen("ipc://"));
    REQUIRE(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

// False: it is over.
static bool send_all(int fd, struct bytes bytes, int flags)
{
    while (bytes.len) {
        ssize_t len = send(fd, bytes.data, bytes.len, MSG_NOSIGNAL | flags);
        if (len <= 0)
            return false;
        bytes = bytes_of(bytes.data + len, bytes.len - (size_t)len);
    }
    return true;
}

static void *be_silent(void *argument)
{
    int fds[SILENT];
    for (unsigned i = 0; i < SILENT; i++)
        fds[i] = -1;
    for (unsigned i = 0; !atomic_load(&is_over); i = (i + 1) % SILENT) {
        if (fds[i] >= 0)
            close(fds[i]);
        fds[i] = connect_raw();
        usleep(1000); // they are of one user with the good client, and share its places
    }
    for (unsigned i = 0; i < SILENT; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    return argument;
}

// A greeting that is right, and a HELLO that has to be opened to see that it is not.
static void *talk_nonsense(void *argument)
{
    uint8_t words[64 + HELLO_SIZE] = {[0] = 0xff, [9] = 0x7f, [10] = 3, [12] = 'C', 'U', 'R',
                                      'V',        'E',        [64] = 4, 200,        5,   'H',
                                      'E',        'L',        'L',      'O',        1};
    while (!atomic_load(&is_over)) {
        char answer[256];
        int fd = connect_raw();
        zmq_curve_keypair((char[41]){0}, (char *)words + 150); // 40 bytes that vary
        if (send_all(fd, bytes_of(words, sizeof words), 0))
            while (recv(fd, answer, sizeof answer, 0) > 0)
                ;
        close(fd);
        atomic_fetch_add(&strangers, 1);
    }
    return argument;
}

// Comes in as CUSTODIAN_ALL. False: it was not to be.
static bool enter(int *fd, struct zmtp **zmtp)
{
    const struct zmtp_keys keys = {server_public, custodian.public_keys[CUSTODIAN_ALL],
                                   custodian.secret_keys[CUSTODIAN_ALL]};
    uint8_t data[4096];
    bool ok = true;
    *fd = connect_raw();
    REQUIRE(zmtp_new(&keys, WIRE_FRAME_MAX, zmtp, NULL) == ERR_OK);
    while (ok && zmtp_state(*zmtp) != ZMTP_READY) {
        struct bytes out = zmtp_output(*zmtp);
        ok = send_all(*fd, out, 0);
        if (ok)
            zmtp_written(*zmtp, out.len);
        ssize_t len = ok ? recv(*fd, data, sizeof data, 0) : 0;
        ok = len > 0 && zmtp_feed(*zmtp, bytes_of(data, (size_t)len)) == ERR_OK;
    }
    return ok;
}

static void leave(int fd, struct zmtp *zmtp)
{
    close(fd);
    zmtp_free(zmtp);
}

static void ask(struct zmtp *zmtp, uint64_t id)
{
    const struct wire_request request = {.operation = WIRE_LIST, .id = id};
    struct buf encoded;
    buf_init(&encoded, WIRE_FRAME_MAX);
    REQUIRE(wire_encode_request(&request, &encoded) == ERR_OK);
    REQUIRE(zmtp_send(zmtp, buf_bytes(&encoded)) == ERR_OK);
    buf_clear(&encoded);
}

static void *ask_and_go(void *argument)
{
    while (!atomic_load(&is_over)) {
        int fd;
        struct zmtp *zmtp;
        unsigned count = atomic_fetch_add(&rude, 1);
        if (enter(&fd, &zmtp)) {
            for (unsigned i = 0; i <= count % 20; i++)
                ask(zmtp, i);
            struct bytes out = zmtp_output(zmtp);
            (void)send_all(fd, bytes_of(out.data, out.len - count % 40), 0);
            if (count % 3 == 0)
                shutdown(fd, count % 2 ? SHUT_WR : SHUT_RDWR);
        }
        leave(fd, zmtp);
    }
    return argument;
}

static void *ask_and_not_read(void *argument)
{
    while (!atomic_load(&is_over)) {
        int fd;
        struct zmtp *zmtp;
        if (enter(&fd, &zmtp)) {
            for (unsigned i = 0; i < 20000; i++)
                ask(zmtp, i);
            while (send_all(fd, zmtp_output(zmtp), MSG_DONTWAIT))
                ;
            usleep(50000);
            atomic_fetch_add(&deaf, 1);
        }
        leave(fd, zmtp);
    }
    return argument;
}

static unsigned open_files(void)
{
    unsigned count = 0;
    DIR *files = opendir("/proc/self/fd");
    REQUIRE(files);
    while (readdir(files))
        count++;
    closedir(files);
    return count;
}

// The answer to one signature of another client.
static void call(struct link *link, struct bytes attributes, struct buf *frame, uint64_t id)
{
    struct wire_reply reply;
    struct buf encoded;
    const struct wire_request request = {.operation = WIRE_SIGN,
                                         .id = id,
                                         .sign = {.key = BYTES_LITERAL("ec.smime-sign.enabled"),
                                                  .algorithm = WIRE_ECDSA,
                                                  .hash = HASH_SHA256,
                                                  .form = WIRE_ATTRIBUTES,
                                                  .data = attributes}};
    buf_init(&encoded, WIRE_FRAME_MAX);
    assert_int_equal(wire_encode_request(&request, &encoded), ERR_OK);
    assert_int_equal(link_send(link, buf_bytes(&encoded)), ERR_OK);
    assert_int_equal(link_receive(link, deadline_in(LATE_MS), frame), ERR_OK);
    assert_int_equal(wire_decode_reply(WIRE_SIGN, buf_bytes(frame), &reply, NULL), ERR_OK);
    assert_int_equal(reply.class, ERR_OK);
    assert_int_equal(reply.id, id);
    buf_clear(&encoded);
}

// Half of the time by a connection of its own for each call.
static void be_served(void)
{
    const struct link_conf conf = {.endpoint = endpoint,
                                   .keys = {server_public, custodian.public_keys[CUSTODIAN_SIGNER],
                                            custodian.secret_keys[CUSTODIAN_SIGNER]}};
    struct buf attributes;
    struct buf frame;
    struct link *steady;
    buf_init(&attributes, 4096);
    buf_init(&frame, WIRE_FRAME_MAX);
    custodian_attributes(HASH_SHA256, &attributes);
    assert_int_equal(link_open(&conf, &steady, NULL), ERR_OK);
    for (unsigned i = 0; i < CALLS; i++) {
        struct link *fresh = NULL;
        if (i % 2)
            assert_int_equal(link_open(&conf, &fresh, NULL), ERR_OK);
        call(fresh ? fresh : steady, buf_bytes(&attributes), &frame, i);
        link_close(fresh);
    }
    link_close(steady);
    buf_clear(&attributes);
    buf_clear(&frame);
}

static void test_siege(void **state)
{
    (void)state;
    static void *(*const doings[])(void *) = {be_silent, talk_nonsense, ask_and_go,
                                              ask_and_not_read};
    pthread_t threads[sizeof doings / sizeof *doings];
    const unsigned count = sizeof doings / sizeof *doings;
    unsigned files = open_files(); // the server may not have closed what was before
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, doings[i], NULL), 0);
    while (!atomic_load(&strangers) || !atomic_load(&rude) || !atomic_load(&deaf))
        usleep(1000);
    be_served();
    atomic_store(&is_over, true);
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    print_message("%u strangers, %u rude, %u deaf\n", atomic_load(&strangers), atomic_load(&rude),
                  atomic_load(&deaf));
    deadline_t until = deadline_in(TIMEOUT_MS);
    while (open_files() > files && !deadline_is_past(until))
        usleep(10000);
    assert_true(open_files() <= files);
    be_served();
}

// Writes what there is room for, and reads what there is. False: neither.
static bool exchange(int fd, struct zmtp *zmtp)
{
    uint8_t data[16384];
    struct bytes out = zmtp_output(zmtp);
    ssize_t written = out.len ? send(fd, out.data, out.len, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
    if (written > 0)
        zmtp_written(zmtp, (size_t)written);
    ssize_t len = recv(fd, data, sizeof data, MSG_DONTWAIT);
    assert_int_not_equal(len, 0);
    if (len > 0)
        assert_int_equal(zmtp_feed(zmtp, bytes_of(data, (size_t)len)), ERR_OK);
    return written > 0 || len > 0;
}

// It asks until it is not read any more. Then it reads: it is answered, to the last.
static void test_late_reader(void **state)
{
    (void)state;
    int fd;
    struct zmtp *zmtp;
    struct buf frame;
    struct wire_reply reply = {0};
    buf_init(&frame, WIRE_FRAME_MAX);
    assert_true(enter(&fd, &zmtp));
    for (uint64_t id = 1; id <= LATE_REQUESTS; id++)
        ask(zmtp, id);
    for (unsigned quiet = 0; quiet < 100; quiet++, usleep(2000)) {
        struct bytes out = zmtp_output(zmtp);
        ssize_t len = send(fd, out.data, out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (len > 0) {
            zmtp_written(zmtp, (size_t)len);
            quiet = 0;
        }
    }
    assert_true(zmtp_output(zmtp).len > 0);
    deadline_t until = deadline_in(TIMEOUT_MS);
    while (reply.id != LATE_REQUESTS) {
        bool is_there = false;
        assert_false(deadline_is_past(until));
        buf_reset(&frame);
        assert_int_equal(zmtp_receive(zmtp, &frame, &is_there), ERR_OK);
        if (is_there)
            assert_int_equal(wire_decode_reply(WIRE_LIST, buf_bytes(&frame), &reply, NULL), ERR_OK);
        else if (!exchange(fd, zmtp))
            usleep(1000);
    }
    leave(fd, zmtp);
    buf_clear(&frame);
}

// Nobody asks anything meanwhile: its time is over all the same, and before a request's would be.
static void test_silence(void **state)
{
    (void)state;
    char answer[100];
    deadline_t start = clock_ms();
    int fd = connect_raw();
    while (recv(fd, answer, sizeof answer, 0) > 0)
        ;
    assert_in_range(clock_ms() - start, HANDSHAKE_MS - 10, TIMEOUT_MS / 2);
    close(fd);
}

static int setup(void **state)
{
    (void)state;
    static const unsigned workers[] = {2, 2};
    static const char *const endpoints[] = {endpoint};
    struct secret key = {.data = (uint8_t *)server_secret, .len = 40, .room = 41};
    custodian_setup(&custodian);
    REQUIRE(zmq_curve_keypair(server_public, server_secret) == 0);
    snprintf(endpoint, sizeof endpoint, "ipc://%s/socket", custodian.dir);
    const struct server_conf conf = {.domain = ZAP_DOMAIN_DATA,
                                     .endpoints = endpoints,
                                     .endpoint_count = 1,
                                     .mode = 0660,
                                     .server_key = &key,
                                     .handler = core_handler(&custodian.core),
                                     .workers = workers,
                                     .lane_count = 2,
                                     .light_workers = SERVER_LIGHT_WORKERS,
                                     .is_direct = true,
                                     .timeout_ms = TIMEOUT_MS,
                                     .request_max = WIRE_FRAME_MAX,
                                     .reply_max = WIRE_FRAME_MAX};
    return server_open(&conf, &server, NULL) == ERR_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(server_close(server, NULL), ERR_OK);
    custodian_teardown(&custodian);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_silence), // first: no thread has been awake yet
        cmocka_unit_test(test_late_reader),
        cmocka_unit_test(test_siege),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
