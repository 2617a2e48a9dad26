// SPDX-License-Identifier: Apache-2.0
#include "tests/support/softhsm.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "tests/support/softhsm_internal.h"

static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;

static const struct curve {
    const char *name, *group;
    uint8_t params[11]; // DER OID
    size_t len;
} curves[] = {
    {"P-256", "prime256v1", {6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}, 10},
    {"P-384", "secp384r1", {6, 5, 0x2b, 0x81, 4, 0, 0x22}, 7},
    {"P-521", "secp521r1", {6, 5, 0x2b, 0x81, 4, 0, 0x23}, 7},
};

static const struct curve *curve_find(const char *name)
{
    for (size_t i = 0; i < sizeof curves / sizeof *curves; i++) {
        if (strcmp(curves[i].name, name) == 0 || strcmp(curves[i].group, name) == 0)
            return &curves[i];
    }
    softhsm_die("no such kind of key: %s", name);
}

static X509 *certificate_make(const struct softhsm *hsm, const char *name, EVP_PKEY *key)
{
    static const unsigned char ca_name[] = "Test CA";
    bool is_ca = key == hsm->ca;
    char mail[100];
    snprintf(mail, sizeof mail, "email:%s@a.example", name);
    const struct {
        int nid;
        const char *value;
    } extensions[] = {
        {NID_basic_constraints, is_ca ? "critical,CA:TRUE" : "CA:FALSE"},
        {NID_subject_alt_name, is_ca ? NULL : mail},
        {NID_ext_key_usage, is_ca ? NULL : "emailProtection"},
    };
    const unsigned char *subject = is_ca ? ca_name : (const unsigned char *)name;
    X509 *cert = X509_new();
    BIGNUM *serial = BN_new();
    if (!cert || !serial || !BN_rand(serial, 64, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) ||
        !X509_set_version(cert, X509_VERSION_3) ||
        !BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(cert)) ||
        !X509_gmtime_adj(X509_getm_notBefore(cert), -3600) ||
        !X509_gmtime_adj(X509_getm_notAfter(cert), 30L * 86400) ||
        !X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_UTF8, subject, -1,
                                    -1, 0) ||
        !X509_NAME_add_entry_by_txt(X509_get_issuer_name(cert), "CN", MBSTRING_UTF8, ca_name, -1,
                                    -1, 0) ||
        !X509_set_pubkey(cert, key))
        softhsm_die("cannot make a certificate for %s", name);
    BN_free(serial);
    for (size_t i = 0; i < 3 && extensions[i].value; i++) {
        X509_EXTENSION *extension =
            X509V3_EXT_conf_nid(NULL, NULL, extensions[i].nid, extensions[i].value);
        if (!extension || !X509_add_ext(cert, extension, -1))
            softhsm_die("cannot make a certificate for %s", name);
        X509_EXTENSION_free(extension);
    }
    if (!X509_sign(cert, hsm->ca, EVP_sha256()))
        softhsm_die("cannot sign the certificate of %s", name);
    return cert;
}

static void certificate_write(const struct softhsm *hsm, const char *name, X509 *cert)
{
    char path[320];
    snprintf(path, sizeof path, "%s/certs/%s.pem", hsm->dir, name);
    FILE *file = fopen(path, "w");
    if (!file || !PEM_write_X509(file, cert) || fclose(file) != 0)
        softhsm_die("cannot write %s", path);
}

void softhsm_certificate_ca(const struct softhsm *hsm)
{
    X509 *cert = certificate_make(hsm, "ca", hsm->ca);
    certificate_write(hsm, "ca", cert);
    X509_free(cert);
}

EVP_PKEY *softhsm_public_key(const struct softhsm *hsm, const char *label)
{
    char path[320];
    snprintf(path, sizeof path, "%s/certs/%s.pem", hsm->dir, label);
    FILE *file = fopen(path, "r");
    X509 *cert = file ? PEM_read_X509(file, NULL, NULL, NULL) : NULL;
    if (!cert)
        softhsm_die("cannot read %s", path);
    fclose(file);
    EVP_PKEY *key = X509_get_pubkey(cert);
    X509_free(cert);
    return key;
}

// What the two halves of a key pair are made from.
struct template
{
    CK_ATTRIBUTE item[32];
    CK_ULONG count;
};

static void put(struct template *t, CK_ATTRIBUTE_TYPE type, const void *value, size_t len)
{
    t->item[t->count++] = (CK_ATTRIBUTE){type, (void *)value, len};
}

static void put_common(struct template *t, const struct softhsm_key *key)
{
    put(t, CKA_TOKEN, &yes, sizeof yes);
    put(t, CKA_LABEL, key->label, strlen(key->label));
    put(t, CKA_ID, &key->id, 1);
}

static void put_private(struct template *t, const struct softhsm_key *key, bool rsa)
{
    bool sign_only = key->flags & SOFTHSM_SIGN_ONLY;
    bool extractable = key->flags & SOFTHSM_EXTRACTABLE;
    put_common(t, key);
    put(t, CKA_PRIVATE, &yes, sizeof yes);
    bool shown = key->flags & (SOFTHSM_EXTRACTABLE | SOFTHSM_NOT_SENSITIVE);
    put(t, CKA_SENSITIVE, shown ? &no : &yes, sizeof yes);
    put(t, CKA_EXTRACTABLE, extractable ? &yes : &no, sizeof yes);
    put(t, CKA_SIGN, key->flags & SOFTHSM_DECRYPT_ONLY ? &no : &yes, sizeof yes);
    put(t, CKA_DECRYPT, sign_only || !rsa ? &no : &yes, sizeof yes);
    put(t, CKA_DERIVE, sign_only || rsa ? &no : &yes, sizeof yes);
    if (key->flags & SOFTHSM_ASK_EVERY_TIME)
        put(t, CKA_ALWAYS_AUTHENTICATE, &yes, sizeof yes);
}

static void create(CK_FUNCTION_LIST *fn, CK_SESSION_HANDLE session, struct template *t)
{
    CK_OBJECT_HANDLE object = 0;
    softhsm_check(fn->C_CreateObject(session, t->item, t->count, &object), "C_CreateObject");
}

static void certificate_store(const struct softhsm *hsm, CK_FUNCTION_LIST *fn,
                              CK_SESSION_HANDLE session, const struct softhsm_key *key,
                              EVP_PKEY *public)
{
    CK_OBJECT_CLASS class = CKO_CERTIFICATE;
    CK_CERTIFICATE_TYPE type = CKC_X_509;
    X509 *cert = certificate_make(hsm, key->label, public);
    certificate_write(hsm, key->label, cert);
    if (!(key->flags & SOFTHSM_NO_CERT)) {
        unsigned char *der = NULL, *subject = NULL;
        int len = i2d_X509(cert, &der);
        int subject_len = i2d_X509_NAME(X509_get_subject_name(cert), &subject);
        struct template t = {0};
        put_common(&t, key);
        put(&t, CKA_CLASS, &class, sizeof class);
        put(&t, CKA_CERTIFICATE_TYPE, &type, sizeof type);
        put(&t, CKA_SUBJECT, subject, (size_t)subject_len);
        put(&t, CKA_VALUE, der, (size_t)len);
        create(fn, session, &t);
        OPENSSL_free(der);
        OPENSSL_free(subject);
    }
    X509_free(cert);
}

static EVP_PKEY *public_build(const char *type, OSSL_PARAM_BLD *builder)
{
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(builder);
    if (!ctx || !params || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
        softhsm_die("cannot read the public key made");
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(builder);
    return key;
}

static EVP_PKEY *public_read_rsa(CK_FUNCTION_LIST *fn, CK_SESSION_HANDLE session,
                                 CK_OBJECT_HANDLE object)
{
    uint8_t n[1024], e[16];
    CK_ATTRIBUTE want[] = {{CKA_MODULUS, n, sizeof n}, {CKA_PUBLIC_EXPONENT, e, sizeof e}};
    softhsm_check(fn->C_GetAttributeValue(session, object, want, 2), "C_GetAttributeValue");
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    BIGNUM *bn = BN_bin2bn(n, (int)want[0].ulValueLen, NULL);
    BIGNUM *be = BN_bin2bn(e, (int)want[1].ulValueLen, NULL);
    OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, bn);
    OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, be);
    EVP_PKEY *key = public_build("RSA", builder);
    BN_free(bn);
    BN_free(be);
    return key;
}

static EVP_PKEY *public_read_ec(CK_FUNCTION_LIST *fn, CK_SESSION_HANDLE session,
                                CK_OBJECT_HANDLE object, const struct curve *curve)
{
    uint8_t point[200];
    CK_ATTRIBUTE want = {CKA_EC_POINT, point, sizeof point};
    softhsm_check(fn->C_GetAttributeValue(session, object, &want, 1), "C_GetAttributeValue");
    size_t header = point[1] == 0x81 ? 3 : 2; // of the OCTET STRING around it
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, curve->group, 0);
    OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, point + header,
                                     want.ulValueLen - header);
    return public_build("EC", builder);
}

struct job {
    const struct softhsm *hsm;
    const struct softhsm_key *key;
    EVP_PKEY *pkey; // to import
};

static void generate(void *functions, unsigned long session, void *arg)
{
    CK_FUNCTION_LIST *fn = functions;
    const struct job *job = arg;
    const struct softhsm_key *key = job->key;
    bool rsa = strncmp(key->kind, "RSA-", 4) == 0;
    const struct curve *curve = rsa ? NULL : curve_find(key->kind);
    CK_MECHANISM mechanism = {rsa ? CKM_RSA_PKCS_KEY_PAIR_GEN : CKM_EC_KEY_PAIR_GEN, NULL, 0};
    CK_ULONG bits = rsa ? strtoul(key->kind + 4, NULL, 10) : 0;
    uint8_t exponent[] = {1, 0, 1};
    CK_OBJECT_HANDLE private, public;
    struct template ours = {0}, theirs = {0};
    put_private(&ours, key, rsa);
    put_common(&theirs, key);
    put(&theirs, CKA_VERIFY, &yes, sizeof yes);
    if (rsa) {
        put(&theirs, CKA_MODULUS_BITS, &bits, sizeof bits);
        put(&theirs, CKA_PUBLIC_EXPONENT, exponent, sizeof exponent);
    } else {
        put(&theirs, CKA_EC_PARAMS, curve->params, curve->len);
    }
    softhsm_check(fn->C_GenerateKeyPair(session, &mechanism, theirs.item, theirs.count, ours.item,
                                        ours.count, &public, &private),
                  "C_GenerateKeyPair");
    EVP_PKEY *pkey =
        rsa ? public_read_rsa(fn, session, public) : public_read_ec(fn, session, public, curve);
    certificate_store(job->hsm, fn, session, key, pkey);
    EVP_PKEY_free(pkey);
    if (key->flags & SOFTHSM_NO_PUBLIC)
        softhsm_check(fn->C_DestroyObject(session, public), "C_DestroyObject");
}

static void put_number(struct template *t, CK_ATTRIBUTE_TYPE type, const EVP_PKEY *pkey,
                       const char *name, size_t len)
{
    BIGNUM *number = NULL;
    if (!EVP_PKEY_get_bn_param(pkey, name, &number))
        softhsm_die("key to import has no %s", name);
    size_t size = len ? len : (size_t)BN_num_bytes(number);
    uint8_t *bytes = OPENSSL_malloc(size); // the child's end frees it
    BN_bn2binpad(number, bytes, (int)size);
    BN_free(number);
    put(t, type, bytes, size);
}

static void put_rsa(struct template *private, struct template *public, const EVP_PKEY *pkey)
{
    static const struct {
        CK_ATTRIBUTE_TYPE type;
        const char *name;
        bool public;
    } numbers[] = {
        {CKA_MODULUS, OSSL_PKEY_PARAM_RSA_N, true},
        {CKA_PUBLIC_EXPONENT, OSSL_PKEY_PARAM_RSA_E, true},
        {CKA_PRIVATE_EXPONENT, OSSL_PKEY_PARAM_RSA_D, false},
        {CKA_PRIME_1, OSSL_PKEY_PARAM_RSA_FACTOR1, false},
        {CKA_PRIME_2, OSSL_PKEY_PARAM_RSA_FACTOR2, false},
        {CKA_EXPONENT_1, OSSL_PKEY_PARAM_RSA_EXPONENT1, false},
        {CKA_EXPONENT_2, OSSL_PKEY_PARAM_RSA_EXPONENT2, false},
        {CKA_COEFFICIENT, OSSL_PKEY_PARAM_RSA_COEFFICIENT1, false},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        put_number(private, numbers[i].type, pkey, numbers[i].name, 0);
        if (numbers[i].public)
            put_number(public, numbers[i].type, pkey, numbers[i].name, 0);
    }
}

static void put_ec(struct template *private, struct template *public, const EVP_PKEY *pkey)
{
    char group[40];
    static uint8_t point[3 + 133];
    size_t len = 0;
    if (!EVP_PKEY_get_utf8_string_param(pkey, OSSL_PKEY_PARAM_GROUP_NAME, group, sizeof group,
                                        NULL) ||
        !EVP_PKEY_get_octet_string_param(pkey, OSSL_PKEY_PARAM_PUB_KEY, point + 3, 133, &len))
        softhsm_die("key to import has no point");
    const struct curve *curve = curve_find(group);
    uint8_t *der = len < 128 ? point + 1 : point; // OCTET STRING, short or long length
    der[0] = 4;
    der[1] = len < 128 ? (uint8_t)len : 0x81;
    if (len >= 128)
        der[2] = (uint8_t)len;
    put(private, CKA_EC_PARAMS, curve->params, curve->len);
    put_number(private, CKA_VALUE, pkey, OSSL_PKEY_PARAM_PRIV_KEY, len / 2);
    put(public, CKA_EC_PARAMS, curve->params, curve->len);
    put(public, CKA_EC_POINT, der, (size_t)(point + 3 + len - der));
}

static void import(void *functions, unsigned long session, void *arg)
{
    CK_FUNCTION_LIST *fn = functions;
    const struct job *job = arg;
    bool rsa = EVP_PKEY_is_a(job->pkey, "RSA");
    CK_OBJECT_CLASS private_class = CKO_PRIVATE_KEY, public_class = CKO_PUBLIC_KEY;
    CK_KEY_TYPE type = rsa ? CKK_RSA : CKK_EC;
    struct template private = {0}, public = {0};
    put_private(&private, job->key, rsa);
    put(&private, CKA_CLASS, &private_class, sizeof private_class);
    put(&private, CKA_KEY_TYPE, &type, sizeof type);
    put_common(&public, job->key);
    put(&public, CKA_CLASS, &public_class, sizeof public_class);
    put(&public, CKA_KEY_TYPE, &type, sizeof type);
    if (rsa)
        put_rsa(&private, &public, job->pkey);
    else
        put_ec(&private, &public, job->pkey);
    create(fn, session, &private);
    if (!(job->key->flags & SOFTHSM_NO_PUBLIC))
        create(fn, session, &public);
    certificate_store(job->hsm, fn, session, job->key, job->pkey);
}

void softhsm_make_key(struct softhsm *hsm, const struct softhsm_key *key)
{
    struct job job = {.hsm = hsm, .key = key};
    softhsm_in_child(hsm, key->token, generate, &job);
}

void softhsm_import_key(struct softhsm *hsm, const struct softhsm_key *key, EVP_PKEY *pkey)
{
    struct job job = {.hsm = hsm, .key = key, .pkey = pkey};
    softhsm_in_child(hsm, key->token, import, &job);
}
