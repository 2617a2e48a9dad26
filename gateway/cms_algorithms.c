// SPDX-License-Identifier: Apache-2.0
#include "gateway/cms_algorithms.h"

#include <stdio.h>
#include <string.h>

#define PKCS1 "\x2a\x86\x48\x86\xf7\x0d\x01\x01"
#define SMIME_ALG "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x03"
#define RSADSI "\x2a\x86\x48\x86\xf7\x0d"
#define NIST_AES "\x60\x86\x48\x01\x65\x03\x04\x01"
#define NIST_HASH "\x60\x86\x48\x01\x65\x03\x04\x02"
#define NIST_SIG "\x60\x86\x48\x01\x65\x03\x04\x03"
#define NIST_KEM "\x60\x86\x48\x01\x65\x03\x04\x04"
#define X962 "\x2a\x86\x48\xce\x3d"
#define SECG_KDF "\x2b\x81\x04\x01"
#define X963_KDF "\x2b\x81\x05\x10\x86\x48\x3f\x00"

#define OID(text)                                 \
    {                                             \
        (const uint8_t *)(text), sizeof(text) - 1 \
    }
#define ROW(use, status, parameters, hash, name, oid)                                         \
    {                                                                                         \
        name, CMS_USE_##use, CMS_##status, CMS_PARAMETERS_##parameters, HASH_##hash, OID(oid) \
    }

static const struct cms_algorithm rows[] = {
    ROW(DIGEST, ALLOWED, NONE, SHA256, "sha256", NIST_HASH "\x01"),
    ROW(DIGEST, ALLOWED, NONE, SHA384, "sha384", NIST_HASH "\x02"),
    ROW(DIGEST, ALLOWED, NONE, SHA512, "sha512", NIST_HASH "\x03"),
    ROW(DIGEST, ALLOWED, NONE, SHA224, "sha224", NIST_HASH "\x04"),
    ROW(DIGEST, LEGACY, NONE, SHA1, "sha1", "\x2b\x0e\x03\x02\x1a"),
    ROW(DIGEST, UNAVAILABLE, ANY, NONE, "sha3-256", NIST_HASH "\x08"),
    ROW(DIGEST, UNAVAILABLE, ANY, NONE, "sha3-384", NIST_HASH "\x09"),
    ROW(DIGEST, UNAVAILABLE, ANY, NONE, "sha3-512", NIST_HASH "\x0a"),
    ROW(DIGEST, UNAVAILABLE, ANY, NONE, "shake128", NIST_HASH "\x0b"),
    ROW(DIGEST, UNAVAILABLE, ANY, NONE, "shake256", NIST_HASH "\x0c"),
    ROW(DIGEST, FORBIDDEN, ANY, NONE, "md5", RSADSI "\x02\x05"),
    ROW(DIGEST, FORBIDDEN, ANY, NONE, "md4", RSADSI "\x02\x04"),
    ROW(DIGEST, FORBIDDEN, ANY, NONE, "md2", RSADSI "\x02\x02"),

    ROW(SIGNATURE, ALLOWED, NONE, NONE, "rsa", PKCS1 "\x01"), // the hash is the digest's
    ROW(SIGNATURE, ALLOWED, NONE, SHA256, "rsa-sha256", PKCS1 "\x0b"),
    ROW(SIGNATURE, ALLOWED, NONE, SHA384, "rsa-sha384", PKCS1 "\x0c"),
    ROW(SIGNATURE, ALLOWED, NONE, SHA512, "rsa-sha512", PKCS1 "\x0d"),
    ROW(SIGNATURE, ALLOWED, NONE, SHA224, "rsa-sha224", PKCS1 "\x0e"),
    ROW(SIGNATURE, LEGACY, NONE, SHA1, "rsa-sha1", PKCS1 "\x05"),
    ROW(SIGNATURE, ALLOWED, PSS, NONE, "rsa-pss", PKCS1 "\x0a"),
    ROW(SIGNATURE, ALLOWED, NONE, SHA256, "ecdsa-sha256", X962 "\x04\x03\x02"),
    ROW(SIGNATURE, ALLOWED, NONE, SHA384, "ecdsa-sha384", X962 "\x04\x03\x03"),
    ROW(SIGNATURE, ALLOWED, NONE, SHA512, "ecdsa-sha512", X962 "\x04\x03\x04"),
    ROW(SIGNATURE, ALLOWED, NONE, SHA224, "ecdsa-sha224", X962 "\x04\x03\x01"),
    ROW(SIGNATURE, LEGACY, NONE, SHA1, "ecdsa-sha1", X962 "\x04\x01"),
    ROW(SIGNATURE, UNAVAILABLE, ANY, NONE, "ed25519", "\x2b\x65\x70"),
    ROW(SIGNATURE, UNAVAILABLE, ANY, NONE, "ed448", "\x2b\x65\x71"),
    ROW(SIGNATURE, UNAVAILABLE, ANY, NONE, "ml-dsa-44", NIST_SIG "\x11"),
    ROW(SIGNATURE, UNAVAILABLE, ANY, NONE, "ml-dsa-65", NIST_SIG "\x12"),
    ROW(SIGNATURE, UNAVAILABLE, ANY, NONE, "ml-dsa-87", NIST_SIG "\x13"),
    ROW(SIGNATURE, FORBIDDEN, ANY, NONE, "rsa-md5", PKCS1 "\x04"),
    ROW(SIGNATURE, FORBIDDEN, ANY, NONE, "rsa-md4", PKCS1 "\x03"),
    ROW(SIGNATURE, FORBIDDEN, ANY, NONE, "rsa-md2", PKCS1 "\x02"),
    ROW(SIGNATURE, FORBIDDEN, ANY, NONE, "dsa", "\x2a\x86\x48\xce\x38\x04\x01"),
    ROW(SIGNATURE, FORBIDDEN, ANY, SHA1, "dsa-sha1", "\x2a\x86\x48\xce\x38\x04\x03"),
    ROW(SIGNATURE, FORBIDDEN, ANY, SHA224, "dsa-sha224", NIST_SIG "\x01"),
    ROW(SIGNATURE, FORBIDDEN, ANY, SHA256, "dsa-sha256", NIST_SIG "\x02"),

    ROW(TRANSPORT, ALLOWED, NONE, NONE, "rsa", PKCS1 "\x01"),
    ROW(TRANSPORT, ALLOWED, OAEP, NONE, "rsaes-oaep", PKCS1 "\x07"),
    ROW(TRANSPORT, UNAVAILABLE, ANY, NONE, "rsa-kem", SMIME_ALG "\x0e"),

    // Our libcrypto's default is the SHA-1 KDF; as a KDF it is not weak.
    ROW(AGREEMENT, ALLOWED, WRAP, SHA1, "ecdh-sha1kdf", X963_KDF "\x02"),
    ROW(AGREEMENT, ALLOWED, WRAP, SHA224, "ecdh-sha224kdf", SECG_KDF "\x0b\x00"),
    ROW(AGREEMENT, ALLOWED, WRAP, SHA256, "ecdh-sha256kdf", SECG_KDF "\x0b\x01"),
    ROW(AGREEMENT, ALLOWED, WRAP, SHA384, "ecdh-sha384kdf", SECG_KDF "\x0b\x02"),
    ROW(AGREEMENT, ALLOWED, WRAP, SHA512, "ecdh-sha512kdf", SECG_KDF "\x0b\x03"),
    ROW(AGREEMENT, ALLOWED, WRAP, SHA1, "cofactor-ecdh-sha1kdf", X963_KDF "\x03"),
    ROW(AGREEMENT, ALLOWED, WRAP, SHA224, "cofactor-ecdh-sha224kdf", SECG_KDF "\x0e\x00"),
    ROW(AGREEMENT, ALLOWED, WRAP, SHA256, "cofactor-ecdh-sha256kdf", SECG_KDF "\x0e\x01"),
    ROW(AGREEMENT, ALLOWED, WRAP, SHA384, "cofactor-ecdh-sha384kdf", SECG_KDF "\x0e\x02"),
    ROW(AGREEMENT, ALLOWED, WRAP, SHA512, "cofactor-ecdh-sha512kdf", SECG_KDF "\x0e\x03"),
    ROW(AGREEMENT, UNAVAILABLE, ANY, NONE, "ecdh-hkdf-sha256", SMIME_ALG "\x13"),
    ROW(AGREEMENT, UNAVAILABLE, ANY, NONE, "ecdh-hkdf-sha384", SMIME_ALG "\x14"),
    ROW(AGREEMENT, UNAVAILABLE, ANY, NONE, "ecdh-hkdf-sha512", SMIME_ALG "\x15"),
    ROW(AGREEMENT, FORBIDDEN, ANY, NONE, "x9.42-dh", SMIME_ALG "\x05"),
    ROW(AGREEMENT, FORBIDDEN, ANY, NONE, "x9.42-static-dh", SMIME_ALG "\x0a"),
    ROW(ORIGINATOR, ALLOWED, CURVE, NONE, "ec", X962 "\x02\x01"),
    ROW(ORIGINATOR, UNAVAILABLE, ANY, NONE, "x25519", "\x2b\x65\x6e"),
    ROW(ORIGINATOR, UNAVAILABLE, ANY, NONE, "x448", "\x2b\x65\x6f"),
    ROW(ORIGINATOR, FORBIDDEN, ANY, NONE, "x9.42-dh", "\x2a\x86\x48\xce\x3e\x02\x01"),

    // A NULL here is NSS's way; libcrypto feeds the KDF the bytes that came.
    ROW(WRAP, ALLOWED, NONE, NONE, "aes-128-wrap", NIST_AES "\x05"),
    ROW(WRAP, ALLOWED, NONE, NONE, "aes-192-wrap", NIST_AES "\x19"),
    ROW(WRAP, ALLOWED, NONE, NONE, "aes-256-wrap", NIST_AES "\x2d"),
    ROW(WRAP, FORBIDDEN, ANY, NONE, "aes-128-wrap-pad", NIST_AES "\x08"),
    ROW(WRAP, FORBIDDEN, ANY, NONE, "aes-192-wrap-pad", NIST_AES "\x1c"),
    ROW(WRAP, FORBIDDEN, ANY, NONE, "aes-256-wrap-pad", NIST_AES "\x30"),
    ROW(WRAP, LEGACY, NONE, NONE, "3des-wrap", SMIME_ALG "\x06"),
    ROW(WRAP, FORBIDDEN, ANY, NONE, "rc2-wrap", SMIME_ALG "\x07"),

    ROW(CONTENT, ALLOWED, IV16, NONE, "aes-128-cbc", NIST_AES "\x02"),
    ROW(CONTENT, ALLOWED, IV16, NONE, "aes-192-cbc", NIST_AES "\x16"),
    ROW(CONTENT, ALLOWED, IV16, NONE, "aes-256-cbc", NIST_AES "\x2a"),
    ROW(CONTENT, LEGACY, IV8, NONE, "3des-cbc", RSADSI "\x03\x07"),
    ROW(CONTENT, FORBIDDEN, ANY, NONE, "rc2-cbc", RSADSI "\x03\x02"),
    ROW(CONTENT, FORBIDDEN, ANY, NONE, "rc4", RSADSI "\x03\x04"),
    ROW(CONTENT, FORBIDDEN, ANY, NONE, "des-cbc", "\x2b\x0e\x03\x02\x07"),
    ROW(CONTENT, UNAVAILABLE, ANY, NONE, "cek-hkdf-sha256", SMIME_ALG "\x1f"),
    ROW(AEAD, ALLOWED, GCM, NONE, "aes-128-gcm", NIST_AES "\x06"),
    ROW(AEAD, ALLOWED, GCM, NONE, "aes-192-gcm", NIST_AES "\x1a"),
    ROW(AEAD, ALLOWED, GCM, NONE, "aes-256-gcm", NIST_AES "\x2e"),
    ROW(AEAD, UNAVAILABLE, ANY, NONE, "aes-128-ccm", NIST_AES "\x07"),
    ROW(AEAD, UNAVAILABLE, ANY, NONE, "aes-192-ccm", NIST_AES "\x1b"),
    ROW(AEAD, UNAVAILABLE, ANY, NONE, "aes-256-ccm", NIST_AES "\x2f"),
    ROW(AEAD, UNAVAILABLE, ANY, NONE, "chacha20-poly1305", SMIME_ALG "\x12"),
    ROW(AEAD, UNAVAILABLE, ANY, NONE, "cek-hkdf-sha256", SMIME_ALG "\x1f"),
};

static const struct bytes oid_mgf1 = OID(PKCS1 "\x08");
static const struct bytes oid_p_specified = OID(PKCS1 "\x09");

#define OAEP_LABEL_MAX 128
#define PSS_SALT_MAX 2048 // of an RSA key of 16384 bits
#define GCM_NONCE_LEN \
    12 // RFC 5084, 3.2 recommends it, everyone uses it, libcrypto is best tested so
#define GCM_TAG_MIN 12
#define GCM_TAG_MAX 16

const struct cms_algorithm *cms_algorithm_by_oid(struct bytes oid, enum cms_use use)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].use == use && bytes_equal(rows[i].oid, oid))
            return &rows[i];
    }
    return NULL;
}

void cms_oid_name(struct bytes oid, char *out, size_t size)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (bytes_equal(rows[i].oid, oid)) {
            snprintf(out, size, "%s", rows[i].name);
            return;
        }
    }
    size_t o = 0;
    uint64_t arc = 0;
    bool is_first = true;
    out[0] = 0;
    for (size_t i = 0; i < oid.len && o + 24 < size; i++) {
        arc = arc << 7 | (oid.data[i] & 0x7f);
        if (oid.data[i] & 0x80)
            continue;
        if (is_first) {
            uint64_t root = arc < 80 ? arc / 40 : 2;
            o += (size_t)snprintf(out + o, size - o, "%llu.%llu", (unsigned long long)root,
                                  (unsigned long long)(arc - root * 40));
            is_first = false;
        } else {
            o += (size_t)snprintf(out + o, size - o, ".%llu", (unsigned long long)arc);
        }
        arc = 0;
    }
}

// Behind the OID: nothing, or NULL, or (any) whatever one element.
static bool parameters_are_none(struct ber *ber)
{
    struct ber_element element;
    if (ber_try(ber, BER_NULL, &element) && element.content.len != 0)
        return false;
    return ber_is_done(ber);
}

// [n] EXPLICIT AlgorithmIdentifier of a hash (OAEP, PSS; RFC 4055): its hash, or HASH_NONE.
static enum hash hash_read(struct ber_element algorithm)
{
    struct ber ber = ber_open(algorithm.content);
    struct ber_element oid = ber_get(&ber, BER_OID);
    const struct cms_algorithm *row = cms_algorithm_by_oid(oid.content, CMS_USE_DIGEST);
    return row && parameters_are_none(&ber) ? row->hash : HASH_NONE;
}

struct rsa_parameters { // what OAEP and PSS share
    enum hash hash, mgf_hash;
};

// Takes [0] and [1] off; each has SHA-1 for its default.
static bool rsa_parameters_read(struct ber *ber, struct rsa_parameters *out)
{
    struct ber_element explicit;
    *out = (struct rsa_parameters){HASH_SHA1, HASH_SHA1};
    if (ber_try(ber, BER_CONTEXT_CONSTRUCTED | 0, &explicit)) {
        struct ber inner = ber_open(explicit.content);
        out->hash = hash_read(ber_get(&inner, BER_SEQUENCE));
        if (!ber_is_done(&inner))
            return false;
    }
    if (ber_try(ber, BER_CONTEXT_CONSTRUCTED | 1, &explicit)) {
        struct ber inner = ber_open(explicit.content);
        struct ber mgf = ber_open(ber_get(&inner, BER_SEQUENCE).content);
        if (!bytes_equal(ber_get(&mgf, BER_OID).content, oid_mgf1))
            return false;
        out->mgf_hash = hash_read(ber_get(&mgf, BER_SEQUENCE));
        if (!ber_is_done(&inner) || !ber_is_done(&mgf))
            return false;
    }
    return !ber->is_bad && out->hash != HASH_NONE && out->mgf_hash != HASH_NONE;
}

// RFC 4055, 4.1. They must be there (RFC 3560, 2); libcrypto takes what it cannot decode for v1.5.
static bool oaep_read(struct ber *ber, struct cms_algorithm_facts *facts)
{
    struct rsa_parameters rsa;
    struct ber_element explicit;
    struct ber parameters = ber_open(ber_get(ber, BER_SEQUENCE).content);
    if (!ber_is_done(ber) || !rsa_parameters_read(&parameters, &rsa))
        return false;
    if (ber_try(&parameters, BER_CONTEXT_CONSTRUCTED | 2, &explicit)) {
        struct ber inner = ber_open(explicit.content);
        struct ber source = ber_open(ber_get(&inner, BER_SEQUENCE).content);
        if (!bytes_equal(ber_get(&source, BER_OID).content, oid_p_specified) ||
            ber_get(&source, BER_OCTET_STRING).content.len > OAEP_LABEL_MAX ||
            !ber_is_done(&inner) || !ber_is_done(&source))
            return false;
    }
    snprintf(facts->name, sizeof facts->name, "rsaes-oaep(%s)", hash_name(rsa.hash));
    return ber_is_done(&parameters);
}

// RFC 4055, 3.1: the mask's hash is the hash, trailer 1. The salt may be as long as the key allows,
// which is what the openssl command makes of it.
static bool pss_read(struct ber *ber, struct cms_algorithm_facts *facts)
{
    struct rsa_parameters rsa;
    struct ber_element explicit;
    struct ber parameters = ber_open(ber_get(ber, BER_SEQUENCE).content);
    if (!ber_is_done(ber) || !rsa_parameters_read(&parameters, &rsa) || rsa.hash != rsa.mgf_hash)
        return false;
    if (ber_try(&parameters, BER_CONTEXT_CONSTRUCTED | 2, &explicit)) {
        struct ber inner = ber_open(explicit.content);
        if (ber_get_unsigned(&inner) > PSS_SALT_MAX || !ber_is_done(&inner))
            return false;
    }
    if (ber_try(&parameters, BER_CONTEXT_CONSTRUCTED | 3, &explicit)) {
        struct ber inner = ber_open(explicit.content);
        if (ber_get_unsigned(&inner) != 1 || !ber_is_done(&inner))
            return false;
    }
    facts->hash = rsa.hash;
    if (rsa.hash == HASH_SHA1)
        facts->status = CMS_LEGACY;
    snprintf(facts->name, sizeof facts->name, "rsa-pss(%s)", hash_name(rsa.hash));
    return ber_is_done(&parameters);
}

// RFC 5084, 3.2: the tag has 12 bytes unless it is said.
static enum err gcm_read(struct ber *ber, struct cms_algorithm_facts *facts, struct detail *detail)
{
    struct ber parameters = ber_open(ber_get(ber, BER_SEQUENCE).content);
    size_t nonce_len = ber_get(&parameters, BER_OCTET_STRING).content.len;
    facts->tag_len = GCM_TAG_MIN;
    if (ber_peek(&parameters))
        facts->tag_len = ber_get_unsigned(&parameters);
    if (!ber_is_done(&parameters) || !ber_is_done(ber))
        return err_set(detail, ERR_PERM, "malformed: parameters of %s", facts->name);
    if (nonce_len != GCM_NONCE_LEN) {
        facts->status = CMS_UNAVAILABLE;
        return err_set(detail, ERR_PERM, "unsupported: %s with a nonce of %zu bytes", facts->name,
                       nonce_len);
    }
    if (facts->tag_len < GCM_TAG_MIN || facts->tag_len > GCM_TAG_MAX) {
        facts->status = CMS_FORBIDDEN;
        return err_set(detail, ERR_PERM, "forbidden: %s with a tag of %zu bytes (RFC 5084)",
                       facts->name, facts->tag_len);
    }
    return ERR_OK;
}

static enum err wrap_read(struct ber *ber, struct cms_algorithm_facts *facts, struct detail *detail)
{
    struct cms_algorithm_facts wrap;
    struct ber_element element = ber_get(ber, BER_SEQUENCE);
    if (!ber_is_done(ber))
        return err_set(detail, ERR_PERM, "malformed: parameters of %s", facts->name);
    enum err err = cms_algorithm_read(&element, CMS_USE_WRAP, &wrap, detail);
    if (err != ERR_OK)
        return err;
    facts->wrap = wrap.algorithm;
    if (wrap.status > facts->status)
        facts->status = wrap.status;
    char name[sizeof facts->name];
    snprintf(name, sizeof name, "%.38s+%.38s", facts->name, wrap.name);
    memcpy(facts->name, name, sizeof name);
    return ERR_OK;
}

static bool iv_is_good(struct ber *ber, size_t len)
{
    return ber_get(ber, BER_OCTET_STRING).content.len == len && ber_is_done(ber);
}

static bool curve_is_good(struct ber *ber)
{
    struct ber_element curve;
    (void)ber_try(ber, BER_OID, &curve);
    return parameters_are_none(ber);
}

enum err cms_algorithm_read(const struct ber_element *algorithm, enum cms_use use,
                            struct cms_algorithm_facts *facts, struct detail *detail)
{
    struct ber ber = ber_open(algorithm->content);
    struct bytes oid = ber_get(&ber, BER_OID).content;
    bool is_good = true;
    *facts = (struct cms_algorithm_facts){.status = CMS_UNAVAILABLE};
    if (ber.is_bad || oid.len == 0)
        return err_set(detail, ERR_PERM, "malformed: algorithm identifier");
    cms_oid_name(oid, facts->name, sizeof facts->name);
    const struct cms_algorithm *row = cms_algorithm_by_oid(oid, use);
    if (!row)
        return ERR_OK;
    facts->algorithm = row;
    facts->status = row->status;
    facts->hash = row->hash;
    snprintf(facts->name, sizeof facts->name, "%s", row->name);
    switch (row->parameters) {
    case CMS_PARAMETERS_ANY:
        break;
    case CMS_PARAMETERS_NONE:
        is_good = parameters_are_none(&ber);
        break;
    case CMS_PARAMETERS_IV8:
        is_good = iv_is_good(&ber, 8);
        break;
    case CMS_PARAMETERS_IV16:
        is_good = iv_is_good(&ber, 16);
        break;
    case CMS_PARAMETERS_CURVE:
        is_good = curve_is_good(&ber);
        break;
    case CMS_PARAMETERS_OAEP:
        is_good = oaep_read(&ber, facts);
        break;
    case CMS_PARAMETERS_PSS:
        is_good = pss_read(&ber, facts);
        break;
    case CMS_PARAMETERS_GCM:
        return gcm_read(&ber, facts, detail);
    case CMS_PARAMETERS_WRAP:
        return wrap_read(&ber, facts, detail);
    }
    if (!is_good)
        return err_set(detail, ERR_PERM, "malformed: parameters of %s", row->name);
    return ERR_OK;
}

enum err cms_signature_read(const struct ber_element *digest, const struct ber_element *signature,
                            struct cms_algorithm_facts *facts, struct detail *detail)
{
    struct cms_algorithm_facts hash;
    enum err err = cms_algorithm_read(digest, CMS_USE_DIGEST, &hash, detail);
    if (err == ERR_OK)
        err = cms_algorithm_read(signature, CMS_USE_SIGNATURE, facts, detail);
    if (err != ERR_OK)
        return err;
    if (hash.hash != HASH_NONE && facts->hash != HASH_NONE && hash.hash != facts->hash)
        return err_set(detail, ERR_PERM, "malformed: signature %s over digest %s", facts->name,
                       hash.name);
    if (facts->status < hash.status) {
        facts->status = hash.status;
        if (hash.status != CMS_LEGACY)
            snprintf(facts->name, sizeof facts->name, "%s", hash.name);
    }
    if (facts->hash == HASH_NONE)
        facts->hash = hash.hash;
    if (facts->algorithm && strcmp(facts->name, "rsa") == 0)
        snprintf(facts->name, sizeof facts->name, "rsa-%s", hash_name(hash.hash));
    return ERR_OK;
}
