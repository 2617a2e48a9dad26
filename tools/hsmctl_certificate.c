// SPDX-License-Identifier: Apache-2.0
#include "tools/hsmctl_certificate.h"

#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/provider.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "hsmd/base/file.h"

#define FILE_SIZE_MAX ((size_t)1024 * 1024)

static enum err put_certificate(X509 *certificate, struct buf *out, struct detail *detail)
{
    unsigned char *der = NULL;
    int len = i2d_X509(certificate, &der);
    enum err err = len > 0 ? buf_put(out, der, (size_t)len) : ERR_TEMP;
    OPENSSL_free(der);
    return err == ERR_OK ? ERR_OK
                         : err_set(detail, err, "the certificates are over %zu bytes", out->max);
}

// The key goes from OpenSSL's memory to the locked one, and is nowhere else but in what OpenSSL
// wipes when it frees it.
static enum err take_key(EVP_PKEY *key, struct secret *private_key, struct buf *public_key,
                         struct detail *detail)
{
    PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(key);
    unsigned char *der = NULL;
    int len = info ? i2d_PKCS8_PRIV_KEY_INFO(info, NULL) : 0;
    enum err err = ERR_OK;
    if (len <= 0 || (size_t)len > private_key->room) {
        err = err_openssl(detail, ERR_PERM, "the private key cannot be written as PKCS#8");
    } else {
        unsigned char *place = private_key->data;
        i2d_PKCS8_PRIV_KEY_INFO(info, &place);
        private_key->len = (size_t)len;
    }
    PKCS8_PRIV_KEY_INFO_free(info);
    len = err == ERR_OK ? i2d_PUBKEY(key, &der) : 0;
    if (err == ERR_OK && (len <= 0 || buf_put(public_key, der, (size_t)len) != ERR_OK))
        err = err_openssl(detail, ERR_PERM, "the public key cannot be written");
    OPENSSL_free(der);
    return err;
}

static enum err read_pkcs12(const char *path, PKCS12 **pkcs12, struct detail *detail)
{
    struct buf file;
    buf_init(&file, FILE_SIZE_MAX);
    enum err err = file_read(path, &file, detail);
    const unsigned char *at = file.data;
    if (err == ERR_OK)
        *pkcs12 = d2i_PKCS12(NULL, &at, (long)file.len);
    if (err == ERR_OK && !*pkcs12)
        err = err_openssl(detail, ERR_PERM, "%s: no PKCS#12 file", path);
    buf_clear(&file); // encrypted
    return err;
}

// PKCS12_parse gives the other certificates in the file's order turned round; those that lead on
// from the key's own are put one after the other, the rest is left out.
static enum err put_chain(X509 *own, STACK_OF(X509) * others, struct buf *out,
                          struct detail *detail)
{
    X509 *last = own;
    enum err err = own ? put_certificate(own, out, detail) : ERR_OK;
    for (int n = 0; err == ERR_OK && last && n < sk_X509_num(others); n++) {
        X509 *next = NULL;
        bool is_end = X509_check_issued(last, last) == X509_V_OK;
        for (int i = 0; !is_end && !next && i < sk_X509_num(others); i++) {
            X509 *candidate = sk_X509_value(others, i);
            if (X509_check_issued(candidate, last) == X509_V_OK)
                next = candidate;
        }
        if (next)
            err = put_certificate(next, out, detail);
        last = next;
    }
    return err;
}

enum err certificate_open_pkcs12(const char *path, const struct secret *passphrase,
                                 struct secret *private_key, struct buf *public_key,
                                 struct buf *certificates, struct detail *detail)
{
    PKCS12 *pkcs12 = NULL;
    EVP_PKEY *key = NULL;
    X509 *own = NULL;
    STACK_OF(X509) *others = NULL;
    const char *text = (const char *)passphrase->data;
    // Other programs' files are still encrypted with RC2 and 3DES now and then.
    OSSL_PROVIDER *legacy = OSSL_PROVIDER_try_load(NULL, "legacy", 1);
    enum err err = read_pkcs12(path, &pkcs12, detail);
    ERR_clear_error();
    if (err == ERR_OK && PKCS12_mac_present(pkcs12) && !PKCS12_verify_mac(pkcs12, text, -1) &&
        !(passphrase->len == 0 && PKCS12_verify_mac(pkcs12, NULL, 0)))
        err = err_set(detail, ERR_DENIED, "%s: wrong passphrase", path);
    if (err == ERR_OK && !PKCS12_parse(pkcs12, text, &key, &own, &others))
        err = err_openssl(detail, ERR_PERM, "%s: cannot be opened", path);
    if (err == ERR_OK && !key)
        err = err_set(detail, ERR_PERM, "%s: no private key in it", path);
    if (err == ERR_OK)
        err = take_key(key, private_key, public_key, detail);
    if (err == ERR_OK)
        err = put_chain(own, others, certificates, detail);
    ERR_clear_error();
    EVP_PKEY_free(key);
    X509_free(own);
    sk_X509_pop_free(others, X509_free);
    PKCS12_free(pkcs12);
    OSSL_PROVIDER_unload(legacy);
    return err;
}

enum err certificate_read_chain(const char *path, struct buf *certificates, struct detail *detail)
{
    struct buf file;
    X509 *certificate = NULL;
    buf_init(&file, FILE_SIZE_MAX);
    enum err err = file_read(path, &file, detail);
    BIO *bio = err == ERR_OK ? BIO_new_mem_buf(file.data, (int)file.len) : NULL;
    ERR_clear_error();
    while (err == ERR_OK && bio && (certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
        err = put_certificate(certificate, certificates, detail);
        X509_free(certificate);
    }
    unsigned long reason = ERR_peek_last_error();
    if (err == ERR_OK && reason && ERR_GET_REASON(reason) != PEM_R_NO_START_LINE)
        err = err_openssl(detail, ERR_PERM, "%s: certificate %s cannot be read", path,
                          certificates->len ? "after the first" : "in PEM");
    if (err == ERR_OK && certificates->len == 0)
        err = err_set(detail, ERR_PERM, "%s: no certificate in PEM in it", path);
    ERR_clear_error();
    BIO_free(bio);
    buf_clear(&file);
    return err;
}
