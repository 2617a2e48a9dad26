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

#define BYTES_MAX 1024
#define HASH "SHA256"
#define HASH_SIZE 32

static OSSL_LIB_CTX *libctx;
static EVP_PKEY *key;

struct caller {
    enum bench_operation operation;
    bool is_attributes; // the key signs CMS SignedAttributes alone
    unsigned char input[BYTES_MAX];
    size_t input_len;
    unsigned char secret[BENCH_SECRET_SIZE]; // what is to come out of unwrap
    unsigned char output[BYTES_MAX];
    size_t output_len;
};

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
    const EVP_MD *hash = EVP_sha256();
    caller->output_len = sizeof caller->output;
    bool ok =
        context && EVP_PKEY_sign_init(context) > 0 &&
        EVP_PKEY_CTX_set_signature_md(context, hash) > 0 &&
        EVP_PKEY_sign(context, caller->output, &caller->output_len, caller->input, HASH_SIZE) > 0;
    EVP_PKEY_CTX_free(context);
    return ok;
}

static bool sign_attributes(struct caller *caller)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    caller->output_len = sizeof caller->output;
    bool ok = context && EVP_DigestSignInit_ex(context, NULL, HASH, libctx, NULL, key, NULL) > 0 &&
              EVP_DigestSign(context, caller->output, &caller->output_len, caller->input,
                             caller->input_len) > 0;
    EVP_MD_CTX_free(context);
    return ok;
}

static bool unwrap(struct caller *caller)
{
    EVP_PKEY_CTX *context = context_new();
    caller->output_len = sizeof caller->output;
    bool ok = context && EVP_PKEY_decrypt_init(context) > 0 &&
              EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) > 0 &&
              EVP_PKEY_decrypt(context, caller->output, &caller->output_len, caller->input,
                               caller->input_len) > 0 &&
              caller->output_len == sizeof caller->secret &&
              memcmp(caller->output, caller->secret, sizeof caller->secret) == 0;
    EVP_PKEY_CTX_free(context);
    return ok;
}

// With its own public half as the peer's, and the KDF that CMS uses.
static bool agree(struct caller *caller)
{
    EVP_PKEY_CTX *context = context_new();
    caller->output_len = sizeof caller->secret;
    bool ok = context && EVP_PKEY_derive_init(context) > 0 &&
              EVP_PKEY_CTX_set_ecdh_kdf_type(context, EVP_PKEY_ECDH_KDF_X9_63) > 0 &&
              EVP_PKEY_CTX_set_ecdh_kdf_md(context, EVP_sha256()) > 0 &&
              EVP_PKEY_CTX_set_ecdh_kdf_outlen(context, BENCH_SECRET_SIZE) > 0 &&
              EVP_PKEY_derive_set_peer(context, key) > 0 &&
              EVP_PKEY_derive(context, caller->output, &caller->output_len) > 0;
    EVP_PKEY_CTX_free(context);
    return ok;
}

static bool do_once(struct caller *caller)
{
    switch (caller->operation) {
    case BENCH_UNWRAP:
        return unwrap(caller);
    case BENCH_AGREE:
        return agree(caller);
    default:
        return caller->is_attributes ? sign_attributes(caller) : sign_digest(caller);
    }
}

static bool once(void *argument)
{
    return do_once(argument) || fail("an operation failed");
}

static bool make_ciphertext(struct caller *caller)
{
    EVP_PKEY_CTX *context = context_new();
    caller->input_len = sizeof caller->input;
    bool ok = context && EVP_PKEY_encrypt_init(context) > 0 &&
              EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) > 0 &&
              EVP_PKEY_encrypt(context, caller->input, &caller->input_len, caller->secret,
                               sizeof caller->secret) > 0;
    EVP_PKEY_CTX_free(context);
    return ok || fail("cannot encrypt");
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
    caller->is_attributes = true;
}

static bool is_signature(const struct caller *caller)
{
    unsigned char digest[HASH_SIZE];
    size_t len = 0;
    const unsigned char *signed_digest = caller->input;
    if (caller->is_attributes) {
        if (!EVP_Q_digest(NULL, HASH, NULL, caller->input, caller->input_len, digest, &len))
            return false;
        signed_digest = digest;
    }
    EVP_PKEY_CTX *context = context_new();
    bool ok =
        context && EVP_PKEY_verify_init(context) > 0 &&
        EVP_PKEY_CTX_set_signature_md(context, EVP_sha256()) > 0 &&
        EVP_PKEY_verify(context, caller->output, caller->output_len, signed_digest, HASH_SIZE) == 1;
    EVP_PKEY_CTX_free(context);
    return ok;
}

static bool open_sign(struct caller *caller)
{
    bool ok = sign_digest(caller);
    if (!ok) {
        make_attributes(caller);
        ERR_set_mark();
        ok = sign_attributes(caller);
        ERR_pop_to_mark();
    }
    return (ok || fail("cannot sign")) && (is_signature(caller) || fail("a wrong signature"));
}

static void *open_caller(const struct bench_half *half)
{
    struct caller *caller = calloc(1, sizeof *caller);
    if (!caller)
        return NULL;
    caller->operation = half->operation;
    bool ok = RAND_bytes(caller->input, HASH_SIZE) == 1 &&
              RAND_bytes(caller->secret, sizeof caller->secret) == 1;
    if (ok && half->operation == BENCH_UNWRAP)
        ok = make_ciphertext(caller);
    if (ok)
        ok = half->operation == BENCH_SIGN ? open_sign(caller) : once(caller);
    if (ok)
        return caller;
    free(caller);
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

static int usage(void)
{
    fputs(
        "usage: hsmbench-hsmd --conf OPENSSL.CNF --key NAME --op sign|unwrap|agree [--callers N]\n",
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
    struct bench_half half = {.callers = 1, .open = open_caller, .once = once, .close = free};
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
    libctx = OSSL_LIB_CTX_new();
    int status = 1;
    if (!libctx || !OSSL_LIB_CTX_load_config(libctx, conf))
        fail("cannot load the configuration");
    else if ((key = load_key(name)) == NULL)
        fail("cannot find the key");
    else
        status = bench_half_serve(&half);
    EVP_PKEY_free(key);
    OSSL_LIB_CTX_free(libctx);
    return status;
}
