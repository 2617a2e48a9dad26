// SPDX-License-Identifier: Apache-2.0
// Cryptoki's state belongs to the process: initialised once, however many tokens of ours use it.
// Hence the list of modules, the one global of this folder.
//
// libp11 lists the slots, but only as long as no session is open: PKCS11_release_all_slots
// (0.4.12) calls C_CloseAllSessions for every slot of the module, which would cut off and log out
// whoever works with another token of it, or with this one while it heals. From then on the
// function list is asked, with the same result. PKCS11_CTX_unload, and PKCS11_CTX_load where it
// fails, call C_Finalize: the former is left out (PKCS11_CTX_free alone frees all but the library's
// reference), after the latter we initialise again.
#include "pkcs11/module.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

// libp11.h names two types that OpenSSL leaves out with OPENSSL_NO_DEPRECATED.
typedef struct rsa_meth_st RSA_METHOD;
typedef struct ec_key_method_st EC_KEY_METHOD;
#include <libp11.h>

#include "hsmd/base/alloc.h"
#include "pkcs11/rv.h"

struct module {
    struct module *next;
    void *handle; // of dlopen; the same for every path to one file
    CK_FUNCTION_LIST *functions;
    char *path, *init_args;
    unsigned users;
    bool is_ours;    // we initialised it, so we finalise it
    bool is_claimed; // sessions may be open
};

static pthread_mutex_t modules_lock = PTHREAD_MUTEX_INITIALIZER;
static struct module *modules;

void module_text(const CK_UTF8CHAR *field, size_t size, char *out)
{
    while (size > 0 && (field[size - 1] == ' ' || field[size - 1] == 0))
        size--;
    memcpy(out, field, size);
    out[size] = 0;
}

static enum err initialise(struct module *module, struct detail *detail)
{
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK, .pReserved = module->init_args};
    CK_RV rv = module->functions->C_Initialize(&args);
    if (rv == CKR_CRYPTOKI_ALREADY_INITIALIZED)
        return ERR_OK;
    if (rv != CKR_OK)
        return err_set(detail, ERR_TEMP, "module %s: C_Initialize: %s", module->path, rv_name(rv));
    module->is_ours = true;
    return ERR_OK;
}

static void module_free(struct module *module)
{
    mem_free(module->path);
    mem_free(module->init_args);
    mem_free(module);
}

static enum err load(const char *path, const char *init_args, void *handle, struct module **module,
                     struct detail *detail)
{
    CK_C_GetFunctionList get = NULL;
    *(void **)&get = dlsym(handle, "C_GetFunctionList");
    if (!get)
        return err_set(detail, ERR_PERM, "module %s: not a PKCS#11 module", path);
    struct module *new = mem_calloc(1, sizeof *new);
    if (!new)
        return err_set(detail, ERR_TEMP, "module %s: out of memory", path);
    enum err err = ERR_OK;
    new->handle = handle;
    new->path = mem_strdup(path);
    new->init_args = init_args ? mem_strdup(init_args) : NULL;
    if (!new->path || (init_args && !new->init_args)) {
        err = err_set(detail, ERR_TEMP, "module %s: out of memory", path);
        goto out;
    }
    CK_RV rv = get(&new->functions);
    if (rv != CKR_OK || !new->functions)
        err = err_set(detail, ERR_PERM, "module %s: C_GetFunctionList: %s", path, rv_name(rv));
    else
        err = initialise(new, detail);
    if (err)
        goto out;
    *module = new;
    new = NULL;
out:
    if (new)
        module_free(new);
    return err;
}

enum err module_get(const char *path, const char *init_args, struct module **module,
                    struct detail *detail)
{
    enum err err = ERR_OK;
    pthread_mutex_lock(&modules_lock);
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        err = err_set(detail, ERR_PERM, "module %s: %s", path, dlerror());
        goto out;
    }
    struct module *found = modules;
    while (found && found->handle != handle)
        found = found->next;
    if (!found) {
        err = load(path, init_args, handle, &found, detail);
        if (err || !found)
            goto out;
        found->next = modules;
        modules = found;
    }
    found->users++;
    *module = found;
out:
    pthread_mutex_unlock(&modules_lock);
    return err;
}

void module_put(struct module *module)
{
    if (!module)
        return;
    pthread_mutex_lock(&modules_lock);
    if (--module->users == 0) {
        struct module **at = &modules;
        while (*at != module)
            at = &(*at)->next;
        *at = module->next;
        if (module->is_ours)
            module->functions->C_Finalize(NULL);
        module_free(module);
    }
    pthread_mutex_unlock(&modules_lock);
}

CK_FUNCTION_LIST *module_functions(const struct module *module)
{
    return module->functions;
}

void module_claim(struct module *module)
{
    pthread_mutex_lock(&modules_lock);
    module->is_claimed = true;
    pthread_mutex_unlock(&modules_lock);
}

static enum err slots_by_libp11(struct module *module, struct slot *slots, unsigned *count,
                                struct detail *detail)
{
    PKCS11_SLOT *list = NULL;
    unsigned total = 0;
    PKCS11_CTX *ctx = PKCS11_CTX_new();
    if (!ctx)
        return err_set(detail, ERR_TEMP, "module %s: out of memory", module->path);
    if (module->init_args)
        PKCS11_CTX_init_args(ctx, module->init_args);
    if (PKCS11_CTX_load(ctx, module->path) != 0) {
        enum err err = err_openssl(detail, ERR_TEMP, "module %s: cannot load", module->path);
        PKCS11_CTX_free(ctx);
        (void)initialise(module, NULL); // it is finalised now; a failure shows at the next call
        return err;
    }
    if (PKCS11_enumerate_slots(ctx, &list, &total) != 0) {
        enum err err = err_openssl(detail, ERR_TEMP, "module %s: cannot list slots", module->path);
        PKCS11_CTX_free(ctx);
        return err;
    }
    *count = 0;
    for (unsigned i = 0; i < total && *count < SLOTS_MAX; i++) {
        const PKCS11_TOKEN *token = list[i].token;
        if (!token || !token->initialized)
            continue;
        struct slot *slot = &slots[(*count)++];
        slot->id = PKCS11_get_slotid_from_slot(&list[i]);
        snprintf(slot->label, sizeof slot->label, "%s", token->label ? token->label : "");
        snprintf(slot->serial, sizeof slot->serial, "%s", token->serialnr ? token->serialnr : "");
    }
    PKCS11_release_all_slots(ctx, list, total);
    PKCS11_CTX_free(ctx);
    return ERR_OK;
}

static enum err slots_by_functions(struct module *module, struct slot *slots, unsigned *count,
                                   struct detail *detail)
{
    CK_SLOT_ID ids[SLOTS_MAX];
    CK_ULONG total = SLOTS_MAX;
    CK_RV rv = module->functions->C_GetSlotList(CK_TRUE, NULL, &total); // lets it look again
    if (rv == CKR_CRYPTOKI_NOT_INITIALIZED) {
        enum err err = initialise(module, detail);
        if (err)
            return err;
    }
    total = SLOTS_MAX;
    rv = module->functions->C_GetSlotList(CK_TRUE, ids, &total);
    if (rv != CKR_OK)
        return err_set(detail, ERR_TEMP, "module %s: C_GetSlotList: %s", module->path, rv_name(rv));
    *count = 0;
    for (CK_ULONG i = 0; i < total; i++) {
        CK_TOKEN_INFO info;
        if (module->functions->C_GetTokenInfo(ids[i], &info) != CKR_OK ||
            !(info.flags & CKF_TOKEN_INITIALIZED))
            continue;
        struct slot *slot = &slots[(*count)++];
        slot->id = ids[i];
        module_text(info.label, sizeof info.label, slot->label);
        module_text(info.serialNumber, sizeof info.serialNumber, slot->serial);
    }
    return ERR_OK;
}

enum err module_slots(struct module *module, struct slot *slots, unsigned *count,
                      struct detail *detail)
{
    pthread_mutex_lock(&modules_lock);
    bool is_claimed = module->is_claimed;
    enum err err = is_claimed ? ERR_OK : slots_by_libp11(module, slots, count, detail);
    pthread_mutex_unlock(&modules_lock);
    // Without the lock: a token that hangs while it heals must not stop the others' start.
    return is_claimed ? slots_by_functions(module, slots, count, detail) : err;
}
