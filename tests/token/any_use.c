// SPDX-License-Identifier: Apache-2.0
// Keys are used, and the result is compared with OpenSSL's idea of it.
#include "tests/token/any_cases.h"

#include <string.h>

#include <openssl/ec.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <p11-kit/pkcs11.h>

bool use_begin(const struct row *row, struct use *use)
{
    struct detail detail = {0};
    struct token_key_wish wish = wish_of(row->type, row->bits, row->usage);
    *use = (struct use){0};
    if (!is_in_token(&wish)) // one for both usages may do
        wish = wish_of(row->type, row->bits, SIGN | (row->type == RSA ? DECRYPT : DERIVE));
    if (!is_in_token(&wish)) {
        sheet_cannot(row->operation, "no such key can be made in it");
        return false;
    }
    assert_ok(token_key_open(fixture.token, wish.label, wish.id, &use->key, &detail), &detail);
    token_key_keep(use->key);
    struct bytes spki = token_key_describe(use->key)->public_key;
    const unsigned char *at = spki.data;
    use->pkey = d2i_PUBKEY(NULL, &at, (long)spki.len);
    assert_non_null(use->pkey);
    assert_ok(token_session_get(fixture.token, OFFICER_PATIENCE, &use->session, &detail), &detail);
    return true;
}

void use_end(struct use *use)
{
    token_session_put(use->session);
    token_key_close(use->key);
    EVP_PKEY_free(use->pkey);
}

static const char *missing_for_scheme(enum token_scheme scheme)
{
    bool raw = any_offers(CKM_RSA_X_509, CKF_SIGN);
    if (scheme == TOKEN_RSA_PSS && !raw && !any_offers(CKM_RSA_PKCS_PSS, CKF_SIGN))
        return "neither PSS nor raw RSA is among its mechanisms to sign";
    static const enum token_key_type types[] = {[TOKEN_RSA_PKCS1] = RSA,
                                                [TOKEN_RSA_PSS] = RSA,
                                                [TOKEN_ECDSA] = EC,
                                                [TOKEN_EDDSA] = ED25519};
    return missing_for_usage(SIGN, types[scheme]);
}

void case_sign(const struct row *row)
{
    struct detail detail = {0};
    uint8_t digest[HASH_SIZE_MAX], signature[TOKEN_SIGNATURE_MAX];
    unsigned salt = row->scheme == TOKEN_RSA_PSS ? (unsigned)hash_size(row->hash) : 0;
    size_t len = 0;
    struct use use;
    if (!use_begin(row, &use))
        return;
    const char *missing = missing_for_scheme(row->scheme);
    // EdDSA takes the message itself: any will do.
    enum hash hash = row->scheme == TOKEN_EDDSA ? HASH_SHA512 : row->hash;
    assert_ok(hash_digest(hash, BYTES_LITERAL("the signed attributes"), digest), &detail);
    struct bytes input = bytes_of(digest, hash_size(hash));
    enum err err = token_sign(use.session, use.key, row->scheme, row->hash, salt, input, signature,
                              &len, &detail);
    if (missing) {
        assert_err(err, ERR_PERM);
        sheet_cannot(row->operation, "%s", missing);
    } else {
        assert_ok(err, &detail);
        struct bytes made = bytes_of(signature, len);
        assert_true(fixture_verify(use.pkey, row->scheme, row->hash, salt, input, made));
        digest[0] ^= 1;
        assert_false(fixture_verify(use.pkey, row->scheme, row->hash, salt, input, made));
        sheet_tested(row->operation);
    }
    use_end(&use);
}

void case_unwrap(const struct row *row)
{
    struct detail detail = {0};
    uint8_t message[32], wrapped[512];
    bool oaep = row->hash != HASH_NONE, raw = any_offers(CKM_RSA_X_509, CKF_DECRYPT);
    struct token_padding padding = {.oaep = oaep,
                                    .hash = row->hash,
                                    .mgf_hash = row->mgf_hash ? row->mgf_hash : row->hash,
                                    .label = bytes_of_text(row->label ? row->label : "")};
    struct use use;
    if (!use_begin(row, &use))
        return;
    RAND_bytes(message, sizeof message);
    size_t len = fixture_encrypt(use.pkey, row->hash, padding.mgf_hash, padding.label,
                                 bytes_of(message, sizeof message), wrapped, sizeof wrapped);
    enum err err =
        token_unwrap(use.session, use.key, &padding, bytes_of(wrapped, len), &fixture.out, &detail);
    if (!raw && !any_offers(oaep ? CKM_RSA_PKCS_OAEP : CKM_RSA_PKCS, CKF_DECRYPT)) {
        assert_err(err, ERR_PERM);
        sheet_cannot(row->operation, "neither it nor raw RSA is among its mechanisms");
    } else {
        assert_ok(err, &detail);
        assert_int_equal(fixture.out.len, sizeof message);
        assert_memory_equal(fixture.out.data, message, sizeof message);
        sheet_tested(row->operation);
    }
    use_end(&use);
}

// v1.5: whatever is in the block, an answer of the right length and the same one twice (promise 5).
void case_bad_pkcs1(const struct row *row)
{
    static const struct {
        const char *name;
        uint8_t type;
        size_t zero_at; // 0: none
        size_t expected;
    } blocks[] = {
        {"block type 1", 1, 255 - 32, 32},    {"no zero at all", 2, 0, 0},
        {"zero in the first eight", 2, 9, 0}, {"shorter than expected", 2, 240, 32},
        {"longer than expected", 2, 100, 32}, {"type 0", 0, 255 - 32, 32},
        {"length not known", 1, 255 - 32, 0},
    };
    uint8_t block[256], wrapped[256], first[256];
    struct use use;
    if (!use_begin(row, &use))
        return;
    if (!any_offers(CKM_RSA_X_509, CKF_DECRYPT) && !any_offers(CKM_RSA_PKCS, CKF_DECRYPT)) {
        sheet_cannot(row->operation, "neither it nor raw RSA is among its mechanisms");
        use_end(&use);
        return;
    }
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        struct detail detail = {0};
        struct token_padding padding = {.length = blocks[i].expected};
        size_t got = 0;
        memset(block, 0xaa, sizeof block);
        block[0] = 0;
        block[1] = blocks[i].type;
        if (blocks[i].zero_at)
            block[blocks[i].zero_at] = 0;
        size_t len = fixture_encrypt_raw(use.pkey, block, wrapped, sizeof wrapped);
        for (int again = 0; again < 2; again++) {
            enum err err = token_unwrap(use.session, use.key, &padding, bytes_of(wrapped, len),
                                        &fixture.out, &detail);
            if (err)
                fail_msg("%s: %s", blocks[i].name, detail.text);
            if (again && (fixture.out.len != got || memcmp(first, fixture.out.data, got) != 0))
                fail_msg("%s: another message the second time", blocks[i].name);
            got = fixture.out.len;
            memcpy(first, fixture.out.data, got);
        }
        if ((blocks[i].expected && got != blocks[i].expected) || got > 245 ||
            (got >= 16 && memcmp(first, block + 256 - got, got) == 0))
            fail_msg("%s: %zu bytes", blocks[i].name, got);
    }
    use_end(&use);
    sheet_tested(row->operation);
}

// OAEP: one answer for everything.
void case_bad_oaep(const struct row *row)
{
    struct detail label = {0}, garbage = {0};
    struct token_padding padding = {.oaep = true, .hash = HASH_SHA1, .mgf_hash = HASH_SHA1};
    uint8_t wrapped[256], block[256];
    struct use use;
    if (!use_begin(row, &use))
        return;
    if (!any_offers(CKM_RSA_X_509, CKF_DECRYPT) && !any_offers(CKM_RSA_PKCS_OAEP, CKF_DECRYPT)) {
        sheet_cannot(row->operation, "neither it nor raw RSA is among its mechanisms");
        use_end(&use);
        return;
    }
    fixture_encrypt(use.pkey, HASH_SHA1, HASH_SHA1, BYTES_LITERAL("another label"),
                    BYTES_LITERAL("0123456789abcdef"), wrapped, sizeof wrapped);
    assert_err(
        token_unwrap(use.session, use.key, &padding, bytes_of(wrapped, 256), &fixture.out, &label),
        ERR_PERM);
    memset(block, 0x11, sizeof block);
    fixture_encrypt_raw(use.pkey, block, wrapped, sizeof wrapped);
    assert_err(token_unwrap(use.session, use.key, &padding, bytes_of(wrapped, 256), &fixture.out,
                            &garbage),
               ERR_PERM);
    assert_string_equal(label.text, garbage.text);
    assert_int_equal(fixture.out.len, 0);
    use_end(&use);
    sheet_tested(row->operation);
}

void case_agree(const struct row *row)
{
    struct detail detail = {0};
    uint8_t point[200], expected[100];
    struct use use;
    if (!use_begin(row, &use))
        return;
    for (int i = 0; i < 3; i++) {
        EVP_PKEY *peer = EVP_EC_gen(token_key_describe(use.key)->curve);
        size_t point_len = fixture_point(peer, point, sizeof point);
        size_t len = fixture_derive(peer, use.pkey, expected, sizeof expected);
        assert_ok(token_agree(use.session, use.key, bytes_of(point, point_len), i == 1,
                              &fixture.out, &detail),
                  &detail);
        assert_int_equal(fixture.out.len, len);
        assert_memory_equal(fixture.out.data, expected, len);
        EVP_PKEY_free(peer);
    }
    point[point[1] ? 1 : 2] ^= 1; // not on the curve any more
    assert_err(token_agree(use.session, use.key, bytes_of(point, 1 + 2 * ((row->bits + 7) / 8)),
                           false, &fixture.out, &detail),
               ERR_PERM);
    use_end(&use);
    sheet_tested(row->operation);
}
