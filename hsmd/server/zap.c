// SPDX-License-Identifier: Apache-2.0
#include "hsmd/server/zap.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "hsmd/base/alloc.h"
#include "hsmd/server/denials.h"

#ifndef ZMQ_ZAP_ENFORCE_DOMAIN
#define ZMQ_ZAP_ENFORCE_DOMAIN 93 // a draft's constant, but libzmq knows the number since 4.3.0
#endif

#define ENDPOINT "inproc://zeromq.zap.01"
#define CURVE_KEY_SIZE 32
#define DOMAIN_MAX 64

enum request_frame {
    FRAME_VERSION,
    FRAME_REQUEST_ID,
    FRAME_DOMAIN,
    FRAME_ADDRESS,
    FRAME_IDENTITY,
    FRAME_MECHANISM,
    FRAME_KEY,
    FRAME_COUNT
};

struct zap {
    void *socket;
    int stop; // eventfd
    pthread_t thread;
    zap_is_allowed is_allowed;
    void *context;
    struct denials denials;
};

// A frame as text, cut to size.
static void copy_frame(zmq_msg_t *frame, char *out, size_t size)
{
    size_t len = zmq_msg_size(frame) < size - 1 ? zmq_msg_size(frame) : size - 1;
    memcpy(out, zmq_msg_data(frame), len);
    out[len] = 0;
}

static bool is_frame(zmq_msg_t *frame, const char *text)
{
    return zmq_msg_size(frame) == strlen(text) &&
           memcmp(zmq_msg_data(frame), text, strlen(text)) == 0;
}

// Fills key with the client's if it may come in.
static bool decide(struct zap *zap, zmq_msg_t *frames, char key[REGISTRY_PUBLIC_KEY_SIZE])
{
    char domain[DOMAIN_MAX];
    char address[64];
    if (!is_frame(&frames[FRAME_VERSION], "1.0") || !is_frame(&frames[FRAME_MECHANISM], "CURVE") ||
        zmq_msg_size(&frames[FRAME_KEY]) != CURVE_KEY_SIZE ||
        !zmq_z85_encode(key, zmq_msg_data(&frames[FRAME_KEY]), CURVE_KEY_SIZE))
        return false;
    copy_frame(&frames[FRAME_DOMAIN], domain, sizeof domain);
    copy_frame(&frames[FRAME_ADDRESS], address, sizeof address);
    if (zap->is_allowed(zap->context, domain, key))
        return true;
    denials_log(&zap->denials, domain, address, key);
    return false;
}

static void reply(struct zap *zap, zmq_msg_t *request_id, bool allowed, const char *key)
{
    const char *code = allowed ? "200" : "400";
    const char *text = allowed ? "OK" : "denied";
    // ZeroMQ's own thread reads it: there is no one slow to wait for.
    zmq_send(zap->socket, "1.0", 3, ZMQ_SNDMORE);
    if (zmq_msg_send(request_id, zap->socket, ZMQ_SNDMORE) < 0)
        return;
    zmq_send(zap->socket, code, 3, ZMQ_SNDMORE);
    zmq_send(zap->socket, text, strlen(text), ZMQ_SNDMORE);
    zmq_send(zap->socket, key, allowed ? strlen(key) : 0, ZMQ_SNDMORE);
    zmq_send(zap->socket, "", 0, 0);
}

static void handle(struct zap *zap)
{
    zmq_msg_t frames[FRAME_COUNT];
    char key[REGISTRY_PUBLIC_KEY_SIZE];
    unsigned count = 0;
    bool more = true;
    for (unsigned i = 0; i < FRAME_COUNT; i++)
        zmq_msg_init(&frames[i]);
    while (more) {
        zmq_msg_t frame;
        zmq_msg_init(&frame);
        bool received = zmq_msg_recv(&frame, zap->socket, ZMQ_DONTWAIT) >= 0;
        more = received && zmq_msg_more(&frame);
        if (received && count < FRAME_COUNT)
            zmq_msg_move(&frames[count], &frame);
        count += received;
        zmq_msg_close(&frame);
    }
    if (count > 0) {
        bool allowed = count == FRAME_COUNT && decide(zap, frames, key);
        reply(zap, &frames[FRAME_REQUEST_ID], allowed, key);
    }
    for (unsigned i = 0; i < FRAME_COUNT; i++)
        zmq_msg_close(&frames[i]);
}

static void *run(void *argument)
{
    struct zap *zap = argument;
    for (;;) {
        zmq_pollitem_t items[] = {{.socket = zap->socket, .events = ZMQ_POLLIN},
                                  {.fd = zap->stop, .events = ZMQ_POLLIN}};
        if (zmq_poll(items, 2, -1) < 0 && zmq_errno() != EINTR)
            break;
        if (items[1].revents)
            break;
        if (items[0].revents)
            handle(zap);
    }
    zmq_close(zap->socket);
    return NULL;
}

enum err zap_open(void *zmq, zap_is_allowed is_allowed, void *context, struct zap **out,
                  struct detail *detail)
{
    int linger = 0;
    struct zap *zap = mem_calloc(1, sizeof *zap);
    if (!zap)
        return err_set(detail, ERR_TEMP, "out of memory");
    zap->is_allowed = is_allowed;
    zap->context = context;
    zap->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    zap->socket = zmq_socket(zmq, ZMQ_REP);
    if (zap->stop < 0 || !zap->socket ||
        zmq_setsockopt(zap->socket, ZMQ_LINGER, &linger, sizeof linger) != 0 ||
        zmq_bind(zap->socket, ENDPOINT) != 0 || pthread_create(&zap->thread, NULL, run, zap) != 0) {
        (void)err_set(detail, ERR_TEMP, "ZAP handler: %s", zmq_strerror(zmq_errno()));
        if (zap->socket)
            zmq_close(zap->socket);
        if (zap->stop >= 0)
            close(zap->stop);
        mem_free(zap);
        return ERR_TEMP;
    }
    *out = zap;
    return ERR_OK;
}

void zap_close(struct zap *zap)
{
    uint64_t one = 1;
    if (!zap)
        return;
    while (write(zap->stop, &one, sizeof one) < 0 && errno == EINTR)
        ;
    pthread_join(zap->thread, NULL);
    close(zap->stop);
    mem_free(zap);
}

// An option that libzmq takes and then has.
static bool set_int(void *socket, int option, int value)
{
    int read = -1;
    size_t size = sizeof read;
    return zmq_setsockopt(socket, option, &value, sizeof value) == 0 &&
           zmq_getsockopt(socket, option, &read, &size) == 0 && read == value;
}

static bool set_domain(void *socket, const char *domain)
{
    char read[DOMAIN_MAX] = "";
    size_t size = sizeof read;
    return zmq_setsockopt(socket, ZMQ_ZAP_DOMAIN, domain, strlen(domain)) == 0 &&
           zmq_getsockopt(socket, ZMQ_ZAP_DOMAIN, read, &size) == 0 && strcmp(read, domain) == 0;
}

enum err zap_secure(void *socket, const char *domain, const struct secret *server_key,
                    struct detail *detail)
{
    if (!*domain || strlen(domain) >= DOMAIN_MAX)
        return err_set(detail, ERR_PERM, "a socket without a ZAP domain would let everyone in");
    if (!set_int(socket, ZMQ_ZAP_ENFORCE_DOMAIN, 1))
        return err_set(detail, ERR_PERM,
                       "this libzmq cannot enforce the ZAP domain; 4.3.0 or later is needed");
    if (!set_domain(socket, domain))
        return err_set(detail, ERR_PERM, "cannot set the ZAP domain");
    if (!set_int(socket, ZMQ_CURVE_SERVER, 1) ||
        zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, server_key->data, server_key->len) != 0)
        return err_set(detail, ERR_PERM, "cannot set the server's CURVE key");
    return ERR_OK;
}

const char *zap_peer(zmq_msg_t *message)
{
    const char *peer = zmq_msg_gets(message, "User-Id");
    const char *routing_id = zmq_msg_gets(message, "Identity"); // its name in the handshake
    if (!peer || strlen(peer) != REGISTRY_PUBLIC_KEY_SIZE - 1 || (routing_id && *routing_id))
        return NULL;
    return peer;
}
