// SPDX-License-Identifier: Apache-2.0
// What officers do with keys. Each act enters the module's gate, so that the module is not opened
// anew under it.
#include "hsmd/keystore/keystore_internal.h"

#include <stdio.h>

#include "hsmd/base/log.h"

static enum err enter(struct keystore *keystore, const char *name, deadline_t deadline,
                      struct keystore_token **token, struct token **opened, struct detail *detail)
{
    *token = keystore_find_token(keystore, name, detail);
    if (!*token)
        return ERR_PERM;
    struct gate *gate = &(*token)->module->gate;
    if (atomic_load(&(*token)->is_refused))
        return err_set(detail, ERR_TEMP, "token %s: its PIN was refused", name);
    if (!gate_enter(gate, deadline))
        return err_set(detail, ERR_TEMP, "token %s: being opened anew", name);
    *opened = atomic_load(&(*token)->token);
    if (*opened)
        return ERR_OK;
    gate_leave(gate);
    return err_set(detail, ERR_TEMP, "token %s: not there", name);
}

static enum err leave(struct keystore_token *token, enum err err, struct detail *detail)
{
    struct detail none = {0};
    if (err == ERR_DENIED) { // the PIN, while it was restored: nothing of the officer's
        keystore_give_up(token, detail ? detail : &none);
        err = ERR_TEMP;
    }
    keystore_note(token);
    gate_leave(&token->module->gate);
    keystore_tell_changes(token, err, detail);
    if (err == ERR_TEMP)
        keystore_wake_watcher(token);
    return err;
}

// A key that was made a moment ago is opened, looked at and shown; else it is destroyed.
static enum err show_new(struct token *token, const struct token_key_wish *wish,
                         enum wire_purpose purpose, deadline_t deadline, struct buf *public_key,
                         struct detail *detail)
{
    struct token_key *key = NULL;
    struct detail reason = {0};
    struct detail more = {0};
    enum err err =
        keystore_take_key(token, wish->label, wish->id, purpose, deadline, &key, &reason);
    if (err == ERR_OK)
        err = buf_put_bytes(public_key, token_key_describe(key)->public_key);
    if (err == ERR_OK) {
        token_key_close(key);
        return ERR_OK;
    }
    if (!key &&
        token_key_open_in_time(token, wish->label, wish->id, deadline, &key, &more) != ERR_OK)
        return err_set(detail, err, "%s (the key is left in the token: %s)", reason.text,
                       more.text);
    enum err undone = token_key_destroy(token, key, deadline, &more);
    token_key_close(key);
    return undone == ERR_OK ? err_set(detail, err, "%s", reason.text)
                            : err_set(detail, err, "%s (the key may be left in the token: %s)",
                                      reason.text, more.text);
}

enum err keystore_generate(struct keystore *keystore, const char *name,
                           const struct token_key_wish *wish, enum wire_purpose purpose,
                           deadline_t deadline, struct buf *public_key, struct detail *detail)
{
    struct keystore_token *token = NULL;
    struct token *opened = NULL;
    enum err err = enter(keystore, name, deadline, &token, &opened, detail);
    if (err != ERR_OK)
        return err;
    err = token_key_generate(opened, wish, deadline, detail);
    if (err == ERR_OK)
        err = show_new(opened, wish, purpose, deadline, public_key, detail);
    return leave(token, err, detail);
}

enum err keystore_import(struct keystore *keystore, const char *name,
                         const struct token_key_wish *wish, enum wire_purpose purpose,
                         const struct secret *pkcs8, deadline_t deadline, bool *is_wrapped,
                         struct buf *public_key, struct detail *detail)
{
    struct keystore_token *token = NULL;
    struct token *opened = NULL;
    enum err err = enter(keystore, name, deadline, &token, &opened, detail);
    if (err != ERR_OK)
        return err;
    struct token_import how = {0};
    err = token_key_import(opened, wish, pkcs8, deadline, &how, detail);
    if (how.swept)
        log_notice("token", "token", name, "state",
                   "destroyed public keys that an interrupted import had left", "label",
                   wish->label);
    if (err == ERR_OK && is_wrapped)
        *is_wrapped = how.is_wrapped;
    if (err == ERR_OK)
        err = show_new(opened, wish, purpose, deadline, public_key, detail);
    return leave(token, err, detail);
}

enum err keystore_look(struct keystore *keystore, const struct keystore_place *place,
                       enum wire_purpose purpose, deadline_t deadline, struct buf *public_key,
                       struct detail *detail)
{
    struct keystore_token *token = NULL;
    struct token *opened = NULL;
    struct token_key *key = NULL;
    enum err err = enter(keystore, place->token, deadline, &token, &opened, detail);
    if (err != ERR_OK)
        return err;
    err = keystore_take_key(opened, place->label, place->id, purpose, deadline, &key, detail);
    if (err == ERR_OK)
        err = buf_put_bytes(public_key, token_key_describe(key)->public_key);
    token_key_close(key);
    return leave(token, err, detail);
}

// Of a key that cannot be opened: an earlier try may have got no further than the private object.
// detail says why it cannot; that stays if there is no rest.
static enum err destroy_rest(struct token *token, const struct keystore_place *place,
                             struct bytes public_key, deadline_t deadline, struct detail *detail)
{
    struct detail why = {0};
    enum err err =
        token_key_destroy_rest(token, place->label, place->id, public_key, deadline, &why);
    if (err != ERR_OK && err != ERR_PERM && detail)
        *detail = why;
    return err;
}

enum err keystore_destroy(struct keystore *keystore, const struct keystore_place *place,
                          struct bytes public_key, deadline_t deadline, struct detail *detail)
{
    struct keystore_token *token = NULL;
    struct token *opened = NULL;
    struct token_key *key = NULL;
    enum err err = enter(keystore, place->token, deadline, &token, &opened, detail);
    if (err != ERR_OK)
        return err;
    err = token_key_open_in_time(opened, place->label, place->id, deadline, &key, detail);
    if (err == ERR_OK && public_key.len &&
        !bytes_equal(public_key, token_key_describe(key)->public_key))
        err = err_set(detail, ERR_PERM, "key \"%s\": token %s has another one of that label",
                      place->label, place->token);
    if (err == ERR_OK)
        err = token_key_destroy(opened, key, deadline, detail);
    else if (err == ERR_PERM && !key && public_key.len)
        err = destroy_rest(opened, place, public_key, deadline, detail);
    token_key_close(key);
    return leave(token, err, detail);
}

enum err keystore_list(struct keystore *keystore, const char *name, deadline_t deadline,
                       token_key_see_fn see, void *context, struct detail *detail)
{
    struct keystore_token *token = NULL;
    struct token *opened = NULL;
    enum err err = enter(keystore, name, deadline, &token, &opened, detail);
    if (err != ERR_OK)
        return err;
    return leave(token, token_key_list(opened, deadline, see, context, detail), detail);
}
