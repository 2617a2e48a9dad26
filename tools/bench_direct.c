// SPDX-License-Identifier: Apache-2.0
// The half of a measurement that calls a PKCS#11 module directly, as a program would that links it:
// a session for each caller, the key's handle found once, Init and the operation each time. A
// program of its own, since Cryptoki is to be in hsmd alone; it is for measuring, and holds the
// PIN only until it is logged in. Or the half that has this done by a second process.
#include "tools/bench_direct.h"

#include <dlfcn.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "tools/bench_bare.h"

struct direct direct;

bool direct_check(CK_RV rv, const char *function)
{
    if (rv != CKR_OK)
        fprintf(stderr, "hsmbench-direct: %s: 0x%lx\n", function, rv);
    return rv == CKR_OK;
}

bool direct_fail(const char *text)
{
    fprintf(stderr, "hsmbench-direct: %s\n", text);
    return false;
}

bool direct_find(CK_SESSION_HANDLE session, CK_OBJECT_CLASS class, CK_OBJECT_HANDLE *object)
{
    CK_ATTRIBUTE match[] = {{CKA_CLASS, &class, sizeof class},
                            {CKA_LABEL, (void *)direct.label, strlen(direct.label)}};
    CK_ULONG count = 0;
    if (!direct_check(direct.module->C_FindObjectsInit(session, match, 2), "C_FindObjectsInit"))
        return false;
    CK_RV rv = direct.module->C_FindObjects(session, object, 1, &count);
    direct.module->C_FindObjectsFinal(session);
    return direct_check(rv, "C_FindObjects") && count == 1;
}

bool direct_get(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type,
                CK_BYTE *out, CK_ULONG *len)
{
    CK_ATTRIBUTE attribute = {type, out, BENCH_BYTES_MAX};
    if (direct.module->C_GetAttributeValue(session, object, &attribute, 1) != CKR_OK ||
        attribute.ulValueLen > BENCH_BYTES_MAX)
        return false;
    *len = attribute.ulValueLen;
    return true;
}

// The point as it is, or in an OCTET STRING, or in a BIT STRING: tokens do all three.
static EVP_PKEY *public_of_point(CK_KEY_TYPE type, const CK_BYTE *params, CK_ULONG params_len,
                                 const CK_BYTE *point, CK_ULONG len)
{
    static const struct {
        CK_BYTE tag;
        CK_ULONG len; // of tag, length and what stands before the point
    } fronts[] = {{0, 0}, {0x04, 2}, {0x04, 3}, {0x03, 3}};
    EVP_PKEY *key = NULL;
    for (size_t i = 0; !key && i < sizeof fronts / sizeof *fronts; i++) {
        CK_ULONG front = fronts[i].len;
        if (len <= front || (front && point[0] != fronts[i].tag))
            continue;
        key = type == CKK_EC ? bench_public_ec(params, params_len, point + front, len - front)
                             : bench_public_ed25519(point + front, len - front);
    }
    return key;
}

EVP_PKEY *direct_public(CK_SESSION_HANDLE session)
{
    CK_BYTE a[BENCH_BYTES_MAX], b[BENCH_BYTES_MAX];
    CK_ULONG a_len = 0, b_len = 0;
    CK_OBJECT_HANDLE object = 0;
    CK_KEY_TYPE type = 0;
    CK_ATTRIBUTE attribute = {CKA_KEY_TYPE, &type, sizeof type};
    // Of RSA the private object has it all too.
    if ((!direct_find(session, CKO_PUBLIC_KEY, &object) &&
         !direct_find(session, CKO_PRIVATE_KEY, &object)) ||
        direct.module->C_GetAttributeValue(session, object, &attribute, 1) != CKR_OK)
        return NULL;
    if (type == CKK_RSA)
        return direct_get(session, object, CKA_MODULUS, a, &a_len) &&
                       direct_get(session, object, CKA_PUBLIC_EXPONENT, b, &b_len)
                   ? bench_public_rsa(a, a_len, b, b_len)
                   : NULL;
    return direct_get(session, object, CKA_EC_PARAMS, a, &a_len) &&
                   direct_get(session, object, CKA_EC_POINT, b, &b_len)
               ? public_of_point(type, a, a_len, b, b_len)
               : NULL;
}

static bool find_slot(const char *label)
{
    CK_SLOT_ID slots[64];
    CK_ULONG count = sizeof slots / sizeof *slots;
    size_t len = strlen(label);
    if (!direct_check(direct.module->C_GetSlotList(CK_TRUE, slots, &count), "C_GetSlotList"))
        return false;
    for (CK_ULONG i = 0; i < count; i++) {
        CK_TOKEN_INFO info;
        if (direct.module->C_GetTokenInfo(slots[i], &info) == CKR_OK && len <= sizeof info.label &&
            memcmp(info.label, label, len) == 0 &&
            (len == sizeof info.label || info.label[len] == ' ')) {
            direct.slot = slots[i];
            return true;
        }
    }
    return direct_fail("no token of that label");
}

// The session that holds the login.
static bool log_in(int pin_fd, CK_SESSION_HANDLE *session)
{
    CK_BYTE pin[256];
    ssize_t len = read(pin_fd, pin, sizeof pin);
    while (len > 0 && (pin[len - 1] == '\n' || pin[len - 1] == '\r'))
        len--;
    close(pin_fd);
    bool ok =
        (len > 0 || direct_fail("no PIN on that descriptor")) &&
        direct_check(
            direct.module->C_OpenSession(direct.slot, CKF_SERIAL_SESSION, NULL, NULL, session),
            "C_OpenSession") &&
        direct_check(direct.module->C_Login(*session, CKU_USER, pin, (CK_ULONG)len), "C_Login");
    OPENSSL_cleanse(pin, sizeof pin);
    return ok;
}

// The token's own, else the one given.
static bool find_public(CK_SESSION_HANDLE session, const char *given, struct bench_half *half)
{
    direct.public_key = direct_public(session);
    if (!direct.public_key && given)
        direct.public_key = bench_public_of_hex(given);
    half->spki = direct.public_key ? bench_public_hex(direct.public_key) : NULL;
    return half->spki || direct_fail("no public half of that key in the token, and none is given");
}

static bool load(const char *path, const char *init_args)
{
    CK_C_GetFunctionList get_list = NULL;
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK, .pReserved = (void *)init_args};
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        return direct_fail(dlerror());
    *(void **)&get_list = dlsym(handle, "C_GetFunctionList");
    return (get_list || direct_fail("no PKCS#11 module")) &&
           direct_check(get_list(&direct.module), "C_GetFunctionList") &&
           direct_check(direct.module->C_Initialize(&args), "C_Initialize");
}

static int usage(void)
{
    fputs("usage: hsmbench-direct --module FILE [--init-args TEXT] --token LABEL\n"
          "                       --key LABEL --op " BENCH_OPERATIONS_TEXT "\n"
          "                       [--callers N] [--pin-fd N] [--public SPKI] [--session-object]\n"
          "                       [--bare]\n",
          stderr);
    return 2;
}

struct options {
    const char *module, *init_args, *token, *spki;
    int operation, pin_fd;
    bool is_bare;
};

static bool parse(int argc, char **argv, struct options *options, struct bench_half *half)
{
    static const struct option names[] = {{"module", required_argument, NULL, 'm'},
                                          {"token", required_argument, NULL, 't'},
                                          {"key", required_argument, NULL, 'k'},
                                          {"op", required_argument, NULL, 'o'},
                                          {"callers", required_argument, NULL, 'c'},
                                          {"pin-fd", required_argument, NULL, 'p'},
                                          {"public", required_argument, NULL, 'u'},
                                          {"session-object", no_argument, NULL, 's'},
                                          {"init-args", required_argument, NULL, 'a'},
                                          {"bare", no_argument, NULL, 'b'},
                                          {NULL, 0, NULL, 0}};
    for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        switch (option) {
        case 'm':
            options->module = optarg;
            break;
        case 'a':
            options->init_args = optarg;
            break;
        case 't':
            options->token = optarg;
            break;
        case 'k':
            direct.label = optarg;
            break;
        case 'o':
            options->operation = bench_operation_by_name(optarg);
            break;
        case 'c':
            half->callers = bench_number(optarg, BENCH_CALLERS_MAX);
            break;
        case 'u':
            options->spki = optarg;
            break;
        case 's':
            direct.is_copied = true;
            break;
        case 'b':
            options->is_bare = true;
            break;
        case 'p':
            options->pin_fd = (int)bench_number(optarg, 1000);
            break;
        default:
            return false;
        }
    }
    return options->module && options->token && direct.label && options->operation >= 0 &&
           optind == argc;
}

int main(int argc, char **argv)
{
    struct options options = {.operation = -1, .pin_fd = 3};
    struct bench_half half = {
        .callers = 1, .open = direct_open, .once = direct_once, .close = direct_close};
    if (!parse(argc, argv, &options, &half))
        return usage();
    half.operation = (enum bench_operation)options.operation;
    pid_t answerer = options.is_bare ? bare_split(&half) : 0;
    if (answerer)
        return answerer > 0 ? bare_call(&half, answerer) : 1;
    CK_SESSION_HANDLE session = 0;
    int status = 1;
    if (load(options.module, options.init_args) && find_slot(options.token) &&
        log_in(options.pin_fd, &session) && find_public(session, options.spki, &half))
        status = options.is_bare ? bare_answer(&half) : bench_half_serve(&half);
    EVP_PKEY_free(direct.public_key);
    OPENSSL_free(half.spki);
    if (direct.module)
        direct.module->C_Finalize(NULL);
    return status;
}
