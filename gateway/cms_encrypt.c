// SPDX-License-Identifier: Apache-2.0
#include "gateway/cms.h"

#include <string.h>
#include <strings.h>

#include <openssl/cms.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/rsa.h>

#include "gateway/certificate.h"
#include "gateway/cms_spool.h"

static const struct {
    const char *name;
    const EVP_CIPHER *(*cipher)(void);
    const EVP_CIPHER *(*wrap)(void); // of the same key size (RFC 8551, 2.3)
    bool is_aead;
} ciphers[] = {
    [CMS_AES_128_CBC] = {"aes-128-cbc", EVP_aes_128_cbc, EVP_aes_128_wrap, false},
    [CMS_AES_192_CBC] = {"aes-192-cbc", EVP_aes_192_cbc, EVP_aes_192_wrap, false},
    [CMS_AES_256_CBC] = {"aes-256-cbc", EVP_aes_256_cbc, EVP_aes_256_wrap, false},
    [CMS_AES_128_GCM] = {"aes-128-gcm", EVP_aes_128_gcm, EVP_aes_128_wrap, true},
    [CMS_AES_192_GCM] = {"aes-192-gcm", EVP_aes_192_gcm, EVP_aes_192_wrap, true},
    [CMS_AES_256_GCM] = {"aes-256-gcm", EVP_aes_256_gcm, EVP_aes_256_wrap, true},
};

bool cms_cipher_is_aead(enum cms_cipher cipher)
{
    return ciphers[cipher].is_aead;
}

bool cms_cipher_by_name(const char *name, enum cms_cipher *cipher)
{
    for (size_t i = 0; i < sizeof ciphers / sizeof *ciphers; i++) {
        if (strcasecmp(ciphers[i].name, name) == 0) {
            *cipher = (enum cms_cipher)i;
            return true;
        }
    }
    return false;
}

// RFC 3560 with SHA-256 throughout and no label.
static bool transport_prepare(CMS_RecipientInfo *ri, bool oaep)
{
    EVP_PKEY_CTX *ctx = CMS_RecipientInfo_get0_pkey_ctx(ri);
    if (!oaep)
        return true;
    return ctx && EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) > 0 &&
           EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_sha256()) > 0 &&
           EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, EVP_sha256()) > 0;
}

// RFC 5753, 7.1: libcrypto's default is the SHA-1 KDF.
static bool agreement_prepare(CMS_RecipientInfo *ri, const EVP_CIPHER *wrap)
{
    EVP_PKEY_CTX *ctx = CMS_RecipientInfo_get0_pkey_ctx(ri);
    EVP_CIPHER_CTX *kek = CMS_RecipientInfo_kari_get0_ctx(ri);
    return ctx && kek && EVP_PKEY_CTX_set_ecdh_kdf_md(ctx, EVP_sha256()) > 0 &&
           EVP_EncryptInit_ex(kek, wrap, NULL, NULL, NULL) == 1;
}

static enum err recipient_add(CMS_ContentInfo *cms, const struct cms_encryption *encryption,
                              X509 *cert, struct detail *detail)
{
    char subject[200];
    EVP_PKEY *key = X509_get0_pubkey(cert);
    bool is_rsa = key && EVP_PKEY_is_a(key, "RSA");
    certificate_subject(cert, subject, sizeof subject);
    if (!is_rsa && !(key && EVP_PKEY_is_a(key, "EC")))
        return err_set(detail, ERR_PERM, "unsupported: encrypting to the key of %s", subject);
    CMS_RecipientInfo *ri = CMS_add1_recipient_cert(cms, cert, CMS_KEY_PARAM);
    bool is_good = ri && (is_rsa ? transport_prepare(ri, encryption->oaep)
                                 : agreement_prepare(ri, ciphers[encryption->cipher].wrap()));
    return is_good ? ERR_OK : err_openssl(detail, ERR_PERM, "cannot encrypt to %s", subject);
}

enum err cms_encrypt(const struct cms_encryption *encryption, struct bytes content,
                     struct spool *out, struct detail *detail)
{
    BIO *source = NULL;
    CMS_ContentInfo *cms = NULL;
    enum err err = ERR_OK;
    ERR_clear_error();
    if (sk_X509_num(encryption->recipients) <= 0)
        return err_set(detail, ERR_BUG, "encrypting to nobody");
    source = cms_source(content);
    cms = CMS_encrypt(NULL, NULL, ciphers[encryption->cipher].cipher(), CMS_PARTIAL | CMS_BINARY);
    if (!source || !cms) {
        err = err_openssl(detail, ERR_TEMP, "cannot prepare the encryption");
        goto out;
    }
    for (int i = 0; err == ERR_OK && i < sk_X509_num(encryption->recipients); i++)
        err = recipient_add(cms, encryption, sk_X509_value(encryption->recipients, i), detail);
    if (err != ERR_OK)
        goto out;
    if (CMS_final(cms, source, NULL, CMS_BINARY) != 1) {
        err = err_openssl(detail, ERR_PERM, "cannot encrypt");
        goto out;
    }
    err = cms_put_der(cms, out, detail);
out:
    CMS_ContentInfo_free(cms);
    BIO_free(source);
    ERR_clear_error();
    return err;
}
