// SPDX-License-Identifier: Apache-2.0
// The allow-list in front of libcrypto's CMS parser, which has had its share of holes: what is not
// expected is refused here, from the raw bytes. Reads the structures of RFC 5652 and RFC 5083 as
// far as algorithms are named in them; certificates, names and attributes are stepped over.
#include "gateway/cms.h"

#include <stdio.h>
#include <string.h>

#include "gateway/cms_algorithms.h"
#include "gateway/cms_ber.h"

#define RECIPIENTS_MAX 1000 // RecipientInfos and, in all, RecipientEncryptedKeys of an object
#define SIGNERS_MAX 16
#define DIGESTS_MAX 16
#define CERTIFICATES_MAX 100

#define PKCS7 "\x2a\x86\x48\x86\xf7\x0d\x01\x07"
#define SMIME_CT "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01"
static const struct bytes oid_data = {(const uint8_t *)PKCS7 "\x01", 9};

static const struct {
    struct bytes oid;
    enum cms_type type;
    const char *name;
} types[] = {
    {{(const uint8_t *)PKCS7 "\x02", 9}, CMS_TYPE_SIGNED, "signed-data"},
    {{(const uint8_t *)PKCS7 "\x03", 9}, CMS_TYPE_ENVELOPED, "enveloped-data"},
    {{(const uint8_t *)SMIME_CT "\x17", 11}, CMS_TYPE_AUTH_ENVELOPED, "authEnveloped-data"},
    {{(const uint8_t *)SMIME_CT "\x09", 11}, CMS_TYPE_COMPRESSED, "compressed-data"},
    {{(const uint8_t *)PKCS7 "\x01", 9}, CMS_TYPE_OTHER, "data"},
    {{(const uint8_t *)PKCS7 "\x05", 9}, CMS_TYPE_OTHER, "digested-data"},
    {{(const uint8_t *)PKCS7 "\x06", 9}, CMS_TYPE_OTHER, "encrypted-data"},
    {{(const uint8_t *)SMIME_CT "\x02", 11}, CMS_TYPE_OTHER, "authenticated-data"},
};

struct inspection {
    bool allow_legacy;
    struct cms_summary *summary;
    struct detail *detail;
    unsigned usable, unusable; // recipients or signers whose algorithms we can, or cannot, handle
    unsigned known;            // of the unusable ones
    unsigned reks;
    char unusable_name[80]; // algorithm of the first unusable one
};

static enum err refuse_malformed(struct inspection *in, const char *what)
{
    return err_set(in->detail, ERR_PERM, "malformed: %s", what);
}

static enum err refuse(struct inspection *in, enum cms_refusal refusal, const char *what)
{
    static const char *const words[] = {[CMS_REFUSAL_UNKNOWN] = "unsupported",
                                        [CMS_REFUSAL_UNSUPPORTED] = "unsupported",
                                        [CMS_REFUSAL_FORBIDDEN] = "forbidden"};
    in->summary->refusal = refusal;
    return err_set(in->detail, ERR_PERM, "%s: %s", words[refusal], what);
}

// Not just its name but all that it is made of is in the table.
static bool is_known(const struct cms_algorithm_facts *facts)
{
    return facts->algorithm && (facts->algorithm->parameters != CMS_PARAMETERS_WRAP || facts->wrap);
}

// Adds a name to the list for people, once.
static void name_algorithm(struct inspection *in, const char *name)
{
    char *list = in->summary->algorithms;
    size_t size = sizeof in->summary->algorithms;
    size_t len = strlen(list), name_len = strlen(name);
    for (const char *at = list; (at = strstr(at, name)); at += name_len) {
        bool starts = at == list || at[-1] == ' ';
        if (starts && (at[name_len] == 0 || at[name_len] == ','))
            return;
    }
    if (len + name_len + 2 < size)
        snprintf(list + len, size - len, "%s%s", len ? ", " : "", name);
}

// The outcome of one algorithm that the whole object depends on.
static enum err judge(struct inspection *in, const struct cms_algorithm_facts *facts)
{
    name_algorithm(in, facts->name);
    switch (facts->status) {
    case CMS_ALLOWED:
        return ERR_OK;
    case CMS_LEGACY:
        if (in->allow_legacy)
            return ERR_OK;
        break;
    case CMS_FORBIDDEN:
        break;
    case CMS_UNAVAILABLE:
        return refuse(in, is_known(facts) ? CMS_REFUSAL_UNSUPPORTED : CMS_REFUSAL_UNKNOWN,
                      facts->name);
    }
    return refuse(in, CMS_REFUSAL_FORBIDDEN, facts->name);
}

// The outcome of one algorithm of several alternatives: what we cannot handle may be another's.
static enum err judge_alternative(struct inspection *in, const struct cms_algorithm_facts *facts)
{
    if (facts->status != CMS_UNAVAILABLE) {
        in->usable++;
        return judge(in, facts);
    }
    name_algorithm(in, facts->name);
    in->known += is_known(facts) ? 1 : 0;
    if (in->unusable++ == 0)
        snprintf(in->unusable_name, sizeof in->unusable_name, "%s", facts->name);
    return ERR_OK;
}

static enum err judge_alternatives(struct inspection *in)
{
    if (in->usable > 0)
        return ERR_OK;
    return refuse(in, in->known > 0 ? CMS_REFUSAL_UNSUPPORTED : CMS_REFUSAL_UNKNOWN,
                  in->unusable_name);
}

static enum err ktri_inspect(struct inspection *in, struct bytes content)
{
    struct cms_algorithm_facts facts;
    struct ber_element rid;
    struct ber ber = ber_open(content);
    (void)ber_get_unsigned(&ber);
    if (!ber_try(&ber, BER_SEQUENCE, &rid) && !ber_try(&ber, BER_CONTEXT | 0, &rid))
        return refuse_malformed(in, "recipient identifier");
    struct ber_element algorithm = ber_get(&ber, BER_SEQUENCE);
    (void)ber_get(&ber, BER_OCTET_STRING);
    if (!ber_is_done(&ber))
        return refuse_malformed(in, "key transport recipient");
    enum err err = cms_algorithm_read(&algorithm, CMS_USE_TRANSPORT, &facts, in->detail);
    return err == ERR_OK ? judge_alternative(in, &facts) : err;
}

// The ephemeral key's type; static originators, which libcrypto cannot resolve, are unusable.
static enum err originator_inspect(struct inspection *in, struct bytes content,
                                   struct cms_algorithm_facts *facts)
{
    struct ber ber = ber_open(content);
    struct ber_element choice;
    if (!ber_next(&ber, &choice) || !ber_is_done(&ber))
        return refuse_malformed(in, "originator");
    if (choice.tag != (BER_CONTEXT_CONSTRUCTED | 1)) {
        *facts = (struct cms_algorithm_facts){.status = CMS_UNAVAILABLE, .name = "static-ecdh"};
        in->known++;
        return ERR_OK;
    }
    struct ber key = ber_open(choice.content);
    struct ber_element algorithm = ber_get(&key, BER_SEQUENCE);
    (void)ber_get(&key, BER_BIT_STRING);
    if (!ber_is_done(&key))
        return refuse_malformed(in, "originator's key");
    return cms_algorithm_read(&algorithm, CMS_USE_ORIGINATOR, facts, in->detail);
}

static enum err reks_inspect(struct inspection *in, struct bytes content)
{
    struct ber ber = ber_open(content);
    while (ber_peek(&ber)) {
        struct ber_element rid;
        struct ber rek = ber_open(ber_get(&ber, BER_SEQUENCE).content);
        if (!ber_try(&rek, BER_SEQUENCE, &rid) && !ber_try(&rek, BER_CONTEXT_CONSTRUCTED | 0, &rid))
            return refuse_malformed(in, "recipient identifier");
        (void)ber_get(&rek, BER_OCTET_STRING);
        if (!ber_is_done(&rek))
            return refuse_malformed(in, "recipient's encrypted key");
        if (++in->reks > RECIPIENTS_MAX)
            return err_set(in->detail, ERR_PERM, "too many recipients");
    }
    return ber_is_done(&ber) ? ERR_OK : refuse_malformed(in, "key agreement recipient");
}

static enum err kari_inspect(struct inspection *in, struct bytes content)
{
    struct cms_algorithm_facts originator = {0}, facts = {0};
    struct ber_element ukm;
    struct ber ber = ber_open(content);
    (void)ber_get_unsigned(&ber);
    struct ber_element from = ber_get(&ber, BER_CONTEXT_CONSTRUCTED | 0);
    if (ber_try(&ber, BER_CONTEXT_CONSTRUCTED | 1, &ukm)) {
        struct ber inner = ber_open(ukm.content);
        (void)ber_get(&inner, BER_OCTET_STRING);
        if (!ber_is_done(&inner))
            return refuse_malformed(in, "user keying material");
    }
    struct ber_element algorithm = ber_get(&ber, BER_SEQUENCE);
    struct ber_element reks = ber_get(&ber, BER_SEQUENCE);
    if (!ber_is_done(&ber))
        return refuse_malformed(in, "key agreement recipient");
    enum err err = originator_inspect(in, from.content, &originator);
    if (err == ERR_OK)
        err = cms_algorithm_read(&algorithm, CMS_USE_AGREEMENT, &facts, in->detail);
    if (err == ERR_OK)
        err = reks_inspect(in, reks.content);
    if (err != ERR_OK)
        return err;
    bool is_worse = originator.status > facts.status;
    return judge_alternative(in, is_worse ? &originator : &facts);
}

static enum err other_inspect(struct inspection *in, struct bytes content)
{
    struct cms_algorithm_facts facts = {.status = CMS_UNAVAILABLE};
    struct ber ber = ber_open(content);
    char oid[60];
    cms_oid_name(ber_get(&ber, BER_OID).content, oid, sizeof oid);
    if (ber.is_bad)
        return refuse_malformed(in, "other recipient");
    snprintf(facts.name, sizeof facts.name, "recipient type %s", oid);
    return judge_alternative(in, &facts);
}

static enum err recipients_inspect(struct inspection *in, struct bytes content)
{
    struct ber ber = ber_open(content);
    struct ber_element recipient;
    unsigned count = 0;
    while (ber_next(&ber, &recipient)) {
        enum err err;
        if (++count > RECIPIENTS_MAX)
            return err_set(in->detail, ERR_PERM, "too many recipients");
        switch (recipient.tag) {
        case BER_SEQUENCE:
            err = ktri_inspect(in, recipient.content);
            break;
        case BER_CONTEXT_CONSTRUCTED | 1:
            err = kari_inspect(in, recipient.content);
            break;
        case BER_CONTEXT_CONSTRUCTED | 2:
            return refuse(in, CMS_REFUSAL_FORBIDDEN, "recipient with a shared key");
        case BER_CONTEXT_CONSTRUCTED | 3:
            return refuse(in, CMS_REFUSAL_FORBIDDEN, "recipient with a password");
        case BER_CONTEXT_CONSTRUCTED | 4:
            err = other_inspect(in, recipient.content);
            break;
        default:
            return refuse_malformed(in, "recipient of an unknown kind");
        }
        if (err != ERR_OK)
            return err;
    }
    if (!ber_is_done(&ber) || count == 0)
        return refuse_malformed(in, "recipients");
    return judge_alternatives(in);
}

static enum err encrypted_content_inspect(struct inspection *in, struct bytes content,
                                          enum cms_use use, struct cms_algorithm_facts *facts)
{
    struct ber ber = ber_open(content);
    struct ber_element value;
    size_t len = 0;
    struct ber_element type = ber_get(&ber, BER_OID);
    struct ber_element algorithm = ber_get(&ber, BER_SEQUENCE);
    if (!ber_try(&ber, BER_CONTEXT | 0, &value) &&
        !ber_try(&ber, BER_CONTEXT_CONSTRUCTED | 0, &value))
        return refuse_malformed(in, "no encrypted content");
    if (!ber_is_done(&ber) || !ber_string_len(&value, &len))
        return refuse_malformed(in, "encrypted content");
    if (!bytes_equal(type.content, oid_data))
        return refuse(in, CMS_REFUSAL_UNKNOWN, "encrypted content that is not data");
    enum err err = cms_algorithm_read(&algorithm, use, facts, in->detail);
    if (err != ERR_OK) {
        if (facts->algorithm && facts->status == CMS_UNAVAILABLE)
            in->summary->refusal = CMS_REFUSAL_UNSUPPORTED;
        else if (facts->algorithm && facts->status == CMS_FORBIDDEN)
            in->summary->refusal = CMS_REFUSAL_FORBIDDEN;
        return err;
    }
    err = judge(in, facts);
    enum cms_parameters parameters = facts->algorithm ? facts->algorithm->parameters : 0;
    size_t block = parameters == CMS_PARAMETERS_IV16  ? 16
                   : parameters == CMS_PARAMETERS_IV8 ? 8
                                                      : 1;
    if (err == ERR_OK && (len % block != 0 || (block > 1 && len == 0)))
        return refuse_malformed(in, "encrypted content is not whole blocks");
    return err;
}

static enum err enveloped_inspect(struct inspection *in, struct bytes content)
{
    struct cms_algorithm_facts facts;
    struct ber_element optional;
    struct ber ber = ber_open(content);
    (void)ber_get_unsigned(&ber);
    (void)ber_try(&ber, BER_CONTEXT_CONSTRUCTED | 0, &optional); // originatorInfo
    struct ber_element recipients = ber_get(&ber, BER_SET);
    struct ber_element encrypted = ber_get(&ber, BER_SEQUENCE);
    (void)ber_try(&ber, BER_CONTEXT_CONSTRUCTED | 1, &optional); // unprotectedAttrs
    if (!ber_is_done(&ber))
        return refuse_malformed(in, "enveloped-data");
    enum err err = encrypted_content_inspect(in, encrypted.content, CMS_USE_CONTENT, &facts);
    return err == ERR_OK ? recipients_inspect(in, recipients.content) : err;
}

static enum err auth_enveloped_inspect(struct inspection *in, struct bytes content)
{
    struct cms_algorithm_facts facts = {0};
    struct ber_element optional;
    struct ber ber = ber_open(content);
    (void)ber_get_unsigned(&ber);
    (void)ber_try(&ber, BER_CONTEXT_CONSTRUCTED | 0, &optional); // originatorInfo
    struct ber_element recipients = ber_get(&ber, BER_SET);
    struct ber_element encrypted = ber_get(&ber, BER_SEQUENCE);
    bool has_attributes = ber_try(&ber, BER_CONTEXT_CONSTRUCTED | 1, &optional);
    struct ber_element tag = ber_get(&ber, BER_OCTET_STRING);
    (void)ber_try(&ber, BER_CONTEXT_CONSTRUCTED | 2, &optional); // unauthAttrs
    if (!ber_is_done(&ber))
        return refuse_malformed(in, "authEnveloped-data");
    enum err err = encrypted_content_inspect(in, encrypted.content, CMS_USE_AEAD, &facts);
    if (err != ERR_OK)
        return err;
    if (tag.content.len != facts.tag_len) {
        in->summary->refusal = CMS_REFUSAL_FORBIDDEN;
        return err_set(in->detail, ERR_PERM,
                       "forbidden: a tag of %zu bytes where %zu are announced", tag.content.len,
                       facts.tag_len);
    }
    if (has_attributes)
        return refuse(in, CMS_REFUSAL_UNSUPPORTED, "authenticated attributes");
    return recipients_inspect(in, recipients.content);
}

static enum err signer_inspect(struct inspection *in, struct bytes content)
{
    struct cms_algorithm_facts facts;
    struct ber_element sid, optional;
    struct ber ber = ber_open(content);
    (void)ber_get_unsigned(&ber);
    if (!ber_try(&ber, BER_SEQUENCE, &sid) && !ber_try(&ber, BER_CONTEXT | 0, &sid))
        return refuse_malformed(in, "signer identifier");
    struct ber_element digest = ber_get(&ber, BER_SEQUENCE);
    (void)ber_try(&ber, BER_CONTEXT_CONSTRUCTED | 0, &optional); // signedAttrs
    struct ber_element signature = ber_get(&ber, BER_SEQUENCE);
    (void)ber_get(&ber, BER_OCTET_STRING);
    (void)ber_try(&ber, BER_CONTEXT_CONSTRUCTED | 1, &optional); // unsignedAttrs
    if (!ber_is_done(&ber))
        return refuse_malformed(in, "signer");
    enum err err = cms_signature_read(&digest, &signature, &facts, in->detail);
    if (err != ERR_OK)
        return err;
    // An old signature is for cms_verify to judge: refused here, the mail could not be read.
    if (facts.status == CMS_LEGACY)
        facts.status = CMS_ALLOWED;
    return judge_alternative(in, &facts);
}

static enum err encapsulated_inspect(struct inspection *in, struct bytes content)
{
    struct ber_element explicit;
    struct ber ber = ber_open(content);
    struct ber_element type = ber_get(&ber, BER_OID);
    in->summary->is_detached = true;
    if (ber_try(&ber, BER_CONTEXT_CONSTRUCTED | 0, &explicit)) {
        size_t len = 0;
        struct ber_element value;
        struct ber inner = ber_open(explicit.content);
        if (!ber_next(&inner, &value) || (value.tag & ~0x20) != BER_OCTET_STRING ||
            !ber_string_len(&value, &len) || !ber_is_done(&inner))
            return refuse_malformed(in, "encapsulated content");
        in->summary->is_detached = false;
    }
    if (!ber_is_done(&ber))
        return refuse_malformed(in, "encapsulated content");
    if (!bytes_equal(type.content, oid_data))
        return refuse(in, CMS_REFUSAL_UNSUPPORTED, "signed content that is not data");
    return ERR_OK;
}

// Counts the elements of a SET that need no further look here.
static bool set_count(struct bytes content, unsigned max, unsigned *count)
{
    struct ber ber = ber_open(content);
    struct ber_element element;
    *count = 0;
    while (*count <= max && ber_next(&ber, &element))
        (*count)++;
    return ber_is_done(&ber) && *count <= max;
}

static enum err signed_inspect(struct inspection *in, struct bytes content)
{
    struct ber_element certificates, crls, signer;
    unsigned count = 0;
    struct ber ber = ber_open(content);
    (void)ber_get_unsigned(&ber);
    struct ber_element digests = ber_get(&ber, BER_SET);
    struct ber_element encapsulated = ber_get(&ber, BER_SEQUENCE);
    (void)ber_try(&ber, BER_CONTEXT_CONSTRUCTED | 0, &certificates);
    (void)ber_try(&ber, BER_CONTEXT_CONSTRUCTED | 1, &crls);
    struct ber signers = ber_open(ber_get(&ber, BER_SET).content);
    if (!ber_is_done(&ber) || !set_count(digests.content, DIGESTS_MAX, &count))
        return refuse_malformed(in, "signed-data");
    if (!set_count(certificates.content, CERTIFICATES_MAX, &count) ||
        !set_count(crls.content, CERTIFICATES_MAX, &count))
        return err_set(in->detail, ERR_PERM, "too many certificates");
    in->summary->is_certs_only = signers.left.len == 0;
    enum err err = encapsulated_inspect(in, encapsulated.content);
    if (err != ERR_OK || in->summary->is_certs_only)
        return err;
    for (count = 0; ber_try(&signers, BER_SEQUENCE, &signer);) {
        if (++count > SIGNERS_MAX)
            return err_set(in->detail, ERR_PERM, "too many signers");
        err = signer_inspect(in, signer.content);
        if (err != ERR_OK)
            return err;
    }
    if (!ber_is_done(&signers))
        return refuse_malformed(in, "signers");
    return judge_alternatives(in);
}

static enum err object_inspect(struct inspection *in, struct bytes object)
{
    struct cms_summary *summary = in->summary;
    size_t used = 0;
    char name[80];
    if (!ber_check(object, &used))
        return refuse_malformed(in, "not BER");
    struct ber ber = ber_open(bytes_of(object.data, used));
    struct ber info = ber_open(ber_get(&ber, BER_SEQUENCE).content);
    struct ber_element type = ber_get(&info, BER_OID);
    struct ber explicit = ber_open(ber_get(&info, BER_CONTEXT_CONSTRUCTED | 0).content);
    cms_oid_name(type.content, name, sizeof name);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (bytes_equal(types[i].oid, type.content)) {
            summary->type = types[i].type;
            snprintf(name, sizeof name, "%s", types[i].name);
        }
    }
    if (used != object.len)
        return refuse_malformed(in, "bytes behind the end");
    if (!ber_is_done(&info))
        return refuse_malformed(in, "not a CMS object");
    if (summary->type == CMS_TYPE_OTHER || summary->type == CMS_TYPE_COMPRESSED)
        return refuse(in, CMS_REFUSAL_UNSUPPORTED, name);
    struct ber_element value = ber_get(&explicit, BER_SEQUENCE);
    if (!ber_is_done(&explicit))
        return refuse_malformed(in, name);
    switch (summary->type) {
    case CMS_TYPE_SIGNED:
        return signed_inspect(in, value.content);
    case CMS_TYPE_ENVELOPED:
        return enveloped_inspect(in, value.content);
    case CMS_TYPE_AUTH_ENVELOPED:
        return auth_enveloped_inspect(in, value.content);
    case CMS_TYPE_COMPRESSED:
    case CMS_TYPE_OTHER:
        break;
    }
    return ERR_BUG;
}

enum err cms_inspect(struct bytes object, bool allow_legacy, struct cms_summary *summary,
                     struct detail *detail)
{
    struct inspection in = {.allow_legacy = allow_legacy, .summary = summary, .detail = detail};
    *summary = (struct cms_summary){0};
    enum err err = object_inspect(&in, object);
    if (err == ERR_PERM && summary->refusal == CMS_REFUSAL_NONE)
        summary->refusal = CMS_REFUSAL_MALFORMED;
    return err;
}
