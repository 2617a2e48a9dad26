// SPDX-License-Identifier: Apache-2.0
// OSSL_STORE for hsmd:NAME, which gives the key by reference and its certificates, and for hsmd:,
// which gives the names of all keys.
//
// hsmd is asked when the URI is opened, so that a failure is the failure to open it; what load
// hands out is here by then. Certificates go out as DER and become the default provider's business.
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/core_object.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/store.h>
#include <openssl/x509.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/text.h"
#include "providers/key.h"

#define NAMES_MAX (1u << 20) // bytes of all names together

struct store {
    struct provider *prov;
    int expected; // OSSL_STORE_INFO_*; 0: anything

    struct key *key; // of hsmd:NAME
    bool key_given;
    size_t certificates_given; // bytes

    struct buf names; // of hsmd:, each ended by a 0
    size_t names_given;
    bool is_terse; // a description failed: give the other names without asking for theirs

    // Callers ask for the end right after a failed load, and take a failure at the end for the end:
    // so the end comes one load later.
    bool failed;
};

static void store_free(struct store *store)
{
    key_free(store->key);
    buf_clear(&store->names);
    mem_free(store);
}

// One page of names after the last one we have. more: there may be another.
static bool names_fetch(struct store *store, struct bytes *after, bool *more)
{
    struct wire_request request = {.operation = WIRE_LIST, .list = {.after = *after}};
    struct wire_reply reply = {0};
    struct buf frame;
    bool ok = false;
    buf_init(&frame, WIRE_FRAME_MAX);
    if (provider_call(store->prov, &request, NULL, &frame, &reply) != ERR_OK)
        goto out;
    for (size_t i = 0; i < reply.list.count; i++) {
        struct bytes name = reply.list.names[i];
        if (!text_is_name((const char *)name.data, name.len)) {
            RAISE(store->prov, REASON_REPLY, "not a name in the list of keys");
            goto out;
        }
        if (buf_put_bytes(&store->names, name) != ERR_OK ||
            buf_put(&store->names, "", 1) != ERR_OK) {
            RAISE(store->prov, REASON_MEMORY, "for the names of the keys");
            goto out;
        }
        // Names come sorted; the last one is where the next page begins. A hsmd that goes back
        // would have us ask for ever: the cap of the buffer ends that.
        *after = bytes_of(store->names.data + store->names.len - name.len - 1, name.len);
    }
    *more = reply.list.count >= WIRE_LIST_MAX;
    ok = true;
out:
    buf_clear(&frame);
    return ok;
}

static bool names_fetch_all(struct store *store)
{
    char last[WIRE_NAME_MAX + 1] = "";
    struct bytes after = bytes_of_text(last);
    bool more = true;
    while (more) {
        if (!names_fetch(store, &after, &more))
            return false;
        if (after.len > WIRE_NAME_MAX)
            return RAISE(store->prov, REASON_REPLY, "a name too long");
        memmove(last, after.data, after.len); // the buffer may move
        after = bytes_of(last, after.len);
    }
    return true;
}

static void *store_open(void *provctx, const char *uri)
{
    struct provider *prov = provctx;
    char quoted[TEXT_QUOTED_SIZE];
    size_t scheme = strlen(PROVIDER_SCHEME ":");
    text_quote(uri, strlen(uri), quoted, sizeof quoted);
    if (strncasecmp(uri, PROVIDER_SCHEME ":", scheme) != 0) {
        RAISE(prov, REASON_URI, "%s", quoted);
        return NULL;
    }
    const char *name = uri + scheme;
    if (strpbrk(name, "?;#")) {
        RAISE(prov, REASON_URI, "%s: parameters are not known here, it is hsmd:NAME", quoted);
        return NULL;
    }
    if (*name && !text_is_name(name, strlen(name))) {
        RAISE(prov, REASON_URI, "%s: a name is 1 to %d of a-z A-Z 0-9 . _ -", quoted,
              TEXT_NAME_MAX);
        return NULL;
    }
    struct store *store = mem_calloc(1, sizeof *store);
    if (!store) {
        RAISE(prov, REASON_MEMORY, "for a store");
        return NULL;
    }
    store->prov = prov;
    buf_init(&store->names, NAMES_MAX);
    bool ok = *name ? (store->key = key_fetch(prov, name)) != NULL : names_fetch_all(store);
    if (!ok) {
        store_free(store);
        return NULL;
    }
    return store;
}

static const OSSL_PARAM *store_settable_ctx_params(void *provctx)
{
    static const OSSL_PARAM params[] = {OSSL_PARAM_int(OSSL_STORE_PARAM_EXPECT, NULL),
                                        OSSL_PARAM_END};
    (void)provctx;
    return params;
}

static int store_set_ctx_params(void *loaderctx, const OSSL_PARAM params[])
{
    struct store *store = loaderctx;
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, OSSL_STORE_PARAM_EXPECT);
    return !p || OSSL_PARAM_get_int(p, &store->expected);
}

static bool is_key_due(const struct store *store)
{
    return store->key && !store->key_given &&
           (store->expected == 0 || store->expected == OSSL_STORE_INFO_PKEY ||
            store->expected == OSSL_STORE_INFO_PUBKEY);
}

static bool is_certificate_due(const struct store *store)
{
    return store->key && store->certificates_given < store->key->certificates_len &&
           (store->expected == 0 || store->expected == OSSL_STORE_INFO_CERT);
}

static bool is_name_due(const struct store *store)
{
    return store->names_given < store->names.len;
}

static int name_give(struct store *store, OSSL_CALLBACK *callback, void *arg)
{
    const char *name = (const char *)store->names.data + store->names_given;
    char uri[sizeof PROVIDER_SCHEME + 1 + TEXT_NAME_MAX];
    char description[120];
    int type = OSSL_OBJECT_NAME;
    OSSL_PARAM params[4];
    size_t n = 0;
    store->names_given += strlen(name) + 1;
    snprintf(uri, sizeof uri, PROVIDER_SCHEME ":%s", name);
    params[n++] = OSSL_PARAM_construct_int(OSSL_OBJECT_PARAM_TYPE, &type);
    params[n++] = OSSL_PARAM_construct_utf8_string(OSSL_OBJECT_PARAM_DATA, uri, 0);
    ERR_set_mark();
    struct key *key = store->is_terse ? NULL : key_fetch(store->prov, name);
    ERR_pop_to_mark();
    if (key) {
        snprintf(description, sizeof description, "%s %u bits, %s, %s", key_type_name(key->type),
                 key_bits(key), wire_purpose_name(key->purpose), wire_state_name(key->state));
        params[n++] = OSSL_PARAM_construct_utf8_string(OSSL_OBJECT_PARAM_DESC, description, 0);
    }
    store->is_terse = !key;
    key_free(key);
    params[n] = OSSL_PARAM_construct_end();
    return callback(params, arg);
}

// Somebody who wants a public key gets it as DER, so that it is an ordinary one.
static int public_key_give(struct store *store, OSSL_CALLBACK *callback, void *arg)
{
    int type = OSSL_OBJECT_PKEY;
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(store->key->public_half, &der);
    if (len <= 0)
        return RAISE(store->prov, REASON_PUBLIC_HALF, "cannot encode it");
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_int(OSSL_OBJECT_PARAM_TYPE, &type),
        OSSL_PARAM_construct_utf8_string(OSSL_OBJECT_PARAM_DATA_STRUCTURE,
                                         (char *)"SubjectPublicKeyInfo", 0),
        OSSL_PARAM_construct_octet_string(OSSL_OBJECT_PARAM_DATA, der, (size_t)len),
        OSSL_PARAM_END};
    int ok = callback(params, arg);
    OPENSSL_free(der);
    return ok;
}

static int key_give(struct store *store, OSSL_CALLBACK *callback, void *arg)
{
    int type = OSSL_OBJECT_PKEY;
    struct key_reference reference = {store->key};
    OSSL_PARAM params[] = {OSSL_PARAM_construct_int(OSSL_OBJECT_PARAM_TYPE, &type),
                           OSSL_PARAM_construct_utf8_string(OSSL_OBJECT_PARAM_DATA_TYPE,
                                                            (char *)key_type_name(store->key->type),
                                                            0),
                           OSSL_PARAM_construct_octet_string(OSSL_OBJECT_PARAM_REFERENCE,
                                                             &reference, sizeof reference),
                           OSSL_PARAM_END};
    store->key_given = true;
    if (store->expected == OSSL_STORE_INFO_PUBKEY)
        return public_key_give(store, callback, arg);
    return callback(params, arg);
}

static int certificate_give(struct store *store, OSSL_CALLBACK *callback, void *arg)
{
    int type = OSSL_OBJECT_CERT;
    const uint8_t *start = store->key->certificates + store->certificates_given;
    const unsigned char *end = start;
    X509 *certificate =
        d2i_X509(NULL, &end, (long)(store->key->certificates_len - store->certificates_given));
    X509_free(certificate);
    if (!certificate) {
        store->certificates_given = store->key->certificates_len;
        return RAISE(store->prov, REASON_REPLY, "a certificate of key %s cannot be read",
                     store->key->name);
    }
    store->certificates_given += (size_t)(end - start);
    OSSL_PARAM params[] = {OSSL_PARAM_construct_int(OSSL_OBJECT_PARAM_TYPE, &type),
                           OSSL_PARAM_construct_octet_string(OSSL_OBJECT_PARAM_DATA, (void *)start,
                                                             (size_t)(end - start)),
                           OSSL_PARAM_END};
    return callback(params, arg);
}

static int store_load(void *loaderctx, OSSL_CALLBACK *callback, void *arg,
                      OSSL_PASSPHRASE_CALLBACK *passphrase, void *passphrase_arg)
{
    struct store *store = loaderctx;
    int ok = 0;
    (void)passphrase;
    (void)passphrase_arg;
    store->failed = false;
    if (is_name_due(store))
        ok = name_give(store, callback, arg);
    else if (is_key_due(store))
        ok = key_give(store, callback, arg);
    else if (is_certificate_due(store))
        ok = certificate_give(store, callback, arg);
    else
        return 0;
    store->failed = !ok;
    return ok;
}

static int store_eof(void *loaderctx)
{
    const struct store *store = loaderctx;
    return !store->failed && !is_name_due(store) && !is_key_due(store) &&
           !is_certificate_due(store);
}

static int store_close(void *loaderctx)
{
    store_free(loaderctx);
    return 1;
}

const OSSL_DISPATCH store_functions[] = {
    DISPATCH(OSSL_FUNC_STORE_OPEN, store_open),
    DISPATCH(OSSL_FUNC_STORE_SETTABLE_CTX_PARAMS, store_settable_ctx_params),
    DISPATCH(OSSL_FUNC_STORE_SET_CTX_PARAMS, store_set_ctx_params),
    DISPATCH(OSSL_FUNC_STORE_LOAD, store_load),
    DISPATCH(OSSL_FUNC_STORE_EOF, store_eof),
    DISPATCH(OSSL_FUNC_STORE_CLOSE, store_close),
    DISPATCH_LAST};
