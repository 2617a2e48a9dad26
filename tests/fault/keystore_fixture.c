// SPDX-License-Identifier: Apache-2.0
#include "tests/fault/keystore_fixture.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/x509.h>

#include "hsmd/base/file.h"

#define CONTENT_KEY "thirty-two bytes of content key!"

struct store store;
static uint8_t digest[32];
static uint8_t wrapped[2][256]; // for shared, for single

static void copy_file(const char *from, const char *to)
{
    struct buf buf;
    buf_init(&buf, 64 << 20);
    assert_int_equal(file_read(from, &buf, NULL), ERR_OK);
    assert_int_equal(file_write(to, buf_bytes(&buf), 0700, NULL), ERR_OK);
    buf_clear(&buf);
}

void store_choose(int argc, char **argv)
{
    store.is_one_module = argc > 1 && strcmp(argv[1], "slots") == 0;
}

int store_begin(void **state)
{
    (void)state;
    uint8_t *der = NULL;
    softhsm_setup(&store.hsm, "left");
    softhsm_add_token(&store.hsm, "right");
    store.pkey = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
    store.single_pkey = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
    softhsm_import_key(&store.hsm, &(struct softhsm_key){.label = "shared", .id = 1}, store.pkey);
    softhsm_import_key(&store.hsm,
                       &(struct softhsm_key){.label = "shared", .id = 1, .token = "right"},
                       store.pkey);
    softhsm_import_key(&store.hsm, &(struct softhsm_key){.label = "single", .id = 2},
                       store.single_pkey);
    int len = i2d_PUBKEY(store.pkey, &der);
    store.public_key = bytes_of(der, (size_t)len);
    if (store.is_one_module) {
        snprintf(store.right_module, sizeof store.right_module, "%s", SHIM_PATH);
        shim_only_token("left");
    } else { // of its own, since SoftHSM's state is the module's
        snprintf(store.right_module, sizeof store.right_module, "%s/right.so", store.hsm.dir);
        copy_file(softhsm_module(), store.right_module);
    }
    snprintf(store.pin_file, sizeof store.pin_file, "%s/pin", store.hsm.dir);
    assert_int_equal(file_write(store.pin_file, BYTES_LITERAL(SOFTHSM_PIN), 0400, NULL), ERR_OK);
    setenv("SHIM_MODULE", softhsm_module(), 1);
    assert_int_equal(secret_init(&store.pin, 16, NULL), ERR_OK);
    assert_int_equal(secret_set(&store.pin, SOFTHSM_PIN, strlen(SOFTHSM_PIN)), ERR_OK);
    assert_int_equal(secret_init(&store.wrong_pin, 16, NULL), ERR_OK);
    assert_int_equal(secret_set(&store.wrong_pin, "99999", 5), ERR_OK);
    EVP_PKEY *pkeys[] = {store.pkey, store.single_pkey};
    for (int i = 0; i < 2; i++)
        assert_int_equal(fixture_encrypt(pkeys[i], HASH_NONE, HASH_NONE, bytes_of(NULL, 0),
                                         BYTES_LITERAL(CONTENT_KEY), wrapped[i], 256),
                         256);
    memset(digest, 0x5a, sizeof digest);
    return 0;
}

int store_end(void **state)
{
    (void)state;
    shim_reset();
    store_close();
    secret_clear(&store.pin);
    secret_clear(&store.wrong_pin);
    EVP_PKEY_free(store.pkey);
    EVP_PKEY_free(store.single_pkey);
    OPENSSL_free((void *)store.public_key.data);
    softhsm_teardown(&store.hsm);
    return 0;
}

static pthread_mutex_t reasons_lock = PTHREAD_MUTEX_INITIALIZER;
static char reasons[2][sizeof(struct detail)];

void store_reason(unsigned token, struct detail *reason)
{
    pthread_mutex_lock(&reasons_lock);
    snprintf(reason->text, sizeof reason->text, "%s", reasons[token]);
    pthread_mutex_unlock(&reasons_lock);
}

static void count_event(void *context, enum keystore_event event, const char *token,
                        const char *reason)
{
    (void)context;
    if (event == KEYSTORE_TOKEN_UNLOCKED)
        return;
    if (event == KEYSTORE_TOKEN_LOST) {
        pthread_mutex_lock(&reasons_lock);
        snprintf(reasons[strcmp(token, "left") ? RIGHT : LEFT], sizeof reasons[0], "%s", reason);
        pthread_mutex_unlock(&reasons_lock);
    }
    if (event == KEYSTORE_TOKEN_LOST)
        atomic_fetch_add(&store.lost_of_all, 1);
    if (strcmp(token, "left") != 0)
        return;
    atomic_fetch_add(event == KEYSTORE_TOKEN_LOST ? &store.lost : &store.back, 1);
}

static void configure(bool has_pin, bool healing, unsigned sessions)
{
    store.tokens[LEFT] = (struct config_token){.name = "left",
                                               .module = SHIM_PATH,
                                               .label = "left",
                                               .sessions = sessions,
                                               .healing = healing,
                                               .copy_keys = true,
                                               .pin_file = has_pin ? store.pin_file : NULL};
    store.tokens[RIGHT] = store.tokens[LEFT];
    store.tokens[RIGHT].name = store.tokens[RIGHT].label = "right";
    store.config = (struct config){.tokens = store.tokens, .token_count = 2};
}

static void open_configured(void)
{
    static const struct keystore_place places[] = {{.token = "left", .label = "shared"},
                                                   {.token = "right", .label = "shared"}};
    static const struct keystore_place place = {.token = "left", .label = "single"};
    struct detail detail = {0};
    assert_ok(keystore_open(&store.config, NULL, &store.keystore, &detail), &detail);
    atomic_store(&store.lost, 0);
    atomic_store(&store.lost_of_all, 0);
    atomic_store(&store.back, 0);
    keystore_on_event(store.keystore, count_event, NULL);
    assert_ok(keystore_add_key(store.keystore, "shared", WIRE_GENERAL, store.public_key, places, 2,
                               &store.shared, &detail),
              &detail);
    assert_ok(keystore_add_key(store.keystore, "single", WIRE_GENERAL, bytes_of(NULL, 0), &place, 1,
                               &store.single, &detail),
              &detail);
}

void store_open(bool has_pin, bool healing, unsigned sessions)
{
    configure(has_pin, healing, sessions);
    store.tokens[RIGHT].module = store.right_module;
    open_configured();
}

void store_open_together(void)
{
    configure(true, true, 2);
    open_configured();
}

void store_close(void)
{
    keystore_close(store.keystore);
    store.keystore = NULL;
}

enum err store_sign(struct keystore_key *key, unsigned token, unsigned patience_ms, bool *right,
                    struct detail *detail)
{
    uint8_t signature[TOKEN_SIGNATURE_MAX];
    size_t len = 0;
    struct bytes hashed = bytes_of(digest, sizeof digest);
    enum err err = keystore_token_ops.sign(key, token, TOKEN_RSA_PKCS1, HASH_SHA256, 0, hashed,
                                           deadline_in(patience_ms), signature, &len, detail);
    *right = err == ERR_OK &&
             fixture_verify(key == store.single ? store.single_pkey : store.pkey, TOKEN_RSA_PKCS1,
                            HASH_SHA256, 0, hashed, bytes_of(signature, len));
    return err;
}

enum err store_unwrap(struct keystore_key *key, unsigned token, unsigned patience_ms,
                      struct secret *out, bool *right, struct detail *detail)
{
    const struct token_padding padding = {.length = strlen(CONTENT_KEY)};
    enum err err =
        keystore_token_ops.unwrap(key, token, &padding, bytes_of(wrapped[key == store.single], 256),
                                  deadline_in(patience_ms), out, detail);
    *right =
        err == ERR_OK && bytes_equal(bytes_of(out->data, out->len), BYTES_LITERAL(CONTENT_KEY));
    return err;
}

void store_works(struct keystore_key *key, unsigned token)
{
    struct detail detail = {0};
    bool right = false;
    assert_ok(store_sign(key, token, 20000, &right, &detail), &detail);
    assert_true(right);
}

enum token_state store_state(unsigned token)
{
    struct keystore_status status;
    assert_true(keystore_get_status(store.keystore, token, &status));
    return status.token.state;
}

// What is picked when none is well does not count.
static bool is_well(unsigned token)
{
    return keystore_key_is_open(store.shared, token) && store_state(token) == TOKEN_READY;
}

unsigned store_heals(unsigned token)
{
    deadline_t began = clock_ms();
    unsigned outstanding[2] = {1, 1};
    outstanding[token] = 0;
    while (!is_well(token) || keystore_token_ops.pick(store.shared, outstanding) != token) {
        if (clock_ms() - began > RECOVERY_MS) {
            struct keystore_status status;
            assert_true(keystore_get_status(store.keystore, token, &status));
            fail_msg("%s is not well again: %s, %u keys missing, %s", status.name,
                     token_state_name(status.token.state), status.keys_missing, status.token.error);
        }
        fault_rest(5);
    }
    return (unsigned)(clock_ms() - began);
}
