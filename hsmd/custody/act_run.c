// SPDX-License-Identifier: Apache-2.0
#include "hsmd/custody/act_run.h"

#include <stdio.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/pem.h>

#define KEY_ROOM (WIRE_PUBLIC_KEY_MAX + WIRE_CERTIFICATES_MAX)

const struct act_steps *act_steps_of(enum act_kind kind)
{
    switch (kind) {
    case ACT_KEY_GENERATE:
        return &act_steps_generate;
    case ACT_KEY_IMPORT:
        return &act_steps_import;
    case ACT_KEY_ADOPT:
        return &act_steps_adopt;
    case ACT_KEY_PLACE:
        return &act_steps_place;
    case ACT_KEY_REQUEST:
        return &act_steps_request;
    case ACT_KEY_SELF_SIGN:
        return &act_steps_self_sign;
    case ACT_KEY_CERTIFICATE:
        return &act_steps_certificate;
    case ACT_KEY_ENABLE:
        return &act_steps_enable;
    case ACT_KEY_DISABLE:
        return &act_steps_disable;
    case ACT_KEY_RETIRE:
        return &act_steps_retire;
    case ACT_KEY_DESTROY:
        return &act_steps_destroy;
    case ACT_KEY_LIMIT:
        return &act_steps_limit;
    case ACT_CLIENT_ADD:
        return &act_steps_client_add;
    case ACT_CLIENT_REVOKE:
        return &act_steps_client_revoke;
    case ACT_GRANT:
        return &act_steps_grant;
    case ACT_UNGRANT:
        return &act_steps_ungrant;
    case ACT_OFFICER_ADD:
        return &act_steps_officer_add;
    case ACT_OFFICER_REMOVE:
        return &act_steps_officer_remove;
    case ACT_QUORUM:
        return &act_steps_quorum;
    case ACT_UNLOCK:
        return &act_steps_unlock;
    case ACT_LOCK:
        return &act_steps_lock;
    }
    return NULL;
}

void act_name(struct bytes text, char name[TEXT_NAME_MAX + 1])
{
    size_t len = text.len < TEXT_NAME_MAX ? text.len : TEXT_NAME_MAX;
    if (len)
        memcpy(name, text.data, len);
    name[len] = 0;
}

struct copying {
    struct key_copy *copy;
    bool is_found;
};

static enum err see_key(void *context, const struct store_key *key)
{
    struct copying *copying = context;
    struct key_copy *copy = copying->copy;
    uint8_t *place = NULL;
    size_t public_len = key->public_key.len;
    size_t len = public_len + key->certificates.len;
    enum err err = len ? buf_reserve(&copy->room, len, &place) : ERR_OK;
    if (err != ERR_OK)
        return err;
    copy->key = *key;
    if (public_len)
        memcpy(place, key->public_key.data, public_len);
    if (key->certificates.len)
        memcpy(place + public_len, key->certificates.data, key->certificates.len);
    copy->key.public_key = bytes_of(place, public_len);
    copy->key.certificates = key->certificates.len
                                 ? bytes_of(place + public_len, key->certificates.len)
                                 : (struct bytes){0};
    copying->is_found = true;
    return ERR_OK;
}

enum err key_copy_get(struct store *store, const char *name, struct key_copy *copy, bool *found,
                      struct detail *detail)
{
    struct copying copying = {.copy = copy};
    key_copy_clear(copy);
    buf_init(&copy->room, KEY_ROOM);
    enum err err = store_each_key(store, name, see_key, &copying, detail);
    *found = copying.is_found;
    return err;
}

void key_copy_clear(struct key_copy *copy)
{
    buf_clear(&copy->room);
    *copy = (struct key_copy){0};
}

enum err act_find_key(struct act_run *run, struct bytes text)
{
    char name[TEXT_NAME_MAX + 1];
    bool is_found = false;
    act_name(text, name);
    enum err err = key_copy_get(run->custody->conf.store, name, &run->key, &is_found, run->detail);
    if (err == ERR_OK && !is_found)
        err = err_set(run->detail, ERR_PERM, "there is no key \"%s\"", name);
    if (err == ERR_OK && run->key.key.is_destroyed)
        err = err_set(run->detail, ERR_PERM, "key \"%s\" was destroyed", name);
    return err;
}

enum err act_find_key_again(struct act_run *run, struct key_copy *now)
{
    bool is_found = false;
    const char *name = run->key.key.name;
    enum err err = key_copy_get(run->custody->conf.store, name, now, &is_found, run->detail);
    if (err == ERR_OK && (!is_found || now->key.is_destroyed))
        err = err_set(run->detail, ERR_PERM, "key \"%s\" was destroyed meanwhile", name);
    return err;
}

enum err act_set_places(struct act_run *run)
{
    struct key_copy now = {0};
    enum err err = act_find_key_again(run, &now);
    if (err == ERR_OK) {
        memcpy(now.key.places, run->made.places, sizeof now.key.places);
        now.key.place_count = run->made.place_count;
        err = store_set_key(run->custody->conf.store, &now.key, run->detail);
    }
    key_copy_clear(&now);
    return err;
}

enum err act_check_new_name(struct act_run *run)
{
    struct key_copy there = {0};
    char name[TEXT_NAME_MAX + 1];
    bool is_found = false;
    act_name(run->act.name, name);
    enum err err = key_copy_get(run->custody->conf.store, name, &there, &is_found, run->detail);
    if (err == ERR_OK && is_found)
        err = err_set(run->detail, ERR_PERM,
                      there.key.is_destroyed
                          ? "there was a key \"%s\", and the name of a destroyed key is not used "
                            "again"
                          : "there is a key \"%s\" already",
                      name);
    key_copy_clear(&there);
    return err;
}

struct comparing {
    struct bytes public_key;
    const char *name;
    char other[TEXT_NAME_MAX + 1];
};

static enum err see_other(void *context, const struct store_key *key)
{
    struct comparing *comparing = context;
    if (!key->is_destroyed && key->public_key.len && strcmp(key->name, comparing->name) != 0 &&
        bytes_equal(key->public_key, comparing->public_key))
        memcpy(comparing->other, key->name, sizeof comparing->other);
    return ERR_OK;
}

enum err act_check_new_public_key(struct act_run *run, struct bytes public_key, const char *name)
{
    struct comparing comparing = {.public_key = public_key, .name = name};
    enum err err =
        store_each_key(run->custody->conf.store, NULL, see_other, &comparing, run->detail);
    if (err == ERR_OK && comparing.other[0])
        err = err_set(run->detail, ERR_PERM,
                      "this key is here already, under the name \"%s\": a key has one name",
                      comparing.other);
    return err;
}

bool act_is_token(const struct act_run *run, struct bytes name)
{
    const struct config *config = run->custody->conf.config;
    for (size_t i = 0; i < config->token_count; i++) {
        if (bytes_equal(name, bytes_of_text(config->tokens[i].name)))
            return true;
    }
    return false;
}

static enum err put_place(struct act_run *run, struct bytes token, const char *label,
                          struct bytes id)
{
    struct store_key *made = &run->made;
    char name[TEXT_NAME_MAX + 1];
    act_name(token, name);
    if (!act_is_token(run, token))
        return err_set(run->detail, ERR_PERM, "there is no token \"%s\" in the configuration",
                       name);
    for (size_t i = 0; i < made->place_count; i++) {
        if (strcmp(made->places[i].token, name) == 0)
            return err_set(run->detail, ERR_PERM, "the key has a place in token \"%s\" already",
                           name);
    }
    if (made->place_count == STORE_PLACES_MAX)
        return err_set(run->detail, ERR_PERM, "a key can be in %d tokens, no more",
                       STORE_PLACES_MAX);
    struct store_place *place = &made->places[made->place_count];
    if (id.len > sizeof place->id || strlen(label) >= sizeof place->label)
        return err_set(run->detail, ERR_PERM, "the label or the CKA_ID is too long");
    *place = (struct store_place){.id_len = id.len};
    memcpy(place->token, name, sizeof place->token);
    memcpy(place->label, label, strlen(label) + 1);
    if (id.len)
        memcpy(place->id, id.data, id.len);
    made->place_count++;
    return ERR_OK;
}

enum err act_put_places(struct act_run *run, const char *label, struct bytes id)
{
    struct bytes rest = run->act.tokens;
    struct bytes token;
    enum err err = ERR_OK;
    while (err == ERR_OK && act_list_next(&rest, &token))
        err = put_place(run, token, label, id);
    return err;
}

struct keystore_place act_place(const struct store_place *place)
{
    return (struct keystore_place){
        .token = place->token, .label = place->label, .id = bytes_of(place->id, place->id_len)};
}

enum err act_put_pem(struct act_run *run, const char *member, const char *label, struct bytes der)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    long len = 0;
    bool ok = bio && PEM_write_bio(bio, label, "", der.data, (long)der.len) > 0 &&
              (len = BIO_get_mem_data(bio, &text)) > 0 &&
              json_object_set_new(run->result, member, json_stringn(text, (size_t)len)) == 0;
    BIO_free(bio);
    return ok ? ERR_OK : err_openssl(run->detail, ERR_TEMP, "cannot write PEM");
}

enum err act_put_public_key(struct act_run *run)
{
    uint8_t hash[HASH_SIZE_MAX];
    struct buf hex;
    struct bytes der = buf_bytes(&run->public_key);
    buf_init(&hex, (size_t)2 * HASH_SIZE_MAX);
    enum err err = hash_digest(HASH_SHA256, der, hash);
    if (err == ERR_OK)
        err = text_put_hex(&hex, bytes_of(hash, hash_size(HASH_SHA256)));
    if (err == ERR_OK &&
        json_object_set_new(run->result, "public_key_sha256", json_string(buf_text(&hex))) != 0)
        err = ERR_TEMP;
    if (err != ERR_OK)
        err = err_set(run->detail, err, "out of memory");
    buf_clear(&hex);
    return err == ERR_OK ? act_put_pem(run, "public_key_pem", "PUBLIC KEY", der) : err;
}
