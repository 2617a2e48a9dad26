// SPDX-License-Identifier: Apache-2.0
#include "hsmd/custody/custody_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/log.h"

#define STRANGER "(stranger)" // in refusals: no name of an officer
#define BODY_MAX (MESSAGE_REPLY_MAX - 1024)
#define SUMMARY_MAX 4096

static int64_t wall_clock(void)
{
    return (int64_t)time(NULL);
}

enum err custody_new(const struct custody_conf *conf, struct custody **out, struct detail *detail)
{
    struct registry *registry = NULL;
    struct custody *custody = mem_calloc(1, sizeof *custody);
    if (!custody)
        return err_set(detail, ERR_TEMP, "out of memory");
    custody->conf = *conf;
    custody->now = wall_clock;
    custody->signatures_an_hour = CUSTODY_SIGNATURES_AN_HOUR;
    clock_stamp(custody->started);
    pthread_mutex_init(&custody->store, NULL);
    pthread_mutex_init(&custody->bindings, NULL);
    enum err err = refusals_new(&custody->refusals);
    if (err != ERR_OK)
        err = err_set(detail, err, "out of memory");
    if (err == ERR_OK)
        err = custody_found(custody, detail);
    if (err == ERR_OK)
        err = custody_bind_all(custody, detail);
    if (err == ERR_OK)
        err = custody_make_registry(custody, &registry, detail);
    if (err == ERR_OK)
        live_swap(custody->conf.live, registry);
    if (err != ERR_OK) {
        custody_free(custody);
        return err;
    }
    *out = custody;
    return ERR_OK;
}

void custody_free(struct custody *custody)
{
    if (!custody)
        return;
    attachments_clear(&custody->attachments);
    refusals_free(custody->refusals);
    mem_free(custody->bound);
    pthread_mutex_destroy(&custody->bindings);
    pthread_mutex_destroy(&custody->store);
    mem_free(custody);
}

struct search {
    const char *curve_key;
    struct store_officer *officer;
    bool is_found;
};

static enum err see_officer(void *context, const struct store_officer *officer)
{
    struct search *search = context;
    if (strcmp(officer->curve_key, search->curve_key) == 0) {
        *search->officer = *officer;
        search->is_found = true;
    }
    return ERR_OK;
}

enum err custody_find_officer(struct custody *custody, const char *curve_key,
                              struct store_officer *officer, struct detail *detail)
{
    struct search search = {.curve_key = curve_key, .officer = officer};
    enum err err = store_each_officer(custody->conf.store, NULL, see_officer, &search, detail);
    if (err == ERR_OK && !search.is_found)
        err = err_set(detail, ERR_DENIED, "the key of this connection, %s, is no officer's",
                      curve_key);
    return err;
}

static enum err find_officer(struct custody *custody, const char *curve_key,
                             struct store_officer *officer, struct detail *detail)
{
    pthread_mutex_lock(&custody->store);
    enum err err = custody_find_officer(custody, curve_key, officer, detail);
    pthread_mutex_unlock(&custody->store);
    return err;
}

unsigned custody_act_workers(const struct config *config)
{
    // One act in a token, a lock of each, and one that is free.
    return 2 + (unsigned)config->token_count;
}

unsigned custody_lane(struct custody *custody, const char *peer, struct bytes frame)
{
    struct message_request request = {0};
    (void)custody;
    if (!peer || message_decode_request(frame, &request, NULL) != ERR_OK)
        return 0;
    if (request.operation != MESSAGE_READ)
        return 1;
    return request.read.what == READ_OBJECTS ? 2 : 0;
}

enum err custody_tell(struct custody *custody, enum audit_event event, const char *officer,
                      uint64_t number, struct bytes encoding, const char *result,
                      const char *reason, struct detail *detail)
{
    struct act act = {0};
    struct buf what;
    uint8_t hash[HASH_SIZE_MAX], registry[STORE_DIGEST_SIZE];
    struct audit_record record = {
        .event = event, .officer = officer, .proposal = number, .result = result, .reason = reason};
    char token[TEXT_NAME_MAX + 1] = "";
    buf_init(&what, SUMMARY_MAX);
    bool is_readable = act_decode(encoding, &act, NULL) == ERR_OK; // not if the store was changed
    enum err err = is_readable ? act_summary(&act, &what) : ERR_OK;
    if (err == ERR_OK)
        err = hash_digest(HASH_SHA256, encoding, hash);
    if (err != ERR_OK)
        err = err_set(detail, err, "out of memory");
    if (err == ERR_OK && (event == AUDIT_ACT || event == AUDIT_LOCK || event == AUDIT_UNLOCK)) {
        err = store_digest(custody->conf.store, registry, detail);
        record.registry = bytes_of(registry, sizeof registry);
    }
    if (err == ERR_OK) {
        record.act = is_readable ? act_kind_name(act.kind) : NULL;
        record.what = buf_text(&what);
        record.act_sha256 = bytes_of(hash, hash_size(HASH_SHA256));
        if (act.kind == ACT_UNLOCK || act.kind == ACT_LOCK) {
            snprintf(token, sizeof token, "%.*s", (int)act.name.len, (const char *)act.name.data);
            record.token = token;
        }
        err = audit_write(custody->conf.audit, &record, detail);
    }
    buf_clear(&what);
    return err;
}

// Of strangers and of officers alike only so many a minute are written down.
static void tell_refusal(struct custody *custody, const char *officer, uint64_t id, enum err err,
                         const char *reason)
{
    const struct audit_record record = {.event = AUDIT_OFFICER_REFUSED,
                                        .officer = officer,
                                        .has_id = id != 0,
                                        .id = id,
                                        .result = err_name(err),
                                        .reason = reason};
    if (!refusals_admit(custody->refusals, officer ? officer : STRANGER, clock_ms()))
        return;
    log_warning("officer-refused", "officer", officer, "err", reason);
    (void)audit_write(custody->conf.audit, &record, NULL); // nothing was done; logs itself
}

// Who is turned away at the door is written down too.
bool custody_is_allowed(struct custody *custody, const char *public_key)
{
    struct store_officer officer;
    struct detail detail = {0};
    enum err err = find_officer(custody, public_key, &officer, &detail);
    if (err == ERR_DENIED)
        tell_refusal(custody, NULL, 0, err, detail.text);
    return err == ERR_OK;
}

static enum err dispatch(struct call *call)
{
    switch (call->request.operation) {
    case MESSAGE_READ:
        return custody_read(call);
    case MESSAGE_PROPOSE:
        return custody_propose(call);
    case MESSAGE_APPROVE:
        return custody_give_verdict(call, true);
    case MESSAGE_REJECT:
        return custody_give_verdict(call, false);
    }
    return err_set(&call->detail, ERR_PERM, "no such operation");
}

static enum err handle(struct call *call, struct bytes frame)
{
    enum err err = message_decode_request(frame, &call->request, &call->detail);
    bool is_read = err == ERR_OK && call->request.operation == MESSAGE_READ;
    if (err == ERR_OK)
        err = dispatch(call);
    if (err != ERR_OK && !is_read && !call->is_carried)
        tell_refusal(call->custody, call->officer.name, call->request.id, err, call->detail.text);
    return err;
}

bool custody_handle(struct custody *custody, const char *peer, struct bytes frame,
                    deadline_t deadline, struct buf *reply)
{
    struct call call = {.custody = custody, .peer = peer, .deadline = deadline};
    enum err err = peer ? find_officer(custody, peer, &call.officer, &call.detail)
                        : err_set(&call.detail, ERR_DENIED, "nobody knows whose connection it is");
    if (err == ERR_DENIED) {
        tell_refusal(custody, NULL, 0, err, call.detail.text);
        return false;
    }
    buf_init(&call.body, BODY_MAX);
    if (err == ERR_OK)
        err = handle(&call, frame);
    if (err != ERR_OK && !call.detail.text[0])
        (void)err_set(&call.detail, err, "out of memory");
    struct message_reply answer = {.class = err,
                                   .id = call.request.id,
                                   .detail = bytes_of_text(err == ERR_OK ? "" : call.detail.text),
                                   .body = err == ERR_OK || call.is_carried ? buf_bytes(&call.body)
                                                                            : (struct bytes){0}};
    if (message_encode_reply(&answer, reply) != ERR_OK)
        custody_refuse(frame, ERR_TEMP, "the answer does not fit, or memory is short", reply);
    buf_clear(&call.body);
    return true;
}

void custody_refuse(struct bytes frame, enum err class, const char *why, struct buf *reply)
{
    struct message_request request = {0};
    (void)message_decode_request(frame, &request, NULL); // the id, if it has one
    const struct message_reply answer = {
        .class = class, .id = request.id, .detail = bytes_of_text(why)};
    buf_reset(reply);
    (void)message_encode_reply(&answer, reply); // none, if memory is short
}

void custody_tell_refusals(struct custody *custody, deadline_t now)
{
    char name[TEXT_NAME_MAX + 1];
    char reason[80];
    uint64_t count = 0;
    while (refusals_take(custody->refusals, now, name, &count)) {
        bool is_stranger = strcmp(name, STRANGER) == 0;
        snprintf(reason, sizeof reason, "%" PRIu64 " more, not written down one by one", count);
        const struct audit_record record = {.event = AUDIT_OFFICER_REFUSED,
                                            .officer = is_stranger ? NULL : name,
                                            .result = err_name(ERR_DENIED),
                                            .reason = reason};
        if (audit_write(custody->conf.audit, &record, NULL) == ERR_OK)
            continue;
        refusals_put_back(custody->refusals, name, count);
        return;
    }
}

void custody_tick(struct custody *custody)
{
    struct detail detail = {0};
    pthread_mutex_lock(&custody->store);
    enum err err = custody_lapse(custody, &detail);
    if (err == ERR_OK)
        err = custody_pin(custody, &detail);
    pthread_mutex_unlock(&custody->store);
    if (err != ERR_OK)
        log_warning("custody", "state", "cannot look after proposals and keys", "err", detail.text);
    custody_tell_refusals(custody, clock_ms());
}
