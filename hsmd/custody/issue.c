// SPDX-License-Identifier: Apache-2.0
// OpenSSL builds what is to be signed; the signature comes from elsewhere, so the three parts of a
// SIGNED (RFC 5280, 4.1.1) are put together here: what is signed, the algorithm, the signature.
#include "hsmd/custody/issue.h"

#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#define SERIAL_SIZE 16 // bytes; RFC 5280, 4.1.2.2, allows 20

// What is made, and of what.
struct issue {
    const struct act *act;
    const struct issue_signer *signer;
    EVP_PKEY *key;
    X509_ALGOR *algorithm;
    X509_NAME *subject;
    STACK_OF(X509_EXTENSION) * extensions;
    uint8_t *tbs; // OpenSSL's
    int tbs_len;
    uint8_t *digest;
    size_t *digest_len;
    struct detail *detail;
};

static enum err fail(const struct issue *issue, const char *what)
{
    return err_openssl(issue->detail, ERR_TEMP, "cannot make the %s", what);
}

static int digest_nid(enum hash hash)
{
    return OBJ_txt2nid(hash_name(hash));
}

// RFC 4055, 3.1: the hash with NULL as its parameters, MGF1 with the same, the salt as long as the
// hash, the trailer left out.
static bool set_pss(X509_ALGOR *algorithm, enum hash hash)
{
    ASN1_STRING *mgf_hash = NULL;
    ASN1_STRING *packed = NULL;
    RSA_PSS_PARAMS *params = RSA_PSS_PARAMS_new();
    bool ok =
        params && (params->hashAlgorithm = X509_ALGOR_new()) &&
        (params->maskGenAlgorithm = X509_ALGOR_new()) &&
        (params->saltLength = ASN1_INTEGER_new()) &&
        X509_ALGOR_set0(params->hashAlgorithm, OBJ_nid2obj(digest_nid(hash)), V_ASN1_NULL, NULL) &&
        ASN1_INTEGER_set(params->saltLength, (long)hash_size(hash)) &&
        ASN1_item_pack(params->hashAlgorithm, ASN1_ITEM_rptr(X509_ALGOR), &mgf_hash);
    if (ok &&
        X509_ALGOR_set0(params->maskGenAlgorithm, OBJ_nid2obj(NID_mgf1), V_ASN1_SEQUENCE, mgf_hash))
        mgf_hash = NULL;
    else
        ok = false;
    ok = ok && ASN1_item_pack(params, ASN1_ITEM_rptr(RSA_PSS_PARAMS), &packed);
    if (ok && X509_ALGOR_set0(algorithm, OBJ_nid2obj(NID_rsassaPss), V_ASN1_SEQUENCE, packed))
        packed = NULL;
    else
        ok = false;
    ASN1_STRING_free(mgf_hash);
    ASN1_STRING_free(packed);
    RSA_PSS_PARAMS_free(params);
    return ok;
}

// RFC 4055, 5: PKCS#1 v1.5 has NULL as its parameters; RFC 5758, 3.2: ECDSA none;
// RFC 8410, 3: Ed25519 none, and no hash in its name.
static bool set_algorithm(X509_ALGOR *algorithm, const struct act *act, enum token_key_type type)
{
    int nid = NID_undef;
    bool is_rsa = type == TOKEN_KEY_RSA;
    if (!algorithm)
        return false;
    if (type == TOKEN_KEY_ED25519)
        return X509_ALGOR_set0(algorithm, OBJ_nid2obj(NID_ED25519), V_ASN1_UNDEF, NULL);
    if (act->pss)
        return set_pss(algorithm, act->hash);
    return OBJ_find_sigid_by_algs(&nid, digest_nid(act->hash),
                                  is_rsa ? NID_rsaEncryption : NID_X9_62_id_ecPublicKey) &&
           X509_ALGOR_set0(algorithm, OBJ_nid2obj(nid), is_rsa ? V_ASN1_NULL : V_ASN1_UNDEF, NULL);
}

static X509_NAME *make_subject(const struct act *act)
{
    const struct {
        int nid;
        struct bytes value;
    } rows[] = {
        {NID_countryName, act->country},         {NID_stateOrProvinceName, act->state},
        {NID_localityName, act->city},           {NID_organizationName, act->organization},
        {NID_organizationalUnitName, act->unit}, {NID_commonName, act->common_name},
    };
    X509_NAME *name = X509_NAME_new();
    for (size_t i = 0; name && i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].value.len == 0)
            continue;
        if (!X509_NAME_add_entry_by_NID(name, rows[i].nid, MBSTRING_UTF8, rows[i].value.data,
                                        (int)rows[i].value.len, -1, 0)) {
            X509_NAME_free(name);
            return NULL;
        }
    }
    return name;
}

static bool add_names(GENERAL_NAMES *names, struct bytes list, int type)
{
    struct bytes name;
    while (act_list_next(&list, &name)) {
        GENERAL_NAME *entry = GENERAL_NAME_new();
        ASN1_IA5STRING *text = ASN1_IA5STRING_new();
        if (!entry || !text || !ASN1_STRING_set(text, name.data, (int)name.len)) {
            GENERAL_NAME_free(entry);
            ASN1_IA5STRING_free(text);
            return false;
        }
        GENERAL_NAME_set0_value(entry, type, text);
        if (!sk_GENERAL_NAME_push(names, entry)) {
            GENERAL_NAME_free(entry);
            return false;
        }
    }
    return true;
}

static bool add_alternative_names(struct issue *issue)
{
    if (issue->act->domains.len == 0 && issue->act->emails.len == 0)
        return true;
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    bool ok = names && add_names(names, issue->act->emails, GEN_EMAIL) &&
              add_names(names, issue->act->domains, GEN_DNS) &&
              X509V3_add1_i2d(&issue->extensions, NID_subject_alt_name, names, 0,
                              X509V3_ADD_DEFAULT) == 1;
    GENERAL_NAMES_free(names);
    return ok;
}

// Numbers of the bits of KeyUsage (RFC 5280, 4.2.1.3).
enum { DIGITAL_SIGNATURE = 0, NON_REPUDIATION = 1, KEY_ENCIPHERMENT = 2, KEY_AGREEMENT = 4 };

static bool add_key_usage(struct issue *issue)
{
    enum wire_purpose purpose = issue->signer->purpose;
    bool is_rsa = issue->signer->type == TOKEN_KEY_RSA;
    bool is_general = purpose == WIRE_GENERAL;
    // Whatever else there is signs: the purpose audit.
    bool has_signature = purpose != WIRE_SMIME_DECRYPT;
    bool has_repudiation = purpose == WIRE_SMIME_SIGN || is_general;
    bool has_decryption =
        (purpose == WIRE_SMIME_DECRYPT || is_general) && issue->signer->type != TOKEN_KEY_ED25519;
    ASN1_BIT_STRING *usage = ASN1_BIT_STRING_new();
    bool ok = usage && (!has_signature || ASN1_BIT_STRING_set_bit(usage, DIGITAL_SIGNATURE, 1)) &&
              (!has_repudiation || ASN1_BIT_STRING_set_bit(usage, NON_REPUDIATION, 1)) &&
              (!has_decryption ||
               ASN1_BIT_STRING_set_bit(usage, is_rsa ? KEY_ENCIPHERMENT : KEY_AGREEMENT, 1)) &&
              X509V3_add1_i2d(&issue->extensions, NID_key_usage, usage, 1, X509V3_ADD_DEFAULT) == 1;
    ASN1_BIT_STRING_free(usage);
    return ok;
}

static bool add_extended_usage(struct issue *issue)
{
    enum wire_purpose purpose = issue->signer->purpose;
    if (purpose != WIRE_SMIME_SIGN && purpose != WIRE_SMIME_DECRYPT)
        return true;
    EXTENDED_KEY_USAGE *usage = EXTENDED_KEY_USAGE_new();
    // The object is a static one, which its stack does not free.
    bool ok =
        usage && sk_ASN1_OBJECT_push(usage, OBJ_nid2obj(NID_email_protect)) &&
        X509V3_add1_i2d(&issue->extensions, NID_ext_key_usage, usage, 0, X509V3_ADD_DEFAULT) == 1;
    EXTENDED_KEY_USAGE_free(usage);
    return ok;
}

// What a certificate has, and a request has not. The key identifier is that of RFC 5280, 4.2.1.2
// (1): SHA-1 as a name, not as protection.
static bool add_own_extensions(struct issue *issue, const X509 *certificate)
{
    uint8_t hashed[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    BASIC_CONSTRAINTS *constraints = BASIC_CONSTRAINTS_new();
    AUTHORITY_KEYID *authority = AUTHORITY_KEYID_new();
    ASN1_OCTET_STRING *id = ASN1_OCTET_STRING_new();
    bool ok = constraints && authority && id &&
              X509V3_add1_i2d(&issue->extensions, NID_basic_constraints, constraints, 1,
                              X509V3_ADD_DEFAULT) == 1 &&
              X509_pubkey_digest(certificate, EVP_sha1(), hashed, &len) == 1 &&
              ASN1_OCTET_STRING_set(id, hashed, (int)len) &&
              X509V3_add1_i2d(&issue->extensions, NID_subject_key_identifier, id, 0,
                              X509V3_ADD_DEFAULT) == 1 &&
              (authority->keyid = ASN1_OCTET_STRING_dup(id)) &&
              X509V3_add1_i2d(&issue->extensions, NID_authority_key_identifier, authority, 0,
                              X509V3_ADD_DEFAULT) == 1;
    BASIC_CONSTRAINTS_free(constraints);
    AUTHORITY_KEYID_free(authority);
    ASN1_OCTET_STRING_free(id);
    return ok;
}

static void issue_clear(struct issue *issue)
{
    EVP_PKEY_free(issue->key);
    X509_ALGOR_free(issue->algorithm);
    X509_NAME_free(issue->subject);
    sk_X509_EXTENSION_pop_free(issue->extensions, X509_EXTENSION_free);
    OPENSSL_free(issue->tbs);
    ERR_clear_error();
}

// All that requests and certificates have in common.
static enum err prepare(struct issue *issue)
{
    const uint8_t *at = issue->signer->public_key.data;
    *issue->digest_len = 0;
    enum err err = issue_check(issue->act, issue->detail);
    if (err != ERR_OK)
        return err;
    if (issue->act->pss && issue->signer->type != TOKEN_KEY_RSA)
        return err_set(issue->detail, ERR_PERM, "pss: the key is not an RSA key");
    issue->key = d2i_PUBKEY(NULL, &at, (long)issue->signer->public_key.len);
    if (!issue->key)
        return err_openssl(issue->detail, ERR_PERM, "the public key cannot be read");
    issue->algorithm = X509_ALGOR_new();
    if (!set_algorithm(issue->algorithm, issue->act, issue->signer->type))
        return fail(issue, "signature algorithm");
    issue->subject = make_subject(issue->act);
    if (!issue->subject)
        return fail(issue, "subject");
    if (!add_key_usage(issue) || !add_extended_usage(issue) || !add_alternative_names(issue))
        return fail(issue, "extensions");
    return ERR_OK;
}

static enum err sign_tbs(struct issue *issue, uint8_t *signature, size_t *len)
{
    const struct act *act = issue->act;
    struct bytes tbs = bytes_of(issue->tbs, (size_t)issue->tbs_len);
    enum token_key_type type = issue->signer->type;
    bool is_pure = type == TOKEN_KEY_ED25519; // the signer gets no digest
    enum hash hash = is_pure ? HASH_SHA512 : act->hash;
    enum token_scheme scheme = is_pure                ? TOKEN_EDDSA
                               : type == TOKEN_KEY_EC ? TOKEN_ECDSA
                               : act->pss             ? TOKEN_RSA_PSS
                                                      : TOKEN_RSA_PKCS1;
    if (!issue->tbs || issue->tbs_len <= 0)
        return fail(issue, "part to be signed");
    enum err err = hash_digest(hash, tbs, issue->digest);
    if (err != ERR_OK)
        return err_set(issue->detail, err, "cannot hash");
    size_t size = hash_size(hash);
    *issue->digest_len = size;
    err = issue->signer->sign(
        issue->signer->context, scheme, is_pure ? HASH_NONE : hash, act->pss ? (unsigned)size : 0,
        is_pure ? tbs : bytes_of(issue->digest, size), signature, len, issue->detail);
    if (err == ERR_OK && (*len == 0 || *len > TOKEN_SIGNATURE_MAX))
        return err_set(issue->detail, ERR_TEMP, "the token gave a signature of %zu bytes", *len);
    return err;
}

// SEQUENCE { tbs, algorithm, BIT STRING signature }
static enum err assemble(const struct issue *issue, struct bytes signature, struct buf *der)
{
    uint8_t *algorithm = NULL;
    uint8_t *at = NULL;
    int algorithm_len = i2d_X509_ALGOR(issue->algorithm, &algorithm);
    int bits_len = (int)signature.len + 1; // with the number of unused bits
    int content_len =
        issue->tbs_len + algorithm_len + ASN1_object_size(0, bits_len, V_ASN1_BIT_STRING);
    if (algorithm_len <= 0)
        return fail(issue, "signature algorithm");
    enum err err = buf_reserve(der, (size_t)ASN1_object_size(1, content_len, V_ASN1_SEQUENCE), &at);
    if (err == ERR_OK) {
        ASN1_put_object(&at, 1, content_len, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL);
        memcpy(at, issue->tbs, (size_t)issue->tbs_len);
        at += issue->tbs_len;
        memcpy(at, algorithm, (size_t)algorithm_len);
        at += algorithm_len;
        ASN1_put_object(&at, 0, bits_len, V_ASN1_BIT_STRING, V_ASN1_UNIVERSAL);
        *at++ = 0;
        memcpy(at, signature.data, signature.len);
    }
    OPENSSL_free(algorithm);
    return err == ERR_OK ? err : err_set(issue->detail, err, "no room for the result");
}

static bool is_good_request(struct bytes der, EVP_PKEY *key)
{
    const uint8_t *at = der.data;
    X509_REQ *request = d2i_X509_REQ(NULL, &at, (long)der.len);
    bool ok = request && at == der.data + der.len && X509_REQ_verify(request, key) == 1;
    X509_REQ_free(request);
    return ok;
}

static bool is_good_certificate(struct bytes der, EVP_PKEY *key)
{
    const uint8_t *at = der.data;
    X509 *certificate = d2i_X509(NULL, &at, (long)der.len);
    bool ok = certificate && at == der.data + der.len && X509_verify(certificate, key) == 1;
    X509_free(certificate);
    return ok;
}

// Has it signed, puts it together behind what is in der already, and looks at the result.
static enum err finish(struct issue *issue, bool (*is_good)(struct bytes, EVP_PKEY *),
                       struct buf *der)
{
    uint8_t signature[TOKEN_SIGNATURE_MAX];
    size_t len = 0;
    size_t before = der->len;
    enum err err = sign_tbs(issue, signature, &len);
    if (err == ERR_OK)
        err = assemble(issue, bytes_of(signature, len), der);
    if (err != ERR_OK)
        return err;
    if (is_good(bytes_of(der->data + before, der->len - before), issue->key))
        return ERR_OK;
    der->len = before;
    der->data[before] = 0;
    return err_openssl(issue->detail, ERR_TEMP, "the token's signature is not one of this key");
}

enum err issue_request(const struct act *act, const struct issue_signer *signer, struct buf *der,
                       uint8_t *digest, size_t *digest_len, struct detail *detail)
{
    struct issue issue = {
        .act = act, .signer = signer, .digest = digest, .digest_len = digest_len, .detail = detail};
    enum err err = prepare(&issue);
    X509_REQ *request = err == ERR_OK ? X509_REQ_new() : NULL;
    if (err == ERR_OK && (!request || !X509_REQ_set_version(request, X509_REQ_VERSION_1) ||
                          !X509_REQ_set_subject_name(request, issue.subject) ||
                          !X509_REQ_set_pubkey(request, issue.key) ||
                          !X509_REQ_add_extensions(request, issue.extensions)))
        err = fail(&issue, "request");
    if (err == ERR_OK) {
        issue.tbs_len = i2d_re_X509_REQ_tbs(request, &issue.tbs);
        err = finish(&issue, is_good_request, der);
    }
    X509_REQ_free(request);
    issue_clear(&issue);
    return err;
}

static bool set_serial(X509 *certificate)
{
    uint8_t bytes[SERIAL_SIZE];
    if (RAND_bytes(bytes, sizeof bytes) != 1)
        return false;
    bytes[0] = (uint8_t)((bytes[0] & 0x3f) | 0x40); // positive, and never shorter
    BIGNUM *number = BN_bin2bn(bytes, sizeof bytes, NULL);
    bool ok = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate));
    BN_free(number);
    return ok;
}

static bool add_extensions(X509 *certificate, const STACK_OF(X509_EXTENSION) * extensions)
{
    for (int i = 0; i < sk_X509_EXTENSION_num(extensions); i++) {
        if (!X509_add_ext(certificate, sk_X509_EXTENSION_value(extensions, i), -1))
            return false;
    }
    return true;
}

static bool fill_certificate(struct issue *issue, X509 *certificate)
{
    // There is no other way to the algorithm inside of what is signed but X509_sign, which wants
    // the private key. It is the certificate's own, and that one is ours.
    X509_ALGOR *inner = (X509_ALGOR *)X509_get0_tbs_sigalg(certificate);
    time_t now = time(NULL);
    return X509_set_version(certificate, X509_VERSION_3) && set_serial(certificate) &&
           X509_ALGOR_copy(inner, issue->algorithm) &&
           X509_set_subject_name(certificate, issue->subject) &&
           X509_set_issuer_name(certificate, issue->subject) &&
           X509_time_adj_ex(X509_getm_notBefore(certificate), -1, 0, &now) &&
           X509_time_adj_ex(X509_getm_notAfter(certificate), (int)issue->act->days, 0, &now) &&
           X509_set_pubkey(certificate, issue->key) && add_own_extensions(issue, certificate) &&
           add_extensions(certificate, issue->extensions);
}

enum err issue_self_signed(const struct act *act, const struct issue_signer *signer,
                           struct buf *der, uint8_t *digest, size_t *digest_len,
                           struct detail *detail)
{
    struct issue issue = {
        .act = act, .signer = signer, .digest = digest, .digest_len = digest_len, .detail = detail};
    enum err err = prepare(&issue);
    X509 *certificate = err == ERR_OK ? X509_new() : NULL;
    if (err == ERR_OK && (!certificate || !fill_certificate(&issue, certificate)))
        err = fail(&issue, "certificate");
    if (err == ERR_OK) {
        issue.tbs_len = i2d_re_X509_tbs(certificate, &issue.tbs);
        err = finish(&issue, is_good_certificate, der);
    }
    X509_free(certificate);
    issue_clear(&issue);
    return err;
}
