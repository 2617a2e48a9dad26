// SPDX-License-Identifier: Apache-2.0
#include "hsmd/core.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "hsmd/attributes.h"
#include "hsmd/base/log.h"
#include "hsmd/base/text.h"
#include "hsmd/core_call.h"
#include "hsmd/core_check.h"
#include "hsmd/kdf.h"
#include "hsmd/key_type.h"

#define STRANGER "(stranger)" // in refusals: no name of a client

enum err core_worker_init(struct core_worker *worker, struct detail *detail)
{
    *worker = (struct core_worker){.token = KEYSTORE_ANY};
    enum err err = secret_init(&worker->secret, WIRE_SECRET_MAX, detail);
    if (err == ERR_OK)
        err = secret_init(&worker->z, WIRE_SECRET_MAX, detail);
    if (err != ERR_OK)
        core_worker_clear(worker);
    return err;
}

void core_worker_clear(struct core_worker *worker)
{
    secret_clear(&worker->secret);
    secret_clear(&worker->z);
}

// The key by name, if the client has a grant for what it asks. That there is no such key is told
// to nobody who has no business with it.
static enum err find_key(struct core_call *call, struct bytes name, enum wire_algorithm algorithm)
{
    const struct registry *registry = call->registry;
    call->record.key = name;
    call->record.algorithm = wire_algorithm_name(algorithm);
    const struct registry_key *key = registry_key_by_name(registry, name);
    if (!key)
        return err_set(&call->detail, ERR_DENIED, "no such key");
    enum err err =
        registry_authorise(registry, call->client, key, call->request.operation, algorithm);
    if (err != ERR_OK)
        return err_set(&call->detail, err, "no grant");
    if (!key->store || !call->core->keystore->describe(key->store)->public_key.len)
        return err_set(&call->detail, ERR_TEMP, "the key has not been seen in its token");
    call->key = key;
    return ERR_OK;
}

static const struct token_key_info *key_info(const struct core_call *call)
{
    return call->core->keystore->describe(call->key->store);
}

// A message is known in the log by its SHA-512, as attributes are that are signed with Ed25519.
static enum err message_to_sign(struct core_call *call, struct bytes message, struct bytes *input)
{
    enum err err = hash_digest(HASH_SHA512, message, call->hashed);
    if (err != ERR_OK)
        return err_set(&call->detail, err, "cannot hash");
    call->record.hash = hash_name(HASH_SHA512);
    call->record.message_digest = bytes_of(call->hashed, hash_size(HASH_SHA512));
    *input = message;
    return ERR_OK;
}

// What goes into the signature: the message or digest given, or the digest of the attributes, once
// they are seen to be attributes. Ed25519 takes the attributes as they are.
static enum err input_to_sign(struct core_call *call, const struct wire_sign *request,
                              uint8_t *room, struct bytes *input)
{
    if (request->form == WIRE_MESSAGE)
        return message_to_sign(call, request->data, input);
    if (request->form == WIRE_DIGEST) {
        *input = request->data;
        call->record.message_digest = request->data;
        return ERR_OK;
    }
    struct attributes attributes;
    enum err err =
        attributes_parse(request->data, request->hash, time(NULL), &attributes, &call->detail);
    if (err != ERR_OK)
        return err;
    call->record.message_digest = attributes.message_digest;
    *input = request->data;
    if (request->algorithm == WIRE_EDDSA)
        return ERR_OK;
    err = hash_digest(request->hash, request->data, room);
    if (err != ERR_OK)
        return err_set(&call->detail, err, "cannot hash");
    *input = bytes_of(room, hash_size(request->hash));
    return ERR_OK;
}

static enum err handle_sign(struct core_call *call)
{
    const struct wire_sign *request = &call->request.sign;
    uint8_t hashed[HASH_SIZE_MAX];
    struct bytes input = {0};
    size_t len = 0;
    bool is_pure = request->algorithm == WIRE_EDDSA; // the token is given no digest
    call->record.hash = hash_name(request->hash);
    enum err err = find_key(call, request->key, request->algorithm);
    if (err == ERR_OK)
        err = core_check_sign(call->key, key_info(call), request, &call->detail);
    if (err == ERR_OK)
        err = input_to_sign(call, request, hashed, &input);
    if (err == ERR_OK)
        err = core_call_begin_use(call, request->algorithm);
    if (err != ERR_OK)
        return err;
    err = call->core->keystore->sign(call->key->store, call->worker->token,
                                     core_scheme(request->algorithm),
                                     is_pure ? HASH_NONE : request->hash, request->salt, input,
                                     call->deadline, call->worker->signature, &len, &call->detail);
    core_call_end_use(call, err);
    call->reply.signature = bytes_of(call->worker->signature, len);
    return err;
}

static enum err handle_unwrap(struct core_call *call)
{
    const struct wire_unwrap *request = &call->request.unwrap;
    const struct token_padding padding = {.oaep = request->algorithm == WIRE_RSAES_OAEP,
                                          .hash = request->hash,
                                          .mgf_hash = request->mgf_hash,
                                          .label = request->label,
                                          .length = request->length};
    enum err err = find_key(call, request->key, request->algorithm);
    if (err == ERR_OK)
        err = core_check_unwrap(call->key, key_info(call), request, &call->detail);
    if (err == ERR_OK && hash_digest(HASH_SHA256, request->ciphertext, call->hashed) != ERR_OK)
        err = err_set(&call->detail, ERR_TEMP, "cannot hash");
    if (err != ERR_OK)
        return err;
    call->record.ciphertext = bytes_of(call->hashed, hash_size(HASH_SHA256));
    err = core_call_begin_use(call, request->algorithm);
    if (err != ERR_OK)
        return err;
    err = call->core->keystore->unwrap(call->key->store, call->worker->token, &padding,
                                       request->ciphertext, call->deadline, &call->worker->secret,
                                       &call->detail);
    core_call_end_use(call, err);
    // As long for bad padding as for good, and for a short secret as for a long one.
    call->reply.unwrapped = (struct wire_unwrapped){
        .secret = bytes_of(call->worker->secret.data, call->worker->secret.len),
        .size = request->ciphertext.len,
    };
    return err;
}

static enum err handle_agree(struct core_call *call)
{
    const struct wire_agree *request = &call->request.agree;
    struct core_worker *worker = call->worker;
    call->record.hash = hash_name(request->hash);
    enum err err = find_key(call, request->key, request->algorithm);
    if (err == ERR_OK)
        err = core_check_agree(call->key, key_info(call), request, &call->detail);
    if (err == ERR_OK)
        err = core_call_begin_use(call, request->algorithm);
    if (err != ERR_OK)
        return err;
    err = call->core->keystore->agree(call->key->store, call->worker->token, request->peer,
                                      request->cofactor, call->deadline, &worker->z, &call->detail);
    core_call_end_use(call, err);
    if (err == ERR_OK) {
        err = kdf_x963(request->hash, bytes_of(worker->z.data, worker->z.len), request->info,
                       request->length, &worker->secret);
        if (err != ERR_OK)
            err = err_set(&call->detail, err, "key derivation");
    }
    secret_wipe(&worker->z);
    call->reply.secret = bytes_of(worker->secret.data, worker->secret.len);
    return err;
}

static enum err handle_list(struct core_call *call)
{
    call->reply.list.count = registry_list(call->registry, call->client, call->request.list.after,
                                           call->reply.list.names, WIRE_LIST_MAX);
    return ERR_OK;
}

static enum err handle_describe(struct core_call *call)
{
    enum err err = find_key(call, call->request.describe.key, (enum wire_algorithm)0);
    if (err != ERR_OK)
        return err;
    const struct token_key_info *info = key_info(call);
    call->reply.description = (struct wire_description){
        .name = bytes_of_text(call->key->name),
        .type = key_type_to_wire(info->type),
        .purpose = call->key->purpose,
        .state = call->key->state,
        .bits = info->bits,
        .public_key = info->public_key,
        .certificates = call->key->certificates,
    };
    return ERR_OK;
}

static enum err dispatch(struct core_call *call)
{
    switch (call->request.operation) {
    case WIRE_SIGN:
        return handle_sign(call);
    case WIRE_UNWRAP:
        return handle_unwrap(call);
    case WIRE_AGREE:
        return handle_agree(call);
    case WIRE_LIST:
        return handle_list(call);
    case WIRE_DESCRIBE:
        return handle_describe(call);
    }
    return err_set(&call->detail, ERR_BUG, "operation %d without a handler",
                   (int)call->request.operation);
}

// Encodes the answer; what cannot be encoded is our bug, and is answered as such.
static void answer(struct core_call *call, enum err class, struct buf *reply)
{
    call->reply.class = class;
    call->reply.id = call->request.id;
    enum err err = wire_encode_reply(call->request.operation, &call->reply, reply);
    if (err == ERR_OK)
        return;
    log_error("reply", "peer", call->client->name, "err", "cannot be encoded");
    buf_wipe(reply);
    call->reply =
        (struct wire_reply){.class = err == ERR_TEMP ? ERR_TEMP : ERR_BUG, .id = call->request.id};
    (void)wire_encode_reply(call->request.operation, &call->reply,
                            reply); // or the client times out
}

void core_tell_refusals(const struct core *core, deadline_t now)
{
    char client[TEXT_NAME_MAX + 1];
    char reason[100];
    uint64_t count;
    struct detail detail;
    while (refusals_take(core->refusals, now, client, &count)) {
        snprintf(reason, sizeof reason, "%" PRIu64 " more refusals, not written one by one", count);
        const struct audit_record record = {.event = AUDIT_REFUSE,
                                            .client = strcmp(client, STRANGER) == 0 ? NULL : client,
                                            .result = err_name(ERR_DENIED),
                                            .reason = reason};
        log_warning("request", "peer", client, "err", reason);
        if (audit_write(core->audit, &record, &detail) != ERR_OK) {
            refusals_put_back(core->refusals, client, count);
            return;
        }
    }
}

// Which key a request is for; no name if it is for none.
static struct bytes key_of(const struct wire_request *request, enum wire_algorithm *algorithm)
{
    *algorithm = (enum wire_algorithm)0;
    switch (request->operation) {
    case WIRE_SIGN:
        *algorithm = request->sign.algorithm;
        return request->sign.key;
    case WIRE_UNWRAP:
        *algorithm = request->unwrap.algorithm;
        return request->unwrap.key;
    case WIRE_AGREE:
        *algorithm = request->agree.algorithm;
        return request->agree.key;
    case WIRE_DESCRIBE:
        return request->describe.key;
    case WIRE_LIST:
        break;
    }
    return (struct bytes){NULL, 0};
}

static unsigned lane_of(const struct core *core, const struct registry *registry, const char *peer,
                        struct bytes frame, const unsigned *outstanding)
{
    struct wire_request request;
    enum wire_algorithm algorithm;
    const struct registry_client *client = registry_client_by_public_key(registry, peer);
    if (!client || wire_decode_request(frame, &request, NULL) != ERR_OK ||
        request.operation == WIRE_LIST || request.operation == WIRE_DESCRIBE)
        return 0;
    struct bytes name = key_of(&request, &algorithm);
    const struct registry_key *key = registry_key_by_name(registry, name);
    if (!key || !key->store ||
        registry_authorise(registry, client, key, request.operation, algorithm) != ERR_OK)
        return 0;
    return 1 + core->keystore->pick(key->store, outstanding);
}

unsigned core_lane(const struct core *core, const char *peer, struct bytes frame,
                   const unsigned *outstanding)
{
    const struct registry *registry = live_take(core->live);
    unsigned lane = lane_of(core, registry, peer, frame, outstanding);
    live_give(core->live, registry);
    return lane;
}

bool core_is_client(const struct core *core, const char *public_key)
{
    const struct registry *registry = live_take(core->live);
    bool is_client = registry_client_by_public_key(registry, public_key) != NULL;
    live_give(core->live, registry);
    return is_client;
}

// False: it is only counted.
static bool tell_stranger(const struct core *core, const char *reason)
{
    const struct audit_record record = {
        .event = AUDIT_REFUSE, .result = err_name(ERR_DENIED), .reason = reason};
    if (!refusals_admit(core->refusals, STRANGER, clock_ms()))
        return false;
    (void)audit_write(core->audit, &record, NULL); // nothing was done; logs itself
    return true;
}

void core_tell_stranger(const struct core *core, const char *public_key)
{
    char reason[100];
    snprintf(reason, sizeof reason, "the key of this connection, %s, is no client's", public_key);
    (void)tell_stranger(core, reason);
}

// A request on a connection that was let in: its client has been revoked since.
static void refuse_stranger(const struct core *core, const char *peer)
{
    char reason[100];
    snprintf(reason, sizeof reason, "a request of the key %s, which is no client's any more",
             peer ? peer : "(unknown)");
    metrics_refused(core->metrics, METRICS_UNKNOWN_PEER);
    if (tell_stranger(core, reason))
        log_warning("request", "peer", peer, "err", reason);
}

// A known client's request.
static void serve(struct core_call *call, struct bytes frame, struct buf *reply)
{
    enum err err = wire_decode_request(frame, &call->request, &call->detail);
    bool is_readable = err == ERR_OK;
    if (err == ERR_OK)
        err = dispatch(call);
    err = core_call_write_down(call, err);
    core_call_count(call, is_readable, err);
    if (!call->is_untold)
        core_call_log(call, err);
    answer(call, err, reply);
    secret_wipe(&call->worker->secret);
}

bool core_handle(const struct core *core, struct core_worker *worker, const char *peer,
                 struct bytes frame, deadline_t deadline, struct buf *reply)
{
    struct core_call call = {
        .core = core, .worker = worker, .deadline = deadline, .registry = live_take(core->live)};
    call.client = peer ? registry_client_by_public_key(call.registry, peer) : NULL;
    bool is_known = call.client != NULL;
    if (is_known)
        serve(&call, frame, reply);
    else
        refuse_stranger(core, peer);
    live_give(core->live, call.registry);
    return is_known;
}

void core_refuse(struct bytes frame, enum err class, struct buf *reply)
{
    struct wire_request request = {0};
    if (wire_decode_request(frame, &request, NULL) != ERR_OK)
        class = ERR_PERM;
    struct wire_reply refusal = {.class = class, .id = request.id};
    if (wire_encode_reply(request.operation, &refusal, reply) != ERR_OK)
        buf_reset(reply);
}

void core_log_refusal(const struct core *core, const char *peer, struct bytes frame, enum err class,
                      const char *reason)
{
    enum wire_algorithm algorithm;
    struct core_call call = {.core = core, .registry = live_take(core->live)};
    call.client = registry_client_by_public_key(call.registry, peer);
    if (call.client) {
        // What cannot be decoded leaves the operation at none; its id may be known all the same.
        (void)wire_decode_request(frame, &call.request, NULL);
        call.record.key = key_of(&call.request, &algorithm);
        call.record.algorithm = wire_algorithm_name(algorithm);
        core_call_log(&call, err_set(&call.detail, class, "%s", reason));
    }
    live_give(core->live, call.registry);
}
