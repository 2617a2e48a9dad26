// SPDX-License-Identifier: Apache-2.0
// Decryption. Two things decide how it is done. Outside, one text for every cryptographic cause: no
// oracle for who can send us mail and see what becomes of it. Inside, a failure of hsmd must not
// look like one, or mail would be lost; CMS_decrypt hides both alike, so the steps are taken one by
// one.
#include "gateway/cms.h"

#include <openssl/cms.h>
#include <openssl/err.h>

#include "gateway/cms_failure.h"
#include "gateway/cms_spool.h"

#define ATTEMPTS_MAX 8 // private-key operations one message can cost

static enum err refuse(struct detail *detail)
{
    return err_set(detail, ERR_PERM, "decryption failed");
}

static bool is_oaep(CMS_RecipientInfo *ri)
{
    X509_ALGOR *algorithm = NULL;
    return CMS_RecipientInfo_ktri_get0_algs(ri, NULL, NULL, &algorithm) == 1 &&
           OBJ_obj2nid(algorithm->algorithm) == NID_rsaesOaep;
}

// Content-encryption key by key transport. Failure of v1.5 that is not hsmd's leaves the key unset:
// then a random one is taken and the content fails, so that bad padding and a wrong key look the
// same. OAEP has nothing of that kind to hide.
static enum err transport_open(CMS_ContentInfo *cms, CMS_RecipientInfo *ri,
                               const struct cms_identity *identity, struct detail *detail)
{
    EVP_PKEY_up_ref(identity->key);
    if (CMS_RecipientInfo_set0_pkey(ri, identity->key) != 1) {
        EVP_PKEY_free(identity->key);
        return ERR_BUG;
    }
    struct detail cause = {0};
    enum err err = ERR_OK;
    if (CMS_RecipientInfo_decrypt(cms, ri) != 1)
        err = cms_failure(&cause, ERR_PERM, identity->name);
    CMS_RecipientInfo_set0_pkey(ri, NULL);
    if (err == ERR_PERM)
        return is_oaep(ri) ? refuse(detail) : ERR_OK;
    return err == ERR_OK ? ERR_OK : err_set(detail, err, "%s", cause.text);
}

static enum err agreement_open(CMS_ContentInfo *cms, CMS_RecipientInfo *ri,
                               CMS_RecipientEncryptedKey *rek, const struct cms_identity *identity,
                               struct detail *detail)
{
    enum err err = ERR_OK;
    if (CMS_RecipientInfo_kari_set0_pkey(ri, identity->key) != 1 ||
        CMS_RecipientInfo_kari_decrypt(cms, ri, rek) != 1)
        err = cms_failure(detail, ERR_PERM, identity->name);
    CMS_RecipientInfo_kari_set0_pkey(ri, NULL);
    return err == ERR_PERM ? refuse(detail) : err;
}

// Into a spool of its own: nothing is released before its end is verified.
static enum err content_open(CMS_ContentInfo *cms, X509 *cert, struct spool *out,
                             struct detail *detail)
{
    struct cms_sink sink = {0};
    struct bytes view;
    struct spool *plain = spool_new(spool_conf(out));
    if (!plain)
        return err_set(detail, ERR_TEMP, "out of memory");
    enum err err = cms_sink_open(&sink, plain, detail);
    if (err != ERR_OK)
        goto out;
    bool is_good = CMS_decrypt(cms, NULL, cert, NULL, sink.bio, CMS_BINARY) == 1;
    if (sink.err != ERR_OK) {
        err = err_set(detail, sink.err, "%s", sink.detail.text);
        goto out;
    }
    if (!is_good) {
        err = refuse(detail);
        goto out;
    }
    err = spool_view(plain, &view, detail);
    if (err == ERR_OK)
        err = spool_put(out, view, detail);
out:
    cms_sink_close(&sink);
    spool_free(plain);
    return err;
}

static CMS_RecipientEncryptedKey *encrypted_key_find(CMS_RecipientInfo *ri, X509 *cert)
{
    STACK_OF(CMS_RecipientEncryptedKey) *reks = CMS_RecipientInfo_kari_get0_reks(ri);
    for (int i = 0; i < sk_CMS_RecipientEncryptedKey_num(reks); i++) {
        CMS_RecipientEncryptedKey *rek = sk_CMS_RecipientEncryptedKey_value(reks, i);
        if (CMS_RecipientEncryptedKey_cert_cmp(rek, cert) == 0)
            return rek;
    }
    return NULL;
}

struct attempt {
    CMS_ContentInfo *cms;
    struct spool *out;
    unsigned count;
};

// *is_named: the RecipientInfo names this identity, and it was tried.
static enum err attempt_one(struct attempt *attempt, CMS_RecipientInfo *ri,
                            const struct cms_identity *identity, bool *is_named,
                            struct detail *detail)
{
    CMS_RecipientEncryptedKey *rek = NULL;
    enum err err;
    int type = CMS_RecipientInfo_type(ri);
    bool is_ec = EVP_PKEY_is_a(identity->key, "EC"), is_rsa = EVP_PKEY_is_a(identity->key, "RSA");
    if (type == CMS_RECIPINFO_TRANS && is_rsa)
        *is_named = CMS_RecipientInfo_ktri_cert_cmp(ri, identity->cert) == 0;
    else if (type == CMS_RECIPINFO_AGREE && is_ec)
        *is_named = (rek = encrypted_key_find(ri, identity->cert)) != NULL;
    else
        *is_named = false;
    if (!*is_named)
        return ERR_OK;
    if (++attempt->count > ATTEMPTS_MAX)
        return refuse(detail);
    if (rek)
        err = agreement_open(attempt->cms, ri, rek, identity, detail);
    else
        err = transport_open(attempt->cms, ri, identity, detail);
    if (err != ERR_OK)
        return err;
    return content_open(attempt->cms, identity->cert, attempt->out, detail);
}

static enum err attempt_all(struct attempt *attempt, const struct cms_identity *identities,
                            size_t count, size_t *used, struct detail *detail)
{
    STACK_OF(CMS_RecipientInfo) *recipients = CMS_get0_RecipientInfos(attempt->cms);
    bool is_ours = false;
    for (size_t k = 0; k < count; k++) {
        for (int i = 0; i < sk_CMS_RecipientInfo_num(recipients); i++) {
            CMS_RecipientInfo *ri = sk_CMS_RecipientInfo_value(recipients, i);
            bool is_named = false;
            enum err err = attempt_one(attempt, ri, &identities[k], &is_named, detail);
            if (err == ERR_OK && is_named) {
                *used = k;
                return ERR_OK;
            }
            if (err != ERR_OK && err != ERR_PERM)
                return err;
            is_ours = is_ours || err == ERR_PERM;
        }
    }
    if (is_ours)
        return ERR_PERM;
    *used = CMS_NOBODY;
    return err_set(detail, ERR_PERM, "not for us");
}

enum err cms_decrypt(struct bytes object, const struct cms_identity *identities, size_t count,
                     struct spool *out, size_t *used, struct detail *detail)
{
    struct cms_summary summary;
    struct attempt attempt = {.out = out};
    const unsigned char *at = object.data;
    *used = 0;
    enum err err = cms_inspect(object, true, &summary, detail); // whatever the caller did before
    if (err != ERR_OK)
        return err;
    if (summary.type != CMS_TYPE_ENVELOPED && summary.type != CMS_TYPE_AUTH_ENVELOPED)
        return err_set(detail, ERR_PERM, "not encrypted");
    ERR_clear_error();
    attempt.cms = d2i_CMS_ContentInfo(NULL, &at, (long)object.len);
    if (attempt.cms)
        err = attempt_all(&attempt, identities, count, used, detail);
    else
        err = err_openssl(detail, ERR_PERM, "malformed");
    CMS_ContentInfo_free(attempt.cms);
    ERR_clear_error();
    return err;
}
