// SPDX-License-Identifier: Apache-2.0
// What a certificate says of itself: whose addresses and domains it covers (RFC 8550, 3; features
// F15, F16), what its key may do (F22, F23, RFC 8550, 4.4), whether it is in date.
#pragma once

#include <time.h>

#include <openssl/x509.h>

#include "gateway/address.h"
#include "hsmd/base/err.h"

#define CERTIFICATE_FINGERPRINT_SIZE 65 // SHA-256 in lower-case hex, with its 0

enum certificate_match {
    CERTIFICATE_NO_MATCH,
    CERTIFICATE_MATCHES_DOMAIN,  // a SAN dNSName covers the domain, wildcards included
    CERTIFICATE_MATCHES_ADDRESS, // SAN rfc822Name, SmtpUTF8Mailbox, or the legacy emailAddress of
                                 // the subject
};

// address: normalised. A certificate that names whole addresses as well as domains covers both
// (F15, F16).
enum certificate_match certificate_covers(const X509 *cert, const char *address);
// Every rfc822Name/emailAddress, then every dNSName, each handed to the callback once, lower case.
void certificate_each_name(const X509 *cert,
                           void (*take)(void *ctx, enum certificate_match kind, const char *name),
                           void *ctx);

// ERR_PERM and why: the key usage or extended key usage does not allow it; RSA below 2048 bits.
enum err
certificate_check_signing(const X509 *cert,
                          struct detail *detail); // of others: digitalSignature or nonRepudiation
enum err certificate_check_own_signing(const X509 *cert,
                                       struct detail *detail); // F22: if keyUsage is there, both
enum err certificate_check_encryption(
    const X509 *cert,
    struct detail *detail); // F23: keyUsage there, keyEncipherment (EC: keyAgreement); RSA or EC
bool certificate_is_expired(const X509 *cert, time_t at);
bool certificate_is_not_yet_valid(const X509 *cert, time_t at);

void certificate_fingerprint(const X509 *cert, char hex[CERTIFICATE_FINGERPRINT_SIZE]);
// RFC 4514 subject / issuer, serial in hex; cut to size.
void certificate_subject(const X509 *cert, char *out, size_t size);
void certificate_issuer(const X509 *cert, char *out, size_t size);
void certificate_serial(const X509 *cert, char *out, size_t size);

// Reads PEM (one or more) or DER. ERR_PERM: none in there. *certs: the caller's (sk_X509_pop_free).
enum err certificate_read(const char *path, STACK_OF(X509) * *certs, struct detail *detail);
enum err certificate_parse(struct bytes data, STACK_OF(X509) * *certs, struct detail *detail);
