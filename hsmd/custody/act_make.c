// SPDX-License-Identifier: Apache-2.0
// Keys that come into tokens: generated, imported, and those that are there already. What was made
// in a token and cannot be recorded is destroyed again.
#include "hsmd/custody/act_run.h"

#include <string.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "hsmd/custody/issue.h"
#include "hsmd/key_type.h"

#define ID_SIZE 16

// What the token lets it do. A key that decrypts signs in there too: the request for its own
// certificate (act_sign.c), without which nobody could write to it. That no client has it sign is
// the core's to see to, by the purpose.
static unsigned usage_of(enum wire_purpose purpose, enum token_key_type type)
{
    unsigned decrypt = type == TOKEN_KEY_RSA ? TOKEN_USE_DECRYPT : TOKEN_USE_DERIVE;
    bool has_decryption = purpose == WIRE_SMIME_DECRYPT || purpose == WIRE_GENERAL;
    return has_decryption && type != TOKEN_KEY_ED25519 ? TOKEN_USE_SIGN | decrypt : TOKEN_USE_SIGN;
}

// What a new key is to be, from the act; places not yet.
static void begin(struct act_run *run)
{
    struct store_key *made = &run->made;
    *made = (struct store_key){.purpose = run->act.purpose,
                               .state = WIRE_DISABLED,
                               .algorithms = run->act.algorithms,
                               .certificates = run->act.certificates};
    act_name(run->act.name, made->name);
}

// New places with a label, and with a CKA_ID that is nobody else's, the proposal's: a key that was
// made and never recorded, since hsmd was killed in between, is found by it at the next try.
static enum err put_new_places(struct act_run *run)
{
    uint8_t id[ID_SIZE] = {0};
    if (run->digest)
        memcpy(id, run->digest, sizeof id);
    return act_put_places(run, run->made.name, bytes_of(id, sizeof id));
}

static enum err check_places(struct act_run *run, size_t min, size_t max)
{
    begin(run);
    enum err err = act_check_new_name(run);
    if (err == ERR_OK)
        err = put_new_places(run);
    if (err == ERR_OK && (run->made.place_count < min || run->made.place_count > max))
        err = err_set(run->detail, ERR_PERM,
                      max == 1 ? "one token is to be named, no more" : "the token is to be named");
    return err;
}

static struct token_key_wish wish_of(const struct act_run *run, const struct store_place *place)
{
    enum token_key_type type = key_type_to_token(run->act.type);
    return (struct token_key_wish){.label = place->label,
                                   .id = bytes_of(place->id, place->id_len),
                                   .type = type,
                                   .bits = run->act.bits,
                                   .usage = usage_of(run->act.purpose, type)};
}

static enum err bind_made(struct act_run *run)
{
    run->made.public_key = buf_bytes(&run->public_key);
    enum err err = custody_bind(run->custody, &run->made, run->detail);
    run->is_bound = err == ERR_OK;
    return err == ERR_OK ? act_put_public_key(run) : err;
}

// A token does not make a second key with the same CKA_ID: what has it there is of a former try of
// the same proposal. It is taken, opened and proved like any other, if it is what was wished for.
// err: what the token said; ERR_PERM and nothing there: the same.
static enum err take_former(struct act_run *run, const struct token_key_wish *wish,
                            const char *token, enum err err, struct buf *public_key)
{
    struct custody *custody = run->custody;
    struct detail ignored = {0};
    enum token_key_type type = TOKEN_KEY_RSA;
    const struct keystore_place place = {.token = token, .label = wish->label, .id = wish->id};
    if (err != ERR_PERM ||
        custody->conf.tokens->look(custody->conf.keystore, &place, run->act.purpose,
                                   run->call->deadline, public_key, &ignored) != ERR_OK)
        return err;
    const uint8_t *at = public_key->data;
    EVP_PKEY *key = d2i_PUBKEY(NULL, &at, (long)public_key->len);
    bool is_wished = key_type_of(key, &type) && type == wish->type &&
                     (type == TOKEN_KEY_ED25519 || EVP_PKEY_get_bits(key) == (int)wish->bits);
    EVP_PKEY_free(key);
    if (is_wished)
        return ERR_OK;
    buf_reset(public_key);
    return err;
}

static enum err check_generate(struct act_run *run)
{
    return check_places(run, 1, 1);
}

static enum err prepare_generate(struct act_run *run)
{
    struct custody *custody = run->custody;
    const struct store_place *place = &run->made.places[0];
    const struct token_key_wish wish = wish_of(run, place);
    enum err err = custody->conf.tokens->generate(custody->conf.keystore, place->token, &wish,
                                                  run->act.purpose, run->call->deadline,
                                                  &run->public_key, run->detail);
    err = take_former(run, &wish, place->token, err, &run->public_key);
    run->done = err == ERR_OK;
    return err == ERR_OK ? bind_made(run) : err;
}

static enum err change_made(struct act_run *run)
{
    enum err err = act_check_new_name(run);
    if (err == ERR_OK)
        err = act_check_new_public_key(run, run->made.public_key, run->made.name);
    return err == ERR_OK ? store_add_key(run->custody->conf.store, &run->made, run->detail) : err;
}

// The first of them that could not be destroyed is told; they are tried all.
static enum err undo_made(struct act_run *run)
{
    struct custody *custody = run->custody;
    struct bytes public_key = buf_bytes(&run->public_key);
    enum err first = ERR_OK;
    if (!public_key.len) // no memory was left to keep it
        public_key = run->act.public_key;
    if (run->is_bound)
        custody_unbind(custody, run->made.name);
    for (size_t i = 0; i < run->done; i++) {
        struct buf id;
        struct detail why = {0};
        const struct keystore_place place = act_place(&run->made.places[i]);
        enum err err = custody->conf.tokens->destroy(custody->conf.keystore, &place, public_key,
                                                     deadline_in(CUSTODY_UNDO_MS), &why);
        if (err == ERR_OK || first != ERR_OK)
            continue;
        buf_init(&id, (size_t)2 * TOKEN_ID_MAX);
        (void)text_put_hex(&id, place.id);
        first = err_set(run->detail, err,
                        "the key is still in token %s, label \"%s\", CKA_ID %s: destroy it there "
                        "(%.120s)",
                        place.token, place.label, buf_text(&id), why.text);
        buf_clear(&id);
    }
    return first;
}

const struct act_steps act_steps_generate = {.check = check_generate,
                                             .prepare = prepare_generate,
                                             .change = change_made,
                                             .undo = undo_made,
                                             .is_registry_changed = true};

// The private key that came along is the one of the public key that was signed.
static enum err check_private_key(struct act_run *run)
{
    const uint8_t *at = run->attachment.data;
    const uint8_t *public_at = run->act.public_key.data;
    PKCS8_PRIV_KEY_INFO *info =
        run->attachment.len ? d2i_PKCS8_PRIV_KEY_INFO(NULL, &at, (long)run->attachment.len) : NULL;
    EVP_PKEY *private = info ? EVP_PKCS82PKEY(info) : NULL;
    EVP_PKEY *public = d2i_PUBKEY(NULL, &public_at, (long)run->act.public_key.len);
    enum err err = ERR_OK;
    if (!private)
        err = err_openssl(run->detail, ERR_PERM, "the private key cannot be read");
    else if (!public)
        err = err_openssl(run->detail, ERR_PERM, "the public key cannot be read");
    else if (EVP_PKEY_eq(private, public) != 1)
        err = err_set(run->detail, ERR_PERM,
                      "the private key is not that of the public key that was signed");
    EVP_PKEY_free(public);
    EVP_PKEY_free(private);
    PKCS8_PRIV_KEY_INFO_free(info);
    return err;
}

static enum err check_import(struct act_run *run)
{
    struct detail warning = {0};
    enum err err = check_places(run, 1, STORE_PLACES_MAX);
    if (err == ERR_OK)
        err = act_check_new_public_key(run, run->act.public_key, run->made.name);
    if (err == ERR_OK && run->act.certificates.len)
        err = issue_check_certificates(run->act.certificates, run->act.public_key, run->act.purpose,
                                       run->act.any_name, &warning, run->detail);
    if (err == ERR_OK && warning.text[0] &&
        json_object_set_new(run->result, "warning", json_string(warning.text)) != 0)
        err = err_set(run->detail, ERR_TEMP, "out of memory");
    return err == ERR_OK ? check_private_key(run) : err;
}

// The same key as in the act, however its encoding is written.
static bool is_same(struct bytes a, struct bytes b)
{
    const uint8_t *at_a = a.data;
    const uint8_t *at_b = b.data;
    EVP_PKEY *key_a = d2i_PUBKEY(NULL, &at_a, (long)a.len);
    EVP_PKEY *key_b = d2i_PUBKEY(NULL, &at_b, (long)b.len);
    bool ok = key_a && key_b && EVP_PKEY_eq(key_a, key_b) == 1;
    EVP_PKEY_free(key_a);
    EVP_PKEY_free(key_b);
    return ok;
}

static enum err import_at(struct act_run *run, const struct store_place *place,
                          enum token_key_type type, unsigned bits)
{
    struct custody *custody = run->custody;
    const struct token_key_wish wish = {.label = place->label,
                                        .id = bytes_of(place->id, place->id_len),
                                        .type = type,
                                        .bits = bits,
                                        .usage = usage_of(run->act.purpose, type)};
    bool is_wrapped = false;
    struct buf shown;
    buf_init(&shown, WIRE_PUBLIC_KEY_MAX);
    enum err err = custody->conf.tokens->import(custody->conf.keystore, place->token, &wish,
                                                run->act.purpose, run->secret, run->call->deadline,
                                                &is_wrapped, &shown, run->detail);
    err = take_former(run, &wish, place->token, err, &shown);
    run->done += err == ERR_OK;
    run->is_wrapped = run->is_wrapped && is_wrapped;
    bool is_first = err == ERR_OK && !run->public_key.len;
    bool is_given = err == ERR_OK && is_same(buf_bytes(&shown), run->act.public_key);
    if (err != ERR_OK)
        err = err_prefix(run->detail, err, "token %s", place->token);
    else if (is_first && buf_put_bytes(&run->public_key, buf_bytes(&shown)) != ERR_OK)
        err = err_set(run->detail, ERR_TEMP, "out of memory");
    if (err == ERR_OK && !is_given)
        err = err_set(run->detail, ERR_PERM, "token %s shows another public key than it was given",
                      place->token);
    buf_clear(&shown);
    return err;
}

static enum err prepare_import(struct act_run *run)
{
    const uint8_t *at = run->act.public_key.data;
    EVP_PKEY *key = d2i_PUBKEY(NULL, &at, (long)run->act.public_key.len);
    enum token_key_type type = TOKEN_KEY_RSA;
    enum err err = key_type_of(key, &type)
                       ? ERR_OK
                       : err_set(run->detail, ERR_PERM, "the key is not of a type we know");
    unsigned bits = err == ERR_OK ? (unsigned)EVP_PKEY_get_bits(key) : 0;
    EVP_PKEY_free(key);
    run->is_wrapped = true;
    for (size_t i = 0; i < run->made.place_count && err == ERR_OK; i++)
        err = import_at(run, &run->made.places[i], type, bits);
    if (err == ERR_OK &&
        json_object_set_new(run->result, "wrapped", json_boolean(run->is_wrapped)) != 0)
        err = err_set(run->detail, ERR_TEMP, "out of memory");
    return err == ERR_OK ? bind_made(run) : err;
}

const struct act_steps act_steps_import = {.check = check_import,
                                           .prepare = prepare_import,
                                           .change = change_made,
                                           .undo = undo_made,
                                           .is_registry_changed = true};

// "" if the CKA_ID alone says which.
static void act_label(const struct act_run *run, char label[TOKEN_LABEL_MAX + 1])
{
    size_t len = run->act.label.len;
    if (len)
        memcpy(label, run->act.label.data, len);
    label[len] = 0;
}

static enum err check_adopt(struct act_run *run)
{
    char label[TOKEN_LABEL_MAX + 1];
    begin(run);
    enum err err = act_check_new_name(run);
    if (err == ERR_OK && run->act.label.len > TOKEN_LABEL_MAX)
        err = err_set(run->detail, ERR_PERM, "a label has %d bytes at most", TOKEN_LABEL_MAX);
    if (err != ERR_OK)
        return err;
    act_label(run, label);
    err = act_put_places(run, label, run->act.id);
    if (err == ERR_OK && !run->made.place_count)
        err = err_set(run->detail, ERR_PERM, "the token is to be named");
    return err;
}

// From the place'th on; all hold one key, which goes to run->public_key.
static enum err look(struct act_run *run, size_t first)
{
    struct custody *custody = run->custody;
    struct buf public_key;
    enum err err = ERR_OK;
    buf_init(&public_key, WIRE_PUBLIC_KEY_MAX);
    for (size_t i = first; i < run->made.place_count && err == ERR_OK; i++) {
        const struct keystore_place place = act_place(&run->made.places[i]);
        buf_reset(&public_key);
        err = custody->conf.tokens->look(custody->conf.keystore, &place, run->made.purpose,
                                         run->call->deadline, &public_key, run->detail);
        if (err != ERR_OK)
            err = err_prefix(run->detail, err, "token %s", place.token);
        else if (!run->public_key.len)
            err = buf_put_bytes(&run->public_key, buf_bytes(&public_key));
        else if (!bytes_equal(buf_bytes(&run->public_key), buf_bytes(&public_key)))
            err = err_set(run->detail, ERR_PERM, "token %s has another key there", place.token);
    }
    buf_clear(&public_key);
    return err;
}

static enum err prepare_adopt(struct act_run *run)
{
    enum err err = look(run, 0);
    if (err != ERR_OK)
        return err;
    pthread_mutex_lock(&run->custody->store);
    err = act_check_new_public_key(run, buf_bytes(&run->public_key), run->made.name);
    pthread_mutex_unlock(&run->custody->store);
    return err == ERR_OK ? bind_made(run) : err;
}

// Nothing was made in a token: nothing is destroyed there.
static enum err undo_adopt(struct act_run *run)
{
    if (run->is_bound)
        custody_unbind(run->custody, run->made.name);
    return ERR_OK;
}

const struct act_steps act_steps_adopt = {.check = check_adopt,
                                          .prepare = prepare_adopt,
                                          .change = change_made,
                                          .undo = undo_adopt,
                                          .is_registry_changed = true};

static enum err check_place(struct act_run *run)
{
    char label[TOKEN_LABEL_MAX + 1];
    enum err err = act_find_key(run, run->act.name);
    if (err != ERR_OK)
        return err;
    if (!run->key.key.public_key.len)
        return err_set(run->detail, ERR_TEMP,
                       "the public key of \"%s\" is not known before its token was open once",
                       run->key.key.name);
    if (run->act.label.len > TOKEN_LABEL_MAX)
        return err_set(run->detail, ERR_PERM, "a label has %d bytes at most", TOKEN_LABEL_MAX);
    act_label(run, label);
    run->made = run->key.key;
    err = act_put_places(run, label, run->act.id);
    if (err == ERR_OK && run->made.place_count == run->key.key.place_count)
        err = err_set(run->detail, ERR_PERM, "the token is to be named");
    return err;
}

static enum err prepare_place(struct act_run *run)
{
    buf_reset(&run->public_key);
    enum err err = buf_put_bytes(&run->public_key, run->key.key.public_key);
    if (err == ERR_OK)
        err = look(run, run->key.key.place_count);
    return err == ERR_OK ? bind_made(run) : err;
}

static enum err undo_place(struct act_run *run)
{
    return run->is_bound ? custody_bind(run->custody, &run->key.key, run->detail) : ERR_OK;
}

const struct act_steps act_steps_place = {.check = check_place,
                                          .prepare = prepare_place,
                                          .change = act_set_places,
                                          .undo = undo_place,
                                          .is_registry_changed = true};
