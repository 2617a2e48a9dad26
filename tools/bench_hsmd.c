// SPDX-License-Identifier: Apache-2.0
// The half of a measurement that goes through hsmd.so and hsmd, as any OpenSSL program does: EVP
// with a key called hsmd:NAME, a context of its own for every operation.
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/store.h>

#include "tools/bench_half.h"
#include "tools/bench_public.h"

#define HASH "SHA256"
#define HASH_SIZE BENCH_DIGEST_SIZE

static OSSL_LIB_CTX *libctx;
static EVP_PKEY *key;
static EVP_PKEY *public_key; // the same, without hsmd.so
static const char *hash;     // NULL: the key signs messages, without one

struct caller {
    enum bench_operation operation;
    bool is_message; // not a digest is signed: Ed25519, or the key signs SignedAttributes alone
    unsigned char input[BENCH_BYTES_MAX];
    size_t input_len;
    unsigned char secret[BENCH_SECRET_SIZE]; // what is to come out of unwrap and agree
    EVP_PKEY *peer;                          // of agree: its public half, as hsmd.so has it
    unsigned char output[BENCH_BYTES_MAX];
    size_t output_len;
};

static bool is_unwrap(enum bench_operation operation)
{
    return operation == BENCH_UNWRAP || operation == BENCH_UNWRAP_OAEP;
}

static bool fail(const char *what)
{
    fprintf(stderr, "hsmbench-hsmd: %s\n", what);
    ERR_print_errors_fp(stderr);
    return false;
}

static EVP_PKEY_CTX *context_new(void)
{
    return EVP_PKEY_CTX_new_from_pkey(libctx, key, NULL);
}

static bool sign_digest(struct caller *caller)
{
    EVP_PKEY_CTX *context = context_new();
    caller->output_len = sizeof caller->output;
    bool ok =
        context && EVP_PKEY_sign_init(context) > 0 &&
        bench_set_padding(context, caller->operation) &&
        EVP_PKEY_CTX_set_signature_md(context, EVP_sha256()) > 0 &&
        EVP_PKEY_sign(context, caller->output, &caller->output_len, caller->input, HASH_SIZE) > 0;
    EVP_PKEY_CTX_free(context);
    return ok;
}

static bool sign_message(struct caller *caller)
{
    EVP_PKEY_CTX *padding = NULL; // the context's
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    caller->output_len = sizeof caller->output;
    bool ok = context &&
              EVP_DigestSignInit_ex(context, &padding, hash, libctx, NULL, key, NULL) > 0 &&
              bench_set_padding(padding, caller->operation) &&
              EVP_DigestSign(context, caller->output, &caller->output_len, caller->input,
                             caller->input_len) > 0;
    EVP_MD_CTX_free(context);
    return ok;
}

static bool is_secret(const struct caller *caller)
{
    return (caller->output_len == sizeof caller->secret &&
            memcmp(caller->output, caller->secret, sizeof caller->secret) == 0) ||
           fail("what comes out does not fit the public half of the key");
}

static bool unwrap(struct caller *caller)
{
    EVP_PKEY_CTX *context = context_new();
    caller->output_len = sizeof caller->output;
    bool ok = context && EVP_PKEY_decrypt_init(context) > 0 &&
              bench_set_padding(context, caller->operation) &&
              EVP_PKEY_decrypt(context, caller->output, &caller->output_len, caller->input,
                               caller->input_len) > 0 &&
              is_secret(caller);
    EVP_PKEY_CTX_free(context);
    return ok;
}

static bool agree(struct caller *caller)
{
    EVP_PKEY_CTX *context = context_new();
    caller->output_len = sizeof caller->output;
    bool ok = context && EVP_PKEY_derive_init(context) > 0 && bench_set_kdf(context) &&
              EVP_PKEY_derive_set_peer(context, caller->peer) > 0 &&
              EVP_PKEY_derive(context, caller->output, &caller->output_len) > 0 &&
              is_secret(caller);
    EVP_PKEY_CTX_free(context);
    return ok;
}

static bool do_once(struct caller *caller)
{
    if (is_unwrap(caller->operation))
        return unwrap(caller);
    if (caller->operation == BENCH_AGREE)
        return agree(caller);
    return caller->is_message ? sign_message(caller) : sign_digest(caller);
}

static bool once(void *argument)
{
    struct caller *caller = argument;
    if (do_once(caller))
        return true;
    caller->output_len = 0;
    return fail("an operation failed");
}

static bool make_ciphertext(struct caller *caller)
{
    caller->input_len = sizeof caller->input;
    return bench_public_encrypt(public_key, caller->operation, caller->secret, caller->input,
                                &caller->input_len) ||
           fail("cannot encrypt");
}

// As CMS makes it: the key's parameters, and a point.
static bool make_peer(struct caller *caller)
{
    unsigned char *point = NULL;
    EVP_PKEY *peer = bench_public_peer(public_key);
    size_t len = peer ? EVP_PKEY_get1_encoded_public_key(peer, &point) : 0;
    size_t secret_len = sizeof caller->secret;
    caller->peer = EVP_PKEY_new();
    bool ok = len > 0 && caller->peer && EVP_PKEY_copy_parameters(caller->peer, key) > 0 &&
              EVP_PKEY_set1_encoded_public_key(caller->peer, point, len) > 0 &&
              bench_public_agree(peer, public_key, true, caller->secret, &secret_len);
    OPENSSL_free(point);
    EVP_PKEY_free(peer);
    return ok || fail("no peer's key can be made");
}

// Content-type (id-data) and message-digest, DER (RFC 5652, 11.1 and 11.2), for keys that sign
// nothing else; without them the key is of purpose general.
static void make_attributes(struct caller *caller)
{
    static const unsigned char head[] = {
        0x31, 0x4b, 0x30, 0x18, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03,
        0x31, 0x0b, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01, 0x30, 0x2f,
        0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04, 0x31, 0x22, 0x04, 0x20};
    memmove(caller->input + sizeof head, caller->input, HASH_SIZE);
    memcpy(caller->input, head, sizeof head);
    caller->input_len = sizeof head + HASH_SIZE;
    caller->is_message = true;
}

// What is there, if anything, and then no more.
static bool is_right(struct caller *caller)
{
    unsigned char digest[HASH_SIZE];
    const unsigned char *data = caller->input;
    size_t len = caller->input_len, signature_len = caller->output_len;
    caller->output_len = 0;
    if (!signature_len || is_unwrap(caller->operation) || caller->operation == BENCH_AGREE)
        return true; // once looks at those
    if (caller->is_message && hash) {
        if (!EVP_Q_digest(NULL, HASH, NULL, data, len, digest, &len))
            return false;
        data = digest;
    }
    return bench_public_verify(public_key, caller->operation, data, len, caller->output,
                               signature_len) ||
           fail("a signature does not fit the public half of the key");
}

static bool open_sign(struct caller *caller)
{
    caller->input_len = HASH_SIZE;
    caller->is_message = !hash;
    bool ok = do_once(caller);
    if (!ok) {
        make_attributes(caller);
        ERR_set_mark();
        ok = sign_message(caller);
        ERR_pop_to_mark();
    }
    if (ok)
        ERR_clear_error();
    return (ok || fail("cannot sign")) && is_right(caller);
}

static bool close_caller(void *argument)
{
    struct caller *caller = argument;
    bool ok = is_right(caller);
    EVP_PKEY_free(caller->peer);
    free(caller);
    return ok;
}

static void *open_caller(const struct bench_half *half)
{
    struct caller *caller = calloc(1, sizeof *caller);
    if (!caller)
        return NULL;
    caller->operation = half->operation;
    bool ok = RAND_bytes(caller->input, HASH_SIZE) == 1 &&
              RAND_bytes(caller->secret, sizeof caller->secret) == 1;
    if (is_unwrap(half->operation))
        ok = ok && make_ciphertext(caller) && once(caller);
    else if (half->operation == BENCH_AGREE)
        ok = ok && make_peer(caller) && once(caller);
    else
        ok = ok && open_sign(caller);
    if (ok)
        return caller;
    caller->output_len = 0;
    close_caller(caller);
    return NULL;
}

static EVP_PKEY *load_key(const char *name)
{
    char uri[256];
    EVP_PKEY *found = NULL;
    snprintf(uri, sizeof uri, "hsmd:%s", name);
    OSSL_STORE_CTX *store = OSSL_STORE_open_ex(uri, libctx, NULL, NULL, NULL, NULL, NULL, NULL);
    while (store && !found && !OSSL_STORE_eof(store)) {
        OSSL_STORE_INFO *info = OSSL_STORE_load(store);
        if (info && OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_PKEY)
            found = OSSL_STORE_INFO_get1_PKEY(info);
        OSSL_STORE_INFO_free(info);
        if (!info)
            break;
    }
    OSSL_STORE_close(store);
    return found;
}

static int serve(struct bench_half *half, const char *conf, const char *name)
{
    libctx = OSSL_LIB_CTX_new();
    if (!libctx || !OSSL_LIB_CTX_load_config(libctx, conf))
        return fail("cannot load the configuration"), 1;
    if ((key = load_key(name)) == NULL)
        return fail("cannot find the key"), 1;
    if ((public_key = bench_public_of(key)) == NULL ||
        (half->spki = bench_public_hex(public_key)) == NULL)
        return fail("cannot read the key's public half"), 1;
    hash = bench_public_is(key, "ED25519") ? NULL : HASH;
    return bench_half_serve(half);
}

static int usage(void)
{
    fputs("usage: hsmbench-hsmd --conf OPENSSL.CNF --key NAME\n"
          "                     --op " BENCH_OPERATIONS_TEXT " [--callers N]\n",
          stderr);
    return 2;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"conf", required_argument, NULL, 'f'},
                                            {"key", required_argument, NULL, 'k'},
                                            {"op", required_argument, NULL, 'o'},
                                            {"callers", required_argument, NULL, 'c'},
                                            {NULL, 0, NULL, 0}};
    const char *conf = NULL, *name = NULL;
    int operation = -1;
    struct bench_half half = {
        .callers = 1, .open = open_caller, .once = once, .close = close_caller};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'f':
            conf = optarg;
            break;
        case 'k':
            name = optarg;
            break;
        case 'o':
            operation = bench_operation_by_name(optarg);
            break;
        case 'c':
            half.callers = bench_number(optarg, BENCH_CALLERS_MAX);
            break;
        default:
            return usage();
        }
    }
    if (!conf || !name || operation < 0 || optind != argc)
        return usage();
    half.operation = (enum bench_operation)operation;
    int status = serve(&half, conf, name);
    OPENSSL_free(half.spki);
    EVP_PKEY_free(public_key);
    EVP_PKEY_free(key);
    OSSL_LIB_CTX_free(libctx);
    return status;
}
