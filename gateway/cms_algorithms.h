// SPDX-License-Identifier: Apache-2.0
// Which algorithms may stand where in a CMS object, as one table: a new algorithm is a new row. And
// the checks of AlgorithmIdentifiers against it, from their raw encoding.
#pragma once

#include "gateway/cms_ber.h"
#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"
#include "hsmd/base/hash.h"

enum cms_use {
    CMS_USE_DIGEST,
    CMS_USE_SIGNATURE,
    CMS_USE_TRANSPORT,
    CMS_USE_AGREEMENT,
    CMS_USE_ORIGINATOR, // key type of an ephemeral key
    CMS_USE_WRAP,
    CMS_USE_CONTENT, // of EnvelopedData
    CMS_USE_AEAD,    // of AuthEnvelopedData
};

enum cms_status {
    CMS_ALLOWED,
    CMS_LEGACY,      // only where the configuration asks for it
    CMS_UNAVAILABLE, // sound, but not with this libcrypto: "unsupported"
    CMS_FORBIDDEN,   // weak or dangerous: refused wherever it stands
};

enum cms_parameters {
    CMS_PARAMETERS_NONE, // absent or NULL
    CMS_PARAMETERS_ANY,  // not looked at, because the algorithm is not allowed anyway
    CMS_PARAMETERS_IV8,
    CMS_PARAMETERS_IV16,
    CMS_PARAMETERS_GCM,
    CMS_PARAMETERS_OAEP,
    CMS_PARAMETERS_PSS,
    CMS_PARAMETERS_WRAP,  // AlgorithmIdentifier of the key wrap
    CMS_PARAMETERS_CURVE, // absent, NULL or a named curve
};

struct cms_algorithm {
    const char *name;
    enum cms_use use;
    enum cms_status status;
    enum cms_parameters parameters;
    enum hash hash;   // digest and signature algorithms that fix one
    struct bytes oid; // content octets
};

// NULL: not in the table.
const struct cms_algorithm *cms_algorithm_by_oid(struct bytes oid, enum cms_use use);

// What an AlgorithmIdentifier says, once its parameters were checked.
struct cms_algorithm_facts {
    const struct cms_algorithm *algorithm; // NULL: not in the table
    enum cms_status status;                // CMS_UNAVAILABLE if not in the table
    enum hash hash;                        // digest; signature: of its hash, HASH_NONE if not fixed
    size_t tag_len;                        // GCM
    const struct cms_algorithm *wrap;      // key agreement
    char name[80];                         // for people: "rsaes-oaep(sha256)"
};

// algorithm: a SEQUENCE. ERR_PERM: malformed, or parameters that are not allowed, with the reason;
// status then tells parameters that are unavailable or forbidden from malformed ones.
// A known algorithm of another status than allowed is no error here.
enum err cms_algorithm_read(const struct ber_element *algorithm, enum cms_use use,
                            struct cms_algorithm_facts *facts, struct detail *detail);

// May a signature be checked that is made by these two (RFC 5652, 5.3; RFC 8933; RFC 4056, 3)?
// ERR_PERM: malformed or they contradict each other. *status and *name for the signature as a
// whole.
enum err cms_signature_read(const struct ber_element *digest, const struct ber_element *signature,
                            struct cms_algorithm_facts *facts, struct detail *detail);

// "aes-256-cbc" or, for one that is not in the table, its dotted number.
void cms_oid_name(struct bytes oid, char *out, size_t size);
