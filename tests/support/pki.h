// SPDX-License-Identifier: Apache-2.0
// Throw-away certificates and keys in memory, of any make: good ones, and those that must be
// refused. Failures end the program: a test without its certificates has nothing to say.
#pragma once

#include <stdbool.h>
#include <time.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

enum pki_key { // each made once a process and shared
    PKI_RSA_2048,
    PKI_RSA_2048_B,
    PKI_RSA_1024,
    PKI_RSA_PSS_2048,
    PKI_EC_P256,
    PKI_EC_P256_B,
    PKI_EC_P256_C,
    PKI_EC_P384,
    PKI_ED25519,
    PKI_X25519,
    PKI_KEY_COUNT
};

// Borrowed. The first call for a key makes it (or reads it, where making is slow), and is not
// thread-safe.
EVP_PKEY *pki_key(enum pki_key key);

struct pki_request {
    const char *name; // common name
    enum pki_key key;
    const char *san;       // as in openssl.cnf: "email:bob@a.example,DNS:*.a.example"; NULL: none
    const char *key_usage; // "critical,digitalSignature"; NULL: none
    const char *extended;  // "emailProtection"; NULL: none
    const char *email;     // legacy emailAddress of the subject; NULL: none
    bool is_ca;
    long from, until;     // seconds from now; both 0: since an hour, for a year
    const char *hash;     // of its signature; NULL: SHA256
    unsigned long serial; // 0: the next
    // Further extensions as DER, by OID text; NULL: none.
    const char *extra_oid;
    const unsigned char *extra;
    int extra_len;
};

// Signed by issuer's key; issuer NULL: self-signed. The caller's.
X509 *pki_certificate(const struct pki_request *request, X509 *issuer, EVP_PKEY *issuer_key);

// A CA, and certificates it issues: what most tests want. The usual key usages.
X509 *pki_ca(const char *name, enum pki_key key);
X509 *pki_intermediate(const char *name, enum pki_key key, X509 *ca, EVP_PKEY *ca_key);
X509 *pki_signer(const char *name, enum pki_key key, const char *san, X509 *ca, EVP_PKEY *ca_key);
X509 *pki_recipient(const char *name, enum pki_key key, const char *san, X509 *ca,
                    EVP_PKEY *ca_key);

// PEM files, mode 0600.
void pki_write_certificates(const char *path, X509 *first, X509 *second); // second may be NULL
void pki_write_key(const char *path, EVP_PKEY *key);
