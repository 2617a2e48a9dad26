// SPDX-License-Identifier: Apache-2.0
#include "hsmd/core_check.h"

#include "hsmd/key_type.h"

#define PKCS1_OVERHEAD 11 // RFC 8017, 7.2.1
#define PSS_OVERHEAD 2    // RFC 8017, 9.1.1: emLen >= hLen + sLen + 2

// Which key an algorithm is for.
static enum token_key_type type_of(enum wire_algorithm algorithm)
{
    switch (algorithm) {
    case WIRE_ECDSA:
    case WIRE_ECDH_X963:
        return TOKEN_KEY_EC;
    case WIRE_EDDSA:
        return TOKEN_KEY_ED25519;
    case WIRE_RSA_PKCS1:
    case WIRE_RSA_PSS:
    case WIRE_RSAES_PKCS1:
    case WIRE_RSAES_OAEP:
        break;
    }
    return TOKEN_KEY_RSA;
}

static enum err check_key(const struct registry_key *key, const struct token_key_info *info,
                          enum wire_operation operation, enum wire_algorithm algorithm,
                          struct detail *detail)
{
    enum wire_purpose ruled_out = operation == WIRE_SIGN ? WIRE_SMIME_DECRYPT : WIRE_SMIME_SIGN;
    bool is_open =
        key->state == WIRE_ENABLED || (key->state == WIRE_RETIRED && operation != WIRE_SIGN);
    if (!is_open)
        return err_set(detail, ERR_DENIED, "the key is %s", wire_state_name(key->state));
    if (key->purpose == ruled_out || key->purpose == WIRE_AUDIT)
        return err_set(detail, ERR_DENIED, "the key is for %s", wire_purpose_name(key->purpose));
    if (!(key->algorithms & REGISTRY_SET(algorithm)))
        return err_set(detail, ERR_DENIED, "the key is not for %s", wire_algorithm_name(algorithm));
    if (type_of(algorithm) != info->type)
        return err_set(detail, ERR_PERM, "%s with a key of type %s", wire_algorithm_name(algorithm),
                       key_type_name(info->type));
    return ERR_OK;
}

static enum err check_salt(const struct registry_key *key, const struct token_key_info *info,
                           const struct wire_sign *request, struct detail *detail)
{
    size_t size = hash_size(request->hash);
    if (request->algorithm != WIRE_RSA_PSS)
        return request->salt ? err_set(detail, ERR_PERM, "salt without rsa-pss") : ERR_OK;
    if (key->purpose == WIRE_SMIME_SIGN && request->salt != size)
        return err_set(detail, ERR_PERM, "salt of %u bytes, not as long as the hash",
                       request->salt);
    if (request->salt > info->bits / 8 || size + request->salt + PSS_OVERHEAD > info->bits / 8)
        return err_set(detail, ERR_PERM, "salt of %u bytes is too long for the key", request->salt);
    return ERR_OK;
}

static const char *form_name(enum wire_form form)
{
    static const char *const names[] = {
        [WIRE_ATTRIBUTES] = "attributes", [WIRE_DIGEST] = "digests", [WIRE_MESSAGE] = "messages"};
    return names[form];
}

static enum err check_hash(const struct registry_key *key, const struct wire_sign *request,
                           struct detail *detail)
{
    bool is_pure = request->algorithm == WIRE_EDDSA;
    if (is_pure != (request->form == WIRE_MESSAGE) && request->form != WIRE_ATTRIBUTES)
        return err_set(detail, ERR_PERM, "%s with %s", form_name(request->form),
                       wire_algorithm_name(request->algorithm));
    if ((request->hash == HASH_NONE) != (request->form == WIRE_MESSAGE))
        return err_set(detail, ERR_PERM, request->hash ? "a message has no hash" : "no hash");
    // RFC 8419, 3.1: SHA-512 and no other.
    if (is_pure && request->form == WIRE_ATTRIBUTES && request->hash != HASH_SHA512)
        return err_set(detail, ERR_PERM, "%s with ed25519", hash_name(request->hash));
    if (key->purpose == WIRE_SMIME_SIGN && request->hash == HASH_SHA1)
        return err_set(detail, ERR_DENIED, "sha1 with a key for %s",
                       wire_purpose_name(key->purpose));
    if (request->form == WIRE_DIGEST && request->data.len != hash_size(request->hash))
        return err_set(detail, ERR_PERM, "digest of %zu bytes is none of %s", request->data.len,
                       hash_name(request->hash));
    return ERR_OK;
}

enum err core_check_sign(const struct registry_key *key, const struct token_key_info *info,
                         const struct wire_sign *request, struct detail *detail)
{
    enum err err = check_key(key, info, WIRE_SIGN, request->algorithm, detail);
    if (err != ERR_OK)
        return err;
    // Promise 4, and its other half: what a general key signs, its holder has hashed.
    if ((key->purpose == WIRE_SMIME_SIGN) != (request->form == WIRE_ATTRIBUTES))
        return err_set(detail, ERR_DENIED, "a key for %s does not sign %s",
                       wire_purpose_name(key->purpose), form_name(request->form));
    err = check_hash(key, request, detail);
    if (err == ERR_OK)
        err = check_salt(key, info, request, detail);
    return err;
}

enum err core_check_unwrap(const struct registry_key *key, const struct token_key_info *info,
                           const struct wire_unwrap *request, struct detail *detail)
{
    size_t modulus = (info->bits + 7) / 8;
    enum err err = check_key(key, info, WIRE_UNWRAP, request->algorithm, detail);
    if (err != ERR_OK)
        return err;
    bool is_oaep = request->algorithm == WIRE_RSAES_OAEP;
    bool has_hashes = request->hash != HASH_NONE && request->mgf_hash != HASH_NONE;
    bool has_none =
        request->hash == HASH_NONE && request->mgf_hash == HASH_NONE && request->label.len == 0;
    if (is_oaep ? !has_hashes || request->length : !has_none)
        return err_set(detail, ERR_PERM, "parameters that are not of %s",
                       wire_algorithm_name(request->algorithm));
    if (request->length + PKCS1_OVERHEAD > modulus)
        return err_set(detail, ERR_PERM, "a key of %u bytes does not fit the modulus",
                       request->length);
    if (request->ciphertext.len != modulus)
        return err_set(detail, ERR_PERM, "encrypted key of %zu bytes, not as long as the modulus",
                       request->ciphertext.len);
    return ERR_OK;
}

enum err core_check_agree(const struct registry_key *key, const struct token_key_info *info,
                          const struct wire_agree *request, struct detail *detail)
{
    enum err err = check_key(key, info, WIRE_AGREE, request->algorithm, detail);
    if (err != ERR_OK)
        return err;
    if (request->hash == HASH_NONE)
        return err_set(detail, ERR_PERM, "no hash");
    if (request->length == 0 || request->length > WIRE_SECRET_MAX)
        return err_set(detail, ERR_PERM, "a key of %u bytes", request->length);
    return ERR_OK;
}
