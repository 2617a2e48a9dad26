// SPDX-License-Identifier: Apache-2.0
// What is logged of peers that are not let in. A refused client tries again and again: each key is
// logged once a minute.
#pragma once

#include "hsmd/base/clock.h"
#include "hsmd/registry/registry.h"

#define DENIALS_REMEMBERED 16

// Embedded, all zero at first. One caller at a time.
struct denials {
    struct {
        char key[REGISTRY_PUBLIC_KEY_SIZE];
        deadline_t quiet_until;
    } keys[DENIALS_REMEMBERED];
    unsigned next;
};

// address: where it comes from, for people.
void denials_log(struct denials *denials, const char *domain, const char *address, const char *key);
