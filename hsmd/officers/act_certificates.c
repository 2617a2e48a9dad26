// SPDX-License-Identifier: Apache-2.0
#include "hsmd/officers/act_certificates.h"

#include <time.h>

#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "hsmd/officers/act.h"

static void say_type(struct words *words, const EVP_PKEY *key)
{
    char type[ACT_TYPE_SIZE];
    if (key && EVP_PKEY_is_a(key, "RSA"))
        words_say(words, "%s", act_type_text(WIRE_KEY_RSA, (unsigned)EVP_PKEY_get_bits(key), type));
    else if (key && EVP_PKEY_is_a(key, "EC"))
        words_say(words, "%s", act_type_text(WIRE_KEY_EC, (unsigned)EVP_PKEY_get_bits(key), type));
    else if (key && EVP_PKEY_is_a(key, "ED25519"))
        words_say(words, "ed25519");
    else
        words_say(words, "of an unknown type");
}

void words_public_key(struct words *words, struct bytes der)
{
    const uint8_t *at = der.data;
    EVP_PKEY *key = d2i_PUBKEY(NULL, &at, (long)der.len);
    say_type(words, key);
    words_say(words, ", ");
    words_sha256(words, der);
    EVP_PKEY_free(key);
    ERR_clear_error();
}

// RFC 4514 with everything but ASCII escaped.
static void say_name(struct words *words, const char *field, const X509_NAME *name)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    words_say(words, "  %s: ", field);
    if (!bio || X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) < 0) {
        words->err = words->err == ERR_OK ? ERR_TEMP : words->err;
    } else {
        long len = BIO_get_mem_data(bio, &text);
        words_quote(words, bytes_of(text, len > 0 ? (size_t)len : 0));
    }
    words_say(words, "\n");
    BIO_free(bio);
}

static void say_time(struct words *words, const char *field, const ASN1_TIME *when)
{
    struct tm tm = {0};
    char text[64];
    if (ASN1_TIME_to_tm(when, &tm) == 1 && strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm))
        words_say(words, "  %s: %s\n", field, text);
    else
        words_say(words, "  %s: not a time\n", field);
}

static void say_serial(struct words *words, const X509 *certificate)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(certificate);
    words_say(words, "  serial: %s", ASN1_STRING_type(serial) == V_ASN1_NEG_INTEGER ? "-" : "");
    words_hex(words, bytes_of(ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial)));
    words_say(words, "\n");
}

// The addresses and domains that it is for.
static void say_alternatives(struct words *words, const X509 *certificate)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        const ASN1_STRING *text = NULL;
        if (name->type == GEN_EMAIL || name->type == GEN_DNS)
            text = name->d.ia5;
        words_say(words, "  also for: ");
        if (text) {
            words_say(words, name->type == GEN_EMAIL ? "email " : "domain ");
            words_quote(words,
                        bytes_of(ASN1_STRING_get0_data(text), (size_t)ASN1_STRING_length(text)));
        } else {
            words_say(words, "a name of another kind (%d)", name->type);
        }
        words_say(words, "\n");
    }
    GENERAL_NAMES_free(names);
}

static void say_key(struct words *words, X509 *certificate)
{
    uint8_t *der = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
    words_say(words, "  public-key: ");
    if (len > 0)
        words_public_key(words, bytes_of(der, (size_t)len));
    else
        words_say(words, "unreadable");
    words_say(words, "\n");
    OPENSSL_free(der);
}

void words_certificates(struct words *words, struct bytes der)
{
    const uint8_t *at = der.data;
    const uint8_t *end = at ? at + der.len : at;
    while (at != end) {
        const uint8_t *start = at;
        X509 *certificate = d2i_X509(NULL, &at, end - at);
        if (!certificate) {
            words_say(words, "  certificate: unreadable\n");
            break;
        }
        words_say(words, "  certificate: ");
        words_sha256(words, bytes_of(start, (size_t)(at - start)));
        words_say(words, "\n");
        say_name(words, "subject", X509_get_subject_name(certificate));
        say_alternatives(words, certificate);
        say_name(words, "issuer", X509_get_issuer_name(certificate));
        say_serial(words, certificate);
        say_time(words, "valid from", X509_get0_notBefore(certificate));
        say_time(words, "valid to", X509_get0_notAfter(certificate));
        say_key(words, certificate);
        X509_free(certificate);
    }
    ERR_clear_error();
}

unsigned count_certificates(struct bytes der)
{
    const uint8_t *at = der.data;
    const uint8_t *end = at ? at + der.len : at;
    unsigned count = 0;
    for (; at != end; count++) {
        X509 *certificate = d2i_X509(NULL, &at, end - at);
        if (!certificate)
            break;
        X509_free(certificate);
    }
    ERR_clear_error();
    return count;
}
