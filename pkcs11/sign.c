// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/internal.h"

#include <string.h>

#include <openssl/ecdsa.h>

struct job {
    enum token_scheme scheme;
    enum hash hash;
    unsigned salt;
    struct bytes digest;
    uint8_t *out;
    size_t out_len;
};

static enum err run(struct token_session *session, CK_OBJECT_HANDLE handle, CK_MECHANISM *mechanism,
                    struct bytes data, struct job *job, size_t expected, struct detail *detail)
{
    CK_FUNCTION_LIST *fn = session->token->fn;
    CK_ULONG len = TOKEN_SIGNATURE_MAX;
    CK_RV rv = fn->C_SignInit(session->handle, mechanism, handle);
    if (rv != CKR_OK)
        return session_fail(session, rv, "C_SignInit", detail);
    rv = fn->C_Sign(session->handle, (CK_BYTE *)data.data, data.len, job->out, &len);
    if (rv != CKR_OK)
        return session_fail_midway(session, rv, "C_Sign", detail);
    if (len != expected)
        return err_set(detail, ERR_TEMP, "token %s: a signature of %lu bytes instead of %zu",
                       session->token->name, len, expected);
    job->out_len = len;
    return ERR_OK;
}

static enum err sign_pkcs1(struct token_session *session, struct token_key *key,
                           CK_OBJECT_HANDLE handle, void *arg, struct detail *detail)
{
    struct job *job = arg;
    struct bytes prefix = hash_digest_info_prefix(job->hash);
    uint8_t block[PADDING_BLOCK_MAX];
    CK_MECHANISM mechanism = {CKM_RSA_PKCS, NULL, 0};
    size_t len = prefix.len + job->digest.len;
    if (len + 11 > key->size)
        return err_set(detail, ERR_PERM, "the key is too short for %s", hash_name(job->hash));
    if (key->token->can.pkcs1_sign) {
        memcpy(block, prefix.data, prefix.len);
        memcpy(block + prefix.len, job->digest.data, job->digest.len);
    } else {
        mechanism.mechanism = CKM_RSA_X_509;
        len = key->size;
        enum err err = padding_add_pkcs1(prefix, job->digest, block, len);
        if (err)
            return err_set(detail, err, "cannot pad the digest");
    }
    return run(session, handle, &mechanism, bytes_of(block, len), job, key->size, detail);
}

static enum err sign_pss(struct token_session *session, struct token_key *key,
                         CK_OBJECT_HANDLE handle, void *arg, struct detail *detail)
{
    struct job *job = arg;
    if (hash_size(job->hash) + job->salt + 2 > (key->info.bits - 1 + 7) / 8)
        return err_set(detail, ERR_PERM, "the key is too short for %s and a salt of %u bytes",
                       hash_name(job->hash), job->salt);
    if (key->token->can.pss_sign) {
        CK_RSA_PKCS_PSS_PARAMS params = {ck_hashes[job->hash].hash, ck_hashes[job->hash].mgf,
                                         job->salt};
        CK_MECHANISM mechanism = {CKM_RSA_PKCS_PSS, &params, sizeof params};
        enum err err = run(session, handle, &mechanism, job->digest, job, key->size, detail);
        if (err != ERR_PERM || !key->token->can.x509_sign)
            return err;
        // It does not know this hash or salt: raw, then.
    }
    uint8_t block[PADDING_BLOCK_MAX];
    CK_MECHANISM raw = {CKM_RSA_X_509, NULL, 0};
    enum err err = padding_add_pss(job->hash, job->salt, job->digest, key->info.bits, block);
    if (err)
        return err_set(detail, err, "cannot pad the digest");
    return run(session, handle, &raw, bytes_of(block, key->size), job, key->size, detail);
}

// r || s, each as long as the order, becomes a DER ECDSA-Sig-Value.
static enum err encode_ecdsa(struct job *job, struct detail *detail)
{
    int half = (int)(job->out_len / 2);
    unsigned char *at = job->out;
    ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(job->out, half, NULL), *s = BN_bin2bn(job->out + half, half, NULL);
    enum err err = ERR_OK;
    if (!sig || !r || !s)
        err = err_set(detail, ERR_TEMP, "out of memory");
    else if (BN_is_zero(r) || BN_is_zero(s))
        err = err_set(detail, ERR_TEMP, "the token made an invalid signature");
    if (!err && ECDSA_SIG_set0(sig, r, s) == 1) {
        r = s = NULL;
        job->out_len = (size_t)i2d_ECDSA_SIG(sig, &at);
    }
    ECDSA_SIG_free(sig);
    BN_free(r);
    BN_free(s);
    return err;
}

static enum err sign_ecdsa(struct token_session *session, struct token_key *key,
                           CK_OBJECT_HANDLE handle, void *arg, struct detail *detail)
{
    struct job *job = arg;
    CK_MECHANISM mechanism = {CKM_ECDSA, NULL, 0};
    struct bytes digest = job->digest;
    if (digest.len > key->size) // not all tokens cut it themselves (FIPS 186-5, 6.4.1)
        digest.len = key->size;
    enum err err = run(session, handle, &mechanism, digest, job, 2 * key->size, detail);
    return err ? err : encode_ecdsa(job, detail);
}

static enum err sign_eddsa(struct token_session *session, struct token_key *key,
                           CK_OBJECT_HANDLE handle, void *arg, struct detail *detail)
{
    struct job *job = arg;
    CK_MECHANISM mechanism = {CKM_EDDSA, NULL, 0}; // no parameters: pure, without a context
    return run(session, handle, &mechanism, job->digest, job, 2 * key->size, detail);
}

static bool is_digest(enum token_scheme scheme, enum hash hash, struct bytes digest)
{
    if (scheme == TOKEN_EDDSA)
        return hash == HASH_NONE; // any message
    return hash != HASH_NONE && hash_size(hash) > 0 && digest.len == hash_size(hash);
}

enum err token_sign(struct token_session *session, struct token_key *key, enum token_scheme scheme,
                    enum hash hash, unsigned salt, struct bytes digest, uint8_t *out,
                    size_t *out_len, struct detail *detail)
{
    const struct token_info *can = &key->token->info;
    const struct {
        enum token_key_type type;
        bool offered;
        key_use_fn use;
    } schemes[] = {
        [TOKEN_RSA_PKCS1] = {TOKEN_KEY_RSA, can->rsa_pkcs1, sign_pkcs1},
        [TOKEN_RSA_PSS] = {TOKEN_KEY_RSA, can->rsa_pss, sign_pss},
        [TOKEN_ECDSA] = {TOKEN_KEY_EC, can->ecdsa, sign_ecdsa},
        [TOKEN_EDDSA] = {TOKEN_KEY_ED25519, can->eddsa, sign_eddsa},
    };
    if ((unsigned)scheme > TOKEN_EDDSA || schemes[scheme].type != key->info.type)
        return err_set(detail, ERR_PERM, "the key is of another type");
    if (!key->info.can_sign || !schemes[scheme].offered)
        return err_set(detail, ERR_PERM, "the %s cannot sign so",
                       key->info.can_sign ? "token" : "key");
    if (!is_digest(scheme, hash, digest))
        return err_set(detail, ERR_PERM, "a digest of %zu bytes is none of %s", digest.len,
                       hash_name(hash));
    uint8_t signature[TOKEN_SIGNATURE_MAX];
    struct job job = {scheme, hash, salt, digest, signature, 0};
    enum err err = key_run(session, key, schemes[scheme].use, &job, detail);
    if (err)
        return err;
    memcpy(out, signature, job.out_len);
    *out_len = job.out_len;
    return ERR_OK;
}
