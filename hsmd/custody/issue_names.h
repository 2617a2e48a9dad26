// SPDX-License-Identifier: Apache-2.0
// The shapes of what is named in certificates. Each function says what is wrong, to be read behind
// the name itself ("\"a_b.example\" has ..."), or NULL if nothing is.
#pragma once

#include "hsmd/base/buf.h"

#define ISSUE_DOMAIN_MAX 253  // bytes, RFC 1035, 2.3.4, as text
#define ISSUE_LABEL_MAX 63    // bytes
#define ISSUE_LOCAL_MAX 64    // bytes before the @, RFC 5321, 4.5.3.1.1
#define ISSUE_ADDRESS_MAX 254 // bytes, RFC 5321, 4.5.3.1.3 without the angle brackets

enum issue_domain_kind {
    ISSUE_HOST,     // letters, digits, hyphens (RFC 5280, 4.2.1.6): any name that can be written
    ISSUE_FQDN,     // and at least two labels, the last one not a number
    ISSUE_WILDCARD, // or such a name with "*." before it
    ISSUE_WILDCARD_HOST,
};

// A dNSName. Names of other scripts must be A-labels already.
const char *issue_domain_flaw(struct bytes name, enum issue_domain_kind kind);
// An rfc822Name: ASCII, a dot-string before the @ (RFC 5321, 4.1.2: no quoted one), a domain of
// that kind behind it.
const char *issue_address_flaw(struct bytes address, enum issue_domain_kind kind);
// A text of a subject's field, UTF-8: max characters, none of them a control character.
const char *issue_text_flaw(struct bytes text, unsigned max);
// ISO 3166-1 alpha-2, in capitals.
const char *issue_country_flaw(struct bytes country);
