// SPDX-License-Identifier: Apache-2.0
#include "providers/key.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/x509.h>

#include "hsmd/base/alloc.h"

const char *key_type_name(enum wire_key_type type)
{
    switch (type) {
    case WIRE_KEY_RSA:
        return "RSA";
    case WIRE_KEY_EC:
        return "EC";
    case WIRE_KEY_ED25519:
        break;
    }
    return "ED25519";
}

struct key *key_new(struct provider *prov, enum wire_key_type type)
{
    struct key *key = mem_calloc(1, sizeof *key);
    if (!key) {
        RAISE(prov, REASON_MEMORY, "for a key");
        return NULL;
    }
    atomic_init(&key->users, 1);
    key->prov = prov;
    key->type = type;
    return key;
}

struct key *key_hold(struct key *key)
{
    if (key)
        atomic_fetch_add_explicit(&key->users, 1, memory_order_relaxed);
    return key;
}

void key_free(struct key *key)
{
    if (!key || atomic_fetch_sub_explicit(&key->users, 1, memory_order_acq_rel) != 1)
        return;
    EVP_PKEY_free(key->public_half);
    mem_free(key->name);
    mem_free(key->certificates);
    mem_free(key);
}

static bool key_fill(struct key *key, const struct wire_description *description)
{
    struct provider *prov = key->prov;
    const unsigned char *der = description->public_key.data;
    key->public_half =
        d2i_PUBKEY_ex(NULL, &der, (long)description->public_key.len, prov->libctx, NULL);
    if (!key->public_half || der != description->public_key.data + description->public_key.len ||
        !EVP_PKEY_is_a(key->public_half, key_type_name(key->type)))
        return RAISE(prov, REASON_REPLY, "the public key of %s cannot be read", key->name);
    key->has_point = true;
    key->purpose = description->purpose;
    key->state = description->state;
    if (description->certificates.len) {
        key->certificates = mem_calloc(description->certificates.len, 1);
        if (!key->certificates)
            return RAISE(prov, REASON_MEMORY, "for certificates");
        memcpy(key->certificates, description->certificates.data, description->certificates.len);
        key->certificates_len = description->certificates.len;
    }
    return true;
}

struct key *key_fetch(struct provider *prov, const char *name)
{
    struct wire_request request = {.operation = WIRE_DESCRIBE,
                                   .describe = {.key = bytes_of_text(name)}};
    struct wire_reply reply = {0};
    struct buf frame;
    struct key *key = NULL;
    buf_init(&frame, WIRE_FRAME_MAX);
    if (provider_call(prov, &request, "no such key, or no grant for it", &frame, &reply) != ERR_OK)
        goto out;
    if (!bytes_equal(reply.description.name, request.describe.key)) {
        RAISE(prov, REASON_REPLY, "asked for key %s, another one was described", name);
        goto out;
    }
    key = key_new(prov, reply.description.type);
    if (!key)
        goto out;
    key->name = mem_strdup(name);
    if (!key->name || !key_fill(key, &reply.description)) {
        if (!key->name)
            RAISE(prov, REASON_MEMORY, "for a name");
        key_free(key);
        key = NULL;
    }
out:
    buf_clear(&frame);
    return key;
}

// The curve alone.
static EVP_PKEY *parameters_dup(const struct key *key)
{
    char curve[80];
    size_t len = 0;
    EVP_PKEY *copy = NULL;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(key->prov->libctx, "EC", NULL);
    if (context &&
        EVP_PKEY_get_utf8_string_param(key->public_half, OSSL_PKEY_PARAM_GROUP_NAME, curve,
                                       sizeof curve, &len) &&
        EVP_PKEY_fromdata_init(context) > 0) {
        OSSL_PARAM params[] = {
            OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, curve, 0), OSSL_PARAM_END};
        if (EVP_PKEY_fromdata(context, &copy, EVP_PKEY_KEY_PARAMETERS, params) <= 0)
            copy = NULL;
    }
    EVP_PKEY_CTX_free(context);
    return copy;
}

static bool private_dup(struct key *copy, const struct key *key)
{
    copy->name = mem_strdup(key->name);
    copy->purpose = key->purpose;
    copy->state = key->state;
    if (key->certificates_len) {
        copy->certificates = mem_calloc(key->certificates_len, 1);
        if (copy->certificates) {
            memcpy(copy->certificates, key->certificates, key->certificates_len);
            copy->certificates_len = key->certificates_len;
        }
    }
    return copy->name && copy->certificates_len == key->certificates_len;
}

struct key *key_dup(const struct key *key, int selection)
{
    struct key *copy = key_new(key->prov, key->type);
    if (!copy || !key->public_half)
        return copy;
    bool wants_private = (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) && key->name;
    bool wants_public = (selection & OSSL_KEYMGMT_SELECT_KEYPAIR) && key->has_point;
    bool ok = true;
    if (wants_public || wants_private) {
        copy->public_half = EVP_PKEY_dup(key->public_half);
        copy->has_point = true;
        ok = copy->public_half != NULL;
    } else if (key->type == WIRE_KEY_EC) {
        copy->public_half = parameters_dup(key);
        ok = copy->public_half != NULL;
    }
    if (ok && wants_private)
        ok = private_dup(copy, key);
    if (!ok) {
        RAISE(key->prov, REASON_PUBLIC_HALF, "cannot copy a key");
        key_free(copy);
        return NULL;
    }
    return copy;
}

unsigned key_bits(const struct key *key)
{
    int bits = key->public_half ? EVP_PKEY_get_bits(key->public_half) : 0;
    return bits > 0 ? (unsigned)bits : 0;
}

size_t key_size(const struct key *key)
{
    int size = key->has_point ? EVP_PKEY_get_size(key->public_half) : 0;
    return size > 0 ? (size_t)size : 0;
}

EVP_PKEY_CTX *key_public_context(const struct key *key)
{
    EVP_PKEY_CTX *context = NULL;
    if (key->public_half)
        context = EVP_PKEY_CTX_new_from_pkey(key->prov->libctx, key->public_half, NULL);
    if (!context)
        RAISE(key->prov, REASON_PUBLIC_HALF, "no context for it");
    return context;
}

bool key_check_use(const struct key *key, enum wire_purpose purpose, const char *verb)
{
    if (!key->name)
        return RAISE(key->prov, REASON_NO_PRIVATE, "cannot %s", verb);
    if (key->purpose == purpose || key->purpose == WIRE_GENERAL)
        return true;
    return RAISE(key->prov, REASON_PURPOSE, "key %s is of purpose %s and does not %s", key->name,
                 wire_purpose_name(key->purpose), verb);
}
