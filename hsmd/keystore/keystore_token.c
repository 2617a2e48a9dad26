// SPDX-License-Identifier: Apache-2.0
// Operations on keys in tokens: where they are done, and where else if that fails.
#include "hsmd/keystore/keystore_token.h"

#include "hsmd/base/log.h"
#include "hsmd/keystore/keystore_internal.h"

#define HEAL_WAIT_MS 1000 // for a token that has just failed, while its watcher is at it
#define REOPEN_MS 1000    // a module that takes longer to be opened anew is not waited for

// One operation with its arguments, so that it can be done again.
struct operation {
    enum err (*run)(const struct operation *operation, struct token_session *session,
                    struct token_key *key, struct detail *detail);
    union {
        struct {
            enum token_scheme scheme;
            enum hash hash;
            unsigned salt;
            struct bytes digest;
            uint8_t *out;
            size_t *out_len;
        } sign;
        struct {
            const struct token_padding *padding;
            struct bytes ciphertext;
            struct secret *out;
        } unwrap;
        struct {
            struct bytes peer;
            bool cofactor;
            struct secret *z;
        } agree;
    };
};

static bool is_good(const struct place *place)
{
    return atomic_load(&place->key) && !atomic_load(&place->is_missing) &&
           atomic_load(&place->token->mood) == MOOD_WELL &&
           !atomic_load_explicit(&place->token->module->is_reopening, memory_order_relaxed);
}

// Whoever comes back with an answer shows that token and key are well.
static void praise(struct place *place)
{
    struct keystore_token *token = place->token;
    if (atomic_load_explicit(&place->failures, memory_order_relaxed))
        atomic_store(&place->failures, 0);
    if (atomic_load_explicit(&place->is_missing, memory_order_relaxed))
        keystore_tell_place(place, ERR_OK, NULL);
    if (atomic_load_explicit(&token->mood, memory_order_relaxed) == MOOD_WELL)
        return;
    atomic_store(&token->failures, 0);
    keystore_note(token);
}

// It is looked at at once. A request that has used up its time says nothing: the token may be busy.
static void blame(struct place *place, deadline_t deadline)
{
    struct keystore_token *token = place->token;
    keystore_note(token);
    if (deadline_is_past(deadline))
        return;
    atomic_fetch_add(&place->failures, 1);
    if (atomic_fetch_add(&token->doubts, 1) == 0)
        keystore_wake_watcher(token);
}

// With the module's gate entered.
static enum err run_inside(struct place *place, const struct operation *operation,
                           deadline_t deadline, struct detail *detail)
{
    struct keystore_token *token = place->token;
    struct token_session *session = NULL;
    struct token *opened = atomic_load(&token->token);
    if (atomic_load(&token->is_refused))
        return err_set(detail, ERR_TEMP, "token %s: its PIN was refused", token->conf->name);
    if (atomic_load(&token->is_unlocking))
        return err_set(detail, ERR_TEMP, "token %s: being unlocked", token->conf->name);
    if (!opened)
        return err_set(detail, ERR_TEMP, "token %s: not there", token->conf->name);
    enum err err =
        atomic_load(&place->key) ? ERR_OK : keystore_seek(place, false, deadline, detail);
    if (err == ERR_PERM) // a matter of the token, not of the request
        return ERR_TEMP;
    if (err == ERR_OK)
        err = token_session_get(opened, deadline, &session, detail);
    if (err == ERR_OK) {
        err = operation->run(operation, session, atomic_load(&place->key), detail);
        token_session_put(session);
    }
    if (err == ERR_DENIED) {
        keystore_give_up(token, detail);
        keystore_note(token);
        return ERR_TEMP;
    }
    if (err == ERR_TEMP)
        blame(place, deadline);
    else
        praise(place);
    return err;
}

static enum err run_at(struct place *place, const struct operation *operation, deadline_t deadline,
                       struct detail *detail)
{
    struct keystore_token *token = place->token;
    struct gate *gate = &token->module->gate;
    if (!gate_enter_unless_stuck(gate, deadline, REOPEN_MS))
        return err_set(detail, ERR_TEMP, "token %s: being opened anew", token->conf->name);
    enum err err = run_inside(place, operation, deadline, detail);
    gate_leave(gate);
    keystore_tell_changes(token, detail->text);
    return err;
}

static size_t place_in(const struct place_set *set, unsigned token)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct keystore_token *at = set->places[i]->token;
        if ((unsigned)(at - at->keystore->tokens) == token)
            return i;
    }
    return set->count;
}

static size_t pick_place(const struct place_set *set, const unsigned *outstanding)
{
    size_t best = set->count;
    unsigned least = 0;
    for (size_t i = 0; i < set->count; i++) {
        const struct keystore_token *at = set->places[i]->token;
        unsigned load = outstanding ? outstanding[at - at->keystore->tokens] : 0;
        if (is_good(set->places[i]) && (best == set->count || load < least)) {
            best = i;
            least = load;
        }
    }
    return best < set->count ? best : 0;
}

// The places in the order in which they are tried: the preferred one if it is well, the others that
// are well, and then those that are not. How many are well.
static size_t put_in_order(const struct place_set *set, unsigned token,
                           struct place *order[PLACES_MAX])
{
    bool is_well[PLACES_MAX];
    size_t count = 0;
    size_t well = 0;
    size_t first = token == KEYSTORE_ANY ? set->count : place_in(set, token);
    if (first == set->count)
        first = pick_place(set, NULL);
    for (size_t i = 0; i < set->count; i++)
        is_well[i] = is_good(set->places[i]);
    for (int turn = 1; turn >= 0; turn--) {
        for (size_t i = 0; i < set->count; i++) {
            size_t at = (first + i) % set->count;
            if (is_well[at] == turn)
                order[count++] = set->places[at];
        }
        well = turn ? count : well;
    }
    return well;
}

static enum err run_in_order(struct place *const *order, size_t count, size_t well,
                             const struct operation *operation, deadline_t deadline,
                             struct detail *detail)
{
    enum err err = ERR_TEMP;
    for (size_t i = 0; i < count && err == ERR_TEMP; i++) {
        if (i > 0 && deadline_is_past(deadline))
            break;
        // One that is only busy must leave some time for the others.
        size_t others = i < well ? well - i - 1 : 0;
        deadline_t limit = deadline;
        if (others)
            limit = deadline_in((unsigned)deadline_left(deadline) / (unsigned)(others + 1));
        err = run_at(order[i], operation, limit < deadline ? limit : deadline, detail);
    }
    return err;
}

// A request that a failure has met in hand is done once more when its token has been restored, the
// module opened anew if need be. Only one whose token and key were well when it came: those that
// come while a token is known to fail must not keep the workers from the others.
static enum err run(struct keystore_key *key, unsigned token, const struct operation *operation,
                    deadline_t deadline, struct detail *detail)
{
    const struct place_set *set = atomic_load(&key->places);
    struct place *order[PLACES_MAX];
    struct detail scratch = {0};
    size_t well = put_in_order(set, token, order);
    bool is_surprise = well && !atomic_load(&order[0]->failures);
    if (!detail)
        detail = &scratch;
    enum err err = run_in_order(order, set->count, well, operation, deadline, detail);
    deadline_t limit = deadline_in(HEAL_WAIT_MS);
    if (err != ERR_TEMP || !is_surprise || deadline_is_past(deadline) ||
        !keystore_wait_healed(order[0]->token, limit < deadline ? limit : deadline))
        return err;
    return run_at(order[0], operation, deadline, detail);
}

static enum err run_sign(const struct operation *operation, struct token_session *session,
                         struct token_key *key, struct detail *detail)
{
    return token_sign(session, key, operation->sign.scheme, operation->sign.hash,
                      operation->sign.salt, operation->sign.digest, operation->sign.out,
                      operation->sign.out_len, detail);
}

static enum err run_unwrap(const struct operation *operation, struct token_session *session,
                           struct token_key *key, struct detail *detail)
{
    return token_unwrap(session, key, operation->unwrap.padding, operation->unwrap.ciphertext,
                        operation->unwrap.out, detail);
}

static enum err run_agree(const struct operation *operation, struct token_session *session,
                          struct token_key *key, struct detail *detail)
{
    return token_agree(session, key, operation->agree.peer, operation->agree.cofactor,
                       operation->agree.z, detail);
}

static enum err sign(struct keystore_key *key, unsigned token, enum token_scheme scheme,
                     enum hash hash, unsigned salt, struct bytes digest, deadline_t deadline,
                     uint8_t *out, size_t *out_len, struct detail *detail)
{
    const struct operation operation = {.run = run_sign,
                                        .sign = {scheme, hash, salt, digest, out, out_len}};
    return run(key, token, &operation, deadline, detail);
}

static enum err unwrap(struct keystore_key *key, unsigned token,
                       const struct token_padding *padding, struct bytes ciphertext,
                       deadline_t deadline, struct secret *out, struct detail *detail)
{
    const struct operation operation = {.run = run_unwrap, .unwrap = {padding, ciphertext, out}};
    return run(key, token, &operation, deadline, detail);
}

static enum err agree(struct keystore_key *key, unsigned token, struct bytes peer, bool cofactor,
                      deadline_t deadline, struct secret *z, struct detail *detail)
{
    const struct operation operation = {.run = run_agree, .agree = {peer, cofactor, z}};
    return run(key, token, &operation, deadline, detail);
}

static const struct token_key_info *describe(const struct keystore_key *key)
{
    return atomic_load(&key->info);
}

static unsigned pick(const struct keystore_key *key, const unsigned *outstanding)
{
    const struct place_set *set = atomic_load(&key->places);
    const struct keystore_token *token = set->places[pick_place(set, outstanding)]->token;
    return (unsigned)(token - token->keystore->tokens);
}

const struct keystore_ops keystore_token_ops = {
    .sign = sign,
    .unwrap = unwrap,
    .agree = agree,
    .describe = describe,
    .pick = pick,
};
