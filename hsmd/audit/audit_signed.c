// SPDX-License-Identifier: Apache-2.0
#include "hsmd/audit/audit_signed.h"

#include <inttypes.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "hsmd/audit/audit_line.h"
#include "hsmd/base/alloc.h"
#include "hsmd/base/hash.h"
#include "hsmd/base/text.h"

struct signer {
    EVP_PKEY *key;
    char key_id[2 * AUDIT_HASH_SIZE + 1];
};

struct audit_signed {
    struct signer signers[AUDIT_KEYS_MAX];
    unsigned signer_count;
    uint64_t first, last; // numbers noted; 0: none
    uint64_t plain;       // lines noted that are no checkpoints
    // Of line n in place n % AUDIT_COVER_MAX.
    struct {
        uint8_t hash[AUDIT_HASH_SIZE];
        uint64_t plain; // up to and with this one
    } ring[AUDIT_COVER_MAX];
};

enum err audit_signed_key_id(EVP_PKEY *key, uint8_t id[AUDIT_HASH_SIZE], struct detail *detail)
{
    uint8_t digest[HASH_SIZE_MAX];
    uint8_t *der = NULL;
    int len = i2d_PUBKEY(key, &der);
    enum err err =
        len > 0 ? hash_digest(HASH_SHA256, bytes_of(der, (size_t)len), digest) : ERR_PERM;
    OPENSSL_free(der);
    if (err != ERR_OK)
        return err_set(detail, err, "the audit key cannot be hashed");
    memcpy(id, digest, AUDIT_HASH_SIZE);
    return ERR_OK;
}

static enum err set_key_id(struct signer *signer, struct detail *detail)
{
    uint8_t id[AUDIT_HASH_SIZE];
    struct buf hex;
    buf_init(&hex, sizeof signer->key_id);
    enum err err = audit_signed_key_id(signer->key, id, detail);
    if (err == ERR_OK && text_put_hex(&hex, bytes_of(id, sizeof id)) != ERR_OK)
        err = err_set(detail, ERR_TEMP, "out of memory");
    if (err == ERR_OK)
        memcpy(signer->key_id, hex.data, hex.len);
    buf_clear(&hex);
    return err;
}

enum err audit_signed_add_key(struct audit_signed *seals, EVP_PKEY *key, struct detail *detail)
{
    struct signer signer = {.key = key};
    if (!EVP_PKEY_is_a(key, "RSA") && !EVP_PKEY_is_a(key, "EC"))
        return err_set(detail, ERR_PERM, "an audit key is of type RSA or EC");
    if (seals->signer_count == AUDIT_KEYS_MAX)
        return err_set(detail, ERR_PERM, "more than %d audit keys", AUDIT_KEYS_MAX);
    enum err err = set_key_id(&signer, detail);
    if (err != ERR_OK)
        return err;
    seals->signers[seals->signer_count++] = signer;
    return ERR_OK;
}

enum err audit_signed_new(EVP_PKEY *key, struct audit_signed **out, struct detail *detail)
{
    struct audit_signed *seals = mem_calloc(1, sizeof *seals);
    if (!seals)
        return err_set(detail, ERR_TEMP, "out of memory");
    enum err err = audit_signed_add_key(seals, key, detail);
    if (err != ERR_OK) {
        mem_free(seals);
        return err;
    }
    *out = seals;
    return ERR_OK;
}

void audit_signed_free(struct audit_signed *seals)
{
    mem_free(seals);
}

void audit_signed_note(struct audit_signed *seals, const struct audit_link *line, bool is_seal)
{
    if (!seals->first)
        seals->first = line->seq;
    seals->last = line->seq;
    seals->plain += !is_seal;
    memcpy(seals->ring[line->seq % AUDIT_COVER_MAX].hash, line->hash, AUDIT_HASH_SIZE);
    seals->ring[line->seq % AUDIT_COVER_MAX].plain = seals->plain;
}

static bool is_known(const struct audit_signed *seals, uint64_t seq)
{
    return seals->first && seq >= seals->first && seq <= seals->last &&
           seals->last - seq < AUDIT_COVER_MAX;
}

uint64_t audit_signed_uncovered(const struct audit_signed *seals, uint64_t covered)
{
    if (is_known(seals, covered))
        return seals->plain - seals->ring[covered % AUDIT_COVER_MAX].plain;
    if (covered < seals->first)
        return seals->plain;
    return seals->last - covered; // so far back that checkpoints between are counted too
}

static enum err check_signature(const struct signer *signer, const struct audit_line *line,
                                const struct audit_link *covered, struct detail *detail)
{
    char stamp[CLOCK_STAMP_SIZE] = "";
    struct buf text;
    struct buf signature;
    buf_init(&text, AUDIT_LINE_MAX);
    buf_init(&signature, AUDIT_SIGNATURE_MAX);
    memcpy(stamp, line->fields[AUDIT_FIELD_TIME].data, sizeof stamp - 1);
    enum err err = audit_line_signed(covered, stamp, &text);
    if (err == ERR_OK)
        err = audit_field_base64(line->fields[AUDIT_FIELD_SIGNATURE], &signature);
    EVP_MD_CTX *ctx = err == ERR_OK ? EVP_MD_CTX_new() : NULL;
    bool ok = ctx && EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, signer->key) > 0 &&
              EVP_DigestVerify(ctx, signature.data, signature.len, text.data, text.len) == 1;
    EVP_MD_CTX_free(ctx);
    buf_clear(&text);
    buf_clear(&signature);
    return ok ? ERR_OK : err_openssl(detail, ERR_PERM, "its signature is wrong");
}

static bool is_text(struct bytes field, const char *text)
{
    return bytes_equal(field, bytes_of_text(text));
}

static const struct signer *find_signer(const struct audit_signed *seals, struct bytes key_id)
{
    for (unsigned i = 0; i < seals->signer_count; i++) {
        if (is_text(key_id, seals->signers[i].key_id))
            return &seals->signers[i];
    }
    return NULL;
}

enum err audit_signed_check(struct audit_signed *seals, const struct audit_line *line,
                            struct detail *detail)
{
    struct audit_link covered = {.seq = audit_field_number(line->fields[AUDIT_FIELD_COVERS])};
    struct buf chain;
    const struct signer *signer = find_signer(seals, line->fields[AUDIT_FIELD_KEY_ID]);
    if (!signer)
        return err_set(detail, ERR_PERM, "signed with another key, whose id is %.*s",
                       (int)line->fields[AUDIT_FIELD_KEY_ID].len,
                       (const char *)line->fields[AUDIT_FIELD_KEY_ID].data);
    const char *algorithm = EVP_PKEY_is_a(signer->key, "RSA") ? "rsa-pkcs1" : "ecdsa";
    if (!is_text(line->fields[AUDIT_FIELD_ALGORITHM], algorithm) ||
        !is_text(line->fields[AUDIT_FIELD_HASH], "sha256"))
        return err_set(detail, ERR_PERM, "not signed with %s and sha256, as its key does",
                       algorithm);
    buf_init(&chain, AUDIT_HASH_SIZE);
    enum err err = audit_field_hex(line->fields[AUDIT_FIELD_CHAIN], &chain);
    if (err == ERR_OK)
        memcpy(covered.hash, chain.data, sizeof covered.hash);
    buf_clear(&chain);
    if (err != ERR_OK)
        return err_set(detail, err, "cannot be checked");
    // A rotated file may begin between a checkpoint and what it covers.
    bool is_before = seals->first && covered.seq < seals->first && covered.seq > 0;
    if (!is_before && !is_known(seals, covered.seq))
        return err_set(detail, ERR_PERM, "it covers line %" PRIu64 ", which it cannot",
                       covered.seq);
    if (!is_before &&
        memcmp(covered.hash, seals->ring[covered.seq % AUDIT_COVER_MAX].hash, AUDIT_HASH_SIZE) != 0)
        return err_set(detail, ERR_PERM,
                       "line %" PRIu64 " is not the one that was signed: it, or a line before it, "
                       "was changed after the last checkpoint that is good",
                       covered.seq);
    return check_signature(signer, line, &covered, detail);
}
