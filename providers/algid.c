// SPDX-License-Identifier: Apache-2.0
#include "providers/algid.h"

#include <openssl/asn1.h>
#include <openssl/objects.h>
#include <openssl/rsa.h>

static int hash_nid(enum hash hash)
{
    static const int nids[HASH_COUNT] = {
        [HASH_SHA1] = NID_sha1,     [HASH_SHA224] = NID_sha224, [HASH_SHA256] = NID_sha256,
        [HASH_SHA384] = NID_sha384, [HASH_SHA512] = NID_sha512,
    };
    return (unsigned)hash < HASH_COUNT ? nids[hash] : NID_undef;
}

static X509_ALGOR *hash_algorithm(enum hash hash)
{
    X509_ALGOR *algorithm = X509_ALGOR_new();
    if (algorithm && !X509_ALGOR_set0(algorithm, OBJ_nid2obj(hash_nid(hash)), V_ASN1_NULL, NULL)) {
        X509_ALGOR_free(algorithm);
        algorithm = NULL;
    }
    return algorithm;
}

static X509_ALGOR *mgf1_algorithm(enum hash hash)
{
    X509_ALGOR *inner = hash_algorithm(hash);
    X509_ALGOR *outer = X509_ALGOR_new();
    ASN1_STRING *packed = NULL;
    if (!inner || !outer || !ASN1_item_pack(inner, ASN1_ITEM_rptr(X509_ALGOR), &packed) ||
        !X509_ALGOR_set0(outer, OBJ_nid2obj(NID_mgf1), V_ASN1_SEQUENCE, packed)) {
        ASN1_STRING_free(packed);
        X509_ALGOR_free(outer);
        outer = NULL;
    }
    X509_ALGOR_free(inner);
    return outer;
}

// Defaults (SHA-1, MGF1 with it, 20 bytes) are left out, as DER wants.
static ASN1_STRING *pss_parameters(enum hash hash, unsigned salt)
{
    ASN1_STRING *packed = NULL;
    RSA_PSS_PARAMS *pss = RSA_PSS_PARAMS_new();
    bool ok = pss != NULL;
    if (ok && hash != HASH_SHA1) {
        pss->hashAlgorithm = hash_algorithm(hash);
        pss->maskGenAlgorithm = mgf1_algorithm(hash);
        ok = pss->hashAlgorithm && pss->maskGenAlgorithm;
    }
    if (ok && salt != 20) {
        pss->saltLength = ASN1_INTEGER_new();
        ok = pss->saltLength && ASN1_INTEGER_set_uint64(pss->saltLength, salt);
    }
    if (ok)
        ASN1_item_pack(pss, ASN1_ITEM_rptr(RSA_PSS_PARAMS), &packed);
    RSA_PSS_PARAMS_free(pss);
    return packed;
}

static bool fill(X509_ALGOR *algorithm, enum wire_algorithm wire, enum hash hash, unsigned salt)
{
    int nid = NID_undef;
    if (wire == WIRE_RSA_PSS) {
        ASN1_STRING *parameters = pss_parameters(hash, salt);
        if (parameters &&
            X509_ALGOR_set0(algorithm, OBJ_nid2obj(NID_rsassaPss), V_ASN1_SEQUENCE, parameters))
            return true;
        ASN1_STRING_free(parameters);
        return false;
    }
    if (wire == WIRE_EDDSA) // RFC 8410, 3
        return X509_ALGOR_set0(algorithm, OBJ_nid2obj(NID_ED25519), V_ASN1_UNDEF, NULL);
    bool is_rsa = wire == WIRE_RSA_PKCS1;
    if (!OBJ_find_sigid_by_algs(&nid, hash_nid(hash),
                                is_rsa ? NID_rsaEncryption : NID_X9_62_id_ecPublicKey))
        return false;
    return X509_ALGOR_set0(algorithm, OBJ_nid2obj(nid), is_rsa ? V_ASN1_NULL : V_ASN1_UNDEF, NULL);
}

enum err algid_encode(enum wire_algorithm algorithm, enum hash hash, unsigned salt, uint8_t *out,
                      size_t *len)
{
    if (hash_nid(hash) == NID_undef && algorithm != WIRE_EDDSA)
        return ERR_PERM;
    X509_ALGOR *filled = X509_ALGOR_new();
    unsigned char *der = NULL;
    int n = filled && fill(filled, algorithm, hash, salt) ? i2d_X509_ALGOR(filled, &der) : -1;
    X509_ALGOR_free(filled);
    if (n <= 0 || n > ALGID_SIZE_MAX) {
        OPENSSL_free(der);
        return ERR_PERM;
    }
    memcpy(out, der, (size_t)n);
    *len = (size_t)n;
    OPENSSL_free(der);
    return ERR_OK;
}
