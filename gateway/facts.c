// SPDX-License-Identifier: Apache-2.0
#include "gateway/facts.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "gateway/cms.h"
#include "gateway/mime.h"
#include "hsmd/base/alloc.h"

static enum err out_of_memory(struct detail *detail)
{
    return err_set(detail, ERR_TEMP, "out of memory");
}

static enum facts_content content_of_cms(enum cms_type type, bool is_readable)
{
    if (type == CMS_TYPE_SIGNED)
        return FACTS_SIGNED;
    if (type == CMS_TYPE_ENVELOPED || type == CMS_TYPE_AUTH_ENVELOPED)
        return FACTS_ENCRYPTED;
    return is_readable ? FACTS_PLAIN : FACTS_BROKEN;
}

// What was encrypted with algorithms that we know but cannot or will not read is still encrypted;
// what is malformed, or of a kind that we do not know, might hide anything and is not let past as
// if it were encrypted. Nobody can see from outside for whom it is encrypted, or with how good a
// key.
static enum facts_content content_of_pkcs7(const struct cms_summary *summary)
{
    if (summary->refusal == CMS_REFUSAL_MALFORMED || summary->refusal == CMS_REFUSAL_UNKNOWN)
        return FACTS_BROKEN;
    if (summary->is_certs_only)
        return FACTS_PLAIN;
    return content_of_cms(summary->type, summary->refusal == CMS_REFUSAL_NONE);
}

static enum facts_content content_of_signed(const struct cms_summary *summary)
{
    bool is_signature =
        summary->type == CMS_TYPE_SIGNED && summary->is_detached && !summary->is_certs_only;
    return is_signature ? content_of_pkcs7(summary) : FACTS_BROKEN;
}

static enum err read_cms(struct gateway *gateway, const struct message *message,
                         enum mime_kind kind, struct cms_summary *summary, struct detail *detail)
{
    struct bytes der;
    struct spool *cms = spool_new(&gateway->spool);
    struct spool *content = spool_new(&gateway->spool);
    enum err err = cms && content ? ERR_OK : out_of_memory(detail);
    if (!err)
        err = kind == MIME_SIGNED ? mime_split_signed(message, content, cms, detail)
                                  : mime_decode_pkcs7_strictly(message, cms, detail);
    if (!err)
        err = spool_view(cms, &der, detail);
    if (!err)
        err = cms_inspect(der, true, summary, detail);
    spool_free(content);
    spool_free(cms);
    return err;
}

static enum err look_into_cms(struct gateway *gateway, const struct message *message,
                              enum mime_kind kind, struct facts *facts, struct detail *detail)
{
    struct cms_summary summary = {.refusal = CMS_REFUSAL_MALFORMED};
    struct detail reason = {0};
    enum err err = read_cms(gateway, message, kind, &summary, &reason);
    if (err && err != ERR_PERM)
        return err_set(detail, err, "%s", reason.text);
    facts->content = kind == MIME_SIGNED ? content_of_signed(&summary) : content_of_pkcs7(&summary);
    const char *text = *reason.text ? reason.text : "the second part is not a detached signature";
    if (facts->content == FACTS_BROKEN)
        snprintf(facts->content_reason, sizeof facts->content_reason, "%.119s", text);
    return ERR_OK;
}

static enum err gather_content(struct gateway *gateway, const struct message *message,
                               struct facts *facts, struct detail *detail)
{
    struct mime_facts mime = {0};
    enum err err = mime_inspect(message, &mime, detail);
    if (err)
        return err;
    if (mime.is_broken) {
        facts->content = FACTS_BROKEN;
        snprintf(facts->content_reason, sizeof facts->content_reason, "%s", mime.reason);
        return ERR_OK;
    }
    if (mime.kind != MIME_PLAIN)
        return look_into_cms(gateway, message, mime.kind, facts, detail);
    facts->content = FACTS_PLAIN;
    return ERR_OK;
}

static enum facts_validity validity_of(const X509 *cert, time_t now)
{
    if (certificate_is_expired(cert, now))
        return FACTS_EXPIRED;
    return certificate_is_not_yet_valid(cert, now) ? FACTS_NOT_YET_VALID : FACTS_VALID;
}

static void gather_signers(struct gateway *gateway, time_t now, struct facts *facts)
{
    const struct profile *profile = facts->profile;
    if (!profile_signs(profile))
        return;
    bool is_away = false;
    for (size_t i = 0; i < profile->signer_count; i++) {
        struct identity *identity = gateway->identities[profile->signers[i]];
        struct facts_signer *signer = &facts->signers[facts->signer_count++];
        struct identity_material material = {0};
        const X509 *cert = identity_certificate(identity);
        *signer = (struct facts_signer){.identity = profile->signers[i],
                                        .name = identity_name(identity),
                                        .validity = FACTS_UNKNOWN};
        if (!cert && gateway_get_identity(gateway, profile->signers[i], &is_away, &material,
                                          &facts->signer_problem) == ERR_OK)
            cert = material.cert;
        if (!cert)
            continue;
        signer->validity = validity_of(cert, now);
        if (*facts->from)
            signer->covers = certificate_covers(cert, facts->from);
    }
}

static unsigned key_type_of(const X509 *cert)
{
    const EVP_PKEY *key = X509_get0_pubkey(cert);
    if (key && EVP_PKEY_is_a(key, "RSA"))
        return FACTS_RSA;
    return key && EVP_PKEY_is_a(key, "EC") ? FACTS_EC : 0;
}

// Index of the certificate in facts->certificates, where it is put if it is new.
static enum err place_certificate(struct facts *facts, X509 *cert, size_t *index,
                                  struct detail *detail)
{
    int count = sk_X509_num(facts->certificates);
    for (int i = 0; i < count; i++) {
        if (X509_cmp(sk_X509_value(facts->certificates, i), cert) == 0) {
            *index = (size_t)i;
            return ERR_OK;
        }
    }
    if (X509_up_ref(cert) != 1)
        return out_of_memory(detail);
    if (sk_X509_push(facts->certificates, cert) == 0) {
        X509_free(cert);
        return out_of_memory(detail);
    }
    *index = (size_t)count;
    return ERR_OK;
}

static enum err gather_certificates(struct gateway *gateway, time_t now, struct facts *facts,
                                    struct facts_recipient *recipient, struct detail *detail)
{
    STACK_OF(X509) *found = NULL;
    enum err err = certstore_find(gateway->store, recipient->address, now, &found, detail);
    if (err)
        return err;
    int count = found ? sk_X509_num(found) : 0;
    recipient->certificates = mem_calloc((size_t)count + 1, sizeof *recipient->certificates);
    if (!recipient->certificates)
        err = out_of_memory(detail);
    for (int i = 0; !err && i < count; i++) {
        X509 *cert = sk_X509_value(found, i);
        unsigned type = key_type_of(cert);
        if (type == 0)
            continue;
        recipient->key_types |= type;
        err = place_certificate(facts, cert, &recipient->certificates[recipient->certificate_count],
                                detail);
        recipient->certificate_count += err ? 0 : 1;
    }
    sk_X509_pop_free(found, X509_free);
    return err;
}

static enum err gather_recipient(struct gateway *gateway, const struct message *message,
                                 const char *text, time_t now, struct facts *facts,
                                 struct facts_recipient *recipient, struct detail *detail)
{
    struct detail reason = {0};
    enum err err = address_normalise(text, recipient->address, &reason);
    if (err && err != ERR_PERM)
        return err_set(detail, err, "%s", reason.text);
    if (err || !*recipient->address) {
        // It cannot have a certificate; the message's other recipients may.
        snprintf(recipient->address, sizeof recipient->address, "%s", text);
        return ERR_OK;
    }
    recipient->is_local = conf_is_local(gateway->conf, recipient->address);
    recipient->is_hidden = !facts_is_named(message, recipient->address);
    if (!profile_encrypts(facts->profile))
        return ERR_OK;
    return gather_certificates(gateway, now, facts, recipient, detail);
}

enum err facts_gather(struct gateway *gateway, const struct envelope *envelope,
                      const struct message *message, const struct profile *profile, time_t now,
                      struct facts *facts, struct detail *detail)
{
    struct detail reason = {0};
    *facts = (struct facts){.profile = profile, .protects_local = gateway->conf->protects_local};
    facts->recipients = mem_calloc(envelope->recipient_count + 1, sizeof *facts->recipients);
    facts->certificates = sk_X509_new_null();
    if (!facts->recipients || !facts->certificates)
        return out_of_memory(detail);
    facts->recipient_count = envelope->recipient_count;
    if (!profile)
        return ERR_OK;
    enum err err = gather_content(gateway, message, facts, detail);
    if (!err)
        err = address_from(message, facts->from, &reason);
    if (err == ERR_PERM) {
        *facts->from = 0;
        err = ERR_OK;
    }
    for (size_t i = 0; !err && i < envelope->recipient_count; i++)
        err = gather_recipient(gateway, message, envelope->recipients[i], now, facts,
                               &facts->recipients[i], detail);
    if (!err)
        gather_signers(gateway, now, facts);
    return err;
}

void facts_clear(struct facts *facts)
{
    for (size_t i = 0; facts->recipients && i < facts->recipient_count; i++)
        mem_free(facts->recipients[i].certificates);
    mem_free(facts->recipients);
    sk_X509_pop_free(facts->certificates, X509_free);
    *facts = (struct facts){0};
}

static bool is_address_char(char c)
{
    return isalnum((unsigned char)c) || (c && strchr("!#$%&'*+-/=?^_`{|}~.@", c)) ||
           (unsigned char)c >= 0x80;
}

// The address as it is written: a display name or comment that holds it names it as well.
static bool has_address(const char *value, const char *address)
{
    size_t len = strlen(address);
    for (const char *at = value; (at = strcasestr(at, address)) != NULL; at++) {
        bool begins = at == value || !is_address_char(at[-1]);
        if (begins && !is_address_char(at[len]))
            return true;
    }
    return false;
}

bool facts_is_named(const struct message *message, const char *address)
{
    static const char *const fields[] = {"To", "Cc", "Resent-To", "Resent-Cc"};
    for (size_t i = 0; i < message->header_count; i++) {
        for (size_t j = 0; j < sizeof fields / sizeof *fields; j++) {
            if (strcasecmp(message->headers[i].name, fields[j]) == 0 &&
                has_address(message->headers[i].value, address))
                return true;
        }
    }
    return false;
}
