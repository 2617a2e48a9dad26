// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/internal.h"

#include <openssl/objects.h>

struct job {
    const struct token_key_wish *wish;
    struct bytes curve; // but of RSA: CKA_EC_PARAMS
    bool has_begun;     // there may be objects of ours in the token
    struct detail why;  // of a first attempt
};

static CK_MECHANISM_TYPE mechanism_of(enum token_key_type type)
{
    switch (type) {
    case TOKEN_KEY_RSA:
        return CKM_RSA_PKCS_KEY_PAIR_GEN;
    case TOKEN_KEY_EC:
        return CKM_EC_KEY_PAIR_GEN;
    case TOKEN_KEY_ED25519:
        break;
    }
    return CKM_EC_EDWARDS_KEY_PAIR_GEN;
}

// How much of the template's usages the token gets to see, until it takes it. What counts, the
// attributes of the private half, is read back afterwards (wish_verify).
enum frankness {
    FRANK_ALL,
    FRANK_USUAL,   // without those that say no to what such a key cannot do anyway
    FRANK_PRIVATE, // and none of the public half: tpm2-pkcs11 derives them from the TPM's sign and
                   // decrypt, which do not part as CKA_VERIFY and CKA_ENCRYPT do
    FRANK_END
};

static CK_RV generate_pair(struct token_session *session, const struct job *job,
                           enum frankness frankness)
{
    static const CK_BYTE exponent[] = {1, 0, 1};
    const struct token_key_wish *wish = job->wish;
    struct template public = {.count = 0}, private = {.count = 0};
    CK_OBJECT_HANDLE public_object, private_object;
    CK_ULONG bits = wish->bits;
    bool is_rsa = wish->type == TOKEN_KEY_RSA;
    CK_MECHANISM mechanism = {mechanism_of(wish->type), NULL, 0};
    wish_put_public(&public, wish, wish->type, frankness != FRANK_PRIVATE);
    wish_put_private(&private, wish, wish->type, frankness == FRANK_ALL);
    if (is_rsa) {
        template_put(&public, CKA_MODULUS_BITS, &bits, sizeof bits);
        template_put(&public, CKA_PUBLIC_EXPONENT, exponent, sizeof exponent);
    } else {
        template_put(&public, CKA_EC_PARAMS, job->curve.data, job->curve.len);
    }
    return session->token->fn->C_GenerateKeyPair(session->handle, &mechanism, public.items,
                                                 public.count, private.items, private.count,
                                                 &public_object, &private_object);
}

// Is it the template that the token does not like? tpm2-pkcs11 says CKR_GENERAL_ERROR then.
static bool is_refusal(CK_RV rv)
{
    return rv != CKR_OK && (rv_damage(rv) == DAMAGE_NONE || rv == CKR_GENERAL_ERROR);
}

// Not every token takes every attribute, nor Ed25519 by every name. What counts is checked below.
static CK_RV generate_somehow(struct token_session *session, struct job *job)
{
    CK_RV rv = CKR_GENERAL_ERROR;
    bool is_edwards = job->wish->type == TOKEN_KEY_ED25519;
    for (unsigned name = 0; name < (is_edwards ? EDWARDS_NAMES : 1) && is_refusal(rv); name++) {
        if (is_edwards)
            job->curve = edwards_name(name);
        for (enum frankness i = FRANK_ALL; i < FRANK_END && is_refusal(rv); i++)
            rv = generate_pair(session, job, i);
    }
    return rv;
}

static enum err generate(struct token_session *session, void *arg, struct detail *detail)
{
    struct job *job = arg;
    enum err err = job->has_begun ? wish_undo(session, (void *)job->wish, detail)
                                  : wish_check_free(session, job->wish, detail);
    if (err) {
        // tpm2-pkcs11 keeps a key that failed to work for ever in use, and does not destroy it:
        // what has to be known is how it failed.
        if (job->has_begun && *job->why.text && detail)
            *detail = job->why;
        return err;
    }
    job->has_begun = true;
    CK_RV rv = generate_somehow(session, job);
    if (rv != CKR_OK)
        return session_fail(session, rv, "C_GenerateKeyPair", detail);
    err = wish_verify(session, job->wish, true, bytes_of(NULL, 0), &job->why);
    if (err && detail)
        *detail = job->why;
    return err;
}

static enum err check(const struct token *token, const struct token_key_wish *wish,
                      struct detail *detail)
{
    const struct mechanisms *can = &token->can;
    bool is_rsa = wish->type == TOKEN_KEY_RSA;
    bool is_ed25519 = wish->type == TOKEN_KEY_ED25519;
    if (!is_rsa && !is_ed25519 && wish->type != TOKEN_KEY_EC)
        return err_set(detail, ERR_PERM, "no such type of key");
    enum err err = wish_check(wish, wish->type, detail);
    if (err)
        return err;
    if (is_rsa &&
        (wish->bits < TOKEN_RSA_BITS_MIN || wish->bits > TOKEN_RSA_BITS_MAX || wish->bits % 8 != 0))
        return err_set(detail, ERR_PERM, "an RSA key has %d to %d bits here, in steps of 8",
                       TOKEN_RSA_BITS_MIN, TOKEN_RSA_BITS_MAX);
    if (!is_rsa &&
        (is_ed25519 ? wish->bits != 8 * EDWARDS_SIZE : curve_nid(wish->bits) == NID_undef))
        return err_set(detail, ERR_PERM, "no curve of %u bits is supported", wish->bits);
    // A key that nothing can be done with would be made first and then be found of no use.
    if (((wish->usage & TOKEN_USE_SIGN) && !(is_rsa ? token->info.rsa_pkcs1 || token->info.rsa_pss
                                             : is_ed25519 ? token->info.eddsa
                                                          : token->info.ecdsa)) ||
        ((wish->usage & TOKEN_USE_DECRYPT) && !can->pkcs1_decrypt && !token->info.rsa_oaep) ||
        ((wish->usage & TOKEN_USE_DERIVE) && !token->info.ecdh))
        return err_set(detail, ERR_PERM, "token %s: it cannot use such keys so", token->name);
    if (!(is_rsa ? can->rsa_generate : is_ed25519 ? can->eddsa_generate : can->ec_generate))
        return err_set(detail, ERR_PERM, "token %s: it cannot generate such keys", token->name);
    if (is_rsa && (wish->bits < can->rsa_bits_min || wish->bits > can->rsa_bits_max))
        return err_set(detail, ERR_PERM, "token %s: RSA keys have %lu to %lu bits there",
                       token->name, can->rsa_bits_min, can->rsa_bits_max);
    return ERR_OK;
}

enum err token_key_generate(struct token *token, const struct token_key_wish *wish,
                            deadline_t deadline, struct detail *detail)
{
    struct job job = {.wish = wish};
    unsigned char curve[16], *at = curve;
    struct detail why = {0};
    enum err err = check(token, wish, detail);
    if (err)
        return err;
    if (wish->type == TOKEN_KEY_EC)
        job.curve =
            bytes_of(curve, (size_t)i2d_ASN1_OBJECT(OBJ_nid2obj(curve_nid(wish->bits)), &at));
    err = admin_run(token, deadline, generate, &job, detail);
    if (err && job.has_begun &&
        admin_run(token, deadline, wish_undo, (void *)wish, &why) != ERR_OK && detail)
        return err_prefix(detail, err, "a key may be left in the token (%s)", why.text);
    return err;
}
