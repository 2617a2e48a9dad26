// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/internal.h"

#include <stdio.h>
#include <string.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/text.h"

#define LISTED_SIZE 240

static bool slot_matches(const struct token *token, const struct slot *slot)
{
    return (!token->label || strcmp(token->label, slot->label) == 0) &&
           (!token->serial || strcmp(token->serial, slot->serial) == 0);
}

// What is there, for the one who looks for the mistake in a label.
static const char *list_slots(const struct slot *slots, unsigned count, char out[LISTED_SIZE])
{
    size_t len = 0;
    snprintf(out, LISTED_SIZE, "none");
    for (unsigned i = 0; i < count && len < LISTED_SIZE; i++) {
        const struct slot *slot = &slots[i];
        char label[4 * sizeof slot->label];
        char serial[4 * sizeof slot->serial];
        text_quote(slot->label, strlen(slot->label), label, sizeof label);
        text_quote(slot->serial, strlen(slot->serial), serial, sizeof serial);
        len += (size_t)snprintf(out + len, LISTED_SIZE - len, "%s'%s' (serial %s)", i ? ", " : "",
                                label, serial);
    }
    return out;
}

enum err token_find_slot(struct token *token, CK_SLOT_ID *slot, struct detail *detail)
{
    struct slot slots[SLOTS_MAX];
    unsigned count = 0, matches = 0;
    enum err err = module_slots(token->module, slots, &count, detail);
    if (err)
        return err_prefix(detail, err, "token %s", token->name);
    for (unsigned i = 0; i < count; i++) {
        if (!slot_matches(token, &slots[i]))
            continue;
        *slot = slots[i].id;
        matches++;
    }
    if (matches == 1)
        return ERR_OK;
    char wanted[TEXT_QUOTED_SIZE];
    char there[LISTED_SIZE];
    const char *by = token->label ? token->label : token->serial;
    return err_set(detail, ERR_PERM, "token %s: %s token with the %s '%s'; in the module: %s",
                   token->name, matches ? "more than one" : "no", token->label ? "label" : "serial",
                   text_quote(by, strlen(by), wanted, sizeof wanted),
                   list_slots(slots, count, there));
}

static void ask_mechanism(struct token *token, CK_MECHANISM_TYPE type)
{
    CK_MECHANISM_INFO info;
    struct mechanisms *can = &token->can;
    if (token->fn->C_GetMechanismInfo(token->slot, type, &info) != CKR_OK)
        return;
    bool sign = info.flags & CKF_SIGN, decrypt = info.flags & CKF_DECRYPT;
    bool derive = info.flags & CKF_DERIVE;
    switch (type) {
    case CKM_RSA_X_509:
        can->x509_sign = sign;
        can->x509_decrypt = decrypt;
        break;
    case CKM_RSA_PKCS:
        can->pkcs1_sign = sign;
        can->pkcs1_decrypt = decrypt;
        break;
    case CKM_RSA_PKCS_PSS:
        can->pss_sign = sign;
        break;
    case CKM_RSA_PKCS_OAEP:
        can->oaep_decrypt = decrypt;
        break;
    case CKM_ECDSA:
        can->ecdsa_sign = sign;
        break;
    case CKM_EDDSA:
        can->eddsa_sign = sign;
        break;
    case CKM_ECDH1_DERIVE:
        can->ecdh = derive;
        break;
    case CKM_ECDH1_COFACTOR_DERIVE:
        can->ecdh_cofactor = derive;
        break;
    case CKM_RSA_PKCS_KEY_PAIR_GEN:
        can->rsa_generate = info.flags & CKF_GENERATE_KEY_PAIR;
        can->rsa_bits_min = info.ulMinKeySize;
        can->rsa_bits_max = info.ulMaxKeySize;
        break;
    case CKM_EC_KEY_PAIR_GEN:
        can->ec_generate = info.flags & CKF_GENERATE_KEY_PAIR;
        break;
    case CKM_EC_EDWARDS_KEY_PAIR_GEN:
        can->eddsa_generate = info.flags & CKF_GENERATE_KEY_PAIR;
        break;
    case CKM_AES_KEY_GEN:
        can->aes_generate = info.flags & CKF_GENERATE;
        break;
    case CKM_AES_KEY_WRAP:
        can->wrap_unwrap = info.flags & CKF_UNWRAP;
        break;
    case CKM_AES_KEY_WRAP_PAD:
        can->wrap_pad_unwrap = info.flags & CKF_UNWRAP;
        break;
    case MECHANISM_AES_KWP:
        can->kwp_unwrap = info.flags & CKF_UNWRAP;
        break;
    default:
        break;
    }
}

static enum err ask_mechanisms(struct token *token, struct detail *detail)
{
    CK_ULONG count = 0;
    CK_RV rv = token->fn->C_GetMechanismList(token->slot, NULL, &count);
    CK_MECHANISM_TYPE *list = rv == CKR_OK ? mem_calloc(count, sizeof *list) : NULL;
    if (rv == CKR_OK && !list)
        return err_set(detail, ERR_TEMP, "token %s: out of memory", token->name);
    if (rv == CKR_OK)
        rv = token->fn->C_GetMechanismList(token->slot, list, &count);
    for (CK_ULONG i = 0; rv == CKR_OK && i < count; i++)
        ask_mechanism(token, list[i]);
    mem_free(list);
    if (rv != CKR_OK)
        return err_set(detail, ERR_TEMP, "token %s: C_GetMechanismList: %s", token->name,
                       rv_name(rv));
    const struct mechanisms *can = &token->can;
    token->info.rsa_raw = can->x509_decrypt;
    token->info.rsa_pkcs1 = can->pkcs1_sign || can->x509_sign;
    token->info.rsa_pss = can->pss_sign || can->x509_sign;
    token->info.rsa_oaep = can->oaep_decrypt || can->x509_decrypt;
    token->info.ecdsa = can->ecdsa_sign;
    token->info.eddsa = can->eddsa_sign;
    token->info.ecdh = can->ecdh || can->ecdh_cofactor;
    return ERR_OK;
}

static enum err ask_token(struct token *token, struct detail *detail)
{
    CK_TOKEN_INFO info;
    CK_RV rv = token->fn->C_GetTokenInfo(token->slot, &info);
    if (rv != CKR_OK)
        return err_set(detail, ERR_TEMP, "token %s: C_GetTokenInfo: %s", token->name, rv_name(rv));
    module_text(info.label, sizeof info.label, token->info.label);
    module_text(info.serialNumber, sizeof info.serialNumber, token->info.serial);
    module_text(info.manufacturerID, sizeof info.manufacturerID, token->info.manufacturer);
    module_text(info.model, sizeof info.model, token->info.model);
    if (info.ulMaxSessionCount != CK_UNAVAILABLE_INFORMATION)
        token->info.sessions_max = info.ulMaxSessionCount;
    token->needs_login = info.flags & CKF_LOGIN_REQUIRED;
    token->is_locked = token->needs_login;
    if (!(info.flags & CKF_USER_PIN_INITIALIZED) && token->needs_login)
        return err_set(detail, ERR_PERM, "token %s: it has no user PIN yet", token->name);
    return ask_mechanisms(token, detail);
}

static enum err init_sync(struct token *token)
{
    pthread_condattr_t attr;
    pthread_mutex_init(&token->lock, NULL);
    if (pthread_condattr_init(&attr) != 0)
        return ERR_TEMP;
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC); // deadlines are on it
    pthread_cond_init(&token->changed, &attr);
    pthread_condattr_destroy(&attr);
    return ERR_OK;
}

static enum err init(struct token *token, const struct token_conf *conf, struct detail *detail)
{
    token->wait_ms = conf->wait_ms;
    token->forgets_pin = conf->forget_pin;
    token->session_count = conf->sessions;
    token->name = mem_strdup(conf->name);
    token->label = conf->label ? mem_strdup(conf->label) : NULL;
    token->serial = conf->serial ? mem_strdup(conf->serial) : NULL;
    if (!token->name || (conf->label && !token->label) || (conf->serial && !token->serial))
        return err_set(detail, ERR_TEMP, "token %s: out of memory", conf->name);
    token->sessions[conf->sessions].is_rw = true;
    for (unsigned i = 0; i < token_all_sessions(token); i++) {
        token->sessions[i].token = token;
        enum err err = secret_init(&token->sessions[i].scratch, PADDING_BLOCK_MAX, detail);
        if (err)
            return err;
    }
    return ERR_OK;
}

enum err token_open(const struct token_conf *conf, struct token **token, struct detail *detail)
{
    if (!conf->label && !conf->serial)
        return err_set(detail, ERR_PERM, "token %s: neither label nor serial given", conf->name);
    if (conf->sessions < 1 || conf->sessions > TOKEN_SESSIONS_MAX)
        return err_set(detail, ERR_PERM, "token %s: sessions must be 1 to %d", conf->name,
                       TOKEN_SESSIONS_MAX);
    struct token *new = mem_calloc(1, sizeof *new);
    if (!new || init_sync(new) != ERR_OK) {
        mem_free(new);
        return err_set(detail, ERR_TEMP, "token %s: out of memory", conf->name);
    }
    enum err err = init(new, conf, detail);
    if (!err) {
        err = module_get(conf->module, conf->init_args, &new->module, detail);
        if (err)
            err = err_prefix(detail, err, "token %s", conf->name);
    }
    if (!err) {
        new->fn = module_functions(new->module);
        err = token_find_slot(new, &new->slot, detail);
    }
    if (!err)
        err = ask_token(new, detail);
    // A token that is short of sessions is not asked for one to hold copies.
    unsigned long most = new->info.sessions_max;
    new->may_copy = conf->copy_keys && (!most || most >= token_all_sessions(new));
    if (err) {
        token_close(new);
        return err;
    }
    *token = new;
    return ERR_OK;
}

void token_close(struct token *token)
{
    if (!token)
        return;
    for (unsigned i = 0; i < token_all_sessions(token); i++) {
        if (!token->sessions[i].token)
            continue; // token_open ended early
        session_drop(&token->sessions[i]);
        secret_clear(&token->sessions[i].scratch);
    }
    module_put(token->module);
    secret_clear(&token->pin);
    pthread_cond_destroy(&token->changed);
    pthread_mutex_destroy(&token->lock);
    mem_free(token->name);
    mem_free(token->label);
    mem_free(token->serial);
    mem_free(token);
}

const struct token_info *token_describe(const struct token *token)
{
    return &token->info;
}

static enum err keep_pin(struct token *token, const struct secret *pin, struct detail *detail)
{
    enum err err = ERR_OK;
    if (token->pin.room < pin->len) {
        secret_clear(&token->pin);
        token->pin = (struct secret){0};
    }
    if (!token->pin.data)
        err = secret_init(&token->pin, pin->len, detail);
    if (!err && secret_set(&token->pin, pin->data, pin->len) != ERR_OK)
        err = err_set(detail, ERR_DENIED, "token %s: the PIN is too long", token->name);
    pthread_mutex_lock(&token->lock);
    breaker_reset(token); // who gives a PIN wants to see it tried
    token->is_pin_refused = false;
    token->is_locked = token->needs_login && err;
    pthread_mutex_unlock(&token->lock);
    token->has_pin = !err;
    return err;
}

enum err token_login(struct token *token, const struct secret *pin, struct detail *detail)
{
    struct token_session *sessions[TOKEN_SESSIONS_MAX];
    deadline_t deadline = deadline_in(token->wait_ms);
    unsigned count = 0;
    enum err err = session_heal_begin(token, deadline, detail);
    if (err)
        return err;
    err = keep_pin(token, pin, detail);
    session_heal_end(token);
    if (err)
        return err;
    err = token_session_get(token, deadline, &sessions[0], detail);
    if (err)
        return err;
    if (token->forgets_pin)
        admin_hold_login(token);
    // The others as far as the token has them to give; the rest stays closed until it has.
    for (count = 1; count < token->session_count; count++) {
        if (token_session_get(token, clock_ms(), &sessions[count], NULL) != ERR_OK)
            break;
    }
    while (count > 0)
        token_session_put(sessions[--count]);
    return ERR_OK;
}
