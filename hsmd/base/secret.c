// SPDX-License-Identifier: Apache-2.0
#include "hsmd/base/secret.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#if defined(SEALGATE_DUMPABLE) && !defined(__SANITIZE_ADDRESS__) && !defined(__clang__)
#error "only what is built to be tested with AddressSanitizer may be dumpable"
#endif

enum err secret_init(struct secret *secret, size_t room, struct detail *detail)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t mapped = (room + page - 1) / page * page;
    *secret = (struct secret){0};
    void *data = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED)
        return err_errno(detail, ERR_TEMP, "no memory for a secret of %zu bytes", room);
    if (mlock(data, mapped) != 0) {
        enum err err = err_errno(detail, ERR_TEMP,
                                 "cannot lock %zu bytes for a secret (raise the limit of locked "
                                 "memory, LimitMEMLOCK)",
                                 mapped);
        munmap(data, mapped);
        return err;
    }
    madvise(data, mapped, MADV_DONTDUMP);
    *secret = (struct secret){.data = data, .room = mapped};
    return ERR_OK;
}

void secret_wipe(struct secret *secret)
{
    if (secret->data)
        explicit_bzero(secret->data, secret->room);
    secret->len = 0;
}

void secret_clear(struct secret *secret)
{
    if (!secret->data)
        return;
    secret_wipe(secret);
    munmap(secret->data, secret->room);
    *secret = (struct secret){0};
}

enum err secret_set(struct secret *secret, const void *data, size_t len)
{
    if (len > secret->room)
        return ERR_PERM;
    secret_wipe(secret);
    memcpy(secret->data, data, len);
    secret->len = len;
    return ERR_OK;
}

enum err secret_harden_process(struct detail *detail)
{
    struct rlimit none = {0, 0};
    bool is_off = setrlimit(RLIMIT_CORE, &none) == 0;
#ifndef SEALGATE_DUMPABLE
    is_off = is_off && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0;
#endif
    return is_off ? ERR_OK : err_errno(detail, ERR_PERM, "cannot switch off core dumps");
}
