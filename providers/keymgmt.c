// SPDX-License-Identifier: Apache-2.0
#include "providers/keymgmt.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/params.h>

void keymgmt_free(void *keydata)
{
    key_free(keydata);
}

void *keymgmt_load(const void *reference, size_t size)
{
    struct key_reference held;
    if (!reference || size != sizeof held)
        return NULL;
    memcpy(&held, reference, sizeof held);
    return key_hold(held.key);
}

void *keymgmt_dup(const void *keydata, int selection)
{
    return key_dup(keydata, selection);
}

int keymgmt_has(const void *keydata, int selection)
{
    const struct key *key = keydata;
    if (!key)
        return 0;
    if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) && !key->name)
        return 0;
    if ((selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) && !key->has_point)
        return 0;
    // RSA and Ed25519 keys have no domain parameters, so they lack none.
    return key->type != WIRE_KEY_EC || !(selection & OSSL_KEYMGMT_SELECT_DOMAIN_PARAMETERS) ||
           key->public_half;
}

// Two keys are the same if their public halves are.
int keymgmt_match(const void *keydata, const void *other, int selection)
{
    const struct key *a = keydata;
    const struct key *b = other;
    if (a->type != b->type || !a->public_half || !b->public_half)
        return 0;
    if (selection & OSSL_KEYMGMT_SELECT_KEYPAIR)
        return a->has_point && b->has_point && EVP_PKEY_eq(a->public_half, b->public_half) == 1;
    return a->type != WIRE_KEY_EC || EVP_PKEY_parameters_eq(a->public_half, b->public_half) == 1;
}

int keymgmt_validate(const void *keydata, int selection, int check_type)
{
    const struct key *key = keydata;
    EVP_PKEY_CTX *context = key_public_context(key);
    int ok = context != NULL;
    if (ok && (selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY))
        ok = key->has_point &&
             (check_type == OSSL_KEYMGMT_VALIDATE_QUICK_CHECK ? EVP_PKEY_public_check_quick(context)
                                                              : EVP_PKEY_public_check(context)) > 0;
    if (ok && key->type == WIRE_KEY_EC && (selection & OSSL_KEYMGMT_SELECT_DOMAIN_PARAMETERS))
        ok = (check_type == OSSL_KEYMGMT_VALIDATE_QUICK_CHECK ? EVP_PKEY_param_check_quick(context)
                                                              : EVP_PKEY_param_check(context)) > 0;
    // Of the private half hsmd has checked at its start that it goes with the public one.
    if (ok && (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY))
        ok = key->name != NULL;
    EVP_PKEY_CTX_free(context);
    return ok;
}

int keymgmt_get_params(void *keydata, OSSL_PARAM params[])
{
    const struct key *key = keydata;
    return key->public_half && EVP_PKEY_get_params(key->public_half, params) > 0;
}

int keymgmt_import(struct key *key, int selection, const OSSL_PARAM params[],
                   const char *public_name, const char *private_name)
{
    struct provider *prov = key->prov;
    if (key->public_half)
        return RAISE(prov, REASON_PUBLIC_HALF, "the key has one already");
    if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) &&
        OSSL_PARAM_locate_const(params, private_name))
        return RAISE(prov, REASON_PRIVATE_FOREIGN,
                     "only the keys of hsmd have a private half here");
    bool is_public = (selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) &&
                     OSSL_PARAM_locate_const(params, public_name);
    if (!is_public && key->type != WIRE_KEY_EC)
        return RAISE(prov, REASON_PUBLIC_HALF, "there is none");
    EVP_PKEY_CTX *context =
        EVP_PKEY_CTX_new_from_name(prov->libctx, key_type_name(key->type), NULL);
    EVP_PKEY *imported = NULL;
    if (!context || EVP_PKEY_fromdata_init(context) <= 0 ||
        EVP_PKEY_fromdata(context, &imported,
                          is_public ? EVP_PKEY_PUBLIC_KEY : EVP_PKEY_KEY_PARAMETERS,
                          (OSSL_PARAM *)params) <= 0)
        imported = NULL;
    EVP_PKEY_CTX_free(context);
    if (!imported)
        return RAISE(prov, REASON_PUBLIC_HALF, "it cannot be read");
    key->public_half = imported;
    key->has_point = is_public;
    return 1;
}

int keymgmt_export(void *keydata, int selection, OSSL_CALLBACK *callback, void *arg)
{
    const struct key *key = keydata;
    if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) && key->name)
        return RAISE(key->prov, REASON_PRIVATE_STAYS, "key %s", key->name);
    selection &= ~OSSL_KEYMGMT_SELECT_PRIVATE_KEY;
    if (!key->has_point)
        selection &= ~OSSL_KEYMGMT_SELECT_PUBLIC_KEY;
    return key->public_half && selection &&
           EVP_PKEY_export(key->public_half, selection, callback, arg) > 0;
}
