// SPDX-License-Identifier: Apache-2.0
// Certificate requests and certificates of a key's own, made by hsmd itself and signed in the
// token: it knows what it signs (promise 4). And what a certificate must have to be put beside a
// key (F14, F17, F22, F23; RFC 8550, 4).
#pragma once

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"
#include "hsmd/officers/act.h"
#include "pkcs11/token.h"

// Signs a digest, as token_sign does with a key that is somebody else's matter; of Ed25519 the
// message itself is given. out:
// TOKEN_SIGNATURE_MAX bytes.
struct issue_signer {
    enum err (*sign)(void *context, enum token_scheme scheme, enum hash hash, unsigned salt,
                     struct bytes digest, uint8_t *out, size_t *out_len, struct detail *detail);
    void *context;
    struct bytes public_key; // SubjectPublicKeyInfo
    enum token_key_type type;
    enum wire_purpose purpose; // keyUsage and extendedKeyUsage follow from it
};

// What can be said of the act's fields alone: at least a common name; texts of UTF-8 within the
// bounds of RFC 5280; country of two letters of ISO 3166; domains ("*." before one is fine, F15),
// the domains of emails and a common name that is no address FQDN-shaped, or with any_name of
// letters, digits and hyphens (the common name: of anything); emails well-formed and ASCII; hash
// SHA-256, -384 or -512; days 1 to ACT_DAYS_MAX. ERR_PERM: the detail says which and what to do.
// hsmctl asks it before it proposes, hsmd again.
enum err issue_check(const struct act *act, struct detail *detail);

// Append DER: a PKCS#10 request (RFC 2986) with subjectAltName and keyUsage as extensionRequest; a
// certificate (RFC 5280, 8550) valid from a day ago for act->days, basicConstraints CA:FALSE,
// subject and authority key identifiers, random serial number. Both with extendedKeyUsage
// emailProtection where the purpose is S/MIME. Verified with the public key before
// it is given out. digest: 64 bytes, what the signer was given (of Ed25519 its SHA-512), for the
// audit log, also where it or what follows fails; its length in digest_len, 0: it did not come so
// far. What the signer fails with is passed on. ERR_PERM: as issue_check, or pss with a key that is
// not RSA. ERR_TEMP: the signature is none of this key, or out of memory.
enum err issue_request(const struct act *act, const struct issue_signer *signer, struct buf *der,
                       uint8_t *digest, size_t *digest_len, struct detail *detail);
enum err issue_self_signed(const struct act *act, const struct issue_signer *signer,
                           struct buf *der, uint8_t *digest, size_t *digest_len,
                           struct detail *detail);

// May these certificates (DER, one after the other) be put beside a key? The first must be of
// public_key (empty: not looked at), be valid now, and: smime-sign: keyUsage, if there, has both
// digitalSignature and nonRepudiation, subject has the fields of F14 at least common name, names
// are FQDN-shaped unless any_name; smime-decrypt: keyUsage is there and has keyEncipherment (RSA)
// or keyAgreement (EC); that it has no domain is a doubt (F23). The others must lead on from it,
// each issued by the next. ERR_PERM: every requirement that is unmet, in one detail. warning: what
// only some recipients mind, or empty.
enum err issue_check_certificates(struct bytes certificates, struct bytes public_key,
                                  enum wire_purpose purpose, bool any_name, struct detail *warning,
                                  struct detail *detail);
