// SPDX-License-Identifier: Apache-2.0
// The same cases on a token of any maker. What it lacks is asked of its module and becomes a row of
// the sheet that says so; then the refusal itself is tested: ERR_PERM, nothing else. Whatever it
// offers must work.
#include "tests/token/any.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <openssl/ec.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <p11-kit/pkcs11.h>

#include "tests/token/officer.h"

#define SESSIONS 4
#define THREADS 8
#define ROUNDS 4

#define RSA TOKEN_KEY_RSA
#define EC TOKEN_KEY_EC

struct row {
    const char *operation;
    void (*run)(const struct row *row);
    enum token_key_type type;
    unsigned bits, usage;
    enum token_scheme scheme;
    enum hash hash;
    const char *label; // of OAEP
};

// What a key of a row is found by.
static struct token_key_wish wish_of(enum token_key_type type, unsigned bits, unsigned usage)
{
    static char labels[16][40];
    static unsigned next;
    char *label = labels[next++ % 16];
    snprintf(label, sizeof labels[0], "%s-%u-%u", type == RSA ? "rsa" : "ec", bits, usage);
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

static bool is_in_token(const struct token_key_wish *wish)
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

// Some tokens make keys that they cannot use then, and say so only when they are used. That it is
// the token is seen by asking it without the code under test.
static bool is_made_useless(const struct row *row, const struct token_key_wish *wish,
                            const struct detail *detail)
{
    const char *at = strstr(detail->text, "C_Sign");
    if (row->usage != SIGN || !at || useless_count == sizeof useless / sizeof *useless)
        return false;
    assert_ok(token_check(fixture.token, OFFICER_PATIENCE, NULL), detail);
    if (any_sign_directly(wish->label, row->type == EC) == CKR_OK)
        return false;
    snprintf(useless[useless_count++], sizeof useless[0], "%s", wish->label);
    sheet_cannot(row->operation, "it makes one, but %s", at);
    return true;
}

static const char *missing_for_usage(unsigned usage, enum token_key_type type)
{
    if ((usage & SIGN) && type == RSA && !any_offers(CKM_RSA_PKCS, CKF_SIGN) &&
        !any_offers(CKM_RSA_X_509, CKF_SIGN))
        return "signing with RSA is not among its mechanisms";
    if ((usage & SIGN) && type == EC && !any_offers(CKM_ECDSA, CKF_SIGN))
        return "ECDSA is not among its mechanisms";
    if ((usage & DECRYPT) && !any_offers(CKM_RSA_PKCS, CKF_DECRYPT) &&
        !any_offers(CKM_RSA_X_509, CKF_DECRYPT) && !any_offers(CKM_RSA_PKCS_OAEP, CKF_DECRYPT))
        return "decryption with RSA is not among its mechanisms";
    if ((usage & DERIVE) && !any_offers(CKM_ECDH1_DERIVE, CKF_DERIVE) &&
        !any_offers(CKM_ECDH1_COFACTOR_DERIVE, CKF_DERIVE))
        return "ECDH is not among its mechanisms";
    return NULL;
}

// Why the token says that it cannot generate such a key; false: it does not say so.
static bool says_it_cannot_generate(const struct row *row, char *reason, size_t size)
{
    CK_MECHANISM_TYPE type = row->type == RSA ? CKM_RSA_PKCS_KEY_PAIR_GEN : CKM_EC_KEY_PAIR_GEN;
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

// The token's own return value, if that is what the detail says.
static const char *return_value(const struct detail *detail)
{
    const char *at = strstr(detail->text, "CKR_");
    return at ? at : "";
}

static void generate(const struct row *row)
{
    struct detail detail = {0};
    char reason[100];
    struct token_key_wish wish = wish_of(row->type, row->bits, row->usage);
    bool cannot = says_it_cannot_generate(row, reason, sizeof reason);
    enum err err = token_key_generate(fixture.token, &wish, OFFICER_PATIENCE, &detail);
    // Which curves it knows a token says by refusing them.
    if (err == ERR_PERM && !cannot && row->type == EC &&
        (strcmp(return_value(&detail), "CKR_CURVE_NOT_SUPPORTED") == 0 ||
         strcmp(return_value(&detail), "CKR_DOMAIN_PARAMS_INVALID") == 0 ||
         strcmp(return_value(&detail), "CKR_ATTRIBUTE_VALUE_INVALID") == 0)) {
        snprintf(reason, sizeof reason, "C_GenerateKeyPair: %s", return_value(&detail));
        cannot = true;
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

static void import(const struct row *row)
{
    struct detail detail = {0};
    struct secret pkcs8 = {0};
    bool is_wrapped = false;
    EVP_PKEY *pkey = row->type == RSA ? EVP_RSA_gen(row->bits) : EVP_EC_gen("P-256");
    struct token_key_wish wish = wish_of(row->type, row->bits, row->usage);
    wish.label = row->type == RSA ? "imported rsa" : "imported ec";
    wish.id = bytes_of_text(wish.label);
    officer_pkcs8(pkey, &pkcs8);
    unsigned before = officer_count_keys(fixture.token);
    enum err err =
        token_key_import(fixture.token, &wish, &pkcs8, OFFICER_PATIENCE, &is_wrapped, &detail);
    secret_clear(&pkcs8);
    // No mechanism tells whether a token takes private keys: only what it says when it gets one.
    if (err == ERR_PERM && *return_value(&detail)) {
        assert_int_equal(officer_count_keys(fixture.token), before);
        sheet_cannot(row->operation, "C_CreateObject: %s", return_value(&detail));
    } else if (err == ERR_PERM && !any_offers(CKM_EC_KEY_PAIR_GEN, 0) && row->type == EC) {
        assert_int_equal(officer_count_keys(fixture.token), before);
        sheet_cannot(row->operation, "elliptic curves are not among its mechanisms");
    } else {
        assert_ok(err, &detail);
        officer_check_use(fixture.token, &wish, pkey);
        sheet_tested(row->operation);
    }
    EVP_PKEY_free(pkey);
}

// An imported key was outside; whoever looks at the token should see that.
static void tell_imported(const struct row *row)
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

// The key of a row, its public half and a session; false: there is no such key, which its own row
// has said.
struct use {
    struct token_key *key;
    EVP_PKEY *pkey;
    struct token_session *session;
};

static bool use_begin(const struct row *row, struct use *use)
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
    struct bytes spki = token_key_describe(use->key)->public_key;
    const unsigned char *at = spki.data;
    use->pkey = d2i_PUBKEY(NULL, &at, (long)spki.len);
    assert_non_null(use->pkey);
    assert_ok(token_session_get(fixture.token, OFFICER_PATIENCE, &use->session, &detail), &detail);
    return true;
}

static void use_end(struct use *use)
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
    return missing_for_usage(SIGN, scheme == TOKEN_ECDSA ? EC : RSA);
}

static void sign(const struct row *row)
{
    struct detail detail = {0};
    uint8_t digest[HASH_SIZE_MAX], signature[TOKEN_SIGNATURE_MAX];
    unsigned salt = row->scheme == TOKEN_RSA_PSS ? (unsigned)hash_size(row->hash) : 0;
    size_t len = 0;
    struct use use;
    if (!use_begin(row, &use))
        return;
    const char *missing = missing_for_scheme(row->scheme);
    assert_ok(hash_digest(row->hash, BYTES_LITERAL("the signed attributes"), digest), &detail);
    struct bytes input = bytes_of(digest, hash_size(row->hash));
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

static void unwrap(const struct row *row)
{
    struct detail detail = {0};
    uint8_t message[32], wrapped[512];
    bool oaep = row->hash != HASH_NONE, raw = any_offers(CKM_RSA_X_509, CKF_DECRYPT);
    struct token_padding padding = {.oaep = oaep,
                                    .hash = row->hash,
                                    .mgf_hash = row->hash,
                                    .label = bytes_of_text(row->label ? row->label : "")};
    struct use use;
    if (!use_begin(row, &use))
        return;
    RAND_bytes(message, sizeof message);
    size_t len = fixture_encrypt(use.pkey, row->hash, row->hash, padding.label,
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
static void bad_pkcs1(const struct row *row)
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
static void bad_oaep(const struct row *row)
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

static void agree(const struct row *row)
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

static void list(const struct row *row)
{
    struct detail detail = {0};
    struct list list = {0};
    assert_ok(token_key_list(fixture.token, OFFICER_PATIENCE, see, &list, &detail), &detail);
    assert_true(list.count >= 3);
    assert_int_equal(list.good, list.count);
    sheet_tested(row->operation);
}

struct worker {
    pthread_t thread;
    unsigned number;
    struct token_key *sign, *decrypt;
    struct bytes wrapped, message;
    struct detail detail;
    enum err err;
    bool is_wrong;
};

static void *work(void *arg)
{
    struct worker *worker = arg;
    uint8_t digest[32] = {0}, signature[TOKEN_SIGNATURE_MAX];
    struct token_padding padding = {.length = worker->message.len};
    struct secret out = {0};
    size_t len = 0;
    worker->err = secret_init(&out, 1024, &worker->detail);
    for (int i = 0; i < ROUNDS && !worker->err; i++) {
        struct token_session *session = NULL;
        worker->err = token_session_get(fixture.token, OFFICER_PATIENCE, &session, &worker->detail);
        if (!worker->err && worker->number % 2)
            worker->err = token_sign(session, worker->sign, TOKEN_RSA_PKCS1, HASH_SHA256, 0,
                                     bytes_of(digest, 32), signature, &len, &worker->detail);
        else if (!worker->err)
            worker->err = token_unwrap(session, worker->decrypt, &padding, worker->wrapped, &out,
                                       &worker->detail);
        if (!worker->err && worker->number % 2 == 0)
            worker->is_wrong |= !bytes_equal(bytes_of(out.data, out.len), worker->message);
        token_session_put(session);
    }
    secret_clear(&out);
    return NULL;
}

static void threads(const struct row *row)
{
    struct worker workers[THREADS];
    struct use signs, decrypts;
    uint8_t wrapped[256];
    const struct row of_signs = {row->operation, NULL, RSA, 2048, SIGN, 0, 0, NULL};
    const struct row of_decrypts = {row->operation, NULL, RSA, 2048, DECRYPT, 0, 0, NULL};
    assert_true(use_begin(&of_signs, &signs));
    assert_true(use_begin(&of_decrypts, &decrypts));
    token_session_put(signs.session);
    token_session_put(decrypts.session);
    signs.session = decrypts.session = NULL;
    struct bytes message = BYTES_LITERAL("sixteen bytes ok");
    fixture_encrypt(decrypts.pkey, HASH_NONE, HASH_NONE, bytes_of(NULL, 0), message, wrapped,
                    sizeof wrapped);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.number = i,
                                     .sign = signs.key,
                                     .decrypt = decrypts.key,
                                     .wrapped = bytes_of(wrapped, sizeof wrapped),
                                     .message = message};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(workers[i].thread, NULL);
    for (unsigned i = 0; i < THREADS; i++) {
        assert_ok(workers[i].err, &workers[i].detail);
        assert_false(workers[i].is_wrong);
    }
    use_end(&signs);
    use_end(&decrypts);
    sheet_tested(row->operation);
}

static void sign_once(enum err expected)
{
    struct use use;
    struct detail detail = {0};
    uint8_t digest[32] = {0}, signature[TOKEN_SIGNATURE_MAX];
    size_t len = 0;
    const struct row row = {"", NULL, RSA, 2048, SIGN, 0, 0, NULL};
    assert_true(use_begin(&row, &use));
    token_session_put(use.session);
    use.session = NULL;
    if (expected) {
        assert_ok(token_logout(fixture.token, &detail), &detail);
        assert_err(token_session_get(fixture.token, OFFICER_PATIENCE, &use.session, &detail),
                   expected);
    } else {
        assert_ok(token_session_get(fixture.token, OFFICER_PATIENCE, &use.session, &detail),
                  &detail);
        assert_ok(token_sign(use.session, use.key, TOKEN_RSA_PKCS1, HASH_SHA256, 0,
                             bytes_of(digest, 32), signature, &len, &detail),
                  &detail);
    }
    use_end(&use);
}

static void locks(const struct row *row)
{
    struct detail detail = {0};
    for (int i = 0; i < 2; i++) {
        sign_once(ERR_OK);
        sign_once(ERR_TEMP);
        assert_ok(token_login(fixture.token, &fixture.pin, &detail), &detail);
        sign_once(ERR_OK);
    }
    sheet_tested(row->operation);
}

static void wrong_pin(const struct row *row)
{
    struct detail detail = {0};
    struct secret wrong = {0};
    struct token_status status;
    assert_ok(secret_init(&wrong, 8, &detail), &detail);
    assert_ok(secret_set(&wrong, "wrong", 5), &detail);
    assert_ok(token_logout(fixture.token, &detail), &detail);
    assert_err(token_login(fixture.token, &wrong, &detail), ERR_DENIED);
    token_status(fixture.token, &status);
    assert_int_equal(status.state, TOKEN_PIN_REFUSED);
    assert_ok(token_login(fixture.token, &fixture.pin, &detail), &detail);
    sign_once(ERR_OK);
    secret_clear(&wrong);
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

static void destroy(const struct row *row)
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

static const struct row table[] = {
    {"generate RSA-2048 to sign", generate, RSA, 2048, SIGN, 0, 0, NULL},
    {"generate RSA-2048 to decrypt", generate, RSA, 2048, DECRYPT, 0, 0, NULL},
    {"generate RSA-2048 for both", generate, RSA, 2048, SIGN | DECRYPT, 0, 0, NULL},
    {"generate RSA-3072", generate, RSA, 3072, SIGN | DECRYPT, 0, 0, NULL},
    {"generate RSA-4096", generate, RSA, 4096, SIGN | DECRYPT, 0, 0, NULL},
    {"generate P-256 to sign", generate, EC, 256, SIGN, 0, 0, NULL},
    {"generate P-384 to sign", generate, EC, 384, SIGN, 0, 0, NULL},
    {"generate P-521 to sign", generate, EC, 521, SIGN, 0, 0, NULL},
    {"generate P-256 to agree", generate, EC, 256, DERIVE, 0, 0, NULL},
    {"generate P-384 to agree", generate, EC, 384, DERIVE, 0, 0, NULL},
    {"generate P-521 to agree", generate, EC, 521, DERIVE, 0, 0, NULL},
    {"generate P-256 for both", generate, EC, 256, SIGN | DERIVE, 0, 0, NULL},
    {"import RSA-2048", import, RSA, 2048, SIGN | DECRYPT, 0, 0, NULL},
    {"import P-256", import, EC, 256, SIGN, 0, 0, NULL},
    {"tell imported keys from generated", tell_imported, 0, 0, 0, 0, 0, NULL},
    {"list keys", list, 0, 0, 0, 0, 0, NULL},
    {"sign PKCS#1 v1.5 SHA-256", sign, RSA, 2048, SIGN, TOKEN_RSA_PKCS1, HASH_SHA256, NULL},
    {"sign PKCS#1 v1.5 SHA-384", sign, RSA, 2048, SIGN, TOKEN_RSA_PKCS1, HASH_SHA384, NULL},
    {"sign PKCS#1 v1.5 SHA-512", sign, RSA, 2048, SIGN, TOKEN_RSA_PKCS1, HASH_SHA512, NULL},
    {"sign PSS SHA-256", sign, RSA, 2048, SIGN, TOKEN_RSA_PSS, HASH_SHA256, NULL},
    {"sign PSS SHA-384", sign, RSA, 2048, SIGN, TOKEN_RSA_PSS, HASH_SHA384, NULL},
    {"sign PSS SHA-512", sign, RSA, 2048, SIGN, TOKEN_RSA_PSS, HASH_SHA512, NULL},
    {"sign ECDSA P-256 SHA-256", sign, EC, 256, SIGN, TOKEN_ECDSA, HASH_SHA256, NULL},
    {"sign ECDSA P-256 SHA-512", sign, EC, 256, SIGN, TOKEN_ECDSA, HASH_SHA512, NULL},
    {"sign ECDSA P-384 SHA-384", sign, EC, 384, SIGN, TOKEN_ECDSA, HASH_SHA384, NULL},
    {"sign ECDSA P-521 SHA-512", sign, EC, 521, SIGN, TOKEN_ECDSA, HASH_SHA512, NULL},
    {"unwrap v1.5", unwrap, RSA, 2048, DECRYPT, 0, HASH_NONE, NULL},
    {"unwrap v1.5, bad padding", bad_pkcs1, RSA, 2048, DECRYPT, 0, 0, NULL},
    {"unwrap OAEP SHA-1", unwrap, RSA, 2048, DECRYPT, 0, HASH_SHA1, NULL},
    {"unwrap OAEP SHA-256", unwrap, RSA, 2048, DECRYPT, 0, HASH_SHA256, NULL},
    {"unwrap OAEP SHA-256, label", unwrap, RSA, 2048, DECRYPT, 0, HASH_SHA256, "a label"},
    {"unwrap OAEP, bad padding", bad_oaep, RSA, 2048, DECRYPT, 0, 0, NULL},
    {"agree P-256", agree, EC, 256, DERIVE, 0, 0, NULL},
    {"agree P-384", agree, EC, 384, DERIVE, 0, 0, NULL},
    {"agree P-521", agree, EC, 521, DERIVE, 0, 0, NULL},
    {"eight threads, four sessions", threads, 0, 0, 0, 0, 0, NULL},
    {"lock and unlock", locks, 0, 0, 0, 0, 0, NULL},
    {"a wrong PIN", wrong_pin, 0, 0, 0, 0, 0, NULL},
    {"destroy keys", destroy, 0, 0, 0, 0, 0, NULL},
};
#define ROWS (sizeof table / sizeof *table)

static void run_row(void **state)
{
    const struct row *row = *state;
    row->run(row);
}

static void the_table_says_so(void **state)
{
    (void)state;
    sheet_compare(TEST_TABLE);
}

static int begin(void **state)
{
    (void)state;
    any_begin(SESSIONS);
    return 0;
}

static int end(void **state)
{
    (void)state;
    any_end();
    return 0;
}

int main(void)
{
    struct CMUnitTest tests[ROWS + 1];
    for (size_t i = 0; i < ROWS; i++)
        tests[i] = (struct CMUnitTest){
            .name = table[i].operation, .test_func = run_row, .initial_state = (void *)&table[i]};
    tests[ROWS] = (struct CMUnitTest)cmocka_unit_test(the_table_says_so);
    return cmocka_run_group_tests(tests, begin, end);
}
