// SPDX-License-Identifier: Apache-2.0
#include "gateway/certificate.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "hsmd/base/file.h"

#define CERTIFICATE_FILE_MAX (4 << 20)
#define RSA_BITS_MIN 2048

// A name as it is compared: printable, lower case. False: an embedded NUL, white space, control
// bytes, too long; nothing honest has these, and a match by half a name is an old trick.
static bool name_take(const ASN1_STRING *string, bool utf8, char out[ADDRESS_MAX])
{
    int len = string ? ASN1_STRING_length(string) : 0;
    const unsigned char *data = string ? ASN1_STRING_get0_data(string) : NULL;
    out[0] = 0;
    if (len <= 0 || len >= ADDRESS_MAX)
        return false;
    for (int i = 0; i < len; i++) {
        if (data[i] <= ' ' || data[i] == 0x7f || (data[i] >= 0x80 && !utf8))
            return false;
        out[i] = (char)(data[i] < 0x80 ? tolower(data[i]) : data[i]);
    }
    out[len] = 0;
    return true;
}

static bool address_take(const ASN1_STRING *string, char out[ADDRESS_MAX])
{
    const char *at;
    return name_take(string, false, out) && (at = strrchr(out, '@')) && at != out && at[1];
}

// SmtpUTF8Mailbox (RFC 8398): its domain may be in U-labels, and we compare A-labels.
static bool mailbox_take(const OTHERNAME *other, char out[ADDRESS_MAX])
{
    char name[ADDRESS_MAX];
    return OBJ_obj2nid(other->type_id) == NID_id_on_SmtpUTF8Mailbox &&
           other->value->type == V_ASN1_UTF8STRING &&
           name_take(other->value->value.utf8string, true, name) && *name != '<' && *name != '@' &&
           strchr(name, '@') && address_normalise(name, out, NULL) == ERR_OK;
}

// A star stands for whole labels in front, and what follows it has two labels at least.
static bool domain_take(const ASN1_STRING *string, char out[ADDRESS_MAX])
{
    if (!name_take(string, false, out) || strchr(out, '@'))
        return false;
    const char *rest = out[0] == '*' && out[1] == '.' ? out + 2 : out;
    if (strchr(rest, '*') || *rest == '.' || *rest == 0)
        return false;
    return rest == out || strchr(rest, '.');
}

static void each_san(const X509 *cert,
                     void (*take)(void *ctx, enum certificate_match kind, const char *name),
                     void *ctx, enum certificate_match kind)
{
    char name[ADDRESS_MAX];
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *san = sk_GENERAL_NAME_value(names, i);
        bool is_good = false;
        if (kind == CERTIFICATE_MATCHES_DOMAIN) {
            is_good = san->type == GEN_DNS && domain_take(san->d.dNSName, name);
        } else if (san->type == GEN_EMAIL) {
            is_good = address_take(san->d.rfc822Name, name);
        } else if (san->type == GEN_OTHERNAME) {
            is_good = mailbox_take(san->d.otherName, name);
        }
        if (is_good)
            take(ctx, kind, name);
    }
    GENERAL_NAMES_free(names);
}

void certificate_each_name(const X509 *cert,
                           void (*take)(void *ctx, enum certificate_match kind, const char *name),
                           void *ctx)
{
    char name[ADDRESS_MAX];
    const X509_NAME *subject = X509_get_subject_name(cert);
    each_san(cert, take, ctx, CERTIFICATE_MATCHES_ADDRESS);
    int at = -1;
    while ((at = X509_NAME_get_index_by_NID(subject, NID_pkcs9_emailAddress, at)) >= 0) {
        if (address_take(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)), name))
            take(ctx, CERTIFICATE_MATCHES_ADDRESS, name);
    }
    each_san(cert, take, ctx, CERTIFICATE_MATCHES_DOMAIN);
    ERR_clear_error();
}

struct cover {
    const char *address;
    enum certificate_match best;
};

static void cover_take(void *ctx, enum certificate_match kind, const char *name)
{
    struct cover *cover = ctx;
    bool matches = kind == CERTIFICATE_MATCHES_ADDRESS ? address_is_equal(cover->address, name)
                                                       : address_is_in_domain(cover->address, name);
    if (matches && kind > cover->best)
        cover->best = kind;
}

enum certificate_match certificate_covers(const X509 *cert, const char *address)
{
    struct cover cover = {address, CERTIFICATE_NO_MATCH};
    if (*address)
        certificate_each_name(cert, cover_take, &cover);
    return cover.best;
}

// X509_get_key_usage and its like cache in the certificate, under its lock.
static uint32_t key_usage(const X509 *cert)
{
    return X509_get_key_usage((X509 *)cert); // UINT32_MAX: not there
}

// RFC 8550, 4.4.4.
static bool extended_usage_fits(const X509 *cert)
{
    EXTENDED_KEY_USAGE *usage = X509_get_ext_d2i(cert, NID_ext_key_usage, NULL, NULL);
    bool fits = !usage;
    for (int i = 0; i < sk_ASN1_OBJECT_num(usage) && !fits; i++) {
        int nid = OBJ_obj2nid(sk_ASN1_OBJECT_value(usage, i));
        fits = nid == NID_email_protect || nid == NID_anyExtendedKeyUsage;
    }
    EXTENDED_KEY_USAGE_free(usage);
    return fits;
}

static enum err check_key(const X509 *cert, struct detail *detail)
{
    EVP_PKEY *key = X509_get0_pubkey(cert);
    if (!key)
        return err_openssl(detail, ERR_PERM, "its public key cannot be read");
    bool is_rsa = EVP_PKEY_is_a(key, "RSA") || EVP_PKEY_is_a(key, "RSA-PSS");
    if (is_rsa && EVP_PKEY_get_bits(key) < RSA_BITS_MIN)
        return err_set(detail, ERR_PERM, "RSA key of %d bits, less than %d", EVP_PKEY_get_bits(key),
                       RSA_BITS_MIN);
    if (!extended_usage_fits(cert))
        return err_set(detail, ERR_PERM, "extended key usage is not for mail");
    return ERR_OK;
}

enum err certificate_check_signing(const X509 *cert, struct detail *detail)
{
    if (!(key_usage(cert) & (KU_DIGITAL_SIGNATURE | KU_NON_REPUDIATION)))
        return err_set(detail, ERR_PERM,
                       "key usage has neither digitalSignature nor nonRepudiation");
    return check_key(cert, detail);
}

enum err certificate_check_own_signing(const X509 *cert, struct detail *detail)
{
    const uint32_t both = KU_DIGITAL_SIGNATURE | KU_NON_REPUDIATION;
    if ((key_usage(cert) & both) != both)
        return err_set(detail, ERR_PERM,
                       "key usage must have digitalSignature and nonRepudiation, or be absent");
    return check_key(cert, detail);
}

enum err certificate_check_encryption(const X509 *cert, struct detail *detail)
{
    EVP_PKEY *key = X509_get0_pubkey(cert);
    bool is_ec = key && EVP_PKEY_is_a(key, "EC");
    uint32_t usage = key_usage(cert);
    if (!is_ec && !(key && EVP_PKEY_is_a(key, "RSA")))
        return err_set(detail, ERR_PERM, "unsupported: encrypting to a key that is not RSA or EC");
    if (usage == UINT32_MAX)
        return err_set(detail, ERR_PERM, "no key usage");
    if (!(usage & (is_ec ? KU_KEY_AGREEMENT : KU_KEY_ENCIPHERMENT)))
        return err_set(detail, ERR_PERM, "key usage has no %s",
                       is_ec ? "keyAgreement" : "keyEncipherment");
    return check_key(cert, detail);
}

bool certificate_is_expired(const X509 *cert, time_t at)
{
    return X509_cmp_time(X509_get0_notAfter(cert), &at) <= 0; // 0: cannot be read
}

bool certificate_is_not_yet_valid(const X509 *cert, time_t at)
{
    return X509_cmp_time(X509_get0_notBefore(cert), &at) >= 0;
}

void certificate_fingerprint(const X509 *cert, char hex[CERTIFICATE_FINGERPRINT_SIZE])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    hex[0] = 0;
    if (X509_digest(cert, EVP_sha256(), digest, &len) != 1)
        return;
    for (size_t i = 0; i < len && 2 * i + 2 < CERTIFICATE_FINGERPRINT_SIZE; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

static void name_print(const X509_NAME *name, char *out, size_t size)
{
    BIO *bio = BIO_new(BIO_s_mem());
    out[0] = 0;
    if (bio && X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) >= 0) {
        int len = BIO_read(bio, out, (int)size - 1);
        out[len > 0 ? len : 0] = 0;
    }
    BIO_free(bio);
}

void certificate_subject(const X509 *cert, char *out, size_t size)
{
    name_print(X509_get_subject_name(cert), out, size);
}

void certificate_issuer(const X509 *cert, char *out, size_t size)
{
    name_print(X509_get_issuer_name(cert), out, size);
}

void certificate_serial(const X509 *cert, char *out, size_t size)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
    size_t o = 0;
    out[0] = 0;
    if (ASN1_STRING_type(serial) == V_ASN1_NEG_INTEGER)
        o += (size_t)snprintf(out, size, "-");
    for (int i = 0; i < ASN1_STRING_length(serial) && o + 2 < size; i++)
        o += (size_t)snprintf(out + o, size - o, "%02x", ASN1_STRING_get0_data(serial)[i]);
}

static bool take_der(struct bytes data, STACK_OF(X509) * certs)
{
    const unsigned char *at = data.data;
    X509 *cert = d2i_X509(NULL, &at, (long)data.len);
    if (cert && at == data.data + data.len && sk_X509_push(certs, cert) > 0)
        return true;
    X509_free(cert);
    return false;
}

// Other things between the certificates are stepped over, as key files often have them.
static bool take_pem(struct bytes data, STACK_OF(X509) * certs)
{
    X509 *cert = NULL;
    BIO *bio = BIO_new_mem_buf(data.data, (int)data.len);
    while (bio && (cert = PEM_read_bio_X509(bio, NULL, NULL, (void *)""))) {
        if (sk_X509_push(certs, cert) <= 0) {
            X509_free(cert);
            break;
        }
    }
    bool is_at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    BIO_free(bio);
    return is_at_end && sk_X509_num(certs) > 0;
}

enum err certificate_parse(struct bytes data, STACK_OF(X509) * *certs, struct detail *detail)
{
    ERR_clear_error();
    STACK_OF(X509) *found = sk_X509_new_null();
    if (!found)
        return err_set(detail, ERR_TEMP, "out of memory");
    bool is_good = data.len > 0 && data.len <= CERTIFICATE_FILE_MAX &&
                   (data.data[0] == 0x30 ? take_der(data, found) : take_pem(data, found));
    if (!is_good) {
        sk_X509_pop_free(found, X509_free);
        return err_openssl(detail, ERR_PERM, "no certificate, or a broken one");
    }
    ERR_clear_error();
    *certs = found;
    return ERR_OK;
}

enum err certificate_read(const char *path, STACK_OF(X509) * *certs, struct detail *detail)
{
    struct buf file;
    buf_init(&file, CERTIFICATE_FILE_MAX);
    enum err err = file_read(path, &file, detail);
    if (err == ERR_OK) {
        err = certificate_parse(buf_bytes(&file), certs, detail);
        if (err != ERR_OK)
            err = err_prefix(detail, err, "%s", path);
    }
    buf_clear(&file);
    return err;
}
