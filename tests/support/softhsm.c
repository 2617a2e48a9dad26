// SPDX-License-Identifier: Apache-2.0
#include "tests/support/softhsm.h"

#include "tests/support/softhsm_internal.h"

#include <dlfcn.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/ec.h>
#include <p11-kit/pkcs11.h>

void softhsm_die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("softhsm: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(1);
}

void softhsm_check(CK_RV rv, const char *step)
{
    if (rv != CKR_OK)
        softhsm_die("%s: 0x%lx", step, rv);
}

const char *softhsm_module(void)
{
    static const char *const usual[] = {"/usr/lib/softhsm/libsofthsm2.so",
                                        "/usr/lib64/pkcs11/libsofthsm2.so",
                                        "/usr/local/lib/softhsm/libsofthsm2.so"};
    const char *given = getenv("TEST_SOFTHSM");
    if (given)
        return given;
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++) {
        if (access(usual[i], R_OK) == 0)
            return usual[i];
    }
    softhsm_die("libsofthsm2.so not found; set TEST_SOFTHSM");
}

static CK_FUNCTION_LIST *module_load(void)
{
    void *handle = dlopen(softhsm_module(), RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        softhsm_die("%s", dlerror());
    CK_C_GetFunctionList get = NULL;
    *(void **)&get = dlsym(handle, "C_GetFunctionList");
    CK_FUNCTION_LIST *functions = NULL;
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    if (!get)
        softhsm_die("no C_GetFunctionList");
    softhsm_check(get(&functions), "C_GetFunctionList");
    CK_RV rv = functions->C_Initialize(&args);
    if (rv == CKR_CRYPTOKI_ALREADY_INITIALIZED) { // by the parent, before the fork
        functions->C_Finalize(NULL);
        rv = functions->C_Initialize(&args);
    }
    softhsm_check(rv, "C_Initialize");
    return functions;
}

// The slot whose token has this label; with NULL one with an uninitialised token.
static CK_SLOT_ID slot_find(CK_FUNCTION_LIST *functions, const char *label)
{
    CK_SLOT_ID slots[64];
    CK_ULONG count = 64;
    softhsm_check(functions->C_GetSlotList(CK_TRUE, slots, &count), "C_GetSlotList");
    for (CK_ULONG i = 0; i < count; i++) {
        CK_TOKEN_INFO info;
        softhsm_check(functions->C_GetTokenInfo(slots[i], &info), "C_GetTokenInfo");
        bool initialised = info.flags & CKF_TOKEN_INITIALIZED;
        if (!label && !initialised)
            return slots[i];
        if (label && initialised) {
            char padded[33];
            snprintf(padded, sizeof padded, "%-32s", label);
            if (memcmp(padded, info.label, 32) == 0)
                return slots[i];
        }
    }
    softhsm_die("no token %s", label ? label : "to initialise");
}

static void wait_for(pid_t child)
{
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        softhsm_die("child failed");
}

void softhsm_add_token(struct softhsm *hsm, const char *label)
{
    fflush(NULL);
    pid_t child = fork();
    if (child != 0) {
        wait_for(child);
        return;
    }
    CK_FUNCTION_LIST *functions = module_load();
    CK_SLOT_ID slot = slot_find(functions, NULL);
    CK_SESSION_HANDLE session = 0;
    char padded[33];
    snprintf(padded, sizeof padded, "%-32s", label);
    softhsm_check(functions->C_InitToken(slot, (CK_UTF8CHAR *)SOFTHSM_SO_PIN,
                                         strlen(SOFTHSM_SO_PIN), (CK_UTF8CHAR *)padded),
                  "C_InitToken");
    softhsm_check(
        functions->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session),
        "C_OpenSession");
    softhsm_check(
        functions->C_Login(session, CKU_SO, (CK_UTF8CHAR *)SOFTHSM_SO_PIN, strlen(SOFTHSM_SO_PIN)),
        "C_Login");
    (void)hsm;
    softhsm_check(functions->C_InitPIN(session, (CK_UTF8CHAR *)SOFTHSM_PIN, strlen(SOFTHSM_PIN)),
                  "C_InitPIN");
    functions->C_Finalize(NULL);
    _exit(0);
}

void softhsm_in_child(struct softhsm *hsm, const char *token_label,
                      void (*code)(void *functions, unsigned long session, void *arg), void *arg)
{
    fflush(NULL);
    pid_t child = fork();
    if (child != 0) {
        wait_for(child);
        return;
    }
    CK_FUNCTION_LIST *functions = module_load();
    CK_SLOT_ID slot = slot_find(functions, token_label ? token_label : hsm->label);
    CK_SESSION_HANDLE session = 0;
    softhsm_check(
        functions->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session),
        "C_OpenSession");
    softhsm_check(
        functions->C_Login(session, CKU_USER, (CK_UTF8CHAR *)SOFTHSM_PIN, strlen(SOFTHSM_PIN)),
        "C_Login");
    code(functions, session, arg);
    functions->C_Finalize(NULL);
    _exit(0);
}

static void write_conf(const struct softhsm *hsm)
{
    char path[300];
    snprintf(path, sizeof path, "%s/softhsm2.conf", hsm->dir);
    FILE *file = fopen(path, "w");
    if (!file)
        softhsm_die("cannot write %s", path);
    fprintf(file,
            "directories.tokendir = %s/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"
            "slots.removable = false\n",
            hsm->dir);
    if (fclose(file) != 0 || setenv("SOFTHSM2_CONF", path, 1) != 0)
        softhsm_die("cannot write %s", path);
}

void softhsm_setup(struct softhsm *hsm, const char *label)
{
    const char *tmp = getenv("TMPDIR");
    char path[300];
    *hsm = (struct softhsm){0};
    snprintf(hsm->dir, sizeof hsm->dir, "%s/softhsm-XXXXXX", tmp ? tmp : "/tmp");
    snprintf(hsm->label, sizeof hsm->label, "%s", label);
    if (!mkdtemp(hsm->dir))
        softhsm_die("cannot make %s", hsm->dir);
    snprintf(path, sizeof path, "%s/tokens", hsm->dir);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/certs", hsm->dir);
    mkdir(path, 0700);
    write_conf(hsm);
    softhsm_add_token(hsm, label);
    hsm->ca = EVP_EC_gen("P-256");
    if (!hsm->ca)
        softhsm_die("cannot make the CA key");
    softhsm_certificate_ca(hsm);
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

void softhsm_teardown(struct softhsm *hsm)
{
    EVP_PKEY_free(hsm->ca);
    hsm->ca = NULL;
    nftw(hsm->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

void softhsm_make_keys(struct softhsm *hsm, unsigned set)
{
    static const struct softhsm_key usual[] = {
        {.label = "rsa2048", .id = 1, .kind = "RSA-2048"},
        {.label = "rsa3072", .id = 2, .kind = "RSA-3072"},
        {.label = "p256", .id = 3, .kind = "P-256"},
        {.label = "p384", .id = 4, .kind = "P-384"},
        {.label = "p521", .id = 5, .kind = "P-521"},
    };
    for (unsigned i = 0; i < sizeof usual / sizeof *usual; i++) {
        if (set & 1U << i)
            softhsm_make_key(hsm, &usual[i]);
    }
}
