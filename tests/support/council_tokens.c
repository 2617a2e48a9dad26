// SPDX-License-Identifier: Apache-2.0
#include "tests/support/council_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/x509.h>

#include "tests/support/memstore.h"

static const char *const names[COUNCIL_TOKENS] = {"main", "spare"};

static struct council_tokens *of(struct keystore *keystore)
{
    return (struct council_tokens *)(void *)keystore;
}

static enum err find_token(struct council_tokens *tokens, const char *name, unsigned *token,
                           struct detail *detail)
{
    *token = strcmp(name, names[0]) == 0 ? 0 : 1;
    if (strcmp(name, names[*token]) != 0)
        return err_set(detail, ERR_PERM, "no such token");
    return tokens->is_away[*token] ? err_set(detail, ERR_TEMP, "token %s is away", name) : ERR_OK;
}

static struct council_object *find(struct council_tokens *tokens, unsigned token,
                                   const struct keystore_place *place)
{
    for (size_t i = 0; i < COUNCIL_OBJECTS; i++) {
        struct council_object *object = &tokens->objects[i];
        if (object->is_there && object->token == token &&
            strcmp(object->label, place->label) == 0 &&
            (!place->id.len || bytes_equal(place->id, bytes_of(object->id, object->id_len))))
            return object;
    }
    return NULL;
}

static enum err add(struct council_tokens *tokens, unsigned token,
                    const struct token_key_wish *wish, struct keystore_key *key,
                    struct buf *public_key)
{
    for (size_t i = 0; i < COUNCIL_OBJECTS; i++) {
        struct council_object *object = &tokens->objects[i];
        if (object->key)
            continue;
        *object = (struct council_object){.token = token, .id_len = wish->id.len, .key = key};
        snprintf(object->label, sizeof object->label, "%s", wish->label);
        memcpy(object->id, wish->id.data, wish->id.len);
        enum err err = buf_put_bytes(public_key, memstore_ops.describe(key)->public_key);
        object->is_there = err == ERR_OK;
        return err;
    }
    fputs("council: no room in the tokens\n", stderr);
    abort();
}

static bool is_open(const struct keystore_key *key, size_t i)
{
    (void)key;
    return i == 0;
}

static enum err add_key(struct keystore *keystore, const char *name, enum wire_purpose purpose,
                        struct bytes public_key, const struct keystore_place *places, size_t count,
                        struct keystore_key **key, struct detail *detail)
{
    (void)purpose;
    (void)public_key;
    for (size_t i = 0; i < count; i++) {
        unsigned token = 0;
        const struct council_object *object =
            find_token(of(keystore), places[i].token, &token, detail) == ERR_OK
                ? find(of(keystore), token, &places[i])
                : NULL;
        if (object) {
            *key = object->key;
            return ERR_OK;
        }
    }
    return err_set(detail, ERR_TEMP, "key %s is in none of its tokens", name);
}

static void drop_key(struct keystore *keystore, struct keystore_key *key)
{
    (void)keystore;
    (void)key; // the tokens have it
}

void council_tokens_hang(struct council_tokens *tokens)
{
    pthread_mutex_lock(&tokens->lock);
    tokens->is_in_call = true;
    pthread_cond_broadcast(&tokens->change);
    while (tokens->is_hanging)
        pthread_cond_wait(&tokens->change, &tokens->lock);
    tokens->is_in_call = false;
    pthread_mutex_unlock(&tokens->lock);
}

// As the tokens of pkcs11/ do.
static enum err check_new(struct council_tokens *tokens, unsigned token,
                          const struct token_key_wish *wish, struct detail *detail)
{
    for (size_t i = 0; i < COUNCIL_OBJECTS; i++) {
        const struct council_object *object = &tokens->objects[i];
        if (object->is_there && object->token == token &&
            bytes_equal(wish->id, bytes_of(object->id, object->id_len)))
            return err_set(detail, ERR_PERM, "a key with this id is there already");
    }
    return ERR_OK;
}

static enum err generate(struct keystore *keystore, const char *name,
                         const struct token_key_wish *wish, enum wire_purpose purpose,
                         deadline_t deadline, struct buf *public_key, struct detail *detail)
{
    unsigned token = 0;
    (void)purpose;
    (void)deadline;
    enum err err = find_token(of(keystore), name, &token, detail);
    council_tokens_hang(of(keystore));
    if (err == ERR_OK)
        err = check_new(of(keystore), token, wish, detail);
    if (err != ERR_OK)
        return err;
    return add(of(keystore), token, wish,
               memstore_key_generate(wish->type == TOKEN_KEY_RSA ? "RSA-2048" : "P-256"),
               public_key);
}

static enum err import(struct keystore *keystore, const char *name,
                       const struct token_key_wish *wish, enum wire_purpose purpose,
                       const struct secret *pkcs8, deadline_t deadline, bool *is_wrapped,
                       struct buf *public_key, struct detail *detail)
{
    unsigned token = 0;
    const uint8_t *at = pkcs8->data;
    (void)purpose;
    (void)deadline;
    enum err err = find_token(of(keystore), name, &token, detail);
    if (err == ERR_OK)
        err = check_new(of(keystore), token, wish, detail);
    if (err != ERR_OK)
        return err;
    *is_wrapped = true;
    EVP_PKEY *pkey = d2i_AutoPrivateKey(NULL, &at, (long)pkcs8->len);
    if (!pkey)
        return err_set(detail, ERR_PERM, "no key");
    return add(of(keystore), token, wish, memstore_key_new(pkey), public_key);
}

static enum err look(struct keystore *keystore, const struct keystore_place *place,
                     enum wire_purpose purpose, deadline_t deadline, struct buf *public_key,
                     struct detail *detail)
{
    unsigned token = 0;
    (void)purpose;
    (void)deadline;
    enum err err = find_token(of(keystore), place->token, &token, detail);
    const struct council_object *object = err == ERR_OK ? find(of(keystore), token, place) : NULL;
    if (err == ERR_OK && !object)
        err = err_set(detail, ERR_PERM, "no such key in %s", place->token);
    return err == ERR_OK ? buf_put_bytes(public_key, memstore_ops.describe(object->key)->public_key)
                         : err;
}

static enum err destroy(struct keystore *keystore, const struct keystore_place *place,
                        struct bytes public_key, deadline_t deadline, struct detail *detail)
{
    unsigned token = 0;
    (void)deadline;
    enum err err = find_token(of(keystore), place->token, &token, detail);
    if (err == ERR_OK && of(keystore)->is_stuck[token])
        err = err_set(detail, ERR_TEMP, "token %s is stuck", place->token);
    struct council_object *object = err == ERR_OK ? find(of(keystore), token, place) : NULL;
    if (err == ERR_OK &&
        (!object || !bytes_equal(memstore_ops.describe(object->key)->public_key, public_key)))
        err = err_set(detail, ERR_PERM, "no such key");
    if (err == ERR_OK)
        object->is_there = false; // its key is freed at the end: others may still use it
    return err;
}

static enum err list(struct keystore *keystore, const char *name, deadline_t deadline,
                     token_key_see_fn see, void *context, struct detail *detail)
{
    unsigned token = 0;
    (void)deadline;
    enum err err = find_token(of(keystore), name, &token, detail);
    for (size_t i = 0; i < COUNCIL_OBJECTS && err == ERR_OK; i++) {
        const struct council_object *object = &of(keystore)->objects[i];
        if (!object->is_there || object->token != token)
            continue;
        const struct token_key_item item = {.label = object->label,
                                            .id = bytes_of(object->id, object->id_len),
                                            .is_known_type = true,
                                            .info = *memstore_ops.describe(object->key)};
        see(&item, context);
    }
    return err;
}

static enum err unlock(struct keystore *keystore, const char *name, const struct secret *pin,
                       struct detail *detail)
{
    unsigned token = 0;
    enum err err = find_token(of(keystore), name, &token, detail);
    if (err != ERR_OK)
        return err;
    if (!of(keystore)->is_locked[token])
        return err_set(detail, ERR_PERM, "it is not locked");
    of(keystore)->pins_tried++;
    if (!bytes_equal(bytes_of(pin->data, pin->len), BYTES_LITERAL("1234")))
        return err_set(detail, ERR_DENIED, "the PIN is wrong");
    of(keystore)->is_locked[token] = false;
    return ERR_OK;
}

static enum err lock(struct keystore *keystore, const char *name, struct detail *detail)
{
    unsigned token = 0;
    enum err err = find_token(of(keystore), name, &token, detail);
    if (err == ERR_OK)
        of(keystore)->is_locked[token] = true;
    return err;
}

static bool is_locked(struct keystore *keystore, const char *name)
{
    unsigned token = 0;
    return find_token(of(keystore), name, &token, NULL) == ERR_OK && of(keystore)->is_locked[token];
}

const struct custody_token_ops council_token_ops = {
    .keys = &memstore_ops,
    .is_open = is_open,
    .add_key = add_key,
    .drop_key = drop_key,
    .generate = generate,
    .import = import,
    .look = look,
    .destroy = destroy,
    .list = list,
    .unlock = unlock,
    .lock = lock,
    .is_locked = is_locked,
};

void council_tokens_init(struct council_tokens *tokens)
{
    memset(tokens, 0, sizeof *tokens);
    pthread_mutex_init(&tokens->lock, NULL);
    pthread_cond_init(&tokens->change, NULL);
}

void council_tokens_clear(struct council_tokens *tokens)
{
    for (size_t i = 0; i < COUNCIL_OBJECTS; i++) {
        if (tokens->objects[i].key)
            memstore_key_free(tokens->objects[i].key);
    }
    pthread_cond_destroy(&tokens->change);
    pthread_mutex_destroy(&tokens->lock);
}

void council_tokens_forget(struct council *council)
{
    for (size_t i = 0; i < COUNCIL_OBJECTS; i++) {
        struct council_object *object = &council->tokens.objects[i];
        if (object->key && !object->is_there) {
            memstore_key_free(object->key);
            object->key = NULL;
        }
    }
}
