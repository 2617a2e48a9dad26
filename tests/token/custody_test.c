// SPDX-License-Identifier: Apache-2.0
// Officers' acts on tokens of SoftHSM2, through hsmd's own keystore.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "tests/support/council.h"
#include "tests/support/softhsm.h"

static struct softhsm hsm;
static struct council council;

static int setup(void **state)
{
    (void)state;
    struct detail detail = {0};
    softhsm_setup(&hsm, "main");
    softhsm_add_token(&hsm, "spare");
    council_setup(&council, 0);
    for (size_t i = 0; i < COUNCIL_TOKENS; i++) {
        struct config_token *token = &council.config_tokens[i];
        token->module = softhsm_module();
        token->label = token->name;
        token->sessions = 3;
        token->healing = true;
    }
    council.config.quorum = 2;
    council.config.request_timeout = 5000;
    if (keystore_open(&council.config, NULL, &council.keystore, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
    council.ops = &custody_keystore_ops;
    if (council_open(&council) != ERR_OK)
        fail_msg("%s", council.detail.text);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    custody_free(council.custody);
    council.custody = NULL;
    keystore_close(council.keystore);
    council_teardown(&council);
    softhsm_teardown(&hsm);
    return 0;
}

static void do_with(struct act act, const char *attachment, json_t **result)
{
    if (council_do_with(&council, &act, attachment, result) != ERR_OK)
        fail_msg("%s: %s", act_kind_name(act.kind), council.detail.text);
}

static void do_act(enum act_kind kind, const char *name)
{
    do_with((struct act){.kind = kind, .name = bytes_of_text(name)}, NULL, NULL);
}

static const char *token_state(size_t index)
{
    static char state[32];
    json_t *status = council_read(&council, COUNCIL_AUDITOR, READ_STATUS, "");
    json_t *token = json_array_get(json_object_get(status, "tokens"), index);
    snprintf(state, sizeof state, "%s", json_string_value(json_object_get(token, "state")));
    json_decref(status);
    return state;
}

static size_t objects(const char *token)
{
    json_t *read = council_read(&council, COUNCIL_AUDITOR, READ_OBJECTS, token);
    size_t count = json_array_size(read);
    assert_non_null(read);
    json_decref(read);
    return count;
}

// Signs with the key that the registry of the moment has, and verifies.
static void assert_signs(const char *name)
{
    uint8_t digest[32] = {7};
    uint8_t signature[TOKEN_SIGNATURE_MAX];
    size_t len = 0;
    struct detail detail = {0};
    const struct registry *registry = live_take(council.live);
    const struct registry_key *key = registry_key_by_name(registry, bytes_of_text(name));
    assert_non_null(key);
    assert_non_null(key->store);
    const struct token_key_info *info = keystore_token_ops.describe(key->store);
    enum token_scheme scheme = info->type == TOKEN_KEY_RSA ? TOKEN_RSA_PKCS1 : TOKEN_ECDSA;
    if (keystore_token_ops.sign(key->store, KEYSTORE_ANY, scheme, HASH_SHA256, 0,
                                bytes_of(digest, sizeof digest), deadline_in(10000), signature,
                                &len, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
    const uint8_t *at = info->public_key.data;
    EVP_PKEY *pkey = d2i_PUBKEY(NULL, &at, (long)info->public_key.len);
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(pkey, NULL);
    assert_int_equal(EVP_PKEY_verify_init(context), 1);
    assert_int_equal(EVP_PKEY_CTX_set_signature_md(context, EVP_sha256()), 1);
    assert_int_equal(EVP_PKEY_verify(context, signature, len, digest, sizeof digest), 1);
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_free(pkey);
    live_give(council.live, registry);
}

static void test_ceremony(void **state)
{
    (void)state;
    struct act make = {.kind = ACT_KEY_GENERATE,
                       .name = BYTES_LITERAL("signing"),
                       .tokens = BYTES_LITERAL("main"),
                       .type = WIRE_KEY_RSA,
                       .bits = 2048,
                       .purpose = WIRE_SMIME_SIGN,
                       .algorithms = REGISTRY_ALL};
    struct act unlock = {.kind = ACT_UNLOCK, .name = BYTES_LITERAL("main")};
    json_t *result = NULL;
    assert_string_equal(token_state(0), "locked");
    assert_int_equal(council_do(&council, &make), ERR_TEMP);
    do_with(unlock, SOFTHSM_PIN, NULL);
    assert_string_equal(token_state(0), "ready");
    assert_string_equal(token_state(1), "locked");
    unlock.name = BYTES_LITERAL("spare");
    do_with(unlock, SOFTHSM_PIN, NULL);
    do_with(make, NULL, NULL);
    assert_int_equal(objects("main"), 1);
    assert_signs("signing");
    do_act(ACT_KEY_ENABLE, "signing");
    struct act request = {.kind = ACT_KEY_REQUEST,
                          .name = BYTES_LITERAL("signing"),
                          .common_name = BYTES_LITERAL("mail.example.org"),
                          .domains = BYTES_LITERAL("mail.example.org"),
                          .hash = HASH_SHA256};
    do_with(request, NULL, &result);
    const char *pem = json_string_value(json_object_get(result, "pem"));
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509_REQ *csr = PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL);
    assert_non_null(csr);
    assert_int_equal(X509_REQ_verify(csr, X509_REQ_get0_pubkey(csr)), 1);
    X509_REQ_free(csr);
    BIO_free(bio);
    json_decref(result);
    json_t *keys = council_read(&council, COUNCIL_AUDITOR, READ_KEYS, "signing");
    json_t *item = json_array_get(keys, 0);
    assert_string_equal(json_string_value(json_object_get(item, "type")), "rsa:2048");
    assert_true(json_is_false(json_object_get(item, "extractable")));
    assert_true(json_is_true(json_object_get(item, "always_sensitive")));
    assert_true(
        json_is_true(json_object_get(json_array_get(json_object_get(item, "places"), 0), "open")));
    json_decref(keys);
    do_act(ACT_KEY_DISABLE, "signing");
    do_act(ACT_KEY_DESTROY, "signing");
    assert_int_equal(objects("main"), 0);
}

// A key of Ed25519 from its making to its end; the certificate is signed in the token.
static void test_ed25519(void **state)
{
    (void)state;
    const struct act make = {.kind = ACT_KEY_GENERATE,
                             .name = BYTES_LITERAL("edwards"),
                             .tokens = BYTES_LITERAL("main"),
                             .type = WIRE_KEY_ED25519,
                             .bits = 256,
                             .purpose = WIRE_SMIME_SIGN,
                             .algorithms = REGISTRY_ALL};
    const struct act self_sign = {.kind = ACT_KEY_SELF_SIGN,
                                  .name = BYTES_LITERAL("edwards"),
                                  .common_name = BYTES_LITERAL("mail.example.org"),
                                  .domains = BYTES_LITERAL("mail.example.org"),
                                  .hash = HASH_SHA256,
                                  .days = 30};
    json_t *result = NULL;
    do_with(make, NULL, NULL);
    assert_int_equal(objects("main"), 1);
    do_act(ACT_KEY_ENABLE, "edwards");
    do_with(self_sign, NULL, &result);
    BIO *bio = BIO_new_mem_buf(json_string_value(json_object_get(result, "pem")), -1);
    X509 *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    assert_non_null(certificate);
    assert_int_equal(X509_get_signature_nid(certificate), NID_ED25519);
    assert_int_equal(X509_verify(certificate, X509_get0_pubkey(certificate)), 1);
    X509_free(certificate);
    BIO_free(bio);
    json_decref(result);
    json_t *keys = council_read(&council, COUNCIL_AUDITOR, READ_KEYS, "edwards");
    json_t *item = json_array_get(keys, 0);
    assert_string_equal(json_string_value(json_object_get(item, "type")), "ed25519");
    assert_true(json_is_false(json_object_get(item, "extractable")));
    json_decref(keys);
    do_act(ACT_KEY_DISABLE, "edwards");
    do_act(ACT_KEY_DESTROY, "edwards");
    assert_int_equal(objects("main"), 0);
}

static void test_imported(void **state)
{
    (void)state;
    uint8_t pkcs8[4096];
    uint8_t public_key[1024];
    uint8_t *at = public_key;
    uint8_t *private_at = pkcs8;
    EVP_PKEY *pkey = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    int public_len = i2d_PUBKEY(pkey, &at);
    PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(pkey);
    int len = i2d_PKCS8_PRIV_KEY_INFO(info, &private_at);
    const struct act act = {.kind = ACT_KEY_IMPORT,
                            .name = BYTES_LITERAL("brought"),
                            .tokens = BYTES_LITERAL("main,spare"),
                            .purpose = WIRE_GENERAL,
                            .algorithms = REGISTRY_ALL,
                            .public_key = bytes_of(public_key, (size_t)public_len)};
    const struct council_proposal proposal = {.act = &act,
                                              .attached = bytes_of(pkcs8, (size_t)len)};
    uint64_t number = 0;
    json_t *body = NULL;
    // The second token is locked: nothing is left in the first one.
    do_act(ACT_LOCK, "spare");
    assert_int_equal(
        council_propose_as(&council, COUNCIL_ALICE, COUNCIL_ALICE, &proposal, &number, &body),
        ERR_OK);
    json_decref(body);
    assert_int_equal(council_approve(&council, COUNCIL_BOB, number), ERR_TEMP);
    assert_int_equal(objects("main"), 0);
    do_with((struct act){.kind = ACT_UNLOCK, .name = BYTES_LITERAL("spare")}, SOFTHSM_PIN, NULL);
    assert_int_equal(
        council_propose_as(&council, COUNCIL_ALICE, COUNCIL_ALICE, &proposal, &number, &body),
        ERR_OK);
    json_decref(body);
    if (council_approve(&council, COUNCIL_BOB, number) != ERR_OK)
        fail_msg("%s", council.detail.text);
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    body = council_read(&council, COUNCIL_ALICE, READ_PROPOSALS, text);
    assert_true(json_is_boolean(
        json_object_get(json_object_get(json_array_get(body, 0), "result"), "wrapped")));
    json_decref(body);
    assert_int_equal(objects("main"), 1);
    assert_int_equal(objects("spare"), 1);
    assert_signs("brought");
    // One place is destroyed by somebody else; the act finds the other, and ends it.
    const struct keystore_place place = {.token = "spare", .label = "brought"};
    struct detail detail = {0};
    assert_int_equal(
        keystore_destroy(council.keystore, &place, act.public_key, deadline_in(10000), &detail),
        ERR_OK);
    do_act(ACT_KEY_DESTROY, "brought");
    assert_int_equal(objects("main"), 0);
    PKCS8_PRIV_KEY_INFO_free(info);
    EVP_PKEY_free(pkey);
}

static void test_adopted(void **state)
{
    (void)state;
    softhsm_make_key(&hsm, &(struct softhsm_key){.label = "old", .id = 9, .kind = "P-256"});
    softhsm_make_key(
        &hsm, &(struct softhsm_key){
                  .label = "loose", .id = 10, .kind = "P-256", .flags = SOFTHSM_EXTRACTABLE});
    struct act adopt = {.kind = ACT_KEY_ADOPT,
                        .name = BYTES_LITERAL("kept"),
                        .tokens = BYTES_LITERAL("main"),
                        .label = BYTES_LITERAL("old"),
                        .purpose = WIRE_SMIME_SIGN,
                        .algorithms = REGISTRY_ALL};
    do_with(adopt, NULL, NULL);
    assert_signs("kept");
    adopt.name = BYTES_LITERAL("twin");
    assert_int_equal(council_do(&council, &adopt), ERR_PERM);
    adopt.label = BYTES_LITERAL("loose"); // promise 1
    assert_int_equal(council_do(&council, &adopt), ERR_PERM);
    do_act(ACT_LOCK, "main");
    assert_string_equal(token_state(0), "locked");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ceremony),
        cmocka_unit_test(test_ed25519),
        cmocka_unit_test(test_imported),
        cmocka_unit_test(test_adopted),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
