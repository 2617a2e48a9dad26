// SPDX-License-Identifier: Apache-2.0
#include "hsmd/audit/audit_checkpoint.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "hsmd/audit/audit_line.h"
#include "hsmd/base/alloc.h"
#include "hsmd/base/hash.h"
#include "hsmd/base/log.h"
#include "hsmd/base/thread.h"

#define SIGN_MS 10000 // for a session and the signature
#define SIGNED_MAX 256
#define RSA_BITS_MIN 2048
// Lines that may be written between the look at the end of the chain and the checkpoint itself.
#define SLACK 2048

struct checkpointer {
    struct checkpointer_conf conf;
    struct audit_checkpoint made; // the newest; key_id of zeros: none yet
    uint64_t seq;                 // at most its line's number
    uint8_t signature[TOKEN_SIGNATURE_MAX];
    pthread_t thread;
    atomic_bool is_stopping;
    pthread_mutex_t lock; // for what follows; never held in the token
    uint64_t covered;     // by the newest
    deadline_t when;      // the newest was made
    bool is_failing;
};

enum err checkpoint_key_id(struct bytes public_key, uint8_t id[AUDIT_HASH_SIZE])
{
    return hash_digest(HASH_SHA256, public_key, id);
}

static enum token_scheme scheme_of(const struct token_key_info *info)
{
    return info->type == TOKEN_KEY_RSA ? TOKEN_RSA_PKCS1 : TOKEN_ECDSA;
}

static enum err check_key(const struct token_key_info *info, struct detail *detail)
{
    if (!info->public_key.len)
        return err_set(detail, ERR_TEMP, "its token has not been seen yet");
    if (!info->can_sign)
        return err_set(detail, ERR_PERM, "CKA_SIGN is false");
    if (info->type == TOKEN_KEY_ED25519)
        return err_set(detail, ERR_PERM, "it is an Ed25519 key, and checkpoints are not for such");
    if (info->type == TOKEN_KEY_RSA &&
        (info->bits < RSA_BITS_MIN || info->bits > 8 * AUDIT_SIGNATURE_MAX))
        return err_set(detail, ERR_PERM, "RSA of %u bits, not of %d to %d", info->bits,
                       RSA_BITS_MIN, 8 * AUDIT_SIGNATURE_MAX);
    return ERR_OK;
}

static enum err sign(struct checkpointer *checkpointer, struct keystore_key *key,
                     enum token_scheme scheme, const char *stamp,
                     struct audit_checkpoint *checkpoint, struct detail *detail)
{
    unsigned limit = atomic_load(&checkpointer->is_stopping) ? CHECKPOINT_STOP_MS : SIGN_MS;
    uint8_t digest[HASH_SIZE_MAX];
    struct buf text;
    size_t len = 0;
    buf_init(&text, SIGNED_MAX);
    enum err err = audit_line_signed(&checkpoint->covered, stamp, &text);
    if (err == ERR_OK)
        err = hash_digest(HASH_SHA256, buf_bytes(&text), digest);
    buf_clear(&text);
    if (err != ERR_OK)
        return err_set(detail, err, "cannot hash");
    err = checkpointer->conf.keystore->sign(
        key, KEYSTORE_ANY, scheme, HASH_SHA256, 0, bytes_of(digest, hash_size(HASH_SHA256)),
        deadline_in(limit), checkpointer->signature, &len, detail);
    checkpoint->signature = bytes_of(checkpointer->signature, len);
    return err;
}

static void note_made(struct checkpointer *checkpointer, const struct registry_key *key,
                      const struct audit_checkpoint *checkpoint)
{
    static const uint8_t none[AUDIT_HASH_SIZE];
    const uint8_t *former = checkpointer->made.key_id;
    if (memcmp(former, none, sizeof none) != 0 &&
        memcmp(former, checkpoint->key_id, sizeof none) != 0)
        log_notice("audit", "state", "checkpoints are signed with another key", "key", key->name);
    checkpointer->made = *checkpoint;
    checkpointer->seq = checkpoint->covered.seq + 1;
    pthread_mutex_lock(&checkpointer->lock);
    checkpointer->covered = checkpoint->covered.seq;
    checkpointer->when = clock_ms();
    pthread_mutex_unlock(&checkpointer->lock);
}

// Signs the chain up to head and writes that down.
static enum err make_with(struct checkpointer *checkpointer, const struct registry_key *key,
                          const struct audit_link *head, struct detail *detail)
{
    char stamp[CLOCK_STAMP_SIZE];
    struct audit_checkpoint checkpoint = {.covered = *head};
    const struct token_key_info *info = checkpointer->conf.keystore->describe(key->store);
    enum err err = check_key(info, detail);
    if (err != ERR_OK)
        return err;
    enum token_scheme scheme = scheme_of(info);
    if (checkpoint_key_id(info->public_key, checkpoint.key_id) != ERR_OK)
        return err_set(detail, ERR_TEMP, "cannot hash");
    clock_stamp(stamp);
    err = sign(checkpointer, key->store, scheme, stamp, &checkpoint, detail);
    if (err != ERR_OK)
        return err;
    if (audit_head(checkpointer->conf.audit).seq - head->seq > AUDIT_COVER_MAX - SLACK)
        return err_set(detail, ERR_TEMP, "the log grew too much while the token signed");
    const struct audit_record record = {
        .event = AUDIT_CHECKPOINT,
        .algorithm = scheme == TOKEN_ECDSA ? "ecdsa" : "rsa-pkcs1",
        .hash = hash_name(HASH_SHA256),
        .checkpoint = &checkpoint,
        .stamp = stamp,
    };
    err = audit_write(checkpointer->conf.audit, &record, detail);
    if (err == ERR_OK)
        note_made(checkpointer, key, &checkpoint);
    return err;
}

static enum err make(struct checkpointer *checkpointer, const struct audit_link *head,
                     struct detail *detail)
{
    struct live *live = checkpointer->conf.live;
    const struct registry *registry = live_take(live);
    const struct registry_key *key = registry_audit_key(registry);
    enum err err;
    if (!key)
        err = err_set(detail, ERR_TEMP, "there is no enabled key of purpose audit");
    else if (!key->store)
        err = err_set(detail, ERR_TEMP, "key %s: it is not in its token", key->name);
    else
        err = make_with(checkpointer, key, head, detail);
    if (err != ERR_OK && key && key->store)
        err = err_prefix(detail, err, "key %s", key->name);
    live_give(live, registry);
    return err;
}

static void tell(struct checkpointer *checkpointer, enum err err, const struct detail *detail)
{
    bool is_failing = err != ERR_OK;
    pthread_mutex_lock(&checkpointer->lock);
    bool is_change = checkpointer->is_failing != is_failing;
    checkpointer->is_failing = is_failing;
    pthread_mutex_unlock(&checkpointer->lock);
    if (is_change && is_failing)
        log_error("audit", "state", "no checkpoints: the log goes on unsigned", "err",
                  detail->text);
    else if (is_change)
        log_notice("audit", "state", "checkpoints are made again");
}

void checkpointer_get_status(struct checkpointer *checkpointer, struct checkpointer_status *status)
{
    const struct registry *registry = live_take(checkpointer->conf.live);
    const struct registry_key *key = registry_audit_key(registry);
    *status = (struct checkpointer_status){0};
    if (key)
        memcpy(status->key, key->name, sizeof status->key);
    live_give(checkpointer->conf.live, registry);
    uint64_t head = audit_head(checkpointer->conf.audit).seq;
    pthread_mutex_lock(&checkpointer->lock);
    status->is_failing = checkpointer->is_failing;
    status->seq = checkpointer->covered;
    if (checkpointer->covered) {
        status->age_ms = clock_ms() - checkpointer->when;
        head--; // the checkpoint itself
    }
    pthread_mutex_unlock(&checkpointer->lock);
    status->uncovered = head > status->seq ? head - status->seq : 0;
}

static void *keep_signed(void *argument)
{
    struct checkpointer *checkpointer = argument;
    const struct checkpointer_conf *conf = &checkpointer->conf;
    deadline_t due = 0;
    bool is_failing = false;
    for (bool is_last = false; !is_last;) {
        uint64_t enough = is_failing ? UINT64_MAX : checkpointer->seq + conf->lines;
        struct audit_link head = audit_wait(conf->audit, enough, due);
        is_last = atomic_load(&checkpointer->is_stopping);
        due = deadline_in(conf->seconds * 1000);
        if (head.seq <= checkpointer->seq)
            continue; // nothing but the last checkpoint itself
        struct detail detail = {0};
        enum err err = make(checkpointer, &head, &detail);
        is_failing = err != ERR_OK;
        if (is_failing)
            due = deadline_in(CHECKPOINT_RETRY_MS);
        tell(checkpointer, err, &detail);
    }
    return NULL;
}

enum err checkpointer_open(const struct checkpointer_conf *conf, struct checkpointer **out,
                           struct detail *detail)
{
    struct checkpointer *checkpointer = mem_calloc(1, sizeof *checkpointer);
    if (!checkpointer)
        return err_set(detail, ERR_TEMP, "out of memory");
    checkpointer->conf = *conf;
    pthread_mutex_init(&checkpointer->lock, NULL);
    if (!thread_start(&checkpointer->thread, keep_signed, checkpointer)) {
        pthread_mutex_destroy(&checkpointer->lock);
        mem_free(checkpointer);
        return err_set(detail, ERR_TEMP, "checkpoints: cannot start a thread");
    }
    *out = checkpointer;
    return ERR_OK;
}

enum err checkpointer_close(struct checkpointer *checkpointer, struct detail *detail)
{
    struct timespec limit;
    if (!checkpointer)
        return ERR_OK;
    atomic_store(&checkpointer->is_stopping, true);
    audit_wake(checkpointer->conf.audit);
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 2 * CHECKPOINT_STOP_MS / 1000;
    if (pthread_timedjoin_np(checkpointer->thread, NULL, &limit) != 0)
        return err_set(detail, ERR_TEMP, "the checkpoint at the stop is stuck in the token");
    pthread_mutex_destroy(&checkpointer->lock);
    mem_free(checkpointer);
    return ERR_OK;
}
