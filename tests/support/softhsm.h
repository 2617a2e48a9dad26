// SPDX-License-Identifier: Apache-2.0
// A throw-away SoftHSM2 token for tests, with keys and certificates in it.
//
//     struct softhsm hsm;
//     softhsm_setup(&hsm, "test token");     // token, and SOFTHSM2_CONF set; no keys yet
//     softhsm_make_keys(&hsm, SOFTHSM_ALL);  // rsa2048, rsa3072, p256, p384, p521
//     ... token_open with .module = softhsm_module(), .label = hsm.label; PIN SOFTHSM_PIN ...
//     softhsm_teardown(&hsm);                // removes the directory
//
// All of it happens in child processes, so this process has not loaded the module yet when the test
// begins. Make tokens before it does: a SoftHSM that is initialised does not see new ones; new and
// lost keys it sees. On failure they say why on standard error and exit(1): a test cannot go on
// without its token.
#pragma once

#include <stdint.h>

#include <openssl/evp.h>

#define SOFTHSM_PIN "1234"
#define SOFTHSM_SO_PIN "5678"

struct softhsm {
    char dir[200];  // temporary directory: softhsm2.conf, tokens/, certs/LABEL.pem, certs/ca.pem
    char label[33]; // of the first token
    EVP_PKEY *ca;   // throw-away CA, in memory only
};

// Path of libsofthsm2.so: $TEST_SOFTHSM, else the first of the usual places.
const char *softhsm_module(void);

void softhsm_setup(struct softhsm *hsm, const char *label);
void softhsm_teardown(struct softhsm *hsm);

// Another token in the same directory.
void softhsm_add_token(struct softhsm *hsm, const char *label);

enum {
    SOFTHSM_NO_PUBLIC = 1,     // without a public key object
    SOFTHSM_NO_CERT = 2,       // without a certificate object; the PEM file is written all the same
    SOFTHSM_EXTRACTABLE = 4,   // CKA_EXTRACTABLE true, CKA_SENSITIVE false
    SOFTHSM_SIGN_ONLY = 8,     // no CKA_DECRYPT, no CKA_DERIVE
    SOFTHSM_DECRYPT_ONLY = 16, // no CKA_SIGN
    SOFTHSM_ASK_EVERY_TIME = 32, // CKA_ALWAYS_AUTHENTICATE
    SOFTHSM_NOT_SENSITIVE = 64,  // CKA_SENSITIVE false alone
};

struct softhsm_key {
    const char *label; // of private key, public key and certificate
    uint8_t id;        // CKA_ID, one byte
    const char *kind;  // "RSA-2048", "RSA-3072", "P-256", "P-384", "P-521"
    unsigned flags;    // SOFTHSM_*
    const char *token; // label of the token, NULL: the first
};

// A key pair generated in the token, not extractable, with a certificate of the test CA
// (subject CN=LABEL, subjectAltName email:LABEL@a.example).
void softhsm_make_key(struct softhsm *hsm, const struct softhsm_key *key);

// The same for a key made elsewhere (kind is ignored; sensitive, not extractable).
void softhsm_import_key(struct softhsm *hsm, const struct softhsm_key *key, EVP_PKEY *pkey);

// The usual keys; label = lower-case name: rsa2048 (id 01), rsa3072 (02), p256 (03), p384 (04),
// p521 (05).
enum {
    SOFTHSM_RSA2048 = 1,
    SOFTHSM_RSA3072 = 2,
    SOFTHSM_P256 = 4,
    SOFTHSM_P384 = 8,
    SOFTHSM_P521 = 16,
    SOFTHSM_ALL = 31
};
void softhsm_make_keys(struct softhsm *hsm, unsigned set);

// The public key out of certs/LABEL.pem. The caller frees it.
EVP_PKEY *softhsm_public_key(const struct softhsm *hsm, const char *label);

// Runs code of the test in a child with a session logged in to the token; used by the functions
// above, and by tests that change objects behind the back of the code under test.
// functions is a CK_FUNCTION_LIST *, session a CK_SESSION_HANDLE.
void softhsm_in_child(struct softhsm *hsm, const char *token_label,
                      void (*code)(void *functions, unsigned long session, void *arg), void *arg);
