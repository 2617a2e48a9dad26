// SPDX-License-Identifier: Apache-2.0
#include "hsmd/audit/audit_checkpoint.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "hsmd/audit/audit_line.h"
#include "hsmd/base/alloc.h"
#include "hsmd/base/hash.h"
#include "hsmd/base/log.h"

#define SIGN_MS 10000 // for a session and the signature
#define SIGNED_MAX 256
#define RSA_BITS_MIN 2048
// Lines that may be written between the look at the end of the chain and the checkpoint itself.
#define SLACK 2048

struct checkpointer {
    struct checkpointer_conf conf;
    enum token_scheme scheme;
    struct audit_checkpoint made; // the newest
    uint64_t seq;                 // at most its line's number
    uint8_t signature[TOKEN_SIGNATURE_MAX];
    pthread_t thread;
    atomic_bool is_stopping;
    bool is_failing;
};

enum err checkpoint_key_id(struct bytes public_key, uint8_t id[AUDIT_HASH_SIZE])
{
    return hash_digest(HASH_SHA256, public_key, id);
}

static enum err sign(struct checkpointer *checkpointer, const char *stamp,
                     struct audit_checkpoint *checkpoint, struct detail *detail)
{
    const struct checkpointer_conf *conf = &checkpointer->conf;
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
    err = conf->keystore->sign(conf->key, KEYSTORE_ANY, checkpointer->scheme, HASH_SHA256, 0,
                               bytes_of(digest, hash_size(HASH_SHA256)), deadline_in(limit),
                               checkpointer->signature, &len, detail);
    checkpoint->signature = bytes_of(checkpointer->signature, len);
    return err;
}

// Signs the chain up to head and writes that down.
static enum err make(struct checkpointer *checkpointer, const struct audit_link *head,
                     struct detail *detail)
{
    char stamp[CLOCK_STAMP_SIZE];
    struct audit_checkpoint checkpoint = checkpointer->made;
    checkpoint.covered = *head;
    clock_stamp(stamp);
    enum err err = sign(checkpointer, stamp, &checkpoint, detail);
    if (err != ERR_OK)
        return err;
    if (audit_head(checkpointer->conf.audit).seq - head->seq > AUDIT_COVER_MAX - SLACK)
        return err_set(detail, ERR_TEMP, "the log grew too much while the token signed");
    const struct audit_record record = {
        .event = AUDIT_CHECKPOINT,
        .algorithm = checkpointer->scheme == TOKEN_ECDSA ? "ecdsa" : "rsa-pkcs1",
        .hash = hash_name(HASH_SHA256),
        .checkpoint = &checkpoint,
        .stamp = stamp,
    };
    err = audit_write(checkpointer->conf.audit, &record, detail);
    if (err != ERR_OK)
        return err;
    checkpointer->made = checkpoint;
    checkpointer->seq = head->seq + 1;
    return ERR_OK;
}

static void tell(struct checkpointer *checkpointer, enum err err, const struct detail *detail)
{
    if ((err != ERR_OK) == checkpointer->is_failing)
        return;
    checkpointer->is_failing = err != ERR_OK;
    if (checkpointer->is_failing)
        log_error("audit", "state", "no checkpoints: the log goes on unsigned", "err",
                  detail->text);
    else
        log_notice("audit", "state", "checkpoints are made again");
}

static void *keep_signed(void *argument)
{
    struct checkpointer *checkpointer = argument;
    const struct checkpointer_conf *conf = &checkpointer->conf;
    deadline_t due = 0;
    for (bool is_last = false; !is_last;) {
        uint64_t enough = checkpointer->seq + conf->lines;
        struct audit_link head =
            audit_wait(conf->audit, checkpointer->is_failing ? UINT64_MAX : enough, due);
        is_last = atomic_load(&checkpointer->is_stopping);
        due = deadline_in(conf->seconds * 1000);
        if (head.seq <= checkpointer->seq)
            continue; // nothing but the last checkpoint itself
        struct detail detail = {0};
        enum err err = make(checkpointer, &head, &detail);
        if (err != ERR_OK)
            due = deadline_in(CHECKPOINT_RETRY_MS);
        tell(checkpointer, err, &detail);
    }
    return NULL;
}

static enum err check_key(const struct token_key_info *info, struct detail *detail)
{
    if (!info->can_sign)
        return err_set(detail, ERR_PERM, "audit key: CKA_SIGN is false");
    if (info->type == TOKEN_KEY_RSA &&
        (info->bits < RSA_BITS_MIN || info->bits > 8 * AUDIT_SIGNATURE_MAX))
        return err_set(detail, ERR_PERM, "audit key: RSA of %u bits, not of %d to %d", info->bits,
                       RSA_BITS_MIN, 8 * AUDIT_SIGNATURE_MAX);
    return ERR_OK;
}

enum err checkpointer_open(const struct checkpointer_conf *conf, struct checkpointer **out,
                           struct detail *detail)
{
    sigset_t all;
    sigset_t before;
    const struct token_key_info *info = conf->keystore->describe(conf->key);
    enum err err = check_key(info, detail);
    if (err != ERR_OK)
        return err;
    struct checkpointer *checkpointer = mem_calloc(1, sizeof *checkpointer);
    if (!checkpointer)
        return err_set(detail, ERR_TEMP, "out of memory");
    checkpointer->conf = *conf;
    checkpointer->scheme = info->type == TOKEN_KEY_RSA ? TOKEN_RSA_PKCS1 : TOKEN_ECDSA;
    err = checkpoint_key_id(info->public_key, checkpointer->made.key_id);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (err == ERR_OK &&
        pthread_create(&checkpointer->thread, NULL, keep_signed, checkpointer) != 0)
        err = ERR_TEMP;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err != ERR_OK) {
        mem_free(checkpointer);
        return err_set(detail, err, "audit key: cannot start");
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
    mem_free(checkpointer);
    return ERR_OK;
}
