// SPDX-License-Identifier: Apache-2.0
// The same cases on a token of any maker. What it lacks is asked of its module and becomes a row of
// the sheet that says so; then the refusal itself is tested: ERR_PERM, nothing else. Whatever it
// offers must work.
#include "tests/token/any_cases.h"

#include <pthread.h>

#include "pkcs11/rv.h"

#define SESSIONS 4
#define THREADS 8
#define ROUNDS 4

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
    const struct row of_signs = {row->operation, NULL, RSA, 2048, SIGN, 0, 0, NULL, 0};
    const struct row of_decrypts = {row->operation, NULL, RSA, 2048, DECRYPT, 0, 0, NULL, 0};
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
    const struct row row = {"", NULL, RSA, 2048, SIGN, 0, 0, NULL, 0};
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

// All that went before was done so already, as far as the token can.
static void copies(const struct row *row)
{
    unsigned count = 0;
    struct token_key_wish wish = wish_of(RSA, 2048, SIGN);
    if (!is_in_token(&wish))
        wish = wish_of(RSA, 2048, SIGN | DECRYPT);
    sign_once(ERR_OK);
    unsigned long rv = any_copy_directly(wish.label, &count);
    if (rv == CKR_OK && count == 0)
        fail_msg("it makes copies, and none is used");
    if (count > 0)
        sheet_tested(row->operation);
    else
        sheet_cannot(row->operation, "C_CopyObject: %s", rv_name(rv));
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

static const struct row table[] = {
    {"generate RSA-2048 to sign", case_generate, RSA, 2048, SIGN, 0, 0, NULL, 0},
    {"generate RSA-2048 to decrypt", case_generate, RSA, 2048, DECRYPT, 0, 0, NULL, 0},
    {"generate RSA-2048 for both", case_generate, RSA, 2048, SIGN | DECRYPT, 0, 0, NULL, 0},
    {"generate RSA-3072", case_generate, RSA, 3072, SIGN | DECRYPT, 0, 0, NULL, 0},
    {"generate RSA-4096", case_generate, RSA, 4096, SIGN | DECRYPT, 0, 0, NULL, 0},
    {"generate P-256 to sign", case_generate, EC, 256, SIGN, 0, 0, NULL, 0},
    {"generate P-384 to sign", case_generate, EC, 384, SIGN, 0, 0, NULL, 0},
    {"generate P-521 to sign", case_generate, EC, 521, SIGN, 0, 0, NULL, 0},
    {"generate P-256 to agree", case_generate, EC, 256, DERIVE, 0, 0, NULL, 0},
    {"generate P-384 to agree", case_generate, EC, 384, DERIVE, 0, 0, NULL, 0},
    {"generate P-521 to agree", case_generate, EC, 521, DERIVE, 0, 0, NULL, 0},
    {"generate P-256 for both", case_generate, EC, 256, SIGN | DERIVE, 0, 0, NULL, 0},
    {"generate Ed25519", case_generate, ED25519, 256, SIGN, 0, 0, NULL, 0},
    {"import RSA-2048", case_import, RSA, 2048, SIGN | DECRYPT, 0, 0, NULL, 0},
    {"import P-256", case_import, EC, 256, SIGN, 0, 0, NULL, 0},
    {"import Ed25519", case_import, ED25519, 256, SIGN, 0, 0, NULL, 0},
    {"tell imported keys from generated", case_tell_imported, 0, 0, 0, 0, 0, NULL, 0},
    {"list keys", case_list, 0, 0, 0, 0, 0, NULL, 0},
    {"sign PKCS#1 v1.5 SHA-256", case_sign, RSA, 2048, SIGN, TOKEN_RSA_PKCS1, HASH_SHA256, NULL, 0},
    {"sign PKCS#1 v1.5 SHA-384", case_sign, RSA, 2048, SIGN, TOKEN_RSA_PKCS1, HASH_SHA384, NULL, 0},
    {"sign PKCS#1 v1.5 SHA-512", case_sign, RSA, 2048, SIGN, TOKEN_RSA_PKCS1, HASH_SHA512, NULL, 0},
    {"sign PSS SHA-256", case_sign, RSA, 2048, SIGN, TOKEN_RSA_PSS, HASH_SHA256, NULL, 0},
    {"sign PSS SHA-384", case_sign, RSA, 2048, SIGN, TOKEN_RSA_PSS, HASH_SHA384, NULL, 0},
    {"sign PSS SHA-512", case_sign, RSA, 2048, SIGN, TOKEN_RSA_PSS, HASH_SHA512, NULL, 0},
    {"sign ECDSA P-256 SHA-256", case_sign, EC, 256, SIGN, TOKEN_ECDSA, HASH_SHA256, NULL, 0},
    {"sign ECDSA P-256 SHA-512", case_sign, EC, 256, SIGN, TOKEN_ECDSA, HASH_SHA512, NULL, 0},
    {"sign ECDSA P-384 SHA-384", case_sign, EC, 384, SIGN, TOKEN_ECDSA, HASH_SHA384, NULL, 0},
    {"sign ECDSA P-521 SHA-512", case_sign, EC, 521, SIGN, TOKEN_ECDSA, HASH_SHA512, NULL, 0},
    {"sign Ed25519", case_sign, ED25519, 256, SIGN, TOKEN_EDDSA, HASH_NONE, NULL, 0},
    {"unwrap v1.5", case_unwrap, RSA, 2048, DECRYPT, 0, HASH_NONE, NULL, 0},
    {"unwrap v1.5, bad padding", case_bad_pkcs1, RSA, 2048, DECRYPT, 0, 0, NULL, 0},
    {"unwrap OAEP SHA-1", case_unwrap, RSA, 2048, DECRYPT, 0, HASH_SHA1, NULL, 0},
    {"unwrap OAEP SHA-256", case_unwrap, RSA, 2048, DECRYPT, 0, HASH_SHA256, NULL, 0},
    {"unwrap OAEP SHA-384", case_unwrap, RSA, 2048, DECRYPT, 0, HASH_SHA384, NULL, 0},
    {"unwrap OAEP SHA-512", case_unwrap, RSA, 2048, DECRYPT, 0, HASH_SHA512, NULL, 0},
    {"unwrap OAEP SHA-256, MGF SHA-1", case_unwrap, RSA, 2048, DECRYPT, 0, HASH_SHA256, NULL,
     HASH_SHA1},
    {"unwrap OAEP SHA-1, MGF SHA-512", case_unwrap, RSA, 2048, DECRYPT, 0, HASH_SHA1, NULL,
     HASH_SHA512},
    {"unwrap OAEP SHA-256, label", case_unwrap, RSA, 2048, DECRYPT, 0, HASH_SHA256, "a label", 0},
    {"unwrap OAEP, bad padding", case_bad_oaep, RSA, 2048, DECRYPT, 0, 0, NULL, 0},
    {"agree P-256", case_agree, EC, 256, DERIVE, 0, 0, NULL, 0},
    {"agree P-384", case_agree, EC, 384, DERIVE, 0, 0, NULL, 0},
    {"agree P-521", case_agree, EC, 521, DERIVE, 0, 0, NULL, 0},
    {"eight threads, four sessions", threads, 0, 0, 0, 0, 0, NULL, 0},
    {"use a copy among the session objects", copies, 0, 0, 0, 0, 0, NULL, 0},
    {"lock and unlock", locks, 0, 0, 0, 0, 0, NULL, 0},
    {"a wrong PIN", wrong_pin, 0, 0, 0, 0, 0, NULL, 0},
    {"destroy keys", case_destroy, 0, 0, 0, 0, 0, NULL, 0},
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
