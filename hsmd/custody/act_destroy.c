// SPDX-License-Identifier: Apache-2.0
// Keys that are destroyed. What is destroyed cannot be had back: when it works in one token and not
// in the next, the store forgets the places that are empty now, the key stays with the others, and
// the proposal has failed with words that say where the key still is.
#include "hsmd/custody/act_run.h"

#include <string.h>

static bool is_named(const struct act_run *run, const struct store_place *place)
{
    struct bytes rest = run->act.tokens;
    struct bytes token;
    while (act_list_next(&rest, &token)) {
        if (bytes_equal(token, bytes_of_text(place->token)))
            return true;
    }
    return !run->act.tokens.len;
}

// run->made: the places that will be left.
static enum err check(struct act_run *run)
{
    enum err err = act_find_key(run, run->act.name);
    if (err != ERR_OK)
        return err;
    const struct store_key *key = &run->key.key;
    struct bytes rest = run->act.tokens;
    struct bytes token;
    if (key->state == WIRE_ENABLED)
        return err_set(run->detail, ERR_PERM, "key \"%s\" is enabled: disable it before",
                       key->name);
    if (!key->public_key.len)
        return err_set(run->detail, ERR_TEMP,
                       "the public key of \"%s\" is not known before its token was open once, and "
                       "no other key must be destroyed by mistake",
                       key->name);
    while (act_list_next(&rest, &token)) {
        bool has_place = false;
        for (size_t i = 0; i < key->place_count; i++)
            has_place = has_place || bytes_equal(token, bytes_of_text(key->places[i].token));
        if (!has_place)
            return err_set(run->detail, ERR_PERM, "key \"%s\" has no place in token \"%.*s\"",
                           key->name, (int)token.len, (const char *)token.data);
    }
    run->made = *key;
    return ERR_OK;
}

struct seeking {
    struct bytes public_key;
    bool may_be_there;
};

static void see(const struct token_key_item *item, void *arg)
{
    struct seeking *seeking = arg;
    // A key whose public half the token does not tell may be the one.
    if (!item->info.public_key.len || bytes_equal(item->info.public_key, seeking->public_key))
        seeking->may_be_there = true;
}

// It is not in that token any more: an earlier act, or somebody else, has destroyed it.
static bool is_gone(struct act_run *run, const struct keystore_place *place)
{
    struct custody *custody = run->custody;
    struct seeking seeking = {.public_key = run->key.key.public_key};
    return custody->conf.tokens->list(custody->conf.keystore, place->token, run->call->deadline,
                                      see, &seeking, NULL) == ERR_OK &&
           !seeking.may_be_there;
}

static enum err destroy_at(struct act_run *run, const struct store_place *from,
                           struct detail *detail)
{
    struct custody *custody = run->custody;
    const struct keystore_place place = act_place(from);
    enum err err = custody->conf.tokens->destroy(
        custody->conf.keystore, &place, run->key.key.public_key, run->call->deadline, detail);
    return err == ERR_PERM && is_gone(run, &place) ? ERR_OK : err;
}

// All are tried; run->made keeps those that are left.
static enum err prepare(struct act_run *run)
{
    const struct store_key *key = &run->key.key;
    enum err first = ERR_OK;
    run->made.place_count = 0;
    for (size_t i = 0; i < key->place_count; i++) {
        struct detail why = {0};
        bool is_meant = is_named(run, &key->places[i]);
        enum err err = is_meant ? destroy_at(run, &key->places[i], &why) : ERR_OK;
        run->done += is_meant && err == ERR_OK;
        if (!is_meant || err != ERR_OK)
            run->made.places[run->made.place_count++] = key->places[i];
        if (err != ERR_OK && first == ERR_OK)
            first = err_set(run->detail, err, "still in token %s: %.200s", key->places[i].token,
                            why.text);
        else if (err != ERR_OK)
            (void)err_prefix(run->detail, first, "still in token %s", key->places[i].token);
    }
    return first;
}

// Of the key in the store, what prepare has left of it.
static enum err change(struct act_run *run)
{
    return run->made.place_count
               ? act_set_places(run)
               : store_drop_key(run->custody->conf.store, run->made.name, run->detail);
}

// The tokens did their part, and it could not be recorded, or not all of them did.
static enum err undo(struct act_run *run)
{
    if (!run->done)
        return ERR_OK;
    return err_set(run->detail, ERR_TEMP, "in %u of its %zu tokens it was destroyed", run->done,
                   run->key.key.place_count);
}

static void finish(struct act_run *run)
{
    struct detail detail = {0};
    if (!run->made.place_count)
        custody_unbind(run->custody, run->made.name);
    else
        (void)custody_bind(run->custody, &run->made, &detail); // logs what it leaves out
}

const struct act_steps act_steps_destroy = {.check = check,
                                            .prepare = prepare,
                                            .change = change,
                                            .salvage = change,
                                            .undo = undo,
                                            .finish = finish,
                                            .is_registry_changed = true};
