// SPDX-License-Identifier: Apache-2.0
#include "hsmd/certificate.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

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

void certificate_add_flaw(struct detail *list, const char *fmt, ...)
{
    size_t len = strlen(list->text);
    struct detail flaw;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(flaw.text, sizeof flaw.text, fmt, ap);
    va_end(ap);
    snprintf(list->text + len, sizeof list->text - len, "%s%s", len ? "; " : "", flaw.text);
}

static void look_at_signing(uint32_t usage, struct detail *flaws, struct detail *doubts)
{
    // Absent: receivers presume both (RFC 8550, 4.4.2).
    if (usage == UINT32_MAX)
        return;
    if (!(usage & (KU_DIGITAL_SIGNATURE | KU_NON_REPUDIATION)))
        certificate_add_flaw(flaws, "its certificate's keyUsage is not for signatures");
    else if (!(usage & KU_DIGITAL_SIGNATURE) || !(usage & KU_NON_REPUDIATION))
        certificate_add_flaw(doubts, "its certificate's keyUsage should have both digitalSignature "
                                     "and nonRepudiation");
}

static void look_at_decryption(uint32_t usage, bool is_rsa, struct detail *flaws,
                               struct detail *doubts)
{
    uint32_t wanted = is_rsa ? KU_KEY_ENCIPHERMENT : KU_KEY_AGREEMENT;
    const char *name = is_rsa ? "keyEncipherment" : "keyAgreement";
    if (usage == UINT32_MAX)
        certificate_add_flaw(doubts, "its certificate should have a keyUsage with %s", name);
    else if (!(usage & wanted))
        certificate_add_flaw(flaws, "its certificate's keyUsage lacks %s", name);
}

static bool is_of_key(X509 *certificate, struct bytes public_key)
{
    const uint8_t *der = public_key.data;
    EVP_PKEY *key = d2i_PUBKEY(NULL, &der, (long)public_key.len);
    EVP_PKEY *certified = X509_get0_pubkey(certificate);
    bool is_same = key && certified && EVP_PKEY_eq(key, certified) == 1;
    EVP_PKEY_free(key);
    return is_same;
}

void certificate_look(struct x509_st *certificate, struct bytes public_key,
                      enum wire_purpose purpose, struct detail *flaws, struct detail *doubts)
{
    const EVP_PKEY *key = X509_get0_pubkey(certificate);
    uint32_t usage = X509_get_key_usage(certificate);
    uint32_t extended = X509_get_extended_key_usage(certificate);
    bool is_smime = purpose == WIRE_SMIME_SIGN || purpose == WIRE_SMIME_DECRYPT;
    flaws->text[0] = 0;
    doubts->text[0] = 0;
    if (public_key.len && !is_of_key(certificate, public_key))
        certificate_add_flaw(flaws, "its certificate is of another key");
    if (purpose == WIRE_SMIME_SIGN || purpose == WIRE_AUDIT)
        look_at_signing(usage, flaws, doubts);
    if (purpose == WIRE_SMIME_DECRYPT)
        look_at_decryption(usage, key && EVP_PKEY_is_a(key, "RSA"), flaws, doubts);
    // RFC 8550, 4.4.4. Absent: UINT32_MAX.
    if (is_smime && !(extended & (XKU_SMIME | XKU_ANYEKU)))
        certificate_add_flaw(doubts,
                             "its certificate's extendedKeyUsage should have emailProtection");
    if (X509_cmp_current_time(X509_get0_notAfter(certificate)) <= 0)
        certificate_add_flaw(doubts, "its certificate has expired");
    if (X509_cmp_current_time(X509_get0_notBefore(certificate)) >= 0)
        certificate_add_flaw(doubts, "its certificate is not valid yet");
    ERR_clear_error();
}

static X509 *first(struct bytes certificates)
{
    const uint8_t *der = certificates.data;
    return d2i_X509(NULL, &der, (long)certificates.len);
}

static enum err check(struct bytes certificates, struct bytes public_key, enum wire_purpose purpose,
                      struct detail *warning, struct detail *detail)
{
    struct detail flaws;
    X509 *certificate = first(certificates);
    warning->text[0] = 0;
    if (!certificate)
        return err_openssl(detail, ERR_PERM, "its certificate cannot be read");
    certificate_look(certificate, public_key, purpose, &flaws, warning);
    X509_free(certificate);
    return flaws.text[0] ? err_set(detail, ERR_PERM, "%s", flaws.text) : ERR_OK;
}

enum err certificate_check(struct bytes certificates, const struct token_key_info *info,
                           enum wire_purpose purpose, struct detail *warning, struct detail *detail)
{
    return check(certificates, info->public_key, purpose, warning, detail);
}

enum err certificate_check_use(struct bytes certificates, enum wire_purpose purpose,
                               struct detail *warning, struct detail *detail)
{
    return check(certificates, (struct bytes){0}, purpose, warning, detail);
}
