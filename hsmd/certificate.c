// SPDX-License-Identifier: Apache-2.0
#include "hsmd/certificate.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "hsmd/base/file.h"

#define PEM_FILE_MAX ((size_t)256 * 1024)

static enum err put_certificate(const X509 *certificate, struct buf *der)
{
    uint8_t *place = NULL;
    int len = i2d_X509(certificate, NULL);
    if (len <= 0)
        return ERR_PERM;
    enum err err = buf_reserve(der, (size_t)len, &place);
    if (err == ERR_OK)
        i2d_X509(certificate, &place);
    return err;
}

// Each PEM block of a BIO in memory.
static enum err put_all(BIO *bio, const char *path, struct buf *der, struct detail *detail)
{
    unsigned count = 0;
    for (;; count++) {
        X509 *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        if (!certificate)
            break;
        enum err err = put_certificate(certificate, der);
        X509_free(certificate);
        if (err == ERR_PERM)
            return err_set(detail, err, "%s: certificates of more than %zu bytes", path, der->max);
        if (err != ERR_OK)
            return err_set(detail, err, "%s: out of memory", path);
    }
    unsigned long last = ERR_peek_last_error();
    bool is_end = ERR_GET_LIB(last) == ERR_LIB_PEM && ERR_GET_REASON(last) == PEM_R_NO_START_LINE;
    if (!is_end)
        return err_openssl(detail, ERR_PERM, "%s: certificate %u", path, count + 1);
    ERR_clear_error();
    return count ? ERR_OK : err_set(detail, ERR_PERM, "%s: no certificate in it", path);
}

enum err certificate_load(const char *path, struct buf *der, struct detail *detail)
{
    struct buf text;
    buf_init(&text, PEM_FILE_MAX);
    enum err err = file_read(path, &text, detail);
    if (err == ERR_OK) {
        BIO *bio = BIO_new_mem_buf(buf_text(&text), (int)text.len);
        err = bio ? put_all(bio, path, der, detail) : err_set(detail, ERR_TEMP, "out of memory");
        BIO_free(bio);
    }
    buf_clear(&text);
    return err;
}

static enum err check_signing(uint32_t usage, struct detail *warning, struct detail *detail)
{
    // Absent: receivers presume both (RFC 8550, 4.4.2).
    if (usage == UINT32_MAX)
        return ERR_OK;
    if (!(usage & (KU_DIGITAL_SIGNATURE | KU_NON_REPUDIATION)))
        return err_set(detail, ERR_PERM, "its certificate's keyUsage is not for signatures");
    if (!(usage & KU_DIGITAL_SIGNATURE) || !(usage & KU_NON_REPUDIATION))
        (void)err_set(warning, ERR_OK,
                      "its certificate's keyUsage should have both digitalSignature and "
                      "nonRepudiation");
    return ERR_OK;
}

static enum err check_decryption(uint32_t usage, enum token_key_type type, struct detail *warning,
                                 struct detail *detail)
{
    uint32_t wanted = type == TOKEN_KEY_RSA ? KU_KEY_ENCIPHERMENT : KU_KEY_AGREEMENT;
    const char *name = type == TOKEN_KEY_RSA ? "keyEncipherment" : "keyAgreement";
    if (usage == UINT32_MAX) {
        (void)err_set(warning, ERR_OK, "its certificate should have a keyUsage with %s", name);
        return ERR_OK;
    }
    return usage & wanted ? ERR_OK
                          : err_set(detail, ERR_PERM, "its certificate's keyUsage lacks %s", name);
}

static bool is_of_key(X509 *certificate, struct bytes public_key)
{
    const uint8_t *der = public_key.data;
    EVP_PKEY *key = d2i_PUBKEY(NULL, &der, (long)public_key.len);
    EVP_PKEY *certified = X509_get0_pubkey(certificate);
    bool is_same = key && certified && EVP_PKEY_eq(key, certified) == 1;
    EVP_PKEY_free(key);
    ERR_clear_error();
    return is_same;
}

static enum err check_use(X509 *certificate, enum wire_purpose purpose, struct detail *warning,
                          struct detail *detail)
{
    const EVP_PKEY *key = X509_get0_pubkey(certificate);
    uint32_t usage = X509_get_key_usage(certificate);
    enum err err = ERR_OK;
    if (purpose == WIRE_SMIME_SIGN || purpose == WIRE_AUDIT)
        err = check_signing(usage, warning, detail);
    else if (purpose == WIRE_SMIME_DECRYPT)
        err =
            check_decryption(usage, key && EVP_PKEY_is_a(key, "RSA") ? TOKEN_KEY_RSA : TOKEN_KEY_EC,
                             warning, detail);
    if (err == ERR_OK && X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0)
        (void)err_set(warning, ERR_OK, "its certificate has expired");
    return err;
}

static X509 *first(struct bytes certificates)
{
    const uint8_t *der = certificates.data;
    return d2i_X509(NULL, &der, (long)certificates.len);
}

static enum err check(struct bytes certificates, const struct token_key_info *info,
                      enum wire_purpose purpose, struct detail *warning, struct detail *detail)
{
    X509 *certificate = first(certificates);
    enum err err;
    warning->text[0] = 0;
    if (!certificate)
        return err_openssl(detail, ERR_PERM, "its certificate cannot be read");
    if (info && !is_of_key(certificate, info->public_key))
        err = err_set(detail, ERR_PERM, "its certificate is of another key");
    else
        err = check_use(certificate, purpose, warning, detail);
    X509_free(certificate);
    return err;
}

enum err certificate_check(struct bytes certificates, const struct token_key_info *info,
                           enum wire_purpose purpose, struct detail *warning, struct detail *detail)
{
    return check(certificates, info, purpose, warning, detail);
}

enum err certificate_check_use(struct bytes certificates, enum wire_purpose purpose,
                               struct detail *warning, struct detail *detail)
{
    return check(certificates, NULL, purpose, warning, detail);
}

bool certificate_is_same_key(struct bytes certificates, struct bytes others)
{
    X509 *one = first(certificates);
    X509 *other = first(others);
    bool is_same = one && other && EVP_PKEY_eq(X509_get0_pubkey(one), X509_get0_pubkey(other)) == 1;
    X509_free(one);
    X509_free(other);
    ERR_clear_error();
    return is_same;
}
