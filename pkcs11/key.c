// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/internal.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/text.h"

static const struct curve {
    const char *group, *name;
    int nid;
} curves[] = {
    {SN_X9_62_prime256v1, "P-256", NID_X9_62_prime256v1},
    {SN_secp384r1, "P-384", NID_secp384r1},
    {SN_secp521r1, "P-521", NID_secp521r1},
};

static enum err find_private(struct token_session *session, const struct token_key *key,
                             CK_OBJECT_HANDLE *handle, struct detail *detail)
{
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_OBJECT_HANDLE found[2];
    CK_ULONG count = 0;
    struct template match = {.count = 0};
    template_put(&match, CKA_CLASS, &class, sizeof class);
    template_put_flag(&match, CKA_TOKEN, true); // no copy
    if (key->id_len)
        template_put(&match, CKA_ID, key->id, key->id_len);
    if (*key->label || !key->id_len) // the CKA_ID alone may say which
        template_put(&match, CKA_LABEL, key->label, strlen(key->label));
    enum err err = object_find(session, match.items, match.count, found, 2, &count, detail);
    if (err)
        return err;
    if (count == 0)
        err = object_check_login(session, detail);
    if (err)
        return err;
    if (count != 1)
        return err_set(detail, ERR_PERM,
                       count ? "more than one private key matches" : "no such private key");
    *handle = found[0];
    return ERR_OK;
}

// The key's own CKA_ID, by which its public half is found.
static enum err read_id(struct token_session *session, CK_OBJECT_HANDLE handle,
                        struct token_key *key, struct detail *detail)
{
    struct buf id;
    buf_init(&id, sizeof key->id);
    enum err err = object_bytes(session, handle, CKA_ID, &id, detail);
    if (!err) {
        memcpy(key->id, buf_text(&id), id.len);
        key->id_len = id.len;
    }
    buf_clear(&id);
    return err;
}

static enum err read_flags(struct token_session *session, CK_OBJECT_HANDLE handle,
                           struct token_key_info *info, bool is_for_use, struct detail *detail)
{
    bool ask_every_time = false;
    // What a token does not say is taken as the worse of the two.
    const struct {
        CK_ATTRIBUTE_TYPE type;
        bool if_absent, *value;
    } flags[] = {
        {CKA_EXTRACTABLE, true, &info->extractable},
        {CKA_SENSITIVE, false, &info->sensitive},
        {CKA_ALWAYS_SENSITIVE, false, &info->always_sensitive},
        {CKA_NEVER_EXTRACTABLE, false, &info->never_extractable},
        {CKA_SIGN, false, &info->can_sign},
        {CKA_DECRYPT, false, &info->can_decrypt},
        {CKA_DERIVE, false, &info->can_derive},
        {CKA_ALWAYS_AUTHENTICATE, false, &ask_every_time},
    };
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        enum err err =
            object_bool(session, handle, flags[i].type, flags[i].if_absent, flags[i].value, detail);
        if (err)
            return err;
    }
    if (ask_every_time && is_for_use)
        return err_set(detail, ERR_PERM,
                       "it wants the PIN anew for every use (CKA_ALWAYS_AUTHENTICATE), which is "
                       "not supported");
    return ERR_OK;
}

static enum err take_rsa(struct token_key *key, EVP_PKEY *pkey, struct detail *detail)
{
    BIGNUM *n = NULL;
    key->info.type = TOKEN_KEY_RSA;
    key->info.bits = (unsigned)EVP_PKEY_get_bits(pkey);
    key->size = (key->info.bits + 7) / 8;
    if (key->size < 64 || key->size > PADDING_BLOCK_MAX)
        return err_set(detail, ERR_PERM, "a modulus of %u bits is not supported", key->info.bits);
    key->modulus = mem_calloc(1, key->size);
    if (!key->modulus || !EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_N, &n))
        return err_openssl(detail, ERR_TEMP, "out of memory");
    BN_bn2binpad(n, key->modulus, (int)key->size);
    BN_free(n);
    return ERR_OK;
}

static enum err take_ed25519(struct token_key *key)
{
    key->info.type = TOKEN_KEY_ED25519;
    key->info.bits = 8 * EDWARDS_SIZE;
    key->size = EDWARDS_SIZE;
    return ERR_OK;
}

static enum err take_ec(struct token_key *key, EVP_PKEY *pkey, struct detail *detail)
{
    char group[64] = "";
    key->info.type = TOKEN_KEY_EC;
    key->info.bits = (unsigned)EVP_PKEY_get_bits(pkey);
    key->size = (key->info.bits + 7) / 8;
    (void)EVP_PKEY_get_group_name(pkey, group, sizeof group, NULL);
    for (size_t i = 0; i < sizeof curves / sizeof *curves; i++) {
        if (strcmp(curves[i].group, group) != 0)
            continue;
        key->info.curve = curves[i].name;
        key->group = EC_GROUP_new_by_curve_name(curves[i].nid);
        if (!key->group)
            return err_openssl(detail, ERR_TEMP, "out of memory");
        return ERR_OK;
    }
    return err_set(detail, ERR_PERM, "the curve %s is not supported", *group ? group : "it is on");
}

int curve_nid(unsigned bits)
{
    switch (bits) {
    case 256:
        return NID_X9_62_prime256v1;
    case 384:
        return NID_secp384r1;
    case 521:
        return NID_secp521r1;
    default:
        return NID_undef;
    }
}

enum err public_encode(EVP_PKEY *pkey, uint8_t **spki, size_t *spki_len, struct detail *detail)
{
    unsigned char *der = NULL;
    if (EVP_PKEY_is_a(pkey, "EC"))
        (void)EVP_PKEY_set_utf8_string_param(pkey, OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT,
                                             "uncompressed");
    int len = i2d_PUBKEY(pkey, &der);
    if (len <= 0)
        return err_openssl(detail, ERR_TEMP, "cannot encode its public key");
    *spki = mem_calloc(1, (size_t)len);
    if (*spki) {
        memcpy(*spki, der, (size_t)len);
        *spki_len = (size_t)len;
    }
    OPENSSL_free(der);
    return *spki ? ERR_OK : err_set(detail, ERR_TEMP, "out of memory");
}

static enum err take_public(struct token_key *key, EVP_PKEY *pkey, struct detail *detail)
{
    enum err err = EVP_PKEY_is_a(pkey, "RSA")       ? take_rsa(key, pkey, detail)
                   : EVP_PKEY_is_a(pkey, "ED25519") ? take_ed25519(key)
                                                    : take_ec(key, pkey, detail);
    if (!err)
        err = public_encode(pkey, &key->spki, &key->info.public_key.len, detail);
    key->info.public_key.data = key->spki;
    return err;
}

static enum err read_public(struct token_session *session, CK_OBJECT_HANDLE handle,
                            const struct token_key *key, EVP_PKEY **pkey, struct detail *detail)
{
    CK_KEY_TYPE type;
    enum err err = object_ulong(session, handle, CKA_KEY_TYPE, &type, detail);
    if (err)
        return err;
    if (!key_type_openssl(type))
        return err_set(detail, ERR_PERM, "only RSA, EC and Ed25519 keys are supported");
    err = public_read(session, handle, type, key, pkey, detail);
    if (!err && !EVP_PKEY_is_a(*pkey, key_type_openssl(type))) {
        EVP_PKEY_free(*pkey);
        *pkey = NULL;
        err = err_set(detail, ERR_PERM, "its public half is of another type");
    }
    return err;
}

// Everything token_key_open wants to know.
static enum err read_key(struct token_session *session, struct token_key *key,
                         struct detail *detail)
{
    CK_OBJECT_HANDLE handle;
    EVP_PKEY *pkey = NULL;
    uint64_t generation = token_generation(key->token).objects;
    enum err err = find_private(session, key, &handle, detail);
    if (!err && key->id_len == 0)
        err = read_id(session, handle, key, detail);
    if (!err)
        err = read_flags(session, handle, &key->info, true, detail);
    if (!err)
        err = read_public(session, handle, key, &pkey, detail);
    if (err)
        return err;
    err = take_public(key, pkey, detail);
    EVP_PKEY_free(pkey);
    if (err)
        return err;
    key->handle = handle;
    key->generation = generation;
    key->is_found = true;
    return ERR_OK;
}

static void forget(struct token_key *key)
{
    mem_free(key->spki);
    mem_free(key->modulus);
    EC_GROUP_free(key->group);
    key->spki = key->modulus = NULL;
    key->group = NULL;
    key->info = (struct token_key_info){0};
}

// An RSA private key tells its modulus. If that is another one there is no need to try the key,
// which may fail in odd ways for numbers beyond its modulus.
static enum err check_modulus(struct token_session *session, const struct token_key *key,
                              struct detail *detail)
{
    struct buf modulus;
    buf_init(&modulus, (size_t)2 * PADDING_BLOCK_MAX);
    enum err err = object_bytes(session, key->handle, CKA_MODULUS, &modulus, detail);
    struct bytes told = buf_bytes(&modulus);
    while (told.len > 0 && *told.data == 0)
        told = bytes_of(told.data + 1, told.len - 1);
    if (!err && told.len > 0 && !bytes_equal(told, bytes_of(key->modulus, key->size)))
        err = err_set(detail, ERR_PERM, "the public key is not that of the private key");
    buf_clear(&modulus);
    return err;
}

enum err key_new(struct token *token, const char *label, size_t id_len, struct token_key **key,
                 struct detail *detail)
{
    struct token_key *new = mem_calloc(1, sizeof *new);
    char *copy = new ? mem_strdup(label) : NULL;
    if (!copy || id_len > sizeof new->id) {
        mem_free(new);
        mem_free(copy);
        return err_set(detail, copy ? ERR_PERM : ERR_TEMP, "token %s: %s", token->name,
                       copy ? "CKA_ID is too long" : "out of memory");
    }
    new->token = token;
    new->label = copy;
    pthread_mutex_init(&new->lock, NULL);
    *key = new;
    return ERR_OK;
}

enum err key_read(struct token_session *session, struct token_key *key, struct bytes id,
                  struct detail *detail)
{
    forget(key);
    if (id.len > 0)
        memcpy(key->id, id.data, id.len);
    key->id_len = id.len; // read_key may have set it
    enum err err = read_key(session, key, detail);
    if (!err && key->info.type == TOKEN_KEY_RSA)
        err = check_modulus(session, key, detail);
    if (!err && key->info.type == TOKEN_KEY_RSA && key->info.can_decrypt)
        err = unwrap_make_seed(session, key, detail);
    return err ? err : pair_check(session, key, &key->info.is_pair_proved, detail);
}

enum err key_read_object(struct token_session *session, CK_OBJECT_HANDLE object,
                         struct token_key *key, bool *is_known, struct detail *detail)
{
    EVP_PKEY *pkey = NULL;
    *is_known = false;
    enum err err = read_id(session, object, key, detail);
    if (!err)
        err = read_flags(session, object, &key->info, false, detail);
    if (err)
        return err;
    err = read_public(session, object, key, &pkey, detail);
    if (!err) {
        err = take_public(key, pkey, detail);
        EVP_PKEY_free(pkey);
    }
    *is_known = !err;
    return err == ERR_PERM ? ERR_OK : err; // it is one that we cannot use
}

enum err token_key_open(struct token *token, const char *label, struct bytes id,
                        struct token_key **key, struct detail *detail)
{
    return token_key_open_in_time(token, label, id, deadline_in(token->wait_ms), key, detail);
}

enum err token_key_open_in_time(struct token *token, const char *label, struct bytes id,
                                deadline_t deadline, struct token_key **key, struct detail *detail)
{
    char quoted[TEXT_QUOTED_SIZE];
    struct token_session *session = NULL;
    struct token_key *new = NULL;
    enum err err = key_new(token, label, id.len, &new, detail);
    if (err || !new)
        return err;
    err = token_session_get(token, deadline, &session, detail);
    for (int attempt = 0; session && (attempt == 0 || (attempt == 1 && err == ERR_TEMP));
         attempt++) {
        err = session_restore(session, detail);
        if (!err)
            err = session_enter(session, detail);
        if (err)
            continue;
        err = key_read(session, new, id, detail);
        session_leave(session);
    }
    token_session_put(session);
    if (err) {
        err = err_prefix(detail, err, "key \"%s\"",
                         text_quote(label, strlen(label), quoted, sizeof quoted));
        token_key_close(new);
        return err;
    }
    *key = new;
    return ERR_OK;
}

void token_key_close(struct token_key *key)
{
    if (!key)
        return;
    forget(key);
    explicit_bzero(key->seed_secret, sizeof key->seed_secret);
    pthread_mutex_destroy(&key->lock);
    mem_free(key->label);
    mem_free(key);
}

const struct token_key_info *token_key_describe(const struct token_key *key)
{
    return &key->info;
}

// Finds the private key again, and makes sure that it is still the same one.
static enum err find_again(struct token_session *session, struct token_key *key,
                           CK_OBJECT_HANDLE *handle, struct detail *detail)
{
    EVP_PKEY *pkey = NULL;
    uint8_t *spki = NULL;
    size_t len = 0;
    enum err err = find_private(session, key, handle, detail);
    if (!err)
        err = read_public(session, *handle, key, &pkey, detail);
    if (!err)
        err = public_encode(pkey, &spki, &len, detail);
    if (!err && !bytes_equal(bytes_of(spki, len), key->info.public_key))
        err = err_set(detail, ERR_TEMP, "another key took its place");
    EVP_PKEY_free(pkey);
    mem_free(spki);
    return err;
}

static enum err current_handle(struct token_session *session, struct token_key *key,
                               CK_OBJECT_HANDLE *handle, struct detail *detail)
{
    uint64_t generation = token_generation(key->token).objects;
    pthread_mutex_lock(&key->lock);
    if (session->is_object_lost)
        key->is_found = false;
    session->is_object_lost = false;
    bool is_found = key->is_found && key->generation == generation;
    *handle = key->handle;
    pthread_mutex_unlock(&key->lock);
    if (is_found)
        return copy_use(session, key, handle, detail);
    enum err err = find_again(session, key, handle, detail);
    if (err) // it was there once: a matter of the token, not of the request
        return err_prefix(detail, ERR_TEMP, "key \"%s\"", key->label);
    pthread_mutex_lock(&key->lock);
    key->handle = *handle;
    key->generation = generation;
    key->is_found = true;
    pthread_mutex_unlock(&key->lock);
    return copy_use(session, key, handle, detail);
}

enum err key_run(struct token_session *session, struct token_key *key, key_use_fn use, void *arg,
                 struct detail *detail)
{
    struct token *token = key->token;
    CK_OBJECT_HANDLE handle;
    enum err err = ERR_TEMP;
    if (session->token != token)
        return err_set(detail, ERR_BUG, "a session of another token");
    for (int attempt = 0; attempt < 2 && err == ERR_TEMP; attempt++) {
        err = session_restore(session, detail);
        if (err)
            continue;
        copy_prepare(session, key);
        struct generation before = token_generation(token);
        err = session_enter(session, detail);
        if (err)
            continue;
        err = current_handle(session, key, &handle, detail);
        if (!err)
            err = use(session, key, handle, arg, detail);
        session_leave(session);
        struct generation after = token_generation(token);
        if (!err && (before.sessions != after.sessions || before.objects != after.objects ||
                     before.copies != after.copies))
            err = err_set(detail, ERR_TEMP, "token %s: it was restored meanwhile", token->name);
        if (err == ERR_TEMP)
            copy_doubt(key);
    }
    pthread_mutex_lock(&token->lock);
    breaker_note_call(token, err);
    pthread_mutex_unlock(&token->lock);
    return err;
}
