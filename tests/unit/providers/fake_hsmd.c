// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/providers/fake_hsmd.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <zmq.h>

#include "tests/unit/providers/fake_keys.h"

#define IDENTITY_MAX 256
#define OUT_MAX 4096

struct fake {
    char dir[64];
    char endpoint[80];
    char server_public[41], server_secret[41];
    void *context;
    void *router;
    pthread_t thread;
    atomic_bool stopping;
    atomic_int fault;
    atomic_uint counts[16];
    pthread_mutex_t lock; // of last
    struct wire_request last, last_copy;
    struct fake_key keys[FAKE_KEYS];
};

static void must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "fake_hsmd: %s\n", what);
        exit(1);
    }
}

static void remember(struct fake *fake, const struct wire_request *request)
{
    pthread_mutex_lock(&fake->lock);
    if (request->operation != WIRE_DESCRIBE && request->operation != WIRE_LIST)
        fake->last = *request;
    pthread_mutex_unlock(&fake->lock);
}

static void list(struct fake *fake, const struct wire_list *list, struct wire_reply *reply)
{
    for (int i = 0; i < FAKE_KEYS; i++) {
        struct bytes name = bytes_of_text(fake->keys[i].name);
        size_t shorter = name.len < list->after.len ? name.len : list->after.len;
        int order = shorter ? memcmp(name.data, list->after.data, shorter) : 0;
        if (order > 0 || (order == 0 && name.len > list->after.len))
            reply->list.names[reply->list.count++] = name;
    }
}

static enum err describe(struct fake *fake, const struct fake_key *key, struct wire_reply *reply)
{
    bool is_rsa = strcmp(key->kind, "RSA") == 0;
    bool is_ed25519 =
        strcmp(key->kind, "ED25519") == 0 && atomic_load(&fake->fault) != FAKE_OTHER_TYPE;
    int fault = atomic_load(&fake->fault);
    reply->description = (struct wire_description){
        .name = fault == FAKE_OTHER_NAME ? BYTES_LITERAL("other") : bytes_of_text(key->name),
        .type = is_ed25519                             ? WIRE_KEY_ED25519
                : is_rsa == (fault != FAKE_OTHER_TYPE) ? WIRE_KEY_RSA
                                                       : WIRE_KEY_EC,
        .purpose = key->purpose,
        .state = WIRE_ENABLED,
        .bits = (unsigned)EVP_PKEY_get_bits(key->key),
        .public_key = bytes_of(key->public_der, (size_t)key->public_len),
        .certificates = bytes_of(key->certificate_der, (size_t)key->certificate_len)};
    if (fault == FAKE_BAD_PUBLIC_KEY)
        reply->description.public_key.len--;
    if (fault == FAKE_BAD_CERTIFICATE)
        reply->description.certificates = BYTES_LITERAL("\x30\x03\x02\x01\x01");
    return ERR_OK;
}

static enum err act(struct fake *fake, const struct wire_request *request, uint8_t *out,
                    struct wire_reply *reply)
{
    size_t len = OUT_MAX;
    struct fake_key *key = NULL;
    enum err err;
    switch (request->operation) {
    case WIRE_LIST:
        list(fake, &request->list, reply);
        return ERR_OK;
    case WIRE_DESCRIBE:
        key = fake_keys_find(fake->keys, request->describe.key);
        return key ? describe(fake, key, reply) : ERR_DENIED;
    case WIRE_SIGN:
        key = fake_keys_find(fake->keys, request->sign.key);
        err = key ? fake_key_sign(key, &request->sign, out, &len) : ERR_DENIED;
        reply->signature = bytes_of(out, len);
        return err;
    case WIRE_UNWRAP:
        key = fake_keys_find(fake->keys, request->unwrap.key);
        err = key ? fake_key_unwrap(key, &request->unwrap, out, &len) : ERR_DENIED;
        reply->unwrapped =
            (struct wire_unwrapped){bytes_of(out, len), request->unwrap.ciphertext.len};
        return err;
    case WIRE_AGREE:
        key = fake_keys_find(fake->keys, request->agree.key);
        err = key ? fake_key_agree(key, &request->agree, out, &len) : ERR_DENIED;
        reply->secret = bytes_of(out, len);
        return err;
    }
    return ERR_PERM;
}

static void spoil(int fault, enum wire_operation operation, uint8_t *out, struct wire_reply *reply)
{
    static const enum err classes[] = {[FAKE_DENIED] = ERR_DENIED,
                                       [FAKE_TEMP] = ERR_TEMP,
                                       [FAKE_PERM] = ERR_PERM,
                                       [FAKE_BUG] = ERR_BUG};
    if (fault >= FAKE_DENIED && fault <= FAKE_BUG)
        reply->class = classes[fault];
    if (fault == FAKE_WRONG_ID)
        reply->id++;
    if (operation == WIRE_SIGN && fault == FAKE_SHORT_SIGNATURE)
        reply->signature.len--;
    if (operation == WIRE_SIGN && fault == FAKE_LONG_SIGNATURE)
        reply->signature = bytes_of(out, 300);
    if (operation == WIRE_AGREE && fault == FAKE_LONG_SECRET)
        reply->secret = bytes_of(out, 300);
    if (operation == WIRE_UNWRAP && fault == FAKE_LONG_SECRET)
        reply->unwrapped = (struct wire_unwrapped){bytes_of(out, 300), 300};
    if (operation == WIRE_UNWRAP && fault == FAKE_SMALL_PLACE)
        reply->unwrapped.size = reply->unwrapped.secret.len;
}

static void answer(struct fake *fake, struct bytes frame, struct buf *to)
{
    static _Thread_local struct wire_reply reply;
    uint8_t out[OUT_MAX] = {0};
    struct wire_request request = {0};
    struct detail detail = {0};
    int fault = atomic_load(&fake->fault);
    memset(&reply, 0, sizeof reply);
    must(wire_decode_request(frame, &request, &detail) == ERR_OK, detail.text);
    remember(fake, &request);
    reply.id = request.id;
    reply.class = act(fake, &request, out, &reply);
    spoil(fault, request.operation, out, &reply);
    atomic_fetch_add(&fake->counts[request.operation], 1);
    if (fault == FAKE_SIGNS_NEVER && request.operation == WIRE_SIGN)
        return;
    if (fault == FAKE_GARBAGE)
        must(buf_put_text(to, "HTTP/1.1 400 Bad Request") == ERR_OK, "garbage");
    else
        must(wire_encode_reply(request.operation, &reply, to) == ERR_OK, "encode");
}

static void serve_one(struct fake *fake)
{
    uint8_t identity[IDENTITY_MAX];
    uint8_t frame[WIRE_FRAME_MAX];
    struct buf out;
    int identity_len = zmq_recv(fake->router, identity, sizeof identity, 0);
    int len = zmq_recv(fake->router, frame, sizeof frame, 0);
    must(identity_len > 0 && len >= 0 && len <= (int)sizeof frame, "receive");
    int fault = atomic_load(&fake->fault);
    if (fault == FAKE_SILENT)
        return;
    if (fault == FAKE_SLOW)
        nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
    buf_init(&out, WIRE_FRAME_MAX);
    answer(fake, bytes_of(frame, (size_t)len), &out);
    if (out.len) {
        zmq_send(fake->router, identity, (size_t)identity_len, ZMQ_SNDMORE);
        zmq_send(fake->router, out.data, out.len, 0);
    }
    buf_clear(&out);
}

static void *serve(void *arg)
{
    struct fake *fake = arg;
    zmq_pollitem_t items[] = {{.socket = fake->router, .events = ZMQ_POLLIN}};
    while (!atomic_load(&fake->stopping)) {
        if (zmq_poll(items, 1, 20) > 0)
            serve_one(fake);
    }
    zmq_close(fake->router);
    return NULL;
}

static void write_file(const struct fake *fake, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", fake->dir, name);
    FILE *file = fopen(path, "w");
    must(file && fprintf(file, "%s\n", text) > 0 && fchmod(fileno(file), 0400) == 0 &&
             fclose(file) == 0,
         path);
}

struct fake *fake_start(void)
{
    char public_key[41];
    char secret_key[41];
    int one = 1;
    int none = 0;
    struct fake *fake = calloc(1, sizeof *fake);
    must(fake != NULL, "memory");
    strcpy(fake->dir, "/tmp/prov-fake-XXXXXX");
    must(mkdtemp(fake->dir) != NULL, "directory");
    snprintf(fake->endpoint, sizeof fake->endpoint, "ipc://%s/sock", fake->dir);
    pthread_mutex_init(&fake->lock, NULL);
    fake_keys_make(fake->keys);
    must(zmq_curve_keypair(fake->server_public, fake->server_secret) == 0 &&
             zmq_curve_keypair(public_key, secret_key) == 0,
         "CURVE keys");
    write_file(fake, "server.pub", fake->server_public);
    write_file(fake, "client.pub", public_key);
    write_file(fake, "client.key", secret_key);
    fake->context = zmq_ctx_new();
    fake->router = zmq_socket(fake->context, ZMQ_ROUTER);
    must(fake->router != NULL, "socket");
    must(zmq_setsockopt(fake->router, ZMQ_LINGER, &none, sizeof none) == 0 &&
             zmq_setsockopt(fake->router, ZMQ_CURVE_SERVER, &one, sizeof one) == 0 &&
             zmq_setsockopt(fake->router, ZMQ_CURVE_SECRETKEY, fake->server_secret, 40) == 0 &&
             zmq_bind(fake->router, fake->endpoint) == 0,
         "bind");
    must(pthread_create(&fake->thread, NULL, serve, fake) == 0, "thread");
    return fake;
}

void fake_stop(struct fake *fake)
{
    static const char *const names[] = {"server.pub", "client.pub", "client.key", "sock", "cnf"};
    char path[128];
    atomic_store(&fake->stopping, true);
    pthread_join(fake->thread, NULL);
    zmq_ctx_term(fake->context);
    fake_keys_clear(fake->keys);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", fake->dir, names[i]);
        unlink(path);
    }
    rmdir(fake->dir);
    pthread_mutex_destroy(&fake->lock);
    free(fake);
}

const char *fake_dir(const struct fake *fake)
{
    return fake->dir;
}

const char *fake_endpoint(const struct fake *fake)
{
    return fake->endpoint;
}

void fake_set_fault(struct fake *fake, enum fake_fault fault)
{
    atomic_store(&fake->fault, fault);
}

unsigned fake_count(const struct fake *fake, enum wire_operation operation)
{
    return atomic_load(&fake->counts[operation]);
}

const struct wire_request *fake_last(const struct fake *fake)
{
    struct fake *open = (struct fake *)fake;
    pthread_mutex_lock(&open->lock);
    open->last_copy = open->last;
    pthread_mutex_unlock(&open->lock);
    return &open->last_copy;
}

EVP_PKEY *fake_key(const struct fake *fake, const char *name)
{
    struct fake_key *key = fake_keys_find(((struct fake *)fake)->keys, bytes_of_text(name));
    must(key != NULL, name);
    return key->key;
}

X509 *fake_certificate(const struct fake *fake, const char *name)
{
    struct fake_key *key = fake_keys_find(((struct fake *)fake)->keys, bytes_of_text(name));
    must(key != NULL, name);
    return key->certificate;
}
