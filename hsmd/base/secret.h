// SPDX-License-Identifier: Apache-2.0
// Memory for PINs, content-encryption keys and shared secrets: own pages, locked against swapping,
// left out of core dumps, wiped before they are given back.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "hsmd/base/err.h"

// Embedded: secret_init, secret_clear. Costs system calls: make one per worker, not per request.
struct secret {
    uint8_t *data; // room bytes, page-aligned
    size_t len;    // how many of them hold a secret
    size_t room;
};

// room bytes, all zero. ERR_TEMP: out of memory, or the limit of locked memory is used up.
enum err secret_init(struct secret *secret, size_t room, struct detail *detail);
void secret_clear(struct secret *secret); // wipes and unmaps; a zeroed struct is fine
void secret_wipe(struct secret *secret);  // wipes, len = 0, room kept
// Replaces the content. ERR_PERM: longer than room.
enum err secret_set(struct secret *secret, const void *data, size_t len);

// Makes the process undumpable and its core limit 0 (promise 1). Call first in main. Builds with
// AddressSanitizer (SEALGATE_DUMPABLE) stay dumpable, for LeakSanitizer looks at them from outside.
enum err secret_harden_process(struct detail *detail);
