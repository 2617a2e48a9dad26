// SPDX-License-Identifier: Apache-2.0
// Cryptoki's state belongs to the process: initialised once, however many tokens of ours use it.
// Hence the list of modules, the one global of this folder. A module stays on it when nobody uses
// it any more, as it stays loaded. Modules hang, C_Initialize first of all: each has a lock of its
// own for that, so that the others can still be had.
//
// libp11 lists the slots, the first time, when no session is open yet: PKCS11_release_all_slots
// (0.4.12) calls C_CloseAllSessions for every slot of the module, which would cut off and log out
// whoever works with another token of it, or with this one while it heals; and
// PKCS11_enumerate_slots forgets memory when it fails, which it does again and again while a token
// is away. From then on the function list is asked, with the same result. PKCS11_CTX_unload, and
// PKCS11_CTX_load where it fails, call C_Finalize: the former is left out (PKCS11_CTX_free alone
// frees all but the library's reference), after the latter we initialise again.
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
    struct module *next; // (modules_lock)
    void *handle;        // of dlopen; the same for every path to one file
    CK_FUNCTION_LIST *functions;
    char *path;

    pthread_mutex_t lock; // of what follows; held while it is initialised and finalised
    char *init_args;      // of the first of its users, and so of all
    unsigned users;
    bool is_ours;    // we initialised it, so we finalise it
    bool was_listed; // libp11 has tried
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

static enum err load(const char *path, void *handle, struct module **module, struct detail *detail)
{
    CK_C_GetFunctionList get = NULL;
    CK_FUNCTION_LIST *functions = NULL;
    *(void **)&get = dlsym(handle, "C_GetFunctionList");
    if (!get)
        return err_set(detail, ERR_PERM, "module %s: not a PKCS#11 module", path);
    CK_RV rv = get(&functions);
    if (rv != CKR_OK || !functions)
        return err_set(detail, ERR_PERM, "module %s: C_GetFunctionList: %s", path, rv_name(rv));
    struct module *new = mem_calloc(1, sizeof *new);
    char *copy = new ? mem_strdup(path) : NULL;
    if (!new || !copy) {
        mem_free(new);
        return err_set(detail, ERR_TEMP, "module %s: out of memory", path);
    }
    new->handle = handle;
    new->functions = functions;
    new->path = copy;
    pthread_mutex_init(&new->lock, NULL);
    *module = new;
    return ERR_OK;
}

static enum err find(const char *path, struct module **module, struct detail *detail)
{
    enum err err = ERR_OK;
    pthread_mutex_lock(&modules_lock);
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    struct module *found = modules;
    while (found && found->handle != handle)
        found = found->next;
    if (!handle) {
        err = err_set(detail, ERR_PERM, "module %s: %s", path, dlerror());
    } else if (!found) {
        err = load(path, handle, &found, detail);
        if (err == ERR_OK && found) {
            found->next = modules;
            modules = found;
        }
    }
    pthread_mutex_unlock(&modules_lock);
    *module = err == ERR_OK ? found : NULL;
    return err;
}

// With its lock held.
static enum err take_first(struct module *module, const char *init_args, struct detail *detail)
{
    char *copy = init_args ? mem_strdup(init_args) : NULL;
    if (init_args && !copy)
        return err_set(detail, ERR_TEMP, "module %s: out of memory", module->path);
    mem_free(module->init_args);
    module->init_args = copy;
    return initialise(module, detail);
}

enum err module_get(const char *path, const char *init_args, struct module **module,
                    struct detail *detail)
{
    struct module *found = NULL;
    enum err err = find(path, &found, detail);
    if (err || !found)
        return err;
    pthread_mutex_lock(&found->lock);
    if (found->users == 0)
        err = take_first(found, init_args, detail);
    else if (strcmp(found->init_args ? found->init_args : "", init_args ? init_args : "") != 0)
        err = err_set(detail, ERR_PERM,
                      "module %s: another token of it has other init-args, and it is initialised "
                      "once for all",
                      path);
    if (!err) {
        found->users++;
        *module = found;
    }
    pthread_mutex_unlock(&found->lock);
    return err;
}

void module_put(struct module *module)
{
    if (!module)
        return;
    pthread_mutex_lock(&module->lock);
    if (--module->users == 0 && module->is_ours) {
        CK_RV rv = module->functions->C_Finalize(NULL);
        // One that fails is still initialised, and still ours to finalise the next time.
        module->is_ours = rv != CKR_OK && rv != CKR_CRYPTOKI_NOT_INITIALIZED;
    }
    pthread_mutex_unlock(&module->lock);
}

CK_FUNCTION_LIST *module_functions(const struct module *module)
{
    return module->functions;
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
        pthread_mutex_lock(&module->lock);
        enum err err = initialise(module, detail);
        pthread_mutex_unlock(&module->lock);
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
    pthread_mutex_lock(&module->lock);
    bool is_by_libp11 = !module->was_listed;
    module->was_listed = true;
    enum err err = is_by_libp11 ? slots_by_libp11(module, slots, count, detail) : ERR_OK;
    pthread_mutex_unlock(&module->lock);
    // Without the lock: a token that hangs while it heals must not stop the others' start.
    return is_by_libp11 ? err : slots_by_functions(module, slots, count, detail);
}
