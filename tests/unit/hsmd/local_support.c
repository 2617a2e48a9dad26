// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/hsmd/local_support.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>
#include <zmq.h>

#include "hsmd/base/log.h"
#include "tests/support/zmtp_server.h"

#define ANSWER_SIZE 60000
#define AT_ONCE 1500 // more than is read at once, and than there is room for the answers to
#define SETTLED 20   // looks that show nothing

struct door door;
const struct zmtp_keys peer_keys = {ZMTP_SERVER_PUBLIC, ZMTP_CLIENT_PUBLIC, ZMTP_CLIENT_SECRET};

static char directory[] = "/tmp/local-XXXXXX";
static int kept_stderr;
static deadline_t ahead;
static uint64_t now_us = 1000000;

deadline_t __real_clock_ms(void);
deadline_t __wrap_clock_ms(void);
uint64_t __wrap_clock_us(void);
deadline_t __wrap_deadline_in(unsigned ms);
bool __wrap_deadline_is_past(deadline_t deadline);
int __real_getsockopt(int fd, int level, int name, void *value, socklen_t *size);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *size);
int __real_setsockopt(int fd, int level, int name, const void *value, socklen_t size);
int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t size);

deadline_t __wrap_clock_ms(void)
{
    return __real_clock_ms() + ahead;
}

uint64_t __wrap_clock_us(void)
{
    return now_us;
}

deadline_t __wrap_deadline_in(unsigned ms)
{
    return __wrap_clock_ms() + ms;
}

bool __wrap_deadline_is_past(deadline_t deadline)
{
    return __wrap_clock_ms() >= deadline;
}

// Who is at the other end, for SO_PEERCRED.
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *size)
{
    int result = __real_getsockopt(fd, level, name, value, size);
    if (!result && name == SO_PEERCRED && door.pretended_user)
        ((struct ucred *)value)->uid = door.pretended_user;
    return result;
}

int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t size)
{
    if (!door.is_old)
        return __real_setsockopt(fd, level, name, value, size);
    errno = ENOPROTOOPT;
    return -1;
}

void clock_advance(unsigned ms)
{
    ahead += ms;
}

void clock_advance_us(unsigned us)
{
    now_us += us;
}

static bool is_allowed(void *context, const char *public_key)
{
    (void)context;
    return strcmp(public_key, peer_keys.public_key) == 0;
}

static void capture_log(void)
{
    FILE *file = tmpfile();
    kept_stderr = dup(STDERR_FILENO);
    assert_non_null(file);
    assert_true(kept_stderr >= 0 && dup2(fileno(file), STDERR_FILENO) == STDERR_FILENO);
    fclose(file);
    log_open("test", LOG_SINK_STDERR, LOG_LEVEL_WARNING);
}

enum err door_open_another(struct local **local)
{
    const struct secret key = {.data = (uint8_t *)ZMTP_SERVER_SECRET, .len = 40, .room = 41};
    const struct local_conf conf = {.domain = "test",
                                    .server_key = &key,
                                    .is_allowed = is_allowed,
                                    .request_max = FRAME_MAX,
                                    .epoll = door.epoll};
    return local_open(&conf, local, NULL);
}

int door_setup(void **state)
{
    struct rlimit files;
    (void)state;
    ahead = 0;
    door.pretended_user = 0;
    door.is_old = false;
    capture_log();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    const struct rlimit few = {DOOR_FILES, files.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    assert_non_null(mkdtemp(strcpy(directory, "/tmp/local-XXXXXX")));
    snprintf(door.path, sizeof door.path, "%s/socket", directory);
    door.epoll = epoll_create1(EPOLL_CLOEXEC);
    assert_int_equal(door_open_another(&door.local), ERR_OK);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
    assert_int_equal(local_bind(door.local, door.path, NULL), ERR_OK);
    return 0;
}

int door_teardown(void **state)
{
    (void)state;
    local_close(door.local);
    close(door.epoll);
    unlink(door.path);
    dup2(kept_stderr, STDERR_FILENO);
    close(kept_stderr);
    return rmdir(directory);
}

static int look(void)
{
    struct epoll_event events[32];
    int count = epoll_wait(door.epoll, events, 32, 0);
    assert_true(count >= 0);
    local_look(door.local, events, (size_t)count);
    return count;
}

void door_look(void)
{
    (void)look();
}

// What waits to be received is reported again and again.
void door_settle(void)
{
    for (unsigned quiet = 0, looks = 0; quiet < SETTLED && looks < 1000; looks++)
        quiet = look() ? 0 : quiet + 1;
}

void door_await(struct arrival *arrival)
{
    deadline_t until = deadline_in(WAIT_MS);
    while (!local_receive(door.local, arrival)) {
        assert_false(deadline_is_past(until));
        door_look();
    }
}

unsigned door_times_said(const char *text)
{
    static char log[100000];
    unsigned times = 0;
    ssize_t len = pread(STDERR_FILENO, log, sizeof log - 1, 0);
    assert_true(len >= 0);
    log[len] = 0;
    for (const char *at = log; (at = strstr(at, text)); at++)
        times++;
    return times;
}

unsigned open_files(void)
{
    unsigned count = 0;
    DIR *files = opendir("/proc/self/fd");
    assert_non_null(files);
    while (readdir(files))
        count++;
    closedir(files);
    return count;
}

void arrival_init(struct arrival *arrival)
{
    *arrival = (struct arrival){0};
    buf_init(&arrival->frame, FRAME_MAX);
}

void arrival_clear(struct arrival *arrival)
{
    buf_clear(&arrival->frame);
}

void peer_make_keys(char public_key[CURVE_TEXT_SIZE], char secret_key[CURVE_TEXT_SIZE])
{
    assert_int_equal(zmq_curve_keypair(public_key, secret_key), 0);
}

static enum err try_connect(struct peer *peer, const struct zmtp_keys *keys)
{
    *peer = (struct peer){.fd = raw_connect()};
    buf_init(&peer->received, FRAME_MAX);
    return zmtp_new(keys, FRAME_MAX, &peer->zmtp, NULL);
}

void peer_connect(struct peer *peer, const struct zmtp_keys *keys)
{
    assert_int_equal(try_connect(peer, keys), ERR_OK);
}

bool peer_try_connect(struct peer *peer)
{
    return try_connect(peer, &peer_keys) == ERR_OK;
}

void peer_await_entry(struct peer *peer)
{
    deadline_t until = deadline_in(WAIT_MS);
    while (zmtp_state(peer->zmtp) < ZMTP_READY) {
        assert_false(peer->is_ended || deadline_is_past(until));
        peer_write(peer, 0);
        door_look();
        peer_read(peer);
    }
    assert_int_equal(zmtp_state(peer->zmtp), ZMTP_READY);
}

void peer_enter(struct peer *peer)
{
    peer_connect(peer, &peer_keys);
    peer_await_entry(peer);
}

void peer_leave(struct peer *peer)
{
    close(peer->fd);
    zmtp_free(peer->zmtp);
    buf_clear(&peer->received);
}

void peer_say(struct peer *peer, const char *text)
{
    assert_int_equal(zmtp_send(peer->zmtp, bytes_of_text(text)), ERR_OK);
}

void peer_write(struct peer *peer, size_t most)
{
    struct bytes bytes = zmtp_output(peer->zmtp);
    size_t len = most && most < bytes.len ? most : bytes.len;
    ssize_t written = len ? send(peer->fd, bytes.data, len, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
    if (written > 0)
        zmtp_written(peer->zmtp, (size_t)written);
}

void peer_read(struct peer *peer)
{
    uint8_t data[16384];
    ssize_t len = recv(peer->fd, data, sizeof data, MSG_DONTWAIT);
    if (len > 0)
        (void)!zmtp_feed(peer->zmtp, bytes_of(data, (size_t)len));
    peer->is_ended = peer->is_ended || !len || (len < 0 && errno != EAGAIN);
}

static bool next_message(struct peer *peer)
{
    bool is_there = false;
    buf_reset(&peer->received);
    return zmtp_receive(peer->zmtp, &peer->received, &is_there) == ERR_OK && is_there;
}

bool peer_has(struct peer *peer, const char *text)
{
    return next_message(peer) && strcmp(buf_text(&peer->received), text) == 0;
}

void peer_expect(struct peer *peer, const char *text)
{
    deadline_t until = deadline_in(WAIT_MS);
    while (!next_message(peer)) {
        assert_false(peer->is_ended || deadline_is_past(until));
        door_look();
        peer_read(peer);
    }
    assert_string_equal(buf_text(&peer->received), text);
}

void peer_await_end(struct peer *peer)
{
    deadline_t until = deadline_in(WAIT_MS);
    while (!peer->is_ended) {
        assert_false(deadline_is_past(until));
        peer_write(peer, 0);
        door_look();
        peer_read(peer);
    }
}

void peer_ask(struct peer *peer)
{
    struct arrival arrival;
    arrival_init(&arrival);
    peer_say(peer, "question");
    peer_write(peer, 0);
    do // what peer_fill has left behind may come before
        door_await(&arrival);
    while (strcmp(buf_text(&arrival.frame), "question") != 0);
    local_send(door.local, arrival.route.connection, BYTES_LITERAL("answer"));
    peer_expect(peer, "answer");
    arrival_clear(&arrival);
}

unsigned peer_fill(struct peer *peer)
{
    static char answer[ANSWER_SIZE];
    struct arrival arrival;
    unsigned answers = 0;
    arrival_init(&arrival);
    for (unsigned i = 0; i < AT_ONCE; i++)
        peer_say(peer, "and?");
    for (unsigned quiet = 0; quiet < SETTLED; quiet++) {
        peer_write(peer, 0);
        if (!zmtp_output(peer->zmtp).len)
            peer_say(peer, "and?");
        door_look();
        while (local_receive(door.local, &arrival)) {
            quiet = 0;
            snprintf(answer, sizeof answer, "%u ", answers++);
            local_send(door.local, arrival.route.connection, bytes_of(answer, sizeof answer));
        }
    }
    arrival_clear(&arrival);
    return answers;
}

int raw_connect(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    memcpy(address.sun_path, door.path, strlen(door.path));
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

void raw_write(int fd, struct bytes bytes)
{
    assert_true(send(fd, bytes.data, bytes.len, MSG_NOSIGNAL) == (ssize_t)bytes.len);
}

bool raw_is_ended(int fd)
{
    char data[512];
    struct arrival arrival;
    arrival_init(&arrival);
    for (unsigned i = 0; i < 1000; i++) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        if (door.local)
            door_look();
        assert_false(door.local && local_receive(door.local, &arrival));
        if (poll(&poll_fd, 1, 1) == 1) {
            ssize_t len = recv(fd, data, sizeof data, MSG_DONTWAIT);
            if (!len || (len < 0 && errno != EAGAIN))
                return true;
        }
    }
    return false;
}
