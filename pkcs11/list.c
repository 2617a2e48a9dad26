// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/internal.h"

#include <string.h>

#include "hsmd/base/alloc.h"

struct entry {
    struct entry *next;
    struct token_key *key;
    bool is_known;
};

struct job {
    struct entry *first, **last;
};

static void clear(struct job *job)
{
    while (job->first) {
        struct entry *entry = job->first;
        job->first = entry->next;
        token_key_close(entry->key);
        mem_free(entry);
    }
    job->last = &job->first;
}

// A key by its object, whatever else has its label and id.
static enum err read_item(struct token_session *session, CK_OBJECT_HANDLE object,
                          struct entry *entry, struct detail *detail)
{
    struct buf label;
    CK_KEY_TYPE type = CKK_VENDOR_DEFINED;
    buf_init(&label, 4096);
    enum err err = object_bytes(session, object, CKA_LABEL, &label, detail);
    if (!err)
        err = object_ulong(session, object, CKA_KEY_TYPE, &type, detail);
    if (!err)
        err = key_new(session->token, buf_text(&label), 0, &entry->key, detail);
    buf_clear(&label);
    if (!err)
        err = key_read_object(session, object, entry->key, &entry->is_known, detail);
    return err;
}

static enum err list(struct token_session *session, void *arg, struct detail *detail)
{
    static const CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    struct job *job = arg;
    struct template match = {.count = 0};
    CK_ULONG count = 0;
    clear(job); // of a first attempt
    CK_OBJECT_HANDLE *objects = mem_calloc(TOKEN_KEYS_MAX + 1, sizeof *objects);
    if (!objects)
        return err_set(detail, ERR_TEMP, "out of memory");
    template_put(&match, CKA_CLASS, &class, sizeof class);
    template_put_flag(&match, CKA_TOKEN, true);
    enum err err =
        object_find(session, match.items, match.count, objects, TOKEN_KEYS_MAX + 1, &count, detail);
    if (!err && count == 0)
        err = object_check_login(session, detail);
    if (!err && count > TOKEN_KEYS_MAX)
        err = err_set(detail, ERR_PERM, "token %s: more than %d keys", session->token->name,
                      TOKEN_KEYS_MAX);
    for (CK_ULONG i = 0; i < count && !err; i++) {
        struct entry *entry = mem_calloc(1, sizeof *entry);
        if (!entry) {
            err = err_set(detail, ERR_TEMP, "out of memory");
            break;
        }
        *job->last = entry;
        job->last = &entry->next;
        err = read_item(session, objects[i], entry, detail);
    }
    mem_free(objects);
    return err;
}

enum err token_key_list(struct token *token, deadline_t deadline, token_key_see_fn see, void *arg,
                        struct detail *detail)
{
    struct job job = {.last = &job.first};
    enum err err = admin_run(token, deadline, list, &job, detail);
    for (struct entry *entry = job.first; entry && !err; entry = entry->next) {
        const struct token_key *key = entry->key;
        const struct token_key_item item = {.label = key->label,
                                            .id = bytes_of(key->id, key->id_len),
                                            .is_known_type = entry->is_known,
                                            .info = key->info};
        see(&item, arg);
    }
    clear(&job);
    return err;
}
