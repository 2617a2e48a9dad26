// SPDX-License-Identifier: Apache-2.0
// Keys, the places they are in, and what makes a key good enough to be used.
#include "hsmd/keystore/keystore_internal.h"

#include <errno.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/log.h"
#include "hsmd/key_type.h"

#define SEEK_EVERY_MS 400   // at most, for a key that is not there
#define SEEKER_WAIT_MS 1000 // for one who looks for the same key

enum err keystore_check_key(const struct token_key_info *info, enum wire_purpose purpose,
                            struct detail *detail)
{
    bool is_rsa = info->type == TOKEN_KEY_RSA;
    bool is_ed25519 = info->type == TOKEN_KEY_ED25519;
    if (is_ed25519 && (purpose == WIRE_SMIME_DECRYPT || purpose == WIRE_AUDIT))
        return err_set(detail, ERR_PERM, "an Ed25519 key is not for the purpose %s",
                       wire_purpose_name(purpose));
    if (info->extractable)
        return err_set(detail, ERR_PERM,
                       "attributes: CKA_EXTRACTABLE is true: the key could "
                       "leave its token");
    if (!info->sensitive)
        return err_set(detail, ERR_PERM,
                       "attributes: CKA_SENSITIVE is false: the token would "
                       "show the key");
    bool can_decrypt = is_rsa ? info->can_decrypt : info->can_derive && !is_ed25519;
    if ((purpose == WIRE_SMIME_SIGN || purpose == WIRE_AUDIT) && !info->can_sign)
        return err_set(detail, ERR_PERM, "attributes: CKA_SIGN is false, but the purpose is %s",
                       wire_purpose_name(purpose));
    if (purpose == WIRE_SMIME_DECRYPT && !can_decrypt)
        return err_set(detail, ERR_PERM, "attributes: %s is false, but the purpose is %s",
                       is_rsa ? "CKA_DECRYPT" : "CKA_DERIVE", wire_purpose_name(purpose));
    if (!info->can_sign && !can_decrypt)
        return err_set(detail, ERR_PERM, "attributes: the key can neither sign nor decrypt");
    return ERR_OK;
}

enum err keystore_take_key(struct token *token, const char *label, struct bytes id,
                           enum wire_purpose purpose, deadline_t deadline, struct token_key **key,
                           struct detail *detail)
{
    struct token_key *opened = NULL;
    enum err err = token_key_open_in_time(token, label, id, deadline, &opened, detail);
    if (err != ERR_OK)
        return err;
    const struct token_key_info *info = token_key_describe(opened);
    err = keystore_check_key(info, purpose, detail);
    if (err == ERR_OK && !info->is_pair_proved)
        err = err_set(detail, ERR_PERM,
                      "it cannot be used in a way that proves its public key to be its own");
    if (err != ERR_OK) {
        token_key_close(opened);
        return err;
    }
    *key = opened;
    return ERR_OK;
}

static const struct token_key_info unknown;

// What is known of a key whose token has not shown it yet.
static enum err tell_info(struct keystore_key *key, struct detail *detail)
{
    char curve[32] = "";
    static const char *const curves[][2] = {
        {"prime256v1", "P-256"}, {"secp384r1", "P-384"}, {"secp521r1", "P-521"}};
    enum wire_purpose purpose = atomic_load(&key->purpose);
    struct token_key_info *info = &key->told;
    const uint8_t *der = key->public_key.data;
    EVP_PKEY *pkey = d2i_PUBKEY(NULL, &der, (long)key->public_key.len);
    if (!pkey)
        return err_openssl(detail, ERR_PERM, "key %s: its public key cannot be read", key->name);
    enum token_key_type type = TOKEN_KEY_RSA;
    bool is_known = key_type_of(pkey, &type);
    if (type == TOKEN_KEY_EC)
        (void)EVP_PKEY_get_group_name(pkey, curve, sizeof curve, NULL);
    *info = (struct token_key_info){.type = type,
                                    .bits = (unsigned)EVP_PKEY_get_bits(pkey),
                                    .public_key = key->public_key,
                                    .sensitive = true,
                                    .can_sign = purpose != WIRE_SMIME_DECRYPT};
    EVP_PKEY_free(pkey);
    for (size_t i = 0; i < sizeof curves / sizeof *curves; i++) {
        if (strcmp(curve, curves[i][0]) == 0)
            info->curve = curves[i][1];
    }
    if (!is_known || (type == TOKEN_KEY_EC && !info->curve))
        return err_set(detail, ERR_PERM, "key %s: its %s is none of ours", key->name,
                       is_known ? "curve" : "type");
    bool can_decrypt = purpose == WIRE_SMIME_DECRYPT || purpose == WIRE_GENERAL;
    info->can_decrypt = type == TOKEN_KEY_RSA && can_decrypt;
    info->can_derive = type == TOKEN_KEY_EC && can_decrypt;
    atomic_store(&key->info, info);
    return ERR_OK;
}

static enum err pin_public_key(struct keystore_key *key, struct bytes public_key,
                               struct detail *detail)
{
    uint8_t *copy = mem_calloc(public_key.len, 1);
    if (!copy)
        return err_set(detail, ERR_TEMP, "out of memory");
    memcpy(copy, public_key.data, public_key.len);
    key->public_key = bytes_of(copy, public_key.len);
    return ERR_OK;
}

// Who may use the audit key under another name could sign checkpoints.
static enum err check_audit(const struct keystore_key *key, struct bytes public_key,
                            struct detail *detail)
{
    bool is_audit = atomic_load(&key->purpose) == WIRE_AUDIT;
    for (struct keystore_key *other = atomic_load(&key->keystore->keys); other;
         other = other->next) {
        const struct token_key_info *info = atomic_load(&other->info);
        if (other == key || atomic_load(&other->is_dropped) ||
            (atomic_load(&other->purpose) == WIRE_AUDIT) == is_audit ||
            !bytes_equal(info->public_key, public_key))
            continue;
        return err_set(detail, ERR_PERM, "it is key %s too, and one of both signs the audit log",
                       other->name);
    }
    return ERR_OK;
}

// The key's description outlives its places; one that comes back must be the one that went.
static enum err keep_info(struct keystore_key *key, const struct token_key_info *info,
                          struct detail *detail)
{
    enum err err = check_audit(key, info->public_key, detail);
    if (err != ERR_OK)
        return err;
    pthread_mutex_lock(&key->lock);
    if (!key->public_key.len)
        err = pin_public_key(key, info->public_key, detail);
    else if (!bytes_equal(key->public_key, info->public_key))
        err = err_set(detail, ERR_PERM, "another key has taken its place in the token");
    if (err == ERR_OK && atomic_load(&key->info) != &key->seen) {
        key->seen = *info;
        key->seen.public_key = key->public_key;
        atomic_store(&key->info, &key->seen);
    }
    pthread_mutex_unlock(&key->lock);
    return err;
}

static enum err open_place(struct place *place, deadline_t deadline, struct detail *detail)
{
    struct keystore_key *key = place->owner;
    struct token_key *opened = NULL;
    struct token *token = atomic_load(&place->token->token);
    if (!token)
        return err_set(detail, ERR_TEMP, "token %s: not there", place->token->conf->name);
    enum err err = keystore_take_key(token, place->label, bytes_of(place->id, place->id_len),
                                     atomic_load(&key->purpose), deadline, &opened, detail);
    if (err == ERR_OK)
        err = keep_info(key, token_key_describe(opened), detail);
    if (err != ERR_OK) {
        token_key_close(opened);
        return err_prefix(detail, err, "key %s", key->name);
    }
    token_key_keep(opened);
    atomic_store(&place->key, opened);
    return ERR_OK;
}

// Said once, until it changes.
void keystore_tell_place(struct place *place, enum err err, const struct detail *detail)
{
    const char *token = place->token->conf->name;
    if (err == ERR_OK && atomic_exchange(&place->is_missing, false))
        log_notice("key", "key", place->owner->name, "state", "there again", "token", token);
    else if (err == ERR_PERM && !atomic_exchange(&place->is_missing, true))
        log_error("key", "key", place->owner->name, "state", "not there", "token", token, "err",
                  detail->text);
}

// Another one looks for it. True: it has found it.
static bool wait_for_seeker(struct place *place, deadline_t deadline)
{
    struct keystore_token *token = place->token;
    deadline_t limit = deadline_in(SEEKER_WAIT_MS);
    struct timespec until = deadline_timespec(deadline < limit ? deadline : limit);
    bool in_time = true;
    pthread_mutex_lock(&token->lock);
    while (atomic_load(&place->is_being_sought) && in_time)
        in_time = pthread_cond_timedwait(&token->changed, &token->lock, &until) != ETIMEDOUT;
    pthread_mutex_unlock(&token->lock);
    return atomic_load(&place->key);
}

static void end_seeking(struct place *place)
{
    pthread_mutex_lock(&place->token->lock);
    atomic_store(&place->is_being_sought, false);
    pthread_cond_broadcast(&place->token->changed);
    pthread_mutex_unlock(&place->token->lock);
}

static enum err refuse(const struct place *place, struct detail *detail)
{
    return err_set(detail, ERR_PERM, "key %s: token %s does not have it, or not so",
                   place->owner->name, place->token->conf->name);
}

enum err keystore_seek(struct place *place, bool is_urgent, deadline_t deadline,
                       struct detail *detail)
{
    struct detail reason = {0};
    enum err err = ERR_OK;
    if (!is_urgent && !deadline_is_past(atomic_load(&place->next_look)))
        return refuse(place, detail);
    if (atomic_exchange(&place->is_being_sought, true))
        return wait_for_seeker(place, deadline) ? ERR_OK : refuse(place, detail);
    if (!atomic_load(&place->key)) { // or another one has found it meanwhile
        err = open_place(place, deadline, &reason);
        keystore_tell_place(place, err, &reason);
        if (err != ERR_OK && detail)
            *detail = reason;
        if (err == ERR_PERM)
            atomic_store(&place->next_look, deadline_in(SEEK_EVERY_MS));
    }
    end_seeking(place);
    return err;
}

static bool is_sought(const struct place *place, const struct keystore_token *token)
{
    return place->token == token && !atomic_load(&place->key) && atomic_load(&place->is_current) &&
           !atomic_load(&place->owner->is_dropped);
}

bool keystore_seeks_later(struct keystore_token *token)
{
    for (struct place *place = atomic_load(&token->keystore->places); place; place = place->next) {
        if (is_sought(place, token) && !deadline_is_past(atomic_load(&place->next_look)))
            return true;
    }
    return false;
}

enum err keystore_seek_all(struct keystore_token *token, bool is_urgent, struct detail *detail)
{
    for (struct place *place = atomic_load(&token->keystore->places); place; place = place->next) {
        if (!is_sought(place, token))
            continue;
        if (atomic_load(&token->is_unlocking))
            return ERR_OK; // it is done afterwards
        enum err err = keystore_seek(place, is_urgent, deadline_in(KEY_WAIT_MS), detail);
        if (err == ERR_DENIED)
            keystore_give_up(token, detail);
        if (err == ERR_TEMP || err == ERR_DENIED)
            return err;
    }
    return ERR_OK;
}

static struct keystore_key *find_key(struct keystore *keystore, const char *name,
                                     struct bytes public_key)
{
    for (struct keystore_key *key = atomic_load(&keystore->keys); key; key = key->next) {
        pthread_mutex_lock(&key->lock);
        bool is_same =
            !public_key.len || !key->public_key.len || bytes_equal(public_key, key->public_key);
        pthread_mutex_unlock(&key->lock);
        if (is_same && strcmp(key->name, name) == 0)
            return key;
    }
    return NULL;
}

static void free_key(struct keystore_key *key)
{
    struct place_set *set = atomic_load(&key->places);
    while (set) {
        struct place_set *former = set->former;
        mem_free(set);
        set = former;
    }
    pthread_mutex_destroy(&key->lock);
    mem_free((void *)key->public_key.data);
    mem_free(key->name);
    mem_free(key);
}

static enum err new_key(struct keystore *keystore, const char *name, enum wire_purpose purpose,
                        struct keystore_key **out, struct detail *detail)
{
    struct keystore_key *key = mem_calloc(1, sizeof *key);
    if (!key || !(key->name = mem_strdup(name))) {
        mem_free(key);
        return err_set(detail, ERR_TEMP, "out of memory");
    }
    pthread_mutex_init(&key->lock, NULL);
    key->keystore = keystore;
    atomic_store(&key->purpose, purpose);
    atomic_store(&key->info, &unknown);
    *out = key;
    return ERR_OK;
}

// The place of that kind; a new one is made and put on the list.
static enum err get_place(struct keystore_key *key, const struct keystore_place *from,
                          struct place **out, struct detail *detail)
{
    struct keystore *keystore = key->keystore;
    struct keystore_token *token = keystore_find_token(keystore, from->token, detail);
    if (!token)
        return ERR_PERM;
    if (strlen(from->label) > TOKEN_LABEL_MAX || from->id.len > TOKEN_ID_MAX)
        return err_set(detail, ERR_PERM, "its label or id is too long");
    for (struct place *place = atomic_load(&keystore->places); place; place = place->next) {
        if (place->owner == key && place->token == token && !strcmp(place->label, from->label) &&
            bytes_equal(bytes_of(place->id, place->id_len), from->id)) {
            *out = place;
            return ERR_OK;
        }
    }
    struct place *place = mem_calloc(1, sizeof *place);
    if (!place)
        return err_set(detail, ERR_TEMP, "out of memory");
    place->owner = key;
    place->token = token;
    memcpy(place->label, from->label, strlen(from->label));
    if (from->id.len)
        memcpy(place->id, from->id.data, from->id.len);
    place->id_len = from->id.len;
    place->next = atomic_load(&keystore->places);
    atomic_store(&keystore->places, place);
    *out = place;
    return ERR_OK;
}

static bool is_in_set(const struct place_set *set, const struct place *place)
{
    for (size_t i = 0; set && i < set->count; i++) {
        if (set->places[i] == place)
            return true;
    }
    return false;
}

// The key is in these places from now on. With the keystore's lock held.
static enum err set_places(struct keystore_key *key, const struct keystore_place *places,
                           size_t count, struct detail *detail)
{
    struct place_set *former = atomic_load(&key->places);
    struct place_set *set = mem_calloc(1, sizeof *set + count * sizeof *set->places);
    if (!set)
        return err_set(detail, ERR_TEMP, "out of memory");
    bool is_other = !former || former->count != count;
    for (size_t i = 0; i < count; i++) {
        struct place *place = NULL;
        enum err err = get_place(key, &places[i], &place, detail);
        if (err != ERR_OK) {
            mem_free(set);
            return err;
        }
        is_other = is_other || former->places[i] != place;
        if (!is_in_set(set, place))
            set->places[set->count++] = place;
    }
    for (size_t i = 0; i < set->count; i++)
        atomic_store(&set->places[i]->is_current, true);
    for (size_t i = 0; former && i < former->count; i++)
        atomic_store(&former->places[i]->is_current, is_in_set(set, former->places[i]));
    if (!is_other) {
        mem_free(set);
        return ERR_OK;
    }
    set->former = former;
    atomic_store(&key->places, set);
    return ERR_OK;
}

static enum err add(struct keystore *keystore, const char *name, enum wire_purpose purpose,
                    struct bytes public_key, const struct keystore_place *places, size_t count,
                    struct keystore_key **out, struct detail *detail)
{
    struct keystore_key *key = find_key(keystore, name, public_key);
    bool is_new = !key;
    enum err err = is_new ? new_key(keystore, name, purpose, &key, detail) : ERR_OK;
    if (err != ERR_OK)
        return err;
    atomic_store(&key->purpose, purpose);
    pthread_mutex_lock(&key->lock);
    if (public_key.len && !key->public_key.len) {
        err = pin_public_key(key, public_key, detail);
        if (err == ERR_OK)
            err = tell_info(key, detail);
    }
    pthread_mutex_unlock(&key->lock);
    if (err == ERR_OK)
        err = set_places(key, places, count, detail);
    if (err == ERR_OK) {
        atomic_store(&key->is_dropped, false);
        *out = key;
    }
    if (is_new) { // on failure too, since there may be places of it already
        atomic_store(&key->is_dropped, err != ERR_OK);
        key->next = atomic_load(&keystore->keys);
        atomic_store(&keystore->keys, key);
    }
    return err;
}

// By the watchers, as far as their tokens are well: this thread, which may be the one that starts
// hsmd, must not get into a module that hangs.
static void open_places(const struct keystore_key *key)
{
    const struct place_set *set = atomic_load(&key->places);
    for (size_t i = 0; i < set->count; i++) {
        struct place *place = set->places[i];
        atomic_store(&place->next_look, 0);
        if (!atomic_load(&place->key) && atomic_load(&place->token->mood) == MOOD_WELL)
            keystore_wait_sought(place);
    }
}

enum err keystore_add_key(struct keystore *keystore, const char *name, enum wire_purpose purpose,
                          struct bytes public_key, const struct keystore_place *places,
                          size_t count, struct keystore_key **key, struct detail *detail)
{
    struct keystore_key *added = NULL;
    if (!count || count > PLACES_MAX)
        return err_set(detail, ERR_PERM, "key %s: it is in %s", name,
                       count ? "too many tokens" : "no token");
    pthread_mutex_lock(&keystore->lock);
    enum err err = add(keystore, name, purpose, public_key, places, count, &added, detail);
    pthread_mutex_unlock(&keystore->lock);
    if (err != ERR_OK)
        return err_prefix(detail, err, "key %s", name);
    open_places(added);
    *key = added;
    return ERR_OK;
}

void keystore_drop_key(struct keystore *keystore, struct keystore_key *key)
{
    (void)keystore; // it is in the key, and in what the caller has to know it by
    if (key)
        atomic_store(&key->is_dropped, true);
}

void keystore_free_keys(struct keystore *keystore)
{
    struct place *place = atomic_load(&keystore->places);
    struct keystore_key *key = atomic_load(&keystore->keys);
    while (place) {
        struct place *next = place->next;
        mem_free(place);
        place = next;
    }
    while (key) {
        struct keystore_key *next = key->next;
        free_key(key);
        key = next;
    }
}
