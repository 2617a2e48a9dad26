// SPDX-License-Identifier: Apache-2.0
// hsmd itself with a token of any maker: keys made in it, named in hsmd.conf, migrated into the
// registry, and used by a client: each operation that the token offers. With "prepare DIR" it makes
// keys and hsmd.conf alone, for provider_token.sh.
#include "tests/token/any_cases.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "hsmd/base/file.h"
#include "hsmd/kdf.h"
#include "tests/integration/hsmd_process.h"
#include "tests/support/custodian.h"

#define SEEN_MS 120000 // for a key to be seen, on a machine that has much else to do

static struct hsmd hsmd;
static struct client *client;
static struct buf frame;

// The keys by what is done with them. RSA for both usages: there are tokens that cannot sign with a
// key that is for signing alone.
enum { SIGNING, DECRYPTION, AGREEMENT, EC_SIGNING, EDWARDS, GENERAL, KEYS };
static const struct {
    const char *name, *purpose, *operations;
    enum token_key_type type;
    unsigned bits, usage;
} rows[KEYS] = {
    [SIGNING] = {"signing", "smime-sign", "sign", RSA, 2048, SIGN | DECRYPT},
    [DECRYPTION] = {"decryption", "smime-decrypt", "unwrap", RSA, 2048, SIGN | DECRYPT},
    [AGREEMENT] = {"agreement", "smime-decrypt", "agree", EC, 256, DERIVE},
    [EC_SIGNING] = {"ec-signing", "smime-sign", "sign", EC, 256, SIGN},
    [EDWARDS] = {"edwards", "general", "sign", ED25519, 256, SIGN},
    [GENERAL] = {"general", "general", "sign, unwrap", RSA, 2048, SIGN | DECRYPT},
};
static EVP_PKEY *public_keys[KEYS]; // NULL: the token cannot do it
static char reasons[KEYS][100];     // why not

static void make_keys(void)
{
    any_begin(2);
    for (unsigned i = 0; i < KEYS; i++) {
        struct detail detail = {0};
        struct token_key *key = NULL;
        const struct row row = {rows[i].name, NULL, rows[i].type, rows[i].bits, rows[i].usage, 0, 0,
                                NULL,         0};
        const struct token_key_wish wish =
            officer_wish(rows[i].name, rows[i].name, rows[i].type, rows[i].bits, rows[i].usage);
        if (says_it_cannot_generate(&row, reasons[i], sizeof reasons[i]))
            continue;
        assert_ok(token_key_generate(fixture.token, &wish, OFFICER_PATIENCE, &detail), &detail);
        assert_ok(token_key_open(fixture.token, wish.label, wish.id, &key, &detail), &detail);
        struct bytes spki = token_key_describe(key)->public_key;
        const unsigned char *at = spki.data;
        public_keys[i] = d2i_PUBKEY(NULL, &at, (long)spki.len);
        assert_non_null(public_keys[i]);
        token_key_close(key);
    }
    any_end();
}

static void configure(void)
{
    char text[4096], init_args[1200] = "";
    struct detail detail = {0};
    if (*getenv("TOKEN_INIT_ARGS"))
        snprintf(init_args, sizeof init_args, "init-args = \"%s\"", getenv("TOKEN_INIT_ARGS"));
    snprintf(text, sizeof text,
             "listen = { \"%s\" }\nserver-key-file = \"server.key\"\nstate-directory = \"state\"\n"
             "token main { module = \"%s\" label = \"%s\" pin-file = \"%s\" sessions = 2 %s }\n"
             "client gateway { public-key-file = \"gw.pub\" }\n",
             hsmd.endpoint, getenv("TOKEN_MODULE"), getenv("TOKEN_LABEL"), getenv("TOKEN_PIN_FILE"),
             init_args);
    for (unsigned i = 0; i < KEYS; i++) {
        size_t len = strlen(text);
        const char *name = rows[i].name;
        if (public_keys[i])
            snprintf(text + len, sizeof text - len,
                     "key %s { token = main label = \"%s\" purpose = %s }\n"
                     "grant { client = gateway key = %s operations = { %s } }\n",
                     name, name, rows[i].purpose, name, rows[i].operations);
    }
    assert_ok(file_write(hsmd_path(&hsmd, "hsmd.conf"), bytes_of_text(text), 0600, &detail),
              &detail);
}

// hsmd does not wait long for a token: it serves before a slow one has shown all its keys.
static void wait_seen(unsigned key)
{
    struct wire_request request = {.operation = WIRE_DESCRIBE,
                                   .describe = {.key = bytes_of_text(rows[key].name)}};
    struct wire_reply reply;
    struct detail detail = {0};
    deadline_t until = deadline_in(SEEN_MS);
    enum err err = client_call(client, &request, &frame, &reply, &detail);
    for (; err == ERR_TEMP && !deadline_is_past(until); usleep(100000)) {
        buf_reset(&frame);
        err = client_call(client, &request, &frame, &reply, &detail);
    }
    assert_ok(err, &detail);
}

static int begin(void **state)
{
    (void)state;
    char output[2000];
    static const char *const pairs[] = {"server", "gw"};
    make_keys();
    snprintf(hsmd.dir, sizeof hsmd.dir, "/tmp/hsmd-any-XXXXXX");
    assert_non_null(mkdtemp(hsmd.dir));
    snprintf(hsmd.endpoint, sizeof hsmd.endpoint, "ipc://%s/data.sock", hsmd.dir);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(
            hsmd_run(&hsmd, output, sizeof output, "keygen", hsmd_path(&hsmd, pairs[i]), NULL), 0);
    configure();
    if (hsmd_run(&hsmd, output, sizeof output, "-c", hsmd_path(&hsmd, "hsmd.conf"), "migrate",
                 NULL) != 0)
        fail_msg("hsmd migrate: %s", output);
    buf_init(&frame, WIRE_FRAME_MAX);
    hsmd_serve(&hsmd);
    client = hsmd_client(&hsmd, "gw", 20000);
    for (unsigned i = 0; i < KEYS; i++) {
        if (public_keys[i])
            wait_seen(i);
    }
    return 0;
}

static int end(void **state)
{
    (void)state;
    char command[120];
    client_close(client);
    buf_clear(&frame);
    int status = hsmd.pid ? hsmd_stop(&hsmd, SIGTERM) : 1;
    snprintf(command, sizeof command, "rm -rf '%s'", hsmd.dir);
    assert_int_equal(system(command), 0); // NOLINT: our own mkdtemp's name
    for (unsigned i = 0; i < KEYS; i++)
        EVP_PKEY_free(public_keys[i]);
    return status;
}

// False: the token cannot, which TOKENS.md says too.
static bool has_key(unsigned key)
{
    if (!public_keys[key])
        print_message("%s: %s\n", rows[key].name, reasons[key]);
    return public_keys[key];
}

static void ask(struct wire_request *request, struct wire_reply *reply)
{
    struct detail detail = {0};
    buf_reset(&frame);
    enum err err = client_call(client, request, &frame, reply, &detail);
    if (err != ERR_OK)
        (void)hsmd_said(&hsmd, "tell me what happened");
    assert_ok(err, &detail);
}

// salt: 0: not PSS.
static void check_signature(unsigned key, unsigned salt, struct bytes data, struct bytes signature)
{
    EVP_PKEY_CTX *of_key = NULL;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    const EVP_MD *md = key == EDWARDS ? NULL : EVP_sha256();
    assert_int_equal(EVP_DigestVerifyInit(ctx, &of_key, md, NULL, public_keys[key]), 1);
    if (salt) {
        assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(of_key, RSA_PKCS1_PSS_PADDING), 1);
        assert_int_equal(EVP_PKEY_CTX_set_rsa_pss_saltlen(of_key, (int)salt), 1);
    }
    assert_int_equal(EVP_DigestVerify(ctx, signature.data, signature.len, data.data, data.len), 1);
    EVP_MD_CTX_free(ctx);
}

static void signs(void **state)
{
    (void)state;
    static const struct {
        unsigned key;
        enum wire_algorithm algorithm;
        unsigned salt;
    } ways[] = {
        {SIGNING, WIRE_RSA_PKCS1, 0}, {SIGNING, WIRE_RSA_PSS, 32}, {EC_SIGNING, WIRE_ECDSA, 0}};
    struct buf attributes;
    buf_init(&attributes, 4096);
    custodian_attributes(HASH_SHA256, &attributes);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        unsigned key = ways[i].key;
        struct wire_reply reply;
        struct wire_request request = {.operation = WIRE_SIGN,
                                       .sign = {.key = bytes_of_text(rows[key].name),
                                                .algorithm = ways[i].algorithm,
                                                .hash = HASH_SHA256,
                                                .salt = ways[i].salt,
                                                .form = WIRE_ATTRIBUTES,
                                                .data = buf_bytes(&attributes)}};
        if (!has_key(key))
            continue;
        ask(&request, &reply);
        check_signature(key, ways[i].salt, buf_bytes(&attributes), reply.signature);
    }
    buf_clear(&attributes);
}

static void signs_with_ed25519(void **state)
{
    (void)state;
    struct wire_reply reply;
    struct bytes message = BYTES_LITERAL("a message, not its digest");
    struct wire_request request = {.operation = WIRE_SIGN,
                                   .sign = {.key = BYTES_LITERAL("edwards"),
                                            .algorithm = WIRE_EDDSA,
                                            .hash = HASH_NONE,
                                            .form = WIRE_MESSAGE,
                                            .data = message}};
    if (!has_key(EDWARDS))
        return;
    ask(&request, &reply);
    check_signature(EDWARDS, 0, message, reply.signature);
}

static void unwraps(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum wire_algorithm algorithm;
        enum hash hash, mgf_hash;
    } ways[] = {
        {"v1.5", WIRE_RSAES_PKCS1, HASH_NONE, HASH_NONE},
        {"OAEP SHA-1", WIRE_RSAES_OAEP, HASH_SHA1, HASH_SHA1},
        {"OAEP SHA-256", WIRE_RSAES_OAEP, HASH_SHA256, HASH_SHA256},
        {"OAEP SHA-512, MGF SHA-1", WIRE_RSAES_OAEP, HASH_SHA512, HASH_SHA1},
    };
    struct bytes secret = BYTES_LITERAL("thirty-two bytes of content key!");
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        uint8_t wrapped[256];
        struct wire_reply reply;
        bool is_oaep = ways[i].algorithm == WIRE_RSAES_OAEP;
        size_t len = fixture_encrypt(public_keys[DECRYPTION], ways[i].hash, ways[i].mgf_hash,
                                     bytes_of(NULL, 0), secret, wrapped, sizeof wrapped);
        struct wire_request request = {.operation = WIRE_UNWRAP,
                                       .unwrap = {.key = BYTES_LITERAL("decryption"),
                                                  .algorithm = ways[i].algorithm,
                                                  .hash = ways[i].hash,
                                                  .mgf_hash = ways[i].mgf_hash,
                                                  .length = is_oaep ? 0 : (unsigned)secret.len,
                                                  .ciphertext = bytes_of(wrapped, len)}};
        ask(&request, &reply);
        if (!bytes_equal(reply.unwrapped.secret, secret))
            fail_msg("%s: another secret", ways[i].name);
    }
}

static void agrees(void **state)
{
    (void)state;
    uint8_t point[200], z[100];
    struct wire_reply reply;
    struct secret expected = {0};
    if (!has_key(AGREEMENT))
        return;
    EVP_PKEY *peer = EVP_EC_gen("P-256");
    struct bytes shared = bytes_of(z, fixture_derive(peer, public_keys[AGREEMENT], z, sizeof z));
    struct wire_request request = {
        .operation = WIRE_AGREE,
        .agree = {.key = BYTES_LITERAL("agreement"),
                  .algorithm = WIRE_ECDH_X963,
                  .hash = HASH_SHA256,
                  .peer = bytes_of(point, fixture_point(peer, point, sizeof point)),
                  .info = BYTES_LITERAL("shared info"),
                  .length = 32}};
    ask(&request, &reply);
    assert_int_equal(secret_init(&expected, 32, NULL), ERR_OK);
    assert_int_equal(kdf_x963(HASH_SHA256, shared, request.agree.info, 32, &expected), ERR_OK);
    assert_true(bytes_equal(reply.secret, bytes_of(expected.data, expected.len)));
    secret_clear(&expected);
    EVP_PKEY_free(peer);
}

// What provider_token.sh needs to start a hsmd of its own in dir: hsmd.conf, and of each key the
// public half, NAME.pub, or why the token cannot have it, NAME.cannot.
static int prepare(const char *dir)
{
    make_keys();
    snprintf(hsmd.dir, sizeof hsmd.dir, "%s", dir);
    snprintf(hsmd.endpoint, sizeof hsmd.endpoint, "ipc://%s/sock", dir);
    configure();
    for (unsigned i = 0; i < KEYS; i++) {
        char name[40];
        snprintf(name, sizeof name, "%s.%s", rows[i].name, public_keys[i] ? "pub" : "cannot");
        FILE *file = fopen(hsmd_path(&hsmd, name), "w");
        assert_non_null(file);
        if (public_keys[i])
            assert_int_equal(PEM_write_PUBKEY(file, public_keys[i]), 1);
        else
            fprintf(file, "%s\n", reasons[i]);
        assert_int_equal(fclose(file), 0);
        EVP_PKEY_free(public_keys[i]);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "prepare") == 0)
        return prepare(argv[2]);
    const struct CMUnitTest tests[] = {cmocka_unit_test(signs),
                                       cmocka_unit_test(signs_with_ed25519),
                                       cmocka_unit_test(unwraps), cmocka_unit_test(agrees)};
    return cmocka_run_group_tests(tests, begin, end);
}
