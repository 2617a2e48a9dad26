// SPDX-License-Identifier: Apache-2.0
// What the signature operations of all types have in common.
//
// Signing goes to hsmd in one request at the end. What is collected until then depends on the key:
// for a general key the message is hashed here and the digest sent; for a key of purpose smime-sign
// the message must be CMS SignedAttributes, and hsmd wants to read them itself, so the bytes are
// kept (at most WIRE_DATA_MAX). CMS duplicates the context before it finishes, so both can be
// duplicated in mid-stream.
//
// Verifying needs the public half only: the whole operation, with all its parameters, is handed to
// a context of the private library.
#pragma once

#include <openssl/core.h>
#include <openssl/evp.h>

#include "providers/key.h"

enum signature_mode {
    SIGNATURE_IDLE,
    SIGNATURE_SIGN,        // a digest made elsewhere
    SIGNATURE_DIGEST_SIGN, // a message
    SIGNATURE_VERIFY,      // the rest is the delegate's
    SIGNATURE_DIGEST_VERIFY,
};

#define SIGNATURE_UNSET (-100) // no such salt length

struct signature;

// What differs. Each takes a context in one of the sign modes.
struct signature_scheme {
    enum wire_key_type type;
    // Fills algorithm, hash and salt of the request. False: raised.
    bool (*choose)(const struct signature *signature, struct wire_sign *sign);
    // Turns what the caller gave to sign into a digest and its hash, if the caller set no hash.
    bool (*guess)(const struct signature *signature, struct bytes *tbs, enum hash *hash);
    bool (*set_params)(struct signature *signature, const OSSL_PARAM params[]);
    bool (*get_params)(const struct signature *signature, OSSL_PARAM params[]);
};

struct signature {
    struct provider *prov;
    const struct signature_scheme *scheme;
    enum signature_mode mode;
    struct key *key; // counted

    enum hash hash;       // HASH_NONE: not set
    EVP_MD_CTX *digest;   // DIGEST_SIGN with a general key; in DIGEST_VERIFY the whole operation
    struct buf message;   // DIGEST_SIGN with an smime-sign key
    EVP_PKEY_CTX *verify; // VERIFY

    // RSA
    int padding;        // RSA_PKCS1_PADDING or RSA_PKCS1_PSS_PADDING
    int salt;           // RSA_PSS_SALTLEN_* or a length
    enum hash mgf_hash; // HASH_NONE: not set
};

struct signature *signature_new(struct provider *prov, const struct signature_scheme *scheme);

// Takes the key, and goes back to the state after signature_new. keydata NULL: begins again with
// the key of before.
bool signature_begin(struct signature *signature, void *keydata);
// The request, key and algorithm of which are filled in, and its answer into sig. 0: raised.
int signature_send(struct signature *signature, struct wire_sign sign, unsigned char *sig,
                   size_t *siglen, size_t sigsize);

// OSSL_FUNC_signature_*
void signature_free(void *vctx);
void *signature_dup(void *vctx);
int signature_sign_init(void *vctx, void *keydata, const OSSL_PARAM params[]);
int signature_sign(void *vctx, unsigned char *sig, size_t *siglen, size_t sigsize,
                   const unsigned char *tbs, size_t tbslen);
int signature_digest_sign_init(void *vctx, const char *mdname, void *keydata,
                               const OSSL_PARAM params[]);
int signature_digest_sign_update(void *vctx, const unsigned char *data, size_t len);
int signature_digest_sign_final(void *vctx, unsigned char *sig, size_t *siglen, size_t sigsize);
int signature_verify_init(void *vctx, void *keydata, const OSSL_PARAM params[]);
int signature_verify(void *vctx, const unsigned char *sig, size_t siglen, const unsigned char *tbs,
                     size_t tbslen);
int signature_verify_recover_init(void *vctx, void *keydata, const OSSL_PARAM params[]);
int signature_verify_recover(void *vctx, unsigned char *out, size_t *outlen, size_t outsize,
                             const unsigned char *sig, size_t siglen);
int signature_digest_verify_init(void *vctx, const char *mdname, void *keydata,
                                 const OSSL_PARAM params[]);
int signature_digest_verify_update(void *vctx, const unsigned char *data, size_t len);
int signature_digest_verify_final(void *vctx, const unsigned char *sig, size_t siglen);
int signature_set_ctx_params(void *vctx, const OSSL_PARAM params[]);
int signature_get_ctx_params(void *vctx, OSSL_PARAM params[]);
