// SPDX-License-Identifier: Apache-2.0
// CMS objects made and opened (RFC 5652, 5083, 8551). Bytes in, bytes out; MIME is elsewhere.
// Private keys are EVP_PKEYs from the provider; session keys are made here.
#pragma once

#include <stdint.h>
#include <time.h>

#include <openssl/x509.h>

#include "gateway/certificate.h"
#include "gateway/spool.h"
#include "gateway/trust.h"
#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"
#include "hsmd/base/hash.h"

struct cms_signer {
    EVP_PKEY *key;
    X509 *cert;
    STACK_OF(X509) * chain; // intermediates, no root; or NULL
    enum hash hash;
    bool pss; // RSA-PSS in place of PKCS#1 v1.5
};

// DER SignedData. detached: without the content. content is hashed as it is (canonical already).
// Attributes: content-type, signing-time, message-digest, SMIMECapabilities (our own list),
// signingCertificateV2 (RFC 5035). ERR_TEMP: hsmd; ERR_DENIED: hsmd refuses.
enum err cms_sign(const struct cms_signer *signer, struct bytes content, bool detached,
                  struct spool *out, struct detail *detail);
const char *cms_micalg(enum hash hash); // "sha-256"

enum cms_cipher {
    CMS_AES_128_CBC,
    CMS_AES_192_CBC,
    CMS_AES_256_CBC,
    CMS_AES_128_GCM,
    CMS_AES_192_GCM,
    CMS_AES_256_GCM
};
bool cms_cipher_is_aead(enum cms_cipher cipher);
bool cms_cipher_by_name(const char *name, enum cms_cipher *cipher); // "aes-256-cbc"

struct cms_encryption {
    enum cms_cipher cipher;
    bool oaep;                   // RSA recipients by OAEP-SHA-256 (RFC 3560) in place of v1.5
    STACK_OF(X509) * recipients; // a RecipientInfo each, issuerAndSerialNumber
};

// DER EnvelopedData, or AuthEnvelopedData for an AEAD cipher. EC: ECDH with the SHA-256 KDF, AES
// wrap of the cipher's key size.
enum err cms_encrypt(const struct cms_encryption *encryption, struct bytes content,
                     struct spool *out, struct detail *detail);

enum cms_type {
    CMS_TYPE_OTHER,
    CMS_TYPE_SIGNED,
    CMS_TYPE_ENVELOPED,
    CMS_TYPE_AUTH_ENVELOPED,
    CMS_TYPE_COMPRESSED
};

enum cms_refusal { // why cms_inspect refuses
    CMS_REFUSAL_NONE,
    CMS_REFUSAL_MALFORMED,   // or out of bounds
    CMS_REFUSAL_UNKNOWN,     // hangs on something that is not in our table: could be anything
    CMS_REFUSAL_UNSUPPORTED, // known, but not to this libcrypto
    CMS_REFUSAL_FORBIDDEN,   // known, and weak or dangerous
};

struct cms_summary {
    enum cms_type type;
    enum cms_refusal refusal;
    bool is_detached;     // SignedData without eContent
    bool is_certs_only;   // SignedData without signers
    char algorithms[200]; // for people: "aes-256-cbc, rsaes-oaep(sha256)"
};

// The allow-list, read from the raw DER or BER before libcrypto's CMS sees it. ERR_PERM, with the
// reason, for anything not on it: password and KEK recipients, X9.42 DH, wrap-pad, RC2, 3DES and
// others by default, GCM tags under 12 bytes, nesting or counts out of bounds, malformed encodings;
// also what OpenSSL 3.0's CMS layer cannot do (Ed25519, X25519, CCM): "unsupported: ...".
// Recipients or signers that we cannot handle are no fault beside one that we can; a SHA-1
// signature passes, for cms_verify to judge. summary->type is set even on failure when it could be
// read, and refusal tells the kinds of failure apart; "unsupported" may be an unknown one.
enum err cms_inspect(struct bytes object, bool allow_legacy, struct cms_summary *summary,
                     struct detail *detail);

struct cms_identity { // a decryption key of ours
    const char *name;
    EVP_PKEY *key;
    X509 *cert;
};

// Finds the identities that a RecipientInfo names, decrypts with the first that opens it, releases
// nothing before the end is verified. used: index of the identity. ERR_PERM: no recipient is ours
// (then used is CMS_NOBODY), or decryption failed (one text for every cause); ERR_TEMP: hsmd;
// ERR_DENIED: hsmd refuses. Applies the allow-list itself, with legacy. What AES-CBC gives has no
// integrity: a message changed on its way may come out as garbage.
#define CMS_NOBODY SIZE_MAX
enum err cms_decrypt(struct bytes object, const struct cms_identity *identities, size_t count,
                     struct spool *out, size_t *used, struct detail *detail);

enum cms_verdict {
    CMS_GOOD,           // signature good, chain and usage good
    CMS_BAD_SIGNATURE,  // signature or digest wrong, or attributes malformed
    CMS_UNTRUSTED,      // signature good, chain not to a trust anchor, or usage wrong
    CMS_EXPIRED,        // signature good, some certificate not in date at the time of checking
    CMS_NO_CERTIFICATE, // signer's certificate not in the message, nor among extra
    CMS_UNSUPPORTED,    // algorithm we cannot check
};

struct cms_verification {
    enum cms_verdict verdict;
    X509 *signer;                 // owned; NULL if unknown. The first good one, else the first
    enum certificate_match match; // how the signer's certificate covers from; a good signature of
                                  // somebody else is good, so look at this too
    time_t signing_time;          // 0: not there
    enum hash hash;
    STACK_OF(X509) * certificates; // owned; all that came along
    char reason[200];              // "" if good
};

// Verifies SignedData. content: of a detached one; else {NULL, 0}, and the eContent goes to out
// (may be NULL for detached) whatever the verdict, as far as it can be read. Multiple SignerInfos:
// a good one whose certificate covers from (normalised; NULL: any) speaks for all, else another
// good one, else the first. Signed attributes must be there; checks cmsAlgorithmProtection (RFC
// 6211) and signingCertificateV2 when there. SHA-1 is CMS_UNSUPPORTED ("weak: ..."). now: time for
// chain checks. trust: NULL trusts nobody. Returns ERR_PERM only for what is not SignedData at all,
// ERR_TEMP for our own troubles; a bad signature is a verdict. verification needs
// cms_verification_clear in any case.
enum err cms_verify(struct bytes object, struct bytes content, const struct trust *trust,
                    STACK_OF(X509) * extra, const char *from, time_t now, struct spool *out,
                    struct cms_verification *verification, struct detail *detail);
void cms_verification_clear(struct cms_verification *verification);
