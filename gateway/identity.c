// SPDX-License-Identifier: Apache-2.0
#include "gateway/identity.h"

#include <pthread.h>

#include <openssl/err.h>
#include <openssl/store.h>

#include "gateway/certificate.h"
#include "gateway/cms_failure.h"
#include "hsmd/base/alloc.h"

#define OBJECTS_MAX 100 // looked at in one store

struct identity {
    char *name;
    char *key_uri;
    pthread_mutex_t lock; // over the rest; what was got once never changes
    EVP_PKEY *key;        // NULL until it was got
    X509 *cert;
    STACK_OF(X509) * chain;
    pthread_cond_t tried;
    bool is_loading; // by one thread, without the lock; the others share its result
    unsigned tries;
    enum err failure; // of the last try
    struct detail why;
};

// What a store gave.
struct loaded {
    EVP_PKEY *key;
    X509 *cert; // NULL: the identity has its own already
    STACK_OF(X509) * chain;
};

// Own certificate first; the others without roots.
static enum err certificates_take(STACK_OF(X509) * certs, X509 **cert, STACK_OF(X509) * *others,
                                  struct detail *detail)
{
    STACK_OF(X509) *chain = sk_X509_new_null();
    bool is_good = chain != NULL;
    for (int i = 1; i < sk_X509_num(certs) && is_good; i++) {
        X509 *other = sk_X509_value(certs, i);
        if (X509_self_signed(other, 0) == 1)
            continue;
        is_good = X509_up_ref(other) == 1;
        if (is_good && sk_X509_push(chain, other) <= 0) {
            X509_free(other);
            is_good = false;
        }
    }
    if (!is_good) {
        sk_X509_pop_free(chain, X509_free);
        return err_set(detail, ERR_TEMP, "out of memory");
    }
    *cert = sk_X509_value(certs, 0);
    X509_up_ref(*cert);
    *others = chain;
    return ERR_OK;
}

enum err identity_open(const struct identity_conf *conf, struct identity **identity,
                       struct detail *detail)
{
    enum err err = ERR_OK;
    STACK_OF(X509) *certs = NULL;
    struct identity *made = mem_calloc(1, sizeof *made);
    if (!made)
        return err_set(detail, ERR_TEMP, "out of memory");
    pthread_mutex_init(&made->lock, NULL);
    pthread_cond_init(&made->tried, NULL);
    made->name = mem_strdup(conf->name);
    made->key_uri = mem_strdup(conf->key_uri);
    if (!made->name || !made->key_uri) {
        err = err_set(detail, ERR_TEMP, "out of memory");
        goto out;
    }
    if (conf->certificate_file) {
        err = certificate_read(conf->certificate_file, &certs, detail);
        if (err == ERR_OK)
            err = certificates_take(certs, &made->cert, &made->chain, detail);
    }
    if (err != ERR_OK)
        goto out;
    *identity = made;
    made = NULL;
out:
    sk_X509_pop_free(certs, X509_free);
    identity_close(made);
    return err;
}

void identity_close(struct identity *identity)
{
    if (!identity)
        return;
    EVP_PKEY_free(identity->key);
    X509_free(identity->cert);
    sk_X509_pop_free(identity->chain, X509_free);
    pthread_cond_destroy(&identity->tried);
    pthread_mutex_destroy(&identity->lock);
    mem_free(identity->name);
    mem_free(identity->key_uri);
    mem_free(identity);
}

const char *identity_name(const struct identity *identity)
{
    return identity->name;
}

// The first private key, and all certificates, that the URI gives.
static enum err store_read(const struct identity *identity, EVP_PKEY **key, STACK_OF(X509) * certs,
                           struct detail *detail)
{
    enum err err = ERR_OK;
    OSSL_STORE_CTX *store =
        OSSL_STORE_open_ex(identity->key_uri, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
    if (!store)
        return cms_failure(detail, ERR_TEMP, identity->key_uri);
    for (int i = 0; i < OBJECTS_MAX && !OSSL_STORE_eof(store); i++) {
        OSSL_STORE_INFO *info = OSSL_STORE_load(store);
        int type = info ? OSSL_STORE_INFO_get_type(info) : 0;
        if (type == OSSL_STORE_INFO_PKEY && !*key) {
            *key = OSSL_STORE_INFO_get1_PKEY(info);
        } else if (type == OSSL_STORE_INFO_CERT) {
            X509 *cert = OSSL_STORE_INFO_get1_CERT(info);
            if (cert && sk_X509_push(certs, cert) <= 0)
                X509_free(cert);
        }
        OSSL_STORE_INFO_free(info);
        if (!info && OSSL_STORE_error(store))
            break;
    }
    if (!*key)
        err = cms_failure(detail, ERR_PERM, identity->key_uri);
    OSSL_STORE_close(store);
    return err;
}

// own: the identity's certificate, if it is known.
static enum err material_load(const struct identity *identity, X509 *own, struct loaded *loaded,
                              struct detail *detail)
{
    EVP_PKEY *key = NULL;
    STACK_OF(X509) *certs = sk_X509_new_null();
    ERR_clear_error();
    enum err err = certs ? store_read(identity, &key, certs, detail) : ERR_TEMP;
    if (err != ERR_OK)
        goto out;
    if (!own && sk_X509_num(certs) == 0) {
        err = err_set(detail, ERR_PERM, "%s: no certificate, neither in a file nor with the key",
                      identity->key_uri);
        goto out;
    }
    X509 *cert = own ? own : sk_X509_value(certs, 0);
    if (X509_check_private_key(cert, key) != 1) {
        err = cms_failure(detail, ERR_PERM, "key and certificate do not match");
        goto out;
    }
    if (!own)
        err = certificates_take(certs, &loaded->cert, &loaded->chain, detail);
    if (err != ERR_OK)
        goto out;
    loaded->key = key;
    key = NULL;
out:
    EVP_PKEY_free(key);
    sk_X509_pop_free(certs, X509_free);
    ERR_clear_error();
    return err;
}

// Both with the lock held, and identity->key or failure and why afterwards.
static void load(struct identity *identity)
{
    struct loaded loaded = {0};
    struct detail why = {0};
    X509 *own = identity->cert;
    identity->is_loading = true;
    pthread_mutex_unlock(&identity->lock); // hsmd may let us wait
    enum err err = material_load(identity, own, &loaded, &why);
    pthread_mutex_lock(&identity->lock);
    if (err == ERR_OK && !own) {
        identity->cert = loaded.cert;
        identity->chain = loaded.chain;
    }
    identity->key = loaded.key;
    identity->failure = err;
    identity->why = why;
    identity->is_loading = false;
    identity->tries++;
    pthread_cond_broadcast(&identity->tried);
}

static void wait_for_other(struct identity *identity)
{
    unsigned tries = identity->tries;
    while (identity->tries == tries)
        pthread_cond_wait(&identity->tried, &identity->lock);
}

enum err identity_get(struct identity *identity, struct identity_material *material,
                      struct detail *detail)
{
    enum err err = ERR_OK;
    pthread_mutex_lock(&identity->lock);
    if (!identity->key && identity->is_loading)
        wait_for_other(identity);
    else if (!identity->key)
        load(identity);
    if (!identity->key)
        err = err_set(detail, identity->failure, "%s", identity->why.text);
    else
        *material = (struct identity_material){identity->key, identity->cert, identity->chain};
    pthread_mutex_unlock(&identity->lock);
    return err == ERR_OK ? ERR_OK : err_prefix(detail, err, "identity %s", identity->name);
}

X509 *identity_certificate(const struct identity *identity)
{
    // The lock is not part of the value.
    struct identity *locked = (struct identity *)identity;
    pthread_mutex_lock(&locked->lock);
    X509 *cert = locked->cert;
    pthread_mutex_unlock(&locked->lock);
    return cert;
}
