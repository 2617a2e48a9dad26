// SPDX-License-Identifier: Apache-2.0
// hsmd itself with a token of any maker: a key made in it, named in hsmd.conf, migrated into the
// registry, and used by a client.
#include "tests/token/any.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "hsmd/base/file.h"
#include "tests/integration/hsmd_process.h"
#include "tests/support/custodian.h"
#include "tests/token/officer.h"

static struct hsmd hsmd;
static EVP_PKEY *public_key;

// For both usages: there are tokens that cannot sign with a key that is for signing alone.
static void make_key(void)
{
    struct detail detail = {0};
    struct token_key *key = NULL;
    const struct token_key_wish wish =
        officer_wish("through hsmd", "through hsmd", TOKEN_KEY_RSA, 2048, SIGN | DECRYPT);
    any_begin(2);
    assert_ok(token_key_generate(fixture.token, &wish, OFFICER_PATIENCE, &detail), &detail);
    assert_ok(token_key_open(fixture.token, wish.label, wish.id, &key, &detail), &detail);
    struct bytes spki = token_key_describe(key)->public_key;
    const unsigned char *at = spki.data;
    public_key = d2i_PUBKEY(NULL, &at, (long)spki.len);
    assert_non_null(public_key);
    token_key_close(key);
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
             "key signing { token = main label = \"through hsmd\" purpose = smime-sign }\n"
             "client gateway { public-key-file = \"gw.pub\" }\n"
             "grant { client = gateway key = signing operations = { sign } }\n",
             hsmd.endpoint, getenv("TOKEN_MODULE"), getenv("TOKEN_LABEL"), getenv("TOKEN_PIN_FILE"),
             init_args);
    assert_ok(file_write(hsmd_path(&hsmd, "hsmd.conf"), bytes_of_text(text), 0600, &detail),
              &detail);
}

static int begin(void **state)
{
    (void)state;
    char output[2000];
    static const char *const pairs[] = {"server", "gw"};
    make_key();
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
    return 0;
}

static int end(void **state)
{
    (void)state;
    char command[120];
    if (hsmd.pid)
        hsmd_stop(&hsmd, SIGKILL);
    snprintf(command, sizeof command, "rm -rf '%s'", hsmd.dir);
    assert_int_equal(system(command), 0); // NOLINT: our own mkdtemp's name
    EVP_PKEY_free(public_key);
    return 0;
}

static void signs_through_hsmd(void **state)
{
    (void)state;
    struct buf frame, attributes;
    struct wire_reply reply;
    struct detail detail = {0};
    buf_init(&frame, WIRE_FRAME_MAX);
    buf_init(&attributes, 4096);
    custodian_attributes(HASH_SHA256, &attributes);
    if (!hsmd_start(&hsmd, NULL))
        assert_true(hsmd_said(&hsmd, "READY"));
    struct client *client = hsmd_client(&hsmd, "gw", 20000);
    struct wire_request request = {.operation = WIRE_SIGN,
                                   .sign = {.key = BYTES_LITERAL("signing"),
                                            .algorithm = WIRE_RSA_PKCS1,
                                            .hash = HASH_SHA256,
                                            .form = WIRE_ATTRIBUTES,
                                            .data = buf_bytes(&attributes)}};
    assert_ok(client_call(client, &request, &frame, &reply, &detail), &detail);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, public_key), 1);
    assert_int_equal(EVP_DigestVerify(ctx, reply.signature.data, reply.signature.len,
                                      attributes.data, attributes.len),
                     1);
    EVP_MD_CTX_free(ctx);
    client_close(client);
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    buf_clear(&frame);
    buf_clear(&attributes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(signs_through_hsmd)};
    return cmocka_run_group_tests(tests, begin, end);
}
