// SPDX-License-Identifier: Apache-2.0
// Verification, signer by signer: may its algorithms be trusted, is the signature good over this
// content, do the signed attributes say what they must, then whose certificate it is. CMS_verify
// answers all of that with one yes or no, and wants every signer's certificate.
#include "gateway/cms.h"

#include <stdio.h>
#include <string.h>

#include <openssl/cms.h>
#include <openssl/err.h>

#include "gateway/certificate.h"
#include "gateway/cms_algorithms.h"
#include "gateway/cms_attributes.h"
#include "gateway/cms_spool.h"

struct verification { // of one object
    CMS_ContentInfo *cms;
    const struct trust *trust;
    STACK_OF(X509) * candidates; // all that came along, then extra; borrowed
    const char *from;
    time_t now;
    BIO *digested; // chain of digests, the whole content read through
    struct cms_verification *result;
};

struct judgement { // of one signer
    enum cms_verdict verdict;
    X509 *cert; // borrowed
    enum certificate_match match;
    time_t signing_time;
    enum hash hash;
    struct detail reason;
};

static void rule(struct judgement *judgement, enum cms_verdict verdict, const char *reason)
{
    judgement->verdict = verdict;
    (void)err_set(&judgement->reason, ERR_PERM, "%s", reason);
}

// Digest and signature algorithm, read from their encoding as in cms_inspect.
static bool algorithms_judge(CMS_SignerInfo *si, struct judgement *judgement)
{
    struct cms_algorithm_facts facts;
    X509_ALGOR *digest = NULL, *signature = NULL;
    unsigned char *digest_der = NULL, *signature_der = NULL;
    bool is_good = false;
    CMS_SignerInfo_get0_algs(si, NULL, NULL, &digest, &signature);
    int digest_len = i2d_X509_ALGOR(digest, &digest_der);
    int signature_len = i2d_X509_ALGOR(signature, &signature_der);
    judgement->verdict = CMS_BAD_SIGNATURE;
    if (digest_len > 0 && signature_len > 0) {
        struct ber d = ber_open(bytes_of(digest_der, (size_t)digest_len));
        struct ber s = ber_open(bytes_of(signature_der, (size_t)signature_len));
        struct ber_element digest_element = ber_get(&d, BER_SEQUENCE);
        struct ber_element signature_element = ber_get(&s, BER_SEQUENCE);
        if (cms_signature_read(&digest_element, &signature_element, &facts, &judgement->reason) ==
            ERR_OK) {
            judgement->hash = facts.hash;
            judgement->verdict = CMS_UNSUPPORTED;
            is_good = facts.status == CMS_ALLOWED;
            if (!is_good)
                (void)err_set(&judgement->reason, ERR_PERM, "%s: %s",
                              facts.status == CMS_UNAVAILABLE ? "unsupported" : "weak", facts.name);
        }
    }
    OPENSSL_free(digest_der);
    OPENSSL_free(signature_der);
    return is_good;
}

static X509 *certificate_find(const struct verification *v, CMS_SignerInfo *si)
{
    for (int i = 0; i < sk_X509_num(v->candidates); i++) {
        X509 *cert = sk_X509_value(v->candidates, i);
        if (CMS_SignerInfo_cert_cmp(si, cert) == 0)
            return cert;
    }
    return NULL;
}

static bool signature_judge(const struct verification *v, CMS_SignerInfo *si,
                            struct judgement *judgement)
{
    if (cms_attributes_check(v->cms, si, judgement->cert, &judgement->signing_time,
                             &judgement->reason) != ERR_OK) {
        judgement->verdict = CMS_BAD_SIGNATURE;
        return false;
    }
    CMS_SignerInfo_set1_signer_cert(si, judgement->cert);
    if (CMS_SignerInfo_verify(si) != 1) {
        rule(judgement, CMS_BAD_SIGNATURE, "signature does not verify");
        return false;
    }
    if (CMS_SignerInfo_verify_content(si, v->digested) != 1) {
        rule(judgement, CMS_BAD_SIGNATURE, "content was changed");
        return false;
    }
    return true;
}

static void signer_judge(const struct verification *v, CMS_SignerInfo *si,
                         struct judgement *judgement)
{
    bool is_expired = false;
    judgement->cert = certificate_find(v, si);
    if (judgement->cert && v->from)
        judgement->match = certificate_covers(judgement->cert, v->from);
    if (!algorithms_judge(si, judgement))
        return;
    if (!judgement->cert) {
        rule(judgement, CMS_NO_CERTIFICATE, "the signer's certificate is not there");
        return;
    }
    if (!v->digested) {
        rule(judgement, CMS_UNSUPPORTED, "content cannot be hashed");
        return;
    }
    if (!signature_judge(v, si, judgement))
        return;
    if (!v->trust) {
        rule(judgement, CMS_UNTRUSTED, "not trusted: there are no trust anchors");
        return;
    }
    if (trust_check(v->trust, judgement->cert, v->candidates, TRUST_SIGN, v->now, &is_expired,
                    &judgement->reason) != ERR_OK)
        judgement->verdict = is_expired ? CMS_EXPIRED : CMS_UNTRUSTED;
    else
        judgement->verdict = CMS_GOOD;
}

// The better one speaks for the message: good before bad, and among the good the one that covers
// the sender; of the bad, the first.
static bool is_better(const struct judgement *a, const struct judgement *b)
{
    bool a_good = a->verdict == CMS_GOOD, b_good = b->verdict == CMS_GOOD;
    if (a_good != b_good)
        return a_good;
    return a_good && a->match > b->match;
}

static void conclude(const struct judgement *judgement, struct cms_verification *result)
{
    result->verdict = judgement->verdict;
    result->match = judgement->match;
    result->signing_time = judgement->signing_time;
    result->hash = judgement->hash;
    result->signer = judgement->cert;
    if (result->signer)
        X509_up_ref(result->signer);
    snprintf(result->reason, sizeof result->reason, "%.199s",
             judgement->verdict == CMS_GOOD ? "" : judgement->reason.text);
}

static void signers_judge(struct verification *v)
{
    STACK_OF(CMS_SignerInfo) *signers = CMS_get0_SignerInfos(v->cms);
    struct judgement best = {.verdict = CMS_BAD_SIGNATURE};
    (void)err_set(&best.reason, ERR_PERM, "no signer");
    for (int i = 0; i < sk_CMS_SignerInfo_num(signers); i++) {
        struct judgement judgement = {0};
        signer_judge(v, sk_CMS_SignerInfo_value(signers, i), &judgement);
        if (i == 0 || is_better(&judgement, &best))
            best = judgement;
        ERR_clear_error();
    }
    conclude(&best, v->result);
}

static bool candidates_collect(struct verification *v, STACK_OF(X509) * extra)
{
    STACK_OF(X509) *came = CMS_get1_certs(v->cms);
    v->result->certificates = came ? came : sk_X509_new_null();
    v->candidates = sk_X509_new_null();
    bool is_good = v->result->certificates && v->candidates;
    for (int i = 0; is_good && i < sk_X509_num(came); i++)
        is_good = sk_X509_push(v->candidates, sk_X509_value(came, i)) > 0;
    for (int i = 0; is_good && i < sk_X509_num(extra); i++)
        is_good = sk_X509_push(v->candidates, sk_X509_value(extra, i)) > 0;
    return is_good;
}

// Exactly the bytes given: canonical form is the MIME layer's business.
static BIO *content_digest(CMS_ContentInfo *cms, BIO *source)
{
    char chunk[16384];
    BIO *digested = CMS_dataInit(cms, source);
    while (digested && BIO_read(digested, chunk, sizeof chunk) > 0)
        ;
    return digested;
}

static enum err verify(struct verification *v, struct bytes content, STACK_OF(X509) * extra,
                       struct spool *out, struct detail *detail)
{
    ASN1_OCTET_STRING **held = CMS_get0_content(v->cms);
    bool is_detached = !held || !*held;
    BIO *source = NULL;
    enum err err = ERR_OK;
    if (!candidates_collect(v, extra))
        return err_set(detail, ERR_TEMP, "out of memory");
    if (!is_detached && content.data) {
        // Both: the reader sees one, the signature may cover the other.
        snprintf(v->result->reason, sizeof v->result->reason, "content is there twice");
        return ERR_OK;
    }
    if (!is_detached)
        content = bytes_of(ASN1_STRING_get0_data(*held), (size_t)ASN1_STRING_length(*held));
    if (!is_detached && out)
        err = spool_put(out, content, detail);
    if (err != ERR_OK)
        return err;
    source = cms_source(content);
    if (!source)
        return err_set(detail, ERR_TEMP, "out of memory");
    v->digested = content_digest(v->cms, source);
    signers_judge(v);
    for (BIO *bio = v->digested; bio && bio != source;) {
        BIO *next = BIO_pop(bio);
        BIO_free(bio);
        bio = next;
    }
    BIO_free(source);
    return ERR_OK;
}

enum err cms_verify(struct bytes object, struct bytes content, const struct trust *trust,
                    STACK_OF(X509) * extra, const char *from, time_t now, struct spool *out,
                    struct cms_verification *verification, struct detail *detail)
{
    struct cms_summary summary;
    struct detail reason = {0};
    struct verification v = {.trust = trust, .from = from, .now = now, .result = verification};
    const unsigned char *at = object.data;
    *verification = (struct cms_verification){.verdict = CMS_BAD_SIGNATURE};
    enum err err = cms_inspect(object, true, &summary, &reason);
    if (summary.type != CMS_TYPE_SIGNED)
        return err_set(detail, ERR_PERM, "%s", *reason.text ? reason.text : "not signed");
    bool is_unsupported =
        summary.refusal == CMS_REFUSAL_UNSUPPORTED || summary.refusal == CMS_REFUSAL_UNKNOWN;
    if (err != ERR_OK && !is_unsupported) {
        snprintf(verification->reason, sizeof verification->reason, "%.199s", reason.text);
        return ERR_OK;
    }
    ERR_clear_error();
    v.cms = d2i_CMS_ContentInfo(NULL, &at, (long)object.len);
    if (!v.cms) {
        snprintf(verification->reason, sizeof verification->reason, "malformed");
        err = ERR_OK;
        goto out;
    }
    err = verify(&v, content, extra, out, detail);
    if (err == ERR_OK && is_unsupported && verification->verdict != CMS_UNSUPPORTED) {
        verification->verdict = CMS_UNSUPPORTED;
        snprintf(verification->reason, sizeof verification->reason, "%.199s", reason.text);
    }
out:
    sk_X509_free(v.candidates);
    CMS_ContentInfo_free(v.cms);
    ERR_clear_error();
    if (err != ERR_OK)
        cms_verification_clear(verification);
    return err;
}

void cms_verification_clear(struct cms_verification *verification)
{
    X509_free(verification->signer);
    sk_X509_pop_free(verification->certificates, X509_free);
    *verification = (struct cms_verification){0};
}
