// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/providers/fake_keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/kdf.h>
#include <openssl/rsa.h>

#include "hsmd/base/hash.h"

static void must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "fake_hsmd: cannot make %s\n", what);
        exit(1);
    }
}

static X509 *self_sign(const struct fake_key *key)
{
    X509 *certificate = X509_new();
    must(certificate != NULL, "a certificate");
    X509_NAME *name = X509_get_subject_name(certificate);
    must(X509_set_version(certificate, X509_VERSION_3) &&
             ASN1_INTEGER_set(X509_get_serialNumber(certificate), key->name[0]) &&
             X509_gmtime_adj(X509_getm_notBefore(certificate), -60) &&
             X509_gmtime_adj(X509_getm_notAfter(certificate), 86400) &&
             X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)key->name,
                                        -1, -1, 0) &&
             X509_set_issuer_name(certificate, name) && X509_set_pubkey(certificate, key->key) &&
             X509_sign(certificate, key->key,
                       EVP_PKEY_is_a(key->key, "ED25519") ? NULL : EVP_sha256()),
         "a certificate");
    return certificate;
}

void fake_keys_make(struct fake_key keys[FAKE_KEYS])
{
    static const struct fake_key rows[FAKE_KEYS] = {
        {.name = "decryption", .kind = "RSA", .purpose = WIRE_SMIME_DECRYPT},
        {.name = "ec-decryption", .kind = "P-256", .purpose = WIRE_SMIME_DECRYPT},
        {.name = "ec-general", .kind = "P-256", .purpose = WIRE_GENERAL},
        {.name = "ec-signing", .kind = "P-256", .purpose = WIRE_SMIME_SIGN},
        {.name = "ec384-decryption", .kind = "P-384", .purpose = WIRE_SMIME_DECRYPT},
        {.name = "ed25519-general", .kind = "ED25519", .purpose = WIRE_GENERAL},
        {.name = "ed25519-signing", .kind = "ED25519", .purpose = WIRE_SMIME_SIGN},
        {.name = "general", .kind = "RSA", .purpose = WIRE_GENERAL},
        {.name = "signing", .kind = "RSA", .purpose = WIRE_SMIME_SIGN},
    };
    memcpy(keys, rows, sizeof rows);
    for (struct fake_key *key = keys; key < keys + FAKE_KEYS; key++) {
        bool is_rsa = strcmp(key->kind, "RSA") == 0, is_ed25519 = strcmp(key->kind, "ED25519") == 0;
        key->key = is_rsa       ? EVP_RSA_gen(2048)
                   : is_ed25519 ? EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")
                                : EVP_EC_gen(key->kind);
        must(key->key != NULL, key->name);
        key->public_len = i2d_PUBKEY(key->key, &key->public_der);
        must(key->public_len > 0, key->name);
        if (strcmp(key->name, "ec-general") == 0)
            continue;
        key->certificate = self_sign(key);
        key->certificate_len = i2d_X509(key->certificate, &key->certificate_der);
        must(key->certificate_len > 0, key->name);
    }
}

void fake_keys_clear(struct fake_key keys[FAKE_KEYS])
{
    for (struct fake_key *key = keys; key < keys + FAKE_KEYS; key++) {
        EVP_PKEY_free(key->key);
        X509_free(key->certificate);
        OPENSSL_free(key->public_der);
        OPENSSL_free(key->certificate_der);
    }
}

struct fake_key *fake_keys_find(struct fake_key keys[FAKE_KEYS], struct bytes name)
{
    for (struct fake_key *key = keys; key < keys + FAKE_KEYS; key++) {
        if (bytes_equal(bytes_of_text(key->name), name))
            return key;
    }
    return NULL;
}

static const EVP_MD *md_of(enum hash hash)
{
    return hash == HASH_NONE ? NULL : EVP_get_digestbyname(hash_name(hash));
}

// Only with what goes with it; and of attributes it looks at as much as below.
static enum err sign_message(const struct fake_key *key, const struct wire_sign *sign, uint8_t *out,
                             size_t *len)
{
    bool is_general = key->purpose == WIRE_GENERAL;
    if (sign->form != (is_general ? WIRE_MESSAGE : WIRE_ATTRIBUTES))
        return ERR_DENIED;
    if (!is_general && (sign->data.len < 2 || sign->data.data[0] != 0x31))
        return ERR_PERM;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool ok = context && EVP_DigestSignInit(context, NULL, NULL, NULL, key->key) > 0 &&
              EVP_DigestSign(context, out, len, sign->data.data, sign->data.len) > 0;
    EVP_MD_CTX_free(context);
    return ok ? ERR_OK : ERR_PERM;
}

enum err fake_key_sign(const struct fake_key *key, const struct wire_sign *sign, uint8_t *out,
                       size_t *len)
{
    uint8_t digest[HASH_SIZE_MAX];
    if (key->purpose == WIRE_SMIME_DECRYPT ||
        (key->purpose == WIRE_SMIME_SIGN && sign->form == WIRE_DIGEST))
        return ERR_DENIED;
    if (sign->algorithm == WIRE_EDDSA)
        return sign_message(key, sign, out, len);
    if (sign->form == WIRE_ATTRIBUTES) {
        // A SET and nothing behind it is as much as a fake looks at.
        if (sign->data.len < 2 || sign->data.data[0] != 0x31)
            return ERR_PERM;
        if (hash_digest(sign->hash, sign->data, digest) != ERR_OK)
            return ERR_BUG;
    } else if (sign->data.len == hash_size(sign->hash)) {
        memcpy(digest, sign->data.data, sign->data.len);
    } else {
        return ERR_PERM;
    }
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(key->key, NULL);
    bool ok = context && EVP_PKEY_sign_init(context) > 0 &&
              EVP_PKEY_CTX_set_signature_md(context, md_of(sign->hash)) > 0;
    if (ok && sign->algorithm == WIRE_RSA_PSS)
        ok = EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PSS_PADDING) > 0 &&
             EVP_PKEY_CTX_set_rsa_pss_saltlen(context, (int)sign->salt) > 0;
    ok = ok && EVP_PKEY_sign(context, out, len, digest, hash_size(sign->hash)) > 0;
    EVP_PKEY_CTX_free(context);
    return ok ? ERR_OK : ERR_PERM;
}

enum err fake_key_unwrap(const struct fake_key *key, const struct wire_unwrap *unwrap, uint8_t *out,
                         size_t *len)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(key->key, NULL);
    bool is_oaep = unwrap->algorithm == WIRE_RSAES_OAEP;
    bool ok = context && EVP_PKEY_decrypt_init(context) > 0;
    if (ok && is_oaep) {
        ok = EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_OAEP_PADDING) > 0 &&
             EVP_PKEY_CTX_set_rsa_oaep_md(context, md_of(unwrap->hash)) > 0 &&
             EVP_PKEY_CTX_set_rsa_mgf1_md(context, md_of(unwrap->mgf_hash)) > 0;
        if (ok && unwrap->label.len) {
            void *label = OPENSSL_memdup(unwrap->label.data, unwrap->label.len);
            ok = EVP_PKEY_CTX_set0_rsa_oaep_label(context, label, (int)unwrap->label.len) > 0;
        }
    }
    ok = ok &&
         EVP_PKEY_decrypt(context, out, len, unwrap->ciphertext.data, unwrap->ciphertext.len) > 0;
    EVP_PKEY_CTX_free(context);
    if (is_oaep)
        return ok ? ERR_OK : ERR_PERM;
    if (!ok || (unwrap->length && *len != unwrap->length)) { // a synthetic secret
        *len = unwrap->length ? unwrap->length : 24;
        memset(out, 0x5e, *len);
    }
    return ERR_OK;
}

enum err fake_key_agree(const struct fake_key *key, const struct wire_agree *agree, uint8_t *out,
                        size_t *len)
{
    uint8_t z[WIRE_POINT_MAX];
    size_t z_len = sizeof z;
    EVP_PKEY *peer = EVP_PKEY_new();
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(key->key, NULL);
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, OSSL_KDF_NAME_X963KDF, NULL);
    EVP_KDF_CTX *kdf_context = EVP_KDF_CTX_new(kdf);
    bool ok = peer && context && kdf_context && EVP_PKEY_copy_parameters(peer, key->key) > 0 &&
              EVP_PKEY_set1_encoded_public_key(peer, agree->peer.data, agree->peer.len) > 0 &&
              EVP_PKEY_derive_init(context) > 0 && EVP_PKEY_derive_set_peer(context, peer) > 0 &&
              EVP_PKEY_derive(context, z, &z_len) > 0;
    if (ok) {
        OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST,
                                                                (char *)hash_name(agree->hash), 0),
                               OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, z, z_len),
                               OSSL_PARAM_construct_octet_string(
                                   OSSL_KDF_PARAM_INFO, (void *)agree->info.data, agree->info.len),
                               OSSL_PARAM_construct_end()};
        ok = EVP_KDF_derive(kdf_context, out, agree->length, params) > 0;
        *len = agree->length;
    }
    EVP_KDF_CTX_free(kdf_context);
    EVP_KDF_free(kdf);
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_free(peer);
    return ok ? ERR_OK : ERR_PERM;
}
