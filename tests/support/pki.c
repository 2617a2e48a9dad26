// SPDX-License-Identifier: Apache-2.0
#include "tests/support/pki.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#define HOUR 3600L
#define YEAR (365 * 24 * HOUR)

#define CHECK(condition)                                                         \
    do {                                                                         \
        if (!(condition)) {                                                      \
            fprintf(stderr, "pki: %s:%d: %s\n", __FILE__, __LINE__, #condition); \
            ERR_print_errors_fp(stderr);                                         \
            abort();                                                             \
        }                                                                        \
    } while (0)

static EVP_PKEY *key_read(const char *path)
{
    FILE *file = fopen(path, "re");
    CHECK(file);
    EVP_PKEY *key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
    fclose(file);
    return key;
}

static EVP_PKEY *key_make(enum pki_key key)
{
    switch (key) {
    case PKI_RSA_2048:
        return key_read(TEST_DATA "/cms/rsa.key");
    case PKI_RSA_2048_B:
        return key_read(TEST_DATA "/cms/rsa-b.key");
    case PKI_RSA_1024:
        return EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)1024);
    case PKI_RSA_PSS_2048: {
        EVP_PKEY *made = NULL;
        EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA-PSS", NULL);
        CHECK(ctx && EVP_PKEY_keygen_init(ctx) > 0 &&
              EVP_PKEY_CTX_set_rsa_keygen_bits(ctx, 2048) > 0 && EVP_PKEY_generate(ctx, &made) > 0);
        EVP_PKEY_CTX_free(ctx);
        return made;
    }
    case PKI_EC_P256:
    case PKI_EC_P256_B:
    case PKI_EC_P256_C:
        return EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    case PKI_EC_P384:
        return EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384");
    case PKI_ED25519:
        return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    case PKI_X25519:
        return EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
    case PKI_KEY_COUNT:
        break;
    }
    return NULL;
}

static EVP_PKEY *keys[PKI_KEY_COUNT];

static void keys_free(void)
{
    for (int i = 0; i < PKI_KEY_COUNT; i++)
        EVP_PKEY_free(keys[i]);
}

EVP_PKEY *pki_key(enum pki_key key)
{
    static bool is_registered;
    CHECK((unsigned)key < PKI_KEY_COUNT);
    if (keys[key])
        return keys[key];
    if (!is_registered)
        atexit(keys_free);
    is_registered = true;
    CHECK((keys[key] = key_make(key)));
    return keys[key];
}

static void extension_add(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    if (!value)
        return;
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    CHECK(extension && X509_add_ext(cert, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

static void extra_add(X509 *cert, const struct pki_request *request)
{
    if (!request->extra_oid)
        return;
    ASN1_OBJECT *oid = OBJ_txt2obj(request->extra_oid, 0);
    ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
    CHECK(oid && value && ASN1_OCTET_STRING_set(value, request->extra, request->extra_len));
    X509_EXTENSION *extension = X509_EXTENSION_create_by_OBJ(NULL, oid, 0, value);
    CHECK(extension && X509_add_ext(cert, extension, -1) == 1);
    X509_EXTENSION_free(extension);
    ASN1_OCTET_STRING_free(value);
    ASN1_OBJECT_free(oid);
}

static void name_set(X509 *cert, const struct pki_request *request)
{
    X509_NAME *name = X509_get_subject_name(cert);
    CHECK(X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8,
                                     (const unsigned char *)"Sealgate test", -1, -1, 0));
    CHECK(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                                     (const unsigned char *)request->name, -1, -1, 0));
    if (request->email)
        CHECK(X509_NAME_add_entry_by_txt(name, "emailAddress", MBSTRING_ASC,
                                         (const unsigned char *)request->email, -1, -1, 0));
}

X509 *pki_certificate(const struct pki_request *request, X509 *issuer, EVP_PKEY *issuer_key)
{
    static unsigned long next_serial = 1000;
    bool has_dates = request->from || request->until;
    EVP_PKEY *key = pki_key(request->key);
    X509 *cert = X509_new();
    CHECK(cert && X509_set_version(cert, X509_VERSION_3));
    unsigned long serial = request->serial ? request->serial : ++next_serial;
    CHECK(ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), serial));
    name_set(cert, request);
    X509 *signer = issuer ? issuer : cert;
    CHECK(X509_set_issuer_name(cert, X509_get_subject_name(signer)));
    CHECK(X509_gmtime_adj(X509_getm_notBefore(cert), has_dates ? request->from : -HOUR));
    CHECK(X509_gmtime_adj(X509_getm_notAfter(cert), has_dates ? request->until : YEAR));
    CHECK(X509_set_pubkey(cert, key));
    extension_add(cert, signer, NID_basic_constraints,
                  request->is_ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
    extension_add(cert, signer, NID_subject_key_identifier, "hash");
    extension_add(cert, signer, NID_authority_key_identifier, issuer ? "keyid" : NULL);
    extension_add(cert, signer, NID_key_usage, request->key_usage);
    extension_add(cert, signer, NID_ext_key_usage, request->extended);
    extension_add(cert, signer, NID_subject_alt_name, request->san);
    extra_add(cert, request);
    EVP_PKEY *sign_key = issuer ? issuer_key : key;
    bool has_own_hash = EVP_PKEY_is_a(sign_key, "ED25519");
    const EVP_MD *md = EVP_get_digestbyname(request->hash ? request->hash : "SHA256");
    CHECK(X509_sign(cert, sign_key, has_own_hash ? NULL : md) > 0);
    return cert;
}

X509 *pki_ca(const char *name, enum pki_key key)
{
    struct pki_request request = {
        .name = name, .key = key, .is_ca = true, .key_usage = "critical,keyCertSign,cRLSign"};
    return pki_certificate(&request, NULL, NULL);
}

X509 *pki_intermediate(const char *name, enum pki_key key, X509 *ca, EVP_PKEY *ca_key)
{
    struct pki_request request = {
        .name = name, .key = key, .is_ca = true, .key_usage = "critical,keyCertSign,cRLSign"};
    return pki_certificate(&request, ca, ca_key);
}

X509 *pki_signer(const char *name, enum pki_key key, const char *san, X509 *ca, EVP_PKEY *ca_key)
{
    struct pki_request request = {.name = name,
                                  .key = key,
                                  .san = san,
                                  .key_usage = "critical,digitalSignature,nonRepudiation",
                                  .extended = "emailProtection"};
    return pki_certificate(&request, ca, ca_key);
}

X509 *pki_recipient(const char *name, enum pki_key key, const char *san, X509 *ca, EVP_PKEY *ca_key)
{
    bool is_rsa = key == PKI_RSA_2048 || key == PKI_RSA_2048_B || key == PKI_RSA_1024;
    struct pki_request request = {.name = name,
                                  .key = key,
                                  .san = san,
                                  .key_usage =
                                      is_rsa ? "critical,keyEncipherment" : "critical,keyAgreement",
                                  .extended = "emailProtection"};
    return pki_certificate(&request, ca, ca_key);
}

static FILE *file_open(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    FILE *file = fdopen(fd, "w");
    CHECK(file);
    return file;
}

void pki_write_certificates(const char *path, X509 *first, X509 *second)
{
    FILE *file = file_open(path);
    CHECK(PEM_write_X509(file, first));
    if (second)
        CHECK(PEM_write_X509(file, second));
    CHECK(fclose(file) == 0);
}

void pki_write_key(const char *path, EVP_PKEY *key)
{
    FILE *file = file_open(path);
    CHECK(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL));
    CHECK(fclose(file) == 0);
}
