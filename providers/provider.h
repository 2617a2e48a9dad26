// SPDX-License-Identifier: Apache-2.0
// What every operation of the provider shares: its configuration, its private library context, the
// road to hsmd and the road of errors to OpenSSL's queue.
//
// One struct provider is one activation of hsmd.so in one OSSL_LIB_CTX. OpenSSL keeps it alive
// longer than every key and context made from it. Nothing in it changes after init but the client,
// which is opened by the first call that needs hsmd.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include <openssl/core.h>
#include <openssl/core_dispatch.h>
#include <openssl/evp.h>

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"
#include "hsmd/base/hash.h"
#include "hsmd/client/client.h"
#include "hsmd/wire/wire.h"
#include "providers/reasons.h"

#define PROVIDER_NAME "hsmd"
#define PROVIDER_SCHEME "hsmd" // of the URIs
#define PROVIDER_PROPERTIES "provider=" PROVIDER_NAME

// Names of the key types: exactly these, because libcrypto finds its own method by them.
#define PROVIDER_RSA_NAMES "RSA:rsaEncryption:1.2.840.113549.1.1.1"
#define PROVIDER_EC_NAMES "EC:id-ecPublicKey:1.2.840.10045.2.1"
#define PROVIDER_ED25519_NAMES "ED25519:1.3.101.112"

// X(symbol, parameter in openssl.cnf, environment variable, is needed)
#define PROVIDER_SETTINGS(X)                                                    \
    X(SETTING_ENDPOINTS, "endpoints", "HSMD_ENDPOINTS", true)                   \
    X(SETTING_SERVER_KEY_FILE, "server-key-file", "HSMD_SERVER_KEY_FILE", true) \
    X(SETTING_PUBLIC_KEY_FILE, "public-key-file", "HSMD_PUBLIC_KEY_FILE", true) \
    X(SETTING_SECRET_KEY_FILE, "secret-key-file", "HSMD_SECRET_KEY_FILE", true) \
    X(SETTING_TIMEOUT, "timeout", "HSMD_TIMEOUT", false)

enum setting {
#define X(symbol, parameter, variable, needed) symbol,
    PROVIDER_SETTINGS(X)
#undef X
        SETTING_COUNT
};

struct provider {
    const OSSL_CORE_HANDLE *handle;
    OSSL_FUNC_core_new_error_fn *new_error;
    OSSL_FUNC_core_set_error_debug_fn *set_error_debug;
    OSSL_FUNC_core_vset_error_fn *vset_error;
    OSSL_FUNC_BIO_write_ex_fn *bio_write_ex;
    OSSL_FUNC_BIO_read_ex_fn *bio_read_ex;
    OSSL_FUNC_BIO_gets_fn *bio_gets;

    // With the default provider alone: digests and everything the public half can do. Never the
    // application's context, where hsmd.so would find itself again.
    OSSL_LIB_CTX *libctx;
    OSSL_PROVIDER *base; // the default provider in it
    EVP_MD *digests[HASH_COUNT];

    char *settings[SETTING_COUNT]; // of openssl.cnf; NULL: not there
    struct client *_Atomic client; // shared, NULL before the first call
};

// Puts an error on OpenSSL's queue; returns 0, OpenSSL's "failed":
//     return RAISE(prov, REASON_LENGTH, "%zu bytes do not fit", len);
int provider_raise(const struct provider *prov, const char *file, int line, const char *function,
                   enum reason reason, const char *fmt, ...) __attribute__((format(printf, 6, 7)));
#define RAISE(prov, reason, ...) \
    provider_raise((prov), __FILE__, __LINE__, __func__, (reason), __VA_ARGS__)

// One call to hsmd, as client_call. A failure is raised under its class with key and operation;
// hint (NULL: none) is added where hsmd refuses, whose reason is in hsmd's log alone.
enum err provider_call(struct provider *prov, struct wire_request *request, const char *hint,
                       struct buf *frame, struct wire_reply *reply);

// For OSSL_DISPATCH tables.
#define DISPATCH(id, function)           \
    {                                    \
        (id), (void (*)(void))(function) \
    }
#define DISPATCH_LAST \
    {                 \
        0, NULL       \
    }

extern const OSSL_DISPATCH keymgmt_rsa_functions[];
extern const OSSL_DISPATCH keymgmt_ec_functions[];
extern const OSSL_DISPATCH keymgmt_ed25519_functions[];
extern const OSSL_DISPATCH signature_rsa_functions[];
extern const OSSL_DISPATCH signature_ecdsa_functions[];
extern const OSSL_DISPATCH signature_ed25519_functions[];
extern const OSSL_DISPATCH asymcipher_rsa_functions[];
extern const OSSL_DISPATCH exchange_ecdh_functions[];
extern const OSSL_DISPATCH encoder_text_functions[];
extern const OSSL_DISPATCH decoder_pem_functions[];
extern const OSSL_DISPATCH decoder_rsa_functions[];
extern const OSSL_DISPATCH decoder_ec_functions[];
extern const OSSL_DISPATCH decoder_ed25519_functions[];
extern const OSSL_DISPATCH store_functions[];
