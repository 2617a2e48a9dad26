// SPDX-License-Identifier: Apache-2.0
// Keys are made, brought in, listed and destroyed.
#include "tests/token/any_cases.h"

#include <stdio.h>
#include <string.h>

#include <openssl/ec.h>
#include <openssl/rsa.h>
#include <p11-kit/pkcs11.h>

struct token_key_wish wish_of(enum token_key_type type, unsigned bits, unsigned usage)
{
    static const char *const names[] = {[RSA] = "rsa", [EC] = "ec", [ED25519] = "ed25519"};
    static char labels[16][40];
    static unsigned next;
    char *label = labels[next++ % 16];
    snprintf(label, sizeof labels[0], "%s-%u-%u", names[type], bits, usage);
    return officer_wish(label, label, type, bits, usage);
}

// Keys that the token made and cannot use; it may not even let them go again.
static char useless[8][40];
static unsigned useless_count;

static bool is_useless(const char *label)
{
    for (unsigned i = 0; i < useless_count; i++) {
        if (strcmp(useless[i], label) == 0)
            return true;
    }
    return false;
}

bool is_in_token(const struct token_key_wish *wish)
{
    struct token_key *key = NULL;
    struct detail detail = {0};
    if (is_useless(wish->label))
        return false;
    enum err err = token_key_open(fixture.token, wish->label, wish->id, &key, &detail);
    if (err != ERR_OK && err != ERR_PERM)
        fail_msg("%s: %s", wish->label, detail.text);
    token_key_close(key);
    return err == ERR_OK;
}

// What the code under test was told must be what the token says without it: a mistake in our
// templates, or in what we sign, looks like a token that cannot.
static void check_said(const char *operation, const struct detail *detail, const char *said)
{
    if (!strstr(detail->text, said))
        fail_msg("%s: \"%s\", but asked directly it says %s", operation, detail->text, said);
}

// Some tokens make keys that they cannot use then, and say so only when they are used; or that they
// sign with only where they hash the data themselves, which hsmd, that hands over digests, does
// not.
static bool is_made_useless(const struct row *row, const struct token_key_wish *wish,
                            const struct detail *detail)
{
    static const struct {
        CK_MECHANISM_TYPE type, hashing;
        const char *name;
    } signs[] = {[RSA] = {CKM_RSA_PKCS, CKM_SHA256_RSA_PKCS, "CKM_SHA256_RSA_PKCS"},
                 [EC] = {CKM_ECDSA, CKM_ECDSA_SHA256, "CKM_ECDSA_SHA256"},
                 [ED25519] = {CKM_EDDSA, CKM_EDDSA, "CKM_EDDSA"}};
    char said[ANY_SAID_SIZE], said_hashing[ANY_SAID_SIZE];
    uint8_t info[64];
    struct bytes prefix = hash_digest_info_prefix(HASH_SHA256);
    struct bytes message = BYTES_LITERAL("a message");
    if (row->usage != SIGN || !strstr(detail->text, "C_Sign") ||
        useless_count == sizeof useless / sizeof *useless)
        return false;
    assert_ok(token_check(fixture.token, OFFICER_PATIENCE, NULL), detail);
    memcpy(info, prefix.data, prefix.len);
    assert_ok(hash_digest(HASH_SHA256, message, info + prefix.len), detail);
    size_t skipped = row->type == RSA ? 0 : prefix.len;
    struct bytes data = bytes_of(info + skipped, prefix.len + 32 - skipped);
    (void)any_sign_directly(wish->label, signs[row->type].type, data, said);
    check_said(row->operation, detail, said);
    snprintf(useless[useless_count++], sizeof useless[0], "%s", wish->label);
    if (any_sign_directly(wish->label, signs[row->type].hashing, message, said_hashing) == CKR_OK)
        sheet_hsmd_cannot(row->operation,
                          "the token makes one and signs what it hashes itself (%s), but no digest "
                          "(%s)",
                          signs[row->type].name, said);
    else
        sheet_cannot(row->operation, "it makes one, but %s", said);
    return true;
}

const char *missing_for_usage(unsigned usage, enum token_key_type type)
{
    if ((usage & SIGN) && type == RSA && !any_offers(CKM_RSA_PKCS, CKF_SIGN) &&
        !any_offers(CKM_RSA_X_509, CKF_SIGN))
        return "signing with RSA is not among its mechanisms";
    if ((usage & SIGN) && type == EC && !any_offers(CKM_ECDSA, CKF_SIGN))
        return "ECDSA is not among its mechanisms";
    if ((usage & SIGN) && type == ED25519 && !any_offers(CKM_EDDSA, CKF_SIGN))
        return "EdDSA is not among its mechanisms";
    if ((usage & DECRYPT) && !any_offers(CKM_RSA_PKCS, CKF_DECRYPT) &&
        !any_offers(CKM_RSA_X_509, CKF_DECRYPT) && !any_offers(CKM_RSA_PKCS_OAEP, CKF_DECRYPT))
        return "decryption with RSA is not among its mechanisms";
    if ((usage & DERIVE) && !any_offers(CKM_ECDH1_DERIVE, CKF_DERIVE) &&
        !any_offers(CKM_ECDH1_COFACTOR_DERIVE, CKF_DERIVE))
        return "ECDH is not among its mechanisms";
    return NULL;
}

bool says_it_cannot_generate(const struct row *row, char *reason, size_t size)
{
    static const CK_MECHANISM_TYPE types[] = {[RSA] = CKM_RSA_PKCS_KEY_PAIR_GEN,
                                              [EC] = CKM_EC_KEY_PAIR_GEN,
                                              [ED25519] = CKM_EC_EDWARDS_KEY_PAIR_GEN};
    CK_MECHANISM_TYPE type = types[row->type];
    unsigned long min = 0, max = 0;
    const char *missing = missing_for_usage(row->usage, row->type);
    if (!any_offers(type, CKF_GENERATE_KEY_PAIR))
        snprintf(reason, size, "key pair generation is not among its mechanisms");
    else if (any_sizes(type, &min, &max) && (row->bits < min || row->bits > max))
        snprintf(reason, size, "its keys have %lu to %lu bits", min, max);
    else if (missing)
        snprintf(reason, size, "%s", missing);
    else
        return false;
    return true;
}

void case_generate(const struct row *row)
{
    struct detail detail = {0};
    char reason[100], said[ANY_SAID_SIZE];
    struct token_key_wish wish = wish_of(row->type, row->bits, row->usage);
    bool cannot = says_it_cannot_generate(row, reason, sizeof reason);
    enum err err = token_key_generate(fixture.token, &wish, OFFICER_PATIENCE, &detail);
    // Which curves it knows a token says by refusing them. Where it takes them, so it does here.
    if (!cannot && row->type != RSA) {
        (void)any_generate_directly(row->type, row->bits, said);
        if (err == ERR_PERM) {
            check_said(row->operation, &detail, said);
            snprintf(reason, sizeof reason, "%s", said);
            cannot = true;
        } else {
            assert_string_equal(said, "C_GenerateKeyPair: CKR_OK");
        }
    }
    if (cannot) {
        if (err != ERR_PERM)
            fail_msg("%s: %s, although %s", row->operation, err_name(err), reason);
        assert_false(is_in_token(&wish));
        sheet_cannot(row->operation, "%s", reason);
        return;
    }
    if (err == ERR_TEMP && is_made_useless(row, &wish, &detail))
        return;
    assert_ok(err, &detail);
    officer_check_key(fixture.token, &wish, true, NULL);
    assert_err(token_key_generate(fixture.token, &wish, OFFICER_PATIENCE, &detail), ERR_PERM);
    assert_non_null(strstr(detail.text, "already"));
    sheet_tested(row->operation);
}

void case_import(const struct row *row)
{
    struct detail detail = {0};
    struct secret pkcs8 = {0};
    char said[ANY_SAID_SIZE];
    static const char *const labels[] = {
        [RSA] = "imported rsa", [EC] = "imported ec", [ED25519] = "imported ed25519"};
    EVP_PKEY *pkey = row->type == RSA  ? EVP_RSA_gen(row->bits)
                     : row->type == EC ? EVP_EC_gen("P-256")
                                       : EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    struct token_key_wish wish = wish_of(row->type, row->bits, row->usage);
    wish.label = labels[row->type];
    wish.id = bytes_of_text(wish.label);
    officer_pkcs8(pkey, &pkcs8);
    unsigned before = officer_count_keys(fixture.token);
    enum err err = token_key_import(fixture.token, &wish, &pkcs8, OFFICER_PATIENCE, NULL, &detail);
    secret_clear(&pkcs8);
    assert_true(err == ERR_OK || err == ERR_PERM);
    // No mechanism tells whether a token takes private keys: only what it says when it gets one.
    if (any_create_directly(pkey, said) != CKR_OK && err == ERR_PERM) {
        check_said(row->operation, &detail, said);
        assert_int_equal(officer_count_keys(fixture.token), before);
        sheet_cannot(row->operation, "%s", said);
    } else if (err == ERR_PERM && !any_offers(CKM_EC_KEY_PAIR_GEN, 0) && row->type == EC) {
        assert_int_equal(officer_count_keys(fixture.token), before);
        sheet_cannot(row->operation, "elliptic curves are not among its mechanisms");
    } else if (err == ERR_PERM && !any_offers(CKM_EDDSA, 0) && row->type == ED25519) {
        assert_int_equal(officer_count_keys(fixture.token), before);
        sheet_cannot(row->operation, "EdDSA is not among its mechanisms");
    } else {
        assert_ok(err, &detail);
        assert_string_equal(said, "C_CreateObject: CKR_OK"); // so that what others say counts
        officer_check_use(fixture.token, &wish, pkey);
        sheet_tested(row->operation);
    }
    EVP_PKEY_free(pkey);
}

// An imported key was outside; whoever looks at the token should see that.
void case_tell_imported(const struct row *row)
{
    struct detail detail = {0};
    struct token_key *key = NULL;
    enum err err = token_key_open(fixture.token, "imported rsa", bytes_of(NULL, 0), &key, &detail);
    if (err == ERR_PERM) {
        sheet_cannot(row->operation, "no key can be brought into it");
        return;
    }
    assert_ok(err, &detail);
    const struct token_key_info *info = token_key_describe(key);
    if (info->always_sensitive || info->never_extractable)
        sheet_cannot(row->operation, "it shows%s%s as true",
                     info->always_sensitive ? " CKA_ALWAYS_SENSITIVE" : "",
                     info->never_extractable ? " CKA_NEVER_EXTRACTABLE" : "");
    else
        sheet_tested(row->operation);
    token_key_close(key);
}

struct list {
    unsigned count, good;
};

static void see(const struct token_key_item *item, void *arg)
{
    struct list *list = arg;
    list->count++;
    list->good += item->is_known_type && item->info.sensitive && !item->info.extractable &&
                  item->id.len == strlen(item->label) &&
                  memcmp(item->id.data, item->label, item->id.len) == 0 &&
                  item->info.public_key.len > 0;
}

void case_list(const struct row *row)
{
    struct detail detail = {0};
    struct list list = {0};
    assert_ok(token_key_list(fixture.token, OFFICER_PATIENCE, see, &list, &detail), &detail);
    assert_true(list.count >= 3);
    assert_int_equal(list.good, list.count);
    sheet_tested(row->operation);
}

static void gather(const struct token_key_item *item, void *arg)
{
    char(*labels)[64] = arg;
    unsigned i = 0;
    while (labels[i][0])
        i++;
    snprintf(labels[i], sizeof labels[i], "%s", item->label);
}

void case_destroy(const struct row *row)
{
    struct detail detail = {0};
    char labels[64][64] = {{0}};
    assert_ok(token_key_list(fixture.token, OFFICER_PATIENCE, gather, labels, &detail), &detail);
    for (unsigned i = 0; labels[i][0]; i++) {
        struct token_key *key = NULL;
        if (is_useless(labels[i]))
            continue;
        assert_ok(token_key_open(fixture.token, labels[i], bytes_of(NULL, 0), &key, &detail),
                  &detail);
        unsigned before = officer_count_keys(fixture.token);
        assert_ok(token_key_destroy(fixture.token, key, OFFICER_PATIENCE, &detail), &detail);
        assert_int_equal(officer_count_keys(fixture.token), before - 1);
        token_key_close(key);
    }
    assert_int_equal(officer_count_keys(fixture.token), useless_count);
    // The CKA_IDs are free again, so no public half was left behind.
    const struct token_key_wish wish = wish_of(RSA, 2048, DECRYPT);
    assert_ok(token_key_generate(fixture.token, &wish, OFFICER_PATIENCE, &detail), &detail);
    sheet_tested(row->operation);
}
