// SPDX-License-Identifier: Apache-2.0
#include "gateway/cms.h"

#include <openssl/cms.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "gateway/cms_failure.h"
#include "gateway/cms_spool.h"

const char *cms_micalg(enum hash hash)
{
    switch (hash) { // RFC 8551, 3.5.3.2
    case HASH_SHA1:
        return "sha-1";
    case HASH_SHA224:
        return "sha-224";
    case HASH_SHA256:
        return "sha-256";
    case HASH_SHA384:
        return "sha-384";
    case HASH_SHA512:
        return "sha-512";
    case HASH_NONE:
    case HASH_COUNT:
        break;
    }
    return "unknown";
}

// What we can decrypt, best first (RFC 8551, 2.5.2). libcrypto's own list has RC2 and DES in it.
static bool add_capabilities(CMS_SignerInfo *si)
{
    static const int ciphers[] = {NID_aes_256_gcm, NID_aes_128_gcm, NID_aes_256_cbc,
                                  NID_aes_128_cbc};
    STACK_OF(X509_ALGOR) *list = NULL;
    bool is_good = true;
    for (size_t i = 0; is_good && i < sizeof ciphers / sizeof *ciphers; i++)
        is_good = CMS_add_simple_smimecap(&list, ciphers[i], -1) == 1;
    is_good = is_good && CMS_add_smimecap(si, list) == 1;
    sk_X509_ALGOR_pop_free(list, X509_ALGOR_free);
    return is_good;
}

// Signer first, then the chain, each once and no root: who does not have the root cannot trust it.
static bool add_chain(CMS_ContentInfo *cms, const struct cms_signer *signer)
{
    for (int i = 0; i < sk_X509_num(signer->chain); i++) {
        X509 *cert = sk_X509_value(signer->chain, i);
        bool is_known = X509_cmp(cert, signer->cert) == 0 || X509_self_signed(cert, 0) == 1;
        for (int k = 0; k < i && !is_known; k++)
            is_known = X509_cmp(cert, sk_X509_value(signer->chain, k)) == 0;
        if (!is_known && CMS_add1_cert(cms, cert) != 1)
            return false;
    }
    return true;
}

static bool set_pss(CMS_SignerInfo *si, const EVP_MD *md)
{
    EVP_PKEY_CTX *ctx = CMS_SignerInfo_get0_pkey_ctx(si);
    return ctx && EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) > 0 &&
           EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, md) > 0 &&
           EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) > 0;
}

// CMS_CADES adds signingCertificateV2 with the signature's hash; content-type, signing-time and
// message-digest come with the signature.
static bool add_signer(CMS_ContentInfo *cms, const struct cms_signer *signer, const EVP_MD *md)
{
    unsigned flags = CMS_PARTIAL | CMS_NOSMIMECAP | CMS_CADES | (signer->pss ? CMS_KEY_PARAM : 0);
    CMS_SignerInfo *si = CMS_add1_signer(cms, signer->cert, signer->key, md, flags);
    return si && add_capabilities(si) && (!signer->pss || set_pss(si, md)) &&
           add_chain(cms, signer);
}

static enum err signer_check(const struct cms_signer *signer, struct detail *detail)
{
    bool is_rsa = EVP_PKEY_is_a(signer->key, "RSA"), is_ec = EVP_PKEY_is_a(signer->key, "EC");
    if (!is_rsa && !is_ec)
        return err_set(detail, ERR_PERM, "unsupported: signing with a key that is not RSA or EC");
    if (signer->pss && !is_rsa)
        return err_set(detail, ERR_PERM, "RSA-PSS with a key that is not RSA");
    if (hash_size(signer->hash) < hash_size(HASH_SHA256))
        return err_set(detail, ERR_PERM, "forbidden: signing with %s", hash_name(signer->hash));
    return ERR_OK;
}

enum err cms_sign(const struct cms_signer *signer, struct bytes content, bool detached,
                  struct spool *out, struct detail *detail)
{
    CMS_ContentInfo *cms = NULL;
    BIO *source = NULL;
    unsigned flags = CMS_PARTIAL | CMS_BINARY | (detached ? CMS_DETACHED : 0);
    ERR_clear_error();
    enum err err = signer_check(signer, detail);
    if (err != ERR_OK)
        return err;
    const EVP_MD *md = EVP_get_digestbyname(hash_name(signer->hash));
    source = cms_source(content);
    cms = CMS_sign(NULL, NULL, NULL, NULL, flags);
    if (!md || !source || !cms || !add_signer(cms, signer, md)) {
        err = cms_failure(detail, ERR_TEMP, "cannot prepare the signature");
        goto out;
    }
    if (CMS_final(cms, source, NULL, flags) != 1) {
        err = cms_failure(detail, ERR_TEMP, "cannot sign");
        goto out;
    }
    err = cms_put_der(cms, out, detail);
out:
    CMS_ContentInfo_free(cms);
    BIO_free(source);
    ERR_clear_error();
    return err;
}
