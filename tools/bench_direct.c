// SPDX-License-Identifier: Apache-2.0
// The half of a measurement that calls a PKCS#11 module directly, as a program would that links it:
// a session for each caller, the key's handle found once, Init and the operation each time. A
// program of its own, since Cryptoki is to be in hsmd alone; it is for measuring, and holds the
// PIN only until it is logged in.
#include <dlfcn.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <p11-kit/pkcs11.h>

#include "tools/bench_half.h"

#define BYTES_MAX 1024 // of a signature, a modulus, a point

static CK_FUNCTION_LIST *module;
static CK_SLOT_ID slot;
static const char *token_label, *key_label;
static bool is_copied; // the key as a session object, which some tokens are faster with

struct caller {
    enum bench_operation operation;
    CK_SESSION_HANDLE session;
    CK_OBJECT_HANDLE key;
    CK_KEY_TYPE type;
    CK_BYTE input[BYTES_MAX]; // what is signed, unwrapped; the peer's point
    CK_ULONG input_len;
    CK_BYTE output[BYTES_MAX];
};

static bool check(CK_RV rv, const char *function)
{
    if (rv != CKR_OK)
        fprintf(stderr, "hsmbench-direct: %s: 0x%lx\n", function, rv);
    return rv == CKR_OK;
}

static bool fail(const char *text)
{
    fprintf(stderr, "hsmbench-direct: %s\n", text);
    return false;
}

static bool find(CK_SESSION_HANDLE session, CK_OBJECT_CLASS class, CK_OBJECT_HANDLE *object)
{
    CK_ATTRIBUTE match[] = {{CKA_CLASS, &class, sizeof class},
                            {CKA_LABEL, (void *)key_label, strlen(key_label)}};
    CK_ULONG count = 0;
    if (!check(module->C_FindObjectsInit(session, match, 2), "C_FindObjectsInit"))
        return false;
    CK_RV rv = module->C_FindObjects(session, object, 1, &count);
    module->C_FindObjectsFinal(session);
    return check(rv, "C_FindObjects") && (count == 1 || fail("no such key, or no public half"));
}

static bool get(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type,
                CK_BYTE *out, CK_ULONG *len)
{
    CK_ATTRIBUTE attribute = {type, out, BYTES_MAX};
    if (!check(module->C_GetAttributeValue(session, object, &attribute, 1), "C_GetAttributeValue"))
        return false;
    *len = attribute.ulValueLen;
    return true;
}

// A PKCS#1 v1.5 encryption (RFC 8017, 7.2.1) to the key's own public half.
static bool make_ciphertext(struct caller *caller)
{
    CK_BYTE n[BYTES_MAX], e[BYTES_MAX], block[BYTES_MAX];
    CK_ULONG n_len = 0, e_len = 0;
    CK_OBJECT_HANDLE public = 0;
    if (!find(caller->session, CKO_PUBLIC_KEY, &public) ||
        !get(caller->session, public, CKA_MODULUS, n, &n_len) ||
        !get(caller->session, public, CKA_PUBLIC_EXPONENT, e, &e_len))
        return false;
    memset(block, 0xa5, sizeof block);
    block[0] = 0;
    block[1] = 2;
    block[n_len - BENCH_SECRET_SIZE - 1] = 0;
    BN_CTX *context = BN_CTX_new();
    BIGNUM *m = BN_bin2bn(block, (int)n_len, NULL);
    BIGNUM *modulus = BN_bin2bn(n, (int)n_len, NULL);
    BIGNUM *exponent = BN_bin2bn(e, (int)e_len, NULL);
    bool ok = context && m && modulus && exponent && BN_mod_exp(m, m, exponent, modulus, context) &&
              BN_bn2binpad(m, caller->input, (int)n_len) > 0;
    caller->input_len = n_len;
    BN_free(m);
    BN_free(modulus);
    BN_free(exponent);
    BN_CTX_free(context);
    return ok || fail("cannot encrypt");
}

static bool make_input(struct caller *caller)
{
    static const CK_BYTE sha256_prefix[] = {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60,
                                            0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
                                            0x01, 0x05, 0x00, 0x04, 0x20};
    CK_OBJECT_HANDLE public = 0;
    size_t prefix = caller->type == CKK_RSA ? sizeof sha256_prefix : 0;
    switch (caller->operation) {
    case BENCH_UNWRAP:
        return caller->type == CKK_RSA ? make_ciphertext(caller) : fail("no key for unwrap");
    case BENCH_AGREE:
        return find(caller->session, CKO_PUBLIC_KEY, &public) &&
               get(caller->session, public, CKA_EC_POINT, caller->input, &caller->input_len);
    default:
        memcpy(caller->input, sha256_prefix, prefix);
        caller->input_len = prefix + 32;
        return RAND_bytes(caller->input + prefix, 32) == 1 || fail("no random numbers");
    }
}

static bool sign_once(struct caller *caller)
{
    CK_MECHANISM mechanism = {caller->type == CKK_RSA ? CKM_RSA_PKCS : CKM_ECDSA, NULL, 0};
    CK_ULONG len = sizeof caller->output;
    return check(module->C_SignInit(caller->session, &mechanism, caller->key), "C_SignInit") &&
           check(module->C_Sign(caller->session, caller->input, caller->input_len, caller->output,
                                &len),
                 "C_Sign");
}

static bool unwrap_once(struct caller *caller)
{
    CK_MECHANISM mechanism = {CKM_RSA_PKCS, NULL, 0};
    CK_ULONG len = sizeof caller->output;
    return check(module->C_DecryptInit(caller->session, &mechanism, caller->key),
                 "C_DecryptInit") &&
           check(module->C_Decrypt(caller->session, caller->input, caller->input_len,
                                   caller->output, &len),
                 "C_Decrypt") &&
           (len == BENCH_SECRET_SIZE || fail("decrypted something else"));
}

// The shared secret as a session object, read and destroyed.
static bool agree_once(struct caller *caller)
{
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_KEY_TYPE type = CKK_GENERIC_SECRET;
    CK_ULONG size = (caller->input_len - 3) / 2, len = 0;
    CK_OBJECT_HANDLE secret = 0;
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof class},   {CKA_KEY_TYPE, &type, sizeof type},
        {CKA_TOKEN, &no, sizeof no},         {CKA_SENSITIVE, &no, sizeof no},
        {CKA_EXTRACTABLE, &yes, sizeof yes}, {CKA_VALUE_LEN, &size, sizeof size}};
    CK_ECDH1_DERIVE_PARAMS params = {
        .kdf = CKD_NULL, .ulPublicDataLen = caller->input_len, .pPublicData = caller->input};
    CK_MECHANISM mechanism = {CKM_ECDH1_DERIVE, &params, sizeof params};
    if (!check(module->C_DeriveKey(caller->session, &mechanism, caller->key, template, 6, &secret),
               "C_DeriveKey"))
        return false;
    bool ok = get(caller->session, secret, CKA_VALUE, caller->output, &len);
    return check(module->C_DestroyObject(caller->session, secret), "C_DestroyObject") && ok;
}

static bool once(void *argument)
{
    struct caller *caller = argument;
    switch (caller->operation) {
    case BENCH_UNWRAP:
        return unwrap_once(caller);
    case BENCH_AGREE:
        return agree_once(caller);
    default:
        return sign_once(caller);
    }
}

static bool copy_key(struct caller *caller)
{
    CK_BBOOL no = CK_FALSE;
    CK_ATTRIBUTE template = {CKA_TOKEN, &no, sizeof no};
    CK_OBJECT_HANDLE copy = 0;
    if (!check(module->C_CopyObject(caller->session, caller->key, &template, 1, &copy),
               "C_CopyObject"))
        return false;
    caller->key = copy;
    return true;
}

static void *open_caller(const struct bench_half *half)
{
    struct caller *caller = calloc(1, sizeof *caller);
    CK_ATTRIBUTE type = {CKA_KEY_TYPE, NULL, sizeof(CK_KEY_TYPE)};
    if (!caller)
        return NULL;
    caller->operation = half->operation;
    type.pValue = &caller->type;
    if (check(module->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, &caller->session),
              "C_OpenSession") &&
        find(caller->session, CKO_PRIVATE_KEY, &caller->key) &&
        check(module->C_GetAttributeValue(caller->session, caller->key, &type, 1),
              "C_GetAttributeValue") &&
        make_input(caller) && (!is_copied || copy_key(caller)) && once(caller))
        return caller;
    free(caller);
    return NULL;
}

static void close_caller(void *argument)
{
    struct caller *caller = argument;
    module->C_CloseSession(caller->session);
    free(caller);
}

static bool find_slot(void)
{
    CK_SLOT_ID slots[64];
    CK_ULONG count = sizeof slots / sizeof *slots;
    size_t len = strlen(token_label);
    if (!check(module->C_GetSlotList(CK_TRUE, slots, &count), "C_GetSlotList"))
        return false;
    for (CK_ULONG i = 0; i < count; i++) {
        CK_TOKEN_INFO info;
        if (module->C_GetTokenInfo(slots[i], &info) == CKR_OK && len <= sizeof info.label &&
            memcmp(info.label, token_label, len) == 0 &&
            (len == sizeof info.label || info.label[len] == ' ')) {
            slot = slots[i];
            return true;
        }
    }
    return fail("no token of that label");
}

// The session that holds the login.
static bool log_in(int pin_fd, CK_SESSION_HANDLE *session)
{
    CK_BYTE pin[256];
    ssize_t len = read(pin_fd, pin, sizeof pin);
    while (len > 0 && (pin[len - 1] == '\n' || pin[len - 1] == '\r'))
        len--;
    close(pin_fd);
    bool ok = (len > 0 || fail("no PIN on that descriptor")) &&
              check(module->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, session),
                    "C_OpenSession") &&
              check(module->C_Login(*session, CKU_USER, pin, (CK_ULONG)len), "C_Login");
    OPENSSL_cleanse(pin, sizeof pin);
    return ok;
}

static bool load(const char *path)
{
    CK_C_GetFunctionList get_list = NULL;
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        return fail(dlerror());
    *(void **)&get_list = dlsym(handle, "C_GetFunctionList");
    return (get_list || fail("no PKCS#11 module")) &&
           check(get_list(&module), "C_GetFunctionList") &&
           check(module->C_Initialize(&args), "C_Initialize");
}

static int usage(void)
{
    fputs("usage: hsmbench-direct --module FILE --token LABEL --key LABEL --op sign|unwrap|agree\n"
          "                       [--callers N] [--pin-fd N] [--session-object]\n",
          stderr);
    return 2;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"module", required_argument, NULL, 'm'},   {"token", required_argument, NULL, 't'},
        {"key", required_argument, NULL, 'k'},      {"op", required_argument, NULL, 'o'},
        {"callers", required_argument, NULL, 'c'},  {"pin-fd", required_argument, NULL, 'p'},
        {"session-object", no_argument, NULL, 's'}, {NULL, 0, NULL, 0}};
    const char *path = NULL;
    int operation = -1, pin_fd = 3;
    struct bench_half half = {
        .callers = 1, .open = open_caller, .once = once, .close = close_caller};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'm':
            path = optarg;
            break;
        case 't':
            token_label = optarg;
            break;
        case 'k':
            key_label = optarg;
            break;
        case 'o':
            operation = bench_operation_by_name(optarg);
            break;
        case 'c':
            half.callers = bench_number(optarg, BENCH_CALLERS_MAX);
            break;
        case 's':
            is_copied = true;
            break;
        case 'p':
            pin_fd = (int)bench_number(optarg, 1000);
            break;
        default:
            return usage();
        }
    }
    if (!path || !token_label || !key_label || operation < 0 || optind != argc)
        return usage();
    half.operation = (enum bench_operation)operation;
    CK_SESSION_HANDLE session = 0;
    int status = 1;
    if (load(path) && find_slot() && log_in(pin_fd, &session))
        status = bench_half_serve(&half);
    if (module)
        module->C_Finalize(NULL);
    return status;
}
