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
};

// Own certificate first; the others without roots.
static enum err certificates_take(struct identity *identity, STACK_OF(X509) * certs,
                                  struct detail *detail)
{
    STACK_OF(X509) *chain = sk_X509_new_null();
    bool is_good = chain != NULL;
    for (int i = 1; i < sk_X509_num(certs) && is_good; i++) {
        X509 *cert = sk_X509_value(certs, i);
        if (X509_self_signed(cert, 0) == 1)
            continue;
        is_good = X509_up_ref(cert) == 1;
        if (is_good && sk_X509_push(chain, cert) <= 0) {
            X509_free(cert);
            is_good = false;
        }
    }
    if (!is_good) {
        sk_X509_pop_free(chain, X509_free);
        return err_set(detail, ERR_TEMP, "out of memory");
    }
    identity->cert = sk_X509_value(certs, 0);
    X509_up_ref(identity->cert);
    identity->chain = chain;
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
    made->name = mem_strdup(conf->name);
    made->key_uri = mem_strdup(conf->key_uri);
    if (!made->name || !made->key_uri) {
        err = err_set(detail, ERR_TEMP, "out of memory");
        goto out;
    }
    if (conf->certificate_file) {
        err = certificate_read(conf->certificate_file, &certs, detail);
        if (err == ERR_OK)
            err = certificates_take(made, certs, detail);
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

static enum err material_load(struct identity *identity, struct detail *detail)
{
    EVP_PKEY *key = NULL;
    STACK_OF(X509) *certs = sk_X509_new_null();
    ERR_clear_error();
    enum err err = certs ? store_read(identity, &key, certs, detail) : ERR_TEMP;
    if (err != ERR_OK)
        goto out;
    if (!identity->cert && sk_X509_num(certs) == 0) {
        err = err_set(detail, ERR_PERM, "%s: no certificate, neither in a file nor with the key",
                      identity->key_uri);
        goto out;
    }
    X509 *cert = identity->cert ? identity->cert : sk_X509_value(certs, 0);
    if (X509_check_private_key(cert, key) != 1) {
        err = cms_failure(detail, ERR_PERM, "key and certificate do not match");
        goto out;
    }
    if (!identity->cert)
        err = certificates_take(identity, certs, detail);
    if (err != ERR_OK)
        goto out;
    identity->key = key;
    key = NULL;
out:
    EVP_PKEY_free(key);
    sk_X509_pop_free(certs, X509_free);
    ERR_clear_error();
    return err;
}

enum err identity_get(struct identity *identity, struct identity_material *material,
                      struct detail *detail)
{
    pthread_mutex_lock(&identity->lock);
    enum err err = identity->key ? ERR_OK : material_load(identity, detail);
    if (err == ERR_OK)
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
