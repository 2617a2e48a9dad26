// SPDX-License-Identifier: Apache-2.0
// Operations on keys in tokens, and the last step of healing.
//
// pkcs11/ heals sessions, logins and object handles by itself, and finds a token again that its
// module reports gone. What is left is a module that has lost its bearings while it says all is
// well, as SoftHSM does when its files were away for a while: such a one must be finalised and
// initialised. That happens here, when a token has failed several times in a row for reasons that
// may pass. It waits for the operations under way in that module, and gives up at once if one of
// them hangs.
//
// A key that is gone looks the same at first: SoftHSM that lost its files finds no keys either. So
// the module is opened anew for it, once; what is then not there is that key's own trouble. It is
// looked for by the requests that want it, and the others go on.
#include "hsmd/keystore/keystore_token.h"

#include "hsmd/base/log.h"
#include "hsmd/keystore/keystore_internal.h"

#define FAILURES_MAX 2       // in a row, before the module is opened anew
#define REOPEN_EVERY_MS 1000 // at most
#define REOPEN_WAIT_MS 200   // for the operations under way

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

// Does a failure speak against the token, so that opening it anew may help?
enum blame { BLAME_NOBODY, BLAME_TOKEN };

// The PIN was refused, inside of pkcs11/ or here. Said once; the token is left alone from now on,
// since the next try may lock it.
static void give_up(struct keystore_token *token, const struct detail *detail)
{
    if (!atomic_exchange(&token->is_refused, true))
        log_error("token", "token", token->conf->name, "state",
                  "given up until hsmd is started again", "err", detail->text);
}

// With the module's gate entered.
static enum err run_inside(struct keystore_key *key, const struct operation *operation,
                           deadline_t deadline, enum blame *blame, struct detail *detail)
{
    struct keystore_token *token = key->token;
    struct token_session *session = NULL;
    *blame = BLAME_NOBODY;
    if (atomic_load(&token->is_refused))
        return err_set(detail, ERR_TEMP, "token %s: its PIN was refused", token->conf->name);
    *blame = BLAME_TOKEN;
    if (!token->token)
        return err_set(detail, ERR_TEMP, "token %s: not there", token->conf->name);
    enum err err = atomic_load(&key->key) ? ERR_OK : keystore_seek_key(key, detail);
    if (err == ERR_PERM) { // it was there at the start: a matter of the token, not of the request
        *blame = BLAME_NOBODY;
        return ERR_TEMP;
    }
    if (err == ERR_OK)
        err = token_session_get(token->token, deadline, &session, detail);
    if (err == ERR_OK) {
        err = operation->run(operation, session, atomic_load(&key->key), detail);
        token_session_put(session);
    }
    if (err != ERR_DENIED)
        return err;
    give_up(token, detail);
    *blame = BLAME_NOBODY;
    return ERR_TEMP;
}

static enum err run_once(struct keystore_key *key, const struct operation *operation,
                         deadline_t deadline, enum blame *blame, struct detail *detail)
{
    struct gate *gate = &key->token->module->gate;
    struct detail scratch = {0};
    if (!detail)
        detail = &scratch;
    *blame = BLAME_TOKEN;
    if (!gate_enter(gate, deadline))
        return err_set(detail, ERR_TEMP, "token %s: being opened anew", key->token->conf->name);
    enum err err = run_inside(key, operation, deadline, blame, detail);
    gate_leave(gate);
    return err;
}

static void tell(const struct keystore_token *token, enum err err, const struct detail *detail)
{
    if (err == ERR_OK)
        log_notice("token", "token", token->conf->name, "state", "opened anew");
    else
        log_warning("token", "token", token->conf->name, "state", "not there", "err", detail->text);
}

// Closes all tokens of the module, which finalises it, and opens what can be opened.
static void reopen_module(struct keystore *keystore, struct keystore_module *module)
{
    for (size_t i = 0; i < keystore->token_count; i++) {
        if (keystore->tokens[i].module == module)
            keystore_close_token(keystore, &keystore->tokens[i]);
    }
    for (size_t i = 0; i < keystore->token_count; i++) {
        struct keystore_token *token = &keystore->tokens[i];
        struct detail detail = {0};
        if (token->module != module || atomic_load(&token->is_refused))
            continue;
        enum err err = keystore_open_token(keystore, token, false, &detail);
        if (err == ERR_OK)
            atomic_store(&token->failures, 0);
        if (err == ERR_DENIED)
            give_up(token, &detail);
        else
            tell(token, err, &detail);
    }
}

// Is it this thread's turn to open the module anew? One at a time, and not all the time: while one
// waits for the lock, no other operation begins.
static bool is_my_turn(struct keystore_module *module)
{
    deadline_t due = atomic_load(&module->next_try);
    return clock_ms() >= due &&
           atomic_compare_exchange_strong(&module->next_try, &due, deadline_in(REOPEN_EVERY_MS));
}

// After a temporary failure. True: the token is well again, it is worth another try.
static bool heal(struct keystore_key *key, deadline_t deadline)
{
    struct keystore_token *token = key->token;
    struct keystore_module *module = token->module;
    if (atomic_fetch_add(&token->failures, 1) + 1 < FAILURES_MAX)
        return false;
    bool mine = is_my_turn(module);
    deadline_t limit = deadline_in(mine ? REOPEN_WAIT_MS : REOPEN_EVERY_MS);
    deadline_t until = deadline < limit ? deadline : limit;
    if (!mine) { // another one is at it
        if (!gate_enter(&module->gate, until))
            return false;
        gate_leave(&module->gate);
        return atomic_load(&token->failures) == 0;
    }
    if (!gate_close(&module->gate, until))
        return false;
    if (atomic_load(&token->failures)) {
        reopen_module(key->keystore, module);
        atomic_store(&module->next_try, deadline_in(REOPEN_EVERY_MS));
    }
    gate_open(&module->gate);
    return atomic_load(&token->failures) == 0;
}

static enum err run(struct keystore_key *key, const struct operation *operation,
                    deadline_t deadline, struct detail *detail)
{
    enum blame blame;
    enum err err = run_once(key, operation, deadline, &blame, detail);
    // A request that has used up its time says nothing about the token: it may just be busy.
    if (err == ERR_TEMP && blame == BLAME_TOKEN && !deadline_is_past(deadline) &&
        heal(key, deadline))
        err = run_once(key, operation, deadline, &blame, detail);
    if (err != ERR_TEMP && atomic_load_explicit(&key->token->failures, memory_order_relaxed))
        atomic_store(&key->token->failures, 0);
    return err;
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

static enum err sign(struct keystore_key *key, enum token_scheme scheme, enum hash hash,
                     unsigned salt, struct bytes digest, deadline_t deadline, uint8_t *out,
                     size_t *out_len, struct detail *detail)
{
    const struct operation operation = {.run = run_sign,
                                        .sign = {scheme, hash, salt, digest, out, out_len}};
    return run(key, &operation, deadline, detail);
}

static enum err unwrap(struct keystore_key *key, const struct token_padding *padding,
                       struct bytes ciphertext, deadline_t deadline, struct secret *out,
                       struct detail *detail)
{
    const struct operation operation = {.run = run_unwrap, .unwrap = {padding, ciphertext, out}};
    return run(key, &operation, deadline, detail);
}

static enum err agree(struct keystore_key *key, struct bytes peer, bool cofactor,
                      deadline_t deadline, struct secret *z, struct detail *detail)
{
    const struct operation operation = {.run = run_agree, .agree = {peer, cofactor, z}};
    return run(key, &operation, deadline, detail);
}

static const struct token_key_info *describe(const struct keystore_key *key)
{
    return &key->info;
}

static unsigned token_number(const struct keystore_key *key)
{
    return (unsigned)(key->token - key->keystore->tokens);
}

const struct keystore_ops keystore_token_ops = {
    .sign = sign,
    .unwrap = unwrap,
    .agree = agree,
    .describe = describe,
    .token = token_number,
};
