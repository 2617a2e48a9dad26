// SPDX-License-Identifier: Apache-2.0
// RSA key transport. The raw operation and our own unpadding (padding.c) where the token has it:
// then hash functions, labels and timing do not depend on the token. Where it has not, the token
// takes the padding off, and what it reports as bad padding is made to look like a success.
//
// The synthetic messages of v1.5 come from a secret of the key. It is the result of the raw
// operation on a number that nobody can choose: so every hsmd that holds the key has the same one,
// and a message that is tried twice gives the same twice. A token without the raw operation gets a
// random secret for the life of the process; the same ciphertext then gives another synthetic
// message after a restart, which tells an attacker who can cause restarts that its padding is bad.
#include "pkcs11/internal.h"

#include <string.h>

#include <openssl/rand.h>

// Is it the padding of the ciphertext that the token complains of? CKR_GENERAL_ERROR is what
// SoftHSM before 2.6.2 says.
static bool is_padding_failure(CK_RV rv)
{
    return rv == CKR_ENCRYPTED_DATA_INVALID || rv == CKR_ENCRYPTED_DATA_LEN_RANGE ||
           rv == CKR_DATA_INVALID || rv == CKR_DATA_LEN_RANGE || rv == CKR_GENERAL_ERROR;
}

// The raw operation on size bytes, once; the result in session->scratch.
static enum err decrypt_raw(struct token_session *session, const struct token_key *key,
                            CK_OBJECT_HANDLE handle, const uint8_t *input, struct detail *detail)
{
    CK_FUNCTION_LIST *fn = session->token->fn;
    CK_MECHANISM mechanism = {CKM_RSA_X_509, NULL, 0};
    uint8_t *block = session->scratch.data;
    CK_ULONG len = key->size;
    CK_RV rv = fn->C_DecryptInit(session->handle, &mechanism, handle);
    if (rv != CKR_OK)
        return session_fail(session, rv, "C_DecryptInit", detail);
    rv = fn->C_Decrypt(session->handle, (CK_BYTE *)input, key->size, block, &len);
    if (rv != CKR_OK) {
        enum err err = session_fail_midway(session, rv, "C_Decrypt", detail);
        return err == ERR_PERM ? ERR_TEMP : err; // any number below the modulus can be decrypted
    }
    if (len > key->size)
        return err_set(detail, ERR_TEMP, "token %s: a result of %lu bytes", session->token->name,
                       len);
    ct_shift_right(block, key->size, key->size - len); // some drop the zeros in front
    session->scratch.len = key->size;
    return ERR_OK;
}

enum err unwrap_make_seed(struct token_session *session, struct token_key *key,
                          struct detail *detail)
{
    static const char label[] = "sealgate implicit rejection";
    uint8_t input[PADDING_BLOCK_MAX] = {0}, digest[HASH_SIZE_MAX];
    if (!key->token->can.x509_decrypt) {
        if (RAND_priv_bytes(key->seed_secret, sizeof key->seed_secret) != 1)
            return err_openssl(detail, ERR_TEMP, "no random numbers");
        return ERR_OK;
    }
    struct buf named;
    buf_init(&named, sizeof label + PADDING_BLOCK_MAX);
    enum err err = buf_put(&named, label, sizeof label);
    if (!err)
        err = buf_put(&named, key->modulus, key->size);
    // As many bytes as the modulus but the first, so that it is below it.
    if (!err)
        err = padding_mgf1_xor(HASH_SHA256, buf_bytes(&named), input + 1, key->size - 1);
    buf_clear(&named);
    if (err)
        return err_set(detail, err, "out of memory");
    err = decrypt_raw(session, key, key->handle, input, detail);
    if (!err)
        err = hash_digest(HASH_SHA256, bytes_of(session->scratch.data, key->size), digest);
    if (!err)
        memcpy(key->seed_secret, digest, sizeof key->seed_secret);
    explicit_bzero(digest, sizeof digest);
    secret_wipe(&session->scratch);
    return err;
}

struct job {
    const struct token_padding *padding;
    struct bytes ciphertext;
    uint8_t seed[PADDING_SEED_SIZE];
    struct secret *out;
};

static enum err raw_pkcs1(struct token_session *session, struct token_key *key,
                          CK_OBJECT_HANDLE handle, void *arg, struct detail *detail)
{
    struct job *job = arg;
    enum err err = decrypt_raw(session, key, handle, job->ciphertext.data, detail);
    if (err)
        return err;
    err = padding_remove_pkcs1(bytes_of(session->scratch.data, key->size), job->seed,
                               job->padding->length, job->out);
    return err ? err_set(detail, err, "cannot take the padding off") : ERR_OK;
}

static enum err refuse_oaep(struct detail *detail)
{
    return err_set(detail, ERR_PERM, "OAEP decoding failed");
}

static enum err raw_oaep(struct token_session *session, struct token_key *key,
                         CK_OBJECT_HANDLE handle, void *arg, struct detail *detail)
{
    struct job *job = arg;
    enum err err = decrypt_raw(session, key, handle, job->ciphertext.data, detail);
    if (err)
        return err;
    err = padding_remove_oaep(bytes_of(session->scratch.data, key->size), job->padding->hash,
                              job->padding->mgf_hash, job->padding->label, job->out);
    if (err == ERR_PERM)
        return refuse_oaep(detail);
    return err ? err_set(detail, err, "cannot take the padding off") : ERR_OK;
}

// The token's own mechanism. *is_bad: it says that the padding is bad.
static enum err native(struct token_session *session, const struct token_key *key,
                       CK_OBJECT_HANDLE handle, CK_MECHANISM *mechanism, const struct job *job,
                       bool *is_bad, struct detail *detail)
{
    CK_FUNCTION_LIST *fn = session->token->fn;
    CK_ULONG len = key->size;
    CK_RV rv = fn->C_DecryptInit(session->handle, mechanism, handle);
    if (rv != CKR_OK)
        return session_fail(session, rv, "C_DecryptInit", detail);
    rv = fn->C_Decrypt(session->handle, (CK_BYTE *)job->ciphertext.data, job->ciphertext.len,
                       session->scratch.data, &len);
    *is_bad = is_padding_failure(rv);
    if (rv != CKR_OK && !*is_bad)
        return session_fail_midway(session, rv, "C_Decrypt", detail);
    session->scratch.len = *is_bad ? 0 : len;
    return ERR_OK;
}

static enum err native_pkcs1(struct token_session *session, struct token_key *key,
                             CK_OBJECT_HANDLE handle, void *arg, struct detail *detail)
{
    struct job *job = arg;
    CK_MECHANISM mechanism = {CKM_RSA_PKCS, NULL, 0};
    bool is_bad = false;
    enum err err = native(session, key, handle, &mechanism, job, &is_bad, detail);
    if (err)
        return err;
    padding_rebuild_pkcs1(session->scratch.data, key->size, session->scratch.len, is_bad);
    err = padding_remove_pkcs1(bytes_of(session->scratch.data, key->size), job->seed,
                               job->padding->length, job->out);
    return err ? err_set(detail, err, "cannot take the padding off") : ERR_OK;
}

static enum err native_oaep(struct token_session *session, struct token_key *key,
                            CK_OBJECT_HANDLE handle, void *arg, struct detail *detail)
{
    struct job *job = arg;
    const struct token_padding *padding = job->padding;
    CK_RSA_PKCS_OAEP_PARAMS params = {
        .hashAlg = ck_hashes[padding->hash].hash,
        .mgf = ck_hashes[padding->mgf_hash].mgf,
        .source = CKZ_DATA_SPECIFIED,
        .pSourceData = padding->label.len ? (void *)padding->label.data : NULL,
        .ulSourceDataLen = padding->label.len,
    };
    CK_MECHANISM mechanism = {CKM_RSA_PKCS_OAEP, &params, sizeof params};
    bool is_bad = false;
    enum err err = native(session, key, handle, &mechanism, job, &is_bad, detail);
    if (err)
        return err;
    if (is_bad)
        return refuse_oaep(detail);
    if (secret_set(job->out, session->scratch.data, session->scratch.len) != ERR_OK)
        return err_set(detail, ERR_BUG, "no room for the result");
    return ERR_OK;
}

enum err token_unwrap(struct token_session *session, struct token_key *key,
                      const struct token_padding *padding, struct bytes ciphertext,
                      struct secret *out, struct detail *detail)
{
    const struct mechanisms *can = &key->token->can;
    bool oaep = padding->oaep, raw = can->x509_decrypt;
    if (key->info.type != TOKEN_KEY_RSA || !key->info.can_decrypt)
        return err_set(detail, ERR_PERM, "the key is not for decryption");
    if (!raw && !(oaep ? can->oaep_decrypt : can->pkcs1_decrypt))
        return err_set(detail, ERR_PERM, "the token cannot decrypt so");
    if (oaep && (hash_size(padding->hash) == 0 || hash_size(padding->mgf_hash) == 0 ||
                 key->size < 2 * hash_size(padding->hash) + 2))
        return err_set(detail, ERR_PERM, "the hash does not suit OAEP with this key");
    if (!oaep && padding->length > key->size - 11)
        return err_set(detail, ERR_PERM, "%zu bytes do not fit the key", padding->length);
    if (out->room < key->size)
        return err_set(detail, ERR_BUG, "no room for the result");
    // Both values are as long as the modulus, and public.
    if (ciphertext.len != key->size || memcmp(ciphertext.data, key->modulus, key->size) >= 0)
        return err_set(detail, ERR_PERM, "the ciphertext is not one of this key's modulus");
    struct job job = {.padding = padding, .ciphertext = ciphertext, .out = out};
    enum err err = padding_seed(key->seed_secret, ciphertext, job.seed);
    if (err)
        return err_set(detail, err, "out of memory");
    key_use_fn use = raw ? (oaep ? raw_oaep : raw_pkcs1) : (oaep ? native_oaep : native_pkcs1);
    err = key_run(session, key, use, &job, detail);
    if (err)
        secret_wipe(out);
    explicit_bzero(job.seed, sizeof job.seed);
    secret_wipe(&session->scratch);
    return err;
}
