// SPDX-License-Identifier: Apache-2.0
#include "gateway/cms_attributes.h"

#include <string.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "gateway/cms_algorithms.h"
#include "gateway/cms_ber.h"
#include "hsmd/base/hash.h"

#define OID_ALGORITHM_PROTECTION "1.2.840.113549.1.9.52"
#define ATTRIBUTES_MAX 64

enum occurrence { ABSENT, ONCE, WRONG };

// The one value of an attribute that may occur once with one value of that type.
static enum occurrence attribute_get(CMS_SignerInfo *si, const ASN1_OBJECT *oid, int type,
                                     ASN1_TYPE **value)
{
    int at = CMS_signed_get_attr_by_OBJ(si, oid, -1);
    if (at < 0)
        return ABSENT;
    X509_ATTRIBUTE *attribute = CMS_signed_get_attr(si, at);
    if (CMS_signed_get_attr_by_OBJ(si, oid, at) >= 0 || X509_ATTRIBUTE_count(attribute) != 1)
        return WRONG;
    *value = X509_ATTRIBUTE_get0_type(attribute, 0);
    return *value && (type == 0 || (*value)->type == type) ? ONCE : WRONG;
}

static enum occurrence sequence_get(CMS_SignerInfo *si, const ASN1_OBJECT *oid, struct bytes *der)
{
    ASN1_TYPE *value = NULL;
    enum occurrence occurrence = attribute_get(si, oid, V_ASN1_SEQUENCE, &value);
    if (occurrence == ONCE)
        *der = bytes_of(value->value.sequence->data, (size_t)value->value.sequence->length);
    return occurrence;
}

static bool content_type_is_good(CMS_ContentInfo *cms, CMS_SignerInfo *si)
{
    ASN1_TYPE *value = NULL;
    return attribute_get(si, OBJ_nid2obj(NID_pkcs9_contentType), V_ASN1_OBJECT, &value) == ONCE &&
           OBJ_cmp(value->value.object, CMS_get0_eContentType(cms)) == 0;
}

static bool signing_time_is_good(CMS_SignerInfo *si, time_t *signing_time)
{
    ASN1_TYPE *value = NULL;
    struct tm tm = {0};
    enum occurrence occurrence = attribute_get(si, OBJ_nid2obj(NID_pkcs9_signingTime), 0, &value);
    *signing_time = 0;
    if (occurrence != ONCE)
        return occurrence == ABSENT;
    if (value->type != V_ASN1_UTCTIME && value->type != V_ASN1_GENERALIZEDTIME)
        return false;
    if (ASN1_TIME_to_tm((ASN1_TIME *)value->value.asn1_string, &tm) != 1)
        return false;
    *signing_time = timegm(&tm);
    return true;
}

// Equal but for NULL parameters against none (RFC 6211, 2).
static bool algorithm_is_same(struct bytes content, const X509_ALGOR *algorithm)
{
    unsigned char *der = NULL;
    int len = i2d_X509_ALGOR(algorithm, &der);
    struct ber outer = ber_open(bytes_of(der, len > 0 ? (size_t)len : 0));
    struct ber sides[2] = {ber_open(content), ber_open(ber_get(&outer, BER_SEQUENCE).content)};
    struct ber_element oids[2] = {ber_get(&sides[0], BER_OID), ber_get(&sides[1], BER_OID)};
    for (int i = 0; i < 2; i++) {
        static const uint8_t null[] = {BER_NULL, 0};
        if (bytes_equal(sides[i].left, bytes_of(null, sizeof null)))
            sides[i].left = bytes_of(NULL, 0);
    }
    bool is_same = !sides[0].is_bad && !sides[1].is_bad &&
                   bytes_equal(oids[0].content, oids[1].content) &&
                   bytes_equal(sides[0].left, sides[1].left);
    OPENSSL_free(der);
    return is_same;
}

static bool protection_is_good(CMS_SignerInfo *si)
{
    struct bytes der;
    struct ber_element tagged;
    X509_ALGOR *digest = NULL, *signature = NULL;
    size_t used = 0;
    ASN1_OBJECT *oid = OBJ_txt2obj(OID_ALGORITHM_PROTECTION, 1);
    enum occurrence occurrence = oid ? sequence_get(si, oid, &der) : WRONG;
    ASN1_OBJECT_free(oid);
    if (occurrence != ONCE)
        return occurrence == ABSENT;
    if (!ber_check(der, &used) || used != der.len)
        return false;
    struct ber outer = ber_open(der);
    struct ber ber = ber_open(ber_get(&outer, BER_SEQUENCE).content);
    struct ber_element hash = ber_get(&ber, BER_SEQUENCE);
    CMS_SignerInfo_get0_algs(si, NULL, NULL, &digest, &signature);
    return ber_try(&ber, BER_CONTEXT_CONSTRUCTED | 1, &tagged) && ber_is_done(&ber) &&
           algorithm_is_same(hash.content, digest) && algorithm_is_same(tagged.content, signature);
}

// The first ESSCertID(v2) of a signingCertificate(V2) is the signer's.
static bool certificate_is_named(struct bytes der, enum hash default_hash, const X509 *cert)
{
    struct ber_element algorithm;
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    size_t used = 0;
    enum hash hash = default_hash;
    if (!ber_check(der, &used) || used != der.len)
        return false;
    struct ber outer = ber_open(der);
    struct ber signing = ber_open(ber_get(&outer, BER_SEQUENCE).content);
    struct ber ids = ber_open(ber_get(&signing, BER_SEQUENCE).content);
    struct ber id = ber_open(ber_get(&ids, BER_SEQUENCE).content);
    if (default_hash != HASH_SHA1 && ber_try(&id, BER_SEQUENCE, &algorithm)) {
        struct ber inner = ber_open(algorithm.content);
        const struct cms_algorithm *row =
            cms_algorithm_by_oid(ber_get(&inner, BER_OID).content, CMS_USE_DIGEST);
        hash = row ? row->hash : HASH_NONE;
    }
    struct ber_element value = ber_get(&id, BER_OCTET_STRING);
    const EVP_MD *md = hash == HASH_NONE ? NULL : EVP_get_digestbyname(hash_name(hash));
    return !id.is_bad && md && X509_digest(cert, md, digest, &len) == 1 &&
           bytes_equal(value.content, bytes_of(digest, len));
}

static bool signing_certificate_is_good(CMS_SignerInfo *si, int nid, enum hash default_hash,
                                        const X509 *cert)
{
    struct bytes der;
    enum occurrence occurrence = sequence_get(si, OBJ_nid2obj(nid), &der);
    return occurrence == ABSENT ||
           (occurrence == ONCE && certificate_is_named(der, default_hash, cert));
}

enum err cms_attributes_check(CMS_ContentInfo *cms, CMS_SignerInfo *si, X509 *cert,
                              time_t *signing_time, struct detail *detail)
{
    ASN1_TYPE *digest = NULL;
    int count = CMS_signed_get_attr_count(si);
    if (count <= 0 || count > ATTRIBUTES_MAX)
        return err_set(detail, ERR_PERM,
                       count > 0 ? "too many signed attributes" : "no signed attributes");
    if (!content_type_is_good(cms, si))
        return err_set(detail, ERR_PERM, "content-type attribute is missing or wrong");
    if (attribute_get(si, OBJ_nid2obj(NID_pkcs9_messageDigest), V_ASN1_OCTET_STRING, &digest) !=
        ONCE)
        return err_set(detail, ERR_PERM, "message-digest attribute is missing or wrong");
    if (!signing_time_is_good(si, signing_time))
        return err_set(detail, ERR_PERM, "signing-time attribute is wrong");
    if (!protection_is_good(si))
        return err_set(detail, ERR_PERM, "algorithm protection does not match (RFC 6211)");
    if (!signing_certificate_is_good(si, NID_id_smime_aa_signingCertificate, HASH_SHA1, cert) ||
        !signing_certificate_is_good(si, NID_id_smime_aa_signingCertificateV2, HASH_SHA256, cert))
        return err_set(detail, ERR_PERM, "signingCertificate names another certificate (RFC 5035)");
    return ERR_OK;
}
