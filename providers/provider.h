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

#define PROVIDER_NAME "hsmd"
#define PROVIDER_SCHEME "hsmd" // of the URIs
#define PROVIDER_PROPERTIES "provider=" PROVIDER_NAME

// Names of the key types: exactly these, because libcrypto finds its own method by them.
#define PROVIDER_RSA_NAMES "RSA:rsaEncryption:1.2.840.113549.1.1.1"
#define PROVIDER_EC_NAMES "EC:id-ecPublicKey:1.2.840.10045.2.1"

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

// X(symbol, number, text). The first four are hsmd's classes of failure (hsmd/base/err.h).
#define PROVIDER_REASONS(X)                                                   \
    X(REASON_TEMP, 1, "hsmd cannot do it now")                                \
    X(REASON_PERM, 2, "hsmd rejects the request")                             \
    X(REASON_DENIED, 3, "hsmd denies the request")                            \
    X(REASON_BUG, 4, "internal error")                                        \
    X(REASON_CONFIGURATION, 5, "configuration of the hsmd provider")          \
    X(REASON_URI, 6, "not a URI of a key in hsmd")                            \
    X(REASON_PRIVATE_STAYS, 7, "a private key does not leave hsmd")           \
    X(REASON_PRIVATE_FOREIGN, 8, "private keys from elsewhere are not taken") \
    X(REASON_NO_PRIVATE, 9, "the key has no private half in hsmd")            \
    X(REASON_PURPOSE, 10, "not what the key is for")                          \
    X(REASON_DIGEST, 11, "digest")                                            \
    X(REASON_PADDING, 12, "padding")                                          \
    X(REASON_PARAMETER, 13, "parameter")                                      \
    X(REASON_LENGTH, 14, "length")                                            \
    X(REASON_NO_KDF, 15, "a raw shared secret does not leave hsmd")           \
    X(REASON_PEER, 16, "peer key")                                            \
    X(REASON_MEMORY, 17, "out of memory")                                     \
    X(REASON_PUBLIC_HALF, 18, "operation with the public half")               \
    X(REASON_REPLY, 19, "hsmd's reply makes no sense")

enum reason {
#define X(symbol, number, text) symbol = (number),
    PROVIDER_REASONS(X)
#undef X
};

struct provider {
    const OSSL_CORE_HANDLE *handle;
    OSSL_FUNC_core_new_error_fn *new_error;
    OSSL_FUNC_core_set_error_debug_fn *set_error_debug;
    OSSL_FUNC_core_vset_error_fn *vset_error;
    OSSL_FUNC_BIO_write_ex_fn *bio_write_ex;

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
extern const OSSL_DISPATCH signature_rsa_functions[];
extern const OSSL_DISPATCH signature_ecdsa_functions[];
extern const OSSL_DISPATCH asymcipher_rsa_functions[];
extern const OSSL_DISPATCH exchange_ecdh_functions[];
extern const OSSL_DISPATCH encoder_text_functions[];
extern const OSSL_DISPATCH store_functions[];
