// SPDX-License-Identifier: Apache-2.0
// What hsmd at its start only warns of, an officer who brings a certificate is refused for: now is
// the time to get a better one.
#include "hsmd/custody/issue.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "hsmd/base/text.h"
#include "hsmd/certificate.h"
#include "hsmd/custody/issue_names.h"

#define CHAIN_MAX 16 // certificates
#define RSA_BITS_MIN 2048

// What is looked at, and what is found: that which must be mended, and that which need not.
struct look {
    X509 *chain[CHAIN_MAX];
    unsigned count;
    struct detail flaws, doubts;
};

static struct bytes string_bytes(const ASN1_STRING *string)
{
    return bytes_of(ASN1_STRING_get0_data(string), (size_t)ASN1_STRING_length(string));
}

static void add_name_flaw(struct look *look, const char *what, struct bytes name, const char *flaw)
{
    char quoted[TEXT_QUOTED_SIZE];
    const char *text = name.len ? (const char *)name.data : "";
    certificate_add_flaw(&look->flaws, "its %s \"%s\" %s", what,
                         text_quote(text, name.len, quoted, sizeof quoted), flaw);
}

static void look_at_common_name(struct look *look, const X509_NAME *subject, bool any_name)
{
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (at < 0) {
        certificate_add_flaw(&look->flaws, "its subject has no common name");
        return;
    }
    const X509_NAME_ENTRY *entry = X509_NAME_get_entry(subject, at);
    struct bytes name = string_bytes(X509_NAME_ENTRY_get_data(entry));
    const char *flaw = NULL;
    if (name.len == 0)
        certificate_add_flaw(&look->flaws, "its common name is empty");
    else if (memchr(name.data, '@', name.len))
        flaw = issue_address_flaw(name, ISSUE_FQDN);
    else
        flaw = issue_domain_flaw(name, ISSUE_FQDN);
    if (flaw && !any_name)
        add_name_flaw(look, "common name", name, flaw);
}

static void look_at_subject(struct look *look, bool any_name)
{
    static const struct {
        int nid;
        const char *name;
    } rows[] = {
        {NID_organizationName, "organization"},
        {NID_organizationalUnitName, "unit"},
        {NID_localityName, "city"},
        {NID_stateOrProvinceName, "state"},
        {NID_countryName, "country"},
    };
    const X509_NAME *subject = X509_get_subject_name(look->chain[0]);
    struct detail missing = {0};
    look_at_common_name(look, subject, any_name);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (X509_NAME_get_index_by_NID(subject, rows[i].nid, -1) < 0)
            certificate_add_flaw(&missing, "%s", rows[i].name);
    }
    if (missing.text[0])
        certificate_add_flaw(&look->doubts, "its subject has no %s", missing.text);
}

// F17 is of certificates that sign; all users of a domain are written to with its name alone (F23).
static void look_at_alternative_names(struct look *look, bool is_signer, bool any_name)
{
    int critical = 0;
    bool has_domain = false;
    bool has_address = false;
    GENERAL_NAMES *names = X509_get_ext_d2i(look->chain[0], NID_subject_alt_name, &critical, NULL);
    if (!names && critical != -1)
        certificate_add_flaw(&look->flaws, "its subjectAltName cannot be read");
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *entry = sk_GENERAL_NAME_value(names, i);
        has_domain = has_domain || entry->type == GEN_DNS;
        has_address = has_address || entry->type == GEN_EMAIL;
        if (entry->type != GEN_DNS || !is_signer || any_name)
            continue;
        struct bytes name = string_bytes(entry->d.dNSName);
        const char *flaw = issue_domain_flaw(name, ISSUE_WILDCARD);
        if (flaw)
            add_name_flaw(look, "domain", name, flaw);
    }
    GENERAL_NAMES_free(names);
    if (is_signer && !has_domain && !has_address)
        certificate_add_flaw(&look->doubts, "it has neither a domain nor an address in its "
                                            "subjectAltName, so it fits no sender");
    if (!is_signer && !has_domain)
        certificate_add_flaw(&look->doubts, "it has no domain in its subjectAltName, so it is not "
                                            "for writing to all users of a domain");
}

static void look_at_first(struct look *look, struct bytes public_key, enum wire_purpose purpose,
                          bool any_name)
{
    struct detail doubts;
    const EVP_PKEY *key = X509_get0_pubkey(look->chain[0]);
    certificate_look(look->chain[0], public_key, purpose, &look->flaws, &doubts);
    if (doubts.text[0])
        certificate_add_flaw(&look->flaws, "%s", doubts.text);
    if (!key)
        certificate_add_flaw(&look->flaws, "its public key cannot be read");
    else if (EVP_PKEY_is_a(key, "RSA") && EVP_PKEY_get_bits(key) < RSA_BITS_MIN)
        certificate_add_flaw(&look->doubts, "its key has less than %u bits", RSA_BITS_MIN);
    if (purpose == WIRE_SMIME_SIGN)
        look_at_subject(look, any_name);
    if (purpose == WIRE_SMIME_SIGN || purpose == WIRE_SMIME_DECRYPT)
        look_at_alternative_names(look, purpose == WIRE_SMIME_SIGN, any_name);
}

// Why certificate was not issued by issuer; NULL if it was. Names, key identifiers, the issuer's
// keyUsage, and the signature (RFC 5280, 6.1.3).
static const char *link_flaw(X509 *certificate, X509 *issuer)
{
    int reason = X509_check_issued(issuer, certificate);
    EVP_PKEY *key = X509_get0_pubkey(issuer);
    if (reason == X509_V_ERR_SUBJECT_ISSUER_MISMATCH)
        return "has another name than the issuer that is wanted there";
    if (reason == X509_V_ERR_KEYUSAGE_NO_CERTSIGN || X509_check_ca(issuer) == 0)
        return "may not issue certificates";
    if (reason != X509_V_OK || !key || X509_verify(certificate, key) != 1)
        return "did not issue the one before it (it has another key)";
    return NULL;
}

static void look_at_chain(struct look *look)
{
    for (unsigned i = 1; i < look->count; i++) {
        const char *flaw = link_flaw(look->chain[i - 1], look->chain[i]);
        if (flaw)
            certificate_add_flaw(&look->flaws,
                                 "certificate %u of %u %s: give them in their order, from the "
                                 "key's own upwards, and leave none out",
                                 i + 1, look->count, flaw);
        if (X509_cmp_current_time(X509_get0_notAfter(look->chain[i])) <= 0)
            certificate_add_flaw(&look->doubts, "certificate %u of %u has expired", i + 1,
                                 look->count);
    }
    bool is_alone = look->count == 1 && X509_NAME_cmp(X509_get_subject_name(look->chain[0]),
                                                      X509_get_issuer_name(look->chain[0])) != 0;
    if (is_alone)
        certificate_add_flaw(&look->doubts, "that of its issuer is not with it; recipients who do "
                                            "not have that cannot verify");
}

static enum err read_all(struct bytes certificates, struct look *look, struct detail *detail)
{
    const uint8_t *at = certificates.data;
    const uint8_t *end = at + certificates.len;
    if (certificates.len == 0)
        return err_set(detail, ERR_PERM, "there is no certificate");
    if (certificates.len > WIRE_CERTIFICATES_MAX)
        return err_set(detail, ERR_PERM, "certificates of more than %u bytes",
                       WIRE_CERTIFICATES_MAX);
    while (at < end) {
        if (look->count == CHAIN_MAX)
            return err_set(detail, ERR_PERM, "more than %u certificates", CHAIN_MAX);
        X509 *certificate = d2i_X509(NULL, &at, end - at);
        if (!certificate)
            return err_openssl(detail, ERR_PERM, "certificate %u cannot be read", look->count + 1);
        look->chain[look->count++] = certificate;
    }
    return ERR_OK;
}

enum err issue_check_certificates(struct bytes certificates, struct bytes public_key,
                                  enum wire_purpose purpose, bool any_name, struct detail *warning,
                                  struct detail *detail)
{
    struct look look = {0};
    enum err err = read_all(certificates, &look, detail);
    warning->text[0] = 0;
    if (err == ERR_OK) {
        look_at_first(&look, public_key, purpose, any_name);
        look_at_chain(&look);
        if (look.flaws.text[0])
            err = err_set(detail, ERR_PERM, "%s", look.flaws.text);
        *warning = look.doubts;
    }
    for (unsigned i = 0; i < look.count; i++)
        X509_free(look.chain[i]);
    ERR_clear_error();
    return err;
}
