// SPDX-License-Identifier: Apache-2.0
// Many clients of hsmd at once, out of one process: connections that were made and now do nothing,
// or one that asks without waiting for answers. Speaks the protocol by the libraries of
// hsmd/client, but opens its sockets itself, since a client never has so many.
//
//     hsmbench-crowd idle N ...
//         says "ready" when N are connected, which have the given clients' keys in turn; when
//         standard input ends it asks each again, and ends well if all are answered
//     hsmbench-crowd flood N KEY ...
//         sends N signing requests in one go and prints, when all are answered,
//         "OK TEMP OTHER P50 P99 MS-TO-LAST": of those that were refused, how many milliseconds
//         after it was sent half of them, and 99 of a hundred, had their answer
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <zmq.h>

#include "hsmd/base/curve.h"
#include "hsmd/base/file.h"
#include "hsmd/wire/wire.h"
#include "tools/bench_half.h"

#define CLIENTS_MAX 4096
#define IDENTITIES_MAX 64 // with keys of their own
#define REQUESTS_MAX 100000
#define PATIENCE_MS 30000

struct identity {
    char public[CURVE_TEXT_SIZE];
    struct secret secret;
};

struct keys {
    const char *endpoint;
    char server[CURVE_TEXT_SIZE];
    struct identity identities[IDENTITIES_MAX];
    unsigned count;
};

static int fail(const char *what)
{
    fprintf(stderr, "hsmbench-crowd: %s\n", what);
    return 1;
}

static enum err read_identity(char **files, struct identity *identity, struct detail *detail)
{
    enum err err = curve_read_public(files[0], identity->public, detail);
    if (err == ERR_OK)
        err = secret_init(&identity->secret, CURVE_TEXT_SIZE + 2, detail);
    if (err == ERR_OK)
        err = file_read_secret(files[1], &identity->secret, detail);
    if (err == ERR_OK)
        identity->secret.data[identity->secret.len] = 0; // over the line end; room is a page
    return err;
}

static bool read_keys(char **files, struct keys *keys)
{
    struct detail detail = {0};
    keys->endpoint = files[0];
    enum err err = curve_read_public(files[1], keys->server, &detail);
    for (files += 2; err == ERR_OK && *files && keys->count < IDENTITIES_MAX; files += 2)
        err = read_identity(files, &keys->identities[keys->count++], &detail);
    if (err != ERR_OK)
        fail(detail.text);
    return err == ERR_OK;
}

// Each socket takes two files or more, and the usual soft limit is 1024.
static void raise_file_limit(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
}

// nth: which of the clients it is.
static void *connect_one(void *context, const struct keys *keys, unsigned nth)
{
    const struct identity *identity = &keys->identities[nth % keys->count];
    int none = 0;
    void *socket = zmq_socket(context, ZMQ_DEALER);
    if (socket && zmq_setsockopt(socket, ZMQ_LINGER, &none, sizeof none) == 0 &&
        zmq_setsockopt(socket, ZMQ_SNDHWM, &none, sizeof none) == 0 &&
        zmq_setsockopt(socket, ZMQ_RCVHWM, &none, sizeof none) == 0 &&
        zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, keys->server, CURVE_TEXT_SIZE - 1) == 0 &&
        zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, identity->public, CURVE_TEXT_SIZE - 1) == 0 &&
        zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, identity->secret.data, CURVE_TEXT_SIZE - 1) ==
            0 &&
        zmq_connect(socket, keys->endpoint) == 0)
        return socket;
    fail(zmq_strerror(zmq_errno()));
    exit(1);
}

static bool send_request(void *socket, struct wire_request *request)
{
    struct buf frame;
    buf_init(&frame, WIRE_FRAME_MAX);
    bool ok = wire_encode_request(request, &frame) == ERR_OK &&
              zmq_send(socket, frame.data, frame.len, 0) == (int)frame.len;
    buf_clear(&frame);
    return ok;
}

// The class of the answer, and to which request it is; ERR_BUG if there is none in time, or none
// that can be read.
static enum err receive(void *socket, enum wire_operation operation, uint64_t *id)
{
    static uint8_t frame[WIRE_FRAME_MAX];
    struct wire_reply reply;
    zmq_pollitem_t item = {.socket = socket, .events = ZMQ_POLLIN};
    if (zmq_poll(&item, 1, PATIENCE_MS) != 1)
        return ERR_BUG;
    int len = zmq_recv(socket, frame, sizeof frame, 0);
    if (len < 0 || len > (int)sizeof frame ||
        wire_decode_reply(operation, bytes_of(frame, (size_t)len), &reply, NULL) != ERR_OK)
        return ERR_BUG;
    *id = reply.id;
    return reply.class;
}

// One after the other: connected means that it was answered.
static bool ask_each(void *const *sockets, unsigned count)
{
    struct wire_request request = {.operation = WIRE_LIST, .id = 1};
    uint64_t id = 0;
    for (unsigned i = 0; i < count; i++) {
        if (!send_request(sockets[i], &request) || receive(sockets[i], WIRE_LIST, &id) != ERR_OK)
            return false;
    }
    return true;
}

static int idle(void *context, const struct keys *keys, unsigned count)
{
    static void *sockets[CLIENTS_MAX];
    char byte;
    for (unsigned i = 0; i < count; i++)
        sockets[i] = connect_one(context, keys, i);
    if (!ask_each(sockets, count))
        return fail("not all can connect");
    puts("ready");
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    if (!ask_each(sockets, count))
        return fail("not all are answered any more");
    for (unsigned i = 0; i < count; i++)
        zmq_close(sockets[i]);
    return 0;
}

static double now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct tally {
    unsigned ok, temporary, other;
    double waits[REQUESTS_MAX];    // of the temporary ones
    double sent[REQUESTS_MAX + 1]; // when, by id
};

// One answer. False: it was something else, or none came, and then the rest will not either.
static bool count_answer(void *socket, unsigned sent, struct tally *tally)
{
    uint64_t id = 0;
    enum err class = receive(socket, WIRE_SIGN, &id);
    if ((class != ERR_OK && class != ERR_TEMP) || id < 1 || id > sent)
        return false;
    if (class == ERR_TEMP)
        tally->waits[tally->temporary++] = now_ms() - tally->sent[id];
    else
        tally->ok++;
    return true;
}

static int flood(void *context, const struct keys *keys, unsigned count, const char *key)
{
    static struct tally tally;
    static const uint8_t digest[32] = {1};
    struct wire_request request = {.operation = WIRE_SIGN,
                                   .sign = {.key = bytes_of_text(key),
                                            .algorithm = WIRE_ECDSA,
                                            .hash = HASH_SHA256,
                                            .form = WIRE_DIGEST,
                                            .data = bytes_of(digest, sizeof digest)}};
    void *socket = connect_one(context, keys, 0);
    double began = now_ms();
    // Answers are taken in between: hsmd drops those of one who does not read.
    for (unsigned sent = 0; tally.ok + tally.temporary < count;) {
        zmq_pollitem_t item = {.socket = socket, .events = ZMQ_POLLIN};
        if (sent < count && zmq_poll(&item, 1, 0) == 0) {
            request.id = ++sent;
            tally.sent[sent] = now_ms();
            if (!send_request(socket, &request))
                return fail("cannot send");
        } else if (!count_answer(socket, sent, &tally)) {
            tally.other = count - tally.ok - tally.temporary;
            break;
        }
    }
    qsort(tally.waits, tally.temporary, sizeof *tally.waits, compare);
    printf("%u %u %u %.2f %.2f %.1f\n", tally.ok, tally.temporary, tally.other,
           tally.waits[tally.temporary / 2], tally.waits[tally.temporary * 99ULL / 100],
           now_ms() - began);
    zmq_close(socket);
    return 0;
}

static int usage(void)
{
    fputs("usage: hsmbench-crowd idle N | flood N KEY   ENDPOINT SERVER.pub "
          "CLIENT.pub CLIENT.key ...\n",
          stderr);
    return 2;
}

int main(int argc, char **argv)
{
    static struct keys keys;
    bool is_idle = argc >= 7 && argc % 2 && strcmp(argv[1], "idle") == 0;
    bool is_flood = argc >= 8 && argc % 2 == 0 && strcmp(argv[1], "flood") == 0;
    if (!is_idle && !is_flood)
        return usage();
    unsigned count = bench_number(argv[2], is_idle ? CLIENTS_MAX : REQUESTS_MAX);
    raise_file_limit();
    void *context = zmq_ctx_new();
    if (!context || zmq_ctx_set(context, ZMQ_MAX_SOCKETS, CLIENTS_MAX + 64) != 0)
        return fail("no ZeroMQ context");
    if (!read_keys(argv + (is_idle ? 3 : 4), &keys))
        return 1;
    int status = is_idle ? idle(context, &keys, count) : flood(context, &keys, count, argv[3]);
    for (unsigned i = 0; i < keys.count; i++)
        secret_clear(&keys.identities[i].secret);
    if (status == 0) // else sockets may be open, which it would wait for
        zmq_ctx_term(context);
    return status;
}
